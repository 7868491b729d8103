//! A list in order of arrival from which anything can be taken in constant time.
//!
//! Hooks, guards, holds, wakers and children all come and go by the million; none may leave
//! anything behind (P23), and what is left must still be in order (P13). So: slots that are used
//! again, linked oldest to newest.

/// No slot.
const NONE: u32 = u32::MAX;

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
    slots: Vec<Slot<T>>,
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
            slots: Vec::new(),
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

    /// Puts `value` at the young end.
    pub(crate) fn push(&mut self, value: T) -> Key {
        self.serial += 1;
        let slot = Slot {
            serial: self.serial,
            older: self.newest,
            younger: NONE,
            value: Some(value),
        };
        let index = if self.free == NONE {
            // Four thousand million live entries do not fit into memory first.
            let index = u32::try_from(self.slots.len()).unwrap_or(NONE);
            self.slots.push(slot);
            index
        } else {
            let index = self.free;
            let reused = &mut self.slots[index as usize];
            self.free = reused.younger;
            *reused = slot;
            index
        };
        if self.newest == NONE {
            self.oldest = index;
        } else {
            self.slots[self.newest as usize].younger = index;
        }
        self.newest = index;
        self.len += 1;
        Key {
            slot: index,
            serial: self.serial,
        }
    }

    pub(crate) fn get_mut(&mut self, key: Key) -> Option<&mut T> {
        let slot = self.slots.get_mut(key.slot as usize)?;
        if slot.serial == key.serial {
            slot.value.as_mut()
        } else {
            None
        }
    }

    /// Takes the entry out; `None` when it is gone already.
    pub(crate) fn remove(&mut self, key: Key) -> Option<T> {
        let slot = self.slots.get_mut(key.slot as usize)?;
        if slot.serial != key.serial {
            return None;
        }
        let value = slot.value.take()?;
        let (older, younger) = (slot.older, slot.younger);
        slot.younger = self.free;
        self.free = key.slot;
        if older == NONE {
            self.oldest = younger;
        } else {
            self.slots[older as usize].younger = younger;
        }
        if younger == NONE {
            self.newest = older;
        } else {
            self.slots[younger as usize].older = older;
        }
        self.len -= 1;
        Some(value)
    }

    fn key_of(&self, index: u32) -> Option<Key> {
        let slot = self.slots.get(index as usize)?;
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
        self.slots.get(self.newest as usize)?.value.as_ref()
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
            let slot = self.slots.get(next as usize)?;
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
            let slot = self.slots.get(next as usize)?;
            next = slot.older;
            slot.value.as_ref()
        })
    }

    /// Takes everything, oldest first, and gives the memory back.
    pub(crate) fn take(&mut self) -> Vec<T> {
        let mut taken = Vec::with_capacity(self.len);
        let mut next = self.oldest;
        while let Some(slot) = self.slots.get_mut(next as usize) {
            next = slot.younger;
            taken.extend(slot.value.take());
        }
        let serial = self.serial;
        *self = Self::new();
        // Keys given out before must go on finding nothing.
        self.serial = serial;
        taken
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
        assert_eq!(slab.take(), [1, 3, 4, 5]);
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
        assert_eq!(slab.take(), ['b']);
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
        assert_eq!(slab.slots.len(), 1);
    }
}
