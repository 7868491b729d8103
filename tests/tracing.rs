//! What `tracing` is told, and from where. One binary of its own: the subscriber is the process's.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    missing_docs,
    reason = "tests"
)]

mod common;

use std::fmt::{self, Write};
use std::sync::{Mutex, mpsc};
use std::thread;
use std::time::Duration;

use common::{FAR, SHORT, bounded, embedded};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};
use winddown::{HookOptions, Signal};

struct Line {
    text: String,
    thread: String,
}

/// Hands every event of the crate to the test.
struct Capture(Mutex<mpsc::Sender<Line>>);

impl<S: tracing::Subscriber> Layer<S> for Capture {
    fn on_event(&self, event: &tracing::Event<'_>, _: Context<'_, S>) {
        struct Show(String);
        impl tracing::field::Visit for Show {
            fn record_debug(&mut self, field: &tracing::field::Field, value: &dyn fmt::Debug) {
                let _ = write!(self.0, "{}={value:?} ", field.name());
            }
        }
        if event.metadata().target() == "winddown" {
            let mut show = Show(format!("{} ", event.metadata().level()));
            event.record(&mut show);
            if show.0.contains("shutdown over") {
                // A log is slower than whoever waits for the report.
                thread::sleep(SHORT);
            }
            let thread = thread::current().name().unwrap_or_default().to_owned();
            let _ = self.0.lock().unwrap().send(Line {
                text: show.0,
                thread,
            });
        }
    }
}

#[test]
fn every_step_is_told_from_one_thread_and_lateness_at_most_once_a_second() {
    let (sender, lines) = mpsc::channel();
    let subscriber = tracing_subscriber::registry().with(Capture(Mutex::new(sender)));
    tracing::subscriber::set_global_default(subscriber).unwrap();

    let shutdown = embedded().linger(FAR / 2).install().unwrap();
    shutdown.hook("completes", || ());
    shutdown.hook("fails", || Err::<(), _>("disk full"));
    shutdown.hook_with(
        HookOptions::new("hangs").timeout(Duration::from_millis(50)),
        || {
            thread::sleep(FAR);
        },
    );
    let sink = shutdown.stage("sink");
    let source = shutdown.stage("source");
    drop(sink.spawn("write", |token| drop(token.wait())).unwrap());
    drop(source.spawn("read", |token| drop(token.wait())).unwrap());
    let hold = shutdown.hold("slow work").unwrap();
    let mut told = Vec::new();
    let next = || lines.recv_timeout(FAR).expect("a line");
    shutdown.feed(Signal::TERM);
    told.push(next());
    let ending = thread::spawn(move || shutdown.shutdown());
    // Two lines about the hold, so that one follows the other.
    let mut late = 0;
    while late < 2 {
        let line = next();
        late += usize::from(line.text.contains("waiting for hold slow work"));
        told.push(line);
    }
    drop(hold);
    // All of it has been told before anybody goes on.
    let report = bounded(move || ending.join().unwrap());
    told.extend(lines.try_iter());
    assert!(
        report.took() >= Duration::from_secs(2),
        "two lines in less than two seconds"
    );

    let text: Vec<&str> = told.iter().map(|line| line.text.trim()).collect();
    let at = |part: &str| {
        text.iter()
            .position(|line| line.contains(part))
            .unwrap_or_else(|| panic!("{part}: {text:#?}"))
    };
    let order = [
        at("lingering reason=SIGTERM linger=30s"),
        at("stopping reason=SIGTERM"),
        at("phase=draining"),
        at("stage stopping stage=source"),
        at("stage empty stage=source"),
        at("stage stopping stage=sink"),
        at("stage empty stage=sink"),
        at("waiting for hold slow work"),
        at("phase=cleaning"),
        at("hook=\"hangs\" outcome=timed out"),
        at("hook=\"fails\" outcome=failed: disk full"),
        at("hook=\"completes\""),
        at("shutdown over outcome=incomplete"),
    ];
    assert!(order.is_sorted(), "{text:#?}");
    assert!(
        text[order[12]].contains("abandoned=hook hangs"),
        "{text:#?}"
    );
    assert!(
        told.iter().all(|line| line.thread == "winddown-tracing"),
        "one thread of the crate's own"
    );
}
