//! The stop against everything that waits for it, in every order of their steps.

use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Waker};

use crossbeam_channel::TryRecvError;

use crate::reason::StopReason;
use crate::sync::{
    AtomicBool, AtomicUsize, Condvar, Mutex, Ordering, block_on, model, model_with, thread, time,
};
use crate::token::{Deliveries, Ending, GraceClock, Node, StopSource};

fn requested(text: &'static str) -> StopReason {
    StopReason::from(text)
}

/// P4, P2: a thread that waits is woken, and then there is a reason.
#[test]
fn a_waiting_thread_is_woken() {
    model_with(3, || {
        let source = StopSource::new();
        let waiting: Vec<_> = (0..2)
            .map(|_| {
                let token = source.token();
                thread::spawn(move || token.wait())
            })
            .collect();
        assert!(source.stop("enough"));
        for thread in waiting {
            assert_eq!(thread.join().unwrap(), requested("enough"));
        }
    });
}

/// P5: what was written before the stop is visible to whoever sees it, by a token or by a child's.
#[test]
fn what_was_written_before_the_stop_is_seen() {
    model_with(3, || {
        let source = StopSource::new();
        let written = Arc::new(AtomicUsize::new(0));
        let (token, read) = (source.token(), Arc::clone(&written));
        let child = token.child();
        let looking = thread::spawn(move || {
            if child.token().is_stopped() {
                assert_eq!(read.load(Ordering::Relaxed), 7);
            }
            if token.is_stopped() {
                assert_eq!(read.load(Ordering::Relaxed), 7);
            }
        });
        written.store(7, Ordering::Relaxed);
        source.stop("enough");
        looking.join().unwrap();
    });
}

/// P3, P2: of two stops one is the first, and everybody reads its reason from then on.
#[test]
fn the_first_reason_wins() {
    model_with(3, || {
        let source = StopSource::new();
        let (other, token) = (source.clone(), source.token());
        let stopping = thread::spawn(move || other.stop("other"));
        let reading = thread::spawn(move || {
            let first = token.reason();
            assert!(first.is_some() || !token.is_stopped() || token.reason().is_some());
            let second = token.reason();
            assert!(first.is_none() || first == second);
        });
        let mine = source.stop("mine");
        let seen = source.token().reason();
        let others = stopping.join().unwrap();
        assert!(mine != others);
        assert_eq!(seen, Some(requested(if mine { "mine" } else { "other" })));
        reading.join().unwrap();
        assert_eq!(source.token().reason(), seen);
    });
}

/// P4: a future that is polled while the stop comes is woken, or ready.
#[test]
fn a_future_is_woken() {
    model_with(3, || {
        let source = StopSource::new();
        let token = source.token();
        let waiting = thread::spawn(move || block_on(token.stopped()));
        source.stop("enough");
        assert_eq!(waiting.join().unwrap(), requested("enough"));
    });
}

/// P4: a future that is polled and dropped while the stop comes takes nobody else's waker along.
#[test]
fn a_dropped_future_takes_nobody_along() {
    model(|| {
        let source = StopSource::new();
        let (token, other) = (source.token(), source.token());
        let going = thread::spawn(move || {
            let mut future = pin!(token.stopped());
            let _ = future
                .as_mut()
                .poll(&mut Context::from_waker(Waker::noop()));
        });
        let waiting = thread::spawn(move || block_on(other.stopped()));
        source.stop("enough");
        going.join().unwrap();
        waiting.join().unwrap();
    });
}

/// P4: the channel is disconnected after the stop, whoever asked for it first, and whenever.
#[test]
fn the_channel_is_disconnected() {
    model_with(3, || {
        let source = StopSource::new();
        let asking: Vec<_> = (0..2)
            .map(|_| {
                let token = source.token();
                thread::spawn(move || token.receiver().clone())
            })
            .collect();
        source.stop("enough");
        for thread in asking {
            let receiver = thread.join().unwrap();
            assert_eq!(receiver.try_recv(), Err(TryRecvError::Disconnected));
        }
    });
}

/// P4: a closure is called once, whenever it was registered; here by two threads.
#[test]
fn on_stop_is_called_once() {
    model_with(3, || {
        let source = StopSource::new();
        let called = Arc::new(AtomicUsize::new(0));
        let registering: Vec<_> = (0..2)
            .map(|_| {
                let (token, called) = (source.token(), Arc::clone(&called));
                thread::spawn(move || {
                    let count = move |_: &StopReason| {
                        called.fetch_add(1, Ordering::Relaxed);
                    };
                    token.on_stop(count).detach();
                })
            })
            .collect();
        source.stop("enough");
        for thread in registering {
            thread.join().unwrap();
        }
        assert_eq!(called.load(Ordering::Relaxed), 2);
    });
}

/// P4: one that is unregistered while the stop comes is called once or not at all, and takes nobody
/// else's along.
#[test]
fn on_stop_that_is_dropped_is_called_at_most_once() {
    model_with(3, || {
        let source = StopSource::new();
        let (token, called) = (source.token(), Arc::new(AtomicUsize::new(0)));
        let kept = Arc::new(AtomicUsize::new(0));
        let (count, stays) = (Arc::clone(&called), Arc::clone(&kept));
        let add = move |_: &StopReason| {
            stays.fetch_add(1, Ordering::Relaxed);
        };
        token.on_stop(add).detach();
        let going = thread::spawn(move || {
            let registered = token.on_stop(move |_| {
                count.fetch_add(1, Ordering::Relaxed);
            });
            drop(registered);
        });
        source.stop("enough");
        going.join().unwrap();
        assert!(called.load(Ordering::Relaxed) <= 1);
        assert_eq!(kept.load(Ordering::Relaxed), 1);
        assert_eq!(Arc::strong_count(&called), 1);
    });
}

/// P4: a child that is made while the stop comes is stopped, and who waits for it is woken: also
/// where the parent is stopped by itself, and not the whole tree.
#[test]
fn a_child_that_is_made_meanwhile_stops() {
    for of_a_tree in [true, false] {
        model_with(3, move || {
            let tree = StopSource::new();
            let source = if of_a_tree {
                tree
            } else {
                tree.token().child()
            };
            let token = source.token();
            let making = thread::spawn(move || {
                let grandchild = token.child().token().child();
                grandchild.token().wait()
            });
            source.stop("enough");
            assert_eq!(making.join().unwrap(), requested("enough"));
        });
    }
}

/// P3: a child that is stopped by itself and by its parent has one reason, and keeps it.
#[test]
fn the_first_reason_of_child_and_parent_is_final() {
    model_with(3, || {
        let parent = StopSource::new();
        let child = parent.token().child();
        let (stopping, reading) = (child.clone(), child.token());
        let stopping = thread::spawn(move || {
            let late = stopping.token().is_stopped();
            let first = stopping.stop("the child's");
            assert!(!(late && first));
            first
        });
        let reading = thread::spawn(move || {
            let first = reading.reason();
            assert!(first.is_none() || first == reading.reason());
            first
        });
        parent.stop("the parent's");
        let mine = stopping.join().unwrap();
        let last = child.token().reason();
        let expected = if mine { "the child's" } else { "the parent's" };
        assert_eq!(last, Some(requested(expected)));
        let read = reading.join().unwrap();
        assert!(read.is_none() || read == last);
    });
}

/// P4: a child that goes while the stop comes takes only its own place along.
#[test]
fn a_child_that_goes_meanwhile_takes_nobody_along() {
    model(|| {
        let source = StopSource::new();
        let (going, staying) = (source.token().child(), source.token().child());
        let going = thread::spawn(move || drop(going));
        let waiting = thread::spawn(move || staying.token().wait());
        source.stop("enough");
        going.join().unwrap();
        assert_eq!(waiting.join().unwrap(), requested("enough"));
        assert!(source.node.wake().0.is_none());
    });
}

/// P15: threads that look at the clock together after a suspension all see it credited, once.
#[test]
fn a_suspension_is_credited_once() {
    use std::time::Duration;
    const SECOND: Duration = Duration::from_secs(1);
    model(|| {
        let node = Node::with_ending(Ending {
            deliveries: Deliveries::new(),
            clock: GraceClock::new(SECOND * 25),
        });
        node.decide(StopReason::Completed).unwrap();
        time::pass(SECOND / 100);
        let before = node.now();
        let looking: Vec<_> = (0..2)
            .map(|_| {
                let node = Arc::clone(&node);
                thread::spawn(move || {
                    let now = node.now();
                    assert!(now.since(before) < SECOND, "it was credited");
                    assert!(node.now() >= now, "time does not run backwards");
                })
            })
            .collect();
        time::pass(SECOND * 3600);
        for thread in looking {
            thread.join().unwrap();
        }
        assert!(node.now().since(before) < SECOND);
    });
}

/// What a model shows is lost when it can only pass: here it must not.
#[test]
#[should_panic(expected = "deadlock")]
fn a_lost_wake_up_is_found() {
    model(|| {
        let (flag, lock) = (AtomicBool::new(false), Mutex::new(()));
        let shared = Arc::new((flag, lock, Condvar::new()));
        let waiting = Arc::clone(&shared);
        let thread = thread::spawn(move || {
            let (flag, lock, changed) = &*waiting;
            let mut held = lock.lock();
            if !flag.load(Ordering::Acquire) {
                changed.wait(&mut held);
            }
        });
        shared.0.store(true, Ordering::Release);
        // Without the lock.
        shared.2.notify_all();
        thread.join().unwrap();
    });
}
