//! Where stderr is no terminal.

use std::process::Stdio;

use libtest_mimic::Trial;
use nix::sys::signal::Signal;

use crate::process::Process;
use crate::{program, trials};

pub(crate) fn tests() -> Vec<Trial> {
    trials![
        a_log_gets_a_line_now_and_then_and_the_last,
        a_fast_shutdown_has_its_last_line_only,
        the_last_line_comes_also_when_nobody_comes_for_the_report,
        the_last_line_says_what_went_wrong,
        run_shows_a_report_that_is_not_clean_in_its_place,
    ]
}

fn start(scenario: &str, arguments: &[&str]) -> Process {
    let mut command = program(scenario, arguments);
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    Process::start(command)
}

/// All of stderr, once it has ended with this code.
fn errors(mut process: Process, code: i32) -> Vec<String> {
    assert_eq!(process.end().code(), Some(code));
    process.err.last_line();
    process.err.all().lines().map(str::to_owned).collect()
}

fn a_log_gets_a_line_now_and_then_and_the_last() {
    let gate = tempfile::tempdir().unwrap();
    let file = gate.path().join("open");
    let held = start("held", &[file.to_str().unwrap()]);
    held.out.line("ready");
    held.signal(Signal::SIGTERM);
    held.err.line("waiting for worker (");
    // Many looks later there is no second one.
    std::thread::sleep(std::time::Duration::from_secs(1));
    std::fs::write(file, "").unwrap();
    let lines = errors(held, 0);
    assert_eq!(lines.len(), 2, "{lines:#?}");
    assert!(
        lines[0].starts_with("shutdown: 30 s left, waiting for worker ("),
        "{lines:#?}"
    );
    assert!(
        lines[0].contains("): rows 3 of 9 (33 %) (SIGTERM from pid "),
        "{lines:#?}"
    );
    assert!(lines[1].starts_with("shutdown: clean in 1."), "{lines:#?}");
}

fn a_fast_shutdown_has_its_last_line_only() {
    let fast = start("fast", &[]);
    fast.out.line("ready");
    fast.signal(Signal::SIGTERM);
    let lines = errors(fast, 0);
    assert_eq!(lines.len(), 1, "{lines:#?}");
    assert!(lines[0].starts_with("shutdown: clean in "), "{lines:#?}");
}

/// P15.
fn the_last_line_comes_also_when_nobody_comes_for_the_report() {
    let lines = errors(start("nobody comes", &[]), 124);
    let last = lines.last().unwrap();
    assert!(last.starts_with("shutdown: timed out in "), "{lines:#?}");
    assert!(
        last.ends_with("(requested: enough): owner main abandoned"),
        "{lines:#?}"
    );
}

fn the_last_line_says_what_went_wrong() {
    let lines = errors(start("fails by hand", &[]), 1);
    assert_eq!(lines.len(), 1, "{lines:#?}");
    assert!(
        lines[0].ends_with("(completed): hook flush failed: disk full"),
        "{lines:#?}"
    );
}

fn run_shows_a_report_that_is_not_clean_in_its_place() {
    let fails = start("fails", &[]);
    fails.out.line("ready");
    fails.signal(Signal::SIGTERM);
    let lines = errors(fails, 1);
    assert_eq!(lines[0], "Error: it went wrong", "{lines:#?}");
    assert!(
        lines[1].starts_with("shutdown: incomplete in "),
        "{lines:#?}"
    );
    let heads = lines.iter().filter(|line| line.starts_with("shutdown: "));
    assert_eq!(heads.count(), 1, "{lines:#?}");
    assert!(
        lines
            .last()
            .unwrap()
            .ends_with(": hook flush: failed: disk full"),
        "{lines:#?}"
    );
}
