//! Hooks that run on the forced path too.
//!
//! There the thread that was interrupted by the signal never goes on: whatever lock it holds stays
//! locked. So each hook is claimed by one atomic step, and the list of them is kept twice, each
//! copy under a lock of its own: at most one of the two can be locked by the interrupted thread,
//! and the other is free.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use crate::hook::Body;
use crate::inside;
use crate::signal::mask::{Blocked, Mask};
use crate::signal::{Ears, EmergencyLine, SignalState};
use crate::sync::{AtomicBool, Mutex, Ordering};

/// See the module.
pub(crate) struct Emergency {
    id: u64,
    signals: Arc<SignalState>,
    /// One at a time starts the thread.
    starting: Mutex<()>,
    lists: [Mutex<Vec<Arc<Cell>>>; 2],
}

/// A hook that can be called without freeing anything: the allocator's lock may be one of those
/// that stay locked.
type EmergencyBody = Box<dyn FnMut() -> Option<Result<(), String>> + Send>;

/// One emergency hook: run by the worker in its place, or by the emergency thread, by whoever
/// claims it.
struct Cell {
    claimed: AtomicBool,
    finished: AtomicBool,
    /// Only the one that has claimed it locks this.
    body: Mutex<EmergencyBody>,
}

impl Cell {
    /// True: it is the caller's to run.
    fn claim(&self) -> bool {
        !self.claimed.swap(true, Ordering::AcqRel)
    }

    /// For whoever has claimed it.
    fn run(&self, line: &EmergencyLine) -> Option<Result<(), String>> {
        let _finished = Finished {
            cell: self,
            line,
            // One may run another by hand.
            before: line.enter(),
        };
        // Only the one that has claimed the cell ever locks it: the lock is there for the compiler.
        let mut body = self.body.lock();
        (*body)()
    }
}

/// Finished, also by a panic.
struct Finished<'a> {
    cell: &'a Cell,
    line: &'a EmergencyLine,
    before: usize,
}

impl Drop for Finished<'_> {
    fn drop(&mut self) {
        self.line.leave(self.before);
        self.cell.finished.store(true, Ordering::Release);
    }
}

/// Takes the cell off the lists when the hook on the stack has been run or removed.
struct Listed {
    cell: Arc<Cell>,
    emergency: Arc<Emergency>,
}

impl Drop for Listed {
    fn drop(&mut self) {
        for list in &self.emergency.lists {
            let mut list = list.lock();
            if let Some(at) = list.iter().rposition(|cell| Arc::ptr_eq(cell, &self.cell)) {
                let removed = list.remove(at);
                drop(list);
                drop(removed);
            }
        }
    }
}

impl Emergency {
    pub(crate) fn new(id: u64, signals: Arc<SignalState>) -> Self {
        Self {
            id,
            signals,
            starting: Mutex::new(()),
            lists: [Mutex::new(Vec::new()), Mutex::new(Vec::new())],
        }
    }

    /// Makes `body` run on the forced path too, and gives back what runs it in its place on the
    /// stack.
    ///
    /// Where its thread cannot be started it is a hook like any other; the next registration tries
    /// again.
    pub(crate) fn register(self: &Arc<Self>, body: EmergencyBody) -> Body {
        let cell = Arc::new(Cell {
            claimed: AtomicBool::new(false),
            finished: AtomicBool::new(false),
            body: Mutex::new(body),
        });
        for list in &self.lists {
            list.lock().push(Arc::clone(&cell));
        }
        let listed = Listed {
            cell,
            emergency: Arc::clone(self),
        };
        // As its documentation says: better an ordinary hook than none.
        let _ = self.start();
        let body = move |_| {
            let line = &listed.emergency.signals.emergency;
            if listed.cell.claim() {
                listed.cell.run(line).map(Into::into)
            } else {
                None
            }
        };
        Box::new(body)
    }

    fn start(self: &Arc<Self>) -> io::Result<()> {
        let _starting = self.starting.lock();
        if !self.signals.emergency.is_armed() {
            let emergency = Arc::clone(self);
            // The handler that waits for that thread must not have interrupted it: it is born with
            // everything blocked.
            let blocked = Blocked::all();
            let mask = blocked.before();
            std::thread::Builder::new()
                .name("winddown-emergency".to_owned())
                .spawn(move || emergency.stand_by(mask))?;
            drop(blocked);
            self.signals.emergency.arm();
        }
        Ok(())
    }

    fn stand_by(&self, mask: Mask) {
        let line = &self.signals.emergency;
        // Now, as it may allocate.
        let _inside = inside::enter(self.id);
        let mut called = false;
        while !self.signals.released.load(Ordering::Acquire) {
            if !called && line.is_called() {
                called = true;
                // A child that a hook starts must not inherit that everything is blocked.
                mask.restore();
                self.run_all();
                line.finish();
            }
            // Also afterwards: the end of a thread frees things, and the process may be about to
            // end.
            self.signals.bell.wait(Ears::EMERGENCY, None);
        }
    }

    /// Newest first, each at most once; then what the worker has begun is waited for.
    fn run_all(&self) {
        let line = &self.signals.emergency;
        while let Some(cell) = self.claim_newest() {
            // Nothing is freed here: see `EmergencyBody`.
            std::mem::forget(catch_unwind(AssertUnwindSafe(|| cell.run(line))));
            std::mem::forget(cell);
        }
        while self.is_any_unfinished() && line.has_time() {
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    fn claim_newest(&self) -> Option<Arc<Cell>> {
        self.look(|cells| cells.iter().rev().find(|cell| cell.claim()).map(Arc::clone))?
    }

    fn is_any_unfinished(&self) -> bool {
        self.look(|cells| {
            cells
                .iter()
                .any(|cell| !cell.finished.load(Ordering::Acquire))
        })
        .unwrap_or(false)
    }

    /// Looks at a copy of the list that nobody has locked for good. `None`: there was none in time.
    fn look<R>(&self, look: impl Fn(&[Arc<Cell>]) -> R) -> Option<R> {
        loop {
            for list in &self.lists {
                if let Some(list) = list.try_lock() {
                    return Some(look(&list));
                }
            }
            if !self.signals.emergency.has_time() {
                return None;
            }
            std::thread::yield_now();
        }
    }
}
