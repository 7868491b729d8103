use std::borrow::Cow;
use std::panic::Location;

use super::*;
use crate::exit_policy::ExitPolicy;
use crate::reason::{Later, StopReason};
use crate::report::{DrainReport, Holder, HookReport, HookReports, ShutdownReport};

const MS: Duration = Duration::from_millis(1);

fn report(names: &[&'static str]) -> Inner {
    let hook = |(at, name): (u32, &&'static str)| HookReport {
        holder: Holder::Hook,
        name: Cow::Borrowed(name),
        outcome: if at == 1 {
            HookOutcome::Failed("disk full".into())
        } else {
            HookOutcome::Completed
        },
        started: MS * 100 * at,
        took: MS * 100,
        location: Location::caller(),
    };
    Inner {
        reason: StopReason::from("enough"),
        later: Later {
            kept: vec![StopReason::Completed],
            more: 3,
            ..Later::default()
        },
        is_final: true,
        timed_out: false,
        hooks: HookReports {
            list: (1..).zip(names).map(hook).collect(),
            ..HookReports::default()
        },
        drained: vec![DrainReport {
            name: "importer".into(),
            holder: Holder::Task,
            outcome: DrainOutcome::Ended,
            started: Duration::ZERO,
            took: MS * 100,
            location: Location::caller(),
            stage: None,
        }],
        handed_back: 0,
        took: MS * 300,
        policy: ExitPolicy::default(),
        exit_within: None,
    }
}

struct In<'a>(&'a Inner, bool);

impl fmt::Display for In<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        waterfall(self.0, Outcome::Incomplete, self.1, f)
    }
}

#[test]
fn a_row_for_everything_on_one_axis() {
    let shown = In(&report(&["close", "flush"]), true).to_string();
    let lines: Vec<&str> = shown.lines().collect();
    assert_eq!(
        lines[0],
        "shutdown: incomplete in 300 ms (requested: enough)"
    );
    assert_eq!(lines[1], "  later: completed");
    assert_eq!(lines[2], "  later: 3 more");
    assert_eq!(
        lines[3],
        "  task    importer ████████                     100 ms  ended"
    );
    assert_eq!(
        lines[4],
        "  hook    close            █████████            100 ms  failed: disk full"
    );
    assert!(
        lines[5].starts_with("          registered at src/"),
        "{}",
        lines[5]
    );
    assert_eq!(
        lines[6],
        "  hook    flush                     █████████   100 ms  completed"
    );
}

#[test]
fn nothing_in_a_name_breaks_a_line() {
    let nasty = "two\nlines \u{1b}[2J \r \u{202e}right to left \u{2028} end";
    let inner = report(&[
        nasty,
        "漢字漢字漢字漢字漢字漢字漢字漢字漢字漢字漢字漢字漢字漢字漢字漢字",
    ]);
    for unicode in [true, false] {
        let shown = In(&inner, unicode).to_string();
        assert_eq!(shown.lines().count(), 7, "{shown}");
        for line in shown.lines() {
            assert!(columns(line) <= WIDTH, "{line}");
            assert!(line.chars().all(|c| !is_hidden(c)), "{line}");
            assert!(unicode || line.is_ascii(), "{line}");
        }
    }
}

#[test]
fn many_that_ended_well_are_counted_and_what_went_wrong_is_shown() {
    let mut inner = report(&["same"; 1000]);
    inner.hooks.list[999].outcome = HookOutcome::TimedOut;
    let shown = In(&inner, true).to_string();
    assert!(shown.lines().count() < 60, "{shown}");
    assert!(shown.contains("timed out"), "{shown}");
    assert!(shown.contains("more, ended as they should"), "{shown}");
}

#[test]
fn the_status_is_that_of_what_went_wrong() {
    let report = ShutdownReport::new(report(&["close"]));
    assert_eq!(report.outcome(), Outcome::Incomplete);
    assert_eq!(report.exit_code(), 1);
}

#[test]
fn times_are_short() {
    assert_eq!(time(Duration::from_micros(12)), "12 us");
    assert_eq!(time(MS * 1200), "1.2 s");
    assert_eq!(time(Duration::from_secs(600)), "10 min");
    assert!(time(Duration::MAX).ends_with("min"));
}

#[test]
fn a_long_name_loses_its_middle() {
    assert_eq!(
        short("connection 127.0.0.1:59312", 16, true),
        "connect….1:59312"
    );
    assert!(columns(&short("connection 127.0.0.1:59312", 16, true)) <= 16);
    assert_eq!(short("short", 16, true), "short");
}

#[test]
fn a_long_error_is_shown_whole() {
    let mut inner = report(&["close"]);
    let error = "x".repeat(250);
    inner.hooks.list[0].outcome = HookOutcome::Failed(error.clone());
    let shown = In(&inner, true).to_string();
    assert!(shown.lines().all(|line| columns(line) <= WIDTH), "{shown}");
    let whole: String = shown.chars().filter(|c| *c == 'x').collect();
    assert_eq!(whole, error);
}
