//! The ways of dying. Nothing else in the crate ends the process.

use std::io::Write;

use crate::exit_policy::Death;
use crate::signal::handler;

/// At once: no `atexit`, no destructors, no flush. Async-signal-safe.
///
/// Not `exit`: from a second thread it waits for ever while another is inside it, and a hung
/// `atexit` handler may be the very thing that has to be ended.
pub(crate) fn now(death: Death) -> ! {
    match death {
        Death::Code(code) => handler::exit_now(i32::from(code)),
        Death::Signal(signal) => handler::die_by(signal),
    }
}

/// As a program that ends by itself: with an exit code through `exit`, `atexit` handlers included.
#[expect(clippy::exit, reason = "this is the one place where it may")]
pub(crate) fn normally(death: Death) -> ! {
    match death {
        Death::Code(code) => std::process::exit(i32::from(code)),
        Death::Signal(signal) => handler::die_by(signal),
    }
}

/// Calls `f` when the process begins to exit, but not where it is ended at once.
pub(crate) fn at_exit(f: extern "C" fn()) {
    handler::at_exit(f);
}

/// Writes out what stdout still buffers, as a death by a signal would lose it. May block on a full
/// pipe: call it from a thread that can be left behind.
///
/// `locked` is called in between.
pub(crate) fn flush(locked: impl FnOnce()) {
    let mut stdout = std::io::stdout().lock();
    locked();
    // Nobody is left to tell of an error.
    let _ = stdout.flush();
}
