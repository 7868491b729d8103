//! P6, P8: the system gives a signal to any thread that does not block it, and to another than main as soon as main is
//! inside a handler.

use std::collections::BTreeSet;

use libtest_mimic::Trial;
use nix::errno::Errno;

use crate::harness::{End, Launch, Program, Signal, trials};
use crate::sys;

pub(crate) fn tests() -> Vec<Trial> {
    trials![
        the_first_signal_may_come_to_any_thread,
        the_second_signal_may_come_to_any_thread,
        an_emergency_hook_runs_whichever_thread_is_signalled,
    ]
}

/// A thread of a program: its name, by which it is the same in the next run, and its id.
type Thread = (String, i32);

/// The threads that can be given `signal`.
fn threads(program: &Program, signal: Signal) -> Vec<Thread> {
    let tasks = format!("/proc/{}/task", program.pid());
    let tasks = std::fs::read_dir(tasks).unwrap().filter_map(|task| {
        let path = task.ok()?.path();
        // One that is gone meanwhile cannot be given any.
        let status = std::fs::read_to_string(path.join("status")).ok()?;
        let field = |name: &str| {
            status
                .lines()
                .find_map(|line| line.strip_prefix(name))
                .unwrap()
                .to_owned()
        };
        let blocked = u64::from_str_radix(&field("SigBlk:\t"), 16).unwrap();
        let id = path.file_name()?.to_str()?.parse().ok()?;
        (blocked & 1 << (signal as i32 - 1) == 0).then(|| (field("Name:\t"), id))
    });
    tasks.collect()
}

/// Once for each thread, at least: starts a program and gives SIGTERM to that one.
fn to_each_thread(start: impl Fn() -> Program, check: impl Fn(Program)) {
    let mut seen = BTreeSet::new();
    // More runs than threads: a short-lived one may be gone before its turn, and a new one has no name yet.
    for _ in 0..12 {
        let mut program = start();
        let mut all = threads(&program, Signal::SIGTERM);
        let unseen = all.iter().position(|(name, _)| !seen.contains(name));
        let (name, id) = all.swap_remove(unseen.unwrap_or_default());
        match sys::signal_thread(program.pid(), id, Signal::SIGTERM) {
            Ok(()) => {
                seen.insert(name);
                program.signalled();
                check(program);
            }
            Err(errno) => assert_eq!(errno, Errno::ESRCH),
        }
    }
    eprintln!("given to {seen:?}");
    assert!(seen.len() >= 3, "{seen:?}");
}

/// P6, P13.
fn the_first_signal_may_come_to_any_thread() {
    let start = || Launch::new("ending").argument("wait_and_sigterm").ready();
    to_each_thread(start, |program| {
        program
            .end()
            .assert(End::Code(0), &["ready", "four", "three", "two", "one"]);
    });
}

/// P8.
fn the_second_signal_may_come_to_any_thread() {
    let start = || {
        let mut program = Launch::new("stuck").argument("hook").ready();
        program.signal(Signal::SIGTERM);
        program.expect("stuck");
        program
    };
    to_each_thread(start, |program| {
        program
            .end()
            .assert_forced(Signal::SIGTERM, &["ready", "stuck"]);
    });
}

/// P8: also the one that would have to run it.
fn an_emergency_hook_runs_whichever_thread_is_signalled() {
    let start = || {
        let mut program = Launch::new("emergency").argument("with hook").ready();
        program.signal(Signal::SIGTERM);
        program.expect("stuck");
        program
    };
    to_each_thread(start, |program| {
        program
            .end()
            .assert_forced(Signal::SIGTERM, &["ready", "stuck", "emergency"]);
    });
}
