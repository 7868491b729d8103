//! Between this crate's tokens and tokio-util's.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Wake};

use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

use crate::reason::StopReason;
use crate::token::{StopSource, StopToken};

impl StopToken {
    /// A `CancellationToken` that is cancelled at the stop, for libraries that take one.
    ///
    /// Cancelling it stops nothing here, and no other that this method gives out; for the other
    /// direction there is [`StopSource::link`]. Called often, it leaves nothing behind (P23). A
    /// coordinator's is cancelled by a thread of it, a moment after the stop, as
    /// [`on_stop`](Self::on_stop); one that is asked for after the stop is cancelled already. A
    /// [child](Self::child)'s is cancelled only if a source or token of that child is still alive
    /// then: keep one. A waker that panics can keep the futures of others from being woken, as with
    /// any tree of `CancellationToken`s; with [`stopped`](Self::stopped) it cannot.
    pub fn to_cancellation_token(&self) -> CancellationToken {
        let mut first = false;
        let all = self.node().shared().cancellation.get_or_init(|| {
            first = true;
            CancellationToken::new()
        });
        if first {
            let all = all.clone();
            self.on_stop(move |_| all.cancel()).detach();
        }
        // P4: the thread that cancels it may not have come to it yet.
        if self.is_stopped() {
            all.cancel();
        }
        all.child_token()
    }
}

impl StopSource {
    /// Stops when `token` is cancelled, for as long as the [`Link`] lives; at once, where it has
    /// been cancelled already. Needs no runtime: the stop is made by the thread that cancels.
    ///
    /// ```
    /// use tokio_util::sync::CancellationToken;
    /// use winddown::StopSource;
    ///
    /// let (foreign, source) = (CancellationToken::new(), StopSource::new());
    /// let link = source.link(&foreign);
    /// foreign.cancel();
    /// assert!(source.token().is_stopped());
    /// # drop(link);
    /// ```
    pub fn link(&self, token: &CancellationToken) -> Link {
        let waker = Arc::new(Linked(self.clone())).into();
        let mut cancelled = Box::pin(token.clone().cancelled_owned());
        if cancelled
            .as_mut()
            .poll(&mut Context::from_waker(&waker))
            .is_ready()
        {
            self.stop(cancelled_reason());
            return Link { _cancelled: None };
        }
        Link {
            _cancelled: Some(cancelled),
        }
    }
}

fn cancelled_reason() -> StopReason {
    "a linked CancellationToken was cancelled".into()
}

/// Between a `CancellationToken` and a source: see [`StopSource::link`]. Dropping it ends that.
#[must_use = "dropping it ends the link; keep it in a variable that is not `_`"]
pub struct Link {
    /// Takes its waker back when it is dropped.
    _cancelled: Option<Pin<Box<WaitForCancellationFutureOwned>>>,
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Link").finish_non_exhaustive()
    }
}

/// It is woken for one reason only, and by then no lock is held over there.
struct Linked(StopSource);

impl Wake for Linked {
    fn wake(self: Arc<Self>) {
        self.0.stop(cancelled_reason());
    }
}
