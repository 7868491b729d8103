//! P13–P16, P21: faults that a review has found, each with code of the user's that misbehaves in its own way. Those that need a
//! process of their own are in `signals/faults.rs`.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    missing_docs,
    reason = "tests"
)]

mod common;

use std::fmt;
use std::process::ExitCode;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use common::{FAR, SHORT, bounded, embedded, outcomes};
use winddown::{DrainOutcome, HookOptions, HookOutcome, Outcome, ShutdownCoordinator};

/// P15, with room for a busy machine.
const SLACK: Duration = Duration::from_secs(5);

/// Blocks whoever waits for it, until the test is over and drops the other end.
#[derive(Clone)]
struct Never(Arc<Mutex<Receiver<()>>>);

impl Never {
    fn new() -> (Sender<()>, Self) {
        let (keep, never) = mpsc::channel();
        (keep, Self(Arc::new(Mutex::new(never))))
    }

    fn wait(&self) {
        let _ = self.0.lock().unwrap().recv();
    }
}

/// More reasons than the report keeps.
fn stop_often(shutdown: &ShutdownCoordinator) {
    for n in 0..20 {
        shutdown.stop(format!("worker {n} has done its part"));
    }
}

#[test]
fn p3_a_failure_after_many_reasons_decides_the_exit_status() {
    let code = embedded().run(|shutdown| {
        stop_often(shutdown);
        Err::<(), _>("on purpose")
    });
    assert_eq!(code, ExitCode::from(1));
}

#[test]
fn p3_a_panic_after_many_reasons_decides_the_exit_status() {
    let code = embedded().run(|shutdown| -> Result<(), String> {
        stop_often(shutdown);
        panic!("on purpose")
    });
    assert_eq!(code, ExitCode::from(101));
}

/// A guard whose clean-up says that it has begun, and hangs.
fn hung_guard(
    shutdown: &ShutdownCoordinator,
    never: &Never,
) -> (winddown::Guard<()>, Receiver<()>) {
    let (began, begins) = mpsc::channel();
    let never = never.clone();
    let guard = shutdown.guard("hung", (), move |()| {
        began.send(()).unwrap();
        never.wait();
    });
    (guard, begins)
}

#[test]
fn p16_a_hung_guard_elsewhere_leaves_older_hooks_their_reserve() {
    let grace = SHORT * 40;
    for when in ["before the stop", "while draining"] {
        let (_keep, never) = Never::new();
        let shutdown = embedded().grace_period(grace).install().unwrap();
        shutdown.hook_with(HookOptions::new("older").reserve(SHORT * 10), || ());
        let (guard, begins) = hung_guard(&shutdown, &never);
        if when == "while draining" {
            shutdown.stop("on purpose");
        }
        let _dropping = thread::spawn(move || drop(guard));
        begins.recv_timeout(FAR).unwrap();
        let report = bounded(move || shutdown.shutdown());
        let expected = [
            ("hung", HookOutcome::TimedOut),
            ("older", HookOutcome::Completed),
        ];
        let mut found = outcomes(&report);
        found.sort_by_key(|(name, _)| *name);
        assert_eq!(found, expected, "{when}: {report}");
        assert!(report.took() < grace + SLACK, "{when}: {report}");
    }
}

#[test]
fn p16_a_guard_that_hangs_in_a_hook_that_drops_it_leaves_older_hooks_their_reserve() {
    let (_keep, never) = Never::new();
    let grace = SHORT * 40;
    let shutdown = embedded()
        .grace_period(grace)
        .cleanup_reserve(SHORT * 30)
        .install()
        .unwrap();
    shutdown.hook_with(HookOptions::new("older").reserve(SHORT * 10), || ());
    let (guard, _begins) = hung_guard(&shutdown, &never);
    let drops = HookOptions::new("drops it").timeout(SHORT);
    shutdown.hook_with(drops, move || drop(guard));
    let report = bounded(move || shutdown.shutdown());
    let expected = [
        ("drops it", HookOutcome::TimedOut),
        ("hung", HookOutcome::TimedOut),
        ("older", HookOutcome::Completed),
    ];
    assert_eq!(outcomes(&report), expected, "{report}");
    assert!(report.took() < grace + SLACK, "{report}");
}

/// A guard for every request, of a program that serves on while it drains.
#[test]
fn p15_guards_dropped_after_the_stop_do_not_fill_the_report() {
    const MANY: usize = 20_000;
    for fails in [false, true] {
        let shutdown = embedded().install().unwrap();
        let hold = shutdown.hold("server").unwrap();
        shutdown.stop("on purpose");
        for n in 0..MANY {
            drop(shutdown.guard("request", (), move |()| {
                // The very last one, long after there is room for no more.
                let failed = fails && n == MANY - 1;
                if failed { Err("on purpose") } else { Ok(()) }
            }));
        }
        drop(hold);
        let report = bounded(move || shutdown.shutdown());
        let listed = 1_000 + usize::from(fails);
        assert_eq!(
            (report.hooks().len(), report.more_hooks()),
            (listed, MANY - listed)
        );
        assert!(report.to_string().len() < 1_000_000);
        let outcome = if fails {
            Outcome::Incomplete
        } else {
            Outcome::Clean
        };
        assert_eq!(report.outcome(), outcome);
        assert_eq!(report.exit_code(), u8::from(fails));
    }
}

#[test]
fn p15_the_drop_is_in_time_when_the_last_words_hang() {
    let (_keep, never) = Never::new();
    let grace = SHORT * 10;
    let shutdown = embedded().grace_period(grace).install().unwrap();
    let (in_hook, in_report, in_late) = (never.clone(), never.clone(), never);
    shutdown.hook_with(HookOptions::new("hung").timeout(FAR), move || {
        in_hook.wait();
    });
    let handle = shutdown.handle();
    shutdown.on_report(move |_| {
        // Too late for those who are told with this one.
        handle.on_report(move |_| in_late.wait());
        in_report.wait();
    });
    let began = Instant::now();
    bounded(move || drop(shutdown));
    assert!(began.elapsed() < grace + SLACK, "{:?}", began.elapsed());
}

/// Neither can be shown nor dropped.
struct Malicious;

impl fmt::Display for Malicious {
    fn fmt(&self, _: &mut fmt::Formatter<'_>) -> fmt::Result {
        panic!("cannot be shown")
    }
}

impl Drop for Malicious {
    fn drop(&mut self) {
        panic!("cannot be dropped")
    }
}

/// A panic while another unwinds would abort this whole test.
#[test]
fn p14_an_error_that_panics_when_shown_and_when_dropped_is_a_panicked_hook() {
    let shutdown = embedded().install().unwrap();
    shutdown.hook("older", || ());
    shutdown.hook("malicious", || Err::<(), _>(Malicious));
    let report = bounded(move || shutdown.shutdown());
    let expected = [
        ("malicious", HookOutcome::Panicked("cannot be shown".into())),
        ("older", HookOutcome::Completed),
    ];
    assert_eq!(outcomes(&report), expected, "{report}");
}

/// The output of a task that looks, while it is dropped, whether a hook is called.
struct Output {
    hook_called: Receiver<()>,
    seen: Sender<Result<(), RecvTimeoutError>>,
}

impl Drop for Output {
    fn drop(&mut self) {
        let seen = self.hook_called.recv_timeout(SHORT);
        self.seen.send(seen).unwrap();
    }
}

#[test]
fn p21_the_output_of_a_task_that_nobody_holds_is_dropped_before_the_drain_is_over() {
    let shutdown = embedded().install().unwrap();
    let (call, hook_called) = mpsc::channel();
    shutdown.hook("close the database", move || {
        let _ = call.send(());
    });
    let (seen, looks) = mpsc::channel();
    let output = Output { hook_called, seen };
    let task = shutdown.spawn("detached", move |token| {
        token.wait();
        Ok::<_, String>(output)
    });
    drop(task.unwrap());
    let report = bounded(move || shutdown.shutdown());
    assert_eq!(
        looks.recv_timeout(FAR).unwrap(),
        Err(RecvTimeoutError::Timeout),
        "the hook was called while the task's output was being dropped"
    );
    assert_eq!(report.outcome(), Outcome::Clean, "{report}");
}

/// A panic out of the thread's own end would abort this whole test.
#[test]
fn p14_a_panic_of_the_output_of_a_task_that_nobody_holds_goes_no_further() {
    struct Panics;
    impl Drop for Panics {
        fn drop(&mut self) {
            panic!("on purpose");
        }
    }
    let shutdown = embedded().install().unwrap();
    shutdown.hook("close the database", || ());
    let task = shutdown.spawn("detached", move |token| {
        token.wait();
        Ok::<_, String>(Panics)
    });
    drop(task.unwrap());
    let report = bounded(move || shutdown.shutdown());
    assert_eq!(
        outcomes(&report),
        [("close the database", HookOutcome::Completed)]
    );
    assert_eq!(*report.drained()[0].outcome(), DrainOutcome::Ended);
}

/// What a hook holds that is never called is not kept for ever.
#[test]
fn the_closure_of_a_skipped_hook_is_dropped() {
    let shutdown = embedded().grace_period(Duration::ZERO).install().unwrap();
    let (held, gone) = mpsc::channel::<()>();
    shutdown.hook("skipped", move || held.send(()).unwrap());
    let report = bounded(move || shutdown.shutdown());
    assert_eq!(report.hooks()[0].outcome(), &HookOutcome::Skipped);
    assert_eq!(
        gone.recv_timeout(FAR),
        Err(mpsc::RecvTimeoutError::Disconnected)
    );
}

/// Its drop code panics.
struct Bomb;

impl Drop for Bomb {
    fn drop(&mut self) {
        panic!("as it is dropped");
    }
}

/// Two at a time would end the process.
#[test]
fn p15_closures_that_panic_as_they_are_dropped_keep_nobody_from_ending() {
    let shutdown = embedded().grace_period(Duration::ZERO).install().unwrap();
    let (held, gone) = mpsc::channel::<()>();
    let sets: Vec<_> = (0..3)
        .map(|_| {
            let (bomb, held) = (Bomb, held.clone());
            shutdown.hook("skipped", move || {
                let _held = held;
                drop(bomb);
            });
            let bomb = Bomb;
            let set = shutdown.in_flight::<u8>("items");
            set.on_interrupted(move |_| {
                let _ = &bomb;
            })
        })
        .collect();
    drop(held);
    shutdown.stop("now");
    let report = shutdown.wait();
    assert!(
        report
            .hooks()
            .iter()
            .all(|hook| *hook.outcome() == HookOutcome::Skipped),
        "{report}"
    );
    assert_eq!(report.hooks().len(), 3);
    drop(sets);
    bounded(move || drop(shutdown));
    assert_eq!(gone.recv_timeout(FAR), Err(RecvTimeoutError::Disconnected));
}

/// P16, of one that a thread of the user's runs.
#[test]
fn p16_a_hook_that_is_run_by_hand_leaves_the_others_their_reserve_alone() {
    let grace = SHORT * 20;
    let shutdown = embedded().grace_period(grace).install().unwrap();
    shutdown.hook("older", || ());
    let (_keep, never) = mpsc::channel::<()>();
    let (began, begins) = mpsc::channel();
    let hangs = HookOptions::new("hangs").timeout(FAR);
    let hook = shutdown.hook_with(hangs, move || {
        began.send(()).unwrap();
        let _ = never.recv();
    });
    shutdown.stop("enough");
    thread::spawn(move || hook.run_now());
    begins.recv_timeout(FAR).unwrap();
    let report = bounded(move || shutdown.shutdown());
    let older = &report.hooks()[1];
    assert_eq!(older.outcome(), &HookOutcome::Completed, "{report}");
    assert!(
        older.started() >= grace / 2,
        "the other had its time: {report}"
    );
}
