//! What stands around an in-band end: in its batch, and in the channels behind it.

use std::ops::ControlFlow;
use std::time::Duration;

use crossbeam_channel::{Receiver, TryRecvError};

use crate::token::StopToken;

/// A batch, split at the end that was found in it. Made by [`split_at_end`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use = "what stands before the end is still to be delivered"]
pub struct Split<T> {
    /// What stands before the end, all of the batch when there is none: to be delivered.
    pub before: Vec<T>,
    /// The end, if there is one.
    pub end: Option<T>,
    /// What came behind it: not part of the stream any more.
    pub after: Vec<T>,
}

/// Splits a batch at its first end, so that what stands before it in the same batch is delivered
/// and not lost with it.
///
/// `is_end` is not asked about what comes behind the end.
///
/// ```
/// let split = winddown::split_at_end(["a", "b", "exit", "c"], |line| *line == "exit");
/// assert_eq!(split.before, ["a", "b"]);
/// assert_eq!(split.end, Some("exit"));
/// assert_eq!(split.after, ["c"]);
/// ```
pub fn split_at_end<T>(
    batch: impl IntoIterator<Item = T>,
    mut is_end: impl FnMut(&T) -> bool,
) -> Split<T> {
    let mut batch = batch.into_iter();
    let mut before = Vec::new();
    let mut end = None;
    for item in batch.by_ref() {
        if is_end(&item) {
            end = Some(item);
            break;
        }
        before.push(item);
    }
    // Not asked again once it has said that it is empty: it need not be fused.
    let after = if end.is_some() {
        batch.collect()
    } else {
        Vec::new()
    };
    Split { before, end, after }
}

/// How far [`drain`] got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "it says whether something was left"]
#[non_exhaustive]
pub struct Drained {
    /// How many were taken out.
    pub taken: usize,
    /// How many were in the channel when the time was over, or `f` ended it; 0 when it was found
    /// empty. A channel without a buffer never has any.
    pub left: usize,
    /// Found empty, and nobody can send any more. Not looked for when the time is over.
    pub disconnected: bool,
}

/// What the closure given to [`drain`] may return: `()`, or `ControlFlow<()>`. Sealed.
#[diagnostic::on_unimplemented(
    message = "the closure given to `drain` cannot return `{Self}`",
    label = "returns `{Self}`",
    note = "it returns `()`, or `ControlFlow<()>` to end early"
)]
pub trait DrainOutput: sealed::Sealed {}

impl DrainOutput for () {}
impl DrainOutput for ControlFlow<()> {}

mod sealed {
    use std::ops::ControlFlow;

    pub trait Sealed {
        #[doc(hidden)]
        fn is_break(&self) -> bool;
    }

    impl Sealed for () {
        fn is_break(&self) -> bool {
            false
        }
    }

    impl Sealed for ControlFlow<()> {
        fn is_break(&self) -> bool {
            ControlFlow::is_break(self)
        }
    }
}

/// Takes what is in the channel and gives it to `f`, until it is empty or the time is over.
///
/// The time is over when no more than `keep` of the token's grace period is
/// [left](StopToken::time_left): the [cleanup reserve](crate::ShutdownBuilder::cleanup_reserve) in
/// a loop that the drain waits for, nothing in a hook. While the program runs, and for a token
/// without a coordinator, there is no limit. It is looked at before each item, and a running `f` is
/// not interrupted.
///
/// `f` may end it early by returning [`ControlFlow::Break`]: where what is taken out can be handed
/// on no more. What was left is still in the channel: it can be taken out and handed back.
///
/// Not for: waiting for senders. A channel that is empty for a moment is empty; join them first, or
/// see whether it is [`disconnected`](Drained::disconnected).
///
/// # Panics
///
/// When `f` does; what it had been given is lost with it, the rest is still in the channel.
///
/// ```
/// use std::time::Duration;
///
/// let token = winddown::StopSource::new().token();
/// let (sender, words) = crossbeam_channel::unbounded();
/// for word in ["one", "two"] {
///     sender.send(word)?;
/// }
/// let drained = winddown::drain(&words, &token, Duration::ZERO, |word| println!("{word}"));
/// assert_eq!((drained.taken, drained.left), (2, 0));
/// # Ok::<(), crossbeam_channel::SendError<&str>>(())
/// ```
pub fn drain<T, R: DrainOutput>(
    receiver: &Receiver<T>,
    token: &StopToken,
    keep: Duration,
    mut f: impl FnMut(T) -> R,
) -> Drained {
    let mut drained = Drained {
        taken: 0,
        left: 0,
        disconnected: false,
    };
    loop {
        // Looked at first: nothing is taken out that there is no time for.
        if token.time_left().is_some_and(|time| time <= keep) {
            drained.left = receiver.len();
            return drained;
        }
        match receiver.try_recv() {
            Ok(item) => {
                drained.taken += 1;
                if f(item).is_break() {
                    drained.left = receiver.len();
                    return drained;
                }
            }
            Err(error) => {
                drained.disconnected = error == TryRecvError::Disconnected;
                return drained;
            }
        }
    }
}
