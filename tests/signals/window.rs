//! P10, between two states: a signal kills or stops, whenever it comes. One that comes while the handler is being put in
//! place is easily swallowed.

use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use libtest_mimic::{Completion, Trial};

use crate::Scenario;
use crate::child::{fine, look_until_stopped, quick, tell};
use crate::harness::{End, Launch, Signal, skip, trials};

pub(crate) const SCENARIOS: &[Scenario] = &[("early", early), ("step", step)];

pub(crate) fn tests() -> Vec<Trial> {
    trials![
        a_signal_during_the_installation_is_not_lost,
        a_signal_at_no_step_of_the_installation_is_lost,
    ]
}

fn early(_: &str) -> ExitCode {
    tell("ready");
    let shutdown = quick().install().unwrap();
    look_until_stopped(&shutdown.token());
    shutdown.wait().exit()
}

/// At a hundred different times.
fn a_signal_during_the_installation_is_not_lost() {
    let (mut killed, mut stopped) = (0, 0);
    for round in 0..100 {
        let mut program = Launch::new("early").ready();
        let until = Instant::now() + Duration::from_micros(round * 10);
        while Instant::now() < until {
            std::hint::spin_loop();
        }
        program.signal(Signal::SIGTERM);
        let ended = program.end();
        match ended.end {
            End::Signal(15) => killed += 1,
            End::Code(0) => stopped += 1,
            _ => panic!("{ended:?}"),
        }
    }
    eprintln!("{killed} killed, {stopped} stopped");
}

fn step(_: &str) -> ExitCode {
    let shutdown = quick().install().unwrap();
    let stopped = shutdown.token().is_stopped();
    tell(if stopped { "stopped" } else { "running" });
    fine()
}

/// At each system call of main that changes a handler or a mask, by way of `strace`, which can send a signal right there.
fn a_signal_at_no_step_of_the_installation_is_lost() -> Completion {
    let probe = Command::new("strace")
        .args(["-qq", "true"])
        .stdin(Stdio::null())
        .output();
    if !probe.as_ref().is_ok_and(|output| output.status.success()) {
        return skip(&format!("no strace here: {probe:?}"));
    }
    let directory = tempfile::tempdir().unwrap();
    let (mut killed, mut stopped) = (0, 0);
    for call in ["rt_sigaction", "rt_sigprocmask"] {
        for nth in 1.. {
            let log = directory.path().join(format!("{call}-{nth}"));
            let through = [
                "strace",
                "-qq",
                &format!("-etrace={call},write"),
                &format!("-einject={call}:signal=SIGTERM:when={nth}"),
                &format!("-o{}", log.display()),
            ];
            let ended = Launch::new("step").through(&through).start().end();
            let log = std::fs::read_to_string(log).unwrap();
            let sent = log.find("--- SIGTERM");
            let looked = log.find("write(1, \"");
            match (ended.end, &ended.lines[..]) {
                (End::Signal(15), []) => killed += 1,
                (End::Code(0), [line]) if line == "stopped" => stopped += 1,
                // That was all of them.
                (End::Code(0), [line]) if line == "running" && sent.is_none() => break,
                // Only after the look.
                (_, [line]) if line == "running" && sent > looked => {}
                _ => panic!("lost at {call} {nth}: {ended:?}\n{log}"),
            }
        }
    }
    eprintln!("{killed} killed, {stopped} stopped");
    assert!(killed > 0 && stopped > 0);
    Completion::Completed
}
