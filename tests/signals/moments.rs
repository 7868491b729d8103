//! P10, P11 at moments nobody chose, by the thousand: coordinators come and go, and a signal is never lost between two.

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant};

use libtest_mimic::Trial;
use nix::sys::signal::{kill, raise};
use winddown::{Escalation, StopReason};

use crate::Scenario;
use crate::child::{fine, hang, hear, quick, tell};
use crate::harness::{End, Launch, Signal, trial, trials};
use crate::random::Random;
use crate::sys;

pub(crate) const SCENARIOS: &[Scenario] = &[
    ("come and go", come_and_go),
    ("chained", chained),
    ("late", late),
];

pub(crate) fn tests() -> Vec<Trial> {
    let mut all = trials![
        a_signal_is_never_lost_between_two_coordinators,
        an_older_handler_is_called_for_each_signal_meanwhile,
        a_signal_too_late_for_the_report_has_its_old_effect_after_it,
    ];
    let long = || never_lost(5000);
    all.push(trial("a_signal_is_never_lost_in_5000_tries", long).with_ignored_flag(true));
    all
}

/// Goes on until a signal has been answered; then it says by whom.
fn come_and_go(_: &str) -> ExitCode {
    tell("ready");
    for life in 0.. {
        let shutdown = quick().install().unwrap();
        // Every other one is asked to end at once.
        let life = Duration::from_micros(life % 2 * 300);
        let _ = shutdown.token().wait_timeout(life);
        let report = shutdown.shutdown();
        let is_signal = |reason: &StopReason| matches!(reason, StopReason::Signal(_));
        if is_signal(report.reason()) {
            tell("stopped");
            return fine();
        }
        if report.later_reasons().iter().any(is_signal) {
            tell("noted");
            return fine();
        }
    }
    unreachable!("it goes on for ever")
}

fn a_signal_is_never_lost_between_two_coordinators() {
    never_lost(300);
}

fn never_lost(tries: u32) {
    let mut random = Random::new("never_lost");
    let mut seen = BTreeMap::new();
    for _ in 0..tries {
        let mut program = Launch::new("come and go").ready();
        let (began, moment) = (Instant::now(), random.up_to(Duration::from_millis(2)));
        while began.elapsed() < moment {
            std::hint::spin_loop();
        }
        program.signal(Signal::SIGTERM);
        let ended = program.end();
        let said = ended.lines.get(1).map(String::as_str);
        let fate = match (ended.end, said) {
            (End::Signal(15), None) => "killed",
            (End::Code(0), Some("stopped")) => "stopped",
            (End::Code(0), Some("noted")) => "noted",
            _ => panic!("{ended:?}"),
        };
        *seen.entry(fate).or_insert(0) += 1;
    }
    eprintln!("{seen:?}");
    assert!(
        seen.contains_key("killed") && seen.contains_key("stopped"),
        "{seen:?}"
    );
}

fn chained(count: &str) -> ExitCode {
    let count: usize = count.parse().unwrap();
    sys::counting_handler(Signal::SIGUSR1);
    let own = nix::unistd::getpid();
    let sender = thread::spawn(move || {
        for sent in 1..=count {
            kill(own, Signal::SIGUSR1).unwrap();
            while sys::COUNTED.load(Ordering::SeqCst) < sent {
                thread::yield_now();
            }
        }
    });
    let (mut cycles, mut stopped) = (0, 0);
    while !sender.is_finished() {
        let shutdown = quick()
            .signals([winddown::Signal::USR1])
            .escalation(Escalation::Never)
            .install()
            .unwrap();
        stopped += usize::from(shutdown.token().is_stopped());
        drop(shutdown);
        cycles += 1;
    }
    sender.join().unwrap();
    eprintln!("{cycles} coordinators, {stopped} of them stopped by a signal");
    tell(sys::COUNTED.load(Ordering::SeqCst));
    assert_eq!(hear(), "go on");
    fine()
}

/// One at a time: two of the same that wait are one.
fn an_older_handler_is_called_for_each_signal_meanwhile() {
    let count = 20_000.to_string();
    let mut program = Launch::new("chained").argument(&count).start();
    program.expect(&count);
    program.say("go on");
    let ended = program.end();
    eprintln!("{}", ended.errors);
    assert_eq!(ended.end, End::Code(0), "{ended:?}");
}

/// The report is made, and its first reader is sent a signal that it cannot tell of any more.
fn late(how: &str) -> ExitCode {
    let term = |_: &winddown::ShutdownReport| raise(Signal::SIGTERM).unwrap();
    if how == "run" {
        return quick().run(|shutdown| {
            shutdown.on_report(term);
            Ok::<_, String>(())
        });
    }
    let shutdown = quick().install().unwrap();
    shutdown.on_report(term);
    let report = shutdown.shutdown();
    assert!(report.later_reasons().is_empty());
    tell("told");
    if how == "exit" {
        report.exit();
    }
    drop(shutdown);
    tell("goes on");
    hang()
}

/// P10. Who is told of the end is not cut off, and the end itself stays what it is; but a program that goes on after it has been
/// asked to end.
fn a_signal_too_late_for_the_report_has_its_old_effect_after_it() {
    let end = |how| Launch::new("late").argument(how).start().end();
    end("drop").assert(End::Signal(15), &["told"]);
    end("exit").assert(End::Code(0), &["told"]);
    end("run").assert(End::Code(0), &[]);
}
