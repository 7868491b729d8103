//! P9, P10, P11: what an installation changes in the process, and what it leaves as it was.

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use libtest_mimic::Trial;
use nix::sys::signal::raise;
use winddown::{Escalation, InstallError, ShutdownCoordinator};

use crate::Scenario;
use crate::child::{answer, fine, hang, hear, hooks, quick, short, tell};
use crate::harness::{End, Launch, Signal, trials};
use crate::sys;

pub(crate) const SCENARIOS: &[Scenario] = &[
    ("ignored", ignored),
    ("dropped", dropped),
    ("again", again),
    ("already", already),
    ("chain", chain),
    ("replaced", replaced),
    ("refused", refused),
    ("feed", feed),
];

pub(crate) fn tests() -> Vec<Trial> {
    trials![
        a_signal_ignored_at_the_start_stays_ignored,
        a_signal_ignored_at_the_start_can_be_overridden,
        an_overridden_signal_is_ignored_again_afterwards,
        after_the_coordinator_the_signal_kills_again,
        after_the_coordinator_an_older_handler_works_again,
        one_coordinator_after_the_other,
        one_coordinator_with_signals_at_a_time,
        older_handlers_still_run,
        a_handler_that_replaced_ours_is_detected,
        a_signal_that_cannot_be_handled_is_refused_by_name,
        a_fed_signal_is_like_one_that_arrived,
        a_second_fed_signal_forces_where_asked,
        a_signal_can_be_fed_from_a_handler,
    ]
}

/// Starts with signals ignored, as `nohup` and background jobs do.
const IGNORING: &[&str] = &["sh", "-c", r#"trap "" HUP INT; exec "$0""#];

fn ignored(how: &str) -> ExitCode {
    use winddown::Signal;
    let shutdown = quick()
        .signals([Signal::HUP, Signal::INT, Signal::TERM])
        .override_ignored(how != "keep")
        .install()
        .unwrap();
    if how == "after" {
        drop(shutdown);
        tell("ready");
        answer();
    }
    tell("ready");
    let report = shutdown.wait();
    tell(short(report.reason()));
    tell(report.later_reasons().len());
    report.exit()
}

/// P9. The sentinel is SIGTERM: had one of the others been taken, it would have come first.
fn a_signal_ignored_at_the_start_stays_ignored() {
    let mut program = Launch::new("ignored")
        .argument("keep")
        .through(IGNORING)
        .ready();
    program.signal(Signal::SIGHUP);
    program.signal(Signal::SIGINT);
    program.signal(Signal::SIGTERM);
    program
        .end()
        .assert(End::Code(0), &["ready", "SIGTERM", "0"]);
}

/// P9: unless asked otherwise.
fn a_signal_ignored_at_the_start_can_be_overridden() {
    let mut program = Launch::new("ignored")
        .argument("override")
        .through(IGNORING)
        .ready();
    program.signal(Signal::SIGHUP);
    program
        .end()
        .assert(End::Code(0), &["ready", "SIGHUP", "0"]);
}

/// P10: the effect it had before.
fn an_overridden_signal_is_ignored_again_afterwards() {
    let mut program = Launch::new("ignored")
        .argument("after")
        .through(IGNORING)
        .ready();
    program.signal(Signal::SIGHUP);
    program.signal(Signal::SIGINT);
    program.echo("still here");
    program.signal(Signal::SIGTERM);
    program
        .end()
        .assert(End::Signal(15), &["ready", "still here"]);
}

fn dropped(how: &str) -> ExitCode {
    let seen = Arc::new(AtomicBool::new(false));
    if how == "handler" {
        signal_hook::flag::register(Signal::SIGTERM as i32, Arc::clone(&seen)).unwrap();
    }
    let shutdown = quick().install().unwrap();
    hooks(&shutdown, &["hook"]);
    let token = shutdown.token();
    drop(shutdown);
    tell(short(&token.reason().unwrap()));
    tell("ready");
    loop {
        let line = hear();
        tell(format!("{line} {}", seen.load(Ordering::SeqCst)));
    }
}

/// P10.
fn after_the_coordinator_the_signal_kills_again() {
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        let mut program = Launch::new("dropped").start();
        for line in ["hook", "dropped", "ready"] {
            program.expect(line);
        }
        program.signal(signal);
        program
            .end()
            .assert(End::Signal(signal as i32), &["hook", "dropped", "ready"]);
    }
}

/// P10: the effect that it had before is the older handler's, not death.
fn after_the_coordinator_an_older_handler_works_again() {
    let mut program = Launch::new("dropped").argument("handler").start();
    for line in ["hook", "dropped", "ready"] {
        program.expect(line);
    }
    program.say("before");
    program.expect("before false");
    program.signal(Signal::SIGTERM);
    program.say("after");
    program.expect("after true");
    program.signal(Signal::SIGINT);
    assert_eq!(program.end().end, End::Signal(2));
}

fn again(_: &str) -> ExitCode {
    for round in 0..3 {
        let shutdown = quick().install().unwrap();
        shutdown.hook("hook", move || tell(format!("hook {round}")));
        assert!(shutdown.is_installed());
        tell(format!("ready {round}"));
        let report = shutdown.wait();
        tell(short(report.reason()));
    }
    hang()
}

/// P10.
fn one_coordinator_after_the_other() {
    let mut program = Launch::new("again").start();
    for (round, signal) in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGTERM]
        .into_iter()
        .enumerate()
    {
        program.expect(&format!("ready {round}"));
        program.signal(signal);
        program.expect(&format!("hook {round}"));
        program.expect(signal.as_str());
    }
    // The last one is gone at the end of its round; whether the program is there yet does not matter (P8, P10).
    program.signal(Signal::SIGTERM);
    assert!(program.end().end.is_forced(Signal::SIGTERM));
}

fn already(_: &str) -> ExitCode {
    let first = quick().install().unwrap();
    let refused = ShutdownCoordinator::install();
    assert!(
        matches!(refused, Err(InstallError::AlreadyInstalled)),
        "{:?}",
        refused.err()
    );
    // Any number without signals, and they come and go by themselves.
    let without: Vec<_> = (0..3)
        .map(|_| quick().signals([]).install().unwrap())
        .collect();
    assert!(without.iter().all(|other| !other.token().is_stopped()));
    drop(without);
    assert!(first.is_installed() && !first.token().is_stopped());
    raise(Signal::SIGTERM).unwrap();
    tell(short(first.wait().reason()));
    drop(first);
    drop(ShutdownCoordinator::install().unwrap());
    tell("again");
    fine()
}

/// P10.
fn one_coordinator_with_signals_at_a_time() {
    Launch::new("already")
        .start()
        .end()
        .assert(End::Code(0), &["SIGTERM", "again"]);
}

fn chain(how: &str) -> ExitCode {
    let seen = Arc::new(AtomicBool::new(false));
    match how {
        "registry" => {
            signal_hook::flag::register(Signal::SIGTERM as i32, Arc::clone(&seen)).unwrap();
        }
        "bare" => sys::bare_handler(Signal::SIGTERM),
        "choosy" => sys::choosy_handler(Signal::SIGTERM),
        _ => panic!("no such way"),
    }
    let shutdown = quick().install().unwrap();
    assert_eq!(sys::is_on_a_stack(Signal::SIGTERM), how == "choosy");
    raise(Signal::SIGTERM).unwrap();
    assert!(
        seen.load(Ordering::SeqCst) || sys::BARE.load(Ordering::SeqCst),
        "the older handler did not run"
    );
    tell(short(shutdown.wait().reason()));
    fine()
}

/// P11: whether registered by the crate that we share, or by hand; on the stack and with the mask that they ask for.
fn older_handlers_still_run() {
    for how in ["registry", "bare", "choosy"] {
        Launch::new("chain")
            .argument(how)
            .start()
            .end()
            .assert(End::Code(0), &["SIGTERM"]);
    }
}

fn replaced(how: &str) -> ExitCode {
    let shutdown = quick().install().unwrap();
    assert!(shutdown.is_installed());
    // Through the shared registry nobody is replaced.
    let seen = Arc::new(AtomicBool::new(false));
    signal_hook::flag::register(Signal::SIGTERM as i32, seen).unwrap();
    assert!(shutdown.is_installed());
    match how {
        "bare" => sys::bare_handler(Signal::SIGTERM),
        "default" => sys::default_disposition(Signal::SIGINT),
        _ => panic!("no such way"),
    }
    assert!(!shutdown.is_installed());
    tell("detected");
    // Without its handlers it is still a coordinator.
    assert_eq!(shutdown.shutdown().exit_code(), 0);
    fine()
}

/// P11.
fn a_handler_that_replaced_ours_is_detected() {
    for how in ["bare", "default"] {
        Launch::new("replaced")
            .argument(how)
            .start()
            .end()
            .assert(End::Code(0), &["detected"]);
    }
}

fn refused(number: &str) -> ExitCode {
    let number: i32 = number.parse().unwrap();
    let signal = winddown::Signal::try_from(number).unwrap();
    // Behind a good one, which must be undone.
    let error = quick()
        .signals([winddown::Signal::TERM, signal])
        .install()
        .unwrap_err();
    tell(error);
    if hear() == "go on" {
        let shutdown = quick().install().unwrap();
        hooks(&shutdown, &["hook"]);
        tell("ready");
        let report = shutdown.wait();
        tell(short(report.reason()));
        report.exit();
    }
    hang()
}

/// Refused by name; nothing is left behind (P10), and a right installation works afterwards.
fn a_signal_that_cannot_be_handled_is_refused_by_name() {
    for signal in [
        Signal::SIGKILL,
        Signal::SIGSTOP,
        Signal::SIGSEGV,
        Signal::SIGILL,
        Signal::SIGFPE,
    ] {
        let number = (signal as i32).to_string();
        let mut program = Launch::new("refused").argument(&number).start();
        let message = program.line();
        assert!(message.contains(signal.as_str()), "{message}");
        program.say("go on");
        program.expect("ready");
        program.signal(Signal::SIGTERM);
        program
            .end()
            .assert(End::Code(0), &[&message, "ready", "hook", "SIGTERM"]);

        let mut program = Launch::new("refused").argument(&number).start();
        program.expect(&message);
        program.signal(Signal::SIGTERM);
        program.end().assert(End::Signal(15), &[&message]);
    }
}

fn feed(how: &str) -> ExitCode {
    let builder = quick().signals([]);
    let builder = match how {
        "force" => builder.escalation(Escalation::SecondSignal),
        _ => builder,
    };
    let shutdown = builder.install().unwrap();
    let (token, handle) = (shutdown.token(), shutdown.handle());
    let (int, term) = (winddown::Signal::INT, winddown::Signal::TERM);
    match how {
        "twice" => {
            handle.feed(term);
            // P6, without a signal.
            assert!(token.is_stopped());
            handle.feed(int);
        }
        "force" => {
            hooks(&shutdown, &["never"]);
            handle.feed(term);
            tell("fed");
            handle.feed(term);
            tell("not reached");
            hang();
        }
        "handler" => {
            sys::within_handler(Signal::SIGUSR1, move || handle.feed(int));
            raise(Signal::SIGUSR1).unwrap();
            assert!(token.is_stopped());
        }
        _ => panic!("no such way"),
    }
    hooks(&shutdown, &["hook"]);
    let report = shutdown.wait();
    tell(short(report.reason()));
    // Whoever feeds owns the handlers: SIGTERM itself is not ours.
    let own = shutdown.token();
    drop(shutdown);
    assert!(own.is_stopped());
    fine()
}

/// As if it had arrived; for hosts that own the handlers nothing escalates unless asked.
fn a_fed_signal_is_like_one_that_arrived() {
    Launch::new("feed")
        .argument("twice")
        .start()
        .end()
        .assert(End::Code(0), &["hook", "SIGTERM"]);
}

/// P8, by hand.
fn a_second_fed_signal_forces_where_asked() {
    Launch::new("feed")
        .argument("force")
        .start()
        .end()
        .assert_forced(Signal::SIGTERM, &["fed"]);
}

/// P12: `feed` is async-signal-safe.
fn a_signal_can_be_fed_from_a_handler() {
    Launch::new("feed")
        .argument("handler")
        .start()
        .end()
        .assert(End::Code(0), &["hook", "SIGINT"]);
}
