//! Who it was: the reason tells the name of the process that sent the signal.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::symlink;
use std::process::{Child, Command, ExitCode, Stdio};
use std::thread;
use std::time::Instant;

use libtest_mimic::{Completion, Trial};
use nix::sys::signal::raise;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use winddown::{Escalation, SignalReceived, StopReason};

use crate::Scenario;
use crate::child::{hear, quick, tell};
use crate::harness::{End, Launch, PATIENCE, Program, Signal, skip, trials};

pub(crate) const SCENARIOS: &[Scenario] = &[("sender", sender)];

pub(crate) fn tests() -> Vec<Trial> {
    trials![
        the_reason_names_the_sender,
        a_sender_cannot_forge_a_line,
        a_sender_that_has_gone_has_no_name,
        a_later_signal_is_named_too,
        no_name_is_taken_from_another_pid_namespace,
    ]
}

fn uid() -> u32 {
    rustix::process::getuid().as_raw()
}

fn received(reason: &StopReason) -> SignalReceived {
    match reason {
        StopReason::Signal(received) => *received,
        other => panic!("{other:?}"),
    }
}

fn sender(how: &str) -> ExitCode {
    let shutdown = quick().escalation(Escalation::Never).install().unwrap();
    let token = shutdown.token();
    tell("ready");
    if how == "itself" {
        raise(Signal::SIGTERM).unwrap();
    }
    let seen = received(&token.wait());
    tell(seen);
    tell(seen.sender_name().unwrap_or("nobody known"));
    if how == "asks again" {
        assert_eq!(hear(), "gone");
    }
    let report = shutdown.wait();
    // P3, to the letter: the sender may be gone by now.
    assert_eq!(report.reason().to_string(), seen.to_string());
    for later in report.later_reasons() {
        tell(later);
    }
    report.exit()
}

/// A shell under another name that sends SIGTERM, and lives on until its input is closed.
fn send_as(name: &[u8], target: Pid) -> (Child, tempfile::TempDir) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(OsStr::from_bytes(name));
    symlink("/bin/sh", &path).unwrap();
    let mut shell = Command::new(path);
    shell
        .arg("-c")
        .arg(format!("kill -s TERM {target}; read _ || :"))
        .stdin(Stdio::piped());
    (shell.spawn().unwrap(), dir)
}

/// Lets the sender go, and waits until it has.
fn gone(mut sender: Child) -> u32 {
    drop(sender.stdin.take());
    assert!(sender.wait().unwrap().success());
    sender.id()
}

fn the_reason_names_the_sender() {
    let mut program = Launch::new("sender").argument("asks again").ready();
    let (sender, _dir) = send_as(b"docker-init", program.pid());
    program.signalled();
    let (pid, uid) = (sender.id(), uid());
    let line = format!("SIGTERM from pid {pid} (docker-init), uid {uid}");
    program.expect(&line);
    program.expect("docker-init");
    // The name stays, when whose it was does not.
    gone(sender);
    program.say("gone");
    program
        .end()
        .assert(End::Code(0), &["ready", &line, "docker-init"]);
}

/// A process names itself as it likes: what it is called cannot look like the rest of the line, or drive a terminal.
fn a_sender_cannot_forge_a_line() {
    for (name, shown) in [
        (&b"(sd-pam)"[..], "[sd-pam]"),
        (b"x), uid 0", "x], uid 0"),
        (b"\x1b[31mred\x07", "?[31mred?"),
        (b"two\nlines", "two?lines"),
        ("fünfzehn-und-äöü".as_bytes(), "fünfzehn-und-?"),
        (b"bad\xff\xfebytes", "bad??bytes"),
        ("left\u{202e}right".as_bytes(), "left?right"),
        (b"longer-than-the-system-keeps", "longer-than-the"),
    ] {
        let mut program = Launch::new("sender").ready();
        let (sender, _dir) = send_as(name, program.pid());
        program.signalled();
        let (pid, uid) = (sender.id(), uid());
        program.expect(&format!("SIGTERM from pid {pid} ({shown}), uid {uid}"));
        program.expect(shown);
        gone(sender);
        assert_eq!(program.end().end, End::Code(0));
    }
}

/// Stops the program as `SIGSTOP` does: nothing of it runs until `SIGCONT`.
pub(crate) fn freeze(program: &mut Program) {
    program.signal(Signal::SIGSTOP);
    let deadline = Instant::now() + PATIENCE;
    let flags = WaitPidFlag::WUNTRACED | WaitPidFlag::WNOHANG;
    while waitpid(program.pid(), Some(flags)).unwrap()
        != WaitStatus::Stopped(program.pid(), Signal::SIGSTOP)
    {
        assert!(Instant::now() < deadline, "did not stop");
        thread::yield_now();
    }
}

fn a_sender_that_has_gone_has_no_name() {
    let mut program = Launch::new("sender").ready();
    freeze(&mut program);
    let (sender, _dir) = send_as(b"short-lived", program.pid());
    let pid = gone(sender);
    program.signal(Signal::SIGCONT);
    let line = format!("SIGTERM from pid {pid}, uid {}", uid());
    program
        .end()
        .assert(End::Code(0), &["ready", &line, "nobody known"]);
}

fn a_later_signal_is_named_too() {
    let mut program = Launch::new("sender").argument("asks again").ready();
    let (first, _first_dir) = send_as(b"first", program.pid());
    let uid = uid();
    let line = format!("SIGTERM from pid {} (first), uid {uid}", first.id());
    program.expect(&line);
    program.expect("first");
    program.signal(Signal::SIGINT);
    let this = std::fs::read_to_string("/proc/self/comm").unwrap();
    let later = format!(
        "SIGINT from pid {} ({}), uid {uid}",
        std::process::id(),
        this.trim_end()
    );
    program.say("gone");
    program
        .end()
        .assert(End::Code(0), &["ready", &line, "first", &later]);
    gone(first);
}

/// Without a `/proc` of its own, the pids that it shows are not those that the signals tell.
fn no_name_is_taken_from_another_pid_namespace() -> Completion {
    let unshare: &[&str] = &[
        "unshare",
        "--user",
        "--map-root-user",
        "--pid",
        "--fork",
        "--kill-child",
    ];
    match Command::new(unshare[0])
        .args(&unshare[1..])
        .arg("true")
        .output()
    {
        Ok(output) if output.status.success() => {}
        other => return skip(&format!("no pid namespace here: {other:?}")),
    }
    let launch = Launch::new("sender").argument("itself").through(unshare);
    let line = "SIGTERM from pid 1, uid 0";
    launch
        .start()
        .end()
        .assert(End::Code(0), &["ready", line, "nobody known"]);
    Completion::Completed
}
