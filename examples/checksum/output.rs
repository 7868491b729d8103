//! The two files that are written, both only ever replaced as a whole: a reader, and the next run, finds the old one or
//! the new one, whatever ends this process.
//!
//! * `MANIFEST` is what `sha256sum -c` reads.
//! * `MANIFEST.partial` lies beside it exactly while it is not complete. For each file it has the stamp as well, from
//!   which the next run sees what need not be hashed again.
//!
//! The order keeps the meaning: `.partial` is written before an incomplete manifest, and removed
//! after the complete one.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fs::{self, File, Permissions};
use std::io::{self, Write};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use sha2::{Digest, Sha256};
use thiserror::Error;

use crate::hash::Hashed;
use crate::tree::Stamp;

/// Path to digest, in the order of the manifest: an `OsString` compares by its bytes, which a `PathBuf` does not.
pub(crate) type Entries = BTreeMap<OsString, Hashed>;

/// A temporary file older than this was left behind by a run that was killed.
const LEFT_BEHIND: Duration = Duration::from_secs(600);

const MAGIC: &[u8] = b"checksum partial 1\n";
const TEMPORARY: &str = ".checksum-tmp";

/// The manifest or its side file cannot be used.
#[derive(Debug, Error)]
pub(crate) enum OutputError {
    #[error("{0:?} is a directory, and the manifest has to be a file")]
    IsADirectory(PathBuf),
    #[error("{0:?} is not a regular file, and cannot be replaced by a manifest")]
    NotAFile(PathBuf),
    #[error("{0:?} was not written by checksum: please move it out of the way")]
    NotOurs(PathBuf),
    #[error("cannot read {path:?}: {source}")]
    Read { path: PathBuf, source: io::Error },
    #[error("cannot write {path:?}: {source}")]
    Write { path: PathBuf, source: io::Error },
}

/// What an earlier run has left.
pub(crate) enum Earlier {
    /// Nothing, or a complete manifest: a new run hashes everything.
    Nothing,
    /// An interrupted run left these.
    Interrupted(Entries),
    /// Something that does not add up, as after a fault of the disk.
    Damaged,
}

/// Where the manifest goes.
pub(crate) struct Output {
    manifest: PathBuf,
    partial: PathBuf,
    directory: PathBuf,
    /// Device and inode of the directory, which may be reached by several names.
    directory_id: (u64, u64),
    /// What the names of temporary files begin with.
    prefix: OsString,
}

impl Output {
    /// Finds out now, and not after hours of hashing, whether a manifest can be written there.
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
        let Some(name) = manifest.file_name() else {
            return Err(OutputError::IsADirectory(manifest));
        };
        let directory = match manifest.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
            _ => PathBuf::from("."),
        };
        let found = fs::metadata(&directory).map_err(write_error)?;

        let mut prefix = OsString::from(".");
        prefix.push(name);
        prefix.push(".");
        let mut partial = manifest.clone().into_os_string();
        partial.push(".partial");
        let output = Self {
            partial: partial.into(),
            directory_id: (found.dev(), found.ino()),
            directory,
            prefix,
            manifest,
        };
        output.temporary().map_err(|source| OutputError::Write {
            path: output.manifest.clone(),
            source,
        })?;
        output.clear_left_behind();
        Ok(output)
    }

    pub(crate) fn manifest(&self) -> &Path {
        &self.manifest
    }

    pub(crate) fn partial(&self) -> &Path {
        &self.partial
    }

    /// The file is one of those written here, which do not belong into the manifest.
    pub(crate) fn owns(&self, path: &Path) -> bool {
        let Some(name) = path.file_name() else {
            return false;
        };
        let ours = Some(name) == self.manifest.file_name()
            || Some(name) == self.partial.file_name()
            || self.is_temporary(name);
        // Only then is it worth the question where it lies.
        ours && path
            .parent()
            .and_then(|parent| fs::metadata(parent).ok())
            .is_some_and(|parent| (parent.dev(), parent.ino()) == self.directory_id)
    }

    /// What the run before this one has left.
    pub(crate) fn earlier(&self) -> Result<Earlier, OutputError> {
        let state = match fs::read(&self.partial) {
            Ok(state) => state,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Earlier::Nothing),
            Err(source) => {
                return Err(OutputError::Read {
                    path: self.partial.clone(),
                    source,
                });
            }
        };
        if !state.starts_with(MAGIC) {
            return Err(OutputError::NotOurs(self.partial.clone()));
        }
        Ok(parse_partial(&state).map_or(Earlier::Damaged, Earlier::Interrupted))
    }

    /// Replaces both files by what is known so far.
    pub(crate) fn write_interrupted(&self, text: &Text) -> Result<(), OutputError> {
        self.replace(&self.partial, &text.partial)?;
        self.replace(&self.manifest, &text.manifest)
    }

    /// Replaces the manifest by the complete one.
    pub(crate) fn write_complete(&self, manifest: &[u8]) -> Result<(), OutputError> {
        self.replace(&self.manifest, manifest)?;
        match fs::remove_file(&self.partial) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => Err(OutputError::Write {
                path: self.partial.clone(),
                source,
            }),
            _ => Ok(()),
        }
    }

    /// The whole content or none of it.
    fn replace(&self, path: &Path, content: &[u8]) -> Result<(), OutputError> {
        let write = || -> io::Result<()> {
            let mut file = self.temporary()?;
            file.write_all(content)?;
            // Before the name: or a power cut could leave the new name on an empty file.
            file.as_file().sync_all()?;
            file.persist(path)?;
            // That the new name lasts, too. Not every file system can, and none has lost anything if it does not.
            let _ = File::open(&self.directory).and_then(|directory| directory.sync_all());
            Ok(())
        };
        write().map_err(|source| OutputError::Write {
            path: path.to_owned(),
            source,
        })
    }

    /// In the directory of the manifest, since a rename does not cross file systems.
    fn temporary(&self) -> io::Result<tempfile::NamedTempFile> {
        tempfile::Builder::new()
            .prefix(&self.prefix)
            .suffix(TEMPORARY)
            // As any other new file: the umask takes from it what the user does not want.
            .permissions(Permissions::from_mode(0o666))
            .tempfile_in(&self.directory)
    }

    fn is_temporary(&self, name: &OsStr) -> bool {
        let name = name.as_bytes();
        name.starts_with(self.prefix.as_bytes()) && name.ends_with(TEMPORARY.as_bytes())
    }

    /// A killed run cannot remove its temporary file. That of another run which is just being written is young.
    fn clear_left_behind(&self) {
        let Ok(entries) = fs::read_dir(&self.directory) else {
            return;
        };
        for entry in entries
            .flatten()
            .filter(|entry| self.is_temporary(&entry.file_name()))
        {
            let age = entry
                .metadata()
                .and_then(|found| found.modified())
                .map(|time| time.elapsed());
            if matches!(age, Ok(Ok(age)) if age > LEFT_BEHIND) {
                let _ = fs::remove_file(entry.path());
            }
        }
    }
}

/// Both files, ready to be written.
pub(crate) struct Text {
    manifest: Vec<u8>,
    partial: Vec<u8>,
}

impl Text {
    pub(crate) fn of(entries: &Entries) -> Self {
        Self {
            manifest: manifest(entries),
            partial: partial(entries),
        }
    }
}

/// One line a file, as `sha256sum` writes it.
pub(crate) fn manifest(entries: &Entries) -> Vec<u8> {
    let mut text = Vec::new();
    for (path, hashed) in entries {
        let path = path.as_bytes();
        let escape = path
            .iter()
            .any(|byte| matches!(byte, b'\n' | b'\r' | b'\\'));
        if escape {
            // Tells `sha256sum` that the name on this line is escaped.
            text.push(b'\\');
        }
        text.extend_from_slice(hex(&hashed.digest).as_bytes());
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

/// Records ended by NUL, which no path can contain, and a digest over all of it.
fn partial(entries: &Entries) -> Vec<u8> {
    let mut text = MAGIC.to_vec();
    // A file written to a moment ago could change again without another stamp: the next run had better look itself.
    for (path, Hashed { digest, stamp, .. }) in entries.iter().filter(|(_, hashed)| hashed.settled)
    {
        let Stamp {
            size,
            inode,
            modified,
            changed,
        } = stamp;
        let record = format!(
            "{} {size} {inode} {} {} {} {} ",
            hex(digest),
            modified.0,
            modified.1,
            changed.0,
            changed.1
        );
        text.extend_from_slice(record.as_bytes());
        text.extend_from_slice(path.as_bytes());
        text.push(0);
    }
    let digest: [u8; 32] = Sha256::digest(&text).into();
    text.extend_from_slice(hex(&digest).as_bytes());
    text
}

fn parse_partial(state: &[u8]) -> Option<Entries> {
    let (text, digest) = state.split_last_chunk::<64>()?;
    let expected: [u8; 32] = Sha256::digest(text).into();
    if hex(&expected).as_bytes() != digest {
        return None;
    }
    let records = text.strip_prefix(MAGIC)?.split_inclusive(|&byte| byte == 0);
    records
        .map(|record| parse_record(record.strip_suffix(&[0])?))
        .collect()
}

fn parse_record(record: &[u8]) -> Option<(OsString, Hashed)> {
    let mut fields = record.splitn(8, |&byte| byte == b' ');
    let digest = unhex(fields.next()?)?;
    let mut number = || {
        std::str::from_utf8(fields.next()?)
            .ok()?
            .parse::<i128>()
            .ok()
    };
    let stamp = Stamp {
        size: number()?.try_into().ok()?,
        inode: number()?.try_into().ok()?,
        modified: (number()?.try_into().ok()?, number()?.try_into().ok()?),
        changed: (number()?.try_into().ok()?, number()?.try_into().ok()?),
    };
    let path = OsString::from_vec(fields.next()?.to_vec());
    Some((
        path,
        Hashed {
            digest,
            stamp,
            settled: true,
        },
    ))
}

const HEX: &[u8; 16] = b"0123456789abcdef";

fn hex(digest: &[u8; 32]) -> String {
    let digit = |nibble: u8| char::from(HEX[usize::from(nibble)]);
    digest
        .iter()
        .flat_map(|byte| [digit(byte >> 4), digit(byte & 15)])
        .collect()
}

fn unhex(text: &[u8]) -> Option<[u8; 32]> {
    let mut digest = [0; 32];
    if text.len() != 2 * digest.len() {
        return None;
    }
    for (byte, pair) in digest.iter_mut().zip(text.chunks_exact(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
    }
    Some(digest)
}
