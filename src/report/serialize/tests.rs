use serde_json::{Value, json, to_value};

use super::*;
use crate::phase::{Phase, Readiness};
use crate::reason::{Interruption, Origin, Signal, SignalReceived, StopReason};
use crate::report::fixture::{drained, everything, hook, inner};
use crate::sender::SenderName;

/// The report that the documentation shows.
fn small() -> ShutdownReport {
    let failed = HookOutcome::Failed("disk \"full\"".into());
    let gone = vec![
        drained(Holder::Stage, "sink", DrainOutcome::Ended, (0, 250), None),
        drained(
            Holder::Task,
            "write",
            DrainOutcome::Abandoned,
            (0, 250),
            Some("sink"),
        ),
    ];
    let mut report = inner(gone, vec![hook("close", failed, (250, 300))], 300);
    report.later.kept.push(StopReason::Completed);
    report.handed_back = 2;
    // Not a whole millisecond.
    report.took += Duration::from_nanos(1_501);
    ShutdownReport::new(report)
}

const SMALL: &str = include_str!("shape.json");

#[test]
fn the_shape_is_the_one_that_is_documented() {
    let report = small();
    let place = report.hooks()[0].location();
    let mut value = to_value(&report).unwrap();
    // Where the test's own lines are is not what this is about.
    let expected = json!({"file": place.file(), "line": place.line(), "column": place.column()});
    for list in ["drained", "hooks", "abandoned"] {
        for row in value[list].as_array_mut().unwrap() {
            assert_eq!(row["location"], expected);
            row["location"] = json!({"file": "src/main.rs", "line": 7, "column": 5});
        }
    }
    let golden: Value = serde_json::from_str(SMALL).unwrap();
    assert_eq!(value, golden, "{value:#}");
}

#[test]
fn the_fields_are_in_the_documented_order() {
    let text = serde_json::to_string(&small()).unwrap();
    let keys = [
        "outcome",
        "final",
        "exit_code",
        "reason",
        "later_reasons",
        "more_reasons",
        "took_ms",
        "drained",
        "handed_back",
        "hooks",
        "more_hooks",
        "abandoned",
    ];
    let mut from = 0;
    for key in keys {
        let at = text[from..].find(&format!("\"{key}\":"));
        assert!(at.is_some(), "{key} is not where it belongs in {text}");
        from += at.unwrap();
    }
}

#[test]
fn nothing_of_the_report_is_lost() {
    let report = ShutdownReport::new(everything());
    let value = to_value(&report).unwrap();
    let list = |name: &str| value[name].as_array().unwrap().len();
    assert_eq!(list("drained"), report.drained().len());
    assert_eq!(list("hooks"), report.hooks().len());
    assert_eq!(list("later_reasons"), report.later_reasons().len());
    assert_eq!(list("abandoned"), report.abandoned().count());
    assert_eq!(value["more_hooks"], 7);
    assert_eq!(value["more_reasons"], 3);
    let row = &value["drained"][6];
    assert_eq!(row["name"], "index");
    assert_eq!(row["stage"], "parse");
    assert_eq!(row["started_ms"], 160.0);
    assert_eq!(row["ended_ms"], 2600.0);
    assert_eq!(value["hooks"][4]["outcome"], json!({"kind": "skipped"}));
}

#[test]
fn every_reason_says_its_kind_its_text_and_its_parts() {
    let task = || "t".to_owned();
    let text = || "why".to_owned();
    let all = [
        (
            StopReason::from("why"),
            "requested",
            json!({"request": "why"}),
        ),
        (StopReason::Completed, "completed", json!({})),
        (StopReason::EndOfStream, "end_of_stream", json!({})),
        (StopReason::Dropped, "dropped", json!({})),
        (
            StopReason::Failed { error: text() },
            "failed",
            json!({"error": "why"}),
        ),
        (
            StopReason::Panicked { message: text() },
            "panicked",
            json!({"message": "why"}),
        ),
        (
            StopReason::TaskFailed {
                task: task(),
                error: text(),
            },
            "task_failed",
            json!({"task": "t", "error": "why"}),
        ),
        (
            StopReason::TaskPanicked {
                task: task(),
                message: text(),
            },
            "task_panicked",
            json!({"task": "t", "message": "why"}),
        ),
        (
            StopReason::TaskEnded { task: task() },
            "task_ended",
            json!({"task": "t"}),
        ),
        (
            StopReason::Signal(SignalReceived::new(Signal::INT, Origin::Terminal)),
            "signal",
            json!({"signal": "SIGINT", "number": 2, "origin": {"kind": "terminal"}, "sender": null}),
        ),
    ];
    for (reason, kind, mut expected) in all {
        expected["kind"] = kind.into();
        expected["text"] = reason.to_string().into();
        assert_eq!(to_value(&reason).unwrap(), expected);
    }
}

#[test]
fn signals_and_phases_are_their_names() {
    let origin = Origin::Process { pid: 7, uid: 0 };
    let received = SignalReceived::new(Signal::try_from(40).unwrap(), origin);
    let expected = json!({
        "signal": "signal 40",
        "number": 40,
        "origin": {"kind": "process", "pid": 7, "uid": 0},
        "sender": null
    });
    assert_eq!(to_value(received).unwrap(), expected);
    let named = received.named(SenderName::cleaned(b"docker-init"));
    assert_eq!(to_value(named).unwrap()["sender"], "docker-init");
    let unknown = to_value(Origin::Unknown).unwrap();
    assert_eq!(unknown, json!({"kind": "unknown"}));
    let phases = [
        Phase::Running,
        Phase::Lingering,
        Phase::Draining,
        Phase::Cleaning,
        Phase::Ended,
    ];
    let words = json!(["running", "lingering", "draining", "cleaning", "ended"]);
    assert_eq!(to_value(phases).unwrap(), words);
    assert_eq!(to_value(Readiness::Draining).unwrap(), "draining");
}

#[test]
fn outcomes_say_why() {
    let hooks = [
        (HookOutcome::Completed, json!({"kind": "completed"})),
        (
            HookOutcome::Failed("no".into()),
            json!({"kind": "failed", "error": "no"}),
        ),
        (
            HookOutcome::Panicked("no".into()),
            json!({"kind": "panicked", "message": "no"}),
        ),
        (HookOutcome::TimedOut, json!({"kind": "timed_out"})),
        (HookOutcome::Skipped, json!({"kind": "skipped"})),
    ];
    for (outcome, expected) in hooks {
        assert_eq!(to_value(outcome).unwrap(), expected);
    }
    let drained = [
        (DrainOutcome::Ended, json!({"kind": "ended"})),
        (
            DrainOutcome::Failed("no".into()),
            json!({"kind": "failed", "error": "no"}),
        ),
        (
            DrainOutcome::Panicked("no".into()),
            json!({"kind": "panicked", "message": "no"}),
        ),
        (DrainOutcome::Abandoned, json!({"kind": "abandoned"})),
        (DrainOutcome::Undecided, json!({"kind": "undecided"})),
    ];
    for (outcome, expected) in drained {
        assert_eq!(to_value(outcome).unwrap(), expected);
    }
    let whole = [Outcome::Clean, Outcome::Incomplete, Outcome::TimedOut];
    assert_eq!(
        to_value(whole).unwrap(),
        json!(["clean", "incomplete", "timed_out"])
    );
    assert_eq!(to_value(Holder::OnStop).unwrap(), "on_stop");
}

#[test]
fn interruptions_say_why() {
    let all = [
        (Interruption::OutOfTime, json!({"kind": "out_of_time"})),
        (Interruption::Stopping, json!({"kind": "stopping"})),
        (
            Interruption::Failed("no".into()),
            json!({"kind": "failed", "error": "no"}),
        ),
        (Interruption::CommitFailed, json!({"kind": "commit_failed"})),
        (Interruption::Panicked, json!({"kind": "panicked"})),
        (Interruption::Dropped, json!({"kind": "dropped"})),
    ];
    for (why, expected) in all {
        assert_eq!(to_value(why).unwrap(), expected);
    }
}
