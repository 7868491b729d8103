//! From the report to the end of the process.

use std::process::{ExitCode, Termination};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Once, OnceLock};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use crossbeam_channel::bounded;

use crate::exit_policy::Death;
use crate::report::ShutdownReport;
use crate::shutdown::Aside;
use crate::shutdown::aside;
use crate::signal::exit;
use crate::token::after;

/// A reader of stdout that is merely slow gets this long.
const SLOW_READER: Duration = Duration::from_secs(1);

impl ShutdownReport {
    /// Ends the process as the [`ExitPolicy`](crate::ExitPolicy) says: writes out what stdout still
    /// buffers, then exits, or dies by the signal.
    ///
    /// `atexit` handlers run where it exits with a code, and do not where it dies by a signal. One
    /// that hangs, or a thread that is inside `exit` already, keeps the process no longer than what
    /// was left of the grace period, or a second, whichever is longer (unless
    /// [`exit_on_timeout(false)`](crate::ShutdownBuilder::exit_on_timeout)). What a full stdout
    /// does not take within a second is lost.
    ///
    /// From inside the shutdown, with a report that is not [final](Self::is_final), it ends the
    /// process in the middle of it, with the code of a failure.
    pub fn exit(self) -> ! {
        let death = self.death();
        let ends = self.exit_within().map(|time| end_after(time, death));
        if flush_within(SLOW_READER).is_err() && ends == Some(false) {
            // The flush at the end may hang, with nobody to end it.
            exit::now(death);
        }
        exit::normally(death)
    }
}

impl Termination for ShutdownReport {
    /// As [`exit`](ShutdownReport::exit), but by a return from `main`: the time for what hangs
    /// counts from when the process begins to exit. Does not return where the policy says to die by
    /// a signal.
    ///
    /// Where the program does not end then but goes on, it is left alone.
    fn report(self) -> ExitCode {
        let code = match self.death() {
            Death::Code(code) => code,
            Death::Signal(_) => self.exit(),
        };
        let flushed = flush_within(SLOW_READER);
        if let Some(time) = self.exit_within() {
            let ends = end_after_exit_begins(time, code);
            if flushed.is_err() && !ends {
                exit::now(Death::Code(code));
            }
        }
        ExitCode::from(code)
    }
}

/// Writes out what stdout still buffers, for a moment at most: a full pipe must not keep the
/// process.
pub(super) fn flush_bounded() {
    let _ = flush_within(after::FLUSH);
}

/// A reader has `limit`; somebody who has locked stdout, and may have it for good, a moment. What is
/// written then is written by the thread that has been left behind, or not at all: the flush at the
/// end of the program does not wait for it. `Err`: there is no thread for it.
fn flush_within(limit: Duration) -> Result<(), ()> {
    let until = Instant::now() + limit;
    let (has_lock, locked) = bounded(1);
    let flushing = Aside::start("winddown-flush", move || {
        exit::flush(|| {
            let _ = has_lock.send(());
        });
    });
    let flushing = flushing.map_err(drop)?;
    if locked.recv_timeout(limit.min(after::FLUSH)).is_ok() {
        flushing.wait(until.saturating_duration_since(Instant::now()));
    }
    Ok(())
}

/// Ends the process in `time`, whatever keeps it then. False: there is no thread for it; the second
/// signal still works.
fn end_after(time: Duration, death: Death) -> bool {
    let end = move || {
        thread::sleep(time);
        exit::now(death);
    };
    aside::start("winddown-exit", end).is_ok()
}

/// The thread that ends the process, once that has begun to exit.
static WAITING: OnceLock<Option<Thread>> = OnceLock::new();
static EXITING: AtomicBool = AtomicBool::new(false);
/// How the last report has it end: the time in milliseconds, and in the lowest byte the code.
static LAST: AtomicU64 = AtomicU64::new(0);

/// As [`end_after`], but from when the process begins to exit. Its thread is there before that:
/// then it may be too late to start one.
fn end_after_exit_begins(time: Duration, code: u8) -> bool {
    let millis = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    LAST.store(
        millis.min(u64::MAX >> 8) << 8 | u64::from(code),
        Ordering::Release,
    );
    let waiting = WAITING.get_or_init(|| {
        let wait = || {
            while !EXITING.load(Ordering::Acquire) {
                thread::park();
            }
            let last = LAST.load(Ordering::Acquire);
            thread::sleep(Duration::from_millis(last >> 8));
            exit::now(Death::Code(last.to_le_bytes()[0]));
        };
        // Once more, to be called before what the program has registered meanwhile.
        exit::at_exit(begins_to_exit);
        let waiting = thread::Builder::new().name("winddown-exit".to_owned());
        Some(waiting.spawn(wait).ok()?.thread().clone())
    });
    if thread::current().name() == Some("main") {
        let _ = AT_MAINS_END.try_with(|_| ());
    }
    if let (Some(waiting), true) = (waiting, EXITING.load(Ordering::Acquire)) {
        // Another thread has begun, perhaps before there was somebody to be woken.
        waiting.unpark();
    }
    waiting.is_some()
}

/// For a program that is to end in time. Before it registers anything of its own: a thread of it
/// may be inside `exit` when its report comes.
pub(crate) fn watch_for_exit() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        exit::at_exit(begins_to_exit);
    });
}

thread_local! {
    /// The C library takes down the locals of the thread that exits before it calls anybody.
    static AT_MAINS_END: AtMainsEnd = const { AtMainsEnd };
}

struct AtMainsEnd;

impl Drop for AtMainsEnd {
    fn drop(&mut self) {
        begins_to_exit();
    }
}

/// Called by `exit`, before what was registered earlier with `atexit`.
extern "C" fn begins_to_exit() {
    EXITING.store(true, Ordering::Release);
    if let Some(Some(waiting)) = WAITING.get() {
        waiting.unpark();
    }
}
