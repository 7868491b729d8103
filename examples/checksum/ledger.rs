//! What is done, and what of it is on the disk.

use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;

use crate::hash::Hashed;
use crate::output::{self, Entries, Output, OutputError, Text};

/// Shared by the threads that hash and those that save.
pub(crate) struct Ledger {
    output: Output,
    entries: Mutex<Entries>,
    /// Files not yet dealt with.
    left: AtomicUsize,
    /// Also makes the saves take turns. Never taken with `entries` held.
    saved: Mutex<Saved>,
}

/// What is on the disk.
enum Saved {
    /// What an interrupted run has left, with lines that are no longer true.
    Stale,
    /// So many of the entries, which only become more.
    Entries(usize),
    Complete,
}

impl Ledger {
    /// `kept` comes from the run before, and is all of it or not; `left` files are to be dealt with in this one.
    pub(crate) fn new(output: Output, kept: Entries, all_kept: bool, left: usize) -> Self {
        let saved = Mutex::new(if all_kept {
            Saved::Entries(kept.len())
        } else {
            Saved::Stale
        });
        Self {
            output,
            entries: Mutex::new(kept),
            left: AtomicUsize::new(left),
            saved,
        }
    }

    pub(crate) fn finished(&self, path: &Path, hashed: Hashed) {
        self.entries
            .lock()
            .insert(path.as_os_str().to_owned(), hashed);
        self.left.fetch_sub(1, Ordering::Relaxed);
    }

    /// A file that could not be read: dealt with, and not in the manifest.
    pub(crate) fn passed_over(&self) {
        self.left.fetch_sub(1, Ordering::Relaxed);
    }

    /// How many files are not yet dealt with.
    pub(crate) fn left(&self) -> usize {
        self.left.load(Ordering::Relaxed)
    }

    /// How many files are in the manifest, or will be once it is saved.
    pub(crate) fn len(&self) -> usize {
        self.entries.lock().len()
    }

    /// Saves what is finished so far, for the next run to go on from. Nothing new, nothing written: in particular, a
    /// run that was interrupted at once leaves an older manifest alone.
    pub(crate) fn save(&self) -> Result<(), OutputError> {
        let mut saved = self.saved.lock();
        let (count, text) = {
            let entries = self.entries.lock();
            match *saved {
                Saved::Complete => return Ok(()),
                Saved::Entries(count) if count == entries.len() => return Ok(()),
                Saved::Entries(_) | Saved::Stale => (entries.len(), Text::of(&entries)),
            }
        };
        // The threads that hash go on meanwhile: only the other savers wait for the disk.
        self.output.write_interrupted(&text)?;
        *saved = Saved::Entries(count);
        Ok(())
    }

    /// Saves the complete manifest; a later [`save`](Self::save) does nothing.
    pub(crate) fn complete(&self) -> Result<(), OutputError> {
        let mut saved = self.saved.lock();
        let text = output::manifest(&self.entries.lock());
        self.output.write_complete(&text)?;
        *saved = Saved::Complete;
        Ok(())
    }

    pub(crate) fn output(&self) -> &Output {
        &self.output
    }
}
