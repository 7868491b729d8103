use std::panic::Location;

use super::*;
use crate::report::{HookOutcome, HookReport, HookReports, Inner};
use crate::snapshot::Said;

const S: fn(u64) -> Duration = Duration::from_secs;
const QUIET: NextInterrupt = NextInterrupt::Unknown;
const AGAIN: NextInterrupt = NextInterrupt::Forces { again: true };
const FIRST: NextInterrupt = NextInterrupt::Forces { again: false };

fn here(holder: Holder, name: &'static str, age: u64) -> StillHere {
    StillHere {
        holder,
        name: name.into(),
        stage: None,
        location: Location::caller(),
        age: Some(S(age)),
        count: 1,
        said: None,
        thread: None,
    }
}

fn importer() -> StillHere {
    StillHere {
        said: Some(Said::new("rows".into(), Some((300, 900)))),
        ..here(Holder::Task, "importer", 12)
    }
}

/// Of 25 s, so many are over.
fn draining(since: u64, holders: Vec<StillHere>) -> Snapshot {
    Snapshot {
        phase: Phase::Draining,
        reason: Some("enough".into()),
        since_stop: Some(S(since)),
        time_left: Some(S(25 - since)),
        holders,
        more: 0,
    }
}

#[test]
fn the_live_line_at_every_width() {
    let one = draining(7, vec![importer()]);
    for (width, line) in [
        (
            132,
            "[███████████████     ] 18 s left, waiting for importer (12 s): rows 300 of 900 (33 %)           press Ctrl-C again to force quit now",
        ),
        (
            100,
            "[████████  ] 18 s, importer (12 s): rows 300 of 900 (33 %)      press Ctrl-C again to force quit now",
        ),
        (
            80,
            "[████████  ] 18 s, importer (12 s): rows 300 of 900…  Ctrl-C again to force quit",
        ),
        (
            60,
            "18 s, importer (12 s): rows 300 of 900 (33 %)  Ctrl-C forces",
        ),
        (40, "18 s, importer (12 s): r…  Ctrl-C forces"),
        (20, "18 s, importer (12 …"),
        (6, "18 s,…"),
        (1, "…"),
        (0, ""),
    ] {
        assert_eq!(live(&one, AGAIN, width, true), line, "{width}");
    }
}

#[test]
fn no_line_is_wider_than_the_terminal_whatever_is_in_it() {
    let wild = StillHere {
        said: Some(Said::new("字\u{1b}[2J\n\u{202e}字字字".into(), None)),
        ..here(Holder::Task, "größe 漢字\r", 100_000)
    };
    for count in 0..12 {
        let all = vec![wild.clone(); count];
        for since in [0, 3, 25] {
            for width in (0..40).chain((40..150).step_by(3)) {
                for (next, utf8) in [(QUIET, true), (AGAIN, true), (FIRST, false)] {
                    let line = live(&draining(since, all.clone()), next, width, utf8);
                    assert!(columns(&line) <= width, "{width}: {line:?}");
                    assert!(!line.contains(char::is_control), "{line:?}");
                    assert!(utf8 || line.is_ascii(), "{line:?}");
                }
            }
        }
    }
}

#[test]
fn who_finds_no_room_takes_turns() {
    let names = ["one", "two", "three"];
    let all: Vec<_> = names.map(|name| here(Holder::Hold, name, 4)).into();
    let line = |since, width| live(&draining(since, all.clone()), QUIET, width, true);
    assert_eq!(line(0, 48), "25 s, one (4 s); two (4 s); three (4 s)");
    assert_eq!(line(3, 48), "22 s, one (4 s); two (4 s); three (4 s)");
    assert_eq!(line(0, 30), "25 s, one (4 s); 2 more");
    assert_eq!(line(2, 30), "23 s, one (4 s); 2 more");
    assert_eq!(line(3, 30), "22 s, two (4 s); 2 more");
    assert_eq!(line(6, 30), "19 s, three (4 s); 2 more");
    assert_eq!(line(9, 30), "16 s, one (4 s); 2 more");
}

#[test]
fn an_owner_that_waits_for_the_others_is_no_news() {
    let both = draining(7, vec![importer(), here(Holder::Owner, "main", 20)]);
    assert_eq!(
        live(&both, QUIET, 80, true),
        "[████████  ] 18 s, importer (12 s): rows 300 of 900 (33 %)"
    );
    assert!(plain(&both, QUIET, true).contains("; thread main (20 s) ("));
    let late = here(Holder::Hold, "late", 3);
    let one = draining(7, vec![late, here(Holder::Owner, "main", 20)]);
    assert_eq!(live(&one, QUIET, 80, true), "[████████  ] 18 s, late (3 s)");
}

#[test]
fn nothing_is_said_of_ctrl_c_unless_it_is_known() {
    let one = draining(7, vec![here(Holder::Owner, "main", 7)]);
    assert_eq!(
        live(&one, QUIET, 100, true),
        "[████████  ] 18 s, thread main (7 s)"
    );
    let first = live(&one, FIRST, 100, false);
    assert!(first.starts_with("[########  ] 18 s, thread main (7 s)   "));
    assert!(first.ends_with("  press Ctrl-C to force quit now") && first.len() == 100);
}

#[test]
fn a_hook_the_end_and_no_end() {
    let mut hook = draining(24, vec![here(Holder::Hook, "flush", 1)]);
    hook.phase = Phase::Cleaning;
    hook.time_left = Some(Duration::from_millis(300));
    assert_eq!(
        live(&hook, QUIET, 80, true),
        "[█         ] 1 s, hook flush (1 s)"
    );
    hook.holders.clear();
    hook.time_left = Some(Duration::ZERO);
    assert_eq!(
        live(&hook, QUIET, 80, true),
        "[          ] 0 s, cleaning up"
    );
    hook.time_left = Some(Duration::MAX);
    hook.phase = Phase::Draining;
    assert_eq!(live(&hook, QUIET, 80, true), "draining");
}

#[test]
fn the_line_of_a_log() {
    let jobs = StillHere {
        count: 3,
        stage: Some("sink".into()),
        ..here(Holder::Item, "jobs", 200)
    };
    let two = draining(5, vec![importer(), jobs]);
    assert_eq!(
        plain(&two, QUIET, false),
        "shutdown: 20 s left, waiting for importer (12 s): rows 300 of 900 (33 %); \
         3 of jobs of sink (3 min) (requested: enough)"
    );
    assert!(plain(&two, AGAIN, false).ends_with("; press Ctrl-C again to force quit now"));
    let many = draining(0, vec![here(Holder::Hold, "h", 1); 30]);
    assert_eq!(plain(&many, QUIET, true).matches("h (1 s)").count(), NAMED);
    assert!(plain(&many, QUIET, true).contains("; 22 more ("));
}

#[test]
fn the_last_line() {
    let report = |list: Vec<HookReport>, handed_back, reason: &'static str| {
        ShutdownReport::new(Inner {
            reason: reason.into(),
            later: crate::reason::Later::default(),
            is_final: true,
            cut_short: false,
            timed_out: false,
            hooks: HookReports {
                list,
                ..HookReports::default()
            },
            drained: Vec::new(),
            handed_back,
            took: Duration::from_millis(1234),
            policy: crate::ExitPolicy::default(),
            exit_within: None,
        })
    };
    assert_eq!(
        last(&report(Vec::new(), 0, "enough\n"), false),
        "shutdown: clean in 1.2 s (requested: enough\\n)"
    );
    assert_eq!(
        last(&report(Vec::new(), 2, "enough"), false),
        "shutdown: clean in 1.2 s (requested: enough), 2 items handed back"
    );
    let hook = |name: &'static str, outcome| HookReport {
        name: name.into(),
        holder: Holder::Hook,
        outcome,
        why: None,
        started: Duration::ZERO.into(),
        took: Duration::ZERO.into(),
        location: Location::caller(),
    };
    let mut hooks = vec![
        hook("flush", HookOutcome::Failed("disk full".into())),
        hook("fine", HookOutcome::Completed),
    ];
    assert_eq!(
        last(&report(hooks.clone(), 0, "enough"), false),
        "shutdown: incomplete in 1.2 s (requested: enough): hook flush failed: disk full"
    );
    hooks.extend(vec![hook("late", HookOutcome::TimedOut); 5]);
    let line = last(&report(hooks, 0, "enough"), false);
    assert!(line.ends_with("hook late timed out; 2 more"), "{line}");
    assert_eq!(
        forced(Some(Signal::INT)),
        "shutdown: forced to end by SIGINT"
    );
}
