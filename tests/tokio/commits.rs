//! P20: from its commit on an item is not taken back, and so what commits is not aborted.

use std::future::pending;
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use libtest_mimic::Trial;
use tokio::runtime::Handle;
use tokio::sync::oneshot;
use winddown::{DrainOutcome, HandBack, InFlight, Item, NotCompleted, ShutdownHandle};

use crate::common::{FAR, bounded, embedded};
use crate::harness::trials;
use crate::items::impatient;
use crate::{current_thread, multi_thread, on_both};

pub(crate) fn tests() -> Vec<Trial> {
    trials![
        p20_a_commit_under_way_is_not_aborted,
        p20_a_task_that_commits_all_the_time_is_aborted_between_two,
        p20_who_was_not_aborted_commits_behind_one_that_was,
        p20_a_commit_that_hangs_is_undecided_and_not_handed_back,
        p20_run_async_is_not_cut_off_in_its_commit,
        p15_run_async_ends_after_a_commit_that_was_too_slow,
        p20_what_has_committed_is_aborted_while_a_hand_back_hangs,
        p20_a_worker_that_is_blocked_on_a_commit_too_late_comes_back,
    ]
}

/// Longer than the time for draining of `impatient`, and far shorter than its hand-back slice.
const BEYOND_THE_DRAIN: Duration = Duration::from_millis(300);

/// Of the 3.9 s the hand-backs have the half, and the tasks the half of that.
const BEYOND_THE_ABORT: Duration = Duration::from_millis(1300);

#[derive(Clone, Default)]
struct Verdicts {
    completed: Arc<Mutex<Vec<u32>>>,
    handed_back: Arc<Mutex<Vec<u32>>>,
}

impl Verdicts {
    fn jobs(&self, shutdown: &ShutdownHandle) -> InFlight<u32> {
        let back = Arc::clone(&self.handed_back);
        shutdown
            .in_flight("jobs")
            .on_interrupted_async(move |item| {
                back.lock().unwrap().push(item.into_item());
                std::future::ready(())
            })
    }

    async fn commit(&self, item: Item<u32>) {
        let commit = async |job: &u32| {
            tokio::time::sleep(BEYOND_THE_DRAIN).await;
            self.completed.lock().unwrap().push(*job);
            Ok::<_, String>(())
        };
        item.complete_async(commit).await.unwrap();
    }

    fn all(&self) -> (Vec<u32>, Vec<u32>) {
        let (completed, back) = (&self.completed, &self.handed_back);
        (
            completed.lock().unwrap().clone(),
            back.lock().unwrap().clone(),
        )
    }
}

fn p20_a_commit_under_way_is_not_aborted() {
    on_both(|| async {
        let shutdown = impatient().install().unwrap();
        let verdicts = Verdicts::default();
        let jobs = verdicts.jobs(&shutdown);
        let fill = |job| jobs.reserve().unwrap().fill(job).unwrap();
        let (first, second) = (fill(1), fill(2));
        let commits = verdicts.clone();
        shutdown
            .spawn_async("worker", async move |token| {
                token.stopped().await;
                commits.commit(first).await;
                // Its time is over by now: this one does not begin, or does not get far.
                pending::<()>().await;
                drop(second);
            })
            .unwrap();
        let report = shutdown.shutdown_async().await;
        assert_eq!(verdicts.all(), (vec![1], vec![2]), "{report}");
        let rows = report.drained().iter();
        let mut worker = rows.filter(|row| row.name() == "worker");
        assert_eq!(worker.next().unwrap().outcome(), &DrainOutcome::Aborted);
        assert_eq!(report.handed_back(), 1);
    });
}

/// One after the other: the abort finds its way in between two of them.
fn p20_a_task_that_commits_all_the_time_is_aborted_between_two() {
    on_both(|| async {
        let shutdown = impatient().install().unwrap();
        let verdicts = Verdicts::default();
        let jobs = verdicts.jobs(&shutdown);
        let items: Vec<_> = std::iter::repeat_with(|| jobs.reserve().unwrap().fill(1).unwrap())
            .take(5_000)
            .collect();
        let done = Arc::clone(&verdicts.completed);
        shutdown
            .spawn_async("worker", async move |token| {
                token.stopped().await;
                for item in items {
                    let commit = async |job: &u32| {
                        tokio::time::sleep(Duration::from_millis(1)).await;
                        done.lock().unwrap().push(*job);
                        Ok::<_, String>(())
                    };
                    item.complete_async(commit).await.unwrap();
                }
            })
            .unwrap();
        let report = shutdown.shutdown_async().await;
        let (completed, back) = verdicts.all();
        assert!(!completed.is_empty() && !back.is_empty());
        assert_eq!(completed.len() + back.len(), 5_000);
        assert_eq!(report.handed_back(), back.len());
    });
}

/// That the one before it on the same thread has been aborted is nothing to it.
fn p20_who_was_not_aborted_commits_behind_one_that_was() {
    current_thread().block_on(async {
        let shutdown = embedded().cleanup_reserve(FAR).install().unwrap();
        let jobs = shutdown
            .in_flight("jobs")
            .hand_back(HandBack::WhenStopped)
            .on_interrupted(|_| ());
        let item = jobs.reserve().unwrap().fill(1).unwrap();
        let aborted = shutdown
            .spawn_async("aborted", async |_| pending::<()>().await)
            .unwrap();
        let committed = tokio::spawn(async move {
            item.token().stopped().await;
            item.complete_async(async |_| Ok::<_, String>("done")).await
        });
        let report = shutdown.shutdown_async().await;
        assert!(aborted.join().await.is_err());
        assert_eq!(committed.await.unwrap(), Ok("done"));
        let items = report.drained().iter();
        assert_eq!(
            items.filter(|row| row.name() == "jobs").count(),
            0,
            "{report}"
        );
    });
}

fn p20_a_commit_that_hangs_is_undecided_and_not_handed_back() {
    on_both(|| async {
        let shutdown = embedded()
            .grace_period(Duration::from_millis(600))
            .install()
            .unwrap();
        let verdicts = Verdicts::default();
        let jobs = verdicts.jobs(&shutdown);
        let item = jobs.reserve().unwrap().fill(1).unwrap();
        shutdown
            .spawn_async("worker", async move |_| {
                let commit = async |_: &u32| pending::<Result<(), String>>().await;
                let _ = item.complete_async(commit).await;
            })
            .unwrap();
        // So that it commits by then.
        tokio::task::yield_now().await;
        let report = shutdown.shutdown_async().await;
        let rows = report.drained().iter();
        let mut rows: Vec<_> = rows.map(|row| (row.name(), row.outcome())).collect();
        rows.sort_by_key(|(name, _)| *name);
        let expected = [
            ("jobs", &DrainOutcome::Undecided),
            ("worker", &DrainOutcome::Abandoned),
        ];
        assert_eq!(rows, expected, "{report}");
        assert_eq!(verdicts.all(), (vec![], vec![]));
    });
}

fn p20_run_async_is_not_cut_off_in_its_commit() {
    let verdicts = Verdicts::default();
    let commits = verdicts.clone();
    bounded(move || {
        impatient().run_async(async move |shutdown| {
            let jobs = commits.jobs(&shutdown);
            let fill = |job| jobs.reserve().unwrap().fill(job).unwrap();
            let (first, second) = (fill(1), fill(2));
            shutdown.stop("enough");
            commits.commit(first).await;
            pending::<()>().await;
            drop(second);
            Ok::<_, String>(())
        })
    });
    assert_eq!(verdicts.all(), (vec![1], vec![2]));
}

/// Nobody looks any more when this commit ends; the next one must not wait for somebody who does.
fn p15_run_async_ends_after_a_commit_that_was_too_slow() {
    const BEYOND_THE_END: Duration = Duration::from_millis(900);
    bounded(|| {
        let brief = embedded().grace_period(Duration::from_millis(600));
        brief.run_async(async |shutdown| {
            let jobs = Verdicts::default().jobs(&shutdown);
            let fill = |job| jobs.reserve().unwrap().fill(job).unwrap();
            let items = [fill(1), fill(2)];
            shutdown.stop("enough");
            for item in items {
                let commit = async |_: &u32| {
                    tokio::time::sleep(BEYOND_THE_END).await;
                    Ok::<_, String>(())
                };
                let _ = item.complete_async(commit).await;
            }
            Ok::<_, String>(())
        })
    });
}

fn p20_what_has_committed_is_aborted_while_a_hand_back_hangs() {
    on_both(|| async {
        let shutdown = impatient().install().unwrap();
        let verdicts = Verdicts::default();
        let jobs = verdicts.jobs(&shutdown);
        let fill = |job| jobs.reserve().unwrap().fill(job).unwrap();
        let (first, second) = (fill(1), fill(2));
        let (hang, hangs) = mpsc::channel::<()>();
        let hangs = Mutex::new(hangs);
        let stuck = shutdown.in_flight("stuck").on_interrupted(move |_| {
            let _ = hangs.lock().unwrap().recv();
        });
        let held = stuck.reserve().unwrap().fill(0).unwrap();
        let completed = Arc::clone(&verdicts.completed);
        shutdown
            .spawn_async("worker", async move |token| {
                token.stopped().await;
                let commit = async |job: &u32| {
                    tokio::time::sleep(BEYOND_THE_ABORT).await;
                    completed.lock().unwrap().push(*job);
                    Ok::<_, String>(())
                };
                first.complete_async(commit).await.unwrap();
                pending::<()>().await;
                drop(second);
            })
            .unwrap();
        let report = shutdown.shutdown_async().await;
        assert_eq!(verdicts.all(), (vec![1], vec![2]), "{report}");
        drop((hang, held));
    });
}

/// The abort cannot drop what a thread is blocked on, and a runtime waits for its threads.
fn p20_a_worker_that_is_blocked_on_a_commit_too_late_comes_back() {
    let verdicts = Verdicts::default();
    let jobs_back = verdicts.clone();
    bounded(move || {
        let runtime = multi_thread();
        runtime.block_on(async {
            let shutdown = impatient().install().unwrap();
            let jobs = jobs_back.jobs(&shutdown);
            let item = jobs.reserve().unwrap().fill(1).unwrap();
            let (tell, told) = oneshot::channel();
            shutdown
                .spawn_async("worker", async move |token| {
                    token.stopped().await;
                    tokio::task::block_in_place(|| {
                        std::thread::sleep(BEYOND_THE_DRAIN);
                        let commit = item.complete_async(async |_| Ok::<_, String>(()));
                        let _ = tell.send(Handle::current().block_on(commit));
                    });
                })
                .unwrap();
            let report = shutdown.shutdown_async().await;
            assert_eq!(told.await.unwrap(), Err(NotCompleted::HandedBack));
            assert_eq!(report.handed_back(), 1, "{report}");
        });
    });
    assert_eq!(verdicts.all(), (vec![], vec![1]));
}
