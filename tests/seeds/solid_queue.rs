//! `SolidQueue`'s supervision and recovery, told again: processes that register, beat, and are pruned when they are dead.
//!
//! | there | what it does | here |
//! |---|---|---|
//! | `lib/solid_queue/processes/registrable.rb` | registers, beats, deregisters as the last thing | `Ledger::join`, and the last step of the shutdown |
//! | `app/models/solid_queue/process/prunable.rb` | whoever has not beaten for long is pruned, under a lock that others skip, and its jobs fail with `ProcessPrunedError` | `GivenUp::Pruned`, decided once |
//! | `app/models/solid_queue/process/executor.rb`, `claimed_execution.rb` | who leaves in order gives its claims back | released |
//! | `lib/solid_queue/supervisor/maintenance.rb` | claims without a process fail with `ProcessMissingError` | `GivenUp::Orphaned` |
//! | `test/integration/*processes_lifecycle_test.rb`, `test/unit/process_recovery_test.rb` | what is expected of all that | the tests below |
//!
//! What it had to learn (its pull requests 569, 337, 761, 778): beat through the drain, stop where the own row is gone,
//! decide a claim once, stop where no heartbeat comes through.
//!
//! The processes are those of `examples/queue_worker --ledger`, the signals real. Every wait ends, by what is waited for or by
//! a failure; every child is gone when its test is.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "tests"
)]

#[path = "solid_queue/chaos.rs"]
mod chaos;
#[cfg(feature = "ledger-postgres")]
#[path = "../common/cluster.rs"]
mod cluster;
#[path = "../common/example.rs"]
mod example;
#[path = "../common/process.rs"]
mod process;
#[path = "../common/queue.rs"]
mod queue;

use std::collections::BTreeSet;
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use nix::sys::wait::{Id, WaitPidFlag, waitid};
use winddown::{GivenUp, PreviousRun};

use crate::process::{Process, until};
use crate::queue::{LEDGERS, Place, places};

/// Reaching it fails the test.
pub(crate) const FAR: Duration = Duration::from_secs(60);

/// So long that only a signal ends it.
const HOUR: u32 = 3_600_000;

const NAME: &str = "queue_worker";

/// Its number, when it has begun.
fn begun(worker: &Process) -> i64 {
    let line = worker.err.line("threads");
    let number = line.split([' ', ':']).nth(1).unwrap();
    number.parse().unwrap()
}

fn assert_ends_well(worker: &mut Process) {
    let ended = worker.end();
    assert!(ended.success(), "{ended}\n{}", worker.err.all());
}

/// Stops it, not in the middle of a write: nobody else could write then, as long as it is stopped.
fn stop(place: &Place, worker: &Process) {
    until("it to be stopped between two writes", || {
        worker.signal(Signal::SIGSTOP);
        // All of its threads, and not reaped by this.
        let flags = WaitPidFlag::WSTOPPED | WaitPidFlag::WNOWAIT;
        waitid(Id::Pid(worker.pid()), flags).unwrap();
        let free = place.is_free();
        if !free {
            worker.signal(Signal::SIGCONT);
        }
        free
    });
}

/// What is given up is so since these members were pruned, and there is something of each.
fn assert_pruned(place: &Place, members: &[i64]) {
    let mut pruned_with = BTreeSet::new();
    for failed in &place.ledger().failed().unwrap() {
        if let GivenUp::Pruned { id, .. } = failed.why() {
            pruned_with.insert(*id);
        }
        let pruned = matches!(failed.why(), GivenUp::Pruned { member, id, .. }
            if member == NAME && members.contains(id));
        assert!(pruned, "{failed}");
    }
    assert_eq!(pruned_with, members.iter().copied().collect());
}

#[test]
fn five_terms_are_one() {
    for _ in 0..10 {
        let place = Place::of(LEDGERS[0], 6, 500, 0);
        let mut worker = place.worker(&["--threads", "2"]);
        begun(&worker);
        until("two tasks in hand", || place.in_hand() == 2);
        let first = Instant::now();
        for _ in 0..5 {
            worker.signal(Signal::SIGTERM);
        }
        if first.elapsed() > Duration::from_millis(100) {
            // The machine was busy elsewhere: they may have been too far apart to be one (P7).
            continue;
        }
        assert_ends_well(&mut worker);
        // What was in hand is finished, and no more.
        let open = place.count("SELECT count(*) FROM tasks WHERE state = 'open'");
        assert!((1..=4).contains(&open), "{open}");
        assert_eq!(
            place.count("SELECT count(*) FROM tasks WHERE state = 'done'"),
            6 - open
        );
        assert!(place.ledger().released().unwrap().is_empty());
        place.assert_nobody_is_left();
        assert!(matches!(
            place.ledger().previous_run(NAME).unwrap(),
            PreviousRun::Clean { .. }
        ));
        return;
    }
    panic!("ten times not five signals in a tenth of a second");
}

#[test]
fn a_worker_that_is_killed_alone_takes_only_its_own_jobs_with_it() {
    for ledger in places() {
        let place = Place::of(ledger, 2, HOUR, 0);
        let mut killed = place.worker(&["--max-crashes", "1", "--threads", "2"]);
        let number = begun(&killed);
        until("two tasks in hand", || place.in_hand() == 2);
        place.execute("INSERT INTO tasks (task_ms, poison) VALUES (300, FALSE), (300, FALSE)");
        let mut other = place.worker(&["--max-crashes", "1", "--until-empty"]);
        until("the others in hand", || {
            place.in_hand() == 4 || place.count("SELECT count(*) FROM effects") > 0
        });
        killed.signal(Signal::SIGKILL);
        killed.end();
        assert_ends_well(&mut other);
        place.assert_audit(4, 2, 2, 0);
        assert_pruned(&place, &[number]);
        place.assert_nobody_is_left();
    }
}

#[test]
fn when_all_are_killed_the_next_start_recovers() {
    for ledger in places() {
        for max_crashes in ["1", "2"] {
            let place = Place::of(ledger, 4, HOUR, 0);
            let options = ["--threads", "2", "--max-crashes", max_crashes];
            let mut killed = [(); 2].map(|()| place.worker(&options));
            let numbers = killed.each_ref().map(begun);
            until("four tasks in hand", || place.in_hand() == 4);
            // At once, so that none of them is there to find the other.
            for worker in &killed {
                worker.signal(Signal::SIGSTOP);
            }
            for worker in &mut killed {
                worker.signal(Signal::SIGKILL);
                worker.end();
            }
            place.execute("UPDATE tasks SET task_ms = 1");
            let mut next = place.worker(&["--until-empty", "--max-crashes", max_crashes]);
            assert_ends_well(&mut next);
            let said = next.err.all();
            assert!(
                said.contains("before: killed while running, with 2 in flight"),
                "{said}"
            );
            if max_crashes == "1" {
                place.assert_audit(4, 0, 4, 0);
                assert_pruned(&place, &numbers);
                for key in place.ledger().failed().unwrap() {
                    assert_eq!(key.crashes(), 1, "{key}");
                }
            } else {
                place.assert_audit(4, 4, 0, 0);
                assert_pruned(&place, &[]);
            }
            place.assert_nobody_is_left();
        }
    }
}

#[test]
fn a_claim_whose_owner_never_existed_is_given_up_or_done() {
    for (max_crashes, dead) in [("1", 1), ("2", 0)] {
        let place = Place::of(LEDGERS[0], 2, 1, 0);
        place.ledger();
        place.execute(
            "INSERT INTO winddown_claims (key, state, owner, epoch, crashes, interruptions, failures, since, payload)
             VALUES ('task 1', 'claimed', 4711, 0, 1, 0, 0, 0, 'null')",
        );
        let mut worker = place.worker(&["--until-empty", "--max-crashes", max_crashes]);
        assert_ends_well(&mut worker);
        place.assert_audit(2, 2 - dead, dead, 0);
        let failed = place.ledger().failed().unwrap();
        assert_eq!(failed.len(), dead as usize);
        for failed in failed {
            let orphaned = matches!(failed.why(), GivenUp::Orphaned { owner: 4711, .. });
            assert!(orphaned, "{failed}");
        }
    }
}

/// As its pull request 761: the one that was presumed dead finishes the job after all.
#[test]
fn the_late_write_of_a_stale_owner_changes_nothing() {
    for ledger in places() {
        let takes = Duration::from_secs(3);
        let place = Place::of(ledger, 1, 3000, 0);
        let options = ["--dead-after-ms", "600", "--max-crashes", "2"];
        let mut stale = place.worker(&options);
        begun(&stale);
        let begun = "SELECT count(*) FROM tasks WHERE epoch > 0";
        until("the task in hand", || place.count(begun) == 1);
        let claimed = Instant::now();
        stop(&place, &stale);
        place.execute("UPDATE tasks SET task_ms = 1");
        let mut other = place.worker(&["--until-empty", "--max-crashes", "2"]);
        assert_ends_well(&mut other);
        place.assert_audit(1, 1, 0, 0);
        // Until it is due: the write is the first thing that it does then.
        thread::sleep((takes + Duration::from_millis(100)).saturating_sub(claimed.elapsed()));
        stale.signal(Signal::SIGCONT);
        assert_eq!(stale.end().code(), Some(1), "{}", stale.err.all());
        let said = stale.err.all();
        assert!(said.contains("task 1 was taken away"), "{said}");
        assert!(said.contains("counted as dead"), "{said}");
        place.assert_audit(1, 1, 0, 0);
        assert_eq!(
            place.ledger().previous_run(NAME).unwrap(),
            PreviousRun::Fenced
        );
        place.assert_nobody_is_left();
    }
}

/// Nor is it there before the other has finished: the effect is bound to the epoch of the claim.
#[test]
fn a_stale_owner_does_not_finish_what_another_has_begun() {
    for ledger in places() {
        let takes = Duration::from_secs(3);
        let place = Place::of(ledger, 1, 3000, 0);
        let mut stale = place.worker(&["--dead-after-ms", "600", "--max-crashes", "2"]);
        begun(&stale);
        let epoch = "SELECT epoch FROM tasks";
        until("the task in hand", || place.count(epoch) > 0);
        let (claimed, first) = (Instant::now(), place.count(epoch));
        stop(&place, &stale);
        place.execute(&format!("UPDATE tasks SET task_ms = {HOUR}"));
        let mut other = place.worker(&["--grace-ms", "600"]);
        until("the task in other hands", || place.count(epoch) > first);
        thread::sleep((takes + Duration::from_millis(100)).saturating_sub(claimed.elapsed()));
        stale.signal(Signal::SIGCONT);
        assert_eq!(stale.end().code(), Some(1), "{}", stale.err.all());
        place.assert_audit(1, 0, 0, 1);
        assert_eq!(place.in_hand(), 1);
        other.signal(Signal::SIGTERM);
        assert_ends_well(&mut other);
        assert_eq!(place.ledger().released().unwrap(), ["task 1"]);
        place.assert_nobody_is_left();
    }
}

/// As its pull request 337.
#[test]
fn a_worker_whose_row_is_deleted_stops_itself() {
    let place = Place::of(LEDGERS[0], 1, HOUR, 0);
    let mut worker = place.worker(&["--grace-ms", "600"]);
    let number = begun(&worker);
    until("the task in hand", || place.in_hand() == 1);
    place.execute(&format!("DELETE FROM winddown_members WHERE id = {number}"));
    assert_eq!(worker.end().code(), Some(1), "{}", worker.err.all());
    let said = worker.err.all();
    assert!(said.contains("counted as dead"), "{said}");
    assert_eq!(
        place.ledger().previous_run(NAME).unwrap(),
        PreviousRun::Fenced
    );
    place.execute("UPDATE tasks SET task_ms = 1");
    let mut next = place.worker(&["--until-empty"]);
    assert_ends_well(&mut next);
    place.assert_audit(1, 1, 0, 0);
    place.assert_nobody_is_left();
}

/// As its issue 568: there the heartbeat stopped before the drain was over.
#[test]
fn a_drain_of_five_heartbeats_is_not_declared_dead() {
    let place = Place::of(LEDGERS[0], 1, 3000, 0);
    let options = [
        "--heartbeat-ms",
        "200",
        "--dead-after-ms",
        "1000",
        "--max-crashes",
        "1",
    ];
    let mut draining = place.worker(&options);
    let number = begun(&draining);
    until("the task in hand", || place.in_hand() == 1);
    let watching = place.worker(&["--max-crashes", "1"]);
    begun(&watching);
    let ledger = place.ledger();
    draining.signal(Signal::SIGTERM);
    let mut beats = BTreeSet::new();
    until("five heartbeats of the drain", || {
        let members = ledger.members().unwrap();
        if let Some(member) = members.iter().find(|member| member.id() == number) {
            if member.phase() == "draining" {
                beats.insert(member.last_heartbeat());
            }
        }
        beats.len() >= 5 || draining.ended().is_some()
    });
    assert!(beats.len() >= 5, "{beats:?}");
    assert_ends_well(&mut draining);
    place.assert_audit(1, 1, 0, 0);
    assert_pruned(&place, &[]);
}

#[test]
fn who_leaves_in_order_has_finished_its_claims_or_released_them() {
    for ledger in places() {
        let all = (0..20).any(|_| leaves_in_order(ledger));
        assert!(all, "the stop never came while all were at work");
    }
}

/// False: the stop came before each thread had begun with what it had claimed, or after one had
/// finished.
fn leaves_in_order(ledger: &'static str) -> bool {
    let place = Place::of(ledger, 4, 600, 0);
    place.execute(&format!("UPDATE tasks SET task_ms = {HOUR} WHERE id > 2"));
    let mut worker = place.worker(&["--grace-ms", "3000", "--max-crashes", "1"]);
    begun(&worker);
    let done = || place.count("SELECT count(*) FROM tasks WHERE state = 'done'");
    let mut all = false;
    until("four tasks in hand, or one done", || {
        all = place.in_hand() == 4;
        all || done() > 0
    });
    let began = all && done() == 0;
    worker.signal(Signal::SIGTERM);
    assert_ends_well(&mut worker);
    if !all {
        // On a busy machine the first is done before the last is claimed.
        return false;
    }
    let mut released = place.ledger().released().unwrap();
    released.sort();
    let open = u32::try_from(released.len()).unwrap();
    place.assert_audit(4, 4 - open, 0, open);
    assert!(released.ends_with(&["task 3".to_owned(), "task 4".to_owned()]));
    place.assert_nobody_is_left();
    // No crash, and an interruption each.
    let counts =
        "SELECT CAST(sum(crashes) * 100 + sum(interruptions) AS BIGINT) FROM winddown_claims";
    assert_eq!(place.count_claims(counts), i64::from(open));
    place.execute("UPDATE tasks SET task_ms = 1");
    assert_ends_well(&mut place.worker(&["--until-empty", "--max-crashes", "1"]));
    place.assert_audit(4, 4, 0, 0);
    open == 2 && began
}

/// Its immediate shutdown: a second request, later. What was in hand is found as after a crash.
#[test]
fn who_is_forced_is_known_from_who_was_killed_and_recovered_alike() {
    let place = Place::of(LEDGERS[0], 1, HOUR, 0);
    let forced = (0..20).any(|_| {
        let mut worker = place.worker(&["--max-crashes", "2"]);
        begun(&worker);
        until("the task in hand", || place.in_hand() == 1);
        let ended = worker.end_by(FAR, |worker| worker.signal(Signal::SIGTERM));
        // A claim is seen a moment before its work has begun. Where the request falls in between, the
        // task is handed back, and there is nothing to force.
        let too_early = ended.code() == Some(0);
        assert!(too_early || ended.code() == Some(128 + 15), "{ended}");
        !too_early
    });
    assert!(forced, "the work never began");
    assert!(matches!(
        place.ledger().previous_run(NAME).unwrap(),
        PreviousRun::Forced { in_flight: 1, .. }
    ));
    // It is claimed twice: to see that it is a suspect, and, alone, to be begun.
    let begun_before = place.count("SELECT epoch FROM tasks");
    let mut killed = place.worker(&["--max-crashes", "2"]);
    let number = begun(&killed);
    until("the task in hand again", || {
        place.count("SELECT epoch FROM tasks") > begun_before
    });
    killed.signal(Signal::SIGKILL);
    killed.end();
    // The second crash is the last.
    assert_ends_well(&mut place.worker(&["--until-empty"]));
    place.assert_audit(1, 0, 1, 0);
    assert_pruned(&place, &[number]);
}

#[test]
fn what_a_killed_process_held_is_decided_once_whoever_looks() {
    for ledger in places() {
        let place = Place::of(ledger, 3, HOUR, 0);
        let mut killed = place.worker(&["--max-crashes", "1"]);
        let number = begun(&killed);
        until("three tasks in hand", || place.in_hand() == 3);
        let mut survivors = [(); 3].map(|()| place.worker(&["--until-empty"]));
        for survivor in &survivors {
            begun(survivor);
        }
        killed.signal(Signal::SIGKILL);
        killed.end();
        for survivor in &mut survivors {
            assert_ends_well(survivor);
        }
        place.assert_audit(3, 0, 3, 0);
        assert_pruned(&place, &[number]);
        let failed = place.ledger().failed().unwrap();
        assert!(
            failed.iter().all(|failed| failed.crashes() == 1),
            "{failed:?}"
        );
        // Nor has anybody told it twice.
        let told: usize = survivors
            .iter()
            .map(|survivor| survivor.err.all().matches("given up").count())
            .sum();
        assert_eq!(told, 3);
    }
}
