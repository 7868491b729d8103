//! The report as a future, on any executor.

use std::fmt;
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use crate::inside;
use crate::report::ShutdownReport;
use crate::shutdown::Core;
use crate::slab::Key;
use crate::token::{StopFuture, StopToken};

/// Ready when the shutdown is over, with the report. Made by
/// [`wait_async`](crate::ShutdownCoordinator::wait_async) and
/// [`shutdown_async`](crate::ShutdownCoordinator::shutdown_async).
///
/// It borrows nothing, keeps one waker, the latest, and takes it back when it is dropped. It may be
/// polled again after it was ready, and is ready again.
#[must_use = "futures do nothing unless polled"]
pub struct ReportFuture {
    core: Arc<Core>,
    stop: StopFuture,
    waker: Option<Key>,
}

impl ReportFuture {
    pub(crate) fn new(core: Arc<Core>) -> Self {
        let stop = StopToken::of(&core.node).stopped();
        Self {
            core,
            stop,
            waker: None,
        }
    }
}

impl Future for ReportFuture {
    type Output = ShutdownReport;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<ShutdownReport> {
        let this = &mut *self;
        let (core, signals) = (&this.core, &this.core.signals);
        // P17.
        if inside::is_inside_own(core.id) || !signals.is_ours() {
            return Poll::Ready(core.so_far());
        }
        // Before the stop it claims nothing, so that nothing has to be taken back where it is
        // dropped, and an executor that never polls it again has not brought the owner back.
        if Pin::new(&mut this.stop).poll(cx).is_pending() {
            return Poll::Pending;
        }
        let report = core.report_or_wake(cx.waker(), &mut this.waker);
        if report.is_none() && !signals.owner.awaits_report() {
            signals.owner.await_report();
            core.work.own.holders.poke();
        }
        let Some(report) = report.or_else(|| core.conclude_overdue()) else {
            return Poll::Pending;
        };
        if signals.owner.come_back() {
            Poll::Ready(report)
        } else {
            // The process is being ended by somebody else.
            Poll::Pending
        }
    }
}

impl Drop for ReportFuture {
    fn drop(&mut self) {
        if let Some(key) = self.waker.take() {
            drop(self.core.forget_waker(key));
        }
    }
}

impl Core {
    /// The report, where there is one; otherwise `waker` is woken when there is.
    fn report_or_wake(&self, waker: &Waker, key: &mut Option<Key>) -> Option<ShutdownReport> {
        // P17: cloned and dropped without the lock; both are the executor's code.
        let mut waker = waker.clone();
        let mut progress = self.progress.lock();
        // P4: looked at under the lock that whoever makes the report takes before waking.
        if let Some(report) = &progress.report {
            return Some(report.clone());
        }
        if let Some(place) = key.and_then(|key| progress.wakers.get_mut(key)) {
            std::mem::swap(place, &mut waker);
        } else {
            *key = Some(progress.wakers.push(waker));
            return None;
        }
        drop(progress);
        drop(waker);
        None
    }

    /// Gives it back, to be dropped without the lock.
    fn forget_waker(&self, key: Key) -> Option<Waker> {
        self.progress.lock().wakers.remove(key)
    }
}

impl fmt::Debug for ReportFuture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReportFuture").finish_non_exhaustive()
    }
}

impl UnwindSafe for ReportFuture {}
impl RefUnwindSafe for ReportFuture {}
