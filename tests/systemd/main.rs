//! The feature `systemd`, against a stand-in for systemd: a notify socket, and its timers.
//!
//! As in the tests with signals, one executable plays both parts: with `WINDDOWN_SCENARIO` set it is a service.
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

#[path = "../signals/child.rs"]
#[allow(dead_code, reason = "each test binary uses its own part")]
mod child;
#[path = "../signals/harness.rs"]
#[allow(
    dead_code,
    unused_macros,
    unused_imports,
    reason = "each test binary uses its own part"
)]
mod harness;
mod manager;
mod services;
mod timers;
mod told;
mod unheard;

use std::process::ExitCode;

fn main() -> ExitCode {
    if let Ok(name) = std::env::var(harness::SCENARIO) {
        let argument = std::env::var(harness::ARGUMENT).unwrap_or_default();
        child::prepare();
        return services::run(&name, &argument);
    }
    let tests = [told::tests(), timers::tests(), unheard::tests()];
    harness::run(tests)
}
