//! Who works on the queue, and who of them is dead.
//!
//! Each worker process holds a lock on a file of its own as long as it lives: the kernel takes it away at the very end, however
//! that comes. No heartbeat has to be kept up, and no slow worker is taken for a dead one. It is right on one host, and so is `SQLite`.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use std::process;

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use crate::queue::{Queue, QueueError, Result};

/// This process, as a worker.
pub(crate) struct Member {
    id: i64,
    db: PathBuf,
    /// Held for what it locks.
    _lock: File,
}

impl Member {
    /// Signs on.
    pub(crate) fn sign_on(db: &Path, queue: &mut Queue) -> Result<Self> {
        queue.write(|tables| {
            tables.execute("INSERT INTO workers (pid) VALUES (?1)", [process::id()])?;
            let id = tables.last_insert_rowid();
            let path = lock_file(db, id);
            // Before the others can see the new row, so that to them there is no worker without its lock.
            let lock = OpenOptions::new()
                .create(true)
                .truncate(false)
                .write(true)
                .open(&path)
                .and_then(|file| {
                    flock(&file, FlockOperation::NonBlockingLockExclusive)?;
                    Ok(file)
                });
            match lock {
                Ok(lock) => Ok(Self {
                    id,
                    db: db.to_owned(),
                    _lock: lock,
                }),
                Err(source) => Err(QueueError::Lock { path, source }),
            }
        })
    }

    /// Never used again for another worker, unlike a process's number.
    pub(crate) fn id(&self) -> i64 {
        self.id
    }

    /// Signs off. What is still claimed stays so, and is found by the others when this process has gone.
    pub(crate) fn sign_off(&self) -> Result<()> {
        if Queue::open(&self.db)?.sign_off(self.id)? {
            remove(&lock_file(&self.db, self.id))?;
        }
        Ok(())
    }
}

/// Reopens the tasks of dead workers, and says how many they were.
pub(crate) fn bury_the_dead(db: &Path, queue: &mut Queue) -> Result<usize> {
    let mut reopened = 0;
    for worker in queue.workers()? {
        let path = lock_file(db, worker);
        // Its lock is held until the worker is buried. Whoever else comes takes it for alive meanwhile, which does no harm.
        let _lock = match dead(&path) {
            Ok(Dead::No) => continue,
            Ok(Dead::Yes(lock)) => lock,
            Err(source) => return Err(QueueError::Lock { path, source }),
        };
        reopened += queue.bury(worker)?;
        remove(&path)?;
    }
    Ok(reopened)
}

enum Dead {
    No,
    /// With its lock, if there is still a file.
    Yes(Option<File>),
}

fn dead(path: &Path) -> io::Result<Dead> {
    let file = match File::open(path) {
        Ok(file) => file,
        // Signed off since. Or somebody has removed it by hand: then a live worker loses its claims, and with them its effects.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Dead::Yes(None)),
        Err(error) => return Err(error),
    };
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(Dead::Yes(Some(file))),
        Err(Errno::WOULDBLOCK) => Ok(Dead::No),
        Err(error) => Err(error.into()),
    }
}

fn remove(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => Err(QueueError::Lock {
            path: path.to_owned(),
            source,
        }),
        _ => Ok(()),
    }
}

fn lock_file(db: &Path, worker: i64) -> PathBuf {
    let mut path = db.as_os_str().to_owned();
    path.push(format!(".worker-{worker}"));
    path.into()
}
