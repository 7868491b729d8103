//! A member, from its joining to its leaving.
//!
//! 1. Its lock is held before others can see it, and until they no longer can: on its host nobody
//!    takes it for dead meanwhile.
//! 2. When a renewal was sent is noted before it is sent: so by this clock it counts as dead before
//!    it does by the store's.
//! 3. Once fenced it stays so, and no final write goes out any more.

use std::borrow::Cow;
use std::convert::Infallible;
use std::fmt;
use std::os::unix::fs::FileExt;
use std::panic::{Location, RefUnwindSafe, UnwindSafe};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::{Sender, bounded};
use serde::Serialize;

use crate::clock::Tick;
use crate::handle::ShutdownHandle;
use crate::hook::Body;
use crate::ledger::claim::Claim;
use crate::ledger::error::{ClaimError, LedgerError};
use crate::ledger::host::{self, this_host};
use crate::ledger::journal::Journal;
use crate::ledger::membership::Membership;
use crate::ledger::pruning::Pruner;
use crate::ledger::room::Post;
use crate::ledger::store::{Answer, ClaimId, Doing, End, EndKind, Found, NewMember, Store};
use crate::ledger::{Ledger, PATIENCE, heart, soon};
use crate::lock::Lock;
use crate::phase::Phase;
use crate::reason::StopReason;
use crate::shutdown::LastStep;
use crate::sync::{AtomicBool, AtomicU64, Mutex, Ordering};
use crate::work::{InFlight, Interrupted};

/// A member of a [`Ledger`]: this program, or a part of it. Clones are the same member.
///
/// Made by [`Ledger::join`]. It stays one until the end of the shutdown, whether its handles are
/// kept or not; dropping them changes nothing.
#[derive(Clone)]
pub struct Member {
    pub(super) inner: Arc<Inner>,
}

pub(super) struct Inner {
    pub(super) store: Arc<dyn Store>,
    pub(super) shutdown: ShutdownHandle,
    pub(super) membership: Membership,
    pub(super) id: i64,
    pub(super) journal: Journal,
    /// When the last renewal that succeeded was sent.
    renewed: AtomicU64,
    fenced: AtomicBool,
    leaving: Arc<AtomicBool>,
    lock: Mutex<Option<Lock>>,
    /// What writes the last words on the forced path, as long as it is kept.
    last_words: Mutex<Option<Body>>,
}

/// The member leaves when this is dropped without that having been done: then it never was one.
struct Joining {
    inner: Arc<Inner>,
    /// The threads end when it goes.
    alive: Sender<Infallible>,
}

pub(super) fn join(
    ledger: &Ledger,
    shutdown: &ShutdownHandle,
    membership: Membership,
    location: &'static Location<'static>,
) -> Result<Member, LedgerError> {
    membership.check()?;
    if shutdown.phase() >= Phase::Draining {
        return Err(LedgerError::IntakeClosed);
    }
    let until = soon();
    let store = &*ledger.store;
    let mut pruner = Pruner::new(ledger.room.clone());
    pruner.tidy(store, until)?;
    pruner.prune(store, None, membership.max_crashes, until)?;
    // Each number is tried once, and there are enough of them.
    let (id, lock) = loop {
        let id = store.next_epoch(until)?;
        if let Post::Mine(lock) = ledger.room.lock(id)? {
            break (id, lock);
        }
    };
    let leaving = Arc::new(AtomicBool::new(false));
    let last_words = lock.as_ref();
    let last_words = last_words.and_then(|lock| last_words_in(lock, shutdown, &leaving));
    let host = this_host();
    let new = NewMember {
        id,
        name: membership.name.clone().into_owned(),
        host: host.name,
        boot: host.boot,
        pid: std::process::id(),
        dead_after: membership.dead_after,
        max_crashes: membership.max_crashes,
    };
    let sent = host::now();
    store.join(&new, until)?;
    let inner = Arc::new(Inner {
        store: Arc::clone(&ledger.store),
        shutdown: shutdown.clone(),
        membership,
        id,
        journal: Journal::new(ledger.room.journal_path(id)),
        renewed: AtomicU64::new(sent.nanos()),
        fenced: AtomicBool::new(false),
        leaving,
        lock: Mutex::new(lock),
        last_words: Mutex::new(last_words),
    });
    let (alive, member) = bounded(0);
    let joining = Joining {
        inner: Arc::clone(&inner),
        alive,
    };
    if let Err(error) = heart::start(&inner, pruner, &member) {
        let _ = joining.leave(false);
        return Err(error);
    }
    let step = LastStep {
        name: Cow::Owned(format!("member {} leaves", inner.membership.name)),
        location,
        step: Box::new(move |timed_out| joining.leave(timed_out)),
    };
    if let Err(late) = shutdown.core().last_step(step) {
        // Stopped meanwhile, and over already (P19).
        let _ = (late.step)(false);
        return Err(LedgerError::IntakeClosed);
    }
    Ok(Member { inner })
}

/// On the forced path there is no time for the store: a word in the lock file says that this was no
/// `SIGKILL`.
fn last_words_in(
    lock: &Lock,
    shutdown: &ShutdownHandle,
    leaving: &Arc<AtomicBool>,
) -> Option<Body> {
    let file = lock.another_file().ok()?;
    let (node, leaving) = (Arc::clone(&shutdown.core().node), Arc::clone(leaving));
    let write = move || {
        let is_over = node.time_left() == Some(Duration::ZERO);
        let words: &[u8] = match is_over {
            // It has said more than that.
            true if leaving.load(Ordering::Acquire) => return Some(Ok(())),
            true => b"\ntimed out\n",
            false => b"\nforced\n",
        };
        // Two system calls, and nothing that could be locked by the interrupted thread.
        if let Ok(there) = file.metadata() {
            let _ = file.write_all_at(words, there.len());
        }
        Some(Ok(()))
    };
    Some(shutdown.core().emergency.register(Box::new(write)))
}

impl Joining {
    /// The last step: releases what is still held, and signs off. Until it is done the heart beats.
    fn leave(self, timed_out: bool) -> Result<(), String> {
        let inner = &self.inner;
        inner.leaving.store(true, Ordering::Release);
        let left = inner.sign_off(timed_out);
        drop(self.alive);
        left
    }
}

impl Inner {
    fn sign_off(&self, timed_out: bool) -> Result<(), String> {
        let node = &self.shutdown.core().node;
        let until = Instant::now() + node.time_left().unwrap_or(PATIENCE);
        let kind = match (self.is_fenced(), timed_out) {
            (true, _) => EndKind::Fenced,
            (false, true) => EndKind::TimedOut,
            (false, false) => EndKind::Clean,
        };
        let took = node.since_stop();
        let end = End {
            kind,
            took,
            doing: Doing {
                phase: self.shutdown.phase().to_string(),
                hook: None,
            },
            in_flight: 0,
        };
        // Said before: where it does not come back, or too late, this was no crash all the same.
        // Whoever finds it then does the leaving in its place.
        let lock = self.lock.lock().take();
        if let Some(lock) = &lock {
            let _ = lock.say(&Found::Left(kind, took).to_words());
        }
        // First what has been decided: what is left is released.
        let settled = self.journal.settle(&*self.store, until);
        let left =
            settled.and_then(|()| self.store.leave(self.id, &self.membership.name, end, until));
        // The lock is given up, and so is its file, only by a member that has left: of one that has
        // not, the free lock says that it is dead.
        let words = self.last_words.lock().take();
        drop(words);
        match (&left, lock) {
            (Err(_), Some(lock)) => lock.keep_file(),
            (_, lock) => drop(lock),
        }
        left.map_err(|error| error.to_string())
    }

    pub(super) fn renewed(&self, sent: Tick) {
        self.renewed.store(sent.nanos(), Ordering::Release);
    }

    /// How long it may still count itself as alive without another renewal. `None`: no longer.
    pub(super) fn time_to_fence(&self) -> Option<Duration> {
        let renewed = Tick::from_nanos(self.renewed.load(Ordering::Acquire));
        let end = renewed + self.membership.fence_after();
        let left = end.since(host::now());
        (!left.is_zero()).then_some(left)
    }

    /// Others may take over: the program stops.
    pub(super) fn fence(&self) {
        // Whoever leaves has nothing to lose, and finds no row of its own.
        if self.leaving.load(Ordering::Acquire) || self.fenced.swap(true, Ordering::AcqRel) {
            return;
        }
        let member = self.membership.name.clone().into_owned();
        self.shutdown.stop(StopReason::Fenced { member });
    }

    /// It counts as dead, or will before its threads have noticed.
    pub(super) fn is_fenced(&self) -> bool {
        if self.fenced.load(Ordering::Acquire) {
            return true;
        }
        let late = self.time_to_fence().is_none() && !self.leaving.load(Ordering::Acquire);
        if late {
            self.fence();
        }
        late
    }

    pub(super) fn is_stopping(&self) -> bool {
        self.shutdown.phase() >= Phase::Draining
    }

    /// How long the store is waited for: not beyond the fence, and while stopping not for longer
    /// than the slice for handing back.
    pub(super) fn patience(&self) -> Instant {
        let core = self.shutdown.core();
        let mut left = self.time_to_fence().unwrap_or_default().min(PATIENCE);
        if let (true, Some(time)) = (self.is_stopping(), core.node.time_left()) {
            left = left.min(time).min(core.settings.hand_back_slice());
        }
        Instant::now() + left
    }
}

impl Member {
    /// The name it joined under.
    pub fn name(&self) -> &str {
        &self.inner.membership.name
    }

    /// Its epoch: no other member has or had the same.
    pub fn id(&self) -> i64 {
        self.inner.id
    }

    /// It counts as dead, and its program stops, or has been stopped, for
    /// [`StopReason::Fenced`].
    pub fn is_fenced(&self) -> bool {
        self.inner.is_fenced()
    }

    /// Claims `key`: nobody else gets it before this claim has its verdict, or this member is dead.
    /// One that was released is taken over, with its counts and its saved state, and the new
    /// payload.
    ///
    /// Waits for the store for 5 s at most. While it is claimed it counts as a crash, in case that
    /// nobody is left to count it; that is taken back with the verdict.
    ///
    /// # Errors
    ///
    /// [`ClaimError`]: it is taken, and by whom; given up, and why; the program has stopped; this
    /// member counts as dead; the store said no.
    pub fn claim<T: Serialize + ?Sized>(
        &self,
        key: impl Into<String>,
        payload: &T,
    ) -> Result<Claim, ClaimError> {
        let (inner, key) = (&self.inner, key.into());
        let fenced = |key| ClaimError::Fenced {
            key,
            member: self.name().to_owned(),
        };
        if inner.is_fenced() {
            return Err(fenced(key));
        }
        if inner.is_stopping() {
            return Err(ClaimError::IntakeClosed);
        }
        let payload = match serde_json::to_string(payload) {
            Ok(payload) => payload,
            Err(error) => {
                let error = error.to_string();
                return Err(ClaimError::Payload { key, error });
            }
        };
        // What the store said to one that has waited for it until it counted as dead is not why.
        let refused = |key, error| match error {
            _ if inner.is_fenced() => fenced(key),
            error => ClaimError::from(error),
        };
        let until = inner.patience();
        loop {
            let store = &inner.store;
            let answer = match store.claim(inner.id, &key, &payload, until) {
                Ok(answer) => answer,
                Err(error) => return Err(refused(key, error)),
            };
            match answer {
                Answer::Claimed {
                    epoch,
                    counts,
                    saved,
                } => {
                    let id = ClaimId {
                        key,
                        owner: inner.id,
                        epoch,
                    };
                    return Ok(Claim::new(self.clone(), id, payload, counts, saved));
                }
                Answer::Taken(Some(by)) => return Err(ClaimError::Taken { key, by }),
                // By nobody: no heartbeat has found it yet.
                Answer::Taken(None) => {
                    let pruned = store.prune_orphans(inner.membership.max_crashes, until);
                    if let Err(error) = pruned {
                        return Err(refused(key, error));
                    }
                }
                Answer::GivenUp(failed) => return Err(ClaimError::GivenUp(failed)),
                Answer::NoMember => {
                    inner.fence();
                    return Err(fenced(key));
                }
            }
        }
    }

    /// A set of work in flight whose items are claims (P20): an item that is handed back is
    /// released, one that [fails](crate::Item::fail) or panics is given up.
    ///
    /// ```
    /// # use winddown::{Ledger, Membership};
    /// # let directory = tempfile::tempdir()?;
    /// # let shutdown = winddown::ShutdownCoordinator::builder().signals([]).install()?;
    /// # let ledger = Ledger::open(directory.path().join("db"))?;
    /// # let member = ledger.join(&shutdown, Membership::new("worker"))?;
    /// let jobs = member.in_flight("jobs");
    /// while let Some(slot) = jobs.reserve() {
    ///     # if member.name() == "worker" && shutdown.token().is_stopped() { break }
    ///     let claim = member.claim("order 17", "two apples")?;
    ///     let Some(item) = slot.fill(claim) else { break }; // the stop came meanwhile: released
    ///     // … the work …
    ///     item.complete(|claim| claim.complete())?;
    ///     # shutdown.stop("enough");
    /// }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[track_caller]
    pub fn in_flight(&self, name: impl Into<Cow<'static, str>>) -> InFlight<Claim> {
        let builder = self.inner.shutdown.in_flight::<Claim>(name);
        builder.on_interrupted(|item: Interrupted<Claim>| item.item().hand_back(item.why()))
    }
}

impl fmt::Debug for Member {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Member")
            .field("name", &self.name())
            .field("id", &self.id())
            .finish_non_exhaustive()
    }
}

// No user code ever runs under the locks inside, so a panic cannot leave them half changed.
impl UnwindSafe for Member {}
impl RefUnwindSafe for Member {}
