//! Stages: built last, stopped first, each in its turn.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    missing_docs,
    reason = "tests"
)]

mod common;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Barrier, mpsc};
use std::thread;
use std::time::Duration;

use common::{FAR, SHORT, bounded, embedded};
use winddown::{DrainOutcome, DrainReport, Holder, Outcome, ShutdownReport, Stage, StopReason};

#[track_caller]
fn row<'a>(report: &'a ShutdownReport, name: &str) -> &'a DrainReport {
    let mut rows = report.drained().iter();
    rows.find(|row| row.name() == name)
        .unwrap_or_else(|| panic!("no {name} in\n{report}"))
}

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
        assert!(stage.location().file().ends_with("stages.rs"));
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
fn a_hung_stage_does_not_take_the_time_of_the_others() {
    let shutdown = embedded()
        .grace_period(Duration::from_secs(3))
        .cleanup_reserve(Duration::from_secs(1))
        .install()
        .unwrap();
    let sink = shutdown.stage("sink");
    let (stopped, stops) = mpsc::channel();
    sink.spawn("write", move |token| {
        token.wait();
        stopped.send(token.time_left().unwrap()).unwrap();
    })
    .unwrap();
    let source = shutdown.stage("source");
    let hung = source.hold("hung").unwrap();
    shutdown.stop("now");
    let report = bounded(move || shutdown.shutdown());
    drop(hung);
    // Of 2 s for draining the source may use one; the sink then stops, with the other left.
    let left = stops.try_recv().unwrap();
    assert!(
        left > Duration::from_secs(1),
        "only {left:?} left:\n{report}"
    );
    assert!(
        row(&report, "sink").started() >= Duration::from_secs(1),
        "{report}"
    );
    assert_eq!(*row(&report, "write").outcome(), DrainOutcome::Ended);
    assert_eq!(*row(&report, "sink").outcome(), DrainOutcome::Ended);
    assert_eq!(*row(&report, "source").outcome(), DrainOutcome::Abandoned);
    assert_eq!(*row(&report, "hung").outcome(), DrainOutcome::Abandoned);
    assert_eq!(report.outcome(), Outcome::Incomplete);
}

#[test]
fn p21_what_is_out_of_its_share_is_still_waited_for() {
    let shutdown = embedded()
        .grace_period(FAR)
        .cleanup_reserve(Duration::ZERO)
        .install()
        .unwrap();
    // Each share of so many is far below the time that the hold takes to go.
    let stages: Vec<_> = (0..2_000).map(|n| shutdown.stage(format!("{n}"))).collect();
    let slow = stages.last().unwrap().hold("slow").unwrap();
    let first = stages[0].token();
    let release = thread::spawn(move || {
        first.wait();
        thread::sleep(SHORT);
        drop(slow);
    });
    shutdown.stop("now");
    let report = bounded(move || shutdown.shutdown());
    release.join().unwrap();
    assert_eq!(report.outcome(), Outcome::Clean, "{report}");
    assert_eq!(*row(&report, "slow").outcome(), DrainOutcome::Ended);
}

#[test]
fn beyond_its_timeout_nobody_waits_for_a_stage_and_its_items_are_handed_back() {
    let shutdown = embedded().install().unwrap();
    let stage = shutdown.stage("slow").timeout(SHORT);
    let hung = stage.hold("hung").unwrap();
    let (back, handed_back) = mpsc::channel();
    let items = stage
        .in_flight("jobs")
        .on_interrupted(move |item| back.send(item.into_item()).unwrap());
    let item = items.reserve().unwrap().fill("job").unwrap();
    shutdown.stop("now");
    let report = bounded(move || shutdown.shutdown());
    assert!(report.took() >= SHORT, "{report}");
    assert!(report.took() < FAR / 4, "it was waited for:\n{report}");
    assert_eq!(handed_back.try_recv(), Ok("job"));
    assert_eq!(report.handed_back(), 1);
    assert_eq!(*row(&report, "hung").outcome(), DrainOutcome::Abandoned);
    assert!(item.complete(|_| Ok::<_, ()>(())).is_err());
    drop(hung);
}

#[test]
fn an_empty_system_of_many_stages_stops_at_once() {
    let shutdown = embedded().install().unwrap();
    let stages: Vec<_> = (0..100)
        .map(|n| shutdown.stage(format!("stage {n}")))
        .collect();
    shutdown.stop("now");
    let report = bounded(move || shutdown.shutdown());
    assert!(report.took() < Duration::from_millis(50), "{report}");
    assert!(stages.iter().all(|stage| stage.token().is_stopped()));
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
fn a_stage_built_after_the_stop_is_born_stopped() {
    let shutdown = embedded().install().unwrap();
    shutdown.stop("now");
    let handle = shutdown.handle();
    let report = bounded(move || shutdown.shutdown());
    assert!(report.is_final());
    let late = handle.stage("late");
    assert_eq!(late.token().reason(), Some(StopReason::from("now")));
    assert!(late.hold("hold").is_err());
    assert!(late.spawn("task", |_| ()).is_err());
    assert!(
        late.in_flight::<()>("items")
            .on_interrupted(|_| ())
            .reserve()
            .is_none()
    );
}

#[test]
fn every_stage_built_around_the_stop_is_stopped() {
    for _ in 0..200 {
        let shutdown = embedded().install().unwrap();
        let start = Arc::new(Barrier::new(2));
        let (handle, go) = (shutdown.handle(), Arc::clone(&start));
        let building = thread::spawn(move || {
            go.wait();
            let stages = (0..20).map(|_| handle.stage("stage"));
            stages.map(|stage| stage.token()).collect::<Vec<_>>()
        });
        start.wait();
        shutdown.stop("now");
        let report = bounded(move || shutdown.shutdown());
        assert_eq!(report.outcome(), Outcome::Clean, "{report}");
        for token in building.join().unwrap() {
            assert_eq!(bounded(move || token.wait()), StopReason::from("now"));
        }
    }
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
fn a_hung_on_stop_of_a_stage_keeps_the_next_one_no_longer_than_its_share() {
    let shutdown = embedded()
        .grace_period(Duration::from_secs(2))
        .cleanup_reserve(Duration::from_secs(1))
        .install()
        .unwrap();
    let sink = shutdown.stage("sink").token();
    let source = shutdown.stage("source").token();
    let (release, hung) = mpsc::channel::<()>();
    source.on_stop(move |_| hung.recv().unwrap_or(())).detach();
    shutdown.stop("now");
    let report = bounded(move || shutdown.shutdown());
    assert!(sink.is_stopped());
    assert!(
        row(&report, "sink").started() >= Duration::from_millis(500),
        "{report}"
    );
    assert_eq!(
        *row(&report, "on_stop closures").outcome(),
        DrainOutcome::Abandoned
    );
    drop(release);
}

#[test]
fn p23_stages_that_have_gone_leave_nothing_behind_but_their_tokens_stop() {
    let shutdown = embedded().install().unwrap();
    let kept = shutdown.stage("token kept").token();
    let child = shutdown.stage("child kept").token().child();
    let (stopped, stops) = mpsc::channel();
    let task = shutdown.stage("task kept").spawn("task", move |token| {
        token.wait();
        stopped.send(()).unwrap();
    });
    drop(task.unwrap());
    let items = shutdown
        .stage("items kept")
        .in_flight::<()>("items")
        .on_interrupted(|_| ());
    for _ in 0..10_000 {
        drop(shutdown.stage("gone"));
    }
    shutdown.stop("now");
    let report = bounded(move || shutdown.shutdown());
    assert!(kept.is_stopped() && child.token().is_stopped());
    stops.try_recv().unwrap();
    assert!(items.reserve().is_none());
    let rows = report
        .drained()
        .iter()
        .filter(|row| row.holder() == Holder::Stage)
        .count();
    assert!((4..200).contains(&rows), "{rows} stages are still known");
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

#[test]
fn a_stage_built_behind_the_stop_is_born_stopped_wherever_the_runner_is() {
    for _ in 0..200 {
        let shutdown = embedded().install().unwrap();
        shutdown.stop("now");
        let late = shutdown.stage("late");
        assert_eq!(late.token().reason(), Some(StopReason::from("now")));
        assert!(late.hold("hold").is_err());
    }
}

#[test]
fn p4_an_on_stop_keeps_its_stage_however_many_are_built_later() {
    let shutdown = embedded().install().unwrap();
    let (called, calls) = mpsc::channel();
    let call = move |name: &'static str| {
        let called = called.clone();
        move |_: &StopReason| called.send(name).unwrap()
    };
    let stage = shutdown.stage("detached");
    stage.token().on_stop(call("detached")).detach();
    drop(stage);
    let kept = shutdown.stage("kept").token().on_stop(call("kept"));
    for _ in 0..200 {
        drop(shutdown.stage("gone"));
    }
    shutdown.stop("now");
    let _ = bounded(move || shutdown.shutdown());
    assert_eq!(calls.try_iter().collect::<Vec<_>>(), ["kept", "detached"]);
    drop(kept);
}

#[test]
fn p15_twenty_thousand_stages_that_are_empty_or_hang_keep_nobody() {
    for hang in [false, true] {
        let grace = if hang { SHORT * 20 } else { FAR };
        let shutdown = embedded().grace_period(grace).install().unwrap();
        let stages = (0..20_000).map(|_| shutdown.stage("stage"));
        let held = |stage: Stage| {
            let hold = hang.then(|| stage.hold("hung").unwrap());
            (stage, hold)
        };
        let stages: Vec<_> = stages.map(held).collect();
        shutdown.hook("close", || ());
        shutdown.stop("now");
        let report = bounded(move || shutdown.shutdown());
        // What grows with the square of their number takes nine seconds.
        assert!(report.took() < Duration::from_secs(3), "{report}");
        assert!(report.hooks()[0].outcome().is_completed(), "{report}");
        drop(stages);
    }
}

#[test]
fn p23_what_comes_and_goes_below_a_draining_stage_leaves_nothing_behind() {
    let shutdown = embedded().install().unwrap();
    let sink = shutdown.stage("sink");
    let lived = sink.hold("lived at the stop").unwrap();
    let source = shutdown.stage("source");
    let draining = source.hold("draining").unwrap();
    shutdown.stop("now");
    source.token().wait();
    drop(lived);
    for _ in 0..10_000 {
        drop(sink.hold("row").unwrap());
    }
    drop(draining);
    let report = bounded(move || shutdown.shutdown());
    row(&report, "lived at the stop");
    // Two stages, two holds.
    assert_eq!(report.drained().len(), 4);
}

#[test]
fn a_stage_knows_its_share_of_the_time() {
    let shutdown = embedded()
        .grace_period(FAR)
        .cleanup_reserve(Duration::ZERO)
        .install()
        .unwrap();
    let sink = shutdown.stage("sink");
    let source = shutdown.stage("source");
    assert_eq!(source.time_left(), None);
    let hold = source.hold("hold").unwrap();
    let (told, tells) = mpsc::channel();
    let asked = source.clone();
    source
        .spawn("read", move |token| {
            token.wait();
            told.send(asked.time_left().unwrap()).unwrap();
        })
        .unwrap();
    shutdown.stop("now");
    let left = tells.recv_timeout(FAR).unwrap();
    assert!(left > FAR / 4 && left <= FAR / 2, "{left:?}");
    assert_eq!(sink.time_left(), None);
    drop(hold);
    let report = bounded(move || shutdown.shutdown());
    assert_eq!(report.outcome(), Outcome::Clean);
    assert!(
        sink.time_left().unwrap() > FAR / 2,
        "what the source left is the sink's"
    );
}

#[test]
fn a_late_stage_is_reported_as_empty_when_it_was() {
    let shutdown = embedded()
        .grace_period(Duration::from_secs(4))
        .cleanup_reserve(Duration::from_secs(1))
        .install()
        .unwrap();
    let sink = shutdown.stage("sink");
    let hung = sink.hold("hung").unwrap();
    let source = shutdown.stage("source");
    let late = source.hold("late").unwrap();
    let below = sink.token();
    let release = thread::spawn(move || {
        // Its turn comes when the source is out of its share.
        below.wait();
        drop(late);
    });
    shutdown.stop("now");
    let report = bounded(move || shutdown.shutdown());
    release.join().unwrap();
    drop(hung);
    let (stage, hold) = (row(&report, "source"), row(&report, "late"));
    assert!(
        stage.took() < hold.took() + Duration::from_millis(900),
        "{report}"
    );
}
