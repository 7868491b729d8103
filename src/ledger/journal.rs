//! Final writes that the store could not take: one line each, on the disk before the caller hears
//! of it.
//!
//! They are settled when the store is back, by the member itself or by whoever finds it dead, and
//! are as conditional then as they would have been: one that comes too late changes nothing. So one
//! that is settled twice does no harm.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::Instant;

use serde_json::{Value, json};

use crate::ledger::error::StoreError;
use crate::ledger::store::{ClaimId, Store, Verdict};
use crate::sync::{AtomicBool, Mutex, Ordering};

/// So many are settled in one transaction: one for each takes longer than a heart may stand still
/// when all of a long outage is settled.
const AT_ONCE: usize = 1000;

/// One member's.
pub(super) struct Journal {
    /// `None`: there is no place for one, and nothing is kept.
    path: Option<PathBuf>,
    /// Held while the file is written or removed.
    file: Mutex<()>,
    is_used: AtomicBool,
}

impl Journal {
    pub(super) fn new(path: Option<PathBuf>) -> Self {
        Self {
            path,
            file: Mutex::new(()),
            is_used: AtomicBool::new(false),
        }
    }

    /// Keeps a write that the store could not take.
    pub(super) fn keep(&self, store: &str, claim: &ClaimId, verdict: &Verdict) -> io::Result<()> {
        let Some(path) = &self.path else {
            let why = "there is no directory for a journal";
            return Err(io::Error::new(io::ErrorKind::Unsupported, why));
        };
        // A line of its own, also after one that a full disk has cut off.
        let line = format!("\n{}\n", to_json(store, claim, verdict));
        let file = self.file.lock();
        self.is_used.store(true, Ordering::Release);
        let mut to = OpenOptions::new().append(true).create(true).open(path)?;
        let end = to.metadata()?.len();
        let written = to.write_all(line.as_bytes()).and_then(|()| to.sync_all());
        if written.is_err() {
            // What the caller is told was not kept is not to be settled.
            let _ = to.set_len(end);
        }
        written?;
        if let Some(directory) = path.parent() {
            File::open(directory)?.sync_all()?;
        }
        drop(file);
        Ok(())
    }

    /// Does what was kept, now that the store is back.
    pub(super) fn settle(&self, store: &dyn Store, until: Instant) -> Result<(), StoreError> {
        let Some(path) = &self.path else {
            return Ok(());
        };
        while self.is_used.load(Ordering::Acquire) {
            let text = {
                let _file = self.file.lock();
                read(path)?
            };
            settle_text(&text, store, until)?;
            let _file = self.file.lock();
            // Unless something was added meanwhile.
            if read(path)?.len() == text.len() {
                let _ = fs::remove_file(path);
                self.is_used.store(false, Ordering::Release);
            }
        }
        Ok(())
    }
}

/// Does what a member that is dead has kept.
pub(super) fn settle_dead(
    path: Option<&Path>,
    store: &dyn Store,
    until: Instant,
) -> Result<(), StoreError> {
    let Some(path) = path else { return Ok(()) };
    let text = read(path)?;
    if !text.is_empty() {
        settle_text(&text, store, until)?;
        let _ = fs::remove_file(path);
    }
    Ok(())
}

fn settle_text(text: &str, store: &dyn Store, until: Instant) -> Result<(), StoreError> {
    // One that was cut off never counted: its caller has got an error.
    let lines = text.lines();
    let kept: Vec<_> = lines
        .filter_map(|line| of_json(store.identity(), line))
        .collect();
    let mut chunks = kept.chunks(AT_ONCE).peekable();
    while let Some(some) = chunks.next() {
        let changed = store.decide_all(some, until)?;
        // The rest has its turn the next time. What was settled before costs next to nothing, and
        // something is settled each time, so there is an end to it.
        if changed > 0 && chunks.peek().is_some() && Instant::now() >= until {
            let late = "there was no time for all of it";
            return Err(StoreError::new("settle what was kept", true, late));
        }
    }
    Ok(())
}

/// Nothing is there, mostly. What is there and cannot be read is not nothing: it was decided.
fn read(path: &Path) -> Result<String, StoreError> {
    match fs::read(path) {
        Ok(bytes) => Ok(String::from_utf8_lossy(&bytes).into_owned()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(String::new()),
        Err(error) => {
            let error = format!("{}: {error}", path.display());
            Err(StoreError::new("settle what was kept", false, error))
        }
    }
}

fn to_json(store: &str, ClaimId { key, owner, epoch }: &ClaimId, verdict: &Verdict) -> Value {
    let verdict = match verdict {
        Verdict::Completed => json!("completed"),
        Verdict::Released {
            interrupted,
            failed,
        } => {
            json!({"released": {"interrupted": interrupted, "failed": failed}})
        }
        Verdict::Failed { error } => json!({"failed": error}),
    };
    json!({"store": store, "key": key, "owner": owner, "epoch": epoch, "verdict": verdict})
}

/// Nothing for what is of another store: a file that was removed and made anew counts from one
/// again.
fn of_json(store: &str, line: &str) -> Option<(ClaimId, Verdict)> {
    let line: Value = serde_json::from_str(line).ok()?;
    if line["store"] != store {
        return None;
    }
    let claim = ClaimId {
        key: line["key"].as_str()?.to_owned(),
        owner: line["owner"].as_i64()?,
        epoch: line["epoch"].as_i64()?,
    };
    let verdict = &line["verdict"];
    let verdict = if verdict == "completed" {
        Verdict::Completed
    } else if let Some(error) = verdict["failed"].as_str() {
        Verdict::Failed {
            error: error.to_owned(),
        }
    } else {
        Verdict::Released {
            interrupted: verdict["released"]["interrupted"].as_bool()?,
            failed: verdict["released"]["failed"].as_bool()?,
        }
    };
    Some((claim, verdict))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_read_back_and_one_that_was_cut_off_does_not_count() {
        let claim = ClaimId {
            key: "größe\n\"1\"".to_owned(),
            owner: 7,
            epoch: 1 << 60,
        };
        let verdicts = [
            Verdict::Completed,
            Verdict::Released {
                interrupted: true,
                failed: false,
            },
            Verdict::Failed {
                error: "disk\nfull".to_owned(),
            },
        ];
        for verdict in verdicts {
            let line = to_json("A", &claim, &verdict).to_string();
            assert!(!line.contains('\n'));
            assert_eq!(of_json("A", &line), Some((claim.clone(), verdict)));
            assert_eq!(of_json("B", &line), None);
            assert_eq!(of_json("A", &line[..line.len() - 1]), None);
        }
        assert_eq!(of_json("A", ""), None);
    }
}
