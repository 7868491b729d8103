//! P15: from the report to the end of the process, by a return from main.

use std::io::Read as _;
use std::process::{ExitCode, Stdio};
use std::thread;
use std::time::Duration;

use libtest_mimic::Trial;
use winddown::ShutdownCoordinator;

use crate::Scenario;
use crate::child::{fill, hang, hear, hooks, quick, tell};
use crate::harness::{End, Launch, PROMPT, trials};
use crate::sys;

pub(crate) const SCENARIOS: &[Scenario] = &[
    ("goes on", goes_on),
    ("a local hangs", a_local_hangs),
    ("another exits", another_exits),
    ("stdout is locked", stdout_is_locked),
    ("a value hangs", a_value_hangs),
    ("slow reader", slow_reader),
];

pub(crate) fn tests() -> Vec<Trial> {
    trials![
        a_program_that_goes_on_after_run_is_left_alone,
        a_local_of_main_that_hangs_keeps_nobody,
        another_thread_inside_exit_keeps_nobody,
        a_lock_on_stdout_holds_up_nobody,
        a_value_of_run_that_hangs_keeps_nobody,
        a_slow_reader_of_stdout_gets_all,
    ]
}

/// Longer than `exit` may take after a report.
const GOES_ON: Duration = Duration::from_millis(1500);

fn run(f: impl FnOnce(&ShutdownCoordinator)) -> ExitCode {
    let builder = quick().grace_period(Duration::from_millis(500));
    builder.run(|shutdown| {
        f(shutdown);
        Ok::<_, String>(())
    })
}

fn goes_on(_: &str) -> ExitCode {
    let _ = run(|shutdown| hooks(shutdown, &["once"]));
    hear();
    let _ = run(|shutdown| hooks(shutdown, &["twice"]));
    ExitCode::from(7)
}

/// `run` gives the status of a program that ends, and not an order to end.
fn a_program_that_goes_on_after_run_is_left_alone() {
    let mut program = Launch::new("goes on").start();
    program.expect("once");
    thread::sleep(GOES_ON);
    program.say("go on");
    program.end().assert(End::Code(7), &["once", "twice"]);
}

/// As it is dropped.
struct Hangs;

impl Drop for Hangs {
    fn drop(&mut self) {
        tell("stuck");
        hang();
    }
}

fn a_value_hangs(_: &str) -> ExitCode {
    quick()
        .grace_period(Duration::from_millis(500))
        .run(|_| Ok::<_, String>(Hangs))
}

/// Within the grace period, as all of the program.
fn a_value_of_run_that_hangs_keeps_nobody() {
    Launch::new("a value hangs")
        .start()
        .end()
        .assert(End::Code(124), &["stuck"])
        .assert_within(PROMPT);
}

/// What the pipe takes before anybody reads, and what std still has then.
fn slow_reader(_: &str) -> ExitCode {
    fill(rustix::stdio::stdout());
    print!("tail");
    run(|_| ())
}

fn a_slow_reader_of_stdout_gets_all() {
    let mut command = Launch::new("slow reader").command();
    let child = command.stdin(Stdio::null()).stdout(Stdio::piped());
    let mut child = child.spawn().unwrap();
    let mut stdout = child.stdout.take().unwrap();
    // The reader's lateness.
    thread::sleep(Duration::from_millis(200));
    let mut all = String::new();
    stdout.read_to_string(&mut all).unwrap();
    assert!(child.wait().unwrap().success());
    assert!(all.ends_with("tail"), "{} bytes", all.len());
}

fn a_local_hangs(_: &str) -> ExitCode {
    thread_local!(static LOCAL: Hangs = const { Hangs });
    LOCAL.with(|_| ());
    run(|_| ())
}

fn a_local_of_main_that_hangs_keeps_nobody() {
    Launch::new("a local hangs")
        .start()
        .end()
        .assert(End::Code(0), &["stuck"])
        .assert_within(GOES_ON + PROMPT);
}

fn another_exits(_: &str) -> ExitCode {
    sys::at_exit_hang();
    run(|_| {
        thread::spawn(|| std::process::exit(3));
        hear();
    })
}

fn another_thread_inside_exit_keeps_nobody() {
    let mut program = Launch::new("another exits").start();
    program.expect("stuck");
    program.say("go on");
    program
        .end()
        .assert(End::Code(0), &["stuck"])
        .assert_within(GOES_ON + PROMPT);
}

fn stdout_is_locked(_: &str) -> ExitCode {
    std::mem::forget(std::io::stdout().lock());
    run(|_| ())
}

/// The best of three: nobody waits for a reader.
fn a_lock_on_stdout_holds_up_nobody() {
    let took = (0..3).map(|_| {
        let ended = Launch::new("stdout is locked").start().end();
        ended.assert(End::Code(0), &[]).took
    });
    assert!(took.min() < Some(Duration::from_millis(700)));
}
