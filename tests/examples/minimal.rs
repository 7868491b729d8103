//! `examples/minimal.rs`.

use std::os::unix::process::ExitStatusExt;

use nix::sys::signal::Signal;

use crate::example::source;
use crate::start;

#[test]
fn dies_by_sigint_after_its_hook() {
    let mut minimal = start("minimal", &[]);
    minimal.out.line("round 1");
    minimal.signal(Signal::SIGINT);
    let status = minimal.end();
    // By the signal, not with 130: only then does `for i in 1 2 3; do ./minimal; done` stop as a
    // whole.
    assert_eq!(status.signal(), Some(libc::SIGINT), "{status}");
    assert_eq!(minimal.out.last_line(), "lights out");
}

#[test]
fn exits_with_zero_at_sigterm() {
    let mut minimal = start("minimal", &[]);
    minimal.out.line("round 1");
    minimal.signal(Signal::SIGTERM);
    assert_eq!(minimal.end().code(), Some(0));
    assert_eq!(minimal.out.last_line(), "lights out");
}

#[test]
fn fits_the_first_screen() {
    let lines = source("minimal").lines().count();
    assert!(lines < 25, "{lines} lines");
}
