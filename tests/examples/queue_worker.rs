//! The queue worker with its claims in a ledger. Without one: `tests/seeds/huey.rs`.

use std::os::unix::process::ExitStatusExt;
use std::process::Stdio;

use nix::sys::signal::Signal;
use rusqlite::Connection;
use tempfile::TempDir;
use winddown::{Cause, Ledger};

use crate::FAR;
use crate::example;
use crate::process::{Process, until};

/// A queue, and a ledger in its file or in one beside it.
struct Place {
    directory: TempDir,
    ledger: &'static str,
}

/// The two of them.
const LEDGERS: [&str; 2] = ["queue.db", "ledger.db"];

impl Place {
    fn of(ledger: &'static str, count: u32, task_ms: u32, poison: u32) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let place = Self { directory, ledger };
        let [count, task_ms, poison] = [count, task_ms, poison].map(|number| number.to_string());
        let options = [
            "--enqueue",
            &*count,
            "--task-ms",
            &*task_ms,
            "--poison",
            &*poison,
        ];
        let mut enqueue = place.start(&options);
        assert!(enqueue.end().success(), "{}", enqueue.err.all());
        place
    }

    fn path(&self, name: &str) -> String {
        let path = self.directory.path().join(name);
        path.to_str().unwrap().to_owned()
    }

    fn start(&self, options: &[&str]) -> Process {
        let mut command = example::command("queue_worker", &[&self.path("queue.db")]);
        command
            .args(options)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        Process::start(command)
    }

    /// A worker of this ledger.
    fn worker(&self, options: &[&str]) -> Process {
        let ledger = self.path(self.ledger);
        let quick = ["--ledger", &ledger, "--heartbeat-ms", "50"];
        self.start(&[&quick, options].concat())
    }

    fn ledger(&self) -> Ledger {
        Ledger::open(self.path(self.ledger)).unwrap()
    }

    fn sql(&self) -> Connection {
        let tables = Connection::open(self.path("queue.db")).unwrap();
        tables.busy_timeout(FAR).unwrap();
        tables
    }

    fn assert_audit(&self, enqueued: u32, done: u32, dead: u32, open: u32) {
        let mut audit = self.start(&["--audit"]);
        assert!(audit.end().success(), "{}", audit.err.all());
        assert_eq!(
            audit.out.last_line(),
            format!(
                r#"{{"enqueued":{enqueued},"done":{done},"doubled":0,"lost":0,"dead":{dead},"open":{open}}}"#
            )
        );
    }

    fn assert_nobody_is_left(&self) {
        let members = self.ledger().members().unwrap();
        assert!(members.is_empty(), "{members:?}");
    }
}

#[test]
fn tasks_that_are_claimed_in_a_ledger_are_done_once() {
    for ledger in LEDGERS {
        let place = Place::of(ledger, 60, 1, 0);
        let mut workers = [(); 2].map(|()| place.worker(&["--until-empty"]));
        for worker in &mut workers {
            assert!(worker.end().success(), "{}", worker.err.all());
        }
        place.assert_audit(60, 60, 0, 0);
        place.assert_nobody_is_left();
        let left = place.ledger().released().unwrap();
        assert!(left.is_empty(), "{left:?}");
    }
}

#[test]
fn a_poison_task_is_dead_after_so_many_crashes() {
    for ledger in LEDGERS {
        let place = Place::of(ledger, 20, 1, 1);
        let mut crashes = 0;
        loop {
            let mut worker = place.worker(&["--until-empty", "--max-crashes", "2"]);
            let ended = worker.end();
            if ended.success() {
                break;
            }
            assert_eq!(ended.signal(), Some(6), "{ended}\n{}", worker.err.all());
            crashes += 1;
            assert!(crashes <= 2, "it goes round for ever");
        }
        assert_eq!(crashes, 2);
        // Those that were in hand with it have been done alone.
        place.assert_audit(20, 19, 1, 0);
        let wrong = "SELECT count(*) FROM tasks WHERE poison <> (state = 'dead')";
        let wrong: u32 = place.sql().query_row(wrong, [], |row| row.get(0)).unwrap();
        assert_eq!(wrong, 0);
        let failed = place.ledger().failed().unwrap();
        assert_eq!(failed.len(), 1, "{failed:?}");
        assert!(
            matches!(failed[0].cause(), Cause::Pruned { member, .. } if member == "queue_worker"),
            "{failed:?}"
        );
        place.assert_nobody_is_left();
    }
}

#[test]
fn a_killed_worker_is_noticed_by_the_others_at_once() {
    for ledger in LEDGERS {
        let place = Place::of(ledger, 4, 3_600_000, 0);
        let mut killed = place.worker(&[]);
        let ledger = place.ledger();
        let in_hand = || {
            let members = ledger.members().unwrap();
            members
                .iter()
                .map(winddown::MemberInfo::in_flight)
                .sum::<usize>()
        };
        until("four tasks in hand", || in_hand() == 4);
        place
            .sql()
            .execute("UPDATE tasks SET task_ms = 1", [])
            .unwrap();
        let mut other = place.worker(&["--until-empty"]);
        other.err.line("threads");
        killed.signal(Signal::SIGKILL);
        killed.end();
        assert!(other.end().success(), "{}", other.err.all());
        place.assert_audit(4, 4, 0, 0);
        place.assert_nobody_is_left();
    }
}

/// Killed between the effect and the verdict, with the ledger elsewhere: the effect stands, and the claim goes.
#[test]
fn a_claim_of_a_task_that_is_done_is_settled() {
    let place = Place::of("ledger.db", 2, 1, 0);
    let mut worker = place.worker(&["--until-empty"]);
    assert!(worker.end().success(), "{}", worker.err.all());
    let ledger = rusqlite::Connection::open(place.path("ledger.db")).unwrap();
    for (key, state) in [("task 1", "failed"), ("task 2", "open")] {
        let sql = "INSERT INTO winddown_claims (key, state, epoch, crashes, interruptions, failures, since, \
                   payload) VALUES (?1, ?2, 1, 1, 0, 0, 0, 'null')";
        ledger.execute(sql, [key, state]).unwrap();
    }
    let mut worker = place.worker(&["--until-empty"]);
    assert!(worker.end().success(), "{}", worker.err.all());
    place.assert_audit(2, 2, 0, 0);
    let left = "SELECT count(*) FROM winddown_claims";
    let left: u32 = ledger.query_row(left, [], |row| row.get(0)).unwrap();
    assert_eq!(left, 0);
}
