//! Between whoever calls for the emergency hooks and the thread that runs them: a handler, or the
//! watchdog, on the one side, `hook/emergency.rs` on the other.
//!
//! 1. Armed once there is a thread that can be woken, and for good: without one nobody is called.
//! 2. A call says until when there is time; a later one can only give more. However often they are
//!    called for, the hooks run once.
//! 3. While one of them runs, the line says on which thread: a handler that has interrupted just
//!    that thread cannot wait for it, and passes its signal on to the watchdog.
//!
//! All of it is async-signal-safe.

use crate::clock::Tick;
use crate::reason::Signal;
use crate::signal::handler;
use crate::sync::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

/// See the module.
pub(crate) struct EmergencyLine {
    armed: AtomicBool,
    /// In nanoseconds; 0 before the first call.
    until: AtomicU64,
    done: AtomicBool,
    /// The thread that one of the hooks runs on, 0 for none.
    thread: AtomicUsize,
    /// The number of the signal, 0 for none.
    passed_on: AtomicUsize,
}

impl EmergencyLine {
    pub(super) fn new() -> Self {
        Self {
            armed: AtomicBool::new(false),
            until: AtomicU64::new(0),
            done: AtomicBool::new(false),
            thread: AtomicUsize::new(0),
            passed_on: AtomicUsize::new(0),
        }
    }

    /// There is a thread.
    pub(crate) fn arm(&self) {
        self.armed.store(true, Ordering::Release);
    }

    pub(crate) fn is_armed(&self) -> bool {
        self.armed.load(Ordering::Acquire)
    }

    /// Calls for the hooks; the thread is still to be woken.
    pub(super) fn call(&self, until: Tick) {
        self.until.fetch_max(until.nanos(), Ordering::AcqRel);
    }

    pub(crate) fn is_called(&self) -> bool {
        self.until.load(Ordering::Acquire) != 0
    }

    pub(crate) fn has_time(&self) -> bool {
        Tick::now().nanos() < self.until.load(Ordering::Acquire)
    }

    /// All of them have been run.
    pub(crate) fn finish(&self) {
        self.done.store(true, Ordering::Release);
    }

    pub(super) fn is_done(&self) -> bool {
        self.done.load(Ordering::Acquire)
    }

    /// This thread runs one of them from here on. Gives what is to be put back after it: one hook
    /// may run another by hand.
    pub(crate) fn enter(&self) -> usize {
        self.thread.swap(handler::this_thread(), Ordering::AcqRel)
    }

    pub(crate) fn leave(&self, before: usize) {
        self.thread.store(before, Ordering::Release);
    }

    /// One of them runs on this very thread.
    pub(super) fn is_busy_here(&self) -> bool {
        self.thread.load(Ordering::Acquire) == handler::this_thread()
    }

    /// `signal` is the watchdog's to end the process by.
    pub(super) fn pass_on(&self, signal: Signal) {
        let number = signal.number().unsigned_abs() as usize;
        self.passed_on.store(number, Ordering::Release);
    }

    pub(super) fn passed_on(&self) -> Option<Signal> {
        let number = i32::try_from(self.passed_on.load(Ordering::Acquire)).ok()?;
        Signal::try_from(number).ok()
    }
}
