//! A slot on a list, with the hold that is in it.
//!
//! Whoever has a free slot owns it, and nobody else writes to it but whoever closes. What a hold is
//! called stays in the slot: the next one by the same name, from the same line, leaves it as it is.

use std::mem;
use std::panic::Location;
use std::sync::Arc;

use crate::clock::Tick;
use crate::report::Holder;
use crate::said::Thread;
use crate::snapshot::Said;
use crate::sync::{AtomicU64, AtomicUsize, Mutex, Ordering};
use crate::text::Name;
use crate::work::holders::Held;

/// The intake is closed: no hold comes into it any more.
const CLOSED: usize = 1;
/// Counted by whoever closed the intake.
const COUNTED: usize = 2;
/// Left behind: the report has it already.
const LEFT: usize = 4;
/// One clone.
const ONE: usize = 8;

/// See the module.
pub(in crate::work) struct Slot {
    index: usize,
    /// How many clones of the hold there are, and the marks.
    word: AtomicUsize,
    /// Since when, in nanoseconds of the clock.
    since: AtomicU64,
    turn: AtomicU64,
    thread: AtomicU64,
    /// Of the label: where the hold was taken, and where its name is, and how long, if that is a
    /// literal. Nowhere: the next hold has to write a label in any case. Relaxed, as only the owner
    /// of the slot looks, who comes after whoever wrote last.
    location: AtomicUsize,
    name: [AtomicUsize; 2],
    label: Mutex<Option<Label>>,
}

/// What stays for the next hold of its name, if this one has said nothing.
struct Label {
    name: Name,
    location: &'static Location<'static>,
    late: bool,
    said: Option<Box<Said>>,
}

/// What each hold has of its own.
pub(super) struct Taker {
    pub(super) since: Tick,
    pub(super) turn: u64,
    pub(super) thread: Thread,
}

/// All places of a list. Under its lock.
#[derive(Default)]
pub(in crate::work) struct Places {
    slots: Vec<Arc<Slot>>,
    free: Vec<usize>,
    /// Counted, and still there.
    left: usize,
    closed: bool,
}

fn address(location: &'static Location<'static>) -> usize {
    std::ptr::from_ref(location).addr()
}

/// Where a name is, and how long; nowhere, if its memory may be used again.
fn literal(name: &Name) -> [usize; 2] {
    match name {
        Name::Borrowed(name) => [name.as_ptr().addr(), name.len()],
        Name::Owned(_) => [0; 2],
    }
}

impl Slot {
    fn new(index: usize, closed: bool) -> Self {
        Self {
            index,
            word: AtomicUsize::new(if closed { CLOSED } else { 0 }),
            since: AtomicU64::new(0),
            turn: AtomicU64::new(0),
            thread: AtomicU64::new(0),
            location: AtomicUsize::new(0),
            name: [AtomicUsize::new(0), AtomicUsize::new(0)],
            label: Mutex::new(None),
        }
    }

    fn clones(&self) -> usize {
        self.word.load(Ordering::Acquire) / ONE
    }

    /// A hold comes in, by whoever owns the slot; false when the intake is closed (P22).
    #[inline]
    pub(super) fn fill(
        &self,
        name: Name,
        location: &'static Location<'static>,
        late: bool,
        taker: &Taker,
    ) -> bool {
        // A label that is there is of a hold that was not late: who leaves late takes it along.
        if late || !self.is_labelled(&name, location) {
            self.label(name, location, late, taker);
        } else {
            self.put(taker);
        }
        // Release: who finds it sees whose it is.
        let filled = self
            .word
            .compare_exchange(0, ONE, Ordering::Release, Ordering::Relaxed);
        filled.is_ok()
    }

    /// The last hold had this name, from this line, and has left its label.
    fn is_labelled(&self, name: &Name, location: &'static Location<'static>) -> bool {
        let [at, length] = literal(name);
        at != 0
            && self.name[0].load(Ordering::Relaxed) == at
            && self.name[1].load(Ordering::Relaxed) == length
            && self.location.load(Ordering::Relaxed) == address(location)
    }

    #[cold]
    fn label(&self, name: Name, location: &'static Location<'static>, late: bool, taker: &Taker) {
        let [at, length] = literal(&name);
        self.name[0].store(at, Ordering::Relaxed);
        self.name[1].store(length, Ordering::Relaxed);
        self.location.store(address(location), Ordering::Relaxed);
        let mut on_it = self.label.lock();
        // Who looks has the lock: never finds these with the label before.
        self.put(taker);
        let before = if let Some(label) = &mut *on_it {
            label.location = location;
            label.late = late;
            (mem::replace(&mut label.name, name), label.said.take())
        } else {
            *on_it = Some(Label {
                name,
                location,
                late,
                said: None,
            });
            return;
        };
        drop(on_it);
        drop(before);
    }

    /// The next hold has to write a label.
    fn unlabel(&self) {
        self.name[0].store(0, Ordering::Relaxed);
    }

    fn put(&self, taker: &Taker) {
        self.since.store(taker.since.nanos(), Ordering::Relaxed);
        self.turn.store(taker.turn, Ordering::Relaxed);
        self.thread.store(taker.thread.bits(), Ordering::Relaxed);
    }

    /// One more clone.
    pub(super) fn share(&self) {
        self.word.fetch_add(ONE, Ordering::Relaxed);
    }

    /// Its own words, said on that thread.
    pub(super) fn say(&self, said: Said, thread: Thread) {
        let said = Box::new(said);
        let mut label = self.label.lock();
        let before = label.as_mut().and_then(|label| {
            self.unlabel();
            self.thread.store(thread.bits(), Ordering::Relaxed);
            label.said.replace(said)
        });
        drop(label);
        drop(before);
    }

    /// Lets the hold go if this is its last clone, and nobody has counted it. True: it has gone.
    #[inline]
    pub(super) fn leave(&self) -> bool {
        // Release: who finds it gone sees what was done under it. Acquire: the next hold sees what
        // the clones have said.
        self.word
            .compare_exchange(ONE, 0, Ordering::AcqRel, Ordering::Relaxed)
            .is_ok()
    }

    /// How old the hold in it is; `None` where there is none, or it has been left behind.
    pub(in crate::work) fn age(&self) -> Option<(Tick, u64)> {
        let word = self.word.load(Ordering::Acquire);
        (word >= ONE && word & LEFT == 0).then(|| {
            let since = Tick::from_nanos(self.since.load(Ordering::Relaxed));
            (since, self.turn.load(Ordering::Relaxed))
        })
    }

    /// The hold in it, and how many clones there are; `None` where there is none. Where one has just
    /// made room for the next of its name, it may be of the one, and the age and thread of the other.
    pub(in crate::work) fn look(&self) -> Option<(Held, usize)> {
        let label = self.label.lock();
        let clones = self.clones();
        let label = label.as_ref().filter(|_| clones > 0)?;
        let label = Label {
            name: label.name.clone(),
            said: label.said.clone(),
            ..*label
        };
        Some((self.held(label), clones))
    }

    fn take(&self) -> Option<Held> {
        let label = {
            let mut label = self.label.lock();
            self.unlabel();
            label.take()?
        };
        Some(self.held(label))
    }

    fn held(&self, label: Label) -> Held {
        Held {
            name: label.name,
            holder: Holder::Hold,
            location: label.location,
            since: Tick::from_nanos(self.since.load(Ordering::Relaxed)),
            turn: self.turn.load(Ordering::Relaxed),
            late: label.late,
            thread: Thread::from_bits(self.thread.load(Ordering::Relaxed)),
            said: label.said,
            abort: None,
        }
    }
}

impl Places {
    /// A place that nobody has.
    pub(in crate::work) fn get(&mut self) -> Arc<Slot> {
        if let Some(slot) = self.free.pop().and_then(|index| self.slots.get(index)) {
            return Arc::clone(slot);
        }
        let slot = Arc::new(Slot::new(self.slots.len(), self.closed));
        self.slots.push(Arc::clone(&slot));
        slot
    }

    pub(in crate::work) fn free(&mut self, slot: &Slot) {
        self.free.push(slot.index);
    }

    /// Admits nobody from now on, and counts those who are there. Once (invariant 3).
    pub(in crate::work) fn close(&mut self) {
        self.closed = true;
        for slot in &self.slots {
            let mark = |word: usize| {
                let counted = if word >= ONE { COUNTED } else { 0 };
                Some(word | CLOSED | counted)
            };
            let before = slot
                .word
                .fetch_update(Ordering::AcqRel, Ordering::Acquire, mark);
            self.left += usize::from(before.is_ok_and(|word| word >= ONE));
        }
    }

    /// Of those who were counted, nobody is left.
    pub(in crate::work) fn none_left(&self) -> bool {
        self.left == 0
    }

    /// Nobody is there, whether they have been counted or not: a look at all.
    pub(in crate::work) fn is_empty(&self) -> bool {
        self.slots.iter().all(|slot| slot.clones() == 0)
    }

    /// A clone goes. With the last one, what the hold was, unless it has been left behind; the flag
    /// says that the place is free.
    pub(in crate::work) fn leave(&mut self, slot: &Slot) -> (Option<Held>, bool) {
        let before = slot.word.fetch_sub(ONE, Ordering::AcqRel);
        if before >= 2 * ONE {
            return (None, false);
        }
        // Nobody else moves a word without clones: they would need the list's lock.
        slot.word.fetch_and(CLOSED, Ordering::Release);
        if before & LEFT != 0 {
            return (None, true);
        }
        if before & COUNTED != 0 {
            self.left -= 1;
        }
        (slot.take(), true)
    }

    /// Leaves behind all that were counted.
    pub(in crate::work) fn leave_behind(&mut self) -> Vec<Held> {
        self.left = 0;
        let mut left = Vec::new();
        for slot in &self.slots {
            // The last clone goes under the list's lock from the close on.
            let word = slot.word.load(Ordering::Acquire);
            if word & COUNTED != 0 && word & LEFT == 0 {
                slot.word.fetch_or(LEFT, Ordering::AcqRel);
                left.extend(slot.take());
            }
        }
        left
    }

    /// All of them, free or not.
    pub(in crate::work) fn iter(&self) -> impl Iterator<Item = &Slot> {
        self.slots.iter().map(|slot| &**slot)
    }
}
