//! Around an in-band end nothing is lost: in its batch, and in the channels.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    missing_docs,
    reason = "tests"
)]

mod common;

use std::thread;
use std::time::Duration;

use common::{SHORT, embedded};
use crossbeam_channel::unbounded;
use winddown::{StopSource, drain, split_at_end};

#[test]
fn what_stands_before_the_end_in_its_batch_is_delivered() {
    let is_end = |n: &u32| *n == 0;
    let split = split_at_end(vec![1, 2, 0, 3, 0], is_end);
    assert_eq!((split.before, split.end), (vec![1, 2], Some(0)));
    assert_eq!(split.after, [3, 0], "one end ends it");
    let split = split_at_end(vec![1, 2], is_end);
    assert_eq!((split.before, split.end), (vec![1, 2], None));
    assert!(split.after.is_empty());
    let split = split_at_end(vec![0], is_end);
    assert!(split.before.is_empty() && split.after.is_empty());
    assert_eq!(split.end, Some(0));
}

#[test]
fn a_batch_is_not_asked_again_after_it_was_empty() {
    let mut asked = 0;
    let batch = std::iter::from_fn(|| {
        asked += 1;
        (asked != 3).then_some(asked)
    });
    assert_eq!(split_at_end(batch, |_| false).before, [1, 2]);
    assert_eq!(asked, 3);
}

#[test]
fn drain_takes_all_that_is_there_and_says_whether_more_can_come() {
    let token = StopSource::new().token();
    let (sender, receiver) = unbounded();
    sender.send(1).unwrap();
    sender.send(2).unwrap();
    let mut seen = Vec::new();
    let drained = drain(&receiver, &token, Duration::ZERO, |n| seen.push(n));
    assert_eq!((drained.taken, drained.left), (2, 0));
    assert!(!drained.disconnected);
    assert_eq!(seen, [1, 2]);
    drop(sender);
    let drained = drain(&receiver, &token, Duration::ZERO, |n| seen.push(n));
    assert!(drained.disconnected && drained.taken == 0);
}

#[test]
fn drain_ends_with_the_time_and_leaves_the_rest_in_the_channel() {
    let shutdown = embedded().grace_period(SHORT).install().unwrap();
    let token = shutdown.token();
    let (sender, receiver) = unbounded();
    for n in 0..5 {
        sender.send(n).unwrap();
    }
    // Running, there is no limit to it.
    assert_eq!(token.time_left(), None);
    shutdown.stop("now");
    let drained = drain(&receiver, &token, Duration::ZERO, |_| {
        while !token.time_left().unwrap().is_zero() {
            thread::yield_now();
        }
    });
    // None, where the machine was too busy to begin within the time.
    assert!(drained.taken <= 1);
    assert_eq!(drained.left, 5 - drained.taken);
    assert_eq!(receiver.len(), drained.left);
    assert!(!drained.disconnected);
}

#[test]
fn drain_keeps_the_time_that_is_for_others() {
    let shutdown = embedded().install().unwrap();
    let (sender, receiver) = unbounded();
    sender.send(1).unwrap();
    shutdown.stop("now");
    let drained = drain(&receiver, &shutdown.token(), Duration::MAX, drop::<u8>);
    assert_eq!((drained.taken, drained.left), (0, 1));
}

#[test]
fn what_cannot_be_handed_on_ends_the_drain_and_the_rest_stays() {
    use std::ops::ControlFlow;
    let token = StopSource::new().token();
    let (sender, receiver) = unbounded();
    for n in 0..5 {
        sender.send(n).unwrap();
    }
    let drained = drain(&receiver, &token, Duration::ZERO, |n| {
        if n < 2 {
            ControlFlow::Continue(())
        } else {
            ControlFlow::Break(())
        }
    });
    assert_eq!((drained.taken, drained.left), (3, 2));
    assert_eq!(receiver.try_recv(), Ok(3));
}
