//! How far a program is on its way from running to ended: plain data, no locks.

#[cfg(feature = "serde")]
mod serialize;

use std::fmt;

/// Where a program stands on its way from running to ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Phase {
    /// Nobody has asked for a stop.
    Running,
    /// A signal has announced the stop, and work is still accepted: the
    /// [linger](crate::ShutdownBuilder::linger).
    Lingering,
    /// Stopped, and waiting for holds, tasks, items and the owner.
    Draining,
    /// Hooks and guards run.
    Cleaning,
    /// The report is there.
    Ended,
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Running => "running",
            Self::Lingering => "lingering",
            Self::Draining => "draining",
            Self::Cleaning => "cleaning",
            Self::Ended => "ended",
        })
    }
}

/// Whether new work should be sent to this program. See
/// [`readiness`](crate::ShutdownHandle::readiness).
///
/// ```
/// use winddown::Readiness;
///
/// let shutdown = winddown::ShutdownCoordinator::builder().signals([]).install()?;
/// assert!(shutdown.readiness().is_ready());
/// shutdown.stop("enough");
/// assert_eq!(shutdown.readiness(), Readiness::Draining);
/// assert!(shutdown.is_live());
/// # Ok::<(), winddown::InstallError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Readiness {
    /// Yes.
    Ready,
    /// No; what comes all the same is still accepted.
    Lingering,
    /// No, and nothing is accepted; what is there is finished, and cleaned up.
    Draining,
    /// The report is there.
    Ended,
}

impl Readiness {
    /// New work should be sent here.
    pub fn is_ready(self) -> bool {
        self == Self::Ready
    }
}

impl From<Phase> for Readiness {
    fn from(phase: Phase) -> Self {
        match phase {
            Phase::Running => Self::Ready,
            Phase::Lingering => Self::Lingering,
            Phase::Draining | Phase::Cleaning => Self::Draining,
            Phase::Ended => Self::Ended,
        }
    }
}

impl fmt::Display for Readiness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Ready => "ready",
            Self::Lingering => "lingering",
            Self::Draining => "draining",
            Self::Ended => "ended",
        })
    }
}
