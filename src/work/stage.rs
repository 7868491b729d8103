//! A group of work that is stopped in its turn.

use std::borrow::Cow;
use std::fmt;
use std::panic::{Location, RefUnwindSafe, UnwindSafe};
use std::sync::Arc;
use std::time::Duration;

use crate::error::{IntakeClosed, SpawnError};
use crate::reason::StopReason;
use crate::text::Name;
use crate::token::StopToken;
#[cfg(feature = "tokio")]
use crate::work::Home;
use crate::work::{Hold, InFlightBuilder, StageState, Task, TaskOutput};

/// Asks for the program's stop.
type Stop = Arc<dyn Fn(StopReason) + Send + Sync>;

/// A group of work whose token stops only when the stage above it is empty.
///
/// Made by [`ShutdownHandle::stage`](crate::ShutdownHandle::stage). Built last, stopped first: the
/// stage built last is stopped at the program's stop, and each next one when the one above is
/// empty, or out of its share of the time. So build a pipeline from its end, as one builds
/// anything that stands on something else: first the sink, then what feeds it, last the source.
///
/// ```
/// # let shutdown = winddown::ShutdownCoordinator::builder().signals([]).install()?;
/// let (lines, to_write) = crossbeam_channel::bounded::<String>(16);
///
/// let sink = shutdown.stage("sink");
/// sink.spawn("write", move |_token| {
///     // Ends when the source has gone, with everything written that it sent.
///     for line in to_write {
///         println!("{line}");
///     }
/// })?;
///
/// let source = shutdown.stage("source");
/// source.spawn("read", move |token| {
///     while !token.is_stopped() {
///         if lines.send("a line".to_owned()).is_err() {
///             break;
///         }
/// #       token.wait_timeout(std::time::Duration::from_millis(1));
///     }
/// })?;
/// # shutdown.stop("enough");
/// # assert_eq!(shutdown.wait().exit_code(), 0);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// Where the stop may come while they are being built, take a hold of the topmost stage first: a
/// stage that is built after the stop is born stopped, and a hold above keeps those below open.
///
/// A stage has its own [token](Self::token), holds, tasks and items, and until its turn comes it
/// goes on admitting: what the stages above still produce finds its place.
///
/// There is one budget: the time for draining. When a stage's turn comes, its share is what is left
/// of it, divided by the stages still to come; what a quick stage leaves goes to the others, and a
/// stage that hangs does not take theirs. Work that is out of its share is still waited for while
/// the others stop, until the drain is over; beyond a [`timeout`](Self::timeout) it is not. Then
/// its items are handed back, and what holds it is reported as abandoned.
///
/// What is registered with the coordinator itself belongs to no stage: it is stopped at once, and
/// no stage waits for it.
///
/// Not for: the order of cleaning up. That is what hooks are for; they run after all stages.
#[derive(Clone)]
pub struct Stage {
    state: Arc<StageState>,
    stop: Stop,
}

impl Stage {
    pub(crate) fn new(state: Arc<StageState>, stop: Stop) -> Self {
        Self { state, stop }
    }

    /// Caps this stage: so long after its turn has come, nobody waits for it any more.
    ///
    /// Default: its share of the time for draining, and then what the others leave. To be set
    /// before the stop; the last one counts, for all clones.
    pub fn timeout(self, timeout: Duration) -> Self {
        self.state.set_cap(timeout);
        self
    }

    /// The name it was built under.
    pub fn name(&self) -> &str {
        &self.state.name
    }

    /// Stops when the stage's turn has come. Its reason is the program's.
    ///
    /// A step that ends because the channel above it has gone ends before that: why, says the
    /// program's token. Unlike the coordinator's it is stopped by a thread, not by the signal
    /// handler (P6), and its [`time_left`](StopToken::time_left) counts from the program's stop.
    pub fn token(&self) -> StopToken {
        StopToken::of(&self.state.home.node)
    }

    /// How much of the stage's share of the time is left; `None` before its turn, zero when it is
    /// over.
    ///
    /// What is beyond it is still waited for while the stages below stop, but only as long as they
    /// take.
    pub fn time_left(&self) -> Option<Duration> {
        self.state.time_left()
    }

    /// As [`ShutdownHandle::hold`](crate::ShutdownHandle::hold), for this stage.
    ///
    /// # Errors
    ///
    /// [`IntakeClosed`], once this stage has been stopped (P22).
    #[track_caller]
    pub fn hold(&self, name: impl Into<Cow<'static, str>>) -> Result<Hold, IntakeClosed> {
        self.state.home.hold(name.into(), Location::caller())
    }

    /// As [`ShutdownHandle::spawn`](crate::ShutdownHandle::spawn), for this stage; `f` is given the
    /// stage's token.
    ///
    /// # Errors
    ///
    /// [`SpawnError`], once this stage has been stopped (P22), or when the system has no thread.
    #[track_caller]
    pub fn spawn<F, R>(
        &self,
        name: impl Into<Cow<'static, str>>,
        f: F,
    ) -> Result<Task<R>, SpawnError>
    where
        F: FnOnce(StopToken) -> R + Send + 'static,
        R: TaskOutput,
    {
        self.spawn_task(name.into(), false, f, Location::caller())
    }

    /// As [`ShutdownHandle::spawn_vital`](crate::ShutdownHandle::spawn_vital), for this stage.
    ///
    /// # Errors
    ///
    /// As [`spawn`](Self::spawn).
    #[track_caller]
    pub fn spawn_vital<F, R>(
        &self,
        name: impl Into<Cow<'static, str>>,
        f: F,
    ) -> Result<Task<R>, SpawnError>
    where
        F: FnOnce(StopToken) -> R + Send + 'static,
        R: TaskOutput,
    {
        self.spawn_task(name.into(), true, f, Location::caller())
    }

    fn spawn_task<F, R>(
        &self,
        name: Name,
        vital: bool,
        f: F,
        location: &'static Location<'static>,
    ) -> Result<Task<R>, SpawnError>
    where
        F: FnOnce(StopToken) -> R + Send + 'static,
        R: TaskOutput,
    {
        let stop = self.stopping();
        self.state.home.spawn(name, vital, stop, f, location)
    }

    #[cfg(feature = "tokio")]
    pub(crate) fn home(&self) -> &Home {
        &self.state.home
    }

    /// What asks for the program's stop at the end of a task.
    pub(crate) fn stopping(&self) -> impl Fn(StopReason) + Send + 'static {
        let stop = Arc::clone(&self.stop);
        move |reason| stop(reason)
    }

    /// As [`ShutdownHandle::in_flight`](crate::ShutdownHandle::in_flight), for this stage: items
    /// are admitted until its turn comes.
    #[track_caller]
    pub fn in_flight<T: Send + Sync + 'static>(
        &self,
        name: impl Into<Cow<'static, str>>,
    ) -> InFlightBuilder<T> {
        let home = self.state.home.clone();
        InFlightBuilder::new(home, name.into(), Location::caller())
    }
}

impl fmt::Debug for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stage")
            .field("name", &self.state.name)
            .field("reason", &self.token().reason())
            .finish_non_exhaustive()
    }
}

// No user code ever runs under the locks inside, so a panic cannot leave them half changed.
impl UnwindSafe for Stage {}
impl RefUnwindSafe for Stage {}
