//! Work that is claimed, and found again when its worker is killed.

mod claim;
mod error;
mod heart;
mod host;
mod info;
mod journal;
mod member;
mod membership;
#[cfg(feature = "ledger-postgres")]
mod postgres;
mod pruning;
mod room;
mod sqlite;
mod store;

use std::fmt;
use std::io;
use std::panic::{Location, RefUnwindSafe, UnwindSafe};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::handle::ShutdownHandle;
#[cfg(feature = "ledger-postgres")]
use crate::ledger::postgres::Postgres;
use crate::ledger::pruning::Pruner;
use crate::ledger::room::Room;
use crate::ledger::sqlite::Sqlite;
use crate::ledger::store::{End, EndKind, Store};

pub use claim::{Claim, Written};
pub use error::{ClaimError, CompleteError, LedgerError, StoreError, WriteError};
pub use info::{FailedClaim, GivenUp, MemberInfo, PreviousRun};
pub use member::Member;
pub use membership::Membership;

/// How long somebody waits for the store, who has no reason to wait shorter.
const PATIENCE: Duration = Duration::from_secs(5);

/// Who works on what, in a store that outlives all of them: what no hook can do.
///
/// After `SIGKILL`, the out-of-memory killer or a power cut nobody hands anything back. Here each
/// process is a [`Member`] that says all the time that it lives, and what it works on is a
/// [`Claim`]. When it dies the others find out, and what it held is given up or done again, once.
///
/// ```
/// use winddown::{Ledger, Membership};
///
/// # let directory = tempfile::tempdir()?;
/// # let path = directory.path().join("jobs.db");
/// # let shutdown = winddown::ShutdownCoordinator::builder().signals([]).install()?;
/// let ledger = Ledger::open(&path)?;
/// let member = ledger.join(&shutdown, Membership::new("worker"))?;
/// let claim = member.claim("order 17", &"two apples")?;
/// // … the work; whoever else claims it now is told who has it …
/// claim.complete()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Words
///
/// A claim is *released*: free to be claimed again, with its counts and its saved state. It is
/// *given up*: nobody gets it before [`retry`](Self::retry); [`failed`](Self::failed) lists these.
/// A dead member is *pruned*: taken off, and its claims released or given up. A member is *fenced*:
/// it has found that it counts as dead, writes nothing more, and stops its program.
///
/// # What is promised
///
/// * A key is claimed by one member at a time. What is written to a claim counts only while it is
///   this member's: a late write of one that counted as dead is refused and changes nothing.
/// * A member beats until the end of its shutdown, through the drain and all hooks. Leaving is the
///   last thing that happens: what it still holds is then released.
/// * A member that is dead is pruned by exactly one other. Its claims are given up, or, below
///   [`max_crashes`](Membership::max_crashes), released. On the same host it is found dead at the
///   next heartbeat of any other, as the kernel frees its lock; elsewhere when it has not been
///   heard of for its [`dead_after`](Membership::dead_after). One that is merely slow for less than
///   that never is.
/// * A member that cannot renew itself [stops](crate::StopReason::Fenced) its program before others
///   may take over.
/// * What was decided while the store could not be reached is kept in a journal beside it, and
///   settled later, if it still counts then.
///
/// # Limits
///
/// One *verdict* is promised, not one effect: who counts as dead may still be running. What is done
/// in one transaction with the verdict ([`Claim::complete_with`]) happens once. For effects
/// elsewhere there is a window: killed between them and the verdict, they are there and the claim
/// is not completed, so they must bear being done again, or be bound to [`Claim::epoch`].
///
/// The ledger knows what is unfinished: a completed claim is gone, and its key is free.
///
/// A child that is forked, and does not `exec`, is no member and must not touch its parent's
/// ledger.
///
/// In `SQLite` it is for one host. The file is put into WAL mode, and everything that is decided is
/// on the disk (`synchronous = FULL`); heartbeats and who is dead are by the clock of the host. Its
/// tables begin with `winddown_`, so it can be a file of the program's own. Beside it are
/// `PATH.member-N.lock` and `PATH.member-N.journal`. A process that is suspended (`SIGSTOP`) in
/// the middle of a write keeps the file locked for all: the others then wait, fence themselves, or
/// cannot join. From a file that was moved or removed they fence themselves too: what is then made
/// in its place is another ledger.
#[derive(Clone)]
pub struct Ledger {
    store: Arc<dyn Store>,
    room: Room,
}

impl Ledger {
    /// Opens the ledger in the `SQLite` file at `path`, and makes it where there is none. Its
    /// directory must exist.
    ///
    /// # Errors
    ///
    /// [`LedgerError`]: it cannot be opened, somebody had it locked for 5 s, or its tables are of
    /// another version.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, LedgerError> {
        let refused = |source| LedgerError::File {
            path: path.as_ref().to_owned(),
            source,
        };
        let path = absolute(path.as_ref()).map_err(refused)?;
        let store = Arc::new(Sqlite::open(&path, soon())?);
        // A link that led to nothing leads to the file now.
        let path = std::fs::canonicalize(path).map_err(refused)?;
        let room = Room::beside(&path);
        Ok(Self { store, room })
    }

    /// Opens the ledger in the `PostgreSQL` database at `url`, for workers on many machines: as
    /// [`connect_with`](Self::connect_with), without a directory.
    ///
    /// Then a member is dead only when its heart has stood still for its
    /// [`dead_after`](Membership::dead_after), on the same host too; a forced run looks killed; and
    /// a verdict that the server cannot take is an error, not kept. There is no TLS; what to do
    /// about that is said [there](Self::connect_with), too.
    ///
    /// # Errors
    ///
    /// [`LedgerError`]: the server cannot be reached within 5 s, or said no, or its tables are of
    /// another version.
    #[cfg(feature = "ledger-postgres")]
    pub fn connect(url: &str) -> Result<Self, LedgerError> {
        Ok(Self {
            store: Arc::new(Postgres::connect(url, soon())?),
            room: Room::nowhere(),
        })
    }

    /// Opens the ledger in the `PostgreSQL` database at `url`, and makes its tables where there are
    /// none: in the first schema of the search path, all names begin with `winddown_`.
    ///
    /// `directory` must exist, on a local disk, and be the same for all members of this host: there
    /// are their locks and journals, so that one that is killed is found at the next heartbeat of
    /// another, and what is decided while the server is away is kept.
    ///
    /// ```no_run
    /// use winddown::Ledger;
    ///
    /// let url = "postgresql://worker@db.example/jobs?options=-csearch_path%3Dledger";
    /// let ledger = Ledger::connect_with(url, "/var/lib/worker")?;
    /// # Ok::<(), winddown::LedgerError>(())
    /// ```
    ///
    /// Each call has one connection for as long as it takes, up to 8 are kept. Times are by the
    /// clock of the server. A lost connection is made again, and what was under way is done once.
    /// The server is `PostgreSQL` 13 or newer; what is decided is as durable there as its
    /// `synchronous_commit` says, and a copy that takes over without the last of it (asynchronous
    /// replication) has forgotten that. In place of [`Claim::complete_with`] there is
    /// [`Claim::complete_with_postgres`]. A key or a name is text without a zero byte, and a key of
    /// some 2,700 bytes at most, as it is in an index; others are refused by the server.
    ///
    /// # Without TLS
    ///
    /// What is sent can be read, and changed, by whoever is between here and the server.
    /// `sslmode=require` is refused; `prefer`, which counts where none is given, goes on without.
    /// So keep to the server's Unix socket (`postgresql://worker@%2Fvar%2Frun%2Fpostgresql/jobs`),
    /// to a private network, or to something on this host that speaks TLS with the server in this
    /// one's place: `stunnel` (`protocol = pgsql`), or `pgbouncer` with `server_tls_sslmode =
    /// verify-full` and `pool_mode = session`; it refuses `options` in the URL, so give the role
    /// its `search_path`.
    ///
    /// # Errors
    ///
    /// As [`connect`](Self::connect), or the directory cannot be used. The text names the host, and
    /// never the password.
    #[cfg(feature = "ledger-postgres")]
    pub fn connect_with(url: &str, directory: impl AsRef<Path>) -> Result<Self, LedgerError> {
        let path = directory.as_ref();
        let directory = std::fs::canonicalize(path).map_err(|source| LedgerError::File {
            path: path.to_owned(),
            source,
        })?;
        let store = Postgres::connect(url, soon())?;
        // Members of different databases have the same numbers.
        let room = Room::beside(&directory.join(format!("winddown-{}", store.identity())));
        let store = Arc::new(store);
        Ok(Self { store, room })
    }

    /// Becomes a member, until the end of the shutdown. Members that are dead are pruned, and
    /// journals settled, first.
    ///
    /// It starts two threads, one that beats and one that watches that it does, and an emergency
    /// hook, with [its thread and its time](crate::HookOptions::emergency): where a second signal
    /// ends the process, that notes that it was not killed. For leaving, a quarter of the [cleanup
    /// reserve](crate::ShutdownBuilder::cleanup_reserve) is kept from the hooks, a second at most.
    /// Leaving that fails, or is late, is in the report; whoever finds the lock free then does it
    /// in this member's place.
    ///
    /// # Errors
    ///
    /// [`LedgerError`]: the program has stopped, the times do not fit, the store said no, a file or
    /// a thread could not be had.
    #[track_caller]
    pub fn join(
        &self,
        shutdown: &ShutdownHandle,
        membership: Membership,
    ) -> Result<Member, LedgerError> {
        member::join(self, shutdown, membership, Location::caller())
    }

    /// All members, in the order they joined; the dead ones too, until somebody prunes them.
    ///
    /// # Errors
    ///
    /// [`StoreError`]; the store is waited for 5 s.
    pub fn members(&self) -> Result<Vec<MemberInfo>, StoreError> {
        let members = self.store.members(soon())?;
        Ok(members.into_iter().map(|row| row.info).collect())
    }

    /// The keys that were claimed and released, and wait for somebody: the oldest first.
    ///
    /// # Errors
    ///
    /// [`StoreError`]; the store is waited for 5 s.
    pub fn released(&self) -> Result<Vec<String>, StoreError> {
        self.store.open_keys(soon())
    }

    /// The claims that are given up, the oldest first.
    ///
    /// # Errors
    ///
    /// [`StoreError`]; the store is waited for 5 s.
    pub fn failed(&self) -> Result<Vec<FailedClaim>, StoreError> {
        self.store.failed(soon())
    }

    /// Releases a claim that is given up; its crashes are forgiven. False: no such claim is given
    /// up.
    ///
    /// # Errors
    ///
    /// [`StoreError`]; the store is waited for 5 s.
    pub fn retry(&self, key: &str) -> Result<bool, StoreError> {
        self.store.retry(key, soon())
    }

    /// Removes a claim that is given up. False: no such claim is given up.
    ///
    /// # Errors
    ///
    /// [`StoreError`]; the store is waited for 5 s.
    pub fn discard(&self, key: &str) -> Result<bool, StoreError> {
        self.store.discard(key, soon())
    }

    /// What became of the run of this name that ended last: whose member has left, or is dead. Runs
    /// that go on do not count.
    ///
    /// Best asked before joining; it changes nothing. What a killed run was doing is what it said
    /// last, and it says each phase and each hook as it begins. A run that was forced is told from
    /// one that was killed by a word in its lock file, so on its own host only, and where there was
    /// time for the word; without it, it is [`Killed`](PreviousRun::Killed). One that was killed on
    /// another host is found when its `dead_after` is over.
    ///
    /// # Errors
    ///
    /// [`StoreError`]; the store is waited for 5 s.
    pub fn previous_run(&self, name: &str) -> Result<PreviousRun, StoreError> {
        let until = soon();
        let mut pruner = Pruner::new(self.room.clone());
        for row in self.store.members(until)?.into_iter().rev() {
            if row.info.name != name {
                continue;
            }
            let Some(dead) = pruner.look(&row) else {
                continue;
            };
            if let Some(lock) = dead.lock {
                lock.keep_file();
            }
            let info = row.info;
            let (found, in_flight) = (dead.found, info.in_flight);
            let (kind, took) = (found.kind(), found.took());
            return Ok(previous(kind, took, info.phase, info.hook, in_flight));
        }
        let end = self.store.last_end(name, until)?;
        Ok(end.map_or(PreviousRun::None, |end| {
            let End {
                kind,
                took,
                doing,
                in_flight,
            } = end;
            previous(kind, took, doing.phase, doing.hook, in_flight)
        }))
    }
}

fn previous(
    end: EndKind,
    took: Duration,
    phase: String,
    hook: Option<String>,
    in_flight: usize,
) -> PreviousRun {
    match end {
        EndKind::Clean => PreviousRun::Clean { took },
        EndKind::TimedOut => PreviousRun::TimedOut,
        EndKind::Fenced => PreviousRun::Fenced,
        EndKind::Forced => PreviousRun::Forced {
            phase,
            hook,
            in_flight,
        },
        EndKind::Killed => PreviousRun::Killed {
            phase,
            hook,
            in_flight,
        },
    }
}

fn soon() -> Instant {
    Instant::now() + PATIENCE
}

/// So that a change of directory changes nothing, and all who open it mean the same files beside
/// it.
fn absolute(path: &Path) -> io::Result<PathBuf> {
    match std::fs::canonicalize(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let name = path
                .file_name()
                .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "it names no file"))?;
            let directory = match path.parent() {
                Some(parent) if !parent.as_os_str().is_empty() => parent,
                _ => Path::new("."),
            };
            Ok(std::fs::canonicalize(directory)?.join(name))
        }
        found => found,
    }
}

impl fmt::Debug for Ledger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ledger").finish_non_exhaustive()
    }
}

impl UnwindSafe for Ledger {}
impl RefUnwindSafe for Ledger {}
