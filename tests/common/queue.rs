//! A queue, its ledger, and the workers of `examples/queue_worker` on them.
#![allow(dead_code, reason = "each test binary uses its own part")]

use std::process::Stdio;

use rusqlite::Connection;
use tempfile::TempDir;
use winddown::{Ledger, MemberInfo};

use crate::FAR;
use crate::example;
use crate::process::Process;

/// A queue, and a ledger in its file or in one beside it.
pub(crate) struct Place {
    pub(crate) directory: TempDir,
    ledger: &'static str,
}

/// The two of them.
pub(crate) const LEDGERS: [&str; 2] = ["queue.db", "ledger.db"];

impl Place {
    pub(crate) fn of(ledger: &'static str, count: u32, task_ms: u32, poison: u32) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let place = Self { directory, ledger };
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

    pub(crate) fn start(&self, options: &[&str]) -> Process {
        let mut command = example::command("queue_worker", &[&self.path("queue.db")]);
        command
            .args(options)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        Process::start(command)
    }

    /// A worker of this ledger.
    pub(crate) fn worker(&self, options: &[&str]) -> Process {
        let ledger = self.path(self.ledger);
        let mut all = vec!["--ledger", &ledger];
        if !options.contains(&"--heartbeat-ms") {
            all.extend(["--heartbeat-ms", "50"]);
        }
        self.start(&[&all, options].concat())
    }

    pub(crate) fn ledger(&self) -> Ledger {
        Ledger::open(self.path(self.ledger)).unwrap()
    }

    pub(crate) fn sql(&self) -> Connection {
        let tables = Connection::open(self.path("queue.db")).unwrap();
        tables.busy_timeout(FAR).unwrap();
        tables
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

    /// One number out of the queue's file.
    pub(crate) fn count(&self, sql: &str) -> i64 {
        self.sql().query_row(sql, [], |row| row.get(0)).unwrap()
    }

    pub(crate) fn execute(&self, sql: &str) {
        self.sql().execute_batch(sql).unwrap();
    }

    /// Nobody writes at this moment, in the ledger's file or in the queue's.
    pub(crate) fn is_free(&self) -> bool {
        LEDGERS.iter().all(|name| {
            let tables = Connection::open(self.path(name)).unwrap();
            tables.busy_timeout(std::time::Duration::ZERO).unwrap();
            tables.execute_batch("BEGIN IMMEDIATE; ROLLBACK").is_ok()
        })
    }

    /// How many tasks are in hand.
    pub(crate) fn in_hand(&self) -> usize {
        let members = self.ledger().members().unwrap();
        members.iter().map(MemberInfo::in_flight).sum()
    }
}
