//! A queue, its ledger, and the workers of `examples/queue_worker` on them.
#![allow(dead_code, reason = "each test binary uses its own part")]

use std::process::Stdio;
use std::time::Duration;

use rusqlite::Connection;
use tempfile::TempDir;
use winddown::{Ledger, MemberInfo};

use crate::FAR;
#[cfg(feature = "ledger-postgres")]
use crate::cluster::InSchema;
use crate::example;
use crate::process::Process;

/// A queue, and a ledger in its file or database, or in a file beside it.
pub(crate) struct Place {
    directory: TempDir,
    ledger: &'static str,
    #[cfg(feature = "ledger-postgres")]
    schema: Option<InSchema>,
}

/// The two of them in files.
pub(crate) const LEDGERS: [&str; 2] = ["queue.db", "ledger.db"];

/// Both in one database.
pub(crate) const SERVER: &str = "a server";

/// Where a queue and its ledger may be: on a server only where there is one.
pub(crate) fn places() -> Vec<&'static str> {
    let mut places = LEDGERS.to_vec();
    if has_server() {
        places.push(SERVER);
    }
    places
}

#[cfg(feature = "ledger-postgres")]
pub(crate) fn has_server() -> bool {
    crate::cluster::is_there()
}

#[cfg(not(feature = "ledger-postgres"))]
pub(crate) fn has_server() -> bool {
    false
}

impl Place {
    pub(crate) fn of(ledger: &'static str, count: u32, task_ms: u32, poison: u32) -> Self {
        let place = Self {
            directory: tempfile::tempdir().unwrap(),
            ledger,
            #[cfg(feature = "ledger-postgres")]
            schema: (ledger == SERVER).then(|| InSchema::new().unwrap()),
        };
        place.more(count, task_ms, poison);
        place
    }

    /// Puts so many tasks in.
    pub(crate) fn more(&self, count: u32, task_ms: u32, poison: u32) {
        let [count, task_ms, poison] = [count, task_ms, poison].map(|number| number.to_string());
        let (takes, poison) = (["--task-ms", &task_ms], ["--poison", &poison]);
        let mut enqueue = self.start(&[&["--enqueue", &*count], &takes[..], &poison].concat());
        assert!(enqueue.end().success(), "{}", enqueue.err.all());
    }

    pub(crate) fn path(&self, name: &str) -> String {
        let path = self.directory.path().join(name);
        path.to_str().unwrap().to_owned()
    }

    /// As the example is told: its queue, and its ledger.
    fn addresses(&self) -> [String; 2] {
        #[cfg(feature = "ledger-postgres")]
        if let Some(schema) = &self.schema {
            return [schema.url(), schema.url()];
        }
        [self.path("queue.db"), self.path(self.ledger)]
    }

    pub(crate) fn start(&self, options: &[&str]) -> Process {
        let [queue, _] = self.addresses();
        let mut command = example::command("queue_worker", &[&queue]);
        command
            .args(options)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        Process::start(command)
    }

    /// A worker of this ledger.
    pub(crate) fn worker(&self, options: &[&str]) -> Process {
        let [_, ledger] = self.addresses();
        let directory = self.path("");
        let mut all = vec!["--ledger", &*ledger, "--host-dir", &*directory];
        if !options.contains(&"--heartbeat-ms") {
            all.extend(["--heartbeat-ms", "50"]);
        }
        self.start(&[&all, options].concat())
    }

    pub(crate) fn ledger(&self) -> Ledger {
        let [_, address] = self.addresses();
        #[cfg(feature = "ledger-postgres")]
        if self.schema.is_some() {
            return Ledger::connect_with(&address, self.path("")).unwrap();
        }
        Ledger::open(address).unwrap()
    }

    pub(crate) fn assert_audit(&self, enqueued: u32, done: u32, dead: u32, open: u32) {
        let mut audit = self.start(&["--audit"]);
        assert!(audit.end().success(), "{}", audit.err.all());
        assert_eq!(
            audit.out.last_line(),
            format!(
                r#"{{"enqueued":{enqueued},"done":{done},"doubled":0,"lost":0,"dead":{dead},"open":{open}}}"#
            )
        );
    }

    pub(crate) fn assert_nobody_is_left(&self) {
        let members = self.ledger().members().unwrap();
        assert!(members.is_empty(), "{members:?}");
    }

    fn sql(name: &str, patience: Duration) -> Connection {
        let tables = Connection::open(name).unwrap();
        tables.busy_timeout(patience).unwrap();
        tables
    }

    /// One number out of the queue.
    pub(crate) fn count(&self, sql: &str) -> i64 {
        self.number("queue.db", sql)
    }

    /// One number out of the ledger.
    pub(crate) fn count_claims(&self, sql: &str) -> i64 {
        self.number(self.ledger, sql)
    }

    fn number(&self, name: &str, sql: &str) -> i64 {
        #[cfg(feature = "ledger-postgres")]
        if let Some(schema) = &self.schema {
            return schema.sql().query_one(sql, &[]).unwrap().get(0);
        }
        let tables = Self::sql(&self.path(name), FAR);
        tables.query_row(sql, [], |row| row.get(0)).unwrap()
    }

    /// On the queue.
    pub(crate) fn execute(&self, sql: &str) {
        #[cfg(feature = "ledger-postgres")]
        if let Some(schema) = &self.schema {
            return schema.sql().batch_execute(sql).unwrap();
        }
        let tables = Self::sql(&self.path("queue.db"), FAR);
        tables.execute_batch(sql).unwrap();
    }

    /// Nobody writes at this moment, in the ledger's file or in the queue's. On a server nobody is
    /// kept from writing for long.
    pub(crate) fn is_free(&self) -> bool {
        self.ledger == SERVER
            || LEDGERS.iter().all(|name| {
                let tables = Self::sql(&self.path(name), Duration::ZERO);
                tables.execute_batch("BEGIN IMMEDIATE; ROLLBACK").is_ok()
            })
    }

    /// How many tasks are in hand.
    pub(crate) fn in_hand(&self) -> usize {
        let members = self.ledger().members().unwrap();
        members.iter().map(MemberInfo::in_flight).sum()
    }
}
