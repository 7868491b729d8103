//! `examples/stream`: whatever ends it, exactly the lines that it says it has read are counted, and once.

mod endings;
mod faults;
mod follow;
mod in_band;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};

use tempfile::TempDir;

use crate::example;
use crate::process::{self, Process, until};

/// A directory with the files to read, and with COUNTS.
struct Place {
    dir: TempDir,
    files: Vec<&'static str>,
}

impl Place {
    fn new(files: &[(&'static str, &[u8])]) -> Self {
        let dir = TempDir::new().unwrap();
        for (name, content) in files {
            fs::write(dir.path().join(name), content).unwrap();
        }
        let files = files.iter().map(|(name, _)| *name).collect();
        Self { dir, files }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// For all files.
    fn command(&self, options: &[&str]) -> Command {
        self.set(example::command("stream", &[]), options)
    }

    /// Under strace; `None`, and said, where there is none.
    fn traced(&self, strace: &[&str], options: &[&str]) -> Option<Command> {
        // With -D the program stays this test's child, and goes with it; strace goes with the program.
        let quiet = ["-D", "-f", "-o", "/dev/null"];
        let probe = Command::new("strace").args(quiet).arg("true").status();
        if !probe.is_ok_and(|status| status.success()) {
            println!("skipped, since there is no strace here, or it may not trace");
            return None;
        }
        let mut command = process::command("strace");
        command.args(quiet).args(strace);
        command.arg(example::binary("stream"));
        Some(self.set(command, options))
    }

    fn set(&self, mut command: Command, options: &[&str]) -> Command {
        command
            .args(&self.files)
            .args(["--out", "counts"])
            .args(options)
            .current_dir(self.dir.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    fn start(&self, options: &[&str]) -> Process {
        Process::start(self.command(options))
    }

    fn run(&self, options: &[&str]) -> Ended {
        self.end(self.start(options))
    }

    fn end(&self, mut process: Process) -> Ended {
        let status = process.end();
        let last = process.err.last_line();
        assert_eq!(process.out.all(), "", "stdout is not used");
        self.assert_nothing_left();
        Ended {
            status,
            said: process.err.all(),
            read: self.lines_read(&last),
            last,
        }
    }

    fn counts(&self) -> Option<Vec<u8>> {
        fs::read(self.path("counts")).ok()
    }

    /// By the last line on stderr.
    fn lines_read(&self, last: &str) -> Option<Vec<usize>> {
        let (_, said) = last.split_once("lines read: ")?;
        let read = said.split(", ").zip(&self.files).map(|(said, file)| {
            let (name, lines) = said.rsplit_once(' ').unwrap();
            assert_eq!(name, format!("{file:?}"));
            lines.parse().unwrap()
        });
        let read: Vec<usize> = read.collect();
        assert_eq!(read.len(), self.files.len(), "{last}");
        Some(read)
    }

    /// The promise.
    #[track_caller]
    fn assert_exactly_once(&self, ended: &Ended) {
        let Some(read) = &ended.read else {
            panic!("{}: the last line is {:?}", ended.status, ended.last)
        };
        let contents: Vec<Vec<u8>> = self
            .files
            .iter()
            .map(|file| fs::read(self.path(file)).unwrap())
            .collect();
        assert_same(&self.counts().unwrap(), &oracle(&contents, read));
    }

    fn assert_nothing_left(&self) {
        let names = fs::read_dir(self.dir.path()).unwrap();
        let mut names = names.map(|entry| entry.unwrap().file_name());
        let left = names.find(|name| name.to_string_lossy().ends_with("-tmp"));
        assert_eq!(left, None);
    }

    fn wait_for_position(&self, process: &Process, name: &str, position: u64) {
        let path = fs::canonicalize(self.path(name)).unwrap();
        until("the file to be read", || {
            position_of(process, &path) == Some(position)
        });
    }
}

/// How far a running program has read the file, by what the system knows; `None` when it has not opened it, or has closed
/// it.
fn position_of(process: &Process, file: &Path) -> Option<u64> {
    let process = PathBuf::from(format!("/proc/{}", process.pid()));
    let mut open = fs::read_dir(process.join("fd")).ok()?.flatten();
    let fd = open.find(|fd| fs::read_link(fd.path()).is_ok_and(|target| target == file))?;
    let info = fs::read_to_string(process.join("fdinfo").join(fd.file_name())).ok()?;
    let position = info.lines().next()?.strip_prefix("pos:")?;
    position.trim().parse().ok()
}

struct Ended {
    status: ExitStatus,
    said: String,
    last: String,
    read: Option<Vec<usize>>,
}

/// The counts of the first so many lines of each file.
fn oracle(files: &[Vec<u8>], read: &[usize]) -> Vec<u8> {
    let mut counts: BTreeMap<&[u8], usize> = BTreeMap::new();
    for (file, read) in files.iter().zip(read) {
        let lines: Vec<&[u8]> = file.split_inclusive(|byte| *byte == b'\n').collect();
        assert!(*read <= lines.len(), "{read} of {} lines", lines.len());
        for line in &lines[..*read] {
            let words = line.split(|byte| b" \t\r\n\x0c".contains(byte));
            for word in words.filter(|word| !word.is_empty()) {
                *counts.entry(word).or_default() += 1;
            }
        }
    }
    let lines = counts.into_iter();
    let mut lines: Vec<Vec<u8>> = lines
        .map(|(word, count)| [word, format!(" {count}\n").as_bytes()].concat())
        .collect();
    lines.sort();
    lines.concat()
}

#[track_caller]
fn assert_same(found: &[u8], expected: &[u8]) {
    if found != expected {
        let line = found
            .split(|byte| *byte == b'\n')
            .zip(expected.split(|byte| *byte == b'\n'))
            .find(|(found, expected)| found != expected);
        let (found, expected) = line.unwrap_or_default();
        panic!(
            "{:?} instead of {:?}",
            String::from_utf8_lossy(found),
            String::from_utf8_lossy(expected)
        );
    }
}

/// Lines of words of which no two lines have the same: a line that is lost or counted twice shows.
fn text(lines: usize, of: &str) -> Vec<u8> {
    let line = |line| format!("{of}{line} the word {} of {of}\n", line % 7);
    (0..lines).map(line).collect::<String>().into_bytes()
}
