//! The two threads of a member.
//!
//! The heart beats, says what the program is doing, and looks after the other members. It may hang
//! in the store. So a second thread, which touches nothing that can hang, watches when the last
//! renewal was sent, and fences the member in time.

use std::borrow::Cow;
use std::convert::Infallible;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, never, select};

use crate::event::Event;
use crate::ledger::error::LedgerError;
use crate::ledger::member::Inner;
use crate::ledger::pruning::Pruner;
use crate::ledger::store::Doing;

/// After a heartbeat that the store did not take it tries again so soon, at the latest.
const AGAIN: Duration = Duration::from_millis(100);

/// A heartbeat is at least so often: points in time have an end.
const SELDOM: Duration = Duration::from_secs(86_400);

/// Both end when the other end of `member` has gone.
pub(super) fn start(
    inner: &Arc<Inner>,
    pruner: Pruner,
    member: &Receiver<Infallible>,
) -> Result<(), LedgerError> {
    let (watched, until) = (Arc::clone(inner), member.clone());
    thread("winddown-fence", move || watch(&watched, &until))?;
    let events = inner.shutdown.events();
    let heart = Heart {
        inner: Arc::clone(inner),
        pruner,
        said: None,
    };
    let until = member.clone();
    thread("winddown-heart", move || heart.beat_until(&until, events))
}

fn thread(name: &'static str, f: impl FnOnce() + Send + 'static) -> Result<(), LedgerError> {
    let thread = thread::Builder::new().name(name.to_owned()).spawn(f);
    thread
        .map(drop)
        .map_err(|source| LedgerError::Thread { name, source })
}

fn watch(inner: &Inner, member: &Receiver<Infallible>) {
    loop {
        let Some(left) = inner.time_to_fence() else {
            inner.fence();
            return;
        };
        if let Err(RecvTimeoutError::Disconnected) = member.recv_timeout(left) {
            return;
        }
    }
}

struct Heart {
    inner: Arc<Inner>,
    pruner: Pruner,
    /// What the store knows.
    said: Option<Doing>,
}

impl Heart {
    fn beat_until(mut self, member: &Receiver<Infallible>, mut events: Receiver<Event>) {
        let every = self.inner.membership.heartbeat.min(SELDOM);
        let mut next = Instant::now() + every;
        loop {
            select! {
                recv(member) -> _ => return,
                recv(events) -> event => {
                    if event.is_err() {
                        events = never();
                        continue;
                    }
                    // No more than are there now: as many may come as are taken.
                    for _ in 0..events.len() {
                        let _ = events.try_recv();
                    }
                    let news = self.said.as_ref() != Some(&self.doing());
                    if news && !self.inner.is_fenced() {
                        self.beat();
                    }
                }
                default(next.saturating_duration_since(Instant::now())) => {
                    if self.inner.is_fenced() {
                        // Nothing is renewed any more: others may have taken over.
                        next = Instant::now() + every;
                        continue;
                    }
                    if self.beat() {
                        next += every;
                        self.look_after(next);
                    } else {
                        next = Instant::now() + every.min(AGAIN);
                    }
                    // The machine slept, or the store took its time: no heartbeat is made up for.
                    next = next.max(Instant::now());
                }
            }
        }
    }

    /// Asked for, and not put together from the events: some may be missing, and what ends within a
    /// hook does not end that.
    fn doing(&self) -> Doing {
        let shutdown = &self.inner.shutdown;
        let hook = shutdown.core().hooks.running();
        Doing {
            phase: shutdown.phase().to_string(),
            hook: hook.map(Cow::into_owned),
        }
    }

    /// One write. False: the store did not take it.
    fn beat(&mut self) -> bool {
        let inner = &self.inner;
        let doing = self.doing();
        let sent = crate::ledger::host::now();
        let Some(left) = inner.time_to_fence() else {
            inner.fence();
            return false;
        };
        match inner.store.beat(inner.id, &doing, Instant::now() + left) {
            Ok(true) => {
                inner.renewed(sent);
                self.said = Some(doing);
                true
            }
            Ok(false) => {
                // Pruned, or removed by hand; or it is leaving at this moment.
                inner.fence();
                true
            }
            Err(_) => false,
        }
    }

    /// Settles what was kept while the store was away, and prunes who is dead. What the store does
    /// not take now is done at the next heartbeat.
    fn look_after(&mut self, until: Instant) {
        let inner = &self.inner;
        let store = &*inner.store;
        let _ = inner.journal.settle(store, until);
        let most = inner.membership.max_crashes;
        let _ = self.pruner.prune(store, Some(inner.id), most, until);
    }
}
