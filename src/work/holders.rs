//! Everything that keeps the drain open.
//!
//! 1. Whoever is admitted is on the list before the intake closes. So the drain is never over while
//!    one of them lives (P21), and nothing is admitted after it has begun (P22).
//! 2. What still lives at the stop is reported, whatever becomes of it.
//!
//! Tasks are on the list itself: both happen under its lock. Holds come and go by the million: they
//! have [places](Place) of their own, and come to the list from the stop on.

use std::panic::Location;
use std::sync::Arc;
use std::time::Duration;

use crate::clock::{Tick, nanos};
use crate::report::{DrainOutcome, DrainReport, Holder};
use crate::said::{self, Thread};
use crate::slab::{Key, Slab};
use crate::snapshot::{Said, StillHere};
use crate::sync::{AtomicBool, AtomicU64, Condvar, Mutex, MutexGuard, Ordering};
use crate::text::Name;
use crate::token::{Node, SLICE};
use crate::work::place::{self, Place, Places, Slot};

/// Whoever is waited for.
pub(super) struct Held {
    pub(super) name: Name,
    pub(super) holder: Holder,
    pub(super) location: &'static Location<'static>,
    pub(super) since: Tick,
    /// Tells those apart that came from one thread at about the same time.
    pub(super) turn: u64,
    /// Came after the program's stop, to a stage.
    pub(super) late: bool,
    /// The thread that runs it; that took the hold, or last spoke for it.
    pub(super) thread: Thread,
    /// Its own words. Boxed: few say anything.
    pub(super) said: Option<Box<Said>>,
    /// Makes it end, where that can be done from outside.
    pub(super) abort: Option<Abort>,
}

/// Asks for the end, as soon as that can be, does not wait for it, and may be called again.
pub(crate) type Abort = Arc<dyn Fn() + Send + Sync>;

impl Held {
    fn row(&self, now: Tick, count: usize) -> (StillHere, Thread) {
        let own = self.said.as_deref().cloned();
        let row = StillHere {
            age: Some(now.since(self.since)),
            count,
            said: own.or_else(|| said::said_since(self.thread)),
            ..StillHere::one(self.holder, self.name.clone(), self.location)
        };
        (row, self.thread)
    }
}

/// Somebody on the list, to be looked at.
enum Who<'a> {
    Task(&'a Held),
    Hold(&'a Slot),
}

struct State {
    alive: Slab<Held>,
    places: Places,
    /// Whoever can be aborted has been, and whoever says later how is at once.
    aborted: bool,
    gone: Vec<DrainReport>,
}

fn no_aborted(alive: &Slab<Held>) -> bool {
    alive.iter().all(|(_, held)| held.abort.is_none())
}

/// See the module.
pub(crate) struct Holders {
    node: Arc<Node>,
    /// Written under the lock.
    closed: AtomicBool,
    state: Mutex<State>,
    changed: Condvar,
    /// When the last of those here, or of their sets, went: nanoseconds from the program's stop.
    emptied: AtomicU64,
    /// The coordinator's, for those of a stage: there the drain waits.
    coordinator: Option<Arc<Holders>>,
}

impl Holders {
    pub(crate) fn new(node: Arc<Node>) -> Self {
        Self::below(node, None)
    }

    pub(crate) fn of_stage(node: Arc<Node>, coordinator: &Arc<Self>) -> Self {
        Self::below(node, Some(Arc::clone(coordinator)))
    }

    fn below(node: Arc<Node>, coordinator: Option<Arc<Self>>) -> Self {
        Self {
            node,
            closed: AtomicBool::new(false),
            state: Mutex::new(State {
                alive: Slab::new(),
                places: Places::default(),
                aborted: false,
                gone: Vec::new(),
            }),
            changed: Condvar::new(),
            emptied: AtomicU64::new(0),
            coordinator,
        }
    }

    /// A place for a hold.
    pub(super) fn new_place(self: &Arc<Self>) -> Place {
        let slot = self.state.lock().places.get();
        Place::new(slot, self)
    }

    #[cfg(test)]
    pub(super) fn places(&self) -> usize {
        self.state.lock().places.iter().count()
    }

    pub(super) fn free_place(&self, slot: &Slot) {
        self.state.lock().places.free(slot);
    }

    /// A hold goes, or a clone of it. True: its place is free.
    pub(super) fn leave_place(&self, slot: &Slot) -> bool {
        let mut state = self.state.lock();
        let (held, is_free) = state.places.leave(slot);
        if let Some(held) = held {
            self.has_left(state, held, DrainOutcome::Ended);
        }
        is_free
    }

    /// Puts somebody on the list; gives the name back when the intake is closed (P22).
    pub(crate) fn admit(
        &self,
        name: Name,
        location: &'static Location<'static>,
    ) -> Result<Key, Name> {
        let since = Tick::coarse();
        let mut state = self.state.lock();
        if self.is_closed() {
            return Err(name);
        }
        Ok(self.put(&mut state, since, name, location))
    }

    /// Puts the owner's own work on the list, also after the stop: the drain waits for the owner
    /// anyway, and so is not over before that is there (P21).
    #[cfg(feature = "tokio")]
    pub(crate) fn admit_owner(&self, name: Name, location: &'static Location<'static>) -> Key {
        let since = Tick::coarse();
        self.put(&mut self.state.lock(), since, name, location)
    }

    fn put(
        &self,
        state: &mut State,
        since: Tick,
        name: Name,
        location: &'static Location<'static>,
    ) -> Key {
        state.alive.push(Held {
            name,
            holder: Holder::Task,
            location,
            since,
            late: self.is_stopping(),
            thread: said::carrier(),
            turn: place::turn(),
            said: None,
            abort: None,
        })
    }

    /// This thread runs it.
    pub(crate) fn run_by_this_thread(&self, key: Key) {
        let thread = said::this_thread();
        if let Some(held) = self.state.lock().alive.get_mut(key) {
            held.thread = thread;
        }
    }

    /// No thread runs it from beginning to end.
    #[cfg(feature = "tokio")]
    pub(crate) fn run_by_no_thread(&self, key: Key) {
        if let Some(held) = self.state.lock().alive.get_mut(key) {
            held.thread = Thread::NONE;
        }
    }

    /// How it can be made to end, should it still be there when the time for draining is over.
    #[cfg(feature = "tokio")]
    pub(crate) fn abort_with(&self, key: Key, abort: &Abort) {
        let mut state = self.state.lock();
        let late = state.aborted;
        if let Some(held) = state.alive.get_mut(key) {
            held.abort = Some(Arc::clone(abort));
            drop(state);
            if late {
                abort();
            }
        }
    }

    /// Makes everybody end who can be made to. True: there was somebody.
    pub(super) fn abort(&self) -> bool {
        let calls: Vec<Abort> = {
            let mut state = self.state.lock();
            state.aborted = true;
            let held = state.alive.iter();
            held.filter_map(|(_, held)| held.abort.clone()).collect()
        };
        for call in &calls {
            call();
        }
        !calls.is_empty()
    }

    /// Nobody is left who has been made to end.
    pub(super) fn have_ended(&self) -> bool {
        no_aborted(&self.state.lock().alive)
    }

    /// Waits until nobody is left who has been made to end, and `others` agrees, or `deadline`.
    pub(super) fn wait_for_aborted(
        &self,
        deadline: Tick,
        others: impl Fn() -> bool,
        look: impl FnMut(),
    ) {
        let done = |state: &State| no_aborted(&state.alive) && others();
        self.wait_for(deadline, done, look);
    }

    /// What a task is doing now, in its own words, where it runs on no thread of its own.
    #[cfg(feature = "tokio")]
    pub(crate) fn say(&self, key: Key, said: Said) {
        let said = Box::new(said);
        let thread = said::carrier();
        let before = {
            let mut state = self.state.lock();
            state.alive.get_mut(key).and_then(|held| {
                held.thread = thread;
                held.said.replace(said)
            })
        };
        drop(before);
    }

    /// Takes somebody off the list.
    pub(crate) fn leave(&self, key: Key, outcome: DrainOutcome) {
        let mut state = self.state.lock();
        if let Some(held) = state.alive.remove(key) {
            self.has_left(state, held, outcome);
        }
    }

    fn has_left(&self, mut state: MutexGuard<'_, State>, held: Held, outcome: DrainOutcome) {
        // P23: a stage whose turn has not come goes on admitting; what has come since the program's
        // stop, and gone as it should, is nobody's to wait for.
        let is_news = self.node.is_stopped() || outcome != DrainOutcome::Ended || !held.late;
        // From the stop on, not from when the runner got around to closing the intake.
        if self.is_stopping() && is_news {
            let abortable = held.abort.is_some();
            let report = self.report(held, outcome);
            self.is_emptied(report.took);
            state.gone.push(report);
            let last = self.none_left(&state);
            drop(state);
            if last || abortable {
                // P21: over at once when the last one goes.
                self.poke();
            }
        } else {
            drop(state);
            // The name may be the user's `String`; nothing of it has to be freed under the lock.
            drop(held);
        }
    }

    fn report(&self, held: Held, outcome: DrainOutcome) -> DrainReport {
        let took = self.node.since_stop();
        // A stage is asked later than the program, and what it admits while draining begins later.
        let word = self.node.word();
        let asked = if word.is_stopped() {
            held.since.max(word.when())
        } else {
            held.since
        };
        let stop = self.node.stop_tick().unwrap_or(asked);
        DrainReport {
            name: held.name,
            holder: held.holder,
            outcome,
            started: asked.since(stop).min(took),
            took,
            location: held.location,
            stage: None,
        }
    }

    /// The program has stopped; where these are a stage's, it need not have been its turn yet.
    pub(crate) fn is_stopping(&self) -> bool {
        self.node.stop_tick().is_some()
    }

    /// Nobody is admitted any more (P22).
    pub(super) fn is_closed(&self) -> bool {
        self.node.is_stopped() || self.closed.load(Ordering::Relaxed)
    }

    pub(crate) fn is_empty(&self) -> bool {
        let state = self.state.lock();
        if self.closed.load(Ordering::Relaxed) {
            return self.none_left(&state);
        }
        state.alive.is_empty() && state.places.is_empty()
    }

    /// Of those who were there at the close, nobody is left.
    fn none_left(&self, state: &State) -> bool {
        self.closed.load(Ordering::Relaxed) && state.alive.is_empty() && state.places.none_left()
    }

    /// Somebody goes, so long after the stop. Under the lock of the list that it is on, so that
    /// whoever finds that empty knows since when.
    pub(crate) fn is_emptied(&self, at: Duration) {
        self.emptied.fetch_max(nanos(at), Ordering::Relaxed);
    }

    /// When the last one went, counted from the stop; zero where none has since.
    pub(crate) fn emptied(&self) -> Duration {
        Duration::from_nanos(self.emptied.load(Ordering::Relaxed))
    }

    /// Closes the intake.
    pub(crate) fn close(&self) {
        self.close_list(&mut self.state.lock());
    }

    fn close_list(&self, state: &mut State) {
        if !self.closed.swap(true, Ordering::Relaxed) {
            state.places.close();
        }
    }

    /// Makes whoever waits look again.
    pub(crate) fn poke(&self) {
        let waiting = self.coordinator.as_deref().unwrap_or(self);
        // P4: after the lock, or the change that this is about could fall between the look and the
        // wait.
        drop(waiting.state.lock());
        waiting.changed.notify_all();
    }

    /// Waits until the list is empty and `others` agrees, or `deadline`.
    pub(crate) fn drain(&self, deadline: Tick, others: impl Fn() -> bool, look: impl FnMut()) {
        let done = |state: &State| self.none_left(state) && others();
        self.wait_for(deadline, done, look);
    }

    /// Waits until `done`, or `deadline`. Whatever changes that, [pokes](Self::poke).
    pub(crate) fn wait_until(&self, deadline: Tick, done: impl Fn() -> bool, look: impl FnMut()) {
        self.wait_for(deadline, |_| done(), look);
    }

    /// `look` is called, with no lock held, after every wait.
    fn wait_for(&self, deadline: Tick, done: impl Fn(&State) -> bool, mut look: impl FnMut()) {
        loop {
            let mut state = self.state.lock();
            if done(&state) {
                return;
            }
            let now = self.node.now();
            if now >= deadline {
                return;
            }
            self.changed
                .wait_for(&mut state, deadline.since(now).min(SLICE));
            drop(state);
            look();
        }
    }

    /// Everybody who is still here: the first `most` of them, with their threads, and how many there
    /// are.
    pub(crate) fn still_here(&self, most: usize) -> (Vec<(StillHere, Thread)>, usize) {
        let now = Tick::now();
        let state = self.state.lock();
        let tasks = state.alive.iter();
        let tasks = tasks.map(|(_, held)| (held.since, held.turn, Who::Task(held)));
        let holds = state.places.iter().filter_map(|slot| {
            let (since, turn) = slot.age()?;
            Some((since, turn, Who::Hold(slot)))
        });
        let mut all: Vec<(Tick, u64, Who<'_>)> = tasks.chain(holds).collect();
        let count = all.len();
        let age = |&(since, turn, _): &_| (since, turn);
        if count > most {
            all.select_nth_unstable_by_key(most, age);
            all.truncate(most);
        }
        all.sort_unstable_by_key(age);
        // A hold may have gone meanwhile.
        let rows = all.iter().filter_map(|(_, _, who)| match who {
            Who::Task(held) => Some(held.row(now, 1)),
            Who::Hold(slot) => slot.look().map(|(held, clones)| held.row(now, clones)),
        });
        (rows.collect(), count)
    }

    /// Nobody waits any more: whoever is still here is left behind, and off the list. True:
    /// somebody was.
    pub(crate) fn leave_behind(&self) -> bool {
        let mut state = self.state.lock();
        self.close_list(&mut state);
        let mut left = state.places.leave_behind();
        left.extend(state.alive.take());
        left.sort_unstable_by_key(|held| (held.since, held.turn));
        let somebody = !left.is_empty();
        for held in left {
            let report = self.report(held, DrainOutcome::Abandoned);
            state.gone.push(report);
        }
        somebody
    }

    /// Who has gone since the stop, or was left behind.
    pub(crate) fn reports(&self) -> Vec<DrainReport> {
        self.state.lock().gone.clone()
    }
}
