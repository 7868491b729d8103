//! The report of a real shutdown: the picture, the trace, the JSON.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    missing_docs,
    reason = "tests"
)]

mod common;

use std::sync::mpsc;

use common::{SHORT, bounded, embedded};
use serde_json::Value;
#[cfg(feature = "serde")]
use winddown::DrainOutcome;
use winddown::{Outcome, ShutdownReport};

/// Three stages, a task that hangs in the middle one, a hook that fails. What hangs goes when the
/// sender does.
fn with_a_hung_task() -> (ShutdownReport, mpsc::Sender<()>) {
    let (go, never) = mpsc::channel::<()>();
    let shutdown = embedded().install().unwrap();
    for name in ["sink", "middle", "source"] {
        let stage = shutdown.stage(name);
        let task = stage.spawn(format!("work of {name}"), |token| drop(token.wait()));
        drop(task.unwrap());
    }
    let late = shutdown.stage("late").timeout(SHORT);
    let hung = late.spawn("hung", move |_token| {
        let _ = never.recv();
    });
    drop(hung.unwrap());
    shutdown.hook("database", || Err::<(), _>("disk full"));
    shutdown.stop("enough");
    shutdown.stop("once more");
    (bounded(move || shutdown.shutdown()), go)
}

#[test]
fn what_is_a_stages_is_below_it_and_what_went_wrong_is_named_with_its_place() {
    let (report, _go) = with_a_hung_task();
    assert_eq!(report.outcome(), Outcome::Incomplete);
    let shown = report.to_string();
    let lines: Vec<&str> = shown.lines().collect();
    assert!(lines[0].starts_with("shutdown: incomplete in "), "{shown}");
    assert!(lines[0].ends_with("(requested: enough)"), "{shown}");
    assert!(lines[1].starts_with("  after "), "{shown}");
    assert!(lines[1].ends_with("s: requested: once more"), "{shown}");
    let beginnings = [
        "  stage late ",
        "    task  hung ",
        "  stage source ",
        "    task  work of source ",
        "  stage middle ",
        "    task  work of middle ",
        "  stage sink ",
        "    task  work of sink ",
        "  hook  database ",
        "what went wrong, and where it was registered:",
        "  tests/report.rs:",
        "  tests/report.rs:",
    ];
    assert_eq!(lines.len(), 3 + beginnings.len(), "{shown}");
    for (line, beginning) in lines[3..].iter().zip(beginnings) {
        assert!(line.starts_with(beginning), "{line:?} in\n{shown}");
    }
    assert!(lines[4].ends_with("abandoned"), "{shown}");
    assert!(
        lines[13].ends_with(": task hung of stage late: abandoned"),
        "{shown}"
    );
    assert!(
        lines[14].ends_with(": hook database: failed: disk full"),
        "{shown}"
    );
    assert!(
        lines.iter().all(|line| line.chars().count() <= 100),
        "{shown}"
    );
}

#[test]
fn the_trace_has_an_event_for_each_row() {
    let (report, _go) = with_a_hung_task();
    let trace: Value = serde_json::from_str(&report.to_chrome_trace()).unwrap();
    let events = trace["traceEvents"].as_array().unwrap();
    let of = |phase: &'static str| events.iter().filter(move |event| event["ph"] == phase);
    let rows = report.drained().len() + report.hooks().len();
    assert_eq!(of("X").count(), 1 + rows);
    assert_eq!(of("i").count(), 2);
    let whole = of("X").find(|event| event["name"] == "shutdown").unwrap();
    let end = whole["dur"].as_f64().unwrap();
    for event in of("X") {
        assert_eq!(event["pid"], std::process::id());
        let (from, dur) = (
            event["ts"].as_f64().unwrap(),
            event["dur"].as_f64().unwrap(),
        );
        assert!(from >= 0.0 && from + dur <= end + 1e-3, "{event}");
    }
    let hung = of("X").find(|event| event["name"] == "hung").unwrap();
    assert_eq!(hung["args"]["outcome"], "abandoned");
    assert_eq!(hung["args"]["stage"], "late");
}

#[cfg(feature = "serde")]
#[test]
fn the_json_says_what_the_report_says() {
    let (report, _go) = with_a_hung_task();
    let json = serde_json::to_value(&report).unwrap();
    assert_eq!(json["outcome"], "incomplete");
    assert_eq!(json["exit_code"], report.exit_code());
    assert_eq!(json["reason"]["request"], "enough");
    assert_eq!(json["later_reasons"][0]["request"], "once more");
    let took = json["took_ms"].as_f64().unwrap();
    assert!((took - report.took().as_secs_f64() * 1e3).abs() < 1e-6);
    let rows = json["drained"].as_array().unwrap();
    assert_eq!(rows.len(), report.drained().len());
    for (row, drained) in rows.iter().zip(report.drained()) {
        assert_eq!(row["name"], drained.name());
        assert_eq!(row["kind"], drained.holder().to_string());
        assert_eq!(row["stage"].as_str(), drained.stage());
        let abandoned = *drained.outcome() == DrainOutcome::Abandoned;
        assert_eq!(row["outcome"]["kind"] == "abandoned", abandoned);
        assert_eq!(row["location"]["line"], drained.location().line());
    }
    assert_eq!(json["hooks"][0]["outcome"]["error"], "disk full");
    let names: Vec<&str> = report.abandoned().map(|left| left.name()).collect();
    let said: Vec<&str> = json["abandoned"]
        .as_array()
        .unwrap()
        .iter()
        .map(|left| left["name"].as_str().unwrap())
        .collect();
    assert_eq!(said, names);
}
