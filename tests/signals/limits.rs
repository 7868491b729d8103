//! P15, P13 where the system gives nothing more: no descriptor, no thread.

use std::fs::File;
use std::path::Path;
use std::pin::pin;
use std::process::{Command, ExitCode};
use std::sync::{Arc, mpsc};
use std::task::{Context, Poll, Wake};
use std::thread;
use std::time::Duration;

use libtest_mimic::{Completion, Trial};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use winddown::{HookOptions, HookOutcome, InFlight};

use crate::Scenario;
use crate::child::{FAR, fine, hang, hear, hooks, quick, short, tell, tell_at_stop};
use crate::harness::{End, Launch, PROMPT, Signal, skip, trials};

pub(crate) const SCENARIOS: &[Scenario] = &[
    ("no descriptors", no_descriptors),
    ("no threads", no_threads),
    ("no threads at all", no_threads_at_all),
    ("last words without threads", last_words),
    ("report without the runner", report_without_the_runner),
];

pub(crate) fn tests() -> Vec<Trial> {
    trials![
        without_descriptors_the_hooks_run,
        without_descriptors_the_watchdog_ends_it,
        without_threads_the_hooks_run,
        without_threads_a_hung_hook_is_left_behind,
        without_threads_a_hung_hook_does_not_keep_a_future,
        without_threads_a_hung_hook_keeps_no_emergency_hook,
        without_threads_the_watchdog_ends_it,
        without_threads_the_watchdog_ends_a_hung_hook,
        without_threads_an_installation_is_refused,
        without_threads_the_last_words_are_said,
        without_threads_last_words_that_hang_hold_up_no_drop,
        the_owner_reports_all_where_the_runner_is_stuck,
    ]
}

fn limit(resource: Resource, soft: u64) {
    let maximum = getrlimit(resource).maximum;
    setrlimit(
        resource,
        Rlimit {
            current: Some(soft),
            maximum,
        },
    )
    .unwrap();
}

const GRACE: Duration = Duration::from_secs(2);

fn no_descriptors(how: &str) -> ExitCode {
    let shutdown = quick()
        .grace_period(if how == "watchdog" { GRACE } else { FAR })
        .install()
        .unwrap();
    hooks(&shutdown, &["two", "one"]);
    // What is open stays usable; poll(2) needs the limit to cover it.
    let open = std::fs::read_dir("/proc/self/fd").unwrap();
    let numbers = open.map(|entry| {
        entry
            .unwrap()
            .file_name()
            .to_str()
            .unwrap()
            .parse::<u64>()
            .unwrap()
    });
    limit(Resource::Nofile, numbers.max().unwrap());
    while let Ok(file) = File::open("/dev/null") {
        std::mem::forget(file);
    }
    tell("ready");
    if how == "watchdog" {
        hang();
    }
    let report = shutdown.wait();
    tell(short(report.reason()));
    report.exit()
}

/// P13: whatever the ending needs was opened at the installation.
fn without_descriptors_the_hooks_run() {
    let mut program = Launch::new("no descriptors").ready();
    program.signal(Signal::SIGTERM);
    program
        .end()
        .assert(End::Code(0), &["ready", "one", "two", "SIGTERM"])
        .assert_within(PROMPT);
}

/// P15.
fn without_descriptors_the_watchdog_ends_it() {
    let mut program = Launch::new("no descriptors").argument("watchdog").ready();
    program.signal(Signal::SIGTERM);
    program
        .end()
        .assert(End::Code(124), &["ready", "one", "two"])
        .assert_within(GRACE + PROMPT);
}

/// Until no thread can be had. The limit counts all threads of the user, and there is at least this one.
fn exhaust_threads() {
    limit(Resource::Nproc, 1);
    thread::Builder::new().spawn(|| ()).unwrap_err();
}

fn no_threads(how: &str) -> ExitCode {
    let awaited = how.contains("awaited");
    let shutdown = quick()
        .grace_period(GRACE)
        .exit_on_timeout(!awaited)
        .install()
        .unwrap();
    hooks(&shutdown, &["two", "one"]);
    if how.contains("emergency") {
        shutdown.hook_with(HookOptions::new("terminal").emergency(), || {
            tell("emergency");
        });
    }
    if how.contains("hung hook") {
        let hung = HookOptions::new("hung").timeout(Duration::from_millis(100));
        shutdown.hook_with(hung, || -> () { hang() });
    }
    exhaust_threads();
    tell("ready");
    if how.contains("watchdog") {
        hang();
    }
    let report = if awaited {
        block_on(shutdown.wait_async())
    } else {
        shutdown.wait()
    };
    tell(short(report.reason()));
    for hook in report.hooks() {
        // "No thread could be had" is a word of its own; silence is not.
        assert!(*hook.outcome() != HookOutcome::Skipped || how.starts_with("hung hook"));
        tell(hook.name());
    }
    report.exit()
}

/// Root has no such limit: as nobody, which must be possible, and must be able to run this very file.
fn as_nobody(scenario: &str, argument: &str) -> Result<Launch, Completion> {
    let nobody: &[&str] = if rustix::process::geteuid().is_root() {
        &[
            "setpriv",
            "--reuid=65534",
            "--regid=65534",
            "--clear-groups",
        ]
    } else {
        &["env"]
    };
    let exe = std::env::current_exe().unwrap();
    let probe = Command::new(nobody[0])
        .args(&nobody[1..])
        .arg("test")
        .arg("-x")
        .arg(&exe as &Path)
        .status();
    match probe {
        Ok(status) if status.success() => {
            Ok(Launch::new(scenario).argument(argument).through(nobody))
        }
        other => Err(skip(&format!(
            "cannot run this file as another user: {other:?}"
        ))),
    }
}

macro_rules! or_skip {
    ($launch:expr) => {
        match $launch {
            Ok(launch) => launch,
            Err(skipped) => return skipped,
        }
    };
}

/// P13: the threads that the ending needs are there since the installation.
fn without_threads_the_hooks_run() -> Completion {
    let mut program = or_skip!(as_nobody("no threads", "")).ready();
    program.signal(Signal::SIGTERM);
    program
        .end()
        .assert(
            End::Code(0),
            &["ready", "one", "two", "SIGTERM", "one", "two"],
        )
        .assert_within(PROMPT);
    Completion::Completed
}

/// P15, P14: nobody can take over from the hung thread, or somebody can; either way all are accounted for.
fn without_threads_a_hung_hook_is_left_behind() -> Completion {
    let mut program = or_skip!(as_nobody("no threads", "hung hook")).ready();
    program.signal(Signal::SIGTERM);
    let ended = program.end().assert_within(GRACE + PROMPT);
    assert!(
        [End::Code(1), End::Code(124)].contains(&ended.end),
        "{ended:?}"
    );
    // Main and the watchdog are equally late by then: who is first decides whether there is a report to read.
    let reported: Vec<_> = ended
        .lines
        .iter()
        .skip_while(|line| *line != "SIGTERM")
        .collect();
    assert!(
        reported.is_empty() || reported == ["SIGTERM", "hung", "one", "two"],
        "{ended:?}"
    );
    Completion::Completed
}

/// P15: the runner hangs and nobody ends the process, so the poll that comes too late makes the report.
fn without_threads_a_hung_hook_does_not_keep_a_future() -> Completion {
    let mut program = or_skip!(as_nobody("no threads", "hung hook awaited")).ready();
    program.signal(Signal::SIGTERM);
    program
        .end()
        .assert(End::Code(124), &["ready", "SIGTERM", "hung", "one", "two"])
        .assert_within(GRACE + PROMPT);
    Completion::Completed
}

/// Whoever makes the report calls for it, as its thread is there: an owner that waits, or one that awaits.
fn without_threads_a_hung_hook_keeps_no_emergency_hook() -> Completion {
    for how in ["hung hook emergency", "hung hook awaited emergency"] {
        let mut program = or_skip!(as_nobody("no threads", how)).ready();
        program.signal(Signal::SIGTERM);
        let ended = program.end().assert_within(GRACE + PROMPT);
        assert!(
            ended.lines.iter().any(|line| line == "emergency"),
            "{ended:?}"
        );
    }
    Completion::Completed
}

/// P15.
fn without_threads_the_watchdog_ends_it() -> Completion {
    let mut program = or_skip!(as_nobody("no threads", "watchdog")).ready();
    program.signal(Signal::SIGTERM);
    program
        .end()
        .assert(End::Code(124), &["ready", "one", "two"])
        .assert_within(GRACE + PROMPT);
    Completion::Completed
}

/// P15: the one who runs the hooks is stuck, main never comes back, and the watchdog is left.
fn without_threads_the_watchdog_ends_a_hung_hook() -> Completion {
    let mut program = or_skip!(as_nobody("no threads", "watchdog hung hook")).ready();
    program.signal(Signal::SIGTERM);
    let ended = program.end().assert(End::Code(124), &["ready"]);
    ended.assert_within(GRACE + PROMPT);
    Completion::Completed
}

struct Unpark(thread::Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// An executor that looks again now and then, as a timer makes one.
fn block_on<F: Future>(future: F) -> F::Output {
    let waker = Arc::new(Unpark(thread::current())).into();
    let mut future = pin!(future);
    loop {
        match future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(output) => return output,
            Poll::Pending => thread::park_timeout(Duration::from_millis(50)),
        }
    }
}

fn no_threads_at_all(_: &str) -> ExitCode {
    exhaust_threads();
    let refused = quick().install();
    tell(if refused.is_err() {
        "refused"
    } else {
        "installed"
    });
    hear();
    hang()
}

/// P10: an installation that cannot be had is an error, no panic, and leaves the signals as they were.
fn without_threads_an_installation_is_refused() -> Completion {
    let mut program = or_skip!(as_nobody("no threads at all", "")).start();
    program.expect("refused");
    program.signal(Signal::SIGTERM);
    program.end().assert(End::Signal(15), &["refused"]);
    Completion::Completed
}

/// Dropped with the last words.
struct Captured(String);

impl Drop for Captured {
    fn drop(&mut self) {
        match self.0.as_str() {
            "panics" if !thread::panicking() => panic!("as it must"),
            "hangs" => hang(),
            _ => {}
        }
    }
}

fn last_words(how: &str) -> ExitCode {
    let shutdown = quick().grace_period(GRACE).install().unwrap();
    let captured = Captured(how.to_owned());
    shutdown.on_report(move |_| {
        tell("last words");
        if captured.0 == "stays" {
            hang();
        }
    });
    exhaust_threads();
    let report = shutdown.shutdown();
    if how != "stays" {
        tell(format!("{:?}", report.outcome()));
        assert_eq!(hear(), "go on");
    }
    drop(shutdown);
    fine()
}

/// P15: nobody waits for what the runner itself has to say, and it is said.
fn without_threads_the_last_words_are_said() -> Completion {
    for how in ["return", "panics", "hangs"] {
        let launch = or_skip!(as_nobody("last words without threads", how));
        let mut program = launch.start();
        let mut lines = [program.line(), program.line()];
        lines.sort();
        assert_eq!(lines, ["Clean", "last words"], "{how}");
        program.say("go on");
        let ended = program.end().assert_within(PROMPT);
        assert_eq!(ended.end, End::Code(0), "{how}: {ended:?}");
    }
    Completion::Completed
}

/// P15: nor is the runner waited for when it goes off to say it while the owner goes; whichever of the two is faster.
fn without_threads_last_words_that_hang_hold_up_no_drop() -> Completion {
    for _ in 0..20 {
        let launch = or_skip!(as_nobody("last words without threads", "stays"));
        let ended = launch.start().end().assert_within(PROMPT);
        assert_eq!(ended.end, End::Code(0), "{ended:?}");
    }
    Completion::Completed
}

fn report_without_the_runner(_: &str) -> ExitCode {
    let shutdown = quick()
        .grace_period(GRACE)
        .exit_on_timeout(false)
        .install()
        .unwrap();
    let (gate, closed) = mpsc::channel::<()>();
    // Without a thread to run it on, this is where the runner stays.
    let stay = move |_: &_| assert!(closed.recv().is_err());
    shutdown.token().on_stop(stay).detach();
    let stage = shutdown.stage("stage");
    tell_at_stop(&stage.token(), "stage stopped");
    let own: InFlight<u8> = shutdown.in_flight("own").on_interrupted(|_| ());
    let staged: InFlight<u8> = stage.in_flight("staged").on_interrupted(|_| ());
    let items = [&own, &staged].map(|set| set.reserve().unwrap().fill(0).unwrap());
    let below = stage.token();
    let waiting = thread::spawn(move || below.wait());
    exhaust_threads();
    let report = shutdown.shutdown();
    waiting.join().unwrap();
    for row in report.drained() {
        tell(format_args!("{} {}", row.name(), row.outcome()));
    }
    drop(gate);
    // Told by the runner, which is back.
    assert_eq!(hear(), "go on");
    drop(items);
    fine()
}

/// P20: what is in flight has to be closed before it can be found. P4: the threads of a stage are
/// woken without the runner, which on its return has the rest of the stage to tell.
fn the_owner_reports_all_where_the_runner_is_stuck() -> Completion {
    let mut program = or_skip!(as_nobody("report without the runner", "")).start();
    for line in [
        "own undecided",
        "stage abandoned",
        "staged undecided",
        "on_stop closures abandoned",
    ] {
        program.expect(line);
    }
    program.expect("stage stopped");
    program.say("go on");
    let ended = program.end().assert_within(GRACE + PROMPT);
    assert_eq!(ended.end, End::Code(0), "{ended:?}");
    Completion::Completed
}
