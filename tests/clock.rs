//! P15 and P16 with clocks that jump, and with machines that have been up for a moment or a lifetime.
//!
//! This executable has a `clock_gettime` of its own, which everything in it uses: the crate, the standard library, and the locks.
#![cfg(target_os = "linux")]
#![allow(
    unsafe_code,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    missing_docs,
    reason = "tests; and the clock is a function of C"
)]

mod common;

use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, mpsc};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use common::{FAR, SHORT, embedded};
use winddown::{DrainOutcome, HookOptions, HookOutcome, Outcome};

/// The wall clock reads something else each time, up to days away.
static JUMPS: AtomicBool = AtomicBool::new(false);
static READ: AtomicU64 = AtomicU64::new(0);
/// Seconds by which the monotonic clock is ahead.
static AHEAD: AtomicI64 = AtomicI64::new(0);

/// # Safety
///
/// As that of the C library, in whose place it stands.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn clock_gettime(
    clock: libc::clockid_t,
    time: *mut libc::timespec,
) -> libc::c_int {
    // SAFETY: the same arguments, by another way to the same place.
    let result = unsafe { libc::syscall(libc::SYS_clock_gettime, clock, time) };
    let shift = match clock {
        libc::CLOCK_MONOTONIC | libc::CLOCK_MONOTONIC_COARSE => AHEAD.load(Ordering::SeqCst),
        libc::CLOCK_REALTIME if JUMPS.load(Ordering::SeqCst) => {
            let read = READ.fetch_add(1, Ordering::SeqCst);
            // To and fro, by seconds or by days.
            let far = i64::try_from(read * read % 200_003).unwrap_or(0);
            if read % 2 == 0 { far } else { -far }
        }
        _ => 0,
    };
    if result == 0 {
        // SAFETY: it was written to just now.
        unsafe { (*time).tv_sec += shift };
    }
    if result == 0 { 0 } else { -1 }
}

/// One test at a time: there is one clock. It is right again afterwards.
struct TheClock {
    _one: MutexGuard<'static, ()>,
}

impl TheClock {
    fn take() -> Self {
        static ONE: Mutex<()> = Mutex::new(());
        let one = ONE
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        Self { _one: one }
    }
}

impl Drop for TheClock {
    fn drop(&mut self) {
        JUMPS.store(false, Ordering::SeqCst);
        AHEAD.store(0, Ordering::SeqCst);
    }
}

/// Much more than anything here takes, much less than a jump.
const SOON: Duration = Duration::from_secs(20);

/// Waits, sleeps, a hook that hangs and a hold that stays: each takes its time, no less and not much more.
fn all_times_hold() {
    let (_keep, never) = mpsc::channel::<()>();
    let never = Mutex::new(never);
    let grace = SHORT * 20;
    let shutdown = embedded()
        .grace_period(grace)
        .cleanup_reserve(SHORT * 10)
        .install()
        .unwrap();
    let token = shutdown.token();
    shutdown.hook("older", || ());
    let hung = HookOptions::new("hung").timeout(SHORT);
    shutdown.hook_with(hung, move || {
        let _ = never.lock().unwrap().recv();
    });
    let hold = shutdown.hold("kept").unwrap();
    let began = Instant::now();
    assert!(token.wait_timeout(SHORT).is_none());
    token.sleep(SHORT).unwrap();
    assert!(
        (SHORT * 2..SOON).contains(&began.elapsed()),
        "{:?}",
        began.elapsed()
    );
    let began = Instant::now();
    let report = shutdown.shutdown();
    // The drain's share, and the hook's.
    assert!(
        (SHORT * 11..SOON).contains(&began.elapsed()),
        "{:?} {report}",
        began.elapsed()
    );
    assert!(report.took() <= began.elapsed() + SHORT, "{report}");
    assert_eq!(*report.drained()[0].outcome(), DrainOutcome::Abandoned);
    let outcomes = report.hooks().iter().map(winddown::HookReport::outcome);
    assert!(
        outcomes.eq(&[HookOutcome::TimedOut, HookOutcome::Completed]),
        "{report}"
    );
    drop(hold);
}

#[test]
fn p15_a_wall_clock_that_jumps_is_nobody_s_business() {
    let _clock = TheClock::take();
    JUMPS.store(true, Ordering::SeqCst);
    let distances = || {
        SystemTime::now()
            .elapsed()
            .unwrap_or_else(|error| error.duration())
    };
    assert!(
        (0..10).map(|_| distances()).max().unwrap() > FAR,
        "it does not jump"
    );
    all_times_hold();
}

#[test]
fn p15_a_machine_may_have_been_up_for_a_moment_or_for_a_century() {
    let _clock = TheClock::take();
    let mut now = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: it lives through the call.
    unsafe { clock_gettime(libc::CLOCK_MONOTONIC, &raw mut now) };
    for ahead in [-now.tv_sec, 100 * 365 * 86_400] {
        AHEAD.store(ahead, Ordering::SeqCst);
        all_times_hold();
    }
}

/// As after a pause of the whole machine that its clock has not missed.
#[test]
fn p16_an_hour_that_nobody_had_is_not_spent() {
    let _clock = TheClock::take();
    let shutdown = embedded().install().unwrap();
    let hold = shutdown.hold("work").unwrap();
    shutdown.hook("close", || ());
    let (told, tells) = mpsc::channel();
    shutdown
        .token()
        .on_stop(move |_| told.send(()).unwrap())
        .detach();
    shutdown.stop("now");
    tells.recv().unwrap();
    let handle = shutdown.handle();
    AHEAD.store(3600, Ordering::SeqCst);
    let (ask, asked) = mpsc::channel::<()>();
    let ending = thread::spawn(move || {
        ask.send(()).unwrap();
        shutdown.shutdown()
    });
    asked.recv().unwrap();
    // Time itself is what is tested here: long enough for everybody to look at the clock.
    thread::sleep(SHORT * 6);
    let left = handle.token().time_left().unwrap();
    assert!(left + SOON > FAR && left <= FAR, "{left:?}");
    drop(hold);
    let report = ending.join().unwrap();
    assert_eq!(report.outcome(), Outcome::Clean, "{report}");
}
