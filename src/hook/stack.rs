//! The one stack of hooks and guards, and everything that is decided under its lock.
//!
//! 1. An entry is run by whoever takes it off the stack, and taking it off is one step under the lock: at most once (P13).
//! 2. What is taken off to be run on a thread of the user's (a guard that is dropped, `run_now`) is noted in `elsewhere`, so
//!    that the cleaning does not end before it, nor run anything older before it.
//! 3. The worker of the current `generation` runs entries one after the other; a worker that is left behind finds the generation
//!    moved on when it comes back, and its result is nobody's.
//! 4. No user code runs under the lock (P17).

use std::panic::Location;
use std::sync::Arc;
use std::time::Duration;

use crate::clock::Tick;
use crate::hook::budget::allow;
use crate::hook::{Body, Name, caught};
use crate::inside;
use crate::report::{HookOutcome, HookReport};
use crate::slab::{Key, Slab};
use crate::sync::{Condvar, Mutex, MutexGuard};
use crate::token::{Node, SLICE};

/// Failures from before the stop that are kept for the report; of a program that fails for days the first are enough.
const KEPT: usize = 64;

/// A hook or guard on the stack.
pub(crate) struct Entry {
    pub(crate) name: Name,
    pub(crate) location: &'static Location<'static>,
    pub(crate) timeout: Duration,
    pub(crate) reserve: Duration,
    pub(crate) body: Body,
}

/// One that is being run.
struct Running {
    key: Key,
    name: Name,
    location: &'static Location<'static>,
    started: Tick,
    deadline: Tick,
}

impl Running {
    fn report(self, stop: Option<Tick>, now: Tick, outcome: HookOutcome) -> HookReport {
        HookReport {
            name: self.name,
            outcome,
            started: stop.map_or(Duration::ZERO, |stop| self.started.since(stop)),
            took: now.since(self.started),
            location: self.location,
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Mode {
    /// Entries come and go.
    Open,
    /// They are run, newest first; new ones run next.
    Cleaning,
    /// The report has been made: a new one runs at once, where it is registered.
    Ended,
}

struct State {
    mode: Mode,
    stack: Slab<Entry>,
    /// Nanoseconds of all reserves on the stack.
    reserves: u128,
    /// Invariant 3.
    generation: u64,
    worker_alive: bool,
    running: Option<Running>,
    /// Invariant 2.
    elsewhere: Slab<Running>,
    /// Guards that wait for what the worker runs: only then is every end of a hook worth a wake-up.
    waiters: usize,
    /// When all of it must be over.
    deadline: Tick,
    /// Something was cut short by that, and not by a time of its own.
    out_of_time: bool,
    done: Vec<HookReport>,
}

/// See the module.
pub(crate) struct Hooks {
    pub(super) id: u64,
    node: Arc<Node>,
    state: Mutex<State>,
    changed: Condvar,
}

/// What became of a registration.
pub(crate) enum Registered {
    OnStack(Key),
    /// P19: too late for the stack; it is the caller's to run.
    RunNow(Entry),
}

/// How what the worker ran has ended; nothing where somebody else had run it.
pub(super) struct Done(pub(super) Option<HookOutcome>);

/// What a worker does next.
pub(super) enum Next {
    Run(Body),
    /// Nothing to do, or somebody else does it.
    Leave,
}

/// What the runner does next.
pub(crate) enum Turn {
    /// There are hooks, and nobody runs them: start a worker of this generation.
    Start(u64),
    /// It is over: because everything has been run, or because the time is. What is left over is to be dropped.
    Over { in_time: bool, left: Vec<Entry> },
}

impl Hooks {
    pub(crate) fn new(id: u64, node: Arc<Node>) -> Self {
        Self {
            id,
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
                out_of_time: false,
                done: Vec::new(),
            }),
            changed: Condvar::new(),
        }
    }

    /// Never refused (P19).
    pub(crate) fn register(&self, entry: Entry) -> Registered {
        let mut state = self.state.lock();
        if state.mode == Mode::Ended {
            return Registered::RunNow(entry);
        }
        state.reserves += entry.reserve.as_nanos();
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
        state.reserves -= entry.reserve.as_nanos();
        if state.mode == Mode::Cleaning {
            self.changed.notify_all();
        }
        Some(entry)
    }

    /// Runs an entry on this thread, if nobody has taken it yet.
    pub(crate) fn run_here(&self, key: Key) -> Option<HookOutcome> {
        let (body, noted) = {
            let mut state = self.state.lock();
            let entry = state.stack.remove(key)?;
            state.reserves -= entry.reserve.as_nanos();
            let started = self.node.now();
            let noted = state.elsewhere.push(Running {
                key,
                name: entry.name,
                location: entry.location,
                started,
                deadline: started + entry.timeout,
            });
            (entry.body, noted)
        };
        let outcome = {
            let _inside = inside::enter(self.id);
            caught(body)
        };
        let mut state = self.state.lock();
        // Gone: the cleaning has waited for it long enough and has said so.
        if let (Some(running), Some(outcome)) = (state.elsewhere.remove(noted), &outcome) {
            let stop = self.node.stop_tick();
            // Before the stop there is no report to be in; a failure is kept for it, so that it is not lost.
            if stop.is_some() || (!outcome.is_completed() && state.done.len() < KEPT) {
                let report = running.report(stop, self.node.now(), outcome.clone());
                state.done.push(report);
            }
        }
        if state.mode == Mode::Cleaning {
            self.changed.notify_all();
        }
        outcome
    }

    /// Runs an entry that came too late for the stack.
    pub(crate) fn run_late(&self, entry: Entry) -> Option<HookOutcome> {
        let _inside = inside::enter(self.id);
        caught(entry.body)
    }

    /// Waits until the worker has done with the entry `key`, or its time is over. Inside user code of this coordinator it
    /// returns at once: it may be the very hook that is waited for (P17).
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

    /// The cleaning begins.
    pub(crate) fn begin(&self, deadline: Tick) {
        let mut state = self.state.lock();
        if state.mode == Mode::Open {
            state.mode = Mode::Cleaning;
            state.deadline = deadline;
            let expected = state.stack.len();
            state.done.reserve(expected);
        }
    }

    /// The runner's part: waits until there is something for it to do, and leaves behind what overruns its time.
    ///
    /// `look` is called after every wait, with the reports so far, and the name and age of what is being run.
    pub(crate) fn oversee(
        &self,
        mut look: impl FnMut(&[HookReport], Option<(&str, Duration)>),
    ) -> Turn {
        let mut state = self.state.lock();
        loop {
            let now = self.node.now();
            self.leave_behind(&mut state, now);
            let running = state
                .running
                .as_ref()
                .map(|running| (&*running.name, now.since(running.started)));
            look(&state.done, running);
            let idle = state.running.is_none() && state.elsewhere.is_empty();
            let all_run = idle && state.stack.is_empty() && !state.worker_alive;
            if all_run || now >= state.deadline {
                let left = self.close(&mut state, now);
                return Turn::Over {
                    in_time: all_run && !state.out_of_time,
                    left,
                };
            }
            if !state.worker_alive && !state.stack.is_empty() {
                state.worker_alive = true;
                return Turn::Start(state.generation);
            }
            let until = state.elsewhere.iter().map(|(_, running)| running.deadline);
            let until = until
                .chain(state.running.as_ref().map(|running| running.deadline))
                .min();
            let until = until.map_or(state.deadline, |until| until.min(state.deadline));
            self.changed
                .wait_for(&mut state, until.since(now).min(SLICE));
        }
    }

    /// Everything whose own time is over is left behind, and reported so.
    fn leave_behind(&self, state: &mut MutexGuard<'_, State>, now: Tick) {
        let stop = self.node.stop_tick();
        if let Some(running) = state.running.take_if(|running| now >= running.deadline) {
            state.generation += 1;
            state.worker_alive = false;
            state
                .done
                .push(running.report(stop, now, HookOutcome::TimedOut));
            state.out_of_time |= now >= state.deadline;
            self.changed.notify_all();
        }
        let late: Vec<Key> = state
            .elsewhere
            .iter()
            .filter(|(_, running)| now >= running.deadline)
            .map(|(key, _)| key)
            .collect();
        for key in late {
            if let Some(running) = state.elsewhere.remove(key) {
                state.out_of_time |= now >= state.deadline;
                state
                    .done
                    .push(running.report(stop, now, HookOutcome::TimedOut));
            }
        }
    }

    /// The end: what is running is left behind, what was not called is skipped, and what comes now runs where it is registered.
    fn close(&self, state: &mut MutexGuard<'_, State>, now: Tick) -> Vec<Entry> {
        let stop = self.node.stop_tick();
        state.mode = Mode::Ended;
        state.generation += 1;
        state.worker_alive = false;
        let running = state
            .running
            .take()
            .into_iter()
            .chain(state.elsewhere.take());
        for running in running.collect::<Vec<_>>() {
            state
                .done
                .push(running.report(stop, now, HookOutcome::TimedOut));
        }
        let left = state.stack.take();
        state.reserves = 0;
        for entry in left.iter().rev() {
            state.done.push(HookReport {
                name: entry.name.clone(),
                outcome: HookOutcome::Skipped,
                started: stop.map_or(Duration::ZERO, |stop| now.since(stop)),
                took: Duration::ZERO,
                location: entry.location,
            });
        }
        self.changed.notify_all();
        left
    }

    /// Ends the cleaning wherever it is; for whoever cannot wait for the runner any longer.
    pub(crate) fn close_now(&self) -> Vec<Entry> {
        let mut state = self.state.lock();
        if state.mode == Mode::Ended {
            return Vec::new();
        }
        let now = self.node.now();
        self.close(&mut state, now)
    }

    /// What has happened so far, in the order in which it was called.
    pub(crate) fn reports(&self) -> Vec<HookReport> {
        let mut reports = self.state.lock().done.clone();
        reports.sort_by_key(HookReport::started);
        reports
    }

    /// The worker's part: gives back what it has run, and leaves.
    pub(super) fn give_back(&self, generation: u64, done: Done) {
        let mut state = self.state.lock();
        if state.generation == generation {
            let running = state.running.take();
            if let (Some(running), Done(Some(outcome))) = (running, done) {
                let report = running.report(self.node.stop_tick(), self.node.now(), outcome);
                state.done.push(report);
            }
            state.worker_alive = false;
            self.changed.notify_all();
        }
    }

    /// The worker's part: gives back what it has run, and takes the next.
    pub(super) fn next(&self, generation: u64, done: Option<Done>) -> Next {
        let mut state = self.state.lock();
        if state.generation != generation {
            return Next::Leave;
        }
        let mut now = self.node.now();
        let stop = self.node.stop_tick();
        if let (Some(running), Some(done)) = (state.running.take(), done) {
            if let Done(Some(outcome)) = done {
                state.done.push(running.report(stop, now, outcome));
            }
            if state.waiters > 0 {
                self.changed.notify_all();
            }
        }
        loop {
            if state.generation != generation {
                return Next::Leave;
            }
            let (Mode::Cleaning, Some(top)) = (state.mode, state.stack.newest()) else {
                break;
            };
            // Invariant 2: what is newer comes first, also where a thread of the user's runs it.
            let newer = state
                .elsewhere
                .iter()
                .filter(|(_, running)| running.key.serial() > top.serial());
            if let Some(until) = newer
                .map(|(_, running)| running.deadline)
                .max()
                .filter(|until| now < *until)
            {
                self.changed
                    .wait_for(&mut state, until.since(now).min(SLICE));
                now = self.node.now();
                continue;
            }
            let left = state.deadline.since(now);
            let reserves = state.reserves;
            let Some(allowed) = state
                .stack
                .peek()
                .and_then(|entry| allow(left, entry.timeout, entry.reserve, reserves))
            else {
                break;
            };
            let Some((key, entry)) = state.stack.pop() else {
                break;
            };
            state.reserves -= entry.reserve.as_nanos();
            state.running = Some(Running {
                key,
                name: entry.name,
                location: entry.location,
                started: now,
                deadline: now + allowed,
            });
            // The runner looks at the clock every slice; for less it has to be told.
            if allowed < SLICE {
                self.changed.notify_all();
            }
            return Next::Run(entry.body);
        }
        state.worker_alive = false;
        self.changed.notify_all();
        Next::Leave
    }
}
