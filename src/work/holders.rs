//! Everything that keeps the drain open.
//!
//! 1. Whoever is admitted is on the list before the intake closes: both happen under one lock. So
//!    the drain is never over while one of them lives (P21), and nothing is admitted after it has
//!    begun (P22).
//! 2. What still lives at the stop is reported, whatever becomes of it.

use std::panic::Location;
use std::sync::Arc;
use std::time::Duration;

use crate::clock::{Tick, nanos};
use crate::hook::Name;
use crate::report::{DrainOutcome, DrainReport, Holder};
use crate::said::{self, Thread};
use crate::slab::{Key, Slab};
use crate::snapshot::{Said, StillHere};
use crate::sync::{AtomicU64, Condvar, Mutex, Ordering};
use crate::token::{Node, SLICE};

struct Held {
    name: Name,
    holder: Holder,
    location: &'static Location<'static>,
    since: Tick,
    /// Came after the program's stop, to a stage.
    late: bool,
    /// The thread that runs it; that took the hold, or last spoke for it.
    thread: Thread,
    /// Boxed: few say anything, and each hold is moved to its place and back.
    said: Option<Box<Said>>,
    /// Clones of one hold.
    count: usize,
    /// Makes it end, where that can be done from outside.
    abort: Option<Abort>,
}

/// Asks for the end, does not wait for it, and may be called again. False: not now.
pub(crate) type Abort = Arc<dyn Fn() -> bool + Send + Sync>;

/// What came of making everybody end who can be made to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Aborted {
    /// There was nobody.
    Nobody,
    All,
    /// For some it is to be tried again: they commit.
    NotYetAll,
}

struct State {
    alive: Slab<Held>,
    closed: bool,
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
            state: Mutex::new(State {
                alive: Slab::new(),
                closed: false,
                aborted: false,
                gone: Vec::new(),
            }),
            changed: Condvar::new(),
            emptied: AtomicU64::new(0),
            coordinator,
        }
    }

    /// Puts somebody on the list; gives the name back when the intake is closed (P22).
    pub(crate) fn admit(
        &self,
        name: Name,
        holder: Holder,
        location: &'static Location<'static>,
    ) -> Result<Key, Name> {
        let since = Tick::coarse();
        let mut state = self.state.lock();
        if state.closed || self.node.is_stopped() {
            return Err(name);
        }
        Ok(self.put(&mut state, since, name, holder, location))
    }

    /// Puts the owner's own work on the list, also after the stop: the drain waits for the owner
    /// anyway, and so is not over before that is there (P21).
    #[cfg(feature = "tokio")]
    pub(crate) fn admit_owner(&self, name: Name, location: &'static Location<'static>) -> Key {
        let since = Tick::coarse();
        self.put(&mut self.state.lock(), since, name, Holder::Task, location)
    }

    fn put(
        &self,
        state: &mut State,
        since: Tick,
        name: Name,
        holder: Holder,
        location: &'static Location<'static>,
    ) -> Key {
        state.alive.push(Held {
            name,
            holder,
            location,
            since,
            late: self.is_stopping(),
            thread: said::carrier(),
            said: None,
            count: 1,
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

    /// Makes everybody end who can be made to.
    pub(super) fn abort(&self) -> Aborted {
        let calls: Vec<Abort> = {
            let mut state = self.state.lock();
            state.aborted = true;
            let held = state.alive.iter();
            held.filter_map(|(_, held)| held.abort.clone()).collect()
        };
        let ended = |call: &Abort| {
            if call() {
                Aborted::All
            } else {
                Aborted::NotYetAll
            }
        };
        calls.iter().map(ended).max().unwrap_or(Aborted::Nobody)
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
        let done = |alive: &Slab<Held>| no_aborted(alive) && others();
        self.wait_for(deadline, done, look);
    }

    /// What it is doing now, in its own words.
    pub(crate) fn say(&self, key: Key, said: Said) {
        let said = Box::new(said);
        let thread = said::carrier();
        let before = {
            let mut state = self.state.lock();
            // A hold travels: who speaks for it has it, and who took it may do something else by now.
            state.alive.get_mut(key).and_then(|held| {
                held.thread = thread;
                held.said.replace(said)
            })
        };
        drop(before);
    }

    /// One more for somebody who is on the list: also while draining.
    pub(crate) fn share(&self, key: Key) {
        if let Some(held) = self.state.lock().alive.get_mut(key) {
            held.count += 1;
        }
    }

    /// Takes somebody off the list.
    pub(crate) fn leave(&self, key: Key, outcome: DrainOutcome) {
        let mut state = self.state.lock();
        let Some(held) = state.alive.get_mut(key) else {
            return;
        };
        held.count -= 1;
        if held.count > 0 {
            return;
        }
        let Some(held) = state.alive.remove(key) else {
            return;
        };
        // P23: a stage whose turn has not come goes on admitting; what has come since the program's
        // stop, and gone as it should, is nobody's to wait for.
        let is_news = self.node.is_stopped() || outcome != DrainOutcome::Ended || !held.late;
        // From the stop on, not from when the runner got around to closing the intake.
        if self.is_stopping() && is_news {
            let abortable = held.abort.is_some();
            let report = self.report(held, outcome);
            let last = state.alive.is_empty();
            if last {
                self.is_emptied(report.took);
            }
            state.gone.push(report);
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

    pub(crate) fn is_empty(&self) -> bool {
        self.state.lock().alive.is_empty()
    }

    /// The last one goes, so long after the stop. Under the lock of the list that it is on, so that
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
        self.state.lock().closed = true;
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
        let done = |alive: &Slab<Held>| alive.is_empty() && others();
        self.wait_for(deadline, done, look);
    }

    /// Waits until `done`, or `deadline`. Whatever changes that, [pokes](Self::poke).
    pub(crate) fn wait_until(&self, deadline: Tick, done: impl Fn() -> bool, look: impl FnMut()) {
        self.wait_for(deadline, |_| done(), look);
    }

    /// `look` is called, with no lock held, after every wait.
    fn wait_for(&self, deadline: Tick, done: impl Fn(&Slab<Held>) -> bool, mut look: impl FnMut()) {
        loop {
            let mut state = self.state.lock();
            if done(&state.alive) {
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
        let first = state.alive.iter().take(most).map(|(_, held)| {
            let here = StillHere {
                holder: held.holder,
                name: held.name.clone(),
                stage: None,
                location: held.location,
                age: Some(now.since(held.since)),
                count: held.count,
                said: held
                    .said
                    .as_deref()
                    .cloned()
                    .or_else(|| said::said_since(held.thread)),
                thread: None,
            };
            (here, held.thread)
        });
        (first.collect(), state.alive.len())
    }

    /// Who has gone since the stop, and, where `abandon` says so, who is left behind: they are off
    /// the list then.
    pub(crate) fn reports(&self, abandon: bool) -> Vec<DrainReport> {
        let mut state = self.state.lock();
        if abandon {
            state.closed = true;
            for held in state.alive.take() {
                let report = self.report(held, DrainOutcome::Abandoned);
                state.gone.push(report);
            }
        }
        state.gone.clone()
    }
}
