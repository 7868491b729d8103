//! The places of holds: taken and let go of without a lock or a count that other threads want.
//!
//! 1. A hold has a place on the list of its [`Holders`]: a [slot](slots), whose word says how many
//!    clones of the hold there are. 0: it is free, and whoever has the [`Place`] may use it again.
//! 2. The thread that lets go of a place keeps it for its next hold. So that costs one step of the
//!    slot's word, and so does its end; of another name, or from another line, it costs the lock of
//!    the slot, which nobody else wants, too. A place that a thread has no room for, or has when it
//!    ends, or that is let go of after the stop, goes back to the list (P23).
//! 3. When the intake is closed, the list's lock held, every slot is marked, and the holds in them
//!    are counted. Coming, marking and letting go are steps of the one word: either the hold had
//!    gone, or it is counted, and then it goes through the lock of the list, where the last one is
//!    known (P21); and nothing is admitted that is not counted (P22).
//! 4. The list's lock comes before that of a slot.

use std::cell::Cell;
use std::panic::Location;
use std::sync::Arc;

use crate::clock::Tick;
use crate::error::IntakeClosed;
use crate::said;
use crate::snapshot::Said;
use crate::sync;
use crate::text::Name;
use crate::work::Holders;

mod slots;

use slots::Taker;
pub(super) use slots::{Places, Slot};

/// Places that a thread keeps for its next holds.
const KEPT: usize = 4;

/// A place, and whose list it is on. Once taken, to be let go of by [`leave`](Self::leave).
///
/// Boxed, since it is handed on at every step: a processor has to wait where it reads two words as
/// one that it has just written apart.
pub(crate) struct Place(Box<Parts>);

struct Parts {
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
            if Arc::ptr_eq(&place.0.holders, holders) {
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
        Self(Box::new(Parts { slot, holders }))
    }

    /// Takes a place for a hold, unless the intake is closed (P22).
    pub(crate) fn take(
        holders: &Arc<Holders>,
        name: Name,
        location: &'static Location<'static>,
    ) -> Result<Self, IntakeClosed> {
        if holders.is_closed() {
            return Err(IntakeClosed::new());
        }
        let mine = MINE.try_with(|mine| (mine.take(holders), mine.next_turn()));
        let (kept, turn) = mine.unwrap_or_default();
        let place = kept.unwrap_or_else(|| holders.new_place());
        let taker = Taker {
            since: Tick::coarse(),
            turn,
            thread: said::carrier(),
        };
        let late = holders.is_stopping();
        if place.0.slot.fill(name, location, late, &taker) {
            Ok(place)
        } else {
            place.keep();
            Err(IntakeClosed::new())
        }
    }

    /// One more for the same hold: also while draining.
    pub(crate) fn share(&self) -> Self {
        self.0.slot.share();
        Self::new(Arc::clone(&self.0.slot), &self.0.holders)
    }

    /// What is being done under it, in its own words.
    pub(crate) fn say(&self, said: Said) {
        // A hold travels: who speaks for it has it, and who took it may do something else by now.
        self.0.slot.say(said, said::carrier());
    }

    /// The hold goes, or one of its clones.
    pub(crate) fn leave(self) {
        if !self.0.holders.is_stopping() && self.0.slot.leave() {
            self.keep();
        } else if self.0.holders.leave_place(&self.0.slot) {
            self.give_back();
        }
    }

    /// For the next hold of this thread.
    #[inline]
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
        self.0.holders.free_place(&self.0.slot);
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

    /// What is left in a place of the hold before is its name and line, where both are the same.
    #[test]
    fn a_place_that_is_used_again_is_about_the_hold_in_it() {
        let holders = list();
        let at = [Location::caller(), Location::caller()];
        let upload = "upload";
        let names: [Name; 6] = [
            upload[..6].into(),
            upload[..6].into(),
            upload[..5].into(),
            "sleep".into(),
            String::from("upload").into(),
            String::from("report").into(),
        ];
        for speaks in [false, true] {
            for name in &names {
                for location in [at[0], at[1], at[1], at[0]] {
                    let hold = Place::take(&holders, name.clone(), location).unwrap();
                    let row = holders.still_here(1).0.remove(0).0;
                    assert_eq!((&row.name, row.location, row.said), (name, location, None));
                    let clone = hold.share();
                    hold.leave();
                    if speaks {
                        clone.say(Said::new("half of it".into(), None));
                        let row = holders.still_here(1).0.remove(0).0;
                        assert!(row.said.is_some());
                    }
                    clone.leave();
                }
            }
        }
        assert_eq!(holders.places(), 1);
    }

    /// The report has it, and nobody is waited for any more.
    #[test]
    fn who_was_left_behind_is_not_here_any_more() {
        let holders = list();
        let hold = take(&holders, "stays");
        assert_eq!(holders.still_here(10).1, 1);
        holders.close();
        assert!(holders.leave_behind());
        let (rows, all) = holders.still_here(10);
        assert_eq!((rows.len(), all), (0, 0));
        hold.leave();
        assert!(!holders.leave_behind());
        assert_eq!(holders.reports().len(), 1);
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
