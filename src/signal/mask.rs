//! Which signals a thread lets in.

use crate::signal::handler::{change_mask, set_of};

/// All signals held back on this thread; what came meanwhile is delivered when this is dropped.
pub(crate) struct Blocked(Mask);

/// What a thread lets in.
#[derive(Clone, Copy)]
pub(crate) struct Mask(libc::sigset_t);

impl Blocked {
    pub(crate) fn all() -> Self {
        Self(Mask(change_mask(libc::SIG_BLOCK, &set_of(u64::MAX))))
    }

    /// The mask from before, for a thread that was started meanwhile and has inherited this one.
    pub(crate) fn before(&self) -> Mask {
        self.0
    }
}

impl Mask {
    pub(crate) fn restore(self) {
        change_mask(libc::SIG_SETMASK, &self.0);
    }
}

impl Drop for Blocked {
    fn drop(&mut self) {
        self.0.restore();
    }
}

/// Lets `signals`, a bit each, in on this thread, whatever mask it was started with.
pub(crate) fn let_in(signals: u64) {
    change_mask(libc::SIG_UNBLOCK, &set_of(signals));
}
