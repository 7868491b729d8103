//! P10, P23: coordinators that come and go in one process leave nothing behind.

use std::process::ExitCode;
use std::thread;
use std::time::Instant;

use libtest_mimic::Trial;
use nix::sys::signal::raise;
use winddown::{HookOptions, InFlight, Interrupted};

use crate::Scenario;
use crate::child::{fine, quick, tell};
use crate::harness::{End, Launch, Signal, trial, trials};
use crate::sys;

pub(crate) const SCENARIOS: &[Scenario] = &[("cycles", cycles)];

pub(crate) fn tests() -> Vec<Trial> {
    let mut all = trials![coordinators_that_come_and_go_leave_nothing_behind];
    all.push(
        trial("ten_thousand_coordinators_leave_nothing_behind", || {
            leave_nothing_behind(10_000);
        })
        .with_ignored_flag(true),
    );
    all
}

fn coordinators_that_come_and_go_leave_nothing_behind() {
    leave_nothing_behind(500);
}

/// A little of everything, and one of the ways to end it.
fn one(nth: usize) {
    let shutdown = quick().install().unwrap();
    shutdown.hook("hook", || ());
    shutdown.hook_with(HookOptions::new("emergency").emergency(), || ());
    let guard = shutdown.guard("guard", (), |()| ());
    let child = shutdown.token().child();
    shutdown.token().on_stop(|_| ()).detach();
    let events = shutdown.events();
    let stage = shutdown.stage("stage");
    let (hold, late) = (shutdown.hold("hold").unwrap(), stage.hold("late").unwrap());
    let jobs: InFlight<usize> = shutdown
        .in_flight("jobs")
        .on_interrupted(|_: Interrupted<usize>| ());
    let item = jobs.reserve().unwrap().fill(nth).unwrap();
    let task = shutdown.spawn("task", |token| drop(token.wait())).unwrap();
    match nth % 3 {
        0 => raise(Signal::SIGTERM).unwrap(),
        1 => drop(shutdown.stop("enough")),
        _ => {}
    }
    drop((hold, late));
    let _ = item.complete(|_| Ok::<_, ()>(()));
    if nth % 2 == 0 {
        let report = shutdown.shutdown();
        assert_eq!(report.hooks().len(), 3, "{report}");
    }
    drop(shutdown);
    drop((guard, child, events, task));
}

/// Threads and descriptors of this process, and bytes on its heap. A thread that nobody waits for may be on its way out: it
/// has until the test gives up.
fn held(threads: usize) -> [usize; 3] {
    let count = |what| std::fs::read_dir(what).unwrap().count();
    while count("/proc/self/task") > threads {
        thread::yield_now();
    }
    [
        count("/proc/self/task"),
        count("/proc/self/fd"),
        sys::on_the_heap(),
    ]
}

fn cycles(count: &str) -> ExitCode {
    let count = count.parse().unwrap();
    // What is made once: the handlers, the registry, the first thread's memory.
    (0..50).for_each(one);
    let [threads, descriptors, heap] = held(1);
    let began = Instant::now();
    (0..count).for_each(one);
    let took = began.elapsed();
    let after = held(1);
    tell(after[0] - threads);
    tell(after[1] - descriptors);
    tell(after[2].saturating_sub(heap));
    eprintln!(
        "{count} cycles in {took:?}; {heap} bytes before, {} after",
        after[2]
    );
    fine()
}

fn leave_nothing_behind(count: usize) {
    let ended = Launch::new("cycles")
        .argument(&count.to_string())
        .start()
        .end();
    eprintln!("{}", ended.errors);
    assert_eq!(ended.end, End::Code(0), "{ended:?}");
    assert_eq!(
        ended.lines[..2],
        ["0", "0"],
        "threads and descriptors: {ended:?}"
    );
    // What the C library keeps for its threads; a coordinator alone is some kilobytes.
    assert!(
        ended.lines[2].parse::<usize>().unwrap() < 64 * 1024,
        "{ended:?}"
    );
}
