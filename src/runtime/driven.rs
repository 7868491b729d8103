//! A future of the user's, driven by a runtime.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::task::{Context, Poll};

use crate::inside;
use crate::panic::{Payload, contained};
use crate::said::{self, Voice};
use crate::work::{Commits, drop_whole};

/// How a future has ended.
pub(super) enum Ending<T> {
    Returned(T),
    Panicked(Payload),
    /// It was dropped before: by an abort, or with its runtime.
    Dropped,
}

/// Says how `future` has ended, once, and only when it has really been dropped: what is reported as
/// ended has ended.
pub(super) struct Driven<F: Future, E: FnOnce(Ending<F::Output>)> {
    id: u64,
    voice: Option<Voice>,
    commits: Option<Commits>,
    future: Option<Pin<Box<F>>>,
    end: Option<E>,
}

impl<F: Future, E: FnOnce(Ending<F::Output>)> Driven<F, E> {
    /// `id` is the coordinator's: the future's code is inside it (P17).
    pub(super) fn new(id: u64, future: F, end: E) -> Self {
        Self {
            id,
            voice: None,
            commits: None,
            future: Some(Box::pin(future)),
            end: Some(end),
        }
    }

    /// What the future [says](crate::say) goes to `voice`.
    pub(super) fn speaks_with(mut self, voice: Voice) -> Self {
        self.voice = Some(voice);
        self
    }

    /// While the future commits, `commits` cannot be closed.
    pub(super) fn counts(mut self, commits: Commits) -> Self {
        self.commits = Some(commits);
        self
    }

    fn finish(&mut self, ending: Ending<F::Output>) {
        let future = self.future.take();
        contained(|| drop_whole(future));
        if let Some(end) = self.end.take() {
            contained(|| end(ending));
        }
    }
}

impl<F: Future, E: FnOnce(Ending<F::Output>)> Future for Driven<F, E> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = self.get_mut();
        let _inside = inside::enter(this.id);
        let _speaking = this.voice.as_ref().map(said::speak_with);
        let _commits = this.commits.as_ref().map(Commits::drive);
        let Some(future) = &mut this.future else {
            return Poll::Ready(());
        };
        let ending = match catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(cx))) {
            Ok(Poll::Pending) => return Poll::Pending,
            Ok(Poll::Ready(output)) => Ending::Returned(output),
            Err(payload) => Ending::Panicked(payload),
        };
        this.finish(ending);
        Poll::Ready(())
    }
}

impl<F: Future, E: FnOnce(Ending<F::Output>)> Drop for Driven<F, E> {
    fn drop(&mut self) {
        if self.end.is_some() {
            let _inside = inside::enter(self.id);
            self.finish(Ending::Dropped);
        }
    }
}

// Nothing in it is pinned but what is boxed.
impl<F: Future, E: FnOnce(Ending<F::Output>)> Unpin for Driven<F, E> {}
