//! The report for serde.

use std::panic::Location;
use std::time::Duration;

use serde::ser::{Serialize, SerializeStruct, Serializer};

use super::{
    Abandoned, DrainOutcome, DrainReport, Holder, HookOutcome, HookReport, Outcome, ShutdownReport,
};
use crate::reason::serialize::tagged;

/// The whole report as a map. Times are in milliseconds, with a fraction, and say so in their
/// names; those of rows are counted from the stop. Fields may be added; none is renamed or removed
/// without a new major version.
///
/// | field | |
/// |---|---|
/// | `outcome` | `"clean"`, `"incomplete"` or `"timed_out"` |
/// | `final` | [`is_final`](Self::is_final) |
/// | `exit_code` | [`exit_code`](Self::exit_code) |
/// | `reason` | a map with a `kind`, see [`StopReason`](crate::StopReason) |
/// | `later_reasons` | a list of the same; `more_reasons` is the number of those not in it |
/// | `took_ms` | from the stop to the report |
/// | `drained` | a list: `name`, `kind`, `stage` (or null), `outcome`, `started_ms`, `ended_ms`, `location` |
/// | `handed_back` | the number of items |
/// | `hooks` | a list: `name`, `kind`, `outcome`, `started_ms`, `ended_ms`, `location`; `more_hooks` is the number of those not in it |
/// | `abandoned` | a list: `name`, `kind`, `location` |
///
/// The `outcome` of a row is a map with a `kind`, and an `error` or a `message` where there is one;
/// a `location` is a map of `file`, `line` and `column`. An example:
///
/// ```json
#[doc = include_str!("serialize/shape.json")]
/// ```
impl Serialize for ShutdownReport {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let abandoned: Vec<Abandoned<'_>> = self.abandoned().collect();
        let mut map = serializer.serialize_struct("ShutdownReport", 12)?;
        map.serialize_field("outcome", &self.outcome())?;
        map.serialize_field("final", &self.is_final())?;
        map.serialize_field("exit_code", &self.exit_code())?;
        map.serialize_field("reason", self.reason())?;
        map.serialize_field("later_reasons", self.later_reasons())?;
        map.serialize_field("more_reasons", &self.more_reasons())?;
        map.serialize_field("took_ms", &millis(self.took()))?;
        map.serialize_field("drained", self.drained())?;
        map.serialize_field("handed_back", &self.handed_back())?;
        map.serialize_field("hooks", self.hooks())?;
        map.serialize_field("more_hooks", &self.more_hooks())?;
        map.serialize_field("abandoned", abandoned.as_slice())?;
        map.end()
    }
}

/// `"clean"`, `"incomplete"` or `"timed_out"`.
impl Serialize for Outcome {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(match self {
            Self::Clean => "clean",
            Self::Incomplete => "incomplete",
            Self::TimedOut => "timed_out",
        })
    }
}

/// A map: `name`, `kind` (see [`Holder`]), `stage` or null, `outcome`, `started_ms` and `ended_ms`
/// counted from the stop, `location`.
impl Serialize for DrainReport {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_struct("DrainReport", 7)?;
        map.serialize_field("name", self.name())?;
        map.serialize_field("kind", &self.holder())?;
        map.serialize_field("stage", &self.stage())?;
        map.serialize_field("outcome", self.outcome())?;
        map.serialize_field("started_ms", &millis(self.started()))?;
        map.serialize_field("ended_ms", &millis(self.took()))?;
        map.serialize_field("location", &Place(self.location()))?;
        map.end()
    }
}

/// The word that it is displayed as: `"hold"`, `"task"`, `"on_stop"`…
impl Serialize for Holder {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.word())
    }
}

/// A map: `kind` is `"ended"`, `"failed"` with an `error`, `"panicked"` with a `message`,
/// `"abandoned"`, `"aborted"` or `"undecided"`.
impl Serialize for DrainOutcome {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let (kind, why) = match self {
            Self::Ended => ("ended", None),
            Self::Failed(error) => ("failed", Some(("error", error.as_str()))),
            Self::Panicked(message) => ("panicked", Some(("message", message.as_str()))),
            Self::Abandoned => ("abandoned", None),
            Self::Aborted => ("aborted", None),
            Self::Undecided => ("undecided", None),
        };
        outcome(serializer, "DrainOutcome", kind, why)
    }
}

/// A map: `name`, `kind` (`"hook"`, `"guard"` or `"last"`), `outcome`, `started_ms` and `ended_ms`
/// counted from the stop (for what failed before the stop: from its beginning), `location`.
impl Serialize for HookReport {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_struct("HookReport", 6)?;
        map.serialize_field("name", self.name())?;
        map.serialize_field("kind", &self.holder())?;
        map.serialize_field("outcome", &OutcomeOf(self))?;
        map.serialize_field("started_ms", &millis(self.started()))?;
        let ended = self.started().saturating_add(self.took());
        map.serialize_field("ended_ms", &millis(ended))?;
        map.serialize_field("location", &Place(self.location()))?;
        map.end()
    }
}

/// With the reason of one that was skipped.
struct OutcomeOf<'a>(&'a HookReport);

impl Serialize for OutcomeOf<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0.why_skipped() {
            Some(why) => outcome(serializer, "HookOutcome", "skipped", Some(("reason", why))),
            None => self.0.outcome().serialize(serializer),
        }
    }
}

/// A map: `kind` is `"completed"`, `"failed"` with an `error`, `"panicked"` with a `message`,
/// `"timed_out"`, or `"skipped"`, in a report with a `reason` where that is not the time.
impl Serialize for HookOutcome {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let (kind, why) = match self {
            Self::Completed => ("completed", None),
            Self::Failed(error) => ("failed", Some(("error", error.as_str()))),
            Self::Panicked(message) => ("panicked", Some(("message", message.as_str()))),
            Self::TimedOut => ("timed_out", None),
            Self::Skipped => ("skipped", None),
        };
        outcome(serializer, "HookOutcome", kind, why)
    }
}

/// A map: `name`, `kind`, `location`.
impl Serialize for Abandoned<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_struct("Abandoned", 3)?;
        map.serialize_field("name", self.name())?;
        map.serialize_field("kind", self.what())?;
        map.serialize_field("location", &Place(self.location()))?;
        map.end()
    }
}

fn outcome<S: Serializer>(
    serializer: S,
    name: &'static str,
    kind: &str,
    why: Option<(&'static str, &str)>,
) -> Result<S::Ok, S::Error> {
    let mut map = tagged(serializer, name, kind, usize::from(why.is_some()))?;
    if let Some((key, why)) = why {
        map.serialize_field(key, why)?;
    }
    map.end()
}

#[expect(
    clippy::cast_precision_loss,
    reason = "exact to the nanosecond for a hundred days"
)]
pub(crate) fn millis(span: Duration) -> f64 {
    span.as_nanos() as f64 / 1e6
}

/// Where something was registered.
pub(crate) struct Place(pub(crate) &'static Location<'static>);

impl Serialize for Place {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_struct("Location", 3)?;
        map.serialize_field("file", self.0.file())?;
        map.serialize_field("line", &self.0.line())?;
        map.serialize_field("column", &self.0.column())?;
        map.end()
    }
}

#[cfg(test)]
mod tests;
