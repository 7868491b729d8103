//! Reasons and signals for serde.
//!
//! Written by hand, so that the shape is a decision and not what the types happen to be: an enum
//! whose variants carry something is a map with a `kind`; one whose variants carry nothing is a
//! string.

use std::fmt;

use serde::ser::{Serialize, SerializeStruct, Serializer};

use super::{Interruption, Origin, Signal, SignalReceived, StopReason};

/// Its name: `"SIGTERM"`, or `"signal 40"` for one without.
impl Serialize for Signal {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// `{"kind": "process", "pid": 4242, "uid": 1000}`, `{"kind": "terminal"}` or
/// `{"kind": "unknown"}`.
impl Serialize for Origin {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Process { pid, uid } => {
                let mut map = tagged(serializer, "Origin", "process", 2)?;
                map.serialize_field("pid", pid)?;
                map.serialize_field("uid", uid)?;
                map.end()
            }
            Self::Terminal => tagged(serializer, "Origin", "terminal", 0)?.end(),
            Self::Unknown => tagged(serializer, "Origin", "unknown", 0)?.end(),
        }
    }
}

/// `{"signal": "SIGTERM", "number": 15, "origin": {…}, "sender": "docker-init"}`; the sender's name
/// is null where it is not known.
impl Serialize for SignalReceived {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_struct("SignalReceived", 4)?;
        signal(&mut map, self)?;
        map.end()
    }
}

/// A map with a `kind`, the whole as `text`, and its parts:
///
/// | `kind` | and |
/// |---|---|
/// | `signal` | `signal`, `number`, `origin`, `sender`, as in [`SignalReceived`] |
/// | `requested` | `request` |
/// | `completed`, `end_of_stream`, `dropped` | |
/// | `failed` | `error` |
/// | `panicked` | `message` |
/// | `task_failed` | `task`, `error` |
/// | `task_panicked` | `task`, `message` |
/// | `task_ended` | `task` |
/// | `fenced` | `member` |
impl Serialize for StopReason {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let parts: &[(&'static str, &str)] = match self {
            Self::Signal(received) => {
                let mut map = tagged(serializer, "StopReason", "signal", 5)?;
                map.serialize_field("text", &Text(self))?;
                signal(&mut map, received)?;
                return map.end();
            }
            Self::Requested(request) => &[("request", request)],
            Self::Completed | Self::EndOfStream | Self::Dropped => &[],
            Self::Failed { error } => &[("error", error)],
            Self::Panicked { message } => &[("message", message)],
            Self::TaskFailed { task, error } => &[("task", task), ("error", error)],
            Self::TaskPanicked { task, message } => &[("task", task), ("message", message)],
            Self::TaskEnded { task } => &[("task", task)],
            Self::Fenced { member } => &[("member", member)],
        };
        let kind = match self {
            Self::Signal(_) => "signal",
            Self::Requested(_) => "requested",
            Self::Completed => "completed",
            Self::EndOfStream => "end_of_stream",
            Self::Failed { .. } => "failed",
            Self::Panicked { .. } => "panicked",
            Self::Dropped => "dropped",
            Self::TaskFailed { .. } => "task_failed",
            Self::TaskPanicked { .. } => "task_panicked",
            Self::TaskEnded { .. } => "task_ended",
            Self::Fenced { .. } => "fenced",
        };
        let mut map = tagged(serializer, "StopReason", kind, 1 + parts.len())?;
        map.serialize_field("text", &Text(self))?;
        for (key, part) in parts {
            map.serialize_field(key, part)?;
        }
        map.end()
    }
}

/// A map: `kind` is `"out_of_time"`, `"stopping"`, `"failed"` with an `error`, `"commit_failed"`,
/// `"panicked"` or `"dropped"`.
impl Serialize for Interruption {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let kind = match self {
            Self::OutOfTime => "out_of_time",
            Self::Stopping => "stopping",
            Self::Failed(error) => {
                let mut map = tagged(serializer, "Interruption", "failed", 1)?;
                map.serialize_field("error", error.as_str())?;
                return map.end();
            }
            Self::CommitFailed => "commit_failed",
            Self::Panicked => "panicked",
            Self::Dropped => "dropped",
        };
        tagged(serializer, "Interruption", kind, 0)?.end()
    }
}

fn signal<M: SerializeStruct>(map: &mut M, received: &SignalReceived) -> Result<(), M::Error> {
    map.serialize_field("signal", &received.signal)?;
    map.serialize_field("number", &received.signal.number())?;
    map.serialize_field("origin", &received.origin)?;
    map.serialize_field("sender", &received.sender_name())
}

/// A map that begins with its `kind` and has so many fields more.
pub(crate) fn tagged<S: Serializer>(
    serializer: S,
    name: &'static str,
    kind: &str,
    fields: usize,
) -> Result<S::SerializeStruct, S::Error> {
    let mut map = serializer.serialize_struct(name, 1 + fields)?;
    map.serialize_field("kind", kind)?;
    Ok(map)
}

/// As it is displayed.
pub(crate) struct Text<'a, T>(pub(crate) &'a T);

impl<T: fmt::Display> Serialize for Text<'_, T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self.0)
    }
}
