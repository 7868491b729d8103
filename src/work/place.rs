//! The places of holds: taken and let go of without a lock or a count that other threads want.
//!
//! 1. A hold has a place on the list of its [`Holders`]: a slot, whose `word` says how many clones
//!    of the hold there are. 0: it is free, and whoever has the [`Place`] may use it again.
//! 2. The thread that lets go of a place keeps it for its next hold. So that costs the lock of the
//!    slot, which nobody else wants, and one exchange of its word. A place that a thread has no
//!    room for, or has when it ends, goes back to the list (P23).
//! 3. When the intake is closed, the list's lock held, every hold is marked and counted. Marking
//!    and letting go are steps of the one word: either the hold had gone, or it is counted, and
//!    then it goes through the lock of the list, where the last one is known (P21).
//! 4. Under the slot's lock a hold is put into it, after a look whether the intake is closed, and
//!    marked after the intake has been closed: nothing is admitted that is not counted (P22).
//! 5. The list's lock comes before that of a slot.

use std::cell::Cell;
use std::panic::Location;
use std::sync::Arc;

use crate::clock::Tick;
use crate::report::Holder;
use crate::said;
use crate::snapshot::Said;
use crate::sync::{self, AtomicUsize, Mutex, Ordering};
use crate::text::Name;
use crate::work::Holders;
use crate::work::holders::Held;

/// Counted by whoever closed the intake.
const COUNTED: usize = 1;
/// Left behind: the report has it already.
const LEFT: usize = 2;
/// One clone.
const ONE: usize = 4;

/// Places that a thread keeps for its next holds.
const KEPT: usize = 4;

/// See the module.
pub(super) struct Slot {
    index: usize,
    word: AtomicUsize,
    /// Of the last hold in it, until the next one comes.
    pub(super) held: Mutex<Option<Held>>,
}

/// All places of a list. Under its lock.
#[derive(Default)]
pub(super) struct Places {
    slots: Vec<Arc<Slot>>,
    free: Vec<usize>,
    /// Counted, and still there.
    left: usize,
}

/// A place, and whose list it is on. Once taken, to be let go of by [`leave`](Self::leave).
pub(crate) struct Place {
    slot: Arc<Slot>,
    holders: Arc<Holders>,
}

/// What a thread keeps.
struct Kept {
    places: [Cell<Option<Place>>; KEPT],
    turn: Cell<u64>,
}

sync::local! {
    static MINE: Kept = Kept {
        places: [const { Cell::new(None) }; KEPT],
        turn: Cell::new(0),
    };
}

/// Of two that came to a list from one thread, the earlier has the lower number: the clock that
/// ages are taken from is too coarse to tell.
pub(super) fn turn() -> u64 {
    MINE.try_with(Kept::next_turn).unwrap_or(0)
}

impl Kept {
    fn next_turn(&self) -> u64 {
        let turn = self.turn.get() + 1;
        self.turn.set(turn);
        turn
    }

    fn take(&self, holders: &Arc<Holders>) -> Option<Place> {
        self.places.iter().find_map(|kept| {
            let place = kept.take()?;
            if Arc::ptr_eq(&place.holders, holders) {
                return Some(place);
            }
            kept.set(Some(place));
            None
        })
    }

    /// Keeps it; gives back what there is no room for.
    fn keep(&self, place: Place) -> Option<Place> {
        let mut place = Some(place);
        for kept in &self.places {
            place = kept.replace(place);
            place.as_ref()?;
        }
        place
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        for kept in &self.places {
            if let Some(place) = kept.take() {
                place.give_back();
            }
        }
    }
}

impl Place {
    pub(super) fn new(slot: Arc<Slot>, holders: &Arc<Holders>) -> Self {
        let holders = Arc::clone(holders);
        Self { slot, holders }
    }

    /// Takes a place for a hold; gives the name back when the intake is closed (P22).
    pub(crate) fn take(
        holders: &Arc<Holders>,
        name: Name,
        location: &'static Location<'static>,
    ) -> Result<Self, Name> {
        let mine = MINE.try_with(|mine| (mine.take(holders), mine.next_turn()));
        let (kept, turn) = mine.unwrap_or_default();
        let place = kept.unwrap_or_else(|| holders.new_place());
        let (since, thread) = (Tick::coarse(), said::carrier());
        let mut held = place.slot.held.lock();
        if holders.is_closed() {
            drop(held);
            place.keep();
            return Err(name);
        }
        *held = Some(Held {
            name,
            holder: Holder::Hold,
            location,
            since,
            turn,
            late: holders.is_stopping(),
            thread,
            said: None,
            abort: None,
        });
        place.slot.word.store(ONE, Ordering::Release);
        drop(held);
        Ok(place)
    }

    /// One more for the same hold: also while draining.
    pub(crate) fn share(&self) -> Self {
        self.slot.word.fetch_add(ONE, Ordering::Relaxed);
        Self::new(Arc::clone(&self.slot), &self.holders)
    }

    /// What is being done under it, in its own words.
    pub(crate) fn say(&self, said: Said) {
        let (said, thread) = (Box::new(said), said::carrier());
        let mut held = self.slot.held.lock();
        // A hold travels: who speaks for it has it, and who took it may do something else by now.
        let before = held.as_mut().and_then(|held| {
            held.thread = thread;
            held.said.replace(said)
        });
        drop(held);
        drop(before);
    }

    /// The hold goes, or one of its clones.
    pub(crate) fn leave(self) {
        // Release: who finds it gone sees what was done under it.
        let word = &self.slot.word;
        let gone = |word: &AtomicUsize| {
            let gone = word.compare_exchange(ONE, 0, Ordering::Release, Ordering::Relaxed);
            gone.is_ok()
        };
        if !self.holders.is_stopping() && gone(word) {
            self.keep();
        } else if self.holders.leave_place(&self.slot) {
            self.give_back();
        }
    }

    /// For the next hold of this thread.
    fn keep(self) {
        let mut place = Some(self);
        // A thread that is being taken down keeps nothing.
        let _ = MINE.try_with(|mine| place = place.take().and_then(|place| mine.keep(place)));
        if let Some(place) = place {
            place.give_back();
        }
    }

    /// For the next hold of anybody.
    fn give_back(self) {
        self.holders.free_place(&self.slot);
    }
}

impl Slot {
    fn clones(&self) -> usize {
        self.word.load(Ordering::Acquire) / ONE
    }

    /// The hold in it, and how many clones there are; `None` where there is none.
    pub(super) fn look<R>(&self, f: impl FnOnce(&Held, usize) -> R) -> Option<R> {
        let held = self.held.lock();
        let clones = self.clones();
        let held = held.as_ref().filter(|_| clones > 0)?;
        Some(f(held, clones))
    }
}

impl Places {
    /// A place that nobody has.
    pub(super) fn get(&mut self) -> Arc<Slot> {
        if let Some(slot) = self.free.pop().and_then(|index| self.slots.get(index)) {
            return Arc::clone(slot);
        }
        let slot = Arc::new(Slot {
            index: self.slots.len(),
            word: AtomicUsize::new(0),
            held: Mutex::new(None),
        });
        self.slots.push(Arc::clone(&slot));
        slot
    }

    pub(super) fn free(&mut self, slot: &Slot) {
        self.free.push(slot.index);
    }

    /// Counts those who are there. Once, when the intake has been closed (invariant 3).
    pub(super) fn count(&mut self) {
        for slot in &self.slots {
            let _held = slot.held.lock();
            let mark = |word: usize| (word >= ONE).then_some(word | COUNTED);
            let marked = slot
                .word
                .fetch_update(Ordering::AcqRel, Ordering::Acquire, mark);
            self.left += usize::from(marked.is_ok());
        }
    }

    /// Of those who were counted, nobody is left.
    pub(super) fn none_left(&self) -> bool {
        self.left == 0
    }

    /// Nobody is there, whether they have been counted or not: a look at all.
    pub(super) fn is_empty(&self) -> bool {
        self.slots.iter().all(|slot| slot.clones() == 0)
    }

    /// A clone goes. With the last one, what the hold was, unless it has been left behind; the flag
    /// says that the place is free.
    pub(super) fn leave(&mut self, slot: &Slot) -> (Option<Held>, bool) {
        let before = slot.word.fetch_sub(ONE, Ordering::AcqRel);
        if before >= 2 * ONE {
            return (None, false);
        }
        // Nobody else moves a word without clones.
        slot.word.store(0, Ordering::Release);
        let held = slot.held.lock().take();
        if before & LEFT != 0 {
            return (None, true);
        }
        if before & COUNTED != 0 {
            self.left -= 1;
        }
        (held, true)
    }

    /// Leaves behind all that were counted.
    pub(super) fn leave_behind(&mut self) -> Vec<Held> {
        self.left = 0;
        let mut left = Vec::new();
        for slot in &self.slots {
            let mut held = slot.held.lock();
            let word = slot.word.load(Ordering::Acquire);
            if word & COUNTED != 0 && word & LEFT == 0 {
                slot.word.fetch_or(LEFT, Ordering::AcqRel);
                left.extend(held.take());
            }
        }
        left
    }

    /// All of them, free or not.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Slot> {
        self.slots.iter().map(|slot| &**slot)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::token::Node;

    fn list() -> Arc<Holders> {
        Arc::new(Holders::new(Node::root()))
    }

    fn take(holders: &Arc<Holders>, name: &'static str) -> Place {
        Place::take(holders, name.into(), Location::caller()).unwrap()
    }

    /// P23: as many places as there ever were holds at a time, and those that threads keep.
    #[test]
    fn places_are_used_again_wherever_a_hold_ends() {
        let holders = list();
        for _ in 0..if cfg!(miri) { 10 } else { 1_000 } {
            let hold = take(&holders, "taken here, dropped there");
            let there = Arc::clone(&holders);
            let thread = std::thread::spawn(move || {
                hold.leave();
                take(&there, "there").leave();
            });
            thread.join().unwrap();
        }
        assert_eq!(holders.places(), 1);
        let many = [(); 10].map(|()| take(&holders, "at once"));
        assert_eq!(holders.still_here(100).1, 10);
        many.into_iter().for_each(Place::leave);
        assert_eq!(holders.places(), 10);
        assert!(holders.is_empty());
    }

    #[test]
    fn a_thread_keeps_places_of_some_lists() {
        let lists = [(); KEPT + 2].map(|()| list());
        for _ in 0..3 {
            for holders in &lists {
                let (one, other) = (take(holders, "one"), take(holders, "other"));
                one.leave();
                other.leave();
            }
        }
        for holders in &lists {
            assert_eq!(holders.places(), 2);
            assert!(holders.is_empty());
        }
    }

    #[test]
    fn a_clone_keeps_the_hold() {
        let holders = list();
        let hold = take(&holders, "hold");
        let clone = hold.share();
        hold.leave();
        assert_eq!(holders.still_here(1).0[0].0.count, 1);
        // P21: counted at the close, with its clones.
        let another = clone.share();
        holders.close();
        another.leave();
        assert!(!holders.is_empty());
        clone.leave();
        assert!(holders.is_empty());
        assert!(Place::take(&holders, "late".into(), Location::caller()).is_err());
    }
}
