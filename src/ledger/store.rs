//! What a ledger is kept in. All that is SQL is behind this trait.
//!
//! 1. Each operation is one transaction: it happens as a whole or not at all.
//! 2. Time is the store's (`now` of the database), so that members of many hosts agree on it.
//! 3. A number from the store's one counter is never given twice: members and claims are told apart
//!    by it for ever.
//! 4. What is written to a claim is conditional on its owner and its epoch.
//! 5. Who waits for the store waits no longer than `until`.

use std::time::{Duration, Instant, SystemTime};

use crate::ledger::error::StoreError;
use crate::ledger::info::{Counts, FailedClaim, MemberInfo};
#[cfg(feature = "ledger-postgres")]
use crate::ledger::postgres::Postgres;
use crate::ledger::sqlite::Sqlite;

pub(super) type Result<T> = std::result::Result<T, StoreError>;

pub(super) trait Store: Send + Sync {
    /// No other store has the same, nor one that takes this one's place.
    fn identity(&self) -> &str;
    /// A number that nobody had before.
    fn next_epoch(&self, until: Instant) -> Result<i64>;
    fn join(&self, new: &NewMember, until: Instant) -> Result<()>;
    /// False: there is no such member.
    fn beat(&self, id: i64, doing: &Doing, until: Instant) -> Result<bool>;
    /// Releases what the member still holds, removes it, and notes how its run has ended.
    fn leave(&self, id: i64, name: &str, end: End, until: Instant) -> Result<()>;
    fn members(&self, until: Instant) -> Result<Vec<MemberRow>>;
    /// Removes the member if it has not been heard of since, gives up or releases what it held, and
    /// notes how its run has ended. False: it has been heard of, or has gone.
    fn prune(&self, dead: &MemberRow, end: EndKind, until: Instant) -> Result<bool>;
    /// Does the same for claims whose member does not exist; says how many there were.
    fn prune_orphans(&self, max_crashes: u32, until: Instant) -> Result<usize>;
    fn claim(&self, owner: i64, key: &str, payload: &str, until: Instant) -> Result<Answer>;
    /// False: not this owner's, or not of this epoch.
    fn save(&self, claim: &ClaimId, state: &str, until: Instant) -> Result<bool>;
    /// False: not this owner's, or not of this epoch.
    fn decide(&self, claim: &ClaimId, verdict: &Verdict, until: Instant) -> Result<bool>;
    /// Decides all of them; says how many of them counted, as they were not too late.
    fn decide_all(&self, verdicts: &[(ClaimId, Verdict)], until: Instant) -> Result<usize>;
    /// Keys that are open: released, and claimed by nobody since.
    fn open_keys(&self, until: Instant) -> Result<Vec<String>>;
    fn failed(&self, until: Instant) -> Result<Vec<FailedClaim>>;
    /// Opens a claim that is given up. False: there is none.
    fn retry(&self, key: &str, until: Instant) -> Result<bool>;
    /// Removes a claim that is given up. False: there is none.
    fn discard(&self, key: &str, until: Instant) -> Result<bool>;
    /// The run of this name that ended last.
    fn last_end(&self, name: &str, until: Instant) -> Result<Option<End>>;
    /// For what only this store can do.
    fn as_sqlite(&self) -> Option<&Sqlite>;
    /// For what only this store can do.
    #[cfg(feature = "ledger-postgres")]
    fn as_postgres(&self) -> Option<&Postgres>;
}

/// A member as it joins.
pub(super) struct NewMember {
    pub(super) id: i64,
    pub(super) name: String,
    pub(super) host: String,
    pub(super) boot: String,
    pub(super) pid: u32,
    pub(super) dead_after: Duration,
    pub(super) max_crashes: u32,
}

/// What a member says with its heartbeat.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Doing {
    pub(super) phase: String,
    pub(super) hook: Option<String>,
}

/// A member as the store has it.
pub(super) struct MemberRow {
    pub(super) info: MemberInfo,
    pub(super) boot: String,
    pub(super) max_crashes: u32,
    /// How often it has been heard of.
    pub(super) beats: i64,
    /// By the store's clock it has not been heard of for `dead_after`.
    pub(super) is_late: bool,
}

/// What a claim is known by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ClaimId {
    pub(super) key: String,
    pub(super) owner: i64,
    pub(super) epoch: i64,
}

/// The final write of a claim.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Completed,
    /// Open again.
    Released {
        interrupted: bool,
        failed: bool,
    },
    /// Given up.
    Failed {
        error: String,
    },
}

pub(super) enum Answer {
    Claimed {
        epoch: i64,
        counts: Counts,
        saved: Option<String>,
    },
    /// `None`: by a member that does not exist.
    Taken(Option<Box<MemberInfo>>),
    GivenUp(Box<FailedClaim>),
    /// The one who asks does not exist any more.
    NoMember,
}

/// How a run has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum EndKind {
    Clean,
    TimedOut,
    Forced,
    Killed,
    Fenced,
}

impl EndKind {
    const WORDS: [(Self, &'static str); 5] = [
        (Self::Clean, "clean"),
        (Self::TimedOut, "timed out"),
        (Self::Forced, "forced"),
        (Self::Killed, "killed"),
        (Self::Fenced, "fenced"),
    ];

    pub(super) fn word(self) -> &'static str {
        let found = Self::WORDS.iter().find(|(kind, _)| *kind == self);
        found.map_or("killed", |(_, word)| word)
    }

    /// Nothing is what somebody says who was killed.
    pub(super) fn of_word(word: &str) -> Self {
        let found = Self::WORDS.iter().find(|(_, known)| *known == word);
        found.map_or(Self::Killed, |(kind, _)| *kind)
    }
}

/// The last words of a member that was still there to say how it ended, but could not reach the
/// store.
const LEFT: &str = "left ";

/// How a member has ended that was found dead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// Without leaving.
    Dead(EndKind),
    /// It has left, but could not tell the store.
    Left(EndKind, Duration),
}

impl Found {
    pub(super) fn to_words(self) -> String {
        match self {
            Self::Dead(kind) => kind.word().to_owned(),
            Self::Left(kind, took) => format!("{LEFT}{} {}", took.as_millis(), kind.word()),
        }
    }

    /// Who was killed says nothing.
    pub(super) fn of_words(words: &str) -> Self {
        let left = words
            .strip_prefix(LEFT)
            .and_then(|left| left.split_once(' '));
        let left = left.and_then(|(took, kind)| Some((took.parse().ok()?, kind)));
        match left {
            Some((took, kind)) => Self::Left(EndKind::of_word(kind), Duration::from_millis(took)),
            None => Self::Dead(EndKind::of_word(words)),
        }
    }

    pub(super) fn kind(self) -> EndKind {
        match self {
            Self::Dead(kind) | Self::Left(kind, _) => kind,
        }
    }

    pub(super) fn took(self) -> Duration {
        match self {
            Self::Dead(_) => Duration::ZERO,
            Self::Left(_, took) => took,
        }
    }
}

/// How a run has ended, and what it was doing.
#[derive(Clone, Debug)]
pub(super) struct End {
    pub(super) kind: EndKind,
    pub(super) took: Duration,
    pub(super) doing: Doing,
    pub(super) in_flight: usize,
}

/// Milliseconds since 1970, as stores keep times.
pub(super) fn time(millis: i64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_millis(u64::try_from(millis).unwrap_or(0))
}

pub(super) fn millis(span: Duration) -> i64 {
    i64::try_from(span.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests;
