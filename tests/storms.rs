//! P13, P19, P20, P21 in a crowd: each thing is counted by itself, so that one in a hundred thousand is seen.
//!
//! Short ones; with `--ignored` the long ones too, for which a release build is the better one.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    missing_docs,
    reason = "tests"
)]

mod common;
#[path = "common/random.rs"]
mod random;

use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};
use std::sync::{Arc, Barrier, Mutex};
use std::thread;
use std::time::Instant;

use common::{FAR, bounded, embedded};
use random::Random;
use winddown::{HookOutcome, InFlight, Outcome, ShutdownCoordinator, ShutdownHandle};

const THREADS: usize = 4;

/// What each thread does with each of its things: a number below 8, chosen beforehand.
fn plans(random: &mut Random, all: usize) -> Vec<Vec<u8>> {
    let mut one = || u8::try_from(random.below(8)).unwrap();
    let mut plan = || (0..all / THREADS).map(|_| one()).collect();
    (0..THREADS).map(|_| plan()).collect()
}

/// A count for each thing of each thread.
struct Counts(Vec<AtomicU8>);

impl Counts {
    fn new(all: usize) -> Arc<Self> {
        Arc::new(Self((0..all).map(|_| AtomicU8::new(0)).collect()))
    }

    fn add(&self, number: usize) {
        self.0[number].fetch_add(1, Ordering::Relaxed);
    }

    fn of(&self, number: usize) -> u8 {
        self.0[number].load(Ordering::Relaxed)
    }
}

/// Runs a thread for each plan, and the shutdown when half of it is done.
fn storm<R: Send + 'static>(
    shutdown: &ShutdownCoordinator,
    plans: &[Vec<u8>],
    each: impl Fn(&ShutdownHandle, usize, &[u8], &dyn Fn()) -> R + Send + Sync + 'static,
) -> Vec<R> {
    let all: usize = plans.iter().map(Vec::len).sum();
    let (each, done) = (Arc::new(each), Arc::new(AtomicUsize::new(0)));
    let half = Arc::new(Barrier::new(2));
    let start = |(nth, plan): (usize, &Vec<u8>)| {
        let (each, done, half) = (Arc::clone(&each), Arc::clone(&done), Arc::clone(&half));
        let (handle, plan) = (shutdown.handle(), plan.clone());
        thread::spawn(move || {
            let step = || {
                if done.fetch_add(1, Ordering::Relaxed) + 1 == all / 2 {
                    half.wait();
                }
            };
            each(&handle, nth * plan.len(), &plan, &step)
        })
    };
    let threads: Vec<_> = plans.iter().enumerate().map(start).collect();
    half.wait();
    shutdown.stop("half of it is done");
    let _ = shutdown.wait();
    let join = |thread: thread::JoinHandle<R>| thread.join().unwrap();
    threads.into_iter().map(join).collect()
}

/// P13, P19: whoever takes it off the stack, a thread or the cleaning, each is called once, or was removed.
fn hooks_from_everywhere(random: &mut Random, all: usize) -> usize {
    let plans = plans(random, all);
    let shutdown = embedded().hook_timeout(FAR).install().unwrap();
    let calls = Counts::new(all);
    let counted = Arc::clone(&calls);
    let each = move |handle: &ShutdownHandle, from: usize, plan: &[u8], step: &dyn Fn()| {
        let (mut removed, mut guards) = (Vec::new(), Vec::new());
        for (nth, what) in plan.iter().enumerate() {
            let number = from + nth;
            let counted = Arc::clone(&counted);
            let called = move || counted.add(number);
            match what {
                0 => guards.push(handle.guard("kept", (), move |()| called())),
                1 => drop(handle.guard("dropped", (), move |()| called())),
                2 | 3 => {
                    if handle.hook("removed", called).remove() {
                        removed.push(number);
                    }
                }
                4 | 5 => {
                    let outcome = handle.hook("run", called).run_now();
                    assert!(outcome.is_none_or(|outcome| outcome == HookOutcome::Completed));
                }
                _ => drop(handle.hook("left", called)),
            }
            step();
        }
        drop(guards);
        removed
    };
    let removed = storm(&shutdown, &plans, each).concat();
    let report = shutdown.wait();
    assert_eq!(report.outcome(), Outcome::Clean);
    let mut expected = vec![1; all];
    for number in &removed {
        expected[*number] = 0;
    }
    let made = all / THREADS * THREADS;
    for (number, expected) in expected.iter().enumerate().take(made) {
        assert_eq!(calls.of(number), *expected, "{number}");
    }
    removed.len()
}

/// P13: the order is that of one stack, however high it is.
fn hooks_in_order(all: usize) {
    let shutdown = embedded().install().unwrap();
    let called = Arc::new(Mutex::new(Vec::with_capacity(all)));
    for number in 0..all {
        let called = Arc::clone(&called);
        shutdown.hook("one of many", move || called.lock().unwrap().push(number));
    }
    let began = Instant::now();
    let report = bounded(move || shutdown.shutdown());
    println!("{all} hooks in order: {:?}", began.elapsed());
    assert_eq!(report.outcome(), Outcome::Clean);
    assert!((0..all).rev().eq(called.lock().unwrap().iter().copied()));
}

/// P20: one verdict each. P21, P22: while one is there the drain is not over, and after it none is.
fn holds_and_items(random: &mut Random, all: usize) -> [usize; 3] {
    let plans = plans(random, all);
    let shutdown = embedded().install().unwrap();
    let (live, at_the_hook) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (looks, seen) = (Arc::clone(&live), Arc::clone(&at_the_hook));
    shutdown.hook("looks", move || {
        seen.store(looks.load(Ordering::SeqCst) + 1, Ordering::SeqCst);
    });
    let (completed, back) = (Counts::new(all), Counts::new(all));
    let given_back = Arc::clone(&back);
    let jobs: InFlight<usize> = shutdown
        .in_flight("jobs")
        .on_interrupted(move |interrupted| given_back.add(*interrupted.item()));
    let (commits, set) = (Arc::clone(&completed), jobs.clone());
    let each = move |handle: &ShutdownHandle, from: usize, plan: &[u8], step: &dyn Fn()| {
        let mut admitted = Vec::new();
        let mut refused = 0;
        // While this thread has something in hand.
        let watch = |nth| {
            live.fetch_add(1, Ordering::SeqCst);
            if nth % 16 == 0 {
                thread::yield_now();
            }
            live.fetch_sub(1, Ordering::SeqCst);
        };
        for (nth, what) in plan.iter().enumerate() {
            let number = from + nth;
            if let 0..3 = what {
                match handle.hold("hold") {
                    Ok(hold) => {
                        let again = hold.clone();
                        drop(hold);
                        watch(nth);
                        drop(again);
                    }
                    Err(_) => refused += 1,
                }
            } else if let Some(slot) = set.reserve() {
                admitted.push(number);
                watch(nth);
                // Filled too late, it is handed back.
                let item = slot.fill(number);
                if item.is_some() {
                    watch(nth);
                }
                match (item, what) {
                    (None, _) => {}
                    (Some(item), 3) => drop(item),
                    (Some(item), 4) => item.fail("on purpose"),
                    (Some(item), _) => {
                        let commit = |number: &usize| {
                            commits.add(*number);
                            Ok::<_, ()>(())
                        };
                        let _ = item.complete(commit);
                    }
                }
            } else {
                refused += 1;
            }
            step();
        }
        (admitted, refused)
    };
    let told = storm(&shutdown, &plans, each);
    let report = shutdown.wait();
    assert_eq!(at_the_hook.load(Ordering::SeqCst), 1, "{report}");
    assert!(jobs.is_empty());
    let (mut items, mut refused) = (vec![false; all], 0);
    for (admitted, too_late) in told {
        for number in admitted {
            items[number] = true;
        }
        refused += too_late;
    }
    for (number, admitted) in items.iter().enumerate() {
        let verdicts = completed.of(number) + back.of(number);
        assert_eq!(verdicts, u8::from(*admitted), "{number}");
    }
    let count = |of: &Counts| (0..all).filter(|number| of.of(*number) == 1).count();
    [count(&completed), count(&back), refused]
}

/// Two numbers: of storms, each of which has one end to get in the way of, and of things in each.
fn hook_storms(storms: usize, hooks: usize) {
    let (began, mut random) = (Instant::now(), Random::new("hook_storms"));
    let removed = (0..storms).map(|_| hooks_from_everywhere(&mut random, hooks));
    let removed: usize = removed.sum();
    println!(
        "{storms} times {hooks} hooks, {removed} removed: {:?}",
        began.elapsed()
    );
    assert!(removed > 0);
}

fn item_storms(storms: usize, things: usize) {
    let (began, mut random) = (Instant::now(), Random::new("item_storms"));
    let mut sum = [0; 3];
    for _ in 0..storms {
        let seen = holds_and_items(&mut random, things);
        for (all, one) in sum.iter_mut().zip(seen) {
            *all += one;
        }
    }
    let [completed, back, refused] = sum;
    println!(
        "{storms} times {things} holds and items, {completed} completed, {back} handed back, {refused} refused: {:?}",
        began.elapsed()
    );
    assert!(sum.iter().all(|count| *count > 0));
}

#[test]
fn p13_each_of_many_hooks_is_called_once() {
    hook_storms(2000, 400);
    hooks_in_order(10_000);
}

#[test]
fn p20_each_of_many_items_has_one_verdict() {
    item_storms(2000, 400);
}

#[test]
#[ignore = "long"]
fn p13_each_of_100_000_hooks_is_called_once() {
    hook_storms(1, 100_000);
    hook_storms(10_000, 400);
    hooks_in_order(100_000);
}

#[test]
#[ignore = "long"]
fn p20_each_of_3_000_000_items_has_one_verdict() {
    item_storms(1, 3_000_000);
    item_storms(10_000, 400);
}
