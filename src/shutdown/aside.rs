//! User code on threads that can be left behind.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::bounded;

use crate::panic::forget_payload;
use crate::sync::Mutex;

/// Runs `f` on a thread of its own. Where none can be had, `f` comes back.
pub(crate) fn start<F: FnOnce() + Send + 'static>(name: &str, f: F) -> Result<(), F> {
    // A failed spawn drops its closure, so the closure only borrows what it is to run.
    let slot = Arc::new(Mutex::new(Some(f)));
    let taken = Arc::clone(&slot);
    let thread = std::thread::Builder::new()
        .name(name.to_owned())
        .spawn(move || {
            let f = taken.lock().take();
            if let Some(f) = f {
                forget_payload(catch_unwind(AssertUnwindSafe(f)));
            }
        });
    match (thread, slot) {
        (Ok(_), _) => Ok(()),
        (Err(_), slot) => {
            let f = slot.lock().take();
            f.map_or(Ok(()), Err)
        }
    }
}

/// Runs `f` on a thread of its own and waits for it, but no longer than `limit`. True: it has returned. Where no thread can be
/// had it is not run.
pub(crate) fn bounded_by(name: &str, limit: Duration, f: impl FnOnce() + Send + 'static) -> bool {
    let (done, finished) = bounded::<()>(1);
    let started = start(name, move || {
        f();
        let _ = done.send(());
    });
    started.is_ok() && finished.recv_timeout(limit).is_ok()
}
