//! Ctrl-C typed on a terminal, as a shell and its user see it.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::process::{Command, ExitCode, Stdio};
use std::thread;
use std::time::Instant;

use libtest_mimic::Trial;
use nix::pty::openpty;
use nix::sys::termios::{LocalFlags, SetArg, tcgetattr, tcsetattr};
use winddown::{Origin, StopReason};

use crate::Scenario;
use crate::child::{hang, hooks, quick, tell};
use crate::harness::{End, HANG_UP, Launch, PATIENCE, PROMPT, Program, Signal, trials};

pub(crate) const SCENARIOS: &[Scenario] = &[("terminal", terminal)];

pub(crate) fn tests() -> Vec<Trial> {
    trials![
        one_ctrl_c_ends_a_shell_loop,
        sigterm_to_the_program_does_not_end_a_shell_loop,
        ctrl_c_comes_from_the_terminal,
        the_second_ctrl_c_forces,
        two_ctrl_c_end_a_shell_loop,
        ctrl_c_twice_by_a_forwarding_parent_is_one_request,
        a_hang_up_of_the_terminal_runs_the_hooks,
    ]
}

const CTRL_C: &[u8] = b"\x03";

/// Starts a command as the leader of a new session on a terminal of its own, which does not echo.
fn on_a_terminal(launch: &Launch, command: &[&str]) -> Program {
    let pty = openpty(None, None).unwrap();
    let mut settings = tcgetattr(&pty.slave).unwrap();
    settings.local_flags.remove(LocalFlags::ECHO);
    tcsetattr(&pty.slave, SetArg::TCSANOW, &settings).unwrap();
    // Nobody else may hold the master: the hang-up would not come. A copy for reading, a copy for typing.
    for end in [&pty.master, &pty.slave] {
        nix::fcntl::fcntl(
            end,
            nix::fcntl::FcntlArg::F_SETFD(nix::fcntl::FdFlag::FD_CLOEXEC),
        )
        .unwrap();
    }
    let template = launch.command();
    let mut arguments = template.get_args();
    let default_signal = arguments.next().unwrap();
    let mut command_line = Command::new(template.get_program());
    command_line
        .arg(default_signal)
        .args(["setsid", "--ctty"])
        .args(command)
        .args(arguments);
    for (name, value) in template.get_envs() {
        match value {
            Some(value) => command_line.env(name, value),
            None => command_line.env_remove(name),
        };
    }
    let slave = |fd: &OwnedFd| Stdio::from(fd.try_clone().unwrap());
    command_line
        .stdin(slave(&pty.slave))
        .stdout(slave(&pty.slave))
        .stderr(slave(&pty.slave));
    let child = command_line.spawn().unwrap();
    drop((command_line, pty.slave));
    let typing = File::from(pty.master.try_clone().unwrap());
    Program::new(child, Box::new(typing), File::from(pty.master))
}

/// Waits until a shell waits for its program: before that, a Ctrl-C is the shell's own affair.
fn until_it_waits(shell: &Program) {
    let deadline = Instant::now() + PATIENCE;
    let stat = format!("/proc/{}/stat", shell.pid());
    // Behind the name, in parentheses, comes the state; there is nothing else that it sleeps for.
    while !std::fs::read_to_string(&stat).unwrap().contains(") S ") {
        assert!(Instant::now() < deadline, "the shell does not wait");
        thread::yield_now();
    }
}

/// The program three times, in a shell's loop.
const LOOP: &[&str] = &[
    "bash",
    "-c",
    r#"for i in 1 2 3; do "$0"; done; echo "loop over""#,
];

fn terminal(how: &str) -> ExitCode {
    let builder = quick().signals([
        winddown::Signal::INT,
        winddown::Signal::TERM,
        winddown::Signal::HUP,
    ]);
    let builder = if how == "forwarded" {
        builder.debounce(crate::child::FAR)
    } else {
        builder
    };
    let shutdown = builder.install().unwrap();
    hooks(&shutdown, &["hook"]);
    if how == "stuck" {
        shutdown.hook("hung", || -> () {
            tell("stuck");
            hang()
        });
    }
    if how == "forwarded" {
        shutdown.hook("waits", || {
            tell("waits");
            crate::child::hear();
        });
    }
    if let Some(path) = how.strip_prefix("hang up ") {
        let (path, token) = (path.to_owned(), shutdown.token());
        shutdown.hook("writes", move || {
            std::fs::write(path, origin(&token.reason().unwrap()))
        });
        shutdown.hook("prints", || println!("nobody is there"));
        tell(HANG_UP);
    }
    tell("ready");
    let report = shutdown.wait();
    tell(origin(report.reason()));
    if how == "read" || how == "forwarded" {
        // When the leader of a session dies, the system throws away what nobody has read yet.
        crate::child::hear();
    }
    report.exit()
}

fn origin(reason: &StopReason) -> &'static str {
    match reason {
        StopReason::Signal(received) => match received.origin {
            Origin::Terminal => "terminal",
            Origin::Process { .. } => "process",
            _ => "unknown",
        },
        _ => "no signal",
    }
}

/// The exit policy's second row: the shell sees that its user wanted an end, and the second program is never started.
fn one_ctrl_c_ends_a_shell_loop() {
    let mut shell = on_a_terminal(&Launch::new("terminal").argument("read"), LOOP);
    shell.expect("ready");
    until_it_waits(&shell);
    shell.type_in(CTRL_C);
    shell.expect("hook");
    shell.expect("terminal");
    shell.say("read");
    shell.end().assert(
        End::Signal(Signal::SIGINT as i32),
        &["ready", "hook", "terminal"],
    );
}

/// The sentinel to the test above: with an end that is none by SIGINT, a loop goes on.
fn sigterm_to_the_program_does_not_end_a_shell_loop() {
    let mut shell = on_a_terminal(&Launch::new("terminal"), LOOP);
    let pid = shell.pid();
    for _ in 0..3 {
        shell.expect("ready");
        let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap();
        shell.aim(nix::unistd::Pid::from_raw(children.trim().parse().unwrap()));
        shell.signal(Signal::SIGTERM);
        shell.expect("hook");
        shell.expect("process");
    }
    shell.expect("loop over");
    assert_eq!(shell.end().end, End::Code(0));
}

/// `Origin::Terminal`.
fn ctrl_c_comes_from_the_terminal() {
    let mut program = on_a_terminal(&Launch::new("terminal").argument("read"), &[]);
    program.expect("ready");
    program.type_in(CTRL_C);
    program.expect("hook");
    program.expect("terminal");
    program.say("read");
    program.end().assert(
        End::Signal(Signal::SIGINT as i32),
        &["ready", "hook", "terminal"],
    );
}

/// P8.
fn the_second_ctrl_c_forces() {
    let mut program = on_a_terminal(&Launch::new("terminal").argument("stuck"), &[]);
    program.expect("ready");
    program.type_in(CTRL_C);
    program.expect("stuck");
    program.type_in(CTRL_C);
    program
        .end()
        .assert_forced(Signal::SIGINT, &["ready", "stuck"])
        .assert_within(PROMPT);
}

/// P8, as the user of the loop wants it: who presses twice does not want the second program, either.
fn two_ctrl_c_end_a_shell_loop() {
    let mut shell = on_a_terminal(&Launch::new("terminal").argument("stuck"), LOOP);
    shell.expect("ready");
    until_it_waits(&shell);
    shell.type_in(CTRL_C);
    shell.expect("stuck");
    shell.type_in(CTRL_C);
    shell
        .end()
        .assert_forced(Signal::SIGINT, &["ready", "stuck"]);
}

/// P7: one key, two deliveries.
fn ctrl_c_twice_by_a_forwarding_parent_is_one_request() {
    let mut program = on_a_terminal(&Launch::new("terminal").argument("forwarded"), &[]);
    program.expect("ready");
    program.type_in(CTRL_C);
    program.expect("waits");
    program.signal(Signal::SIGINT);
    program.say("go");
    program.expect("hook");
    program.expect("terminal");
    program.say("read");
    let lines = ["ready", "waits", "hook", "terminal"];
    program
        .end()
        .assert(End::Signal(Signal::SIGINT as i32), &lines);
}

/// P13, P14: a hook that prints has lost its terminal, the next one runs all the same.
fn a_hang_up_of_the_terminal_runs_the_hooks() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("hook");
    let argument = format!("hang up {}", path.display());
    let mut program = on_a_terminal(&Launch::new("terminal").argument(&argument), &[]);
    program.expect(HANG_UP);
    program.hang_up();
    let ended = program.end();
    assert!(matches!(ended.end, End::Code(0 | 1 | 101)), "{ended:?}");
    assert_eq!(std::fs::read_to_string(path).unwrap(), "terminal");
}
