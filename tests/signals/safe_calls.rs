//! P12, from the system's own view: what a handler asks of it. A call that is not async-signal-safe works nearly always, and
//! hangs when the signal has interrupted the wrong instruction; so it is the calls that are looked at, not their luck.

use std::collections::BTreeSet;
use std::process::ExitCode;
use std::thread;

use libtest_mimic::{Completion, Trial};
use nix::sys::signal::raise;
use winddown::{Escalation, ExitPolicy, HookOptions, ShutdownBuilder, ShutdownCoordinator};

use crate::Scenario;
use crate::child::{FAR, hang, hooks, quick};
use crate::harness::{End, Launch, Signal, trials};
use crate::sys;
use crate::traced::{Log, call, tracer_or_skip};

pub(crate) const SCENARIOS: &[Scenario] = &[("handled", handled)];

pub(crate) fn tests() -> Vec<Trial> {
    trials![handlers_make_async_signal_safe_calls_only]
}

const FORCED: End = End::Code(128 + 15);
const KILLED: End = End::Signal(15);

/// What happens to the program, how many deliveries that takes (a death by a signal being one), and its end.
const CASES: &[(&str, usize, End)] = &[
    ("first", 1, End::Code(0)),
    ("first, a key press", 2, End::Signal(2)),
    ("within the debounce", 2, End::Code(0)),
    ("never forced", 3, End::Code(0)),
    ("second", 2, FORCED),
    ("second, by death", 3, KILLED),
    ("never forced, to each thread", 3, End::Code(0)),
    ("second, with an emergency hook", 2, FORCED),
    ("second, with a hung emergency hook", 2, FORCED),
    ("second, in an emergency hook", 2, FORCED),
    ("third, in a hung emergency hook", 3, FORCED),
    ("linger", 2, End::Code(0)),
    ("linger, forced", 3, FORCED),
    ("linger, a key press", 2, End::Code(0)),
    ("forked", 2, End::Code(0)),
    ("forked after the stop", 3, End::Code(0)),
    ("forked, sharing memory", 2, End::Code(0)),
    ("second, after the end", 2, FORCED),
    ("after the end", 2, KILLED),
    ("after the coordinator", 3, KILLED),
    ("after a refused installation", 1, KILLED),
    ("two coordinators", 2, End::Code(0)),
];

fn builder(how: &str) -> ShutdownBuilder {
    let builder = match how {
        "never forced" | "never forced, to each thread" => quick().escalation(Escalation::Never),
        "within the debounce" => quick().debounce(FAR),
        "second, by death" => quick().exit_policy(ExitPolicy::reraise()),
        _ => quick(),
    };
    if how.starts_with("linger") {
        builder.linger(FAR / 2)
    } else {
        builder
    }
}

fn term() {
    give(Signal::SIGTERM);
}

/// The calls do not tell of memory that is there already.
fn give(signal: Signal) {
    sys::without_the_allocator(|| raise(signal).unwrap());
}

fn handled(how: &str) -> ExitCode {
    if how == "after a refused installation" {
        let kill = Signal::SIGKILL as i32;
        let refused = quick()
            .signals([winddown::Signal::TERM, kill.try_into().unwrap()])
            .install();
        assert!(refused.is_err());
        term();
    }
    let shutdown = builder(how).install().unwrap();
    hooks(&shutdown, &["hook"]);
    if how.contains("emergency hook") {
        let raises = how.contains(", in ");
        let hung = how.contains("hung");
        let emergency = HookOptions::new("emergency").emergency();
        shutdown.hook_with(emergency, move || {
            if raises {
                term();
            }
            if hung {
                hang();
            }
        });
    }
    if how == "first, a key press" {
        give(Signal::SIGINT);
        shutdown.wait().exit();
    }
    if how == "forked" || how == "forked, sharing memory" {
        fork(how);
    } else if how == "after the end" {
        shutdown.stop("on purpose");
    } else {
        term();
    }
    the_others(how, shutdown)
}

fn fork(how: &str) {
    use nix::sys::wait::{WaitStatus, waitpid};
    let child = if how.ends_with("memory") {
        sys::die_sharing_memory(Signal::SIGTERM)
    } else {
        sys::fork(|| {
            term();
            hang()
        })
    };
    let died = WaitStatus::Signaled(child, Signal::SIGTERM, false);
    assert_eq!(waitpid(child, None).unwrap(), died);
}

fn to_each_other_thread() {
    let own = nix::unistd::getpid();
    for task in std::fs::read_dir("/proc/self/task").unwrap() {
        let task = task.unwrap();
        let number = task.file_name().to_str().unwrap().parse().unwrap();
        if number == own.as_raw() {
            continue;
        }
        sys::signal_thread(own, number, Signal::SIGTERM).unwrap();
        let pending = || {
            let status = std::fs::read_to_string(task.path().join("status")).unwrap();
            !status.contains("SigPnd:\t0000000000000000")
        };
        while pending() {
            thread::yield_now();
        }
    }
}

/// What comes after the first.
fn the_others(how: &str, shutdown: ShutdownCoordinator) -> ExitCode {
    match how {
        "within the debounce" | "linger" => term(),
        "linger, a key press" => {
            give(Signal::SIGINT);
        }
        "never forced" | "linger, forced" => {
            term();
            term();
        }
        "second, in an emergency hook" => {
            let _ = shutdown.wait();
            hang();
        }
        "forked after the stop" => fork(how),
        "never forced, to each thread" => to_each_other_thread(),
        "after the end" | "second, after the end" => {
            let report = shutdown.wait();
            term();
            report.exit();
        }
        "after the coordinator" => {
            drop(shutdown);
            term();
            hang();
        }
        "two coordinators" => {
            drop(shutdown);
            let shutdown = quick().install().unwrap();
            term();
            shutdown.wait().exit();
        }
        _ if how.starts_with("second") || how.starts_with("third") => {
            term();
            hang();
        }
        _ => {}
    }
    if how.starts_with("forked") {
        shutdown.stop("on purpose");
    }
    shutdown.wait().exit()
}

/// Whether POSIX, or what Linux says of its own calls, lets a handler make the call of this line.
fn is_safe(line: &str) -> bool {
    match call(line) {
        Some(
            "getpid" | "gettid" | "tgkill" | "clock_gettime" | "rt_sigaction" | "rt_sigprocmask"
            | "rt_sigreturn" | "exit_group",
        ) => true,
        // Wakes somebody. To wait is what a lock does.
        Some("futex") => line.contains("FUTEX_WAKE"),
        // Sleeps, and watches nothing.
        Some("poll") => line.starts_with("poll(NULL, 0, "),
        Some("restart_syscall") => line.contains("interrupted poll"),
        _ => false,
    }
}

/// How many deliveries the log tells of, and the calls that were made in the handlers.
fn handlers(log: &Log) -> (usize, BTreeSet<&str>) {
    let (mut deliveries, mut calls) = (0, BTreeSet::new());
    let threads: BTreeSet<i32> = log.0.iter().map(|(thread, _)| *thread).collect();
    for thread in threads {
        // Handlers nest.
        let mut inside = 0_usize;
        for (_, line) in log.0.iter().filter(|(of, _)| *of == thread) {
            if line.starts_with("--- SIGTERM {") || line.starts_with("--- SIGINT {") {
                inside += 1;
                deliveries += 1;
            } else if inside > 0 && call(line).is_some() {
                assert!(is_safe(line), "in a handler: {line}\n{log}");
                calls.extend(call(line));
                inside -= usize::from(line.starts_with("rt_sigreturn"));
            }
        }
    }
    (deliveries, calls)
}

fn handlers_make_async_signal_safe_calls_only() -> Completion {
    let tracer = tracer_or_skip!();
    let mut seen = BTreeSet::new();
    for (how, deliveries, end) in CASES {
        let launch = Launch::new("handled").argument(how);
        let ended = tracer.over(launch, &[]).start().end();
        let log = tracer.log();
        assert_eq!(ended.end, *end, "{how}: {ended:?}\n{log}");
        let (found, calls) = handlers(&log);
        assert_eq!(found, *deliveries, "{how}\n{log}");
        seen.extend(calls.into_iter().map(str::to_owned));
    }
    eprintln!("{} cases: {seen:?}", CASES.len());
    Completion::Completed
}
