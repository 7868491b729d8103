//! Who is dead, and what becomes of what it held.
//!
//! * A member of this host is dead when the kernel has freed its lock: at once, and for sure, also
//!   when the machine was started anew since. While its lock is held, the store's clock does not
//!   kill it: that may have been put forward, or the machine may have slept. Whoever prunes it must
//!   have watched it say nothing for all of its `dead_after`; it has fenced itself by then.
//! * A member of another host is dead when its heartbeat is older than its `dead_after`, or when it
//!   was watched so long: the store's clock may have been put back.
//! * It is pruned in one transaction, on the condition that it has not been heard of since: by
//!   exactly one.

use std::collections::HashMap;
use std::time::Instant;

use crate::ledger::LedgerError;
use crate::ledger::error::StoreError;
use crate::ledger::host::{Host, this_host};
use crate::ledger::journal;
use crate::ledger::room::Room;
use crate::ledger::store::{Doing, End, EndKind, Found, MemberRow, Store};
use crate::lock::{Lock, Seen};

fn doing(row: &MemberRow) -> Doing {
    Doing {
        phase: row.info.phase.clone(),
        hook: row.info.hook.clone(),
    }
}

/// One who looks after the others. Remembers since when each has said nothing.
pub(super) struct Pruner {
    host: Host,
    room: Room,
    watched: HashMap<i64, (i64, Instant)>,
}

/// How it has ended, and its lock, so that nobody else finds it dead meanwhile.
pub(super) struct Dead {
    pub(super) found: Found,
    pub(super) lock: Option<Lock>,
}

impl Pruner {
    pub(super) fn new(room: Room) -> Self {
        Self {
            host: this_host(),
            room,
            watched: HashMap::new(),
        }
    }

    /// Prunes all that are dead, and orphans.
    pub(super) fn prune(
        &mut self,
        store: &dyn Store,
        me: Option<i64>,
        max_crashes: u32,
        until: Instant,
    ) -> Result<(), StoreError> {
        let members = store.members(until)?;
        self.watched
            .retain(|id, _| members.iter().any(|row| row.info.id == *id));
        let mut first = Ok(());
        for row in members.iter().filter(|row| Some(row.info.id) != me) {
            let Some(dead) = self.look(row) else { continue };
            let pruned = self.prune_one(store, row, dead.found, until);
            if let (Ok(false) | Err(_), Some(lock)) = (&pruned, dead.lock) {
                // It may still be a member, also where it was heard of between the look and its
                // death: without its file nobody would know that it is dead.
                lock.keep_file();
            }
            // One whose journal cannot be read keeps nobody else from being found.
            first = first.and(pruned.map(drop));
        }
        store.prune_orphans(max_crashes, until)?;
        first
    }

    /// False: it has been heard of since, or has gone.
    fn prune_one(
        &self,
        store: &dyn Store,
        row: &MemberRow,
        found: Found,
        until: Instant,
    ) -> Result<bool, StoreError> {
        // What it had decided counts: it was alive then.
        let journal = self.room.journal_path(row.info.id);
        journal::settle_dead(journal.as_deref(), store, until)?;
        match found {
            Found::Dead(end) => store.prune(row, end, until),
            Found::Left(kind, took) => {
                let end = End {
                    kind,
                    took,
                    doing: doing(row),
                    in_flight: 0,
                };
                store.leave(row.info.id, &row.info.name, end, until)?;
                Ok(true)
            }
        }
    }

    /// Looks whether the member is dead.
    pub(super) fn look(&mut self, row: &MemberRow) -> Option<Dead> {
        let late = |is_late: bool| {
            is_late.then_some(Dead {
                found: Found::Dead(EndKind::Killed),
                lock: None,
            })
        };
        let is_silent = self.is_silent(row);
        if row.info.host != self.host.name {
            return late(row.is_late || is_silent);
        }
        match self.room.look(row.info.id) {
            Ok(Seen::Free(lock)) => {
                let found = Found::of_words(&lock.last_words().unwrap_or_default());
                Some(Dead {
                    found,
                    lock: Some(lock),
                })
            }
            Ok(Seen::Held) if row.boot == self.host.boot => late(is_silent),
            // Removed by hand, or in a place that cannot be seen from here, or another host of the
            // same name: as of another host.
            Ok(Seen::Held | Seen::Nothing) | Err(_) => late(row.is_late || is_silent),
        }
    }

    /// It was watched from here, and has said nothing for all of its `dead_after`: then it has
    /// fenced itself, whatever has become of the store's clock.
    fn is_silent(&mut self, row: &MemberRow) -> bool {
        let now = Instant::now();
        let watched = self.watched.entry(row.info.id).or_insert((row.beats, now));
        if watched.0 != row.beats {
            *watched = (row.beats, now);
        }
        now.duration_since(watched.1) >= row.info.dead_after
    }

    /// Settles the journals of members that have gone, and removes what they left.
    pub(super) fn tidy(&self, store: &dyn Store, until: Instant) -> Result<(), LedgerError> {
        let members = self.room.members().map_err(|source| LedgerError::File {
            path: self.room.journal_path(0).unwrap_or_default(),
            source,
        })?;
        for member in members {
            match self.room.look(member) {
                Ok(Seen::Free(lock)) => {
                    journal::settle_dead(self.room.journal_path(member).as_deref(), store, until)?;
                    // Its last words are for whoever prunes it.
                    if store
                        .members(until)?
                        .iter()
                        .any(|row| row.info.id == member)
                    {
                        lock.keep_file();
                    }
                }
                Ok(Seen::Nothing) => {
                    journal::settle_dead(self.room.journal_path(member).as_deref(), store, until)?;
                }
                Ok(Seen::Held) | Err(_) => {}
            }
        }
        Ok(())
    }
}
