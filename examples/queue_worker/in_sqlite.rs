//! The tasks in a `SQLite` file, for whoever claims them elsewhere: in the queue they are open until they are done or dead.

#[cfg(feature = "ledger")]
use std::time::Duration;

use rusqlite::params;
#[cfg(feature = "ledger")]
use rusqlite::{OptionalExtension, Transaction};
#[cfg(feature = "ledger")]
use winddown::{Claim, CompleteError};

#[cfg(feature = "ledger")]
use crate::queue::QueueError;
use crate::queue::{Audit, Queue, Result};
use crate::tasks::Tasks;
#[cfg(feature = "ledger")]
use crate::tasks::{State, Task};

/// `attempts` counts those that failed or crashed, and the one in hand: a task that aborts the process could not be counted later.
/// `epoch` counts the claims and never goes back. `effects` has no unique key on purpose: whatever is done twice is to be seen.
const SCHEMA: &str = "
    CREATE TABLE IF NOT EXISTS tasks (
        id       INTEGER PRIMARY KEY AUTOINCREMENT,
        task_ms  INTEGER NOT NULL,
        poison   INTEGER NOT NULL,
        state    TEXT NOT NULL DEFAULT 'open' CHECK (state IN ('open', 'claimed', 'done', 'dead')),
        owner    INTEGER,
        epoch    INTEGER NOT NULL DEFAULT 0,
        attempts INTEGER NOT NULL DEFAULT 0
    ) STRICT;
    CREATE INDEX IF NOT EXISTS tasks_by_state ON tasks (state, attempts, id);
    CREATE TABLE IF NOT EXISTS effects (task_id INTEGER NOT NULL) STRICT;
    CREATE TABLE IF NOT EXISTS workers (
        id  INTEGER PRIMARY KEY AUTOINCREMENT,
        pid INTEGER NOT NULL
    ) STRICT;";

const AUDIT: &str = "
    SELECT
        (SELECT count(*) FROM tasks),
        (SELECT count(DISTINCT task_id) FROM effects),
        (SELECT count(*) FROM (SELECT 1 FROM effects GROUP BY task_id HAVING count(*) > 1)),
        (SELECT count(*) FROM tasks
            WHERE state NOT IN ('open', 'claimed', 'dead') AND id NOT IN (SELECT task_id FROM effects)),
        (SELECT count(*) FROM tasks WHERE state = 'dead'),
        (SELECT count(*) FROM tasks WHERE state IN ('open', 'claimed'))";

impl Tasks for Queue {
    fn make_tables(&mut self) -> Result<()> {
        self.write(|tables| Ok(tables.execute_batch(SCHEMA)?))
    }

    fn enqueue(&mut self, count: u32, task_ms: u32, poison: u32) -> Result<()> {
        self.write(|tables| {
            let mut insert =
                tables.prepare("INSERT INTO tasks (task_ms, poison) VALUES (?1, ?2)")?;
            let before = |task| u64::from(task) * u64::from(poison) / u64::from(count);
            for task in 0..count {
                let is_poison = before(task + 1) > before(task);
                insert.execute(params![task_ms, is_poison])?;
            }
            Ok(())
        })
    }

    fn audit(&mut self) -> Result<Audit> {
        Ok(self.connection.query_row(AUDIT, [], |row| {
            Ok(Audit {
                enqueued: row.get(0)?,
                done: row.get(1)?,
                doubled: row.get(2)?,
                lost: row.get(3)?,
                dead: row.get(4)?,
                open: row.get(5)?,
            })
        })?)
    }

    #[cfg(feature = "ledger")]
    fn some_open(&mut self) -> Result<Vec<Task>> {
        let mut open = self.connection.prepare_cached(
            "SELECT id, task_ms, poison FROM tasks WHERE state = 'open' ORDER BY random() LIMIT 20",
        )?;
        let tasks = open.query_map([], |row| {
            Ok(Task {
                id: row.get(0)?,
                takes: Duration::from_millis(row.get::<_, u32>(1)?.into()),
                is_poison: row.get(2)?,
            })
        })?;
        Ok(tasks.collect::<rusqlite::Result<_>>()?)
    }

    #[cfg(feature = "ledger")]
    fn begin(&mut self, task: i64, epoch: i64) -> Result<bool> {
        self.write(|tables| {
            let begun = tables
                .prepare_cached(
                    "UPDATE tasks SET epoch = ?2 WHERE id = ?1 AND state = 'open' AND epoch < ?2",
                )?
                .execute([task, epoch])?;
            Ok(begun > 0)
        })
    }

    #[cfg(feature = "ledger")]
    fn finish(&mut self, task: i64, epoch: i64) -> Result<()> {
        self.write(|tables| end(tables, task, epoch))
    }

    #[cfg(feature = "ledger")]
    fn finish_with(&self, claim: &Claim, task: i64) -> Result<(), CompleteError<QueueError>> {
        claim.complete_with(|tables| end(tables, task, claim.epoch()))
    }

    #[cfg(feature = "ledger")]
    fn state(&mut self, task: i64) -> Result<Option<State>> {
        let state = self
            .connection
            .prepare_cached("SELECT state FROM tasks WHERE id = ?1")?
            .query_row([task], |row| row.get::<_, String>(0))
            .optional()?;
        Ok(state.map(|state| match &*state {
            "done" => State::Done,
            "dead" => State::Dead,
            _ => State::Open,
        }))
    }

    #[cfg(feature = "ledger")]
    fn bury(&mut self, task: i64) -> Result<bool> {
        self.write(|tables| {
            let buried = tables.execute(
                "UPDATE tasks SET state = 'dead' WHERE id = ?1 AND state = 'open'",
                [task],
            )?;
            Ok(buried > 0)
        })
    }
}

#[cfg(feature = "ledger")]
fn end(tables: &Transaction<'_>, task: i64, epoch: i64) -> Result<()> {
    let ended = tables
        .prepare_cached(
            "UPDATE tasks SET state = 'done' WHERE id = ?1 AND state = 'open' AND epoch = ?2",
        )?
        .execute([task, epoch])?;
    if ended == 0 {
        return Err(QueueError::ClaimLost(task));
    }
    tables
        .prepare_cached("INSERT INTO effects (task_id) VALUES (?1)")?
        .execute([task])?;
    Ok(())
}
