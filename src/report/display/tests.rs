use super::*;
use crate::report::fixture::{drained, everything, hook, inner};
use crate::report::{DrainOutcome, Holder, HookOutcome, ShutdownReport};
use crate::text::{is_hidden, short};

const EVERYTHING: &str = "\
shutdown: incomplete in 2.6 s (SIGTERM from pid 4242, uid 1000)
  after 200 ms: requested: the disk is full
  after 1.2 s: task write failed: no space left on device
  and 3 more reasons
  items handed back: 5
                         0 ───────────────── 1.3 s ───────────── 2.6 s
  owner main             █                                               30 ms  ended
  hold  http connections ██                                             120 ms  ended
  stage source           ━━                                             160 ms  ended
    task  read a         █                                               40 ms  ended
    task  read b         ██                                             160 ms  ended
  stage parse              ━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━   2.4 s  abandoned
    task  parse            ▒▒▒                                          180 ms  panicked: index out…
    task  index            ▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒   2.4 s  abandoned
  stage sink                                ━━━━━━━━━━━━━━━━━━━━━━━━━━   1.5 s  abandoned
    task  write                             ▒                           100 ms  failed: no space le…
    item  rows ×2                           ▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒   1.5 s  undecided
  hook  flush metrics                                      ▒▒▒▒         250 ms  timed out
  hook  database                                               ▒▒▒      150 ms  failed: disk full
  hook  cache                                                     ▏       0 us  panicked: no
  hook  pid file                                                  ▏       1 ms  completed
  hook  goodbye                                                                 skipped
  and 7 more hooks and guards
what went wrong, and where it was registered:
  src/main.rs:7:5:
      task parse of stage parse: panicked: index out of bounds: the length is 3
  src/main.rs:7:5: task index of stage parse: abandoned
  src/main.rs:7:5: task write of stage sink: failed: no space left on device
  src/main.rs:7:5: item rows ×2 of stage sink: undecided
  src/main.rs:7:5: hook flush metrics: timed out
  src/main.rs:7:5: hook database: failed: disk full
  src/main.rs:7:5: hook cache: panicked: no
  src/main.rs:7:5: hook goodbye: skipped";
const ONE: &str = "\
shutdown: incomplete in 200 ms (SIGTERM from pid 4242, uid 1000)
  hook lights █████████████████████████                           100 ms  completed";
const UNDER_WAY: &str = "\
shutdown: under way for 100 ms (SIGTERM from pid 4242, uid 1000)
                0 ──────────────────── 50 ms ────────────── 100 ms
  stage source  ━━━━━━━━━━━━━━━━━━━━━━━━━                           50 ms  ended
  stage sink                                                               under way
    task  write                          ███████████████            30 ms  ended";

struct In<'a>(&'a Inner, bool);

impl fmt::Display for In<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        waterfall(self.0, Outcome::Incomplete, self.1, f)
    }
}

/// Both ways, after a look at what holds for every picture.
#[track_caller]
fn shown(report: &Inner) -> (String, String) {
    let both = (In(report, true).to_string(), In(report, false).to_string());
    for line in both.0.lines().chain(both.1.lines()) {
        let place = line.trim_start().starts_with("src/");
        assert!(columns(line) <= WIDTH || place, "{line}");
        assert!(
            !line.contains(is_hidden) && !line.ends_with(' '),
            "{line:?}"
        );
    }
    assert!(both.1.is_ascii(), "{}", both.1);
    both
}

/// Line and column of a file of tests are not what a golden text is about.
fn golden(shown: &str) -> String {
    let place =
        crate::report::fixture::drained(Holder::Hold, "", DrainOutcome::Ended, (0, 0), None);
    shown.replace(&place.location.to_string(), "src/main.rs:7:5")
}

#[test]
fn everything_in_one_picture() {
    let (unicode, ascii) = shown(&everything());
    assert_eq!(golden(&unicode), EVERYTHING);
    // Where the locale is not UTF-8: the same picture.
    let signs = [
        ('█', '#'),
        ('▒', 'x'),
        ('━', '='),
        ('▏', '|'),
        ('─', '-'),
        ('×', 'x'),
        ('…', '~'),
    ];
    let translated = signs
        .iter()
        .fold(EVERYTHING.to_owned(), |text, (from, to)| {
            text.replace(*from, &to.to_string())
        });
    assert_eq!(golden(&ascii), translated);
}

#[test]
fn one_row_needs_no_axis() {
    let hooks = vec![hook("lights", HookOutcome::Completed, (0, 100))];
    assert_eq!(shown(&inner(Vec::new(), hooks, 200)).0, ONE);
}

#[test]
fn what_is_under_way_has_no_end() {
    let sink = (Holder::Task, "write", DrainOutcome::Ended, (50, 80));
    let gone = vec![
        drained(Holder::Stage, "source", DrainOutcome::Ended, (0, 50), None),
        drained(sink.0, sink.1, sink.2, sink.3, Some("sink")),
    ];
    let mut report = inner(gone, Vec::new(), 100);
    report.is_final = false;
    assert_eq!(shown(&report).0, UNDER_WAY);
}

#[test]
fn of_many_the_slow_ones_and_those_that_went_wrong_are_drawn() {
    let pool = ("pool", DrainOutcome::Ended, (0, 600));
    let mut gone = vec![drained(Holder::Stage, pool.0, pool.1, pool.2, None)];
    for at in 0..100 {
        let name = numbered("worker", at);
        gone.push(drained(
            Holder::Task,
            name,
            DrainOutcome::Ended,
            (0, 5 * at),
            Some("pool"),
        ));
    }
    gone[8].outcome = DrainOutcome::Abandoned;
    let hooks = (0..20).map(|at| hook(numbered("fast", at), HookOutcome::Completed, (600, 600)));
    let shown = shown(&inner(gone, hooks.collect(), 600)).0;
    let drawn: Vec<&str> = shown.lines().collect();
    // The head, the axis, 40 rows, two lines for those that are not drawn, two of what went wrong.
    assert_eq!(drawn.len(), 1 + 1 + ROWS + 2 + 2, "{shown}");
    assert!(drawn[3].starts_with("    task  worker 7 "), "{shown}");
    assert!(drawn[4].starts_with("    task  worker 62 "), "{shown}");
    assert!(drawn[41].starts_with("    task  worker 99 "), "{shown}");
    assert_eq!(drawn[42], "    and 61 more, 305 ms at most");
    assert_eq!(drawn[43], "  and 20 more, 0 us at most");
    assert!(
        drawn[45].ends_with(": task worker 7 of stage pool: abandoned"),
        "{shown}"
    );
}

#[test]
fn more_stages_than_there_are_rows_are_counted() {
    let mut gone = Vec::new();
    let ended = || DrainOutcome::Ended;
    for at in 0..100 {
        let stage = numbered("stage", at);
        gone.push(drained(Holder::Stage, stage, ended(), (at, 2 * at), None));
        for name in ["in it", "too"] {
            gone.push(drained(Holder::Hold, name, ended(), (at, at), Some(stage)));
        }
    }
    // Of a quick stage: that is drawn with what went wrong in it.
    gone[3 * 3 + 1].outcome = DrainOutcome::Abandoned;
    let shown = shown(&inner(gone, Vec::new(), 200)).0;
    let (picture, _) = shown.split_once("\nwhat went wrong").unwrap();
    let drawn: Vec<&str> = picture.lines().skip(2).collect();
    assert!(drawn[0].starts_with("  stage stage 3 "), "{shown}");
    assert!(drawn[1].starts_with("    hold  in it "), "{shown}");
    assert!(drawn[2].starts_with("    hold  too "), "{shown}");
    assert!(drawn[3].starts_with("  stage stage 61 "), "{shown}");
    assert_eq!(drawn[4], "    and 2 more, 0 us at most");
    let last = format!("  and {} more stages", 100 - ROWS);
    assert_eq!(drawn.last(), Some(&last.as_str()), "{shown}");
}

#[test]
fn what_many_say_in_the_same_words_is_one_row() {
    let hooks = (0..1000).map(|at| hook("connection", HookOutcome::Completed, (at, at + 1)));
    let mut report = inner(Vec::new(), hooks.collect(), 1000);
    report.hooks.list[999].outcome = HookOutcome::TimedOut;
    let shown = shown(&report).0;
    assert_eq!(shown.lines().count(), 1 + 1 + 2 + 2, "{shown}");
    assert!(shown.contains(" connection ×999 "), "{shown}");
    assert!(shown.contains("timed out"), "{shown}");
}

#[test]
fn a_stage_is_blamed_only_where_nothing_in_it_is() {
    let stage = |name| drained(Holder::Stage, name, DrainOutcome::Abandoned, (0, 9), None);
    let left = DrainOutcome::Abandoned;
    let gone = vec![
        stage("empty"),
        stage("late"),
        drained(Holder::Hold, "held", left, (0, 9), Some("late")),
    ];
    let shown = golden(&shown(&inner(gone, Vec::new(), 9)).0);
    let (_, wrong) = shown.split_once("what went wrong").unwrap();
    let wrong: Vec<&str> = wrong.lines().skip(1).collect();
    assert_eq!(
        wrong,
        [
            "  src/main.rs:7:5: stage empty: abandoned",
            "  src/main.rs:7:5: hold held of stage late: abandoned"
        ]
    );
}

#[test]
fn nothing_in_a_name_breaks_a_line() {
    let nasty = "two\nlines \u{1b}[2J \r \u{202e}right to left \u{2028} end";
    let wide = "漢字漢字漢字漢字漢字漢字漢字漢字漢字漢字漢字漢字漢字漢字漢字漢字";
    for name in [nasty, wide] {
        let gone = vec![
            drained(Holder::Stage, name, DrainOutcome::Ended, (0, 5), None),
            drained(Holder::Task, name, DrainOutcome::Ended, (0, 5), Some(name)),
        ];
        let hooks = vec![hook(name, HookOutcome::Failed(name.to_owned()), (5, 9))];
        let mut report = inner(gone, hooks, 9);
        report.reason = name.into();
        report.later.kept.push(name.into());
        let (unicode, ascii) = shown(&report);
        // Long ones are broken over several lines, by us.
        for shown in [&unicode, &ascii] {
            let rows = shown.lines().filter(|line| line.contains("ended"));
            assert_eq!(rows.count(), 2, "{shown}");
        }
        assert!(unicode.lines().count() <= 12, "{unicode}");
    }
}

#[test]
fn a_long_error_and_a_long_reason_are_shown_whole() {
    let error = "z".repeat(250);
    let hooks = vec![hook("close", HookOutcome::Failed(error.clone()), (0, 1))];
    let mut report = inner(Vec::new(), hooks, 1);
    report.reason = "y".repeat(333).into();
    let shown = shown(&report).0;
    let (_, below) = shown.split_once("what went wrong").unwrap();
    assert_eq!(below.matches('z').count(), 250, "{shown}");
    assert_eq!(shown.matches('y').count(), 333, "{shown}");
}

#[test]
fn lines_are_broken_between_words() {
    assert_eq!(parts("one two three", 9), ["one two", "three"]);
    assert_eq!(parts("one  two", 4), ["one ", "two"]);
    assert_eq!(parts("abcdefgh", 3), ["abc", "def", "gh"]);
    assert_eq!(parts("漢字漢字", 5), ["漢字", "漢字"]);
    assert_eq!(parts("", 5), [""]);
}

#[test]
fn the_status_is_that_of_what_went_wrong() {
    let hooks = vec![hook(
        "close",
        HookOutcome::Failed("disk full".into()),
        (0, 1),
    )];
    let report = ShutdownReport::new(inner(Vec::new(), hooks, 1));
    assert_eq!(report.outcome(), Outcome::Incomplete);
    assert_eq!(report.exit_code(), 1);
}

#[test]
fn times_are_short() {
    assert_eq!(time(Duration::from_micros(12)), "12 us");
    assert_eq!(time(Duration::from_millis(1200)), "1.2 s");
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

fn numbered(name: &str, number: u32) -> &'static str {
    Box::leak(format!("{name} {number}").into_boxed_str())
}
