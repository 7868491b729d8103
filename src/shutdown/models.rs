//! The end of the sequence: one report for everybody.

use std::panic::Location;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Waker};
use std::time::Duration;

use crate::exit_policy::ExitPolicy;
use crate::phase::Phase;
use crate::reason::{Origin, Signal, StopReason};
use crate::report::{Outcome, ShutdownReport};
use crate::shutdown::{Core, ReportFuture, Settings, run};
use crate::signal::state::Answer;
use crate::signal::{Escalation, SignalSettings};
use crate::sync::{AtomicUsize, Ordering, block_on, model, model_with, thread};

const GRACE: Duration = Duration::from_secs(25);

/// What `install` makes, without its threads.
fn core() -> Arc<Core> {
    let settings = Settings {
        grace: GRACE,
        cleanup_reserve: GRACE / 5,
        hook_timeout: GRACE / 5,
        signals: SignalSettings {
            debounce: Duration::from_millis(300),
            linger: Duration::ZERO,
            escalation: Escalation::SecondSignal,
            exit_policy: ExitPolicy::default(),
            exit_on_timeout: false,
        },
        systemd: false,
    };
    Arc::new(Core::new(settings, Location::caller()).unwrap())
}

fn runner(core: &Arc<Core>) -> loom::thread::JoinHandle<()> {
    let core = Arc::clone(core);
    thread::spawn(move || run(&core))
}

fn shut_down(core: &Core) -> ShutdownReport {
    core.stop_unless_stopped(StopReason::Completed);
    core.finish()
}

/// Shared, not made twice.
fn is_same(one: &ShutdownReport, other: &ShutdownReport) -> bool {
    std::ptr::eq(one.reason(), other.reason())
}

/// P18: two callers of `shutdown` get the same report, and it is final.
#[test]
fn two_callers_get_one_report() {
    model(|| {
        let core = core();
        let runner = runner(&core);
        let other = Arc::clone(&core);
        let other = thread::spawn(move || shut_down(&other));
        let mine = shut_down(&core);
        assert!(mine.is_final());
        assert_eq!(mine.outcome(), Outcome::Clean);
        assert!(is_same(&mine, &other.join().unwrap()));
        runner.join().unwrap();
        assert!(is_same(&mine, &core.finish()));
        assert_eq!(core.phase(), Phase::Ended);
    });
}

/// P4, P18: an owner that waits is woken by a stop from elsewhere, a signal's here, and both come
/// to the end of it.
#[test]
fn an_owner_that_waits_gets_the_report() {
    model(|| {
        let core = core();
        let runner = runner(&core);
        let signals = Arc::clone(&core.signals);
        let handler = thread::spawn(move || {
            let now = crate::clock::Tick::now();
            let answer = signals.judge(Signal::TERM, Origin::Unknown, now);
            assert_eq!(answer, Answer::Stop);
            signals.ring();
        });
        let report = core.finish();
        assert_eq!(report.reason().signal(), Some(Signal::TERM));
        handler.join().unwrap();
        runner.join().unwrap();
    });
}

/// P4, P18: the same on an executor: what is polled while the stop comes, and while the report is
/// made, is woken, or ready. One that is dropped takes nobody along.
#[test]
fn an_owner_that_awaits_gets_the_report() {
    model(|| {
        let core = core();
        let runner = runner(&core);
        let other = Arc::clone(&core);
        let stopping = thread::spawn(move || {
            other.stop_unless_stopped("enough".into());
        });
        let mut dropped = ReportFuture::new(Arc::clone(&core));
        let _ = Pin::new(&mut dropped).poll(&mut Context::from_waker(Waker::noop()));
        drop(dropped);
        let report = block_on(ReportFuture::new(Arc::clone(&core)));
        assert_eq!(*report.reason(), "enough".into());
        stopping.join().unwrap();
        runner.join().unwrap();
        assert!(is_same(&report, &core.finish()));
    });
}

/// P21, P13: a hold, and a hook that is called when it has gone, while the owner waits for both.
#[test]
fn a_hook_is_called_when_the_last_hold_has_gone() {
    model(|| {
        let core = core();
        let runner = runner(&core);
        let here = Location::caller();
        let hold = core.work.own.hold("work".into(), here).unwrap();
        let held = Arc::new(AtomicUsize::new(1));
        let going = Arc::clone(&held);
        let working = thread::spawn(move || {
            going.store(0, Ordering::Relaxed);
            drop(hold);
        });
        let handle = crate::handle::ShutdownHandle::new(Arc::clone(&core));
        let seen = Arc::new(AtomicUsize::new(7));
        let look = Arc::clone(&seen);
        handle.hook("look", move || {
            look.store(held.load(Ordering::Relaxed), Ordering::Relaxed)
        });
        let report = shut_down(&core);
        assert_eq!(report.hooks().len(), 1);
        assert_eq!(seen.load(Ordering::Relaxed), 0);
        assert_eq!(report.outcome(), Outcome::Clean);
        working.join().unwrap();
        runner.join().unwrap();
    });
}

/// P18, P8: whoever makes the report, the runner or an owner that could not wait for it, it is one,
/// and the end is reached once.
#[test]
fn whoever_makes_the_report_it_is_one() {
    model_with(3, || {
        let core = core();
        core.signals.owner.come_back();
        core.stop_unless_stopped(StopReason::Completed);
        let other = Arc::clone(&core);
        let other = thread::spawn(move || other.conclude(false, None));
        let mine = core.conclude(false, None);
        assert!(is_same(&mine, &other.join().unwrap()));
        assert!(is_same(&mine, &core.finish()));
    });
}
