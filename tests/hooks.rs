//! P13, P14, P16–P19: hooks and guards.
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

use common::{FAR, SHORT, bounded, embedded, outcomes, rounds};
use winddown::{HookOptions, HookOutcome, Outcome, ShutdownHandle};

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
fn p13_hooks_and_guards_are_one_stack_newest_first() {
    let shutdown = embedded().install().unwrap();
    let log = Log::default();
    log.hook(&shutdown, "first");
    let guard = {
        let log = log.clone();
        shutdown.guard("second", "value", move |value| {
            log.add(format!("second {value}"));
        })
    };
    log.hook(&shutdown, "third");
    let report = shutdown.shutdown();
    assert_eq!(log.all(), ["third", "second value", "first"]);
    assert_eq!(
        report
            .hooks()
            .iter()
            .map(winddown::HookReport::name)
            .collect::<Vec<_>>(),
        ["third", "second", "first"]
    );
    // Its clean-up has run; the value is still there.
    assert_eq!(*guard, "value");
    drop(guard);
    assert_eq!(log.all().len(), 3);
}

#[test]
fn hooks_run_on_one_thread_one_after_the_other() {
    let shutdown = embedded().install().unwrap();
    let (say, threads) = mpsc::channel();
    for _ in 0..10 {
        let say = say.clone();
        shutdown.hook("one of them", move || say.send(thread::current().id()));
    }
    drop(bounded(move || shutdown.shutdown()));
    let threads: Vec<_> = threads.try_iter().collect();
    assert_eq!(threads, [threads[0]; 10]);
}

/// Also where a thread of the user's has begun with it.
#[test]
fn p13_an_older_hook_waits_for_a_newer_one_that_is_run_by_hand() {
    let shutdown = Arc::new(embedded().install().unwrap());
    let (older, is_older) = mpsc::channel();
    let (say, said) = mpsc::channel();
    let (cleaning, is_cleaning) = mpsc::channel();
    shutdown.hook("older", move || {
        let _ = older.send(());
    });
    let newer = shutdown.hook("newer", move || {
        say.send(()).unwrap();
        is_cleaning.recv_timeout(FAR).unwrap();
        is_older.recv_timeout(SHORT).unwrap_err();
    });
    shutdown.hook("newest", move || cleaning.send(()).unwrap());
    let by_hand = thread::spawn(move || newer.run_now());
    said.recv_timeout(FAR).unwrap();
    let owner = Arc::clone(&shutdown);
    let report = bounded(move || owner.shutdown());
    assert_eq!(by_hand.join().unwrap(), Some(HookOutcome::Completed));
    let last = report.hooks().last().unwrap();
    assert_eq!(
        (last.name(), last.outcome()),
        ("older", &HookOutcome::Completed)
    );
}

#[test]
fn p13_hooks_run_when_the_coordinator_is_dropped_and_when_a_panic_drops_it() {
    let log = Log::default();
    let shutdown = embedded().install().unwrap();
    log.hook(&shutdown, "dropped");
    drop(shutdown);
    let panicking = log.clone();
    let thread = thread::spawn(move || {
        let shutdown = embedded().install().unwrap();
        panicking.hook(&shutdown, "panicked");
        let report = panicking.clone();
        shutdown.on_report(move |it| report.add(it.reason().to_string()));
        panic!("on purpose");
    });
    assert!(thread.join().is_err());
    let all = log.all();
    assert_eq!(all[..2], ["dropped", "panicked"]);
    assert!(all[2].starts_with("panicked: "), "{all:?}");
}

#[test]
fn p14_each_hook_has_its_outcome_and_none_stops_the_next() {
    let shutdown = embedded().install().unwrap();
    let (_keep, never) = mpsc::channel::<()>();
    let never = Mutex::new(never);
    shutdown.hook("completes", || ());
    shutdown.hook("panics", || panic!("on purpose"));
    shutdown.hook_with(HookOptions::new("hangs").timeout(SHORT), move || {
        let _ = never.lock().unwrap().recv();
    });
    shutdown.hook("fails", || Err::<(), _>("disk full"));
    shutdown.hook("panics without words", || std::panic::panic_any(7));
    let report = bounded(move || shutdown.shutdown());
    let expected = [
        (
            "panics without words",
            HookOutcome::Panicked("a panic without a message".into()),
        ),
        ("fails", HookOutcome::Failed("disk full".into())),
        ("hangs", HookOutcome::TimedOut),
        ("panics", HookOutcome::Panicked("on purpose".into())),
        ("completes", HookOutcome::Completed),
    ];
    assert_eq!(outcomes(&report), expected);
    assert_eq!(report.outcome(), Outcome::Incomplete);
    assert_eq!(report.exit_code(), 1);
    let hung = &report.hooks()[2];
    assert!(hung.took() >= SHORT);
    assert!(hung.location().file().ends_with("hooks.rs"));
    assert_eq!(
        report
            .abandoned()
            .map(|left| left.name().to_owned())
            .collect::<Vec<_>>(),
        ["hangs"]
    );
}

#[test]
fn p14_a_hook_that_returns_never_can_be_registered() {
    let shutdown = embedded().install().unwrap();
    shutdown.hook("never", || -> ! { panic!("on purpose") });
    let report = shutdown.shutdown();
    assert_eq!(
        *report.hooks()[0].outcome(),
        HookOutcome::Panicked("on purpose".into())
    );
}

#[test]
fn p17_inside_a_hook_every_method_returns_and_shutdown_gives_what_has_happened_so_far() {
    let shutdown = Arc::new(embedded().install().unwrap());
    let inner = Arc::downgrade(&shutdown);
    let (tell, told) = mpsc::channel();
    shutdown.hook("older", || ());
    shutdown.hook("asks", move || {
        let shutdown = inner.upgrade().unwrap();
        for report in [shutdown.wait(), shutdown.shutdown()] {
            assert!(!report.is_final());
            tell.send(report.hooks().len()).unwrap();
        }
        assert!(!shutdown.stop("too late"));
        assert!(shutdown.hold("too late").is_err());
        assert!(shutdown.spawn("too late", |_| ()).is_err());
        shutdown.hook("next", || ());
        let guard = shutdown.guard("guard", (), |()| ());
        drop(guard);
        shutdown.on_report(|_| ());
        let _ = (shutdown.phase(), shutdown.token(), shutdown.is_installed());
    });
    let owner = Arc::clone(&shutdown);
    let report = bounded(move || owner.shutdown());
    assert_eq!(told.iter().collect::<Vec<_>>(), [0, 0]);
    assert!(report.is_final());
    let names: Vec<_> = report
        .hooks()
        .iter()
        .map(|hook| hook.name().to_owned())
        .collect();
    assert_eq!(names, ["asks", "guard", "next", "older"], "{report}");
    assert!(
        report
            .hooks()
            .iter()
            .all(|hook| hook.outcome().is_completed()),
        "{report}"
    );
}

#[test]
fn p18_every_caller_on_every_thread_gets_the_same_report() {
    let shutdown = Arc::new(embedded().install().unwrap());
    let calls = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&calls);
    shutdown.hook("once", move || {
        counted.fetch_add(1, Ordering::SeqCst);
    });
    let callers: Vec<_> = (0..8)
        .map(|n| {
            let shutdown = Arc::clone(&shutdown);
            thread::spawn(move || {
                if n % 2 == 0 {
                    shutdown.shutdown()
                } else {
                    shutdown.wait()
                }
            })
        })
        .collect();
    let reports: Vec<_> = callers
        .into_iter()
        .map(|thread| bounded(move || thread.join().unwrap()))
        .collect();
    assert_eq!(calls.load(Ordering::SeqCst), 1);
    let first = format!("{:?}", reports[0]);
    assert!(reports.iter().all(|report| format!("{report:?}") == first));
    assert_eq!(format!("{:?}", shutdown.wait()), first);
}

#[test]
fn p19_a_hook_registered_after_the_end_runs_at_once_here() {
    let shutdown = embedded().install().unwrap();
    let handle = shutdown.handle();
    let _ = shutdown.shutdown();
    let (ran, runs) = mpsc::channel();
    let late = ran.clone();
    let hook = handle.hook("late", move || late.send(thread::current().id()).unwrap());
    assert_eq!(runs.try_recv().unwrap(), thread::current().id());
    assert!(!hook.remove());
    drop(shutdown);
    handle.hook("later", move || ran.send(thread::current().id()).unwrap());
    assert_eq!(runs.try_recv().unwrap(), thread::current().id());
    // A guard's value is still in use: it is cleaned up when it is dropped.
    let (cleaned, cleans) = mpsc::channel();
    let guard = handle.guard("late", 3, move |value| cleaned.send(*value).unwrap());
    assert!(cleans.try_recv().is_err());
    drop(guard);
    assert_eq!(cleans.try_recv().unwrap(), 3);
}

#[test]
fn p19_hooks_registered_from_many_threads_around_the_end_run_exactly_once() {
    for _ in 0..rounds(200) {
        let shutdown = embedded().install().unwrap();
        let count = Arc::new(AtomicUsize::new(0));
        let registering: Vec<_> = (0..4)
            .map(|_| {
                let (handle, count) = (shutdown.handle(), Arc::clone(&count));
                thread::spawn(move || {
                    for _ in 0..50 {
                        let count = Arc::clone(&count);
                        handle.hook("counted", move || {
                            count.fetch_add(1, Ordering::SeqCst);
                        });
                    }
                })
            })
            .collect();
        let _ = shutdown.shutdown();
        for thread in registering {
            thread.join().unwrap();
        }
        drop(shutdown);
        assert_eq!(count.load(Ordering::SeqCst), 200);
    }
}

#[test]
fn a_removed_hook_is_not_called_and_its_closure_is_gone() {
    let shutdown = embedded().install().unwrap();
    let held = Arc::new(());
    let captured = Arc::clone(&held);
    let hook = shutdown.hook("removed", move || drop(captured));
    assert!(hook.remove());
    assert_eq!(Arc::strong_count(&held), 1);
    assert!(shutdown.shutdown().hooks().is_empty());
}

#[test]
fn a_hook_that_was_run_by_hand_is_not_called_again() {
    let shutdown = embedded().install().unwrap();
    let log = Log::default();
    let by_hand = log.clone();
    let hook = shutdown.hook("by hand", move || {
        by_hand.add("by hand");
        Err::<(), _>("and failed")
    });
    assert_eq!(
        hook.run_now(),
        Some(HookOutcome::Failed("and failed".into()))
    );
    let report = shutdown.shutdown();
    assert_eq!(log.all(), ["by hand"]);
    // A failure from before the stop is not lost.
    assert_eq!(
        outcomes(&report),
        [("by hand", HookOutcome::Failed("and failed".into()))]
    );
}

#[test]
fn ten_thousand_hooks_run_in_order() {
    let shutdown = embedded().install().unwrap();
    let next = Arc::new(AtomicUsize::new(10_000));
    for n in 0..10_000 {
        let next = Arc::clone(&next);
        shutdown.hook("one of many", move || {
            let expected = next.fetch_sub(1, Ordering::SeqCst) - 1;
            if expected == n {
                Ok(())
            } else {
                Err(format!("{n} instead of {expected}"))
            }
        });
    }
    let report = bounded(move || shutdown.shutdown());
    assert_eq!(report.outcome(), Outcome::Clean, "{report}");
    assert_eq!(report.hooks().len(), 10_000);
}

#[test]
fn an_emergency_hook_is_an_ordinary_one_on_every_other_path() {
    let shutdown = embedded().install().unwrap();
    let log = Log::default();
    let (emergency, removed) = (log.clone(), log.clone());
    shutdown.hook_with(HookOptions::new("terminal").emergency(), move || {
        emergency.add("terminal");
    });
    let hook = shutdown.hook_with(HookOptions::new("removed").emergency(), move || {
        removed.add("removed");
    });
    log.hook(&shutdown, "newer");
    assert!(hook.remove());
    let report = shutdown.shutdown();
    assert_eq!(log.all(), ["newer", "terminal"]);
    assert_eq!(report.outcome(), Outcome::Clean);
}
