//! P17, P20: the calls that hand items back, and the time that they have.
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
use std::time::Instant;

use common::{FAR, SHORT, bounded, embedded, hasty, undrained};
use winddown::{Advice, DrainOutcome, Outcome};

#[test]
fn a_hand_back_that_hangs_leaves_the_others_their_time() {
    let shutdown = hasty().install().unwrap();
    let back = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&back);
    let (_keep, never) = mpsc::channel::<()>();
    let never = Mutex::new(never);
    let (call, calls) = mpsc::channel();
    let jobs = shutdown.in_flight("jobs").on_interrupted(move |item| {
        call.send(Instant::now()).unwrap();
        if *item.item() == 0 {
            let _ = never.lock().unwrap().recv();
        }
        counted.fetch_add(1, Ordering::SeqCst);
    });
    let items: Vec<_> = (0..20)
        .map(|n| jobs.reserve().unwrap().fill(n).unwrap())
        .collect();
    let report = bounded(move || shutdown.shutdown());
    assert_eq!(back.load(Ordering::SeqCst), 19);
    assert_eq!(report.handed_back(), 19);
    assert_eq!(
        report
            .drained()
            .iter()
            .filter(|it| *it.outcome() == DrainOutcome::Undecided)
            .count(),
        1,
        "{report}"
    );
    // Half of the slice: they do not wait for its end.
    let calls: Vec<Instant> = calls.try_iter().collect();
    assert!(calls[19] - calls[0] < SHORT * 9, "{report}");
    drop(items);
}

/// P20: the hooks wait for a commit that the end of the drain finds under way, as long as the slice
/// lasts; also where the stage of it is not waited for any more.
#[test]
fn p20_a_commit_that_is_under_way_has_the_hand_back_slice() {
    for of_a_stage in [false, true] {
        let shutdown = embedded()
            .grace_period(SHORT * 42)
            .cleanup_reserve(SHORT * 40)
            .install()
            .unwrap();
        let jobs = if of_a_stage {
            shutdown.stage("slow").timeout(SHORT).in_flight("jobs")
        } else {
            shutdown.in_flight("jobs")
        };
        let (back, is_back) = mpsc::channel();
        let jobs = jobs.on_interrupted(move |item| back.send(item.into_item()).unwrap());
        let (clean, is_cleaning) = mpsc::channel();
        shutdown.hook("after the drain", move || {
            let _ = clean.send(());
        });
        let [committed, waiting] = [1, 2].map(|n| jobs.reserve().unwrap().fill(n).unwrap());
        let (say, said) = mpsc::channel();
        let committing = thread::spawn(move || {
            committed.complete(|_| {
                say.send(()).unwrap();
                assert_eq!(is_back.recv_timeout(FAR), Ok(2));
                // Nothing but this commit keeps the hooks now.
                Ok::<_, ()>(is_cleaning.recv_timeout(SHORT).is_err())
            })
        });
        said.recv_timeout(FAR).unwrap();
        let report = bounded(move || shutdown.shutdown());
        let waited = committing.join().unwrap();
        assert_eq!(waited, Ok(true), "a hook ran before its end");
        drop(waiting);
        assert_eq!(report.handed_back(), 1, "{report}");
    }
}

/// P21: also where the program has handed its item back.
#[test]
fn hooks_wait_for_the_worker_of_an_item_that_is_handed_back() {
    let shutdown = undrained().install().unwrap();
    let (tell, told) = mpsc::channel();
    let jobs = shutdown
        .in_flight("jobs")
        .on_interrupted(move |_| tell.send(()));
    let item = jobs.reserve().unwrap().fill(1).unwrap();
    let (leave, left) = mpsc::channel();
    shutdown.hook("close", move || {
        left.try_recv().map_err(|_| "a worker is there")
    });
    let working = thread::spawn(move || {
        told.recv_timeout(FAR).unwrap();
        thread::sleep(SHORT);
        leave.send(()).unwrap();
        drop(item);
    });
    let report = bounded(move || shutdown.shutdown());
    working.join().unwrap();
    assert_eq!(
        (report.outcome(), report.handed_back()),
        (Outcome::Clean, 1),
        "{report}"
    );
}

/// As long as none hangs.
#[test]
fn hand_backs_are_made_one_after_the_other() {
    let shutdown = undrained().install().unwrap();
    let alone = Arc::new(Mutex::new(()));
    let beside = Arc::new(AtomicUsize::new(0));
    let (at_call, seen) = (Arc::clone(&alone), Arc::clone(&beside));
    let jobs = shutdown.in_flight("jobs").on_interrupted(move |_| {
        let alone = at_call.try_lock();
        seen.fetch_add(usize::from(alone.is_err()), Ordering::SeqCst);
        thread::sleep(SHORT);
    });
    let items: Vec<_> = (0..6)
        .map(|n| jobs.reserve().unwrap().fill(n).unwrap())
        .collect();
    let ending = thread::spawn(move || shutdown.shutdown());
    for item in items {
        item.token().wait();
        drop(item);
    }
    let report = bounded(move || ending.join().unwrap());
    assert_eq!(report.handed_back(), 6, "{report}");
    assert_eq!(beside.load(Ordering::SeqCst), 0, "two at the same time");
}

/// P20: one that waits for its items is waited for too, in the slice that they had.
#[test]
fn an_owner_that_comes_after_its_last_item_is_in_time() {
    let shutdown = undrained().install().unwrap();
    let (tell, told) = mpsc::channel();
    let jobs = shutdown.in_flight("jobs").on_interrupted(move |_| {
        tell.send(()).unwrap();
    });
    let item = jobs.reserve().unwrap().fill(1).unwrap();
    let report = bounded(move || {
        shutdown.stop("now");
        told.recv_timeout(FAR).unwrap();
        drop(item);
        thread::sleep(SHORT);
        shutdown.shutdown()
    });
    assert_eq!(report.outcome(), Outcome::Clean, "{report}");
    assert_eq!(report.handed_back(), 1, "{report}");
    assert!(
        SHORT <= report.took() && report.took() < FAR / 3,
        "{report}"
    );
}

#[test]
fn a_hand_back_that_fails_or_panics_is_in_the_report() {
    let shutdown = embedded().install().unwrap();
    let jobs = shutdown
        .in_flight("jobs")
        .on_interrupted(|item| match item.into_item() {
            1 => Err::<(), _>("the queue is gone"),
            _ => panic!("on purpose"),
        });
    drop(jobs.reserve().unwrap().fill(1).unwrap());
    drop(jobs.reserve().unwrap().fill(2).unwrap());
    let report = shutdown.shutdown();
    let shown = report.to_string();
    assert!(
        shown.contains("hand-back failed: the queue is gone"),
        "{shown}"
    );
    assert!(shown.contains("in its hand-back: on purpose"), "{shown}");
    assert_eq!(report.exit_code(), 101, "{shown}");
}

#[test]
fn of_many_hand_backs_that_failed_64_are_rows_and_the_rest_is_counted() {
    let shutdown = embedded().install().unwrap();
    let jobs = shutdown
        .in_flight("jobs")
        .on_interrupted(|_| Err::<(), _>("the queue is gone"));
    for n in 0..70 {
        drop(jobs.reserve().unwrap().fill(n).unwrap());
    }
    let report = shutdown.shutdown();
    assert_eq!(report.drained().len(), 65, "{report}");
    let rest = report.drained()[64].outcome().to_string();
    assert!(rest.ends_with("and 6 more hand-backs failed"), "{rest}");
}

#[test]
fn an_item_that_is_handed_back_says_how_long_it_ran() {
    let shutdown = embedded().install().unwrap();
    let (tell, told) = mpsc::channel();
    let jobs = shutdown
        .in_flight("jobs")
        .on_interrupted(move |item| tell.send(item.ran()));
    let began = Instant::now();
    let item = jobs.reserve().unwrap().fill(1).unwrap();
    thread::sleep(SHORT);
    drop(item);
    let ran = told.recv_timeout(FAR).unwrap();
    // "To a few milliseconds."
    let most = began.elapsed() + SHORT / 2;
    assert!((SHORT / 2..most).contains(&ran), "{ran:?}");
}

#[test]
fn a_poison_item_ends_with_the_dead_letters() {
    let shutdown = embedded().install().unwrap();
    let (told, tells) = mpsc::channel();
    let told = Mutex::new(told);
    let jobs = shutdown
        .in_flight("jobs")
        .max_interruptions(3)
        .on_interrupted(move |item| {
            told.lock()
                .unwrap()
                .send((item.attempts(), item.advice()))
                .unwrap();
            let _ = item.try_into_item().expect("nobody else has it");
        });
    for attempts in 0..4 {
        drop(
            jobs.reserve()
                .unwrap()
                .fill_with(Box::new(attempts), attempts)
                .unwrap(),
        );
    }
    drop(jobs.reserve().unwrap().fill(Box::new(9)).unwrap());
    let expected = [
        (Some(0), Advice::TryAgain),
        (Some(1), Advice::TryAgain),
        (Some(2), Advice::GiveUp),
        (Some(3), Advice::GiveUp),
        (None, Advice::TryAgain),
    ];
    assert_eq!(tells.try_iter().collect::<Vec<_>>(), expected);
    let _ = shutdown.shutdown();
}

/// What `fill` admits is at its first attempt.
#[test]
fn one_interruption_may_be_too_many() {
    let shutdown = embedded().install().unwrap();
    let (tell, told) = mpsc::channel();
    let jobs = shutdown
        .in_flight("jobs")
        .max_interruptions(1)
        .on_interrupted(move |item| tell.send(item.advice()));
    drop(jobs.reserve().unwrap().fill(1).unwrap());
    assert_eq!(told.try_recv().unwrap(), Advice::GiveUp);
}

#[test]
fn p17_a_hand_back_may_call_shutdown() {
    let shutdown = Arc::new(embedded().install().unwrap());
    let inner = Arc::downgrade(&shutdown);
    let (told, tells) = mpsc::channel();
    let told = Mutex::new(told);
    let jobs = shutdown.in_flight("jobs").on_interrupted(move |_| {
        told.lock()
            .unwrap()
            .send(inner.upgrade().unwrap().shutdown().is_final())
            .unwrap();
    });
    let item = jobs.reserve().unwrap().fill(()).unwrap();
    bounded(move || drop(item));
    assert!(!tells.recv_timeout(FAR).unwrap());
    let report = bounded(move || shutdown.wait());
    assert_eq!(report.outcome(), Outcome::Clean);
}
