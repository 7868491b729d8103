//! Why a checkpoint refuses.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use thiserror::Error;

use crate::checkpoint::format::Damage;

/// A checkpoint could not be opened or saved. Nothing has been lost: what was there is there.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum CheckpointError {
    /// Another process has it open, or this one has it open already.
    #[error("the checkpoint {} is in use by {holder}", .path.display())]
    #[non_exhaustive]
    InUse {
        /// The checkpoint.
        path: PathBuf,
        /// Its process id, where it has said so already.
        pid: Option<u32>,
        /// The process in words: "process 4242 (importer)".
        holder: String,
    },
    /// The file cannot be used, and there is no sound one from before.
    #[error("cannot use the checkpoint {}: {damage}", .path.display())]
    #[non_exhaustive]
    Damaged {
        /// The checkpoint.
        path: PathBuf,
        /// What is wrong with it.
        damage: Damage,
    },
    /// The file is sound, but its state is of another version of the program.
    #[error("the checkpoint {} has a state of version {found}, not {expected}", .path.display())]
    #[non_exhaustive]
    Version {
        /// The checkpoint.
        path: PathBuf,
        /// The version of its state.
        found: u32,
        /// The version that was [asked for](crate::CheckpointBuilder::version).
        expected: u32,
    },
    /// The file is sound, but its state is of another shape.
    #[error("the checkpoint {} has a state of another shape: {error}", .path.display())]
    #[non_exhaustive]
    Shape {
        /// The checkpoint.
        path: PathBuf,
        /// What does not fit.
        error: String,
    },
    /// The state could not be read back from what would have been saved; the old one is still
    /// there.
    #[error("this state could not be restored from the checkpoint {}: {error}", .path.display())]
    #[non_exhaustive]
    NotRestorable {
        /// The checkpoint.
        path: PathBuf,
        /// What does not fit into JSON, or not back.
        error: String,
    },
    /// The system refused.
    #[error("cannot {what} the checkpoint {}: {source}", .path.display())]
    #[non_exhaustive]
    Io {
        /// "open" or "save", "finish".
        what: &'static str,
        /// The checkpoint.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

fn process(pid: Option<u32>) -> String {
    match pid {
        Some(pid) if pid == std::process::id() => "this process itself".to_owned(),
        Some(pid) => {
            let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
            let name: String = name.trim().chars().filter(|c| !c.is_control()).collect();
            if name.is_empty() {
                format!("process {pid}")
            } else {
                format!("process {pid} ({name})")
            }
        }
        None => "another process".to_owned(),
    }
}

pub(super) fn in_use(path: PathBuf, pid: Option<u32>) -> CheckpointError {
    let holder = process(pid);
    CheckpointError::InUse { path, pid, holder }
}

pub(super) fn damaged(path: &Path, damage: Damage) -> CheckpointError {
    CheckpointError::Damaged {
        path: path.to_owned(),
        damage,
    }
}
