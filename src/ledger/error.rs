//! What a ledger refuses.

use std::error::Error;
use std::io;
use std::path::PathBuf;

use thiserror::Error;

use crate::error::IntakeClosed;
use crate::ledger::info::{FailedClaim, MemberInfo};

/// The store said no: it is locked by somebody else for too long, cannot be reached, is full.
/// Nothing was changed (but see [`is_unreachable`](Self::is_unreachable)).
#[derive(Debug, Error)]
#[error("cannot {what}: {source}")]
pub struct StoreError {
    what: &'static str,
    is_busy: bool,
    is_unreachable: bool,
    source: Box<dyn Error + Send + Sync>,
}

impl StoreError {
    pub(super) fn new(
        what: &'static str,
        is_busy: bool,
        source: impl Into<Box<dyn Error + Send + Sync>>,
    ) -> Self {
        let source = source.into();
        Self {
            what,
            is_busy,
            is_unreachable: false,
            source,
        }
    }

    #[cfg(feature = "ledger-postgres")]
    pub(super) fn unreachable(mut self) -> Self {
        self.is_unreachable = true;
        self
    }

    /// Somebody else had it locked for all the time there was: to be tried again.
    pub fn is_busy(&self) -> bool {
        self.is_busy
    }

    /// Its server could not be reached, gave no answer in time, or broke the connection off; the
    /// text names the host. Never for a file. Where the connection broke at the very end, what was
    /// asked for may have been done all the same.
    pub fn is_unreachable(&self) -> bool {
        self.is_unreachable
    }
}

/// A ledger could not be opened, joined or asked.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum LedgerError {
    /// The store said no.
    #[error("{0}")]
    Store(#[from] StoreError),
    /// The tables are those of another version of this crate.
    #[error("the ledger has tables of version {found}, not {expected}")]
    #[non_exhaustive]
    Version {
        /// The version of the tables.
        found: i64,
        /// The version that this crate has.
        expected: i64,
    },
    /// The times of the membership do not fit together.
    #[error(
        "a member that beats every {heartbeat:?} cannot count as dead after {dead_after:?}: \
         three times as long is the least"
    )]
    #[non_exhaustive]
    Times {
        /// Between two heartbeats.
        heartbeat: std::time::Duration,
        /// Without one.
        dead_after: std::time::Duration,
    },
    /// The program has stopped (P22). A `run` or a task that ends with it has not failed.
    #[error("cannot join: {}", IntakeClosed::new())]
    IntakeClosed,
    /// A file beside the store could not be used: a member's lock, or its journal.
    #[error("cannot use {}: {source}", .path.display())]
    #[non_exhaustive]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A thread could not be started.
    #[error("cannot start the thread {name}: {source}")]
    #[non_exhaustive]
    Thread {
        /// Which one.
        name: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// What the store has is not of the type that was asked for.
    #[error("what is kept of {key} is of another shape: {error}")]
    #[non_exhaustive]
    Shape {
        /// The claim.
        key: String,
        /// What does not fit.
        error: String,
    },
}

/// A claim was refused; nothing has changed.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ClaimError {
    /// Somebody works on it: another member, or this one itself.
    #[error("{key} is taken by {by}")]
    #[non_exhaustive]
    Taken {
        /// What was to be claimed.
        key: String,
        /// Who has it.
        by: Box<MemberInfo>,
    },
    /// It is given up until somebody [retries](crate::Ledger::retry) it.
    #[error("{} is given up: {}", .0.key(), .0.why())]
    GivenUp(Box<FailedClaim>),
    /// This member counts as dead, and gets nothing any more.
    #[error("{key} cannot be claimed: member {member} counts as dead")]
    #[non_exhaustive]
    Fenced {
        /// What was to be claimed.
        key: String,
        /// The member's name.
        member: String,
    },
    /// The program has stopped (P22). A `run` or a task that ends with it has not failed.
    #[error("nothing can be claimed: {}", IntakeClosed::new())]
    IntakeClosed,
    /// The payload cannot be kept as JSON.
    #[error("the payload of {key} cannot be kept: {error}")]
    #[non_exhaustive]
    Payload {
        /// What was to be claimed.
        key: String,
        /// What does not fit into JSON.
        error: String,
    },
    /// The store said no.
    #[error("{0}")]
    Store(#[from] StoreError),
}

/// A write of a claim was refused; nothing has changed (but see
/// [`StoreError::is_unreachable`]).
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum WriteError {
    /// Too late: the claim is not this member's any more, as it counted as dead, or its shutdown
    /// has released what was left. Somebody else may have done the work, or be doing it.
    #[error("too late: {key} is not claimed here any more")]
    #[non_exhaustive]
    Superseded {
        /// The claim.
        key: String,
    },
    /// This member counts as dead, or will before the write could be done.
    #[error("too late: member {member}, which has claimed {key}, counts as dead")]
    #[non_exhaustive]
    Fenced {
        /// The claim.
        key: String,
        /// The member's name.
        member: String,
    },
    /// The claim has had its verdict from this very value.
    #[error("{key} has been decided already")]
    #[non_exhaustive]
    Decided {
        /// The claim.
        key: String,
    },
    /// The state cannot be kept as JSON.
    #[error("the state of {key} cannot be kept: {error}")]
    #[non_exhaustive]
    State {
        /// The claim.
        key: String,
        /// What does not fit into JSON.
        error: String,
    },
    /// The store said no, for all the time there was; and the journal, where there is one for this
    /// write, too. A verdict can be given again.
    #[error("{error}{}", because(.journal.as_ref()))]
    #[non_exhaustive]
    Store {
        /// What the store said.
        error: StoreError,
        /// What the system said when the write was to be kept in the journal.
        journal: Option<io::Error>,
    },
}

/// A claim was not completed together with what belongs to it; nothing of either has been done (but
/// see [`StoreError::is_unreachable`]).
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum CompleteError<E> {
    /// The ledger refused.
    #[error("{0}")]
    Write(#[from] WriteError),
    /// The caller's part returned this error; the claim is released, with one failure more.
    #[error("{0}")]
    Failed(E),
}

fn because(journal: Option<&io::Error>) -> String {
    journal
        .map(|error| format!("; journal: {error}"))
        .unwrap_or_default()
}
