//! P7 and P8: what the second signal does, and what it does not.

use std::process::ExitCode;
use std::thread;
use std::time::Duration;

use libtest_mimic::Trial;
use winddown::{Escalation, ShutdownCoordinator};

use crate::Scenario;
use crate::child::{
    FAR, answer, aside, fine, hang, hear, look_until_stopped, quick, short, tell, tell_at_stop,
};
use crate::harness::{End, Launch, Signal, trials};

pub(crate) const SCENARIOS: &[Scenario] = &[
    ("polite", polite),
    ("pair", pair),
    ("debounce over", debounce_over),
];

pub(crate) fn tests() -> Vec<Trial> {
    trials![
        the_forced_exit_tells_the_second_signal,
        the_first_signal_after_a_programmatic_stop_is_polite,
        escalation_never_never_forces,
        two_deliveries_within_the_debounce_are_one_request,
        int_and_term_back_to_back_are_one_request,
        a_delivery_after_the_debounce_forces,
        forced_within_50_ms,
    ]
}

/// P8: what the parent sees is the signal that forced, not the one that asked.
fn the_forced_exit_tells_the_second_signal() {
    let mut program = Launch::new("stuck").argument("hook").ready();
    program.signal(Signal::SIGTERM);
    program.expect("stuck");
    program.signal(Signal::SIGINT);
    program
        .end()
        .assert_forced(Signal::SIGINT, &["ready", "stuck"]);
}

/// P8: 50 ms. The best of ten, since a loaded machine may take its time with any one of them.
fn forced_within_50_ms() {
    let best = (0..10).map(|_| {
        let mut program = Launch::new("stuck").argument("hook").ready();
        program.signal(Signal::SIGTERM);
        program.expect("stuck");
        program.signal(Signal::SIGTERM);
        program
            .end()
            .assert_forced(Signal::SIGTERM, &["ready", "stuck"])
            .took
    });
    let best = best.min().unwrap();
    assert!(
        best < Duration::from_millis(50),
        "the best of ten took {best:?}"
    );
}

/// A program whose hook waits for the test, while its main thread answers.
fn polite(how: &str) -> ExitCode {
    let builder = match how {
        "never" => quick().escalation(Escalation::Never),
        _ => quick(),
    };
    let shutdown = builder.install().unwrap();
    let (go, gone) = std::sync::mpsc::channel::<()>();
    shutdown.hook("waits", move || {
        tell("hook");
        let _ = gone.recv();
    });
    let handle = shutdown.handle();
    if how == "programmatic" {
        handle.stop("enough");
    }
    let ending = aside(move || {
        let report = shutdown.wait();
        tell(short(report.reason()));
        tell(report.later_reasons().len());
        report.exit();
    });
    tell("ready");
    if how == "programmatic" {
        answer();
    }
    loop {
        let line = hear();
        if line == "go" {
            drop(go);
            let _ = ending.recv();
            hang();
        }
        tell(line);
    }
}

/// P8: escalation counts signals, not stops.
fn the_first_signal_after_a_programmatic_stop_is_polite() {
    let mut program = Launch::new("polite").argument("programmatic").start();
    let mut first = [program.line(), program.line()];
    first.sort();
    assert_eq!(first, ["hook", "ready"]);
    program.signal(Signal::SIGTERM);
    program.echo("still here");
    program.signal(Signal::SIGTERM);
    let ended = program.end();
    assert!(ended.end.is_forced(Signal::SIGTERM), "{ended:?}");
    assert_eq!(ended.lines.len(), 3, "{ended:?}");
}

/// P8, the exception: with `Escalation::Never` no number of signals forces; they are in the report (P3).
fn escalation_never_never_forces() {
    let mut program = Launch::new("polite").argument("never").ready();
    program.signal(Signal::SIGTERM);
    program.expect("hook");
    for signal in [
        Signal::SIGTERM,
        Signal::SIGINT,
        Signal::SIGINT,
        Signal::SIGTERM,
    ] {
        program.signal(signal);
        program.echo("still here");
    }
    program.say("go");
    let mut lines = vec!["ready", "hook"];
    lines.extend(["still here"; 4]);
    lines.extend(["SIGTERM", "4"]);
    program.end().assert(End::Code(0), &lines);
}

/// A window that no test leaves.
fn pair(_: &str) -> ExitCode {
    let shutdown = quick().debounce(FAR).install().unwrap();
    let (go, gone) = std::sync::mpsc::channel::<()>();
    let once = std::sync::atomic::AtomicUsize::new(0);
    shutdown.hook("waits", move || {
        let _ = gone.recv();
        tell(format!(
            "hook {}",
            once.fetch_add(1, std::sync::atomic::Ordering::SeqCst)
        ));
    });
    tell_at_stop(&shutdown.token(), "stopping");
    aside(move || shutdown.wait().exit());
    tell("ready");
    loop {
        let line = hear();
        if line == "go" {
            drop(go);
            hang();
        }
        tell(line);
    }
}

/// P7, in order: the first decides how the process ends.
fn two_deliveries_within_the_debounce_are_one_request() {
    let int = Signal::SIGINT;
    let term = Signal::SIGTERM;
    let by_int = End::Signal(int as i32);
    for (first, second, end) in [
        (term, term, End::Code(0)),
        (term, int, End::Code(0)),
        (int, term, by_int),
        (int, int, by_int),
    ] {
        let mut program = Launch::new("pair").ready();
        program.signal(first);
        program.expect("stopping");
        program.signal(second);
        program.echo("still here");
        program.say("go");
        program
            .end()
            .assert(end, &["ready", "stopping", "still here", "hook 0"]);
    }
}

/// P7, without order: two at once, whichever the system delivers first.
fn int_and_term_back_to_back_are_one_request() {
    for _ in 0..10 {
        let mut program = Launch::new("pair").ready();
        program.signal(Signal::SIGINT);
        program.signal(Signal::SIGTERM);
        program.expect("stopping");
        program.echo("still here");
        program.say("go");
        let ended = program.end();
        assert!(
            [End::Code(0), End::Signal(Signal::SIGINT as i32)].contains(&ended.end),
            "{ended:?}"
        );
        assert_eq!(ended.lines, ["ready", "stopping", "still here", "hook 0"]);
    }
}

/// The default window, and a main that says when it is over.
fn debounce_over(_: &str) -> ExitCode {
    let shutdown = ShutdownCoordinator::builder()
        .grace_period(FAR)
        .hook_timeout(FAR)
        .install()
        .unwrap();
    shutdown.hook("hung", || hang());
    tell("ready");
    look_until_stopped(&shutdown.token());
    tell("stopping");
    thread::sleep(Duration::from_millis(300));
    tell("over");
    let _ = shutdown.wait();
    fine()
}

/// P7: the default window is 300 ms, and it ends.
fn a_delivery_after_the_debounce_forces() {
    let mut program = Launch::new("debounce over").ready();
    program.signal(Signal::SIGTERM);
    program.expect("stopping");
    program.expect("over");
    program.signal(Signal::SIGTERM);
    program
        .end()
        .assert_forced(Signal::SIGTERM, &["ready", "stopping", "over"]);
}
