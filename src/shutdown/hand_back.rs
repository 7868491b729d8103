//! Handing back what is still in flight when the time for draining is over.
//!
//! The calls are user code, so they run on threads that can be left behind: one that hangs must not
//! keep the others from being made. They have a [slice](super::shares) of the time of their own.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use crate::clock::Tick;
use crate::inside;
use crate::panic::contained;
use crate::shutdown::teller::Teller;
use crate::shutdown::{Core, aside};
use crate::sync::{Condvar, Mutex};
use crate::token::SLICE;
use crate::work::UserCall;

/// A call that takes longer than this part of what is left is left behind, and the next is made on
/// another thread.
const PART: u32 = 8;

struct Queue {
    state: Mutex<State>,
    changed: Condvar,
}

struct State {
    calls: VecDeque<UserCall>,
    /// When the current one began; `None` between two, and when there is no thread.
    since: Option<Tick>,
    /// The thread of this generation makes the calls.
    generation: u64,
    alive: bool,
}

/// Makes all `calls`, and waits until nothing is in flight any more, and all others have come back
/// too, but not beyond `until`.
pub(super) fn hand_back(core: &Arc<Core>, calls: Vec<UserCall>, until: Tick, teller: &mut Teller) {
    let queue = Arc::new(Queue {
        state: Mutex::new(State {
            calls: calls.into(),
            since: None,
            generation: 0,
            alive: false,
        }),
        changed: Condvar::new(),
    });
    while let Some(generation) = queue.oversee(core, until, teller) {
        let (id, working) = (core.id, Arc::clone(&queue));
        let work = move |most| working.work(id, generation, most);
        if aside::start("winddown-hand-back", {
            let work = work.clone();
            move || work(usize::MAX)
        })
        .is_err()
        {
            core.away(|| work(1));
        }
    }
    // What was never called is dropped by nobody: its items are undecided, and their payloads may
    // be in use.
    let left = std::mem::take(&mut queue.state.lock().calls);
    std::mem::forget(left);
    // The owner too: one that only waits for its workers comes back a moment after the last of
    // them.
    core.work.drain(
        until,
        || core.signals.owner.is_here() && core.work.has_no_items(),
        || teller.look(core),
    );
}

impl Queue {
    /// Waits until a thread is needed, and says for which generation. `None`: all calls have
    /// returned, or the time is over.
    fn oversee(&self, core: &Core, until: Tick, teller: &mut Teller) -> Option<u64> {
        let mut state = self.state.lock();
        loop {
            let now = core.node.now();
            if now >= until || (state.calls.is_empty() && state.since.is_none()) {
                return None;
            }
            let part = (until.since(now) / PART).max(Duration::from_millis(5));
            let late = state
                .since
                .is_some_and(|since| Tick::now().since(since) >= part);
            if late && !state.calls.is_empty() {
                state.generation += 1;
                state.since = None;
                state.alive = false;
            }
            if !state.alive && !state.calls.is_empty() {
                state.alive = true;
                return Some(state.generation);
            }
            self.changed
                .wait_for(&mut state, until.since(now).min(part).min(SLICE));
            drop(state);
            teller.look(core);
            state = self.state.lock();
        }
    }

    fn work(&self, id: u64, generation: u64, most: usize) {
        let _inside = inside::enter(id);
        for _ in 0..most {
            let call = {
                let mut state = self.state.lock();
                if state.generation != generation {
                    return;
                }
                state.since = None;
                let Some(call) = state.calls.pop_front() else {
                    break;
                };
                state.since = Some(Tick::now());
                call
            };
            contained(call);
        }
        let mut state = self.state.lock();
        if state.generation == generation {
            state.since = None;
            state.alive = false;
            self.changed.notify_all();
        }
    }
}
