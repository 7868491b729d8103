//! The state of one stage: when its turn came, how long it has, and what is still in it.

use std::panic::Location;
use std::sync::Arc;
use std::time::Duration;

use crate::clock::Tick;
use crate::reason::StopReason;
use crate::report::{DrainOutcome, DrainReport, Holder};
use crate::snapshot::StillHere;
use crate::sync::{Mutex, Ordering, fence};
use crate::text::Name;
use crate::token::Announcement;
use crate::work::Home;

/// See the module.
pub(crate) struct StageState {
    pub(crate) name: Name,
    pub(crate) location: &'static Location<'static>,
    pub(crate) home: Home,
    built: Tick,
    times: Mutex<Times>,
    /// What had to be told when there was nobody to tell it: the runner's, when it comes.
    untold: Mutex<Option<Announcement>>,
}

/// All but the cap counted from the program's stop.
#[derive(Clone, Copy, Default)]
struct Times {
    /// How long after its turn it is waited for at most.
    cap: Option<Duration>,
    /// When its turn came.
    turn: Option<Duration>,
    /// When its share of the time is over.
    until: Option<Duration>,
    /// Since when it is empty; found when somebody looks.
    empty: Option<Duration>,
    /// When something in it was left behind.
    left: Option<Duration>,
}

impl StageState {
    /// A stage of what `own` belongs to.
    pub(super) fn new(name: Name, location: &'static Location<'static>, own: &Home) -> Self {
        Self {
            name,
            location,
            home: own.stage(),
            built: Tick::coarse(),
            times: Mutex::new(Times::default()),
            untold: Mutex::new(None),
        }
    }

    pub(crate) fn cap(&self) -> Option<Duration> {
        self.times.lock().cap
    }

    pub(crate) fn set_cap(&self, cap: Duration) {
        self.times.lock().cap = Some(cap);
    }

    /// Its turn has come, with this share of the time: stops it, and closes its intake. False: it
    /// had come before.
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
        // P4: under the lock, so that what one of two takes out is not out of sight of the other.
        let mut untold = self.untold.lock();
        let kept = untold.take();
        kept.unwrap_or_else(|| Announcement::of(&self.home.node))
    }

    /// As `announce`, for whoever cannot do the rest.
    pub(crate) fn wake_threads(&self) {
        let mut untold = self.untold.lock();
        *untold = Some(Announcement::of(&self.home.node));
    }

    /// Its turn has come, and nothing of it is left.
    pub(crate) fn is_empty(&self) -> bool {
        let mut times = self.times.lock();
        if times.empty.is_none() && times.turn.is_some() && self.home.is_empty() {
            times.empty = times.turn.max(Some(self.home.holders.emptied()));
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
        let Times { cap, turn, .. } = *self.times.lock();
        let end = turn.zip(cap).map(|(turn, cap)| turn.saturating_add(cap));
        self.is_empty() || end.is_some_and(|end| self.home.node.since_stop() >= end)
    }

    /// Nobody can reach it any more, and nothing is in it.
    pub(super) fn is_forgotten(self: &Arc<Self>) -> bool {
        // Its own two: whoever has a token, a child of it or a set of items has one more.
        if Arc::strong_count(self) != 1 || Arc::strong_count(&self.home.node) != 2 {
            return false;
        }
        // P21: what whoever let go of the last one had registered before is seen.
        fence(Ordering::Acquire);
        self.home.holders.is_empty()
            // P4: a closure keeps no token alive, and is called all the same.
            && !self.home.node.has_callbacks()
    }

    pub(super) fn still_here(&self) -> StillHere {
        StillHere {
            age: Some(Tick::now().since(self.built)),
            ..StillHere::one(Holder::Stage, self.name.clone(), self.location)
        }
    }

    /// Nobody can reach it any more, nor stop it: a channel of its token that somebody has kept is
    /// as the token's, which has gone.
    pub(super) fn forget(&self) {
        self.home.node.drop_sender();
    }

    /// Nobody waits any more for what is still here.
    pub(super) fn leave_behind(&self) {
        // Before its turn it is asked for nothing.
        if self.times.lock().turn.is_some() && self.home.leave_behind() {
            let left = self.home.node.since_stop();
            self.times.lock().left.get_or_insert(left);
        }
    }

    pub(super) fn is_left_behind(&self) -> bool {
        self.times.lock().left.is_some()
    }

    pub(super) fn report(&self, last: bool) -> Vec<DrainReport> {
        let is_empty = self.is_empty();
        let times = *self.times.lock();
        // Before its turn it has nothing to tell.
        let Some(started) = times.turn else {
            return Vec::new();
        };
        let took = times
            .left
            .or(times.empty)
            .unwrap_or_else(|| self.home.node.since_stop());
        let stage = (is_empty || last).then(|| DrainReport {
            name: self.name.clone(),
            holder: Holder::Stage,
            outcome: if is_empty && times.left.is_none() {
                DrainOutcome::Ended
            } else {
                DrainOutcome::Abandoned
            },
            started,
            took,
            location: self.location,
            stage: None,
        });
        let mut rows = self.home.reports(last);
        for row in &mut rows {
            // What goes before its turn was asked by nobody.
            row.started = row.started.max(started).min(row.took);
            row.stage = Some(self.name.clone());
        }
        stage.into_iter().chain(rows).collect()
    }
}
