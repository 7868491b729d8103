//! P4, P18, P21: the report, awaited.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use libtest_mimic::Trial;
use tokio::sync::Barrier;
use winddown::{DrainOutcome, StopReason, StopSource};

use crate::common::{bounded, embedded};
use crate::harness::trials;
use crate::{multi_thread, on_both};

pub(crate) fn tests() -> Vec<Trial> {
    trials![
        p18_the_report_is_awaited_on_both_runtimes,
        p18_async_and_blocking_callers_get_the_same_report,
        p4_ten_thousand_tasks_are_all_woken,
        p21_the_drain_race_is_never_lost,
    ]
}

fn p18_the_report_is_awaited_on_both_runtimes() {
    on_both(|| async {
        let shutdown = embedded().install().unwrap();
        let token = shutdown.token();
        // Only a runtime that is not blocked gets this far.
        let other = tokio::spawn(async move { token.stopped().await });
        let handle = shutdown.handle();
        tokio::spawn(async move { handle.stop("enough") });
        let report = shutdown.wait_async().await;
        assert_eq!(report.reason(), &StopReason::Requested("enough".into()));
        assert_eq!(other.await.unwrap(), *report.reason());
        assert_eq!(report.exit_code(), 0);
    });
}

fn p18_async_and_blocking_callers_get_the_same_report() {
    on_both(|| async {
        let shutdown = Arc::new(embedded().install().unwrap());
        let blocking = Arc::clone(&shutdown);
        let blocking = std::thread::spawn(move || blocking.wait());
        let awaited = shutdown.shutdown_async().await;
        let blocking = blocking.join().unwrap();
        assert!(awaited.is_final() && blocking.is_final());
        assert_eq!(awaited.took(), blocking.took());
    });
}

fn p4_ten_thousand_tasks_are_all_woken() {
    on_both(|| async {
        const WAITERS: usize = 10_000;
        let source = StopSource::new();
        let ready = Arc::new(Barrier::new(WAITERS + 1));
        let tasks: Vec<_> = (0..WAITERS)
            .map(|_| {
                let (token, ready) = (source.token(), Arc::clone(&ready));
                tokio::spawn(async move {
                    let stopped = token.stopped();
                    ready.wait().await;
                    stopped.await
                })
            })
            .collect();
        ready.wait().await;
        source.stop("all of you");
        for task in tasks {
            task.await.unwrap();
        }
    });
}

/// Tasks that end around the stop, before it and after it: none is missed, none is cut off.
fn p21_the_drain_race_is_never_lost() {
    const ROUNDS: usize = 10_000;
    const TASKS: usize = 4;
    let runtime = multi_thread();
    let (mut late, mut early) = (0, 0);
    for round in 0..ROUNDS {
        let _context = runtime.enter();
        let shutdown = embedded().install().unwrap();
        let ended = Arc::new(AtomicUsize::new(0));
        for task in 0..TASKS {
            let ended = Arc::clone(&ended);
            shutdown
                .spawn_async("task", async move |token| {
                    if (round + task) % 3 > 0 {
                        token.stopped().await;
                        tokio::task::yield_now().await;
                    }
                    ended.fetch_add(1, Ordering::SeqCst);
                })
                .unwrap();
        }
        let at_hook = Arc::clone(&ended);
        let (tell, told) = std::sync::mpsc::channel();
        shutdown.hook("count", move || {
            tell.send(at_hook.load(Ordering::SeqCst)).unwrap();
        });
        let report = runtime.block_on(shutdown.shutdown_async());
        assert_eq!(told.recv().unwrap(), TASKS, "round {round}: {report}");
        assert_eq!(ended.load(Ordering::SeqCst), TASKS);
        for drained in report.drained() {
            assert_eq!(drained.outcome(), &DrainOutcome::Ended, "round {round}");
        }
        late += report.drained().len();
        early += TASKS - report.drained().len();
    }
    assert!(
        late > 0 && early > 0,
        "{late} after the stop, {early} before"
    );
    bounded(move || drop(runtime));
}
