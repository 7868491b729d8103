//! The cleaning: the runner oversees it, a worker runs it. Another view on the stack; its
//! invariants are the stack's.

use std::time::Duration;

use crate::clock::Tick;
use crate::hook::Body;
use crate::hook::budget::allow;
use crate::hook::run::Ended;
use crate::hook::stack::{Entry, Hooks, Mode, Running, State};
use crate::report::{HookOutcome, HookReport};
use crate::slab::Key;
use crate::sync::MutexGuard;
use crate::token::{Life, SLICE};

/// How what the worker ran has ended; nothing where somebody else had run it.
pub(super) struct Ran(pub(super) Option<Ended>);

/// What a worker does next.
pub(super) enum Next {
    Run(Body, Duration),
    /// Nothing to do, or somebody else does it.
    Leave,
}

/// What the runner does next.
pub(crate) enum Turn {
    /// There are hooks, and nobody runs them: start a worker of this generation.
    Start(u64),
    /// It is over: because everything has been run, or because the time is. What is left over is to
    /// be dropped.
    Over { in_time: bool, left: Vec<Entry> },
}

impl Hooks {
    /// The cleaning begins.
    pub(crate) fn begin(&self, deadline: Tick) {
        let mut state = self.state.lock();
        if state.mode == Mode::Open {
            state.mode = Mode::Cleaning;
            state.deadline = deadline;
            let now = self.node.now();
            let noted: Vec<Key> = state.elsewhere.iter().map(|(key, _)| key).collect();
            for key in noted {
                let Some(running) = state.elsewhere.get_mut(key) else {
                    continue;
                };
                let (own, reserve) = (running.deadline, running.reserve);
                let time = state.allow(now, own.since(now), reserve);
                if let Some(running) = state.elsewhere.get_mut(key) {
                    running.deadline = own.min(now + time);
                }
            }
            state.expect_all();
        }
    }

    /// The runner's part: waits until there is something for it to do, and leaves behind what
    /// overruns its time.
    ///
    /// `look` is called after every wait, with no lock held.
    pub(crate) fn oversee(&self, mut look: impl FnMut()) -> Turn {
        let mut state = self.state.lock();
        loop {
            let now = self.node.now();
            self.leave_behind(&mut state, now);
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
            let look_again = until.since(now).min(SLICE);
            state.next_look = now + look_again;
            self.changed.wait_for(&mut state, look_again);
            state.next_look = Tick::NEVER;
            drop(state);
            look();
            state = self.state.lock();
        }
    }

    /// One has ended: reported, and told.
    fn end(&self, state: &mut State, running: Running, now: Tick, ended: impl Into<Ended>) {
        let ended = ended.into();
        let timed_out = ended.outcome == HookOutcome::TimedOut;
        // What notices by itself that the time is over does so a moment before.
        state.out_of_time |= timed_out && running.deadline >= state.deadline;
        let report = running.report(self.node.stop_tick(), now, ended);
        self.tell_ended(&report);
        state.keep(report);
    }

    /// Everything whose own time is over is left behind, and reported so.
    fn leave_behind(&self, state: &mut MutexGuard<'_, State>, now: Tick) {
        if let Some(running) = state.running.take_if(|running| now >= running.deadline) {
            state.generation += 1;
            state.worker_alive = false;
            self.end(state, running, now, HookOutcome::TimedOut);
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
                self.end(state, running, now, HookOutcome::TimedOut);
            }
        }
    }

    /// The end: what is running is left behind, what was not called is skipped, and what comes now
    /// runs where it is registered.
    fn close(&self, state: &mut MutexGuard<'_, State>, now: Tick) -> Vec<Entry> {
        let stop = self.node.stop_tick();
        // Whoever closes it: the runner may come only then, and find nothing left.
        state.out_of_time |=
            state.running.is_some() || !state.elsewhere.is_empty() || !state.stack.is_empty();
        state.mode = Mode::Ended;
        state.generation += 1;
        state.worker_alive = false;
        let running = state
            .running
            .take()
            .into_iter()
            .chain(state.elsewhere.take());
        for running in running.collect::<Vec<_>>() {
            self.end(state, running, now, HookOutcome::TimedOut);
        }
        let left: Vec<_> = state.stack.take().collect();
        state.reserves = 0;
        for entry in left.iter().rev() {
            let report = HookReport {
                name: entry.name.clone(),
                holder: entry.holder,
                outcome: HookOutcome::Skipped,
                why: None,
                started: stop.map_or(Duration::ZERO, |stop| now.since(stop)).into(),
                took: Duration::ZERO.into(),
                location: entry.location,
            };
            self.tell_ended(&report);
            state.keep(report);
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

    /// The worker's part: gives back what it has run, and leaves.
    pub(super) fn give_back(&self, generation: u64, done: Ran) {
        let mut state = self.state.lock();
        if state.generation == generation {
            let running = state.running.take();
            if let (Some(running), Ran(Some(ended))) = (running, done) {
                self.end(&mut state, running, self.node.now(), ended);
            }
            state.worker_alive = false;
            self.changed.notify_all();
        }
    }

    /// The worker's part: gives back what it has run, and takes the next.
    pub(super) fn next(&self, generation: u64, done: Option<Ran>) -> Next {
        let mut state = self.state.lock();
        if state.generation != generation {
            return Next::Leave;
        }
        let mut now = self.node.now();
        if let (Some(running), Some(done)) = (state.running.take(), done) {
            if let Ran(Some(ended)) = done {
                self.end(&mut state, running, now, ended);
            }
            if state.waiters > 0 {
                self.changed.notify_all();
            }
        }
        loop {
            // P13: the process is being ended, and the emergency hooks have it to themselves. Nobody
            // takes the worker's place.
            if state.generation != generation || self.node.word().life() == Life::Forced {
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
                .and_then(|entry| allow(left, entry.timeout.get(), entry.reserve.get(), reserves))
            else {
                break;
            };
            let Some((key, entry)) = state.stack.pop() else {
                break;
            };
            state.reserves -= entry.reserve.get().as_nanos();
            let (running, body) = Running::new(key, entry, now, allowed);
            self.tell_started(&running);
            state.running = Some(running);
            // The runner looks by itself often enough for most; for a shorter time it has to be
            // told.
            if now + allowed < state.next_look {
                self.changed.notify_all();
            }
            return Next::Run(body, allowed);
        }
        state.worker_alive = false;
        self.changed.notify_all();
        Next::Leave
    }
}
