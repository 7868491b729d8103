//! The file with the counts, only ever replaced as a whole: a reader finds the old one or the new one, whatever ends this
//! process. (A run that is killed just while it writes leaves a temporary file behind, `.COUNTS.….stream-tmp`.)

use std::fs::{self, File, Permissions};
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use thiserror::Error;

use crate::reader::Source;

/// COUNTS cannot be written.
#[derive(Debug, Error)]
pub(crate) enum OutputError {
    #[error("{0:?} is not a regular file, and cannot be replaced by the counts")]
    NotAFile(PathBuf),
    #[error("{0:?} is one of the files to read, and would be replaced by the counts")]
    IsASource(PathBuf),
    #[error("cannot write {path:?}: {source}")]
    Write { path: PathBuf, source: io::Error },
    #[error("{0:?} is not written: the counting did not come to its end")]
    NoCounts(PathBuf),
}

/// Where the counts go.
pub(crate) struct Output {
    path: PathBuf,
    directory: PathBuf,
}

impl Output {
    /// Finds out now, and not after hours of counting, whether it can be written.
    pub(crate) fn new(path: &Path, sources: &[Source]) -> Result<Self, OutputError> {
        let error = |source| OutputError::Write {
            path: path.to_owned(),
            source,
        };
        // Replaced is what a symlink leads to, not the symlink.
        let is_symlink = fs::symlink_metadata(path).is_ok_and(|found| found.is_symlink());
        let target = if is_symlink {
            fs::canonicalize(path).map_err(error)?
        } else {
            path.to_owned()
        };
        match fs::metadata(&target) {
            Ok(found) if !found.is_file() => return Err(OutputError::NotAFile(target)),
            Ok(found)
                if sources
                    .iter()
                    .any(|source| source.id == (found.dev(), found.ino())) =>
            {
                return Err(OutputError::IsASource(target));
            }
            Ok(_) => {}
            Err(why) if why.kind() == io::ErrorKind::NotFound => {}
            Err(why) => return Err(error(why)),
        }
        let directory = match target.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
            _ => PathBuf::from("."),
        };
        // Says it more simply than what fails below.
        fs::metadata(&directory).map_err(error)?;
        let output = Self {
            path: target,
            directory,
        };
        output.temporary().map_err(error)?;
        Ok(output)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// All of the lines or none of them.
    pub(crate) fn replace(&self, lines: &[Vec<u8>]) -> Result<(), OutputError> {
        let write = || -> io::Result<()> {
            let mut text = BufWriter::new(self.temporary()?);
            for line in lines {
                text.write_all(line)?;
            }
            let file = text.into_inner()?;
            // Before the name: or a power cut could leave the new name on an empty file.
            file.as_file().sync_all()?;
            file.persist(&self.path)?;
            // That the new name lasts, too. Not every file system can, and none has lost anything if it does not.
            let _ = File::open(&self.directory).and_then(|directory| directory.sync_all());
            Ok(())
        };
        write().map_err(|source| OutputError::Write {
            path: self.path.clone(),
            source,
        })
    }

    /// In the directory of the file, since a rename does not cross file systems.
    fn temporary(&self) -> io::Result<tempfile::NamedTempFile> {
        let mut prefix = std::ffi::OsString::from(".");
        prefix.push(self.path.file_name().unwrap_or_default());
        prefix.push(".");
        tempfile::Builder::new()
            .prefix(&prefix)
            .suffix(".stream-tmp")
            // As any other new file: the umask takes from it what the user does not want.
            .permissions(Permissions::from_mode(0o666))
            .tempfile_in(&self.directory)
    }
}
