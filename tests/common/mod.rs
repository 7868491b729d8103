//! What the in-process tests share.
#![allow(dead_code, reason = "each test binary uses its own part")]

use std::sync::mpsc;
use std::time::Duration;

use winddown::{HookOutcome, ShutdownBuilder, ShutdownCoordinator, ShutdownReport};

/// Reaching it is a failure.
pub(crate) const FAR: Duration = Duration::from_secs(60);

/// Long enough to be seen as a lower bound, short enough to be waited for.
pub(crate) const SHORT: Duration = Duration::from_millis(50);

/// So many rounds of a race; an interpreter, which is a thousand times slower and finds data races in
/// any one of them, gets a few.
pub(crate) fn rounds(many: usize) -> usize {
    if cfg!(miri) { many.min(3) } else { many }
}

/// A coordinator that leaves the signals of the test process alone.
pub(crate) fn embedded() -> ShutdownBuilder {
    ShutdownCoordinator::builder().signals([]).grace_period(FAR)
}

/// Little time for the drain, much for what comes after it.
pub(crate) fn hasty() -> ShutdownBuilder {
    embedded()
        .grace_period(SHORT * 40)
        .cleanup_reserve(SHORT * 36)
}

/// No time for the drain, and 30 s for the hand-back.
pub(crate) fn undrained() -> ShutdownBuilder {
    embedded().cleanup_reserve(FAR)
}

/// What became of the hooks, in the order of the report.
pub(crate) fn outcomes(report: &ShutdownReport) -> Vec<(&str, HookOutcome)> {
    let hooks = report.hooks().iter();
    hooks
        .map(|hook| (hook.name(), hook.outcome().clone()))
        .collect()
}

/// Runs `f` on a thread and fails when it does not end.
#[track_caller]
pub(crate) fn bounded<R: Send + 'static>(f: impl FnOnce() -> R + Send + 'static) -> R {
    let (done, ended) = mpsc::channel();
    let thread = std::thread::spawn(move || {
        let _ = done.send(f());
    });
    match ended.recv_timeout(FAR) {
        Ok(result) => {
            thread.join().expect("it has sent its result");
            result
        }
        Err(mpsc::RecvTimeoutError::Timeout) => panic!("it hangs"),
        Err(mpsc::RecvTimeoutError::Disconnected) => match thread.join() {
            Err(payload) => std::panic::resume_unwind(payload),
            Ok(()) => unreachable!("it has sent its result"),
        },
    }
}
