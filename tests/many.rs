//! P4 and P23 with many: futures, closures, children.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    missing_docs,
    reason = "tests"
)]

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Wake, Waker};
use std::thread;

use winddown::{StopSource, StopToken};

/// Counts how often it was woken.
#[derive(Default)]
struct Woken(AtomicUsize);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

#[test]
fn p23_futures_that_come_and_go_leave_nothing_behind() {
    let source = StopSource::new();
    let token = source.token();
    let woken = Arc::new(Woken::default());
    let waker = Waker::from(Arc::clone(&woken));
    for _ in 0..100_000 {
        let mut future = pin!(token.stopped());
        assert!(
            future
                .as_mut()
                .poll(&mut Context::from_waker(&waker))
                .is_pending()
        );
        // Polled again it keeps the latest waker only.
        assert!(
            future
                .as_mut()
                .poll(&mut Context::from_waker(&waker))
                .is_pending()
        );
    }
    assert_eq!(Arc::strong_count(&woken), 2, "a waker was kept");
    source.stop("now");
    assert_eq!(woken.0.load(Ordering::SeqCst), 0, "and woken");
}

#[test]
fn p23_children_and_closures_that_come_and_go_leave_nothing_behind() {
    let source = StopSource::new();
    let token = source.token();
    let alive = Arc::new(());
    for _ in 0..100_000 {
        let child = token.child();
        let held = Arc::clone(&alive);
        let registered = child.token().on_stop(move |_| drop(held));
        drop(child);
        drop(registered);
    }
    assert_eq!(Arc::strong_count(&alive), 1);
}

#[test]
fn ten_thousand_futures_are_all_woken() {
    let source = StopSource::new();
    let token = source.token();
    let woken = Arc::new(Woken::default());
    let waker = Waker::from(Arc::clone(&woken));
    let mut futures: Vec<_> = (0..10_000).map(|_| Box::pin(token.stopped())).collect();
    for future in &mut futures {
        assert!(
            future
                .as_mut()
                .poll(&mut Context::from_waker(&waker))
                .is_pending()
        );
    }
    source.stop("now");
    assert_eq!(woken.0.load(Ordering::SeqCst), 10_000);
}

#[test]
fn a_chain_of_100_000_children_is_stopped_and_dropped_on_a_small_stack() {
    let chain = || {
        let top = StopSource::new();
        let mut all: Vec<StopToken> = vec![top.token()];
        for _ in 0..100_000 {
            let child = all[all.len() - 1].child();
            all.push(child.token());
        }
        (top, all)
    };
    let work = move || {
        let (top, all) = chain();
        top.stop("now");
        assert!(all.iter().all(StopToken::is_stopped));
        assert_eq!(all[100_000].reason(), Some("now".into()));
        // The youngest holds all the others.
        let (_, all) = chain();
        let youngest = all.last().cloned();
        drop(all);
        drop(youngest);
    };
    thread::Builder::new()
        .stack_size(64 * 1024)
        .spawn(work)
        .unwrap()
        .join()
        .unwrap();
}

#[test]
fn handles_are_send_sync_and_unwind_safe() {
    fn all<T: Send + Sync + std::panic::UnwindSafe + std::panic::RefUnwindSafe>() {}
    all::<StopSource>();
    all::<StopToken>();
    all::<winddown::StopFuture>();
    all::<winddown::OnStop>();
    all::<winddown::ShutdownHandle>();
    all::<winddown::ShutdownCoordinator>();
    all::<winddown::ShutdownReport>();
    all::<winddown::Hold>();
    all::<winddown::Hook>();
    all::<winddown::Guard<u32>>();
    all::<winddown::Task<()>>();
}

/// P23, from the system's own view: what each of the crate's threads is waiting in. A wait without a timeout has no wake-ups. In
/// this binary, as no other test of it has a coordinator.
#[cfg(all(target_os = "linux", target_arch = "x86_64", not(winddown_pipe)))]
#[test]
fn p23_idle_are_two_threads_that_wait_without_a_timeout() {
    const FUTEX: &str = "202";
    let waits = || -> Vec<(String, Vec<String>)> {
        let tasks = std::fs::read_dir("/proc/self/task").unwrap().flatten();
        let read = |task: &std::fs::DirEntry, file| {
            std::fs::read_to_string(task.path().join(file)).unwrap_or_default()
        };
        tasks
            .map(|task| (read(&task, "comm"), read(&task, "syscall")))
            .filter(|(name, _)| name.starts_with("winddown"))
            .map(|(name, call)| (name, call.split_whitespace().map(str::to_owned).collect()))
            .collect()
    };
    let idle = |count: usize| {
        let far = std::time::Instant::now() + std::time::Duration::from_secs(60);
        loop {
            let seen = waits();
            // The number of the call, then its arguments: the fourth is the timeout.
            let parked = |call: &[String]| {
                call.first().is_some_and(|n| n == FUTEX) && call.get(4).is_some_and(|t| t == "0x0")
            };
            if seen.len() == count && seen.iter().all(|(_, call)| parked(call)) {
                return;
            }
            assert!(std::time::Instant::now() < far, "{seen:?}");
            thread::yield_now();
        }
    };
    let shutdown = winddown::ShutdownCoordinator::builder()
        .signals([])
        .linger(std::time::Duration::from_secs(5))
        .install()
        .unwrap();
    idle(2);
    shutdown.hook_with(winddown::HookOptions::new("emergency").emergency(), || ());
    idle(3);
    drop(shutdown);
    idle(0);
}
