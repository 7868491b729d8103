//! Work that is claimed, and found again when its worker is killed.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::print_stderr,
    missing_docs,
    reason = "tests"
)]

mod at_random;
#[cfg(feature = "ledger-postgres")]
#[path = "../common/cluster.rs"]
mod cluster;
#[path = "../common/mod.rs"]
mod common;
mod conformance;
mod faults;
#[cfg(feature = "ledger-postgres")]
mod postgres;
#[path = "../common/process.rs"]
mod process;
mod speed;
mod sqlite;
mod work;
mod worker;

use common::FAR;
