//! Who is still here.

use crate::phase::Phase;
use crate::reason::StopReason;
use crate::report::Holder;
use crate::said::{self, Thread};
use crate::shutdown::Core;
use crate::shutdown::blocked::whereabouts;
use crate::snapshot::{Snapshot, StillHere};
use crate::token::Life;

/// Rows of one kind.
const MOST: usize = 1000;

/// Threads that are looked up: each costs a few system calls.
const THREADS: usize = 32;

impl Core {
    /// The signal that the program lingers for: the reason of the stop to come, unless somebody
    /// asks for that before.
    fn announced(&self) -> Option<StopReason> {
        let word = self.node.word();
        let lingering = word.life() == Life::Lingering;
        let ending = self.node.ending().filter(|_| lingering)?;
        Some(StopReason::Signal(ending.deliveries.received(word)))
    }

    pub(crate) fn snapshot(&self) -> Snapshot {
        self.snapshot_with(THREADS)
    }

    /// Looks up no more than so many threads.
    pub(super) fn snapshot_with(&self, threads: usize) -> Snapshot {
        let phase = self.phase();
        let (mut rows, more_work) = self.work.still_here(MOST);
        if phase >= Phase::Draining && !self.signals.owner.is_here() {
            let owner = StillHere {
                age: Some(self.installed.elapsed()),
                said: said::said_since(self.owner_thread),
                ..StillHere::one(Holder::Owner, self.owner.clone(), self.location)
            };
            rows.push((owner, self.owner_thread));
        }
        if self.is_calling_on_stop() {
            let callbacks = StillHere {
                age: Some(self.node.since_stop()),
                ..StillHere::one(Holder::OnStop, "on_stop closures".into(), self.location)
            };
            rows.push((callbacks, Thread::NONE));
        }
        let (hooks, all_hooks) = self.hooks.still_here(MOST);
        let more = more_work + all_hooks.saturating_sub(hooks.len());
        rows.extend(hooks);
        let stopping = phase >= Phase::Draining;
        let mut looked = 0;
        let holders = rows.into_iter().map(|(mut here, thread)| {
            if stopping && thread != Thread::NONE && here.age.is_some() && looked < threads {
                looked += 1;
                here.thread = whereabouts(thread);
            }
            here
        });
        let since_stop = self.node.stop_tick().map(|_| self.node.since_stop());
        Snapshot {
            phase,
            reason: self.node.reason().or_else(|| self.announced()),
            since_stop,
            time_left: self.node.time_left(),
            holders: holders.collect(),
            more,
        }
    }
}
