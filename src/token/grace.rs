//! The grace period: one budget, counted from the stop, without the time in which the process was suspended.
//!
//! A process that comes back from Ctrl-Z or `SIGSTOP` would find its grace period spent while it could do nothing. So
//! the time is looked at in slices, and a slice that took far too long counts as one slice only.

use std::time::Duration;

use crate::clock::{Tick, nanos};
use crate::sync::{AtomicU64, Ordering};

/// While a shutdown goes on somebody looks at the clock at least this often.
pub(crate) const SLICE: Duration = Duration::from_millis(100);

/// A look this long after the one before: nobody ran, so the process was suspended. Far above what a busy machine
/// does to a thread.
const SUSPENDED: Duration = Duration::from_secs(1);

/// See the module. After the stop, all its ticks are of the clock without the suspensions.
pub(crate) struct GraceClock {
    grace: Duration,
    /// Nanoseconds of suspension since the stop.
    suspended: AtomicU64,
    /// The last look, in nanoseconds of the system's clock; 0 before the stop.
    looked: AtomicU64,
}

impl GraceClock {
    pub(crate) fn new(grace: Duration) -> Self {
        Self {
            grace,
            suspended: AtomicU64::new(0),
            looked: AtomicU64::new(0),
        }
    }

    /// The time, for a shutdown that began at `stop`.
    pub(crate) fn now(&self, stop: Tick) -> Tick {
        self.look(stop, Tick::now())
    }

    fn look(&self, stop: Tick, now: Tick) -> Tick {
        let looked = self.looked.load(Ordering::Acquire);
        let before = if looked == 0 {
            stop
        } else {
            Tick::from_nanos(looked)
        };
        let gap = now.since(before);
        // Whoever moves the look from `before` credits the gap: once.
        let mine = now.nanos() > looked
            && self
                .looked
                .compare_exchange(looked, now.nanos(), Ordering::AcqRel, Ordering::Relaxed)
                .is_ok();
        if mine && gap > SUSPENDED {
            self.suspended
                .fetch_add(nanos(gap.saturating_sub(SLICE)), Ordering::AcqRel);
        }
        Tick::from_nanos(
            now.nanos()
                .saturating_sub(self.suspended.load(Ordering::Acquire)),
        )
    }

    /// When a shutdown that began at `stop` must be over.
    pub(crate) fn deadline(&self, stop: Tick) -> Tick {
        stop + self.grace
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    #[test]
    fn a_suspension_is_credited_once() {
        let clock = GraceClock::new(Duration::from_secs(25));
        let stop = Tick::from_nanos(1000 * MS);
        assert_eq!(
            clock.look(stop, Tick::from_nanos(1010 * MS)),
            Tick::from_nanos(1010 * MS)
        );
        // An hour under SIGSTOP.
        let woken = Tick::from_nanos((1010 + 3_600_000) * MS);
        assert_eq!(clock.look(stop, woken), Tick::from_nanos(1110 * MS));
        assert_eq!(
            clock.look(stop, woken + Duration::from_millis(5)),
            Tick::from_nanos(1115 * MS)
        );
    }

    #[test]
    fn a_busy_machine_is_not_a_suspension() {
        let clock = GraceClock::new(Duration::ZERO);
        let stop = Tick::from_nanos(1000 * MS);
        assert_eq!(
            clock.look(stop, Tick::from_nanos(1900 * MS)),
            Tick::from_nanos(1900 * MS)
        );
        assert_eq!(clock.deadline(stop), stop);
    }
}
