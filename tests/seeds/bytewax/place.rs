//! A directory with the partitions and what became of them, and the program that runs in it.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::process::ExitStatusExt;
use std::process::{ExitStatus, Stdio};

use nix::sys::signal::Signal;
use rusqlite::Connection;
use tempfile::TempDir;

use crate::oracle::{Input, state_at};
use crate::process::{self, Process};
use crate::program::{EXIT, REOPEN};
use crate::store::{Output, StateFile};

/// Set for the program; its value is its directory.
pub(crate) const DIRECTORY: &str = "WINDDOWN_BYTEWAX";

pub(crate) struct Place {
    directory: TempDir,
    pub(crate) inputs: Vec<Input>,
}

impl Place {
    pub(crate) fn new(partitions: usize) -> Self {
        Self {
            directory: tempfile::tempdir().unwrap(),
            inputs: vec![Input::default(); partitions],
        }
    }

    /// One with so many lines in each partition, and an end behind them.
    pub(crate) fn full(partitions: usize, lines: usize) -> Self {
        let mut place = Self::new(partitions);
        for partition in 0..partitions {
            place.feed_lines(partition, lines);
            place.feed(partition, &[EXIT]);
        }
        place
    }

    pub(crate) fn feed(&mut self, partition: usize, lines: &[&str]) {
        let path = self.directory.path().join(format!("partition-{partition}"));
        let mut file = OpenOptions::new()
            .append(true)
            .create(true)
            .open(path)
            .unwrap();
        file.write_all((lines.join("\n") + "\n").as_bytes())
            .unwrap();
        let lines = lines.iter().map(|line| (*line).to_owned());
        self.inputs[partition].lines.extend(lines);
    }

    /// Words that come again, in lines that do not.
    pub(crate) fn feed_lines(&mut self, partition: usize, count: usize) {
        let from = self.inputs[partition].lines.len();
        let lines: Vec<String> = (from..from + count)
            .map(|line| format!("w{} {partition}.{line}", line % 7))
            .collect();
        let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
        self.feed(partition, &lines);
    }

    /// Starts the program. How many bytes it reads again is told once it runs.
    pub(crate) fn start(&self, arguments: &[&str]) -> (Process, u64) {
        let mut command = process::command(std::env::current_exe().unwrap());
        command
            .env(DIRECTORY, self.directory.path())
            .env("RUST_BACKTRACE", "0")
            .arg(format!("partitions={}", self.inputs.len()))
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let program = Process::start(command);
        let ready = program.out.line("ready, replay ");
        let replay = ready.rsplit(' ').next().unwrap().parse().unwrap();
        (program, replay)
    }

    /// Lets the program go on that is stalled.
    pub(crate) fn release(&self) {
        fs::write(self.directory.path().join("release"), "").unwrap();
    }

    /// For who wants to do harm.
    pub(crate) fn tables(&self) -> Connection {
        Connection::open(self.directory.path().join("output.db")).unwrap()
    }

    fn output(&self) -> Output {
        Output::open(self.directory.path())
    }

    pub(crate) fn written_in_all(&self) -> usize {
        let partitions = 0..self.inputs.len();
        partitions.map(|partition| self.written(partition)).sum()
    }

    pub(crate) fn written(&self, partition: usize) -> usize {
        self.output().rows(partition).len()
    }

    /// At any time: no line is missing in between, none is there twice, none is in the wrong place,
    /// and the state is that of lines that are written. How many lines are.
    fn whole_so_far(&self) -> Result<usize, String> {
        let output = self.output();
        let state = StateFile::of(self.directory.path()).load();
        let mut lines = 0;
        for (partition, input) in self.inputs.iter().enumerate() {
            let (rows, mut expected) = (output.rows(partition), input.rows());
            expected.truncate(rows.len());
            same("the output", &rows, &expected)?;
            let end = rows.last().map_or(0, |row| row.span.1);
            same("the offset", &output.next(partition), &end)?;
            if state.next(partition) > end {
                return Err(format!("the state of {partition} is not written"));
            }
            lines += rows.len();
        }
        let expected = state_at(&self.inputs, |p| state.next(p));
        same("the state", &state, &expected)?;
        Ok(lines)
    }

    /// After an end that was none of force: and the state is that of all that is written.
    fn nothing_to_replay(&self) -> Result<usize, String> {
        let lines = self.whole_so_far()?;
        let (output, state) = (self.output(), StateFile::of(self.directory.path()).load());
        for partition in 0..self.inputs.len() {
            same("the state", &state.next(partition), &output.next(partition))?;
        }
        Ok(lines)
    }

    /// The stream is over: every line of it is in the output once, in its order, and the state is
    /// that of a run that was never interrupted.
    pub(crate) fn all_there(&self) -> Result<(), String> {
        let lines = self.nothing_to_replay()?;
        let expected = self.inputs.iter().map(|input| input.rows().len()).sum();
        same("the lines", &lines, &expected)?;
        same(
            "the totals",
            &self.totals(),
            &self.totals_of(0..self.inputs.len()),
        )
    }

    #[track_caller]
    pub(crate) fn assert_whole_so_far(&self) -> usize {
        self.whole_so_far().unwrap()
    }

    #[track_caller]
    pub(crate) fn assert_nothing_to_replay(&self) -> usize {
        self.nothing_to_replay().unwrap()
    }

    #[track_caller]
    pub(crate) fn assert_all_there(&self) {
        self.all_there().unwrap();
    }

    pub(crate) fn totals(&self) -> BTreeMap<usize, u64> {
        self.output().totals()
    }

    pub(crate) fn totals_of(
        &self,
        partitions: impl IntoIterator<Item = usize>,
    ) -> BTreeMap<usize, u64> {
        let hash = |p: usize| self.inputs[p].rows().last().map_or(0, |row| row.hash);
        partitions.into_iter().map(|p| (p, hash(p))).collect()
    }

    /// How many lines of data are not in the output.
    pub(crate) fn unread(&self, partition: usize) -> usize {
        let is_line = |line: &&String| *line != EXIT && *line != REOPEN;
        let lines = self.inputs[partition].lines.iter().filter(is_line).count();
        lines - self.written(partition)
    }
}

fn same<T: PartialEq + Debug>(what: &str, is: &T, should: &T) -> Result<(), String> {
    if is == should {
        return Ok(());
    }
    Err(format!(
        "{what}\n  is        {is:?}\n  should be {should:?}"
    ))
}

/// How a run ended, as it told and as its parent sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Ending {
    /// With the stream.
    Over,
    /// In good order, by this signal.
    Stopped(i32),
    /// Without a word.
    Killed(i32),
}

/// Waits for the end, and makes sure that what was told is what is seen.
#[track_caller]
pub(crate) fn ending(program: &mut Process, sent: Option<Signal>) -> Ending {
    let status = program.end();
    let last = program.out.last_line();
    // Read to its end, too.
    let _ = program.err.last_line();
    let all = format!("{status}\n{}\n{}", program.out.all(), program.err.all());
    assert!(!all.contains("violation"), "{all}");
    assert!(!all.contains("panicked"), "{all}");
    match last.strip_prefix("over: ") {
        Some("EndOfStream") => {
            // One that came after the end has its own effect again (P10).
            let late = sent.is_some_and(|sent| status.signal() == Some(sent as i32));
            assert!(late || status.code() == Some(0), "{all}");
            Ending::Over
        }
        Some("SIGINT") => {
            assert_eq!(status.signal(), Some(2), "{all}");
            Ending::Stopped(2)
        }
        Some("SIGTERM") => {
            assert_eq!(status.code(), Some(0), "{all}");
            Ending::Stopped(15)
        }
        Some(_) => panic!("{all}"),
        // All is done: then a signal has its own effect again, also before the last words about it.
        None if ["close state store", "stalled report"].contains(&last.as_str()) => {
            assert_eq!(status.signal(), sent.map(|sent| sent as i32), "{all}");
            Ending::Over
        }
        None => Ending::Killed(number(status)),
    }
}

/// Of the signal that it died of, or that its code names.
fn number(status: ExitStatus) -> i32 {
    status
        .signal()
        .or_else(|| status.code().map(|code| code - 128))
        .unwrap()
}
