//! P1–P5 and P23: asking for a stop and seeing it.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    missing_docs,
    reason = "tests"
)]

mod common;

use std::future::Future;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Barrier, Mutex, mpsc};
use std::task::{Context, Poll, Wake, Waker};
use std::thread;
use std::time::Duration;

use common::{FAR, SHORT, bounded, embedded, rounds};
use winddown::{Signal, StopReason, StopSource, UntilStopped};

/// Drives one future on this thread: the whole executor.
fn block_on<F: Future>(future: F) -> F::Output {
    struct Unpark(thread::Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut future = pin!(future);
    loop {
        match future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(output) => return output,
            Poll::Pending => thread::park(),
        }
    }
}

#[test]
fn p1_a_child_reads_stopped_with_its_parent_and_never_the_other_way() {
    let source = StopSource::new();
    let child = source.token().child();
    let grandchild = child.token().child();
    assert!(child.stop("the child alone"));
    assert!(!source.token().is_stopped());
    assert!(grandchild.token().is_stopped());
    let other = source.token().child();
    assert!(source.stop("all"));
    assert!(other.token().is_stopped());
    assert_eq!(child.token().reason(), Some("the child alone".into()));
    assert_eq!(grandchild.token().reason(), Some("the child alone".into()));
    assert_eq!(other.token().reason(), Some("all".into()));
}

#[test]
fn p2_whoever_sees_the_stop_can_read_the_reason() {
    for _ in 0..rounds(2_000) {
        let source = StopSource::new();
        let token = source.token().child().token();
        let looking = thread::spawn(move || {
            while !token.is_stopped() {
                std::hint::spin_loop();
            }
            token.reason().expect("P2")
        });
        source.stop("seen");
        assert_eq!(looking.join().unwrap(), "seen".into());
    }
}

#[test]
fn p3_of_many_who_ask_one_is_the_first_and_its_reason_stays() {
    for _ in 0..rounds(500) {
        let source = StopSource::new();
        let start = Arc::new(Barrier::new(4));
        let asking: Vec<_> = (0..4)
            .map(|n| {
                let (source, start) = (source.clone(), Arc::clone(&start));
                thread::spawn(move || {
                    start.wait();
                    let first = source.stop(format!("number {n}"));
                    (first, n, source.token().reason().unwrap())
                })
            })
            .collect();
        let asked: Vec<_> = asking
            .into_iter()
            .map(|thread| thread.join().unwrap())
            .collect();
        let winners: Vec<_> = asked.iter().filter(|(first, ..)| *first).collect();
        assert_eq!(winners.len(), 1);
        let reason = StopReason::from(format!("number {}", winners[0].1));
        assert!(asked.iter().all(|(.., seen)| *seen == reason));
    }
}

#[test]
fn p3_the_first_reason_of_parent_and_child_is_the_childs_for_ever() {
    for _ in 0..rounds(500) {
        let source = StopSource::new();
        let child = source.token().child();
        let start = Arc::new(Barrier::new(3));
        let thread = |f: Box<dyn FnOnce() -> Option<StopReason> + Send>| {
            let start = Arc::clone(&start);
            thread::spawn(move || {
                start.wait();
                f()
            })
        };
        let (parent, own, look) = (source.clone(), child.clone(), child.token());
        let all = [
            thread(Box::new(move || {
                parent.stop("parent");
                None
            })),
            thread(Box::new(move || own.stop("own").then(|| "own".into()))),
            thread(Box::new(move || {
                while !look.is_stopped() {
                    std::hint::spin_loop();
                }
                look.reason()
            })),
        ];
        let [_, stopped, seen] = all.map(|thread| thread.join().unwrap());
        let last = child.token().reason();
        assert_eq!(seen, last, "it has changed");
        assert_eq!(last, Some(stopped.unwrap_or_else(|| "parent".into())));
    }
}

#[test]
fn p3_later_reasons_are_in_the_report_in_order() {
    let shutdown = embedded().install().unwrap();
    assert!(shutdown.stop("first"));
    for n in 1..=20 {
        assert!(!shutdown.stop(format!("later {n}")));
    }
    let report = shutdown.wait();
    assert_eq!(*report.reason(), "first".into());
    let expected: Vec<StopReason> = (1..=16).map(|n| format!("later {n}").into()).collect();
    assert_eq!(report.later_reasons(), expected);
    assert_eq!(report.more_reasons(), 4);
}

#[test]
fn p4_a_thread_wakes_whenever_it_began_to_wait() {
    for round in 0..rounds(2_000) {
        let source = StopSource::new();
        let token = if round % 2 == 0 {
            source.token()
        } else {
            source.token().child().token()
        };
        let waiting = thread::spawn(move || token.wait());
        if round % 3 == 0 {
            thread::yield_now();
        }
        source.stop("now");
        assert_eq!(bounded(move || waiting.join().unwrap()), "now".into());
    }
}

#[test]
fn p4_a_future_wakes_whenever_it_was_polled() {
    for round in 0..rounds(2_000) {
        let source = StopSource::new();
        let token = if round % 2 == 0 {
            source.token()
        } else {
            source.token().child().token()
        };
        let waiting = thread::spawn(move || block_on(token.stopped()));
        source.stop("now");
        assert_eq!(bounded(move || waiting.join().unwrap()), "now".into());
    }
}

#[test]
fn p4_a_select_wakes() {
    let source = StopSource::new();
    let token = source.token().child().token();
    let (ready, is_ready) = mpsc::channel();
    let waiting = thread::spawn(move || {
        let (_keep, never) = crossbeam_channel::unbounded::<()>();
        ready.send(()).unwrap();
        crossbeam_channel::select! {
            recv(never) -> _ => panic!("nobody sends"),
            recv(token.receiver()) -> message => assert!(message.is_err()),
        }
    });
    is_ready.recv_timeout(FAR).unwrap();
    source.stop("now");
    bounded(move || waiting.join().unwrap());
    // Asked for only afterwards, it is disconnected too.
    assert!(source.token().receiver().recv().is_err());
}

#[test]
fn a_channel_disconnects_when_nobody_can_stop_any_more() {
    let source = StopSource::new();
    let receiver = source.token().receiver().clone();
    assert!(receiver.try_recv().unwrap_err().is_empty());
    drop(source);
    assert!(receiver.recv().is_err());
}

#[test]
fn p4_on_stop_is_called_once_before_during_and_after_the_stop() {
    for round in 0..rounds(1_000) {
        let source = StopSource::new();
        let token = if round % 2 == 0 {
            source.token()
        } else {
            source.token().child().token()
        };
        let (called, calls) = mpsc::channel();
        let early = called.clone();
        token
            .on_stop(move |reason| early.send(reason.clone()).unwrap())
            .detach();
        let stopping = {
            let source = source.clone();
            thread::spawn(move || source.stop("now"))
        };
        let during = called.clone();
        let registered = token.on_stop(move |reason| during.send(reason.clone()).unwrap());
        stopping.join().unwrap();
        token
            .on_stop(move |reason| called.send(reason.clone()).unwrap())
            .detach();
        for _ in 0..3 {
            assert_eq!(calls.recv_timeout(FAR).unwrap(), "now".into());
        }
        drop(registered);
        assert!(
            calls.recv_timeout(FAR).is_err(),
            "every closure has been dropped, called once"
        );
    }
}

#[test]
fn dropping_an_on_stop_unregisters_it() {
    let source = StopSource::new();
    let called = Arc::new(AtomicBool::new(false));
    let flag = Arc::clone(&called);
    let registered = source
        .token()
        .on_stop(move |_| flag.store(true, Ordering::SeqCst));
    drop(registered);
    assert_eq!(Arc::strong_count(&called), 1, "its closure is gone with it");
    source.stop("now");
    assert!(!called.load(Ordering::SeqCst));
}

/// Also after the stop, as long as it has not been called.
#[test]
fn dropping_an_on_stop_before_its_turn_prevents_the_call() {
    let source = StopSource::new();
    let later = Arc::new(Mutex::new(None));
    let drops = Arc::clone(&later);
    source
        .token()
        .on_stop(move |_| drop(drops.lock().unwrap().take()))
        .detach();
    let (called, calls) = mpsc::channel();
    let registered = source.token().on_stop(move |_| called.send(()).unwrap());
    *later.lock().unwrap() = Some(registered);
    source.stop("now");
    assert_eq!(calls.try_recv(), Err(mpsc::TryRecvError::Disconnected));
}

#[test]
fn a_panic_in_one_on_stop_does_not_stop_the_next() {
    let source = StopSource::new();
    let (called, calls) = mpsc::channel();
    source.token().on_stop(|_| panic!("on purpose")).detach();
    source
        .token()
        .on_stop(move |_| called.send(()).unwrap())
        .detach();
    source.stop("now");
    calls.recv_timeout(FAR).unwrap();
}

#[test]
fn on_stop_closures_are_called_in_the_order_they_came() {
    let source = StopSource::new();
    let (called, calls) = mpsc::channel();
    let mut kept = Vec::new();
    for n in 0..10 {
        let called = called.clone();
        kept.push(source.token().on_stop(move |_| called.send(n).unwrap()));
        if n == 3 {
            // A slot used again must not move its user to the front.
            drop(kept.remove(0));
        }
    }
    source.stop("now");
    drop(called);
    drop(kept);
    assert_eq!(
        calls.iter().collect::<Vec<_>>(),
        [1, 2, 3, 4, 5, 6, 7, 8, 9]
    );
}

#[test]
fn p5_what_was_written_before_the_stop_is_seen_after_it() {
    for _ in 0..rounds(2_000) {
        let data = Arc::new(AtomicUsize::new(0));
        let source = StopSource::new();
        let (token, seen) = (source.token().child().token(), Arc::clone(&data));
        let looking = thread::spawn(move || {
            while !token.is_stopped() {
                std::hint::spin_loop();
            }
            seen.load(Ordering::Relaxed)
        });
        data.store(42, Ordering::Relaxed);
        source.stop("now");
        assert_eq!(looking.join().unwrap(), 42);
    }
}

#[test]
fn a_wait_with_a_timeout_ends_with_it() {
    let token = StopSource::new().token();
    assert_eq!(token.wait_timeout(Duration::ZERO), None);
    assert_eq!(token.wait_timeout(SHORT), None);
    assert!(token.sleep(Duration::ZERO).is_ok());
}

#[test]
fn the_stop_ends_a_sleep_and_check_says_why() {
    let source = StopSource::new();
    let token = source.token();
    assert!(token.check().is_ok());
    let sleeping = thread::spawn(move || token.sleep(Duration::MAX));
    source.stop("now");
    let stopped = bounded(move || sleeping.join().unwrap()).unwrap_err();
    assert_eq!(*stopped.reason(), "now".into());
    assert_eq!(source.token().check().unwrap_err(), stopped);
    assert_eq!(stopped.to_string(), "stopped (requested: now)");
}

#[test]
fn a_loop_ends_at_the_stop_and_loses_nothing_it_was_given() {
    let source = StopSource::new();
    let token = source.token();
    let mut given = 0;
    let numbers = (0..).inspect(|_| {
        given += 1;
        if given == 4 {
            source.stop("four");
        }
    });
    let seen: Vec<i32> = numbers.until_stopped(&token).collect();
    assert_eq!(seen, [0, 1, 2, 3]);
    assert_eq!(given, 4);
}

#[test]
fn a_loop_that_may_end_early_has_an_upper_bound_alone() {
    let token = StopSource::new().token();
    let numbers = [1, 2, 3].into_iter().until_stopped(&token);
    assert_eq!(numbers.size_hint(), (0, Some(3)));
}

#[test]
fn time_left_is_known_after_the_stop_only() {
    let shutdown = embedded().install().unwrap();
    let token = shutdown.token().child().token();
    assert_eq!(token.time_left(), None);
    shutdown.stop("now");
    let left = token.time_left().unwrap();
    assert!(left <= FAR && left > Duration::ZERO);
    assert_eq!(StopSource::new().token().time_left(), None);
    let _ = shutdown.wait();
}

#[test]
fn a_fed_signal_is_a_stop_by_that_signal() {
    let shutdown = embedded().install().unwrap();
    let token = shutdown.token();
    shutdown.feed(Signal::HUP);
    assert!(token.is_stopped());
    // Without signals, further ones do nothing but be noted.
    shutdown.feed(Signal::TERM);
    let report = shutdown.wait();
    assert_eq!(report.reason().signal(), Some(Signal::HUP));
    assert_eq!(report.later_reasons()[0].signal(), Some(Signal::TERM));
}
