//! The small examples, end to end: each as a process of its own, ended the way a user or an init
//! system ends it.
//!
//! A test waits for what it can see (a line, a closed socket, the end of the process), never for a
//! time; `FAR` bounds every such wait, and reaching it is a failure.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::print_stderr,
    missing_docs,
    reason = "tests"
)]

#[cfg(feature = "tokio")]
mod axum_server;
#[cfg(feature = "ledger-postgres")]
#[path = "../common/cluster.rs"]
mod cluster;
#[path = "../common/example.rs"]
mod example;
mod minimal;
#[path = "../common/process.rs"]
mod process;
#[path = "../common/pty.rs"]
mod pty;
#[cfg(feature = "ledger")]
#[path = "../common/queue.rs"]
mod queue;
#[cfg(feature = "ledger")]
mod queue_worker;
#[path = "../common/random.rs"]
mod random;
mod server;
mod server_admin;
mod stream;
mod terminal;

use std::process::Stdio;
use std::time::Duration;

use crate::process::Process;

/// Reaching it fails the test.
pub(crate) const FAR: Duration = Duration::from_secs(20);
/// The sum of all that a loaded machine may add to a bound.
pub(crate) const SLACK: Duration = Duration::from_secs(1);

/// Starts an example whose output is read.
pub(crate) fn start(example: &str, arguments: &[&str]) -> Process {
    let mut command = example::command(example, arguments);
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    Process::start(command)
}
