//! The console, on real terminals and pipes.
//!
//! One executable plays both parts, as in `tests/signals`: with `WINDDOWN_SCENARIO` set it is a program that uses the
//! crate, otherwise the runner of the tests, which starts it. What a terminal would show is read off a small model of one.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::print_stderr,
    missing_docs,
    reason = "tests"
)]

mod cost;
#[path = "../common/example.rs"]
mod example;
mod log;
#[path = "../common/process.rs"]
mod process;
#[path = "../common/pty.rs"]
mod pty;
mod scenario;
mod screen;
mod terminal;

use std::process::{Command, ExitCode};
use std::time::Duration;

use libtest_mimic::Trial;

/// Reaching it fails the test.
pub(crate) const FAR: Duration = Duration::from_secs(30);

const SCENARIO: &str = "WINDDOWN_SCENARIO";

/// A test, and its name.
macro_rules! trials {
    ($($test:ident),* $(,)?) => {
        vec![$(libtest_mimic::Trial::test(stringify!($test), || { $test(); Ok(()) })),*]
    };
}
pub(crate) use trials;

/// This executable as a program, on a terminal that can do everything.
pub(crate) fn program(scenario: &str, arguments: &[&str]) -> Command {
    let mut command = process::command(std::env::current_exe().unwrap());
    command
        .args(arguments)
        .env(SCENARIO, scenario)
        .env("TERM", "xterm")
        .env("LC_ALL", "C.UTF-8")
        .env_remove("RUST_BACKTRACE");
    command
}

fn main() -> ExitCode {
    if let Ok(name) = std::env::var(SCENARIO) {
        // The net below the net: a runner that is killed leaves nobody behind.
        nix::unistd::alarm::set(120);
        return scenario::play(&name);
    }
    let all: Vec<Trial> = [terminal::tests(), log::tests(), cost::tests()]
        .into_iter()
        .flatten()
        .collect();
    libtest_mimic::run(&libtest_mimic::Arguments::from_args(), all).exit_code()
}
