//! Tokens: the question that a hot loop asks, and trees of them.

use std::hint::black_box;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use signal_mod::ShutdownReason;
use swansong::Swansong;
use tokio_util::sync::CancellationToken;
use winddown::{StopSource, StopToken};

use crate::rounds::{Effort, Side, best_in_turns, each, each_on_two, in_turns, one_of};
use crate::table::Figure::Time;
use crate::table::Must::{Nothing, Times};
use crate::table::Table;

pub(crate) fn rows(table: &mut Table, effort: Effort) {
    asked(table, effort);
    asked_of_a_child(table, effort);
    asked_on_two_threads(table, effort);
    one_child(table, effort);
    many_children(table, effort);
    chain(table, effort);
}

fn theirs() -> signal_mod::Coordinator {
    signal_mod::Coordinator::builder().build()
}

fn asked(table: &mut Table, effort: Effort) {
    let times = effort.times(2_000_000);
    let source = StopSource::new();
    let (ours, bare) = (source.token(), AtomicBool::new(false));
    let (theirs, other) = (theirs(), Swansong::new());
    let (theirs, tokio) = (theirs.token(), CancellationToken::new());
    let took = in_turns(
        effort.many_rounds(),
        [
            each(times, || black_box(&ours).is_stopped()),
            each(times, || black_box(&bare).load(Ordering::Acquire)),
            each(times, || black_box(&theirs).is_initiated()),
            each(times, || black_box(&other).state().is_running()),
            each(times, || black_box(&tokio).is_cancelled()),
        ],
    );
    let [ours, bare, theirs, other, tokio] = took.map(|[all]| Time(one_of(times, all)));
    let peers = [
        ("`AtomicBool`", bare, Times(2.0)),
        ("signal-mod", theirs, Nothing),
        ("swansong", other, Nothing),
        ("tokio-util", tokio, Nothing),
    ];
    table.row("`is_stopped`", ours, &peers);
}

fn asked_of_a_child(table: &mut Table, effort: Effort) {
    let times = effort.times(2_000_000);
    let source = StopSource::new();
    let child = source.token().child();
    let (ours, bare) = (child.token(), AtomicBool::new(false));
    let coordinator = theirs();
    let (_trigger, theirs) = coordinator.token().child();
    let tokio = CancellationToken::new();
    let tokio_child = tokio.child_token();
    let took = in_turns(
        effort.many_rounds(),
        [
            each(times, || black_box(&ours).is_stopped()),
            each(times, || black_box(&bare).load(Ordering::Acquire)),
            each(times, || black_box(&theirs).is_initiated()),
            each(times, || black_box(&tokio_child).is_cancelled()),
        ],
    );
    let [ours, bare, theirs, tokio] = took.map(|[all]| Time(one_of(times, all)));
    let peers = [
        ("`AtomicBool`", bare, Times(4.0)),
        ("signal-mod", theirs, Nothing),
        ("tokio-util", tokio, Nothing),
    ];
    table.row("`is_stopped` of a child", ours, &peers);
}

fn asked_on_two_threads(table: &mut Table, effort: Effort) {
    let times = effort.times(1_000_000);
    let source = StopSource::new();
    let (ours, bare) = (source.token(), AtomicBool::new(false));
    let (theirs, tokio) = (theirs(), CancellationToken::new());
    let theirs = theirs.token();
    let took = in_turns(
        effort.many_rounds(),
        [
            each_on_two(times, || black_box(&ours).is_stopped()),
            each_on_two(times, || black_box(&bare).load(Ordering::Acquire)),
            each_on_two(times, || black_box(&theirs).is_initiated()),
            each_on_two(times, || black_box(&tokio).is_cancelled()),
        ],
    );
    let [ours, bare, theirs, tokio] = took.map(|[all]| Time(one_of(times, all)));
    let peers = [
        ("`AtomicBool`", bare, Times(2.0)),
        ("signal-mod", theirs, Nothing),
        ("tokio-util", tokio, Nothing),
    ];
    table.row("`is_stopped`, two threads at once", ours, &peers);
}

fn one_child(table: &mut Table, effort: Effort) {
    let times = effort.times(5_000);
    let (source, tokio, theirs) = (StopSource::new(), CancellationToken::new(), theirs());
    let (ours, theirs) = (source.token(), theirs.token());
    let sides = [
        each(times, || drop(ours.child())),
        each(times, || drop(tokio.child_token())),
        each(times, || drop(theirs.child())),
    ];
    let took = in_turns(effort.many_rounds(), sides);
    let [ours, tokio, theirs] = took.map(|[all]| Time(one_of(times, all)));
    let peers = [
        ("tokio-util", tokio, Times(1.0)),
        ("signal-mod", theirs, Nothing),
    ];
    table.row("child token: make and drop", ours, &peers);
}

/// Makes so many children of one token, and stops it.
fn family<'a, P, C>(
    count: u32,
    parent: impl Fn() -> P + 'a,
    child: impl Fn(&P) -> C + 'a,
    stop: impl Fn(&P) + 'a,
) -> Side<'a, 2> {
    Box::new(move || {
        let parent = parent();
        let mut children = Vec::with_capacity(count as usize);
        let start = Instant::now();
        for _ in 0..count {
            children.push(child(&parent));
        }
        let made = start.elapsed();
        let start = Instant::now();
        stop(&parent);
        [made, start.elapsed()]
    })
}

fn many_children(table: &mut Table, effort: Effort) {
    let count = effort.times(100_000);
    let took = best_in_turns(
        effort.rounds(),
        [
            family(
                count,
                || {
                    let source = StopSource::new();
                    let token = source.token();
                    (source, token)
                },
                |(_, token)| token.child(),
                |(source, _)| assert!(source.stop("enough")),
            ),
            family(
                count,
                CancellationToken::new,
                CancellationToken::child_token,
                CancellationToken::cancel,
            ),
            family(
                count,
                || {
                    let coordinator = theirs();
                    (coordinator.trigger(), coordinator.token())
                },
                |(_, token)| token.child(),
                |(trigger, _)| assert!(trigger.trigger(ShutdownReason::Requested)),
            ),
        ],
    );
    for (phase, what) in [
        "child token: make each of 100,000",
        "child token: stop each of 100,000",
    ]
    .iter()
    .enumerate()
    {
        let [ours, tokio, theirs] = took.map(|phases| Time(one_of(count, phases[phase])));
        let peers = [
            ("tokio-util", tokio, Times(1.0)),
            ("signal-mod", theirs, Nothing),
        ];
        table.row(what, ours, &peers);
    }
}

fn chain(table: &mut Table, effort: Effort) {
    const LINKS: usize = 10_000;
    let ours = || {
        let top = StopSource::new();
        let mut chain = vec![top.token().child()];
        while chain.len() < LINKS {
            let next = chain[chain.len() - 1].token().child();
            chain.push(next);
        }
        let last: StopToken = chain[LINKS - 1].token();
        let took = stopped(|| assert!(top.stop("enough")));
        assert!(last.is_stopped());
        [took]
    };
    let tokio = || {
        let top = CancellationToken::new();
        let mut chain = vec![top.child_token()];
        while chain.len() < LINKS {
            let next = chain[chain.len() - 1].child_token();
            chain.push(next);
        }
        [stopped(|| top.cancel())]
    };
    let theirs = || {
        let coordinator = theirs();
        let mut chain = vec![coordinator.token().child()];
        while chain.len() < LINKS {
            let next = chain[chain.len() - 1].1.child();
            chain.push(next);
        }
        let trigger = coordinator.trigger();
        [stopped(|| {
            assert!(trigger.trigger(ShutdownReason::Requested));
        })]
    };
    let sides: [Side<'_, 1>; 3] = [Box::new(ours), Box::new(tokio), Box::new(theirs)];
    let [ours, tokio, theirs] = best_in_turns(effort.rounds(), sides).map(|[all]| Time(all));
    let peers = [
        ("tokio-util", tokio, Times(2.0)),
        ("signal-mod", theirs, Nothing),
    ];
    table.row("chain of 10,000 children: stop", ours, &peers);
}

fn stopped(stop: impl FnOnce()) -> Duration {
    let start = Instant::now();
    stop();
    start.elapsed()
}
