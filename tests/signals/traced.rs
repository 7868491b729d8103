//! A program under `strace`, which can send a signal, or let a call fail, at the k-th call of a kind, and writes down
//! what happened in which order.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fmt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use libtest_mimic::Completion;
use nix::unistd::Pid;
use tempfile::TempDir;

use crate::harness::{Launch, skip};

/// Where the programs of one test are traced, one after the other.
pub(crate) struct Tracer {
    directory: TempDir,
}

impl Tracer {
    /// `Err`: nothing can be traced here.
    pub(crate) fn new() -> Result<Self, Completion> {
        let probe = Command::new("strace")
            .args(["-qq", "true"])
            .stdin(Stdio::null())
            .output();
        if !probe.as_ref().is_ok_and(|output| output.status.success()) {
            return Err(skip(&format!("no strace here: {probe:?}")));
        }
        let directory = tempfile::tempdir().unwrap();
        Ok(Tracer { directory })
    }

    fn path(&self) -> PathBuf {
        self.directory.path().join("log")
    }

    /// Traces all calls of all threads, with such options besides.
    pub(crate) fn over(&self, launch: Launch, options: &[String]) -> Launch {
        // Whatever was written down of the last program is none of this one's.
        let _ = std::fs::remove_file(self.path());
        let log = format!("-o{}", self.path().display());
        // Cargo's directories of libraries would be searched first: calls by the hundred, and none of them the program's.
        let mut through = vec!["-uLD_LIBRARY_PATH", "strace", "-f", "-qq", &log];
        through.extend(options.iter().map(String::as_str));
        launch.through(&through)
    }

    /// Traces these threads of a program that runs already, and no others.
    pub(crate) fn attach<'a>(
        &self,
        threads: impl Iterator<Item = &'a OsStr>,
        options: &[String],
    ) -> Child {
        let _ = std::fs::remove_file(self.path());
        let mut strace = Command::new("strace");
        strace.arg("-qq").arg("-o").arg(self.path()).args(options);
        for thread in threads {
            strace.arg("-p").arg(thread);
        }
        let quiet = strace.stdin(Stdio::null()).stderr(Stdio::null());
        quiet.spawn().unwrap()
    }

    /// What has been written down so far; all, once the program has ended.
    pub(crate) fn log(&self) -> Log {
        let text = std::fs::read_to_string(self.path()).unwrap_or_default();
        let whole = text.rfind('\n').map_or("", |end| &text[..end]);
        let line = |line: &str| {
            let (thread, what) = line.split_once(' ').unwrap();
            (thread.parse().unwrap(), what.trim_start().to_owned())
        };
        Log(whole.lines().map(line).collect())
    }
}

/// Gives up the test where nothing can be traced.
macro_rules! tracer_or_skip {
    () => {
        match $crate::traced::Tracer::new() {
            Ok(tracer) => tracer,
            Err(skipped) => return skipped,
        }
    };
}
pub(crate) use tracer_or_skip;

/// The thread, and what it did: one line for a call, two for one during which others did something.
pub(crate) struct Log(pub(crate) Vec<(i32, String)>);

impl fmt::Display for Log {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0
            .iter()
            .try_for_each(|(thread, line)| writeln!(f, "{thread} {line}"))
    }
}

impl Log {
    /// The process: its first thread.
    pub(crate) fn pid(&self) -> Option<Pid> {
        self.0.first().map(|(thread, _)| Pid::from_raw(*thread))
    }

    /// Where the first line is that begins so.
    pub(crate) fn first(&self, what: &str) -> Option<usize> {
        self.0.iter().position(|(_, line)| line.starts_with(what))
    }

    /// Where the call that begins at `begun` ends, if it does.
    pub(crate) fn end_of(&self, begun: usize) -> Option<usize> {
        let (caller, line) = &self.0[begun];
        if !line.ends_with("<unfinished ...>") {
            return Some(begun);
        }
        let ends = |(thread, line): &(i32, String)| thread == caller && line.starts_with("<... ");
        let after = self.0[begun..].iter().position(ends)?;
        // It may be that the thread has ended in it.
        (!self.0[begun + after].1.ends_with("= ?")).then_some(begun + after)
    }

    /// The names of all calls.
    pub(crate) fn calls(&self) -> BTreeSet<String> {
        self.0
            .iter()
            .filter_map(|(_, line)| call(line))
            .map(str::to_owned)
            .collect()
    }
}

/// The name of the call that begins with this line, if one does.
pub(crate) fn call(line: &str) -> Option<&str> {
    let (name, _) = line.split_once('(')?;
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
    (!name.is_empty() && name.chars().all(is_name)).then_some(name)
}
