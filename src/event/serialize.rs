//! Events for serde.

use std::panic::Location;

use serde::ser::{Serialize, SerializeStruct, Serializer};

use super::Event;
use crate::reason::serialize::{Text, tagged};
use crate::report::Holder;
use crate::report::serialize::{Place, millis};

/// A map with a `kind`, the whole in words as `text`, and its parts:
///
/// | `kind` | and |
/// |---|---|
/// | `lingering` | `signal`, see [`SignalReceived`](crate::SignalReceived), and `linger_ms` |
/// | `stopping` | `reason`, see [`StopReason`](crate::StopReason) |
/// | `phase_changed` | `phase` |
/// | `stage_stopping` | `stage` |
/// | `stage_ended` | `stage`, `empty` |
/// | `waiting` | `snapshot`, see [`Snapshot`](crate::Snapshot) |
/// | `hook_started` | `hook`: a map of `name`, `kind`, `location` |
/// | `hook_ended` | `hook`, see [`HookReport`](crate::HookReport) |
/// | `handed_back` | `name`, `why`, see [`Interruption`](crate::Interruption), `error` or null |
/// | `signal_ignored` | `signal` |
/// | `escalating` | `by`: the name of the signal, null when the time is over |
/// | `reported` | `report`, see [`ShutdownReport`](crate::ShutdownReport) |
/// | `missed` | `count` |
///
/// Kinds and fields may be added; none is renamed or removed without a new major version.
impl Serialize for Event {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let begin = |kind, fields: usize| {
            let mut map = tagged(serializer, "Event", kind, 1 + fields)?;
            map.serialize_field("text", &Text(self))?;
            Ok::<_, S::Error>(map)
        };
        let map = match self {
            Self::Lingering { signal, linger } => {
                let mut map = begin("lingering", 2)?;
                map.serialize_field("signal", signal)?;
                map.serialize_field("linger_ms", &millis(*linger))?;
                map
            }
            Self::Stopping(reason) => with(begin("stopping", 1)?, "reason", reason)?,
            Self::PhaseChanged(phase) => with(begin("phase_changed", 1)?, "phase", phase)?,
            Self::StageStopping { stage } => with(begin("stage_stopping", 1)?, "stage", &**stage)?,
            Self::StageEnded { stage, empty } => {
                let map = with(begin("stage_ended", 2)?, "stage", &**stage)?;
                with(map, "empty", empty)?
            }
            Self::Waiting(snapshot) => with(begin("waiting", 1)?, "snapshot", snapshot)?,
            Self::HookStarted {
                name,
                holder,
                location,
            } => {
                let called = Called(name, *holder, location);
                with(begin("hook_started", 1)?, "hook", &called)?
            }
            Self::HookEnded(hook) => with(begin("hook_ended", 1)?, "hook", hook)?,
            Self::HandedBack { name, why, error } => {
                let map = with(begin("handed_back", 3)?, "name", &**name)?;
                with(with(map, "why", why)?, "error", &error.as_deref())?
            }
            Self::SignalIgnored(signal) => with(begin("signal_ignored", 1)?, "signal", signal)?,
            Self::Escalating { by } => with(begin("escalating", 1)?, "by", by)?,
            Self::Reported(report) => with(begin("reported", 1)?, "report", report)?,
            Self::Missed { count } => with(begin("missed", 1)?, "count", count)?,
        };
        map.end()
    }
}

fn with<M: SerializeStruct>(
    mut map: M,
    key: &'static str,
    part: &(impl Serialize + ?Sized),
) -> Result<M, M::Error> {
    map.serialize_field(key, part)?;
    Ok(map)
}

/// A hook that has been called and has no outcome yet.
struct Called<'a>(&'a str, Holder, &'static Location<'static>);

impl Serialize for Called<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_struct("HookStarted", 3)?;
        map.serialize_field("name", self.0)?;
        map.serialize_field("kind", &self.1)?;
        map.serialize_field("location", &Place(self.2))?;
        map.end()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::{json, to_value};

    use super::*;
    use crate::phase::Phase;
    use crate::reason::{Interruption, Origin, Signal, SignalReceived, StopReason};
    use crate::report::fixture::{everything, hook};
    use crate::report::{HookOutcome, ShutdownReport};
    use crate::snapshot::Snapshot;

    #[test]
    fn every_event_says_its_kind_its_text_and_its_parts() {
        let signal = SignalReceived::new(Signal::TERM, Origin::Terminal);
        let signal_json = json!({"signal": "SIGTERM", "number": 15, "origin": {"kind": "terminal"}, "sender": null});
        let location = Location::caller();
        let place =
            json!({"file": location.file(), "line": location.line(), "column": location.column()});
        let snapshot = Snapshot {
            phase: Phase::Draining,
            reason: None,
            since_stop: None,
            time_left: None,
            holders: Vec::new(),
            more: 3,
        };
        let ended = hook("close", HookOutcome::TimedOut, (5, 7));
        let report = ShutdownReport::new(everything());
        let all = [
            (
                Event::Lingering {
                    signal,
                    linger: Duration::from_millis(1500),
                },
                json!({"kind": "lingering", "signal": signal_json, "linger_ms": 1500.0}),
            ),
            (
                Event::Stopping(StopReason::Completed),
                json!({"kind": "stopping", "reason": to_value(StopReason::Completed).unwrap()}),
            ),
            (
                Event::PhaseChanged(Phase::Cleaning),
                json!({"kind": "phase_changed", "phase": "cleaning"}),
            ),
            (
                Event::StageStopping { stage: "s".into() },
                json!({"kind": "stage_stopping", "stage": "s"}),
            ),
            (
                Event::StageEnded {
                    stage: "s".into(),
                    empty: false,
                },
                json!({"kind": "stage_ended", "stage": "s", "empty": false}),
            ),
            (
                Event::Waiting(snapshot.clone()),
                json!({"kind": "waiting", "snapshot": to_value(&snapshot).unwrap()}),
            ),
            (
                Event::HookStarted {
                    name: "close".into(),
                    holder: Holder::Guard,
                    location,
                },
                json!({"kind": "hook_started", "hook": {"name": "close", "kind": "guard", "location": place}}),
            ),
            (
                Event::HookEnded(ended.clone()),
                json!({"kind": "hook_ended", "hook": to_value(&ended).unwrap()}),
            ),
            (
                Event::HandedBack {
                    name: "jobs".into(),
                    why: Interruption::OutOfTime,
                    error: Some("no".to_owned()),
                },
                json!({"kind": "handed_back", "name": "jobs", "why": {"kind": "out_of_time"}, "error": "no"}),
            ),
            (
                Event::SignalIgnored(signal),
                json!({"kind": "signal_ignored", "signal": signal_json}),
            ),
            (
                Event::Escalating {
                    by: Some(Signal::INT),
                },
                json!({"kind": "escalating", "by": "SIGINT"}),
            ),
            (
                Event::Escalating { by: None },
                json!({"kind": "escalating", "by": null}),
            ),
            (
                Event::Reported(report.clone()),
                json!({"kind": "reported", "report": to_value(&report).unwrap()}),
            ),
            (
                Event::Missed { count: 2 },
                json!({"kind": "missed", "count": 2}),
            ),
        ];
        for (event, mut expected) in all {
            expected["text"] = event.to_string().into();
            assert_eq!(to_value(&event).unwrap(), expected);
        }
    }
}
