//! P20–P22 for tasks that are futures.

use std::future::pending;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use libtest_mimic::Trial;
use winddown::{
    DrainOutcome, HookOptions, Outcome, ShutdownHandle, SpawnError, StopReason, StopToken, Stopped,
    TaskLost,
};

use crate::common::{FAR, bounded, embedded};
use crate::harness::trials;
use crate::{multi_thread, on_both};

pub(crate) fn tests() -> Vec<Trial> {
    trials![
        p21_a_task_is_waited_for_by_name,
        a_panic_and_an_error_stop_the_program,
        whatever_is_registered_says_where,
        a_stopped_is_no_failure,
        a_vital_task_s_end_stops_the_program,
        what_is_aborted_has_ended_before_the_hooks,
        a_task_that_blocks_its_worker_is_abandoned,
        p22_after_the_stop_and_outside_of_a_runtime_it_is_refused,
        a_runtime_that_goes_first_stops_the_program,
        p21_the_tasks_of_stages_end_in_their_turn,
        what_a_task_says_is_its_own,
        what_a_stage_leaves_is_aborted_and_has_ended,
        a_task_that_waits_has_no_thread,
    ]
}

fn p21_a_task_is_waited_for_by_name() {
    on_both(|| async {
        let shutdown = embedded().install().unwrap();
        let task = shutdown
            .spawn_async("counts", async |token| {
                token.stopped().await;
                for _ in 0..100 {
                    tokio::task::yield_now().await;
                }
                Ok::<_, String>(7)
            })
            .unwrap();
        assert_eq!(task.name(), "counts");
        let report = shutdown.shutdown_async().await;
        assert_eq!(report.drained()[0].name(), "counts");
        assert_eq!(report.drained()[0].outcome(), &DrainOutcome::Ended);
        assert_eq!(task.join().await.unwrap(), Ok(7));
    });
}

fn a_panic_and_an_error_stop_the_program() {
    on_both(|| async {
        let shutdown = embedded().install().unwrap();
        let task = shutdown
            .spawn_async("fails", async |_| Err::<(), _>("no such file"))
            .unwrap();
        let report = shutdown.wait_async().await;
        assert_eq!(
            report.reason().to_string(),
            "task fails failed: no such file"
        );
        assert_eq!(report.exit_code(), 1);
        assert_eq!(task.join().await.unwrap(), Err("no such file"));

        let shutdown = embedded().install().unwrap();
        let task = shutdown
            .spawn_async("panics", async |_| -> () { panic!("on purpose") })
            .unwrap();
        let report = shutdown.wait_async().await;
        assert_eq!(report.exit_code(), 101);
        let StopReason::TaskPanicked {
            task: name,
            message,
            ..
        } = report.reason()
        else {
            panic!("{report}");
        };
        assert_eq!((name.as_str(), message.as_str()), ("panics", "on purpose"));
        assert!(matches!(task.join().await, Err(TaskLost::Panicked(_))));
    });
}

fn whatever_is_registered_says_where() {
    on_both(|| async {
        let shutdown = embedded().install().unwrap();
        let stage = shutdown.stage("stage");
        let waits = async |token: StopToken| drop(token.stopped().await);
        let first = line!() + 1;
        shutdown.spawn_async("1", waits).unwrap();
        shutdown.spawn_async_vital("2", waits).unwrap();
        stage.spawn_async("3", waits).unwrap();
        stage.spawn_async_vital("4", waits).unwrap();
        shutdown.hook_async("5", async {});
        shutdown.hook_async_with(HookOptions::new("6"), async {});
        let report = shutdown.shutdown_async().await;
        let tasks = report.drained().iter();
        let tasks = tasks.map(|row| (row.name(), row.location()));
        let hooks = report.hooks().iter();
        let hooks = hooks.map(|row| (row.name(), row.location()));
        let mut seen = 0;
        for (name, location) in tasks.chain(hooks).filter(|(name, _)| *name != "stage") {
            let nth: u32 = name.parse().unwrap();
            assert_eq!(
                (location.file(), location.line()),
                (file!(), first + nth - 1)
            );
            seen += 1;
        }
        assert_eq!(seen, 6, "{report}");
    });
}

fn a_stopped_is_no_failure() {
    on_both(|| async {
        let shutdown = embedded().install().unwrap();
        shutdown
            .spawn_async("checks", async |token| {
                token.stopped().await;
                token.check()?;
                Ok::<_, Stopped>(())
            })
            .unwrap();
        let report = shutdown.shutdown_async().await;
        assert_eq!(report.outcome(), Outcome::Clean, "{report}");
    });
}

fn a_vital_task_s_end_stops_the_program() {
    on_both(|| async {
        let shutdown = embedded().install().unwrap();
        shutdown.spawn_async_vital("heart", async |_| ()).unwrap();
        let report = shutdown.wait_async().await;
        let ended =
            matches!(report.reason(), StopReason::TaskEnded { task, .. } if task == "heart");
        assert!(ended, "{report}");
    });
}

struct SetsAtDrop(Arc<AtomicBool>);

impl Drop for SetsAtDrop {
    fn drop(&mut self) {
        // Whoever does not wait for it is long past it.
        std::thread::sleep(Duration::from_millis(50));
        self.0.store(true, Ordering::SeqCst);
    }
}

fn what_is_aborted_has_ended_before_the_hooks() {
    on_both(|| async {
        let shutdown = embedded()
            .grace_period(Duration::from_secs(4))
            .cleanup_reserve(Duration::from_millis(3900))
            .install()
            .unwrap();
        let dropped = Arc::new(AtomicBool::new(false));
        let at_hook = Arc::clone(&dropped);
        shutdown.hook("looks", move || {
            let has_gone = at_hook.load(Ordering::SeqCst);
            has_gone.then_some(()).ok_or("the task still lives")
        });
        let dropping = SetsAtDrop(Arc::clone(&dropped));
        let task = shutdown
            .spawn_async("never looks", async move |_| {
                let _dropping = dropping;
                pending::<()>().await;
            })
            .unwrap();
        let report = shutdown.shutdown_async().await;
        assert_eq!(
            report.hooks()[0].outcome(),
            &winddown::HookOutcome::Completed
        );
        assert_eq!(report.drained()[0].outcome(), &DrainOutcome::Aborted);
        assert_eq!(report.abandoned().count(), 0);
        assert_eq!(report.outcome(), Outcome::Incomplete);
        assert!(matches!(task.join().await, Err(TaskLost::Dropped { .. })));
    });
}

/// P15: nothing can end it, and the report does not say that it has ended.
fn a_task_that_blocks_its_worker_is_abandoned() {
    let runtime = multi_thread();
    let shutdown = embedded()
        .grace_period(Duration::from_millis(400))
        .install()
        .unwrap();
    let (blocks, is_blocked) = std::sync::mpsc::channel();
    let (let_go, held) = std::sync::mpsc::channel::<()>();
    let _context = runtime.enter();
    shutdown
        .spawn_async("blocks", async move |_| {
            blocks.send(()).unwrap();
            let _ = held.recv();
        })
        .unwrap();
    is_blocked.recv().unwrap();
    let report = runtime.block_on(shutdown.shutdown_async());
    assert_eq!(report.drained()[0].outcome(), &DrainOutcome::Abandoned);
    assert!(report.took() < Duration::from_secs(10), "{report}");
    drop(let_go);
}

fn p22_after_the_stop_and_outside_of_a_runtime_it_is_refused() {
    let shutdown = embedded().install().unwrap();
    let refused = shutdown.spawn_async("homeless", async |_| ()).unwrap_err();
    assert!(matches!(refused, SpawnError::NoRuntime { .. }), "{refused}");
    let runtime = multi_thread();
    let _context = runtime.enter();
    shutdown.stop("enough");
    let refused = shutdown.spawn_async("late", async |_| ()).unwrap_err();
    assert!(
        matches!(refused, SpawnError::IntakeClosed { .. }),
        "{refused}"
    );
}

fn a_runtime_that_goes_first_stops_the_program() {
    let shutdown = embedded().install().unwrap();
    let runtime = multi_thread();
    {
        let _context = runtime.enter();
        shutdown
            .spawn_async("orphan", async |_| pending::<()>().await)
            .unwrap();
    }
    bounded(move || drop(runtime));
    let report = bounded(move || shutdown.wait());
    assert_eq!(
        report.reason().to_string(),
        "task orphan failed: it was dropped with its runtime"
    );
}

fn p21_the_tasks_of_stages_end_in_their_turn() {
    on_both(|| async {
        let shutdown = embedded().install().unwrap();
        let (lines, mut to_write) = tokio::sync::mpsc::channel(4);
        let sink = shutdown.stage("sink");
        let written = sink
            .spawn_async("write", async move |_| {
                let mut written = 0;
                // Ends when the source has gone, with all that it sent.
                while to_write.recv().await.is_some() {
                    written += 1;
                }
                Ok::<_, Stopped>(written)
            })
            .unwrap();
        let (source, below) = (shutdown.stage("source"), sink.token());
        let sent = source
            .spawn_async("read", async move |token| {
                let mut sent = 0;
                while !token.is_stopped() {
                    lines.send(sent).await.unwrap();
                    sent += 1;
                }
                // What is in hand at the stop is passed on, too.
                for _ in 0..100 {
                    assert!(!below.is_stopped());
                    lines.send(sent).await.unwrap();
                    sent += 1;
                }
                Ok::<_, Stopped>(sent)
            })
            .unwrap();
        let report = shutdown.shutdown_async().await;
        assert_eq!(report.outcome(), Outcome::Clean, "{report}");
        let stages: Vec<_> = report
            .drained()
            .iter()
            .filter_map(|row| row.stage())
            .collect();
        assert!(stages.starts_with(&["source"]), "{report}");
        assert_eq!(
            written.join().await.unwrap().unwrap(),
            sent.join().await.unwrap().unwrap()
        );
    });
}

fn what_a_stage_leaves_is_aborted_and_has_ended() {
    on_both(|| async {
        let shutdown = embedded().cleanup_reserve(FAR).install().unwrap();
        let stage = shutdown.stage("stage");
        let dropped = Arc::new(AtomicBool::new(false));
        let (dropping, at_hook) = (SetsAtDrop(Arc::clone(&dropped)), Arc::clone(&dropped));
        let task = stage
            .spawn_async_vital("never looks", async move |_| {
                let _dropping = dropping;
                pending::<()>().await;
            })
            .unwrap();
        shutdown.hook("looks", move || {
            let has_gone = at_hook.load(Ordering::SeqCst);
            has_gone.then_some(()).ok_or("the task still lives")
        });
        let report = shutdown.shutdown_async().await;
        assert!(matches!(task.join().await, Err(TaskLost::Dropped { .. })));
        let row = report
            .drained()
            .iter()
            .find(|row| row.name() == "never looks");
        assert_eq!(row.unwrap().outcome(), &DrainOutcome::Aborted);
        assert_eq!(
            report.hooks()[0].outcome(),
            &winddown::HookOutcome::Completed,
            "{report}"
        );
        // Nobody waits for the end of the slice.
        assert!(report.took() < FAR / 8, "{report}");
    });
}

/// While it waits, a future is on no thread.
fn a_task_that_waits_has_no_thread() {
    on_both(|| async {
        let shutdown = embedded().install().unwrap();
        let (waits, waiting) = tokio::sync::oneshot::channel();
        let (go, gone) = tokio::sync::oneshot::channel();
        let task = shutdown
            .spawn_async("waits", async move |_| {
                waits.send(()).unwrap();
                gone.await.unwrap();
            })
            .unwrap();
        waiting.await.unwrap();
        shutdown.stop("now");
        // It may still be on its way from the one to the other.
        let has_left = || {
            let snapshot = shutdown.snapshot();
            let mut rows = snapshot.holders().iter();
            let row = rows.find(|row| row.name() == "waits").unwrap();
            row.thread().is_none()
        };
        let deadline = std::time::Instant::now() + FAR / 2;
        while !has_left() {
            assert!(std::time::Instant::now() < deadline);
            tokio::task::yield_now().await;
        }
        go.send(()).unwrap();
        assert_eq!(shutdown.wait_async().await.outcome(), Outcome::Clean);
        task.join().await.unwrap();
    });
}

fn said(shutdown: &ShutdownHandle, name: &str) -> Option<String> {
    let snapshot = shutdown.snapshot();
    let mut holders = snapshot.holders().iter();
    let here = holders.find(|here| here.name() == name)?;
    here.said().map(ToString::to_string)
}

/// Many tasks share few threads, and go from one to the other.
fn what_a_task_says_is_its_own() {
    on_both(|| async {
        let shutdown = embedded().install().unwrap();
        let ready = Arc::new(tokio::sync::Barrier::new(11));
        let names: Vec<String> = (0..10).map(|task| format!("task {task}")).collect();
        for name in names.clone() {
            let ready = Arc::clone(&ready);
            shutdown
                .spawn_async(name.clone(), async move |token| {
                    winddown::say("begins");
                    tokio::task::yield_now().await;
                    winddown::say(format!("I am {name}"));
                    ready.wait().await;
                    token.stopped().await;
                })
                .unwrap();
        }
        let (holds, waiting) = tokio::sync::oneshot::channel();
        let handle = shutdown.handle();
        let bare = tokio::spawn(async move {
            let _hold = handle.hold("hold").unwrap();
            winddown::say("not about the hold");
            holds.send(()).unwrap();
            pending::<()>().await;
        });
        waiting.await.unwrap();
        ready.wait().await;
        for name in &names {
            assert_eq!(said(&shutdown, name), Some(format!("I am {name}")));
        }
        assert_eq!(said(&shutdown, "hold"), None);
        bare.abort();
        let _ = bare.await;
        let handle = shutdown.handle();
        let (asks, asked) = tokio::sync::oneshot::channel();
        let (answers, answered) = tokio::sync::oneshot::channel();
        shutdown.hook_async("hook", async move {
            winddown::say_progress("rows", 3, 9);
            asks.send(()).unwrap();
            answered.await.unwrap();
        });
        let looks = tokio::spawn(async move {
            asked.await.unwrap();
            // It is said by a thread that listens.
            while said(&handle, "hook").is_none() {
                tokio::task::yield_now().await;
            }
            answers.send(()).unwrap();
            said(&handle, "hook")
        });
        shutdown.shutdown_async().await.exit_code();
        assert_eq!(looks.await.unwrap().unwrap(), "rows 3 of 9 (33 %)");
    });
}
