//! P20: no item has both verdicts, and none has neither.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    missing_docs,
    reason = "tests"
)]

mod common;

use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::{Duration, Instant};

use common::{FAR, embedded};
use winddown::{DrainOutcome, NotCompleted, Outcome};

/// The verdicts of one round: bit 1 completed, bit 2 handed back.
struct Verdicts(Vec<AtomicU8>);

impl Verdicts {
    fn new(count: usize) -> Arc<Self> {
        Arc::new(Self((0..count).map(|_| AtomicU8::new(0)).collect()))
    }

    fn give(&self, item: usize, verdict: u8) {
        assert_eq!(
            self.0[item].fetch_or(verdict, Ordering::SeqCst) & verdict,
            0,
            "given twice"
        );
    }

    fn both_and_neither(&self) -> (usize, usize) {
        let count = |of: u8| {
            self.0
                .iter()
                .filter(|verdict| verdict.load(Ordering::SeqCst) == of)
                .count()
        };
        (count(3), count(0))
    }
}

/// P20: items on several threads, some of them failing, panicking or dropped, against a shutdown that takes them back.
#[test]
fn p20_no_item_has_both_verdicts_and_none_has_neither() {
    exactly_one_verdict(1_000);
}

#[test]
#[ignore = "takes minutes"]
fn p20_no_item_has_both_verdicts_in_20_000_rounds() {
    exactly_one_verdict(20_000);
}

fn exactly_one_verdict(rounds: u64) {
    std::panic::set_hook(Box::new(|_| ()));
    let mut seen = [0_usize; 2];
    for round in 0..rounds {
        let grace = Duration::from_micros(200 + round % 7 * 50);
        let shutdown = embedded()
            .grace_period(FAR)
            .cleanup_reserve(FAR.saturating_sub(grace))
            .install()
            .unwrap();
        let verdicts = Verdicts::new(12);
        let log = Arc::clone(&verdicts);
        let jobs = shutdown
            .in_flight("jobs")
            .on_interrupted(move |item| log.give(*item.item(), 2));
        let start = Arc::new(Barrier::new(4));
        let working: Vec<_> = (0..3)
            .map(|worker| {
                let (jobs, verdicts, start) =
                    (jobs.clone(), Arc::clone(&verdicts), Arc::clone(&start));
                let items: Vec<_> = (0..4)
                    .map(|n| jobs.reserve().unwrap().fill(worker * 4 + n).unwrap())
                    .collect();
                thread::spawn(move || {
                    start.wait();
                    for (n, item) in items.into_iter().enumerate() {
                        // Until somewhere around the deadline.
                        while !item.is_interrupted() && n as u64 != round % 4 {
                            std::hint::spin_loop();
                        }
                        let commit = |job: &usize| {
                            match round % 5 {
                                0 => return Err(()),
                                1 if n == 2 => panic!("in the commit"),
                                _ => verdicts.give(*job, 1),
                            }
                            Ok(())
                        };
                        match (round + n as u64) % 11 {
                            3 => drop(item),
                            4 => item.fail("on purpose"),
                            _ => {
                                let complete =
                                    std::panic::AssertUnwindSafe(|| drop(item.complete(commit)));
                                let _ = std::panic::catch_unwind(complete);
                            }
                        }
                    }
                })
            })
            .collect();
        start.wait();
        let _ = shutdown.shutdown();
        for thread in working {
            thread.join().unwrap();
        }
        assert_eq!(verdicts.both_and_neither(), (0, 0), "in round {round}");
        for verdict in &verdicts.0 {
            seen[usize::from(verdict.load(Ordering::SeqCst) - 1)] += 1;
        }
    }
    let _ = std::panic::take_hook();
    assert!(
        seen.iter().all(|count| *count > 100),
        "both verdicts must be seen: {seen:?}"
    );
}

/// P20: commits and hand-backs that are under way when the time for handing back is over. Some of them
/// then have an effect and no verdict; the report has exactly those as undecided that had none when
/// it was made, and none has both effects.
#[test]
fn p20_what_the_end_finds_under_way_is_undecided_and_never_both() {
    const ITEMS: usize = 12;
    let mut seen_undecided = 0;
    let mut seen_in_time = 0;
    for round in 0..300_u64 {
        let slice = Duration::from_micros(300 + round % 13 * 100);
        let shutdown = embedded()
            .grace_period(slice * 2)
            .cleanup_reserve(slice * 2)
            .install()
            .unwrap();
        let verdicts = Verdicts::new(ITEMS);
        let spin = move |times: u64| {
            let until = Instant::now() + slice * u32::try_from(times % 5).unwrap() / 2;
            while Instant::now() < until {
                std::hint::spin_loop();
            }
        };
        let log = Arc::clone(&verdicts);
        let jobs = shutdown.in_flight("jobs").on_interrupted(move |item| {
            spin(round + *item.item() as u64);
            log.give(*item.item(), 2);
        });
        let start = Arc::new(Barrier::new(4));
        let working: Vec<_> = (0..3)
            .map(|worker| {
                let (verdicts, start) = (Arc::clone(&verdicts), Arc::clone(&start));
                let items: Vec<_> = (0..ITEMS / 3)
                    .map(|n| {
                        jobs.reserve()
                            .unwrap()
                            .fill(worker * ITEMS / 3 + n)
                            .unwrap()
                    })
                    .collect();
                thread::spawn(move || {
                    start.wait();
                    let mut undecided = 0;
                    for item in items {
                        let completed = item.complete(|job| {
                            spin(round / 5 + *job as u64);
                            verdicts.give(*job, 1);
                            Ok::<_, ()>(())
                        });
                        undecided += usize::from(completed == Err(NotCompleted::Undecided));
                    }
                    undecided
                })
            })
            .collect();
        start.wait();
        let report = shutdown.shutdown();
        let too_late: usize = working
            .into_iter()
            .map(|thread| thread.join().unwrap())
            .sum();
        // The hand-backs that were left behind are still to come.
        drop(shutdown);
        let undecided = report
            .drained()
            .iter()
            .filter(|row| *row.outcome() == DrainOutcome::Undecided)
            .count();
        assert!(too_late <= undecided, "{report}");
        assert_eq!(verdicts.both_and_neither().0, 0, "both, in round {round}");
        let in_time = ITEMS - undecided;
        let given = |verdict: u8| {
            let all = verdicts.0.iter();
            all.filter(|given| given.load(Ordering::SeqCst) & verdict != 0)
                .count()
        };
        assert!(in_time >= report.handed_back(), "{report}");
        assert!(given(2) >= report.handed_back(), "{report}");
        assert!(
            given(1) >= in_time - report.handed_back(),
            "neither, and not in the report: round {round}\n{report}"
        );
        assert!(
            undecided == 0 || report.outcome() != Outcome::Clean,
            "{report}"
        );
        seen_undecided += undecided;
        seen_in_time += in_time;
    }
    assert!(
        seen_undecided > 50 && seen_in_time > 50,
        "both ends must be seen: {seen_undecided} undecided, {seen_in_time} in time"
    );
}

/// The negative control of the test above: an item that looks first and acts then has both verdicts sooner or later. If this finds
/// none, the test above has no teeth.
#[test]
fn looking_first_and_acting_then_gives_both_verdicts() {
    let mut both = 0;
    for _ in 0..1_000_000 {
        let verdict = Arc::new(AtomicU8::new(0));
        let start = Arc::new(AtomicBool::new(false));
        let run = |mine: u8| {
            let (verdict, start) = (Arc::clone(&verdict), Arc::clone(&start));
            move || {
                while !start.load(Ordering::SeqCst) {
                    std::hint::spin_loop();
                }
                if verdict.load(Ordering::SeqCst) == 0 {
                    thread::yield_now();
                    verdict.fetch_or(mine, Ordering::SeqCst);
                }
            }
        };
        let threads = [thread::spawn(run(1)), thread::spawn(run(2))];
        start.store(true, Ordering::SeqCst);
        for thread in threads {
            thread.join().unwrap();
        }
        both += usize::from(verdict.load(Ordering::SeqCst) == 3);
        if both >= 3 {
            return;
        }
    }
    panic!("found {both}");
}
