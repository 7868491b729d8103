//! The settings of a member.

use std::borrow::Cow;
use std::time::Duration;

use crate::ledger::LedgerError;

/// Settings of a [`Member`](crate::Member), for [`Ledger::join`](crate::Ledger::join).
///
/// ```
/// use std::time::Duration;
/// use winddown::Membership;
///
/// let membership = Membership::new("worker")
///     .heartbeat(Duration::from_secs(10))
///     .dead_after(Duration::from_secs(60))
///     .max_crashes(3);
/// # let _ = membership;
/// ```
#[derive(Clone, Debug)]
#[must_use = "it does nothing before join"]
pub struct Membership {
    pub(super) name: Cow<'static, str>,
    pub(super) heartbeat: Duration,
    pub(super) dead_after: Duration,
    pub(super) max_crashes: u32,
}

impl Membership {
    /// A member of this name, which several may have: a heartbeat every 5 s, dead after 30 s
    /// without, and what it held when it died is given up at once.
    pub fn new(name: impl Into<Cow<'static, str>>) -> Self {
        Self {
            name: name.into(),
            heartbeat: Duration::from_secs(5),
            dead_after: Duration::from_secs(30),
            max_crashes: 1,
        }
    }

    /// Between two heartbeats; each is one small write. A third of [`dead_after`](Self::dead_after)
    /// at most.
    pub fn heartbeat(mut self, every: Duration) -> Self {
        self.heartbeat = every;
        self
    }

    /// Without a heartbeat for so long a member counts as dead: by the store's clock, to the
    /// millisecond, or for another member that has watched it for all of that time; a process that
    /// still runs on the same host for the latter only. It stops itself when three quarters of that
    /// have passed by its own clock, which
    /// on Linux goes on while the machine sleeps: after a longer sleep it is fenced.
    pub fn dead_after(mut self, after: Duration) -> Self {
        self.dead_after = after;
        self
    }

    /// At so many crashes a claim is given up; before, it is released for somebody else. Default:
    /// 1, so that a job that kills its worker does not go round. 0 is as 1.
    ///
    /// A crash is every end without leaving: also that of a run that was forced, or fenced and
    /// pruned before it had left.
    pub fn max_crashes(mut self, most: u32) -> Self {
        self.max_crashes = most;
        self
    }

    pub(super) fn check(&self) -> Result<(), LedgerError> {
        if self.heartbeat >= Duration::from_millis(1)
            && self.heartbeat.saturating_mul(3) <= self.dead_after
        {
            Ok(())
        } else {
            Err(LedgerError::Times {
                heartbeat: self.heartbeat,
                dead_after: self.dead_after,
            })
        }
    }

    /// So long after its last renewal it fences itself: always before others may take over.
    pub(super) fn fence_after(&self) -> Duration {
        self.dead_after.saturating_sub(self.dead_after / 4)
    }
}
