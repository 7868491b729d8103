//! P8, one by one: a program gets stuck in its shutdown, and the second signal ends it.

use std::process::ExitCode;
use std::sync::Arc;
use std::task::{Context, Wake, Waker};
use std::thread;
use std::time::Duration;

use libtest_mimic::Trial;
use winddown::ShutdownCoordinator;

use crate::Scenario;
use crate::child::{
    FAR, fill_stderr, fine, hang, hear, hooks, look_until_stopped, quick, spin, tell, tell_at_stop,
};
use crate::harness::{Launch, Signal, trial};
use crate::sys;

pub(crate) const SCENARIOS: &[Scenario] = &[("stuck", stuck), ("stuck late", stuck_late)];

/// Every way for a program to get stuck in its shutdown, before the hooks are over. No hook named "bottom" may run.
const STUCK: &[(&str, &str)] = &[
    ("a_drain_that_nobody_joins", "loop"),
    ("a_held_drain", "hold"),
    ("a_hung_task", "task"),
    ("a_hung_run", "run"),
    ("a_hung_hook", "hook"),
    ("a_hung_guard", "guard"),
    ("a_hung_on_stop", "on_stop"),
    ("a_hung_waker", "waker"),
    ("a_hung_drop", "drop"),
    ("a_hook_inside_exit", "exit in hook"),
    ("spinning_threads", "spin"),
    ("an_allocating_main", "allocate"),
    ("a_main_that_holds_the_locks_of_std", "locks"),
    ("a_main_that_blocks_in_read", "read"),
    ("a_log_to_a_full_stderr", "stderr log"),
    ("a_hook_that_writes_to_a_full_stderr", "stderr hook"),
];

/// The same, after the hooks have run.
const STUCK_LATE: &[(&str, &str)] = &[
    ("a_hung_on_report", "on_report"),
    ("an_exit_hung_in_atexit", "exit"),
    ("an_exit_after_run_hung_in_atexit", "run"),
];

pub(crate) fn tests() -> Vec<Trial> {
    let early = STUCK
        .iter()
        .map(|&(what, how)| (what, how, "stuck", &["ready", "stuck"][..]));
    let late = STUCK_LATE
        .iter()
        .map(|&(what, how)| (what, how, "stuck late", &["ready", "bottom", "stuck"][..]));
    early
        .chain(late)
        .map(|(what, how, scenario, lines)| {
            trial(format!("second_signal_ends_{what}"), move || {
                second_signal_ends(scenario, how, lines);
            })
        })
        .collect()
}

fn second_signal_ends(scenario: &str, how: &str, lines: &[&str]) {
    let launch = Launch::new(scenario).argument(how);
    let launch = if how.starts_with("stderr") {
        launch.unread_stderr()
    } else {
        launch
    };
    let mut program = launch.ready();
    program.signal(Signal::SIGTERM);
    while program.line() != "stuck" {}
    program.signal(Signal::SIGTERM);
    program.end().assert_forced(Signal::SIGTERM, lines);
}

fn stuck(how: &str) -> ExitCode {
    // A forced exit is none by way of `exit`.
    sys::at_exit_hang();
    if how == "run" {
        let code = quick().run(|shutdown| -> Result<(), String> {
            hooks(shutdown, &["bottom"]);
            tell_at_stop(&shutdown.token(), "stuck");
            tell("ready");
            hang()
        });
        return code;
    }
    let builder = match how {
        // All but the first half second is the hand-back's and the hooks'.
        "hand back" => quick().cleanup_reserve(FAR.saturating_sub(Duration::from_millis(500))),
        _ => quick(),
    };
    let shutdown = builder.install().unwrap();
    hooks(&shutdown, &["bottom"]);
    in_the_drain(how, shutdown);
    fine()
}

/// Something is waited for that never ends.
fn in_the_drain(how: &str, shutdown: ShutdownCoordinator) {
    let token = shutdown.token();
    match how {
        "loop" => {
            tell_at_stop(&token, "stuck");
            tell("ready");
            loop {
                thread::sleep(Duration::from_millis(10));
            }
        }
        "hold" => {
            let _hold = shutdown.hold("held").unwrap();
            tell_at_stop(&token, "stuck");
            tell("ready");
            let _ = shutdown.wait();
        }
        "task" => {
            let _task = shutdown.spawn("task", |_| hang_as_task()).unwrap();
            tell_at_stop(&token, "stuck");
            tell("ready");
            let _ = shutdown.wait();
        }
        "drop" => {
            shutdown.hook("hung", || {
                tell("stuck");
                hang_as_task();
            });
            tell("ready");
            look_until_stopped(&token);
            drop(shutdown);
        }
        _ => in_code_of_the_user(how, &shutdown),
    }
}

/// Something that the shutdown calls never returns.
fn in_code_of_the_user(how: &str, shutdown: &ShutdownCoordinator) {
    let token = shutdown.token();
    match how {
        "hook" => {
            shutdown.hook("hung", || {
                tell("stuck");
                hang();
            });
            tell("ready");
            let _ = shutdown.wait();
        }
        "guard" => {
            let _guard = shutdown.guard("hung", (), |()| {
                tell("stuck");
                hang_as_task();
            });
            tell("ready");
            let _ = shutdown.wait();
        }
        "on_stop" => {
            let _hung = token.on_stop(|_| {
                tell("stuck");
                hang();
            });
            tell("ready");
            let _ = shutdown.wait();
        }
        "waker" => {
            let waker = Waker::from(Arc::new(HungWaker));
            let mut stopped = Box::pin(token.stopped());
            assert!(
                stopped
                    .as_mut()
                    .poll(&mut Context::from_waker(&waker))
                    .is_pending()
            );
            tell("ready");
            let _ = shutdown.wait();
        }
        "exit in hook" => {
            shutdown.hook("exit", || std::process::exit(3));
            tell("ready");
            let _ = shutdown.wait();
        }
        "stderr hook" => {
            fill_stderr();
            shutdown.hook("writes", || {
                tell("stuck");
                eprintln!("nobody reads this");
            });
            tell("ready");
            let _ = shutdown.wait();
        }
        _ => in_main(how, shutdown),
    }
}

/// The main thread has everything but the shutdown on its mind.
fn in_main(how: &str, shutdown: &ShutdownCoordinator) {
    let token = shutdown.token();
    match how {
        "spin" => {
            for _ in 0..4 {
                thread::spawn(|| spin());
            }
            tell_at_stop(&token, "stuck");
            tell("ready");
            spin();
        }
        "allocate" => {
            tell_at_stop(&token, "stuck");
            tell("ready");
            for n in 0_usize.. {
                std::hint::black_box(vec![0_u8; n % 100_000]);
            }
        }
        "locks" => {
            let _out = std::io::stdout().lock();
            let _err = std::io::stderr().lock();
            tell("ready");
            look_until_stopped(&token);
            tell("stuck");
            hang();
        }
        "read" => {
            tell_at_stop(&token, "stuck");
            tell("ready");
            hear();
        }
        "stderr log" => {
            tracing_subscriber::fmt()
                .with_max_level(tracing_subscriber::filter::LevelFilter::TRACE)
                .with_writer(std::io::stderr)
                .init();
            fill_stderr();
            tell("ready");
            look_until_stopped(&token);
            tell("stuck");
            hang();
        }
        _ => panic!("no such way"),
    }
}

/// As `hang`, for places where `!` is no output.
fn hang_as_task() {
    hang();
}

struct HungWaker;

impl Wake for HungWaker {
    fn wake(self: Arc<Self>) {
        tell("stuck");
        hang();
    }
}

fn stuck_late(how: &str) -> ExitCode {
    match how {
        "on_report" => {
            let shutdown = quick().install().unwrap();
            hooks(&shutdown, &["bottom"]);
            shutdown.on_report(|_| {
                tell("stuck");
                hang();
            });
            tell("ready");
            let _ = shutdown.wait();
            fine()
        }
        "exit" => {
            sys::at_exit_hang();
            let shutdown = quick().install().unwrap();
            hooks(&shutdown, &["bottom"]);
            tell("ready");
            let report = shutdown.wait();
            std::process::exit(report.exit_code().into());
        }
        "run" => {
            sys::at_exit_hang();
            quick().run(|shutdown| {
                hooks(shutdown, &["bottom"]);
                tell("ready");
                shutdown.token().wait();
                Ok::<_, String>(())
            })
        }
        _ => panic!("no such way"),
    }
}
