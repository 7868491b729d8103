//! P14, P17, P19: hooks that misbehave, at a real stop, and what the parent sees of it.

use std::os::fd::OwnedFd;
use std::process::ExitCode;
use std::time::Duration;

use libtest_mimic::Trial;
use winddown::{HookOptions, HookOutcome, ShutdownReport};

use crate::Scenario;
use crate::child::{aside, hang, hooks, quick, short, tell};
use crate::harness::{End, Launch, PROMPT, Signal, trials};

pub(crate) const SCENARIOS: &[Scenario] = &[("hook", hook)];

pub(crate) fn tests() -> Vec<Trial> {
    trials![
        a_hook_that_panics_stops_no_other,
        a_hook_that_fails_stops_no_other,
        a_hook_that_hangs_stops_no_other,
        hooks_that_hang_starve_nobody,
        a_hook_may_register_another,
        a_hook_may_ask_for_the_shutdown,
        a_hook_may_stop_again,
        a_hook_that_prints_to_nobody_stops_no_other,
        everybody_gets_the_same_report,
    ]
}

fn outcome(outcome: &HookOutcome) -> &'static str {
    match outcome {
        HookOutcome::Completed => "completed",
        HookOutcome::Failed(_) => "failed",
        HookOutcome::Panicked(_) => "panicked",
        HookOutcome::TimedOut => "timed out",
        HookOutcome::Skipped => "skipped",
        _ => "another",
    }
}

fn tell_hooks(report: &ShutdownReport) {
    tell(short(report.reason()));
    for hook in report.hooks() {
        tell(format!("{} {}", hook.name(), outcome(hook.outcome())));
    }
}

/// While it lives, stdout is a pipe that nobody reads.
struct BrokenStdout(OwnedFd);

impl BrokenStdout {
    fn new() -> Self {
        let (read, write) = nix::unistd::pipe().unwrap();
        drop(read);
        let stdout = nix::unistd::dup(rustix::stdio::stdout()).unwrap();
        nix::unistd::dup2_stdout(write).unwrap();
        BrokenStdout(stdout)
    }
}

impl Drop for BrokenStdout {
    fn drop(&mut self) {
        nix::unistd::dup2_stdout(&self.0).unwrap();
    }
}

fn hook(how: &str) -> ExitCode {
    let grace = if how == "all hang" {
        Duration::from_secs(4)
    } else {
        crate::child::FAR
    };
    let shutdown = quick().grace_period(grace).install().unwrap();
    let handle = shutdown.handle();
    hooks(&shutdown, &["bottom"]);
    match how {
        "panics" => {
            shutdown.hook("odd", || -> () { panic!("as it must") });
        }
        "fails" => {
            shutdown.hook("odd", || Err::<(), _>("as it must"));
        }
        "hangs" => {
            let odd = HookOptions::new("odd").timeout(Duration::from_millis(100));
            shutdown.hook_with(odd, || -> () { hang() });
        }
        "all hang" => {
            for _ in 0..4 {
                shutdown.hook("odd", || -> () { hang() });
            }
        }
        "registers" => {
            shutdown.hook("odd", move || {
                tell("odd");
                hooks(&handle, &["late"]);
            });
        }
        "asks" => {
            // The owner belongs to a hook: as in a program that keeps it in a static.
            let shutdown = std::sync::Arc::new(shutdown);
            let owner = std::sync::Arc::clone(&shutdown);
            shutdown.hook("odd", move || {
                let early = owner.shutdown();
                tell(format!("{} {}", early.is_final(), owner.wait().is_final()));
            });
            tell("ready");
            let report = shutdown.wait();
            tell_hooks(&report);
            report.exit();
        }
        "stops" => {
            shutdown.hook("odd", move || tell(handle.stop("again")));
        }
        "prints" => {
            shutdown.hook("odd", || {
                let _mended = BrokenStdout::new();
                println!("nobody is there");
            });
        }
        "shares" => {
            let shutdown = std::sync::Arc::new(shutdown);
            let others: Vec<_> = (0..4)
                .map(|_| {
                    let shutdown = std::sync::Arc::clone(&shutdown);
                    aside(move || {
                        let report = shutdown.wait();
                        tell(format!("{} {}", report.is_final(), report.hooks().len()));
                    })
                })
                .collect();
            tell("ready");
            let report = shutdown.wait();
            for other in others {
                let _ = other.recv();
            }
            report.exit();
        }
        _ => panic!("no such way"),
    }
    hooks(&shutdown, &["top"]);
    tell("ready");
    let report = shutdown.wait();
    tell_hooks(&report);
    report.exit()
}

fn ended(how: &str) -> crate::harness::Ended {
    let mut program = Launch::new("hook").argument(how).ready();
    program.signal(Signal::SIGTERM);
    program.end()
}

/// P14: and the parent is told, as 1 or as a panic's 101.
fn a_hook_that_panics_stops_no_other() {
    let ended = ended("panics");
    assert!(
        [End::Code(1), End::Code(101)].contains(&ended.end),
        "{ended:?}"
    );
    let lines = [
        "ready",
        "top",
        "bottom",
        "SIGTERM",
        "top completed",
        "odd panicked",
        "bottom completed",
    ];
    assert_eq!(ended.lines, lines);
}

/// P14.
fn a_hook_that_fails_stops_no_other() {
    let lines = [
        "ready",
        "top",
        "bottom",
        "SIGTERM",
        "top completed",
        "odd failed",
        "bottom completed",
    ];
    ended("fails").assert(End::Code(1), &lines);
}

/// P14: left behind on its thread. Not a clean end, whichever of the two codes tells it.
fn a_hook_that_hangs_stops_no_other() {
    let ended = ended("hangs").assert_within(PROMPT);
    assert!(
        [End::Code(1), End::Code(124)].contains(&ended.end),
        "{ended:?}"
    );
    let lines = [
        "ready",
        "top",
        "bottom",
        "SIGTERM",
        "top completed",
        "odd timed out",
        "bottom completed",
    ];
    assert_eq!(ended.lines, lines);
}

/// P16: four hooks without a timeout of their own, and the oldest still has its reserve.
fn hooks_that_hang_starve_nobody() {
    let ended = ended("all hang").assert_within(PROMPT);
    assert!(
        [End::Code(1), End::Code(124)].contains(&ended.end),
        "{ended:?}"
    );
    let told: Vec<_> = ended
        .lines
        .iter()
        .filter(|line| line.contains("top") || line.contains("bottom"))
        .collect();
    assert_eq!(
        told,
        ["top", "bottom", "top completed", "bottom completed"],
        "{ended:?}"
    );
}

/// P19: it is the newest, so it runs next.
fn a_hook_may_register_another() {
    let lines = [
        "ready",
        "top",
        "odd",
        "late",
        "bottom",
        "SIGTERM",
        "top completed",
        "odd completed",
        "late completed",
        "bottom completed",
    ];
    ended("registers").assert(End::Code(0), &lines);
}

/// P17: it returns at once with the report so far.
fn a_hook_may_ask_for_the_shutdown() {
    let lines = [
        "ready",
        "false false",
        "bottom",
        "SIGTERM",
        "odd completed",
        "bottom completed",
    ];
    ended("asks").assert(End::Code(0), &lines);
}

/// P3, P17: too late to be the first.
fn a_hook_may_stop_again() {
    let lines = [
        "ready",
        "top",
        "false",
        "bottom",
        "SIGTERM",
        "top completed",
        "odd completed",
        "bottom completed",
    ];
    ended("stops").assert(End::Code(0), &lines);
}

/// P14: `println!` panics where its reader is gone, and that is only this hook's affair.
fn a_hook_that_prints_to_nobody_stops_no_other() {
    let ended = ended("prints");
    assert!(
        [End::Code(1), End::Code(101)].contains(&ended.end),
        "{ended:?}"
    );
    let lines = [
        "ready",
        "top",
        "bottom",
        "SIGTERM",
        "top completed",
        "odd panicked",
        "bottom completed",
    ];
    assert_eq!(ended.lines, lines);
}

/// P18.
fn everybody_gets_the_same_report() {
    let lines = ["ready", "bottom", "true 1", "true 1", "true 1", "true 1"];
    ended("shares").assert(End::Code(0), &lines);
}
