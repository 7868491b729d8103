//! The grace period: one budget, counted from the stop, without the time in which the process was
//! suspended.
//!
//! A process that comes back from Ctrl-Z or `SIGSTOP` would find its grace period spent while it
//! could do nothing. So the time is looked at in slices, and a slice that took far too long counts
//! as one slice only.

use std::time::Duration;

use crate::clock::{Tick, nanos};
use crate::sync::{AtomicU64, Ordering};

/// While a shutdown goes on somebody looks at the clock at least this often.
pub(crate) const SLICE: Duration = Duration::from_millis(100);

/// A look this long after the one before: nobody ran, so the process was suspended. Far above what
/// a busy machine does to a thread.
const SUSPENDED: Duration = Duration::from_secs(1);

/// What still happens when the grace period is over, and for how long: all of it within the 100 ms
/// of P15.
pub(crate) mod after {
    use std::time::Duration;

    /// The emergency hooks that cleaning had no time for…
    pub(crate) const EMERGENCY: Duration = Duration::from_millis(10);
    /// …then whoever is told the report…
    pub(crate) const LAST_WORDS: Duration = Duration::from_millis(30);
    /// …then what stdout still buffers.
    pub(crate) const FLUSH: Duration = Duration::from_millis(10);
    /// An owner that waits does all but the last of these, if the runner has not by then.
    pub(crate) const PATIENCE: Duration = Duration::from_millis(15);
    /// The watchdog waits for all of these…
    pub(crate) const WATCHDOG: Duration = Duration::from_millis(60);
    /// …and then lets the emergency hooks run.
    pub(crate) const WATCHDOG_EMERGENCY: Duration = Duration::from_millis(25);

    const _: () = {
        let runner = EMERGENCY.as_millis() + LAST_WORDS.as_millis() + FLUSH.as_millis();
        let owner = PATIENCE.as_millis() + EMERGENCY.as_millis() + LAST_WORDS.as_millis();
        let watchdog = WATCHDOG.as_millis() + WATCHDOG_EMERGENCY.as_millis();
        assert!(runner < WATCHDOG.as_millis() && owner < WATCHDOG.as_millis() && watchdog < 100);
    };
}

/// See the module. After the stop, all its ticks are of the clock without the suspensions.
pub(crate) struct GraceClock {
    grace: Duration,
    /// The last look, and the suspensions until then: a `Looked` in one word, since a look that is
    /// seen without its credit would find the grace period spent.
    looked: AtomicU64,
}

/// Both since the stop, in units of 2^20 ns; half of the word each lasts for 52 days.
#[derive(Clone, Copy)]
struct Looked {
    at: u32,
    suspended: u32,
}

const UNIT: u32 = 20;

impl Looked {
    fn of(bits: u64) -> Self {
        let half = |bits: u64| u32::try_from(bits & u64::from(u32::MAX)).unwrap_or(u32::MAX);
        Self {
            at: half(bits >> 32),
            suspended: half(bits),
        }
    }

    fn bits(self) -> u64 {
        u64::from(self.at) << 32 | u64::from(self.suspended)
    }
}

impl GraceClock {
    pub(crate) fn new(grace: Duration) -> Self {
        Self {
            grace,
            looked: AtomicU64::new(0),
        }
    }

    /// The time, for a shutdown that began at `stop`.
    pub(crate) fn now(&self, stop: Tick) -> Tick {
        self.look(stop, Tick::now())
    }

    fn look(&self, stop: Tick, now: Tick) -> Tick {
        // After 52 days nobody looks any more.
        let at = u32::try_from(nanos(now.since(stop)) >> UNIT).unwrap_or(u32::MAX);
        let mut seen = now.nanos();
        let mut bits = self.looked.load(Ordering::Acquire);
        let suspended = loop {
            let looked = Looked::of(bits);
            let gap = at.saturating_sub(looked.at);
            if gap == 0 || at == u32::MAX {
                // Somebody has looked later and may have credited a suspension since: time does not
                // run backwards.
                seen = seen.max(stop.nanos().saturating_add(u64::from(looked.at) << UNIT));
                break looked.suspended;
            }
            let credit = if gap > units(SUSPENDED) {
                gap - units(SLICE)
            } else {
                0
            };
            let suspended = looked.suspended.saturating_add(credit);
            let new = Looked { at, suspended }.bits();
            match self
                .looked
                .compare_exchange_weak(bits, new, Ordering::AcqRel, Ordering::Acquire)
            {
                Ok(_) => break suspended,
                Err(current) => bits = current,
            }
        };
        Tick::from_nanos(seen.saturating_sub(u64::from(suspended) << UNIT))
    }

    /// When a shutdown that began at `stop` must be over.
    pub(crate) fn deadline(&self, stop: Tick) -> Tick {
        stop + self.grace
    }
}

fn units(span: Duration) -> u32 {
    u32::try_from(nanos(span) >> UNIT).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{Arc, Barrier};

    /// An interpreter finds data races in one.
    const ROUNDS: usize = if cfg!(miri) { 3 } else { 300 };

    fn ms(n: u64) -> Tick {
        Tick::from_nanos(n * 1_000_000)
    }

    fn is_near(tick: Tick, expected: Tick) -> bool {
        tick.since(expected).max(expected.since(tick)) < Duration::from_millis(3)
    }

    #[test]
    fn a_suspension_is_credited_once() {
        let clock = GraceClock::new(Duration::from_secs(25));
        let stop = ms(1000);
        assert!(is_near(clock.look(stop, ms(1010)), ms(1010)));
        // An hour under SIGSTOP.
        let hour = 3_600_000;
        assert!(is_near(clock.look(stop, ms(1010 + hour)), ms(1110)));
        assert!(is_near(clock.look(stop, ms(1015 + hour)), ms(1115)));
    }

    #[test]
    fn a_busy_machine_is_not_a_suspension() {
        let clock = GraceClock::new(Duration::ZERO);
        let stop = ms(1000);
        assert_eq!(clock.look(stop, ms(1900)), ms(1900));
        assert_eq!(clock.deadline(stop), stop);
    }

    /// As one whose thread was held up between reading the clock and looking.
    #[test]
    fn a_look_that_comes_late_turns_nothing_back() {
        let clock = GraceClock::new(Duration::ZERO);
        let stop = ms(1000);
        for n in 1..=10 {
            clock.look(stop, ms(1000 + n * 900));
        }
        assert!(is_near(clock.look(stop, ms(2000)), ms(10_000)));
        assert!(is_near(clock.look(stop, ms(10_100)), ms(10_100)));
    }

    #[test]
    fn threads_that_wake_together_all_see_the_credit() {
        for _ in 0..ROUNDS {
            let clock = Arc::new(GraceClock::new(Duration::ZERO));
            let (stop, start) = (ms(1000), Arc::new(Barrier::new(3)));
            clock.look(stop, ms(1010));
            let looking: Vec<_> = (0..3)
                .map(|n| {
                    let (clock, start) = (Arc::clone(&clock), Arc::clone(&start));
                    std::thread::spawn(move || {
                        start.wait();
                        clock.look(stop, ms(61_000 + n))
                    })
                })
                .collect();
            for thread in looking {
                assert!(is_near(thread.join().unwrap(), ms(1110)));
            }
        }
    }
}
