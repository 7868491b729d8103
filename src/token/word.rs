//! The state of one token, in one word, so that a signal handler can move it in one step.
//!
//! ```text
//!  bit  63 …            17 | 16 … 12 | 11 … 5 | 4 3 | 2 … 0
//!       when (65.5 µs)     | record  | signal | by  | life
//! ```
//!
//! While it runs it is all zeros, but for one bit: there may be somebody who waits.
//!
//! Whoever moves the word away from `Running` decides the reason (P3), and everything that the
//! reason needs is either in the word or was written before it (P2).

use std::time::Duration;

use crate::clock::Tick;
use crate::reason::Signal;

/// How far a token is. The order is the order of life; nothing ever moves back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub(crate) enum Life {
    Running = 0,
    /// Announced by a signal; the token is not stopped yet.
    Lingering = 1,
    Stopped = 2,
    /// The report is final.
    Ended = 3,
    /// The process is being ended; nobody is told anything any more.
    Forced = 4,
}

/// Who moved the word away from `Running`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum By {
    /// `stop`; the reason lies beside the word.
    Program = 0,
    /// The parent; the reason is the parent's.
    Parent = 1,
    /// A signal; the reason is in the word and in the record that it names.
    Signal = 2,
}

/// See the module.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Word(u64);

const LIFE: u64 = 0b111;
const BY_SHIFT: u32 = 3;
const SIGNAL_SHIFT: u32 = 5;
const RECORD_SHIFT: u32 = 12;
const WHEN_SHIFT: u32 = 17;
/// A tick is kept in units of 2^16 ns: 47 bits of them last 292 years.
const UNIT: u32 = 16;

/// The record field of a word whose signal found no free record.
pub(crate) const NO_RECORD: usize = 31;

impl Word {
    pub(crate) const RUNNING: Self = Self(0);
    /// Running, and there may be somebody who wants to be told of the stop.
    pub(crate) const ATTENDED: Self = Self(1 << BY_SHIFT);

    #[inline]
    pub(crate) const fn from_bits(bits: u64) -> Self {
        Self(bits)
    }

    pub(crate) const fn bits(self) -> u64 {
        self.0
    }

    pub(crate) fn stopped_by_program(when: Tick) -> Self {
        Self::new(Life::Stopped, By::Program, 0, NO_RECORD, when)
    }

    pub(crate) fn stopped_by_parent() -> Self {
        Self::new(Life::Stopped, By::Parent, 0, NO_RECORD, Tick::from_nanos(0))
    }

    pub(crate) fn by_signal(life: Life, signal: Signal, record: usize, when: Tick) -> Self {
        Self::new(life, By::Signal, signal.number(), record, when)
    }

    fn new(life: Life, by: By, signal: i32, record: usize, when: Tick) -> Self {
        Self(
            (life as u64)
                | (by as u64) << BY_SHIFT
                | (u64::from(signal.unsigned_abs()) & 0x7f) << SIGNAL_SHIFT
                | (record as u64 & 0x1f) << RECORD_SHIFT
                | (when.nanos() >> UNIT) << WHEN_SHIFT,
        )
    }

    /// The same word, further on.
    pub(crate) fn moved_to(self, life: Life) -> Self {
        Self(self.0 & !LIFE | life as u64)
    }

    pub(crate) const fn life(self) -> Life {
        match self.0 & LIFE {
            0 => Life::Running,
            1 => Life::Lingering,
            2 => Life::Stopped,
            3 => Life::Ended,
            _ => Life::Forced,
        }
    }

    /// P1: one comparison.
    #[inline]
    pub(crate) const fn is_stopped(self) -> bool {
        self.0 & LIFE >= Life::Stopped as u64
    }

    pub(crate) const fn by(self) -> By {
        match (self.0 >> BY_SHIFT) & 0b11 {
            0 => By::Program,
            1 => By::Parent,
            _ => By::Signal,
        }
    }

    pub(crate) fn signal(self) -> Signal {
        Signal::from_raw(((self.0 >> SIGNAL_SHIFT) & 0x7f) as i32)
    }

    pub(crate) fn record(self) -> usize {
        ((self.0 >> RECORD_SHIFT) & 0x1f) as usize
    }

    /// When the word left `Running`, rounded down to 65.5 µs.
    pub(crate) fn when(self) -> Tick {
        Tick::from_nanos((self.0 >> WHEN_SHIFT) << UNIT)
    }

    /// The same, rounded up: for what must last so long from then on.
    pub(crate) fn when_at_latest(self) -> Tick {
        self.when() + Duration::from_nanos(1 << UNIT)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_goes_in_comes_out() {
        let now = Tick::from_nanos(123_456_789_012_345);
        let word = Word::by_signal(Life::Lingering, Signal::TERM, 7, now);
        assert_eq!(word.life(), Life::Lingering);
        assert!(!word.is_stopped());
        let word = word.moved_to(Life::Stopped);
        assert!(word.is_stopped());
        assert_eq!(word.by(), By::Signal);
        assert_eq!(word.signal(), Signal::TERM);
        assert_eq!(word.record(), 7);
        assert!(now.since(word.when()).as_nanos() < 1 << UNIT);
        assert!(word.when() <= now && now <= word.when_at_latest());
        assert_eq!(Word::from_bits(0), Word::RUNNING);
        for word in [Word::RUNNING, Word::ATTENDED] {
            assert_eq!(word.life(), Life::Running);
            assert!(!word.is_stopped());
        }
    }
}
