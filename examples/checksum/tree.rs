//! What there is to hash: the regular files below a directory, in the order of the manifest.

use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use walkdir::WalkDir;
use winddown::{StopToken, Stopped, UntilStopped};

use crate::Error;
use crate::console::Console;
use crate::output::Output;

/// File systems keep times as coarsely as this (FAT: two seconds).
const COARSEST_TIME: Duration = Duration::from_secs(2);

/// What tells whether a file still is the one that was hashed.
///
/// A write moves both times. Whoever puts the modification time back afterwards (`touch -d`, `cp -p` over it) cannot
/// put the change time back, and a new file under the old name has another inode.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Stamp {
    pub(crate) size: u64,
    pub(crate) inode: u64,
    /// Seconds and nanoseconds, as the file system has them.
    pub(crate) modified: (i64, i64),
    pub(crate) changed: (i64, i64),
}

impl Stamp {
    pub(crate) fn of(file: &Metadata) -> Self {
        Self {
            size: file.size(),
            inode: file.ino(),
            modified: (file.mtime(), file.mtime_nsec()),
            changed: (file.ctime(), file.ctime_nsec()),
        }
    }

    /// The file had not been touched for a while at that time. One that had could be written to again within the same
    /// tick of the file system's clock, and nobody would see it from the stamp.
    pub(crate) fn is_settled_at(&self, now: SystemTime) -> bool {
        let before = now
            .checked_sub(COARSEST_TIME)
            .and_then(|time| time.duration_since(UNIX_EPOCH).ok());
        before
            .and_then(|time| i64::try_from(time.as_secs()).ok())
            .is_some_and(|before| self.modified.0 < before)
    }
}

/// One file to hash.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) path: PathBuf,
    pub(crate) stamp: Stamp,
}

/// Finds the regular files below `dir`, without those that `output` writes itself, ordered by the bytes of their path.
///
/// What cannot be looked into is told on the console and left out.
pub(crate) fn walk(
    dir: &Path,
    output: &Output,
    console: &Console,
    token: &StopToken,
) -> Result<Vec<Found>, Stopped> {
    let mut files = Vec::new();
    for entry in WalkDir::new(dir).into_iter().until_stopped(token) {
        let found = entry.and_then(|entry| {
            if !entry.file_type().is_file() || output.owns(entry.path()) {
                return Ok(None);
            }
            let stamp = Stamp::of(&entry.metadata()?);
            Ok(Some(Found {
                path: entry.into_path(),
                stamp,
            }))
        });
        match found {
            Ok(Some(file)) => {
                files.push(file);
                console.found(files.len());
            }
            Ok(None) => {}
            Err(error) => {
                let path = error.path().unwrap_or(dir).to_owned();
                let why = error
                    .into_io_error()
                    .unwrap_or_else(|| io::Error::other("the links go round in a circle"));
                console.unreadable(&path, &why);
            }
        }
    }
    // The loop above ends early at a stop. A part of the tree must not pass for the whole.
    token.check()?;
    // Not the order of `Path`, which compares name by name: "a.b" comes before "a/b" in bytes.
    files.sort_unstable_by(|a, b| a.path.as_os_str().cmp(b.path.as_os_str()));
    Ok(files)
}

/// Refuses a `dir` that is not there, or no directory.
pub(crate) fn check(dir: &Path) -> Result<(), Error> {
    match fs::metadata(dir) {
        Ok(found) if found.is_dir() => Ok(()),
        Ok(_) => Err(Error::NotADirectory(dir.to_owned())),
        Err(source) => Err(Error::NoTree {
            dir: dir.to_owned(),
            source,
        }),
    }
}
