//! The in-band stop: rule by rule, and with many threads. The barrier against its model is in `barrier.rs`, batches and channels in `batch.rs`.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    missing_docs,
    reason = "tests"
)]

mod common;

use std::cell::Cell;
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Barrier, OnceLock};
use std::thread;

use common::{bounded, embedded};
use crossbeam_channel::unbounded;
use winddown::{
    Arrival, Assignment, End, EndOfStream, EndPolicy, PartitionError, ShutdownCoordinator,
    StopReason,
};

fn three() -> (ShutdownCoordinator, EndOfStream<u8>) {
    let shutdown = embedded().install().unwrap();
    let stream = shutdown.end_of_stream([0, 1, 2]);
    (shutdown, stream)
}

/// Both say the same.
#[track_caller]
fn assert_over(shutdown: &ShutdownCoordinator, stream: &EndOfStream<u8>, over: bool) {
    assert_eq!(stream.is_over(), over, "{stream:?}");
    let reason = over.then_some(StopReason::EndOfStream);
    assert_eq!(shutdown.token().reason(), reason);
}

#[test]
fn it_is_over_when_every_partition_has_ended() {
    let (shutdown, stream) = three();
    for (partition, end) in [(1, End::OfData), (0, End::Suspended)] {
        assert_eq!(stream.finish(&partition, end), Ok(true));
        assert_eq!(stream.finish(&partition, end), Ok(false), "ended already");
        assert_over(&shutdown, &stream, false);
    }
    assert_eq!((stream.running(), stream.in_flight()), (1, 0));
    stream.finish(&2, End::OfData).unwrap();
    assert_over(&shutdown, &stream, true);
    let report = shutdown.shutdown();
    assert_eq!(report.reason(), &StopReason::EndOfStream);
    assert_eq!(report.exit_code(), 0);
}

#[test]
fn it_is_not_over_while_something_is_in_flight() {
    let (shutdown, stream) = three();
    let arrival = stream.arrive(&0).unwrap();
    for partition in 0..3 {
        stream.finish(&partition, End::OfData).unwrap();
    }
    // What is made from it is covered, also after the end.
    let made = arrival.clone();
    drop(arrival);
    assert_eq!(stream.in_flight(), 1);
    assert_over(&shutdown, &stream, false);
    drop(made);
    assert_over(&shutdown, &stream, true);
}

#[test]
fn a_panic_of_the_work_ends_its_arrival() {
    let (shutdown, stream) = three();
    let arrival = stream.arrive(&0).unwrap();
    for partition in 0..3 {
        stream.finish(&partition, End::OfData).unwrap();
    }
    let work = thread::spawn(move || {
        let _arrival = arrival;
        panic!("in the work");
    });
    assert!(work.join().is_err());
    assert_over(&shutdown, &stream, true);
}

#[test]
fn late_data_takes_the_end_back() {
    let (shutdown, stream) = three();
    stream.finish(&0, End::OfData).unwrap();
    stream.finish(&1, End::Suspended).unwrap();
    assert_eq!(stream.arrive(&0).unwrap_err(), PartitionError::Ended);
    assert_eq!(stream.resume(&0), Ok(Some(End::OfData)));
    assert_eq!(stream.resume(&0), Ok(None), "it runs");
    assert_eq!(stream.resume(&1), Ok(Some(End::Suspended)));
    drop(stream.arrive(&0).unwrap());
    stream.finish(&2, End::OfData).unwrap();
    stream.finish(&1, End::OfData).unwrap();
    assert_over(&shutdown, &stream, false);
    stream.finish(&0, End::OfData).unwrap();
    assert_over(&shutdown, &stream, true);
    assert_eq!(stream.resume(&0), Err(PartitionError::IntakeClosed));
}

#[test]
fn a_suspended_partition_may_come_to_its_end_but_not_the_other_way_round() {
    let (_shutdown, stream) = three();
    assert_eq!(stream.end(&0), Ok(None));
    assert_eq!(stream.finish(&0, End::Suspended), Ok(true));
    assert_eq!(stream.finish(&0, End::OfData), Ok(true));
    assert_eq!(stream.finish(&0, End::Suspended), Ok(false));
    assert_eq!(stream.end(&0), Ok(Some(End::OfData)));
}

#[test]
fn a_new_assignment_is_waited_for_and_a_revoked_one_is_not() {
    let (shutdown, stream) = three();
    for partition in 0..2 {
        stream.finish(&partition, End::OfData).unwrap();
    }
    let late = stream.assign(3).unwrap();
    stream.finish(&2, End::OfData).unwrap();
    assert_over(&shutdown, &stream, false);
    let in_flight = late.arrive().unwrap();
    stream.revoke(&3).unwrap();
    assert_over(&shutdown, &stream, true);
    drop(in_flight);
    assert_eq!(stream.assign(4).unwrap_err(), PartitionError::IntakeClosed);
}

#[test]
fn what_comes_from_an_old_generation_counts_for_nothing() {
    let (shutdown, stream) = three();
    let old = stream.assignment(&0).unwrap();
    let in_flight = old.arrive().unwrap();
    old.finish(End::OfData).unwrap();
    let new = stream.assign(0).unwrap();
    assert!(new.generation() > old.generation());
    assert_eq!(stream.in_flight(), 0);
    assert_eq!(new.end(), Ok(None), "it begins anew");

    let refused = PartitionError::OldGeneration;
    assert_eq!(old.finish(End::OfData), Err(refused));
    assert_eq!(old.resume(), Err(refused));
    assert_eq!(old.end(), Err(refused));
    assert_eq!(old.arrive().unwrap_err(), refused);
    let more = in_flight.clone();
    assert_eq!(stream.in_flight(), 0);

    stream.finish(&1, End::OfData).unwrap();
    stream.finish(&2, End::OfData).unwrap();
    let current = new.arrive().unwrap();
    drop((in_flight, more));
    new.finish(End::OfData).unwrap();
    assert_over(&shutdown, &stream, false);
    drop(current);
    assert_over(&shutdown, &stream, true);
}

#[test]
fn an_unknown_partition_has_a_typed_answer() {
    let (_shutdown, stream) = three();
    let unknown = PartitionError::UnknownPartition;
    assert_eq!(stream.finish(&9, End::OfData), Err(unknown));
    assert_eq!(stream.resume(&9), Err(unknown));
    assert_eq!(stream.revoke(&9), Err(unknown));
    assert_eq!(stream.end(&9), Err(unknown));
    assert_eq!(stream.arrive(&9).unwrap_err(), unknown);
    assert_eq!(stream.assignment(&9).unwrap_err(), unknown);
    stream.revoke(&0).unwrap();
    assert_eq!(stream.finish(&0, End::OfData), Err(unknown));
    assert_eq!(unknown.to_string(), "the partition is not assigned");
}

#[test]
fn an_empty_assignment_is_no_end_unless_said_so() {
    let shutdown = embedded().install().unwrap();
    let stream = shutdown.end_of_stream::<u8>([]);
    stream.assign(1).unwrap();
    stream.revoke(&1).unwrap();
    assert_over(&shutdown, &stream, false);
    let stream = stream.ends_when_empty();
    assert_over(&shutdown, &stream, true);

    let (shutdown, stream) = three();
    let stream = stream.ends_when_empty();
    for partition in 0..3 {
        assert_over(&shutdown, &stream, false);
        stream.revoke(&partition).unwrap();
    }
    assert_over(&shutdown, &stream, true);
}

#[test]
fn any_one_end_of_data_suspends_the_others_and_ends_the_stream() {
    let (shutdown, stream) = three();
    let stream = stream.policy(EndPolicy::Any);
    let arrival = stream.arrive(&0).unwrap();
    stream.finish(&1, End::Suspended).unwrap();
    assert_eq!(stream.running(), 2, "a suspension is no sentinel");
    stream.finish(&2, End::OfData).unwrap();
    assert_eq!(stream.end(&0), Ok(Some(End::Suspended)));
    assert_eq!(stream.arrive(&0).unwrap_err(), PartitionError::Ended);
    assert_over(&shutdown, &stream, false);
    // Taken back, the others go on as they were.
    assert_eq!(stream.resume(&2), Ok(Some(End::OfData)));
    assert_eq!(stream.end(&0), Ok(None));
    drop(arrival);
    assert_over(&shutdown, &stream, false);
    stream.finish(&0, End::OfData).unwrap();
    assert_over(&shutdown, &stream, true);
    assert_eq!(stream.end(&2), Ok(Some(End::Suspended)));
}

#[test]
fn any_is_over_too_when_every_one_is_suspended() {
    let (shutdown, stream) = three();
    let stream = stream.policy(EndPolicy::Any);
    for partition in 0..3 {
        assert_over(&shutdown, &stream, false);
        stream.finish(&partition, End::Suspended).unwrap();
    }
    assert_over(&shutdown, &stream, true);
}

#[test]
fn p22_nothing_arrives_after_a_stop_but_the_stream_still_comes_to_its_end() {
    let (shutdown, stream) = three();
    let arrival = stream.arrive(&0).unwrap();
    shutdown.stop("now");
    assert_eq!(stream.arrive(&0).unwrap_err(), PartitionError::IntakeClosed);
    for partition in 0..3 {
        assert_eq!(stream.finish(&partition, End::Suspended), Ok(true));
    }
    assert!(!stream.is_over());
    drop(arrival);
    assert!(stream.is_over());
    let report = shutdown.shutdown();
    assert_eq!(report.reason(), &StopReason::from("now"));
    assert!(report.later_reasons().is_empty(), "it is not news");
}

#[test]
fn it_outlives_its_coordinator() {
    let (shutdown, stream) = three();
    drop(shutdown);
    assert_eq!(stream.arrive(&0).unwrap_err(), PartitionError::IntakeClosed);
    for partition in 0..3 {
        stream.finish(&partition, End::OfData).unwrap();
    }
    assert!(stream.is_over());
}

/// Uses the stream when it is dropped, and says nothing of that when it is compared.
#[derive(Clone)]
struct Curious(u8, Arc<OnceLock<EndOfStream<Curious>>>);

impl PartialEq for Curious {
    fn eq(&self, other: &Self) -> bool {
        self.0 == other.0
    }
}

impl Eq for Curious {}

impl std::hash::Hash for Curious {
    fn hash<H: std::hash::Hasher>(&self, hasher: &mut H) {
        self.0.hash(hasher);
    }
}

thread_local! {
    static DROPS: Cell<usize> = const { Cell::new(0) };
}

impl Drop for Curious {
    fn drop(&mut self) {
        if let Some(stream) = self.1.get() {
            let _ = stream.in_flight();
            DROPS.set(DROPS.get() + 1);
        }
    }
}

#[test]
fn p17_a_partition_is_dropped_with_no_lock_held() {
    bounded(|| {
        let shutdown = embedded().install().unwrap();
        let place = Arc::new(OnceLock::new());
        let stream = shutdown.end_of_stream([Curious(0, Arc::clone(&place))]);
        assert!(place.set(stream.clone()).is_ok());
        let partition = |n| Curious(n, Arc::clone(&place));
        stream.assign(partition(0)).unwrap(); // the second of two equal keys
        assert_eq!(DROPS.get(), 1);
        stream.assign(partition(1)).unwrap();
        let one = partition(1);
        stream.revoke(&one).unwrap(); // the key in the map
        assert_eq!(DROPS.get(), 2);
        let zero = partition(0);
        stream.finish(&zero, End::OfData).unwrap();
        assert!(stream.assign(partition(1)).is_err()); // one that came too late
        assert_eq!(DROPS.get(), 3);
    });
}

#[test]
fn what_is_shared_is_send_sync_and_unwind_safe() {
    fn check<T: Clone + Send + Sync + UnwindSafe + RefUnwindSafe>() {}
    // A partition is only `Send`.
    check::<EndOfStream<Cell<u8>>>();
    check::<Assignment<Cell<u8>>>();
    check::<Arrival<Cell<u8>>>();
}

#[test]
fn two_last_changes_on_two_threads_do_not_both_miss_the_end() {
    bounded(|| {
        for _ in 0..500 {
            let shutdown = embedded().install().unwrap();
            let stream = shutdown.end_of_stream([0, 1]);
            stream.finish(&0, End::OfData).unwrap();
            let arrival = stream.arrive(&1).unwrap();
            let start = Barrier::new(2);
            thread::scope(|scope| {
                scope.spawn(|| {
                    start.wait();
                    drop(arrival);
                });
                start.wait();
                stream.finish(&1, End::OfData).unwrap();
            });
            assert!(shutdown.token().is_stopped());
        }
    });
}

#[test]
fn readers_workers_and_rebalancing_at_once_the_end_comes_when_all_is_done() {
    const READERS: u8 = 3;
    const EACH: usize = 50;
    bounded(|| {
        let mut late_in_time = 0;
        for _ in 0..100 {
            let shutdown = embedded().install().unwrap();
            let stream = shutdown.end_of_stream(0..=READERS);
            let (sender, queue) = unbounded::<Arrival<u8>>();
            let (read, done) = (AtomicUsize::new(0), AtomicUsize::new(0));
            let late = AtomicUsize::new(0);
            thread::scope(|scope| {
                for partition in 0..READERS {
                    let (stream, sender) = (stream.clone(), sender.clone());
                    let (read, late) = (&read, &late);
                    scope.spawn(move || {
                        let reader = stream.assignment(&partition).unwrap();
                        let some = || {
                            for _ in 0..EACH {
                                let arrival = reader.arrive().unwrap();
                                read.fetch_add(1, Ordering::Relaxed);
                                sender.send(arrival).unwrap();
                            }
                            assert_eq!(reader.finish(End::OfData), Ok(true));
                        };
                        some();
                        match reader.resume() {
                            Ok(end) => {
                                assert_eq!(end, Some(End::OfData));
                                late.fetch_add(1, Ordering::Relaxed);
                                some();
                            }
                            Err(error) => assert_eq!(error, PartitionError::IntakeClosed),
                        }
                    });
                }
                drop(sender);
                for _ in 0..2 {
                    let (queue, done) = (queue.clone(), &done);
                    scope.spawn(move || {
                        for arrival in queue {
                            done.fetch_add(1, Ordering::Relaxed);
                            drop(arrival);
                        }
                    });
                }
                let rebalanced = stream.clone();
                scope.spawn(move || {
                    for _ in 0..EACH {
                        let old = rebalanced.assign(READERS).unwrap();
                        let left_behind = old.arrive().unwrap();
                        old.finish(End::OfData).unwrap();
                        rebalanced.assign(READERS).unwrap();
                        drop(left_behind);
                    }
                    rebalanced.revoke(&READERS).unwrap();
                });
                assert_eq!(shutdown.token().wait(), StopReason::EndOfStream);
                // P5 carries what was counted before the last arrival went.
                let read = read.load(Ordering::Relaxed);
                assert_eq!(done.load(Ordering::Relaxed), read, "opened early");
                assert!(read >= EACH * usize::from(READERS));
            });
            late_in_time += late.load(Ordering::Relaxed);
        }
        assert!(late_in_time > 0, "no end was ever taken back");
    });
}
