//! What happens on the way from the stop to the report: plain data, no locks.

#[cfg(feature = "serde")]
mod serialize;

use std::borrow::Cow;
use std::fmt::{self, Write};
use std::panic::Location;
use std::time::Duration;

use crate::phase::Phase;
use crate::reason::{Interruption, Signal, SignalReceived, StopReason};
use crate::report::{Holder, HookReport, ShutdownReport};
use crate::snapshot::Snapshot;
use crate::text::{clean, locale_is_utf8};

/// One thing that happened; what [`ShutdownHandle::events`](crate::ShutdownHandle::events) gives.
///
/// They come in the order in which they happened, except those of different threads at the same
/// moment. `Display` is one line in words.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Event {
    /// A signal has announced the stop, which follows when the
    /// [linger](crate::ShutdownBuilder::linger) is over.
    #[non_exhaustive]
    Lingering {
        /// The signal.
        signal: SignalReceived,
        /// How long, if nothing ends it early.
        linger: Duration,
    },
    /// The program stops, for this reason.
    Stopping(StopReason),
    /// A new phase has begun.
    PhaseChanged(Phase),
    /// A stage's turn has come: its token is stopped.
    #[non_exhaustive]
    StageStopping {
        /// Its name.
        stage: Cow<'static, str>,
    },
    /// A stage's turn is over.
    #[non_exhaustive]
    StageEnded {
        /// Its name.
        stage: Cow<'static, str>,
        /// Whether it is empty. False: it is out of its share of the time, and the next one is
        /// stopped without waiting for it.
        empty: bool,
    },
    /// Every second while something is late: those who are waited for, with their ages, where they
    /// were registered, and where their threads are; and the time left.
    Waiting(Snapshot),
    /// A hook or guard is called.
    #[non_exhaustive]
    HookStarted {
        /// Its name.
        name: Cow<'static, str>,
        /// A hook or a guard.
        holder: Holder,
        /// Where it was registered.
        location: &'static Location<'static>,
    },
    /// A hook or guard has ended, or was left behind.
    HookEnded(HookReport),
    /// An item has been handed back, or its hand-back has failed; also before the stop.
    #[non_exhaustive]
    HandedBack {
        /// The name of its set.
        name: Cow<'static, str>,
        /// Why.
        why: Interruption,
        /// How its hand-back failed, in words; `None`: it did not.
        error: Option<String>,
    },
    /// A signal changes nothing: it came within the debounce window of the first, or further
    /// signals are not to escalate. Told within 100 ms.
    SignalIgnored(SignalReceived),
    /// The process is being ended before the shutdown is over: by this signal, or, with `None`,
    /// because the time is over. Told where there is still time for it, which is with emergency
    /// hooks only.
    #[non_exhaustive]
    Escalating {
        /// The signal that forces it.
        by: Option<Signal>,
    },
    /// The report is made. The last event: the subscription ends after it.
    Reported(ShutdownReport),
    /// So many events are missing here, as nobody took those before them.
    #[non_exhaustive]
    Missed {
        /// How many.
        count: usize,
    },
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut line = String::new();
        self.in_words(&mut line)?;
        // Names and reasons are anybody's: none of them breaks the line.
        f.write_str(&clean(&line, locale_is_utf8()))
    }
}

impl Event {
    fn in_words(&self, f: &mut String) -> fmt::Result {
        match self {
            Self::Lingering { signal, linger } => write!(f, "lingering for {linger:?}: {signal}"),
            Self::Stopping(reason) => write!(f, "stopping: {reason}"),
            Self::PhaseChanged(phase) => write!(f, "{phase}"),
            Self::StageStopping { stage } => write!(f, "stage {stage} stopping"),
            Self::StageEnded { stage, empty: true } => write!(f, "stage {stage} empty"),
            Self::StageEnded { stage, .. } => {
                write!(f, "stage {stage} out of its share of the time")
            }
            Self::Waiting(snapshot) => write!(f, "waiting for {}", snapshot.line(usize::MAX)),
            Self::HookStarted { name, holder, .. } => write!(f, "{holder} {name} called"),
            Self::HookEnded(hook) => {
                write!(f, "{} {} {}", hook.holder(), hook.name(), hook.outcome())?;
                hook.why_skipped()
                    .map_or(Ok(()), |why| write!(f, ": {why}"))
            }
            Self::HandedBack { name, why, error } => {
                write!(f, "item of {name} handed back: {why}")?;
                error.iter().try_for_each(|error| write!(f, ", {error}"))
            }
            Self::SignalIgnored(signal) => write!(f, "ignored {signal}"),
            Self::Escalating { by: Some(signal) } => write!(f, "forced to end by {signal}"),
            Self::Escalating { by: None } => f.write_str("forced to end: out of time"),
            Self::Reported(report) => write!(f, "shutdown {}", report.outcome()),
            Self::Missed { count } => write!(f, "{count} events missed"),
        }
    }
}
