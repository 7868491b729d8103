//! Where the tasks are: in a `SQLite` file, or in `PostgreSQL`.

use std::ffi::OsString;
use std::path::PathBuf;

use crate::queue::{Audit, Queue, QueueError, Result};
#[cfg(feature = "ledger")]
use winddown::{Claim, CompleteError};

/// A file, or a server with the name of a database.
#[derive(Clone, Debug)]
pub(crate) enum Place {
    File(PathBuf),
    Url(String),
}

impl From<OsString> for Place {
    fn from(place: OsString) -> Self {
        match place.into_string() {
            Ok(url) if url.starts_with("postgresql://") || url.starts_with("postgres://") => {
                Self::Url(url)
            }
            Ok(path) => Self::File(path.into()),
            Err(path) => Self::File(path.into()),
        }
    }
}

impl Place {
    /// A connection to the tasks that are there.
    pub(crate) fn open(&self) -> Result<Box<dyn Tasks>> {
        match self {
            Self::File(path) => Ok(Box::new(Queue::open(path)?)),
            Self::Url(url) => on_server(url),
        }
    }

    /// The same, and makes what is missing.
    pub(crate) fn create(&self) -> Result<Box<dyn Tasks>> {
        let mut tasks = match self {
            Self::File(path) => Box::new(Queue::create(path)?),
            Self::Url(url) => on_server(url)?,
        };
        tasks.make_tables()?;
        Ok(tasks)
    }
}

#[cfg(feature = "ledger-postgres")]
fn on_server(url: &str) -> Result<Box<dyn Tasks>> {
    Ok(Box::new(crate::in_postgres::Tables::connect(url)?))
}

#[cfg(not(feature = "ledger-postgres"))]
fn on_server(_url: &str) -> Result<Box<dyn Tasks>> {
    Err(QueueError::NoServer)
}

/// One connection to the tasks.
pub(crate) trait Tasks: Send {
    fn make_tables(&mut self) -> Result<()>;

    /// Puts `count` tasks in, `poison` of them, evenly spread, such that abort the process.
    fn enqueue(&mut self, count: u32, task_ms: u32, poison: u32) -> Result<()>;

    /// Counts them all, as of one moment.
    fn audit(&mut self) -> Result<Audit>;

    /// Some that are open, in no order: so that not everybody is after the same.
    #[cfg(feature = "ledger")]
    fn some_open(&mut self) -> Result<Vec<Task>>;

    /// Whoever begins with an earlier claim, or finishes by one, is refused from now on. False: it is not open.
    #[cfg(feature = "ledger")]
    fn begin(&mut self, task: i64, epoch: i64) -> Result<bool>;

    /// Ends the task, and makes its effect, unless a later claim has begun on it.
    #[cfg(feature = "ledger")]
    fn finish(&mut self, task: i64, epoch: i64) -> Result<()>;

    /// The same in one transaction with the verdict of the claim, for a ledger in the same place.
    #[cfg(feature = "ledger")]
    fn finish_with(&self, claim: &Claim, task: i64) -> Result<(), CompleteError<QueueError>>;

    #[cfg(feature = "ledger")]
    fn state(&mut self, task: i64) -> Result<Option<State>>;

    /// Puts the task with the dead ones. False: it was not open.
    #[cfg(feature = "ledger")]
    fn bury(&mut self, task: i64) -> Result<bool>;
}

/// A task that nobody has finished yet, as far as the queue knows.
#[cfg(feature = "ledger")]
#[derive(Debug)]
pub(crate) struct Task {
    pub(crate) id: i64,
    pub(crate) takes: std::time::Duration,
    pub(crate) is_poison: bool,
}

#[cfg(feature = "ledger")]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    Open,
    Done,
    Dead,
}
