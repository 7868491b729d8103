//! Hooks, and the shutdown that runs them.

use std::hint::black_box;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use signal_mod::ShutdownReason;

use crate::rounds::{Effort, Side, best_in_turns, one_of};
use crate::table::Figure::Time;
use crate::table::Must::{Nothing, Times};
use crate::table::Table;
use crate::work::coordinator;

/// What each hook does: little, but not nothing.
fn add(n: u32) {
    static SUM: AtomicU32 = AtomicU32::new(0);
    SUM.fetch_add(n, Ordering::Relaxed);
}

pub(crate) fn rows(table: &mut Table, effort: Effort) {
    register_and_run(table, effort);
    linear(table, effort);
}

/// Registers so many hooks, and runs them.
fn ours(count: u32) -> Side<'static, 2> {
    Box::new(move || {
        let coordinator = coordinator();
        let start = Instant::now();
        for n in 0..count {
            coordinator.hook("hook", move || add(n));
        }
        let registered = start.elapsed();
        let start = Instant::now();
        let report = coordinator.shutdown();
        let run = start.elapsed();
        assert_eq!(report.hooks().len(), count as usize);
        [registered, run]
    })
}

/// The least that one would write oneself: a stack of closures, caught and timed.
fn bare(count: u32) -> Side<'static, 2> {
    Box::new(move || {
        let start = Instant::now();
        let mut stack: Vec<Box<dyn FnOnce() + Send>> = Vec::new();
        for n in 0..count {
            stack.push(Box::new(move || add(n)));
        }
        let registered = start.elapsed();
        let start = Instant::now();
        let mut report: Vec<(bool, Duration)> = Vec::new();
        while let Some(hook) = stack.pop() {
            let start = Instant::now();
            let completed = catch_unwind(AssertUnwindSafe(hook)).is_ok();
            report.push((completed, start.elapsed()));
        }
        let run = start.elapsed();
        assert_eq!(black_box(report).len(), count as usize);
        [registered, run]
    })
}

fn theirs(count: u32) -> Side<'static, 2> {
    Box::new(move || {
        let start = Instant::now();
        let mut builder = signal_mod::Coordinator::builder();
        for n in 0..count {
            let hook = move |_| add(n);
            builder = builder.hook(signal_mod::hook_from_fn("hook", 0, hook));
        }
        let coordinator = builder.build();
        let registered = start.elapsed();
        let start = Instant::now();
        let report = coordinator.run_hooks_with_report(ShutdownReason::Requested);
        let run = start.elapsed();
        assert_eq!(report.outcomes().len(), count as usize);
        [registered, run]
    })
}

fn register_and_run(table: &mut Table, effort: Effort) {
    let count = effort.times(100_000);
    let sides = [ours(count), bare(count), theirs(count), ours(0), theirs(0)];
    let [ours, bare, theirs, [_, our_empty], [_, their_empty]] =
        best_in_turns(effort.rounds(), sides);
    // An empty shutdown is a row of its own.
    let less = |[registered, run]: [f64; 2], empty| [registered, run - empty];
    let (ours, theirs) = (less(ours, our_empty), less(theirs, their_empty));
    let sum = |[registered, run]: [f64; 2]| registered + run;
    for (what, ours, bare, theirs, must) in [
        (
            "hook: register, each of 100,000",
            ours[0],
            bare[0],
            theirs[0],
            Nothing,
        ),
        (
            "hook: run, each of 100,000",
            ours[1],
            bare[1],
            theirs[1],
            Nothing,
        ),
        ("hook: both", sum(ours), sum(bare), sum(theirs), Times(2.5)),
    ] {
        let [ours, bare, theirs] = [ours, bare, theirs].map(|all| Time(one_of(count, all)));
        let bare = ("`Vec` of closures, caught and timed", bare, must);
        table.row(what, ours, &[bare, ("signal-mod", theirs, Nothing)]);
    }
}

fn linear(table: &mut Table, effort: Effort) {
    for (what, count) in [
        ("shutdown without hooks", 0),
        ("shutdown with 1 hook", 1),
        ("shutdown with 1,000 hooks", 1_000),
        ("shutdown with 100,000 hooks", effort.times(100_000)),
    ] {
        let sides = [ours(count), theirs(count)];
        let [[_, ours], [_, theirs]] = best_in_turns(effort.rounds(), sides);
        table.row(what, Time(ours), &[("signal-mod", Time(theirs), Nothing)]);
    }
}
