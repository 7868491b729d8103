//! P7, P8, P13 under a storm of signals.

use std::process::ExitCode;
use std::sync::mpsc;

use libtest_mimic::Trial;
use winddown::Escalation;

use crate::Scenario;
use crate::child::{aside, hang, hear, hooks, quick, tell};
use crate::harness::{End, Launch, Signal, trial, trials};

pub(crate) const SCENARIOS: &[Scenario] = &[("storm", storm)];

pub(crate) fn tests() -> Vec<Trial> {
    let mut all = trials![
        a_storm_ends_or_forces,
        a_storm_within_the_debounce_is_one_request
    ];
    all.push(trial("a_storm_is_one_shutdown", || {
        a_storm_is_one_shutdown(20_000);
    }));
    all.push(
        trial("a_storm_of_a_million_is_one_shutdown", || {
            a_storm_is_one_shutdown(1_000_000);
        })
        .with_ignored_flag(true),
    );
    all
}

fn storm(how: &str) -> ExitCode {
    let builder = match how {
        "never" => quick().escalation(Escalation::Never),
        "debounce" => quick().debounce(crate::child::FAR),
        _ => quick(),
    };
    let shutdown = builder.install().unwrap();
    hooks(&shutdown, &["two"]);
    let (go, gone) = mpsc::channel::<()>();
    if how != "default" {
        shutdown.hook("waits", move || {
            tell("one");
            let _ = gone.recv();
        });
    }
    shutdown.on_report(|_| tell("report"));
    // The coordinator lives until the end of the process, so that the storm may last as long.
    aside(move || shutdown.wait().exit());
    tell("ready");
    hear();
    drop(go);
    hang()
}

const SIGNALS: [Signal; 2] = [Signal::SIGTERM, Signal::SIGTERM];

/// P13: once and completely, whenever the signals come: while it runs, in the middle of the hooks, and after them.
fn a_storm_is_one_shutdown(size: usize) {
    one_shutdown("never", size);
}

/// P7: as long as the window is open, nothing escalates.
fn a_storm_within_the_debounce_is_one_request() {
    one_shutdown("debounce", 20_000);
}

fn one_shutdown(how: &str, size: usize) {
    let mut program = Launch::new("storm").argument(how).ready();
    let half = |program: &mut crate::harness::Program| {
        for signal in SIGNALS.iter().cycle().take(size / 2) {
            program.signal(*signal);
        }
    };
    half(&mut program);
    program.expect("one");
    program.say("go");
    // Until it is reaped, the process can be sent signals, dead or alive.
    half(&mut program);
    program
        .end()
        .assert(End::Code(0), &["ready", "one", "two", "report"]);
}

/// P8: never SIGSEGV, never stuck, never an end of its own.
fn a_storm_ends_or_forces() {
    let (mut ended, mut forced) = (0, 0);
    for round in 0..30 {
        let mut program = Launch::new("storm").argument("default").ready();
        for n in 0..500 {
            program.signal(if (n + round) % 3 == 0 {
                Signal::SIGINT
            } else {
                Signal::SIGTERM
            });
        }
        let all = program.end();
        // SIGINT first, and all in peace: death by SIGINT is that, too.
        match all.end {
            End::Code(0) => {
                assert_eq!(all.lines, ["ready", "two", "report"]);
                ended += 1;
            }
            end => {
                let by_one = [Signal::SIGINT, Signal::SIGTERM]
                    .into_iter()
                    .any(|signal| end.is_forced(signal));
                assert!(by_one, "{all:?}");
                forced += 1;
            }
        }
        assert!(all.lines.iter().filter(|line| *line == "two").count() <= 1);
        assert!(all.lines.iter().filter(|line| *line == "report").count() <= 1);
    }
    eprintln!("{ended} ended, {forced} forced");
}
