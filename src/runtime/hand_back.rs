//! Hand-backs that are futures.

use std::sync::Arc;

use tokio::runtime::Handle;

use crate::hook::HookOutput;
use crate::panic;
use crate::runtime::driven::{Driven, Ending};
use crate::work::{HandBack, HandingBack, InFlight, InFlightBuilder, Interrupted};

impl<T: Send + Sync + 'static> InFlightBuilder<T> {
    /// As [`on_interrupted`](Self::on_interrupted), with a hand-back that is a future, which is
    /// driven on the runtime that this is called from.
    ///
    /// Whoever drops or fails an item does not wait for it; the drain does (P21). At the end of the
    /// time for draining it has what is left of the hand-back slice, and where it has not ended by
    /// then its item is undecided (P20). Where its runtime is gone, or there was none here, the
    /// item is reported as one whose hand-back failed, with that reason. A `current_thread` runtime
    /// has to be run meanwhile, as for an [async hook](crate::ShutdownHandle::hook_async).
    ///
    /// A future can be dropped, so what is handed back has stopped: [`HandBack::WhenStopped`] is
    /// the default here. An item in a [task](crate::ShutdownHandle::spawn_async) that is aborted is
    /// handed back when all of the task's future has been dropped, not in the midst of that; in a
    /// future of somebody else's, when the item itself is. With
    /// [`AtDeadline`](HandBack::AtDeadline), what still runs beyond the abort is handed back, too.
    ///
    /// ```
    /// # let runtime = tokio::runtime::Runtime::new()?;
    /// # runtime.block_on(async {
    /// # let shutdown = winddown::ShutdownCoordinator::builder().signals([]).install()?;
    /// let (queue, mut jobs_back) = tokio::sync::mpsc::channel(16);
    /// let jobs = shutdown.in_flight("jobs").on_interrupted_async(move |job| {
    ///     let queue = queue.clone();
    ///     async move { queue.send(job.into_item()).await }
    /// });
    /// let item = jobs.reserve().and_then(|slot| slot.fill("a job"));
    /// drop(item); // as when its future is dropped
    /// assert_eq!(jobs_back.recv().await, Some("a job"));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// # })?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn on_interrupted_async<F, Fut, R>(self, f: F) -> InFlight<T>
    where
        F: Fn(Interrupted<T>) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = R> + Send + 'static,
        R: HookOutput,
    {
        let id = self.coordinator_id();
        let (runtime, f) = (Handle::try_current().ok(), Arc::new(f));
        let hand_back = move |item| {
            let Some(runtime) = runtime.clone() else {
                let why = "it was made outside of a runtime";
                return HandingBack::Over(Err(why.to_owned()));
            };
            let f = Arc::clone(&f);
            // The closure is called as a part of the future, so that its panic is one of that.
            let future = async move { f(item).await.into_result() };
            HandingBack::ToStart(Box::new(move |tell| {
                let end = move |ending| {
                    tell(match ending {
                        Ending::Returned(result) => Ok(result),
                        Ending::Panicked(payload) => Err(panic::message(payload)),
                        Ending::Dropped => Ok(Err("its runtime is gone".to_owned())),
                    });
                };
                drop(runtime.spawn(Driven::new(id, future, end)));
            }))
        };
        self.build(HandBack::WhenStopped, Box::new(hand_back))
    }
}
