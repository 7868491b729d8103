//! Refusals. What happened to a program is data in the report; an `Err` says that something was not
//! done.

use std::io;

use thiserror::Error;

use crate::reason::{Signal, StopReason};

/// [`install`](crate::ShutdownBuilder::install) was refused; nothing stays half installed.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum InstallError {
    /// Another coordinator holds the signals of this process. Only one can (P10); any number may
    /// live with `signals([])`.
    #[error("another coordinator with signals is installed in this process")]
    AlreadyInstalled,
    /// The signal cannot be handled: the system does not let it, or it reports a fault of the
    /// program itself.
    #[error("{0} cannot be handled")]
    CannotHandle(Signal),
    /// Another handler has taken the place of the one installed here before, and would be lost.
    #[error("another handler has replaced the one installed for {0}")]
    Replaced(Signal),
    /// The system refused the handler.
    #[error("cannot install a handler for {signal}: {source}")]
    #[non_exhaustive]
    Handler {
        /// For which signal.
        signal: Signal,
        /// What the system said.
        source: io::Error,
    },
    /// There is nothing to wake a thread with. (On Linux nothing is needed for it.)
    #[error("cannot make what wakes the threads: {0}")]
    Wakeup(#[source] io::Error),
    /// A thread could not be started.
    #[error("cannot start the thread {name}: {source}")]
    #[non_exhaustive]
    Thread {
        /// Which one.
        name: &'static str,
        /// What the system said.
        source: io::Error,
    },
}

/// The token has been stopped. Made for `?`: [`StopToken::check`](crate::StopToken::check) returns
/// it.
///
/// Once the program has stopped, a `run` or a task that ends with it, or with an error that shows
/// it (`#[error("…: {0}")]`, or a chain shown with `{:#}` as anyhow's), has not failed. One that
/// hides its source has, and so has the `Stopped` of a child token that was stopped by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stopped {
    reason: StopReason,
}

impl Stopped {
    pub(crate) fn new(reason: StopReason) -> Self {
        Self { reason }
    }

    /// Why it stopped.
    pub fn reason(&self) -> &StopReason {
        &self.reason
    }
}

impl std::fmt::Display for Stopped {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        crate::stopped_probe::seen();
        write!(f, "stopped ({})", self.reason)
    }
}

impl std::error::Error for Stopped {}

/// Nothing new is admitted: the program has stopped (P22). As with [`Stopped`], a `run` or a task
/// that ends with it has not failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct IntakeClosed;

impl std::fmt::Display for IntakeClosed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        crate::stopped_probe::seen();
        f.write_str("nothing new is admitted: the program is stopping")
    }
}

impl std::error::Error for IntakeClosed {}

impl IntakeClosed {
    pub(crate) const fn new() -> Self {
        Self
    }
}

/// A task was not started; its closure has been dropped.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum SpawnError {
    /// The program has stopped (P22). A `run` or a task that ends with it has not failed.
    #[error("cannot start the task {task}: {}", IntakeClosed::new())]
    #[non_exhaustive]
    IntakeClosed {
        /// The task's name.
        task: String,
    },
    /// It is a future, and there is no runtime here to drive it.
    #[cfg(feature = "tokio")]
    #[error("cannot start the task {task} outside of a runtime")]
    #[non_exhaustive]
    NoRuntime {
        /// The task's name.
        task: String,
    },
    /// The system has no thread for it.
    #[error("cannot start a thread for the task {task}: {source}")]
    #[non_exhaustive]
    Thread {
        /// The task's name.
        task: String,
        /// What the system said.
        source: io::Error,
    },
}

/// A partition of an [`EndOfStream`](crate::EndOfStream) was not changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum PartitionError {
    /// It is not assigned: it never was, or has been revoked.
    #[error("the partition is not assigned")]
    UnknownPartition,
    /// It has been revoked or assigned anew since, and what comes from the old assignment counts
    /// for nothing.
    #[error("the assignment of the partition is of an old generation")]
    OldGeneration,
    /// It has ended, and nothing arrives from it unless it is resumed.
    #[error("the partition has ended")]
    Ended,
    /// The program has stopped (P22), or the stream is over and stops it. A `run` or a task that
    /// ends with it has not failed.
    #[error("{}", IntakeClosed::new())]
    IntakeClosed,
}

/// The task that was joined has panicked.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("task {task} panicked: {message}")]
#[non_exhaustive]
pub struct TaskPanicked {
    /// The task's name.
    pub task: String,
    /// What the panic said.
    pub message: String,
}

/// No signal has this number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("no signal has the number {0}")]
pub struct UnknownSignal(pub i32);
