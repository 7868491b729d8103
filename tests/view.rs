//! What an operator sees: snapshots and events.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    missing_docs,
    reason = "tests"
)]

mod common;

use std::io::Read;
use std::net::{TcpListener, TcpStream};
use std::sync::{Mutex, mpsc};
use std::thread;
use std::time::Duration;

use common::{FAR, bounded, embedded};
use crossbeam_channel::Receiver;
use winddown::{
    Event, Holder, HookOutcome, Interruption, Outcome, Phase, ShutdownCoordinator, Signal,
    Snapshot, StillHere, StopReason,
};

#[track_caller]
fn find<'a>(snapshot: &'a Snapshot, name: &str) -> &'a StillHere {
    let mut holders = snapshot.holders().iter();
    holders
        .find(|here| here.name() == name)
        .unwrap_or_else(|| panic!("no {name} in\n{snapshot}"))
}

/// The events until `wanted`, which is the last of them.
#[track_caller]
fn until(events: &Receiver<Event>, wanted: impl Fn(&Event) -> bool) -> Vec<Event> {
    let mut seen = Vec::new();
    loop {
        let event = events.recv_timeout(FAR).expect("one more event");
        let last = wanted(&event);
        seen.push(event);
        if last {
            return seen;
        }
    }
}

/// What hangs while it is handed back is told as anything that is late.
#[test]
fn a_late_hand_back_is_told() {
    let shutdown = ShutdownCoordinator::builder()
        .signals([])
        .grace_period(FAR)
        .cleanup_reserve(FAR) // the drain has no time, the hand-back half of it
        .install()
        .unwrap();
    let events = shutdown.events();
    let (told, wait) = mpsc::channel();
    let wait = Mutex::new(wait);
    let jobs = shutdown.in_flight("jobs").on_interrupted(move |_| {
        wait.lock().unwrap().recv_timeout(FAR).unwrap();
    });
    let item = jobs.reserve().unwrap().fill(1).unwrap();
    let ending = thread::spawn(move || shutdown.shutdown());
    let seen = until(&events, |event| matches!(event, Event::Waiting(_)));
    let Some(Event::Waiting(late)) = seen.last() else {
        unreachable!("it is the last")
    };
    assert_eq!(find(late, "jobs").holder(), Holder::Item);
    // The worker goes before the hand-back has been made, which takes the item off the list.
    drop(item);
    told.send(()).unwrap();
    let report = bounded(move || ending.join().unwrap());
    assert_eq!(report.handed_back(), 1, "{report}");
    assert!(
        report.took() < FAR / 3,
        "not to the end of its slice: {report}"
    );
}

#[test]
fn a_snapshot_of_a_running_program_names_everybody() {
    let shutdown = embedded().install().unwrap();
    let hold = shutdown.hold("upload").unwrap();
    let line = line!() - 1;
    hold.say_progress("bytes", 300, 900);
    let sub = hold.clone();
    let (ready, readiness) = mpsc::channel();
    let stage = shutdown.stage("source");
    drop(
        stage
            .spawn("reader", move |token| {
                winddown::say("row 1");
                winddown::say("row 2");
                ready.send(()).unwrap();
                token.wait();
            })
            .unwrap(),
    );
    readiness.recv_timeout(FAR).unwrap();
    let jobs = shutdown.in_flight::<u32>("jobs").on_interrupted(|_| ());
    let item = jobs.reserve().unwrap().fill(7).unwrap();
    let slot = jobs.reserve().unwrap();
    winddown::say("job 7");
    drop(shutdown.hook("first", || ()));
    let guard = shutdown.guard("pool", (), |()| ());
    let snapshot = shutdown.snapshot();
    assert_eq!(snapshot.phase(), Phase::Running);
    assert_eq!(
        (
            snapshot.reason(),
            snapshot.since_stop(),
            snapshot.time_left()
        ),
        (None, None, None)
    );
    let rows = snapshot
        .holders()
        .iter()
        .map(|here| (here.holder(), here.name()));
    assert_eq!(
        rows.collect::<Vec<_>>(),
        [
            (Holder::Hold, "upload"),
            (Holder::Item, "jobs"),
            (Holder::Stage, "source"),
            (Holder::Task, "reader"),
            (Holder::Guard, "pool"),
            (Holder::Hook, "first"),
        ]
    );
    let upload = find(&snapshot, "upload");
    assert_eq!((upload.location().line(), upload.count()), (line, 2));
    assert!(upload.location().file().ends_with("view.rs"));
    assert_eq!(
        upload.said().unwrap().to_string(),
        "bytes 300 of 900 (33 %)"
    );
    let reader = find(&snapshot, "reader");
    assert_eq!(
        (reader.stage(), reader.said().unwrap().what()),
        (Some("source"), "row 2")
    );
    assert!(reader.thread().is_none(), "nobody is late");
    let jobs = find(&snapshot, "jobs");
    assert_eq!((jobs.count(), jobs.said().unwrap().what()), (2, "job 7"));
    assert!(find(&snapshot, "source").age().is_some());
    assert!(find(&snapshot, "first").age().is_none() && upload.age().is_some());
    // What has gone is not there any more.
    drop((hold, sub, slot, guard));
    item.complete(|_| Ok::<_, ()>(())).unwrap();
    let names: Vec<_> = shutdown
        .snapshot()
        .holders()
        .iter()
        .map(|here| here.name().to_owned())
        .collect();
    assert_eq!(names, ["source", "reader", "first"]);
}

#[test]
fn words_of_the_item_before_are_not_those_of_the_next() {
    let shutdown = embedded().install().unwrap();
    let jobs = shutdown.in_flight::<u32>("jobs").on_interrupted(|_| ());
    winddown::say("of nobody");
    // One straight after the other: no clock is fine enough to tell them apart.
    for number in 0..100 {
        let item = jobs.reserve().unwrap().fill(number).unwrap();
        let hold = shutdown.hold("hold").unwrap();
        assert!(find(&shutdown.snapshot(), "jobs").said().is_none());
        assert!(find(&shutdown.snapshot(), "hold").said().is_none());
        winddown::say("of this one");
        assert!(find(&shutdown.snapshot(), "jobs").said().is_some());
        assert!(find(&shutdown.snapshot(), "hold").said().is_some());
        drop((item, hold));
    }
}

#[test]
fn words_of_the_hook_before_are_not_those_of_the_next() {
    let shutdown = embedded().install().unwrap();
    let (tell, told) = mpsc::channel();
    let handle = shutdown.handle();
    shutdown.hook("next", move || tell.send(handle.snapshot()).unwrap());
    shutdown.hook("before", || winddown::say("of the one before"));
    let _ = bounded(move || shutdown.shutdown());
    assert!(find(&told.try_recv().unwrap(), "next").said().is_none());
}

#[test]
fn who_waits_for_a_silent_peer_is_named_with_its_call_and_descriptor() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut peer = TcpStream::connect(silent.local_addr().unwrap()).unwrap();
    let (accepted, _) = silent.accept().unwrap();
    let shutdown = embedded().install().unwrap();
    let events = shutdown.events();
    shutdown.hook("say goodbye to the peer", move || {
        winddown::say("waiting for its answer");
        peer.read(&mut [0]).map(drop)
    });
    let line = line!() - 4;
    let handle = shutdown.handle();
    let ending = thread::spawn(move || shutdown.shutdown());
    let seen = until(&events, |event| matches!(event, Event::Waiting(_)));
    let Some(Event::Waiting(late)) = seen.last() else {
        unreachable!()
    };
    for snapshot in [late, &handle.snapshot()] {
        let hook = find(snapshot, "say goodbye to the peer");
        assert_eq!(hook.holder(), Holder::Hook);
        assert_eq!(hook.location().line(), line);
        assert_eq!(hook.said().unwrap().what(), "waiting for its answer");
        assert!(hook.age().unwrap() >= Duration::from_secs(1));
        if cfg!(target_os = "linux") {
            let thread = hook.thread().unwrap();
            assert_eq!(thread.name(), "winddown-hooks");
            let state = thread.state().unwrap();
            assert!(state.starts_with("blocked in recvfrom on fd "), "{state}");
            assert!(state.ends_with(", a socket"), "{state}");
        }
        assert!(snapshot.time_left().unwrap() < FAR);
        assert_eq!(snapshot.reason(), Some(&StopReason::Completed));
    }
    drop(accepted);
    assert_eq!(
        bounded(move || ending.join().unwrap()).outcome(),
        Outcome::Clean
    );
}

#[test]
fn a_hold_is_looked_for_where_somebody_last_spoke_for_it() {
    let shutdown = embedded().install().unwrap();
    let hold = shutdown.hold("upload").unwrap();
    let (spoken, spoke) = mpsc::channel();
    let (end, ended) = mpsc::channel::<()>();
    let uploader = thread::Builder::new().name("uploader".to_owned());
    let uploader = uploader.spawn(move || {
        hold.say("part 1");
        spoken.send(()).unwrap();
        let _ = ended.recv();
    });
    spoke.recv_timeout(FAR).unwrap();
    shutdown.stop("enough");
    let snapshot = shutdown.snapshot();
    let here = find(&snapshot, "upload");
    assert_eq!(here.said().unwrap().what(), "part 1");
    if cfg!(target_os = "linux") {
        assert_eq!(here.thread().unwrap().name(), "uploader");
    }
    drop(end);
    uploader.unwrap().join().unwrap();
    let report = bounded(move || shutdown.shutdown());
    assert_eq!(report.outcome(), Outcome::Clean);
}

#[test]
fn while_draining_the_late_ones_are_told_every_second_and_the_owner_among_them() {
    let shutdown = embedded().install().unwrap();
    let events = shutdown.events();
    let stage = shutdown.stage("sink");
    let hold = stage.hold("slow").unwrap();
    drop(shutdown.hook("later", || ()));
    shutdown.stop("now");
    let seen = until(&events, |event| matches!(event, Event::Waiting(_)));
    let Some(Event::Waiting(late)) = seen.last() else {
        unreachable!()
    };
    let rows = late
        .holders()
        .iter()
        .map(|here| (here.holder(), here.stage()));
    assert_eq!(
        rows.collect::<Vec<_>>(),
        [(Holder::Hold, Some("sink")), (Holder::Owner, None)],
        "hooks are not waited for yet: {late}"
    );
    let before = late.since_stop().unwrap();
    let seen = until(&events, |event| matches!(event, Event::Waiting(_)));
    let Some(Event::Waiting(late)) = seen.last() else {
        unreachable!()
    };
    assert!(late.since_stop().unwrap() >= before + Duration::from_secs(1));
    drop(hold);
    drop(bounded(move || shutdown.shutdown()));
}

#[test]
fn every_step_is_an_event_in_its_order() {
    let shutdown = embedded().install().unwrap();
    let events = shutdown.events();
    drop(shutdown.stage("sink"));
    let jobs = shutdown
        .in_flight::<u32>("jobs")
        .on_interrupted(|_| Err::<(), _>("no queue"));
    jobs.reserve().unwrap().fill(1).unwrap().fail("bad");
    drop(shutdown.hook("fails", || Err::<(), _>("disk full")));
    let guard = shutdown.guard("pool", (), |()| ());
    let report = bounded(move || shutdown.shutdown());
    drop(guard);
    let told: Vec<String> = events.iter().map(|event| event.to_string()).collect();
    assert_eq!(
        told,
        [
            "item of jobs handed back: failed: bad, failed: hand-back failed: no queue",
            "stopping: completed",
            "draining",
            "stage sink stopping",
            "stage sink empty",
            "cleaning",
            "guard pool called",
            "guard pool completed",
            "hook fails called",
            "hook fails failed: disk full",
            "ended",
            "shutdown incomplete",
        ]
    );
    assert_eq!(report.hooks()[0].holder(), Holder::Guard);
    assert!(matches!(
        report.hooks()[1].outcome(),
        HookOutcome::Failed(_)
    ));
}

#[test]
fn a_subscription_that_nobody_reads_costs_nothing_and_keeps_the_end() {
    let shutdown = embedded().install().unwrap();
    let unread = shutdown.events();
    let dropped = shutdown.events();
    drop(dropped);
    for n in 0..1_000 {
        drop(shutdown.hook(format!("{n}"), || ()));
    }
    let handle = shutdown.handle();
    let report = bounded(move || shutdown.shutdown());
    assert!(
        report.took() < Duration::from_secs(5),
        "{}",
        report.took().as_secs()
    );
    let told: Vec<Event> = unread.iter().collect();
    let [.., Event::Missed { count, .. }, Event::Reported(last)] = &told[..] else {
        panic!("{:?}", told.last())
    };
    assert_eq!(told.len() - 1 + count, 2_000 + 5);
    assert_eq!(last.hooks().len(), 1_000);
    // Too late for everything but the end.
    let late: Vec<Event> = handle.events().iter().collect();
    assert!(matches!(late[..], [Event::Reported(_)]));
}

#[test]
fn a_snapshot_may_be_taken_from_everywhere() {
    let shutdown = embedded().install().unwrap();
    let (seen, sights) = mpsc::channel();
    let handle = shutdown.handle();
    let look = move |from: &'static str| seen.send((from, handle.snapshot().phase())).unwrap();
    let (in_hook, in_stop, in_report, in_hand_back) =
        (look.clone(), look.clone(), look.clone(), look.clone());
    drop(shutdown.hook("hook", move || in_hook("hook")));
    shutdown
        .token()
        .on_stop(move |_| in_stop("on_stop"))
        .detach();
    shutdown.on_report(move |_| in_report("report"));
    let jobs = shutdown
        .in_flight::<()>("jobs")
        .on_interrupted(move |item| {
            assert!(matches!(item.why(), Interruption::Dropped));
            in_hand_back("hand-back");
        });
    drop(jobs.reserve().unwrap().fill(()));
    let report = bounded(move || shutdown.shutdown());
    assert_eq!(report.outcome(), Outcome::Clean, "{report}");
    look("end");
    let sights: Vec<_> = sights.try_iter().collect();
    assert_eq!(
        sights,
        [
            ("hand-back", Phase::Running),
            ("on_stop", Phase::Draining),
            ("hook", Phase::Cleaning),
            ("report", Phase::Ended),
            ("end", Phase::Ended),
        ]
    );
}

#[test]
fn a_signal_that_changes_nothing_is_an_event() {
    let shutdown = embedded().install().unwrap();
    let events = shutdown.events();
    let hold = shutdown.hold("work").unwrap();
    shutdown.feed(Signal::TERM);
    shutdown.feed(Signal::INT);
    let seen = until(&events, |event| matches!(event, Event::SignalIgnored(_)));
    assert!(
        matches!(&seen[0], Event::Stopping(StopReason::Signal(first)) if first.signal == Signal::TERM)
    );
    let Some(Event::SignalIgnored(ignored)) = seen.last() else {
        unreachable!()
    };
    assert_eq!(ignored.signal, Signal::INT);
    drop(hold);
    let report = bounded(move || shutdown.shutdown());
    assert_eq!(report.later_reasons().len(), 1);
    let again = events
        .iter()
        .filter(|event| matches!(event, Event::SignalIgnored(_)));
    assert_eq!(again.count(), 0, "told once");
}

#[test]
fn a_snapshot_of_thousands_is_bounded_and_counts_the_rest() {
    let shutdown = embedded().install().unwrap();
    let mut holds = Vec::new();
    for _ in 0..3 {
        let stage = shutdown.stage("stage");
        holds.extend((0..600).map(|_| stage.hold("hold").unwrap()));
    }
    let snapshot = shutdown.snapshot();
    let rows = snapshot.holders().iter();
    let shown = rows.filter(|here| here.holder() == Holder::Hold).count();
    assert_eq!((shown, snapshot.more()), (1000, 800));
}

#[test]
fn who_is_late_is_named_behind_any_number_of_empty_stages() {
    let shutdown = embedded().install().unwrap();
    let last = shutdown.stage("last");
    let late = last.hold("late").unwrap();
    let stages: Vec<_> = (0..1500).map(|_| shutdown.stage("empty")).collect();
    shutdown.stop("now");
    last.token().wait();
    assert_eq!(find(&shutdown.snapshot(), "late").stage(), Some("last"));
    drop((late, stages));
    let _ = bounded(move || shutdown.shutdown());
}

#[test]
fn an_event_is_one_line_whatever_the_names_are() {
    let shutdown = embedded().install().unwrap();
    let events = shutdown.events();
    drop(shutdown.stage("a\nstage"));
    shutdown.hook("a\u{1b}[2Jhook", || Err::<(), _>("an\nerror"));
    shutdown.stop("a\nreason");
    let _ = bounded(move || shutdown.shutdown());
    for event in events {
        let line = event.to_string();
        assert!(!line.contains(char::is_control), "{line:?}");
    }
}
