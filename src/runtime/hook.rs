//! Hooks that are futures.
//!
//! Their place on the stack, their times and their report are those of any hook: it is the hooks'
//! own thread that starts them and waits. Only what they do is done on the runtime.

use std::borrow::Cow;
use std::panic::Location;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, bounded};
use tokio::runtime::Handle;

use crate::ShutdownHandle;
use crate::hook::{Body, Ended, Hook, HookOptions, HookOutput};
use crate::panic;
use crate::report::HookOutcome;
use crate::runtime::driven::{Driven, Ending};
use crate::said;
use crate::snapshot::Said;
use crate::sync::{AtomicBool, Ordering};

/// For its drop code a future that is out of time has so much of it, the last part.
const TO_DROP: Duration = Duration::from_millis(20);

/// Why its future was dropped by somebody else.
const GONE: &str = "its runtime is gone";

/// As many words may wait for the thread that listens.
const WORDS: usize = 16;

impl ShutdownHandle {
    /// As [`hook`](Self::hook), with a future, which is driven on the runtime that this is called
    /// from.
    ///
    /// It has its place among all other hooks, and the same times. Out of time it is dropped, on its
    /// runtime, and reported as [`TimedOut`](HookOutcome::TimedOut); the last 20 ms of its time, or
    /// the last quarter, where that is shorter, are for its drop code. Where its runtime is gone when
    /// its turn comes, or there was none when it was registered, it is
    /// [`Skipped`](HookOutcome::Skipped), and the report [says so](crate::HookReport::why_skipped);
    /// where it goes in the midst of it, it has failed. One that blocks its worker is left behind.
    ///
    /// A `current_thread` runtime has to be run meanwhile, as by
    /// [`shutdown_async`](crate::ShutdownCoordinator::shutdown_async): blocked in
    /// [`shutdown`](crate::ShutdownCoordinator::shutdown) it drives nothing. Registered after the
    /// end it is started at once, and nobody waits for it (P19). [`Hook::run_now`] blocks.
    #[track_caller]
    pub fn hook_async<F>(&self, name: impl Into<Cow<'static, str>>, future: F) -> Hook
    where
        F: Future<Output: HookOutput> + Send + 'static,
    {
        self.register_future(HookOptions::new(name), future, Location::caller())
    }

    /// Registers a future with times of its own.
    /// [`emergency`](HookOptions::emergency) changes nothing: on the forced path nobody waits for a
    /// runtime.
    #[track_caller]
    pub fn hook_async_with<F>(&self, options: HookOptions, future: F) -> Hook
    where
        F: Future<Output: HookOutput> + Send + 'static,
    {
        self.register_future(options, future, Location::caller())
    }

    fn register_future<F>(
        &self,
        options: HookOptions,
        future: F,
        location: &'static Location<'static>,
    ) -> Hook
    where
        F: Future<Output: HookOutput> + Send + 'static,
    {
        let id = self.core().id;
        let future = Waiting {
            runtime: Handle::try_current().ok(),
            future: Some(future),
        };
        let body: Body = Box::new(move |time| future.run(id, time));
        self.register_body(options, body, location)
    }
}

/// One whose turn has not come. Dropped, it is dropped in the context of its runtime.
struct Waiting<F> {
    runtime: Option<Handle>,
    future: Option<F>,
}

impl<F, R> Waiting<F>
where
    F: Future<Output = R> + Send + 'static,
    R: HookOutput,
{
    fn run(mut self, id: u64, time: Option<Duration>) -> Option<Ended> {
        let Some((runtime, future)) = self.runtime.clone().zip(self.future.take()) else {
            return Some(skipped("it was registered outside of a runtime"));
        };
        let (tell, told) = bounded(WORDS);
        let say = tell.clone();
        // The words of one that says too much for its listener are not worth waiting for.
        let voice = Arc::new(move |said| drop(say.try_send(Told::Said(said))));
        let begins = Arc::new(AtomicBool::new(false));
        let has_begun = Arc::clone(&begins);
        // What it returned is shown and dropped as a part of it.
        let future = async move {
            begins.store(true, Ordering::Relaxed);
            future.await.into_result()
        };
        let end = move |ending: Ending<Result<(), String>>| {
            let outcome = match ending {
                Ending::Returned(result) => Ok(result.into()),
                Ending::Panicked(payload) => Ok(HookOutcome::Panicked(panic::message(payload))),
                Ending::Dropped => Err(Dropped),
            };
            let _ = tell.send(Told::Ended(outcome));
        };
        let task = runtime.spawn(Driven::new(id, future, end).speaks_with(voice));
        let time = time?;
        let to_drop = TO_DROP.min(time / 4);
        if let Some(outcome) = listen(&told, time.saturating_sub(to_drop)) {
            return Some(match outcome {
                Ok(outcome) => outcome.into(),
                Err(Dropped) if has_begun.load(Ordering::Relaxed) => {
                    HookOutcome::Failed(GONE.to_owned()).into()
                }
                Err(Dropped) => skipped(GONE),
            });
        }
        task.abort();
        // It may have ended at the last moment; and the next hook is better called after its drop.
        Some(match listen(&told, to_drop) {
            Some(Ok(outcome)) => outcome.into(),
            Some(Err(Dropped)) | None => HookOutcome::TimedOut.into(),
        })
    }
}

fn skipped(why: &'static str) -> Ended {
    Ended {
        outcome: HookOutcome::Skipped,
        why: Some(why),
    }
}

/// What the future tells the thread that waits for it.
enum Told {
    Said(Said),
    Ended(Result<HookOutcome, Dropped>),
}

/// It was dropped before its end.
struct Dropped;

/// How it has ended, within so much time. What it says meanwhile, this thread says.
fn listen(told: &Receiver<Told>, within: Duration) -> Option<Result<HookOutcome, Dropped>> {
    let began = Instant::now();
    loop {
        match told.recv_timeout(within.saturating_sub(began.elapsed())) {
            Ok(Told::Said(said)) => said::put(said),
            Ok(Told::Ended(outcome)) => return Some(outcome),
            Err(_) => return None,
        }
    }
}

impl<F> Drop for Waiting<F> {
    fn drop(&mut self) {
        if let Some(future) = self.future.take() {
            let _runtime = self.runtime.as_ref().map(Handle::enter);
            drop(future);
        }
    }
}
