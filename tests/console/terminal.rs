//! On a terminal.

use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use libtest_mimic::Trial;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use rustix::termios::{Action, tcflow};
use tempfile::TempDir;

use crate::process::{self, Process, until};
use crate::pty::{CTRL_C, Pty};
use crate::screen::Screen;
use crate::{example, program, trials};

pub(crate) fn tests() -> Vec<Trial> {
    trials![
        the_line_says_who_is_waited_for_and_goes,
        ctrl_c_again_forces_as_the_line_says,
        the_line_goes_where_emergency_hooks_leave_time_for_it,
        after_a_programmatic_stop_nothing_is_said_until_it_is_true,
        nothing_is_said_within_the_debounce,
        after_sigterm_the_first_ctrl_c_forces,
        nothing_is_said_where_ctrl_c_forces_nothing,
        what_a_hook_prints_stays_on_lines_of_its_own,
        a_fast_shutdown_has_one_line_over_the_echoed_ctrl_c,
        a_terminal_that_is_held_delays_nothing,
        narrow_terminals_get_narrow_lines,
        a_dumb_terminal_gets_plain_lines,
        a_report_that_is_not_clean_is_shown_once,
        the_example_finishes_the_files_in_its_hands,
    ]
}

const AGAIN: &str = "press Ctrl-C again to force quit now";

/// When the leader of a session dies, the system throws away what nobody has read from its terminal: so that is a
/// shell, which says how the program has ended, and waits until that has been read.
const LEADER: &str = r#"trap : INT; "$@"; printf '<end %s>' "$?"; read answer"#;
const END: &str = "<end ";

fn start(pty: &Pty, program: &Command) -> Process {
    let mut shell = process::command("sh");
    shell.args(["-c", LEADER, "sh"]);
    shell.arg(program.get_program()).args(program.get_args());
    for (name, value) in program.get_envs() {
        match value {
            Some(value) => shell.env(name, value),
            None => shell.env_remove(name),
        };
    }
    pty.start(shell)
}

/// Waits until the program has ended: its status, and all that it has written.
fn end(pty: &mut Pty, shell: &mut Process) -> (i32, String) {
    until("the end", || {
        pty.screen
            .all()
            .split(END)
            .nth(1)
            .is_some_and(|end| end.contains('>'))
    });
    let all = pty.screen.all();
    let (written, end) = all.split_once(END).unwrap();
    let status = end.split_once('>').unwrap().0.parse().unwrap();
    pty.type_key(b'\n');
    shell.end();
    (status, written.to_owned())
}

/// As a shell sees who dies by SIGINT.
const BY_SIGINT: i32 = 128 + Signal::SIGINT as i32;

struct Terminal {
    shell: Process,
    /// The program.
    pid: Pid,
    pty: Pty,
    width: usize,
    /// There is a file in it when the worker may go.
    gate: TempDir,
}

impl Terminal {
    fn start(scenario: &str) -> Self {
        Self::with(100, scenario, |_| {})
    }

    fn with(width: u16, scenario: &str, change: impl FnOnce(&mut Command)) -> Self {
        let gate = tempfile::tempdir().unwrap();
        let file = gate.path().join("open");
        let mut command = program(scenario, &[file.to_str().unwrap()]);
        change(&mut command);
        let pty = Pty::with_columns(width);
        let shell = start(&pty, &command);
        let ready = shell.out.line("ready");
        let pid = ready.split_once(' ').unwrap().1.parse().unwrap();
        Self {
            shell,
            pid: Pid::from_raw(pid),
            pty,
            width: usize::from(width),
            gate,
        }
    }

    fn screen(&self) -> Screen {
        let all = self.pty.screen.all();
        Screen::after(all.split(END).next().unwrap(), self.width)
    }

    fn terminate(&self) {
        kill(self.pid, Signal::SIGTERM).unwrap();
    }

    /// Waits until the last row has all of this in it.
    fn row(&self, parts: &[&str]) -> String {
        let mut row = String::new();
        until(&format!("{parts:?}"), || {
            row = self.screen().last_row();
            parts.iter().all(|part| row.contains(part))
        });
        row
    }

    fn open(&self) {
        let file: PathBuf = self.gate.path().join("open");
        std::fs::write(file, "").unwrap();
    }

    /// Once it has ended with this status: all that stands on the screen.
    fn rows_at_the_end(&mut self, status: i32) -> Vec<String> {
        let (ended, written) = end(&mut self.pty, &mut self.shell);
        assert_eq!(ended, status, "{written}");
        self.screen().rows()
    }
}

/// Whatever the time is.
#[track_caller]
fn assert_last(row: &str, start: &str, end: &str) {
    assert!(row.starts_with(start) && row.ends_with(end), "{row:?}");
}

fn the_line_says_who_is_waited_for_and_goes() {
    let mut terminal = Terminal::start("held");
    terminal.pty.type_key(CTRL_C);
    let row = terminal.row(&["worker (", "): rows 3 of 9 (33 %)", AGAIN]);
    assert!(
        row.starts_with("[██████████] ") && row.ends_with(AGAIN),
        "{row}"
    );
    assert_eq!(row.chars().count(), 100);
    assert_eq!(
        terminal.screen().rows().len(),
        2,
        "{:#?}",
        terminal.screen()
    );
    terminal.open();
    let rows = terminal.rows_at_the_end(BY_SIGINT);
    assert_eq!(rows.len(), 2, "{rows:#?}");
    assert_last(
        &rows[1],
        "shutdown: clean in ",
        " (SIGINT from the terminal)",
    );
    assert!(terminal.screen().is_at_a_beginning());
    // The cursor is never hidden, and there are no colours.
    let all = terminal.pty.screen.all();
    assert!(
        !all.contains("\u{1b}[?") && !all.contains("\u{1b}[0m"),
        "{all:?}"
    );
}

/// P8: what the line says is true, and it is left as it is.
fn ctrl_c_again_forces_as_the_line_says() {
    let mut terminal = Terminal::start("held");
    terminal.pty.type_key(CTRL_C);
    terminal.row(&[AGAIN]);
    // Once: the hint says that it is enough.
    terminal.pty.type_key(CTRL_C);
    let rows = terminal.rows_at_the_end(BY_SIGINT);
    assert_last(&rows[rows.len() - 2], "[", AGAIN);
    assert_eq!(rows.last().unwrap(), "^C", "{rows:#?}");
}

/// 250 ms are not much: where they are not enough, the line is left as it is.
fn the_line_goes_where_emergency_hooks_leave_time_for_it() {
    let mut terminal = Terminal::start("emergency");
    terminal.pty.type_key(CTRL_C);
    terminal.row(&[AGAIN]);
    terminal.pty.type_key(CTRL_C);
    let rows = terminal.rows_at_the_end(BY_SIGINT);
    let last = rows.last().unwrap();
    assert!(
        last == "shutdown: forced to end by SIGINT" || last == "^C",
        "{rows:#?}"
    );
    assert!(terminal.screen().is_at_a_beginning() || last == "^C");
}

/// P8: escalation counts signals, not stops.
fn after_a_programmatic_stop_nothing_is_said_until_it_is_true() {
    let mut terminal = Terminal::start("programmatic");
    // More than the debounce after the stop.
    terminal.row(&["] 29 s, worker ("]);
    let before = terminal.pty.screen.all();
    assert!(!before.contains("Ctrl-C"), "{before:?}");
    terminal.pty.type_key(CTRL_C);
    terminal.row(&["worker (", AGAIN]);
    terminal.pty.type_key(CTRL_C);
    terminal.rows_at_the_end(BY_SIGINT);
}

/// P7: until then the next one is still the first.
fn nothing_is_said_within_the_debounce() {
    let mut terminal = Terminal::start("patient");
    terminal.pty.type_key(CTRL_C);
    terminal.row(&["] 29 s, worker ("]);
    let before = terminal.pty.screen.all();
    assert!(!before.contains("Ctrl-C"), "{before:?}");
    terminal.row(&["worker (", AGAIN]);
    terminal.pty.type_key(CTRL_C);
    terminal.rows_at_the_end(BY_SIGINT);
}

fn after_sigterm_the_first_ctrl_c_forces() {
    let mut terminal = Terminal::start("held");
    terminal.terminate();
    terminal.row(&["worker (", "press Ctrl-C to force quit now"]);
    terminal.pty.type_key(CTRL_C);
    terminal.rows_at_the_end(BY_SIGINT);
}

fn nothing_is_said_where_ctrl_c_forces_nothing() {
    // Never escalates; not one of ours; a key like any other.
    for scenario in ["never", "term only", "raw"] {
        let mut terminal = Terminal::start(scenario);
        terminal.terminate();
        // More than the debounce after the stop.
        terminal.row(&["] 29 s, worker ("]);
        terminal.open();
        terminal.rows_at_the_end(0);
        let all = terminal.pty.screen.all();
        assert!(!all.contains("Ctrl-C"), "{scenario}: {all:?}");
    }
}

fn what_a_hook_prints_stays_on_lines_of_its_own() {
    let mut terminal = Terminal::start("speaks");
    terminal.terminate();
    let rows = terminal.rows_at_the_end(0);
    for line in ["one", "two", "three"] {
        assert!(rows.iter().any(|row| row == line), "{line}: {rows:#?}");
    }
    let live = rows.iter().filter(|row| row.contains("hook speaks ("));
    assert!(live.count() > 0, "it was not drawn in between: {rows:#?}");
    assert!(
        rows.iter()
            .all(|row| row.starts_with('[') == row.contains("hook speaks ("))
    );
    assert_last(rows.last().unwrap(), "shutdown: clean in ", ")");
}

fn a_fast_shutdown_has_one_line_over_the_echoed_ctrl_c() {
    let mut terminal = Terminal::start("fast");
    terminal.pty.type_key(CTRL_C);
    let rows = terminal.rows_at_the_end(BY_SIGINT);
    assert_eq!(rows.len(), 2, "{rows:#?}");
    assert_last(
        &rows[1],
        "shutdown: clean in ",
        " (SIGINT from the terminal)",
    );
}

/// P15: Ctrl-S. Nobody waits for what such a terminal does not take; a wait would take a second.
fn a_terminal_that_is_held_delays_nothing() {
    let gate = tempfile::tempdir().unwrap();
    let best = (0..3).map(|round| {
        let file = gate.path().join(round.to_string());
        let mut pty = Pty::open();
        // Its own leader: a shell would have to write, too.
        let mut process = pty.start(program("held", &[file.to_str().unwrap()]));
        process.out.line("ready");
        pty.type_key(CTRL_C);
        until("the line", || pty.screen.all().contains(AGAIN));
        tcflow(&pty.line, Action::OOff).unwrap();
        let start = Instant::now();
        std::fs::write(file, "").unwrap();
        let status = process.end();
        let took = start.elapsed();
        assert_eq!(status.signal(), Some(libc::SIGINT), "{status}");
        assert!(!pty.screen.all().contains("shutdown: "));
        took
    });
    let best = best.min().unwrap();
    assert!(best < Duration::from_millis(500), "{best:?}");
}

fn narrow_terminals_get_narrow_lines() {
    for (width, part) in [
        (7, "29 s, …"),
        (40, "29 s, worker ("),
        (80, "] 29 s, worker ("),
    ] {
        let mut terminal = Terminal::with(width, "held", |_| {});
        let before = terminal.screen().rows().len();
        terminal.terminate();
        terminal.row(&[part]);
        // One row for the line, however often it was drawn.
        let rows = terminal.screen().rows();
        assert_eq!(rows.len(), before + 1, "{rows:#?}");
        terminal.open();
        terminal.rows_at_the_end(0);
    }
}

fn a_dumb_terminal_gets_plain_lines() {
    let mut terminal = Terminal::with(100, "held", |command| {
        command.env("TERM", "dumb");
    });
    terminal.pty.type_key(CTRL_C);
    terminal
        .shell
        .out
        .line("shutdown: 30 s left, waiting for worker (");
    terminal.open();
    let rows = terminal.rows_at_the_end(BY_SIGINT);
    assert_last(
        rows.last().unwrap(),
        "shutdown: clean in ",
        " (SIGINT from the terminal)",
    );
    assert!(!terminal.pty.screen.all().contains('\u{1b}'));
}

/// `run` shows it; the console's last line is its first.
fn a_report_that_is_not_clean_is_shown_once() {
    let mut terminal = Terminal::start("fails");
    terminal.pty.type_key(CTRL_C);
    let rows = terminal.rows_at_the_end(BY_SIGINT);
    let heads = rows.iter().filter(|row| row.contains("shutdown: "));
    assert_eq!(heads.count(), 1, "{rows:#?}");
    let all = rows.join("\n");
    assert!(all.contains("Error: it went wrong"), "{all}");
    assert!(all.contains("failed: disk full"), "{all}");
    assert_last(rows.last().unwrap(), "  tests/", "failed: disk full");
}

fn the_example_finishes_the_files_in_its_hands() {
    let place = tempfile::tempdir().unwrap();
    let (from, to) = (place.path().join("from"), place.path().join("to"));
    std::fs::create_dir(&from).unwrap();
    for number in 0..100 {
        std::fs::write(from.join(number.to_string()), vec![b'x'; 300_000]).unwrap();
    }
    // A file takes more than a second.
    let (from, to_text) = (from.to_str().unwrap(), to.to_str().unwrap());
    let copy = example::command("console", &[from, to_text, "--limit", "200"]);
    let mut pty = Pty::open();
    let mut shell = start(&pty, &copy);
    until("the first halves", || {
        std::fs::read_dir(&to).is_ok_and(|files| files.count() >= 3)
    });
    pty.type_key(CTRL_C);
    until("the line", || pty.screen.all().contains(AGAIN));
    let (status, written) = end(&mut pty, &mut shell);
    assert_eq!(status, BY_SIGINT, "{written}");
    let files: Vec<_> = std::fs::read_dir(&to)
        .unwrap()
        .map(Result::unwrap)
        .collect();
    assert!((3..100).contains(&files.len()), "{files:?}");
    for file in files {
        assert_eq!(file.metadata().unwrap().len(), 300_000, "{file:?}");
    }
    let last = Screen::after(&written, 100).last_row();
    assert_last(&last, "shutdown: clean in ", "(SIGINT from the terminal)");
}
