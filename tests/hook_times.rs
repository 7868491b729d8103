//! P14–P16: the times of hooks.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    missing_docs,
    reason = "tests"
)]

mod common;

use std::sync::{Mutex, mpsc};
use std::thread;
use std::time::Duration;

use common::{FAR, SHORT, bounded, embedded, outcomes};
use winddown::{HookOptions, HookOutcome, Outcome};

#[test]
fn p14_hooks_that_get_no_time_are_skipped_and_said() {
    let shutdown = embedded().grace_period(Duration::ZERO).install().unwrap();
    shutdown.hook("one", || ());
    shutdown.hook("two", || ());
    let report = shutdown.shutdown();
    assert_eq!(
        outcomes(&report),
        [("two", HookOutcome::Skipped), ("one", HookOutcome::Skipped)]
    );
    assert_eq!(report.outcome(), Outcome::TimedOut);
    assert_eq!(report.exit_code(), 124);
}

/// Neither the shutdown nor the drop of the coordinator waits for what a hook that is not called
/// lets go of.
#[test]
fn p15_what_was_skipped_may_hang_as_it_is_dropped() {
    struct Hangs(mpsc::Receiver<()>);
    impl Drop for Hangs {
        fn drop(&mut self) {
            let _ = self.0.recv();
        }
    }
    let shutdown = embedded().grace_period(Duration::ZERO).install().unwrap();
    let (_keep, hangs) = mpsc::channel::<()>();
    let dropped = Hangs(hangs);
    shutdown.hook("skipped", move || drop(dropped));
    let report = bounded(move || {
        let report = shutdown.shutdown();
        drop(shutdown);
        report
    });
    assert_eq!(report.outcome(), Outcome::TimedOut, "{report}");
    assert_eq!(outcomes(&report), [("skipped", HookOutcome::Skipped)]);
}

/// P14: cut off by its own time it is the hook that was slow, by that of all the shutdown was.
#[test]
fn p14_a_hook_that_the_end_of_the_time_cuts_off_is_a_timeout_of_the_shutdown() {
    for by_hand in [false, true] {
        let shutdown = embedded().grace_period(SHORT * 4).install().unwrap();
        let (_keep, never) = mpsc::channel::<()>();
        let never = Mutex::new(never);
        let (began, begins) = mpsc::channel();
        let hangs = HookOptions::new("hangs").timeout(FAR);
        let hook = shutdown.hook_with(hangs, move || {
            began.send(()).unwrap();
            let _ = never.lock().unwrap().recv();
        });
        if by_hand {
            thread::spawn(move || hook.run_now());
            begins.recv_timeout(FAR).unwrap();
        }
        let report = bounded(move || shutdown.shutdown());
        assert_eq!(outcomes(&report), [("hangs", HookOutcome::TimedOut)]);
        assert_eq!(report.outcome(), Outcome::TimedOut, "{report}");
        assert_eq!(report.exit_code(), 124);
    }
}

/// P13, P14: nobody listens to it any more, and it takes no other hook.
#[test]
fn p14_a_hook_that_comes_back_late_disturbs_nobody() {
    let shutdown = embedded().install().unwrap();
    let (third, starts) = mpsc::channel();
    let starts = Mutex::new(starts);
    let (gate, opens) = mpsc::channel::<()>();
    let opens = Mutex::new(opens);
    shutdown.hook("third", move || {
        let _ = third.send(());
    });
    shutdown.hook("second", move || {
        drop(gate);
        // The late one is back: if it took the third, that would be now.
        match starts.lock().unwrap().recv_timeout(SHORT) {
            Ok(()) => Err("the third runs beside me"),
            Err(_) => Ok(()),
        }
    });
    let late = HookOptions::new("late").timeout(SHORT);
    shutdown.hook_with(late, move || {
        let _ = opens.lock().unwrap().recv();
        Err::<(), _>("too late")
    });
    let report = bounded(move || shutdown.shutdown());
    assert_eq!(
        outcomes(&report),
        [
            ("late", HookOutcome::TimedOut),
            ("second", HookOutcome::Completed),
            ("third", HookOutcome::Completed)
        ]
    );
}

#[test]
fn p16_a_slow_hook_leaves_the_others_their_reserve() {
    // On a busy machine the runner may look late, but not three times.
    let whole = (0..3).any(|_| slow_hook_leaves_the_reserve());
    assert!(whole, "the other had its own");
}

/// False: the other one was late for it.
fn slow_hook_leaves_the_reserve() -> bool {
    let shutdown = embedded().grace_period(SHORT * 40).install().unwrap();
    let (_keep, never) = mpsc::channel::<()>();
    let never = Mutex::new(never);
    let reserve = SHORT * 10;
    shutdown.hook_with(HookOptions::new("older").reserve(reserve), || ());
    shutdown.hook_with(
        HookOptions::new("hangs").timeout(FAR).reserve(reserve),
        move || {
            let _ = never.lock().unwrap().recv();
        },
    );
    let report = bounded(move || shutdown.shutdown());
    assert_eq!(
        outcomes(&report),
        [
            ("hangs", HookOutcome::TimedOut),
            ("older", HookOutcome::Completed)
        ]
    );
    let hung = report.hooks()[0].took();
    assert!(hung >= reserve, "it had its own reserve: {hung:?}");
    report.hooks()[1].started() <= SHORT * 31
}

#[test]
fn p16_the_reserve_of_a_hook_that_has_ended_is_free_again() {
    let grace = SHORT * 20;
    let shutdown = embedded().grace_period(grace).install().unwrap();
    let (_keep, never) = mpsc::channel::<()>();
    let reserve = grace * 9 / 20;
    let hangs = HookOptions::new("hangs").timeout(FAR).reserve(reserve);
    shutdown.hook_with(hangs, move || {
        let _ = never.recv();
    });
    shutdown.hook_with(HookOptions::new("ends").reserve(reserve), || ());
    let report = bounded(move || shutdown.shutdown());
    let hung = report.hooks()[1].took();
    assert!(hung >= grace * 3 / 4, "nobody else needs it: {report}");
}

#[test]
fn p16_the_reserve_of_a_hook_that_is_removed_is_free_again() {
    let grace = SHORT * 20;
    let shutdown = embedded().grace_period(grace).install().unwrap();
    let (_keep, never) = mpsc::channel::<()>();
    let reserve = grace * 9 / 20;
    let gone = shutdown.hook_with(HookOptions::new("gone").reserve(reserve), || ());
    let hangs = HookOptions::new("hangs").timeout(FAR).reserve(reserve);
    shutdown.hook_with(hangs, move || {
        let _ = never.recv();
    });
    assert!(gone.remove());
    let report = bounded(move || shutdown.shutdown());
    let hung = report.hooks()[0].took();
    assert!(hung >= grace * 3 / 4, "nobody else needs it: {report}");
}

/// Run by hand while cleaning, it is on the stack no more, and has the time that it would have had.
#[test]
fn p16_a_hook_that_is_run_from_another_leaves_the_others_their_reserve_and_no_more() {
    let grace = SHORT * 20;
    let shutdown = embedded().grace_period(grace).install().unwrap();
    let (_keep, never) = mpsc::channel::<()>();
    shutdown.hook_with(HookOptions::new("last").reserve(grace / 10), || ());
    let hangs = HookOptions::new("hangs").timeout(FAR).reserve(grace / 4);
    let hangs = shutdown.hook_with(hangs, move || {
        let _ = never.recv();
    });
    shutdown.hook_with(HookOptions::new("runs it").timeout(FAR), move || {
        hangs.run_now();
    });
    let report = bounded(move || shutdown.shutdown());
    let of = |name| report.hooks().iter().find(|hook| hook.name() == name);
    let hung = of("hangs").unwrap().took();
    assert!(hung >= grace / 2, "{report}");
    assert_eq!(
        *of("last").unwrap().outcome(),
        HookOutcome::Completed,
        "{report}"
    );
}

/// Each is left behind when its own time is over, not when the runner happens to look.
#[test]
fn p14_hooks_with_short_times_of_their_own_hold_up_nobody() {
    let shutdown = embedded().install().unwrap();
    let keep = [(); 20].map(|()| {
        let (keep, never) = mpsc::channel::<()>();
        let short = HookOptions::new("hangs").timeout(Duration::from_millis(2));
        shutdown.hook_with(short, move || {
            let _ = never.recv();
        });
        keep
    });
    let report = bounded(move || shutdown.shutdown());
    // A look of the runner for each would be two seconds.
    let took = report.took();
    assert!(took < Duration::from_secs(1), "{report}");
    assert_eq!(report.outcome(), Outcome::Incomplete, "{report}");
    drop(keep);
}
