//! Where work is registered: with the coordinator itself, or with one of its stages.

use std::panic::Location;
use std::sync::Arc;
use std::time::Duration;

use crate::bus::Bus;
use crate::clock::{Tick, nanos};
use crate::error::{IntakeClosed, SpawnError};
use crate::hook::Name;
use crate::reason::StopReason;
use crate::report::{DrainOutcome, DrainReport, Holder};
use crate::said::Thread;
use crate::snapshot::StillHere;
use crate::sync::{AtomicU64, Mutex, Ordering};
use crate::token::{Announcement, Node, StopToken};
use crate::work::task::Spawn;
use crate::work::{HandBackCall, Hold, Holders, Sets, Task, TaskOutput};

/// See the module.
#[derive(Clone)]
pub(crate) struct Home {
    /// The coordinator's.
    pub(crate) id: u64,
    /// Whose stop closes the intake.
    pub(crate) node: Arc<Node>,
    pub(crate) holders: Arc<Holders>,
    pub(crate) sets: Arc<Sets>,
    pub(crate) bus: Arc<Bus>,
}

impl Home {
    /// The coordinator's own.
    fn new(id: u64, node: Arc<Node>, bus: Arc<Bus>) -> Self {
        Self {
            id,
            bus,
            holders: Arc::new(Holders::new(Arc::clone(&node))),
            sets: Arc::new(Sets::default()),
            node,
        }
    }

    /// A stage's, below this one.
    fn stage(&self) -> Self {
        let node = self.node.stage();
        Self {
            id: self.id,
            bus: Arc::clone(&self.bus),
            holders: Arc::new(Holders::of_stage(Arc::clone(&node), &self.holders)),
            sets: Arc::new(Sets::default()),
            node,
        }
    }

    /// "Wait for me."
    pub(crate) fn hold(
        &self,
        name: Name,
        location: &'static Location<'static>,
    ) -> Result<Hold, IntakeClosed> {
        match self.holders.admit(name, Holder::Hold, location) {
            Ok(key) => Ok(Hold::new(Arc::clone(&self.holders), key)),
            Err(_) => Err(IntakeClosed::new()),
        }
    }

    /// Starts a task; `stop` asks for the program's stop.
    pub(crate) fn spawn<F, R>(
        &self,
        name: Name,
        vital: bool,
        stop: impl Fn(StopReason) + Send + 'static,
        f: F,
        location: &'static Location<'static>,
    ) -> Result<Task<R>, SpawnError>
    where
        F: FnOnce(StopToken) -> R + Send + 'static,
        R: TaskOutput,
    {
        let spawn = Spawn {
            id: self.id,
            holders: Arc::clone(&self.holders),
            name,
            location,
            vital,
            stop,
        };
        let token = StopToken::of(&self.node);
        spawn.spawn(move || f(token))
    }

    /// Nothing is registered here, and nothing in flight. To be asked after the close.
    fn is_empty(&self) -> bool {
        self.holders.is_empty() && self.sets.is_empty()
    }

    fn still_here(&self, room: &mut Room) -> Vec<(StillHere, Thread)> {
        let (mut rows, all) = self.holders.still_here(room.holders);
        room.holders -= rows.len();
        room.more += all - rows.len();
        let (items, all) = self.sets.still_here(room.sets);
        room.sets -= items.len();
        room.more += all - items.len();
        rows.extend(items);
        rows
    }

    /// Admits nothing from now on (P22).
    pub(crate) fn close(&self) {
        self.holders.close();
        self.sets.close();
    }
}

/// How many rows of each kind a snapshot still has room for, in all stages together, and how many it
/// had no room for.
struct Room {
    stages: usize,
    holders: usize,
    sets: usize,
    more: usize,
}

/// The state of one stage.
pub(crate) struct StageState {
    pub(crate) name: Name,
    pub(crate) location: &'static Location<'static>,
    pub(crate) home: Home,
    /// In nanoseconds; 0 where it has none.
    cap: AtomicU64,
    built: Tick,
    times: Mutex<Times>,
    /// What had to be told when there was nobody to tell it: the runner's, when it comes.
    untold: Mutex<Option<Announcement>>,
}

/// All counted from the program's stop.
#[derive(Clone, Copy, Default)]
struct Times {
    /// When its turn came.
    turn: Option<Duration>,
    /// When its share of the time is over.
    until: Option<Duration>,
    /// When it was seen to be empty.
    empty: Option<Duration>,
}

impl StageState {
    pub(crate) fn cap(&self) -> Option<Duration> {
        match self.cap.load(Ordering::Relaxed) {
            0 => None,
            nanos => Some(Duration::from_nanos(nanos)),
        }
    }

    pub(crate) fn set_cap(&self, cap: Duration) {
        self.cap.store(nanos(cap).max(1), Ordering::Relaxed);
    }

    /// Its turn has come, with this share of the time: stops it, and closes its intake. False: it had
    /// come before.
    pub(crate) fn stop(&self, reason: &StopReason, share: Duration) -> bool {
        let node = &self.home.node;
        let turn = node.since_stop();
        // Before the token: whoever sees that asks for this.
        self.times.lock().until.get_or_insert(turn + share);
        let first = node.decide(reason.clone()).is_ok();
        // P22: after the token, or what looks at that before it asks would be refused by surprise.
        self.home.close();
        // P21: after the close, or it could be found empty and still admit somebody.
        self.times.lock().turn.get_or_insert(turn);
        first
    }

    /// Wakes its threads and channels; the rest is handed out.
    pub(crate) fn announce(&self) -> Announcement {
        let untold = self.untold.lock().take();
        untold.unwrap_or_else(|| Announcement::of(&self.home.node))
    }

    /// As `announce`, for whoever cannot do the rest.
    pub(crate) fn wake_threads(&self) {
        let announcement = Announcement::of(&self.home.node);
        *self.untold.lock() = Some(announcement);
    }

    /// Its turn has come, and nothing of it is left.
    pub(crate) fn is_empty(&self) -> bool {
        let mut times = self.times.lock();
        if times.empty.is_none() && times.turn.is_some() && self.home.is_empty() {
            times.empty = Some(self.home.node.since_stop());
        }
        times.empty.is_some()
    }

    /// What is left of its share of the time; `None` before its turn.
    pub(crate) fn time_left(&self) -> Option<Duration> {
        let until = self.times.lock().until?;
        Some(until.saturating_sub(self.home.node.since_stop()))
    }

    /// It is empty, or its own time is over: nobody waits for it any more.
    pub(crate) fn is_over(&self) -> bool {
        let turn = self.times.lock().turn;
        let late = |cap| turn.is_some_and(|turn| self.home.node.since_stop() >= turn + cap);
        self.is_empty() || self.cap().is_some_and(late)
    }

    /// Nobody can reach it any more, and nothing is in it.
    fn is_forgotten(self: &Arc<Self>) -> bool {
        // Its own two: whoever has a token, a child of it or a set of items has one more.
        Arc::strong_count(self) == 1
            && Arc::strong_count(&self.home.node) == 2
            && self.home.holders.is_empty()
            // P4: a closure keeps no token alive, and is called all the same.
            && !self.home.node.has_callbacks()
    }

    fn still_here(&self) -> StillHere {
        StillHere {
            holder: Holder::Stage,
            name: self.name.clone(),
            stage: None,
            location: self.location,
            age: Some(Tick::now().since(self.built)),
            count: 1,
            said: None,
            thread: None,
        }
    }

    fn report(&self, abandon: bool) -> Vec<DrainReport> {
        let is_empty = self.is_empty();
        let times = *self.times.lock();
        // Before its turn it has nothing to tell.
        let Some(started) = times.turn else {
            return Vec::new();
        };
        let took = times.empty.unwrap_or_else(|| self.home.node.since_stop());
        let stage = (is_empty || abandon).then(|| DrainReport {
            name: self.name.clone(),
            holder: Holder::Stage,
            outcome: if is_empty {
                DrainOutcome::Ended
            } else {
                DrainOutcome::Abandoned
            },
            started,
            took,
            location: self.location,
            stage: None,
        });
        let mut rows = self.home.holders.reports(abandon);
        if abandon {
            rows.extend(self.home.sets.settle());
        }
        for row in &mut rows {
            // What goes before its turn was asked by nobody.
            row.started = row.started.max(started).min(row.took);
            row.stage = Some(self.name.clone());
        }
        stage.into_iter().chain(rows).collect()
    }
}

/// All work of one coordinator, its own and its stages'.
pub(crate) struct Work {
    pub(crate) own: Home,
    stages: Mutex<Stages>,
}

#[derive(Default)]
struct Stages {
    /// The program stops: no more stages.
    closed: bool,
    /// In the order in which they were built.
    list: Vec<Arc<StageState>>,
    /// How many of the list are known to be used; the others are looked for when it has doubled.
    used: usize,
}

impl Work {
    pub(crate) fn new(id: u64, node: Arc<Node>, bus: Arc<Bus>) -> Self {
        Self {
            own: Home::new(id, node, bus),
            stages: Mutex::new(Stages::default()),
        }
    }

    /// Builds a stage. False: it came too late, and has to be stopped by whoever asked.
    pub(crate) fn build(
        &self,
        name: Name,
        location: &'static Location<'static>,
    ) -> (Arc<StageState>, bool) {
        let stage = Arc::new(StageState {
            name,
            location,
            home: self.own.stage(),
            cap: AtomicU64::new(0),
            built: Tick::coarse(),
            times: Mutex::new(Times::default()),
            untold: Mutex::new(None),
        });
        let mut stages = self.stages.lock();
        // Looked at too: the runner may not have come to the close yet, and what is built after the
        // stop is born stopped, whoever is faster.
        if stages.closed || self.own.node.is_stopped() {
            return (stage, false);
        }
        let mut forgotten = Vec::new();
        if stages.list.len() >= 64 && stages.list.len() >= stages.used * 2 {
            // P23: stages that have gone leave nothing behind.
            let list = std::mem::take(&mut stages.list);
            let (gone, used) = list.into_iter().partition(StageState::is_forgotten);
            forgotten = gone;
            stages.list = used;
            stages.used = stages.list.len();
        }
        stages.list.push(Arc::clone(&stage));
        drop(stages);
        drop(forgotten);
        (stage, true)
    }

    /// No more stages: all there are, the one built last first.
    pub(crate) fn close_stages(&self) -> Vec<Arc<StageState>> {
        let mut stages = self.stages.lock();
        stages.closed = true;
        for stage in &stages.list {
            stage.home.sets.keep();
        }
        stages.list.iter().rev().cloned().collect()
    }

    fn stages(&self) -> Vec<Arc<StageState>> {
        self.stages.lock().list.clone()
    }

    fn sets(&self) -> Vec<Arc<Sets>> {
        let own = std::iter::once(Arc::clone(&self.own.sets));
        let stages = self.stages();
        own.chain(
            stages
                .iter()
                .rev()
                .map(|stage| Arc::clone(&stage.home.sets)),
        )
        .collect()
    }

    /// Nothing is in flight, in no stage.
    pub(crate) fn has_no_items(&self) -> bool {
        self.sets().iter().all(|sets| sets.is_empty())
    }

    /// Waits until nothing is left, or nobody waits for it, and `others` agrees; but not beyond
    /// `deadline`. `look` is called, with no lock held, after every wait.
    pub(crate) fn drain(&self, deadline: Tick, others: impl Fn() -> bool, look: impl FnMut()) {
        let stages = self.stages();
        let all = || {
            // All of them, each time: it is now that they may become empty.
            let open = stages.iter().filter(|stage| !stage.is_over()).count();
            open == 0 && self.own.sets.is_empty() && others()
        };
        self.own.holders.drain(deadline, all, look);
    }

    /// Waits for one stage, as [`drain`](Self::drain) for all.
    pub(crate) fn wait_until(&self, deadline: Tick, done: impl Fn() -> bool, look: impl FnMut()) {
        self.own.holders.wait_until(deadline, done, look);
    }

    /// Everybody who is still here, with their threads: the coordinator's own, then each stage and
    /// what is in it, the one that stops first first. At most `most` of a kind; and how many more
    /// there are.
    pub(crate) fn still_here(&self, most: usize) -> (Vec<(StillHere, Thread)>, usize) {
        let mut room = Room {
            stages: most,
            holders: most,
            sets: most,
            more: 0,
        };
        let mut rows = self.own.still_here(&mut room);
        for stage in self.stages().iter().rev() {
            if stage.is_empty() {
                continue;
            }
            if room.stages > 0 {
                room.stages -= 1;
                rows.push((stage.still_here(), Thread::NONE));
            } else {
                room.more += 1;
            }
            let mine = stage.home.still_here(&mut room);
            rows.extend(mine.into_iter().map(|(here, thread)| {
                let stage = Some(stage.name.clone());
                (StillHere { stage, ..here }, thread)
            }));
        }
        (rows, room.more)
    }

    /// Takes back what is running, and gives the calls that hand it back.
    pub(crate) fn interrupt(&self) -> Vec<HandBackCall> {
        self.sets()
            .iter()
            .flat_map(|sets| sets.interrupt())
            .collect()
    }

    /// What became of everything; where `abandon` says so, what is still there is left behind.
    pub(crate) fn reports(&self, abandon: bool) -> Vec<DrainReport> {
        let mut rows = self.own.holders.reports(abandon);
        if abandon {
            rows.extend(self.own.sets.settle());
        }
        for stage in self.stages().iter().rev() {
            rows.extend(stage.report(abandon));
        }
        rows
    }

    /// How many items were handed back.
    pub(crate) fn handed_back(&self) -> usize {
        self.sets().iter().map(|sets| sets.handed_back()).sum()
    }

    /// Lets go of the sets of items. Runs user code: the drop code of what they hold.
    pub(crate) fn let_go(&self) {
        for sets in self.sets() {
            sets.let_go();
        }
    }
}
