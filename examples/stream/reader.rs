//! A partition: a file, read to its end.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom};
use std::mem;
use std::os::fd::AsFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::Sender;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use thiserror::Error;
use winddown::{Assignment, End, StopToken, split_at_end};

use crate::console::Console;
use crate::ledger::Ledger;
use crate::pipeline::Batch;

/// Between two looks for more.
const POLL: Duration = Duration::from_millis(100);

/// The same in milliseconds, for a pipe or a terminal; more wakes it sooner.
const POLL_PIPE: u8 = 100;

/// A file that cannot be a partition.
#[derive(Debug, Error)]
pub(crate) enum SourceError {
    #[error("cannot read {path:?}: {source}")]
    Open { path: PathBuf, source: io::Error },
    #[error("cannot read {0:?}: it is a directory")]
    IsADirectory(PathBuf),
    #[error("{0:?} and {1:?} are the same file: its lines would count twice")]
    Twice(PathBuf, PathBuf),
}

/// A file, open.
pub(crate) struct Source {
    path: PathBuf,
    file: File,
    /// Device and inode: what it is, whatever it is called.
    pub(crate) id: (u64, u64),
    /// Reading from it never waits.
    regular: bool,
}

impl Source {
    /// All of them or none: nothing is read before it is clear that everything can be.
    pub(crate) fn open_all(paths: &[PathBuf]) -> Result<Vec<Self>, SourceError> {
        let mut sources: Vec<Self> = Vec::new();
        for path in paths {
            let source = Self::open(path.clone())?;
            if let Some(same) = sources.iter().find(|other| other.id == source.id) {
                return Err(SourceError::Twice(same.path.clone(), source.path));
            }
            sources.push(source);
        }
        Ok(sources)
    }

    fn open(path: PathBuf) -> Result<Self, SourceError> {
        // Or opening a pipe would wait for its writer, and reading from it could not be interrupted.
        let flags = libc::O_NONBLOCK | libc::O_NOCTTY;
        let opened = OpenOptions::new()
            .read(true)
            .custom_flags(flags)
            .open(&path)
            .and_then(|file| Ok((file.metadata()?, file)));
        match opened {
            Ok((found, _)) if found.is_dir() => Err(SourceError::IsADirectory(path)),
            Ok((found, file)) => Ok(Self {
                path,
                file,
                id: (found.dev(), found.ino()),
                regular: found.is_file(),
            }),
            Err(source) => Err(SourceError::Open { path, source }),
        }
    }

    /// Reads what is there, behind what is in the buffer.
    fn read(&mut self, buffer: &mut Vec<u8>, at_most: usize) -> io::Result<Got> {
        if !self.regular {
            let mut waits = [PollFd::new(self.file.as_fd(), PollFlags::POLLIN)];
            match poll(&mut waits, PollTimeout::from(POLL_PIPE)) {
                Ok(0) | Err(Errno::EINTR) => return Ok(Got::NothingYet),
                waited => waited?,
            };
        }
        let before = buffer.len();
        buffer.resize(before + at_most, 0);
        let read = self.file.read(&mut buffer[before..]);
        buffer.truncate(before + *read.as_ref().unwrap_or(&0));
        match read {
            Ok(0) => Ok(Got::End),
            Ok(_) => Ok(Got::More),
            Err(error) => match error.kind() {
                io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted => Ok(Got::NothingYet),
                _ => Err(error),
            },
        }
    }

    /// Has become shorter than what was read of it.
    fn was_truncated(&mut self) -> io::Result<bool> {
        Ok(self.regular && self.file.metadata()?.len() < self.file.stream_position()?)
    }
}

/// What a read has brought.
enum Got {
    More,
    NothingYet,
    End,
}

pub(crate) struct Reader {
    pub(crate) source: Source,
    pub(crate) assignment: Assignment<usize>,
    pub(crate) partition: usize,
    pub(crate) batches: Sender<Batch>,
    pub(crate) ledger: Arc<Ledger>,
    pub(crate) console: Console,
    /// Its `exit` ends the others, too, so that the mere end of a file is none.
    pub(crate) ends_all: bool,
    pub(crate) follow: bool,
    pub(crate) batch: usize,
}

impl Reader {
    pub(crate) fn run(mut self, token: &StopToken) {
        let end = self.read(token).unwrap_or_else(|error| {
            // The others go on: the stream ends when they have ended, and the run has failed then.
            self.ledger.fail(self.partition);
            self.console.say(format!(
                "cannot read {:?} to its end: {error}",
                self.source.path
            ));
            Some(End::Suspended)
        });
        if let Some(end) = end {
            // It is never assigned anew.
            let _ = self.assignment.finish(end);
        }
    }

    /// How it has ended; `None`: it was stopped before that.
    fn read(&mut self, token: &StopToken) -> io::Result<Option<End>> {
        let mut buffer = Vec::new();
        while self.goes_on(token) {
            let searched = buffer.len();
            let at_end = match self.source.read(&mut buffer, self.batch)? {
                Got::NothingYet => continue,
                Got::More => false,
                Got::End if self.follow => {
                    self.wait_for_more(&mut buffer, token)?;
                    continue;
                }
                Got::End => true,
            };
            let length = if at_end {
                buffer.len()
            } else {
                let found = buffer[searched..].iter().rposition(|byte| *byte == b'\n');
                match found {
                    Some(line_break) => searched + line_break + 1,
                    None => continue,
                }
            };
            let half_line = buffer.split_off(length);
            let lines = mem::replace(&mut buffer, half_line);
            match self.hand_on(lines) {
                None => return Ok(None),
                Some(Exit(true)) => return Ok(Some(End::OfData)),
                Some(_) if at_end && self.ends_all => return Ok(Some(End::Suspended)),
                Some(_) if at_end => return Ok(Some(End::OfData)),
                Some(_) => {}
            }
        }
        Ok(None)
    }

    /// Neither is the program to stop, nor has another partition ended this one.
    fn goes_on(&self, token: &StopToken) -> bool {
        !token.is_stopped() && self.assignment.end() == Ok(None)
    }

    fn wait_for_more(&mut self, half_line: &mut Vec<u8>, token: &StopToken) -> io::Result<()> {
        if self.source.was_truncated()? {
            self.source.file.seek(SeekFrom::Start(0))?;
            half_line.clear();
            self.console.say(format!(
                "{:?} has become shorter: read again from its beginning",
                self.source.path
            ));
        } else {
            // The loop sees the stop.
            let _ = token.sleep(POLL);
        }
        Ok(())
    }

    /// Hands on the lines before an `exit`. `None`: too late, and they are none that were read.
    fn hand_on(&self, mut bytes: Vec<u8>) -> Option<Exit> {
        let split = split_at_end(bytes.split_inclusive(|byte| *byte == b'\n'), |line| {
            is_exit(line)
        });
        let exit = Exit(split.end.is_some());
        let lines = split.before.len() as u64;
        let length = split.before.iter().map(|line| line.len()).sum();
        bytes.truncate(length);
        if lines > 0 {
            let batch = Batch {
                partition: self.partition,
                lines,
                bytes,
                arrival: self.assignment.arrive().ok()?,
            };
            self.batches.send(batch).ok()?;
            self.ledger.add_read(self.partition, lines);
        }
        Some(exit)
    }
}

/// There was one.
struct Exit(bool);

fn is_exit(line: &[u8]) -> bool {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    line.strip_suffix(b"\r").unwrap_or(line) == b"exit"
}
