//! A commit that is a future.

use std::future::poll_fn;
use std::pin::pin;

use crate::inside;
use crate::reason::Interruption;
use crate::work::in_flight::{Item, NotCompleted};
use crate::work::item::Stand;
use crate::work::under_way;

impl<T: Send + Sync + 'static> Item<T> {
    /// As [`complete`](Self::complete), with a commit that is a future, on any executor.
    ///
    /// A [task](crate::ShutdownHandle::spawn_async) is not aborted while it commits: that is waited
    /// for within the hand-back slice, and the item is undecided if it has not ended when the report
    /// is made (P20). In a task that
    /// is being aborted no commit begins: it is dropped there, and the item handed back; where its
    /// thread is blocked on it, it gives [`NotCompleted::HandedBack`].
    ///
    /// Dropped in the middle by somebody else, as by a `select!` or with its runtime, it hands the
    /// item back, after the commit's future has been dropped: whether that had taken effect by then
    /// is the commit's to know.
    ///
    /// # Errors
    ///
    /// As [`complete`](Self::complete).
    ///
    /// # Panics
    ///
    /// When `commit` does; the item has been handed back by then.
    pub async fn complete_async<O, E>(
        self,
        commit: impl AsyncFnOnce(&T) -> Result<O, E>,
    ) -> Result<O, NotCompleted<E>> {
        let Some(_under_way) = under_way::begin() else {
            // The abort drops it here, and the item goes with it; but not where a thread is blocked
            // on this, which comes back when the program takes what is left.
            self.token().stopped().await;
            return Err(self.too_late());
        };
        // Declared before the commit, and so dropped after it.
        let mut item = Committing(self.begin_commit()?);
        let id = item.0.coordinator_id();
        let committed = {
            let mut commit = pin!(commit(&item.0));
            poll_fn(|cx| {
                let _inside = id.map(inside::enter);
                commit.as_mut().poll(cx)
            })
            .await
        };
        match committed {
            Ok(output) => {
                item.0.committed();
                Ok(output)
            }
            Err(error) => {
                item.0.end(Stand::Committing, Interruption::CommitFailed);
                Err(NotCompleted::CommitFailed(error))
            }
        }
    }
}

/// Hands the item back where the commit does not come to its end.
struct Committing<T: Send + Sync + 'static>(Item<T>);

impl<T: Send + Sync + 'static> Drop for Committing<T> {
    fn drop(&mut self) {
        let why = if std::thread::panicking() {
            Interruption::Panicked
        } else {
            Interruption::Dropped
        };
        self.0.end(Stand::Committing, why);
    }
}
