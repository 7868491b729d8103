//! What comes after the last hook: steps of the crate's own features, which must outlive everything
//! that the program does.
//!
//! 1. They have a slice of the time that no hook may touch; the whole is not longer for them (P15).
//! 2. Each runs once, on a thread that can be left behind, and is reported like a hook (P14).
//! 3. Whoever comes too late for the list is told so, and does what it has to do itself (P19).

use std::panic::Location;
use std::sync::Arc;
use std::time::Duration;

use crate::clock::Tick;
use crate::hook::{Body, Ended, caught};
use crate::inside;
use crate::report::{Holder, HookOutcome, HookReport};
use crate::shutdown::{Aside, Core};
use crate::sync::Mutex;
use crate::text::Name;

/// See the module.
pub(crate) struct LastStep {
    pub(crate) name: Name,
    pub(crate) location: &'static Location<'static>,
    /// Told whether the time was over before the hooks were.
    pub(crate) step: Box<dyn FnOnce(bool) -> Result<(), String> + Send>,
}

/// Those that have been registered; `None` once they have been taken.
pub(super) struct LastSteps(Mutex<Option<Vec<LastStep>>>);

impl LastSteps {
    pub(super) fn new() -> Self {
        Self(Mutex::new(Some(Vec::new())))
    }

    fn take(&self) -> Vec<LastStep> {
        self.0.lock().take().unwrap_or_default()
    }
}

impl Core {
    /// Registers what comes after the last hook. Comes back where that time has passed.
    #[cfg_attr(not(feature = "ledger"), expect(dead_code, reason = "for features"))]
    pub(crate) fn last_step(&self, step: LastStep) -> Result<(), LastStep> {
        match self.last_steps.0.lock().as_mut() {
            Some(steps) => {
                steps.push(step);
                Ok(())
            }
            None => Err(step),
        }
    }

    /// What the hooks may not touch.
    pub(super) fn last_slice(&self) -> Duration {
        let none = self.last_steps.0.lock().as_ref().is_none_or(Vec::is_empty);
        if none {
            Duration::ZERO
        } else {
            self.settings.last_steps_slice()
        }
    }

    /// Does them, all at once, and waits for them until the grace period is over.
    pub(super) fn do_last_steps(&self, timed_out: bool) {
        let (stop, deadline) = self.span();
        let begun = |LastStep {
                         name,
                         location,
                         step,
                     }| {
            let outcome = Arc::new(Mutex::new(None));
            let (id, slot, started) = (self.id, Arc::clone(&outcome), self.node.now());
            let body: Body = Box::new(move |_| Some(step(timed_out).into()));
            let aside = Aside::start("winddown-last", move || {
                let _inside = inside::enter(id);
                let outcome = caught(body, None);
                *slot.lock() = outcome;
            });
            (name, location, started, outcome, aside)
        };
        let begun: Vec<_> = self.last_steps.take().into_iter().map(begun).collect();
        for (name, location, started, outcome, aside) in begun {
            let outcome = match aside {
                Ok(aside) => {
                    aside.wait(deadline.since(self.node.now()));
                    let ended: Option<Ended> = outcome.lock().take();
                    ended.map_or(HookOutcome::TimedOut, |ended| ended.outcome)
                }
                // Its drop code is nobody's business now; its memory goes with the process.
                Err(unused) => {
                    std::mem::forget(unused);
                    HookOutcome::Skipped
                }
            };
            self.report_last_step(name, location, (stop, started), outcome);
        }
    }

    /// There is no time for them, and no runner.
    pub(super) fn skip_last_steps(&self) {
        let (stop, now) = (self.span().0, self.node.now());
        for LastStep {
            name,
            location,
            step,
        } in self.last_steps.take()
        {
            // What it holds tells its owner that it never ran.
            drop(step);
            self.report_last_step(name, location, (stop, now), HookOutcome::Skipped);
        }
    }

    fn report_last_step(
        &self,
        name: Name,
        location: &'static Location<'static>,
        (stop, started): (Tick, Tick),
        outcome: HookOutcome,
    ) {
        self.hooks.report(HookReport {
            name,
            holder: Holder::LastStep,
            outcome,
            why: None,
            started: started.since(stop).into(),
            took: self.node.now().since(started).into(),
            location,
        });
    }
}
