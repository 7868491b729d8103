//! An import of 1,000 steps that is interrupted again and again, and goes on where it was: its
//! output is that of a run that nobody has interrupted.
#![cfg(feature = "checkpoint")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    missing_docs,
    reason = "tests"
)]

#[path = "common/mod.rs"]
mod common;
#[path = "common/process.rs"]
mod process;

use std::fmt::Write as _;
use std::fs::{self, OpenOptions};
use std::io::{Seek, SeekFrom, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, raise};
use serde::{Deserialize, Serialize};
use winddown::{Checkpoint, ShutdownCoordinator, StopSource, StopToken, Ticked};

use crate::common::FAR;
use crate::process::{Process, command};

const STEPS: u64 = 1000;

/// How far it has come. What stands in the output beyond that has not happened.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct State {
    step: u64,
    written: u64,
    /// Of all lines: a step that is left out, or done twice, is in each line after it.
    sum: u64,
}

impl State {
    /// One step: the line that it imports.
    fn import(&mut self) -> String {
        self.step += 1;
        let value = self.step.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40;
        self.sum = self.sum.wrapping_mul(31).wrapping_add(value);
        let mut line = String::new();
        writeln!(line, "{} {value} {}", self.step, self.sum).unwrap();
        self.written += line.len() as u64;
        line
    }
}

fn uninterrupted() -> String {
    let mut state = State::default();
    (0..STEPS).map(|_| state.import()).collect()
}

/// Runs until the end or the stop; true: it is over. `at_step` is told the steps of this run, after
/// the output and before the checkpoint.
fn run(place: &Path, interval: Duration, token: &StopToken, at_step: impl Fn(u64)) -> bool {
    let builder = Checkpoint::<State>::builder(place.join("checkpoint")).interval(interval);
    let (mut checkpoint, restored) = builder.open().unwrap();
    let mut state = restored.into_state().unwrap_or_default();
    let mut output = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(place.join("output"))
        .unwrap();
    output.set_len(state.written).unwrap();
    output.seek(SeekFrom::End(0)).unwrap();
    let mut steps = 0;
    while state.step < STEPS {
        output.write_all(state.import().as_bytes()).unwrap();
        steps += 1;
        at_step(steps);
        if checkpoint.tick(token, &state).unwrap() == Ticked::Stopping {
            return false;
        }
    }
    checkpoint.finish().unwrap();
    true
}

fn assert_as_uninterrupted(place: &Path, what: &str) {
    let output = fs::read_to_string(place.join("output")).unwrap();
    assert!(output == uninterrupted(), "{what}");
    // The next one would be a new one.
    assert!(!place.join("checkpoint").exists(), "{what}");
}

/// How often it was interrupted.
fn stopped_at_every(kth: u64) -> u64 {
    let place = tempfile::tempdir().unwrap();
    for interruptions in 0..=STEPS {
        let source = StopSource::new();
        let stop = |steps| {
            if steps == kth {
                source.stop("now");
            }
        };
        if run(place.path(), FAR, &source.token(), stop) {
            assert_as_uninterrupted(place.path(), &format!("every {kth}"));
            return interruptions;
        }
    }
    panic!("every {kth}: no progress");
}

#[test]
fn stopped_at_every_kth_step_it_ends_as_if_it_had_not_been() {
    for kth in (1..=10).chain([31, 100, 333, 499, 500, 501, 999]) {
        // A stop at the very last step is one too, and then nothing is left to do.
        assert_eq!(stopped_at_every(kth), STEPS / kth, "every {kth}");
    }
    assert_eq!(stopped_at_every(STEPS + 1), 0);
}

#[test]
#[ignore = "takes a minute"]
fn stopped_at_every_kth_step_for_each_k() {
    for kth in 1..=STEPS {
        assert_eq!(stopped_at_every(kth), STEPS / kth, "every {kth}");
    }
}

#[test]
fn ended_by_sigterm_at_every_kth_step_it_goes_on() {
    for kth in [50, 333] {
        let ended = in_processes("term", kth, |ended| ended.code() == Some(0));
        assert_eq!(ended, STEPS / kth, "every {kth}");
    }
}

/// Killed after the output and before the checkpoint: each time that step is done again.
#[test]
fn killed_at_every_kth_step_it_goes_on() {
    for kth in [50, 333] {
        let ended = in_processes("kill", kth, |ended| ended.signal() == Some(9));
        assert_eq!(ended, (STEPS - 1) / (kth - 1), "every {kth}");
    }
}

const PLACE: &str = "WINDDOWN_IMPORT";
const WAY: &str = "WINDDOWN_IMPORT_WAY";

/// How many processes it took, without the one that came to the end.
fn in_processes(way: &str, kth: u64, is_right: impl Fn(&ExitStatus) -> bool) -> u64 {
    let place = tempfile::tempdir().unwrap();
    for interruptions in 0..=STEPS {
        let mut command = command(std::env::current_exe().unwrap());
        command
            .args(["--exact", "the_import", "--nocapture", "--ignored"])
            .env(PLACE, place.path())
            .env(WAY, format!("{way} {kth}"))
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut process = Process::start(command);
        let ended = process.end();
        process.out.last_line();
        if process.out.all().contains("imported") {
            assert!(ended.success(), "{ended}");
            assert_as_uninterrupted(place.path(), &format!("{way} {kth}"));
            return interruptions;
        }
        assert!(is_right(&ended), "{ended}\n{}", process.err.all());
    }
    panic!("{way} {kth}: no progress");
}

/// Not a test: the process of the tests above.
#[test]
#[ignore = "the process of the other tests"]
fn the_import() {
    let (Ok(place), Ok(way)) = (std::env::var(PLACE), std::env::var(WAY)) else {
        return;
    };
    let (way, kth) = way.split_once(' ').unwrap();
    let kth: u64 = kth.parse().unwrap();
    let (signal, interval) = match way {
        "term" => (Signal::SIGTERM, FAR),
        _ => (Signal::SIGKILL, Duration::ZERO),
    };
    let shutdown = ShutdownCoordinator::install().unwrap();
    let end = |steps| {
        if steps == kth {
            raise(signal).unwrap();
        }
    };
    if run(Path::new(&place), interval, &shutdown.token(), end) {
        println!("imported");
    }
    shutdown.shutdown().exit()
}
