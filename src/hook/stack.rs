//! The one stack of hooks and guards, and everything that is decided under its lock.
//!
//! 1. An entry is run by whoever takes it off the stack, and taking it off is one step under the
//!    lock: at most once (P13).
//! 2. What is taken off to be run on a thread of the user's (a guard that is dropped, `run_now`) is
//!    noted in `elsewhere`, so that the cleaning does not end before it, nor run anything older
//!    before it.
//! 3. The worker of the current `generation` runs entries one after the other; a worker that is
//!    left behind finds the generation moved on when it comes back, and its result is nobody's.
//! 4. No user code runs under the lock (P17).

use std::panic::Location;
use std::sync::Arc;
use std::time::Duration;

use crate::bus::Bus;
use crate::clock::{Span, Tick};
use crate::event::Event;
use crate::hook::budget::allow;
use crate::hook::{Body, Ended, caught};
use crate::inside;
use crate::process::Process;
use crate::report::{Holder, HookOutcome, HookReport, HookReports};
use crate::said::{self, Thread};
use crate::slab::{Key, Slab};
use crate::snapshot::StillHere;
use crate::sync::{Condvar, Mutex};
use crate::text::Name;
use crate::token::{Node, SLICE};

/// Failures from before the stop that are kept for the report; of a program that fails for days the
/// first are enough.
const KEPT: usize = 64;

/// Guards dropped after the stop that are listed in the report, of those that completed and of
/// those that did not: a program may go on making them for as long as it drains.
const LISTED: usize = 1000;

/// A hook or guard on the stack.
pub(crate) struct Entry {
    pub(crate) name: Name,
    /// A hook or a guard.
    pub(crate) holder: Holder,
    pub(crate) location: &'static Location<'static>,
    pub(crate) timeout: Span,
    pub(crate) reserve: Span,
    pub(crate) body: Body,
}

/// One that is being run.
pub(super) struct Running {
    pub(super) key: Key,
    pub(super) name: Name,
    pub(super) holder: Holder,
    pub(super) location: &'static Location<'static>,
    pub(super) reserve: Duration,
    pub(super) started: Tick,
    pub(super) deadline: Tick,
    pub(super) thread: Thread,
}

impl Running {
    /// By the thread that asks.
    pub(super) fn new(key: Key, entry: Entry, started: Tick, time: Duration) -> (Self, Body) {
        let running = Self {
            key,
            name: entry.name,
            holder: entry.holder,
            location: entry.location,
            reserve: entry.reserve.get(),
            started,
            deadline: started + time,
            thread: said::this_thread(),
        };
        (running, entry.body)
    }

    pub(super) fn report(self, stop: Option<Tick>, now: Tick, ended: Ended) -> HookReport {
        HookReport {
            name: self.name,
            holder: self.holder,
            outcome: ended.outcome,
            why: ended.why,
            started: stop
                .map_or(Duration::ZERO, |stop| self.started.since(stop))
                .into(),
            took: now.since(self.started).into(),
            location: self.location,
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Mode {
    /// Entries come and go.
    Open,
    /// They are run, newest first; new ones run next.
    Cleaning,
    /// The report has been made: a new one runs at once, where it is registered.
    Ended,
}

/// What has been run.
#[derive(Clone, Default)]
struct Done {
    list: Vec<HookReport>,
    /// Not in the order in which they were called.
    unsorted: bool,
}

pub(super) struct State {
    pub(super) mode: Mode,
    pub(super) stack: Slab<Entry>,
    /// Nanoseconds of all reserves on the stack.
    pub(super) reserves: u128,
    /// Invariant 3.
    pub(super) generation: u64,
    pub(super) worker_alive: bool,
    pub(super) running: Option<Running>,
    /// Invariant 2.
    pub(super) elsewhere: Slab<Running>,
    /// Guards that wait for what the worker runs: only then is every end of a hook worth a wake-up.
    pub(super) waiters: usize,
    /// When all of it must be over.
    pub(super) deadline: Tick,
    /// When the runner looks again by itself.
    pub(super) next_look: Tick,
    /// Something was cut short by that, and not by a time of its own.
    pub(super) out_of_time: bool,
    done: Done,
    /// How many of the users' own threads are in `done`.
    pub(super) listed: usize,
    pub(super) listed_failed: usize,
    /// What `done` has no room for.
    pub(super) more: usize,
}

impl State {
    /// How long what has `timeout` and `reserve`, and is not on the stack, may run from `now` on
    /// (P16).
    pub(super) fn allow(&self, now: Tick, timeout: Duration, reserve: Duration) -> Duration {
        let left = self.deadline.since(now);
        let reserves = self.reserves + reserve.as_nanos();
        allow(left, timeout, reserve, reserves).unwrap_or_default()
    }

    pub(super) fn keep(&mut self, report: HookReport) {
        let last = self.done.list.last();
        self.done.unsorted |= last.is_some_and(|last| last.started > report.started);
        self.done.list.push(report);
    }

    /// Makes room for the reports of all that are on the stack.
    pub(super) fn expect_all(&mut self) {
        self.done.list.reserve(self.stack.len());
    }

    /// Keeps the report of what a thread of the user's has run, if it is worth keeping.
    fn list(&mut self, report: HookReport, stopped: bool) {
        let failed = !report.outcome.is_completed();
        if !stopped {
            // Before the stop there is no report to be in; a failure is kept for it, so that it is
            // not lost.
            if failed && self.done.list.len() < KEPT {
                self.keep(report);
            } else if failed {
                self.more += 1;
            }
            return;
        }
        let listed = if failed {
            &mut self.listed_failed
        } else {
            &mut self.listed
        };
        if *listed < LISTED {
            *listed += 1;
            self.keep(report);
        } else {
            self.more += 1;
        }
    }
}

/// See the module.
pub(crate) struct Hooks {
    pub(super) id: u64,
    process: Process,
    pub(super) node: Arc<Node>,
    pub(super) state: Mutex<State>,
    pub(super) changed: Condvar,
    bus: Arc<Bus>,
}

/// What became of a registration.
pub(crate) enum Registered {
    OnStack(Key),
    /// P19: too late for the stack; it is the caller's to run.
    RunNow(Entry),
}

impl Hooks {
    pub(crate) fn new(id: u64, node: Arc<Node>, bus: Arc<Bus>) -> Self {
        Self {
            id,
            process: Process::this(),
            node,
            state: Mutex::new(State {
                mode: Mode::Open,
                stack: Slab::new(),
                reserves: 0,
                generation: 0,
                worker_alive: false,
                running: None,
                elsewhere: Slab::new(),
                waiters: 0,
                deadline: Tick::NEVER,
                next_look: Tick::NEVER,
                out_of_time: false,
                done: Done::default(),
                listed: 0,
                listed_failed: 0,
                more: 0,
            }),
            changed: Condvar::new(),
            bus,
        }
    }

    pub(super) fn tell_started(&self, running: &Running) {
        self.bus.emit(|| Event::HookStarted {
            name: running.name.clone(),
            holder: running.holder,
            location: running.location,
        });
    }

    pub(super) fn tell_ended(&self, report: &HookReport) {
        self.bus.emit(|| Event::HookEnded(report.clone()));
    }

    /// Something that was called after the hooks has ended.
    pub(crate) fn report(&self, report: HookReport) {
        self.tell_ended(&report);
        self.state.lock().keep(report);
    }

    /// This is the process that they are of, not a forked child.
    pub(super) fn are_ours(&self) -> bool {
        self.process.is_this()
    }

    /// Never refused (P19).
    pub(crate) fn register(&self, entry: Entry) -> Registered {
        let mut state = self.state.lock();
        if state.mode == Mode::Ended {
            return Registered::RunNow(entry);
        }
        state.reserves += entry.reserve.get().as_nanos();
        let key = state.stack.push(entry);
        if state.mode == Mode::Cleaning {
            self.changed.notify_all();
        }
        Registered::OnStack(key)
    }

    /// Takes an entry off without running it.
    pub(crate) fn remove(&self, key: Key) -> Option<Entry> {
        let mut state = self.state.lock();
        let entry = state.stack.remove(key)?;
        state.reserves -= entry.reserve.get().as_nanos();
        if state.mode == Mode::Cleaning {
            self.changed.notify_all();
        }
        Some(entry)
    }

    /// Runs an entry on this thread, if nobody has taken it yet.
    pub(crate) fn run_here(&self, key: Key) -> Option<HookOutcome> {
        let (body, time, noted) = {
            let mut state = self.state.lock();
            let entry = state.stack.remove(key)?;
            state.reserves -= entry.reserve.get().as_nanos();
            let started = self.node.now();
            // What is cut short only by the end of the process must still leave the older ones
            // their reserves (P16).
            let time = match state.mode {
                Mode::Open => entry.timeout.get(),
                _ => state.allow(started, entry.timeout.get(), entry.reserve.get()),
            };
            let (running, body) = Running::new(key, entry, started, time);
            if state.mode != Mode::Open {
                self.tell_started(&running);
            }
            (body, time, state.elsewhere.push(running))
        };
        let ended = {
            let _inside = inside::enter(self.id);
            caught(body, Some(time))
        };
        let outcome = ended.as_ref().map(|ended| ended.outcome.clone());
        let mut state = self.state.lock();
        // Gone: the cleaning has waited for it long enough and has said so.
        if let (Some(running), Some(ended)) = (state.elsewhere.remove(noted), ended) {
            let stop = self.node.stop_tick();
            let report = running.report(stop, self.node.now(), ended);
            if state.mode != Mode::Open {
                self.tell_ended(&report);
            }
            state.list(report, stop.is_some());
        }
        if state.mode == Mode::Cleaning {
            self.changed.notify_all();
        }
        outcome
    }

    /// Runs an entry that came too late for the stack.
    pub(crate) fn run_late(&self, entry: Entry) -> Option<HookOutcome> {
        let _inside = inside::enter(self.id);
        caught(entry.body, None).map(|ended| ended.outcome)
    }

    /// Waits until the worker has done with the entry `key`, or its time is over. Inside user code
    /// of this coordinator it returns at once: it may be the very hook that is waited for (P17).
    pub(crate) fn wait_for(&self, key: Key) {
        if inside::is_inside(self.id) {
            return;
        }
        let mut state = self.state.lock();
        while let Some(running) = state.running.as_ref().filter(|running| running.key == key) {
            let left = running.deadline.since(self.node.now());
            if left.is_zero() {
                return;
            }
            state.waiters += 1;
            self.changed.wait_for(&mut state, left.min(SLICE));
            state.waiters -= 1;
        }
    }

    /// What is being run, with its thread, and then the stack, the next one first: the first
    /// `most`, and how many there are.
    pub(crate) fn still_here(&self, most: usize) -> (Vec<(StillHere, Thread)>, usize) {
        let now = self.node.now();
        let state = self.state.lock();
        let elsewhere = state.elsewhere.iter().map(|(_, running)| running);
        let running = state.running.iter().chain(elsewhere).map(|running| {
            let row = StillHere {
                age: Some(now.since(running.started)),
                said: said::said_since(running.thread),
                ..StillHere::one(running.holder, running.name.clone(), running.location)
            };
            (row, running.thread)
        });
        let waiting = state.stack.iter_newest_first().map(|entry| {
            let row = StillHere::one(entry.holder, entry.name.clone(), entry.location);
            (row, Thread::NONE)
        });
        let rows = running.chain(waiting).take(most).collect();
        let all = state.elsewhere.len() + state.stack.len() + usize::from(state.running.is_some());
        (rows, all)
    }

    /// The hook that is being run in its turn.
    #[cfg(feature = "ledger")]
    pub(crate) fn running(&self) -> Option<Name> {
        let state = self.state.lock();
        state.running.as_ref().map(|running| running.name.clone())
    }

    /// What has happened so far; with `last` it is handed over.
    pub(crate) fn reports(&self, last: bool) -> HookReports {
        let mut state = self.state.lock();
        let done = if last {
            std::mem::take(&mut state.done)
        } else {
            state.done.clone()
        };
        let mut reports = HookReports {
            list: done.list,
            more: state.more,
        };
        drop(state);
        if done.unsorted {
            reports.list.sort_by_key(HookReport::started);
        }
        reports
    }
}
