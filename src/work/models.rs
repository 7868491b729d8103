//! What keeps the drain open, and what becomes of items, against the runner.

use std::panic::Location;
use std::sync::Arc;
use std::time::Duration;

use crate::bus::Bus;
use crate::clock::Tick;
use crate::reason::StopReason;
use crate::sync::{AtomicUsize, Ordering, model, model_with, thread};
use crate::token::{Deliveries, Ending, GraceClock, Node};
use crate::work::{
    End, EndOfStream, HandBack, Hold, Home, InFlight, InFlightBuilder, NotCompleted, Slot, Work,
};

fn node() -> Arc<Node> {
    Node::with_ending(Ending {
        deliveries: Deliveries::new(),
        clock: GraceClock::new(Duration::from_secs(25)),
    })
}

fn work() -> Arc<Work> {
    Arc::new(Work::new(0, node(), Arc::new(Bus::default())))
}

fn hold(home: &Home) -> Option<Hold> {
    home.hold("work".into(), Location::caller()).ok()
}

/// The stop, and the runner's first step.
fn stop(work: &Work) {
    work.own.node.decide(StopReason::Completed).unwrap();
    work.own.close();
}

/// The runner's wait. No time limit ends it here: it must be told.
fn drain(work: &Work) {
    work.drain(Tick::NEVER, || true, || {});
}

/// A count that proves nothing about order by itself.
#[derive(Clone, Default)]
struct Count(Arc<AtomicUsize>);

impl Count {
    fn add(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    fn take(&self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }

    fn get(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

/// A set of items of `home`, and how often one was handed back.
fn items(home: &Home, when: HandBack) -> (InFlight<u32>, Count) {
    let count = Count::default();
    let counted = count.clone();
    let builder = InFlightBuilder::new(home.clone(), "items".into(), Location::caller());
    let items = builder
        .hand_back(when)
        .on_interrupted(move |_| counted.add());
    (items, count)
}

/// P21: the drain is not over while a hold, or a clone of it, lives, and is over when the last
/// goes, wherever the stop finds them.
#[test]
fn the_last_hold_ends_the_drain() {
    model_with(3, || {
        let (work, alive) = (work(), Count::default());
        let first = hold(&work.own).unwrap();
        let second = first.clone();
        let going = [first, second].map(|hold| {
            let alive = alive.clone();
            alive.add();
            thread::spawn(move || {
                alive.take();
                drop(hold);
            })
        });
        stop(&work);
        drain(&work);
        assert_eq!(alive.get(), 0);
        for thread in going {
            thread.join().unwrap();
        }
    });
}

/// P22, P21: whoever is admitted while the intake closes is waited for; nobody is afterwards.
#[test]
fn who_is_admitted_meanwhile_is_waited_for() {
    model_with(3, || {
        let (work, alive) = (work(), Count::default());
        let coming = [0, 1].map(|_| {
            let (work, alive) = (Arc::clone(&work), alive.clone());
            thread::spawn(move || {
                if let Some(hold) = hold(&work.own) {
                    alive.add();
                    alive.take();
                    drop(hold);
                }
            })
        });
        stop(&work);
        drain(&work);
        assert_eq!(alive.get(), 0);
        assert!(hold(&work.own).is_none());
        for thread in coming {
            thread.join().unwrap();
        }
        assert_eq!(alive.get(), 0);
    });
}

/// P22, P21: the same, where a thread has kept the place of the hold before, by the same name.
#[test]
fn who_comes_again_meanwhile_is_waited_for() {
    model_with(3, || {
        let (work, alive) = (work(), Count::default());
        let coming = {
            let (work, alive) = (Arc::clone(&work), alive.clone());
            thread::spawn(move || {
                for _ in 0..2 {
                    let Some(hold) = hold(&work.own) else { break };
                    alive.add();
                    alive.take();
                    drop(hold);
                }
            })
        };
        stop(&work);
        drain(&work);
        assert_eq!(alive.get(), 0);
        coming.join().unwrap();
        assert_eq!(alive.get(), 0);
        assert!(hold(&work.own).is_none());
    });
}

/// P22, P20: what is fetched while the intake closes is completed or handed back, and the drain
/// waits for the place that was reserved for it.
#[test]
fn what_is_fetched_meanwhile_is_not_lost() {
    model(|| {
        let (work, fetched, done) = (work(), Count::default(), Count::default());
        let (jobs, back) = items(&work.own, HandBack::AtDeadline);
        let (fetching, counted, other) = (fetched.clone(), done.clone(), jobs.clone());
        let fetching = thread::spawn(move || {
            let Some(slot) = other.reserve() else { return };
            fetching.add();
            if let Some(item) = slot.fill(7) {
                item.complete(|_| {
                    counted.add();
                    Ok::<_, ()>(())
                })
                .unwrap();
            }
        });
        stop(&work);
        drain(&work);
        assert_eq!(fetched.get(), done.get() + back.get());
        let after = fetched.get();
        fetching.join().unwrap();
        assert_eq!(fetched.get(), after);
        assert!(jobs.is_empty());
        assert!(work.reports(true).is_empty());
    });
}

/// P20: an item that is completed while the time for draining ends is completed or handed back.
#[test]
fn an_item_is_completed_or_handed_back() {
    model(|| {
        let (work, done) = (work(), Count::default());
        let (jobs, back) = items(&work.own, HandBack::AtDeadline);
        let item = jobs.reserve().and_then(|slot| slot.fill(7)).unwrap();
        let counted = done.clone();
        let worker = thread::spawn(move || {
            let result = item.complete(|_| {
                counted.add();
                Ok::<_, ()>(())
            });
            assert!(matches!(result, Ok(()) | Err(NotCompleted::HandedBack)));
            result.is_ok()
        });
        stop(&work);
        for call in work.interrupt() {
            call();
        }
        drain(&work);
        assert_eq!(done.get() + back.get(), 1);
        assert_eq!(work.handed_back(), back.get());
        assert_eq!(worker.join().unwrap(), done.get() == 1);
    });
}

/// P20: whoever hands an item back, the worker that drops it or the end of the time: once, and the
/// drain waits for it.
#[test]
fn an_item_is_handed_back_once() {
    for when in [HandBack::AtDeadline, HandBack::WhenStopped] {
        model(move || {
            let work = work();
            let (jobs, back) = items(&work.own, when);
            let item = jobs.reserve().and_then(|slot| slot.fill(7)).unwrap();
            let worker = thread::spawn(move || drop(item));
            stop(&work);
            for call in work.interrupt() {
                call();
            }
            drain(&work);
            assert_eq!((back.get(), work.handed_back()), (1, 1));
            worker.join().unwrap();
            assert!(work.reports(true).is_empty());
        });
    }
}

/// P20: at the end of the slice an item is in the report, as handed back or as undecided: also one
/// whose worker goes while it is being handed back.
#[test]
fn the_end_of_the_slice_finds_every_item() {
    model(|| {
        let work = work();
        let (jobs, _) = items(&work.own, HandBack::AtDeadline);
        let item = jobs.reserve().and_then(|slot| slot.fill(7)).unwrap();
        let worker = thread::spawn(move || drop(item));
        stop(&work);
        let calls = work.interrupt();
        let handing_back = thread::spawn(move || {
            for call in calls {
                call();
            }
        });
        let undecided = work.reports(true).len();
        assert_eq!(undecided + work.handed_back(), 1);
        handing_back.join().unwrap();
        worker.join().unwrap();
        // The report does not change behind anybody's back.
        assert_eq!(undecided + work.handed_back(), 1);
    });
}

/// P20: at the end of the slice an item is completed, and its commit has been made, or undecided.
#[test]
fn the_end_of_the_slice_finds_a_commit_done_or_undecided() {
    model_with(3, || {
        let (work, done) = (work(), Count::default());
        let (jobs, back) = items(&work.own, HandBack::WhenStopped);
        let item = jobs.reserve().and_then(|slot| slot.fill(7)).unwrap();
        let counted = done.clone();
        let worker = thread::spawn(move || {
            let result = item.complete(|_| {
                counted.add();
                Ok::<_, ()>(())
            });
            assert!(matches!(result, Ok(()) | Err(NotCompleted::Undecided)));
        });
        stop(&work);
        let undecided = work.reports(true).len();
        assert!(undecided == 1 || done.get() == 1);
        worker.join().unwrap();
        assert_eq!(back.get(), 0);
    });
}

/// P4: a worker that asks for its item's token while that is interrupted is told.
#[test]
fn an_interrupted_worker_is_told() {
    model_with(3, || {
        let work = work();
        let (jobs, back) = items(&work.own, HandBack::WhenStopped);
        let item = jobs.reserve().and_then(|slot| slot.fill(7)).unwrap();
        let worker = thread::spawn(move || {
            item.token().wait();
            assert!(item.is_interrupted());
        });
        stop(&work);
        for call in work.interrupt() {
            call();
        }
        drain(&work);
        assert_eq!(back.get(), 1);
        worker.join().unwrap();
    });
}

/// P21: a place that is given back unused ends the drain too.
#[test]
fn a_place_that_is_given_back_ends_the_drain() {
    model_with(3, || {
        let work = work();
        let (jobs, _) = items(&work.own, HandBack::AtDeadline);
        let slots = [(); 2].map(|()| jobs.reserve().unwrap());
        let going = slots.map(|slot: Slot<u32>| thread::spawn(move || drop(slot)));
        stop(&work);
        drain(&work);
        assert!(jobs.is_empty());
        for thread in going {
            thread.join().unwrap();
        }
    });
}

/// P21, P22: a stage is over when the last of it has gone, and that is told where the coordinator
/// waits.
#[test]
fn the_last_of_a_stage_ends_its_turn() {
    model(|| {
        let (work, alive) = (work(), Count::default());
        let stage = work.build("stage".into(), Location::caller());
        let first = hold(&stage.home).unwrap();
        let (coming, counted) = (Arc::clone(&stage), alive.clone());
        let going = thread::spawn(move || drop(first));
        let coming = thread::spawn(move || {
            if let Some(hold) = hold(&coming.home) {
                counted.add();
                counted.take();
                drop(hold);
            }
        });
        stop(&work);
        assert!(stage.stop(&StopReason::Completed, Duration::from_secs(1)));
        work.wait_until(Tick::NEVER, || stage.is_over(), || {});
        assert_eq!(alive.get(), 0);
        drain(&work);
        going.join().unwrap();
        coming.join().unwrap();
        assert_eq!(alive.get(), 0);
    });
}

/// P21: a stream ends once, when its last partition has ended and the last of what had arrived has
/// gone.
#[test]
fn a_stream_ends_once() {
    model_with(3, || {
        let (stops, alive) = (Count::default(), Count::default());
        let (stopped, there) = (stops.clone(), alive.clone());
        let stop = move || {
            assert_eq!(there.get(), 0);
            stopped.add();
        };
        let stream = Arc::new(EndOfStream::new(node(), stop, ["a", "b"]));
        let line = stream.arrive(&"a").unwrap();
        alive.add();
        stream.finish(&"a", End::OfData).unwrap();
        let (other, there) = (Arc::clone(&stream), alive.clone());
        let finishing = thread::spawn(move || other.finish(&"b", End::OfData).unwrap());
        let going = thread::spawn(move || {
            there.take();
            drop(line);
        });
        finishing.join().unwrap();
        going.join().unwrap();
        assert_eq!(stops.get(), 1);
    });
}
