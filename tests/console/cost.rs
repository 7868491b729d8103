//! What it costs.

use std::io::Read;
use std::process::{ExitCode, Stdio};
use std::time::{Duration, Instant};

use libtest_mimic::Trial;
use winddown::{Console, ShutdownCoordinator};

use crate::process::Process;
use crate::scenario::say;
use crate::{program, trials};

pub(crate) fn tests() -> Vec<Trial> {
    trials![
        a_full_stderr_delays_nothing,
        there_is_no_thread_before_the_stop,
        an_empty_shutdown_costs_next_to_nothing,
    ]
}

/// What the last line is given, and slack for a machine that is busy: far less than a write that waits would take.
const MORE: Duration = Duration::from_millis(400);

/// P15: the console says nothing then, and nobody waits for it.
fn a_full_stderr_delays_nothing() {
    for how in ["", "slow "] {
        let [without, with] = ["", "console"].map(|console| {
            let mut command = program("full", &[&format!("{how}{console}")]);
            command.stdout(Stdio::piped()).stderr(Stdio::piped());
            let mut child = command.spawn().unwrap();
            let (stderr, mut stdout) = (child.stderr.take(), child.stdout.take().unwrap());
            let mut took = String::new();
            stdout.read_to_string(&mut took).unwrap();
            assert!(child.wait().unwrap().success());
            drop(stderr);
            Duration::from_micros(took.trim().parse().unwrap())
        });
        println!("full stderr, {how}: {without:?} without, {with:?} with");
        assert!(
            with < without + MORE,
            "{how}: {without:?} without, {with:?} with"
        );
    }
}

/// P23.
fn there_is_no_thread_before_the_stop() {
    let [without, with] = ["", "console"].map(|console| {
        let mut command = program("threads", &[console]);
        command.stdout(Stdio::piped()).stderr(Stdio::null());
        let mut process = Process::start(command);
        assert!(process.end().success());
        process.out.last_line()
    });
    assert_eq!(without, with);
}

/// The fastest of many: 1 ms is the aim, and a busy machine is given more.
const AT_MOST: Duration = Duration::from_millis(3);

fn an_empty_shutdown_costs_next_to_nothing() {
    let mut command = program("cost", &[]);
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut process = Process::start(command);
    assert!(process.end().success());
    let line = process.out.last_line();
    println!("empty shutdown, without and with, in us: {line}");
    let mut times = line
        .split(' ')
        .map(|time| Duration::from_micros(time.parse().unwrap()));
    let (without, with) = (times.next().unwrap(), times.next().unwrap());
    assert!(
        with < without + AT_MOST,
        "{without:?} without, {with:?} with"
    );
}

/// Both by turns, so that both see the same machine.
pub(crate) fn measure() -> ExitCode {
    let mut best = [Duration::MAX; 2];
    for round in 0..200 {
        let mut builder = ShutdownCoordinator::builder().signals([]);
        if round % 2 == 1 {
            builder = builder.console(Console::stderr());
        }
        let shutdown = builder.install().unwrap();
        let start = Instant::now();
        let report = shutdown.shutdown();
        let best = &mut best[round % 2];
        *best = start.elapsed().min(*best);
        drop(report);
    }
    say(format!("{} {}", best[0].as_micros(), best[1].as_micros()));
    ExitCode::SUCCESS
}
