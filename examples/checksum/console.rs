//! What the user sees: lines on stderr, and below them the progress, where stderr is a terminal.

use std::fmt::Display;
use std::io::{self, IsTerminal, Write};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

/// Shared by all threads. A stderr that is gone is no reason to stop hashing: what cannot be told is not told.
pub(crate) struct Console {
    bar: ProgressBar,
    unreadable: AtomicUsize,
}

impl Console {
    pub(crate) fn new() -> Self {
        let bar = if io::stderr().is_terminal() {
            let bar = ProgressBar::new_spinner();
            bar.enable_steady_tick(Duration::from_millis(200));
            bar
        } else {
            ProgressBar::hidden()
        };
        Self {
            bar,
            unreadable: AtomicUsize::new(0),
        }
    }

    /// One line, above the progress.
    pub(crate) fn line(&self, text: impl Display) {
        // In one piece, so that lines of two programs on one terminal do not run into each other.
        let line = format!("checksum: {text}\n");
        self.bar.suspend(|| {
            let _ = io::stderr().write_all(line.as_bytes());
        });
    }

    /// As [`line`](Self::line), but only worth telling to somebody who watches.
    pub(crate) fn remark(&self, text: impl Display) {
        if !self.bar.is_hidden() {
            self.line(text);
        }
    }

    /// A file or directory that could not be read.
    pub(crate) fn unreadable(&self, path: &Path, why: &io::Error) {
        self.unreadable.fetch_add(1, Ordering::Relaxed);
        self.line(format_args!("{path:?}: {why}"));
    }

    /// How many there were of those.
    pub(crate) fn count_unreadable(&self) -> usize {
        self.unreadable.load(Ordering::Relaxed)
    }

    /// The walk has found so many files by now.
    pub(crate) fn found(&self, files: usize) {
        if files % 1024 == 0 && !self.bar.is_hidden() {
            self.bar.set_message(format!("{files} files found"));
        }
    }

    /// From now on bytes are counted.
    pub(crate) fn start(&self, bytes: u64) {
        if let Ok(style) = ProgressStyle::with_template(
            "{bar:32} {bytes}/{total_bytes}, {bytes_per_sec}, {eta} left {msg}",
        ) {
            self.bar.set_style(style);
        }
        self.bar.set_message("");
        self.bar.set_length(bytes);
    }

    pub(crate) fn advance(&self, bytes: usize) {
        self.bar.inc(u64::try_from(bytes).unwrap_or(u64::MAX));
    }

    /// Takes the progress away. Lines can still be told.
    pub(crate) fn clear(&self) {
        self.bar.finish_and_clear();
    }
}

/// "1 file", "12 files".
pub(crate) fn files(count: usize) -> String {
    format!("{count} file{}", if count == 1 { "" } else { "s" })
}
