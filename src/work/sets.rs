//! The sets of items of one [home](super::Home), as the sequence sees them.

use std::panic::Location;
use std::sync::{Arc, Weak};

use crate::clock::Tick;
use crate::report::{DrainOutcome, DrainReport, Holder};
use crate::said::{self, Thread};
use crate::snapshot::StillHere;
use crate::sync::{AtomicUsize, Mutex, Ordering};
use crate::text::Name;

/// Hand-backs that failed and are kept for the report; of more, the number is in it as one row.
const KEPT: usize = 64;

/// One call of user code, to be made where it may hang.
pub(crate) type UserCall = Box<dyn FnOnce() + Send>;

/// The calls for what is interrupted.
#[derive(Default)]
pub(crate) struct Interrupting {
    /// These first: whoever is told may end by itself, and must not wait for others' hand-backs.
    pub(crate) tell: Vec<UserCall>,
    pub(crate) hand_back: Vec<UserCall>,
}

/// A set of items, whatever they are.
pub(crate) trait AnySet: Send + Sync {
    /// Nothing new is admitted from now on (P22).
    fn close(&self);
    fn is_empty(&self) -> bool;
    fn name(&self) -> &Name;
    fn count(&self) -> usize;
    /// When the oldest item was admitted, and by which thread.
    fn oldest(&self) -> Option<(Tick, Thread)>;
    /// The time for draining is over: takes back whatever is running, and adds the calls that tell
    /// it and hand it back.
    fn interrupt(self: Arc<Self>, calls: &mut Interrupting);
    /// Nobody waits any more: what still runs gets no verdict, and begins no commit; a place that
    /// is reserved is left behind.
    fn leave_behind(&self) -> Vec<DrainReport>;
    /// The report is made: what has no verdict gets none.
    fn settle(&self) -> Vec<DrainReport>;
    fn location(&self) -> &'static Location<'static>;
    /// Which set it is a shard of.
    fn set(&self) -> usize;
}

#[derive(Default)]
struct State {
    closed: bool,
    list: Vec<Weak<dyn AnySet>>,
    /// How many of the list are known to be alive; the others are looked for when it has doubled.
    alive: usize,
    /// The program stops.
    stopping: bool,
    /// From then on, those that are there: held, so that none of them, with what the user has
    /// put into it, is dropped by the one who looks.
    held: Vec<Arc<dyn AnySet>>,
    /// What was left behind; `None` before that.
    left: Option<Vec<DrainReport>>,
    failed: Vec<DrainReport>,
    failed_more: usize,
}

impl State {
    fn keep_failed(&mut self, report: DrainReport) {
        if self.failed.len() < KEPT {
            self.failed.push(report);
        } else {
            self.failed_more += 1;
        }
    }
}

/// See the module.
#[derive(Default)]
pub(crate) struct Sets {
    state: Mutex<State>,
    handed_back: AtomicUsize,
}

impl Sets {
    pub(super) fn add(&self, set: &Arc<dyn AnySet>) {
        let mut state = self.state.lock();
        if state.closed {
            // Closed from the beginning; with nothing ever in it there is nothing to wait for.
            drop(state);
            set.close();
            return;
        }
        if state.stopping {
            state.held.push(Arc::clone(set));
            return;
        }
        // P23: sets that have gone leave nothing behind.
        if state.list.len() >= 64 && state.list.len() >= state.alive * 2 {
            state.list.retain(|set| set.strong_count() > 0);
            state.alive = state.list.len();
        }
        state.list.push(Arc::downgrade(set));
    }

    /// The program stops: from now on those that are there stay.
    pub(crate) fn keep(&self) {
        let mut state = self.state.lock();
        if !state.stopping {
            state.stopping = true;
            let list = std::mem::take(&mut state.list);
            state.held = list.iter().filter_map(Weak::upgrade).collect();
        }
    }

    /// Closes the intake of all of them.
    pub(crate) fn close(&self) {
        self.keep();
        let mut state = self.state.lock();
        state.closed = true;
        for set in &state.held {
            set.close();
        }
    }

    /// Nothing is in flight in any of them.
    pub(crate) fn is_empty(&self) -> bool {
        self.state.lock().held.iter().all(|set| set.is_empty())
    }

    /// Those that are not empty: the first `most` of them, each with the thread of its oldest item,
    /// and how many there are.
    pub(crate) fn still_here(&self, most: usize) -> (Vec<(StillHere, Thread)>, usize) {
        let sets: Vec<Arc<dyn AnySet>> = {
            let state = self.state.lock();
            if state.left.is_some() {
                return (Vec::new(), 0);
            }
            let open = state.list.iter().filter_map(Weak::upgrade);
            open.chain(state.held.iter().cloned()).collect()
        };
        let now = Tick::now();
        let mut open: Vec<(StillHere, Thread)> = Vec::new();
        let mut all = 0;
        // The shards of one set follow each other.
        for shards in sets.chunk_by(|a, b| a.set() == b.set()) {
            let count: usize = shards.iter().map(|set| set.count()).sum();
            if count == 0 {
                continue;
            }
            all += 1;
            if open.len() == most {
                continue;
            }
            let oldest = shards.iter().filter_map(|set| set.oldest()).min();
            let (since, thread) = oldest.unwrap_or((now, Thread::NONE));
            let (name, location) = (shards[0].name().clone(), shards[0].location());
            let here = StillHere {
                age: Some(now.since(since)),
                count,
                said: said::said_since(thread),
                ..StillHere::one(Holder::Item, name, location)
            };
            open.push((here, thread));
        }
        // The last share of a set may be one of these, and what is in it is the user's: it is
        // dropped here, on the thread that asks, and with no lock held.
        drop(sets);
        (open, all)
    }

    /// Takes back what is running, and adds the calls that tell it and hand it back.
    pub(super) fn interrupt(&self, calls: &mut Interrupting) {
        for set in &self.state.lock().held {
            Arc::clone(set).interrupt(calls);
        }
    }

    /// Hands them over to whoever drops them. That runs user code: the drop code of what they hold.
    pub(super) fn hand_over(&self) -> Vec<Arc<dyn AnySet>> {
        std::mem::take(&mut self.state.lock().held)
    }

    /// See [`AnySet::leave_behind`]. Once. True: something was.
    pub(super) fn leave_behind(&self) -> bool {
        let mut state = self.state.lock();
        if state.left.is_some() {
            return false;
        }
        let left: Vec<DrainReport> = state
            .held
            .iter()
            .flat_map(|set| set.leave_behind())
            .collect();
        let something = !left.is_empty();
        state.left = Some(left);
        something
    }

    /// What never got a verdict, and every hand-back that failed, for the report.
    pub(super) fn settle(&self) -> Vec<DrainReport> {
        let mut state = self.state.lock();
        let mut reports = state.left.as_mut().map(std::mem::take).unwrap_or_default();
        for set in &state.held {
            reports.extend(set.settle());
        }
        let more = std::mem::take(&mut state.failed_more);
        let mut failed = std::mem::take(&mut state.failed);
        drop(state);
        if let (Some(last), true) = (failed.last().cloned(), more > 0) {
            let error = format!("and {more} more hand-backs failed");
            failed.push(DrainReport {
                outcome: DrainOutcome::Failed(error),
                ..last
            });
        }
        reports.extend(failed);
        reports
    }

    pub(super) fn was_handed_back(&self) {
        self.handed_back.fetch_add(1, Ordering::Relaxed);
    }

    /// How many items were handed back.
    pub(crate) fn handed_back(&self) -> usize {
        self.handed_back.load(Ordering::Relaxed)
    }

    /// A hand-back failed: the item may be lost, and somebody has to be told.
    pub(super) fn failed(&self, report: DrainReport) {
        self.state.lock().keep_failed(report);
    }

    /// Takes over what the items of a stage have come to that nobody can reach any more.
    pub(super) fn take_over(&self, gone: &Self, name: &Name) {
        let mut theirs = gone.state.lock();
        let failed = std::mem::take(&mut theirs.failed);
        let more = std::mem::take(&mut theirs.failed_more);
        drop(theirs);
        let mut state = self.state.lock();
        for report in failed {
            state.keep_failed(DrainReport {
                stage: Some(name.clone()),
                ..report
            });
        }
        state.failed_more += more;
        drop(state);
        self.handed_back
            .fetch_add(gone.handed_back(), Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bus::Bus;
    use crate::token::Node;
    use crate::work::{Home, InFlightBuilder};

    /// P23: as many are listed as there are, and those that have gone since the last count.
    #[test]
    fn sets_that_have_gone_leave_nothing_behind() {
        let home = Home::new(0, Node::root(), Arc::new(Bus::default()));
        let set = || {
            let builder =
                InFlightBuilder::<()>::new(home.clone(), "set".into(), Location::caller());
            builder.on_interrupted(drop)
        };
        let listed = || home.sets.state.lock().list.len();
        let kept: Vec<_> = (0..20).map(|_| set()).collect();
        let few = listed();
        for _ in 0..1_000 {
            drop(set());
        }
        assert!((few..few * 3).contains(&listed()), "{} of {few}", listed());
        drop(kept);
    }
}
