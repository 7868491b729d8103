//! Streams that end at the stop.

use std::pin::Pin;
use std::task::{Context, Poll};

use futures_core::Stream;
use pin_project_lite::pin_project;

use crate::token::{StopFuture, StopToken};

/// Ends a stream at the stop, on any executor.
///
/// Bring it in with `as _` where another crate's `StreamExt` is in use.
pub trait StreamExt: Stream + Sized {
    /// The same items, until the stop.
    ///
    /// The stop is looked at *before* the next item is asked for, as in a
    /// [loop](crate::UntilStopped): what the stream has given is always passed on. One that waits
    /// for its next item is woken.
    ///
    /// ```
    /// use std::{future::poll_fn, pin::pin};
    /// use futures_core::Stream;
    /// use winddown::{StopToken, StreamExt as _};
    ///
    /// async fn count(lines: impl Stream<Item = String>, token: &StopToken) -> usize {
    ///     let mut lines = pin!(lines.until_stopped(token));
    ///     let mut count = 0;
    ///     while let Some(_line) = poll_fn(|cx| lines.as_mut().poll_next(cx)).await {
    ///         count += 1;
    ///     }
    ///     count
    /// }
    /// ```
    fn until_stopped(self, token: &StopToken) -> UntilStoppedStream<Self> {
        UntilStoppedStream {
            stream: self,
            stop: token.stopped(),
            token: token.clone(),
        }
    }
}

impl<S: Stream> StreamExt for S {}

pin_project! {
    /// Made by [`StreamExt::until_stopped`].
    #[derive(Debug)]
    #[must_use = "streams do nothing unless polled"]
    pub struct UntilStoppedStream<S> {
        #[pin]
        stream: S,
        stop: StopFuture,
        token: StopToken,
    }
}

impl<S: Stream> Stream for UntilStoppedStream<S> {
    type Item = S::Item;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<S::Item>> {
        let this = self.project();
        if this.token.is_stopped() {
            return Poll::Ready(None);
        }
        match this.stream.poll_next(cx) {
            // P4: the stop may have come since, and from now on it wakes.
            Poll::Pending => Pin::new(this.stop).poll(cx).map(|_| None),
            ready @ Poll::Ready(_) => ready,
        }
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (0, self.stream.size_hint().1)
    }
}
