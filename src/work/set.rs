//! A set of items: the list of those in flight, and how they are handed back.

use std::panic::{AssertUnwindSafe, Location, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use crate::clock::Tick;
use crate::event::Event;
use crate::inside;
use crate::panic;
use crate::reason::Interruption;
use crate::report::{DrainOutcome, DrainReport, Holder};
use crate::said::Thread;
use crate::slab::{Key, Slab};
use crate::sync::Mutex;
use crate::text::Name;
use crate::work::Home;
use crate::work::in_flight::HandBack;
use crate::work::item::{Cell, Interrupted, Stand};
use crate::work::sets::{AnySet, Interrupting};

/// Puts an item back where it came from.
pub(crate) type OnInterrupted<T> = Box<dyn Fn(Interrupted<T>) -> HandingBack + Send + Sync>;

/// How far a hand-back has come when its call returns.
pub(crate) enum HandingBack {
    Over(Result<(), String>),
    /// It is still to be started, and says when it has ended.
    #[cfg_attr(not(feature = "tokio"), expect(dead_code, reason = "for features"))]
    ToStart(Box<dyn FnOnce(HandedBack) + Send>),
}

/// Takes how a hand-back has ended.
pub(crate) type HandedBack = Box<dyn FnOnce(HandBackEnd) + Send>;

/// How a hand-back has ended: `Err` with the message of its panic.
pub(crate) type HandBackEnd = Result<Result<(), String>, String>;

/// Who hands an item back.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum By {
    /// Whoever had it, and has let go of it.
    Worker,
    /// The program, while the worker may still have it.
    Program,
}

pub(super) struct State<T> {
    pub(super) closed: bool,
    /// Reserved, not filled.
    pub(super) slots: usize,
    pub(super) items: Slab<Arc<Cell<T>>>,
}

impl<T> State<T> {
    pub(super) fn is_empty(&self) -> bool {
        self.slots == 0 && self.items.is_empty()
    }
}

/// What all shards of a set have in common.
pub(super) struct Common<T> {
    pub(super) home: Home,
    pub(super) name: Name,
    pub(super) location: &'static Location<'static>,
    pub(super) hand_back: HandBack,
    pub(super) most: Option<u32>,
    pub(super) on_interrupted: OnInterrupted<T>,
}

/// A thread uses one of so many shards, so that threads seldom meet at a lock or a count.
pub(super) const SHARDS: usize = 8;

/// One shard of a set, on cache lines of its own.
#[repr(align(128))]
pub(super) struct Set<T> {
    pub(super) common: Arc<Common<T>>,
    pub(super) state: Mutex<State<T>>,
}

/// The shard of this thread.
pub(super) fn shard() -> usize {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    thread_local! {
        static SHARD: usize = NEXT.fetch_add(1, Ordering::Relaxed) % SHARDS;
    }
    SHARD.try_with(|shard| *shard).unwrap_or(0)
}

impl<T> Set<T> {
    pub(super) fn new(common: &Arc<Common<T>>) -> Self {
        Self {
            common: Arc::clone(common),
            state: Mutex::new(State {
                closed: false,
                slots: 0,
                items: Slab::new(),
            }),
        }
    }

    /// Hands an item back that stands at `HandingBack` by the caller's own step, and takes it off
    /// the list when that has been done and the worker has gone.
    pub(super) fn give_back(
        self: &Arc<Self>,
        cell: &Arc<Cell<T>>,
        key: Key,
        why: Interruption,
        by: By,
    ) where
        T: Send + Sync + 'static,
    {
        let bus = &self.common.home.bus;
        let told = bus.is_used().then(|| why.clone());
        let Some(item) = cell.take(why, self.common.most) else {
            return;
        };
        let _inside = inside::enter(self.common.home.id);
        let handing = catch_unwind(AssertUnwindSafe(|| (self.common.on_interrupted)(item)));
        let end = match handing {
            Ok(HandingBack::Over(end)) => Ok(end),
            Err(payload) => Err(panic::message(payload)),
            Ok(HandingBack::ToStart(start)) => {
                // P21: until it has ended the item stays on the list.
                let (set, cell) = (Arc::clone(self), Arc::clone(cell));
                let end = Box::new(move |end| set.has_given_back(&cell, key, end, told, by));
                panic::contained(|| start(end));
                return;
            }
        };
        self.has_given_back(cell, key, end, told, by);
    }

    fn has_given_back(
        &self,
        cell: &Cell<T>,
        key: Key,
        end: HandBackEnd,
        told: Option<Interruption>,
        by: By,
    ) {
        let outcome = match end {
            Ok(Ok(())) => None,
            Ok(Err(error)) => Some(DrainOutcome::Failed(format!("hand-back failed: {error}"))),
            Err(message) => Some(DrainOutcome::Panicked(format!(
                "in its hand-back: {message}"
            ))),
        };
        if let Some(why) = told {
            self.common.home.bus.emit(|| Event::HandedBack {
                name: self.common.name.clone(),
                why,
                error: outcome.as_ref().map(ToString::to_string),
            });
        }
        if let Some(outcome) = outcome {
            self.common.home.sets.failed(self.report(outcome));
        }
        // P20: under the lock that `settle` takes, or the report could find the item neither undecided
        // nor among those that were handed back.
        let state = self.state.lock();
        if cell.advance(Stand::HandingBack, Stand::HandedBack) {
            self.common.home.sets.was_handed_back();
        }
        drop(state);
        if by == By::Worker || cell.is_worker_gone() {
            self.leave(Some(key));
        }
    }

    /// From where `open` says there is no verdict for them any more.
    fn undecided(&self, state: &State<T>, open: &[Stand]) -> Vec<DrainReport> {
        // Nothing is cloned here: the last share of a payload is not the runner's to drop.
        let undecided = state.items.iter().filter(|(_, cell)| {
            open.iter()
                .any(|stand| cell.advance(*stand, Stand::Undecided))
        });
        undecided
            .map(|_| self.report(DrainOutcome::Undecided))
            .collect()
    }

    fn report(&self, outcome: DrainOutcome) -> DrainReport {
        DrainReport {
            name: self.common.name.clone(),
            holder: Holder::Item,
            outcome,
            started: Duration::ZERO,
            took: self.common.home.node.since_stop(),
            stage: None,
            location: self.common.location,
        }
    }

    /// Takes an item off the list; `None` for a slot that was never filled.
    pub(super) fn leave(&self, key: Option<Key>) {
        let mut state = self.state.lock();
        let removed = key.map(|key| state.items.remove(key));
        if key.is_none() {
            state.slots -= 1;
        }
        let last = state.closed && state.is_empty();
        let home = &self.common.home;
        if last {
            home.holders.is_emptied(home.node.since_stop());
        }
        drop(state);
        drop(removed);
        if last {
            // P21: over at once when the last goes.
            home.holders.poke();
        }
    }
}

impl<T: Send + Sync + 'static> AnySet for Set<T> {
    fn close(&self) {
        self.state.lock().closed = true;
    }

    fn is_empty(&self) -> bool {
        self.state.lock().is_empty()
    }

    fn name(&self) -> &Name {
        &self.common.name
    }

    fn count(&self) -> usize {
        let state = self.state.lock();
        state.slots + state.items.len()
    }

    fn interrupt(self: Arc<Self>, calls: &mut Interrupting) {
        let open: Vec<(Key, Arc<Cell<T>>)> = self
            .state
            .lock()
            .items
            .iter()
            .map(|(key, cell)| (key, Arc::clone(cell)))
            .collect();
        for (key, cell) in open {
            if cell.interrupt() {
                let cell = Arc::clone(&cell);
                calls.tell.push(Box::new(move || cell.tell()));
            }
            if self.common.hand_back == HandBack::AtDeadline
                && cell.advance(Stand::Running, Stand::HandingBack)
            {
                let set = Arc::clone(&self);
                calls.hand_back.push(Box::new(move || {
                    set.give_back(&cell, key, Interruption::OutOfTime, By::Program);
                }));
            }
        }
    }

    fn leave_behind(&self) -> Vec<DrainReport> {
        let state = self.state.lock();
        let mut left = self.undecided(&state, &[Stand::Running]);
        let slots = std::iter::repeat_n(DrainOutcome::Abandoned, state.slots);
        left.extend(slots.map(|outcome| self.report(outcome)));
        left
    }

    fn settle(&self) -> Vec<DrainReport> {
        self.undecided(&self.state.lock(), &Stand::OPEN)
    }

    fn location(&self) -> &'static Location<'static> {
        self.common.location
    }

    fn oldest(&self) -> Option<(Tick, Thread)> {
        let state = self.state.lock();
        let (_, cell) = state.items.iter().next()?;
        Some((cell.since, cell.thread))
    }

    fn set(&self) -> usize {
        Arc::as_ptr(&self.common).addr()
    }
}
