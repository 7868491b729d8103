//! When a stream is over: the rules, with no lock and no user code in them.
//!
//! 1. Only what is assigned now counts. An entry takes its end and its arrivals along when it goes,
//!    and a key of an old generation finds nothing: slabs never use a key twice.
//! 2. Ended under [`EndPolicy::All`]: every entry has an end. Under [`EndPolicy::Any`]: the same,
//!    or one has an end of data; the others count as suspended then, for as long as that end
//!    stands.
//! 3. The barrier opens when the stream has ended, nothing is in flight, and there is an entry, or
//!    none is needed.
//! 4. Open, it stays open. Until then whatever takes an end back keeps it shut.

use crate::error::PartitionError;
use crate::slab::{Key, Slab};

/// How a partition ended, in band.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum End {
    /// There is no more, and there will not be: what was kept back for later data can be flushed.
    OfData,
    /// No more for now; it can go on where it stands, in this run or another. State is saved, not
    /// flushed.
    Suspended,
}

/// When a stream is over.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum EndPolicy {
    /// When every assigned partition has ended.
    #[default]
    All,
    /// When one has come to its end of data: the others are suspended with that. Or, as above, when
    /// every one has ended.
    Any,
}

#[derive(Default)]
struct Entry {
    end: Option<End>,
    in_flight: usize,
}

/// See the module.
#[derive(Default)]
pub(super) struct Barrier {
    pub(super) policy: EndPolicy,
    pub(super) empty_is_end: bool,
    entries: Slab<Entry>,
    /// Entries without an end.
    running: usize,
    /// Entries with an end of data.
    finished: usize,
    /// The arrivals of all entries.
    in_flight: usize,
    open: bool,
}

impl Barrier {
    pub(super) fn is_open(&self) -> bool {
        self.open
    }

    pub(super) fn in_flight(&self) -> usize {
        self.in_flight
    }

    /// How many have not ended.
    pub(super) fn running(&self) -> usize {
        if self.one_for_all() { 0 } else { self.running }
    }

    /// Rule 2: one end of data suspends the others.
    fn one_for_all(&self) -> bool {
        self.policy == EndPolicy::Any && self.finished > 0
    }

    /// Opens it if it is time. True: this call did.
    pub(super) fn opens(&mut self) -> bool {
        let somebody = self.empty_is_end || !self.entries.is_empty();
        let now = !self.open && somebody && self.in_flight == 0 && self.running() == 0;
        self.open |= now;
        now
    }

    pub(super) fn assign(&mut self) -> Key {
        self.running += 1;
        self.entries.push(Entry::default())
    }

    pub(super) fn revoke(&mut self, key: Key) {
        if let Some(entry) = self.entries.remove(key) {
            self.uncount(entry.end);
            self.in_flight -= entry.in_flight;
        }
    }

    fn count(&mut self, end: Option<End>) {
        match end {
            None => self.running += 1,
            Some(End::OfData) => self.finished += 1,
            Some(End::Suspended) => {}
        }
    }

    fn uncount(&mut self, end: Option<End>) {
        match end {
            None => self.running -= 1,
            Some(End::OfData) => self.finished -= 1,
            Some(End::Suspended) => {}
        }
    }

    fn entry(&mut self, key: Key) -> Result<&mut Entry, PartitionError> {
        self.entries
            .get_mut(key)
            .ok_or(PartitionError::OldGeneration)
    }

    /// True: this call has changed how it ended. What has come to the end of its data is not
    /// suspended by that.
    pub(super) fn finish(&mut self, key: Key, end: End) -> Result<bool, PartitionError> {
        let entry = self.entry(key)?;
        let old = entry.end;
        if old == Some(End::OfData) || old == Some(end) {
            return Ok(false);
        }
        entry.end = Some(end);
        self.uncount(old);
        self.count(Some(end));
        Ok(true)
    }

    /// Takes the end back, and says what it was.
    pub(super) fn resume(&mut self, key: Key) -> Result<Option<End>, PartitionError> {
        let open = self.open;
        let entry = self.entry(key)?;
        if open {
            return Err(PartitionError::IntakeClosed);
        }
        let old = entry.end.take();
        self.uncount(old);
        self.count(None);
        Ok(old)
    }

    pub(super) fn end(&mut self, key: Key) -> Result<Option<End>, PartitionError> {
        let suspended = self.one_for_all().then_some(End::Suspended);
        Ok(self.entry(key)?.end.or(suspended))
    }

    /// One more in flight.
    pub(super) fn arrive(&mut self, key: Key, stopped: bool) -> Result<(), PartitionError> {
        let closed = stopped || self.open;
        let end = self.end(key)?;
        if closed {
            return Err(PartitionError::IntakeClosed);
        }
        if end.is_some() {
            return Err(PartitionError::Ended);
        }
        self.share(key);
        Ok(())
    }

    /// One more for what has arrived: also after the end of its partition, and after a stop.
    pub(super) fn share(&mut self, key: Key) {
        if let Ok(entry) = self.entry(key) {
            entry.in_flight += 1;
            self.in_flight += 1;
        }
    }

    pub(super) fn leave(&mut self, key: Key) {
        if let Ok(entry) = self.entry(key) {
            entry.in_flight -= 1;
            self.in_flight -= 1;
        }
    }
}
