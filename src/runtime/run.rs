//! The whole program in one call, runtime included.

use std::fmt::{self, Display};
use std::future::poll_fn;
use std::panic::Location;
use std::process::ExitCode;
use std::sync::Arc;

use tokio::runtime::Builder;

use crate::builder::ShutdownBuilder;
use crate::handle::ShutdownHandle;
use crate::report::DrainOutcome;
use crate::slab::Key;
use crate::token::{FutureExt, StopSource};
use crate::work::{Abort, Commits, Holders, drop_whole};

impl ShutdownBuilder {
    /// As [`run`](Self::run), with a future, and a multi-thread runtime of its own.
    ///
    /// The runtime lives until the report is there, so that tasks drain on it and
    /// [async hooks](ShutdownHandle::hook_async) are driven; then it is left behind, and with it
    /// whatever blocks one of its threads or never returns from `spawn_blocking`. The future
    /// itself is waited for as the owner. When the time for draining is over it is dropped, but not
    /// in the midst of a [commit](crate::Item::complete_async), and the report has it as
    /// [`Aborted`](DrainOutcome::Aborted), under the name "run"; where it blocks instead, the
    /// process ends at the end of the grace period, without it (P15), unless it is
    /// [to live on](Self::exit_on_timeout), as one without signals does: then this does not return
    /// before the future lets go of its thread.
    ///
    /// Not for a thread that drives a runtime already: there it ends with the status of a panic. In
    /// a `#[tokio::main]` use [`install`](Self::install) and
    /// [`wait_async`](crate::ShutdownCoordinator::wait_async).
    ///
    /// ```no_run
    /// use std::process::ExitCode;
    /// use winddown::FutureExt;
    ///
    /// # async fn one_round() -> Result<(), std::io::Error> { Ok(()) }
    /// fn main() -> ExitCode {
    ///     winddown::ShutdownCoordinator::builder().run_async(async |shutdown| {
    ///         shutdown.hook_async("goodbye", async { println!("goodbye") });
    ///         let token = shutdown.token();
    ///         while let Ok(done) = one_round().until_stopped(&token).await {
    ///             done?;
    ///         }
    ///         Ok::<_, std::io::Error>(())
    ///     })
    /// }
    /// ```
    #[track_caller]
    pub fn run_async<F, Fut, R, E>(self, f: F) -> ExitCode
    where
        F: FnOnce(ShutdownHandle) -> Fut,
        Fut: Future<Output = Result<R, E>>,
        E: Display,
    {
        let location = Location::caller();
        let mut kept = None;
        let code = self.run(|shutdown| {
            let runtime = Builder::new_multi_thread()
                .enable_all()
                .build()
                .map_err(Refused::Runtime)?;
            // To drop a runtime blocks until its threads are free; a panic must not.
            let runtime = kept.insert(runtime);
            let cut = StopSource::new();
            let commits = Commits::default();
            let mut running = Running::new(shutdown, cut.clone(), commits.clone(), location);
            let token = cut.token();
            let handle = shutdown.handle();
            // In the runtime's context, also what the closure does before its first await.
            let ended = runtime.block_on(async {
                let mut future = Box::pin(f(handle));
                let driven = poll_fn(|cx| {
                    let _commits = commits.drive();
                    future.as_mut().poll(cx)
                });
                let ended = driven.until_stopped(&token).await;
                drop_whole(future);
                ended
            });
            if ended.is_err() {
                running.outcome = DrainOutcome::Aborted;
            }
            ended.map_or(Ok(()), |result| result.map(drop).map_err(Refused::Program))
        });
        if let Some(runtime) = kept {
            runtime.shutdown_background();
        }
        code
    }
}

/// The future of `run_async`, as what the shutdown waits for and can end.
struct Running {
    holders: Arc<Holders>,
    key: Key,
    outcome: DrainOutcome,
}

impl Running {
    fn new(
        handle: &ShutdownHandle,
        cut: StopSource,
        commits: Commits,
        location: &'static Location<'static>,
    ) -> Self {
        let holders = Arc::clone(&handle.core().work.own.holders);
        let key = holders.admit_owner("run".into(), location);
        let cut: Abort = Arc::new(move || {
            let cut = cut.clone();
            commits.close(move || {
                cut.stop("the time for draining is over");
            });
        });
        holders.abort_with(key, &cut);
        Self {
            holders,
            key,
            outcome: DrainOutcome::Ended,
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let outcome = std::mem::replace(&mut self.outcome, DrainOutcome::Ended);
        self.holders.leave(self.key, outcome);
    }
}

/// Why there is nothing to run on, or what the program failed with.
enum Refused<E> {
    Runtime(std::io::Error),
    Program(E),
}

impl<E: Display> Display for Refused<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Runtime(error) => write!(f, "cannot build the runtime: {error}"),
            // With the caller's flags: `{:#}` shows the whole chain of some errors.
            Self::Program(error) => error.fmt(f),
        }
    }
}
