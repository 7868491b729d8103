//! Tasks that are futures.

use std::borrow::Cow;
use std::fmt;
use std::panic::Location;
use std::sync::Arc;

use thiserror::Error;
use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tokio::task::AbortHandle;

use crate::ShutdownHandle;
use crate::error::{SpawnError, TaskPanicked};
use crate::panic::{Payload, contained};
use crate::reason::StopReason;
use crate::report::DrainOutcome;
use crate::runtime::driven::{Driven, Ending};
use crate::stopped_probe::Shown;
use crate::sync::{AtomicBool, Ordering};
use crate::text::Name;
use crate::token::StopToken;
use crate::work::{Abort, Admitted, Commits, Home, Stage, TaskOutput, with_failure};

/// A future that the shutdown waits for. Dropping it changes nothing: the future is driven on, and
/// is still waited for.
pub struct AsyncTask<R> {
    name: String,
    task: AbortHandle,
    output: oneshot::Receiver<Result<R, TaskPanicked>>,
}

/// What was joined has returned nothing.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum TaskLost {
    /// It has panicked.
    #[error(transparent)]
    Panicked(#[from] TaskPanicked),
    /// It was dropped: aborted when the time for draining was over, or with its runtime.
    #[error("the task {task} was dropped")]
    #[non_exhaustive]
    Dropped {
        /// The task's name.
        task: String,
    },
}

impl<R> AsyncTask<R> {
    /// The name it was started under.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// It has returned, panicked, or been dropped.
    pub fn is_finished(&self) -> bool {
        self.task.is_finished()
    }

    /// Waits until it has ended, and gives what it returned. On any executor.
    ///
    /// # Errors
    ///
    /// [`TaskLost`], when it panicked or was dropped.
    pub async fn join(self) -> Result<R, TaskLost> {
        match self.output.await {
            Ok(result) => Ok(result?),
            Err(_) => Err(TaskLost::Dropped { task: self.name }),
        }
    }
}

impl<R> fmt::Debug for AsyncTask<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AsyncTask")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

impl ShutdownHandle {
    /// As [`spawn`](Self::spawn), with a future, which is driven on the runtime that this is called
    /// from: its panic, and an `Err` that is not [`Stopped`](crate::Stopped), stop the program.
    ///
    /// When the time for draining is over it is aborted, and waited for: within a quarter of the
    /// [cleanup reserve](crate::ShutdownBuilder::cleanup_reserve) it has been dropped, and what it
    /// held with it, an [item](crate::Item) among that being handed back; but not in the midst of a
    /// [commit](crate::Item::complete_async), which has the hand-back slice. The report then has it
    /// as [`Aborted`](DrainOutcome::Aborted); one that blocks its worker cannot be dropped, and is
    /// [`Abandoned`](DrainOutcome::Abandoned). A runtime that goes before the task does drops it,
    /// and that stops the program, too. A `current_thread` runtime has to be run meanwhile, as for an
    /// [async hook](Self::hook_async).
    ///
    /// # Errors
    ///
    /// [`SpawnError`], once the program has stopped (P22), or outside of a runtime.
    ///
    /// ```
    /// # let runtime = tokio::runtime::Runtime::new()?;
    /// # runtime.block_on(async {
    /// # let shutdown = winddown::ShutdownCoordinator::builder().signals([]).install()?;
    /// let task = shutdown.spawn_async("waits", async |token| {
    ///     token.stopped().await;
    /// })?;
    /// let report = shutdown.shutdown_async().await;
    /// assert_eq!(report.drained()[0].name(), "waits");
    /// task.join().await?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// # })?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[track_caller]
    pub fn spawn_async<F, Fut>(
        &self,
        name: impl Into<Cow<'static, str>>,
        f: F,
    ) -> Result<AsyncTask<Fut::Output>, SpawnError>
    where
        F: FnOnce(StopToken) -> Fut + Send + 'static,
        Fut: Future<Output: TaskOutput> + Send + 'static,
    {
        spawn(
            &self.core().work.own,
            self.stopping(),
            name.into(),
            false,
            f,
        )
    }

    /// Starts a future without which the program makes no sense: any return of it stops the
    /// program.
    ///
    /// # Errors
    ///
    /// As [`spawn_async`](Self::spawn_async).
    #[track_caller]
    pub fn spawn_async_vital<F, Fut>(
        &self,
        name: impl Into<Cow<'static, str>>,
        f: F,
    ) -> Result<AsyncTask<Fut::Output>, SpawnError>
    where
        F: FnOnce(StopToken) -> Fut + Send + 'static,
        Fut: Future<Output: TaskOutput> + Send + 'static,
    {
        spawn(&self.core().work.own, self.stopping(), name.into(), true, f)
    }
}

impl Stage {
    /// As [`ShutdownHandle::spawn_async`], for this stage; `f` is given the stage's token.
    ///
    /// Out of its share of the time it is driven on, as a thread would go on, until the drain is
    /// over; then it is aborted.
    ///
    /// # Errors
    ///
    /// [`SpawnError`], once this stage has been stopped (P22), or outside of a runtime.
    #[track_caller]
    pub fn spawn_async<F, Fut>(
        &self,
        name: impl Into<Cow<'static, str>>,
        f: F,
    ) -> Result<AsyncTask<Fut::Output>, SpawnError>
    where
        F: FnOnce(StopToken) -> Fut + Send + 'static,
        Fut: Future<Output: TaskOutput> + Send + 'static,
    {
        spawn(self.home(), self.stopping(), name.into(), false, f)
    }

    /// As [`ShutdownHandle::spawn_async_vital`], for this stage.
    ///
    /// # Errors
    ///
    /// As [`spawn_async`](Self::spawn_async).
    #[track_caller]
    pub fn spawn_async_vital<F, Fut>(
        &self,
        name: impl Into<Cow<'static, str>>,
        f: F,
    ) -> Result<AsyncTask<Fut::Output>, SpawnError>
    where
        F: FnOnce(StopToken) -> Fut + Send + 'static,
        Fut: Future<Output: TaskOutput> + Send + 'static,
    {
        spawn(self.home(), self.stopping(), name.into(), true, f)
    }
}

/// Starts a future; `stop` asks for the program's stop.
#[track_caller]
fn spawn<F, Fut>(
    home: &Home,
    stop: impl Fn(StopReason) + Send + 'static,
    name: Name,
    vital: bool,
    f: F,
) -> Result<AsyncTask<Fut::Output>, SpawnError>
where
    F: FnOnce(StopToken) -> Fut + Send + 'static,
    Fut: Future<Output: TaskOutput> + Send + 'static,
{
    let location = Location::caller();
    let shown = name.clone().into_owned();
    let Ok(runtime) = Handle::try_current() else {
        return Err(SpawnError::NoRuntime { task: shown });
    };
    let task = home.admit_task(name, vital, stop, location)?;
    let (holders, key) = (Arc::clone(&task.holders), task.key);
    holders.run_by_no_thread(key);
    let (tell, output) = oneshot::channel();
    let aborted = Arc::new(AtomicBool::new(false));
    let was_aborted = Arc::clone(&aborted);
    let token = StopToken::of(&home.node);
    let end = move |ending| {
        let outcome = match ending {
            Ending::Returned(output) => told(&task, Ok(output), tell),
            Ending::Panicked(payload) => told(&task, Err(payload), tell),
            Ending::Dropped if was_aborted.load(Ordering::Acquire) => DrainOutcome::Aborted,
            Ending::Dropped => task.fail("it was dropped with its runtime".to_owned()),
        };
        task.leave(outcome);
    };
    // The closure is called as a part of the future, so that its panic is one of the task's.
    let future = async move { with_failure(f(token).await) };
    let heard = Arc::clone(&holders);
    let commits = Commits::default();
    let future = Driven::new(home.id, future, end)
        .speaks_with(Arc::new(move |said| heard.say(key, said)))
        .counts(commits.clone());
    let abort = runtime.spawn(future).abort_handle();
    let aborting = abort.clone();
    let abort_it: Abort = Arc::new(move || {
        let (aborted, abort) = (Arc::clone(&aborted), aborting.clone());
        commits.close(move || {
            aborted.store(true, Ordering::Release);
            abort.abort();
        });
    });
    holders.abort_with(key, &abort_it);
    Ok(AsyncTask {
        name: shown,
        task: abort,
        output,
    })
}

/// Judges what the task has come to, and gives it to whoever joins; where nobody does, its drop code
/// is part of the task (P21).
fn told<R, S: Fn(StopReason) + Send + 'static>(
    task: &Admitted<S>,
    ended: Result<(R, Option<Shown>), Payload>,
    tell: oneshot::Sender<Result<R, TaskPanicked>>,
) -> DrainOutcome {
    let (result, outcome) = task.judge(ended);
    contained(|| drop(tell.send(result)));
    outcome
}
