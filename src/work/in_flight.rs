//! Work in flight: each item ends completed or handed back, once.

use std::fmt;
use std::marker::PhantomData;
use std::ops::Deref;
use std::panic::{
    AssertUnwindSafe, Location, RefUnwindSafe, UnwindSafe, catch_unwind, resume_unwind,
};
use std::sync::Arc;

use thiserror::Error;

use crate::hook::HookOutput;
use crate::inside;
use crate::panic::show_and_drop;
use crate::reason::Interruption;
use crate::slab::Key;
use crate::text::Name;
use crate::token::StopToken;
use crate::work::Home;
use crate::work::deferred;
use crate::work::item::{Cell, Interrupted, Stand};
use crate::work::set::{By, Common, HandingBack, OnInterrupted, SHARDS, Set, shard};
use crate::work::sets::AnySet;

/// What happens to items that are still running when the time for draining is over.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum HandBack {
    /// They are handed back at once. The work may still be running: what it does from then on has
    /// no commit, but its other effects may come twice.
    #[default]
    AtDeadline,
    /// Only what has provably stopped is handed back: their tokens are stopped, and those whose
    /// work ends within the hand-back slice are handed back then. The others are reported as
    /// undecided.
    WhenStopped,
}

/// A commit did not complete its item.
#[derive(Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum NotCompleted<E> {
    /// Too late: the item had been handed back, and the commit was not called.
    #[error("the item had been handed back")]
    HandedBack,
    /// Too late: the time was over with the work still running, and the report has it as undecided.
    /// The commit was not called, and the item has not been handed back.
    #[error("the item was left undecided at the end of the time")]
    Undecided,
    /// The commit returned this error; the item has been handed back.
    #[error("the commit failed: {0}")]
    CommitFailed(E),
}

/// Settings of a set of items; ends in [`on_interrupted`](Self::on_interrupted).
#[must_use = "it does nothing before on_interrupted"]
pub struct InFlightBuilder<T> {
    home: Home,
    name: Name,
    location: &'static Location<'static>,
    /// None where it is left to the kind of hand-back.
    hand_back: Option<HandBack>,
    most: Option<u32>,
    of: PhantomData<fn(T)>,
}

impl<T: Send + Sync + 'static> InFlightBuilder<T> {
    pub(crate) fn new(home: Home, name: Name, location: &'static Location<'static>) -> Self {
        Self {
            home,
            name,
            location,
            hand_back: None,
            most: None,
            of: PhantomData,
        }
    }

    /// When running items are handed back. Default: [`HandBack::AtDeadline`]; with
    /// `on_interrupted_async`, of the feature `tokio`, [`HandBack::WhenStopped`].
    pub fn hand_back(mut self, when: HandBack) -> Self {
        self.hand_back = Some(when);
        self
    }

    /// After so many attempts an interrupted item comes with
    /// [`Advice::GiveUp`](crate::Advice::GiveUp), so that a poison item does not go round for ever.
    ///
    /// Counts the attempts that [`fill_with`](Slot::fill_with) was told of, and this one: what was
    /// admitted with [`fill`](Slot::fill) is at its first, every time. Failures, crashes and
    /// interruptions are best counted apart: whoever counts only failures in there should look at
    /// [`why`](crate::Interrupted::why) ([`is_failure`](crate::Interruption::is_failure)) before
    /// giving up on what was merely out of time.
    pub fn max_interruptions(mut self, most: u32) -> Self {
        self.most = Some(most);
        self
    }

    /// Makes the set. `f` is called for each item that is handed back, once: it puts it where it
    /// came from.
    ///
    /// It is called on the thread that fills too late, drops, fails or commits the item: hold no
    /// lock there that `f` takes. At the end of the time for draining it is called on threads of
    /// the coordinator, with up to half of the [cleanup
    /// reserve](crate::ShutdownBuilder::cleanup_reserve) for all of them. An error, a panic or a
    /// hang of it is in the report, and the exit status is not 0.
    pub fn on_interrupted<F, R>(self, f: F) -> InFlight<T>
    where
        F: Fn(Interrupted<T>) -> R + Send + Sync + 'static,
        R: HookOutput,
    {
        let f = move |item| HandingBack::Over(f(item).into_result());
        self.build(HandBack::AtDeadline, Box::new(f))
    }

    /// The coordinator's number.
    #[cfg(feature = "tokio")]
    pub(crate) fn coordinator_id(&self) -> u64 {
        self.home.id
    }

    /// Makes the set; `hand_back` counts where nothing else was said.
    pub(crate) fn build(
        self,
        hand_back: HandBack,
        on_interrupted: OnInterrupted<T>,
    ) -> InFlight<T> {
        let common = Arc::new(Common {
            home: self.home,
            name: self.name,
            location: self.location,
            hand_back: self.hand_back.unwrap_or(hand_back),
            most: self.most,
            on_interrupted,
        });
        let shards = std::array::from_fn(|_| Arc::new(Set::new(&common)));
        for shard in &shards {
            let any: Arc<dyn AnySet> = Arc::clone(shard) as Arc<dyn AnySet>;
            common.home.sets.add(&any);
        }
        let shards = Arc::new(shards);
        InFlight { shards }
    }
}

/// A set of work in flight: every item that it admits ends completed or handed back, exactly one of
/// the two (P20).
///
/// Made by [`ShutdownHandle::in_flight`](crate::ShutdownHandle::in_flight); clones are the same
/// set.
///
/// One *verdict* is promised, not one effect: work that is handed back while it still runs may have
/// done half of it, and will be done again. So the effect belongs into the commit. And a process
/// that is killed, or forced to end, hands nothing back.
pub struct InFlight<T> {
    shards: Arc<[Arc<Set<T>>; SHARDS]>,
}

impl<T: Send + Sync + 'static> InFlight<T> {
    /// A place for one item, to be taken *before* the item is fetched; `None` once the program has
    /// stopped, or the stage that the set belongs to (P22).
    ///
    /// It counts already: the drain waits for what the fetch brings, so that nothing is lost
    /// between the fetch and the registration. One that is not filled in time is reported as
    /// abandoned: a fetch should have an end.
    pub fn reserve(&self) -> Option<Slot<T>> {
        let set = &self.shards[shard()];
        let mut state = set.state.lock();
        if state.closed || set.common.home.node.is_stopped() {
            return None;
        }
        state.slots += 1;
        drop(state);
        Some(Slot {
            set: Some(Arc::clone(set)),
        })
    }

    /// How many are in flight, reserved ones included.
    pub fn len(&self) -> usize {
        self.shards.iter().map(|shard| shard.count()).sum()
    }

    /// Nothing is in flight.
    pub fn is_empty(&self) -> bool {
        self.shards.iter().all(|shard| AnySet::is_empty(&**shard))
    }
}

impl<T> Clone for InFlight<T> {
    fn clone(&self) -> Self {
        Self {
            shards: Arc::clone(&self.shards),
        }
    }
}

/// A place for one item. Dropping it gives the place back.
#[must_use = "the drain waits for it while it lives"]
pub struct Slot<T: Send + Sync + 'static> {
    set: Option<Arc<Set<T>>>,
}

impl<T: Send + Sync + 'static> Slot<T> {
    /// Admits the item. `None`: the stop came meanwhile, and the item has been handed back.
    pub fn fill(self, value: T) -> Option<Item<T>> {
        self.admit(value, None)
    }

    /// Admits an item that has been tried before:
    /// [`Interrupted::attempts`](crate::Interrupted::attempts) will say so.
    pub fn fill_with(self, value: T, attempts: u32) -> Option<Item<T>> {
        self.admit(value, Some(attempts))
    }

    fn admit(mut self, value: T, attempts: Option<u32>) -> Option<Item<T>> {
        let set = self.set.take()?;
        let value = Arc::new(value);
        let mut state = set.state.lock();
        let late = state.closed || set.common.home.node.is_stopped();
        let stand = if late {
            Stand::HandingBack
        } else {
            Stand::Running
        };
        let cell = Arc::new(Cell::new(stand, Arc::clone(&value), attempts));
        let key = state.items.push(Arc::clone(&cell));
        state.slots -= 1;
        drop(state);
        if late {
            // The hand-back has the payload for itself.
            drop(value);
            set.give_back(&cell, key, Interruption::Stopping, By::Worker);
            return None;
        }
        Some(Item {
            place: Some((set, key)),
            cell,
            value: Some(value),
        })
    }
}

impl<T: Send + Sync + 'static> Drop for Slot<T> {
    fn drop(&mut self) {
        if let Some(set) = self.set.take() {
            set.leave(None);
        }
    }
}

/// An item in flight; dereferences to its payload.
///
/// It ends by [`complete`](Self::complete) or [`fail`](Self::fail). Dropped, also by a panic of the
/// work, it is handed back.
#[must_use = "dropping it hands the item back"]
pub struct Item<T: Send + Sync + 'static> {
    place: Option<(Arc<Set<T>>, Key)>,
    cell: Arc<Cell<T>>,
    /// Always there, until the drop.
    value: Option<Arc<T>>,
}

impl<T: Send + Sync + 'static> Item<T> {
    /// The item has been taken back, or is about to be: the time for draining is over. The stop
    /// alone leaves it false: work in hand is to be finished as long as there is time.
    pub fn is_interrupted(&self) -> bool {
        self.cell.is_interrupted()
    }

    /// Stops when the item [is interrupted](Self::is_interrupted). Not a child of the program's
    /// token: its reason is [`Requested`](crate::StopReason::Requested), and it knows of no
    /// [time left](StopToken::time_left).
    pub fn token(&self) -> StopToken {
        self.cell.token()
    }

    /// Calls `commit`, which makes the work's effect last, and with that completes the item.
    ///
    /// From here on the item cannot be taken back any more. A commit that is running when the time
    /// is over is waited for within the hand-back slice; if it has not ended when the report is
    /// made, the item is undecided, which that says.
    ///
    /// # Errors
    ///
    /// [`NotCompleted::HandedBack`] when the item had been taken back, and
    /// [`NotCompleted::Undecided`] when the shutdown was over first: `commit` was not called.
    /// [`NotCompleted::CommitFailed`] with the error of `commit`: the item has been handed back.
    ///
    /// # Panics
    ///
    /// When `commit` does; the item has been handed back by then.
    pub fn complete<O, E>(
        mut self,
        commit: impl FnOnce(&T) -> Result<O, E>,
    ) -> Result<O, NotCompleted<E>> {
        self = self.begin_commit()?;
        let committed = {
            let _inside = self.coordinator_id().map(inside::enter);
            catch_unwind(AssertUnwindSafe(|| commit(&self)))
        };
        match committed {
            Ok(Ok(output)) => {
                self.committed();
                Ok(output)
            }
            Ok(Err(error)) => {
                self.end(Stand::Committing, Interruption::CommitFailed);
                Err(NotCompleted::CommitFailed(error))
            }
            Err(payload) => {
                self.end(Stand::Committing, Interruption::Panicked);
                resume_unwind(payload)
            }
        }
    }

    /// From here on nobody takes it back.
    pub(super) fn begin_commit<E>(self) -> Result<Self, NotCompleted<E>> {
        if self.cell.advance(Stand::Running, Stand::Committing) {
            Ok(self)
        } else {
            Err(self.too_late())
        }
    }

    /// Why no commit of it begins; where nobody else has handed it back, this does.
    pub(super) fn too_late<E>(self) -> NotCompleted<E> {
        if self.cell.stands_at(Stand::Undecided) {
            NotCompleted::Undecided
        } else {
            NotCompleted::HandedBack
        }
    }

    pub(super) fn committed(&self) {
        // Where the time was over meanwhile it stays undecided in the report; the effect is there
        // all the same.
        self.cell.advance(Stand::Committing, Stand::Completed);
    }

    pub(super) fn coordinator_id(&self) -> Option<u64> {
        self.place.as_ref().map(|(set, _)| set.common.home.id)
    }

    /// Hands the item back, with the error of the work.
    pub fn fail(mut self, error: impl fmt::Display) {
        let error = show_and_drop(error, |error| format!("{error:#}"));
        self.end(Stand::Running, Interruption::Failed(error));
    }

    /// Hands it back if it stands at `from`, and takes it off the list.
    pub(super) fn end(&mut self, from: Stand, why: Interruption) {
        let Some((set, key)) = self.place.take() else {
            return;
        };
        if !self.cell.stands_at(Stand::Completed) && !set.common.home.process.is_this() {
            // P20: in a forked child it is the parent's, which gives it its verdict.
            std::mem::forget(self.value.take());
            return;
        }
        let mine = self.cell.advance(from, Stand::HandingBack);
        // The worker's share goes first, so that the hand-back can have the payload by value.
        let value = self.value.take();
        if mine {
            drop(value);
            let cell = Arc::clone(&self.cell);
            deferred::or_now(move || set.give_back(&cell, key, why, By::Worker));
            return;
        }
        // P21: the payload's drop code is part of the item. If it panics, the item goes all the
        // same.
        let dropped = catch_unwind(AssertUnwindSafe(|| {
            drop(value);
            if self.cell.stands_at(Stand::Completed) {
                self.cell.let_go();
            }
        }));
        if self.cell.worker_leaves() {
            set.leave(Some(key));
        }
        if let Err(payload) = dropped {
            resume_unwind(payload);
        }
    }
}

impl<T: Send + Sync + 'static> Deref for Item<T> {
    type Target = T;

    #[expect(
        clippy::expect_used,
        reason = "it is taken only by what consumes or drops the item"
    )]
    fn deref(&self) -> &T {
        self.value
            .as_deref()
            .expect("the payload is there until the drop")
    }
}

impl<T: Send + Sync + 'static> Drop for Item<T> {
    fn drop(&mut self) {
        let why = if std::thread::panicking() {
            Interruption::Panicked
        } else {
            Interruption::Dropped
        };
        self.end(Stand::Running, why);
    }
}

impl<T> fmt::Debug for InFlight<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("InFlight")
            .field("name", &self.shards[0].common.name)
            .finish_non_exhaustive()
    }
}

impl<T> fmt::Debug for InFlightBuilder<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("InFlightBuilder")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

impl<T: Send + Sync + 'static> fmt::Debug for Slot<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Slot").finish_non_exhaustive()
    }
}

impl<T: Send + Sync + fmt::Debug + 'static> fmt::Debug for Item<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Item")
            .field("value", &self.value)
            .finish_non_exhaustive()
    }
}

// No user code ever runs under the locks inside, so a panic cannot leave them half changed.
impl<T> UnwindSafe for InFlight<T> {}
impl<T> RefUnwindSafe for InFlight<T> {}
