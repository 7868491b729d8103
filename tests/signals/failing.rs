//! P13, P15 where system calls fail, one after the other, and where every one of them is interrupted.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use libtest_mimic::{Completion, Trial};
use nix::sys::signal::raise;
use nix::unistd::Pid;
use winddown::{HookOptions, InFlight, Interrupted};

use crate::Scenario;
use crate::child::{FAR, fine, hang, hooks, quick, short, tell};
use crate::harness::{End, Ended, Launch, PATIENCE, Signal, skip, trials};
use crate::sys;
use crate::traced::{Log, Tracer, call, tracer_or_skip};

pub(crate) const SCENARIOS: &[Scenario] = &[("failing", failing), ("interrupted", interrupted)];

pub(crate) fn tests() -> Vec<Trial> {
    trials![
        whatever_call_fails_it_is_refused_or_ends,
        whatever_call_of_its_own_threads_fails_it_ends,
        interrupted_everywhere_times_and_order_hold,
    ]
}

/// Enough for an ending under `strace`, little enough to wait for where a wake-up is lost.
const GRACE: Duration = Duration::from_secs(2);

fn failing(how: &str) -> ExitCode {
    tell("start");
    let Ok(shutdown) = quick().grace_period(GRACE).install() else {
        tell("refused");
        raise(Signal::SIGTERM).unwrap();
        hang();
    };
    hooks(&shutdown, &["two"]);
    shutdown.hook_with(HookOptions::new("emergency").emergency(), || {
        tell("emergency");
    });
    hooks(&shutdown, &["one"]);
    let jobs: InFlight<u8> = shutdown
        .in_flight("jobs")
        .on_interrupted(|_: Interrupted<u8>| tell("back"));
    let item = jobs.reserve().unwrap().fill(1).unwrap();
    let task = shutdown.spawn("task", |token| drop(token.wait()));
    tell("up");
    if how == "attached" {
        drop((item, task));
    } else {
        raise(Signal::SIGTERM).unwrap();
        drop((item, task));
    }
    let report = shutdown.wait();
    tell(short(report.reason()));
    report.exit()
}

/// The test's own voice, what ends a thread or the process, and what cannot fail as it is called here.
/// That goes for the waking half of `futex`, which strace cannot tell from the waiting one: a system
/// that swallows a wake-up breaks every lock there is. The other half is interrupted further below.
const SPARED: [&str; 9] = [
    "futex",
    "write",
    "tgkill",
    "exit",
    "exit_group",
    "rt_sigreturn",
    "rt_sigprocmask",
    "getpid",
    "gettid",
];

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Fared {
    /// P10: and the signal has its old effect.
    Refused,
    /// With everything that belongs to it.
    Ended,
    /// It was not yet in the program.
    TooEarly,
    /// The call was not made so often.
    NotMet,
}

fn fared(log: &Log, ended: &Ended) -> Option<Fared> {
    let failed = |(_, line): &&(i32, String)| line.ends_with("(INJECTED)");
    let Some(first) = log.0.iter().position(|line| failed(&line)) else {
        return Some(Fared::NotMet);
    };
    let start = log.first("write(1, \"start");
    let from_the_start = log.first("execve").is_some();
    if from_the_start && start.is_none_or(|start| first < start) {
        return Some(Fared::TooEarly);
    }
    let lines: Vec<&str> = ended.lines.iter().map(String::as_str).collect();
    let whole = ["start", "up", "back", "one", "emergency", "two", "SIGTERM"];
    match ended.end {
        End::Code(0) if lines == whole => Some(Fared::Ended),
        End::Signal(15) if lines == ["start", "refused"] => Some(Fared::Refused),
        _ => None,
    }
}

const ERRORS: [&str; 3] = ["EINTR", "EAGAIN", "ENOMEM"];

/// Each call of each thread that the program makes, from the installation on.
fn whatever_call_fails_it_is_refused_or_ends() -> Completion {
    let tracer = tracer_or_skip!();
    let launch = || Launch::new("failing");
    let plain = tracer.over(launch(), &[]).start().end();
    assert_eq!(plain.end, End::Code(0), "{plain:?}");
    let log = tracer.log();
    let start = log.first("write(1, \"start").unwrap();
    let made = log.0[start..].iter().filter_map(|(_, line)| call(line));
    let mut calls: Vec<_> = made.filter(|call| !SPARED.contains(call)).collect();
    calls.sort_unstable();
    calls.dedup();
    let mut seen = BTreeMap::new();
    for call in calls {
        for error in ERRORS {
            for nth in 1.. {
                let inject = format!("-einject={call}:error={error}:when={nth}");
                let ended = tracer.over(launch(), &[inject]).start().end();
                let log = tracer.log();
                match fared(&log, &ended) {
                    Some(Fared::NotMet) => break,
                    Some(fared) => *seen.entry(fared).or_insert(0) += 1,
                    None => panic!("{call} {nth} {error}: {ended:?}\n{log}"),
                }
            }
        }
    }
    eprintln!("{seen:?}");
    assert!(seen.contains_key(&Fared::Refused) && seen.contains_key(&Fared::Ended));
    Completion::Completed
}

/// The threads that the crate has at rest, once they have their names.
fn listener_and_runner(pid: Pid) -> [PathBuf; 2] {
    let since = Instant::now();
    let named = |name: &str| loop {
        let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).unwrap();
        let mut paths = tasks.map(|task| task.unwrap().path());
        let found = paths.find(|path| {
            let own = std::fs::read_to_string(path.join("comm")).unwrap();
            own.trim_end() == name
        });
        if let Some(path) = found {
            return path;
        }
        assert!(since.elapsed() < PATIENCE, "no thread {name}");
        thread::yield_now();
    };
    ["winddown-watch", "winddown-runner"].map(named)
}

/// Runs the program to its end, the listener and the runner traced from before the signal. `None`: that is not allowed.
fn with_those_two(tracer: &Tracer, options: &[String]) -> Option<Ended> {
    let mut program = Launch::new("failing").argument("attached").start();
    program.expect("start");
    program.expect("up");
    program.expect("back");
    let threads = listener_and_runner(program.pid());
    let numbers = threads.iter().map(|path| path.file_name().unwrap());
    let mut strace = tracer.attach(numbers, options);
    let is_traced = |path: &PathBuf| {
        let status = std::fs::read_to_string(path.join("status")).unwrap();
        !status.contains("TracerPid:\t0\n")
    };
    while !threads.iter().all(is_traced) {
        if strace.try_wait().unwrap().is_some() {
            return None;
        }
        thread::yield_now();
    }
    program.signal(Signal::SIGTERM);
    let ended = program.end();
    // It ends with those whom it traces.
    strace.wait().unwrap();
    Some(ended)
}

/// Each call of the listener and the runner, by itself: main and the hooks' threads are left alone.
fn whatever_call_of_its_own_threads_fails_it_ends() -> Completion {
    let tracer = tracer_or_skip!();
    let Some(plain) = with_those_two(&tracer, &[]) else {
        return skip("strace cannot be attached here");
    };
    assert_eq!(plain.end, End::Code(0), "{plain:?}");
    let mut calls = tracer.log().calls();
    calls.retain(|call| !SPARED.contains(&call.as_str()));
    let mut seen = BTreeMap::new();
    for call in &calls {
        for error in ERRORS {
            for nth in 1.. {
                let inject = format!("-einject={call}:error={error}:when={nth}");
                let ended = with_those_two(&tracer, &[inject]).unwrap();
                let log = tracer.log();
                match fared(&log, &ended) {
                    Some(Fared::NotMet) => break,
                    Some(fared) => *seen.entry(fared).or_insert(0) += 1,
                    None => panic!("{call} {nth} {error}: {ended:?}\n{log}"),
                }
            }
        }
    }
    eprintln!("{calls:?}: {seen:?}");
    assert!(seen.contains_key(&Fared::Ended));
    Completion::Completed
}

static SENT: AtomicUsize = AtomicUsize::new(0);

/// Has a handler that does not restart calls run on every thread, over and over.
fn interrupt_everybody() {
    sys::interrupting_handler(Signal::SIGUSR1);
    let own = nix::unistd::getpid();
    thread::spawn(move || {
        loop {
            for task in std::fs::read_dir("/proc/self/task").unwrap().flatten() {
                let number = task.file_name().to_str().unwrap().parse().unwrap();
                // Gone meanwhile, perhaps.
                let sent = sys::signal_thread(own, number, Signal::SIGUSR1).is_ok();
                SENT.fetch_add(usize::from(sent), Ordering::Relaxed);
            }
            thread::sleep(Duration::from_micros(20));
        }
    });
}

fn interrupted(how: &str) -> ExitCode {
    const LONG: Duration = Duration::from_millis(100);
    interrupt_everybody();
    let lasted = |began: Instant| assert!(began.elapsed() >= LONG, "{:?}", began.elapsed());
    for _ in 0..5 {
        let shutdown = quick().install().unwrap();
        hooks(&shutdown, &["older"]);
        let hung = HookOptions::new("hung").timeout(LONG);
        shutdown.hook_with(hung, || -> () { hang() });
        if how == "forced" {
            let emergency = HookOptions::new("emergency").emergency();
            shutdown.hook_with(emergency, || {
                // Most of the time that there is.
                thread::sleep(LONG);
                tell("emergency");
            });
            raise(Signal::SIGTERM).unwrap();
            raise(Signal::SIGTERM).unwrap();
        }
        let began = Instant::now();
        assert!(shutdown.token().wait_timeout(LONG).is_none());
        lasted(began);
        let hold = shutdown.hold("hold").unwrap();
        let handle = shutdown.handle();
        let began = Instant::now();
        let holder = thread::spawn(move || {
            assert!(handle.token().sleep(FAR).is_err());
            thread::sleep(LONG);
            drop(hold);
        });
        raise(Signal::SIGTERM).unwrap();
        let report = shutdown.wait();
        lasted(began + LONG);
        holder.join().unwrap();
        let rows = report.hooks().iter();
        tell(
            rows.map(|row| format!("{} {}", row.name(), row.outcome()))
                .collect::<Vec<_>>()
                .join(", "),
        );
    }
    assert!(SENT.load(Ordering::Relaxed) > 1000);
    fine()
}

/// Every wait looks again at what it waits for, and at the clock.
fn interrupted_everywhere_times_and_order_hold() {
    let all = ["older", "hung timed out, older completed"];
    let ended = Launch::new("interrupted").start().end();
    ended.assert(End::Code(0), &all.repeat(5));
    let launch = Launch::new("interrupted").argument("forced");
    launch
        .start()
        .end()
        .assert_forced(Signal::SIGTERM, &["emergency"]);
}
