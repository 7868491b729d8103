//! On Linux a futex: no descriptor that a daemon's clean-up could close, or that could run out.
//! Private memory, so a forked child rings its own copy (P10).

use std::io;
use std::time::Duration;

use crate::signal::bell::Ears;
use crate::sync::Futex;

/// One word for all threads, with a bit for each that has been rung for and has not heard it yet:
/// so a handler, in which every call counts, wakes two threads by one.
pub(crate) struct Bell(Futex);

impl Bell {
    #[expect(clippy::unnecessary_wraps, reason = "elsewhere it can fail")]
    pub(crate) fn new() -> io::Result<Self> {
        Ok(Self(Futex::new()))
    }

    /// Async-signal-safe.
    pub(crate) fn ring(&self, ears: Ears) {
        // Who sleeps has no bit: it is set by the ring that wakes.
        if self.0.set(ears.0) & ears.0 != ears.0 {
            self.0.wake(ears.0);
        }
    }

    /// Until it rings for `ear`, or `timeout` is over; now and then for nothing.
    pub(crate) fn wait(&self, ear: Ears, timeout: Option<Duration>) {
        let rung = self.0.clear(ear.0);
        if rung & ear.0 == 0 {
            self.0.wait(rung, ear.0, timeout);
            // A ring that is taken back here was for what the caller is about to look at.
            self.0.clear(ear.0);
        }
    }
}
