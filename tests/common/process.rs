//! A child that is watched while it runs, and gone when its test is.
//!
//! Every wait ends: by what is waited for, or with a failure after the `FAR` of the test binary.
#![allow(dead_code, reason = "each test binary uses its own part")]

use std::ffi::OsStr;
use std::io::{self, Read};
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStdin, Command, ExitStatus};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{SigHandler, SigSet, SigmaskHow, Signal, kill, signal, sigprocmask};
use nix::unistd::Pid;

use crate::FAR;

/// Between two looks at something that cannot be waited for.
const GLANCE: Duration = Duration::from_millis(5);

/// Looks until it holds.
pub(crate) fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < FAR, "waited in vain for {what}");
        thread::sleep(GLANCE);
    }
}

/// A child that does not outlive its test.
pub(crate) struct Process {
    child: Child,
    status: Option<ExitStatus>,
    /// What it writes to stdout, if that is a pipe or a [`Pty`](crate::pty::Pty).
    pub(crate) out: Text,
    /// What it writes to stderr, if that is a pipe.
    pub(crate) err: Text,
}

impl Process {
    /// Takes the command, so that the parent's copies of what it hands to the child are closed.
    pub(crate) fn start(mut command: Command) -> Self {
        Self::of(command.spawn().unwrap())
    }

    fn of(mut child: Child) -> Self {
        let out = child.stdout.take().map(Text::read).unwrap_or_default();
        let err = child.stderr.take().map(Text::read).unwrap_or_default();
        Self {
            child,
            status: None,
            out,
            err,
        }
    }

    /// As `start`, for a child that is told something on its stdin.
    pub(crate) fn start_told(mut command: Command) -> (Self, ChildStdin) {
        let mut child = command.spawn().unwrap();
        let told = child.stdin.take().unwrap();
        (Self::of(child), told)
    }

    pub(crate) fn pid(&self) -> Pid {
        Pid::from_raw(i32::try_from(self.child.id()).unwrap())
    }

    pub(crate) fn signal(&self, signal: Signal) {
        // Not reaped yet, so that the number cannot be somebody else's.
        assert!(self.status.is_none(), "has ended");
        kill(self.pid(), signal).unwrap();
    }

    pub(crate) fn ended(&mut self) -> Option<ExitStatus> {
        if self.status.is_none() {
            self.status = self.child.try_wait().unwrap();
        }
        self.status
    }

    pub(crate) fn end(&mut self) -> ExitStatus {
        self.end_by(FAR, |_| {})
    }

    /// Asks it to end, for as long as it takes. A request that comes close to another is the same (P7), and from
    /// outside nobody sees when that is over: no single one can be "the second".
    pub(crate) fn end_by(&mut self, within: Duration, mut ask: impl FnMut(&Self)) -> ExitStatus {
        let start = Instant::now();
        loop {
            if let Some(status) = self.ended() {
                return status;
            }
            assert!(
                start.elapsed() < within,
                "still runs after {within:?}\n{}\n{}",
                self.out.all(),
                self.err.all()
            );
            ask(self);
            thread::sleep(GLANCE);
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if self.status.is_none() {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

/// What a process writes, read as it comes.
#[derive(Clone, Default)]
pub(crate) struct Text(Arc<(Mutex<Written>, Condvar)>);

#[derive(Default)]
struct Written {
    bytes: Vec<u8>,
    /// How far `line` has looked.
    seen: usize,
    over: bool,
}

impl Text {
    pub(crate) fn read(mut from: impl Read + Send + 'static) -> Self {
        let text = Self::default();
        let written = text.clone();
        thread::spawn(move || {
            let mut chunk = [0; 4096];
            loop {
                // A terminal that its process has left says EIO: the end, too.
                let length = from.read(&mut chunk).unwrap_or(0);
                let mut now = written.0.0.lock().unwrap();
                now.bytes.extend_from_slice(&chunk[..length]);
                now.over = length == 0;
                written.0.1.notify_all();
                if now.over {
                    return;
                }
            }
        });
        text
    }

    /// Waits for a line with `what` in it, after those that were waited for before.
    pub(crate) fn line(&self, what: &str) -> String {
        let (written, changed) = &*self.0;
        let start = Instant::now();
        let mut now = written.lock().unwrap();
        loop {
            while let Some(length) = now.bytes[now.seen..].iter().position(|byte| *byte == b'\n') {
                let line = String::from_utf8_lossy(&now.bytes[now.seen..now.seen + length])
                    .trim_end()
                    .to_owned();
                now.seen += length + 1;
                if line.contains(what) {
                    return line;
                }
            }
            let left = FAR.saturating_sub(start.elapsed());
            if now.over || left.is_zero() {
                let all = String::from_utf8_lossy(&now.bytes).into_owned();
                drop(now);
                panic!("no {what:?} in:\n{all}");
            }
            now = changed.wait_timeout(now, left).unwrap().0;
        }
    }

    pub(crate) fn all(&self) -> String {
        String::from_utf8_lossy(&self.0.0.lock().unwrap().bytes).into_owned()
    }

    /// The last line of a process that has ended, read to its end.
    pub(crate) fn last_line(&self) -> String {
        let (written, changed) = &*self.0;
        let (now, late) = changed
            .wait_timeout_while(written.lock().unwrap(), FAR, |now| !now.over)
            .unwrap();
        assert!(!late.timed_out(), "somebody else holds the pipe");
        drop(now);
        self.all().lines().last().unwrap_or_default().to_owned()
    }
}

/// Starts the program as a shell would, whatever this process has inherited, and ends it with the test that starts it.
pub(crate) fn command(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(program);
    before_exec(&mut command, || {
        // A runner that was started with `&` or `nohup` has ignored signals and hands them on; P9
        // would keep them ignored.
        for number in [
            Signal::SIGINT,
            Signal::SIGTERM,
            Signal::SIGHUP,
            Signal::SIGQUIT,
        ] {
            default_action(number)?;
        }
        sigprocmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::empty()), None)?;
        // For a test that is killed, and drops nothing.
        #[cfg(target_os = "linux")]
        nix::sys::prctl::set_pdeathsig(Signal::SIGKILL)?;
        Ok(())
    });
    command
}

#[expect(
    unsafe_code,
    reason = "between fork and exec; SIG_DFL replaces no handler that anybody relies on"
)]
fn default_action(number: Signal) -> nix::Result<SigHandler> {
    // SAFETY: `SIG_DFL` is no function, so that there is none that would have to be
    // async-signal-safe.
    unsafe { signal(number, SigHandler::SigDfl) }
}

#[expect(unsafe_code, reason = "std marks pre_exec as unsafe")]
pub(crate) fn before_exec(command: &mut Command, f: fn() -> io::Result<()>) {
    // SAFETY: the functions given make system calls and nothing else; a `fn` has captured nothing
    // that could be dropped.
    unsafe { command.pre_exec(f) };
}
