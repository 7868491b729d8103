//! The tasks in `PostgreSQL`, for workers on many machines. Who works on what is kept in a ledger.

use std::error::Error as _;
use std::time::Duration;

use postgres::{Client, NoTls};
use winddown::{Claim, CompleteError};

use crate::queue::{Audit, QueueError, Result};
use crate::tasks::{State, Task, Tasks};

/// `effects` has no unique key on purpose: whatever is done twice is to be seen.
const SCHEMA: &str = "
    CREATE TABLE IF NOT EXISTS tasks (
        id      BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        task_ms BIGINT NOT NULL,
        poison  BOOLEAN NOT NULL,
        state   TEXT NOT NULL DEFAULT 'open' CHECK (state IN ('open', 'done', 'dead')),
        epoch   BIGINT NOT NULL DEFAULT 0
    );
    CREATE INDEX IF NOT EXISTS tasks_open ON tasks (id) WHERE state = 'open';
    CREATE TABLE IF NOT EXISTS effects (task_id BIGINT NOT NULL);";

/// One statement: both, or none of the two.
const FINISH: &str = "
    WITH ended AS (
        UPDATE tasks SET state = 'done' WHERE id = $1 AND state = 'open' AND epoch = $2
        RETURNING id
    )
    INSERT INTO effects (task_id) SELECT id FROM ended";

const AUDIT: &str = "
    SELECT
        (SELECT count(*) FROM tasks),
        (SELECT count(DISTINCT task_id) FROM effects),
        (SELECT count(*) FROM (SELECT 1 FROM effects GROUP BY task_id HAVING count(*) > 1) AS doubled),
        (SELECT count(*) FROM tasks WHERE state = 'done' AND id NOT IN (SELECT task_id FROM effects)),
        (SELECT count(*) FROM tasks WHERE state = 'dead'),
        (SELECT count(*) FROM tasks WHERE state = 'open')";

pub(crate) struct Tables {
    client: Client,
}

impl Tables {
    pub(crate) fn connect(url: &str) -> Result<Self> {
        let client = Client::connect(url, NoTls)?;
        Ok(Self { client })
    }
}

/// By itself it says "db error", and no more.
pub(crate) fn said(error: &postgres::Error) -> String {
    match error.source() {
        Some(why) => format!("{error}: {why}"),
        None => error.to_string(),
    }
}

/// Nothing was ended: the task is somebody else's, or done.
fn ended(rows: u64, task: i64) -> Result<()> {
    if rows == 0 {
        return Err(QueueError::ClaimLost(task));
    }
    Ok(())
}

impl Tasks for Tables {
    fn make_tables(&mut self) -> Result<()> {
        Ok(self.client.batch_execute(SCHEMA)?)
    }

    fn enqueue(&mut self, count: u32, task_ms: u32, poison: u32) -> Result<()> {
        let sql = "INSERT INTO tasks (task_ms, poison)
            SELECT $2, (n + 1) * $3 / $1 > n * $3 / $1 FROM generate_series(0, $1::BIGINT - 1) AS n";
        let [count, task_ms, poison] = [count, task_ms, poison].map(i64::from);
        self.client.execute(sql, &[&count, &task_ms, &poison])?;
        Ok(())
    }

    fn audit(&mut self) -> Result<Audit> {
        let row = self.client.query_one(AUDIT, &[])?;
        Ok(Audit {
            enqueued: row.try_get(0)?,
            done: row.try_get(1)?,
            doubled: row.try_get(2)?,
            lost: row.try_get(3)?,
            dead: row.try_get(4)?,
            open: row.try_get(5)?,
        })
    }

    fn some_open(&mut self) -> Result<Vec<Task>> {
        let sql =
            "SELECT id, task_ms, poison FROM tasks WHERE state = 'open' ORDER BY random() LIMIT 20";
        let rows = self.client.query(sql, &[])?;
        let tasks = rows.iter().map(|row| {
            let takes: i64 = row.try_get(1)?;
            Ok(Task {
                id: row.try_get(0)?,
                takes: Duration::from_millis(takes.unsigned_abs()),
                is_poison: row.try_get(2)?,
            })
        });
        tasks.collect()
    }

    fn begin(&mut self, task: i64, epoch: i64) -> Result<bool> {
        let sql = "UPDATE tasks SET epoch = $2 WHERE id = $1 AND state = 'open' AND epoch < $2";
        Ok(self.client.execute(sql, &[&task, &epoch])? > 0)
    }

    fn finish(&mut self, task: i64, epoch: i64) -> Result<()> {
        let rows = self.client.execute(FINISH, &[&task, &epoch])?;
        ended(rows, task)
    }

    fn finish_with(&self, claim: &Claim, task: i64) -> Result<(), CompleteError<QueueError>> {
        let epoch = claim.epoch();
        // On a connection of the ledger's: this one knows nothing of its transaction.
        claim.complete_with_postgres(async |tables| {
            let rows = tables.execute(FINISH, &[&task, &epoch]).await?;
            ended(rows, task)
        })
    }

    fn state(&mut self, task: i64) -> Result<Option<State>> {
        let sql = "SELECT state FROM tasks WHERE id = $1";
        let Some(row) = self.client.query_opt(sql, &[&task])? else {
            return Ok(None);
        };
        Ok(Some(match row.try_get(0)? {
            "done" => State::Done,
            "dead" => State::Dead,
            _ => State::Open,
        }))
    }

    fn bury(&mut self, task: i64) -> Result<bool> {
        let sql = "UPDATE tasks SET state = 'dead' WHERE id = $1 AND state = 'open'";
        Ok(self.client.execute(sql, &[&task])? > 0)
    }
}
