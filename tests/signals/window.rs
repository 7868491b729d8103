//! P10, between two states: a signal kills or stops, whenever it comes. One that comes while the handler is being put in
//! place is easily swallowed.

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant};

use libtest_mimic::{Completion, Trial};
use nix::unistd::Pid;
use winddown::{HookOptions, ShutdownCoordinator};

use crate::Scenario;
use crate::child::{FAR, hooks, look_until_stopped, quick, short, tell};
use crate::harness::{End, Ended, Launch, PATIENCE, Signal, trials};
use crate::traced::{Log, Tracer, tracer_or_skip};

pub(crate) const SCENARIOS: &[Scenario] = &[("early", early), ("start up", start_up)];

pub(crate) fn tests() -> Vec<Trial> {
    trials![
        a_signal_during_the_installation_is_not_lost,
        a_signal_at_no_call_of_the_start_is_lost,
        a_signal_to_the_process_at_no_call_of_the_start_is_lost,
    ]
}

fn early(_: &str) -> ExitCode {
    tell("ready");
    let shutdown = quick().install().unwrap();
    look_until_stopped(&shutdown.token());
    shutdown.wait().exit()
}

/// At a hundred different times.
fn a_signal_during_the_installation_is_not_lost() {
    let (mut killed, mut stopped) = (0, 0);
    for round in 0..100 {
        let mut program = Launch::new("early").ready();
        let until = Instant::now() + Duration::from_micros(round * 10);
        while Instant::now() < until {
            std::hint::spin_loop();
        }
        program.signal(Signal::SIGTERM);
        let ended = program.end();
        match ended.end {
            End::Signal(15) => killed += 1,
            End::Code(0) => stopped += 1,
            _ => panic!("{ended:?}"),
        }
    }
    eprintln!("{killed} killed, {stopped} stopped");
}

/// A program that has started when it says so. Whatever has not stopped it by then, it does itself.
fn start_up(_: &str) -> ExitCode {
    let shutdown = ShutdownCoordinator::builder()
        .debounce(FAR)
        .grace_period(FAR)
        .install()
        .unwrap();
    hooks(&shutdown, &["hook"]);
    // For the third of our threads.
    let emergency = HookOptions::new("emergency").emergency();
    shutdown.hook_with(emergency, || tell("emergency"));
    tell("up");
    shutdown.stop("up");
    let report = shutdown.wait();
    tell(short(report.reason()));
    report.exit()
}

const UP: &str = "write(1, \"up\\n\"";

/// How a program fared that was sent `signal` while it started.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Fared {
    /// By the signal, which nobody had a handler for.
    Killed,
    /// With everything that belongs to a shutdown.
    Stopped,
    /// It was up already, or the call was not made so often.
    NotMet,
}

fn fared(signal: Signal, log: &Log, ended: &Ended) -> Option<Fared> {
    let sent = log.first(&format!("--- {signal} "));
    let up = log.first(UP);
    let Some(sent) = sent.filter(|sent| up.is_none_or(|up| *sent < up)) else {
        return Some(Fared::NotMet);
    };
    let (thread, _) = log.0[sent];
    let on_main = log.pid() == Some(Pid::from_raw(thread));
    let registers = log.first(&format!("rt_sigaction({signal}, {{sa_handler=0x"));
    let registered = registers.and_then(|begun| log.end_of(begun));
    let handled = registered.is_some_and(|registered| registered < sent);
    let killed = ended.end == End::Signal(signal as i32) && ended.lines.is_empty();
    // Another thread may take its time between the delivery and the handler, or the death; main goes on meanwhile.
    if !handled && (on_main || killed) {
        return killed.then_some(Fared::Killed);
    }
    let answers = |(of, line): &(_, String)| *of == thread && line.starts_with("rt_sigreturn");
    let answered = on_main || log.0[sent..up?].iter().any(answers);
    let by_itself = ended
        .lines
        .last()
        .is_some_and(|line| line == "requested up");
    let (reason, end) = if by_itself && !answered {
        ("requested up", End::Code(0))
    } else if signal == Signal::SIGINT {
        // A shell's loop is to see that.
        ("SIGINT", End::Signal(2))
    } else {
        (signal.as_str(), End::Code(0))
    };
    let stopped = ended.end == end && ended.lines == ["up", "emergency", "hook", reason];
    stopped.then_some(Fared::Stopped)
}

/// Starts the program once for every system call that it makes until it is up, on any of its threads.
fn at_every_call(tracer: &Tracer, signal: Signal, start: impl Fn(&str, usize) -> Ended) {
    let plain = tracer.over(Launch::new("start up"), &[]).start().end();
    assert_eq!(plain.end, End::Code(0), "{plain:?}");
    let mut seen = BTreeMap::new();
    for call in tracer.log().calls() {
        for nth in 1.. {
            let ended = start(&call, nth);
            let log = tracer.log();
            match fared(signal, &log, &ended) {
                Some(Fared::NotMet) => break,
                Some(fared) => *seen.entry(fared).or_insert(0) += 1,
                None => panic!("{signal} at {call} {nth}: {ended:?}\n{log}"),
            }
        }
    }
    eprintln!("{signal}: {seen:?}");
    assert!(seen.keys().eq(&[Fared::Killed, Fared::Stopped]), "{seen:?}");
}

/// To the thread that makes the call.
fn a_signal_at_no_call_of_the_start_is_lost() -> Completion {
    let tracer = tracer_or_skip!();
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        at_every_call(&tracer, signal, |call, nth| {
            let inject = format!("-einject={call}:signal={signal}:when={nth}");
            let launch = Launch::new("start up");
            tracer.over(launch, &[inject]).start().end()
        });
    }
    Completion::Completed
}

/// To the process, so that any thread may take it: it is stopped at the call, signalled, and let go on.
fn a_signal_to_the_process_at_no_call_of_the_start_is_lost() -> Completion {
    let tracer = tracer_or_skip!();
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        at_every_call(&tracer, signal, |call, nth| {
            let inject = format!("-einject={call}:signal=SIGSTOP:when={nth}");
            let launch = Launch::new("start up");
            let mut program = tracer.over(launch, &[inject]).start();
            let (started, mut sent) = (Instant::now(), false);
            while !program.has_ended() {
                let log = tracer.log();
                assert!(started.elapsed() < PATIENCE, "hangs: {log}");
                if log.first("--- stopped by SIGSTOP").is_some() {
                    program.aim(log.pid().unwrap());
                    if !sent {
                        sent = program.try_signal(signal);
                    }
                    program.try_signal(Signal::SIGCONT);
                }
                thread::sleep(Duration::from_millis(1));
            }
            program.end()
        });
    }
    Completion::Completed
}
