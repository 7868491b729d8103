//! The owner of the shutdown.

use std::fmt;
use std::ops::Deref;
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::sync::Arc;
use std::thread::JoinHandle;

use crate::error::InstallError;
use crate::handle::ShutdownHandle;
use crate::inside;
use crate::reason::StopReason;
use crate::report::ShutdownReport;
use crate::shutdown::{self, Core, ReportFuture, Runner, discard};
use crate::signal::{Ears, handler, install, listener};
use crate::sync::Ordering;

/// Owns the shutdown of a program: the signals, the threads that watch over it, and the ending.
///
/// There is one owner, and everybody else gets a [`ShutdownHandle`], to which it dereferences.
/// Dropping it runs the whole shutdown and blocks until it is over (P13), so that an early `?` ends
/// as orderly as anything else; then the signals have their old effect back (P10).
///
/// ```no_run
/// use winddown::ShutdownCoordinator;
///
/// # fn work() {}
/// let shutdown = ShutdownCoordinator::install()?;
/// let token = shutdown.token();
/// shutdown.hook("goodbye", || eprintln!("goodbye"));
/// while !token.is_stopped() {
///     work();
/// }
/// shutdown.shutdown().exit()
/// # ; Ok::<(), winddown::InstallError>(())
/// ```
///
/// Dropped, it leaves the exit status to the program. The [`ExitPolicy`](crate::ExitPolicy) is kept
/// by [`run`](crate::ShutdownBuilder::run), by [`exit`](ShutdownReport::exit), and by a report
/// returned from `main`; of these only `run` also shows a report that is not clean.
///
/// # What it waits for
///
/// For what is registered ([`spawn`](ShutdownHandle::spawn), [`hold`](ShutdownHandle::hold)) and
/// for the thread that owns it to come back: into `wait`, `shutdown`, the end of `run`, or the
/// drop. A bare `thread::spawn` that nobody registered is not waited for. If the owner never comes
/// back, the hooks run all the same when the time for draining is over, and the process then ends
/// with the "timed out" status (unless
/// [`exit_on_timeout(false)`](crate::ShutdownBuilder::exit_on_timeout)).
#[must_use = "dropping it runs the shutdown at once; keep it in a variable that is not `_`"]
pub struct ShutdownCoordinator {
    handle: ShutdownHandle,
    threads: Vec<JoinHandle<()>>,
}

impl ShutdownCoordinator {
    /// Starts the threads; the handlers are the caller's to install.
    pub(crate) fn start(core: &Arc<Core>) -> Result<Self, InstallError> {
        let mut coordinator = Self {
            handle: ShutdownHandle::new(Arc::clone(core)),
            threads: Vec::new(),
        };
        let signals = Arc::clone(&core.signals);
        coordinator.thread("winddown-watch", move || listener::listen(&signals))?;
        core.runner_is(Runner::AtWork);
        let runs = Arc::clone(core);
        coordinator
            .thread("winddown-runner", move || shutdown::run(&runs))
            .inspect_err(|_| core.runner_is(Runner::Elsewhere))?;
        Ok(coordinator)
    }

    fn thread(
        &mut self,
        name: &'static str,
        f: impl FnOnce() + Send + 'static,
    ) -> Result<(), InstallError> {
        match std::thread::Builder::new().name(name.to_owned()).spawn(f) {
            Ok(thread) => {
                self.threads.push(thread);
                Ok(())
            }
            Err(source) => {
                self.refuse();
                Err(InstallError::Thread { name, source })
            }
        }
    }

    /// The installation failed: nothing has begun, so there is nothing to end. What a signal may
    /// have begun meanwhile has nobody to wait for.
    pub(crate) fn refuse(&self) {
        let signals = &self.core().signals;
        signals.owner.come_back();
        signals.released.store(true, Ordering::Release);
        signals.ring();
    }

    pub(crate) fn core(&self) -> &Arc<Core> {
        self.handle.core()
    }

    /// What everybody else gets.
    pub fn handle(&self) -> ShutdownHandle {
        self.handle.clone()
    }

    /// Blocks until somebody asks for the stop, then until the shutdown is over, and gives the
    /// report. It does not ask itself: when the work is done, call [`shutdown`](Self::shutdown).
    ///
    /// The thread that calls it counts as the owner, and as come back: what it still works on must
    /// be registered. Called again, or from several threads, it gives the same report (P18). From
    /// inside a hook, task, commit, hand-back, `on_stop` or `on_report` it returns at once with
    /// what has happened so far (P17).
    pub fn wait(&self) -> ShutdownReport {
        self.core().finish()
    }

    /// As [`wait`](Self::wait), but asks for the stop itself, with [`StopReason::Completed`], if
    /// nobody has.
    pub fn shutdown(&self) -> ShutdownReport {
        let core = self.core();
        // The owner is back before anybody looks for it.
        core.comes_back();
        core.stop_unless_stopped(StopReason::Completed);
        core.finish()
    }

    /// [`wait`](Self::wait) as a future, for any executor: no thread is blocked.
    ///
    /// The owner counts as come back when the future is polled for the first time after the stop.
    /// Dropped before that, it has changed nothing; dropped later, the shutdown goes on, and
    /// whoever asks next gets the same report (P18). Polled inside a hook, task, commit, hand-back,
    /// `on_stop` or `on_report` it is ready at once, with what has happened so far (P17). Where the
    /// executor hangs and the report is not fetched, the process ends when the grace period is
    /// over, as without an owner (P15).
    ///
    /// A poll after the end of the grace period makes the report itself, if nobody has. That takes
    /// an executor that polls again by then, as a timeout around the future makes it do. It matters
    /// only with [`exit_on_timeout(false)`](crate::ShutdownBuilder::exit_on_timeout), where the
    /// system has had no thread left and user code hangs on the last one: then the future is not
    /// woken, and without that poll it stays pending.
    ///
    /// To drop the coordinator blocks; after the report was fetched, for a moment only. And a tokio
    /// runtime that is dropped waits for every `spawn_blocking`: end with
    /// [`exit`](ShutdownReport::exit) before that, or use `run_async`, of the feature `tokio`.
    pub fn wait_async(&self) -> ReportFuture {
        ReportFuture::new(Arc::clone(self.core()))
    }

    /// [`shutdown`](Self::shutdown) as a future: the stop is asked for by this call, also where the
    /// future is never polled.
    ///
    /// ```
    /// # fn block_on<F: Future>(future: F) -> F::Output {
    /// #     struct Unpark(std::thread::Thread);
    /// #     impl std::task::Wake for Unpark {
    /// #         fn wake(self: std::sync::Arc<Self>) { self.0.unpark() }
    /// #     }
    /// #     let waker = std::sync::Arc::new(Unpark(std::thread::current())).into();
    /// #     let mut future = std::pin::pin!(future);
    /// #     loop {
    /// #         match future.as_mut().poll(&mut std::task::Context::from_waker(&waker)) {
    /// #             std::task::Poll::Ready(output) => return output,
    /// #             std::task::Poll::Pending => std::thread::park(),
    /// #         }
    /// #     }
    /// # }
    /// # let shutdown = winddown::ShutdownCoordinator::builder().signals([]).install()?;
    /// block_on(async {
    ///     let report = shutdown.shutdown_async().await;
    ///     assert_eq!(report.exit_code(), 0);
    /// });
    /// # Ok::<(), winddown::InstallError>(())
    /// ```
    pub fn shutdown_async(&self) -> ReportFuture {
        self.core().stop_unless_stopped(StopReason::Completed);
        self.wait_async()
    }

    /// Whether the handlers still stand as they were installed (P11). False: something has replaced
    /// one of them, and its signal does not arrive here any more; or this is a forked child, to
    /// which none arrives. True without signals: then nothing can be missing.
    pub fn is_installed(&self) -> bool {
        let signals = &self.core().signals;
        signals.answered.load(Ordering::Acquire) == 0
            || signals.is_ours() && install::is_installed(signals)
    }
}

impl Deref for ShutdownCoordinator {
    type Target = ShutdownHandle;

    fn deref(&self) -> &ShutdownHandle {
        &self.handle
    }
}

impl Drop for ShutdownCoordinator {
    fn drop(&mut self) {
        let core = self.core();
        let signals = &core.signals;
        // A forked child has a copy without the threads: there is nothing to wait for, and nothing
        // that is its to end (P10).
        if !signals.is_ours() {
            return;
        }
        if !signals.released.load(Ordering::Acquire) {
            // Inside a task or hook this does not wait; the shutdown then goes on by itself.
            signals.owner.come_back();
            core.stop_unless_stopped(if std::thread::panicking() {
                StopReason::Panicked {
                    message: "the thread that owns the coordinator panicked".to_owned(),
                }
            } else {
                StopReason::Dropped
            });
            drop(core.finish());
        }
        handler::release(signals);
        signals.released.store(true, Ordering::Release);
        signals.bell.ring(Ears::ALL);
        // P20: where the shutdown goes on without the owner, its items are still to be found.
        if core.owner_goes() {
            // P15: what they hold may hang as it is dropped.
            if let Some(dropping) = discard(core.id, core.work.hand_over()) {
                dropping.wait(core.time_for_last_words());
            }
            // P10: all have been told of the end, and the program goes on.
            if let Some(signal) = signals.take_unheard() {
                handler::as_before(signal);
            }
        }
        // P15: a runner that has had to run user code itself may be kept there.
        if inside::is_inside(core.id) || !core.wait_for_the_runner() {
            return;
        }
        for thread in std::mem::take(&mut self.threads) {
            // Neither of the two panics, and both end at once.
            let _ = thread.join();
        }
    }
}

impl fmt::Debug for ShutdownCoordinator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ShutdownCoordinator")
            .field("phase", &self.phase())
            .finish_non_exhaustive()
    }
}

impl UnwindSafe for ShutdownCoordinator {}
impl RefUnwindSafe for ShutdownCoordinator {}
