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

mod binary;
mod minimal;
mod process;
mod server;
mod terminal;

use std::time::Duration;

/// Reaching it fails the test.
pub(crate) const FAR: Duration = Duration::from_secs(20);
/// Between two looks at something that cannot be waited for.
pub(crate) const GLANCE: Duration = Duration::from_millis(5);
/// The sum of all that a loaded machine may add to a bound.
pub(crate) const SLACK: Duration = Duration::from_secs(1);
