//! The files that are being hashed: the shutdown waits for them, and the user is told which they are.

use std::path::{Path, PathBuf};

use parking_lot::Mutex;
use winddown::{Hold, IntakeClosed, ShutdownHandle};

/// All of them.
pub(crate) struct Hands {
    shutdown: ShutdownHandle,
    paths: Mutex<Vec<PathBuf>>,
}

/// One of them, until it is dropped.
pub(crate) struct InHand<'a> {
    hands: &'a Hands,
    path: &'a Path,
    _hold: Hold,
}

impl Hands {
    pub(crate) fn new(shutdown: ShutdownHandle) -> Self {
        Self {
            shutdown,
            paths: Mutex::default(),
        }
    }

    /// Begins with a file. Refused once the program has stopped.
    pub(crate) fn take<'a>(&'a self, path: &'a Path) -> Result<InHand<'a>, IntakeClosed> {
        // With the lock held, so that whoever asks for the paths after the stop gets them all: what
        // has its hold by then is on the list, and nothing is added any more.
        let mut paths = self.paths.lock();
        let hold = self.shutdown.hold(format!("{path:?}"))?;
        paths.push(path.to_owned());
        Ok(InHand {
            hands: self,
            path,
            _hold: hold,
        })
    }

    pub(crate) fn paths(&self) -> Vec<PathBuf> {
        self.paths.lock().clone()
    }
}

impl Drop for InHand<'_> {
    fn drop(&mut self) {
        self.hands.paths.lock().retain(|path| path != self.path);
    }
}
