//! `examples/terminal.rs` on a pseudo-terminal.

use std::os::unix::process::ExitStatusExt;
use std::thread;
use std::time::Duration;

use nix::sys::signal::Signal;
use nix::sys::termios::{LocalFlags, Termios, tcgetattr};

use crate::process::Process;
use crate::pty::{CTRL_C, Pty};
use crate::{example, start};

/// Debounce, emergency budget and slack: well inside the five seconds of the example's grace
/// period.
const FORCED_WITHIN: Duration = Duration::from_secs(2);

struct Terminal {
    process: Process,
    pty: Pty,
    before: Termios,
}

impl Terminal {
    /// The example on a pseudo-terminal of its own, ready and in raw mode.
    fn start() -> Self {
        let pty = Pty::open();
        let before = tcgetattr(&pty.line).unwrap();
        assert!(
            before
                .local_flags
                .contains(LocalFlags::ICANON | LocalFlags::ECHO),
            "{before:?}"
        );
        let process = pty.start(example::command("terminal", &[]));
        let terminal = Self {
            process,
            pty,
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
        self.pty.type_key(key);
    }

    fn now(&self) -> Termios {
        tcgetattr(&self.pty.line).unwrap()
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
    // Until one counts as the second: far less than the grace period, after which the watchdog would
    // have ended it as well.
    let status = terminal.process.end_by(FORCED_WITHIN, |_| {
        terminal.pty.type_key(CTRL_C);
        thread::sleep(Duration::from_millis(50));
    });
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
    let mut terminal = start("terminal", &[]);
    assert_eq!(terminal.end().code(), Some(1));
    terminal.err.line("standard input is not a terminal");
    assert_eq!(terminal.out.all(), "");
}
