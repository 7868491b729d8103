//! P4, P15, P17, P18, P23 for futures, on executors that know nothing of this crate: one made by hand, and smol's.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    missing_docs,
    reason = "tests"
)]

mod common;

use std::future::{pending, poll_fn, ready};
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};

use async_executor::Executor;
use common::{FAR, SHORT, bounded, embedded};
use winddown::{FutureExt, Phase, ReportFuture, ShutdownReport, StopReason, StopSource};

/// The whole executor.
fn block_on<F: Future>(future: F) -> F::Output {
    struct Unpark(Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Arc::new(Unpark(thread::current())).into();
    let mut future = pin!(future);
    loop {
        match future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(output) => return output,
            Poll::Pending => thread::park(),
        }
    }
}

/// Counts how often it is woken.
#[derive(Default)]
struct Count(AtomicUsize);

impl Wake for Count {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

fn poll_once<F: Future>(future: Pin<&mut F>) -> Poll<F::Output> {
    future.poll(&mut Context::from_waker(Waker::noop()))
}

#[test]
fn p4_a_hand_made_executor_sees_the_stop() {
    let source = StopSource::new();
    let token = source.token();
    let (armed, is_armed) = mpsc::channel();
    let waiter = thread::spawn(move || {
        block_on(async move {
            let mut stopped = pin!(token.stopped());
            assert!(poll_once(stopped.as_mut()).is_pending());
            armed.send(()).unwrap();
            stopped.await
        })
    });
    is_armed.recv_timeout(FAR).unwrap();
    source.stop("enough");
    let reason = bounded(move || waiter.join().unwrap());
    assert_eq!(reason, StopReason::Requested("enough".into()));
}

#[test]
fn p4_ten_thousand_waiters_on_smol_s_executor_are_all_woken() {
    const WAITERS: usize = 10_000;
    let source = StopSource::new();
    let executor = Executor::new();
    let polled = Arc::new(AtomicUsize::new(0));
    let tasks: Vec<_> = (0..WAITERS)
        .map(|_| {
            let (token, polled) = (source.token(), Arc::clone(&polled));
            executor.spawn(async move {
                let mut stopped = pin!(token.stopped());
                assert!(poll_once(stopped.as_mut()).is_pending());
                polled.fetch_add(1, Ordering::SeqCst);
                stopped.await
            })
        })
        .collect();
    let woken = bounded(move || {
        block_on(executor.run(async {
            while polled.load(Ordering::SeqCst) < WAITERS {
                executor.tick().await;
            }
            source.stop("all of you");
            let mut woken = 0;
            for task in tasks {
                task.await;
                woken += 1;
            }
            woken
        }))
    });
    assert_eq!(woken, WAITERS);
}

#[test]
fn p23_a_hundred_thousand_futures_leave_nothing_behind() {
    let source = StopSource::new();
    let token = source.token();
    let count = Arc::new(Count::default());
    let waker = Arc::clone(&count).into();
    for _ in 0..100_000 {
        let mut stopped = token.stopped();
        assert!(
            Pin::new(&mut stopped)
                .poll(&mut Context::from_waker(&waker))
                .is_pending()
        );
    }
    // Nobody holds a waker any more: neither ours, nor for somebody to wake.
    drop(waker);
    assert_eq!(Arc::strong_count(&count), 1);
    source.stop("now");
    assert_eq!(count.0.load(Ordering::SeqCst), 0);
}

#[test]
fn until_stopped_ends_a_future() {
    let source = StopSource::new();
    let token = source.token();
    assert_eq!(block_on(ready(7).until_stopped(&token)).unwrap(), 7);
    let mut waiting = pin!(pending::<()>().until_stopped(&token));
    assert!(poll_once(waiting.as_mut()).is_pending());
    source.stop("enough");
    let stopped = block_on(waiting).unwrap_err();
    assert_eq!(stopped.reason(), &StopReason::Requested("enough".into()));
}

/// A loop over what is always ready sees the stop; what has begun and is done is not thrown away.
#[test]
fn until_stopped_begins_nothing_after_the_stop() {
    let source = StopSource::new();
    let token = source.token();
    let mut first = true;
    let second_time = poll_fn(|_| {
        if std::mem::take(&mut first) {
            return Poll::Pending;
        }
        Poll::Ready(7)
    });
    let mut begun = pin!(second_time.until_stopped(&token));
    assert!(poll_once(begun.as_mut()).is_pending());
    let mut rounds = 0;
    block_on(async {
        while async { rounds += 1 }.until_stopped(&token).await.is_ok() {
            assert_eq!(rounds, 1);
            source.stop("enough");
        }
    });
    assert_eq!(block_on(begun).unwrap(), 7);
}

/// Polls in `wake`, as executors without a queue do.
struct Polls {
    future: Mutex<Option<ReportFuture>>,
    report: mpsc::Sender<ShutdownReport>,
}

impl Wake for Polls {
    fn wake(self: Arc<Self>) {
        let waker = Arc::clone(&self).into();
        let Some(mut future) = self.future.lock().unwrap().take() else {
            return;
        };
        match Pin::new(&mut future).poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(report) => self.report.send(report).unwrap(),
            Poll::Pending => *self.future.lock().unwrap() = Some(future),
        }
    }
}

#[test]
fn p18_polled_in_its_waker_it_gives_the_report_all_the_same() {
    let shutdown = embedded().install().unwrap();
    let (report, is_made) = mpsc::channel();
    let polls = Arc::new(Polls {
        future: Mutex::new(Some(shutdown.wait_async())),
        report,
    });
    polls.wake();
    shutdown.hook("one", || ());
    shutdown.stop("enough");
    let report = is_made.recv_timeout(FAR).unwrap();
    assert!(report.is_final());
    assert_eq!(report.hooks().len(), 1);
}

/// The parts of a report that would differ if it were made twice.
fn mark(report: &ShutdownReport) -> (StopReason, std::time::Duration, bool) {
    (report.reason().clone(), report.took(), report.is_final())
}

#[test]
fn p18_futures_and_threads_get_the_same_report() {
    let shutdown = Arc::new(embedded().install().unwrap());
    let (armed, is_armed) = mpsc::channel();
    let awaiting: Vec<_> = (0..3)
        .map(|_| {
            let (shutdown, armed) = (Arc::clone(&shutdown), armed.clone());
            thread::spawn(move || {
                block_on(async {
                    let mut report = shutdown.wait_async();
                    assert!(poll_once(Pin::new(&mut report)).is_pending());
                    armed.send(()).unwrap();
                    report.await
                })
            })
        })
        .collect();
    for _ in &awaiting {
        is_armed.recv_timeout(FAR).unwrap();
    }
    let blocking = Arc::clone(&shutdown);
    let report = bounded(move || blocking.shutdown());
    assert!(report.is_final());
    for awaiting in awaiting {
        let other = bounded(move || awaiting.join().unwrap());
        assert_eq!(mark(&other), mark(&report));
    }
    assert_eq!(mark(&block_on(shutdown.wait_async())), mark(&report));
}

#[test]
fn shutdown_async_asks_for_the_stop_at_once() {
    let shutdown = embedded().install().unwrap();
    let report = shutdown.shutdown_async();
    assert_eq!(shutdown.token().reason(), Some(StopReason::Completed));
    let report = bounded(move || block_on(report));
    assert_eq!(report.exit_code(), 0);
    assert!(report.abandoned().next().is_none());
}

#[test]
fn p21_a_future_dropped_before_the_stop_has_not_brought_the_owner_back() {
    let shutdown = embedded().install().unwrap();
    let mut first = shutdown.wait_async();
    assert!(poll_once(Pin::new(&mut first)).is_pending());
    drop(first);
    let cleaned = Arc::new(AtomicUsize::new(0));
    let cleaning = Arc::clone(&cleaned);
    shutdown.hook("clean", move || {
        cleaning.fetch_add(1, Ordering::SeqCst);
    });
    let events = shutdown.events();
    shutdown.stop("enough");
    // The owner works on after the stop: nothing may be cleaned up under it.
    let mut told = events.iter();
    while !matches!(
        told.next().unwrap(),
        winddown::Event::PhaseChanged(Phase::Draining)
    ) {}
    // A lower bound: an owner that counts as back is cleaned up after within a millisecond.
    thread::sleep(SHORT);
    assert_eq!(cleaned.load(Ordering::SeqCst), 0);
    let report = bounded(move || block_on(shutdown.wait_async()));
    assert_eq!(cleaned.load(Ordering::SeqCst), 1);
    assert!(report.abandoned().next().is_none());
}

#[test]
fn a_future_dropped_after_the_stop_loses_nothing() {
    let shutdown = embedded().install().unwrap();
    let hold = shutdown.hold("work").unwrap();
    let count = Arc::new(Count::default());
    let waker = Arc::clone(&count).into();
    let mut first: ReportFuture = shutdown.shutdown_async();
    assert!(
        Pin::new(&mut first)
            .poll(&mut Context::from_waker(&waker))
            .is_pending()
    );
    drop((first, waker));
    assert_eq!(Arc::strong_count(&count), 1, "its waker has gone with it");
    drop(hold);
    let report = bounded(move || block_on(shutdown.wait_async()));
    assert!(report.is_final());
    assert_eq!(report.exit_code(), 0);
}

#[test]
fn p17_awaited_inside_a_hook_it_is_ready_at_once() {
    let shutdown = Arc::new(embedded().install().unwrap());
    let (tell, told) = mpsc::channel();
    let inside = Arc::downgrade(&shutdown);
    shutdown.hook("asks", move || {
        let shutdown = inside.upgrade().unwrap();
        tell.send(block_on(shutdown.wait_async()).is_final())
            .unwrap();
    });
    let report = bounded(move || block_on(shutdown.shutdown_async()));
    assert!(report.is_final());
    assert!(!told.recv_timeout(FAR).unwrap());
}
