//! A lock that the kernel frees, whatever becomes of the process: one process at a time, and who is
//! still alive.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
#[cfg(feature = "ledger")]
use std::os::unix::fs::FileExt;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

/// Of what stands in the file, in bytes.
const LONGEST: u64 = 20;

/// Held until it is dropped.
#[derive(Debug)]
pub(crate) struct Lock {
    path: PathBuf,
    /// The lock belongs to the open file.
    file: File,
    /// Who took it: a fork has the open file too.
    by: u32,
}

pub(crate) enum Taken<T> {
    Mine(T),
    /// By this process, where it has said so.
    #[cfg_attr(
        not(feature = "checkpoint"),
        expect(dead_code, reason = "a member knows")
    )]
    By(Option<u32>),
}

impl Lock {
    pub(crate) fn take(path: PathBuf) -> io::Result<Taken<Self>> {
        loop {
            let mut file = OpenOptions::new()
                .read(true)
                .write(true)
                .create(true)
                .truncate(false)
                // What a link leads to is somebody else's, and is about to be written over.
                .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK | libc::O_NOCTTY)
                .open(&path)?;
            match flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => {}
                Err(Errno::INTR) => continue,
                Err(Errno::WOULDBLOCK) => return Ok(Taken::By(holder(&mut file))),
                Err(error) => return Err(error.into()),
            }
            // Whoever held it before may have removed the file: then this is the lock of nothing.
            if !is_same(&file, &path)? {
                continue;
            }
            if !is_left_behind(&mut file)? {
                let told = format!("{} is somebody else's file, not its lock", path.display());
                return Err(io::Error::new(io::ErrorKind::AlreadyExists, told));
            }
            file.set_len(0)?;
            file.seek(SeekFrom::Start(0))?;
            let by = std::process::id();
            file.write_all(format!("{by}\n").as_bytes())?;
            return Ok(Taken::Mine(Self { path, file, by }));
        }
    }

    /// Takes it again where somebody has removed the file, as those do who tidy up `/tmp`; nobody
    /// may hold it meanwhile. A fork does not hold it.
    #[cfg(feature = "checkpoint")]
    pub(crate) fn hold(&mut self) -> io::Result<Taken<()>> {
        if self.is_held()? {
            return Ok(Taken::Mine(()));
        }
        match Self::take(self.path.clone())? {
            Taken::Mine(lock) => {
                *self = lock;
                Ok(Taken::Mine(()))
            }
            Taken::By(holder) => Ok(Taken::By(holder)),
        }
    }

    fn is_held(&self) -> io::Result<bool> {
        Ok(self.by == std::process::id() && is_same(&self.file, &self.path)?)
    }
}

/// What is to be seen of a lock that somebody else has taken, or had.
#[cfg(feature = "ledger")]
pub(crate) enum Seen {
    /// Its holder lives.
    Held,
    /// Its holder has gone, and nobody else can have it now.
    Free(Lock),
    /// There is no file: the holder has let go of it, or it was removed by hand.
    Nothing,
}

#[cfg(feature = "ledger")]
impl Lock {
    /// Looks whether the holder lives.
    pub(crate) fn look(path: PathBuf) -> io::Result<Seen> {
        loop {
            let file = OpenOptions::new()
                .read(true)
                .write(true)
                .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK | libc::O_NOCTTY)
                .open(&path);
            let file = match file {
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Seen::Nothing),
                file => file?,
            };
            match flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) if is_same(&file, &path)? => {
                    let by = std::process::id();
                    return Ok(Seen::Free(Self { path, file, by }));
                }
                Ok(()) | Err(Errno::INTR) => {}
                Err(Errno::WOULDBLOCK) => return Ok(Seen::Held),
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Lets go of it, and leaves the file.
    pub(crate) fn keep_file(mut self) {
        self.path = PathBuf::new();
    }

    /// The last words of its holder: the last line in the file, after the first.
    pub(crate) fn last_words(&self) -> io::Result<String> {
        let mut text = String::new();
        let mut file = &self.file;
        file.seek(SeekFrom::Start(0))?;
        file.take(100).read_to_string(&mut text)?;
        let words = text.lines().skip(1).filter(|line| !line.is_empty()).last();
        Ok(words.unwrap_or_default().to_owned())
    }

    /// Says last words, for whoever finds the lock free.
    pub(crate) fn say(&self, words: &str) -> io::Result<()> {
        // A line of its own: somebody else may have said something before.
        let line = format!("\n{words}\n");
        self.file
            .write_all_at(line.as_bytes(), self.file.metadata()?.len())
    }

    /// For last words of somebody who cannot ask: as [`say`](Self::say) does it.
    pub(crate) fn another_file(&self) -> io::Result<File> {
        self.file.try_clone()
    }
}

fn is_same(file: &File, path: &Path) -> io::Result<bool> {
    let mine = file.metadata()?;
    match fs::metadata(path) {
        Ok(there) => Ok((there.dev(), there.ino()) == (mine.dev(), mine.ino())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// It holds what a lock does: a process id, as far as it was written. "Cargo" has its lock where
/// others keep something of theirs.
fn is_left_behind(file: &mut File) -> io::Result<bool> {
    let mut start = Vec::new();
    file.take(LONGEST + 1).read_to_end(&mut start)?;
    let id = start.strip_suffix(b"\n").unwrap_or(&start);
    // A power cut may leave zeros of it.
    let is_left = |byte: &u8| byte.is_ascii_digit() || *byte == 0;
    Ok(start.len() as u64 <= LONGEST && id.iter().all(is_left))
}

fn holder(file: &mut File) -> Option<u32> {
    let mut text = String::new();
    file.take(LONGEST).read_to_string(&mut text).ok()?;
    text.trim().parse().ok()
}

impl Drop for Lock {
    fn drop(&mut self) {
        // While it is still held: nobody else can put a file of theirs there.
        if self.is_held().is_ok_and(|held| held) {
            let _ = fs::remove_file(&self.path);
        }
    }
}
