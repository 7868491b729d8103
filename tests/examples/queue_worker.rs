//! The queue worker with its claims in a ledger. Without one: `tests/seeds/huey.rs`.

use std::os::unix::process::ExitStatusExt;

use nix::sys::signal::Signal;
use winddown::GivenUp;

use crate::process::until;
use crate::queue::{Place, places};

#[test]
fn tasks_that_are_claimed_in_a_ledger_are_done_once() {
    for ledger in places() {
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
    for ledger in places() {
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
        assert_eq!(place.count(wrong), 0);
        let failed = place.ledger().failed().unwrap();
        assert_eq!(failed.len(), 1, "{failed:?}");
        assert!(
            matches!(failed[0].why(), GivenUp::Pruned { member, .. } if member == "queue_worker"),
            "{failed:?}"
        );
        place.assert_nobody_is_left();
    }
}

#[test]
fn a_killed_worker_is_noticed_by_the_others_at_once() {
    for ledger in places() {
        let place = Place::of(ledger, 4, 3_600_000, 0);
        let mut killed = place.worker(&[]);
        until("four tasks in hand", || place.in_hand() == 4);
        place.execute("UPDATE tasks SET task_ms = 1");
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
