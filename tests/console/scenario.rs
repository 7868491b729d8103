//! The programs under test.

use std::path::Path;
use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant};

use winddown::{Console, Escalation, HookOptions, ShutdownBuilder, ShutdownCoordinator, Signal};

use crate::FAR;
use crate::process::until;

pub(crate) fn play(name: &str) -> ExitCode {
    let argument = std::env::args().nth(1).unwrap_or_default();
    match name {
        "held" => held(console(), &argument),
        "patient" => held(console().debounce(Duration::from_secs(3)), &argument),
        "never" => held(console().escalation(Escalation::Never), &argument),
        "term only" => held(console().signals([Signal::TERM]), &argument),
        "raw" => {
            use nix::sys::termios::{SetArg, cfmakeraw, tcgetattr, tcsetattr};
            let mut raw = tcgetattr(std::io::stdin()).unwrap();
            cfmakeraw(&mut raw);
            tcsetattr(std::io::stdin(), SetArg::TCSANOW, &raw).unwrap();
            held(console(), &argument)
        }
        "programmatic" => console().run(|shutdown| {
            let argument = argument.clone();
            let work = move |_| work(&argument);
            drop(shutdown.spawn("worker", work).unwrap());
            ready();
            shutdown.stop("enough");
            Ok::<_, String>(())
        }),
        "speaks" => console().run(|shutdown| {
            shutdown.hook("speaks", || {
                for line in ["one", "two", "three"] {
                    // Long enough for the line to be drawn in between.
                    thread::sleep(Duration::from_millis(600));
                    say(line);
                }
            });
            ready();
            shutdown.token().wait();
            Ok::<_, String>(())
        }),
        "emergency" => console().run(|shutdown| {
            let options = HookOptions::new("emergency").emergency();
            shutdown.hook_with(options, || thread::sleep(FAR));
            let gate = argument.clone();
            drop(shutdown.spawn("worker", move |_| work(&gate)).unwrap());
            ready();
            shutdown.token().wait();
            Ok::<_, String>(())
        }),
        "fast" => console().run(|shutdown| {
            ready();
            shutdown.token().wait();
            Ok::<_, String>(())
        }),
        "fails" => console().run(|shutdown| {
            shutdown.hook("flush", || Err::<(), _>("disk full"));
            ready();
            shutdown.token().wait();
            Err::<(), _>("it went wrong")
        }),
        "fails by hand" => {
            let shutdown = console().install().unwrap();
            shutdown.hook("flush", || Err::<(), _>("disk full"));
            shutdown.shutdown().exit()
        }
        "nobody comes" => {
            let shutdown = console()
                .grace_period(Duration::from_millis(500))
                .install()
                .unwrap();
            shutdown.stop("enough");
            loop {
                thread::park();
            }
        }
        "full" => full(&argument),
        "threads" => {
            let shutdown = if argument == "console" {
                console().install().unwrap()
            } else {
                ShutdownCoordinator::install().unwrap()
            };
            say(std::fs::read_dir("/proc/self/task").unwrap().count());
            drop(shutdown);
            ExitCode::SUCCESS
        }
        "cost" => crate::cost::measure(),
        _ => panic!("no scenario {name}"),
    }
}

fn console() -> ShutdownBuilder {
    ShutdownCoordinator::builder()
        .grace_period(FAR)
        .console(Console::stderr())
}

/// In one piece.
pub(crate) fn say(line: impl std::fmt::Display) {
    let line = format!("{line}\n");
    rustix::io::write(rustix::stdio::stdout(), line.as_bytes()).unwrap();
}

/// With its number, since a shell may stand between it and the test.
fn ready() {
    say(format!("ready {}", std::process::id()));
}

/// A task that is there until there is a file.
fn held(builder: ShutdownBuilder, gate: &str) -> ExitCode {
    builder.run(|shutdown| {
        let gate = gate.to_owned();
        drop(shutdown.spawn("worker", move |_| work(&gate)).unwrap());
        ready();
        shutdown.token().wait();
        Ok::<_, String>(())
    })
}

fn work(gate: &str) {
    winddown::say_progress("rows", 3, 9);
    until("the gate", || Path::new(gate).exists());
}

/// A stderr that nobody reads: how long the shutdown takes.
fn full(argument: &str) -> ExitCode {
    use nix::fcntl::{FcntlArg, OFlag, fcntl};
    let stderr = rustix::stdio::stderr();
    let flags = OFlag::from_bits_retain(fcntl(stderr, FcntlArg::F_GETFL).unwrap());
    fcntl(stderr, FcntlArg::F_SETFL(flags | OFlag::O_NONBLOCK)).unwrap();
    for size in [4096, 1] {
        let block = vec![b'.'; size];
        while rustix::io::write(stderr, &block).is_ok() {}
    }
    fcntl(stderr, FcntlArg::F_SETFL(flags)).unwrap();

    let mut builder = ShutdownCoordinator::builder().grace_period(FAR);
    if argument.contains("console") {
        builder = builder.console(Console::stderr());
    }
    let shutdown = builder.install().unwrap();
    if argument.contains("slow") {
        shutdown.hook("slow", || thread::sleep(Duration::from_millis(700)));
    }
    let start = Instant::now();
    let report = shutdown.shutdown();
    say(start.elapsed().as_micros());
    report.exit()
}
