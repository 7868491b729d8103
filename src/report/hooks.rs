//! What became of hooks and guards.

use std::borrow::Cow;
use std::fmt;
use std::panic::Location;
use std::time::Duration;

use crate::clock::Span;
use crate::report::Holder;

/// How one hook or guard ended (P14).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum HookOutcome {
    /// It returned.
    Completed,
    /// It returned this error.
    Failed(String),
    /// It panicked with this message.
    Panicked(String),
    /// It did not return in its time, and was left behind.
    TimedOut,
    /// It was not called: no time was left, no thread could be had, or no
    /// [runtime](HookReport::why_skipped). (An [emergency hook](crate::HookOptions::emergency) may
    /// have been called after that.)
    Skipped,
}

impl HookOutcome {
    /// It was called and did what it should.
    pub fn is_completed(&self) -> bool {
        *self == Self::Completed
    }
}

impl fmt::Display for HookOutcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Completed => f.write_str("completed"),
            Self::Failed(error) => write!(f, "failed: {error}"),
            Self::Panicked(message) => write!(f, "panicked: {message}"),
            Self::TimedOut => f.write_str("timed out"),
            Self::Skipped => f.write_str("skipped"),
        }
    }
}

/// What became of one hook or guard.
#[derive(Clone, Debug)]
pub struct HookReport {
    pub(crate) name: Cow<'static, str>,
    pub(crate) holder: Holder,
    pub(crate) outcome: HookOutcome,
    pub(crate) why: Option<&'static str>,
    pub(crate) started: Span,
    pub(crate) took: Span,
    pub(crate) location: &'static Location<'static>,
}

impl HookReport {
    /// The name it was registered under.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// A hook, a guard, or what comes after the last hook: [`Holder::LastStep`].
    pub fn holder(&self) -> Holder {
        self.holder
    }

    /// How it ended.
    pub fn outcome(&self) -> &HookOutcome {
        &self.outcome
    }

    /// Why it was skipped, where that is not for want of time or of a thread: a hook that is a
    /// future had no runtime any more.
    pub fn why_skipped(&self) -> Option<&str> {
        self.why
    }

    /// When it was called, counted from the stop; zero for what failed before the stop.
    pub fn started(&self) -> Duration {
        self.started.get()
    }

    /// How long it ran; zero if it was skipped.
    pub fn took(&self) -> Duration {
        self.took.get()
    }

    /// Where it was registered.
    pub fn location(&self) -> &'static Location<'static> {
        self.location
    }
}

/// What became of all of them.
#[derive(Clone, Debug, Default)]
pub(crate) struct HookReports {
    /// In the order in which they were called.
    pub(crate) list: Vec<HookReport>,
    /// How many are not listed. Where one of them has failed, some of those that are have too.
    pub(crate) more: usize,
}
