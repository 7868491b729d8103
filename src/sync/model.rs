//! The primitives as loom has them, in the shape of those that the crate uses.
//!
//! 1. A wait never times out: what a time limit would wake for must be told (P4), and the time is
//!    an [input](time) like any other. So a model also finds what a look every 100 ms would hide.
//! 2. loom treats sequentially consistent accesses as acquire and release, but models the fence.
//! 3. An `Arc` is std's: loom's has no `Weak`. Counts are not among what a model interleaves.

use std::ops::{Deref, DerefMut};
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::time::{Duration, Instant};

pub(crate) use loom::sync::atomic::{
    AtomicBool, AtomicPtr, AtomicU8, AtomicU32, AtomicU64, AtomicUsize, Ordering, fence,
};
pub(crate) use loom::thread;

const NOT_POISONED: &str = "a panic ends the model";

#[derive(Debug, Default)]
pub(crate) struct Mutex<T: ?Sized>(loom::sync::Mutex<T>);

/// Empty only while its thread waits for a condition.
#[derive(Debug)]
pub(crate) struct MutexGuard<'a, T: ?Sized>(Option<loom::sync::MutexGuard<'a, T>>);

impl<T> Mutex<T> {
    pub(crate) fn new(value: T) -> Self {
        Self(loom::sync::Mutex::new(value))
    }

    pub(crate) fn into_inner(self) -> T {
        self.0.into_inner().expect(NOT_POISONED)
    }
}

impl<T: ?Sized> Mutex<T> {
    #[track_caller]
    pub(crate) fn lock(&self) -> MutexGuard<'_, T> {
        MutexGuard(Some(self.0.lock().expect(NOT_POISONED)))
    }

    #[track_caller]
    pub(crate) fn try_lock(&self) -> Option<MutexGuard<'_, T>> {
        self.0.try_lock().ok().map(|guard| MutexGuard(Some(guard)))
    }
}

impl<T: ?Sized> Deref for MutexGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.0.as_ref().expect("nobody looks while it waits")
    }
}

impl<T: ?Sized> DerefMut for MutexGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        self.0.as_mut().expect("nobody looks while it waits")
    }
}

#[derive(Debug)]
pub(crate) struct Condvar(loom::sync::Condvar);

/// See the module: there is none.
pub(crate) struct NoTimeout;

impl NoTimeout {
    pub(crate) fn timed_out(&self) -> bool {
        false
    }
}

impl Default for Condvar {
    fn default() -> Self {
        Self::new()
    }
}

impl Condvar {
    pub(crate) fn new() -> Self {
        Self(loom::sync::Condvar::new())
    }

    #[track_caller]
    pub(crate) fn wait<T>(&self, guard: &mut MutexGuard<'_, T>) {
        let held = guard.0.take().expect("a thread waits for one thing");
        guard.0 = Some(self.0.wait(held).expect(NOT_POISONED));
    }

    #[track_caller]
    pub(crate) fn wait_for<T>(&self, guard: &mut MutexGuard<'_, T>, _: Duration) -> NoTimeout {
        self.wait(guard);
        NoTimeout
    }

    #[track_caller]
    pub(crate) fn wait_until<T>(&self, guard: &mut MutexGuard<'_, T>, _: Instant) -> NoTimeout {
        self.wait(guard);
        NoTimeout
    }

    #[track_caller]
    pub(crate) fn notify_all(&self) {
        self.0.notify_all();
    }
}

/// Of std, behind a lock and a flag of loom's: a thread that found it being filled would otherwise
/// keep all of them waiting.
#[derive(Debug)]
pub(crate) struct OnceLock<T> {
    value: std::sync::OnceLock<T>,
    filling: Mutex<()>,
    filled: AtomicBool,
}

impl<T> Default for OnceLock<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> OnceLock<T> {
    pub(crate) fn new() -> Self {
        Self {
            value: std::sync::OnceLock::new(),
            filling: Mutex::new(()),
            filled: AtomicBool::new(false),
        }
    }

    pub(crate) fn get(&self) -> Option<&T> {
        let filled = self.filled.load(Ordering::Acquire);
        filled.then(|| self.value.get()).flatten()
    }

    pub(crate) fn set(&self, value: T) -> Result<(), T> {
        let _filling = self.filling.lock();
        let result = self.value.set(value);
        self.filled.store(true, Ordering::Release);
        result
    }

    pub(crate) fn get_or_init(&self, f: impl FnOnce() -> T) -> &T {
        if let Some(value) = self.get() {
            return value;
        }
        let _filling = self.filling.lock();
        if self.value.get().is_none() {
            let value = f();
            self.value.get_or_init(|| value);
            self.filled.store(true, Ordering::Release);
        }
        self.value.get().expect("it has just been filled")
    }
}

/// The system's futex, as far as it is used here: each thread sleeps for one bit.
pub(crate) struct Futex {
    word: AtomicU32,
    sleepers: Mutex<()>,
    woken: [Condvar; 3],
}

impl Futex {
    pub(crate) fn new() -> Self {
        Self {
            word: AtomicU32::new(0),
            sleepers: Mutex::new(()),
            woken: Default::default(),
        }
    }

    pub(crate) fn set(&self, bits: u32) -> u32 {
        self.word.fetch_or(bits, Ordering::AcqRel)
    }

    pub(crate) fn clear(&self, bits: u32) -> u32 {
        self.word.fetch_and(!bits, Ordering::AcqRel)
    }

    pub(crate) fn wait(&self, value: u32, bit: u32, _: Option<Duration>) {
        let mut sleepers = self.sleepers.lock();
        if self.word.load(Ordering::Relaxed) == value {
            self.woken[bit.trailing_zeros() as usize].wait(&mut sleepers);
        }
    }

    pub(crate) fn wake(&self, bits: u32) {
        // As the system does: between a sleeper's look and its sleep nobody wakes.
        let _sleepers = self.sleepers.lock();
        for (bit, woken) in self.woken.iter().enumerate() {
            if bits & 1 << bit != 0 {
                woken.notify_all();
            }
        }
    }
}

/// The clock of a model: it stands still until it is set.
pub(crate) mod time {
    use std::cell::Cell;
    use std::time::Duration;

    thread_local! {
        /// Of all threads of one model: they are one of the system's.
        static NOW: Cell<u64> = const { Cell::new(0) };
    }

    /// Not 0, which some words keep for "never".
    const START: u64 = 1 << 40;

    /// In nanoseconds.
    pub(crate) fn now() -> u64 {
        NOW.get()
    }

    pub(crate) fn pass(span: Duration) {
        let span = u64::try_from(span.as_nanos()).expect("a model is short");
        NOW.set(NOW.get() + span);
    }

    pub(super) fn start() {
        NOW.set(START);
    }
}

/// Runs `f` under every order of steps with at most so many preemptions as
/// `LOOM_MAX_PREEMPTIONS` says, 2 without it.
pub(crate) fn model(f: impl Fn() + Send + Sync + 'static) {
    model_with(2, f);
}

/// The same, with another bound where the variable is not set.
pub(crate) fn model_with(preemptions: usize, f: impl Fn() + Send + Sync + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.max_branches = builder.max_branches.max(10_000);
    builder.preemption_bound.get_or_insert(preemptions);
    builder.check(move || {
        time::start();
        f();
    });
}

/// Wakes the one thread that runs a future.
struct Alarm {
    rung: Mutex<bool>,
    changed: Condvar,
}

impl Wake for Alarm {
    fn wake(self: Arc<Self>) {
        *self.rung.lock() = true;
        self.changed.notify_all();
    }
}

/// Runs a future to its end; a wake-up that is lost is a deadlock.
pub(crate) fn block_on<F: Future>(future: F) -> F::Output {
    let alarm = Arc::new(Alarm {
        rung: Mutex::new(false),
        changed: Condvar::new(),
    });
    let waker = Waker::from(Arc::clone(&alarm));
    let mut future = pin!(future);
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
            return output;
        }
        let mut rung = alarm.rung.lock();
        while !*rung {
            alarm.changed.wait(&mut rung);
        }
        *rung = false;
    }
}
