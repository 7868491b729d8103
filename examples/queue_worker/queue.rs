//! The queue: tables in a `SQLite` file, shared by any number of threads and processes.
//!
//! Every final write is conditional on the claim (owner and epoch): one that comes late, after the task was handed back or its worker
//! was taken for dead, changes nothing.

use std::path::{Path, PathBuf};
use std::time::Duration;
use std::{fmt, io};

use rusqlite::{
    Connection, OpenFlags, OptionalExtension, Transaction, TransactionBehavior, params,
};
use thiserror::Error;

/// A task that has failed, or taken its process down, so often is dead.
pub(crate) const MAX_ATTEMPTS: u32 = 3;

/// How long a thread waits for the others to be done writing.
const BUSY: Duration = Duration::from_secs(10);

const CLAIM: &str = "
    UPDATE tasks SET state = 'claimed', owner = ?1, epoch = epoch + 1, attempts = attempts + 1
    WHERE id = (
            SELECT id FROM tasks WHERE state = 'open' AND attempts BETWEEN ?2 AND ?3
            ORDER BY attempts, id LIMIT 1
        )
        AND EXISTS (SELECT 1 FROM workers WHERE id = ?1)
    RETURNING id, epoch, attempts, task_ms, poison";

/// What may go wrong with the queue.
#[derive(Debug, Error)]
pub(crate) enum QueueError {
    #[error("cannot open the queue {path:?}: {source}")]
    Open {
        path: PathBuf,
        source: rusqlite::Error,
    },
    #[error("the queue: {0}")]
    Sqlite(#[from] rusqlite::Error),
    #[cfg(feature = "ledger-postgres")]
    #[error("the queue: {}", crate::in_postgres::said(.0))]
    Postgres(#[from] postgres::Error),
    #[cfg(not(feature = "ledger-postgres"))]
    #[error("a queue in PostgreSQL needs the feature ledger-postgres")]
    NoServer,
    #[error("the lock file {path:?}: {source}")]
    Lock { path: PathBuf, source: io::Error },
    #[error("task {0} belongs to somebody else by now")]
    ClaimLost(i64),
}

pub(crate) type Result<T, E = QueueError> = std::result::Result<T, E>;

/// One connection to the queue.
pub(crate) struct Queue {
    pub(crate) connection: Connection,
}

/// A claimed task.
#[derive(Debug)]
pub(crate) struct Job {
    pub(crate) id: i64,
    owner: i64,
    epoch: i64,
    /// This one included.
    attempts: u32,
    pub(crate) takes: Duration,
    pub(crate) is_poison: bool,
}

impl Job {
    /// How often it has failed, or taken its process down.
    pub(crate) fn failures(&self) -> u32 {
        self.attempts.saturating_sub(1)
    }
}

/// What is there to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// A task that was in hand when a process crashed: it may be the one that did it.
    Suspect,
    Fresh,
    /// All that is left is in somebody's hands, and may come back.
    Wait,
    /// Every task is done or dead.
    Empty,
}

/// What becomes of a task that is handed back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Nobody's fault: the attempt does not count.
    Interrupted,
    Failed,
    Dead,
}

impl Queue {
    /// Opens a queue that is there.
    pub(crate) fn open(path: &Path) -> Result<Self> {
        Self::open_with(path, OpenFlags::SQLITE_OPEN_READ_WRITE)
    }

    /// Opens a queue, and makes the file if there is none.
    pub(crate) fn create(path: &Path) -> Result<Self> {
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE;
        Self::open_with(path, flags)
    }

    fn open_with(path: &Path, flags: OpenFlags) -> Result<Self> {
        let open = || {
            // Each connection belongs to one thread at a time: SQLite need not lock it.
            let connection =
                Connection::open_with_flags(path, flags | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
            connection.busy_timeout(BUSY)?;
            connection.pragma_update(None, "journal_mode", "WAL")?;
            // A power cut may take the last transactions, each as a whole; a crash takes none.
            connection.pragma_update(None, "synchronous", "NORMAL")?;
            Ok(connection)
        };
        match open() {
            Ok(connection) => Ok(Self { connection }),
            Err(source) => Err(QueueError::Open {
                path: path.to_owned(),
                source,
            }),
        }
    }

    /// Runs `f` in a transaction that has the write lock from its beginning: one that reads first and writes then would be refused
    /// when somebody else has written in between.
    pub(crate) fn write<T>(&mut self, f: impl FnOnce(&Transaction<'_>) -> Result<T>) -> Result<T> {
        let transaction = self
            .connection
            .transaction_with_behavior(TransactionBehavior::Immediate)?;
        let output = f(&transaction)?;
        transaction.commit()?;
        Ok(output)
    }

    /// Looks what there is to do, without getting in the way of those who write.
    pub(crate) fn next(&self) -> Result<Next> {
        let mut look = self.connection.prepare_cached(
            "SELECT EXISTS (SELECT 1 FROM tasks WHERE state = 'open' AND attempts > 0),
                EXISTS (SELECT 1 FROM tasks WHERE state = 'open' AND attempts = 0),
                EXISTS (SELECT 1 FROM tasks WHERE state = 'claimed')",
        )?;
        let (suspect, fresh, claimed): (bool, bool, bool) =
            look.query_row([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?;
        Ok(match (suspect, fresh, claimed) {
            (true, _, _) => Next::Suspect,
            (_, true, _) => Next::Fresh,
            (_, _, true) => Next::Wait,
            _ => Next::Empty,
        })
    }

    /// Claims a task, and counts the attempt. `None`: somebody else was quicker, or the worker has signed off.
    pub(crate) fn claim(&mut self, worker: i64, suspect: bool) -> Result<Option<Job>> {
        let (least, most) = if suspect { (1, MAX_ATTEMPTS) } else { (0, 0) };
        self.write(|tables| {
            let mut claim = tables.prepare_cached(CLAIM)?;
            let job = claim.query_row(params![worker, least, most], |row| {
                Ok(Job {
                    id: row.get(0)?,
                    owner: worker,
                    epoch: row.get(1)?,
                    attempts: row.get(2)?,
                    takes: Duration::from_millis(row.get::<_, u32>(3)?.into()),
                    is_poison: row.get(4)?,
                })
            });
            Ok(job.optional()?)
        })
    }

    /// Ends the task, and makes its effect, in one: both, or none of the two.
    pub(crate) fn finish(&mut self, job: &Job) -> Result<()> {
        self.write(|tables| {
            end_claim(tables, job, "done", job.attempts)?;
            tables
                .prepare_cached("INSERT INTO effects (task_id) VALUES (?1)")?
                .execute([job.id])?;
            Ok(())
        })
    }

    /// Puts the task back, or with the dead ones.
    pub(crate) fn hand_back(&mut self, job: &Job, verdict: Verdict) -> Result<()> {
        let (state, attempts) = match verdict {
            Verdict::Interrupted => ("open", job.failures()),
            Verdict::Failed => ("open", job.attempts),
            Verdict::Dead => ("dead", job.attempts),
        };
        self.write(|tables| end_claim(tables, job, state, attempts))
    }

    /// Reopens what a worker that is dead had claimed, and says how many tasks that were. The attempts stay counted, and decide.
    pub(crate) fn bury(&mut self, worker: i64) -> Result<usize> {
        self.write(|tables| {
            let tasks = tables.execute(
                "UPDATE tasks SET owner = NULL, state = CASE WHEN attempts < ?2 THEN 'open' ELSE 'dead' END
                 WHERE state = 'claimed' AND owner = ?1",
                params![worker, MAX_ATTEMPTS],
            )?;
            tables.execute("DELETE FROM workers WHERE id = ?1", [worker])?;
            Ok(tasks)
        })
    }

    /// The worker claims nothing any more. False: it still has claims.
    pub(crate) fn sign_off(&mut self, worker: i64) -> Result<bool> {
        self.write(|tables| {
            let signed_off = tables.execute(
                "DELETE FROM workers WHERE id = ?1
                    AND NOT EXISTS (SELECT 1 FROM tasks WHERE state = 'claimed' AND owner = ?1)",
                [worker],
            )?;
            Ok(signed_off > 0)
        })
    }

    /// All that have signed on, and not off.
    pub(crate) fn workers(&self) -> Result<Vec<i64>> {
        let mut workers = self.connection.prepare_cached("SELECT id FROM workers")?;
        let ids = workers.query_map([], |row| row.get(0))?;
        Ok(ids.collect::<rusqlite::Result<_>>()?)
    }
}

/// Ends the claim that `job` stands for.
fn end_claim(tables: &Transaction<'_>, job: &Job, state: &str, attempts: u32) -> Result<()> {
    let ended = tables
        .prepare_cached(
            "UPDATE tasks SET state = ?4, attempts = ?5, owner = NULL
             WHERE id = ?1 AND state = 'claimed' AND owner = ?2 AND epoch = ?3",
        )?
        .execute(params![job.id, job.owner, job.epoch, state, attempts])?;
    if ended == 0 {
        return Err(QueueError::ClaimLost(job.id));
    }
    Ok(())
}

/// What has become of the tasks. Shown as a line of JSON.
pub(crate) struct Audit {
    pub(crate) enqueued: i64,
    /// With an effect.
    pub(crate) done: i64,
    /// With more than one effect.
    pub(crate) doubled: i64,
    /// Without an effect, and neither open nor dead.
    pub(crate) lost: i64,
    pub(crate) dead: i64,
    /// Still to be done, or in hand.
    pub(crate) open: i64,
}

impl fmt::Display for Audit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            enqueued,
            done,
            doubled,
            lost,
            dead,
            open,
        } = self;
        write!(
            f,
            r#"{{"enqueued":{enqueued},"done":{done},"doubled":{doubled},"lost":{lost},"dead":{dead},"open":{open}}}"#
        )
    }
}
