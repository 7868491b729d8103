//! P21 and P22: holds and tasks.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    missing_docs,
    reason = "tests"
)]

mod common;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

use common::{FAR, SHORT, bounded, embedded, rounds};
use winddown::{DrainOutcome, Outcome, Phase, SpawnError, StopReason, Stopped};

#[test]
fn p21_hooks_run_only_after_the_last_hold_has_gone() {
    let shutdown = embedded().install().unwrap();
    let hold = shutdown.hold("work").unwrap();
    let (called, calls) = mpsc::channel();
    shutdown.hook("close", move || called.send(()).unwrap());
    let handle = shutdown.handle();
    let ending = thread::spawn(move || shutdown.shutdown());
    handle.token().wait();
    // A clone covers sub-work that begins while draining.
    let sub = hold.clone();
    drop(hold);
    assert_eq!(handle.phase(), Phase::Draining);
    assert!(
        calls.try_recv().is_err(),
        "the drain was over with a hold alive"
    );
    drop(sub);
    calls.recv_timeout(FAR).unwrap();
    let report = bounded(move || ending.join().unwrap());
    assert_eq!(report.outcome(), Outcome::Clean);
    let [drained] = report.drained() else {
        panic!("{report}")
    };
    assert_eq!(drained.name(), "work");
    assert_eq!(*drained.outcome(), DrainOutcome::Ended);
    assert!(drained.location().file().ends_with("work.rs"));
}

#[test]
fn p21_the_drain_waits_for_the_owner() {
    let shutdown = embedded().install().unwrap();
    let (called, calls) = mpsc::channel();
    shutdown.hook("close", move || called.send(()).unwrap());
    let (told, tells) = mpsc::channel();
    let registered = shutdown.token().on_stop(move |_| told.send(()).unwrap());
    shutdown.stop("now");
    // The runner is at work, and the owner is still in its own loop.
    tells.recv_timeout(FAR).unwrap();
    assert_eq!(shutdown.phase(), Phase::Draining);
    assert!(calls.try_recv().is_err());
    let _ = shutdown.wait();
    assert!(calls.try_recv().is_ok());
    drop(registered);
}

#[test]
fn p21_a_hold_that_stays_is_abandoned_when_the_drain_s_time_is_over() {
    let shutdown = embedded()
        .grace_period(SHORT * 6)
        .cleanup_reserve(SHORT * 4)
        .install()
        .unwrap();
    let hold = shutdown.hold("stuck").unwrap();
    shutdown.hook("close", || ());
    let report = bounded(move || shutdown.shutdown());
    assert_eq!(*report.drained()[0].outcome(), DrainOutcome::Abandoned);
    assert!(report.drained()[0].took() >= SHORT * 2);
    assert!(report.hooks()[0].outcome().is_completed(), "{report}");
    assert_eq!(report.outcome(), Outcome::Incomplete);
    assert_eq!(
        report
            .abandoned()
            .next()
            .unwrap()
            .to_string()
            .split(" (")
            .next(),
        Some("hold stuck")
    );
    drop(hold);
}

#[test]
fn p22_nothing_is_admitted_after_the_stop() {
    let shutdown = embedded().install().unwrap();
    let ran = Arc::new(AtomicUsize::new(0));
    shutdown.stop("now");
    assert!(shutdown.hold("late").is_err());
    let counted = Arc::clone(&ran);
    let refused = shutdown.spawn("late", move |_| {
        counted.fetch_add(1, Ordering::SeqCst);
    });
    assert!(
        matches!(refused.unwrap_err(), SpawnError::IntakeClosed { task, .. } if task == "late")
    );
    let report = shutdown.wait();
    assert!(report.drained().is_empty());
    assert_eq!(ran.load(Ordering::SeqCst), 0);
    assert_eq!(Arc::strong_count(&ran), 1, "its closure is gone");
}

#[test]
fn p21_p22_a_hold_is_either_refused_or_waited_for() {
    for _ in 0..rounds(1_000) {
        let shutdown = embedded().install().unwrap();
        let handle = shutdown.handle();
        let alive = Arc::new(AtomicUsize::new(0));
        let seen = Arc::clone(&alive);
        let (checked, checks) = mpsc::channel();
        shutdown.hook("look", move || {
            checked.send(seen.load(Ordering::SeqCst)).unwrap();
        });
        let working = thread::spawn(move || {
            let mut admitted = 0;
            while let Ok(hold) = handle.hold("work") {
                alive.fetch_add(1, Ordering::SeqCst);
                admitted += 1;
                alive.fetch_sub(1, Ordering::SeqCst);
                drop(hold);
            }
            admitted
        });
        let _ = shutdown.shutdown();
        assert_eq!(
            checks.recv_timeout(FAR).unwrap(),
            0,
            "a hook ran beside admitted work"
        );
        working.join().unwrap();
    }
}

#[test]
fn a_task_is_waited_for_and_joined() {
    let shutdown = embedded().install().unwrap();
    let task = shutdown
        .spawn("counts", |token| {
            token.wait();
            Ok::<_, Stopped>(42)
        })
        .unwrap();
    assert_eq!(task.name(), "counts");
    assert!(!task.is_finished());
    shutdown.stop("now");
    let task = bounded(move || {
        while !task.is_finished() {
            thread::yield_now();
        }
        task
    });
    assert_eq!(task.join().unwrap().unwrap(), 42);
    let report = shutdown.wait();
    assert_eq!(report.outcome(), Outcome::Clean);
    assert_eq!(report.drained()[0].name(), "counts");
}

#[test]
fn a_task_that_fails_stops_the_program() {
    let shutdown = embedded().install().unwrap();
    let task = shutdown
        .spawn("fails", |_| Err::<(), _>("disk full"))
        .unwrap();
    let report = bounded(move || shutdown.wait());
    assert_eq!(report.reason().to_string(), "task fails failed: disk full");
    assert!(matches!(report.reason(), StopReason::TaskFailed { .. }));
    assert_eq!(report.exit_code(), 1);
    assert_eq!(task.join().unwrap(), Err("disk full"));
}

#[test]
fn a_task_that_panics_stops_the_program() {
    let shutdown = embedded().install().unwrap();
    let task = shutdown
        .spawn("panics", |_| -> () { panic!("on purpose") })
        .unwrap();
    let report = bounded(move || shutdown.wait());
    assert_eq!(
        report.reason().to_string(),
        "task panics panicked: on purpose"
    );
    assert_eq!(report.exit_code(), 101);
    assert_eq!(task.join().unwrap_err().message, "on purpose");
}

#[test]
fn a_task_that_ends_with_stopped_has_not_failed() {
    let shutdown = embedded().install().unwrap();
    let task = shutdown
        .spawn("sleeps", |token| token.sleep(Duration::MAX))
        .unwrap();
    shutdown.stop("now");
    let report = bounded(move || shutdown.wait());
    assert_eq!(report.exit_code(), 0, "{report}");
    assert_eq!(report.outcome(), Outcome::Clean);
    assert!(task.join().unwrap().is_err());
}

#[test]
fn an_ordinary_task_may_end_and_a_vital_one_may_not() {
    let shutdown = embedded().install().unwrap();
    shutdown.spawn("ordinary", |_| ()).unwrap().join().unwrap();
    assert_eq!(shutdown.phase(), Phase::Running);
    let task = shutdown.spawn_vital("vital", |_| ()).unwrap();
    let report = bounded(move || shutdown.wait());
    assert_eq!(report.reason().to_string(), "task vital ended");
    assert_eq!(report.exit_code(), 0);
    task.join().unwrap();
}

#[test]
fn that_every_vital_task_ends_at_the_stop_is_no_news() {
    let shutdown = embedded().install().unwrap();
    let task = shutdown
        .spawn_vital("vital", |token| token.wait_timeout(FAR).map_or((), drop))
        .unwrap();
    shutdown.stop("now");
    let report = shutdown.wait();
    assert!(report.later_reasons().is_empty(), "{report}");
    drop(task);
}

#[test]
fn only_what_is_still_there_is_left_behind() {
    let shutdown = embedded().grace_period(SHORT).install().unwrap();
    let (gone, stays) = (
        shutdown.hold("gone").unwrap(),
        shutdown.hold("stays").unwrap(),
    );
    drop(gone);
    let report = bounded(move || shutdown.shutdown());
    let rows = report.drained().iter();
    let rows: Vec<_> = rows.map(|row| (row.name(), row.outcome())).collect();
    assert_eq!(rows, [("stays", &DrainOutcome::Abandoned)]);
    drop(stays);
}

#[test]
fn p23_holds_and_tasks_that_come_and_go_are_not_in_the_report() {
    let shutdown = embedded().install().unwrap();
    for _ in 0..100_000 {
        drop(shutdown.hold("short").unwrap());
    }
    for _ in 0..20 {
        shutdown.spawn("short", |_| ()).unwrap().join().unwrap();
    }
    let report = shutdown.shutdown();
    assert!(
        report.drained().len() <= 1,
        "only a task on its way out: {report}"
    );
}

#[test]
fn p21_hooks_wait_for_an_owner_that_is_away_until_its_share_is_over() {
    let shutdown = embedded()
        .grace_period(SHORT * 6)
        .cleanup_reserve(SHORT * 4)
        .install()
        .unwrap();
    let (called, calls) = mpsc::channel();
    shutdown.hook("close", move || called.send(()).unwrap());
    let stop = std::time::Instant::now();
    shutdown.stop("now");
    calls.recv_timeout(FAR).unwrap();
    assert!(
        stop.elapsed() >= SHORT * 2,
        "called under an owner that still had time"
    );
    let report = bounded(move || shutdown.wait());
    assert_eq!(report.outcome(), Outcome::TimedOut);
}

// In the next two, what is under way takes a while, so that a hook that did not wait for it would come first.

#[test]
fn p21_hooks_come_after_on_stop() {
    let shutdown = embedded().install().unwrap();
    let (log, logged) = mpsc::channel();
    let (_keep, never) = mpsc::channel::<()>();
    let told = log.clone();
    let registered = shutdown.token().on_stop(move |_| {
        let _ = never.recv_timeout(SHORT * 2);
        told.send("told").unwrap();
    });
    shutdown.hook("close", move || log.send("close").unwrap());
    let report = bounded(move || shutdown.shutdown());
    drop(registered);
    assert_eq!(
        logged.try_iter().collect::<Vec<_>>(),
        ["told", "close"],
        "{report}"
    );
}

#[test]
fn p21_hooks_come_after_a_commit_that_is_under_way() {
    let shutdown = embedded().install().unwrap();
    let (log, logged) = mpsc::channel();
    let closed = log.clone();
    shutdown.hook("close", move || closed.send("close").unwrap());
    let jobs = shutdown
        .in_flight("jobs")
        .on_interrupted(|_: winddown::Interrupted<()>| ());
    let item = jobs.reserve().unwrap().fill(()).unwrap();
    let token = shutdown.token();
    let working = thread::spawn(move || {
        token.wait();
        let (_keep, never) = mpsc::channel::<()>();
        let _ = never.recv_timeout(SHORT * 2);
        item.complete(|()| log.send("commit")).unwrap();
    });
    let report = bounded(move || shutdown.shutdown());
    working.join().unwrap();
    assert_eq!(
        logged.try_iter().collect::<Vec<_>>(),
        ["commit", "close"],
        "{report}"
    );
    assert_eq!(report.handed_back(), 0);
}

#[test]
fn a_task_that_failed_before_the_stop_makes_the_report_incomplete() {
    let shutdown = embedded().install().unwrap();
    let task = shutdown
        .spawn("reader", |_| Err::<(), _>("no disk"))
        .unwrap();
    let report = bounded(move || shutdown.wait());
    drop(task);
    assert_eq!(report.outcome(), Outcome::Incomplete, "{report}");
    assert_eq!(report.exit_code(), 1);
    assert!(
        report.to_string().contains("task reader failed: no disk"),
        "{report}"
    );
}
