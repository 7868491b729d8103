//! Whether somebody is there to fetch the report.

use crate::sync::{AtomicBool, AtomicU8, Ordering};

/// Whether the thread that owns the coordinator has come back, or the process goes without it: one
/// decision.
///
/// An owner that awaits the report is *here* from its first poll after the stop, and *back* when it
/// has fetched the report: in between the drain need not wait for it, but its executor may hang,
/// and then the process ends without it (P15).
#[derive(Default)]
pub(crate) struct OwnerWord {
    word: AtomicU8,
    awaits: AtomicBool,
}

impl OwnerWord {
    const AWAY: u8 = 0;
    const BACK: u8 = 1;
    const GIVEN_UP: u8 = 2;

    /// True: in time. False: the process is being ended without it.
    pub(crate) fn come_back(&self) -> bool {
        self.word
            .compare_exchange(Self::AWAY, Self::BACK, Ordering::AcqRel, Ordering::Acquire)
            .is_ok()
            || self.is_back()
    }

    /// True: it is still away, and its coming back will be too late.
    pub(crate) fn give_up(&self) -> bool {
        self.word
            .compare_exchange(
                Self::AWAY,
                Self::GIVEN_UP,
                Ordering::AcqRel,
                Ordering::Acquire,
            )
            .is_ok()
    }

    pub(crate) fn is_back(&self) -> bool {
        self.word.load(Ordering::Acquire) == Self::BACK
    }

    /// It has seen the stop, and will fetch the report when there is one.
    pub(crate) fn await_report(&self) {
        self.awaits.store(true, Ordering::Release);
    }

    pub(crate) fn awaits_report(&self) -> bool {
        self.awaits.load(Ordering::Acquire)
    }

    /// Nobody has to wait for it any more.
    pub(crate) fn is_here(&self) -> bool {
        self.is_back() || self.awaits_report()
    }
}
