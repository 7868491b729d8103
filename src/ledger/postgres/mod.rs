//! A ledger in `PostgreSQL`, for members on many machines.
//!
//! * Each operation is one transaction, at `READ COMMITTED`, on row locks; nobody locks a table.
//!   The order is: key, member, claim. So two that wait for each other are rare, and the engine
//!   ends that; whoever it picks tries again.
//! * Epochs come from a sequence. Between two claims of one key they grow, as each takes its number
//!   under a lock of the key.
//! * What is decided is noted under its epoch in the same statement (`winddown_decided`), so that
//!   somebody whose connection broke while it committed learns whether it did.
//! * No wait of this side is left to the other: see `link`.

mod claims;
mod error;
mod link;
mod members;
mod together;

use std::cell::Cell;
use std::panic;
use std::sync::atomic::{AtomicI64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use tokio::runtime::Handle;
use tokio_postgres::Transaction;

use crate::ledger::error::LedgerError;
use crate::ledger::info::FailedClaim;
use crate::ledger::postgres::error::{Failure, Refusal};
use crate::ledger::postgres::link::{Address, Link};
use crate::ledger::sqlite::Sqlite;
use crate::ledger::store::{
    Answer, ClaimId, Doing, End, EndKind, MemberRow, NewMember, Result, Store, Verdict,
};
use crate::sync::Mutex;

/// Of the tables.
const VERSION: i64 = 1;

/// Connections that are kept for the next one who needs one.
const IDLE: usize = 8;

/// Between two tries.
const PAUSE: Duration = Duration::from_millis(20);

/// The store's clock, in milliseconds.
macro_rules! now {
    () => {
        "floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint"
    };
}
use now;

type Done<T> = std::result::Result<T, tokio_postgres::Error>;

/// Of the lock under which the tables are made: "winddown", as a number.
const MAKING: i64 = 0x7769_6e64_646f_776e;

const TABLES: &str = "
    CREATE SEQUENCE IF NOT EXISTS winddown_epochs;
    CREATE TABLE IF NOT EXISTS winddown_members (
        id BIGINT PRIMARY KEY,
        name TEXT NOT NULL,
        host TEXT NOT NULL,
        boot TEXT NOT NULL,
        pid BIGINT NOT NULL,
        started BIGINT NOT NULL,
        heartbeat BIGINT NOT NULL,
        beats BIGINT NOT NULL,
        dead_after BIGINT NOT NULL,
        max_crashes BIGINT NOT NULL,
        phase TEXT NOT NULL,
        hook TEXT
    );
    CREATE TABLE IF NOT EXISTS winddown_claims (
        key TEXT PRIMARY KEY,
        state TEXT NOT NULL CHECK (state IN ('open', 'claimed', 'failed')),
        owner BIGINT,
        epoch BIGINT NOT NULL,
        crashes BIGINT NOT NULL,
        interruptions BIGINT NOT NULL,
        failures BIGINT NOT NULL,
        since BIGINT NOT NULL,
        payload TEXT NOT NULL,
        saved TEXT,
        cause TEXT,
        error TEXT,
        last_owner BIGINT,
        last_heartbeat BIGINT,
        mark BIGINT
    );
    CREATE INDEX IF NOT EXISTS winddown_claimed
        ON winddown_claims (owner) WHERE state = 'claimed';
    CREATE TABLE IF NOT EXISTS winddown_runs (
        name TEXT PRIMARY KEY,
        ended TEXT NOT NULL,
        took BIGINT NOT NULL,
        phase TEXT NOT NULL,
        hook TEXT,
        in_flight BIGINT NOT NULL
    );
    CREATE TABLE IF NOT EXISTS winddown_decided (
        epoch BIGINT PRIMARY KEY,
        decided BIGINT NOT NULL
    );
    CREATE INDEX IF NOT EXISTS winddown_decided_at ON winddown_decided (decided);
    CREATE TABLE IF NOT EXISTS winddown_ledger (
        one BIGINT PRIMARY KEY CHECK (one = 1),
        version BIGINT NOT NULL,
        identity TEXT NOT NULL
    );
    INSERT INTO winddown_ledger VALUES (1, 1, replace(gen_random_uuid()::text, '-', ''))
        ON CONFLICT DO NOTHING;
";

/// See the module.
pub(in crate::ledger) struct Postgres {
    address: Address,
    idle: Mutex<Vec<Link>>,
    identity: String,
    /// One for each claim that is asked for; with its owner nobody else has the same.
    marks: AtomicI64,
}

/// What an operation works with.
struct Turn<'a> {
    tx: Transaction<'a>,
    /// A try before this one may have been committed.
    is_again: bool,
    /// It ends as if it had not been.
    is_undone: Cell<bool>,
}

impl Turn<'_> {
    fn undo(&self) {
        self.is_undone.set(true);
    }
}

impl Postgres {
    /// Connects, and makes the tables where there are none.
    pub(in crate::ledger) fn connect(
        url: &str,
        until: Instant,
    ) -> std::result::Result<Self, LedgerError> {
        let opening = "open the ledger";
        let address = Address::parse(url).map_err(|error| error.into_store_error(opening))?;
        let mut store = Self {
            address,
            idle: Mutex::new(Vec::new()),
            identity: String::new(),
            marks: AtomicI64::new(0),
        };
        let known = store.write(opening, until, async |turn| {
            let there = "SELECT to_regclass('winddown_ledger') IS NOT NULL";
            if !turn.tx.query_one(there, &[]).await?.get::<_, bool>(0) {
                // `IF NOT EXISTS` fails where two look at once.
                let alone = "SELECT pg_advisory_xact_lock($1)";
                turn.tx.query_one(alone, &[&MAKING]).await?;
                turn.tx.batch_execute(TABLES).await?;
            }
            let known = "SELECT version, identity FROM winddown_ledger";
            let row = turn.tx.query_one(known, &[]).await?;
            Ok((row.try_get::<_, i64>(0)?, row.try_get::<_, String>(1)?))
        });
        let (found, identity) = known?;
        if found == VERSION {
            store.identity = identity;
            Ok(store)
        } else {
            Err(LedgerError::Version {
                found,
                expected: VERSION,
            })
        }
    }

    /// Runs `f` in a transaction, again and again while the store cannot be used.
    fn write<T: Send>(
        &self,
        what: &'static str,
        until: Instant,
        f: impl AsyncFn(&Turn<'_>) -> Done<T> + Sync,
    ) -> Result<T> {
        // Within somebody's runtime a thread cannot wait for another one: a thread of our own can.
        let done = if Handle::try_current().is_ok() {
            thread::scope(|scope| {
                let thread = thread::Builder::new()
                    .name("winddown-postgres".to_owned())
                    .spawn_scoped(scope, || self.try_until(until, &f));
                match thread.map(thread::ScopedJoinHandle::join) {
                    Ok(Ok(done)) => done,
                    Ok(Err(payload)) => panic::resume_unwind(payload),
                    Err(error) => Err(self.address.failure(Refusal::Other, &error)),
                }
            })
        } else {
            self.try_until(until, &f)
        };
        done.map_err(|failure| failure.into_store_error(what))
    }

    fn try_until<T>(
        &self,
        until: Instant,
        f: &impl AsyncFn(&Turn<'_>) -> Done<T>,
    ) -> std::result::Result<T, Failure> {
        let mut is_again = false;
        loop {
            let idle = self.idle.lock().pop();
            let was_idle = idle.is_some();
            let tried = idle.map_or_else(|| self.address.connect(until), Ok);
            let tried = tried.and_then(|mut link| {
                let done = link.transact(&self.address, until, is_again, f);
                if done.as_ref().err().is_none_or(Failure::leaves_the_link) {
                    self.give_back(link);
                }
                done
            });
            let failure = match tried {
                Ok(done) => return Ok(done),
                Err(failure) => failure,
            };
            is_again |= failure.may_be_done;
            let left = until.saturating_duration_since(Instant::now());
            // A lock was waited for until now; in the rest of the time nothing better is found out.
            let is_over = left.is_zero() || (failure.is_busy() && left <= link::EARLIER);
            if is_over || !failure.is_worth_another_try() {
                return Err(failure);
            }
            // A connection that has been idle may have been closed long ago.
            if !(was_idle && failure.is_unreachable()) {
                thread::sleep(PAUSE.min(left));
            }
        }
    }

    fn give_back(&self, link: Link) {
        let mut idle = self.idle.lock();
        if idle.len() < IDLE {
            idle.push(link);
        }
    }
}

impl Store for Postgres {
    fn identity(&self) -> &str {
        &self.identity
    }

    fn next_epoch(&self, until: Instant) -> Result<i64> {
        self.write("take a number", until, async |turn| {
            let next = "SELECT nextval('winddown_epochs')";
            turn.tx.query_one(next, &[]).await?.try_get(0)
        })
    }

    fn join(&self, new: &NewMember, until: Instant) -> Result<()> {
        self.write("join", until, async |turn| {
            members::insert(&turn.tx, new).await
        })
    }

    fn beat(&self, id: i64, doing: &Doing, until: Instant) -> Result<bool> {
        self.write("renew the heartbeat", until, async |turn| {
            members::beat(&turn.tx, id, doing).await
        })
    }

    fn leave(&self, id: i64, name: &str, end: End, until: Instant) -> Result<()> {
        self.write("leave", until, async |turn| {
            // The member before its claims, as whoever prunes it does.
            let was_there = members::delete(&turn.tx, id).await?;
            if !was_there && turn.is_again && claims::is_decided(&turn.tx, id).await? {
                return Ok(());
            }
            let in_flight = claims::release_all(&turn.tx, id).await?;
            // Pruned, or removed by hand: what it says now is truer than what was presumed.
            let kind = if was_there { end.kind } else { EndKind::Fenced };
            let end = End {
                kind,
                in_flight,
                ..end.clone()
            };
            claims::note_decided(&turn.tx, id).await?;
            members::note_end(&turn.tx, name, &end).await
        })
    }

    fn members(&self, until: Instant) -> Result<Vec<MemberRow>> {
        self.write("list the members", until, async |turn| {
            members::all(&turn.tx).await
        })
    }

    fn prune(&self, dead: &MemberRow, end: EndKind, until: Instant) -> Result<bool> {
        self.write("prune a member", until, async |turn| {
            if !members::delete_unheard(&turn.tx, dead).await? {
                return Ok(false);
            }
            let in_flight = claims::prune(&turn.tx, dead).await?;
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
            members::note_end(&turn.tx, &dead.info.name, &end).await?;
            Ok(true)
        })
    }

    fn prune_orphans(&self, max_crashes: u32, until: Instant) -> Result<usize> {
        self.write("prune orphans", until, async |turn| {
            claims::forget_decided(&turn.tx).await?;
            claims::prune_orphans(&turn.tx, max_crashes).await
        })
    }

    fn claim(&self, owner: i64, key: &str, payload: &str, until: Instant) -> Result<Answer> {
        // So that a later try knows what an earlier one has done.
        let mark = self.marks.fetch_add(1, Ordering::Relaxed);
        self.write("claim", until, async |turn| {
            claims::claim(turn, owner, key, payload, mark).await
        })
    }

    fn save(&self, claim: &ClaimId, state: &str, until: Instant) -> Result<bool> {
        self.write("save the state of a claim", until, async |turn| {
            claims::save(&turn.tx, claim, state).await
        })
    }

    fn decide(&self, claim: &ClaimId, verdict: &Verdict, until: Instant) -> Result<bool> {
        self.write("decide a claim", until, async |turn| {
            Ok(claims::decide(&turn.tx, claim, verdict).await?
                || (turn.is_again && claims::is_decided(&turn.tx, claim.epoch).await?))
        })
    }

    fn decide_all(&self, verdicts: &[(ClaimId, Verdict)], until: Instant) -> Result<usize> {
        self.write("settle what was kept", until, async |turn| {
            let mut counted = 0;
            for (claim, verdict) in verdicts {
                counted += usize::from(claims::decide(&turn.tx, claim, verdict).await?);
            }
            Ok(counted)
        })
    }

    fn open_keys(&self, until: Instant) -> Result<Vec<String>> {
        self.write("list the open claims", until, async |turn| {
            claims::open_keys(&turn.tx).await
        })
    }

    fn failed(&self, until: Instant) -> Result<Vec<FailedClaim>> {
        self.write("list the failed claims", until, async |turn| {
            claims::failed(&turn.tx).await
        })
    }

    fn retry(&self, key: &str, until: Instant) -> Result<bool> {
        self.write("retry a claim", until, async |turn| {
            claims::retry(&turn.tx, key).await
        })
    }

    fn discard(&self, key: &str, until: Instant) -> Result<bool> {
        self.write("discard a claim", until, async |turn| {
            claims::discard(&turn.tx, key).await
        })
    }

    fn last_end(&self, name: &str, until: Instant) -> Result<Option<End>> {
        self.write("look for the previous run", until, async |turn| {
            members::last_end(&turn.tx, name).await
        })
    }

    fn as_sqlite(&self) -> Option<&Sqlite> {
        None
    }

    fn as_postgres(&self) -> Option<&Postgres> {
        Some(self)
    }
}
