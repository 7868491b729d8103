//! The test's side of a child process: start, talk, signal, and examine how it ended.
//!
//! Every wait is bounded by [`PATIENCE`]; a child that overruns is killed, reaped, and the test fails with all that the
//! child said. Whatever way a test ends, its child is reaped.

use std::fmt::Write as _;
use std::io::{BufRead as _, BufReader, Read, Write};
use std::os::fd::AsFd as _;
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Child, ChildStderr, Command, ExitCode, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use libtest_mimic::{Arguments, Completion, Trial};
use nix::poll::{PollFd, PollFlags, PollTimeout};
pub(crate) use nix::sys::signal::Signal;
use nix::unistd::Pid;

/// How long a test waits for anything that should happen at once.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// Far more than any ending without hanging parts takes on a loaded machine, far less than any grace period left to
/// run its course in these tests.
pub(crate) const PROMPT: Duration = Duration::from_secs(8);

/// Said by a program on a terminal that wants to be hung up.
pub(crate) const HANG_UP: &str = "hang up";

/// The scenario of this process; without it, the process is the runner.
pub(crate) const SCENARIO: &str = "WINDDOWN_SCENARIO";
/// What the scenario is to vary.
pub(crate) const ARGUMENT: &str = "WINDDOWN_ARGUMENT";

/// What a test gives back: nothing, or that it could not be run here.
pub(crate) trait Verdict {
    fn verdict(self) -> Completion;
}

impl Verdict for () {
    fn verdict(self) -> Completion {
        Completion::Completed
    }
}

impl Verdict for Completion {
    fn verdict(self) -> Completion {
        self
    }
}

/// One line of the list of tests.
pub(crate) fn trial<V: Verdict>(
    name: impl Into<String>,
    test: impl FnOnce() -> V + Send + 'static,
) -> Trial {
    Trial::ignorable_test(name, move || Ok(test().verdict()))
}

/// The tests of a file, by the names of their functions.
macro_rules! trials {
    ($($test:ident),* $(,)?) => { vec![$($crate::harness::trial(stringify!($test), $test)),*] };
}
pub(crate) use trials;

/// Runs them, with as many threads as libtest would take.
pub(crate) fn run(tests: impl IntoIterator<Item = Vec<Trial>>) -> ExitCode {
    let mut arguments = Arguments::from_args();
    let threads = || std::env::var("RUST_TEST_THREADS").ok()?.parse().ok();
    arguments.test_threads = arguments.test_threads.or_else(threads);
    libtest_mimic::run(&arguments, tests.into_iter().flatten().collect()).exit_code()
}

/// Says why a test cannot be run here.
pub(crate) fn skip(reason: &str) -> Completion {
    eprintln!("skipped: {reason}");
    Completion::ignored_with(reason)
}

/// How a process ended, as its parent sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum End {
    Code(i32),
    Signal(i32),
}

impl From<ExitStatus> for End {
    fn from(status: ExitStatus) -> Self {
        match status.code() {
            Some(code) => End::Code(code),
            None => End::Signal(status.signal().unwrap()),
        }
    }
}

impl End {
    /// Whether this is how a forced exit by `signal` looks: 128 + n, or death by it.
    pub(crate) fn is_forced(self, signal: Signal) -> bool {
        self == End::Signal(signal as i32) || self == End::Code(128 + signal as i32)
    }
}

/// A process to be started.
pub(crate) struct Launch {
    through: Vec<String>,
    scenario: String,
    argument: String,
    unread_stderr: bool,
}

impl Launch {
    pub(crate) fn new(scenario: &str) -> Self {
        Launch {
            through: Vec::new(),
            scenario: scenario.into(),
            argument: String::new(),
            unread_stderr: false,
        }
    }

    /// What the scenario is to vary.
    pub(crate) fn argument(mut self, argument: &str) -> Self {
        self.argument = argument.into();
        self
    }

    /// Nobody reads the program's stderr, so that it can be full.
    pub(crate) fn unread_stderr(mut self) -> Self {
        self.unread_stderr = true;
        self
    }

    /// A command before the program, such as `unshare`.
    pub(crate) fn through(mut self, command: &[&str]) -> Self {
        self.through.extend(command.iter().map(ToString::to_string));
        self
    }

    /// The command with nothing inherited that matters: default dispositions, an empty mask.
    pub(crate) fn command(&self) -> Command {
        let mut command = Command::new("env");
        command
            .arg("--default-signal")
            .args(&self.through)
            .arg(std::env::current_exe().unwrap())
            .env(SCENARIO, &self.scenario)
            .env(ARGUMENT, &self.argument)
            .env_remove("RUST_BACKTRACE");
        command
    }

    /// Starts it, with pipes.
    pub(crate) fn start(&self) -> Program {
        let mut command = self.command();
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let input = child.stdin.take().unwrap();
        let output = child.stdout.take().unwrap();
        let unread = if self.unread_stderr {
            child.stderr.take()
        } else {
            None
        };
        let mut program = Program::new(child, Box::new(input), output);
        program.unread = unread;
        program
    }

    /// Starts it and waits until it says that it is ready.
    pub(crate) fn ready(&self) -> Program {
        let mut program = self.start();
        program.expect("ready");
        program
    }
}

/// A running process under test.
pub(crate) struct Program {
    child: Child,
    /// Who gets the signals: the child itself, or the one that it runs.
    target: Pid,
    reaped: bool,
    input: Option<Box<dyn Write + Send>>,
    lines: Receiver<String>,
    errors: Option<Receiver<String>>,
    unread: Option<ChildStderr>,
    heard: Vec<String>,
    last_signal: Instant,
}

impl Program {
    /// Takes over a child whose output can be read from `output`.
    pub(crate) fn new(
        mut child: Child,
        input: Box<dyn Write + Send>,
        output: impl Read + Send + 'static,
    ) -> Self {
        let (send, lines) = mpsc::channel();
        thread::spawn(move || {
            // A terminal whose last user is gone reads as an error: the end, too.
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                let line = line.trim_end_matches('\r');
                if send.send(line.to_owned()).is_err() || line == HANG_UP {
                    return;
                }
            }
        });
        let errors = child.stderr.take().map(lines_of);
        Program {
            target: Pid::from_raw(i32::try_from(child.id()).unwrap()),
            child,
            reaped: false,
            input: Some(input),
            lines,
            errors,
            unread: None,
            heard: Vec::new(),
            last_signal: Instant::now(),
        }
    }

    /// From now on the stderr that nobody has read is read.
    pub(crate) fn read_stderr(&mut self) {
        self.errors = self.unread.take().map(lines_of);
    }

    pub(crate) fn pid(&self) -> Pid {
        self.target
    }

    /// From now on the signals go to `target` instead.
    pub(crate) fn aim(&mut self, target: Pid) {
        self.target = target;
    }

    /// The next line that the program tells.
    pub(crate) fn line(&mut self) -> String {
        match self.lines.recv_timeout(PATIENCE) {
            Ok(line) => {
                self.heard.push(line.clone());
                line
            }
            Err(RecvTimeoutError::Timeout) => self.fail("said nothing more in time"),
            Err(RecvTimeoutError::Disconnected) => self.fail("ended where another line was due"),
        }
    }

    /// The next line must be this one.
    #[track_caller]
    pub(crate) fn expect(&mut self, due: &str) {
        let line = self.line();
        if line != due {
            self.fail(&format!("said {line:?} where {due:?} was due"));
        }
    }

    /// Sends a line to the program.
    pub(crate) fn say(&mut self, line: &str) {
        self.type_in(format!("{line}\n").as_bytes());
    }

    /// Types characters, on a terminal.
    pub(crate) fn type_in(&mut self, keys: &[u8]) {
        self.last_signal = Instant::now();
        let input = self.input.as_mut().unwrap();
        input.write_all(keys).and_then(|()| input.flush()).unwrap();
    }

    /// Says a line and waits until it comes back: all signals sent before have been delivered.
    #[track_caller]
    pub(crate) fn echo(&mut self, line: &str) {
        self.say(line);
        self.expect(line);
    }

    /// Closes the program's input. Where it has said [`HANG_UP`], nobody is left at the other end of its terminal.
    pub(crate) fn hang_up(&mut self) {
        self.input = None;
    }

    /// A signal has been sent by other means.
    pub(crate) fn signalled(&mut self) {
        self.last_signal = Instant::now();
    }

    pub(crate) fn signal(&mut self, signal: Signal) {
        assert!(!self.reaped, "signal to a process that is gone");
        self.last_signal = Instant::now();
        nix::sys::signal::kill(self.target, signal).unwrap();
    }

    /// Sends the signal where there still is somebody to send it to, and tells whether there was.
    pub(crate) fn try_signal(&mut self, signal: Signal) -> bool {
        assert!(!self.reaped, "signal to a process that is gone");
        self.last_signal = Instant::now();
        nix::sys::signal::kill(self.target, signal).is_ok()
    }

    /// Whether it has, for those who have something to do meanwhile.
    pub(crate) fn has_ended(&mut self) -> bool {
        self.reap(Duration::ZERO).is_some()
    }

    /// Waits for the end.
    pub(crate) fn end(mut self) -> Ended {
        let status = self
            .reap(PATIENCE)
            .unwrap_or_else(|| self.fail("did not end in time"));
        let took = self.last_signal.elapsed();
        // A descendant that still holds the pipe open is a failure of its own.
        loop {
            match self.lines.recv_timeout(PATIENCE) {
                Ok(line) => self.heard.push(line),
                Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) => self.fail("left somebody behind with its output"),
            }
        }
        let errors = self.errors_so_far(PATIENCE);
        Ended {
            end: status,
            lines: std::mem::take(&mut self.heard),
            errors,
            took,
        }
    }

    fn reap(&mut self, patience: Duration) -> Option<End> {
        if self.reaped {
            // It is kept.
            return Some(self.child.wait().unwrap().into());
        }
        let pid = rustix::process::Pid::from_child(&self.child);
        let handle =
            rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty()).unwrap();
        let deadline = Instant::now() + patience;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let left = PollTimeout::try_from(left).unwrap();
            let mut waiting = [PollFd::new(handle.as_fd(), PollFlags::POLLIN)];
            match nix::poll::poll(&mut waiting, left) {
                Ok(0) => return None,
                Ok(_) => break,
                Err(nix::errno::Errno::EINTR) => {}
                Err(errno) => panic!("poll: {errno}"),
            }
        }
        self.reaped = true;
        Some(self.child.wait().unwrap().into())
    }

    fn errors_so_far(&self, patience: Duration) -> String {
        let mut all = String::new();
        let deadline = Instant::now() + patience;
        while let Some(errors) = &self.errors {
            match errors.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(line) => writeln!(all, "{line}").unwrap(),
                Err(_) => break,
            }
        }
        all
    }

    fn fail(&mut self, what: &str) -> ! {
        if !self.reaped {
            let _ = self.child.kill();
        }
        let end = self.reap(PATIENCE);
        while let Ok(line) = self.lines.recv_timeout(Duration::from_millis(200)) {
            self.heard.push(line);
        }
        let errors = self.errors_so_far(Duration::from_millis(200));
        panic!(
            "the program {what}; ended as {end:?}; it said {:#?} and on stderr:\n{errors}",
            self.heard
        );
    }
}

fn lines_of(stderr: ChildStderr) -> Receiver<String> {
    let (send, lines) = mpsc::channel();
    thread::spawn(move || {
        for line in BufReader::new(stderr).split(b'\n').map_while(Result::ok) {
            let line = String::from_utf8_lossy(&line).into_owned();
            if send.send(line).is_err() {
                return;
            }
        }
    });
    lines
}

impl Drop for Program {
    fn drop(&mut self) {
        if !self.reaped {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

/// How a program ended, and all that it said.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) end: End,
    pub(crate) lines: Vec<String>,
    pub(crate) errors: String,
    /// From the last signal, or the last line sent, to the end.
    pub(crate) took: Duration,
}

impl Ended {
    /// The end and the whole output must be these.
    #[track_caller]
    pub(crate) fn assert(self, end: End, lines: &[&str]) -> Self {
        assert!(
            self.end == end && self.lines == lines,
            "due: {end:?} with {lines:#?}, got: {self:#?}"
        );
        self
    }

    /// The end must be a forced exit by `signal` (P8), and prompt; the whole output must be this.
    #[track_caller]
    pub(crate) fn assert_forced(self, signal: Signal, lines: &[&str]) -> Self {
        assert!(
            self.end.is_forced(signal) && self.lines == lines,
            "due: forced by {signal} with {lines:#?}, got: {self:#?}"
        );
        assert!(self.took < PROMPT, "forced, but late: {self:#?}");
        self
    }

    #[track_caller]
    pub(crate) fn assert_within(self, limit: Duration) -> Self {
        assert!(self.took < limit, "due within {limit:?}, got: {self:#?}");
        self
    }
}
