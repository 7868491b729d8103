use std::collections::HashMap;

use serde_json::Value;

use super::*;
use crate::report::fixture::{drained, everything, hook, inner};
use crate::report::{DrainOutcome, Holder, HookOutcome};

/// The events, by their phase.
fn parse(report: Inner) -> HashMap<String, Vec<Value>> {
    let text = ShutdownReport::new(report).to_chrome_trace();
    let mut value: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(value["displayTimeUnit"], "ms");
    let mut events: HashMap<String, Vec<Value>> = HashMap::new();
    for event in value["traceEvents"].as_array_mut().unwrap() {
        assert_eq!(event["pid"], std::process::id());
        let phase = event["ph"].as_str().unwrap().to_owned();
        events.entry(phase).or_default().push(event.take());
    }
    events
}

fn named<'a>(events: &'a [Value], name: &str) -> &'a Value {
    events.iter().find(|event| event["name"] == name).unwrap()
}

/// The names of the lanes, by their ids.
fn lanes(events: &HashMap<String, Vec<Value>>) -> HashMap<u64, String> {
    let names = events["M"].iter().filter(|it| it["name"] == "thread_name");
    let lane = |event: &Value| {
        let name = event["args"]["name"].as_str().unwrap().to_owned();
        (event["tid"].as_u64().unwrap(), name)
    };
    names.map(lane).collect()
}

#[test]
fn everything_is_an_event_in_microseconds_with_its_end_and_its_place() {
    let events = parse(everything());
    let complete = &events["X"];
    // The whole, 11 rows of work (the two items are one), 4 hooks that were called.
    assert_eq!(complete.len(), 1 + 11 + 4);
    let whole = named(complete, "shutdown");
    assert_eq!(whole["ts"], 0.0);
    assert_eq!(whole["dur"], 2_600_000.0);
    assert_eq!(whole["args"]["reason"], "SIGTERM from pid 4242, uid 1000");
    assert_eq!(whole["args"]["exit code"], 101);
    assert_eq!(whole["args"]["items handed back"], 5);
    let write = named(complete, "write");
    assert_eq!(
        (&write["ts"], &write["dur"]),
        (&1_100_000.0.into(), &100_000.0.into())
    );
    assert_eq!(write["cat"], "task");
    assert_eq!(write["args"]["outcome"], "failed");
    assert_eq!(write["args"]["error"], "no space left on device");
    assert_eq!(write["args"]["stage"], "sink");
    let place = write["args"]["registered at"].as_str().unwrap();
    assert!(place.starts_with("src/report/fixture.rs:"), "{place}");
    assert_eq!(named(complete, "rows")["args"]["count"], 2);
    assert_eq!(named(complete, "flush metrics")["cat"], "hook");
    assert_eq!(named(complete, "index")["cname"], "terrible");
    assert!(named(complete, "read a").get("cname").is_none());
}

#[test]
fn the_stop_and_what_came_later_are_instants() {
    let events = parse(everything());
    let names: Vec<_> = events["i"].iter().map(|event| &event["name"]).collect();
    assert_eq!(
        names,
        [
            "stop: SIGTERM from pid 4242, uid 1000",
            "later: requested: the disk is full",
            "later: task write failed: no space left on device",
            "goodbye"
        ]
    );
    let times: Vec<_> = events["i"].iter().map(|event| &event["ts"]).collect();
    assert_eq!(times, [0.0, 200_000.0, 1_200_000.0, 2_600_000.0]);
    assert!(events["i"][..3].iter().all(|event| event["s"] == "p"));
    assert_eq!(events["i"][3]["args"]["outcome"], "skipped");
}

#[test]
fn no_two_events_of_a_lane_overlap_and_every_lane_has_a_name() {
    let events = parse(everything());
    let lanes = lanes(&events);
    let mut free: HashMap<u64, f64> = HashMap::new();
    let mut complete = events["X"].clone();
    let from = |event: &Value| event["ts"].as_f64().unwrap();
    complete.sort_by(|one, other| from(one).total_cmp(&from(other)));
    for event in &complete {
        let lane = event["tid"].as_u64().unwrap();
        assert!(lanes.contains_key(&lane), "{event}");
        let until = free.entry(lane).or_default();
        assert!(*until <= from(event), "{event}");
        *until = from(event) + event["dur"].as_f64().unwrap();
    }
    for event in &events["i"] {
        assert!(lanes.contains_key(&event["tid"].as_u64().unwrap()));
    }
    let lane_of = |name: &str| &lanes[&named(&complete, name)["tid"].as_u64().unwrap()];
    assert_eq!(lane_of("shutdown"), "shutdown");
    assert_eq!(lane_of("main"), "owner main");
    assert_eq!(lane_of("source"), "stage source");
    assert_eq!(lane_of("read a"), "stage source: task read a");
    // One after the other they need no more than one.
    assert_eq!(lane_of("flush metrics"), "hooks");
    assert_eq!(lane_of("pid file"), "hooks");
}

#[test]
fn hostile_names_come_back_as_they_were() {
    let all: String = (0..0x2100).filter_map(char::from_u32).collect();
    let names = [
        "\"},{\"name\":\"mine\"",
        "back\\slash\\",
        "two\nlines\r\u{1b}[2J\u{0}\u{7f}\u{85}\u{2028}\u{2029}",
        "\u{202e}漢字 😀",
        Box::leak(all.into_boxed_str()),
        "",
    ];
    for name in names {
        let error = DrainOutcome::Failed(name.to_owned());
        let gone = vec![
            drained(Holder::Stage, name, DrainOutcome::Ended, (0, 1), None),
            drained(Holder::Task, name, error, (0, 1), Some(name)),
        ];
        let hooks = vec![hook(name, HookOutcome::Panicked(name.to_owned()), (1, 2))];
        let mut report = inner(gone, hooks, 2);
        report.reason = name.into();
        let text = ShutdownReport::new(inner(Vec::new(), Vec::new(), 1)).to_chrome_trace();
        assert!(text.lines().count() > 4);
        let events = parse(report);
        let rows: Vec<_> = events["X"]
            .iter()
            .filter(|it| it["cat"] != "shutdown")
            .collect();
        assert_eq!(rows.len(), 3);
        assert!(rows.iter().all(|event| event["name"] == name));
        assert_eq!(rows[1]["args"]["error"], name);
        assert_eq!(rows[1]["args"]["stage"], name);
        assert_eq!(rows[2]["args"]["error"], name);
        let reason = events["i"][0]["args"]["reason"].as_str().unwrap();
        assert_eq!(reason.strip_prefix("requested: "), Some(name));
        assert!(
            lanes(&events)
                .values()
                .any(|lane| *lane == format!("stage {name}"))
        );
    }
}

#[test]
fn no_control_character_and_no_line_end_is_left_raw() {
    let all: &'static str = Box::leak(
        (0..0x3000)
            .filter_map(char::from_u32)
            .collect::<String>()
            .into_boxed_str(),
    );
    let hooks = vec![hook(all, HookOutcome::Completed, (0, 1))];
    let text = ShutdownReport::new(inner(Vec::new(), hooks, 1)).to_chrome_trace();
    let raw = |c: char| (c.is_control() && c != '\n') || matches!(c, '\u{2028}' | '\u{2029}');
    assert!(!text.contains(raw));
}

#[test]
fn times_are_exact_to_the_nanosecond() {
    let mut report = inner(Vec::new(), Vec::new(), 0);
    report.took = Duration::new(86_400, 1);
    let text = ShutdownReport::new(report).to_chrome_trace();
    assert!(text.contains("\"dur\":86400000000.001"), "{text}");
}

#[test]
fn what_is_older_than_the_stop_does_not_reach_beyond_the_report() {
    // An item counts from its arrival.
    let gone = drained(
        Holder::Item,
        "old",
        DrainOutcome::Undecided,
        (0, 90_000),
        None,
    );
    let events = parse(inner(vec![gone], Vec::new(), 100));
    assert_eq!(named(&events["X"], "old")["dur"], 100_000.0);
}
