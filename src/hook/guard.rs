//! A value with a clean-up.

use std::fmt;
use std::ops::Deref;
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::sync::Arc;

use crate::hook::{Entry, Hooks, Registered};
use crate::slab::Key;
use crate::sync::Mutex;

/// A value with a clean-up that runs once: when the guard is dropped, or at the shutdown, whichever
/// comes first (P13).
///
/// At the shutdown it has its place among the hooks, newest first. Dropped while its clean-up runs
/// there, the guard waits for it, within its time; inside a hook, a task, a commit, a hand-back or
/// an `on_stop` closure of this coordinator it does not wait (P17). Made after the end, it is
/// cleaned up by its drop alone (P19). Registering and dropping one is O(1) and leaves nothing
/// behind, so one for every request is fine.
///
/// The value itself is dropped when both the guard and the clean-up have gone. A clean-up that
/// fails in a drop before the stop has nobody to tell; it is kept, and the report has it.
///
/// It is a local like any other: one that lives in the closure of
/// [`run`](crate::ShutdownBuilder::run) is cleaned up when that returns, before the tasks have been
/// waited for. What tasks use belongs to them: give each an `Arc<Guard<T>>`.
///
/// Not for: what must not happen on an early return. And not run on a forced exit, `abort`,
/// `SIGKILL`.
#[must_use = "dropping it runs the clean-up at once; keep it in a variable that is not `_`"]
pub struct Guard<T> {
    value: Arc<T>,
    place: Option<Place>,
}

struct Place {
    hooks: Arc<Hooks>,
    at: At,
}

enum At {
    Stack(Key),
    /// Made after the end: only the drop is left to run it.
    /// In a mutex so that the guard can be shared: the closure itself cannot.
    Late(Box<Mutex<Entry>>),
}

impl<T> Guard<T> {
    pub(crate) fn new(hooks: &Arc<Hooks>, value: Arc<T>, entry: Entry) -> Self {
        let at = match hooks.register(entry) {
            Registered::OnStack(key) => At::Stack(key),
            Registered::RunNow(entry) => At::Late(Box::new(Mutex::new(entry))),
        };
        let place = Some(Place {
            hooks: Arc::clone(hooks),
            at,
        });
        Self { value, place }
    }
}

impl<T> Deref for Guard<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

impl<T> Drop for Guard<T> {
    fn drop(&mut self) {
        let Some(Place { hooks, at }) = self.place.take() else {
            return;
        };
        if !hooks.are_ours() {
            // P13: it is the parent's, which cleans up itself.
            std::mem::forget(at);
            return;
        }
        match at {
            At::Stack(key) => {
                if hooks.run_here(key).is_none() {
                    hooks.wait_for(key);
                }
            }
            At::Late(entry) => {
                hooks.run_late(entry.into_inner());
            }
        }
    }
}

impl<T: fmt::Debug> fmt::Debug for Guard<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Guard")
            .field("value", &self.value)
            .finish_non_exhaustive()
    }
}

impl<T: RefUnwindSafe> UnwindSafe for Guard<T> {}
impl<T: RefUnwindSafe> RefUnwindSafe for Guard<T> {}
