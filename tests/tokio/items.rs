//! P20: items inside futures.

use std::future::pending;
use std::sync::{Arc, Mutex};
use std::task::Poll;
use std::time::Duration;

use libtest_mimic::Trial;
use winddown::{HandBack, Interruption, NotCompleted};

use crate::common::embedded;
use crate::harness::trials;
use crate::on_both;

pub(crate) fn tests() -> Vec<Trial> {
    trials![
        p20_an_item_of_an_aborted_future_is_handed_back_once,
        p20_an_async_commit_is_a_verdict,
        p20_a_commit_that_is_dropped_hands_back_after_its_drop,
    ]
}

fn p20_an_item_of_an_aborted_future_is_handed_back_once() {
    on_both(|| async {
        for hand_back in [HandBack::WhenStopped, HandBack::AtDeadline] {
            let shutdown = embedded()
                .grace_period(Duration::from_secs(4))
                .cleanup_reserve(Duration::from_millis(3900))
                .install()
                .unwrap();
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
