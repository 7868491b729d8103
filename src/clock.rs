//! Time as the crate counts it: nanoseconds of the monotonic clock, in one integer.
//!
//! A signal handler can store an integer but not an `Instant`, so the stop, the deadlines and the
//! report all speak this one unit. Arithmetic saturates: a `Duration::MAX` is "for ever", never an
//! overflow.

use std::fmt;
use std::ops::Add;
use std::time::Duration;

#[cfg(not(winddown_loom))]
use crate::signal::handler::{coarse_nanos, monotonic_nanos};
#[cfg(winddown_loom)]
use crate::sync::time::{now as coarse_nanos, now as monotonic_nanos};

/// A point on the monotonic clock, in nanoseconds since some fixed moment before the process
/// started.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Tick(u64);

impl Tick {
    /// Later than everything: a deadline that is never reached.
    pub(crate) const NEVER: Self = Self(u64::MAX);

    /// The clock, read. Async-signal-safe.
    pub(crate) fn now() -> Self {
        Self(monotonic_nanos())
    }

    /// The clock, read at a tenth of the price and to a few milliseconds. For ages, never for
    /// deadlines.
    pub(crate) fn coarse() -> Self {
        Self(coarse_nanos())
    }

    pub(crate) const fn from_nanos(nanos: u64) -> Self {
        Self(nanos)
    }

    pub(crate) const fn nanos(self) -> u64 {
        self.0
    }

    /// How long ago this was.
    pub(crate) fn elapsed(self) -> Duration {
        Self::now().since(self)
    }

    /// How long after `earlier` this is; zero when it is not after it.
    pub(crate) fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

impl Add<Duration> for Tick {
    type Output = Self;

    fn add(self, span: Duration) -> Self {
        Self(self.0.saturating_add(nanos(span)))
    }
}

/// A duration in half of the room, for what there may be very many of.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Span(u64);

impl Span {
    pub(crate) const fn get(self) -> Duration {
        Duration::from_nanos(self.0)
    }
}

impl From<Duration> for Span {
    fn from(span: Duration) -> Self {
        Self(nanos(span))
    }
}

impl fmt::Debug for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.get().fmt(f)
    }
}

/// A duration in nanoseconds; 584 years and more are "for ever".
pub(crate) fn nanos(span: Duration) -> u64 {
    u64::try_from(span.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn huge_durations_are_for_ever() {
        assert_eq!(Tick::now() + Duration::MAX, Tick::NEVER);
        assert_eq!(nanos(Duration::MAX), u64::MAX);
    }

    #[test]
    fn since_never_runs_backwards() {
        let later = Tick::from_nanos(5);
        assert_eq!(Tick::from_nanos(3).since(later), Duration::ZERO);
        assert_eq!(later.since(Tick::from_nanos(3)), Duration::from_nanos(2));
    }
}
