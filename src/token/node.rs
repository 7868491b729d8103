//! The state behind sources and tokens: a tree, stopped from the top.
//!
//! 1. A node's word leaves `Running` once. Whoever moves it decides the reason.
//! 2. A node reads stopped when its own word or the word of its tree's root does (P1: two loads).
//!    The root's word is the only one that a signal handler moves, so no thread has to be scheduled
//!    for a whole tree to read stopped (P6).
//! 3. Whoever wants to be told says so in the word, and then registers under the node's lock, having
//!    looked at the words; whoever has stopped a node takes that lock afterwards and takes them all
//!    out. So no wake-up is lost (P4). A word that says of nobody is moved in one step: then there
//!    is nobody to be told, and whoever comes later finds it stopped.
//! 4. Nothing recurses: neither the stop nor the drop of a chain of children.
//! 5. User code (wakers, `on_stop` closures, their drop code) runs with no lock held (P17).

mod waiting;

use std::convert::Infallible;
use std::sync::{Arc, Weak};
use std::task::Waker;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender};

use crate::clock::Tick;
use crate::reason::{Signal, StopReason};
use crate::slab::{Key, Slab};
use crate::sync::{AtomicU64, Condvar, Mutex, MutexGuard, OnceLock, Ordering};
use crate::token::announcement::Announcement;
use crate::token::deliveries::Deliveries;
use crate::token::grace::GraceClock;
use crate::token::word::{By, Life, Word};

/// A closure of `on_stop`.
pub(crate) type Callback = Box<dyn FnOnce(&StopReason) + Send>;

/// What only the root of a coordinator's tree has: its signals and its clock.
pub(crate) struct Ending {
    pub(crate) deliveries: Deliveries,
    pub(crate) clock: GraceClock,
}

/// See the module.
pub(crate) struct Node {
    word: AtomicU64,
    place: Place,
    /// Allocated for the first who asks for more than whether it is stopped: there may be very many
    /// nodes, and of most of them nobody ever does.
    shared: OnceLock<Box<Shared>>,
}

/// Where in its tree a node is.
enum Place {
    Top(Clock),
    Below {
        top: Arc<Node>,
        /// `None` where it is the top of the tree: one reference does for both.
        parent: Option<Arc<Node>>,
        /// The place in the parent's list.
        key: Key,
    },
}

/// The stop that a tree's time counts from.
enum Clock {
    None,
    /// A coordinator: its own.
    Own(Box<Ending>),
    /// A stage, which is stopped later: its coordinator's.
    Of(Arc<Node>),
}

#[derive(Default)]
pub(crate) struct Shared {
    told: Mutex<Told>,
    stopped: Condvar,
    receiver: OnceLock<Receiver<Infallible>>,
    /// The top of everything that `to_cancellation_token` has given out (P23).
    #[cfg(feature = "tokio")]
    pub(crate) cancellation: OnceLock<tokio_util::sync::CancellationToken>,
}

/// What the stop said, and whom it is told.
#[derive(Default)]
struct Told {
    /// What `stop` said. Written under the lock before the word is moved (P2).
    reason: Option<Box<StopReason>>,
    children: Slab<Weak<Node>>,
    waiting: Option<Box<Waiting>>,
}

/// Who else is told. By itself, as most nodes that have anybody have children alone.
#[derive(Default)]
pub(crate) struct Waiting {
    pub(crate) wakers: Slab<Waker>,
    pub(crate) callbacks: Slab<Callback>,
    /// Dropped at the stop, so that `receiver` disconnects.
    sender: Option<Sender<Infallible>>,
}

impl Node {
    /// A tree of its own.
    pub(crate) fn root() -> Arc<Self> {
        Arc::new(Self::new(Word::RUNNING, Place::Top(Clock::None)))
    }

    /// The tree of a coordinator.
    pub(crate) fn with_ending(ending: Ending) -> Arc<Self> {
        let clock = Clock::Own(Box::new(ending));
        Arc::new(Self::new(Word::RUNNING, Place::Top(clock)))
    }

    /// A tree that is stopped by itself, on the clock of this one.
    pub(crate) fn stage(self: &Arc<Self>) -> Arc<Self> {
        let clock = Clock::Of(Arc::clone(self));
        Arc::new(Self::new(Word::RUNNING, Place::Top(clock)))
    }

    fn new(word: Word, place: Place) -> Self {
        Self {
            word: AtomicU64::new(word.bits()),
            place,
            shared: OnceLock::new(),
        }
    }

    /// A node that stops with this one.
    pub(crate) fn child(self: &Arc<Self>) -> Arc<Self> {
        let (top, parent) = match &self.place {
            Place::Top(_) => (self, None),
            Place::Below { top, .. } => (top, Some(Arc::clone(self))),
        };
        let top = Arc::clone(top);
        let mut told = self.attend();
        // Invariant 3: after the stop nobody comes to take the child out of the list, so it is born
        // stopped. It keeps its parent all the same: the reason is there.
        let word = if self.is_stopped() {
            Word::stopped_by_parent()
        } else {
            Word::RUNNING
        };
        // Where it is born stopped nobody has this key, then or later.
        let key = told.children.next_key();
        let node = Arc::new(Self::new(word, Place::Below { top, parent, key }));
        if !word.is_stopped() {
            told.children.push(Arc::downgrade(&node));
        }
        drop(told);
        node
    }

    /// The top of its tree; `None` at the top itself.
    #[inline]
    fn top(&self) -> Option<&Arc<Node>> {
        match &self.place {
            Place::Top(_) => None,
            Place::Below { top, .. } => Some(top),
        }
    }

    fn parent(&self) -> Option<&Arc<Node>> {
        match &self.place {
            Place::Top(_) => None,
            Place::Below { top, parent, .. } => parent.as_ref().or(Some(top)),
        }
    }

    pub(crate) fn shared(&self) -> &Shared {
        self.shared.get_or_init(Box::default)
    }

    /// The lock, for who wants to be told of the stop if it has not come; says first that there is
    /// somebody (invariant 3).
    fn attend(&self) -> MutexGuard<'_, Told> {
        // Once a node: all steps of a word have one order, so either whoever stops it sees this,
        // or what is looked at after it is a word that is stopped.
        if self.word.load(Ordering::Relaxed) == Word::RUNNING.bits() {
            self.swap(Word::RUNNING, Word::ATTENDED);
        }
        self.shared().told.lock()
    }

    #[inline]
    pub(crate) fn word(&self) -> Word {
        // P5: pairs with the release of whoever moved the word.
        Word::from_bits(self.word.load(Ordering::Acquire))
    }

    /// P1.
    #[inline]
    pub(crate) fn is_stopped(&self) -> bool {
        self.word().is_stopped() || self.top().is_some_and(|top| top.word().is_stopped())
    }

    /// The node whose stop the time counts from.
    fn timed(&self) -> &Self {
        let top = self.top().map_or(self, |top| top);
        match &top.place {
            Place::Top(Clock::Of(coordinator)) => coordinator,
            _ => top,
        }
    }

    pub(crate) fn ending(&self) -> Option<&Ending> {
        match &self.timed().place {
            Place::Top(Clock::Own(ending)) => Some(ending),
            _ => None,
        }
    }

    /// When the program was stopped, or this tree, where it has no program; `None` while it runs.
    pub(crate) fn stop_tick(&self) -> Option<Tick> {
        let word = self.timed().word();
        word.is_stopped().then(|| word.when())
    }

    /// Of the grace period, which begins at the stop, or with the signal that announces it.
    pub(crate) fn time_left(&self) -> Option<Duration> {
        let (word, ending) = (self.timed().word(), self.ending()?);
        (word.life() != Life::Running).then(|| {
            let begin = word.when();
            ending.clock.deadline(begin).since(ending.clock.now(begin))
        })
    }

    /// The time: since the stop, on the clock of the grace period.
    pub(crate) fn now(&self) -> Tick {
        match (self.stop_tick(), self.ending()) {
            (Some(stop), Some(ending)) => ending.clock.now(stop),
            _ => Tick::now(),
        }
    }

    /// How long it has been stopped.
    pub(crate) fn since_stop(&self) -> Duration {
        self.stop_tick()
            .map_or(Duration::ZERO, |stop| self.now().since(stop))
    }

    fn swap(&self, old: Word, new: Word) -> bool {
        self.word
            .compare_exchange(old.bits(), new.bits(), Ordering::AcqRel, Ordering::Acquire)
            .is_ok()
    }

    /// Moves the word on to `life` if it stands before it and at or behind `from`. True: this call
    /// did it.
    pub(crate) fn advance(&self, from: Life, life: Life) -> bool {
        loop {
            let word = self.word();
            if word.life() < from || word.life() >= life {
                return false;
            }
            if self.swap(word, word.moved_to(life)) {
                return true;
            }
        }
    }

    /// Moves the word to `Forced` if it is still this one. True: this call did it.
    pub(crate) fn force(&self, word: Word) -> bool {
        self.swap(word, word.moved_to(Life::Forced))
    }

    /// A signal decides the reason, if nothing has yet. Async-signal-safe.
    pub(crate) fn stop_by_signal(
        &self,
        life: Life,
        signal: Signal,
        record: usize,
        now: Tick,
    ) -> bool {
        let stopped = Word::by_signal(life, signal, record, now);
        self.swap(Word::RUNNING, stopped) || self.swap(Word::ATTENDED, stopped)
    }

    /// Decides the reason if nothing has yet; the waiters are still to be told. Gives the reason
    /// back where it came too late.
    pub(crate) fn decide(&self, reason: StopReason) -> Result<(), StopReason> {
        let mut told = self.shared().told.lock();
        // P2: the reason is in its place before the word can be seen.
        let place = &mut told.reason;
        let before = place.replace(Box::new(reason));
        loop {
            let word = self.word();
            match word.life() {
                Life::Running if self.inherit() => {}
                Life::Running => {
                    if self.swap(word, Word::stopped_by_program(Tick::now())) {
                        return Ok(());
                    }
                    continue;
                }
                // The signal that announced the stop gave the reason; this call makes it one.
                Life::Lingering if !self.swap(word, word.moved_to(Life::Stopped)) => continue,
                _ => {}
            }
            let late = std::mem::replace(place, before);
            drop(told);
            return Err(late.map_or(StopReason::Completed, |late| *late));
        }
    }

    /// Takes over the parent's stop where the root is stopped, so that the reason of this node is
    /// final: from then on a `stop` of its own comes too late. True: the node is stopped.
    fn inherit(&self) -> bool {
        let inherits = self.top().is_some_and(|top| top.word().is_stopped());
        if inherits {
            self.stop_by_parent();
        }
        inherits
    }

    /// The parent is stopped. True: there may be somebody to be told.
    pub(crate) fn stop_by_parent(&self) -> bool {
        let stopped = Word::stopped_by_parent();
        if self.swap(Word::RUNNING, stopped) {
            return false;
        }
        // Losing this race too means that the node has a stop of its own already.
        self.swap(Word::ATTENDED, stopped);
        true
    }

    /// Asks for the stop, decides the reason and tells everybody. True: this call was the first.
    pub(crate) fn stop(self: &Arc<Self>, reason: StopReason) -> bool {
        if self.decide(reason).is_err() {
            return false;
        }
        Announcement::of(self).finish();
        true
    }

    /// For who has seen the stop: there is a reason (P2).
    pub(crate) fn known_reason(&self) -> StopReason {
        self.reason().unwrap_or(StopReason::Completed)
    }

    /// Not for a handler: it may lock, and looks up who sent a signal.
    pub(crate) fn reason(&self) -> Option<StopReason> {
        let mut node = self;
        loop {
            let word = node.word();
            if !word.is_stopped() {
                if node.inherit() {
                    continue;
                }
                return None;
            }
            match word.by() {
                By::Program => return node.shared.get()?.told.lock().reason.as_deref().cloned(),
                By::Signal => {
                    let ending = node.ending()?;
                    return Some(StopReason::Signal(ending.deliveries.received(word)));
                }
                By::Parent => node = node.parent()?,
            }
        }
    }
}

impl Node {
    /// Takes this node out of its parent's list; the parent is the caller's to drop.
    fn unlink(&mut self) -> Option<Arc<Node>> {
        // So that what is done here is not done again.
        let place = std::mem::replace(&mut self.place, Place::Top(Clock::None));
        let Place::Below { top, parent, key } = place else {
            return None;
        };
        let parent = parent.unwrap_or(top);
        let removed = parent.shared().told.lock().children.remove(key);
        drop(removed);
        Some(parent)
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        // Invariant 4: the last child of a long chain takes it down step by step, not call by call.
        let mut next = self.unlink();
        while let Some(parent) = next {
            next = Arc::into_inner(parent).and_then(|mut parent| parent.unlink());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stop_of_the_parent_that_nobody_has_told_yet_comes_first() {
        let parent = Node::root();
        let child = parent.child();
        parent.decide("the parent's".into()).unwrap();
        let late = child.decide("its own".into()).unwrap_err();
        assert_eq!(late, "its own".into());
        assert_eq!(child.reason(), Some("the parent's".into()));
    }
}
