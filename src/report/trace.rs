//! The report as a trace that a browser draws.
//!
//! The format is the "Trace Event Format" of the Chromium project: a JSON object with a list of
//! events. Events of one thread must lie side by side or one within the other, so what overlaps is
//! put on lanes of its own, and a lane is what the format calls a thread.

use std::fmt::{self, Write};
use std::time::Duration;

use super::rows::{Group, Row, groups};
use super::{Inner, Outcome, ShutdownReport};
use crate::reason::StopReason;

/// The lane of the shutdown as a whole.
const SHUTDOWN: usize = 1;

impl ShutdownReport {
    /// The report in the Trace Event Format, as JSON: for <https://ui.perfetto.dev> and
    /// `chrome://tracing`.
    ///
    /// ```
    /// # let shutdown = winddown::ShutdownCoordinator::builder().signals([]).install()?;
    /// let report = shutdown.shutdown();
    /// # let place = tempfile::tempdir()?;
    /// # let file = place.path().join("shutdown.json");
    /// std::fs::write(file, report.to_chrome_trace())?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// The process has its real id. Its "threads" are lanes, not threads of the program: one for
    /// the shutdown as a whole, and as many as are needed for what belongs to no stage, for each
    /// stage, and for the hooks. Everything that was waited for or called is a complete event
    /// (`"ph": "X"`), in microseconds from the stop; nothing reaches beyond the shutdown, not even
    /// what was left behind. What many say in the same words is one event with a `count`. The stop,
    /// the later reasons and hooks that were skipped are instants (`"ph": "i"`). How it ended and
    /// where it was registered are among the `args`.
    ///
    /// The format is defined in [Trace Event Format], by the Chromium project.
    ///
    /// [Trace Event Format]:
    /// https://docs.google.com/document/d/1CvAClvFfyA5R-PhYUmn5OOQtYMH4h6I0nSsKchNAySU
    pub fn to_chrome_trace(&self) -> String {
        let mut trace = Trace::new(std::process::id());
        trace.shutdown(&self.inner, self.outcome(), self.exit_code());
        for group in groups(&self.inner) {
            trace.group(&group);
        }
        trace.finish()
    }
}

struct Trace {
    pid: u32,
    lanes: usize,
    events: Vec<String>,
}

impl Trace {
    fn new(pid: u32) -> Self {
        let mut trace = Self {
            pid,
            lanes: 0,
            events: Vec::new(),
        };
        let name = Object::new().text("name", "winddown");
        let event = trace.event("M", "process_name", SHUTDOWN);
        trace.push(event.object("args", name));
        trace.lane("shutdown");
        trace
    }

    /// What all events have.
    fn event(&self, kind: &str, name: &str, lane: usize) -> Object {
        Object::new()
            .text("name", name)
            .text("ph", kind)
            .number("pid", self.pid)
            .number("tid", lane)
    }

    fn push(&mut self, event: Object) {
        self.events.push(event.finish());
    }

    /// A new lane, below the others.
    fn lane(&mut self, name: &str) -> usize {
        self.lanes += 1;
        let lane = self.lanes;
        let name = Object::new().text("name", name);
        let event = self.event("M", "thread_name", lane).object("args", name);
        self.push(event);
        let place = Object::new().number("sort_index", lane);
        let event = self.event("M", "thread_sort_index", lane);
        self.push(event.object("args", place));
        lane
    }

    fn shutdown(&mut self, report: &Inner, outcome: Outcome, exit_code: u8) {
        let args = Object::new()
            .text("reason", &report.reason.to_string())
            .text("outcome", &outcome.to_string())
            .number("exit code", exit_code)
            .number("items handed back", report.handed_back)
            .number("later reasons not kept", report.later.more)
            .number("guards not listed", report.hooks.more);
        let event = self
            .event("X", "shutdown", SHUTDOWN)
            .text("cat", "shutdown");
        let event = event.time("ts", Duration::ZERO).time("dur", report.took);
        self.push(event.object("args", args));
        let stop = format!("stop: {}", report.reason);
        self.instant(&stop, Duration::ZERO, &report.reason);
        for (at, later) in report.later.timed() {
            // The clock of the report leaves out the time in which the process was suspended.
            self.instant(&format!("later: {later}"), at.min(report.took), later);
        }
    }

    /// Across all lanes of the process.
    fn instant(&mut self, name: &str, at: Duration, reason: &StopReason) {
        let args = Object::new().text("reason", &reason.to_string());
        let event = self.event("i", name, SHUTDOWN).text("cat", "stop");
        let event = event.time("ts", at).text("s", "p");
        self.push(event.object("args", args));
    }

    fn group(&mut self, group: &Group<'_>) {
        for (number, rows) in (1..).zip(side_by_side(group)) {
            let lane = self.lane(&name(group, &rows, number));
            for row in rows {
                self.row(row, lane);
            }
        }
    }

    fn row(&mut self, row: &Row<'_>, lane: usize) {
        let mut args = Object::new()
            .text("kind", row.what())
            .text("outcome", row.fate.word);
        if let Some(why) = row.fate.why {
            args = args.text("error", why);
        }
        if let Some(stage) = row.stage {
            args = args.text("stage", stage);
        }
        if let Some(location) = row.location {
            args = args.text("registered at", &location.to_string());
        }
        if row.count > 1 {
            args = args.number("count", row.count);
        }
        let kind = if row.is_skipped() { "i" } else { "X" };
        let mut event = self.event(kind, row.name, lane).text("cat", row.what());
        event = event.time("ts", row.from);
        event = if row.is_skipped() {
            event.text("s", "t")
        } else {
            event.time("dur", row.span())
        };
        if row.fate.wrong {
            event = event.text("cname", "terrible");
        }
        self.push(event.object("args", args));
    }

    fn finish(self) -> String {
        let events = self.events.join(",\n");
        format!("{{\"displayTimeUnit\":\"ms\",\"traceEvents\":[\n{events}\n]}}\n")
    }
}

/// The rows of a group on as few lanes as there can be. A stage has one to itself: what is in it
/// ends later than it does by some nanoseconds now and then, and would not lie within.
fn side_by_side<'a, 'b>(group: &'b Group<'a>) -> Vec<Vec<&'b Row<'a>>> {
    let mut lanes: Vec<Vec<&Row<'_>>> = Vec::new();
    let mut rows: Vec<&Row<'_>> = group.rows.iter().collect();
    rows.sort_by_key(|row| row.from);
    for row in rows {
        let is_free =
            |lane: &&mut Vec<&Row<'_>>| lane.last().is_none_or(|last| last.to <= row.from);
        match lanes.iter_mut().find(is_free) {
            Some(lane) => lane.push(row),
            None => lanes.push(vec![row]),
        }
    }
    if let Some(stage) = &group.head {
        lanes.insert(0, vec![stage]);
    }
    lanes
}

/// A lane's name: what it is about, where that is one thing.
fn name(group: &Group<'_>, rows: &[&Row<'_>], number: usize) -> String {
    match (&group.head, rows) {
        (_, [row]) if row.is_stage() => format!("stage {}", row.name),
        (Some(stage), [row]) => format!("stage {}: {} {}", stage.name, row.what(), row.name),
        (Some(stage), _) => format!("stage {} ({number})", stage.name),
        (None, [first, ..]) if first.is_hook() && number == 1 => "hooks".to_owned(),
        (None, [first, ..]) if first.is_hook() => format!("hooks ({number})"),
        (None, [row]) => format!("{} {}", row.what(), row.name),
        (None, _) => format!("work ({number})"),
    }
}

/// A JSON object, being written.
struct Object(String);

impl Object {
    fn new() -> Self {
        Self(String::from("{"))
    }

    fn key(&mut self, key: &str) {
        if self.0.len() > 1 {
            self.0.push(',');
        }
        escape(key, &mut self.0);
        self.0.push(':');
    }

    fn text(mut self, key: &str, text: &str) -> Self {
        self.key(key);
        escape(text, &mut self.0);
        self
    }

    /// Of an integer.
    fn number(mut self, key: &str, number: impl fmt::Display) -> Self {
        self.key(key);
        let _ = write!(self.0, "{number}");
        self
    }

    /// In microseconds, exact to the nanosecond.
    fn time(self, key: &str, span: Duration) -> Self {
        let nanos = span.as_nanos();
        let text = format!("{}.{:03}", nanos / 1000, nanos % 1000);
        self.number(key, text)
    }

    fn object(mut self, key: &str, object: Self) -> Self {
        self.key(key);
        self.0.push_str(&object.finish());
        self
    }

    fn finish(mut self) -> String {
        self.0.push('}');
        self.0
    }
}

/// A JSON string. Nothing in it can be a line end, not even for a reader that takes JSON for
/// JavaScript.
fn escape(text: &str, json: &mut String) {
    json.push('"');
    for c in text.chars() {
        match c {
            '"' => json.push_str("\\\""),
            '\\' => json.push_str("\\\\"),
            c if c.is_control() || matches!(c, '\u{2028}' | '\u{2029}') => {
                let _ = write!(json, "\\u{:04x}", u32::from(c));
            }
            c => json.push(c),
        }
    }
    json.push('"');
}

#[cfg(test)]
mod tests;
