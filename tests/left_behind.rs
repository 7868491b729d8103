//! P20, P21: who is still here when the time for draining is over, whatever becomes of them while the hooks run.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    missing_docs,
    reason = "tests"
)]

mod common;

use std::sync::{Mutex, mpsc};
use std::thread;

use common::{FAR, SHORT, bounded, hasty};
use winddown::{DrainOutcome, HandBack, NotCompleted, Outcome, ShutdownReport};

/// What became of each, in the order of the report.
fn drained(report: &ShutdownReport) -> Vec<(&str, DrainOutcome)> {
    let rows = report.drained().iter();
    rows.map(|row| (row.name(), row.outcome().clone()))
        .collect()
}

#[test]
fn p21_a_hold_that_ends_beside_the_hooks_is_abandoned() {
    let shutdown = hasty().install().unwrap();
    let hold = shutdown.hold("upload").unwrap();
    shutdown.hook("close the connection", move || drop(hold));
    let report = bounded(move || shutdown.shutdown());
    assert_eq!(drained(&report), [("upload", DrainOutcome::Abandoned)]);
    assert_eq!(report.outcome(), Outcome::Incomplete, "{report}");
}

/// Also where it is a stage's, which is abandoned with it.
#[test]
fn p21_a_task_that_a_hook_brings_to_its_end_is_abandoned_with_its_stage() {
    let shutdown = hasty().install().unwrap();
    let (close, closed) = mpsc::channel::<()>();
    let stage = shutdown.stage("sink");
    let task = stage.spawn("write", move |_| {
        let _ = closed.recv_timeout(FAR);
    });
    let task = Mutex::new(task.ok());
    shutdown.hook("close the file", move || {
        drop(close);
        task.lock().unwrap().take().unwrap().join().unwrap();
    });
    let snapshots = shutdown.handle();
    shutdown.hook("look", move || {
        let rows = snapshots.snapshot();
        assert!(rows.holders().iter().all(|row| row.name() != "sink"));
    });
    let report = bounded(move || shutdown.shutdown());
    assert_eq!(
        drained(&report),
        [
            ("sink", DrainOutcome::Abandoned),
            ("write", DrainOutcome::Abandoned)
        ]
    );
    assert!(
        report
            .hooks()
            .iter()
            .all(|hook| hook.outcome().is_completed()),
        "{report}"
    );
}

/// The hooks may have closed what it would be committed to.
#[test]
fn p20_no_commit_begins_beside_the_hooks() {
    let shutdown = hasty().install().unwrap();
    let jobs = shutdown
        .in_flight("jobs")
        .hand_back(HandBack::WhenStopped)
        .on_interrupted(|_| ());
    let item = Mutex::new(jobs.reserve().unwrap().fill(1));
    let (tell, told) = mpsc::channel();
    let snapshots = shutdown.handle();
    shutdown.hook("close the database", move || {
        // Nobody waits for it any more.
        let rows = snapshots.snapshot();
        assert!(rows.holders().iter().all(|row| row.name() != "jobs"));
        let item = item.lock().unwrap().take().unwrap();
        let committed = item.complete(|_| Err::<(), _>("the database is closed"));
        tell.send(committed).unwrap();
    });
    let report = bounded(move || shutdown.shutdown());
    assert_eq!(told.try_recv().unwrap(), Err(NotCompleted::Undecided));
    assert_eq!(drained(&report), [("jobs", DrainOutcome::Undecided)]);
}

/// P22: what is fetched then is handed back all the same.
#[test]
fn p20_a_place_that_is_never_filled_is_abandoned() {
    let shutdown = hasty().install().unwrap();
    let (tell, told) = mpsc::channel();
    let jobs = shutdown
        .in_flight("jobs")
        .on_interrupted(move |item| tell.send(*item.item()));
    let fetching = jobs.reserve().unwrap();
    let report = bounded(move || shutdown.shutdown());
    assert_eq!(drained(&report), [("jobs", DrainOutcome::Abandoned)]);
    assert_eq!(report.outcome(), Outcome::Incomplete, "{report}");
    assert!(fetching.fill(7).is_none());
    assert_eq!(told.try_recv().unwrap(), 7);
}

/// Whoever is told may end by itself; the hand-backs before it hold all of the slice.
#[test]
fn p20_an_interrupted_item_is_told_before_others_are_handed_back() {
    let shutdown = hasty().install().unwrap();
    let slow = shutdown
        .in_flight("slow")
        .on_interrupted(|_| thread::sleep(SHORT));
    let slow: Vec<_> = (0..60)
        .map(|n| slow.reserve().unwrap().fill(n).unwrap())
        .collect();
    let careful = shutdown
        .in_flight("careful")
        .hand_back(HandBack::WhenStopped)
        .on_interrupted(|_| ());
    let item = careful.reserve().unwrap().fill(1).unwrap();
    let token = item.token();
    let working = thread::spawn(move || {
        token.wait();
        drop(item);
    });
    let report = bounded(move || shutdown.shutdown());
    bounded(move || working.join().unwrap());
    let undecided = drained(&report);
    assert!(!undecided.is_empty(), "the slice was long enough for all");
    assert!(
        undecided.iter().all(|(name, _)| *name == "slow"),
        "{report}"
    );
    drop(slow);
}
