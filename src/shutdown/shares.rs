//! How the grace period is shared out: who may use which part of it.
//!
//! ```text
//! stop                                                    grace period over
//!  │ drain                     │        cleanup reserve         │
//!  │ stages, holds, tasks,     │ hand-back │ hooks       │ last │
//!  │ items, the owner          │ slice     │             │ step │
//! ```
//!
//! Whoever is done early leaves the rest to those who come after it.

use std::time::Duration;

use crate::clock::Tick;
use crate::shutdown::Settings;

/// What is done after the last hook gets no more than this: it is short, or hangs.
const LAST_STEPS_AT_MOST: Duration = Duration::from_secs(1);

impl Settings {
    /// What the drain may use: all but the cleanup reserve.
    pub(crate) fn drain_share(&self) -> Duration {
        self.grace.saturating_sub(self.cleanup_reserve)
    }

    /// For items that are still in flight when the drain is out of time: they come before the
    /// hooks, since what is lost then is somebody's work.
    pub(crate) fn hand_back_slice(&self) -> Duration {
        self.cleanup_reserve / 2
    }

    /// For tasks that are aborted, the first half of that: what they held is handed back after
    /// them.
    pub(super) fn abort_slice(&self) -> Duration {
        self.hand_back_slice() / 2
    }

    /// What the hooks may not touch where something comes after the last of them.
    pub(super) fn last_steps_slice(&self) -> Duration {
        (self.cleanup_reserve / 4).min(LAST_STEPS_AT_MOST)
    }
}

/// The end of a slice that begins at `now`, but no later than at the end of the drain: where all that
/// is left belongs to stages whose own time is over, that is early.
pub(super) fn slice_end(now: Tick, drained: Tick, slice: Duration) -> Tick {
    now.min(drained) + slice
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ShutdownCoordinator;

    #[test]
    fn the_shares_are_the_grace_period() {
        let seconds = Duration::from_secs;
        for (grace, reserve) in [(25, 5), (8, 2), (60, 60), (10, 0), (0, 0)] {
            let settings = ShutdownCoordinator::builder()
                .grace_period(seconds(grace))
                .cleanup_reserve(seconds(reserve))
                .settings();
            let hooks = settings
                .cleanup_reserve
                .saturating_sub(settings.hand_back_slice());
            let all = settings.drain_share() + settings.hand_back_slice() + hooks;
            assert_eq!(all, seconds(grace));
            assert!(settings.abort_slice() <= settings.hand_back_slice());
            assert!(settings.last_steps_slice() <= hooks);
        }
        // More than there is, is all there is.
        let settings = ShutdownCoordinator::builder()
            .grace_period(seconds(4))
            .cleanup_reserve(Duration::MAX)
            .settings();
        assert_eq!(settings.drain_share(), Duration::ZERO);
        assert_eq!(settings.hand_back_slice(), seconds(2));
    }

    #[test]
    fn a_slice_that_begins_early_ends_early() {
        let at = Tick::from_nanos;
        let slice = Duration::from_nanos(7);
        assert_eq!(slice_end(at(5), at(20), slice), at(12));
        assert_eq!(slice_end(at(25), at(20), slice), at(27));
    }
}
