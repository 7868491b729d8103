//! The manifest, which is only ever replaced as a whole, and the checkpoint beside it, from which the next run goes on.
//!
//! * `MANIFEST` is what `sha256sum -c` reads.
//! * `MANIFEST.partial`, the checkpoint, lies beside it exactly while it is not complete. For each file it has the
//!   stamp as well, from which the next run sees what need not be hashed again.
//!
//! The order keeps the meaning: the checkpoint is saved before an incomplete manifest, and finished after the complete
//! one. Only who has the checkpoint open writes either of them.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Write};
use std::num::TryFromIntError;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use thiserror::Error;
use winddown::{Checkpoint, CheckpointError, Damage, Restored};

use crate::console::Console;
use crate::hash::Hashed;

/// In the directory of the manifest, since a rename does not cross file systems. Its name is fixed: there is one writer.
const NEW: &str = ".checksum-tmp";

/// What the names of the files written here have after that of the manifest.
const ENDINGS: [&[u8]; 6] = [
    b"",
    b".checksum-tmp",
    b".partial",
    b".partial.previous",
    b".partial.new",
    b".partial.lock",
];

/// Path to digest, in the order of the manifest: the state that the checkpoint keeps.
pub(crate) type Entries = BTreeMap<Name, Hashed>;

/// The bytes of a path, which need not be UTF-8. In JSON each byte is a character, U+0000 to U+00FF.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub(crate) struct Name(Vec<u8>);

impl From<&Path> for Name {
    fn from(path: &Path) -> Self {
        Self(path.as_os_str().as_bytes().to_vec())
    }
}

impl From<Name> for String {
    fn from(name: Name) -> Self {
        name.0.into_iter().map(char::from).collect()
    }
}

impl TryFrom<String> for Name {
    type Error = TryFromIntError;

    fn try_from(text: String) -> Result<Self, TryFromIntError> {
        let bytes = text.chars().map(|byte| u32::from(byte).try_into());
        bytes.collect::<Result<_, _>>().map(Self)
    }
}

/// The manifest cannot be written there.
#[derive(Debug, Error)]
pub(crate) enum OutputError {
    #[error("{0:?} is a directory, and the manifest has to be a file")]
    IsADirectory(PathBuf),
    #[error("{0:?} is not a regular file, and cannot be replaced by a manifest")]
    NotAFile(PathBuf),
    #[error("cannot write {path:?}: {source}")]
    Write { path: PathBuf, source: io::Error },
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
}

/// Where the manifest goes.
pub(crate) struct Output {
    manifest: PathBuf,
    directory: PathBuf,
    /// Device and inode of the directory, which may be reached by several names.
    directory_id: (u64, u64),
}

impl Output {
    /// Finds out now, and not after hours of hashing, what can be found out about it.
    pub(crate) fn new(manifest: &Path) -> Result<Self, OutputError> {
        let write_error = |source| OutputError::Write {
            path: manifest.to_owned(),
            source,
        };
        // Replaced is what a symlink leads to, not the symlink.
        let manifest = match fs::symlink_metadata(manifest) {
            Ok(found) if found.is_symlink() => fs::canonicalize(manifest).map_err(write_error)?,
            _ => manifest.to_owned(),
        };
        match fs::metadata(&manifest) {
            Ok(found) if found.is_dir() => return Err(OutputError::IsADirectory(manifest)),
            Ok(found) if !found.is_file() => return Err(OutputError::NotAFile(manifest)),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(write_error(error)),
        }
        if manifest.file_name().is_none() {
            return Err(OutputError::IsADirectory(manifest));
        }
        let directory = match manifest.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
            _ => PathBuf::from("."),
        };
        let found = fs::metadata(&directory).map_err(write_error)?;
        Ok(Self {
            directory_id: (found.dev(), found.ino()),
            directory,
            manifest,
        })
    }

    pub(crate) fn manifest(&self) -> &Path {
        &self.manifest
    }

    /// The checkpoint, and what the run before this one has left in it. As long as it is open, no other run can write
    /// this manifest: that it cannot be written here is found out by this, too.
    pub(crate) fn resume(
        &self,
        console: &Console,
    ) -> Result<(Checkpoint<Entries>, Entries), CheckpointError> {
        let partial = self.beside(".partial");
        let (checkpoint, restored) = loop {
            match Checkpoint::open(&partial) {
                // With no sound one from before. What somebody else wrote is not ours to remove.
                Err(CheckpointError::Damaged {
                    damage: Damage::CutOff | Damage::Altered,
                    path,
                    ..
                }) if fs::remove_file(&path).is_ok() => {
                    console.line(format_args!(
                        "{path:?} is damaged: hashing everything again"
                    ));
                }
                opened => break opened?,
            }
        };
        if let Restored::Previous { damage, .. } = &restored {
            console.line(format_args!(
                "{partial:?}: {damage}: going on from the one before"
            ));
        }
        Ok((checkpoint, restored.into_state().unwrap_or_default()))
    }

    /// The file is one of those written here, which do not belong into the manifest.
    pub(crate) fn owns(&self, path: &Path) -> bool {
        let ending = self.manifest.file_name().zip(path.file_name());
        let ours = ending
            .and_then(|(ours, name)| name.as_bytes().strip_prefix(ours.as_bytes()))
            .is_some_and(|ending| ENDINGS.contains(&ending));
        // Only then is it worth the question where it lies.
        ours && path
            .parent()
            .and_then(|parent| fs::metadata(parent).ok())
            .is_some_and(|parent| (parent.dev(), parent.ino()) == self.directory_id)
    }

    /// Replaces the manifest: by the whole text, or not at all.
    pub(crate) fn write(&self, entries: &Entries) -> Result<(), OutputError> {
        let new = self.beside(NEW);
        let write = || -> io::Result<()> {
            // A run that was killed may have left it.
            if let Err(error) = fs::remove_file(&new) {
                if error.kind() != io::ErrorKind::NotFound {
                    return Err(error);
                }
            }
            let mut file = File::create_new(&new)?;
            file.write_all(&manifest(entries))?;
            // Before the name: or a power cut could leave the new name on an empty file.
            file.sync_all()?;
            fs::rename(&new, &self.manifest)?;
            // That the new name lasts, too. Not every file system can, and none has lost anything if it does not.
            let _ = File::open(&self.directory).and_then(|directory| directory.sync_all());
            Ok(())
        };
        write().map_err(|source| OutputError::Write {
            path: self.manifest.clone(),
            source,
        })
    }

    fn beside(&self, ending: &str) -> PathBuf {
        let mut path = self.manifest.clone().into_os_string();
        path.push(ending);
        path.into()
    }
}

/// One line a file, as `sha256sum` writes it.
fn manifest(entries: &Entries) -> Vec<u8> {
    let mut text = Vec::new();
    for (Name(path), hashed) in entries {
        let escape = path
            .iter()
            .any(|byte| matches!(byte, b'\n' | b'\r' | b'\\'));
        if escape {
            // Tells `sha256sum` that the name on this line is escaped.
            text.push(b'\\');
        }
        text.extend_from_slice(hashed.digest.as_bytes());
        text.extend_from_slice(b"  ");
        for &byte in path {
            match byte {
                b'\n' => text.extend_from_slice(b"\\n"),
                b'\r' => text.extend_from_slice(b"\\r"),
                b'\\' => text.extend_from_slice(b"\\\\"),
                byte => text.push(byte),
            }
        }
        text.push(b'\n');
    }
    text
}
