//! Tells what happens: subscribers, and `tracing`, that from a thread of its own.
//!
//! A `tracing` subscriber is user code: it may write to a pipe that is full and never come back. So
//! nobody who is needed for the ending speaks to it; it is told by a thread that takes events from
//! the bus like anybody else.

use std::time::Duration;

use crossbeam_channel::Receiver;
use tracing::{debug, error, info, trace, warn};

use crate::clock::Tick;
use crate::event::Event;
use crate::inside;
use crate::phase::Phase;
use crate::reason::SignalReceived;
use crate::report::{HookOutcome, HookReport, Outcome, ShutdownReport};
use crate::shutdown::{Aside, Core};
use crate::token::Life;

/// While something is late, it is said this often; and what takes less is not late.
const EVERY: Duration = Duration::from_secs(1);

/// Names in a line about what is late.
const NAMED: usize = 8;

/// See the module. Without a subscriber, and where no thread can be had, it is silent and costs
/// nothing.
pub(crate) struct Teller {
    tracing: Option<Aside>,
    last_late: Duration,
    /// Signals that have been told, or need not be.
    signals: usize,
    escalated: bool,
}

impl Teller {
    /// Without a thread, until there is something to tell.
    pub(crate) fn silent() -> Self {
        Self {
            tracing: None,
            last_late: Duration::ZERO,
            signals: 0,
            escalated: false,
        }
    }

    fn start(&mut self, core: &Core) {
        if self.tracing.is_some() || !tracing::dispatcher::has_been_set() {
            return;
        }
        let (id, events) = (core.id, core.bus.subscribe_to_all());
        let tell = move || {
            let _inside = inside::enter(id);
            tell(&events);
        };
        self.tracing = Aside::start("winddown-tracing", tell).ok();
    }

    /// A signal has announced the stop.
    pub(crate) fn lingering(&mut self, core: &Core, signal: SignalReceived) {
        self.start(core);
        let linger = core.settings.signals.linger;
        let event = Event::Lingering { signal, linger };
        core.systemd.lingering(core, &event);
        core.bus.emit(|| event);
        Self::phase(core, Phase::Lingering);
    }

    /// The program stops.
    pub(crate) fn stopping(&mut self, core: &Core) {
        self.start(core);
        core.systemd.stopping(core);
        // After a linger the clock has been running since the signal, and nobody is late for that.
        self.last_late = core.node.since_stop();
        let reason = core.node.known_reason();
        core.bus.emit(|| Event::Stopping(reason));
    }

    pub(crate) fn phase(core: &Core, phase: Phase) {
        core.bus.emit(|| Event::PhaseChanged(phase));
    }

    /// Looks around: signals that changed nothing, and, once a second, who is late.
    pub(crate) fn look(&mut self, core: &Core) {
        core.systemd.look(core);
        if !core.bus.is_used() {
            return;
        }
        self.look_for_signals(core);
        let since = core.node.since_stop();
        if since.saturating_sub(self.last_late) >= EVERY {
            let mut late = core.snapshot().waited_for();
            if late.phase == Phase::Cleaning {
                late.holders.retain(|hook| hook.age >= Some(EVERY));
            }
            if !late.holders.is_empty() {
                self.last_late = since;
                core.bus.emit(|| Event::Waiting(late));
            }
        }
    }

    fn look_for_signals(&mut self, core: &Core) {
        let Some(ending) = core.node.ending() else {
            return;
        };
        let word = core.node.word();
        let (mut signals, seen) = ending.deliveries.after(self.signals, word);
        self.signals = seen;
        if word.life() == Life::Forced && !self.escalated {
            self.escalated = true;
            let by = signals.pop().map(|received| received.signal);
            core.bus.emit(|| Event::Escalating { by });
        }
        for signal in signals {
            core.bus.emit(|| Event::SignalIgnored(signal));
        }
    }

    /// Waits until all has been told, but no longer than `until`.
    pub(crate) fn finish(self, until: Tick) {
        if let Some(tracing) = self.tracing {
            tracing.wait(until.since(Tick::now()));
        }
    }
}

fn tell(events: &Receiver<Event>) {
    let span = tracing::info_span!(target: "winddown", "shutdown");
    let _span = span.enter();
    for event in events {
        match event {
            Event::Lingering { signal, linger } => {
                info!(target: "winddown", reason = %signal, ?linger, "lingering");
            }
            Event::Stopping(reason) => info!(target: "winddown", %reason, "stopping"),
            Event::PhaseChanged(phase) => debug!(target: "winddown", %phase, "phase"),
            Event::StageStopping { stage } => debug!(target: "winddown", %stage, "stage stopping"),
            Event::StageEnded { stage, empty: true } => {
                debug!(target: "winddown", %stage, "stage empty");
            }
            Event::StageEnded { stage, .. } => {
                warn!(target: "winddown", %stage, "stage out of its share of the time");
            }
            Event::Waiting(late) => {
                let left = late.time_left.unwrap_or_default();
                warn!(target: "winddown", ?left, "waiting for {}", late.line(NAMED));
            }
            Event::HookStarted { name, .. } => {
                trace!(target: "winddown", hook = &*name, "hook called");
            }
            Event::HookEnded(hook) => tell_hook(&hook),
            Event::HandedBack {
                name,
                why,
                error: None,
            } => {
                debug!(target: "winddown", items = &*name, %why, "item handed back");
            }
            Event::HandedBack {
                name,
                why,
                error: Some(error),
            } => {
                warn!(target: "winddown", items = &*name, %why, error, "hand-back failed");
            }
            Event::SignalIgnored(signal) => debug!(target: "winddown", %signal, "signal ignored"),
            Event::Escalating { .. } => warn!(target: "winddown", "{event}"),
            Event::Reported(report) => tell_report(&report),
            // This subscription takes them all.
            Event::Missed { .. } => {}
        }
    }
}

fn tell_hook(hook: &HookReport) {
    let (name, took) = (hook.name(), hook.took());
    match hook.outcome() {
        HookOutcome::Completed => debug!(target: "winddown", hook = name, ?took, "hook completed"),
        outcome => {
            let location = hook.location();
            warn!(target: "winddown", hook = name, %outcome, ?took, %location, "hook not completed");
        }
    }
}

fn tell_report(report: &ShutdownReport) {
    let (outcome, took) = (report.outcome(), report.took());
    if outcome == Outcome::Clean {
        info!(target: "winddown", %outcome, ?took, "shutdown over");
    } else {
        let left: Vec<String> = report.abandoned().map(|left| left.to_string()).collect();
        let abandoned = left.join(", ");
        error!(target: "winddown", %outcome, ?took, %abandoned, "shutdown over");
    }
}
