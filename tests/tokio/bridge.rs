//! `CancellationToken`, both ways.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Barrier};
use std::thread;

use libtest_mimic::Trial;
use tokio_util::sync::CancellationToken;
use winddown::StopSource;

use crate::common::{bounded, embedded};
use crate::harness::trials;
use crate::on_both;

pub(crate) fn tests() -> Vec<Trial> {
    trials![
        the_stop_cancels_and_cancelling_stops_nothing,
        a_linked_token_stops_the_source_and_a_dropped_link_does_not,
        p4_both_ways_under_contention,
        a_coordinator_cancels_whatever_takes_a_cancellation_token,
    ]
}

fn the_stop_cancels_and_cancelling_stops_nothing() {
    let source = StopSource::new();
    let token = source.token();
    let (one, other) = (token.to_cancellation_token(), token.to_cancellation_token());
    one.cancel();
    assert!(!token.is_stopped());
    assert!(!other.is_cancelled());
    source.stop("enough");
    assert!(other.is_cancelled());
    assert!(token.to_cancellation_token().is_cancelled());
}

fn a_linked_token_stops_the_source_and_a_dropped_link_does_not() {
    let foreign = CancellationToken::new();
    let (linked, unlinked) = (StopSource::new(), StopSource::new());
    let link = linked.link(&foreign);
    drop(unlinked.link(&foreign));
    foreign.cancel();
    assert!(linked.token().is_stopped());
    assert!(!unlinked.token().is_stopped());
    let late = StopSource::new();
    drop((link, late.link(&foreign)));
    assert!(late.token().is_stopped());
}

/// A ring of four: a source, its token over there, that linked to another source. It is stopped at both ends at once
/// while others come and go: everybody sees it, nobody hangs.
fn p4_both_ways_under_contention() {
    const ROUNDS: usize = 2_000;
    bounded(|| {
        let seen = Arc::new(AtomicUsize::new(0));
        for _ in 0..ROUNDS {
            let (first, second) = (StopSource::new(), StopSource::new());
            let over_there = first.token().to_cancellation_token();
            let link = second.link(&over_there);
            let start = Arc::new(Barrier::new(4));
            let threads = [
                {
                    let (first, start) = (first.clone(), Arc::clone(&start));
                    thread::spawn(move || {
                        start.wait();
                        first.stop("one end");
                    })
                },
                {
                    let (over_there, start) = (over_there.clone(), Arc::clone(&start));
                    thread::spawn(move || {
                        start.wait();
                        over_there.cancel();
                    })
                },
                {
                    let (token, start, seen) =
                        (first.token(), Arc::clone(&start), Arc::clone(&seen));
                    thread::spawn(move || {
                        start.wait();
                        let another = token.to_cancellation_token();
                        while !another.is_cancelled() {
                            thread::yield_now();
                        }
                        seen.fetch_add(1, Ordering::SeqCst);
                    })
                },
                {
                    let (second, over_there, start) =
                        (second.clone(), over_there.clone(), Arc::clone(&start));
                    thread::spawn(move || {
                        start.wait();
                        for _ in 0..8 {
                            drop(second.link(&over_there));
                        }
                    })
                },
            ];
            second.token().wait();
            for thread in threads {
                thread.join().unwrap();
            }
            drop(link);
        }
        assert_eq!(seen.load(Ordering::SeqCst), ROUNDS);
    });
}

fn a_coordinator_cancels_whatever_takes_a_cancellation_token() {
    on_both(|| async {
        let shutdown = embedded().install().unwrap();
        let over_there = shutdown.token().to_cancellation_token();
        let waiting = tokio::spawn(async move { over_there.cancelled().await });
        let report = shutdown.shutdown_async().await;
        waiting.await.unwrap();
        assert_eq!(report.exit_code(), 0);
    });
}
