//! Stderr, as far as it takes what is to be shown.

use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::stdio::stderr;
use rustix::termios::{self, LocalModes, SpecialCodeIndex};

use super::text::{self, NextInterrupt};
use super::{PATIENCE, View};

/// Between two lines of a log.
const EVERY: Duration = Duration::from_secs(5);

/// Where a terminal does not know its width.
const WIDTH: u16 = 79;

/// What Ctrl-C is on a terminal that nobody has changed.
const CTRL_C: u8 = 3;

/// Whose the terminal is at this moment.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Hold {
    /// Ours: what is typed there comes here.
    Ours,
    /// Somebody else's, whose line is not to be touched.
    Another,
    /// Not the one that this process was started from: keys typed there are nobody's.
    Nobody,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// A terminal that can erase a line.
    Live,
    /// A terminal that can go back to the beginning of a line, but no more.
    Dumb,
    /// A pipe, a file, a journal.
    Log,
}

/// See the module.
pub(super) struct Screen {
    utf8: bool,
    kind: Kind,
    /// What stands on the live line.
    line: Option<(ProgressBar, String)>,
    /// When the next line of a log is due.
    due: Option<Instant>,
    /// At the last look it took nothing.
    is_full: bool,
}

impl Screen {
    pub(super) fn stderr(utf8: bool) -> Self {
        let is_dumb = || {
            let term = std::env::var_os("TERM").unwrap_or_default();
            term.is_empty() || term == "dumb"
        };
        let kind = if !std::io::stderr().is_terminal() {
            Kind::Log
        } else if is_dumb() {
            Kind::Dumb
        } else {
            Kind::Live
        };
        Self {
            utf8,
            kind,
            line: None,
            due: None,
            is_full: false,
        }
    }

    pub(super) fn is_utf8(&self) -> bool {
        self.utf8
    }

    /// Shows how far it is. Never waits.
    pub(super) fn show(&mut self, view: &View) {
        self.is_full = !takes_more(Duration::ZERO);
        if self.is_full {
            return;
        }
        let hold = hold();
        let next = if hold == Hold::Ours && ctrl_c_is_a_signal() {
            view.next
        } else {
            NextInterrupt::Unknown
        };
        if self.kind == Kind::Live && hold != Hold::Another {
            let width = termios::tcgetwinsize(stderr()).map_or(0, |size| size.ws_col);
            let width = if width == 0 { WIDTH } else { width };
            let text = text::live(&view.snapshot, next, usize::from(width), self.utf8);
            self.draw(text);
            return;
        }
        self.leave();
        let now = Instant::now();
        if self.due.is_none_or(|due| due <= now) {
            self.due = Some(now + EVERY);
            self.write(&text::plain(&view.snapshot, next, self.utf8));
        }
    }

    /// Shows how it ended.
    pub(super) fn last(&mut self, text: &str) {
        let patience = if self.is_full {
            Duration::ZERO
        } else {
            PATIENCE
        };
        if takes_more(patience) {
            self.clear();
            self.write(text);
        } else {
            // Where it is taken down by itself it is drawn once more.
            self.leave();
        }
    }

    /// Shows how it ended, at length. Waits until it can.
    pub(super) fn last_whole(&mut self, text: &str) {
        self.clear();
        self.write(text);
    }

    /// Takes the live line away.
    pub(super) fn clear(&mut self) {
        if let Some((bar, _)) = self.line.take() {
            if hold() == Hold::Another {
                bar.set_draw_target(ProgressDrawTarget::hidden());
            }
            bar.finish_and_clear();
        }
    }

    /// Leaves the live line where it is.
    fn leave(&mut self) {
        if let Some((bar, _)) = self.line.take() {
            bar.set_draw_target(ProgressDrawTarget::hidden());
            bar.abandon();
        }
    }

    /// Indicatif fills the line up to its end: whatever is written next, by anybody, begins on a
    /// new one. So a line that has not changed is left alone, since it may not be the last one any
    /// more.
    fn draw(&mut self, text: String) {
        if self.line.as_ref().is_some_and(|(_, drawn)| *drawn == text) {
            return;
        }
        let (bar, drawn) = self.line.get_or_insert_with(|| {
            let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
            // Over the `^C` that the terminal has echoed: the line is as wide as the terminal.
            let _ = std::io::stderr().write_all(b"\r");
            if let Ok(style) = ProgressStyle::with_template("{msg}") {
                bar.set_style(style);
            }
            (bar, String::new())
        });
        bar.set_message(text.clone());
        bar.tick();
        *drawn = text;
    }

    /// In one piece, so that what others write does not run into it.
    fn write(&self, text: &str) {
        // Over the `^C` that the terminal has echoed, which is shorter.
        let (start, end) = match self.kind {
            Kind::Live if hold() != Hold::Another => ("\r", "\x1b[K\n"),
            Kind::Dumb if hold() != Hold::Another => ("\r", "\n"),
            _ => ("", "\n"),
        };
        let (first, rest) = text.split_once('\n').unwrap_or((text, ""));
        let rest = if rest.is_empty() {
            String::new()
        } else {
            format!("{rest}\n")
        };
        // Nobody is left to tell when this fails.
        let _ = std::io::stderr().write_all(format!("{start}{first}{end}{rest}").as_bytes());
    }
}

fn hold() -> Hold {
    match termios::tcgetpgrp(stderr()) {
        Ok(group) if group == rustix::process::getpgrp() => Hold::Ours,
        Ok(_) => Hold::Another,
        Err(_) => Hold::Nobody,
    }
}

/// The terminal makes a SIGINT of it, and of that key: not in raw mode.
fn ctrl_c_is_a_signal() -> bool {
    termios::tcgetattr(stderr()).is_ok_and(|now| {
        now.local_modes.contains(LocalModes::ISIG)
            && now.special_codes[SpecialCodeIndex::VINTR] == CTRL_C
    })
}

/// A line can be written without waiting, or within this time.
fn takes_more(within: Duration) -> bool {
    let Ok(timeout) = Timespec::try_from(within) else {
        return false;
    };
    let from = Instant::now();
    loop {
        let stderr = stderr();
        let mut waiting = [PollFd::new(&stderr, PollFlags::OUT)];
        match poll(&mut waiting, Some(&timeout)) {
            Ok(ready) => return ready > 0,
            Err(Errno::INTR) if from.elapsed() <= within => {}
            Err(_) => return false,
        }
    }
}
