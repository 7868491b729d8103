//! Threads that the coordinator started and waits for.

use std::fmt;
use std::fmt::Display;
use std::panic::{AssertUnwindSafe, RefUnwindSafe, UnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread::JoinHandle;

use crate::error::{SpawnError, TaskPanicked};
use crate::inside;
use crate::panic::{self, contained};
use crate::reason::StopReason;
use crate::report::DrainOutcome;
use crate::slab::Key;
use crate::stopped_probe::Shown;
use crate::sync::Mutex;
use crate::text::Name;
use crate::work::Holders;

/// A thread that the shutdown waits for. Dropping it changes nothing: the thread runs on, and is
/// still waited for.
pub struct Task<R> {
    name: String,
    thread: JoinHandle<()>,
    /// What the closure returned.
    output: Arc<Mutex<Option<Result<R, TaskPanicked>>>>,
}

/// What a task's closure may return: `()`, `Result<T, E>` with `E: Display`, or `!`; all of it
/// `Send + 'static`. Sealed.
#[diagnostic::on_unimplemented(
    message = "a task cannot return `{Self}`",
    label = "returns `{Self}`",
    note = "it returns `()`, or a `Result` with an error that is `Display`",
    note = "to give a value to `join`, return `Ok::<_, winddown::Stopped>(value)`"
)]
pub trait TaskOutput: sealed::Sealed + Send + 'static {}

impl TaskOutput for () {}
impl<T: Send + 'static, E: Display + Send + 'static> TaskOutput for Result<T, E> {}
impl TaskOutput for crate::hook::Never {}

mod sealed {
    use std::fmt::Display;

    use crate::stopped_probe::{self, Shown};

    pub trait Sealed {
        /// The error, shown.
        #[doc(hidden)]
        fn failure(&self) -> Option<Shown>;
    }

    impl Sealed for () {
        fn failure(&self) -> Option<Shown> {
            None
        }
    }

    impl<T, E: Display> Sealed for Result<T, E> {
        fn failure(&self) -> Option<Shown> {
            self.as_ref().err().map(stopped_probe::show)
        }
    }

    impl Sealed for crate::hook::Never {
        fn failure(&self) -> Option<Shown> {
            None
        }
    }
}

/// With the error, where it is one.
pub(crate) fn with_failure<R: TaskOutput>(output: R) -> (R, Option<Shown>) {
    let failure = output.failure();
    (output, failure)
}

impl<R> Task<R> {
    /// The name it was started under.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// It has returned, or panicked.
    pub fn is_finished(&self) -> bool {
        self.thread.is_finished()
    }

    /// Blocks until it has returned, and gives what it returned. It waits for as long as that
    /// takes: an owner that waits here has not come back.
    ///
    /// # Errors
    ///
    /// [`TaskPanicked`], with what the panic said. (The program has been stopped by it already.)
    pub fn join(self) -> Result<R, TaskPanicked> {
        let Self {
            name,
            thread,
            output,
        } = self;
        // The closure's own panics are caught inside; this one is of a thread-local's drop code,
        // which has nothing to give back.
        let panicked = thread.join().err().map(panic::message);
        let output = output.lock().take();
        output.unwrap_or_else(|| {
            Err(TaskPanicked {
                task: name,
                message: panicked.unwrap_or_default(),
            })
        })
    }
}

impl<R> fmt::Debug for Task<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Task")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

impl<R> UnwindSafe for Task<R> {}
impl<R> RefUnwindSafe for Task<R> {}

/// A task that has been admitted, and is waited for until it leaves.
pub(crate) struct Admitted<S> {
    pub(crate) id: u64,
    pub(crate) holders: Arc<Holders>,
    pub(crate) key: Key,
    pub(crate) name: Name,
    /// Any return stops the program.
    pub(crate) vital: bool,
    /// Asks for the stop.
    pub(crate) stop: S,
}

impl<S: Fn(StopReason) + Send + 'static> Admitted<S> {
    /// Starts the thread of a task that is one.
    pub(crate) fn start_thread<R: TaskOutput>(
        self,
        f: impl FnOnce() -> R + Send + 'static,
    ) -> Result<Task<R>, SpawnError> {
        let name = self.name.clone().into_owned();
        let (holders, key) = (Arc::clone(&self.holders), self.key);
        let output = Arc::new(Mutex::new(None));
        let slot = Arc::clone(&output);
        // A NUL would be refused as a thread's name, and the system shows 15 bytes of it anyway.
        let thread_name = name.replace('\0', "");
        // A failed spawn drops its closure, with drop code of the user's, so the closure only
        // borrows what it is to run.
        let work = Arc::new(Mutex::new(Some(f)));
        let taken = Arc::clone(&work);
        let thread = std::thread::Builder::new()
            .name(thread_name)
            .spawn(move || {
                let Some(f) = taken.lock().take() else {
                    return;
                };
                let _inside = inside::enter(self.id);
                self.holders.run_by_this_thread(self.key);
                let ended = catch_unwind(AssertUnwindSafe(|| with_failure(f())));
                let (result, outcome) = self.judge(ended);
                *slot.lock() = Some(result);
                // Where nobody holds the task any more, this drops what it returned: user code, and
                // part of the task (P21).
                contained(|| drop(slot));
                self.leave(outcome);
            });
        match thread {
            Ok(thread) => Ok(Task {
                name,
                thread,
                output,
            }),
            Err(source) => {
                holders.leave(key, DrainOutcome::Failed(source.to_string()));
                let work = work.lock().take();
                drop(work);
                Err(SpawnError::Thread { task: name, source })
            }
        }
    }

    /// Asks for the stop where the task's end calls for one.
    pub(crate) fn judge<R>(
        &self,
        ended: Result<(R, Option<Shown>), panic::Payload>,
    ) -> (Result<R, TaskPanicked>, DrainOutcome) {
        let task = self.name.clone().into_owned();
        match ended {
            Ok((output, Some(shown))) if shown.is_failure(self.holders.is_stopping()) => {
                (Ok(output), self.fail(shown.text))
            }
            Ok((output, _)) => {
                if self.vital {
                    (self.stop)(StopReason::TaskEnded { task });
                }
                (Ok(output), DrainOutcome::Ended)
            }
            Err(payload) => {
                let message = panic::message(payload);
                (self.stop)(StopReason::TaskPanicked {
                    task: task.clone(),
                    message: message.clone(),
                });
                let outcome = DrainOutcome::Panicked(message.clone());
                (Err(TaskPanicked { task, message }), outcome)
            }
        }
    }

    /// Asks for the stop, as the task has failed.
    pub(crate) fn fail(&self, error: String) -> DrainOutcome {
        (self.stop)(StopReason::TaskFailed {
            task: self.name.clone().into_owned(),
            error: error.clone(),
        });
        DrainOutcome::Failed(error)
    }

    /// After the stop has been asked for: in between there must be no moment without this task and
    /// without the stop.
    pub(crate) fn leave(&self, outcome: DrainOutcome) {
        self.holders.leave(self.key, outcome);
    }
}
