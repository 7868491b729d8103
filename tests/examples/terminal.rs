//! `examples/terminal.rs` on a pseudo-terminal.

use std::fs::File;
use std::io::Write;
use std::os::fd::OwnedFd;
use std::os::unix::process::ExitStatusExt;
use std::thread;
use std::time::{Duration, Instant};

use nix::pty::{OpenptyResult, openpty};
use nix::sys::signal::Signal;
use nix::sys::termios::{LocalFlags, Termios, tcgetattr};
use nix::unistd::setsid;

use crate::process::{Process, Text, before_exec, command};

const CTRL_C: u8 = 0x03;
/// Debounce, emergency budget and slack: well inside the five seconds of the example's grace
/// period.
const FORCED_WITHIN: Duration = Duration::from_secs(2);

struct Terminal {
    process: Process,
    keyboard: File,
    /// Kept open, since a terminal that nobody has open is hung up.
    line: OwnedFd,
    before: Termios,
}

impl Terminal {
    /// The example on a pseudo-terminal of its own, ready and in raw mode.
    fn start() -> Self {
        let OpenptyResult {
            master,
            slave: line,
        } = openpty(None, None).unwrap();
        let before = tcgetattr(&line).unwrap();
        assert!(
            before
                .local_flags
                .contains(LocalFlags::ICANON | LocalFlags::ECHO),
            "{before:?}"
        );

        let mut command = command("terminal", &[]);
        command
            .stdin(line.try_clone().unwrap())
            .stdout(line.try_clone().unwrap())
            .stderr(line.try_clone().unwrap());
        // Its own session, with the terminal as the one whose Ctrl-C it gets.
        before_exec(&mut command, || {
            setsid()?;
            rustix::process::ioctl_tiocsctty(rustix::stdio::stdin())?;
            Ok(())
        });
        let child = command.spawn().unwrap();
        drop(command); // and its copies of the terminal
        let screen = Text::read(File::from(master.try_clone().unwrap()));
        let process = Process {
            child,
            status: None,
            out: screen,
            err: Text::default(),
        };
        let terminal = Self {
            process,
            keyboard: File::from(master),
            line,
            before,
        };

        terminal.process.out.line("ready: ");
        let raw = terminal.now();
        assert!(
            !raw.local_flags
                .intersects(LocalFlags::ICANON | LocalFlags::ECHO),
            "not raw: {raw:?}"
        );
        terminal
    }

    fn type_key(&mut self, key: u8) {
        self.keyboard.write_all(&[key]).unwrap();
    }

    fn now(&self) -> Termios {
        tcgetattr(&self.line).unwrap()
    }

    fn assert_as_before(&self) {
        assert_eq!(self.now(), self.before);
    }
}

#[test]
fn is_cooked_again_after_q() {
    let mut terminal = Terminal::start();
    terminal.type_key(b'x');
    terminal.process.out.line("key 0x78 'x'");
    terminal.type_key(b'q');
    assert_eq!(terminal.process.end().code(), Some(0));
    terminal.assert_as_before();
}

#[test]
fn is_cooked_again_after_ctrl_c() {
    let mut terminal = Terminal::start();
    terminal.type_key(CTRL_C);
    let status = terminal.process.end();
    assert_eq!(status.signal(), Some(libc::SIGINT), "{status}");
    terminal.process.out.line("stopping: ");
    terminal.assert_as_before();
}

#[test]
fn is_cooked_again_after_a_forced_end() {
    let mut terminal = Terminal::start();
    terminal.type_key(b'h');
    terminal.process.out.line("hanging");
    terminal.type_key(CTRL_C);
    terminal.process.out.line("stopping: ");
    // A second one within the debounce is the same request (P7), and from outside nobody sees when
    // that is over: type until it counts. Far less than the grace period, after which the watchdog
    // would have ended it as well.
    let typed = Instant::now();
    let status = loop {
        if let Some(status) = terminal.process.ended() {
            break status;
        }
        assert!(
            typed.elapsed() < FORCED_WITHIN,
            "Ctrl-C did not force the end\n{}",
            terminal.process.out.all()
        );
        terminal.type_key(CTRL_C);
        thread::sleep(Duration::from_millis(50));
    };
    // P8: 128 + n, or death by the signal.
    assert!(
        status.code() == Some(128 + libc::SIGINT) || status.signal() == Some(libc::SIGINT),
        "{status}"
    );
    terminal.assert_as_before();
}

#[test]
fn is_cooked_again_after_sigterm() {
    let mut terminal = Terminal::start();
    terminal.process.signal(Signal::SIGTERM);
    assert_eq!(terminal.process.end().code(), Some(0));
    terminal.assert_as_before();
}

#[test]
fn is_cooked_again_by_the_watchdog() {
    let mut terminal = Terminal::start();
    terminal.type_key(b'h');
    terminal.process.out.line("hanging");
    terminal.process.signal(Signal::SIGTERM);
    // The loop never looks: the whole grace period passes, and ordinary clean-up does the rest.
    assert_eq!(terminal.process.end().code(), Some(124));
    terminal.assert_as_before();
}

#[test]
fn keeps_no_byte_for_signals_other_than_ctrl_c() {
    let mut terminal = Terminal::start();
    terminal.type_key(0x1a);
    terminal.process.out.line("key 0x1a");
    terminal.type_key(0x1c);
    terminal.process.out.line("key 0x1c");
    terminal.type_key(b'q');
    assert_eq!(terminal.process.end().code(), Some(0));
}

#[test]
fn says_that_it_needs_one() {
    let mut terminal = Process::start("terminal", &[]);
    assert_eq!(terminal.end().code(), Some(1));
    terminal.err.line("standard input is not a terminal");
    assert_eq!(terminal.out.all(), "");
}
