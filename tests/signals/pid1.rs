//! P8 as PID 1 of a container, where a signal's default action does nothing.

use std::process::{Command, ExitCode, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use libtest_mimic::{Completion, Trial};
use nix::unistd::Pid;

use crate::Scenario;
use crate::child::{hang, hooks, look_until_stopped, quick, tell, tell_at_stop};
use crate::harness::{End, Launch, PATIENCE, PROMPT, Program, Signal, skip, trials};

pub(crate) const SCENARIOS: &[Scenario] = &[("pid 1", pid_1)];

pub(crate) fn tests() -> Vec<Trial> {
    trials![
        pid_1_ends_gracefully_with_0,
        pid_1_ends_by_sigint_with_130,
        pid_1_is_forced_by_the_second_signal,
        pid_1_is_forced_inside_exit,
        pid_1_is_ended_by_its_watchdog,
        pid_1_dies_by_no_signal_after_its_coordinator,
    ]
}

const UNSHARE: &[&str] = &[
    "setpriv",
    "--pdeathsig",
    "KILL",
    "unshare",
    "--user",
    "--map-root-user",
    "--pid",
    "--fork",
    "--kill-child",
    "--mount-proc",
];

fn pid_1(how: &str) -> ExitCode {
    assert_eq!(std::process::id(), 1);
    let grace = if how == "watchdog" {
        Duration::from_secs(2)
    } else {
        crate::child::FAR
    };
    let shutdown = quick().grace_period(grace).install().unwrap();
    hooks(&shutdown, &["hook"]);
    match how {
        "forced" => {
            shutdown.hook("hung", || -> () {
                tell("stuck");
                hang()
            });
        }
        "watchdog" => {
            tell("ready");
            hang();
        }
        "exit" => {
            crate::sys::at_exit_hang();
            tell("ready");
            std::process::exit(shutdown.wait().exit_code().into());
        }
        "after" => {
            drop(shutdown);
            tell("ready");
            crate::child::answer();
        }
        "spin" => {
            tell_at_stop(&shutdown.token(), "stuck");
            tell("ready");
            look_until_stopped(&shutdown.token());
            crate::child::spin();
        }
        _ => {}
    }
    tell("ready");
    shutdown.wait().exit()
}

/// Starts a program as PID 1 and aims the signals at it, not at `unshare`; says why where that is not allowed.
fn start(how: &str) -> Result<Program, Completion> {
    let probe = Command::new("env")
        .arg("--default-signal")
        .args(UNSHARE)
        .arg("true")
        .stdin(Stdio::null())
        .output();
    match probe {
        Ok(output) if output.status.success() => {}
        other => return Err(skip(&format!("no pid namespace here: {other:?}"))),
    }
    let mut program = Launch::new("pid 1").argument(how).through(UNSHARE).start();
    let outer = program.pid();
    let children = format!("/proc/{outer}/task/{outer}/children");
    let deadline = Instant::now() + PATIENCE;
    let inner = loop {
        let children = std::fs::read_to_string(&children).unwrap();
        if let Some(first) = children.split_whitespace().next() {
            break first.parse().unwrap();
        }
        assert!(Instant::now() < deadline, "unshare started nobody");
        thread::yield_now();
    };
    program.aim(Pid::from_raw(inner));
    Ok(program)
}

macro_rules! start_or_skip {
    ($how:expr) => {
        match start($how) {
            Ok(program) => program,
            Err(skipped) => return skipped,
        }
    };
}

/// The default policy, with the hooks run (P13).
fn pid_1_ends_gracefully_with_0() -> Completion {
    let mut program = start_or_skip!("graceful");
    program.expect("ready");
    program.signal(Signal::SIGTERM);
    program.end().assert(End::Code(0), &["ready", "hook"]);
    Completion::Completed
}

/// The default policy: it cannot die by the signal.
fn pid_1_ends_by_sigint_with_130() -> Completion {
    let mut program = start_or_skip!("graceful");
    program.expect("ready");
    program.signal(Signal::SIGINT);
    program
        .end()
        .assert(End::Code(130), &["ready", "hook"])
        .assert_within(PROMPT);
    Completion::Completed
}

/// P8: 128 + n, never 139.
fn pid_1_is_forced_by_the_second_signal() -> Completion {
    for how in ["forced", "spin"] {
        for signal in [Signal::SIGTERM, Signal::SIGINT] {
            let mut program = start_or_skip!(how);
            program.expect("ready");
            program.signal(Signal::SIGTERM);
            program.expect("stuck");
            program.signal(signal);
            let ended = program
                .end()
                .assert(End::Code(128 + signal as i32), &["ready", "stuck"]);
            ended.assert_within(PROMPT);
        }
    }
    Completion::Completed
}

/// P8: with the report written and a thread in `exit`.
fn pid_1_is_forced_inside_exit() -> Completion {
    let mut program = start_or_skip!("exit");
    program.expect("ready");
    program.signal(Signal::SIGTERM);
    program.expect("hook");
    program.expect("stuck");
    program.signal(Signal::SIGTERM);
    program
        .end()
        .assert(End::Code(143), &["ready", "hook", "stuck"])
        .assert_within(PROMPT);
    Completion::Completed
}

/// P15.
fn pid_1_is_ended_by_its_watchdog() -> Completion {
    for (signal, code) in [(Signal::SIGTERM, 124), (Signal::SIGINT, 130)] {
        let mut program = start_or_skip!("watchdog");
        program.expect("ready");
        program.signal(signal);
        program.end().assert(End::Code(code), &["ready", "hook"]);
    }
    Completion::Completed
}

/// P10: the effect that it had before, which for PID 1 is none: neither death nor SIGSEGV.
fn pid_1_dies_by_no_signal_after_its_coordinator() -> Completion {
    let mut program = start_or_skip!("after");
    program.expect("hook");
    program.expect("ready");
    program.signal(Signal::SIGTERM);
    program.signal(Signal::SIGINT);
    program.echo("still here");
    program.signal(Signal::SIGKILL);
    let ended = program.end();
    assert_eq!(ended.lines, ["hook", "ready", "still here"]);
    assert_ne!(ended.end, End::Code(139));
    Completion::Completed
}
