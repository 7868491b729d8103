//! The content of one file, as SHA-256.

use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::SystemTime;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::tree::Stamp;

/// A file that was read to its end.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Hashed {
    /// In hexadecimal, as it is written everywhere.
    pub(crate) digest: String,
    pub(crate) stamp: Stamp,
    /// The stamp tells every later change: see [`Stamp::is_settled_at`].
    pub(crate) settled: bool,
}

/// Hashes one file, read through `buffer`. `None`: `go_on`, which is told the length of each read, wanted no more.
pub(crate) fn hash(
    path: &Path,
    buffer: &mut [u8],
    go_on: impl Fn(usize) -> bool,
) -> io::Result<Option<Hashed>> {
    let started = SystemTime::now();
    let mut file = open(path)?;
    let before = file.metadata()?;
    if !before.is_file() {
        return Err(io::Error::other("no longer a regular file"));
    }
    let mut hasher = Sha256::new();
    loop {
        match file.read(buffer) {
            Ok(0) => break,
            Ok(length) => {
                hasher.update(&buffer[..length]);
                if !go_on(length) {
                    return Ok(None);
                }
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    let stamp = Stamp::of(&before);
    if Stamp::of(&file.metadata()?) != stamp {
        // The bytes read may be a mixture that the file never held: no line of a manifest should vouch for them.
        return Err(io::Error::other("changed while it was read"));
    }
    Ok(Some(Hashed {
        digest: format!("{:x}", hasher.finalize()),
        stamp,
        settled: stamp.is_settled_at(started),
    }))
}

/// Between the walk and now the file may have become something else: not through a symlink, and not waiting for
/// somebody to write into a FIFO.
fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK | libc::O_NOCTTY)
        .open(path)
}
