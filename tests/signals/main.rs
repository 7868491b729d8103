//! Signals, sent to real programs.
//!
//! One executable plays both parts. With `WINDDOWN_SCENARIO` set it is a program that uses the crate: the scenario runs
//! in the real main thread, so that its end is the real one. Otherwise it is the runner of the tests, each of which
//! starts children of this same executable, talks to them through pipes, and examines how they end.
//!
//! Order comes from lines that were read, never from time: a signal that must be the second is sent after the
//! program has told that it saw the first.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::exit,
    missing_docs,
    reason = "tests"
)]

mod child;
mod cycles;
mod emergency;
mod endings;
mod escalation;
mod failing;
mod faults;
mod forked;
mod harness;
mod hooks;
mod install;
#[cfg(feature = "checkpoint")]
mod killed;
mod leaving;
mod limits;
mod linger;
mod memory;
mod moments;
mod pid1;
mod pty;
mod safe_calls;
mod sender;
mod storm;
mod stuck;
mod sys;
mod threads;
mod token;
mod traced;
mod window;

#[path = "../common/random.rs"]
mod random;

use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: sys::Freezing = sys::Freezing;

/// A program under test: its name, and its `main`, which is given the argument.
type Scenario = (&'static str, fn(&str) -> ExitCode);

const SCENARIOS: &[&[Scenario]] = &[
    cycles::SCENARIOS,
    emergency::SCENARIOS,
    endings::SCENARIOS,
    leaving::SCENARIOS,
    escalation::SCENARIOS,
    failing::SCENARIOS,
    faults::SCENARIOS,
    forked::SCENARIOS,
    hooks::SCENARIOS,
    install::SCENARIOS,
    #[cfg(feature = "checkpoint")]
    killed::SCENARIOS,
    limits::SCENARIOS,
    linger::SCENARIOS,
    memory::SCENARIOS,
    moments::SCENARIOS,
    pid1::SCENARIOS,
    pty::SCENARIOS,
    safe_calls::SCENARIOS,
    sender::SCENARIOS,
    storm::SCENARIOS,
    stuck::SCENARIOS,
    token::SCENARIOS,
    window::SCENARIOS,
];

fn main() -> ExitCode {
    if let Ok(name) = std::env::var(harness::SCENARIO) {
        let argument = std::env::var(harness::ARGUMENT).unwrap_or_default();
        let (_, scenario) = SCENARIOS
            .iter()
            .copied()
            .flatten()
            .find(|(own, _)| *own == name)
            .unwrap();
        child::prepare();
        return scenario(&argument);
    }
    let tests = [
        token::tests(),
        escalation::tests(),
        stuck::tests(),
        emergency::tests(),
        threads::tests(),
        install::tests(),
        window::tests(),
        safe_calls::tests(),
        forked::tests(),
        endings::tests(),
        leaving::tests(),
        hooks::tests(),
        limits::tests(),
        memory::tests(),
        faults::tests(),
        moments::tests(),
        failing::tests(),
        storm::tests(),
        cycles::tests(),
        #[cfg(feature = "checkpoint")]
        killed::tests(),
        pid1::tests(),
        pty::tests(),
        linger::tests(),
        sender::tests(),
    ];
    harness::run(tests)
}
