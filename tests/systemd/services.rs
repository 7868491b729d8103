//! The services under test.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use winddown::{Event, ShutdownBuilder, ShutdownCoordinator, say_progress};

use crate::child::{FAR, fine, hang, hear, tell};

pub(crate) fn run(name: &str, argument: &str) -> ExitCode {
    match name {
        "closing" => closing(argument),
        "at once" => at_once(argument),
        "working" => working(argument),
        "lingering" => lingering(),
        "handing back" => handing_back(),
        other => panic!("no service {other:?}"),
    }
}

fn within(grace: u64) -> ShutdownBuilder {
    ShutdownCoordinator::builder()
        .grace_period(Duration::from_secs(grace))
        .hook_timeout(FAR)
        .systemd()
}

/// Has a hook that ends when the test says so; its name is the argument.
fn closing(name: &str) -> ExitCode {
    let shutdown = within(10).install().unwrap();
    shutdown.hook(name.to_owned(), || {
        tell("closing");
        tell(hear());
    });
    let asked = Instant::now();
    shutdown.notify_ready();
    shutdown.notify_ready();
    assert!(asked.elapsed() < Duration::from_secs(5), "it blocks");
    tell("ready");
    let report = shutdown.wait();
    shutdown.notify_ready();
    tell(report.outcome());
    fine()
}

/// Stops by itself, after it has told how many threads it has.
fn at_once(argument: &str) -> ExitCode {
    let builder = ShutdownCoordinator::builder();
    let builder = if argument == "silent" {
        builder
    } else {
        builder.systemd()
    };
    let shutdown = builder.install().unwrap();
    shutdown.notify_ready();
    let threads = std::fs::read_dir("/proc/self/task").map(Iterator::count);
    tell(threads.unwrap_or(3));
    drop(shutdown);
    fine()
}

/// A task, and a hook, that begin at the stop and go on for as many tenths of a second as the argument says, saying so;
/// or hang.
fn working(argument: &str) -> ExitCode {
    let (grace, tenths) = argument.split_once(' ').unwrap();
    let shutdown = within(grace.parse().unwrap()).install().unwrap();
    let steps: Option<u64> = tenths.parse().ok();
    let work = move || {
        let Some(steps) = steps else { hang() };
        for step in 0..steps {
            say_progress("rows", step, steps);
            std::thread::sleep(Duration::from_millis(100));
        }
    };
    shutdown
        .spawn("copy", move |token| {
            token.wait();
            work();
        })
        .unwrap();
    shutdown.hook("copy the rest", work);
    shutdown.notify_ready();
    tell("ready");
    shutdown.wait().exit()
}

/// Goes on for two seconds after the signal.
fn lingering() -> ExitCode {
    let shutdown = within(10).linger(Duration::from_secs(2)).install().unwrap();
    let handle = shutdown.handle();
    let events = shutdown.events();
    shutdown
        .spawn("late", move |_| {
            let lingers = events
                .iter()
                .any(|event| matches!(event, Event::Lingering { .. }));
            assert!(lingers);
            handle.notify_ready();
        })
        .unwrap();
    tell("ready");
    shutdown.wait().exit()
}

/// Hangs while it hands back an item, for which it has 20 s.
fn handing_back() -> ExitCode {
    let shutdown = ShutdownCoordinator::builder()
        .grace_period(Duration::from_millis(40_100))
        .cleanup_reserve(Duration::from_secs(40))
        .systemd()
        .install()
        .unwrap();
    let jobs = shutdown.in_flight::<()>("jobs").on_interrupted(|_| {
        tell("handing back");
        hang();
    });
    let _item = jobs.reserve().unwrap().fill(()).unwrap();
    tell("ready");
    shutdown.wait().exit()
}
