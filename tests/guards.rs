//! P13, P17, P19, P23: values with a clean-up.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    missing_docs,
    reason = "tests"
)]

mod common;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::thread;

use common::{FAR, SHORT, bounded, embedded, outcomes};
use winddown::{Event, HookOutcome, Outcome, Phase, ShutdownHandle};

/// What was called, in order.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<String>>>);

impl Log {
    fn add(&self, what: impl Into<String>) {
        self.0.lock().unwrap().push(what.into());
    }

    fn hook(&self, handle: &ShutdownHandle, name: &'static str) {
        let log = self.clone();
        handle.hook(name, move || log.add(name));
    }

    fn all(&self) -> Vec<String> {
        self.0.lock().unwrap().clone()
    }
}

#[test]
fn p13_a_dropped_guard_has_cleaned_up_and_is_not_cleaned_up_again() {
    let shutdown = embedded().install().unwrap();
    let log = Log::default();
    let cleanup = log.clone();
    let guard = shutdown.guard("guard", 7, move |value| {
        cleanup.add(format!("clean {value}"));
    });
    drop(guard);
    assert_eq!(log.all(), ["clean 7"]);
    let report = shutdown.shutdown();
    assert_eq!(log.all(), ["clean 7"]);
    assert!(report.hooks().is_empty());
}

#[test]
fn p17_a_hook_may_drop_a_guard_and_an_on_stop_may_shut_down() {
    let shutdown = Arc::new(embedded().install().unwrap());
    let guard = shutdown.guard("guard", (), |()| ());
    shutdown.hook("drops it", move || drop(guard));
    let inner = Arc::downgrade(&shutdown);
    let (tell, told) = mpsc::channel();
    let registered = shutdown.token().on_stop(move |_| {
        tell.send(inner.upgrade().unwrap().wait().is_final())
            .unwrap();
    });
    let owner = Arc::clone(&shutdown);
    let report = bounded(move || owner.shutdown());
    assert!(!told.recv_timeout(FAR).unwrap());
    assert_eq!(report.outcome(), Outcome::Clean, "{report}");
    drop(registered);
}

#[test]
fn a_guard_dropped_while_its_clean_up_runs_waits_for_it() {
    let shutdown = Arc::new(embedded().install().unwrap());
    let (began, begins) = mpsc::channel();
    let (go_on, goes_on) = mpsc::channel::<()>();
    let goes_on = Mutex::new(goes_on);
    let done = Arc::new(AtomicUsize::new(0));
    let set = Arc::clone(&done);
    let guard = shutdown.guard("slow", (), move |()| {
        began.send(()).unwrap();
        goes_on.lock().unwrap().recv().unwrap();
        set.store(1, Ordering::SeqCst);
    });
    let owner = Arc::clone(&shutdown);
    let ending = thread::spawn(move || owner.shutdown());
    begins.recv_timeout(FAR).unwrap();
    let (drops, dropped) = mpsc::channel();
    let dropping = thread::spawn(move || {
        drops.send(()).unwrap();
        drop(guard);
        done.load(Ordering::SeqCst)
    });
    dropped.recv_timeout(FAR).unwrap();
    go_on.send(()).unwrap();
    assert_eq!(
        bounded(move || dropping.join().unwrap()),
        1,
        "the drop came back before the clean-up was over"
    );
    assert_eq!(
        bounded(move || ending.join().unwrap()).outcome(),
        Outcome::Clean
    );
}

#[test]
fn the_end_waits_for_a_clean_up_that_a_drop_has_begun() {
    let shutdown = embedded().install().unwrap();
    let log = Log::default();
    log.hook(&shutdown, "older");
    let (began, begins) = mpsc::channel();
    let (go_on, goes_on) = mpsc::channel::<()>();
    let goes_on = Mutex::new(goes_on);
    let slow = log.clone();
    let guard = shutdown.guard("slow", (), move |()| {
        began.send(()).unwrap();
        goes_on.lock().unwrap().recv().unwrap();
        slow.add("slow");
    });
    let dropping = thread::spawn(move || drop(guard));
    begins.recv_timeout(FAR).unwrap();
    let token = shutdown.token();
    let ending = thread::spawn(move || shutdown.shutdown());
    token.wait();
    go_on.send(()).unwrap();
    dropping.join().unwrap();
    let report = bounded(move || ending.join().unwrap());
    assert_eq!(log.all(), ["slow", "older"]);
    assert_eq!(outcomes(&report).len(), 2, "{report}");
}

/// P14: also where nothing is left on the stack that would keep the cleaning open.
#[test]
fn the_report_waits_for_the_only_clean_up_that_a_drop_has_begun() {
    let shutdown = embedded().install().unwrap();
    let (began, begins) = mpsc::channel();
    let (go_on, goes_on) = mpsc::channel::<()>();
    let goes_on = Mutex::new(goes_on);
    let guard = shutdown.guard("only", (), move |()| {
        began.send(()).unwrap();
        goes_on.lock().unwrap().recv().unwrap();
    });
    let dropping = thread::spawn(move || drop(guard));
    begins.recv_timeout(FAR).unwrap();
    let (reported, reports) = mpsc::channel();
    let ending = thread::spawn(move || reported.send(shutdown.shutdown()));
    let early = reports.recv_timeout(SHORT);
    go_on.send(()).unwrap();
    assert!(early.is_err(), "{}", early.unwrap());
    let report = reports.recv_timeout(FAR).unwrap();
    assert_eq!(outcomes(&report), [("only", HookOutcome::Completed)]);
    dropping.join().unwrap();
    ending.join().unwrap().unwrap();
}

/// Before that they are the program's own business.
#[test]
fn what_is_run_by_hand_is_told_from_the_cleaning_on() {
    let shutdown = embedded().install().unwrap();
    let events = shutdown.events();
    drop(shutdown.guard("early", (), |()| ()));
    let guard = shutdown.guard("late", (), |()| ());
    shutdown.hook("drops it", move || drop(guard));
    drop(bounded(move || shutdown.shutdown()));
    let told = events.iter().filter(|event| {
        matches!(
            event,
            Event::HookStarted { .. } | Event::HookEnded(_) | Event::PhaseChanged(Phase::Cleaning)
        )
    });
    assert_eq!(
        told.map(|event| event.to_string()).collect::<Vec<_>>(),
        [
            "cleaning",
            "hook drops it called",
            "guard late called",
            "guard late completed",
            "hook drops it completed",
        ]
    );
}

#[test]
fn a_guard_dropped_by_a_panic_cleans_up_and_its_own_panic_goes_no_further() {
    let shutdown = embedded().install().unwrap();
    let handle = shutdown.handle();
    let thread = thread::spawn(move || {
        let _guard = handle.guard("guard", (), |()| panic!("in the clean-up"));
        panic!("in the work");
    });
    assert!(thread.join().is_err());
    let report = shutdown.shutdown();
    assert_eq!(
        outcomes(&report),
        [("guard", HookOutcome::Panicked("in the clean-up".into()))]
    );
}

#[test]
fn p23_a_guard_for_each_of_100_000_requests_leaves_nothing_behind() {
    let shutdown = embedded().install().unwrap();
    let held = Arc::new(());
    for n in 0..100_000_u32 {
        let guard = shutdown.guard("request", Arc::clone(&held), |_| ());
        if n % 2 == 0 {
            drop(guard);
        } else {
            let other = shutdown.guard("other", (), |()| ());
            drop(guard);
            drop(other);
        }
    }
    assert_eq!(Arc::strong_count(&held), 1);
    assert!(shutdown.shutdown().hooks().is_empty());
}
