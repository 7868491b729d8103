//! What happened: plain data, no locks.

mod abandoned;
mod display;
#[cfg(test)]
pub(crate) mod fixture;
mod hooks;
mod rows;
#[cfg(feature = "serde")]
pub(crate) mod serialize;
mod trace;

use std::borrow::Cow;
use std::fmt;
use std::panic::Location;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

pub use abandoned::Abandoned;
pub(crate) use hooks::HookReports;
pub use hooks::{HookOutcome, HookReport};

use crate::exit_policy::{Death, ExitPolicy, Facts};
use crate::reason::{Later, StopReason};
use crate::text::locale_is_utf8;

/// What the shutdown waits for, or calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Holder {
    /// A [`Hold`](crate::Hold).
    Hold,
    /// A [`Task`](crate::Task).
    Task,
    /// An item of an [`InFlight`](crate::InFlight), by the name of that.
    Item,
    /// The thread that owns the coordinator.
    Owner,
    /// The `on_stop` closures and wakers that were being called.
    OnStop,
    /// A [`Stage`](crate::Stage).
    Stage,
    /// A [`Hook`](crate::Hook).
    Hook,
    /// A [`Guard`](crate::Guard).
    Guard,
    /// What a feature of this crate does after the last hook: a member of a ledger leaves.
    LastStep,
}

impl Holder {
    /// It is called, not waited for.
    pub(crate) const fn is_called(self) -> bool {
        matches!(self, Self::Hook | Self::Guard | Self::LastStep)
    }

    pub(crate) const fn word(self) -> &'static str {
        match self {
            Self::Hold => "hold",
            Self::Task => "task",
            Self::Item => "item",
            Self::Owner => "owner",
            Self::OnStop => "on_stop",
            Self::Stage => "stage",
            Self::Hook => "hook",
            Self::Guard => "guard",
            Self::LastStep => "last",
        }
    }
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.word())
    }
}

/// How something that kept the drain open ended.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum DrainOutcome {
    /// It went in time.
    Ended,
    /// A task that returned this error, or was dropped with its runtime; or an item whose hand-back
    /// failed with it.
    Failed(String),
    /// A task, or the hand-back of an item, that panicked with this message.
    Panicked(String),
    /// It was still there when its time was over, and was left behind, whatever became of it while
    /// the hooks ran. Of an item: its place was reserved, and not filled.
    Abandoned,
    /// A task that is a future, or that of `run_async`, and was dropped when its time was over: it
    /// has ended, its drop code has run.
    Aborted,
    /// An item without a verdict: its commit, its hand-back, or, where only what has stopped is
    /// handed back, its work was still running when the time was over.
    Undecided,
}

impl fmt::Display for DrainOutcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ended => f.write_str("ended"),
            Self::Failed(error) => write!(f, "failed: {error}"),
            Self::Panicked(message) => write!(f, "panicked: {message}"),
            Self::Abandoned => f.write_str("abandoned"),
            Self::Aborted => f.write_str("aborted"),
            Self::Undecided => f.write_str("undecided"),
        }
    }
}

/// What became of something that still lived at the stop.
#[derive(Clone, Debug)]
pub struct DrainReport {
    pub(crate) name: Cow<'static, str>,
    pub(crate) holder: Holder,
    pub(crate) outcome: DrainOutcome,
    pub(crate) started: Duration,
    pub(crate) took: Duration,
    pub(crate) location: &'static Location<'static>,
    pub(crate) stage: Option<Cow<'static, str>>,
}

impl DrainReport {
    /// The name it was registered under.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What it is.
    pub fn holder(&self) -> Holder {
        self.holder
    }

    /// How it ended.
    pub fn outcome(&self) -> &DrainOutcome {
        &self.outcome
    }

    /// When it was asked to end, counted from the stop: zero, except for a stage and what is in it.
    pub fn started(&self) -> Duration {
        self.started
    }

    /// The stage that it belongs to.
    pub fn stage(&self) -> Option<&str> {
        self.stage.as_deref()
    }

    /// When it went: counted from the stop, not from [`started`](Self::started). (A hook's
    /// [`took`](HookReport::took) is a length.)
    pub fn took(&self) -> Duration {
        self.took
    }

    /// Where it was registered.
    pub fn location(&self) -> &'static Location<'static> {
        self.location
    }
}

/// The shutdown as a whole, in one word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Outcome {
    /// The shutdown itself went well. That says nothing of why the program stopped: after an error
    /// or a panic it may be clean too, and the [exit code](ShutdownReport::exit_code) is not 0.
    Clean,
    /// It ended in time, but a hook, a task or a hand-back failed, panicked or timed out, an item
    /// is undecided, or something was aborted or abandoned.
    Incomplete,
    /// The time was over first: the owner did not come back, or hooks were left without any.
    TimedOut,
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Clean => "clean",
            Self::Incomplete => "incomplete",
            Self::TimedOut => "timed out",
        })
    }
}

/// Everything that happened, from the stop to the end. Cheap to clone; every caller gets the same
/// one (P18).
///
/// `Display` is a waterfall of at most 100 columns: a row for everything that was waited for or
/// called, its bar on a common axis of time, its outcome; what belongs to a stage below that; then
/// all that went wrong, whole, with the place where it was registered. Of many rows the slowest 40
/// and those that went wrong are drawn. Plain ASCII where the locale is not UTF-8; names cannot
/// break its lines. For machines there is [`to_chrome_trace`](Self::to_chrome_trace),
/// and with the feature `serde` the report is `Serialize`.
///
/// All times count from the stop; after a [linger](crate::ShutdownBuilder::linger) from the signal
/// that announced it.
///
/// Returned from `main`, it ends the program as the [`ExitPolicy`] says.
#[derive(Clone, Debug)]
#[must_use = "the exit status of the program is in it: return it from main, or call exit()"]
pub struct ShutdownReport {
    inner: Arc<Inner>,
}

#[derive(Clone, Debug)]
pub(crate) struct Inner {
    pub(crate) reason: StopReason,
    pub(crate) later: Later,
    pub(crate) is_final: bool,
    /// It was asked for from inside: there is more to come.
    pub(crate) cut_short: bool,
    pub(crate) timed_out: bool,
    pub(crate) hooks: HookReports,
    pub(crate) drained: Vec<DrainReport>,
    pub(crate) handed_back: usize,
    pub(crate) took: Duration,
    pub(crate) policy: ExitPolicy,
    /// How long `exit` may take, where the time is to hold for that too.
    pub(crate) exit_within: Option<Duration>,
}

impl ShutdownReport {
    pub(crate) fn new(inner: Inner) -> Self {
        Self {
            inner: Arc::new(inner),
        }
    }

    /// Why the program stopped: the first reason (P3).
    pub fn reason(&self) -> &StopReason {
        &self.inner.reason
    }

    /// The reasons that came later, in order: the first 16. Deliveries of a signal within the
    /// debounce window are among them. That the work has ended, after the stop (`shutdown`, a drop,
    /// the end of a stream or of a vital task), is no news and not among them.
    pub fn later_reasons(&self) -> &[StopReason] {
        &self.inner.later.kept
    }

    /// How many more there were than [`later_reasons`](Self::later_reasons) keeps.
    pub fn more_reasons(&self) -> usize {
        self.inner.later.more
    }

    /// False only for a report that was asked for from inside the shutdown (P17), or in a forked
    /// child: what had happened so far. From inside, its [`exit_code`](Self::exit_code) is that of
    /// a failure.
    pub fn is_final(&self) -> bool {
        self.inner.is_final
    }

    /// The whole in one word.
    pub fn outcome(&self) -> Outcome {
        if self.inner.timed_out {
            Outcome::TimedOut
        } else if self.anything_wrong() {
            Outcome::Incomplete
        } else {
            Outcome::Clean
        }
    }

    fn anything_wrong(&self) -> bool {
        let later = &self.inner.later.kept;
        // A task that ended before the stop is in no row.
        let failed_task = |reason: &StopReason| reason.is_of_a_failed_task();
        failed_task(&self.inner.reason)
            || later.iter().any(failed_task)
            || self
                .inner
                .hooks
                .list
                .iter()
                .any(|hook| !hook.outcome.is_completed())
            || self
                .inner
                .drained
                .iter()
                .any(|drained| drained.outcome != DrainOutcome::Ended)
    }

    /// Every hook and guard that was called since the stop or should have been, and of those that
    /// were called before it the first 64 that failed, in the order they were called.
    pub fn hooks(&self) -> &[HookReport] {
        &self.inner.hooks.list
    }

    /// How many are not listed: failures from before the stop beyond 64; and of guards dropped, or
    /// hooks run by hand, after it those beyond 1,000 that completed and 1,000 that did not.
    pub fn more_hooks(&self) -> usize {
        self.inner.hooks.more
    }

    /// What still lived at the stop, in the order it went: first what belongs to no stage, then
    /// each stage and what was in it, the one that stopped first first. What was left behind stands
    /// behind what has gone. Of items only those without a verdict, the places that were never
    /// filled, and each hand-back that failed, also before the stop (the first 64, then how many
    /// more).
    pub fn drained(&self) -> &[DrainReport] {
        &self.inner.drained
    }

    /// How many items were handed back since the installation, for whatever reason; also before the
    /// stop.
    pub fn handed_back(&self) -> usize {
        self.inner.handed_back
    }

    /// What was left behind, still running when its time was over.
    pub fn abandoned(&self) -> impl Iterator<Item = Abandoned<'_>> {
        let drained = self
            .inner
            .drained
            .iter()
            .filter(|drained| drained.outcome == DrainOutcome::Abandoned);
        let hooks = self
            .inner
            .hooks
            .list
            .iter()
            .filter(|hook| hook.outcome == HookOutcome::TimedOut);
        let drained = drained.map(|drained| Abandoned {
            name: &drained.name,
            what: drained.holder.word(),
            location: drained.location,
        });
        drained.chain(hooks.map(|hook| Abandoned {
            name: &hook.name,
            what: hook.holder.word(),
            location: hook.location,
        }))
    }

    /// From the stop to this report.
    pub fn took(&self) -> Duration {
        self.inner.took
    }

    /// What the exit policy makes of it; 128 + n where it says to die by signal n.
    pub fn exit_code(&self) -> u8 {
        self.death().code()
    }

    /// How long the exit itself may take.
    pub(crate) fn exit_within(&self) -> Option<Duration> {
        self.inner.exit_within
    }

    /// The same, with what the program itself came to, perhaps after this had been made.
    pub(crate) fn of_a_program(self, failed: bool, panicked: bool) -> Self {
        let mut inner = Arc::unwrap_or_clone(self.inner);
        inner.later.failed |= failed;
        inner.later.panicked |= panicked;
        Self::new(inner)
    }

    pub(crate) fn death(&self) -> Death {
        let task_panicked = self
            .inner
            .drained
            .iter()
            .any(|drained| matches!(drained.outcome, DrainOutcome::Panicked(_)));
        self.inner.policy.decide(Facts {
            signal: self.inner.reason.signal(),
            timed_out: self.inner.timed_out,
            panicked: task_panicked || self.inner.later.panicked || self.inner.reason.is_panic(),
            // Of a shutdown that is cut short a code of 0 would be a lie.
            failed: self.inner.cut_short
                || self.anything_wrong()
                || self.inner.later.failed
                || self.inner.reason.is_failure(),
        })
    }
}

impl fmt::Display for ShutdownReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        display::waterfall(&self.inner, self.outcome(), locale_is_utf8(), f)
    }
}

/// Its [`exit_code`](ShutdownReport::exit_code) alone: 130 instead of a death by SIGINT, and
/// nothing is flushed. The whole policy is kept by a report that is returned from `main`, and by
/// [`exit`](ShutdownReport::exit).
impl From<ShutdownReport> for ExitCode {
    fn from(report: ShutdownReport) -> Self {
        ExitCode::from(report.exit_code())
    }
}
