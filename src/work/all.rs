//! All work of one coordinator, its own and its stages', as the sequence sees it.

use std::panic::Location;
use std::sync::Arc;
use std::time::Duration;

use crate::bus::Bus;
use crate::clock::Tick;
use crate::reason::StopReason;
use crate::report::DrainReport;
use crate::said::Thread;
use crate::snapshot::StillHere;
use crate::sync::Mutex;
use crate::text::Name;
use crate::token::Node;
use crate::work::home::Room;
use crate::work::sets::{AnySet, Interrupting};
use crate::work::{Home, Sets, StageState, UserCall};

/// See the module.
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

    /// Builds a stage; after the stop it is born stopped.
    pub(crate) fn build(
        &self,
        name: Name,
        location: &'static Location<'static>,
    ) -> Arc<StageState> {
        let stage = Arc::new(StageState::new(name, location, &self.own));
        let mut stages = self.stages.lock();
        // Looked at too: the runner may not have come to the close yet, and what is built after the
        // stop is born stopped, whoever is faster.
        if stages.closed || self.own.node.is_stopped() {
            drop(stages);
            // Nobody waits for it yet, so there is nobody to wake.
            stage.stop(&self.reason(), Duration::ZERO);
            return stage;
        }
        let mut forgotten = Vec::new();
        if stages.list.len() >= 64 && stages.list.len() >= stages.used * 2 {
            // P23: stages that have gone leave nothing behind.
            let list = std::mem::take(&mut stages.list);
            let (gone, used) = list.into_iter().partition(StageState::is_forgotten);
            forgotten = gone;
            // What its items have come to is the report's all the same.
            for stage in &forgotten {
                self.own.sets.take_over(&stage.home.sets, &stage.name);
            }
            stages.list = used;
            stages.used = stages.list.len();
        }
        stages.list.push(Arc::clone(&stage));
        drop(stages);
        for stage in forgotten {
            stage.forget();
        }
        stage
    }

    /// Why the program stops.
    pub(crate) fn reason(&self) -> StopReason {
        self.own.node.known_reason()
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
        let all =
            || others() && self.own.sets.is_empty() && stages.iter().all(|stage| stage.is_over());
        self.own.holders.drain(deadline, all, look);
    }

    /// Waits for one stage, as [`drain`](Self::drain) for all.
    pub(crate) fn wait_until(&self, deadline: Tick, done: impl Fn() -> bool, look: impl FnMut()) {
        self.own.holders.wait_until(deadline, done, look);
    }

    /// Makes the tasks end, of all stages too, that can be made to. True: there was one.
    pub(crate) fn abort(&self) -> bool {
        let own = self.own.holders.abort();
        let stages = self.stages();
        let stages = stages.iter().map(|stage| stage.home.holders.abort());
        stages.fold(own, |any, one| any | one)
    }

    /// Waits until nobody is left who has been made to end, and `others` agrees, or `deadline`.
    pub(crate) fn wait_for_aborted(
        &self,
        deadline: Tick,
        others: impl Fn() -> bool,
        look: impl FnMut(),
    ) {
        let stages = self.stages();
        let all = || {
            let mut homes = stages.iter().map(|stage| &stage.home.holders);
            homes.all(|holders| holders.have_ended()) && others()
        };
        self.own.holders.wait_for_aborted(deadline, all, look);
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
            if stage.is_empty() || stage.is_left_behind() {
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

    /// Takes back what is running, and gives the calls that tell it and hand it back.
    pub(crate) fn interrupt(&self) -> Vec<UserCall> {
        let mut calls = Interrupting::default();
        for sets in self.sets() {
            sets.interrupt(&mut calls);
        }
        let Interrupting {
            mut tell,
            hand_back,
        } = calls;
        tell.extend(hand_back);
        tell
    }

    /// The time for all this is over: whoever is still here is left behind, whatever becomes of it
    /// while the hooks run.
    pub(crate) fn leave_behind(&self) {
        self.own.leave_behind();
        for stage in self.stages() {
            stage.leave_behind();
        }
    }

    /// What became of everything; `last`: nothing more becomes of what is still there.
    pub(crate) fn reports(&self, last: bool) -> Vec<DrainReport> {
        if last {
            self.leave_behind();
        }
        let mut rows = self.own.reports(last);
        for stage in self.stages().iter().rev() {
            rows.extend(stage.report(last));
        }
        rows
    }

    /// How many items were handed back.
    pub(crate) fn handed_back(&self) -> usize {
        self.sets().iter().map(|sets| sets.handed_back()).sum()
    }

    /// Hands the sets of items over to whoever drops them. That runs user code: the drop code of
    /// what they hold.
    pub(crate) fn hand_over(&self) -> Vec<Arc<dyn AnySet>> {
        self.sets()
            .iter()
            .flat_map(|sets| sets.hand_over())
            .collect()
    }
}
