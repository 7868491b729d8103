//! Numbers that nobody chose, and the seed that brings them back.
#![allow(dead_code, reason = "each test binary uses its own part")]

use std::time::{Duration, SystemTime};

/// Marsaglia's xorshift: the moments of a signal need not be better than that.
///
/// G. Marsaglia, "Xorshift RNGs", Journal of Statistical Software 8 (14), 2003.
pub(crate) struct Random(u64);

impl Random {
    /// Another series each time; the one of `WINDDOWN_SEED` where that is set. It is printed.
    pub(crate) fn new(test: &str) -> Self {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        Self::from_environment(test, u64::from(now.unwrap().subsec_nanos()))
    }

    /// The same series each time, where `WINDDOWN_SEED` does not say otherwise.
    pub(crate) fn of(test: &str, seed: u64) -> Self {
        Self::from_environment(test, seed)
    }

    fn from_environment(test: &str, otherwise: u64) -> Self {
        let given = std::env::var("WINDDOWN_SEED").ok();
        let seed = given.map_or(otherwise, |seed| seed.parse().unwrap());
        println!("{test}: WINDDOWN_SEED={seed}");
        // Spread over all bits, and never 0, where the series would stay.
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 >> 16
    }

    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    /// A place in something of this length.
    pub(crate) fn place(&mut self, length: usize) -> usize {
        usize::try_from(self.below(length as u64)).unwrap()
    }

    pub(crate) fn up_to(&mut self, longest: Duration) -> Duration {
        let longest = u64::try_from(longest.as_micros()).unwrap();
        Duration::from_micros(self.below(longest.max(1)))
    }
}
