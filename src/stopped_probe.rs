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

/// The error as text, whole chain, and whether a `Stopped` was in it.
pub(crate) fn show(error: &impl Display) -> (String, bool) {
    let _ = SEEN.try_with(|mark| mark.set(false));
    let text = format!("{error:#}");
    let stopped = SEEN.try_with(Cell::get).unwrap_or(false);
    (text, stopped)
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
        assert!(show(&stopped).1);
        assert!(show(&Wrapping(stopped.clone())).1);
        let boxed: Box<dyn std::error::Error> = stopped.into();
        assert!(show(&boxed).1);
        assert!(show(&crate::IntakeClosed::new()).1);
        let task = "late".to_owned();
        assert!(show(&crate::SpawnError::IntakeClosed { task }).1);
        assert!(show(&crate::PartitionError::IntakeClosed).1);
        assert!(!show(&crate::PartitionError::Ended).1);
        assert!(!show(&"something else").1);
    }
}
