//! P6, P8, P15 with a linger, and real signals.

use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant};

use libtest_mimic::Trial;
use nix::sys::signal::raise;
use winddown::{Escalation, Readiness, ShutdownCoordinator, ShutdownHandle};

use crate::Scenario;
use crate::child::{
    FAR, answer, aside, fine, hang, look_until_stopped, quick, short, spin, tell, tell_at_stop,
    until_parked,
};
use crate::harness::{End, Launch, PROMPT, Signal, trials};
use crate::sender::freeze;
use crate::sys;

pub(crate) const SCENARIOS: &[Scenario] = &[
    ("linger raise", raised),
    ("linger serve", serve),
    ("linger hang", hangs),
    ("linger nest", nest),
    ("linger frozen", frozen),
];

pub(crate) fn tests() -> Vec<Trial> {
    trials![
        the_handler_turns_readiness_and_the_second_one_stops,
        a_server_lingers_then_stops_then_is_forced,
        a_key_press_within_the_debounce_does_not_end_the_linger,
        the_grace_period_counts_from_the_first_signal,
        a_linger_ends_whatever_hangs,
        a_stopped_process_keeps_its_linger,
        whatever_nests_a_key_press_has_stopped_when_it_returns,
    ]
}

/// Waits by looking only: independent of every wake-up.
fn look_until(handle: &ShutdownHandle, readiness: Readiness) {
    while handle.readiness() != readiness {
        thread::sleep(Duration::from_millis(1));
    }
}

fn raised(_: &str) -> ExitCode {
    // Whoever needs a thread to be scheduled is going to wait for it.
    for _ in 0..4 {
        thread::spawn(|| spin());
    }
    for _ in 0..20 {
        let shutdown = quick().linger(FAR / 2).install().unwrap();
        let token = shutdown.token();
        let child = token.child();
        raise(Signal::SIGTERM).unwrap();
        let after_one = (shutdown.readiness(), token.is_stopped(), shutdown.is_live());
        raise(Signal::SIGTERM).unwrap();
        let after_two = (shutdown.readiness(), child.token().is_stopped());
        assert_eq!(after_one, (Readiness::Lingering, false, true));
        assert_eq!(after_two, (Readiness::Draining, true));
        assert_eq!(short(&token.reason().unwrap()), "SIGTERM");
        drop(shutdown);

        let shutdown = quick().linger(FAR / 2).install().unwrap();
        raise(Signal::SIGINT).unwrap();
        assert!(shutdown.token().is_stopped());
        drop(shutdown);
    }
    tell("as promised");
    fine()
}

/// P6.
fn the_handler_turns_readiness_and_the_second_one_stops() {
    Launch::new("linger raise")
        .start()
        .end()
        .assert(End::Code(0), &["as promised"]);
}

/// A server that tells when it lingers, and answers all the time; its hook hangs.
fn serve(how: &str) -> ExitCode {
    let mut builder = quick().grace_period(FAR).linger(FAR / 2);
    match how {
        "debounced" => builder = builder.debounce(FAR),
        "suspended" => builder = builder.linger(SUSPENDED_LINGER),
        _ => {}
    }
    let shutdown = builder.install().unwrap();
    shutdown.hook("hung", || -> () {
        tell("hook");
        hang()
    });
    tell_at_stop(&shutdown.token(), "stopping");
    let handle = shutdown.handle();
    aside(move || {
        look_until(&handle, Readiness::Lingering);
        tell("lingering");
    });
    aside(move || drop(shutdown.wait()));
    tell("ready");
    answer();
}

/// P8, one further: the first announces, the second stops, and the third ends the process, with a hook that hangs.
fn a_server_lingers_then_stops_then_is_forced() {
    let mut program = Launch::new("linger serve").ready();
    program.signal(Signal::SIGTERM);
    program.expect("lingering");
    program.echo("still serving");
    program.signal(Signal::SIGTERM);
    program.expect("stopping");
    program.expect("hook");
    program.echo("still here");
    program.signal(Signal::SIGTERM);
    let lines = [
        "ready",
        "lingering",
        "still serving",
        "stopping",
        "hook",
        "still here",
    ];
    program.end().assert_forced(Signal::SIGTERM, &lines);
}

/// P7. What shows that nothing happened is that the program still answers, without having stopped.
fn a_key_press_within_the_debounce_does_not_end_the_linger() {
    let mut program = Launch::new("linger serve").argument("debounced").ready();
    program.signal(Signal::SIGTERM);
    program.expect("lingering");
    for signal in [Signal::SIGINT, Signal::SIGTERM] {
        program.signal(signal);
        program.echo("still serving");
    }
}

const GRACE: Duration = Duration::from_secs(3);

fn hangs(_: &str) -> ExitCode {
    let shutdown = ShutdownCoordinator::builder()
        .grace_period(GRACE)
        .cleanup_reserve(GRACE / 10)
        .linger(GRACE * 10)
        .install()
        .unwrap();
    let handle = shutdown.handle();
    drop(shutdown.spawn("task", |_| hang()).unwrap());
    shutdown.token().on_stop(|_| hang()).detach();
    shutdown.hook("hook", move || -> () {
        // In there the token has stopped long ago.
        tell(handle.readiness());
        hang()
    });
    tell("ready");
    hang()
}

/// P15, where every part hangs and nearly all of the time is lingered away: a clock that began with the stop would
/// take twice as long.
fn the_grace_period_counts_from_the_first_signal() {
    let mut program = Launch::new("linger hang").ready();
    program.signal(Signal::SIGTERM);
    let ended = program
        .end()
        .assert(End::Code(124), &["ready", "draining"])
        .assert_within(GRACE + GRACE * 6 / 10);
    assert!(ended.took >= GRACE * 9 / 10, "{ended:?}");
}

/// From now on whatever needs memory hangs, the shutdown's own thread included.
fn frozen(_: &str) -> ExitCode {
    let shutdown = ShutdownCoordinator::builder()
        .grace_period(GRACE)
        .linger(GRACE / 10)
        .install()
        .unwrap();
    let token = shutdown.token();
    until_parked(2);
    tell("ready");
    sys::freeze_the_allocator();
    say(b"frozen\n");
    look_until_stopped(&token);
    say(b"stopped\n");
    hang()
}

/// Without memory.
fn say(line: &[u8]) {
    assert_eq!(
        rustix::io::write(rustix::stdio::stdout(), line),
        Ok(line.len())
    );
}

/// P15: the linger ends, and the process after it, by the thread that nothing can hang.
fn a_linger_ends_whatever_hangs() {
    let mut program = Launch::new("linger frozen").ready();
    program.expect("frozen");
    program.signal(Signal::SIGTERM);
    let lines = ["ready", "frozen", "stopped"];
    program
        .end()
        .assert(End::Code(124), &lines)
        .assert_within(GRACE + PROMPT);
}

const SUSPENDED_LINGER: Duration = Duration::from_secs(3);

/// The time that a process spends stopped is not a time in which it serves.
fn a_stopped_process_keeps_its_linger() {
    let mut program = Launch::new("linger serve").argument("suspended").ready();
    let began = Instant::now();
    program.signal(Signal::SIGTERM);
    program.expect("lingering");
    freeze(&mut program);
    let before = began.elapsed();
    // Time itself is what is tested here.
    thread::sleep(SUSPENDED_LINGER + Duration::from_millis(500));
    let continued = Instant::now();
    program.signal(Signal::SIGCONT);
    program.expect("stopping");
    // A slice may have been under way on each side.
    let due = SUSPENDED_LINGER.saturating_sub(before + Duration::from_millis(200));
    let lasted = continued.elapsed();
    assert!(lasted >= due, "{lasted:?} of {due:?}");
    program.expect("hook");
}

fn nest(_: &str) -> ExitCode {
    for _ in 0..200 {
        let shutdown = quick()
            .linger(FAR / 2)
            .escalation(Escalation::Never)
            .install()
            .unwrap();
        let token = shutdown.token();
        thread::scope(|scope| {
            for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGTERM] {
                let token = &token;
                scope.spawn(move || {
                    raise(signal).unwrap();
                    assert!(signal == Signal::SIGTERM || token.is_stopped());
                });
            }
        });
        look_until_stopped(&token);
        drop(shutdown);
    }
    tell("stopped each time");
    fine()
}

/// P6 for a key press, beside others that linger.
fn whatever_nests_a_key_press_has_stopped_when_it_returns() {
    Launch::new("linger nest")
        .start()
        .end()
        .assert(End::Code(0), &["stopped each time"]);
}
