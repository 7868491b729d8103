//! A ledger in an `SQLite` file.
//!
//! * WAL: readers wait for nobody, writers for each other only. It is a property of the file, and
//!   stays.
//! * `synchronous = FULL`: what is decided survives a power cut. Heartbeats go without the `fsync`:
//!   after a power cut nobody's heart beats.
//! * Who finds the file locked tries again every few milliseconds until its time is over; writers
//!   begin with `BEGIN IMMEDIATE`, so they wait before they have read anything.
//! * A connection is taken out of its pool while it is used: no lock of ours is held meanwhile
//!   (P17).

mod claims;
mod members;
mod pool;

use std::path::Path;
use std::time::{Duration, Instant};

use rusqlite::{OpenFlags, OptionalExtension, Transaction, TransactionBehavior};

use crate::ledger::error::{LedgerError, StoreError};
use crate::ledger::info::FailedClaim;
#[cfg(feature = "ledger-postgres")]
use crate::ledger::postgres::Postgres;
use crate::ledger::sqlite::pool::{Pool, is_busy, pause, which};
use crate::ledger::store::{
    Answer, ClaimId, Doing, End, EndKind, MemberRow, NewMember, Result, Store, Verdict,
};

/// Of the tables.
const VERSION: i64 = 1;

/// The store's clock, in milliseconds.
macro_rules! now {
    () => {
        "CAST(unixepoch('subsec') * 1000 AS INTEGER)"
    };
}
use now;

const TABLES: &str = "
    CREATE TABLE IF NOT EXISTS winddown_ledger (
        one INTEGER PRIMARY KEY CHECK (one = 1),
        version INTEGER NOT NULL,
        identity TEXT NOT NULL,
        epoch INTEGER NOT NULL
    );
    CREATE TABLE IF NOT EXISTS winddown_members (
        id INTEGER PRIMARY KEY,
        name TEXT NOT NULL,
        host TEXT NOT NULL,
        boot TEXT NOT NULL,
        pid INTEGER NOT NULL,
        started INTEGER NOT NULL,
        heartbeat INTEGER NOT NULL,
        beats INTEGER NOT NULL,
        dead_after INTEGER NOT NULL,
        max_crashes INTEGER NOT NULL,
        phase TEXT NOT NULL,
        hook TEXT
    );
    CREATE TABLE IF NOT EXISTS winddown_claims (
        key TEXT PRIMARY KEY,
        state TEXT NOT NULL CHECK (state IN ('open', 'claimed', 'failed')),
        owner INTEGER,
        epoch INTEGER NOT NULL,
        crashes INTEGER NOT NULL,
        interruptions INTEGER NOT NULL,
        failures INTEGER NOT NULL,
        since INTEGER NOT NULL,
        payload TEXT NOT NULL,
        saved TEXT,
        cause TEXT,
        error TEXT,
        last_owner INTEGER,
        last_heartbeat INTEGER
    ) WITHOUT ROWID;
    CREATE INDEX IF NOT EXISTS winddown_claimed
        ON winddown_claims (owner) WHERE state = 'claimed';
    CREATE TABLE IF NOT EXISTS winddown_runs (
        name TEXT PRIMARY KEY,
        ended TEXT NOT NULL,
        took INTEGER NOT NULL,
        phase TEXT NOT NULL,
        hook TEXT,
        in_flight INTEGER NOT NULL
    );
    INSERT OR IGNORE INTO winddown_ledger VALUES (1, 1, hex(randomblob(16)), 0);
";

fn refused(what: &'static str) -> impl FnOnce(rusqlite::Error) -> StoreError {
    move |error| StoreError::new(what, is_busy(&error), error)
}

/// See the module.
pub(in crate::ledger) struct Sqlite {
    pool: Pool,
    beats: Pool,
    identity: String,
}

impl Sqlite {
    /// Opens the file, and makes it and its tables where there are none.
    pub(in crate::ledger) fn open(
        path: &Path,
        until: Instant,
    ) -> std::result::Result<Self, LedgerError> {
        let mut pool = Pool::new(path, None, "FULL");
        let first = loop {
            let opened = pool
                .open(OpenFlags::SQLITE_OPEN_CREATE)
                .and_then(|connection| {
                    connection.pragma_update_and_check(None, "journal_mode", "WAL", |_| Ok(()))?;
                    Ok(connection)
                });
            match opened {
                Err(error) if Instant::now() < until => {
                    pause(error, until).map_err(refused("open the ledger"))?;
                }
                opened => break opened.map_err(refused("open the ledger"))?,
            }
        };
        pool.file = which(path);
        pool.give_back(first);
        // Whoever opens what is there writes nothing, and so waits for nobody.
        let there = pool.run(until, |connection| {
            let sql = "SELECT count(*) FROM sqlite_schema WHERE name = 'winddown_ledger'";
            connection.query_row(sql, [], |row| row.get::<_, i64>(0))
        });
        if there.map_err(refused("open the ledger"))? == 0 {
            let made = pool.write(until, |tx| tx.execute_batch(TABLES));
            made.map_err(refused("make the tables of the ledger"))?;
        }
        let known = pool.run(until, |connection| {
            connection.query_row("SELECT version, identity FROM winddown_ledger", [], |row| {
                Ok((row.get(0)?, row.get(1)?))
            })
        });
        let (found, identity) = known.map_err(refused("open the ledger"))?;
        if found == VERSION {
            let beats = Pool::new(path, pool.file, "NORMAL");
            Ok(Self {
                pool,
                beats,
                identity,
            })
        } else {
            Err(LedgerError::Version {
                found,
                expected: VERSION,
            })
        }
    }

    /// Completes a claim in one transaction with what `f` does. `None`: not this owner's, or not of
    /// this epoch, and `f` was not called.
    pub(in crate::ledger) fn complete_with<R, E>(
        &self,
        claim: &ClaimId,
        until: Instant,
        f: impl FnOnce(&Transaction<'_>) -> std::result::Result<R, E>,
    ) -> Result<Option<std::result::Result<R, E>>> {
        let what = "complete a claim";
        let mut f = Some(f);
        let result = self.pool.run(until, |connection| {
            let transaction =
                Transaction::new_unchecked(connection, TransactionBehavior::Immediate)?;
            if !claims::decide(&transaction, claim, &Verdict::Completed)? {
                return Ok(None);
            }
            // Called once: what fails after it is not tried again.
            let Some(f) = f.take() else { return Ok(None) };
            let done = f(&transaction);
            Ok(Some(match done {
                Ok(done) => transaction.commit().map(|()| Ok(done)),
                Err(error) => match transaction.rollback() {
                    // By some errors the engine has rolled back already.
                    _ if connection.is_autocommit() => Ok(Err(error)),
                    rolled_back => rolled_back.map(|()| Err(error)),
                },
            }))
        });
        match result.map_err(refused(what))? {
            Some(done) => done.map(Some).map_err(refused(what)),
            None => Ok(None),
        }
    }
}

impl Store for Sqlite {
    fn identity(&self) -> &str {
        &self.identity
    }

    fn next_epoch(&self, until: Instant) -> Result<i64> {
        let next = self.pool.write(until, |tx| claims::next_epoch(tx));
        next.map_err(refused("take a number"))
    }

    fn join(&self, new: &NewMember, until: Instant) -> Result<()> {
        let joined = self.pool.write(until, |tx| members::insert(tx, new));
        joined.map_err(refused("join"))
    }

    fn beat(&self, id: i64, doing: &Doing, until: Instant) -> Result<bool> {
        // One statement is a transaction of its own.
        let beaten = self
            .beats
            .run(until, |connection| members::beat(connection, id, doing));
        beaten.map_err(refused("renew the heartbeat"))
    }

    fn leave(&self, id: i64, name: &str, end: End, until: Instant) -> Result<()> {
        let left = self.pool.write(until, |tx| {
            let in_flight = claims::release_all(tx, id)?;
            let end = End {
                in_flight,
                ..end.clone()
            };
            let end = if members::delete(tx, id)? {
                end
            } else {
                // Pruned, or removed by hand. What it says now is truer than what was presumed.
                End {
                    kind: EndKind::Fenced,
                    ..end
                }
            };
            members::note_end(tx, name, &end)
        });
        left.map_err(refused("leave"))
    }

    fn members(&self, until: Instant) -> Result<Vec<MemberRow>> {
        let members = self.pool.run(until, members::all);
        members.map_err(refused("list the members"))
    }

    fn prune(&self, dead: &MemberRow, end: EndKind, until: Instant) -> Result<bool> {
        let pruned = self.pool.write(until, |tx| {
            if !members::delete_unheard(tx, dead)? {
                return Ok(false);
            }
            let in_flight = claims::prune(tx, dead)?;
            let doing = Doing {
                phase: dead.info.phase.clone(),
                hook: dead.info.hook.clone(),
            };
            let end = End {
                kind: end,
                took: Duration::ZERO,
                doing,
                in_flight,
            };
            members::note_end(tx, &dead.info.name, &end)?;
            Ok(true)
        });
        pruned.map_err(refused("prune a member"))
    }

    fn prune_orphans(&self, max_crashes: u32, until: Instant) -> Result<usize> {
        // Looked for without a lock first: mostly there are none.
        let there = self.pool.run(until, claims::has_orphans);
        if !there.map_err(refused("look for orphans"))? {
            return Ok(0);
        }
        let pruned = self
            .pool
            .write(until, |tx| claims::prune_orphans(tx, max_crashes));
        pruned.map_err(refused("prune orphans"))
    }

    fn claim(&self, owner: i64, key: &str, payload: &str, until: Instant) -> Result<Answer> {
        let answer = self
            .pool
            .write(until, |tx| claims::claim(tx, owner, key, payload));
        answer.map_err(refused("claim"))
    }

    fn save(&self, claim: &ClaimId, state: &str, until: Instant) -> Result<bool> {
        let saved = self
            .pool
            .run(until, |connection| claims::save(connection, claim, state));
        saved.map_err(refused("save the state of a claim"))
    }

    fn decide(&self, claim: &ClaimId, verdict: &Verdict, until: Instant) -> Result<bool> {
        let decided = self.pool.run(until, |connection| {
            claims::decide(connection, claim, verdict)
        });
        decided.map_err(refused("decide a claim"))
    }

    fn decide_all(&self, verdicts: &[(ClaimId, Verdict)], until: Instant) -> Result<usize> {
        let decided = self.pool.write(until, |tx| {
            let mut counted = 0;
            for (claim, verdict) in verdicts {
                counted += usize::from(claims::decide(tx, claim, verdict)?);
            }
            Ok(counted)
        });
        decided.map_err(refused("settle what was kept"))
    }

    fn open_keys(&self, until: Instant) -> Result<Vec<String>> {
        let keys = self.pool.run(until, claims::open_keys);
        keys.map_err(refused("list the open claims"))
    }

    fn failed(&self, until: Instant) -> Result<Vec<FailedClaim>> {
        let failed = self.pool.run(until, claims::failed);
        failed.map_err(refused("list the failed claims"))
    }

    fn retry(&self, key: &str, until: Instant) -> Result<bool> {
        let retried = self
            .pool
            .run(until, |connection| claims::retry(connection, key));
        retried.map_err(refused("retry a claim"))
    }

    fn discard(&self, key: &str, until: Instant) -> Result<bool> {
        let discarded = self
            .pool
            .run(until, |connection| claims::discard(connection, key));
        discarded.map_err(refused("discard a claim"))
    }

    fn last_end(&self, name: &str, until: Instant) -> Result<Option<End>> {
        let end = self.pool.run(until, |connection| {
            members::last_end(connection, name).optional()
        });
        end.map_err(refused("look for the previous run"))
    }

    fn as_sqlite(&self) -> Option<&Sqlite> {
        Some(self)
    }

    #[cfg(feature = "ledger-postgres")]
    fn as_postgres(&self) -> Option<&Postgres> {
        None
    }
}
