//! How the time is shared out among stages.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

use crate::common::{FAR, SHORT, bounded, embedded};
use crate::row;
use winddown::{DrainOutcome, Event, Outcome, Stage, StillHere};

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

/// P15: what a stage cannot use is the others'.
#[test]
fn a_timeout_leaves_its_part_to_the_stages_before() {
    let shutdown = embedded()
        .cleanup_reserve(Duration::ZERO)
        .install()
        .unwrap();
    drop(shutdown.stage("next").timeout(SHORT));
    let first = shutdown.stage("first");
    let hold = first.hold("hold").unwrap();
    shutdown.stop("now");
    first.token().wait();
    let left = first.time_left().unwrap();
    assert!(left > FAR * 3 / 4, "{left:?}");
    drop(hold);
    let report = bounded(move || shutdown.shutdown());
    assert_eq!(report.outcome(), Outcome::Clean, "{report}");
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
    // It went while the stage below was waited for, and nobody looked at this one.
    assert_eq!(stage.took(), hold.took(), "{report}");
}

#[test]
fn a_late_stage_of_items_is_reported_as_empty_when_it_was() {
    let shutdown = embedded()
        .grace_period(Duration::from_secs(4))
        .cleanup_reserve(Duration::from_secs(1))
        .install()
        .unwrap();
    let sink = shutdown.stage("sink");
    let hung = sink.hold("hung").unwrap();
    let source = shutdown.stage("source");
    let items = source.in_flight("lines").on_interrupted(|_| ());
    let item = items.reserve().unwrap().fill("line").unwrap();
    let below = sink.token();
    let release = thread::spawn(move || {
        below.wait();
        item.complete(|_| Ok::<_, ()>(())).unwrap();
        // Everything else of the time for draining is still to come.
        below.time_left().unwrap()
    });
    shutdown.stop("now");
    let report = bounded(move || shutdown.shutdown());
    let left = release.join().unwrap();
    drop(hung);
    let empty = row(&report, "source").took();
    assert!(empty + left <= Duration::from_secs(4), "{left:?}\n{report}");
    assert!(empty >= row(&report, "sink").started(), "{report}");
}

#[test]
fn a_timeout_that_is_changed_on_the_way_does_not_upset_the_shares() {
    let shutdown = embedded()
        .grace_period(FAR)
        .cleanup_reserve(Duration::ZERO)
        .install()
        .unwrap();
    let stages: Vec<Stage> = (0..4).map(|n| shutdown.stage(format!("{n}"))).collect();
    let hold = stages[3].hold("hold").unwrap();
    let (late, first) = (stages[1].clone(), stages[3].token());
    shutdown.stop("now");
    first.wait();
    drop(late.timeout(FAR));
    drop(hold);
    let report = bounded(move || shutdown.shutdown());
    assert_eq!(report.outcome(), Outcome::Clean, "{report}");
    // Each next one has its part of what is left: the last one all of it.
    assert!(stages[0].time_left().unwrap() > FAR / 2, "{report}");
}

/// P21: until it is empty, or that time is over.
#[test]
fn a_stage_with_a_timeout_is_waited_for_within_it() {
    let shutdown = embedded().install().unwrap();
    let sink = shutdown.stage("sink").token();
    let source = shutdown.stage("source").timeout(FAR / 3);
    let hold = source.hold("slow").unwrap();
    shutdown.stop("now");
    source.token().wait();
    thread::sleep(SHORT);
    let early = sink.is_stopped();
    drop(hold);
    let report = bounded(move || shutdown.shutdown());
    assert!(!early, "the next one was stopped before it was empty");
    assert_eq!(*row(&report, "slow").outcome(), DrainOutcome::Ended);
    assert_eq!(report.outcome(), Outcome::Clean, "{report}");
}

/// While draining, whoever is there is late, however short a time: also what came to a stage whose turn has not come.
#[test]
fn what_has_just_come_below_a_draining_stage_is_waited_for() {
    let shutdown = embedded().install().unwrap();
    let (below, above) = (shutdown.stage("below"), shutdown.stage("above"));
    let holds_up = above.hold("holds up").unwrap();
    let events = shutdown.events();
    let over = Arc::new(AtomicBool::new(false));
    let seen = Arc::clone(&over);
    let mut young = below.hold("young").unwrap();
    let renewing = thread::spawn(move || {
        while !seen.load(Ordering::Acquire) {
            // Never without one, and none is old.
            young = below.hold("young").unwrap();
            thread::yield_now();
        }
        drop(young);
    });
    let ending = thread::spawn(move || shutdown.shutdown());
    let late = loop {
        if let Event::Waiting(late) = events.recv_timeout(FAR).unwrap() {
            break late;
        }
    };
    let mut names = late.holders().iter().map(StillHere::name);
    assert!(names.any(|name| name == "young"), "{late}");
    over.store(true, Ordering::Release);
    renewing.join().unwrap();
    drop(holds_up);
    assert_eq!(
        bounded(move || ending.join().unwrap()).outcome(),
        Outcome::Clean
    );
}
