//! The checksum example, as its users meet it: a process on a real tree, interrupted, killed, resumed.
//!
//! Every wait ends, by what is waited for or by a failure; every child is gone when its test is.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "tests"
)]

mod at_random;
mod errors;
#[path = "../common/example.rs"]
mod example;
mod interrupted;
mod killed;
mod manifest;
mod place;
#[path = "../common/process.rs"]
mod process;
#[path = "../common/pty.rs"]
mod pty;
#[path = "../common/random.rs"]
mod random;
mod terminal;

use std::fs;
use std::time::Duration;

use crate::process::Process;

/// Reaching it fails the test.
pub(crate) const FAR: Duration = Duration::from_secs(40);

/// It is reading that file now.
pub(crate) fn reads(process: &Process, name: &str) -> bool {
    let open = fs::read_dir(format!("/proc/{}/fd", process.pid())).unwrap();
    open.flatten()
        .any(|fd| fs::read_link(fd.path()).is_ok_and(|path| path.ends_with(name)))
}
