//! The files beside a store: a lock for each member of this host, and the journals.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::ledger::LedgerError;
use crate::lock::{Lock, Seen, Taken};

/// Where they are.
#[derive(Clone)]
pub(super) struct Room {
    /// All of them begin with this.
    prefix: PathBuf,
}

impl Room {
    pub(super) fn beside(store: &Path) -> Self {
        Self {
            prefix: with(store, ".member-"),
        }
    }

    fn lock_path(&self, member: i64) -> PathBuf {
        with(&self.prefix, &format!("{member}.lock"))
    }

    pub(super) fn journal_path(&self, member: i64) -> PathBuf {
        with(&self.prefix, &format!("{member}.journal"))
    }

    /// The lock that says that the member lives. `None`: somebody else has it, who tidies up and has
    /// found the file before it was locked, or who has the same number in a store that is gone.
    pub(super) fn lock(&self, member: i64) -> Result<Option<Lock>, LedgerError> {
        let path = self.lock_path(member);
        match Lock::take(path.clone()) {
            Ok(Taken::Mine(lock)) => Ok(Some(lock)),
            Ok(Taken::By(_)) => Ok(None),
            Err(source) => Err(LedgerError::File { path, source }),
        }
    }

    /// Looks whether a member of this host lives.
    pub(super) fn look(&self, member: i64) -> io::Result<Seen> {
        Lock::look(self.lock_path(member))
    }

    /// Members that have left a file behind, or are there.
    pub(super) fn members(&self) -> io::Result<Vec<i64>> {
        let (Some(directory), Some(prefix)) = (self.prefix.parent(), self.prefix.file_name())
        else {
            return Ok(Vec::new());
        };
        let mut found = Vec::new();
        for entry in fs::read_dir(directory)? {
            let name = entry?.file_name();
            let rest = name
                .as_encoded_bytes()
                .strip_prefix(prefix.as_encoded_bytes());
            let rest = rest.and_then(|rest| std::str::from_utf8(rest).ok());
            let number = rest
                .and_then(|rest| rest.split_once('.'))
                .map(|(number, _)| number);
            found.extend(number.and_then(|number| number.parse::<i64>().ok()));
        }
        found.sort_unstable();
        found.dedup();
        Ok(found)
    }
}

fn with(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(ending);
    name.into()
}
