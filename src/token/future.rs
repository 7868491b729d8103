//! The stop as a future, on any executor.

use std::fmt;
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::pin::Pin;
use std::task::{Context, Poll};

use pin_project_lite::pin_project;

use crate::error::Stopped;
use crate::reason::StopReason;
use crate::slab::Key;
use crate::token::StopToken;

/// Ready at the stop, with the reason. Made by [`StopToken::stopped`].
///
/// It keeps one waker, the latest, and takes it back when it is dropped: futures that come and go
/// leave nothing behind (P23). It may be polled again after it was ready, and is ready again.
#[must_use = "futures do nothing unless polled"]
pub struct StopFuture {
    token: StopToken,
    waker: Option<Key>,
}

impl StopFuture {
    pub(crate) fn new(token: StopToken) -> Self {
        Self { token, waker: None }
    }
}

impl Future for StopFuture {
    type Output = StopReason;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<StopReason> {
        let this = &mut *self;
        if !this.token.is_stopped() {
            // P4: looks at the stop once more, under the lock that whoever stops takes afterwards.
            this.waker = this.token.node().add_waker(cx.waker(), this.waker);
            if this.waker.is_some() {
                return Poll::Pending;
            }
        }
        Poll::Ready(this.token.node.known_reason())
    }
}

impl Drop for StopFuture {
    fn drop(&mut self) {
        if let Some(key) = self.waker.take() {
            self.token.node().remove_waker(key);
        }
    }
}

impl fmt::Debug for StopFuture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StopFuture")
            .field("token", &self.token)
            .finish_non_exhaustive()
    }
}

impl UnwindSafe for StopFuture {}
impl RefUnwindSafe for StopFuture {}

/// Ends a future at the stop, on any executor.
///
/// Bring it in with `as _` where another crate's `FutureExt` is in use.
pub trait FutureExt: Future + Sized {
    /// Gives what this future gives, or [`Stopped`] at the stop, where that comes first.
    ///
    /// After the stop it is not begun: a loop ends also where what it awaits is always ready. Once
    /// it has been begun, and both are there, it has the word: what it has done is not thrown away.
    /// It is dropped with what is returned here, so its drop code has run when that has gone. Not
    /// for what must not be cut in half: that is for a [hold](crate::ShutdownHandle::hold).
    ///
    /// ```
    /// use winddown::FutureExt;
    ///
    /// # async fn accept() {}
    /// # async fn serve(token: winddown::StopToken) -> Result<(), winddown::Stopped> {
    /// loop {
    ///     let connection = accept().until_stopped(&token).await?;
    ///     # let _: () = connection;
    /// }
    /// # }
    /// ```
    fn until_stopped(self, token: &StopToken) -> UntilStoppedFuture<Self> {
        UntilStoppedFuture {
            future: self,
            stop: token.stopped(),
            begun: false,
        }
    }
}

impl<F: Future> FutureExt for F {}

pin_project! {
    /// Made by [`FutureExt::until_stopped`].
    #[derive(Debug)]
    #[must_use = "futures do nothing unless polled"]
    pub struct UntilStoppedFuture<F> {
        #[pin]
        future: F,
        stop: StopFuture,
        begun: bool,
    }
}

impl<F: Future> Future for UntilStoppedFuture<F> {
    type Output = Result<F::Output, Stopped>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let begun = std::mem::replace(this.begun, true);
        if begun || !this.stop.token.is_stopped() {
            if let Poll::Ready(output) = this.future.poll(cx) {
                return Poll::Ready(Ok(output));
            }
        }
        Pin::new(this.stop)
            .poll(cx)
            .map(|reason| Err(Stopped::new(reason)))
    }
}
