//! The order in which stages stop, and what goes on in them meanwhile.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

use crate::common::{FAR, bounded, embedded};
use crate::row;
use winddown::{DrainOutcome, Holder, Outcome, StopReason};

#[test]
fn the_stage_built_last_stops_first_and_each_next_when_it_is_empty() {
    let shutdown = embedded().install().unwrap();
    let (say, said) = mpsc::channel::<(&str, Vec<bool>)>();
    let mut below = Vec::new();
    for name in ["sink", "middle", "source"] {
        let stage = shutdown.stage(name);
        let (say, others) = (say.clone(), below.clone());
        let spawned = stage.spawn(name, move |token| {
            assert_eq!(token.wait(), StopReason::from("now"));
            // As long as this task is here, no stage below it is stopped.
            let stopped = others.iter().map(winddown::StopToken::is_stopped).collect();
            say.send((name, stopped)).unwrap();
        });
        drop(spawned.unwrap());
        below.push(stage.token());
    }
    let end = say.clone();
    shutdown.hook("last", move || end.send(("hook", Vec::new())).unwrap());
    assert!(shutdown.stop("now"));
    let report = bounded(move || shutdown.shutdown());
    let said: Vec<_> = said.try_iter().collect();
    assert_eq!(
        said,
        [
            ("source", vec![false, false]),
            ("middle", vec![false]),
            ("sink", vec![]),
            ("hook", vec![])
        ]
    );
    assert_eq!(report.outcome(), Outcome::Clean, "{report}");
    let names = report
        .drained()
        .iter()
        .map(|row| (row.holder(), row.name()));
    assert_eq!(
        names.collect::<Vec<_>>(),
        [
            (Holder::Stage, "source"),
            (Holder::Task, "source"),
            (Holder::Stage, "middle"),
            (Holder::Task, "middle"),
            (Holder::Stage, "sink"),
            (Holder::Task, "sink"),
        ]
    );
    let mut before = Duration::ZERO;
    for stage in report
        .drained()
        .iter()
        .filter(|row| row.holder() == Holder::Stage)
    {
        assert!(
            stage.started() >= before && stage.took() >= stage.started(),
            "{report}"
        );
        assert_eq!(*stage.outcome(), DrainOutcome::Ended);
        assert!(stage.location().file().ends_with("order.rs"));
        before = stage.took();
    }
    assert_eq!(report.drained()[1].stage(), Some("source"));
}

#[test]
fn a_draining_stage_may_give_work_to_the_one_below() {
    let shutdown = embedded().install().unwrap();
    let sink = shutdown.stage("sink");
    let source = shutdown.stage("source");
    let (commits, done) = mpsc::channel();
    let items = sink.in_flight::<u32>("rows").on_interrupted(|_| ());
    let (below, own) = (sink.clone(), source.clone());
    source
        .spawn("read", move |token| {
            token.wait();
            assert!(own.hold("more").is_err(), "P22: its own intake is closed");
            assert!(own.spawn("more", |_| ()).is_err());
            let written = below.spawn("write", |_| ()).unwrap();
            written.join().unwrap();
            let hold = below.hold("rest").unwrap();
            let item = items.reserve().unwrap().fill(7).unwrap();
            // It outlives its source, in its own stage.
            thread::spawn(move || {
                below.token().wait();
                assert!(items.reserve().is_none(), "P22: now this one is closed too");
                item.complete(|row| commits.send(*row)).unwrap();
                drop(hold);
            });
        })
        .unwrap();
    shutdown.stop("now");
    let report = bounded(move || shutdown.shutdown());
    assert_eq!(report.outcome(), Outcome::Clean, "{report}");
    assert_eq!(done.try_recv(), Ok(7));
    let rest = row(&report, "rest");
    assert_eq!(
        (rest.stage(), rest.outcome()),
        (Some("sink"), &DrainOutcome::Ended)
    );
}

#[test]
fn p4_everything_that_waits_for_a_stage_is_woken() {
    let shutdown = embedded().install().unwrap();
    let stage = shutdown.stage("stage");
    let token = stage.token();
    let above = shutdown.stage("above");
    let hold = above.hold("above").unwrap();
    assert_eq!(token.time_left(), None);
    let (told, tells) = mpsc::channel();
    let registered = token.on_stop(move |reason| told.send(reason.clone()).unwrap());
    let child = token.child();
    let of_child = child.token();
    let waiting = [
        thread::spawn({
            let token = token.clone();
            move || token.wait()
        }),
        thread::spawn(move || of_child.wait()),
        thread::spawn({
            let token = token.clone();
            move || {
                token.receiver().recv().unwrap_err();
                token.reason().unwrap()
            }
        }),
    ];
    shutdown.stop("now");
    // The program's time is running; the stage's turn has not come, and cannot before the hold goes.
    assert!(token.time_left().is_some());
    assert!(!token.is_stopped() && !child.token().is_stopped());
    drop(hold);
    let now = StopReason::from("now");
    for thread in waiting {
        assert_eq!(bounded(move || thread.join().unwrap()), now);
    }
    assert_eq!(tells.recv_timeout(FAR).unwrap(), now);
    assert!(!child.stop("late"));
    drop(registered);
    assert_eq!(
        bounded(move || shutdown.shutdown()).outcome(),
        Outcome::Clean
    );
}

#[test]
fn a_panic_in_a_stage_stops_the_program() {
    let shutdown = embedded().install().unwrap();
    let stage = shutdown.stage("stage");
    stage.spawn("bad", |_| panic!("oh")).map(drop).unwrap();
    let report = bounded(move || shutdown.wait());
    assert!(matches!(report.reason(), StopReason::TaskPanicked { task, .. } if task == "bad"));
    assert_eq!(report.exit_code(), 101);
}

#[test]
fn the_end_of_a_vital_task_of_a_stage_stops_the_program_once() {
    let shutdown = embedded().install().unwrap();
    let below = shutdown.stage("below");
    drop(
        below
            .spawn_vital("writer", |token| drop(token.wait()))
            .unwrap(),
    );
    let stage = shutdown.stage("stage");
    drop(stage.spawn_vital("reader", |_| ()).unwrap());
    let report = bounded(move || shutdown.wait());
    assert!(matches!(report.reason(), StopReason::TaskEnded { task, .. } if task == "reader"));
    assert!(report.later_reasons().is_empty(), "{report}");
}

#[test]
fn p17_waiting_from_inside_a_stage_returns_at_once() {
    let shutdown = Arc::new(embedded().install().unwrap());
    let stage = shutdown.stage("stage");
    let inside = Arc::clone(&shutdown);
    let task = stage.spawn("task", move |token| {
        token.wait();
        assert!(!inside.shutdown().is_final());
    });
    shutdown.stop("now");
    let report = bounded(move || shutdown.shutdown());
    assert_eq!(report.outcome(), Outcome::Clean, "{report}");
    bounded(move || task.unwrap().join()).unwrap();
}

#[test]
fn a_hold_that_goes_before_its_turn_is_reported_with_its_stage() {
    let shutdown = embedded().install().unwrap();
    let sink = shutdown.stage("sink");
    let early = sink.hold("early").unwrap();
    let source = shutdown.stage("source");
    let count = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&count);
    source
        .spawn("read", move |token| {
            token.wait();
            drop(early);
            counted.fetch_add(1, Ordering::Relaxed);
        })
        .unwrap();
    shutdown.stop("now");
    let report = bounded(move || shutdown.shutdown());
    assert_eq!(count.load(Ordering::Relaxed), 1);
    let early = row(&report, "early");
    assert_eq!(early.stage(), Some("sink"));
    assert!(early.took() <= row(&report, "sink").started(), "{report}");
}

#[test]
fn p17_the_report_so_far_says_which_stage_a_row_belongs_to() {
    let shutdown = Arc::new(embedded().install().unwrap());
    let stage = shutdown.stage("stage");
    let gone = stage.hold("gone").unwrap();
    let (tell, told) = mpsc::channel();
    let inside = Arc::clone(&shutdown);
    let task = stage.spawn("task", move |token| {
        token.wait();
        drop(gone);
        // The stage is not empty yet, so it has no row of its own.
        tell.send(inside.wait()).unwrap();
    });
    shutdown.stop("now");
    let so_far = told.recv_timeout(FAR).unwrap();
    task.unwrap().join().unwrap();
    assert_eq!(row(&so_far, "gone").stage(), Some("stage"));
    let _ = bounded(move || shutdown.shutdown());
}
