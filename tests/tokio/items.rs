//! P20: items inside futures.

use std::future::pending;
use std::sync::{Arc, Mutex};
use std::task::Poll;
use std::time::Duration;

use libtest_mimic::Trial;
use winddown::{DrainOutcome, HandBack, Interruption, NotCompleted, Outcome, ShutdownBuilder};

use crate::common::{bounded, embedded};
use crate::harness::trials;
use crate::{current_thread, multi_thread, on_both};

pub(crate) fn tests() -> Vec<Trial> {
    trials![
        p20_an_item_of_an_aborted_future_is_handed_back_once,
        p20_an_async_commit_is_a_verdict,
        p20_a_commit_that_is_dropped_hands_back_after_its_drop,
        p20_an_item_is_handed_back_when_all_of_its_future_has_been_dropped,
        p20_p21_the_drain_waits_for_an_async_hand_back,
        p20_an_async_hand_back_has_its_outcome,
        p17_an_async_hand_back_may_call_shutdown,
        p20_an_async_hand_back_that_hangs_leaves_its_item_undecided,
        p20_an_async_hand_back_whose_runtime_is_gone_says_so,
        p20_what_runs_on_is_undecided_or_handed_back_as_asked,
        p20_dropped_and_aborted_at_random_each_item_has_one_verdict,
    ]
}

fn p20_an_item_of_an_aborted_future_is_handed_back_once() {
    on_both(|| async {
        for hand_back in [HandBack::WhenStopped, HandBack::AtDeadline] {
            let shutdown = impatient().install().unwrap();
            let back = Arc::new(Mutex::new(Vec::new()));
            let handed_back = Arc::clone(&back);
            let jobs = shutdown
                .in_flight("jobs")
                .hand_back(hand_back)
                .on_interrupted(move |item| {
                    let why = item.why().clone();
                    handed_back.lock().unwrap().push((item.into_item(), why));
                });
            let item = jobs.reserve().unwrap().fill("job").unwrap();
            shutdown
                .spawn_async("works", async move |_| {
                    let _item = item;
                    pending::<()>().await;
                })
                .unwrap();
            let report = shutdown.shutdown_async().await;
            let expected = [("job", Interruption::Dropped)];
            assert_eq!(*back.lock().unwrap(), expected);
            assert_eq!(report.handed_back(), 1);
        }
    });
}

fn p20_an_async_commit_is_a_verdict() {
    on_both(|| async {
        let shutdown = embedded().install().unwrap();
        let back = Arc::new(Mutex::new(Vec::new()));
        let handed_back = Arc::clone(&back);
        let jobs = shutdown.in_flight("jobs").on_interrupted(move |item| {
            let why = item.why().clone();
            handed_back.lock().unwrap().push((item.into_item(), why));
        });
        let fill = |job| jobs.reserve().unwrap().fill(job).unwrap();
        let (done, failing, panicking) = (fill("done"), fill("failing"), fill("panicking"));
        let committed = done.complete_async(async |job| {
            tokio::task::yield_now().await;
            Ok::<_, String>(job.len())
        });
        assert_eq!(committed.await.unwrap(), 4);
        let failed = failing.complete_async(async |_| Err::<(), _>("no queue"));
        let failed = failed.await;
        assert!(matches!(
            failed,
            Err(NotCompleted::CommitFailed("no queue"))
        ));
        let panicked = tokio::spawn(
            panicking.complete_async(async |_| -> Result<(), String> { panic!("on purpose") }),
        );
        assert!(panicked.await.unwrap_err().is_panic());
        let report = shutdown.shutdown_async().await;
        let expected = [
            ("failing", Interruption::CommitFailed),
            ("panicking", Interruption::Panicked),
        ];
        assert_eq!(*back.lock().unwrap(), expected);
        assert_eq!(report.handed_back(), 2);
    });
}

struct Notes(Arc<Mutex<Vec<&'static str>>>);

impl Drop for Notes {
    fn drop(&mut self) {
        self.0.lock().unwrap().push("commit dropped");
    }
}

fn p20_a_commit_that_is_dropped_hands_back_after_its_drop() {
    on_both(|| async {
        let shutdown = embedded().install().unwrap();
        let log = Arc::new(Mutex::new(Vec::new()));
        let handed_back = Arc::clone(&log);
        let jobs = shutdown.in_flight("jobs").on_interrupted(move |item| {
            assert_eq!(item.why(), &Interruption::Dropped);
            handed_back.lock().unwrap().push("handed back");
        });
        let item = jobs.reserve().unwrap().fill("job").unwrap();
        let notes = Notes(Arc::clone(&log));
        let mut committing = Box::pin(item.complete_async(async |_| {
            let _notes = notes;
            pending::<Result<(), String>>().await
        }));
        let polled = std::future::poll_fn(|cx| Poll::Ready(committing.as_mut().poll(cx)));
        assert!(polled.await.is_pending());
        assert!(log.lock().unwrap().is_empty());
        drop(committing);
        assert_eq!(*log.lock().unwrap(), ["commit dropped", "handed back"]);
        let report = shutdown.shutdown_async().await;
        assert_eq!(report.handed_back(), 1, "{report}");
    });
}

struct NotesAtDrop(Arc<Mutex<Vec<&'static str>>>, &'static str);

impl Drop for NotesAtDrop {
    fn drop(&mut self) {
        self.0.lock().unwrap().push(self.1);
    }
}

fn p20_an_item_is_handed_back_when_all_of_its_future_has_been_dropped() {
    for asynchronous in [false, true] {
        on_both(move || async move {
            let shutdown = impatient().install().unwrap();
            let log = Arc::new(Mutex::new(Vec::new()));
            let back = NotesAtDrop(Arc::clone(&log), "handed back");
            let jobs = shutdown.in_flight("jobs");
            let jobs = if asynchronous {
                let back = Arc::new(Mutex::new(Some(back)));
                jobs.on_interrupted_async(move |_| {
                    let back = back.lock().unwrap().take();
                    async move { drop(back) }
                })
            } else {
                let back = Mutex::new(Some(back));
                jobs.on_interrupted(move |_| drop(back.lock().unwrap().take()))
            };
            let item = jobs.reserve().unwrap().fill("job").unwrap();
            let (first, last) = (
                NotesAtDrop(Arc::clone(&log), "dropped first"),
                NotesAtDrop(Arc::clone(&log), "dropped last"),
            );
            shutdown
                .spawn_async("works", async move |_| {
                    // Locals are dropped from the last to the first: the item in the midst of it.
                    let _last = last;
                    let _item = item;
                    let _first = first;
                    pending::<()>().await;
                })
                .unwrap();
            let report = shutdown.shutdown_async().await;
            let expected = ["dropped first", "dropped last", "handed back"];
            assert_eq!(*log.lock().unwrap(), expected, "{report}");
            assert_eq!(report.handed_back(), 1);
        });
    }
}

/// With hardly any time to drain, and a lot of it to hand back.
pub(crate) fn impatient() -> ShutdownBuilder {
    embedded()
        .grace_period(Duration::from_secs(4))
        .cleanup_reserve(Duration::from_millis(3900))
}

/// It is part of the shutdown, and gets what has happened so far.
fn p17_an_async_hand_back_may_call_shutdown() {
    on_both(|| async {
        let shutdown = Arc::new(embedded().install().unwrap());
        let inside = Arc::downgrade(&shutdown);
        let (tell, mut told) = tokio::sync::mpsc::unbounded_channel();
        let jobs = shutdown.in_flight("jobs").on_interrupted_async(move |_| {
            let (inside, tell) = (inside.upgrade().unwrap(), tell.clone());
            async move { tell.send(inside.shutdown().is_final()).unwrap() }
        });
        drop(jobs.reserve().unwrap().fill(1).unwrap());
        assert_eq!(told.recv().await, Some(false));
        assert_eq!(shutdown.wait_async().await.outcome(), Outcome::Clean);
    });
}

fn p20_p21_the_drain_waits_for_an_async_hand_back() {
    on_both(|| async {
        let shutdown = embedded().install().unwrap();
        let (begun, mut has_begun) = tokio::sync::mpsc::channel(1);
        let log = Arc::new(Mutex::new(Vec::new()));
        let (at_back, at_hook) = (Arc::clone(&log), Arc::clone(&log));
        let gate = Arc::new(tokio::sync::Notify::new());
        let closed = Arc::clone(&gate);
        let jobs = shutdown
            .in_flight("jobs")
            .on_interrupted_async(move |item| {
                let (log, begun, gate) = (Arc::clone(&at_back), begun.clone(), Arc::clone(&closed));
                async move {
                    begun.send(()).await.unwrap();
                    gate.notified().await;
                    log.lock().unwrap().push(item.into_item());
                }
            });
        shutdown.hook("hook", move || at_hook.lock().unwrap().push("hook"));
        let item = jobs.reserve().unwrap().fill("job").unwrap();
        drop(item);
        has_begun.recv().await.unwrap();
        assert_eq!(jobs.len(), 1, "until it has been handed back");
        shutdown.stop("enough");
        gate.notify_one();
        let report = shutdown.wait_async().await;
        assert_eq!(*log.lock().unwrap(), ["job", "hook"]);
        assert_eq!(report.handed_back(), 1);
        assert_eq!(report.exit_code(), 0, "{report}");
    });
}

fn p20_an_async_hand_back_has_its_outcome() {
    on_both(|| async {
        let shutdown = embedded().install().unwrap();
        let jobs = shutdown
            .in_flight("jobs")
            .on_interrupted_async(async |item| match item.into_item() {
                "fails" => Err("no queue"),
                "panics" => panic!("on purpose"),
                _ => Ok(()),
            });
        for job in ["fails", "panics", "returns"] {
            drop(jobs.reserve().unwrap().fill(job).unwrap());
        }
        let report = shutdown.shutdown_async().await;
        let mut outcomes: Vec<_> = report
            .drained()
            .iter()
            .map(|row| row.outcome().clone())
            .collect();
        outcomes.sort_by_key(ToString::to_string);
        let expected = [
            DrainOutcome::Failed("hand-back failed: no queue".into()),
            DrainOutcome::Panicked("in its hand-back: on purpose".into()),
        ];
        assert_eq!(outcomes, expected);
        assert_eq!(report.handed_back(), 3);
        assert_eq!(report.exit_code(), 101);
    });
}

fn p20_an_async_hand_back_that_hangs_leaves_its_item_undecided() {
    on_both(|| async {
        let shutdown = embedded()
            .grace_period(Duration::from_millis(600))
            .install()
            .unwrap();
        let jobs = shutdown
            .in_flight("jobs")
            .on_interrupted_async(|_| pending::<()>());
        drop(jobs.reserve().unwrap().fill("job").unwrap());
        let report = shutdown.shutdown_async().await;
        assert_eq!(report.drained().len(), 1, "{report}");
        assert_eq!(report.drained()[0].outcome(), &DrainOutcome::Undecided);
        assert_eq!(report.handed_back(), 0);
        assert_ne!(report.exit_code(), 0);
    });
}

fn p20_an_async_hand_back_whose_runtime_is_gone_says_so() {
    for build in [current_thread, multi_thread] {
        let shutdown = embedded().install().unwrap();
        let runtime = build();
        let jobs = {
            let _context = runtime.enter();
            shutdown
                .in_flight("jobs")
                .on_interrupted_async(async |_| ())
        };
        let homeless = shutdown
            .in_flight("homeless")
            .on_interrupted_async(async |_| ());
        bounded(move || drop(runtime));
        drop(jobs.reserve().unwrap().fill("job").unwrap());
        drop(homeless.reserve().unwrap().fill("job").unwrap());
        let report = bounded(move || shutdown.shutdown());
        let rows = report.drained().iter();
        let mut rows: Vec<_> = rows
            .map(|row| (row.name(), row.outcome().clone()))
            .collect();
        rows.sort_by_key(|(name, _)| *name);
        let failed = |why: &str| DrainOutcome::Failed(format!("hand-back failed: {why}"));
        let expected = [
            ("homeless", failed("it was made outside of a runtime")),
            ("jobs", failed("its runtime is gone")),
        ];
        assert_eq!(rows, expected);
        assert_eq!(report.exit_code(), 1);
    }
}

/// A bare future that nobody can abort and that never looks.
fn p20_what_runs_on_is_undecided_or_handed_back_as_asked() {
    on_both(|| async {
        for (hand_back, undecided) in [
            (None, 1),
            (Some(HandBack::WhenStopped), 1),
            (Some(HandBack::AtDeadline), 0),
        ] {
            let shutdown = embedded()
                .grace_period(Duration::from_millis(600))
                .install()
                .unwrap();
            let jobs = shutdown.in_flight("jobs");
            let jobs = hand_back
                .into_iter()
                .fold(jobs, winddown::InFlightBuilder::hand_back);
            let jobs = jobs.on_interrupted_async(async |_| ());
            let item = jobs.reserve().unwrap().fill("job").unwrap();
            let running = tokio::spawn(async move {
                let _item = item;
                pending::<()>().await;
            });
            let report = shutdown.shutdown_async().await;
            let rows = report.drained().iter();
            let left = rows.filter(|row| row.outcome() == &DrainOutcome::Undecided);
            assert_eq!(left.count(), undecided, "{report}");
            assert_eq!(report.handed_back(), 1 - undecided);
            running.abort();
        }
    });
}

fn p20_dropped_and_aborted_at_random_each_item_has_one_verdict() {
    const ROUNDS: usize = 100;
    const ITEMS: usize = 64;
    on_both(|| async {
        let (mut completed_in_all, mut back_in_all) = (0, 0);
        for round in 0..ROUNDS {
            // Some come to the deadline, and are aborted there.
            let shutdown = embedded()
                .grace_period(Duration::from_secs(4))
                .cleanup_reserve(Duration::from_millis(3998))
                .install()
                .unwrap();
            let back = Arc::new(Mutex::new(Vec::new()));
            let handed_back = Arc::clone(&back);
            let jobs = shutdown
                .in_flight("jobs")
                .on_interrupted_async(move |item| {
                    let back = Arc::clone(&handed_back);
                    async move {
                        tokio::task::yield_now().await;
                        back.lock().unwrap().push(item.into_item());
                    }
                });
            let done = Arc::new(Mutex::new(Vec::new()));
            for job in 0..ITEMS {
                let item = jobs.reserve().unwrap().fill(job).unwrap();
                let done = Arc::clone(&done);
                let work = async move |token: winddown::StopToken| {
                    if job % 4 == 3 {
                        pending::<()>().await;
                    }
                    for _ in 0..(job * 7 + round) % 5 {
                        tokio::task::yield_now().await;
                    }
                    if job % 4 == 2 {
                        token.stopped().await;
                    }
                    let commit = async |job: &usize| {
                        tokio::task::yield_now().await;
                        done.lock().unwrap().push(*job);
                        Ok::<_, String>(())
                    };
                    let _ = item.complete_async(commit).await;
                };
                let task = shutdown.spawn_async("works", work).unwrap();
                drop(task);
            }
            let report = shutdown.shutdown_async().await;
            let (done, back) = (done.lock().unwrap().clone(), back.lock().unwrap().clone());
            let mut all: Vec<usize> = done.iter().chain(&back).copied().collect();
            all.sort_unstable();
            assert_eq!(
                all,
                (0..ITEMS).collect::<Vec<_>>(),
                "round {round}: {report}"
            );
            assert_eq!(report.handed_back(), back.len());
            completed_in_all += done.len();
            back_in_all += back.len();
        }
        assert!(completed_in_all > 0 && back_in_all >= ROUNDS * ITEMS / 4);
    });
}
