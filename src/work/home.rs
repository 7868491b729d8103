//! Where work is registered: with the coordinator itself, or with one of its stages.

use std::panic::Location;
use std::sync::Arc;

use crate::bus::Bus;
use crate::error::{IntakeClosed, SpawnError};
use crate::process::Process;
use crate::reason::StopReason;
use crate::report::DrainReport;
use crate::said::Thread;
use crate::snapshot::StillHere;
use crate::text::Name;
use crate::token::{Node, StopToken};
use crate::work::place::Place;
use crate::work::task::Admitted;
use crate::work::{Hold, Holders, Sets, Task, TaskOutput};

/// See the module.
#[derive(Clone)]
pub(crate) struct Home {
    /// The coordinator's.
    pub(crate) id: u64,
    pub(super) process: Process,
    /// Whose stop closes the intake.
    pub(crate) node: Arc<Node>,
    pub(crate) holders: Arc<Holders>,
    pub(crate) sets: Arc<Sets>,
    pub(crate) bus: Arc<Bus>,
}

impl Home {
    /// The coordinator's own.
    pub(super) fn new(id: u64, node: Arc<Node>, bus: Arc<Bus>) -> Self {
        Self {
            id,
            process: Process::this(),
            bus,
            holders: Arc::new(Holders::new(Arc::clone(&node))),
            sets: Arc::new(Sets::default()),
            node,
        }
    }

    /// A stage's, below this one.
    pub(super) fn stage(&self) -> Self {
        let node = self.node.stage();
        Self {
            id: self.id,
            process: self.process,
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
        Place::take(&self.holders, name, location).map(Hold::new)
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
        let token = StopToken::of(&self.node);
        let task = self.admit_task(name, vital, stop, location)?;
        task.start_thread(move || f(token))
    }

    /// Admits a task, which is waited for from then on.
    pub(crate) fn admit_task<S>(
        &self,
        name: Name,
        vital: bool,
        stop: S,
        location: &'static Location<'static>,
    ) -> Result<Admitted<S>, SpawnError> {
        let Ok(key) = self.holders.admit(name.clone(), location) else {
            let task = name.into_owned();
            return Err(SpawnError::IntakeClosed { task });
        };
        Ok(Admitted {
            id: self.id,
            holders: Arc::clone(&self.holders),
            key,
            name,
            vital,
            stop,
        })
    }

    /// Nothing is registered here, and nothing in flight. To be asked after the close.
    pub(super) fn is_empty(&self) -> bool {
        self.holders.is_empty() && self.sets.is_empty()
    }

    pub(super) fn still_here(&self, room: &mut Room) -> Vec<(StillHere, Thread)> {
        let (mut rows, all) = self.holders.still_here(room.holders);
        room.holders -= rows.len();
        room.more += all - rows.len();
        let (items, all) = self.sets.still_here(room.sets);
        room.sets -= items.len();
        room.more += all - items.len();
        rows.extend(items);
        rows
    }

    /// Nobody waits any more for what is still here. True: something is.
    pub(super) fn leave_behind(&self) -> bool {
        self.holders.leave_behind() | self.sets.leave_behind()
    }

    /// What became of everything; `last`: nothing more becomes of what is still there.
    pub(super) fn reports(&self, last: bool) -> Vec<DrainReport> {
        let mut rows = self.holders.reports();
        if last {
            rows.extend(self.sets.settle());
        }
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
pub(super) struct Room {
    pub(super) stages: usize,
    pub(super) holders: usize,
    pub(super) sets: usize,
    pub(super) more: usize,
}
