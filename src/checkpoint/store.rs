//! The files: the current generation, the one before, and what is being written.
//!
//! 1. The current file is replaced by one rename, so it is always the old state or the new one, and
//!    whole.
//! 2. What a rename puts there is on the disk before, and the rename itself when `sync_directory`
//!    returns.
//! 3. Only the holder of the lock writes, so the names can be fixed: a process that is killed in
//!    the middle leaves nothing behind that the next one does not use again.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use crate::lock::{Lock, Taken};

#[derive(Debug)]
pub(super) struct Store {
    pub(super) current: PathBuf,
    pub(super) previous: PathBuf,
    new: PathBuf,
    directory: PathBuf,
    lock: Lock,
}

impl Store {
    pub(super) fn open(path: &Path) -> io::Result<Taken<Self>> {
        // Links are followed once: the rename is to replace the file, not the link. And absolute,
        // so that a change of directory changes nothing.
        let current = real(path)?;
        if fs::symlink_metadata(&current).is_ok_and(|found| !found.is_file()) {
            return Err(no_file());
        }
        let directory = current.parent().unwrap_or(Path::new("/")).to_owned();
        let beside = |ending: &str| {
            let mut name: OsString = current.as_os_str().to_owned();
            name.push(ending);
            PathBuf::from(name)
        };
        let (previous, new) = (beside(".previous"), beside(".new"));
        match Lock::take(beside(".lock"))? {
            Taken::By(holder) => Ok(Taken::By(holder)),
            Taken::Mine(lock) => Ok(Taken::Mine(Self {
                current,
                previous,
                new,
                directory,
                lock,
            })),
        }
    }

    /// To be asked before the files are touched: see [`Lock::hold`].
    pub(super) fn hold(&mut self) -> io::Result<Taken<()>> {
        self.lock.hold()
    }

    /// Makes `file` the current generation, and the current one the previous one.
    pub(super) fn write(&self, file: &[u8], keep_current: bool) -> io::Result<()> {
        remove(&self.new)?;
        let mut new = OpenOptions::new()
            .write(true)
            .create_new(true)
            .open(&self.new)?;
        let written = self
            .guard(&new)
            .and_then(|()| new.write_all(file))
            .and_then(|()| new.sync_all());
        drop(new);
        let replaced = written.and_then(|()| self.replace(keep_current));
        if replaced.is_err() {
            // A full disk gets its space back; the error that is told is the first.
            let _ = remove(&self.new);
        }
        replaced
    }

    /// Who may read the file before may read the new one, and nobody else; before anything is in
    /// it.
    fn guard(&self, new: &File) -> io::Result<()> {
        match fs::metadata(&self.current).or_else(|_| fs::metadata(&self.previous)) {
            // Asked first: where the mount says what they are, to set them is refused.
            Ok(before) if before.permissions() != new.metadata()?.permissions() => {
                new.set_permissions(before.permissions())
            }
            _ => Ok(()),
        }
    }

    /// The current file gets a second name. It keeps its own, so that there is no moment without
    /// it; `true` where it could not.
    fn keep(&self) -> io::Result<bool> {
        // Linked before anything is removed: where there is no current file, as after a failure on
        // a file system without links, the previous one is all there is.
        let link = || fs::hard_link(&self.current, &self.previous);
        let linked = match link() {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                remove(&self.previous).and_then(|()| link())
            }
            linked => linked,
        };
        let moved = match linked {
            Ok(()) => return Ok(false),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            // Not every file system has links. Then there is such a moment, with the previous one
            // to fall back on.
            Err(_) => fs::rename(&self.current, &self.previous),
        };
        match moved {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            moved => moved.map(|()| true),
        }
    }

    fn replace(&self, keep_current: bool) -> io::Result<()> {
        let moved = keep_current && self.keep()?;
        fs::rename(&self.new, &self.current).inspect_err(|_| {
            if moved {
                // If not, the next run takes the previous one.
                let _ = fs::rename(&self.previous, &self.current);
            }
        })
    }

    /// Removes all generations.
    pub(super) fn clear(&self) -> io::Result<()> {
        // The current one last: without it, an older one would be taken for the state.
        for path in [&self.new, &self.previous, &self.current] {
            remove(path)?;
        }
        self.sync_directory()
    }

    /// Makes renames and removals last.
    pub(super) fn sync_directory(&self) -> io::Result<()> {
        use io::ErrorKind::{InvalidInput, PermissionDenied, Unsupported};
        let synced = File::open(&self.directory).and_then(|directory| directory.sync_all());
        match synced.as_ref().map_err(io::Error::kind) {
            // Not every file system can, and a directory that may be written need not be readable:
            // the system then tells no more than that.
            Err(InvalidInput | Unsupported | PermissionDenied) => Ok(()),
            _ => synced,
        }
    }
}

/// Refuses a FIFO, which nobody may ever write into, and a device, which may never end.
pub(super) fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut file = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY)
        .open(path)?;
    if !file.metadata()?.is_file() {
        return Err(no_file());
    }
    let mut content = Vec::new();
    file.read_to_end(&mut content)?;
    Ok(content)
}

fn no_file() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, "it is not a regular file")
}

/// As many links in a row as the system follows.
const LINKS: usize = 40;

/// Its name without links. Unlike for `canonicalize`, the file need not be there yet.
fn real(path: &Path) -> io::Result<PathBuf> {
    let mut path = path.to_owned();
    for _ in 0..LINKS {
        match fs::canonicalize(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            found => return found,
        }
        let name = path
            .file_name()
            .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "it names no file"))?;
        let directory = match path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        let directory = fs::canonicalize(directory)?;
        let file = directory.join(name);
        match fs::read_link(&file) {
            Ok(target) => path = directory.join(target),
            Err(_) => return Ok(file),
        }
    }
    Err(io::Error::other("there are too many links"))
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
