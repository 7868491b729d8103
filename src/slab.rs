//! A list in order of arrival from which anything can be taken in constant time.
//!
//! Hooks, guards, holds, wakers and children all come and go by the million; none may leave
//! anything behind (P23), and what is left must still be in order (P13). So: slots that are used
//! again, linked oldest to newest.
//!
//! The slots are in blocks, so that a list which grows long is never moved: with a hundred thousand
//! hooks that would cost more than all else. And it gives its memory back as it is unwound.

/// No slot.
const NONE: u32 = u32::MAX;

/// Slots in a block. The first one grows to that.
const BLOCK: usize = 256;

/// Names one entry for as long as it lives. A key that has outlived its entry finds nothing, even
/// when the slot is in use again: the serial is never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Key {
    slot: u32,
    serial: u64,
}

impl Key {
    /// Grows with every entry of a list: the younger has the larger.
    pub(crate) fn serial(self) -> u64 {
        self.serial
    }
}

struct Slot<T> {
    serial: u64,
    older: u32,
    /// The next younger one; in a free slot, the next free one.
    younger: u32,
    value: Option<T>,
}

/// See the module.
pub(crate) struct Slab<T> {
    /// The first block. Most lists have no other.
    first: Vec<Slot<T>>,
    /// All but the last of them full.
    more: Vec<Vec<Slot<T>>>,
    free: u32,
    oldest: u32,
    newest: u32,
    len: usize,
    serial: u64,
}

impl<T> Default for Slab<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> Slab<T> {
    pub(crate) const fn new() -> Self {
        Self {
            first: Vec::new(),
            more: Vec::new(),
            free: NONE,
            oldest: NONE,
            newest: NONE,
            len: 0,
            serial: 0,
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len == 0
    }

    fn slot(&self, index: u32) -> Option<&Slot<T>> {
        let index = index as usize;
        match index.checked_sub(BLOCK) {
            None => self.first.get(index),
            Some(index) => self.more.get(index / BLOCK)?.get(index % BLOCK),
        }
    }

    fn slot_mut(&mut self, index: u32) -> Option<&mut Slot<T>> {
        let index = index as usize;
        match index.checked_sub(BLOCK) {
            None => self.first.get_mut(index),
            Some(index) => self.more.get_mut(index / BLOCK)?.get_mut(index % BLOCK),
        }
    }

    /// The first index beyond all slots.
    fn end(&self) -> u32 {
        let last = self.more.last().unwrap_or(&self.first);
        // Four thousand million live entries do not fit into memory first.
        u32::try_from(self.more.len() * BLOCK + last.len()).unwrap_or(NONE)
    }

    /// The key that the next entry will have.
    pub(crate) fn next_key(&self) -> Key {
        let index = if self.free == NONE {
            self.end()
        } else {
            self.free
        };
        Key {
            slot: index,
            serial: self.serial + 1,
        }
    }

    /// Puts `value` at the young end.
    pub(crate) fn push(&mut self, value: T) -> Key {
        self.serial += 1;
        let slot = Slot {
            serial: self.serial,
            older: self.newest,
            younger: NONE,
            value: Some(value),
        };
        let index = self.put(slot);
        if let Some(older) = self.slot_mut(self.newest) {
            older.younger = index;
        } else {
            self.oldest = index;
        }
        self.newest = index;
        self.len += 1;
        Key {
            slot: index,
            serial: self.serial,
        }
    }

    /// In a free slot, or a new one.
    fn put(&mut self, slot: Slot<T>) -> u32 {
        let index = self.free;
        if let Some(free) = self.slot_mut(index) {
            let next = free.younger;
            *free = slot;
            self.free = next;
            return index;
        }
        let index = self.end();
        let last = self.more.last_mut().unwrap_or(&mut self.first);
        if last.len() < BLOCK {
            last.push(slot);
        } else {
            let mut block = Vec::with_capacity(BLOCK);
            block.push(slot);
            self.more.push(block);
        }
        index
    }

    pub(crate) fn get_mut(&mut self, key: Key) -> Option<&mut T> {
        let slot = self.slot_mut(key.slot)?;
        if slot.serial == key.serial {
            slot.value.as_mut()
        } else {
            None
        }
    }

    /// Takes the entry out; `None` when it is gone already.
    pub(crate) fn remove(&mut self, key: Key) -> Option<T> {
        let free = self.free;
        let slot = self.slot_mut(key.slot)?;
        if slot.serial != key.serial {
            return None;
        }
        let value = slot.value.take()?;
        let (older, younger) = (slot.older, slot.younger);
        slot.younger = free;
        if !self.unwind(key.slot) {
            self.free = key.slot;
        }
        match self.slot_mut(older) {
            Some(older) => older.younger = younger,
            None => self.oldest = younger,
        }
        match self.slot_mut(younger) {
            Some(younger) => younger.older = older,
            None => self.newest = older,
        }
        self.len -= 1;
        Some(value)
    }

    /// Where an empty slot is the very last, that goes: a stack has no holes. Free ones before it
    /// keep their places.
    fn unwind(&mut self, index: u32) -> bool {
        if index.checked_add(1) != Some(self.end()) {
            return false;
        }
        let last = self.more.last_mut().unwrap_or(&mut self.first);
        last.pop();
        // The first one stays: many lists have an entry now and then.
        if last.is_empty() {
            self.more.pop();
        }
        true
    }

    fn key_of(&self, index: u32) -> Option<Key> {
        let slot = self.slot(index)?;
        Some(Key {
            slot: index,
            serial: slot.serial,
        })
    }

    /// The key of the youngest entry.
    pub(crate) fn newest(&self) -> Option<Key> {
        self.key_of(self.newest)
    }

    /// The youngest entry.
    pub(crate) fn peek(&self) -> Option<&T> {
        self.slot(self.newest)?.value.as_ref()
    }

    /// Takes the youngest entry.
    pub(crate) fn pop(&mut self) -> Option<(Key, T)> {
        let key = self.newest()?;
        self.remove(key).map(|value| (key, value))
    }

    /// The entries, oldest first.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (Key, &T)> {
        let mut next = self.oldest;
        std::iter::from_fn(move || {
            let slot = self.slot(next)?;
            let key = Key {
                slot: next,
                serial: slot.serial,
            };
            next = slot.younger;
            slot.value.as_ref().map(|value| (key, value))
        })
    }

    /// The entries, youngest first.
    pub(crate) fn iter_newest_first(&self) -> impl Iterator<Item = &T> {
        let mut next = self.newest;
        std::iter::from_fn(move || {
            let slot = self.slot(next)?;
            next = slot.older;
            slot.value.as_ref()
        })
    }

    /// Takes everything, and with it the memory.
    #[inline]
    pub(crate) fn take(&mut self) -> Taken<T> {
        let mut rest = Self::new();
        // Keys given out before must go on finding nothing.
        rest.serial = self.serial;
        Taken(std::mem::replace(self, rest))
    }

    /// The same, where there is anything.
    #[inline]
    pub(crate) fn take_any(&mut self) -> Option<Taken<T>> {
        (!self.is_empty()).then(|| self.take())
    }
}

/// The entries of a list that was taken as it is, oldest first: of a hundred thousand none is moved
/// for it.
pub(crate) struct Taken<T>(Slab<T>);

impl<T> Iterator for Taken<T> {
    type Item = T;

    #[inline]
    fn next(&mut self) -> Option<T> {
        let slot = self.0.slot_mut(self.0.oldest)?;
        let (value, younger) = (slot.value.take(), slot.younger);
        self.0.oldest = younger;
        value
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_the_order_of_arrival_around_removals() {
        let mut slab = Slab::new();
        let keys: Vec<Key> = (0..5).map(|n| slab.push(n)).collect();
        assert_eq!(slab.remove(keys[2]), Some(2));
        assert_eq!(slab.remove(keys[0]), Some(0));
        slab.push(5);
        slab.push(6);
        assert_eq!(
            slab.iter().map(|(_, n)| *n).collect::<Vec<_>>(),
            [1, 3, 4, 5, 6]
        );
        assert!(slab.iter_newest_first().eq(&[6, 5, 4, 3, 1]));
        assert_eq!(slab.pop().map(|(_, n)| n), Some(6));
        assert_eq!(slab.take().collect::<Vec<_>>(), [1, 3, 4, 5]);
        assert!(slab.is_empty());
    }

    #[test]
    fn an_old_key_finds_nothing_in_a_slot_used_again() {
        let mut slab = Slab::new();
        let old = slab.push('a');
        assert_eq!(slab.remove(old), Some('a'));
        let new = slab.push('b');
        assert_eq!(slab.remove(old), None);
        assert!(slab.get_mut(old).is_none());
        assert_eq!(slab.take().collect::<Vec<_>>(), ['b']);
        slab.push('c');
        assert_eq!(slab.remove(new), None);
    }

    #[test]
    fn a_million_entries_in_turn_use_one_slot() {
        let mut slab = Slab::new();
        for n in 0..if cfg!(miri) { 1_000 } else { 1_000_000 } {
            let key = slab.push(n);
            assert_eq!(slab.remove(key), Some(n));
        }
        assert!(slab.first.is_empty() && slab.more.is_empty());
    }

    #[test]
    fn a_long_list_gives_its_blocks_back() {
        let mut slab = Slab::new();
        let count = 3 * BLOCK + 1;
        let keys: Vec<Key> = (0..count)
            .map(|n| {
                let next = slab.next_key();
                assert_eq!(next, slab.push(n));
                next
            })
            .collect();
        assert_eq!(slab.more.len(), 3);
        assert_eq!(slab.remove(keys[BLOCK]), Some(BLOCK));
        assert!(slab.iter().map(|(_, n)| *n).is_sorted());
        assert_eq!(slab.len(), count - 1);
        for n in (BLOCK + 1..count).rev() {
            assert_eq!(slab.pop().map(|(_, n)| n), Some(n));
        }
        assert_eq!(slab.more.len(), 1);
        // The hole first, and then the end.
        for n in 0..BLOCK {
            let next = slab.next_key();
            assert_eq!(next, slab.push(n));
        }
        assert_eq!(slab.more.len(), 1);
        assert_eq!(slab.take().count(), 2 * BLOCK);
    }

    #[test]
    fn a_stack_with_holes_is_used_again() {
        let mut slab = Slab::new();
        for _ in 0..3 {
            let keys: Vec<Key> = (0..6).map(|n| slab.push(n)).collect();
            assert_eq!(slab.remove(keys[4]), Some(4));
            assert_eq!(slab.remove(keys[5]), Some(5));
            assert_eq!(slab.pop().map(|(_, n)| n), Some(3));
            let next = slab.next_key();
            let again = slab.push(6);
            assert_eq!(next, again);
            assert_eq!(slab.remove(keys[4]), None);
            assert_eq!(slab.remove(keys[0]), Some(0));
            assert_eq!(slab.remove(again), Some(6));
            assert_eq!(slab.iter().map(|(_, n)| *n).collect::<Vec<_>>(), [1, 2]);
            assert!(slab.first.len() <= 6);
            while slab.pop().is_some() {}
        }
    }
}
