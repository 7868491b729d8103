//! "Wait for me."

use std::borrow::Cow;
use std::fmt;
use std::panic::{RefUnwindSafe, UnwindSafe};

use crate::snapshot::Said;
use crate::work::place::Place;

/// Keeps the drain open for as long as it lives: "wait for me" (P21).
///
/// Taken with [`ShutdownHandle::hold`](crate::ShutdownHandle::hold) around work that must not be
/// cut in half. A clone covers sub-work, also when it is made while draining; the hold ends with
/// the last of them. A hold that is still there when the time for draining is over is reported as
/// abandoned.
///
/// Not for: cleaning up; that is what a hook or a guard is for.
#[must_use = "the shutdown waits for it only while it lives; keep it in a variable that is not `_`"]
pub struct Hold {
    /// Always there, until the drop.
    place: Option<Place>,
}

impl Hold {
    pub(crate) fn new(place: Place) -> Self {
        Self { place: Some(place) }
    }
}

impl Hold {
    /// Says what is being done under it, for [snapshots](crate::ShutdownHandle::snapshot) and
    /// whoever shows them. The last words of all clones count, whichever thread says them.
    pub fn say(&self, what: impl Into<Cow<'static, str>>) {
        self.put(Said::new(what.into(), None));
    }

    /// As [`say`](Self::say), with how much is done of how much.
    pub fn say_progress(&self, what: impl Into<Cow<'static, str>>, done: u64, of: u64) {
        self.put(Said::new(what.into(), Some((done, of))));
    }

    fn put(&self, said: Said) {
        if let Some(place) = &self.place {
            place.say(said);
        }
    }
}

impl Clone for Hold {
    fn clone(&self) -> Self {
        Self {
            place: self.place.as_ref().map(Place::share),
        }
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        if let Some(place) = self.place.take() {
            place.leave();
        }
    }
}

impl fmt::Debug for Hold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hold").finish_non_exhaustive()
    }
}

impl UnwindSafe for Hold {}
impl RefUnwindSafe for Hold {}
