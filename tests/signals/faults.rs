//! Faults that a review has found, and that need a process of their own. The others are in `tests/faults.rs`.

use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::{Duration, Instant};

use libtest_mimic::Trial;
use nix::sys::signal::{SigSet, raise};
use nix::unistd::Pid;
use winddown::{ExitPolicy, HookOptions, ShutdownCoordinator, ShutdownHandle};

use crate::Scenario;
use crate::child::{fill_stderr, fine, hang, hear, quick, short, tell, tell_at_stop, until_parked};
use crate::harness::{End, Launch, PROMPT, Signal, trials};
use crate::sys;

pub(crate) const SCENARIOS: &[Scenario] = &[
    ("pending", pending),
    ("refused while pending", refused_while_pending),
    ("blocked elsewhere", blocked_elsewhere),
    ("one emergency hook hangs", one_emergency_hook_hangs),
    ("two at once", two_at_once),
    ("frozen", frozen),
    ("after the end", after_the_end),
    ("foreign over registry", foreign_over_registry),
    ("default in between", default_in_between),
    ("exit hangs", exit_hangs),
    ("last words hang", last_words_hang),
    ("error for a full stderr", error_for_a_full_stderr),
    ("own last words", own_last_words),
    ("stop signal", stop_signal),
];

pub(crate) fn tests() -> Vec<Trial> {
    trials![
        a_signal_pending_at_the_installation_is_polite,
        a_refused_installation_lets_no_pending_signal_in,
        the_emergency_thread_blocks_what_the_program_blocks,
        a_hung_emergency_hook_keeps_no_other_from_running,
        two_forcing_signals_at_once_leave_emergency_hooks_their_time,
        the_forced_exit_needs_no_allocator,
        after_the_end_a_first_signal_has_its_old_effect,
        after_the_end_a_second_signal_still_forces,
        a_foreign_handler_over_the_registry_s_still_runs,
        a_default_set_between_two_coordinators_is_overcome,
        an_exit_hung_in_atexit_is_ended_in_time,
        last_words_that_hang_share_one_limit,
        an_error_for_a_full_stderr_is_told_by_the_status,
        a_full_stderr_keeps_nobody_from_being_told_the_report,
        a_stderr_that_is_read_late_gets_the_report,
        a_stop_signal_ends_and_does_not_stop,
    ]
}

/// Long enough for the hooks on a loaded machine, short enough to wait for.
const GRACE: Duration = Duration::from_secs(1);

/// As a program does that has its signals wait until it is ready for them, or reads them with `sigwait`.
fn block(signal: Signal) {
    SigSet::from(signal).thread_block().unwrap();
}

fn send_to_self(signal: Signal) {
    nix::sys::signal::kill(Pid::this(), signal).unwrap();
}

fn pending(_: &str) -> ExitCode {
    block(Signal::SIGTERM);
    send_to_self(Signal::SIGTERM);
    let shutdown = quick().install().unwrap();
    tell(short(shutdown.wait().reason()));
    fine()
}

/// P10: the listener takes it, and only when the handler stands. Ten times, as it is a race that was lost.
fn a_signal_pending_at_the_installation_is_polite() {
    for _ in 0..10 {
        Launch::new("pending")
            .start()
            .end()
            .assert(End::Code(0), &["SIGTERM"]);
    }
}

fn refused_while_pending(_: &str) -> ExitCode {
    block(Signal::SIGTERM);
    let shutdown = quick().signals([winddown::Signal::INT]).install().unwrap();
    send_to_self(Signal::SIGTERM);
    for _ in 0..200 {
        let refused = quick().signals([winddown::Signal::TERM]).install();
        assert!(refused.is_err());
    }
    assert!(!shutdown.token().is_stopped());
    tell("survived");
    fine()
}

/// P10: nothing is left behind of it, and nothing has gone through meanwhile.
fn a_refused_installation_lets_no_pending_signal_in() {
    Launch::new("refused while pending")
        .start()
        .end()
        .assert(End::Code(0), &["survived"]);
}

fn emergency(shutdown: &ShutdownHandle, line: &'static str) {
    shutdown.hook_with(HookOptions::new(line).emergency(), move || tell(line));
}

fn blocked_elsewhere(_: &str) -> ExitCode {
    block(Signal::SIGUSR1);
    let shutdown = quick().install().unwrap();
    emergency(&shutdown, "emergency");
    tell_at_stop(&shutdown.token(), "stuck");
    // Its reader is busy; with its default action it would be the end.
    send_to_self(Signal::SIGUSR1);
    tell("ready");
    hang()
}

/// P8.
fn the_emergency_thread_blocks_what_the_program_blocks() {
    let mut program = Launch::new("blocked elsewhere").ready();
    program.signal(Signal::SIGTERM);
    program.expect("stuck");
    program.signal(Signal::SIGTERM);
    program
        .end()
        .assert_forced(Signal::SIGTERM, &["ready", "stuck", "emergency"]);
}

fn one_emergency_hook_hangs(_: &str) -> ExitCode {
    let shutdown = quick().install().unwrap();
    for line in ["three", "two", "one"] {
        emergency(&shutdown, line);
    }
    shutdown.hook_with(HookOptions::new("hung").emergency(), || -> () {
        tell("stuck");
        hang()
    });
    tell("ready");
    let _ = shutdown.wait();
    fine()
}

/// P8: one that the ending was in the middle of.
fn a_hung_emergency_hook_keeps_no_other_from_running() {
    let mut program = Launch::new("one emergency hook hangs").ready();
    program.signal(Signal::SIGTERM);
    program.expect("stuck");
    program.signal(Signal::SIGTERM);
    program
        .end()
        .assert_forced(Signal::SIGTERM, &["ready", "stuck", "one", "two", "three"]);
}

/// Longer than what counts as the same instant.
const DEBOUNCE: Duration = Duration::from_millis(60);

fn two_at_once(_: &str) -> ExitCode {
    let shutdown = quick().debounce(DEBOUNCE).install().unwrap();
    shutdown.hook_with(HookOptions::new("slow").emergency(), || {
        thread::sleep(Duration::from_millis(30));
        tell("emergency");
    });
    let together = Arc::new(Barrier::new(2));
    let ready = Arc::new(AtomicUsize::new(0));
    raise(Signal::SIGTERM).unwrap();
    // Time itself is what a second signal differs by.
    thread::sleep(DEBOUNCE * 2);
    for _ in 0..2 {
        let (together, ready) = (Arc::clone(&together), Arc::clone(&ready));
        thread::spawn(move || {
            together.wait();
            ready.fetch_add(1, Ordering::SeqCst);
            while ready.load(Ordering::SeqCst) < 2 {
                std::hint::spin_loop();
            }
            raise(Signal::SIGTERM).unwrap();
        });
    }
    hang()
}

/// P7, P8: a key press that arrives twice. On a loaded machine the two may be far apart, but not ten times.
fn two_forcing_signals_at_once_leave_emergency_hooks_their_time() {
    let spared = (0..10).any(|_| {
        let ended = Launch::new("two at once").start().end();
        assert!(ended.end.is_forced(Signal::SIGTERM), "{ended:?}");
        ended.lines == ["emergency"]
    });
    assert!(spared, "the emergency hook was cut short ten times");
}

fn frozen(_: &str) -> ExitCode {
    fn put(line: &[u8]) {
        let _ = rustix::io::write(rustix::stdio::stdout(), line);
    }
    let shutdown = quick().install().unwrap();
    for line in ["three\n", "two\n", "one\n"] {
        shutdown.hook_with(HookOptions::new("raw").emergency(), move || {
            put(line.as_bytes());
        });
    }
    let token = shutdown.token();
    tell_at_stop(&token, "stuck");
    // The two that are always there, and that of the emergency hooks.
    until_parked(3);
    tell("ready");
    token.wait();
    assert_eq!(hear(), "freeze");
    sys::freeze_the_allocator();
    put(b"frozen\n");
    loop {
        nix::unistd::pause();
    }
}

/// P8, P12: the interrupted thread may hold the allocator's lock, and never gives it back.
fn the_forced_exit_needs_no_allocator() {
    let mut program = Launch::new("frozen").ready();
    program.signal(Signal::SIGTERM);
    program.expect("stuck");
    program.say("freeze");
    program.expect("frozen");
    program.signal(Signal::SIGTERM);
    let lines = ["ready", "stuck", "frozen", "one", "two", "three"];
    program.end().assert_forced(Signal::SIGTERM, &lines);
}

fn after_the_end(how: &str) -> ExitCode {
    let shutdown = quick().install().unwrap();
    tell("ready");
    let report = match how {
        "first" => shutdown.shutdown(),
        _ => shutdown.wait(),
    };
    tell(format!("{:?}", report.outcome()));
    // It is still there, and so are its handlers.
    hear();
    drop(shutdown);
    fine()
}

/// P10: death by it, which a forced exit is not.
fn after_the_end_a_first_signal_has_its_old_effect() {
    let mut program = Launch::new("after the end").argument("first").ready();
    program.expect("Clean");
    program.signal(Signal::SIGTERM);
    program.end().assert(End::Signal(15), &["ready", "Clean"]);
}

/// P8: with the code that only a forced exit has.
fn after_the_end_a_second_signal_still_forces() {
    let mut program = Launch::new("after the end").ready();
    program.signal(Signal::SIGTERM);
    program.expect("Clean");
    program.signal(Signal::SIGTERM);
    program.end().assert(End::Code(143), &["ready", "Clean"]);
}

fn foreign_over_registry(_: &str) -> ExitCode {
    let lost = Arc::new(AtomicBool::new(false));
    signal_hook::flag::register(Signal::SIGTERM as i32, lost).unwrap();
    sys::bare_handler(Signal::SIGTERM);
    let shutdown = quick().install().unwrap();
    assert!(shutdown.is_installed());
    raise(Signal::SIGTERM).unwrap();
    assert!(sys::BARE.load(Ordering::SeqCst), "it did not run");
    tell(short(shutdown.wait().reason()));
    fine()
}

/// P11: the registry believes that its handler stands, and it does not.
fn a_foreign_handler_over_the_registry_s_still_runs() {
    Launch::new("foreign over registry")
        .start()
        .end()
        .assert(End::Code(0), &["SIGTERM"]);
}

fn default_in_between(_: &str) -> ExitCode {
    drop(ShutdownCoordinator::install().unwrap());
    sys::default_disposition(Signal::SIGINT);
    let shutdown = quick().install().unwrap();
    assert!(shutdown.is_installed());
    raise(Signal::SIGINT).unwrap();
    tell(short(shutdown.wait().reason()));
    drop(shutdown);
    fine()
}

/// P10, P11.
fn a_default_set_between_two_coordinators_is_overcome() {
    Launch::new("default in between")
        .start()
        .end()
        .assert(End::Code(0), &["SIGINT"]);
}

fn exit_hangs(how: &str) -> ExitCode {
    sys::at_exit_hang();
    let shutdown = quick().grace_period(GRACE).install().unwrap();
    if how == "in a hook" {
        shutdown.hook("exits", || -> () { std::process::exit(3) });
    }
    shutdown.shutdown().exit()
}

/// P15: with the report's status.
fn an_exit_hung_in_atexit_is_ended_in_time() {
    for (how, code) in [("at the end", 0), ("in a hook", 124)] {
        Launch::new("exit hangs")
            .argument(how)
            .start()
            .end()
            .assert(End::Code(code), &["stuck"])
            .assert_within(GRACE * 2 + PROMPT);
    }
}

fn last_words_hang(_: &str) -> ExitCode {
    let grace = Duration::from_millis(300);
    tracing_subscriber::fmt()
        .with_max_level(tracing_subscriber::filter::LevelFilter::TRACE)
        .with_writer(std::io::stderr)
        .init();
    fill_stderr();
    // No watchdog: the drop itself is to be in time.
    let shutdown = quick().signals([]).grace_period(grace).install().unwrap();
    shutdown.hook("hung", || -> () { hang() });
    let handle = shutdown.handle();
    shutdown.on_report(move |_| {
        // Too late to be told with this one.
        handle.on_report(|_| hang());
        hang();
    });
    let began = Instant::now();
    drop(shutdown);
    let late = began.elapsed() > grace + Duration::from_millis(100);
    tell(if late { "late" } else { "in time" });
    fine()
}

/// P15: those who are told, those who come too late for that, and the log. A loaded machine is late, but not ten times.
fn last_words_that_hang_share_one_limit() {
    let in_time = (0..10).any(|_| {
        let launch = Launch::new("last words hang").unread_stderr();
        let ended = launch.start().end().assert_within(PROMPT);
        assert_eq!(ended.end, End::Code(0), "{ended:?}");
        ended.lines == ["in time"]
    });
    assert!(in_time, "late ten times");
}

fn error_for_a_full_stderr(how: &str) -> ExitCode {
    fill_stderr();
    let builder = match how {
        "embedded" => quick().signals([]),
        _ => quick(),
    };
    builder
        .grace_period(GRACE)
        .run(|_| Err::<(), _>("nobody reads this"))
}

/// P15.
fn an_error_for_a_full_stderr_is_told_by_the_status() {
    for how in ["embedded", "with signals"] {
        Launch::new("error for a full stderr")
            .argument(how)
            .unread_stderr()
            .start()
            .end()
            .assert(End::Code(1), &[])
            .assert_within(GRACE + PROMPT);
    }
}

fn own_last_words(how: &str) -> ExitCode {
    fill_stderr();
    quick().grace_period(GRACE).run(|shutdown| {
        shutdown.on_report(|_| tell("told"));
        match how {
            "late" => shutdown.hook("hangs", || -> () { hang() }),
            _ => shutdown.hook("fails", || Err::<(), _>("nobody reads this")),
        };
        if how == "away" {
            raise(Signal::SIGTERM).unwrap();
            hang();
        }
        Err::<(), _>("nor this")
    })
}

/// P15: the report that is not clean, and the error, are for stderr; the program's own last words are for whoever it tells.
fn a_full_stderr_keeps_nobody_from_being_told_the_report() {
    for (how, code) in [("in time", 1), ("late", 124)] {
        Launch::new("own last words")
            .argument(how)
            .unread_stderr()
            .start()
            .end()
            .assert(End::Code(code), &["told"])
            .assert_within(GRACE + PROMPT);
    }
}

/// Who reads late, but within the time that all who are told have, gets the report, also where the owner never comes back. A
/// loaded machine may be late, but not five times.
fn a_stderr_that_is_read_late_gets_the_report() {
    let got = (0..5).any(|_| {
        let launch = Launch::new("own last words").argument("away");
        let mut program = launch.unread_stderr().start();
        program.expect("told");
        // So late is this reader.
        thread::sleep(Duration::from_millis(100));
        program.read_stderr();
        let ended = program.end();
        assert_eq!(ended.end, End::Code(124), "{ended:?}");
        ended
            .errors
            .contains("hook fails: failed: nobody reads this")
    });
    assert!(got, "it was lost five times");
}

fn stop_signal(_: &str) -> ExitCode {
    let shutdown = quick()
        .signals([winddown::Signal::TSTP])
        .exit_policy(ExitPolicy::reraise())
        .install()
        .unwrap();
    tell_at_stop(&shutdown.token(), "stuck");
    tell("ready");
    hang()
}

/// P8: dying by a signal that does not kill.
fn a_stop_signal_ends_and_does_not_stop() {
    let mut program = Launch::new("stop signal").ready();
    program.signal(Signal::SIGTSTP);
    program.expect("stuck");
    program.signal(Signal::SIGTSTP);
    program
        .end()
        .assert_forced(Signal::SIGTSTP, &["ready", "stuck"]);
}
