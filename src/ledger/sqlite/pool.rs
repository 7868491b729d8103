//! Connections to the file, and tries that are repeated while it cannot be used.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use rusqlite::{Connection, ErrorCode, OpenFlags, Transaction, TransactionBehavior, ffi};

use crate::sync::Mutex;

/// Connections that are kept for the next one who needs one.
const IDLE: usize = 8;

/// Between two tries, while somebody else has the file locked…
const BUSY_PAUSE: Duration = Duration::from_millis(2);
/// …and while it cannot be used for another reason.
const BROKEN_PAUSE: Duration = Duration::from_millis(20);

/// Connections that nobody uses at the moment.
pub(super) struct Pool {
    path: PathBuf,
    /// Which file that was when the ledger was opened. `None`: it is being opened.
    pub(super) file: Option<(u64, u64)>,
    synchronous: &'static str,
    idle: Mutex<Vec<Connection>>,
}

impl Pool {
    pub(super) fn new(path: &Path, file: Option<(u64, u64)>, synchronous: &'static str) -> Self {
        Self {
            path: path.to_owned(),
            file,
            synchronous,
            idle: Mutex::new(Vec::new()),
        }
    }

    fn take(&self) -> rusqlite::Result<Connection> {
        let idle = self.idle.lock().pop();
        idle.map_or_else(|| self.open(OpenFlags::empty()), Ok)
    }

    pub(super) fn open(&self, more: OpenFlags) -> rusqlite::Result<Connection> {
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX | more;
        let connection = Connection::open_with_flags(&self.path, flags)?;
        // We wait ourselves, as long as there is time.
        connection.busy_timeout(Duration::ZERO)?;
        connection.pragma_update(None, "synchronous", self.synchronous)?;
        connection.set_prepared_statement_cache_capacity(32);
        Ok(connection)
    }

    pub(super) fn give_back(&self, connection: Connection) {
        let mut idle = self.idle.lock();
        if idle.len() < IDLE {
            idle.push(connection);
        }
    }

    /// The engine goes on with a file that was moved or removed; others make a new ledger in its
    /// place, and get the same keys.
    fn check(&self) -> rusqlite::Result<()> {
        if self.file.is_none() || self.file == which(&self.path) {
            return Ok(());
        }
        let moved = ffi::Error::new(ffi::SQLITE_READONLY_DBMOVED);
        let told = "its file was moved or removed".to_owned();
        Err(rusqlite::Error::SqliteFailure(moved, Some(told)))
    }

    /// Runs `f` on a connection, again and again while the file cannot be used.
    pub(super) fn run<T>(
        &self,
        until: Instant,
        mut f: impl FnMut(&Connection) -> rusqlite::Result<T>,
    ) -> rusqlite::Result<T> {
        loop {
            let taken = self.check().and_then(|()| self.take());
            let result = taken.and_then(|connection| {
                let result = f(&connection);
                // One that is broken is not worth keeping: the file may have moved.
                if result.as_ref().err().is_none_or(is_busy) {
                    self.give_back(connection);
                }
                result
            });
            match result {
                Err(error) if Instant::now() < until => pause(error, until)?,
                result => return result,
            }
        }
    }

    /// Runs `f` in a transaction of its own.
    pub(super) fn write<T>(
        &self,
        until: Instant,
        mut f: impl FnMut(&Transaction<'_>) -> rusqlite::Result<T>,
    ) -> rusqlite::Result<T> {
        self.run(until, |connection| {
            let transaction =
                Transaction::new_unchecked(connection, TransactionBehavior::Immediate)?;
            let result = f(&transaction)?;
            transaction.commit()?;
            Ok(result)
        })
    }
}

pub(super) fn which(path: &Path) -> Option<(u64, u64)> {
    let file = fs::metadata(path).ok()?;
    Some((file.dev(), file.ino()))
}

pub(super) fn is_busy(error: &rusqlite::Error) -> bool {
    matches!(
        error.sqlite_error_code(),
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked)
    )
}

/// Waits before the next try; what another try does not mend comes back.
pub(super) fn pause(error: rusqlite::Error, until: Instant) -> rusqlite::Result<()> {
    let pause = match error.sqlite_error_code() {
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => BUSY_PAUSE,
        Some(ErrorCode::SystemIoFailure | ErrorCode::CannotOpen | ErrorCode::DiskFull) => {
            BROKEN_PAUSE
        }
        _ => return Err(error),
    };
    thread::sleep(pause.min(until.saturating_duration_since(Instant::now())));
    Ok(())
}
