//! One item of work, from its admission to its verdict.
//!
//! ```text
//! Running ──complete──▶ Committing ──Ok──▶ Completed
//!    │                      └── Err, panic ──┐
//!    └── fail, drop, panic, end of time ──▶ HandingBack ──▶ HandedBack
//! Running, where only what has stopped is handed back ── end of the slice ──▶ Undecided
//! Committing, HandingBack ── the report ──▶ Undecided
//! ```
//!
//! Every arrow is one atomic step, and whoever takes it does what it stands for: so an item is
//! never both completed and handed back, and never neither (P20).

use std::sync::Arc;
use std::time::Duration;

use crate::clock::Tick;
use crate::reason::Interruption;
use crate::said::{self, Thread};
use crate::sync::{AtomicBool, AtomicU8, Mutex, OnceLock, Ordering, fence};
use crate::token::{StopSource, StopToken};

/// Where an item stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Stand {
    Running = 0,
    Committing = 1,
    HandingBack = 2,
    Completed = 3,
    HandedBack = 4,
    Undecided = 5,
}

impl Stand {
    /// It has no verdict yet.
    pub(super) const OPEN: [Self; 3] = [Self::Running, Self::Committing, Self::HandingBack];
}

/// What is to become of an item that is handed back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Advice {
    /// Put it back, to be tried again.
    TryAgain,
    /// It has been interrupted as often as it may: put it with the dead letters.
    GiveUp,
}

/// An item that is handed back: given to the closure of
/// [`on_interrupted`](crate::InFlightBuilder::on_interrupted).
///
/// The payload is shared with the worker as long as that still has it. Take it by clone, as an
/// `Arc`, or by value where nobody else has it.
#[derive(Debug)]
pub struct Interrupted<T> {
    pub(super) value: Arc<T>,
    pub(super) why: Interruption,
    pub(super) ran: Duration,
    pub(super) attempts: Option<u32>,
    pub(super) advice: Advice,
}

impl<T> Interrupted<T> {
    /// The payload.
    pub fn item(&self) -> &T {
        &self.value
    }

    /// The payload, cloned where the worker still has it.
    pub fn into_item(self) -> T
    where
        T: Clone,
    {
        Arc::unwrap_or_clone(self.value)
    }

    /// The payload, shared with the worker where that still has it.
    pub fn into_shared(self) -> Arc<T> {
        self.value
    }

    /// The payload by value.
    ///
    /// # Errors
    ///
    /// Gives itself back where the worker still has the payload.
    pub fn try_into_item(self) -> Result<T, Self> {
        let Self {
            value,
            why,
            ran,
            attempts,
            advice,
        } = self;
        Arc::try_unwrap(value).map_err(|value| Self {
            value,
            why,
            ran,
            attempts,
            advice,
        })
    }

    /// Why it is handed back.
    pub fn why(&self) -> &Interruption {
        &self.why
    }

    /// How long it had been in flight, to a few milliseconds.
    pub fn ran(&self) -> Duration {
        self.ran
    }

    /// How often it had been tried before, as [`fill_with`](crate::Slot::fill_with) was told;
    /// `None` if it was not.
    pub fn attempts(&self) -> Option<u32> {
        self.attempts
    }

    /// [`Advice::GiveUp`] when this was the last interruption that
    /// [`max_interruptions`](crate::InFlightBuilder::max_interruptions) allows.
    pub fn advice(&self) -> Advice {
        self.advice
    }
}

/// The state of one item, shared by the worker's handle and the list.
pub(super) struct Cell<T> {
    stand: AtomicU8,
    /// The program has taken it back, or the time is over.
    interrupted: AtomicBool,
    /// The worker has gone while somebody else was handing the item back.
    worker_gone: AtomicBool,
    /// Made when the work asks for it.
    source: OnceLock<StopSource>,
    /// The hand-back's share of the payload, taken out by it.
    value: Mutex<Option<Arc<T>>>,
    attempts: Option<u32>,
    pub(super) since: Tick,
    /// Which thread took it.
    pub(super) thread: Thread,
}

impl<T> Cell<T> {
    pub(super) fn new(stand: Stand, value: Arc<T>, attempts: Option<u32>) -> Self {
        Self {
            stand: AtomicU8::new(stand as u8),
            interrupted: AtomicBool::new(false),
            worker_gone: AtomicBool::new(false),
            source: OnceLock::new(),
            value: Mutex::new(Some(value)),
            attempts,
            since: Tick::coarse(),
            thread: said::carrier(),
        }
    }

    /// True: this call did it, and what the step stands for is the caller's to do.
    pub(super) fn advance(&self, from: Stand, to: Stand) -> bool {
        // AcqRel: whoever finds the verdict sees what was done before it.
        self.stand
            .compare_exchange(from as u8, to as u8, Ordering::AcqRel, Ordering::Acquire)
            .is_ok()
    }

    pub(super) fn stands_at(&self, stand: Stand) -> bool {
        self.stand.load(Ordering::Acquire) == stand as u8
    }

    pub(super) fn is_interrupted(&self) -> bool {
        self.interrupted.load(Ordering::Acquire)
    }

    /// The worker goes. True: the item is off the list with it; false: it is being handed back by
    /// somebody else, who takes it off when that is done. Until then it has no verdict, and must be
    /// found (P20).
    pub(super) fn worker_leaves(&self) -> bool {
        if !self.stands_at(Stand::HandingBack) {
            return true;
        }
        self.worker_gone.store(true, Ordering::Release);
        // With the fence in `is_worker_gone`: one of the two sees the other, or both do.
        fence(Ordering::SeqCst);
        !self.stands_at(Stand::HandingBack)
    }

    /// For whoever has handed it back in the worker's place.
    pub(super) fn is_worker_gone(&self) -> bool {
        fence(Ordering::SeqCst);
        self.worker_gone.load(Ordering::Acquire)
    }

    /// The work can see it from now on. True: it has asked for its token, which is to be stopped by
    /// [`tell`](Self::tell).
    pub(super) fn interrupt(&self) -> bool {
        self.interrupted.store(true, Ordering::Release);
        // With the fence in `token`: either this sees the source, or that sees the interruption.
        fence(Ordering::SeqCst);
        self.source.get().is_some()
    }

    /// Stops the work's token. Runs user code.
    pub(super) fn tell(&self) {
        if let Some(source) = self.source.get() {
            source.stop("the item was interrupted");
        }
    }

    pub(super) fn token(&self) -> StopToken {
        let source = self.source.get_or_init(StopSource::new);
        fence(Ordering::SeqCst);
        if self.is_interrupted() {
            source.stop("the item was interrupted");
        }
        source.token()
    }

    /// Completed: nobody hands it back any more. Runs user code: the payload's drop code.
    pub(super) fn let_go(&self) {
        let value = self.value.lock().take();
        drop(value);
    }

    /// For whoever hands it back. `None`: somebody has.
    pub(super) fn take(&self, why: Interruption, most: Option<u32>) -> Option<Interrupted<T>> {
        let value = self.value.lock().take()?;
        let last = |most: u32| {
            let attempts = self.attempts.unwrap_or(0);
            attempts.saturating_add(1) >= most
        };
        Some(Interrupted {
            value,
            why,
            ran: Tick::coarse().since(self.since),
            attempts: self.attempts,
            advice: if most.is_some_and(last) {
                Advice::GiveUp
            } else {
                Advice::TryAgain
            },
        })
    }
}
