//! Finds out whether an error is, or wraps, [`Stopped`](crate::Stopped) or a refusal for the same
//! reason, knowing only that it can be displayed.
//!
//! `run` asks no more of an error than `Display`, so it cannot be downcast. But whoever shows a
//! chain of errors shows every link of it: `Stopped` leaves a mark on the thread when it is shown,
//! and that mark is looked for. An error that does not show what it wraps (a plain `Display` that
//! hides its source) is not found, and counts as a failure.

use std::cell::Cell;
use std::fmt::Display;

thread_local! {
    static SEEN: Cell<bool> = const { Cell::new(false) };
}

/// A `Stopped`, or what says the same, is being shown on this thread.
pub(crate) fn seen() {
    // A thread that is being taken down has no marks; then nobody is looking either.
    let _ = SEEN.try_with(|mark| mark.set(true));
}

/// An error that was shown.
pub struct Shown {
    /// Its whole chain.
    pub(crate) text: String,
    /// A `Stopped` was in it.
    stopped: bool,
}

impl Shown {
    /// P22: an end that the stop has asked for is no failure. A `Stopped` of a child that was stopped
    /// by itself is an error like any other.
    pub(crate) fn is_failure(&self, stopping: bool) -> bool {
        !(self.stopped && stopping)
    }
}

pub(crate) fn show(error: &impl Display) -> Shown {
    let _ = SEEN.try_with(|mark| mark.set(false));
    let text = format!("{error:#}");
    let stopped = SEEN.try_with(Cell::get).unwrap_or(false);
    Shown { text, stopped }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{StopReason, Stopped};

    #[derive(Debug, thiserror::Error)]
    #[error("while reading: {0}")]
    struct Wrapping(Stopped);

    #[test]
    fn finds_stopped_bare_boxed_and_wrapped() {
        let stopped = Stopped::new(StopReason::Completed);
        assert!(show(&stopped).stopped);
        assert!(show(&Wrapping(stopped.clone())).stopped);
        let boxed: Box<dyn std::error::Error> = stopped.into();
        assert!(show(&boxed).stopped);
        assert!(show(&crate::IntakeClosed::new()).stopped);
        let task = "late".to_owned();
        assert!(show(&crate::SpawnError::IntakeClosed { task }).stopped);
        assert!(show(&crate::PartitionError::IntakeClosed).stopped);
        assert!(!show(&crate::PartitionError::Ended).stopped);
        assert!(!show(&"something else").stopped);
    }
}
