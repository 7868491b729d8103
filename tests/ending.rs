//! P15, P18 and the report: how a shutdown ends. Endings with signals have a binary of their own.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    missing_docs,
    reason = "tests"
)]

mod common;

use std::process::ExitCode;
use std::sync::{Arc, Mutex, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use common::{FAR, SHORT, bounded, embedded};
use winddown::{
    Escalation, ExitBy, ExitPolicy, HookOptions, InstallError, Outcome, ShutdownCoordinator,
    Signal, StopReason, Stopped,
};

/// P15, with room for a busy machine.
const SLACK: Duration = Duration::from_secs(5);

#[test]
fn p15_the_time_holds_when_every_part_hangs() {
    let grace = SHORT * 10;
    let shutdown = embedded().grace_period(grace).install().unwrap();
    let (_keep, never) = mpsc::channel::<()>();
    let never = Arc::new(Mutex::new(never));
    let hang = move || {
        let never = Arc::clone(&never);
        move || {
            let _ = never.lock().unwrap().recv();
        }
    };
    let registered = {
        let hang = hang();
        shutdown.token().on_stop(move |_| hang())
    };
    let hold = shutdown.hold("held for ever").unwrap();
    let in_task = hang();
    let task = shutdown.spawn("hangs", move |_| in_task()).unwrap();
    for _ in 0..5 {
        shutdown.hook_with(HookOptions::new("hangs").timeout(FAR), hang());
    }
    shutdown.hook("quick", || ());
    let in_report = hang();
    shutdown.on_report(move |_| in_report());
    let began = Instant::now();
    let report = bounded(move || {
        let report = shutdown.shutdown();
        (report, shutdown)
    });
    let took = began.elapsed();
    assert!(took >= grace / 2 && took < grace + SLACK, "{took:?}");
    let (report, shutdown) = report;
    assert!(report.hooks()[0].outcome().is_completed(), "{report}");
    assert_eq!(report.hooks().len(), 6);
    assert!(report.drained().len() >= 2, "{report}");
    assert!(report.abandoned().count() >= 3, "{report}");
    assert_ne!(report.outcome(), Outcome::Clean);
    drop((registered, hold, task, shutdown));
}

#[test]
fn an_empty_shutdown_is_clean_and_quick() {
    let shutdown = embedded().install().unwrap();
    let report = shutdown.shutdown();
    assert_eq!(*report.reason(), StopReason::Completed);
    assert_eq!(report.outcome(), Outcome::Clean);
    assert!(report.is_final());
    assert!(report.took() < SLACK);
    assert_eq!(report.exit_code(), 0);
    assert_eq!(ExitCode::from(report), ExitCode::SUCCESS);
}

#[test]
fn zero_and_huge_durations_are_taken_as_they_are() {
    for time in [Duration::ZERO, Duration::MAX, Duration::from_nanos(1)] {
        let shutdown = embedded()
            .grace_period(time)
            .cleanup_reserve(time)
            .hook_timeout(time)
            .debounce(time)
            .install()
            .unwrap();
        let hold = shutdown.hold("short").unwrap();
        shutdown.hook_with(HookOptions::new("hook").timeout(time).reserve(time), || ());
        let token = shutdown.token();
        drop(hold);
        let report = bounded(move || shutdown.shutdown());
        assert!(report.is_final());
        assert_eq!(report.hooks().len(), 1);
        assert!(token.time_left().is_some());
        assert!(token.wait_timeout(time).is_some());
    }
}

#[test]
fn run_goes_through_the_shutdown_whatever_way_the_program_ends() {
    let run = |f: fn() -> Result<(), String>| {
        let (called, calls) = mpsc::channel();
        let code = embedded().run(|shutdown| {
            shutdown.hook("close", move || called.send(()).unwrap());
            f()
        });
        calls.recv_timeout(FAR).unwrap();
        code
    };
    assert_eq!(run(|| Ok(())), ExitCode::SUCCESS);
    assert_eq!(run(|| Err("on purpose".into())), ExitCode::from(1));
    assert_eq!(run(|| panic!("on purpose")), ExitCode::from(101));
}

#[test]
fn an_error_that_is_or_wraps_stopped_is_no_failure() {
    #[derive(Debug)]
    struct Wrapping(Stopped);
    impl std::fmt::Display for Wrapping {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            write!(f, "while importing: {}", self.0)
        }
    }
    impl std::error::Error for Wrapping {}
    let code = embedded().run(|shutdown| {
        shutdown.stop("enough");
        shutdown.token().check()
    });
    assert_eq!(code, ExitCode::SUCCESS);
    let code = embedded().run(|shutdown| -> Result<(), Box<dyn std::error::Error>> {
        shutdown.stop("enough");
        shutdown.token().check().map_err(Wrapping)?;
        Ok(())
    });
    assert_eq!(code, ExitCode::SUCCESS);
}

#[test]
fn an_error_after_the_stop_is_a_failure_too() {
    let code = embedded().run(|shutdown| {
        shutdown.stop("enough");
        Err::<(), _>("and then this")
    });
    assert_eq!(code, ExitCode::from(1));
}

/// `f` may have fetched the report before it fails.
#[test]
fn a_failure_after_the_report_decides_the_exit_status_too() {
    let code = embedded().run(|shutdown| {
        assert_eq!(shutdown.shutdown().exit_code(), 0);
        Err::<(), _>("the last write failed")
    });
    assert_eq!(code, ExitCode::from(1));
    let code = embedded().run(|shutdown| -> Result<(), String> {
        assert_eq!(shutdown.shutdown().exit_code(), 0);
        panic!("on purpose");
    });
    assert_eq!(code, ExitCode::from(101));
}

/// A shutdown that is cut short is not a success.
#[test]
fn a_report_that_is_not_final_has_no_code_of_0() {
    let shutdown = Arc::new(embedded().install().unwrap());
    let inside = Arc::downgrade(&shutdown);
    let (tell, told) = mpsc::channel();
    shutdown.hook("asks", move || {
        tell.send(inside.upgrade().unwrap().shutdown().exit_code())
            .unwrap();
    });
    let owner = Arc::clone(&shutdown);
    let report = bounded(move || owner.shutdown());
    assert_eq!((told.try_recv().unwrap(), report.exit_code()), (1, 0));
}

/// However little time the drain has.
#[test]
fn an_owner_that_asks_for_the_end_is_there_at_the_stop() {
    for _ in 0..100 {
        let shutdown = embedded().cleanup_reserve(FAR).install().unwrap();
        shutdown.hook("quick", || ());
        assert_eq!(
            bounded(move || shutdown.shutdown()).outcome(),
            Outcome::Clean
        );
    }
}

/// P15: of what the program has put into a set of items.
#[test]
fn p15_drop_code_that_hangs_keeps_no_drop_of_the_coordinator() {
    struct Hung(Mutex<mpsc::Receiver<()>>);
    impl Drop for Hung {
        fn drop(&mut self) {
            let _ = self.0.lock().unwrap().recv();
        }
    }
    let (_keep, never) = mpsc::channel::<()>();
    let hung = Hung(Mutex::new(never));
    let shutdown = embedded().install().unwrap();
    let jobs = shutdown.in_flight::<u8>("jobs").on_interrupted(move |_| {
        let _ = &hung;
    });
    shutdown.stop("now");
    assert_eq!(shutdown.wait().outcome(), Outcome::Clean);
    drop(jobs);
    bounded(move || drop(shutdown));
}

/// P10: it is the host's again.
#[test]
fn what_is_fed_after_the_end_ends_nobody() {
    let shutdown = embedded()
        .escalation(Escalation::SecondSignal)
        .debounce(Duration::ZERO)
        .install()
        .unwrap();
    let handle = shutdown.handle();
    handle.feed(Signal::TERM);
    assert_eq!(
        bounded(move || shutdown.shutdown()).outcome(),
        Outcome::Clean
    );
    handle.feed(Signal::TERM);
    handle.feed(Signal::TERM);
}

#[test]
fn run_says_that_it_could_not_install() {
    let code = ShutdownCoordinator::builder()
        .signals([Signal::KILL])
        .run(|_| Ok::<_, String>(()));
    assert_eq!(code, ExitCode::FAILURE);
}

#[test]
fn signals_that_cannot_be_handled_are_refused_by_name() {
    for signal in [
        Signal::KILL,
        Signal::STOP,
        Signal::SEGV,
        Signal::ABRT,
        Signal::try_from(32).unwrap(),
    ] {
        let error = ShutdownCoordinator::builder()
            .signals([Signal::USR1, signal])
            .install()
            .unwrap_err();
        assert!(matches!(error, InstallError::CannotHandle(refused) if refused == signal));
        assert!(
            error.to_string().starts_with(&signal.to_string()),
            "{error}"
        );
    }
}

#[test]
fn the_exit_policy_has_the_last_word() {
    let policy = ExitPolicy::default()
        .failed(ExitBy::Code(7))
        .clean(ExitBy::Code(3));
    let shutdown = embedded().exit_policy(policy).install().unwrap();
    assert_eq!(shutdown.shutdown().exit_code(), 3);
    let shutdown = embedded().exit_policy(policy).install().unwrap();
    shutdown.hook("fails", || Err::<(), _>("no"));
    assert_eq!(shutdown.shutdown().exit_code(), 7);
}

#[test]
fn on_report_is_told_once_and_before_the_owner_goes_on() {
    let shutdown = embedded().install().unwrap();
    let (told, tells) = mpsc::channel();
    let early = told.clone();
    shutdown.on_report(move |report| early.send(report.is_final()).unwrap());
    shutdown.on_report(|_| panic!("on purpose"));
    let handle = shutdown.handle();
    let _ = shutdown.shutdown();
    assert!(tells.try_recv().unwrap());
    handle.on_report(move |report| told.send(report.is_final()).unwrap());
    assert!(tells.try_recv().unwrap());
    assert!(tells.try_recv().is_err());
}

#[test]
fn any_number_of_coordinators_without_signals_live_side_by_side() {
    let all: Vec<_> = (0..10).map(|_| embedded().install().unwrap()).collect();
    for shutdown in &all[..5] {
        shutdown.stop("this one");
        let _ = shutdown.wait();
    }
    assert!(
        all[5..]
            .iter()
            .all(|shutdown| !shutdown.token().is_stopped())
    );
    assert!(all.iter().all(ShutdownCoordinator::is_installed));
}

#[test]
fn a_coordinator_can_be_shut_down_by_a_hook_of_another() {
    let inner = embedded().install().unwrap();
    let outer = embedded().install().unwrap();
    let (told, tells) = mpsc::channel();
    outer.hook("inner", move || {
        told.send(inner.shutdown().is_final()).unwrap();
    });
    let report = bounded(move || outer.shutdown());
    assert_eq!(report.outcome(), Outcome::Clean);
    assert!(
        tells.recv_timeout(FAR).unwrap(),
        "it is another coordinator's hook: it may wait"
    );
}

#[test]
fn a_coordinator_that_is_dropped_in_its_own_task_ends() {
    let shutdown = embedded().install().unwrap();
    let handle = shutdown.handle();
    let (called, calls) = mpsc::channel();
    shutdown.hook("close", move || called.send(()).unwrap());
    let task = handle.spawn("owns it", move |_| drop(shutdown)).unwrap();
    bounded(move || task.join().unwrap());
    calls.recv_timeout(FAR).unwrap();
}

/// P17, P18: who asks while the report is being told gets it.
#[test]
fn p17_whoever_is_told_the_report_and_asks_gets_it() {
    let shutdown = Arc::new(embedded().install().unwrap());
    shutdown.hook("close", || ());
    let (told, tell) = mpsc::channel();
    let asks = Arc::downgrade(&shutdown);
    shutdown.on_report(move |_| told.send(asks.upgrade().unwrap().wait()).unwrap());
    let ending = Arc::clone(&shutdown);
    let report = bounded(move || ending.shutdown());
    let asked = tell.recv_timeout(FAR).unwrap();
    assert!(asked.is_final());
    assert_eq!(asked.to_string(), report.to_string());
    assert_eq!(asked.hooks().len(), 1);
}

#[test]
fn p23_coordinators_that_come_and_go_leave_no_threads() {
    let threads = || {
        std::fs::read_dir("/proc/self/task")
            .map(Iterator::count)
            .ok()
    };
    for _ in 0..200 {
        let shutdown = embedded().install().unwrap();
        shutdown.hook("close", || ());
        drop(shutdown);
    }
    // The harness has threads of its own that come and go.
    if let Some(threads) = threads() {
        assert!(threads < 100, "{threads} threads");
    }
}

#[test]
fn a_report_says_everything_in_lines_that_nothing_can_break() {
    let shutdown = embedded().install().unwrap();
    shutdown.hook("evil\nname \u{1b}[2J", || Err::<(), _>("evil\r\nerror"));
    let hold = shutdown.hold("work").unwrap();
    let handle = shutdown.handle();
    let waiting = thread::spawn(move || {
        handle.token().wait();
        drop(hold);
    });
    let report = shutdown.shutdown();
    waiting.join().unwrap();
    let shown = report.to_string();
    // The head, the axis, two rows, a title, and where the hook was registered.
    assert_eq!(shown.lines().count(), 6, "{shown}");
    assert!(
        shown.lines().all(|line| line.chars().count() <= 100),
        "{shown}"
    );
    assert!(
        !shown.contains('\u{1b}') && !shown.contains('\r'),
        "{shown}"
    );
    assert!(
        shown.contains("ending.rs:"),
        "where it was registered: {shown}"
    );
}

#[test]
fn p20_items_outlive_a_coordinator_that_is_dropped_inside() {
    let shutdown = embedded()
        .grace_period(Duration::from_secs(2))
        .cleanup_reserve(Duration::from_secs(1))
        .install()
        .unwrap();
    let handle = shutdown.handle();
    let (back, handed_back) = mpsc::channel();
    let (gone, is_gone) = mpsc::channel();
    let set_gone = Gone(gone);
    let jobs = handle.in_flight("jobs").on_interrupted(move |job| {
        let _ = &set_gone;
        back.send(job.into_item()).unwrap();
    });
    let item = jobs.reserve().unwrap().fill(7).unwrap();
    let (tell, told) = mpsc::channel();
    handle.on_report(move |report| tell.send(report.clone()).unwrap());
    let (go, gone_on) = mpsc::channel::<()>();
    let task = handle.spawn("owns it", move |_| {
        // The drain has begun: an `on_stop` is called after the intake has been closed.
        gone_on.recv().unwrap();
        drop(shutdown);
    });
    let going = handle.token().on_stop(move |_| go.send(()).unwrap());
    handle.stop("now");
    let report = told.recv_timeout(FAR).unwrap();
    assert_eq!(handed_back.try_recv(), Ok(7), "{report}");
    assert_eq!(report.handed_back(), 1, "{report}");
    drop((item, jobs, going, task));
    // And at the end nothing is kept, though a handle is still here.
    is_gone.recv_timeout(FAR).unwrap();
    drop(handle);
}

struct Gone(mpsc::Sender<()>);

impl Drop for Gone {
    fn drop(&mut self) {
        let _ = self.0.send(());
    }
}
