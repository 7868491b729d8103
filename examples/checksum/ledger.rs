//! What is done, and what of it is on the disk.

use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;
use winddown::Checkpoint;

use crate::hash::Hashed;
use crate::output::{Entries, Output, OutputError};

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
struct Saved {
    /// `None` once the manifest is complete.
    checkpoint: Option<Checkpoint<Entries>>,
    /// So many of the entries, which only become more. `None`: what an interrupted run has left, with lines that are no
    /// longer true.
    count: Option<usize>,
}

impl Ledger {
    /// `kept` comes from the run before, and is all of it or not; `left` files are to be dealt with in this one.
    pub(crate) fn new(
        output: Output,
        checkpoint: Checkpoint<Entries>,
        kept: Entries,
        all_kept: bool,
        left: usize,
    ) -> Self {
        Self {
            output,
            saved: Mutex::new(Saved {
                checkpoint: Some(checkpoint),
                count: all_kept.then_some(kept.len()),
            }),
            entries: Mutex::new(kept),
            left: AtomicUsize::new(left),
        }
    }

    pub(crate) fn finished(&self, path: &Path, hashed: Hashed) {
        self.entries.lock().insert(path.into(), hashed);
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
        let Saved {
            checkpoint: Some(checkpoint),
            count,
        } = &mut *saved
        else {
            return Ok(());
        };
        if *count == Some(self.len()) {
            return Ok(());
        }
        // A copy, so that the threads that hash go on meanwhile: only the other savers wait for the disk.
        let entries = self.entries.lock().clone();
        checkpoint.save(&entries)?;
        self.output.write(&entries)?;
        *count = Some(entries.len());
        Ok(())
    }

    /// Saves the complete manifest; a later [`save`](Self::save) does nothing.
    pub(crate) fn complete(&self) -> Result<(), OutputError> {
        let mut saved = self.saved.lock();
        self.output.write(&self.entries.lock())?;
        if let Some(checkpoint) = saved.checkpoint.take() {
            checkpoint.finish()?;
        }
        Ok(())
    }

    pub(crate) fn output(&self) -> &Output {
        &self.output
    }
}
