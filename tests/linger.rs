//! The linger: readiness goes first, the stop follows. Real signals have a binary of their own; here they are fed.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    missing_docs,
    reason = "tests"
)]

mod common;

use std::fmt::Display;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use common::{FAR, SHORT, bounded, embedded};
use winddown::{
    End, Escalation, Event, Outcome, Phase, Readiness, ShutdownBuilder, ShutdownCoordinator,
    ShutdownReport, Signal, StopReason,
};

/// Whoever waits for its end has failed.
fn lingering() -> ShutdownBuilder {
    embedded().grace_period(FAR * 10).linger(FAR * 5)
}

fn is_lingering(shutdown: &ShutdownCoordinator) -> bool {
    shutdown.readiness() == Readiness::Lingering && !shutdown.token().is_stopped()
}

fn is_by(report: &ShutdownReport, signal: Signal) -> bool {
    report.reason().signal() == Some(signal)
}

#[test]
fn readiness_is_gone_before_the_handler_returns_and_work_goes_on() {
    let shutdown = lingering().install().unwrap();
    assert_eq!(shutdown.readiness(), Readiness::Ready);
    assert!(shutdown.readiness().is_ready() && shutdown.is_live());
    let jobs = shutdown.in_flight("jobs").on_interrupted(|_| ());
    let stage = shutdown.stage("stage");
    let token = shutdown.token();
    assert_eq!(token.time_left(), None);

    shutdown.feed(Signal::TERM);
    // P6.
    assert_eq!(shutdown.readiness(), Readiness::Lingering);
    assert_eq!(shutdown.phase(), Phase::Lingering);
    assert!(!shutdown.readiness().is_ready() && shutdown.is_live());
    assert!(!token.is_stopped());
    assert_eq!(token.reason(), None);
    let announced = shutdown
        .snapshot()
        .reason()
        .and_then(winddown::StopReason::signal);
    assert_eq!(announced, Some(Signal::TERM), "who asked is known");
    token.check().unwrap();
    // P22: the intake closes at the stop, and there has been none.
    drop(shutdown.hold("hold").unwrap());
    drop(stage.hold("hold").unwrap());
    shutdown.spawn("task", |_| ()).unwrap().join().unwrap();
    let item = jobs.reserve().unwrap().fill("job").unwrap();
    item.complete(|job| Ok::<_, std::io::Error>(job.len()))
        .unwrap();
    // The clock runs.
    assert!(token.time_left().unwrap() <= FAR * 10);
    assert!(is_lingering(&shutdown));

    // The program may stop itself; the reason has been there before.
    assert!(!shutdown.stop("now"));
    assert!(token.is_stopped());
    assert_eq!(shutdown.readiness(), Readiness::Draining);
    assert!(shutdown.is_live());
    assert!(shutdown.hold("late").is_err());
    let handle = shutdown.handle();
    let report = bounded(move || shutdown.shutdown());
    assert!(is_by(&report, Signal::TERM), "{report}");
    assert_eq!(report.later_reasons(), [StopReason::from("now")]);
    assert_eq!(report.outcome(), Outcome::Clean);
    assert_eq!(handle.readiness(), Readiness::Ended);
    assert!(!handle.is_live());
}

#[test]
fn the_stop_follows_when_the_linger_is_over() {
    for _ in 0..5 {
        let shutdown = embedded().linger(SHORT).install().unwrap();
        let token = shutdown.token();
        let child = token.child();
        let (told, hear) = mpsc::channel();
        token
            .on_stop(move |why| told.send(why.clone()).unwrap())
            .detach();
        let began = Instant::now();
        shutdown.feed(Signal::TERM);
        // P4, for all that wait.
        let reason = child.token().wait_timeout(FAR).expect("it stops");
        assert!(began.elapsed() >= SHORT, "{:?}", began.elapsed());
        assert_eq!(reason.signal(), Some(Signal::TERM));
        assert_eq!(hear.recv_timeout(FAR).unwrap(), reason);
        let report = bounded(move || shutdown.shutdown());
        // The grace period, and so the report, counts from the signal.
        assert!(report.took() >= SHORT);
        assert_eq!(report.later_reasons(), []);
    }
}

#[test]
fn without_a_linger_the_signal_stops() {
    let shutdown = embedded().install().unwrap();
    shutdown.feed(Signal::TERM);
    assert!(shutdown.token().is_stopped());
    assert_eq!(shutdown.readiness(), Readiness::Draining);
}

#[test]
fn a_key_press_does_not_linger() {
    for signal in [Signal::INT, Signal::QUIT] {
        let shutdown = lingering().install().unwrap();
        shutdown.feed(signal);
        assert!(shutdown.token().is_stopped());
    }
}

#[test]
fn a_second_signal_ends_the_linger_and_not_the_process() {
    for second in [Signal::TERM, Signal::INT] {
        let shutdown = lingering()
            .debounce(Duration::ZERO)
            .escalation(Escalation::SecondSignal)
            .install()
            .unwrap();
        shutdown.feed(Signal::TERM);
        assert!(is_lingering(&shutdown));
        shutdown.feed(second);
        // P6: whatever thread is scheduled.
        assert!(shutdown.token().is_stopped());
        let report = bounded(move || shutdown.shutdown());
        assert!(is_by(&report, Signal::TERM), "{report}");
        assert_eq!(report.later_reasons()[0].signal(), Some(second));
        assert_eq!(report.exit_code(), 0);
    }
}

/// P7.
#[test]
fn deliveries_within_the_debounce_do_not_end_the_linger() {
    let shutdown = lingering().debounce(FAR).install().unwrap();
    for signal in [Signal::TERM, Signal::TERM, Signal::INT] {
        shutdown.feed(signal);
        assert!(is_lingering(&shutdown));
    }
    let report = bounded(move || shutdown.shutdown());
    assert_eq!(report.later_reasons().len(), 2);
}

fn ends(what: &str, end: impl FnOnce(ShutdownCoordinator) + Send + 'static) -> u8 {
    let shutdown = lingering().install().unwrap();
    let (told, hear) = mpsc::channel();
    shutdown.on_report(move |report| told.send(report.clone()).unwrap());
    shutdown.feed(Signal::TERM);
    assert!(is_lingering(&shutdown), "{what}");
    bounded(move || end(shutdown));
    let report = hear.recv_timeout(FAR).unwrap();
    assert!(is_by(&report, Signal::TERM), "{what}: {report}");
    report.exit_code()
}

#[test]
fn a_stop_of_the_program_s_own_ends_it() {
    ends("shutdown", |shutdown| drop(shutdown.shutdown()));
    ends("drop", drop);
    ends("panic", |shutdown| {
        let owner = thread::spawn(move || {
            let _shutdown = shutdown;
            panic!("as it must");
        });
        owner.join().unwrap_err();
    });
    ends("vital", |shutdown| {
        drop(shutdown.spawn_vital("vital", |_| ()).unwrap());
        let _ = shutdown.wait();
    });
    ends("end of stream", |shutdown| {
        let stream = shutdown.end_of_stream(["one"]);
        stream.finish(&"one", End::OfData).unwrap();
        let _ = shutdown.wait();
    });
    let failed = ends("failed task", |shutdown| {
        drop(shutdown.spawn("task", |_| Err::<(), _>("no disk")).unwrap());
        let _ = shutdown.wait();
    });
    assert_eq!(failed, 1);
}

#[test]
fn every_end_of_run_ends_it() {
    fn report_of<E: Display + 'static>(end: fn() -> Result<(), E>) -> ShutdownReport {
        let (told, hear) = mpsc::channel();
        bounded(move || {
            lingering().run(move |shutdown| {
                shutdown.on_report(move |report| told.send(report.clone()).unwrap());
                shutdown.feed(Signal::TERM);
                assert!(is_lingering(shutdown));
                end()
            })
        });
        hear.recv_timeout(FAR).unwrap()
    }
    let returned = report_of(|| Ok::<_, String>(()));
    assert_eq!(returned.exit_code(), 0);
    let failed = report_of(|| Err("no disk"));
    assert_eq!(failed.exit_code(), 1);
    let panicked = report_of(|| -> Result<(), String> { panic!("as it must") });
    assert_eq!(panicked.exit_code(), 101);
    for report in [returned, failed, panicked] {
        assert!(is_by(&report, Signal::TERM), "{report}");
    }
}

/// Who waits does not ask.
#[test]
fn an_owner_that_waits_does_not_end_it() {
    let shutdown = embedded().linger(SHORT).install().unwrap();
    let began = Instant::now();
    shutdown.feed(Signal::TERM);
    let _ = bounded(move || shutdown.wait());
    assert!(began.elapsed() >= SHORT, "{:?}", began.elapsed());
}

#[test]
fn a_child_can_stop_by_itself_meanwhile() {
    let shutdown = lingering().install().unwrap();
    let token = shutdown.token();
    let (one, two) = (token.child(), token.child());
    shutdown.feed(Signal::TERM);
    assert!(one.stop("by itself"));
    assert!(one.token().is_stopped());
    assert!(!two.token().is_stopped() && is_lingering(&shutdown));
    assert!(two.token().time_left().is_some());
    shutdown.stop("now");
    assert!(two.token().is_stopped());
    assert_eq!(one.token().reason(), Some("by itself".into()));
    assert_eq!(two.token().reason(), token.reason());
}

#[test]
fn every_step_of_a_linger_is_an_event() {
    let shutdown = lingering()
        .debounce(Duration::ZERO)
        .escalation(Escalation::Never)
        .install()
        .unwrap();
    let events = shutdown.events();
    let next = || events.recv_timeout(FAR).unwrap().to_string();
    shutdown.feed(Signal::TERM);
    assert_eq!(next(), "lingering for 300s: SIGTERM");
    assert_eq!(next(), "lingering");
    assert!(shutdown.snapshot().time_left().unwrap() <= FAR * 10);
    shutdown.feed(Signal::TERM);
    assert_eq!(next(), "stopping: SIGTERM");
    assert_eq!(next(), "draining");
    // What ended the linger was not ignored; what comes after it is.
    shutdown.feed(Signal::INT);
    assert_eq!(next(), "ignored SIGINT");
    drop(bounded(move || shutdown.shutdown()));
}

#[test]
fn nobody_is_late_before_the_stop_that_a_linger_announced() {
    let second = Duration::from_secs(1);
    let shutdown = lingering().linger(second).install().unwrap();
    let events = shutdown.events();
    let hold = shutdown.hold("hold").unwrap();
    shutdown.feed(Signal::TERM);
    let first = loop {
        if let Event::Waiting(late) = events.recv_timeout(FAR).unwrap() {
            break late;
        }
    };
    // It counts from the signal: the linger, and the second after which one is late.
    let since = first.since_stop().unwrap();
    assert!(since >= second * 2, "late after {since:?}");
    drop(hold);
    drop(bounded(move || shutdown.shutdown()));
}

/// P7.
#[test]
fn what_does_not_end_a_linger_is_told_during_it() {
    let shutdown = lingering().debounce(FAR).install().unwrap();
    let events = shutdown.events();
    let next = || events.recv_timeout(FAR).unwrap().to_string();
    shutdown.feed(Signal::TERM);
    shutdown.feed(Signal::HUP);
    let told = [next(), next(), next()];
    assert_eq!(
        told,
        ["lingering for 300s: SIGTERM", "lingering", "ignored SIGHUP"]
    );
    assert!(is_lingering(&shutdown));
    drop(bounded(move || shutdown.shutdown()));
}

/// The cleanup reserve is nobody's to linger in.
#[test]
fn a_linger_is_a_part_of_the_time_for_the_drain() {
    let (grace, reserve) = (SHORT * 60, SHORT * 58);
    let shutdown = embedded()
        .grace_period(grace)
        .cleanup_reserve(reserve)
        .linger(FAR)
        .install()
        .unwrap();
    let (cleaned, hear) = mpsc::channel();
    shutdown.hook("hook", move || cleaned.send(()).unwrap());
    shutdown.feed(Signal::TERM);
    let report = bounded(move || shutdown.wait());
    assert!(report.took() >= grace.saturating_sub(reserve), "{report}");
    hear.try_recv().expect("there was time for the hook");
    assert_eq!(report.outcome(), Outcome::Clean, "{report}");
}

/// Where the drain's share is nothing, there is nothing to linger in.
#[test]
fn without_time_for_the_drain_the_signal_stops() {
    let shutdown = embedded()
        .cleanup_reserve(FAR)
        .linger(FAR)
        .install()
        .unwrap();
    shutdown.feed(Signal::TERM);
    assert!(shutdown.token().is_stopped());
}
