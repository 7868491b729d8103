//! Commits under way in a future that the program may abort.
//!
//! From its commit on an item is not taken back (P20), and to drop the future that commits would do
//! just that, in the middle. So it is aborted only between two commits, and none begins after that:
//! both is decided in one word. Where one is under way, the last of them aborts the future when it
//! ends, however late: what waits for its turn to commit is not left waiting (P15).

use std::cell::RefCell;
use std::sync::Arc;

use crate::sync::{AtomicUsize, OnceLock, Ordering};

/// No commit begins any more: the future is to be aborted. The other bits count those under way.
const CLOSED: usize = 1 << (usize::BITS - 1);

/// Of one future. Clones are the same.
#[derive(Clone, Default)]
pub(crate) struct Commits(Arc<Shared>);

#[derive(Default)]
struct Shared {
    word: AtomicUsize,
    /// Aborts the future. There before the word is closed.
    abort: OnceLock<Box<dyn Fn() + Send + Sync>>,
}

impl Shared {
    fn abort(&self) {
        if let Some(abort) = self.abort.get() {
            abort();
        }
    }
}

thread_local! {
    /// Of the future that this thread drives.
    static DRIVEN: RefCell<Option<Commits>> = const { RefCell::new(None) };
}

#[cfg(feature = "tokio")]
impl Commits {
    /// None begins any more. `abort` is called when none is under way: now, or by the last one. It
    /// may be called again.
    pub(crate) fn close(&self, abort: impl Fn() + Send + Sync + 'static) {
        let _ = self.0.abort.set(Box::new(abort));
        if self.0.word.fetch_or(CLOSED, Ordering::AcqRel) & !CLOSED == 0 {
            self.0.abort();
        }
    }

    /// This thread is about to drive the future, until what this returns is dropped.
    pub(crate) fn drive(&self) -> Driving {
        let own = Some(self.clone());
        let before = DRIVEN.try_with(|driven| driven.replace(own));
        Driving(before.ok().flatten())
    }
}

/// See [`Commits::drive`].
#[cfg(feature = "tokio")]
pub(crate) struct Driving(Option<Commits>);

#[cfg(feature = "tokio")]
impl Drop for Driving {
    fn drop(&mut self) {
        let before = self.0.take();
        let driven = DRIVEN.try_with(|driven| driven.replace(before));
        drop(driven);
    }
}

/// A commit is under way, until this is dropped.
pub(super) struct UnderWay(Option<Commits>);

/// Begins a commit in the future that this thread drives. `None`: that is to be aborted.
pub(super) fn begin() -> Option<UnderWay> {
    let commits = DRIVEN.try_with(|driven| driven.borrow().clone());
    let commits = commits.ok().flatten();
    if let Some(commits) = &commits {
        let more = |under_way| (under_way & CLOSED == 0).then_some(under_way + 1);
        commits
            .0
            .word
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, more)
            .ok()?;
    }
    Some(UnderWay(commits))
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        if let Some(commits) = self.0.take() {
            if commits.0.word.fetch_sub(1, Ordering::AcqRel) == CLOSED | 1 {
                commits.0.abort();
            }
        }
    }
}
