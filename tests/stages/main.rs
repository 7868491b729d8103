//! Stages: built last, stopped first, each in its turn.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    missing_docs,
    reason = "tests"
)]

#[path = "../common/mod.rs"]
mod common;
mod life;
mod order;
mod time;

use winddown::{DrainReport, ShutdownReport};

#[track_caller]
pub(crate) fn row<'a>(report: &'a ShutdownReport, name: &str) -> &'a DrainReport {
    let mut rows = report.drained().iter();
    rows.find(|row| row.name() == name)
        .unwrap_or_else(|| panic!("no {name} in\n{report}"))
}
