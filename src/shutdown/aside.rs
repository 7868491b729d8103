//! User code on threads that can be left behind.

use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, bounded};

use crate::inside;
use crate::panic::contained;
use crate::sync::{Mutex, thread};

/// User code that has been started on a thread of its own.
pub(crate) struct Aside {
    finished: Receiver<()>,
}

impl Aside {
    /// Starts `f`. Where no thread can be had, `f` comes back.
    pub(crate) fn start<F: FnOnce() + Send + 'static>(name: &str, f: F) -> Result<Self, F> {
        let (done, finished) = bounded::<()>(1);
        // A failed spawn drops its closure, so the closure only borrows what it is to run.
        let slot = Arc::new(Mutex::new(Some(f)));
        let taken = Arc::clone(&slot);
        let thread = thread::Builder::new().name(name.to_owned()).spawn(move || {
            let f = taken.lock().take();
            if let Some(f) = f {
                contained(f);
            }
            let _ = done.send(());
        });
        let unused = thread.err().and_then(|_| slot.lock().take());
        unused.map_or(Ok(Self { finished }), Err)
    }

    /// Waits until it has returned, but no longer than `limit`. True: it has.
    pub(crate) fn wait(&self, limit: Duration) -> bool {
        // The other end goes when it has been sent on, or when its thread has gone.
        self.finished.recv_timeout(limit) != Err(RecvTimeoutError::Timeout)
    }
}

/// Runs `f` on a thread of its own, for nobody to wait for. Where none can be had, `f` comes back.
pub(crate) fn start<F: FnOnce() + Send + 'static>(name: &str, f: F) -> Result<(), F> {
    Aside::start(name, f).map(drop)
}

/// Runs `f` on a thread of its own and waits for it, but no longer than `limit`. Where no thread
/// can be had it is not run.
pub(crate) fn bounded_by<F: FnOnce() + Send + 'static>(name: &str, limit: Duration, f: F) {
    match Aside::start(name, f) {
        Ok(aside) => {
            aside.wait(limit);
        }
        // Its drop code is user code: it goes with the process.
        Err(f) => std::mem::forget(f),
    }
}

/// Drops what is not needed any more, on a thread that can be left behind: drop code is user code.
pub(crate) fn discard<T: Send + 'static>(id: u64, left: Vec<T>) -> Option<Aside> {
    if left.is_empty() {
        return None;
    }
    let drop_all = move || {
        let _inside = inside::enter(id);
        // One by one: a second panic while the first one unwinds would end the process.
        for one in left {
            contained(|| drop(one));
        }
    };
    // Where there is no thread for it, its memory goes with the process.
    Aside::start("winddown-drop", drop_all)
        .map_err(std::mem::forget)
        .ok()
}
