//! Programs of their own: signals, blocked workers, and the end of the process.

use std::future::pending;
use std::process::ExitCode;
use std::time::Duration;

use libtest_mimic::Trial;
use winddown::ShutdownCoordinator;

use crate::Scenario;
use crate::child::{FAR, hang, quick, tell};
use crate::harness::{End, Launch, PROMPT, Signal, trials};

pub(crate) const SCENARIOS: &[Scenario] = &[
    ("run", run),
    ("blocked", blocked),
    ("before the first await", before_the_first_await),
    ("one thread", one_thread),
    ("before the start", before_the_start),
    ("subsystem", subsystem),
    ("left behind", left_behind),
];

pub(crate) fn tests() -> Vec<Trial> {
    trials![
        run_async_is_the_whole_ending,
        an_error_of_run_async_is_status_1,
        a_stopped_of_run_async_is_no_failure,
        a_panic_in_run_async_is_101,
        a_future_that_never_looks_is_dropped_and_the_hooks_run,
        a_spawn_blocking_that_hangs_keeps_nobody,
        a_main_future_that_blocks_ends_with_the_grace_period,
        p8_a_second_signal_ends_it_while_all_workers_are_blocked,
        p15_an_owner_whose_executor_hangs_is_given_up,
        p8_a_second_signal_ends_a_current_thread_runtime_that_is_blocked,
        a_signal_before_the_first_await_is_seen,
        p15_a_stop_before_run_async_has_begun_still_ends_its_future,
        p15_a_subsystem_that_blocks_its_worker_is_named_and_left_behind,
        p15_a_subsystem_that_blocks_the_only_worker_ends_with_the_grace_period,
        p8_a_second_signal_ends_a_subsystem_that_blocks_its_worker,
        a_spawn_blocking_that_hangs_is_left_behind_by_exit,
        p15_a_spawn_blocking_with_a_hold_is_named_and_left_behind,
    ]
}

const GRACE: Duration = Duration::from_secs(2);

struct TellsAtDrop;

impl Drop for TellsAtDrop {
    fn drop(&mut self) {
        tell("dropped");
    }
}

fn run(how: &str) -> ExitCode {
    let how = how.to_owned();
    quick()
        .grace_period(if how.starts_with("never") || how == "blocks" {
            GRACE
        } else {
            FAR
        })
        .run_async(async |shutdown| {
            shutdown.hook_async("hook", async {
                tokio::time::sleep(Duration::from_millis(1)).await;
                tell("hook");
            });
            if how == "blocking" {
                tokio::task::spawn_blocking(|| hang());
            }
            tell("ready");
            match how.as_str() {
                "fails" => return Err("no such file".into()),
                "panics" => panic!("on purpose"),
                "never looks" => {
                    let _dropped = TellsAtDrop;
                    pending::<()>().await;
                }
                "blocks" => hang(),
                _ => {}
            }
            shutdown.token().stopped().await;
            tell("stopped");
            if how == "checks" {
                shutdown.token().check()?;
            }
            Ok::<_, Box<dyn std::error::Error>>(())
        })
}

fn run_async_is_the_whole_ending() {
    let mut program = Launch::new("run").ready();
    program.signal(Signal::SIGTERM);
    program
        .end()
        .assert(End::Code(0), &["ready", "stopped", "hook"])
        .assert_within(PROMPT);
}

fn an_error_of_run_async_is_status_1() {
    let program = Launch::new("run").argument("fails").ready();
    program.end().assert(End::Code(1), &["ready", "hook"]);
}

fn a_stopped_of_run_async_is_no_failure() {
    let mut program = Launch::new("run").argument("checks").ready();
    program.signal(Signal::SIGTERM);
    program
        .end()
        .assert(End::Code(0), &["ready", "stopped", "hook"]);
}

fn a_panic_in_run_async_is_101() {
    let program = Launch::new("run").argument("panics").ready();
    program.end().assert(End::Code(101), &["ready", "hook"]);
}

fn a_future_that_never_looks_is_dropped_and_the_hooks_run() {
    let mut program = Launch::new("run").argument("never looks").ready();
    program.signal(Signal::SIGTERM);
    program
        .end()
        .assert(End::Code(1), &["ready", "dropped", "hook"])
        .assert_within(GRACE + PROMPT);
}

fn a_spawn_blocking_that_hangs_keeps_nobody() {
    let mut program = Launch::new("run").argument("blocking").ready();
    program.signal(Signal::SIGTERM);
    program
        .end()
        .assert(End::Code(0), &["ready", "stopped", "hook"])
        .assert_within(PROMPT);
}

/// P15: the owner never comes back, and its hooks run all the same.
fn a_main_future_that_blocks_ends_with_the_grace_period() {
    let mut program = Launch::new("run").argument("blocks").ready();
    program.signal(Signal::SIGTERM);
    program
        .end()
        .assert(End::Code(124), &["ready", "hook"])
        .assert_within(GRACE + PROMPT);
}

/// Every worker blocks at the stop, or the one that awaits the report.
fn blocked(how: &str) -> ExitCode {
    let runtime = crate::multi_thread();
    let shutdown = quick()
        .grace_period(if how == "await" { GRACE } else { FAR })
        .install()
        .unwrap();
    let token = shutdown.token();
    if how == "await" {
        // The last thing that its executor does before it hangs: the owner is here, and never fetches the report.
        let report = shutdown.wait_async();
        runtime.spawn(async move {
            let mut report = std::pin::pin!(report);
            let stopped = token.stopped().await;
            let polled =
                std::future::poll_fn(|cx| std::task::Poll::Ready(report.as_mut().poll(cx)));
            assert!(polled.await.is_pending(), "{stopped}");
            tell("awaits");
            hang();
        });
        shutdown.hook("hook", || tell("hook"));
        tell("ready");
        hang();
    }
    let hold = shutdown.hold("for the second signal").unwrap();
    for _ in 0..2 {
        let token = token.clone();
        runtime.spawn(async move {
            token.stopped().await;
            tell("blocked");
            hang();
        });
    }
    tell("ready");
    let report = runtime.block_on(shutdown.wait_async());
    drop(hold);
    report.exit()
}

fn p8_a_second_signal_ends_it_while_all_workers_are_blocked() {
    let mut program = Launch::new("blocked").ready();
    program.signal(Signal::SIGINT);
    program.expect("blocked");
    program.expect("blocked");
    program.signal(Signal::SIGINT);
    let lines = ["ready", "blocked", "blocked"];
    program.end().assert_forced(Signal::SIGINT, &lines);
}

fn p15_an_owner_whose_executor_hangs_is_given_up() {
    let mut program = Launch::new("blocked").argument("await").ready();
    program.signal(Signal::SIGTERM);
    program
        .end()
        .assert(End::Code(124), &["ready", "awaits", "hook"])
        .assert_within(GRACE + PROMPT);
}

/// A `current_thread` runtime in the middle of something that blocks.
fn one_thread(_: &str) -> ExitCode {
    let shutdown = quick().install().unwrap();
    shutdown.token().on_stop(|_| tell("stopping")).detach();
    crate::current_thread().block_on(async {
        tell("ready");
        hang();
    })
}

fn p8_a_second_signal_ends_a_current_thread_runtime_that_is_blocked() {
    let mut program = Launch::new("one thread").ready();
    program.signal(Signal::SIGINT);
    program.expect("stopping");
    program.signal(Signal::SIGINT);
    program
        .end()
        .assert_forced(Signal::SIGINT, &["ready", "stopping"]);
}

fn before_the_first_await(kind: &str) -> ExitCode {
    let runtime = runtime(kind);
    let shutdown: ShutdownCoordinator = quick().install().unwrap();
    tell("ready");
    // Only a line that was read says that the signal has been sent, and so delivered.
    crate::child::hear();
    runtime.block_on(async {
        let report = shutdown.wait_async().await;
        tell("awaited");
        report.exit()
    })
}

fn a_signal_before_the_first_await_is_seen() {
    for kind in ["current_thread", "multi_thread"] {
        let mut program = Launch::new("before the first await").argument(kind).ready();
        program.signal(Signal::SIGTERM);
        program.say("go on");
        program
            .end()
            .assert(End::Code(0), &["ready", "awaited"])
            .assert_within(PROMPT);
    }
}

/// The signal is there before the program is: it is delivered by the installation, and so before the future begins.
fn before_the_start(_: &str) -> ExitCode {
    use nix::sys::signal::{SigSet, kill};
    let mut term = SigSet::empty();
    term.add(Signal::SIGTERM);
    term.thread_block().unwrap();
    kill(nix::unistd::Pid::this(), Signal::SIGTERM).unwrap();
    quick().grace_period(GRACE).run_async(async |shutdown| {
        shutdown.hook_async("hook", async { tell("hook") });
        tell("ready");
        let _dropped = TellsAtDrop;
        pending::<()>().await;
        Ok::<_, String>(())
    })
}

fn p15_a_stop_before_run_async_has_begun_still_ends_its_future() {
    // At the same time: they mostly wait.
    let programs: Vec<_> = (0..10)
        .map(|_| Launch::new("before the start").ready())
        .collect();
    for program in programs {
        program
            .end()
            .assert(End::Code(1), &["ready", "dropped", "hook"])
            .assert_within(GRACE + PROMPT);
    }
}

fn runtime(kind: &str) -> tokio::runtime::Runtime {
    if kind.contains("current_thread") {
        crate::current_thread()
    } else {
        crate::multi_thread()
    }
}

/// A task that blocks the worker which drives it, and never comes back.
fn subsystem(kind: &str) -> ExitCode {
    let shutdown = quick()
        .grace_period(if kind.contains("twice") { FAR } else { GRACE })
        .install()
        .unwrap();
    shutdown.hook("hook", || tell("hook"));
    shutdown.on_report(|report| {
        for left in report.abandoned() {
            tell(left.name());
        }
    });
    runtime(kind).block_on(async {
        shutdown
            .spawn_async("subsystem", async |token| -> () {
                token.stopped().await;
                tell("blocks");
                hang()
            })
            .unwrap();
        tell("ready");
        shutdown.wait_async().await.exit()
    })
}

/// P21: it has all the time there is to drain; then the hooks run, and the report has its name.
fn p15_a_subsystem_that_blocks_its_worker_is_named_and_left_behind() {
    let mut program = Launch::new("subsystem").argument("multi_thread").ready();
    program.signal(Signal::SIGTERM);
    program
        .end()
        .assert(End::Code(1), &["ready", "blocks", "hook", "subsystem"])
        .assert_within(GRACE + PROMPT);
}

/// The owner awaits the report on that very worker, and so does not come back either.
fn p15_a_subsystem_that_blocks_the_only_worker_ends_with_the_grace_period() {
    let mut program = Launch::new("subsystem").argument("current_thread").ready();
    program.signal(Signal::SIGTERM);
    let ended = program.end().assert_within(GRACE + PROMPT);
    assert_eq!(ended.end, End::Code(124), "{ended:?}");
    assert_eq!(ended.lines[..3], ["ready", "blocks", "hook"], "{ended:?}");
    assert!(
        ended.lines[3..].iter().any(|line| line == "subsystem"),
        "{ended:?}"
    );
}

fn p8_a_second_signal_ends_a_subsystem_that_blocks_its_worker() {
    for kind in ["current_thread twice", "multi_thread twice"] {
        let mut program = Launch::new("subsystem").argument(kind).ready();
        program.signal(Signal::SIGINT);
        program.expect("blocks");
        program.signal(Signal::SIGINT);
        program
            .end()
            .assert_forced(Signal::SIGINT, &["ready", "blocks"]);
    }
}

/// `spawn_blocking`, bare, or with a hold so that it is waited for.
fn left_behind(how: &str) -> ExitCode {
    let shutdown = quick()
        .grace_period(if how.contains("hold") { GRACE } else { FAR })
        .install()
        .unwrap();
    shutdown.on_report(|report| {
        for left in report.abandoned() {
            tell(left.name());
        }
    });
    runtime(how).block_on(async {
        let hold = how
            .contains("hold")
            .then(|| shutdown.hold("blocking work").unwrap());
        let (begins, has_begun) = tokio::sync::oneshot::channel();
        tokio::task::spawn_blocking(move || {
            let _hold = hold;
            begins.send(()).unwrap();
            hang()
        });
        has_begun.await.unwrap();
        tell("ready");
        shutdown.wait_async().await.exit()
    })
}

fn a_spawn_blocking_that_hangs_is_left_behind_by_exit() {
    for kind in ["current_thread", "multi_thread"] {
        let mut program = Launch::new("left behind").argument(kind).ready();
        program.signal(Signal::SIGTERM);
        program
            .end()
            .assert(End::Code(0), &["ready"])
            .assert_within(PROMPT);
    }
}

fn p15_a_spawn_blocking_with_a_hold_is_named_and_left_behind() {
    for kind in ["current_thread, hold", "multi_thread, hold"] {
        let mut program = Launch::new("left behind").argument(kind).ready();
        program.signal(Signal::SIGTERM);
        program
            .end()
            .assert(End::Code(1), &["ready", "blocking work"])
            .assert_within(GRACE + PROMPT);
    }
}
