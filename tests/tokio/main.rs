//! The promises, for tokio programs: on a `current_thread` and on a `multi_thread` runtime, and in processes of
//! their own where a signal or the end of the process is part of it.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    missing_docs,
    reason = "tests"
)]

mod bridge;
#[allow(dead_code, reason = "shared; each test binary uses its own part")]
#[path = "../signals/child.rs"]
mod child;
mod commits;
#[path = "../common/mod.rs"]
mod common;
#[allow(dead_code, reason = "shared; each test binary uses its own part")]
#[path = "../signals/harness.rs"]
mod harness;
mod hooks;
mod items;
mod processes;
mod report;
mod streams;
mod tasks;

use std::process::ExitCode;

use tokio::runtime::{Builder, Runtime};

/// A program under test: its name, and its `main`, which is given the argument.
type Scenario = (&'static str, fn(&str) -> ExitCode);

fn main() -> ExitCode {
    if let Ok(name) = std::env::var(harness::SCENARIO) {
        let argument = std::env::var(harness::ARGUMENT).unwrap_or_default();
        let (_, scenario) = processes::SCENARIOS
            .iter()
            .find(|(own, _)| *own == name)
            .unwrap();
        child::prepare();
        return scenario(&argument);
    }
    let tests = [
        bridge::tests(),
        commits::tests(),
        hooks::tests(),
        items::tests(),
        processes::tests(),
        report::tests(),
        streams::tests(),
        tasks::tests(),
    ];
    harness::run(tests)
}

fn current_thread() -> Runtime {
    Builder::new_current_thread().enable_all().build().unwrap()
}

fn multi_thread() -> Runtime {
    Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap()
}

/// Runs it on both kinds of runtime, each time within the patience of a test.
fn on_both<F, Fut>(f: F)
where
    F: Fn() -> Fut + Clone + Send + 'static,
    Fut: Future<Output = ()>,
{
    for build in [current_thread, multi_thread] {
        let f = f.clone();
        common::bounded(move || build().block_on(f()));
    }
}
