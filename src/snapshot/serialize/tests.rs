use std::panic::Location;
use std::time::Duration;

use serde_json::{Value, json, to_value};

use super::*;
use crate::phase::Phase;
use crate::report::Holder;

/// The snapshot that the documentation shows.
fn small() -> Snapshot {
    let here = |holder, name: &'static str| StillHere {
        holder,
        name: name.into(),
        stage: None,
        location: Location::caller(),
        age: None,
        count: 1,
        said: None,
        thread: None,
    };
    let reader = StillHere {
        stage: Some("source".into()),
        age: Some(Duration::from_secs(12)),
        said: Some(Said::new("rows".into(), Some((300, 900)))),
        thread: Some(ThreadSnapshot {
            id: 7,
            name: "reader".to_owned(),
            state: Some("blocked in recvfrom on fd 4, a socket".to_owned()),
        }),
        ..here(Holder::Task, "reader")
    };
    Snapshot {
        phase: Phase::Draining,
        reason: Some("enough".into()),
        since_stop: Some(Duration::from_millis(3_210)),
        // Not a whole millisecond.
        time_left: Some(Duration::from_millis(21_790) + Duration::from_nanos(1_501)),
        holders: vec![reader, here(Holder::Hook, "close \"it\"")],
        more: 2,
    }
}

#[test]
fn the_shape_is_the_one_that_is_documented() {
    let snapshot = small();
    let mut value = to_value(&snapshot).unwrap();
    // Where the test's own lines are is not what this is about.
    for (row, here) in value["holders"]
        .as_array_mut()
        .unwrap()
        .iter_mut()
        .zip(snapshot.holders())
    {
        let place = here.location();
        let place = json!({"file": place.file(), "line": place.line(), "column": place.column()});
        assert_eq!(row["location"], place);
        row["location"] = json!({"file": "src/main.rs", "line": 7, "column": 5});
    }
    let golden: Value = serde_json::from_str(include_str!("shape.json")).unwrap();
    assert_eq!(value, golden, "{value:#}");
}

#[test]
fn what_is_not_known_is_null_and_still_there() {
    let running = Snapshot {
        phase: Phase::Running,
        reason: None,
        since_stop: None,
        time_left: None,
        holders: Vec::new(),
        more: 0,
    };
    assert_eq!(
        serde_json::to_string(&running).unwrap(),
        r#"{"phase":"running","reason":null,"since_stop_ms":null,"time_left_ms":null,"holders":[],"more":0}"#
    );
    assert_eq!(
        to_value(Said::new("idle".into(), None)).unwrap(),
        json!({"what": "idle", "done": null, "of": null})
    );
    let nameless = ThreadSnapshot {
        id: 7,
        name: String::new(),
        state: None,
    };
    assert_eq!(
        to_value(nameless).unwrap(),
        json!({"id": 7, "name": "", "state": null})
    );
}
