//! Asking for a stop, and seeing it: sources, tokens, and every way to wait.

mod announcement;
mod deliveries;
mod future;
mod grace;
mod iter;
#[cfg(all(test, winddown_loom))]
mod models;
mod node;
mod on_stop;
#[cfg(feature = "tokio")]
mod stream;
mod word;

use std::convert::Infallible;
use std::fmt;
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::Receiver;

use crate::error::Stopped;
use crate::reason::StopReason;

pub(crate) use announcement::{Announcement, wake};
pub(crate) use deliveries::Deliveries;
pub use future::{FutureExt, StopFuture, UntilStoppedFuture};
pub(crate) use grace::{GraceClock, SLICE, after};
pub use iter::{UntilStopped, UntilStoppedIter};
pub(crate) use node::{Ending, Node};
pub use on_stop::OnStop;
#[cfg(feature = "tokio")]
pub use stream::{StreamExt, UntilStoppedStream};
#[cfg(test)]
pub(crate) use word::NO_RECORD;
pub(crate) use word::{By, Life, Word};

/// Asks for a stop.
///
/// Clones ask for the same stop; the first reason wins (P3). Dropping a source, even the last, does
/// **not** stop: that would turn every early return of a helper into the end of the program.
///
/// A source that stands alone needs no coordinator, and starts no thread:
///
/// ```
/// use winddown::StopSource;
///
/// let source = StopSource::new();
/// let token = source.token();
/// assert!(!token.is_stopped());
/// assert!(source.stop("enough"));
/// assert!(!source.stop("too late"));
/// assert_eq!(token.reason().unwrap().to_string(), "requested: enough");
/// ```
///
/// What waits is woken by the thread that calls `stop`, `on_stop` closures included. (The stop of a
/// coordinator is told by a thread of its own.)
#[derive(Clone)]
pub struct StopSource {
    node: Arc<Node>,
}

impl StopSource {
    /// A source of its own, with no parent.
    pub fn new() -> Self {
        Self { node: Node::root() }
    }

    /// What listens to this source.
    pub fn token(&self) -> StopToken {
        StopToken {
            node: Arc::clone(&self.node),
        }
    }

    /// Asks for the stop and wakes everything that waits for it. True: this call was the first.
    ///
    /// What was written before this call is visible to whoever sees the stop (P5). Not for a signal
    /// handler: it locks and allocates; that is what
    /// [`ShutdownHandle::feed`](crate::ShutdownHandle::feed) is for.
    pub fn stop(&self, reason: impl Into<StopReason>) -> bool {
        self.node.stop(reason.into())
    }
}

impl Default for StopSource {
    fn default() -> Self {
        Self::new()
    }
}

/// Listens for a stop. Cheap to clone, and safe to give to anybody: a token cannot stop anything.
///
/// ```no_run
/// # fn work() {}
/// # let token = winddown::StopSource::new().token();
/// while !token.is_stopped() {
///     work();
/// }
/// ```
///
/// Not for: ending a thread that does not look. Nothing can.
#[derive(Clone)]
pub struct StopToken {
    node: Arc<Node>,
}

impl StopToken {
    pub(crate) fn of(node: &Arc<Node>) -> Self {
        Self {
            node: Arc::clone(node),
        }
    }

    /// Whether the stop has come.
    ///
    /// An atomic load, or two for a [child](Self::child); no lock, no clock, no write (P1). Cheap
    /// enough for an inner loop.
    #[inline]
    pub fn is_stopped(&self) -> bool {
        self.node.is_stopped()
    }

    /// Why; `None` while running. Always there once the stop has been seen (P2), and never changes
    /// (P3).
    pub fn reason(&self) -> Option<StopReason> {
        self.node.reason()
    }

    /// An error once the stop has come: for `?` in the middle of work.
    ///
    /// # Errors
    ///
    /// [`Stopped`], once the stop has come. A `run` or a task that ends with it has not failed.
    pub fn check(&self) -> Result<(), Stopped> {
        // P1: the reason is only looked for once it is needed.
        if self.is_stopped() {
            Err(Stopped::new(self.node.known_reason()))
        } else {
            Ok(())
        }
    }

    /// Blocks until the stop.
    pub fn wait(&self) -> StopReason {
        self.node.wait_until(None);
        self.node.known_reason()
    }

    /// Blocks until the stop, but no longer than `timeout`; `None` when that was over first.
    pub fn wait_timeout(&self, timeout: Duration) -> Option<StopReason> {
        // A deadline beyond the end of time is none.
        let deadline = Instant::now().checked_add(timeout);
        self.node
            .wait_until(deadline)
            .then(|| self.node.known_reason())
    }

    /// Sleeps for `duration`; the stop ends the sleep.
    ///
    /// # Errors
    ///
    /// [`Stopped`] when the stop came first, or was there already.
    pub fn sleep(&self, duration: Duration) -> Result<(), Stopped> {
        match self.wait_timeout(duration) {
            Some(reason) => Err(Stopped::new(reason)),
            None => Ok(()),
        }
    }

    /// A future that is ready at the stop, on any executor.
    pub fn stopped(&self) -> StopFuture {
        StopFuture::new(self.clone())
    }

    /// A channel that disconnects at the stop, for `select!`. Nothing is ever sent on it.
    ///
    /// It disconnects too when the last source and token (and child) are gone: nobody could stop it
    /// then.
    ///
    /// ```
    /// use crossbeam_channel::{select, unbounded};
    ///
    /// let source = winddown::StopSource::new();
    /// let token = source.token();
    /// let (_sender, jobs) = unbounded::<u32>();
    /// source.stop("enough");
    /// select! {
    ///     recv(jobs) -> job => panic!("there was none, but {job:?} came"),
    ///     recv(token.receiver()) -> _ => {}
    /// }
    /// ```
    pub fn receiver(&self) -> &Receiver<Infallible> {
        self.node.receiver()
    }

    /// Calls `f` once, at the stop; at once, on this thread, when it has come already.
    ///
    /// Where a coordinator stops it (its own token, a stage's, a child of either) it runs on a
    /// thread of the coordinator, before any hook, and within the time for draining; otherwise on
    /// the thread that stops. Dropping the [`OnStop`] unregisters it; it never blocks. A panic of
    /// `f` is caught. `f` is for waking something up: cleaning up is what a
    /// [hook](crate::ShutdownHandle::hook) is for.
    ///
    /// An `OnStop` that is dropped before the call began prevents it, also after the stop: a local
    /// of a function that returns at the stop should be [detached](OnStop::detach).
    ///
    /// ```
    /// let source = winddown::StopSource::new();
    /// let (wake, woken) = std::sync::mpsc::channel();
    /// source.token().on_stop(move |why| drop(wake.send(why.clone()))).detach();
    /// source.stop("enough");
    /// assert_eq!(woken.recv().unwrap(), "enough".into());
    /// ```
    pub fn on_stop(&self, f: impl FnOnce(&StopReason) + Send + 'static) -> OnStop {
        OnStop::register(self, f)
    }

    /// A source that stops with this token, and can be stopped before it: never the other way
    /// round.
    ///
    /// The first reason of the two is the child's. Children may have children; a chain of 100,000
    /// is stopped and dropped without recursion.
    pub fn child(&self) -> StopSource {
        StopSource {
            node: self.node.child(),
        }
    }

    /// How much of the grace period is left; `None` while the program runs, and for a source
    /// without a coordinator. A [stage](crate::Stage)'s token has it from the program's stop on.
    /// With a [linger](crate::ShutdownBuilder::linger) it counts from the signal, before the stop.
    ///
    /// The [cleanup reserve](crate::ShutdownBuilder::cleanup_reserve) at its end belongs to the
    /// hooks: work that is still held by then is reported as abandoned.
    pub fn time_left(&self) -> Option<Duration> {
        self.node.time_left()
    }

    pub(crate) fn node(&self) -> &Arc<Node> {
        &self.node
    }
}

impl fmt::Debug for StopSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StopSource")
            .field("reason", &self.node.reason())
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for StopToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StopToken")
            .field("reason", &self.node.reason())
            .finish_non_exhaustive()
    }
}

// No user code ever runs under the locks inside, so a panic cannot leave them half changed.
impl UnwindSafe for StopSource {}
impl RefUnwindSafe for StopSource {}
impl UnwindSafe for StopToken {}
impl RefUnwindSafe for StopToken {}
