//! From the report to the end of the process.

use std::process::{ExitCode, Termination};
use std::time::Duration;

use crate::exit_policy::Death;
use crate::report::ShutdownReport;
use crate::shutdown::aside;
use crate::signal::exit;
use crate::token::after;

impl ShutdownReport {
    /// Ends the process as the [`ExitPolicy`](crate::ExitPolicy) says: writes out what stdout still
    /// buffers, then exits, or dies by the signal.
    ///
    /// `atexit` handlers run where it exits with a code, and do not where it dies by a signal. One
    /// that hangs, or a thread that is inside `exit` already, keeps the process no longer than what
    /// was left of the grace period, or a second, whichever is longer (unless
    /// [`exit_on_timeout(false)`](crate::ShutdownBuilder::exit_on_timeout)).
    pub fn exit(self) -> ! {
        exit::normally(self.prepare())
    }

    /// What may hang is bounded from here on.
    fn prepare(&self) -> Death {
        let death = self.death();
        flush_bounded();
        if let Some(time) = self.exit_within() {
            end_after(time, death);
        }
        death
    }
}

impl Termination for ShutdownReport {
    /// As [`exit`](ShutdownReport::exit), but by a return from `main`. Does not return where the
    /// policy says to die by a signal.
    fn report(self) -> ExitCode {
        match self.prepare() {
            Death::Code(code) => ExitCode::from(code),
            death @ Death::Signal(_) => exit::normally(death),
        }
    }
}

/// Writes out what stdout still buffers, for a moment at most: a full pipe must not keep the
/// process.
pub(super) fn flush_bounded() {
    aside::bounded_by("winddown-flush", after::FLUSH, exit::flush);
}

/// Ends the process in `time`, whatever keeps it then.
fn end_after(time: Duration, death: Death) {
    // Where there is no thread for it, the second signal still works.
    let _ = aside::start("winddown-exit", move || {
        std::thread::sleep(time);
        exit::now(death);
    });
}
