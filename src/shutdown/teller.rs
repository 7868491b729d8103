//! Tells `tracing` what happens, from a thread of its own.
//!
//! A subscriber is user code: it may write to a pipe that is full and never come back. So nobody
//! who is needed for the ending speaks to it; they leave a message here and go on.

use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, bounded, unbounded};
use tracing::{debug, error, info, warn};

use crate::clock::Tick;
use crate::inside;
use crate::reason::{Phase, StopReason};
use crate::report::{HookOutcome, HookReport, Outcome, ShutdownReport};
use crate::shutdown::aside;

/// While something is late, it is said this often.
const EVERY: Duration = Duration::from_secs(1);

enum Message {
    Stopping(StopReason),
    Phase(Phase),
    Hook(HookReport),
    Stage(String, &'static str),
    StageIsLate(String),
    Late { what: String, left: Duration },
    Over(ShutdownReport),
}

/// See the module. Without a subscriber, and where no thread can be had, it is silent and costs
/// nothing.
pub(crate) struct Teller {
    line: Option<(Sender<Message>, Receiver<()>)>,
    /// How many hook reports have been told.
    told: usize,
    last_late: Duration,
}

impl Teller {
    pub(crate) fn start(id: u64, reason: &StopReason) -> Self {
        let line = tracing::dispatcher::has_been_set().then(|| {
            let (sender, messages) = unbounded();
            let (done, finished) = bounded(1);
            let tell = move || {
                let _inside = inside::enter(id);
                tell(&messages);
                let _ = done.send(());
            };
            aside::start("winddown-tracing", tell)
                .ok()
                .map(|()| (sender, finished))
        });
        let teller = Self {
            line: line.flatten(),
            told: 0,
            last_late: Duration::ZERO,
        };
        teller.say(|| Message::Stopping(reason.clone()));
        teller
    }

    fn say(&self, message: impl FnOnce() -> Message) {
        if let Some((sender, _)) = &self.line {
            let _ = sender.send(message());
        }
    }

    pub(crate) fn phase(&self, phase: Phase) {
        self.say(|| Message::Phase(phase));
    }

    pub(crate) fn stage(&self, name: &str, what: &'static str) {
        self.say(|| Message::Stage(name.to_owned(), what));
    }

    /// The next one is stopped without waiting for it.
    pub(crate) fn stage_is_late(&self, name: &str) {
        self.say(|| Message::StageIsLate(name.to_owned()));
    }

    /// The hooks' outcomes that have not been told yet.
    pub(crate) fn hooks(&mut self, reports: &[HookReport]) {
        if self.line.is_some() {
            for report in reports.iter().skip(self.told) {
                self.say(|| Message::Hook(report.clone()));
            }
            self.told = self.told.max(reports.len());
        }
    }

    /// What is late, `since` the stop: at most one line a second.
    pub(crate) fn late(
        &mut self,
        since: Duration,
        left: Duration,
        what: impl FnOnce() -> Option<String>,
    ) {
        if self.line.is_some() && since.saturating_sub(self.last_late) >= EVERY {
            if let Some(what) = what() {
                self.last_late = since;
                self.say(|| Message::Late { what, left });
            }
        }
    }

    /// The end; waits until it has been told, but no longer than `until`.
    pub(crate) fn finish(self, report: &ShutdownReport, until: Tick) {
        self.say(|| Message::Over(report.clone()));
        if let Some((sender, finished)) = self.line {
            drop(sender);
            let _ = finished.recv_timeout(until.since(Tick::now()));
        }
    }
}

fn tell(messages: &Receiver<Message>) {
    let span = tracing::info_span!(target: "winddown", "shutdown");
    let _span = span.enter();
    for message in messages {
        match message {
            Message::Stopping(reason) => info!(target: "winddown", %reason, "stopping"),
            Message::Phase(phase) => debug!(target: "winddown", %phase, "phase"),
            Message::Hook(hook) => match hook.outcome() {
                HookOutcome::Completed => {
                    debug!(target: "winddown", hook = hook.name(), took = ?hook.took(), "hook completed");
                }
                outcome => {
                    let location = hook.location();
                    warn!(target: "winddown", hook = hook.name(), %outcome, took = ?hook.took(), %location, "hook not completed");
                }
            },
            Message::Stage(stage, what) => debug!(target: "winddown", %stage, "stage {what}"),
            Message::StageIsLate(stage) => {
                warn!(target: "winddown", %stage, "stage out of its share of the time");
            }
            Message::Late { what, left } => warn!(target: "winddown", ?left, "waiting for {what}"),
            Message::Over(report) => {
                let (outcome, took) = (report.outcome(), report.took());
                if outcome == Outcome::Clean {
                    info!(target: "winddown", %outcome, ?took, "shutdown over");
                } else {
                    let left: Vec<String> =
                        report.abandoned().map(|left| left.to_string()).collect();
                    let abandoned = left.join(", ");
                    error!(target: "winddown", %outcome, ?took, %abandoned, "shutdown over");
                }
            }
        }
    }
}
