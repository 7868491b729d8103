//! P20–P22: items end completed or handed back, exactly one of the two.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    missing_docs,
    reason = "tests"
)]

mod common;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::thread;

use common::{FAR, SHORT, bounded, embedded, rounds};
use winddown::{DrainOutcome, HandBack, Interruption, NotCompleted, Outcome, ShutdownCoordinator};

/// What was handed back, in order.
type Back = Arc<Mutex<Vec<(u32, Interruption)>>>;

fn jobs(shutdown: &ShutdownCoordinator) -> (winddown::InFlight<u32>, Back) {
    let back = Back::default();
    let log = Arc::clone(&back);
    let jobs = shutdown.in_flight("jobs").on_interrupted(move |item| {
        let why = item.why().clone();
        log.lock().unwrap().push((item.into_item(), why));
    });
    (jobs, back)
}

#[test]
fn a_completed_item_is_not_handed_back() {
    let shutdown = embedded().install().unwrap();
    let (jobs, back) = jobs(&shutdown);
    let item = jobs.reserve().unwrap().fill(7).unwrap();
    assert_eq!(*item, 7);
    assert_eq!(jobs.len(), 1);
    let reserved = jobs.reserve().unwrap();
    assert_eq!(jobs.len(), 2);
    assert!(!jobs.is_empty());
    drop(reserved);
    assert_eq!(item.complete(|job| Ok::<_, ()>(job * 2)), Ok(14));
    assert!(jobs.is_empty());
    let report = shutdown.shutdown();
    assert_eq!(report.outcome(), Outcome::Clean);
    assert_eq!(report.handed_back(), 0);
    assert!(back.lock().unwrap().is_empty());
}

#[test]
fn p20_what_is_not_completed_is_handed_back_with_the_reason() {
    let shutdown = embedded().install().unwrap();
    let (jobs, back) = jobs(&shutdown);
    let fill = |n| jobs.reserve().unwrap().fill(n).unwrap();
    drop(fill(1));
    fill(2).fail("disk full");
    assert_eq!(
        fill(3).complete(|_| Err::<(), _>("no")),
        Err(NotCompleted::CommitFailed("no"))
    );
    let panicking = jobs.clone();
    let work = thread::spawn(move || {
        let _item = panicking.reserve().unwrap().fill(4).unwrap();
        panic!("in the work");
    });
    assert!(work.join().is_err());
    let panicking = jobs.clone();
    let work = thread::spawn(move || {
        let item = panicking.reserve().unwrap().fill(5).unwrap();
        item.complete(|_| -> Result<(), ()> { panic!("in the commit") })
    });
    assert!(work.join().is_err());
    let expected = [
        (1, Interruption::Dropped),
        (2, Interruption::Failed("disk full".into())),
        (3, Interruption::CommitFailed),
        (4, Interruption::Panicked),
        (5, Interruption::Panicked),
    ];
    assert_eq!(*back.lock().unwrap(), expected);
    let report = shutdown.shutdown();
    assert_eq!(
        (report.handed_back(), report.outcome()),
        (5, Outcome::Clean)
    );
}

/// Nobody has closed anything by then.
#[test]
fn p22_what_is_fetched_a_moment_after_the_stop_is_not_run() {
    for _ in 0..rounds(100) {
        let shutdown = embedded().install().unwrap();
        let (jobs, back) = jobs(&shutdown);
        let slot = jobs.reserve().unwrap();
        assert!(shutdown.stop("now"));
        assert!(slot.fill(9).is_none());
        assert_eq!(*back.lock().unwrap(), [(9, Interruption::Stopping)]);
        assert_eq!(shutdown.shutdown().handed_back(), 1);
    }
}

#[test]
fn p22_what_is_fetched_over_the_stop_is_handed_back_and_not_run() {
    let shutdown = embedded().install().unwrap();
    let (jobs, back) = jobs(&shutdown);
    let slot = jobs.reserve().unwrap();
    let unused = jobs.reserve().unwrap();
    shutdown.stop("now");
    assert!(jobs.reserve().is_none());
    let token = shutdown.token();
    let ending = thread::spawn(move || shutdown.wait());
    token.wait();
    // P21: the slots keep the drain open until the fetch has come back.
    drop(unused);
    assert!(!ending.is_finished());
    assert!(slot.fill(9).is_none());
    assert_eq!(*back.lock().unwrap(), [(9, Interruption::Stopping)]);
    let report = bounded(move || ending.join().unwrap());
    assert_eq!(
        (report.handed_back(), report.outcome()),
        (1, Outcome::Clean)
    );
}

#[test]
fn p21_the_drain_waits_for_items_and_they_may_still_be_completed() {
    let shutdown = embedded().install().unwrap();
    let (jobs, back) = jobs(&shutdown);
    let item = jobs.reserve().unwrap().fill(1).unwrap();
    let (called, calls) = mpsc::channel();
    shutdown.hook("close", move || called.send(()).unwrap());
    let token = shutdown.token();
    let ending = thread::spawn(move || shutdown.shutdown());
    token.wait();
    assert!(
        !item.is_interrupted() && !item.token().is_stopped(),
        "work in hand is to be finished"
    );
    assert!(calls.try_recv().is_err());
    assert_eq!(item.complete(|_| Ok::<_, ()>(())), Ok(()));
    let report = bounded(move || ending.join().unwrap());
    assert_eq!(report.outcome(), Outcome::Clean);
    assert!(back.lock().unwrap().is_empty());
}

#[test]
fn at_the_deadline_running_items_are_handed_back_and_their_commit_comes_too_late() {
    let shutdown = embedded()
        .grace_period(SHORT * 20)
        .cleanup_reserve(SHORT * 16)
        .install()
        .unwrap();
    let (jobs, back) = jobs(&shutdown);
    let item = jobs.reserve().unwrap().fill(1).unwrap();
    let token = item.token();
    let report = bounded(move || shutdown.shutdown());
    assert_eq!(*back.lock().unwrap(), [(1, Interruption::OutOfTime)]);
    assert_eq!(report.handed_back(), 1);
    assert!(
        report.took() >= SHORT * 4,
        "taken back before its time: {report}"
    );
    assert!(item.is_interrupted() && token.is_stopped());
    assert_eq!(
        item.complete(|_| -> Result<(), ()> { panic!("called") }),
        Err(NotCompleted::HandedBack)
    );
}

#[test]
fn when_only_what_stopped_is_handed_back_the_rest_is_undecided_and_said() {
    let shutdown = embedded()
        .grace_period(SHORT * 20)
        .cleanup_reserve(SHORT * 16)
        .install()
        .unwrap();
    let back = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&back);
    let jobs = shutdown
        .in_flight("careful")
        .hand_back(HandBack::WhenStopped)
        .on_interrupted(move |_| {
            counted.fetch_add(1, Ordering::SeqCst);
        });
    let stuck = jobs.reserve().unwrap().fill(1).unwrap();
    let stops = jobs.reserve().unwrap().fill(2).unwrap();
    let stopping = thread::spawn(move || {
        stops.token().wait();
        drop(stops);
    });
    let report = bounded(move || shutdown.shutdown());
    stopping.join().unwrap();
    assert_eq!(back.load(Ordering::SeqCst), 1);
    let undecided: Vec<_> = report
        .drained()
        .iter()
        .filter(|it| *it.outcome() == DrainOutcome::Undecided)
        .collect();
    assert_eq!(undecided.len(), 1, "{report}");
    assert_eq!(undecided[0].name(), "careful");
    assert_eq!(report.exit_code(), 1);
    assert_eq!(
        stuck.complete(|_| -> Result<(), ()> { panic!("called") }),
        Err(NotCompleted::Undecided)
    );
    assert_eq!(
        back.load(Ordering::SeqCst),
        1,
        "the verdict was given already"
    );
}

#[test]
fn a_commit_that_hangs_is_undecided_and_the_hooks_run() {
    let shutdown = embedded()
        .grace_period(SHORT * 20)
        .cleanup_reserve(SHORT * 16)
        .install()
        .unwrap();
    let (jobs, back) = jobs(&shutdown);
    let item = jobs.reserve().unwrap().fill(1).unwrap();
    let (began, begins) = mpsc::channel();
    let (go_on, goes_on) = mpsc::channel::<()>();
    let committing = thread::spawn(move || {
        item.complete(|_| {
            began.send(()).unwrap();
            goes_on.recv().map_err(drop)
        })
    });
    begins.recv_timeout(FAR).unwrap();
    shutdown.hook("close", || ());
    let report = bounded(move || shutdown.shutdown());
    assert!(
        report
            .drained()
            .iter()
            .any(|it| *it.outcome() == DrainOutcome::Undecided),
        "{report}"
    );
    assert!(report.hooks()[0].outcome().is_completed());
    go_on.send(()).unwrap();
    // The effect is there, and the caller hears of it.
    assert_eq!(committing.join().unwrap(), Ok(()));
    assert!(back.lock().unwrap().is_empty());
}

/// The commit is user code of its coordinator, whichever of a process that is.
#[test]
fn p17_a_commit_may_call_shutdown() {
    let other = embedded().install().unwrap();
    let shutdown = Arc::new(embedded().install().unwrap());
    let jobs: winddown::InFlight<u32> = shutdown.in_flight("jobs").on_interrupted(|_| ());
    let item = jobs.reserve().unwrap().fill(1).unwrap();
    let ends = Arc::clone(&shutdown);
    let so_far = bounded(move || item.complete(|_| Ok::<_, String>(ends.shutdown())));
    assert!(!so_far.unwrap().is_final());
    assert!(shutdown.shutdown().is_final());
    drop(other);
}

#[test]
fn p23_a_million_items_leave_nothing_behind() {
    let shutdown = embedded().install().unwrap();
    let held = Arc::new(());
    let jobs = shutdown.in_flight("jobs").on_interrupted(|_| ());
    for n in 0..if cfg!(debug_assertions) {
        200_000
    } else {
        1_000_000
    } {
        let item = jobs.reserve().unwrap().fill(Arc::clone(&held)).unwrap();
        if n % 3 == 0 {
            drop(item);
        } else {
            item.complete(|_| Ok::<_, ()>(())).unwrap();
        }
    }
    assert_eq!(Arc::strong_count(&held), 1);
    assert!(jobs.is_empty());
    // Sets that come and go neither.
    for _ in 0..10_000 {
        drop(
            shutdown
                .in_flight("short")
                .on_interrupted(|_: winddown::Interrupted<u32>| ()),
        );
    }
    assert!(shutdown.shutdown().drained().is_empty());
}

/// Says whether it was told of `hook` before its drop code was over.
struct Slow {
    hook: mpsc::Receiver<()>,
    was_told: mpsc::Sender<bool>,
}

impl Drop for Slow {
    fn drop(&mut self) {
        let told = self.hook.recv_timeout(SHORT).is_ok();
        self.was_told.send(told).unwrap();
    }
}

#[test]
fn p21_the_drop_code_of_a_payload_is_part_of_its_item() {
    let shutdown = embedded().install().unwrap();
    let (tell, hook) = mpsc::channel();
    let (was_told, told) = mpsc::channel();
    shutdown.hook("close", move || {
        let _ = tell.send(());
    });
    let jobs = shutdown.in_flight("jobs").on_interrupted(|_| ());
    let payload = Mutex::new(Slow { hook, was_told });
    let item = jobs.reserve().unwrap().fill(payload).unwrap();
    shutdown.stop("now");
    let working = thread::spawn(move || item.complete(|_| Ok::<_, ()>(())));
    let _ = bounded(move || shutdown.shutdown());
    assert_eq!(working.join().unwrap(), Ok(()));
    assert!(!told.recv_timeout(FAR).unwrap(), "a hook ran meanwhile");
}

struct Bomb;

impl Drop for Bomb {
    fn drop(&mut self) {
        panic!("in the drop code of a payload");
    }
}

#[test]
fn a_payload_that_panics_when_it_is_dropped_leaves_nothing_in_flight() {
    let shutdown = embedded().install().unwrap();
    let jobs = shutdown.in_flight("jobs").on_interrupted(|_| ());
    let item = jobs.reserve().unwrap().fill(Bomb).unwrap();
    let complete = AssertUnwindSafe(|| item.complete(|_| Ok::<_, ()>(())));
    assert!(catch_unwind(complete).is_err());
    assert!(jobs.is_empty());
    let report = bounded(move || shutdown.shutdown());
    assert_eq!(report.outcome(), Outcome::Clean, "{report}");
}
