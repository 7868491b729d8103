//! The signals that a coordinator has seen, and the reasons that came too late.
//!
//! A handler writes here without a lock: it claims a record with one addition, fills it, and only
//! then moves the token's word, which names the record (P2).

use crate::clock::Tick;
use crate::reason::{Later, Origin, Signal, SignalReceived, StopReason};
use crate::sender::{SenderName, name_of};
use crate::sync::{AtomicU32, AtomicU64, AtomicUsize, Mutex, OnceLock, Ordering};
use crate::token::word::{By, NO_RECORD, Word};

/// As many later reasons are kept; of the others only the number.
const KEPT: usize = 16;

/// One more than are kept: the winner has a record too.
const RECORDS: usize = KEPT + 1;

/// Bits of `Record::what`.
const FILLED: u64 = 1 << 63;
const FROM_PROCESS: u64 = 1 << 8;
const FROM_TERMINAL: u64 = 1 << 9;

#[derive(Default)]
struct Record {
    /// `FILLED`, an origin bit, the signal's number. Written last.
    what: AtomicU64,
    /// pid and uid, 32 bits each.
    who: AtomicU64,
    when: AtomicU64,
    /// The sender's name, as whoever first read the record has found it, or not.
    sender: OnceLock<Option<SenderName>>,
}

impl Record {
    fn fill(&self, signal: Signal, origin: Origin, when: Tick) {
        let (from, who) = match origin {
            Origin::Process { pid, uid } => (FROM_PROCESS, u64::from(pid) << 32 | u64::from(uid)),
            Origin::Terminal => (FROM_TERMINAL, 0),
            Origin::Unknown => (0, 0),
        };
        self.who.store(who, Ordering::Relaxed);
        self.when.store(when.nanos(), Ordering::Relaxed);
        let number = u64::from(signal.number().unsigned_abs());
        self.what.store(FILLED | from | number, Ordering::Release);
    }

    /// Not for a handler: it looks the sender's name up.
    fn read(&self) -> Option<(Tick, SignalReceived)> {
        let what = self.what.load(Ordering::Acquire);
        if what & FILLED == 0 {
            return None;
        }
        let origin = if what & FROM_PROCESS != 0 {
            let who = self.who.load(Ordering::Relaxed);
            let half = |bits: u64| u32::try_from(bits & u64::from(u32::MAX)).unwrap_or(0);
            Origin::Process {
                pid: half(who >> 32),
                uid: half(who),
            }
        } else if what & FROM_TERMINAL != 0 {
            Origin::Terminal
        } else {
            Origin::Unknown
        };
        let signal = Signal::from_raw((what & 0x7f) as i32);
        let when = Tick::from_nanos(self.when.load(Ordering::Relaxed));
        let received = SignalReceived::new(signal, origin).named(self.sender(origin));
        Some((when, received))
    }

    /// Looked up once, so that it stays when the sender goes; without a lock, so that nobody waits
    /// for whoever looks at the same time. Of two answers the first counts.
    fn sender(&self, origin: Origin) -> Option<SenderName> {
        let Origin::Process { pid, .. } = origin else {
            return None;
        };
        if let Some(known) = self.sender.get() {
            return *known;
        }
        let found = name_of(pid);
        let _ = self.sender.set(found);
        self.sender.get().copied().unwrap_or(found)
    }
}

/// See the module.
pub(crate) struct Deliveries {
    /// When the first signal came, in nanoseconds, never 0 then: the one that escalation and
    /// debounce count from.
    polite: AtomicU64,
    /// When the one came that ended a linger: from then on it is the first, in the same way.
    insisted: AtomicU64,
    claimed: AtomicUsize,
    records: [Record; RECORDS],
    /// The records that a report tells of, a bit each.
    told: AtomicU32,
    late: Mutex<Late>,
}

#[derive(Default)]
struct Late {
    kept: Vec<(Tick, StopReason)>,
    more: usize,
    failed: bool,
    panicked: bool,
}

impl Deliveries {
    pub(crate) fn new() -> Self {
        Self {
            polite: AtomicU64::new(0),
            insisted: AtomicU64::new(0),
            claimed: AtomicUsize::new(0),
            records: Default::default(),
            told: AtomicU32::new(0),
            late: Mutex::new(Late::default()),
        }
    }

    /// Makes this delivery the polite one if there was none; otherwise says when that was.
    /// Async-signal-safe.
    pub(crate) fn be_polite(&self, now: Tick) -> Result<(), Tick> {
        let now = now.nanos().max(1);
        // One read-modify-write: with a load and a store two handlers could both be the first.
        self.polite
            .compare_exchange(0, now, Ordering::AcqRel, Ordering::Acquire)
            .map(drop)
            .map_err(Tick::from_nanos)
    }

    /// Makes this delivery the one that ends the linger, if there was none. Async-signal-safe.
    pub(crate) fn insist(&self, now: Tick) -> bool {
        let now = now.nanos().max(1);
        self.insisted
            .compare_exchange(0, now, Ordering::AcqRel, Ordering::Acquire)
            .is_ok()
    }

    /// When a delivery ended the linger, if one did. Async-signal-safe.
    pub(crate) fn insisted(&self) -> Option<Tick> {
        match self.insisted.load(Ordering::Acquire) {
            0 => None,
            nanos => Some(Tick::from_nanos(nanos)),
        }
    }

    /// The delivery that escalation and debounce count from.
    #[cfg(feature = "console")]
    pub(crate) fn first(&self) -> Option<Tick> {
        let polite = self.polite.load(Ordering::Acquire);
        let polite = (polite != 0).then(|| Tick::from_nanos(polite));
        self.insisted().or(polite)
    }

    /// It is among those that are kept.
    #[cfg(feature = "console")]
    pub(crate) fn has_seen(&self, signal: Signal) -> bool {
        let number = u64::from(signal.number().unsigned_abs());
        let whats = self.records.iter();
        let mut whats = whats.map(|record| record.what.load(Ordering::Acquire));
        whats.any(|what| what & FILLED != 0 && what & 0x7f == number)
    }

    /// Keeps a delivery and says where. Async-signal-safe.
    pub(crate) fn record(&self, signal: Signal, origin: Origin, now: Tick) -> usize {
        let index = self.claimed.fetch_add(1, Ordering::Relaxed);
        match self.records.get(index) {
            Some(record) => {
                record.fill(signal, origin, now);
                index
            }
            None => NO_RECORD,
        }
    }

    /// The signal that `word` tells of. Not for a handler (P12).
    pub(crate) fn received(&self, word: Word) -> SignalReceived {
        self.records
            .get(word.record())
            .and_then(Record::read)
            .map_or_else(
                || SignalReceived::new(word.signal(), Origin::Unknown),
                |(_, received)| received,
            )
    }

    /// The signals from the record `from` on, without the winner and the one that ended a linger;
    /// and where the next will be.
    pub(crate) fn after(&self, from: usize, winner: Word) -> (Vec<SignalReceived>, usize) {
        let won = (winner.by() == By::Signal).then(|| winner.record());
        let filled = self.records.iter().map_while(Record::read).enumerate();
        let new: Vec<_> = filled.skip(from).collect();
        let next = from + new.len();
        let ended_the_linger = self.insisted();
        let ignored = new
            .into_iter()
            .filter(|(index, (when, _))| Some(*index) != won && Some(*when) != ended_the_linger);
        (ignored.map(|(_, (_, received))| received).collect(), next)
    }

    /// Keeps a reason of the program's that did not win.
    pub(crate) fn too_late(&self, reason: StopReason) {
        let mut late = self.late.lock();
        late.failed |= reason.is_failure();
        late.panicked |= reason.is_panic();
        if late.kept.len() < KEPT {
            late.kept.push((Tick::now(), reason));
        } else {
            late.more += 1;
            // Whatever it holds is dropped by its own thread, but not under the lock.
            drop(late);
        }
    }

    /// Whether a report tells of this record, or counts it.
    pub(crate) fn is_told(&self, record: usize) -> bool {
        record >= RECORDS || self.told.load(Ordering::Acquire) & (1 << record) != 0
    }

    /// What came after the winner.
    pub(crate) fn later(&self, winner: Word) -> Later {
        let won = if winner.by() == By::Signal {
            winner.record()
        } else {
            NO_RECORD
        };
        let (mut all, mut more, failed, panicked) = {
            let late = self.late.lock();
            (late.kept.clone(), late.more, late.failed, late.panicked)
        };
        let kept = self
            .records
            .iter()
            .enumerate()
            .filter(|(index, _)| *index != won);
        let mut told = 0;
        all.extend(kept.filter_map(|(index, record)| {
            let (when, received) = record.read()?;
            told |= 1 << index;
            Some((when, StopReason::Signal(received)))
        }));
        self.told.fetch_or(told, Ordering::AcqRel);
        all.sort_by_key(|(when, _)| *when);
        more += self.claimed.load(Ordering::Relaxed).saturating_sub(RECORDS);
        more += all.len().saturating_sub(KEPT);
        all.truncate(KEPT);
        let stop = winner.when();
        let (at, kept) = all
            .into_iter()
            .map(|(when, reason)| (when.since(stop), reason))
            .unzip();
        Later {
            kept,
            at,
            more,
            failed,
            panicked,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const LATER: Duration = Duration::from_millis(5);

    #[test]
    fn keeps_sixteen_and_counts_the_rest() {
        let deliveries = Deliveries::new();
        let now = Tick::from_nanos(1 << 20);
        let origin = Origin::Process { pid: 7, uid: 1000 };
        let first = deliveries.record(Signal::TERM, origin, now);
        let word = Word::by_signal(crate::token::word::Life::Stopped, Signal::TERM, first, now);
        for _ in 0..40 {
            deliveries.record(Signal::INT, Origin::Terminal, now + LATER);
        }
        deliveries.too_late("late".into());
        assert_eq!(deliveries.received(word).origin, origin);
        let later = deliveries.later(word);
        assert_eq!(later.kept.len() + later.more, 41);
        assert_eq!(later.kept.len(), KEPT);
        assert_eq!(later.at, [LATER; KEPT]);
        assert!(
            later
                .kept
                .iter()
                .all(|reason| reason.signal() == Some(Signal::INT))
        );
    }

    /// A stop by the program, so that no record has won.
    fn requested() -> Word {
        Word::stopped_by_program(Tick::from_nanos(0))
    }

    #[test]
    fn what_a_report_tells_of_is_known_to_be_told() {
        let deliveries = Deliveries::new();
        let now = Tick::from_nanos(1 << 20);
        let records = [Signal::TERM, Signal::INT]
            .map(|signal| deliveries.record(signal, Origin::Unknown, now));
        assert!(!records.iter().any(|record| deliveries.is_told(*record)));
        assert_eq!(deliveries.later(requested()).kept.len(), 2);
        let late = deliveries.record(Signal::HUP, Origin::Unknown, now);
        assert!(records.iter().all(|record| deliveries.is_told(*record)));
        assert!(!deliveries.is_told(late));
        // It is counted, though nobody knows what it was.
        assert!(deliveries.is_told(RECORDS));
    }

    #[test]
    fn signals_are_told_once() {
        let deliveries = Deliveries::new();
        let now = Tick::from_nanos(1 << 20);
        let arrive = |signal| deliveries.record(signal, Origin::Unknown, now);
        let after = |from| {
            let (new, next) = deliveries.after(from, requested());
            let new: Vec<Signal> = new.iter().map(|received| received.signal).collect();
            (new, next)
        };
        arrive(Signal::TERM);
        arrive(Signal::INT);
        assert_eq!(after(0), (vec![Signal::TERM, Signal::INT], 2));
        assert_eq!(after(2), (vec![], 2));
        arrive(Signal::HUP);
        assert_eq!(after(2), (vec![Signal::HUP], 3));
    }

    #[cfg(feature = "console")]
    #[test]
    fn only_what_has_arrived_has_been_seen() {
        let deliveries = Deliveries::new();
        assert!(!deliveries.has_seen(Signal::INT));
        deliveries.record(Signal::TERM, Origin::Unknown, Tick::from_nanos(1));
        assert!(deliveries.has_seen(Signal::TERM));
        assert!(!deliveries.has_seen(Signal::INT));
    }

    #[test]
    fn one_delivery_is_the_polite_one() {
        let deliveries = Deliveries::new();
        assert_eq!(deliveries.be_polite(Tick::from_nanos(5)), Ok(()));
        assert_eq!(
            deliveries.be_polite(Tick::from_nanos(9)),
            Err(Tick::from_nanos(5))
        );
    }
}
