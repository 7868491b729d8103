//! A claim, from its making to its verdict.

use std::fmt;
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::time::Instant;

use rusqlite::Transaction;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::ledger::error::{CompleteError, LedgerError, StoreError, WriteError};
use crate::ledger::info::{Counts, shaped};
use crate::ledger::member::Member;
use crate::ledger::store::{self, ClaimId, Verdict};
use crate::reason::Interruption;
use crate::sync::{AtomicBool, Mutex, Ordering};

/// A piece of work that is this member's alone, until it has its verdict.
///
/// Made by [`Member::claim`]. Each of [`complete`](Self::complete), [`release`](Self::release) and
/// [`fail`](Self::fail) is its verdict; the first counts. Dropped without one it is released;
/// dropped by a panic it has failed. What is still claimed at the end of the shutdown is released
/// then, also where its work hangs: what that decides later is refused.
///
/// A verdict waits for the store: 5 s, but not beyond the time at which this member counts as dead,
/// and while stopping no longer than half of the
/// [cleanup reserve](crate::ShutdownBuilder::cleanup_reserve). After that it is kept in a journal.
/// One that neither took ([`WriteError::Store`]) is none: it can be given again.
#[must_use = "dropped, it is released"]
pub struct Claim {
    member: Member,
    id: ClaimId,
    payload: String,
    counts: Counts,
    saved: Mutex<Option<String>>,
    decided: AtomicBool,
}

/// Where a verdict is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Written {
    /// In the store.
    Stored,
    /// In the journal beside it: the store could not be reached. It is settled when that is back,
    /// by this member or at the next [`join`](crate::Ledger::join) on this host; if this member
    /// counts as dead by then, it is refused.
    Kept,
}

impl Claim {
    pub(super) fn new(
        member: Member,
        id: ClaimId,
        payload: String,
        counts: Counts,
        saved: Option<String>,
    ) -> Self {
        Self {
            member,
            id,
            payload,
            counts,
            saved: Mutex::new(saved),
            decided: AtomicBool::new(false),
        }
    }

    /// What is claimed.
    pub fn key(&self) -> &str {
        &self.id.key
    }

    /// What it was claimed with.
    ///
    /// # Errors
    ///
    /// [`LedgerError::Shape`] when it is not of this type.
    pub fn payload<T: DeserializeOwned>(&self) -> Result<T, LedgerError> {
        shaped(self.key(), &self.payload)
    }

    /// The state that was [saved](Self::save) last, by this claim or one before it.
    ///
    /// # Errors
    ///
    /// [`LedgerError::Shape`] when it is not of this type.
    pub fn saved<S: DeserializeOwned>(&self) -> Result<Option<S>, LedgerError> {
        let saved = self.saved.lock().clone();
        saved.map(|saved| shaped(self.key(), &saved)).transpose()
    }

    /// A number that is larger than that of every claim before it, of any key. An effect elsewhere
    /// can be bound to it: whoever has seen a larger one refuses a smaller one.
    pub fn epoch(&self) -> i64 {
        self.id.epoch
    }

    /// How often a member has died with it before.
    pub fn crashes(&self) -> u32 {
        self.counts.crashes.saturating_sub(1)
    }

    /// How often it was interrupted by a stop before.
    pub fn interruptions(&self) -> u32 {
        self.counts.interruptions
    }

    /// How often its work has failed before.
    pub fn failures(&self) -> u32 {
        self.counts.failures
    }

    /// The work is done: nobody gets it any more, and its key is free.
    ///
    /// An effect that is in the same `SQLite` file belongs into
    /// [`complete_with`](Self::complete_with), one in the same `PostgreSQL` database into
    /// `complete_with_postgres`.
    ///
    /// # Errors
    ///
    /// [`WriteError`]: too late, so somebody else may have it; or neither the store nor the journal
    /// took it.
    pub fn complete(&self) -> Result<Written, WriteError> {
        self.decide(&Verdict::Completed)
    }

    /// Somebody else may have it. While the program is stopping this counts as an interruption.
    ///
    /// # Errors
    ///
    /// As [`complete`](Self::complete).
    pub fn release(&self) -> Result<Written, WriteError> {
        self.decide(&self.released(false))
    }

    /// The work failed: it is given up, with this error, until somebody
    /// [retries](crate::Ledger::retry) it.
    ///
    /// # Errors
    ///
    /// As [`complete`](Self::complete).
    pub fn fail(&self, error: impl fmt::Display) -> Result<Written, WriteError> {
        self.decide(&Verdict::Failed {
            error: error.to_string(),
        })
    }

    /// Keeps how far the work has come, as JSON, for whoever claims it next.
    ///
    /// # Errors
    ///
    /// [`WriteError`]: too late, the state does not fit into JSON, or the store said no; the one
    /// saved before is still there. There is no journal for it.
    pub fn save<S: Serialize + ?Sized>(&self, state: &S) -> Result<(), WriteError> {
        let state = serde_json::to_string(state).map_err(|error| WriteError::State {
            key: self.id.key.clone(),
            error: error.to_string(),
        })?;
        if self.decided.load(Ordering::Acquire) {
            return Err(self.decided_before());
        }
        let until = self.check()?;
        match self.member.inner.store.save(&self.id, &state, until) {
            Ok(true) => {
                *self.saved.lock() = Some(state);
                Ok(())
            }
            Ok(false) => Err(self.superseded()),
            Err(error) => Err(WriteError::Store {
                error,
                journal: None,
            }),
        }
    }

    /// Completes it in one transaction with what `f` does: both happen, or neither does.
    ///
    /// `f` is called once, with a transaction on the ledger's `SQLite` file, and only if the claim
    /// is still this member's. Everybody else who writes to that file waits for it, this member's
    /// heartbeat among them: no long work in it, and no other call of the ledger, which would wait
    /// for it in vain. With an error of `f` nothing has happened, and the claim is released, with
    /// one failure more; so too by a panic of `f`, which fails it.
    ///
    /// ```
    /// # use winddown::{Ledger, Membership};
    /// # let directory = tempfile::tempdir()?;
    /// # let path = directory.path().join("jobs.db");
    /// # let shutdown = winddown::ShutdownCoordinator::builder().signals([]).install()?;
    /// # rusqlite::Connection::open(&path)?.execute_batch("CREATE TABLE jobs (id, result)")?;
    /// # let member = Ledger::open(&path)?.join(&shutdown, Membership::new("worker"))?;
    /// let claim = member.claim("17", &())?;
    /// claim.complete_with(|tx| tx.execute("UPDATE jobs SET result = 4 WHERE id = 17", []))?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`CompleteError`]: too late, the store said no, or `f` did. There is no journal for what `f`
    /// does: where the store said no the claim is released too, with one failure more. Where the
    /// ledger is not in `SQLite` it is refused, and the claim is as it was.
    pub fn complete_with<R, E>(
        &self,
        f: impl FnOnce(&Transaction<'_>) -> Result<R, E>,
    ) -> Result<R, CompleteError<E>> {
        let Some(sqlite) = self.member.inner.store.as_sqlite() else {
            return Err(elsewhere("the ledger is not in SQLite"));
        };
        self.complete_together(|until| sqlite.complete_with(&self.id, until, f))
    }

    /// As [`complete_with`](Self::complete_with), for a ledger in `PostgreSQL`: with what `f` does
    /// in its database.
    ///
    /// `f` is given a transaction of `tokio-postgres` 0.7, runs on this thread (within a runtime,
    /// on one made for it), and is dropped where it is not done in time. It is called once, and
    /// only if the claim is still this member's. It must not end the transaction, nor block: a
    /// blocking client panics in it, and another call about this claim waits for it in vain. An
    /// error of a statement that it keeps to itself is found, and then nothing is done.
    ///
    /// ```no_run
    /// # use winddown::{Ledger, Membership};
    /// # let url = "postgresql://worker@db.example/jobs";
    /// # let shutdown = winddown::ShutdownCoordinator::builder().signals([]).install()?;
    /// # let member = Ledger::connect(url)?.join(&shutdown, Membership::new("worker"))?;
    /// let claim = member.claim("17", &())?;
    /// claim.complete_with_postgres(async |tx| {
    ///     let done = "UPDATE jobs SET result = 4 WHERE id = $1";
    ///     tx.execute(done, &[&17_i64]).await
    /// })?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`CompleteError`]: too late, the server said no or could not be reached (there is no journal
    /// for what `f` does), or `f` said no.
    #[cfg(feature = "ledger-postgres")]
    pub fn complete_with_postgres<R: Send, E: Send>(
        &self,
        f: impl AsyncFnOnce(&tokio_postgres::Transaction<'_>) -> Result<R, E> + Send,
    ) -> Result<R, CompleteError<E>> {
        let Some(postgres) = self.member.inner.store.as_postgres() else {
            return Err(elsewhere("the ledger is not in PostgreSQL"));
        };
        self.complete_together(|until| postgres.complete_with(&self.id, until, f))
    }

    fn complete_together<R, E>(
        &self,
        complete: impl FnOnce(Instant) -> store::Result<Option<Result<R, E>>>,
    ) -> Result<R, CompleteError<E>> {
        let until = self.begin()?;
        // Until the caller's part has come back this is not decided: a panic of it drops the claim.
        self.decided.store(false, Ordering::Release);
        let done = complete(until);
        if matches!(done, Ok(Some(Err(_))) | Err(_)) {
            // The verdict was rolled back, so this one is due.
            let _ = self.decide(&self.released(true));
        } else {
            self.decided.store(true, Ordering::Release);
        }
        match done {
            Ok(Some(Ok(done))) => Ok(done),
            Ok(Some(Err(error))) => Err(CompleteError::Failed(error)),
            Ok(None) => Err(self.superseded().into()),
            Err(error) => Err(WriteError::Store {
                error,
                journal: None,
            }
            .into()),
        }
    }

    fn decide(&self, verdict: &Verdict) -> Result<Written, WriteError> {
        let until = self.begin()?;
        let inner = &self.member.inner;
        match inner.store.decide(&self.id, verdict, until) {
            Ok(true) => Ok(Written::Stored),
            Ok(false) => Err(self.superseded()),
            Err(error) => match inner
                .journal
                .keep(inner.store.identity(), &self.id, verdict)
            {
                Ok(()) => Ok(Written::Kept),
                Err(journal) => {
                    // Nobody has heard of it: another one may be given, at the latest by the drop.
                    self.decided.store(false, Ordering::Release);
                    Err(WriteError::Store {
                        error,
                        journal: Some(journal),
                    })
                }
            },
        }
    }

    /// The first verdict, and in time; until when the store is waited for.
    fn begin(&self) -> Result<Instant, WriteError> {
        if self.decided.swap(true, Ordering::AcqRel) {
            return Err(self.decided_before());
        }
        self.check()
    }

    fn check(&self) -> Result<Instant, WriteError> {
        let inner = &self.member.inner;
        if inner.is_fenced() {
            return Err(WriteError::Fenced {
                key: self.id.key.clone(),
                member: self.member.name().to_owned(),
            });
        }
        Ok(inner.patience())
    }

    fn decided_before(&self) -> WriteError {
        WriteError::Decided {
            key: self.id.key.clone(),
        }
    }

    fn superseded(&self) -> WriteError {
        WriteError::Superseded {
            key: self.id.key.clone(),
        }
    }

    fn released(&self, failed: bool) -> Verdict {
        Verdict::Released {
            interrupted: !failed && self.member.inner.is_stopping(),
            failed,
        }
    }

    /// As an item: what has been decided otherwise already is fine.
    pub(super) fn hand_back(&self, why: &Interruption) -> Result<(), WriteError> {
        let verdict = match why {
            Interruption::Failed(error) => Verdict::Failed {
                error: error.clone(),
            },
            Interruption::Panicked => Verdict::Failed {
                error: why.to_string(),
            },
            Interruption::CommitFailed => self.released(true),
            _ => self.released(false),
        };
        match self.decide(&verdict) {
            Err(WriteError::Decided { .. }) => Ok(()),
            decided => decided.map(drop),
        }
    }
}

/// Before anything is decided.
fn elsewhere<E>(where_not: &'static str) -> CompleteError<E> {
    let error = StoreError::new("complete a claim", false, where_not);
    let journal = None;
    WriteError::Store { error, journal }.into()
}

impl Drop for Claim {
    fn drop(&mut self) {
        if self.decided.load(Ordering::Acquire) {
            return;
        }
        let verdict = if std::thread::panicking() {
            Verdict::Failed {
                error: Interruption::Panicked.to_string(),
            }
        } else {
            self.released(false)
        };
        // Nobody is there to be told; what was not written is released when this member leaves.
        let _ = self.decide(&verdict);
    }
}

impl fmt::Debug for Claim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Claim")
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}

// No user code ever runs under the locks inside, so a panic cannot leave them half changed.
impl UnwindSafe for Claim {}
impl RefUnwindSafe for Claim {}
