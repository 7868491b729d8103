//! What is listed, and in which order: of very many, in snapshots and reports; and what is printed for debugging.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    missing_docs,
    reason = "tests"
)]

mod common;

use common::embedded;
use winddown::{HookOutcome, InFlightBuilder, Outcome, StillHere, StopSource, StopToken};

/// Holds and tasks are in two lists, and the clock their ages are taken from is coarse.
#[test]
fn a_snapshot_has_everybody_in_the_order_they_came() {
    let shutdown = embedded().install().unwrap();
    let names: Vec<String> = (0..40).map(|n| n.to_string()).collect();
    let mut holds = Vec::new();
    for (n, name) in names.iter().enumerate() {
        if n % 3 == 0 {
            let work = |token: StopToken| drop(token.wait());
            drop(shutdown.spawn(name.clone(), work).unwrap());
        } else {
            holds.push(shutdown.hold(name.clone()).unwrap());
        }
    }
    let snapshot = shutdown.snapshot();
    let listed = snapshot.holders().iter().map(StillHere::name);
    let listed: Vec<&str> = listed.filter(|name| name.parse::<u8>().is_ok()).collect();
    assert_eq!(listed, names);
    drop(holds);
}

#[test]
fn a_snapshot_has_a_thousand_of_a_kind_and_counts_the_rest() {
    let shutdown = embedded().install().unwrap();
    let stages: Vec<_> = (0..1_100).map(|_| shutdown.stage("stage")).collect();
    let holds: Vec<_> = (0..1_050).map(|_| shutdown.hold("hold").unwrap()).collect();
    for _ in 0..1_020 {
        shutdown.hook("hook", || ());
    }
    let items = |builder: InFlightBuilder<()>| {
        let set = builder.on_interrupted(drop);
        set.reserve().unwrap().fill(()).unwrap()
    };
    let own = (0..600).map(|_| items(shutdown.in_flight("set")));
    let of_a_stage = (0..600).map(|_| items(stages[0].in_flight("set")));
    let items: Vec<_> = own.chain(of_a_stage).collect();
    let snapshot = shutdown.snapshot();
    let rows = |name: &str| {
        let named = snapshot.holders().iter().filter(|row| row.name() == name);
        named.map(StillHere::count).sum::<usize>()
    };
    assert_eq!(["stage", "hold", "hook", "set"].map(rows), [1_000; 4]);
    assert_eq!(snapshot.more(), 100 + 50 + 20 + 200);
    drop((stages, holds));
    for item in items {
        item.complete(|()| Ok::<_, ()>(())).unwrap();
    }
}

/// What is printed for debugging names the thing, and what there is to know of it.
#[test]
fn whatever_is_printed_for_debugging_says_what_it_is() {
    let source = StopSource::new();
    source.stop("enough");
    let shutdown = embedded().install().unwrap();
    let jobs = shutdown.in_flight::<u8>("jobs").on_interrupted(drop);
    let stream = shutdown.end_of_stream(["a.log"]);
    let shown = [
        (
            format!("{source:?}"),
            "StopSource { reason: Some(Requested(\"enough\")), .. }",
        ),
        (
            format!("{:?}", source.token()),
            "StopToken { reason: Some(Requested(\"enough\")), .. }",
        ),
        (
            format!("{:?}", source.token().stopped()),
            "StopFuture { token: StopToken { reason: Some(Requested(\"enough\")), .. }, .. }",
        ),
        (format!("{:?}", shutdown.token().on_stop(|_| ())), "OnStop"),
        (
            format!("{shutdown:?}"),
            "ShutdownCoordinator { phase: Running, .. }",
        ),
        (format!("{:?}", shutdown.wait_async()), "ReportFuture"),
        (
            format!("{:?}", shutdown.handle()),
            "ShutdownHandle { phase: Running, .. }",
        ),
        (format!("{:?}", shutdown.hook("flush", || ())), "Hook"),
        (format!("{:?}", shutdown.hold("upload").unwrap()), "Hold"),
        (format!("{:?}", shutdown.guard("pool", 7, |_| ())), "Guard"),
        (format!("{:?}", shutdown.stage("sink")), "Stage"),
        (
            format!("{:?}", shutdown.spawn("worker", |_| ()).unwrap()),
            "Task",
        ),
        (format!("{stream:?}"), "EndOfStream"),
        (
            format!("{:?}", stream.assignment(&"a.log").unwrap()),
            "Assignment { generation: ",
        ),
        (
            format!("{:?}", stream.arrive(&"a.log").unwrap()),
            "Arrival { generation: ",
        ),
        (format!("{jobs:?}"), "InFlight"),
        (
            format!("{:?}", shutdown.in_flight::<u8>("jobs")),
            "InFlightBuilder",
        ),
        (format!("{:?}", jobs.reserve().unwrap()), "Slot"),
        (
            format!("{:?}", jobs.reserve().unwrap().fill(1).unwrap()),
            "Item",
        ),
    ];
    assert_eq!(shutdown.stage("sink").name(), "sink");
    for (text, due) in shown {
        assert!(text.starts_with(due), "{text}");
    }
}

/// Those that nobody could be told of before the stop; and what is not kept is counted.
#[test]
fn of_many_failures_before_the_stop_64_are_kept() {
    let shutdown = embedded().install().unwrap();
    for n in 0..70 {
        let failed = shutdown.hook("fails", move || Err::<(), _>(n)).run_now();
        assert_eq!(failed, Some(HookOutcome::Failed(n.to_string())));
    }
    let report = shutdown.shutdown();
    assert_eq!((report.hooks().len(), report.more_hooks()), (64, 6));
    assert_eq!(report.outcome(), Outcome::Incomplete);
}

/// Each costs a few system calls.
#[cfg(target_os = "linux")]
#[test]
fn a_snapshot_looks_up_32_threads_and_no_more() {
    let shutdown = embedded().install().unwrap();
    let holds: Vec<_> = (0..40).map(|_| shutdown.hold("late").unwrap()).collect();
    assert!(shutdown.stop("now"));
    let snapshot = shutdown.snapshot();
    let late = || {
        snapshot
            .holders()
            .iter()
            .filter(|here| here.name() == "late")
    };
    let known = late().filter(|here| here.thread().is_some());
    assert_eq!((late().count(), known.count()), (40, 32));
    drop(holds);
    let report = shutdown.shutdown();
    assert_eq!(report.outcome(), Outcome::Clean);
}
