//! Stages that come late, and stages that have gone.

use std::sync::{Arc, Barrier, mpsc};
use std::thread;

use crate::common::{FAR, bounded, embedded};
use crate::row;
use winddown::{DrainReport, Holder, Outcome, StopReason};

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
    let many: Vec<_> = (0..80).map(|_| shutdown.stage("kept")).collect();
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
    assert!((84..400).contains(&rows), "{rows} stages are still known");
    drop(many);
}

/// P20: a program with a stage for each batch, each of which has gone when the next one comes.
#[test]
fn what_was_handed_back_in_stages_that_have_gone_is_in_the_report() {
    let shutdown = embedded().install().unwrap();
    for n in 0..200 {
        let stage = shutdown.stage("batch");
        let jobs = stage
            .in_flight("jobs")
            .on_interrupted(move |_| if n < 70 { Err("lost") } else { Ok(()) });
        drop(jobs.reserve().unwrap().fill(n).unwrap());
    }
    let report = bounded(move || shutdown.shutdown());
    assert_eq!(report.handed_back(), 200, "{report}");
    let lost: Vec<_> = report
        .drained()
        .iter()
        .filter(|row| row.holder() == Holder::Item)
        .collect();
    assert_eq!(lost.len(), 65, "64 and the number of the others: {report}");
    assert!(lost.iter().all(|row| row.stage() == Some("batch")));
    let rest = lost[64].outcome().to_string();
    assert!(rest.ends_with("and 6 more hand-backs failed"), "{rest}");
}

/// P4: as of any token that has gone.
#[test]
fn a_channel_of_a_stage_that_has_gone_is_closed() {
    let shutdown = embedded().install().unwrap();
    let channel = {
        let stage = shutdown.stage("gone");
        // This thread keeps the place of the hold, and with it the stage's list.
        drop(stage.hold("hold").unwrap());
        stage.token().receiver().clone()
    };
    for _ in 0..200 {
        drop(shutdown.stage("another"));
    }
    assert!(channel.recv_timeout(FAR).unwrap_err().is_disconnected());
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
fn p21_a_hold_or_a_task_keeps_its_stage_however_many_are_built_later() {
    let shutdown = embedded().install().unwrap();
    let hold = shutdown.stage("of a hold").hold("hold").unwrap();
    let (end, ended) = mpsc::channel::<()>();
    let task = shutdown.stage("of a task");
    let task = task.spawn("task", move |_| ended.recv()).unwrap();
    for _ in 0..200 {
        drop(shutdown.stage("gone"));
    }
    shutdown.stop("now");
    drop((hold, end));
    let report = bounded(move || shutdown.shutdown());
    let mut late: Vec<_> = report.drained().iter().map(DrainReport::name).collect();
    late.retain(|name| ["hold", "task"].contains(name));
    late.sort_unstable();
    assert_eq!(late, ["hold", "task"], "{report}");
    drop(task);
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
