//! The snapshot for serde, in the shape of the report.

use serde::ser::{Serialize, SerializeStruct, Serializer};

use super::{Said, Snapshot, StillHere, ThreadSnapshot};
use crate::report::serialize::{Place, millis};

/// A map. Times are in milliseconds, with a fraction, and say so in their names; what is not known
/// is null. Fields may be added; none is renamed or removed without a new major version.
///
/// | field | |
/// |---|---|
/// | `phase` | `"running"`, `"lingering"`, `"draining"`, `"cleaning"` or `"ended"` |
/// | `reason` | a map with a `kind`, see [`StopReason`](crate::StopReason); while lingering the signal that announced the stop; null while running |
/// | `since_stop_ms` | null before the stop |
/// | `time_left_ms` | null while running |
/// | `holders` | a list of maps, see [`StillHere`] |
/// | `more` | how many more there are |
///
/// An example:
///
/// ```json
#[doc = include_str!("serialize/shape.json")]
/// ```
impl Serialize for Snapshot {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_struct("Snapshot", 6)?;
        map.serialize_field("phase", &self.phase())?;
        map.serialize_field("reason", &self.reason())?;
        map.serialize_field("since_stop_ms", &self.since_stop().map(millis))?;
        map.serialize_field("time_left_ms", &self.time_left().map(millis))?;
        map.serialize_field("holders", self.holders())?;
        map.serialize_field("more", &self.more())?;
        map.end()
    }
}

/// A map: `name`, `kind` (see [`Holder`](crate::Holder)), `stage` or null, `age_ms` (null for a
/// hook that has not been called), `count`, `said` or null, `thread` or null, `location`.
impl Serialize for StillHere {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_struct("StillHere", 8)?;
        map.serialize_field("name", self.name())?;
        map.serialize_field("kind", &self.holder())?;
        map.serialize_field("stage", &self.stage())?;
        map.serialize_field("age_ms", &self.age().map(millis))?;
        map.serialize_field("count", &self.count())?;
        map.serialize_field("said", &self.said())?;
        map.serialize_field("thread", &self.thread())?;
        map.serialize_field("location", &Place(self.location()))?;
        map.end()
    }
}

/// A map: `what` in its own words; `done` and `of`, both null where it said neither.
impl Serialize for Said {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let (done, of) = self.progress().unzip();
        let mut map = serializer.serialize_struct("Said", 3)?;
        map.serialize_field("what", self.what())?;
        map.serialize_field("done", &done)?;
        map.serialize_field("of", &of)?;
        map.end()
    }
}

/// A map: the system's `id` for it, `name`, and `state` in words, or null.
impl Serialize for ThreadSnapshot {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_struct("ThreadSnapshot", 3)?;
        map.serialize_field("id", &self.id())?;
        map.serialize_field("name", self.name())?;
        map.serialize_field("state", &self.state())?;
        map.end()
    }
}

#[cfg(test)]
mod tests;
