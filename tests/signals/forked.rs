//! P10: the children of a program. A fork shares our handlers, a spawned program must not see anything of us.

use std::fs::File;
use std::io::Read as _;
use std::process::{Command, ExitCode};
use std::sync::Mutex;

use libtest_mimic::{Completion, Trial};
use nix::sys::signal::raise;
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::Pid;
use winddown::{Guard, Item, ShutdownCoordinator};

use crate::Scenario;
use crate::child::{fine, hear, hooks, look_until_stopped, quick, short, tell};
use crate::harness::{End, Launch, Signal, skip, trials};
use crate::sys;

pub(crate) const SCENARIOS: &[Scenario] = &[
    ("fork", fork),
    ("fork installs", fork_installs),
    ("fork drops", fork_drops),
    ("shared memory", shared_memory),
    ("spawn", spawn),
];

pub(crate) fn tests() -> Vec<Trial> {
    trials![
        a_forked_child_dies_by_its_signal_and_stops_nobody,
        a_forked_child_of_a_stopped_program_dies_by_its_signal,
        a_forked_child_can_install,
        what_a_forked_child_drops_is_the_parents,
        a_child_that_shares_memory_and_dies_leaves_nothing_behind,
        a_spawned_child_has_default_dispositions_and_mask,
    ]
}

/// What the fork does: it says so, and waits for its signal.
fn wait_for_death() -> ! {
    nix::unistd::alarm::set(60);
    tell("forked");
    loop {
        nix::unistd::pause();
    }
}

fn raise_and_wait() -> ! {
    nix::unistd::alarm::set(60);
    let _ = raise(Signal::SIGTERM);
    tell("survived");
    loop {
        nix::unistd::pause();
    }
}

fn fork(how: &str) -> ExitCode {
    let shutdown = quick().install().unwrap();
    let token = shutdown.token();
    hooks(&shutdown, &["hook"]);
    tell("ready");
    if how == "stopped" {
        look_until_stopped(&token);
        tell("stopping");
    }
    for child in [sys::fork(wait_for_death), sys::fork(raise_and_wait)] {
        tell(child);
        assert_eq!(died(child), Signal::SIGTERM);
        tell("died by its signal");
    }
    if how != "stopped" {
        assert!(!token.is_stopped(), "the fork stopped its parent");
        tell("not stopped");
    }
    let report = shutdown.wait();
    tell(short(report.reason()));
    tell(report.later_reasons().len());
    report.exit()
}

/// What the parent has, for the child to drop.
static HERE: Mutex<Option<All>> = Mutex::new(None);

type All = (Guard<()>, Item<u8>, ShutdownCoordinator);

/// As one that returns from where it was forked would.
fn drop_all() -> ! {
    nix::unistd::alarm::set(60);
    let (guard, item, shutdown) = HERE.lock().unwrap().take().unwrap();
    drop((guard, item));
    tell("dropped");
    tell(shutdown.is_installed());
    tell(shutdown.shutdown().exit_code());
    drop(shutdown);
    let _ = raise(Signal::SIGKILL);
    unreachable!("it has been killed");
}

fn fork_drops(_: &str) -> ExitCode {
    let shutdown = quick().install().unwrap();
    let guard = shutdown.guard("guard", (), |()| tell("cleaned up"));
    let jobs = shutdown
        .in_flight("jobs")
        .on_interrupted(|_| tell("handed back"));
    let item = jobs.reserve().unwrap().fill(1).unwrap();
    *HERE.lock().unwrap() = Some((guard, item, shutdown));
    assert_eq!(died(sys::fork(drop_all)), Signal::SIGKILL);
    let (guard, item, shutdown) = HERE.lock().unwrap().take().unwrap();
    let commit = |_: &u8| {
        tell("completed");
        Ok::<_, ()>(())
    };
    item.complete(commit).unwrap();
    drop(guard);
    shutdown.shutdown().exit()
}

fn died(child: Pid) -> Signal {
    match waitpid(child, None).unwrap() {
        WaitStatus::Signaled(_, signal, _) => signal,
        other => panic!("{other:?}"),
    }
}

/// Reads off which of the two forks is the one that waits, and ends it.
fn end_fork(program: &mut crate::harness::Program) {
    let mut pid = None;
    let mut forked = false;
    while pid.is_none() || !forked {
        match program.line().as_str() {
            "forked" => forked = true,
            line => pid = Some(line.parse().unwrap()),
        }
    }
    nix::sys::signal::kill(Pid::from_raw(pid.unwrap()), Signal::SIGTERM).unwrap();
    program.expect("died by its signal");
    let _other = program.line();
    program.expect("died by its signal");
}

/// P13, P20: also a guard and an item, which the parent still has.
fn what_a_forked_child_drops_is_the_parents() {
    Launch::new("fork drops").start().end().assert(
        End::Code(0),
        &["dropped", "false", "0", "completed", "cleaned up"],
    );
}

/// P10: the sentinel is our own SIGTERM, which is the first reason of the parent.
fn a_forked_child_dies_by_its_signal_and_stops_nobody() {
    let mut program = Launch::new("fork").ready();
    end_fork(&mut program);
    program.expect("not stopped");
    program.signal(Signal::SIGTERM);
    for line in ["hook", "SIGTERM", "0"] {
        program.expect(line);
    }
    assert_eq!(program.end().end, End::Code(0));
}

/// P10: nor does its signal count as the parent's second.
fn a_forked_child_of_a_stopped_program_dies_by_its_signal() {
    let mut program = Launch::new("fork").argument("stopped").ready();
    program.signal(Signal::SIGTERM);
    program.expect("stopping");
    end_fork(&mut program);
    for line in ["hook", "SIGTERM", "0"] {
        program.expect(line);
    }
    assert_eq!(program.end().end, End::Code(0));
}

fn install_in_child() -> ! {
    nix::unistd::alarm::set(60);
    let shutdown = quick().install().unwrap();
    raise(Signal::SIGTERM).unwrap();
    tell(format!("child {}", short(shutdown.wait().reason())));
    std::process::exit(5);
}

fn fork_installs(_: &str) -> ExitCode {
    let shutdown = quick().install().unwrap();
    let child = sys::fork(install_in_child);
    assert_eq!(waitpid(child, None).unwrap(), WaitStatus::Exited(child, 5));
    assert!(!shutdown.token().is_stopped());
    raise(Signal::SIGTERM).unwrap();
    tell(format!("parent {}", short(shutdown.wait().reason())));
    fine()
}

/// P10: the parent's coordinator is none of the child's.
fn a_forked_child_can_install() {
    Launch::new("fork installs")
        .start()
        .end()
        .assert(End::Code(0), &["child SIGTERM", "parent SIGTERM"]);
}

/// Bytes on the heap for each coordinator that has come and gone.
#[cfg(target_env = "gnu")]
fn left_by_each() -> usize {
    const MANY: usize = 100;
    let before = sys::on_the_heap();
    for _ in 0..MANY {
        drop(quick().install().unwrap());
    }
    sys::on_the_heap().saturating_sub(before) / MANY
}

fn shared_memory(_: &str) -> ExitCode {
    #[cfg(target_env = "gnu")]
    {
        left_by_each();
        tell(format!("before {}", left_by_each()));
        let shutdown = quick().install().unwrap();
        let child = sys::die_sharing_memory(Signal::SIGTERM);
        assert_eq!(died(child), Signal::SIGTERM);
        assert!(!shutdown.token().is_stopped());
        drop(shutdown);
        tell(format!("after {}", left_by_each()));
    }
    fine()
}

/// P10, P23: as that of `vfork`, which dies in our own handler. Were it counted as inside, nothing would ever be freed again.
fn a_child_that_shares_memory_and_dies_leaves_nothing_behind() -> Completion {
    if !cfg!(target_env = "gnu") {
        return skip("the heap of this C library cannot be measured");
    }
    let ended = Launch::new("shared memory").start().end();
    assert_eq!(ended.end, End::Code(0), "{ended:?}");
    let left = |when, line: &str| -> usize { line.strip_prefix(when).unwrap().parse().unwrap() };
    let [before, after] = &ended.lines[..] else {
        panic!("{ended:?}")
    };
    let (before, after) = (left("before ", before), left("after ", after));
    assert!(after < before + 100, "{ended:?}");
    Completion::Completed
}

/// The signal lines of a child's `/proc/self/status`, as it sees itself.
fn tell_what_a_child_sees(place: &str) {
    let child = Command::new("cat")
        .arg("/proc/self/status")
        .output()
        .unwrap();
    assert!(child.status.success(), "{place}: {child:?}");
    tell_signals(place, &String::from_utf8(child.stdout).unwrap());
}

fn tell_signals(place: &str, status: &str) {
    // Two signals are glibc's own, and its `posix_spawn` ignores them in every child.
    const INTERNAL: u64 = 0b11 << 31;
    let field = |name: &str| {
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix(name))
            .unwrap();
        u64::from_str_radix(line.trim_start_matches([':', '\t']), 16).unwrap() & !INTERNAL
    };
    let [blocked, ignored, caught] = ["SigBlk", "SigIgn", "SigCgt"].map(field);
    tell(format!("{place} {blocked:x} {ignored:x} {caught:x}"));
}

fn spawn(_: &str) -> ExitCode {
    let shutdown = quick().install().unwrap();
    shutdown.hook("hook", || tell_what_a_child_sees("hook"));
    let on_stop = shutdown
        .token()
        .on_stop(|_| tell_what_a_child_sees("on_stop"));
    tell_what_a_child_sees("main");
    shutdown
        .spawn("task", |_| tell_what_a_child_sees("task"))
        .unwrap()
        .join()
        .unwrap();
    let mut own = String::new();
    File::open("/proc/thread-self/status")
        .unwrap()
        .read_to_string(&mut own)
        .unwrap();
    // No mask of ours is left on the thread that installed.
    let blocked = own
        .lines()
        .find_map(|line| line.strip_prefix("SigBlk:\t"))
        .unwrap();
    tell(blocked.trim_start_matches('0').is_empty());
    tell("ready");
    assert_eq!(hear(), "stop");
    raise(Signal::SIGTERM).unwrap();
    let report = shutdown.wait();
    drop(on_stop);
    tell(short(report.reason()));
    report.exit()
}

/// P10: from whatever thread it was spawned, no signal is blocked, ignored or caught.
fn a_spawned_child_has_default_dispositions_and_mask() {
    let mut program = Launch::new("spawn").start();
    for place in ["main", "task"] {
        program.expect(&format!("{place} 0 0 0"));
    }
    program.expect("true");
    program.expect("ready");
    program.say("stop");
    for place in ["on_stop", "hook"] {
        program.expect(&format!("{place} 0 0 0"));
    }
    program.expect("SIGTERM");
    assert_eq!(program.end().end, End::Code(0));
}
