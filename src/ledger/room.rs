//! The files beside a store: a lock for each member of this host, and the journals.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::ledger::LedgerError;
use crate::lock::{Lock, Seen, Taken};

/// Where they are.
#[derive(Clone)]
pub(super) struct Room {
    /// All of them begin with this. `None`: there is no place for any.
    prefix: Option<PathBuf>,
}

/// The lock that says that a member lives.
pub(super) enum Post {
    /// `None`: only its heart says so.
    Mine(Option<Lock>),
    /// Somebody else has it, who tidies up and has found the file before it was locked, or who has
    /// the same number in a store that is gone.
    Taken,
}

impl Room {
    pub(super) fn beside(store: &Path) -> Self {
        Self {
            prefix: Some(with(store, ".member-")),
        }
    }

    /// For a store that is elsewhere, without files.
    #[cfg(feature = "ledger-postgres")]
    pub(super) fn nowhere() -> Self {
        Self { prefix: None }
    }

    fn path(&self, member: i64, ending: &str) -> Option<PathBuf> {
        let prefix = self.prefix.as_ref()?;
        Some(with(prefix, &format!("{member}.{ending}")))
    }

    pub(super) fn journal_path(&self, member: i64) -> Option<PathBuf> {
        self.path(member, "journal")
    }

    pub(super) fn lock(&self, member: i64) -> Result<Post, LedgerError> {
        let Some(path) = self.path(member, "lock") else {
            return Ok(Post::Mine(None));
        };
        match Lock::take(path.clone()) {
            Ok(Taken::Mine(lock)) => Ok(Post::Mine(Some(lock))),
            Ok(Taken::By(_)) => Ok(Post::Taken),
            Err(source) => Err(LedgerError::File { path, source }),
        }
    }

    /// Looks whether a member of this host lives.
    pub(super) fn look(&self, member: i64) -> io::Result<Seen> {
        let path = self.path(member, "lock");
        path.map_or(Ok(Seen::Nothing), Lock::look)
    }

    /// Members that have left a file behind, or are there.
    pub(super) fn members(&self) -> io::Result<Vec<i64>> {
        let prefix = self.prefix.as_deref();
        let place = prefix.and_then(|prefix| Some((prefix.parent()?, prefix.file_name()?)));
        let Some((directory, prefix)) = place else {
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
