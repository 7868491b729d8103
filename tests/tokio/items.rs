//! P20: items inside futures.

use std::future::pending;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use libtest_mimic::Trial;
use winddown::{HandBack, Interruption};

use crate::common::embedded;
use crate::harness::trials;
use crate::on_both;

pub(crate) fn tests() -> Vec<Trial> {
    trials![p20_an_item_of_an_aborted_future_is_handed_back_once]
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
