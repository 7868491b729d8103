//! Hooks that run on the forced path too.
//!
//! There the thread that was interrupted by the signal never goes on: whatever lock it holds stays locked. So each hook is
//! claimed by one atomic step, and the list of them is kept twice, each copy under a lock of its own: at most one of the two can
//! be locked by the interrupted thread, and the other is free.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use crate::clock::Tick;
use crate::hook::Body;
use crate::inside;
use crate::panic::forget_payload;
use crate::signal::SignalState;
use crate::signal::handler::{self, Blocked};
use crate::signal::state::{EMERGENCY_BUDGET, EmergencyLine};
use crate::sync::{AtomicBool, Mutex, Ordering};

/// See the module.
pub(crate) struct Emergency {
    id: u64,
    signals: Arc<SignalState>,
    /// Whether there is a thread.
    started: Mutex<bool>,
    lists: [Mutex<Vec<Arc<Cell>>>; 2],
}

/// One emergency hook: run by the worker in its place, or by the emergency thread, by whoever claims it.
struct Cell {
    claimed: AtomicBool,
    finished: AtomicBool,
    /// Only the one that has claimed it locks this.
    body: Mutex<Option<Body>>,
}

impl Cell {
    fn run(&self, line: &EmergencyLine) -> Option<Result<(), String>> {
        if self.claimed.swap(true, Ordering::AcqRel) {
            return None;
        }
        let _finished = Finished(self, line);
        line.runner.store(handler::this_thread(), Ordering::Release);
        let body = self.body.lock().take()?;
        body()
    }
}

/// Finished, also by a panic.
struct Finished<'a>(&'a Cell, &'a EmergencyLine);

impl Drop for Finished<'_> {
    fn drop(&mut self) {
        self.1.runner.store(0, Ordering::Release);
        self.0.finished.store(true, Ordering::Release);
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
            started: Mutex::new(false),
            lists: [Mutex::new(Vec::new()), Mutex::new(Vec::new())],
        }
    }

    /// Makes `body` run on the forced path too, and gives back what runs it in its place on the stack.
    ///
    /// # Errors
    ///
    /// Where its thread cannot be started: then it is a hook like any other, and the next registration tries again.
    pub(crate) fn register(self: &Arc<Self>, body: Body) -> (Body, io::Result<()>) {
        let cell = Arc::new(Cell {
            claimed: AtomicBool::new(false),
            finished: AtomicBool::new(false),
            body: Mutex::new(Some(body)),
        });
        for list in &self.lists {
            list.lock().push(Arc::clone(&cell));
        }
        let listed = Listed {
            cell,
            emergency: Arc::clone(self),
        };
        let started = self.start();
        (
            Box::new(move || listed.cell.run(&listed.emergency.signals.emergency)),
            started,
        )
    }

    fn start(self: &Arc<Self>) -> io::Result<()> {
        let mut started = self.started.lock();
        if !*started {
            let emergency = Arc::clone(self);
            // The handler that waits for that thread must not have interrupted it: it is born with everything blocked.
            let blocked = Blocked::new(u64::MAX);
            std::thread::Builder::new()
                .name("winddown-emergency".to_owned())
                .spawn(move || emergency.stand_by())?;
            drop(blocked);
            *started = true;
            self.signals.emergency.armed.store(true, Ordering::Release);
        }
        Ok(())
    }

    fn stand_by(&self) {
        let line = &self.signals.emergency;
        loop {
            line.bell.wait(None);
            if self.signals.released.load(Ordering::Acquire) {
                return;
            }
            if line.called.load(Ordering::Acquire) {
                // A child that a hook starts must not inherit the mask.
                handler::let_in(u64::MAX);
                self.run_all();
                line.done.store(true, Ordering::Release);
                return;
            }
        }
    }

    /// Newest first, each at most once; what the worker has begun is waited for.
    fn run_all(&self) {
        let _inside = inside::enter(self.id);
        let deadline = Tick::now() + EMERGENCY_BUDGET;
        for cell in self.cells(deadline).into_iter().rev() {
            forget_payload(catch_unwind(AssertUnwindSafe(|| {
                drop(cell.run(&self.signals.emergency));
            })));
            while !cell.finished.load(Ordering::Acquire) && Tick::now() < deadline {
                std::thread::sleep(Duration::from_millis(1));
            }
        }
    }

    fn cells(&self, deadline: Tick) -> Vec<Arc<Cell>> {
        loop {
            for list in &self.lists {
                if let Some(list) = list.try_lock() {
                    return list.clone();
                }
            }
            if Tick::now() >= deadline {
                return Vec::new();
            }
            std::thread::yield_now();
        }
    }
}
