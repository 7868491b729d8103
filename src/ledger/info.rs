//! What a ledger tells: plain data, no locks.

use std::fmt;
use std::time::{Duration, SystemTime};

use serde::de::DeserializeOwned;

use crate::ledger::LedgerError;

/// One member of a ledger, as the store has it.
#[derive(Clone, Debug)]
pub struct MemberInfo {
    pub(super) id: i64,
    pub(super) name: String,
    pub(super) host: String,
    pub(super) pid: u32,
    pub(super) started: SystemTime,
    pub(super) last_heartbeat: SystemTime,
    pub(super) dead_after: Duration,
    pub(super) phase: String,
    pub(super) hook: Option<String>,
    pub(super) in_flight: usize,
}

impl MemberInfo {
    /// Its epoch: no other member has or had the same.
    pub fn id(&self) -> i64 {
        self.id
    }

    /// The name it joined under. Several members may have the same.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its host, as that calls itself.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// Its process, on that host.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// When it joined, by the store's clock.
    pub fn started(&self) -> SystemTime {
        self.started
    }

    /// When it last renewed itself, by the store's clock.
    pub fn last_heartbeat(&self) -> SystemTime {
        self.last_heartbeat
    }

    /// Without a heartbeat for so long it counts as dead.
    pub fn dead_after(&self) -> Duration {
        self.dead_after
    }

    /// The [phase](crate::Phase) of its shutdown, in words: "running", "lingering", "draining",
    /// "cleaning".
    pub fn phase(&self) -> &str {
        &self.phase
    }

    /// The hook that it is running.
    pub fn hook(&self) -> Option<&str> {
        self.hook.as_deref()
    }

    /// How many claims it holds.
    pub fn in_flight(&self) -> usize {
        self.in_flight
    }
}

impl fmt::Display for MemberInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            id,
            name,
            pid,
            host,
            ..
        } = self;
        write!(f, "{name} (member {id}, pid {pid} on {host})")
    }
}

/// Why a claim is given up.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum GivenUp {
    /// Its work [failed](crate::Claim::fail), with this error.
    #[non_exhaustive]
    Failed {
        /// The error.
        error: String,
    },
    /// Its member died with it once too often, and was pruned by another.
    #[non_exhaustive]
    Pruned {
        /// The member's name.
        member: String,
        /// Its id.
        id: i64,
        /// When it was last heard of, by the store's clock.
        last_heartbeat: SystemTime,
    },
    /// Its member does not exist, and nobody knows what became of it.
    #[non_exhaustive]
    Orphaned {
        /// The id of the member.
        owner: i64,
    },
}

impl fmt::Display for GivenUp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Failed { error } => write!(f, "failed: {error}"),
            Self::Pruned { member, id, .. } => {
                write!(f, "{member} (member {id}) died while it worked on it")
            }
            Self::Orphaned { owner } => write!(f, "member {owner} does not exist"),
        }
    }
}

/// A claim that is given up: nobody gets it before it is [retried](crate::Ledger::retry).
#[derive(Clone, Debug)]
pub struct FailedClaim {
    pub(super) key: String,
    pub(super) payload: String,
    pub(super) why: GivenUp,
    pub(super) counts: Counts,
    pub(super) since: SystemTime,
}

/// Three budgets, each counted apart.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counts {
    pub(super) crashes: u32,
    pub(super) interruptions: u32,
    pub(super) failures: u32,
}

impl FailedClaim {
    /// Its key.
    pub fn key(&self) -> &str {
        &self.key
    }

    /// What was claimed with it.
    ///
    /// # Errors
    ///
    /// [`LedgerError::Shape`] when it is not of this type.
    pub fn payload<T: DeserializeOwned>(&self) -> Result<T, LedgerError> {
        shaped(&self.key, &self.payload)
    }

    /// Why it is given up.
    pub fn why(&self) -> &GivenUp {
        &self.why
    }

    /// How often a member died with it, since it was last retried.
    pub fn crashes(&self) -> u32 {
        self.counts.crashes
    }

    /// How often it was interrupted by a stop.
    pub fn interruptions(&self) -> u32 {
        self.counts.interruptions
    }

    /// How often its work failed.
    pub fn failures(&self) -> u32 {
        self.counts.failures
    }

    /// Since when it is given up, by the store's clock.
    pub fn since(&self) -> SystemTime {
        self.since
    }
}

impl fmt::Display for FailedClaim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.key, self.why)
    }
}

/// What became of the last run of a name: what
/// [`Ledger::previous_run`](crate::Ledger::previous_run) finds.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PreviousRun {
    /// There was none, or it is still going on.
    None,
    /// It ended in time, whatever failed in its shutdown, and left as the last thing that it did;
    /// or was about to, when the store could not be reached or the process was killed, and the one
    /// who found it has done that in its place.
    #[non_exhaustive]
    Clean {
        /// From its stop until then.
        took: Duration,
    },
    /// The time was over first: the owner did not come back, or hooks were left without any.
    TimedOut,
    /// It was ended by a further signal, before its shutdown was over.
    #[non_exhaustive]
    Forced {
        /// How far it had come: "running", "lingering", "draining", "cleaning".
        phase: String,
        /// The hook that it was running.
        hook: Option<String>,
        /// How many claims it held.
        in_flight: usize,
    },
    /// It ended without a word: `SIGKILL`, the out-of-memory killer, an abort, a power cut.
    #[non_exhaustive]
    Killed {
        /// What it was doing: "running", "lingering", "draining", "cleaning".
        phase: String,
        /// The hook that it was running.
        hook: Option<String>,
        /// How many claims it held.
        in_flight: usize,
    },
    /// It counted as dead, and found that out itself: it could not renew its heartbeat.
    Fenced,
}

impl fmt::Display for PreviousRun {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (word, phase, hook, in_flight) = match self {
            Self::None => return f.write_str("no previous run"),
            Self::Clean { took } => return write!(f, "ended clean in {took:.1?}"),
            Self::TimedOut => return f.write_str("ran out of time"),
            Self::Fenced => return f.write_str("counted as dead"),
            Self::Forced {
                phase,
                hook,
                in_flight,
            } => ("forced", phase, hook, in_flight),
            Self::Killed {
                phase,
                hook,
                in_flight,
            } => ("killed", phase, hook, in_flight),
        };
        write!(f, "{word} while {phase}")?;
        if let Some(hook) = hook {
            write!(f, ", in the hook {hook}")?;
        }
        write!(f, ", with {in_flight} in flight")
    }
}

/// Text of the store as what it stands for.
pub(super) fn shaped<T: DeserializeOwned>(key: &str, text: &str) -> Result<T, LedgerError> {
    serde_json::from_str(text).map_err(|error| LedgerError::Shape {
        key: key.to_owned(),
        error: error.to_string(),
    })
}
