//! P13–P16, P19: hooks that are futures.

use std::future::pending;
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use libtest_mimic::Trial;
use winddown::{HookOptions, HookOutcome};

use crate::common::{FAR, SHORT, bounded, embedded, outcomes};
use crate::harness::trials;
use crate::{current_thread, multi_thread, on_both};

pub(crate) fn tests() -> Vec<Trial> {
    trials![
        p13_async_hooks_have_their_place_on_the_stack,
        p14_each_async_hook_has_its_outcome,
        p16_out_of_time_it_is_dropped_on_its_runtime,
        p14_what_returns_while_it_is_to_be_dropped_has_returned,
        a_hook_whose_runtime_is_gone_says_so,
        a_hook_from_outside_of_a_runtime_says_so,
        a_hook_whose_runtime_is_blocked_is_left_behind,
        p19_registered_after_the_end_it_is_driven_all_the_same,
    ]
}

#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<&'static str>>>);

impl Log {
    fn add(&self, what: &'static str) {
        self.0.lock().unwrap().push(what);
    }

    fn all(&self) -> Vec<&'static str> {
        self.0.lock().unwrap().clone()
    }
}

fn p13_async_hooks_have_their_place_on_the_stack() {
    on_both(|| async {
        let shutdown = embedded().install().unwrap();
        let log = Log::default();
        let (first, second, third) = (log.clone(), log.clone(), log.clone());
        shutdown.hook("first", move || first.add("first"));
        shutdown.hook_async("second", async move {
            tokio::time::sleep(Duration::from_millis(5)).await;
            second.add("second");
        });
        shutdown.hook("third", move || third.add("third"));
        let report = shutdown.shutdown_async().await;
        assert_eq!(log.all(), ["third", "second", "first"]);
        assert_eq!(report.exit_code(), 0, "{report}");
    });
}

fn p14_each_async_hook_has_its_outcome() {
    on_both(|| async {
        let shutdown = embedded().install().unwrap();
        shutdown.hook_async("completes", async {});
        shutdown.hook_async("panics", async { panic!("on purpose") });
        shutdown.hook_async("fails", async { Err::<(), _>("disk full") });
        let handle = shutdown.handle();
        shutdown.hook_async("asks", async move {
            // P17: user code of the coordinator, so it may ask for anything.
            handle.stop("again");
            handle.snapshot();
        });
        let report = shutdown.shutdown_async().await;
        let expected = [
            ("asks", HookOutcome::Completed),
            ("fails", HookOutcome::Failed("disk full".into())),
            ("panics", HookOutcome::Panicked("on purpose".into())),
            ("completes", HookOutcome::Completed),
        ];
        assert_eq!(outcomes(&report), expected);
    });
}

struct SaysWhereItDrops(mpsc::Sender<bool>);

impl Drop for SaysWhereItDrops {
    fn drop(&mut self) {
        let _ = self.0.send(tokio::runtime::Handle::try_current().is_ok());
    }
}

fn p16_out_of_time_it_is_dropped_on_its_runtime() {
    on_both(|| async {
        let shutdown = embedded().install().unwrap();
        let (tell, told) = mpsc::channel();
        shutdown.hook_async("after it", async {});
        let dropped = SaysWhereItDrops(tell);
        shutdown.hook_async_with(HookOptions::new("hangs").timeout(SHORT), async move {
            let _dropped = dropped;
            pending::<()>().await;
        });
        let report = shutdown.shutdown_async().await;
        let expected = [
            ("hangs", HookOutcome::TimedOut),
            ("after it", HookOutcome::Completed),
        ];
        assert_eq!(outcomes(&report), expected);
        // On a loaded machine a moment later than the report: nobody waits long for a drop.
        let on_the_runtime = loop {
            match told.try_recv() {
                Ok(on_the_runtime) => break on_the_runtime,
                Err(_) => tokio::task::yield_now().await,
            }
        };
        assert!(on_the_runtime);
    });
}

/// It cannot be dropped in the middle of a poll, and what comes of that poll within its time counts, the error too.
fn p14_what_returns_while_it_is_to_be_dropped_has_returned() {
    const TIMEOUT: Duration = Duration::from_millis(200);
    // The last 20 of them are for its drop.
    const INTO_THE_DROP: Duration = Duration::from_millis(183);
    let failed = HookOutcome::Failed("disk full".into());
    // On a machine that is busy it may come too late for all of its time.
    let seen = (0..20).any(|_| {
        let runtime = multi_thread();
        let shutdown = embedded().install().unwrap();
        let report = runtime.block_on(async {
            let options = HookOptions::new("slow").timeout(TIMEOUT);
            shutdown.hook_async_with(options, async {
                std::thread::sleep(INTO_THE_DROP);
                Err::<(), _>("disk full")
            });
            shutdown.shutdown_async().await
        });
        outcomes(&report) == [("slow", failed.clone())]
    });
    assert!(seen);
}

fn a_hook_whose_runtime_is_gone_says_so() {
    for build in [current_thread, multi_thread] {
        let shutdown = embedded().install().unwrap();
        let runtime = build();
        {
            let _context = runtime.enter();
            shutdown.hook_async("too late", async {});
        }
        bounded(move || drop(runtime));
        let report = bounded(move || shutdown.shutdown());
        assert_eq!(outcomes(&report), [("too late", HookOutcome::Skipped)]);
        let why = report.hooks()[0].why_skipped();
        assert_eq!(why, Some("its runtime is gone"));
        let shown = "hook too late: skipped: its runtime is gone";
        assert!(report.to_string().contains(shown), "{report}");
        assert_eq!(report.exit_code(), 1);
    }
}

fn a_hook_from_outside_of_a_runtime_says_so() {
    let shutdown = embedded().install().unwrap();
    shutdown.hook_async("homeless", async {});
    let report = bounded(move || shutdown.shutdown());
    assert_eq!(outcomes(&report), [("homeless", HookOutcome::Skipped)]);
    let why = report.hooks()[0].why_skipped();
    assert_eq!(why, Some("it was registered outside of a runtime"));
}

/// P15: nothing drives it, and nothing can drop it.
fn a_hook_whose_runtime_is_blocked_is_left_behind() {
    let runtime = current_thread();
    let shutdown = embedded().install().unwrap();
    runtime.block_on(async {
        let options = HookOptions::new("nobody drives it").timeout(SHORT);
        shutdown.hook_async_with(options, async {});
        let report = shutdown.shutdown();
        let expected = [("nobody drives it", HookOutcome::TimedOut)];
        assert_eq!(outcomes(&report), expected);
    });
}

fn p19_registered_after_the_end_it_is_driven_all_the_same() {
    on_both(|| async {
        let shutdown = embedded().install().unwrap();
        shutdown.shutdown_async().await.exit_code();
        let (tell, told) = tokio::sync::oneshot::channel();
        shutdown.hook_async("late", async move {
            tokio::task::yield_now().await;
            let _ = tell.send(());
        });
        tokio::time::timeout(FAR, told).await.unwrap().unwrap();
    });
}
