//! P13, P15 and the exit policy: every way to the end, what runs on it, and what the parent sees.

use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant};

use libtest_mimic::Trial;
use nix::sys::signal::raise;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use winddown::{Outcome, ShutdownBuilder, ShutdownCoordinator, ShutdownHandle};

use crate::Scenario;
use crate::child::{
    aside, fill_stderr, fine, hang, hear, hooks, look_until_stopped, quick, short, spin, tell,
};
use crate::harness::{End, Launch, PATIENCE, PROMPT, Signal, trial, trials};

pub(crate) const SCENARIOS: &[Scenario] = &[
    ("ending", ending),
    ("never looks", never_looks),
    ("all hang", all_hang),
    ("not released", not_released),
    ("stopped", stopped),
    ("half a line", half_a_line),
];

/// Every way to the end: what it is called, whether the test sends a signal, the end.
const WAYS: &[(&str, Option<Signal>, End)] = &[
    ("run", None, End::Code(0)),
    ("run_and_an_error", None, End::Code(1)),
    ("run_and_a_question_mark", None, End::Code(1)),
    ("run_and_a_panic", None, End::Code(101)),
    ("run_and_an_early_return", None, End::Code(0)),
    ("run_and_a_check", Some(Signal::SIGTERM), End::Code(0)),
    ("run_and_sigterm", Some(Signal::SIGTERM), End::Code(0)),
    ("run_and_sighup", Some(Signal::SIGHUP), End::Code(0)),
    ("run_and_sigint", Some(Signal::SIGINT), End::Signal(2)),
    ("wait", None, End::Code(0)),
    ("wait_and_sigterm", Some(Signal::SIGTERM), End::Code(0)),
    ("wait_and_sigint", Some(Signal::SIGINT), End::Signal(2)),
    ("shutdown", None, End::Code(0)),
    ("shutdown_on_another_thread", None, End::Code(0)),
    ("drop", None, End::Code(0)),
    ("a_question_mark", None, End::Code(7)),
    ("an_early_return", None, End::Code(0)),
    ("a_panic", None, End::Code(101)),
    ("main_returns_a_report", None, End::Code(0)),
];

pub(crate) fn tests() -> Vec<Trial> {
    let mut all = trials![
        the_watchdog_ends_a_main_loop_that_never_looks,
        the_watchdog_ends_a_spinning_main,
        the_watchdog_dies_by_sigint_where_that_asked,
        the_watchdog_ends_a_run_that_never_looks,
        the_watchdog_says_last_words,
        all_parts_may_hang_and_it_still_ends,
        a_full_stderr_holds_nobody,
        a_hold_that_is_not_released_costs_its_share_only,
        a_stopped_process_keeps_its_grace_period,
        what_stdout_still_buffers_is_written,
    ];
    // P13, once for each.
    for &(way, signal, end) in WAYS {
        all.push(trial(
            format!("hooks_run_in_lifo_order_on_{way}"),
            move || {
                let mut program = Launch::new("ending").argument(way).ready();
                if let Some(signal) = signal {
                    program.signal(signal);
                }
                let ended = program
                    .end()
                    .assert(end, &["ready", "four", "three", "two", "one"]);
                let failed = matches!(end, End::Code(1 | 101));
                assert_eq!(!ended.errors.is_empty(), failed, "{ended:?}");
            },
        ));
    }
    all
}

/// Hooks and a live guard on the one stack.
fn four(shutdown: &ShutdownHandle) {
    hooks(shutdown, &["one", "two"]);
    std::mem::forget(shutdown.guard("three", "three", |name| tell(name)));
    hooks(shutdown, &["four"]);
    tell("ready");
}

fn four_signals() -> ShutdownBuilder {
    use winddown::Signal;
    quick().signals([Signal::INT, Signal::TERM, Signal::HUP])
}

fn ending(way: &str) -> ExitCode {
    let install = || {
        let shutdown = four_signals().install().unwrap();
        four(&shutdown);
        shutdown
    };
    if let Some(way) = way.strip_prefix("run") {
        let way = way.strip_prefix("_and_").unwrap_or(way);
        return four_signals().run(|shutdown| run(way, shutdown));
    }
    match way {
        "wait" => {
            let shutdown = install();
            let handle = shutdown.handle();
            thread::spawn(move || handle.stop("done"));
            shutdown.wait().exit();
        }
        "wait_and_sigterm" | "wait_and_sigint" => install().wait().exit(),
        "shutdown" => install().shutdown().exit(),
        "shutdown_on_another_thread" => {
            let shutdown = install();
            aside(move || shutdown.shutdown().exit());
            hang();
        }
        "drop" => drop(install()),
        "a_question_mark" => {
            let question = || -> Result<(), std::num::ParseIntError> {
                let _shutdown = install();
                let _number: u8 = "not a number".parse()?;
                unreachable!()
            };
            return ExitCode::from(if question().is_err() { 7 } else { 0 });
        }
        "an_early_return" => {
            let early = |by: bool| {
                let _shutdown = install();
                if by {
                    return;
                }
                tell("not reached");
            };
            early(std::hint::black_box(true));
        }
        "a_panic" => {
            let _shutdown = install();
            panic!("as it must");
        }
        "main_returns_a_report" => return install().shutdown().into(),
        _ => panic!("no such way"),
    }
    fine()
}

fn run(way: &str, shutdown: &ShutdownCoordinator) -> Result<(), Box<dyn std::error::Error>> {
    four(shutdown);
    let token = shutdown.token();
    match way {
        "" => {}
        "an_error" => return Err("as it must".into()),
        "a_question_mark" => {
            let _number: u8 = "not a number".parse()?;
        }
        "a_panic" => panic!("as it must"),
        "an_early_return" => {
            if !token.is_stopped() {
                return Ok(());
            }
            tell("not reached");
        }
        "a_check" => loop {
            token.check()?;
            thread::sleep(Duration::from_millis(1));
        },
        _ => {
            token.wait();
        }
    }
    Ok(())
}

/// Long enough for the hooks on a loaded machine, short enough to wait for.
const GRACE: Duration = Duration::from_secs(2);

/// Its line has no end, so std keeps it in its buffer.
fn half_a_line(how: &str) -> ExitCode {
    let shutdown = quick().grace_period(GRACE).install().unwrap();
    print!("half a line");
    tell("ready");
    if how == "away" {
        hang();
    }
    shutdown.wait().exit()
}

/// By whoever ends the process: the owner, with a code or a signal, and the runner without an owner.
fn what_stdout_still_buffers_is_written() {
    for (how, signal, end) in [
        ("exit", Signal::SIGTERM, End::Code(0)),
        ("exit", Signal::SIGINT, End::Signal(2)),
        ("away", Signal::SIGTERM, End::Code(124)),
    ] {
        let mut program = Launch::new("half a line").argument(how).ready();
        program.signal(signal);
        program.end().assert(end, &["ready", "half a line"]);
    }
}

/// A main loop that never looks at its token.
fn never_looks(how: &str) -> ExitCode {
    let builder = quick().grace_period(GRACE);
    if how == "run" {
        return builder.run(|shutdown| -> Result<(), String> {
            four(shutdown);
            hang();
        });
    }
    let shutdown = builder.install().unwrap();
    if how == "words" {
        shutdown.on_report(|report| {
            tell(format!(
                "{} {:?} {}",
                short(report.reason()),
                report.outcome(),
                report.exit_code()
            ));
        });
    }
    four(&shutdown);
    if how == "spins" {
        thread::spawn(|| spin());
        spin();
    }
    hang()
}

/// P13, P15: the hooks run, and the process is gone. The end of the drain's share, not of the whole, is the hooks' turn.
fn watchdog(how: &str, signal: Signal, end: End, words: &[&str]) {
    let mut program = Launch::new("never looks").argument(how).ready();
    program.signal(signal);
    let mut lines = vec!["ready", "four", "three", "two", "one"];
    lines.extend(words);
    let ended = program
        .end()
        .assert(end, &lines)
        .assert_within(GRACE + PROMPT);
    // P21: until then it was waited for.
    assert!(ended.took >= GRACE / 4, "{ended:?}");
}

/// P15, P13.
fn the_watchdog_ends_a_main_loop_that_never_looks() {
    watchdog("loop", Signal::SIGTERM, End::Code(124), &[]);
}

/// P15: with every processor busy.
fn the_watchdog_ends_a_spinning_main() {
    watchdog("spins", Signal::SIGTERM, End::Code(124), &[]);
}

/// The policy's second row comes before its third.
fn the_watchdog_dies_by_sigint_where_that_asked() {
    watchdog("loop", Signal::SIGINT, End::Signal(2), &[]);
}

/// P15.
fn the_watchdog_ends_a_run_that_never_looks() {
    watchdog("run", Signal::SIGTERM, End::Code(124), &[]);
}

/// `on_report`: also before the watchdog exits.
fn the_watchdog_says_last_words() {
    watchdog(
        "words",
        Signal::SIGTERM,
        End::Code(124),
        &["SIGTERM TimedOut 124"],
    );
}

/// Everything hangs: the tasks, the hand-back, `on_stop`, every hook, the last words, and main.
fn all_hang(how: &str) -> ExitCode {
    let shutdown = quick().grace_period(GRACE).install().unwrap();
    if how == "stderr" {
        tracing_subscriber::fmt()
            .with_max_level(tracing_subscriber::filter::LevelFilter::TRACE)
            .with_writer(std::io::stderr)
            .init();
        fill_stderr();
        tell("ready");
        hang();
    }
    for _ in 0..3 {
        shutdown.hook("hung", || hang());
    }
    let _task = shutdown.spawn("hung", |_| -> () { hang() }).unwrap();
    let _on_stop = shutdown.token().on_stop(|_| hang());
    let _hold = shutdown.hold("held").unwrap();
    shutdown.on_report(|_| hang());
    tell("ready");
    let report = shutdown.wait();
    tell("not reached, or in time");
    report.exit()
}

/// P15: the bound is the process's, not this test's; 100 ms are only to be had on an idle machine.
fn all_parts_may_hang_and_it_still_ends() {
    let mut program = Launch::new("all hang").ready();
    program.signal(Signal::SIGTERM);
    let ended = program.end().assert_within(GRACE + PROMPT);
    assert_eq!(ended.end, End::Code(124), "{ended:?}");
    assert_eq!(ended.lines[0], "ready");
}

/// P12, P15: neither a blocking log nor a report for stderr holds the watchdog.
fn a_full_stderr_holds_nobody() {
    let mut program = Launch::new("all hang")
        .argument("stderr")
        .unread_stderr()
        .ready();
    program.signal(Signal::SIGTERM);
    program
        .end()
        .assert(End::Code(124), &["ready"])
        .assert_within(GRACE + PROMPT);
}

fn not_released(_: &str) -> ExitCode {
    let shutdown = quick().grace_period(GRACE).install().unwrap();
    std::mem::forget(shutdown.hold("never released").unwrap());
    four(&shutdown);
    raise(Signal::SIGTERM).unwrap();
    let start = Instant::now();
    let report = shutdown.wait();
    assert!(start.elapsed() >= GRACE / 4);
    assert_eq!(report.outcome(), Outcome::Incomplete);
    assert_eq!(report.drained().len(), 1);
    assert_eq!(report.exit_code(), 1);
    assert!(report.is_final());
    report.exit()
}

/// P21, P13: the hooks' share is left. What was abandoned makes the end incomplete; the owner itself was in time.
fn a_hold_that_is_not_released_costs_its_share_only() {
    let lines = ["ready", "four", "three", "two", "one"];
    Launch::new("not released")
        .start()
        .end()
        .assert(End::Code(1), &lines);
}

/// What `a_stopped_process_keeps_its_grace_period` stops and continues.
fn stopped(_: &str) -> ExitCode {
    let shutdown = quick().grace_period(STOPPED_GRACE).install().unwrap();
    four(&shutdown);
    look_until_stopped(&shutdown.token());
    tell("stopping");
    assert_eq!(hear(), "go on");
    tell("going on");
    let report = shutdown.wait();
    tell(format!("{:?}", report.outcome()));
    report.exit()
}

const STOPPED_GRACE: Duration = Duration::from_secs(3);

/// P15, P16: the time that a process spends stopped is not spent by it.
fn a_stopped_process_keeps_its_grace_period() {
    let mut program = Launch::new("stopped").ready();
    program.signal(Signal::SIGTERM);
    program.expect("stopping");
    program.signal(Signal::SIGSTOP);
    let deadline = Instant::now() + PATIENCE;
    let flags = WaitPidFlag::WUNTRACED | WaitPidFlag::WNOHANG;
    loop {
        match waitpid(program.pid(), Some(flags)).unwrap() {
            WaitStatus::Stopped(_, Signal::SIGSTOP) => break,
            WaitStatus::StillAlive => assert!(Instant::now() < deadline, "did not stop"),
            other => panic!("{other:?}"),
        }
        thread::yield_now();
    }
    // Time itself is what is tested here.
    thread::sleep(STOPPED_GRACE + Duration::from_millis(1500));
    program.signal(Signal::SIGCONT);
    program.say("go on");
    let lines = [
        "ready", "stopping", "going on", "four", "three", "two", "one", "Clean",
    ];
    program.end().assert(End::Code(0), &lines);
}
