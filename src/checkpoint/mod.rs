//! Progress that survives: the state of a long job, on disk, whole, whatever happens in between.

mod error;
mod format;
mod store;

use std::fmt;
use std::io;
use std::marker::PhantomData;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::checkpoint::error::{damaged, in_use};
use crate::checkpoint::format::{Contents, decode, encode};
use crate::checkpoint::store::Store;
use crate::lock::Taken;
use crate::token::StopToken;

pub use error::CheckpointError;
pub use format::Damage;

/// Between two saves of `tick`, unless it is told otherwise.
const INTERVAL: Duration = Duration::from_secs(10);

/// The state of a job that takes longer than one run: saved now and then, and found again by the
/// next run, also after `SIGKILL` or a power cut.
///
/// ```
/// use serde::{Deserialize, Serialize};
/// use winddown::{Checkpoint, Ticked};
///
/// #[derive(Default, Serialize, Deserialize)]
/// struct Import { next: usize }
///
/// # let directory = tempfile::tempdir()?;
/// # let path = directory.path().join("import.checkpoint");
/// # let token = winddown::StopSource::new().token();
/// # let rows = [1, 2, 3];
/// let (mut checkpoint, restored) = Checkpoint::<Import>::open(&path)?;
/// let mut state = restored.into_state().unwrap_or_default();
/// while state.next < rows.len() {
///     // … import rows[state.next] …
///     state.next += 1;
///     if checkpoint.tick(&token, &state)? == Ticked::Stopping {
///         return Ok(()); // saved; the next run goes on from here
///     }
/// }
/// checkpoint.finish()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # What is promised
///
/// * The file is always the old state or the new one, whole: never a third. When `save` returns,
///   the new one is on the disk, as far as the system can tell (`fsync` of the file, a rename,
///   `fsync` of the directory).
/// * The generation before is kept. A file that is torn, cut off, flipped in one bit or something
///   else is found by its length and checksum; then the one before is taken, which
///   [`Restored::Previous`] says, or, where there is none, it is a typed error. It is never removed
///   or written over by `open`.
/// * What cannot be read back is not saved: each state is read back before it replaces another.
/// * One process at a time: a second gets [`CheckpointError::InUse`], which names the first. The
///   lock is the kernel's (`flock`), so it goes with the process, however that ends.
/// * A full disk is an error, and the old state is still there.
///
/// Beside `PATH` it uses `PATH.previous`, `PATH.new` and `PATH.lock`, and replaces what stands in
/// the first two. Its permissions stay as they are set. The state is JSON, so it can be looked at;
/// what JSON cannot hold (NaN, a map with keys that are not text or numbers) is refused by `save`.
/// It has one word, `null`, for `None`, for `Some(None)`, and for NaN in an `Option`: they come
/// back as `None`.
///
/// # Limits
///
/// An effect outside of the state may have happened after the last save: what is done twice must do
/// no harm, or be in the state. On a file system that ignores `fsync`, or whose locks are not seen
/// by other machines, the promises are as good as that. Dropping a checkpoint saves nothing. A fork
/// has the lock's open file, but not the checkpoint: there a save is refused, and where it outlives
/// its parent, the lock is free when it ends.
pub struct Checkpoint<T> {
    store: Store,
    version: u32,
    interval: Duration,
    generation: u64,
    /// The current file is sound, and worth keeping as the previous one.
    sound: bool,
    /// The last time that `tick` saved, or tried to.
    last: Instant,
    of: PhantomData<fn(&T)>,
}

/// What [`Checkpoint::open`] found.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use = "the state of the run before is in it"]
pub enum Restored<T> {
    /// Nothing: a new job.
    Fresh,
    /// The state that was saved last.
    Current(T),
    /// The state before that, as the last one is damaged.
    Previous {
        /// The state.
        state: T,
        /// What is wrong with the last one.
        damage: Damage,
    },
}

impl<T> Restored<T> {
    /// The state, where there was one.
    pub fn into_state(self) -> Option<T> {
        match self {
            Self::Fresh => None,
            Self::Current(state) | Self::Previous { state, .. } => Some(state),
        }
    }

    /// There was no state.
    pub fn is_fresh(&self) -> bool {
        matches!(self, Self::Fresh)
    }
}

/// What [`Checkpoint::tick`] did.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[must_use = "when the program is stopping, the loop should end"]
pub enum Ticked {
    /// Nothing: the interval is not over.
    NotDue,
    /// Saved, as the interval was over.
    Saved,
    /// Saved, as the program is stopping: time to end the loop.
    Stopping,
}

/// Settings of a [`Checkpoint`]; ends in [`open`](Self::open).
#[derive(Clone, Debug)]
#[must_use = "it does nothing before open"]
pub struct CheckpointBuilder<T> {
    path: PathBuf,
    version: u32,
    interval: Duration,
    of: PhantomData<fn(&T)>,
}

impl<T: Serialize + DeserializeOwned> CheckpointBuilder<T> {
    /// How much time may pass between two saves by [`tick`](Checkpoint::tick): what a crash can
    /// cost. Default: 10 s.
    pub fn interval(mut self, interval: Duration) -> Self {
        self.interval = interval;
        self
    }

    /// The version of the state's shape; to be raised when an older state must not be taken for a
    /// new one. Default: 0. A file of another version is [`CheckpointError::Version`].
    pub fn version(mut self, version: u32) -> Self {
        self.version = version;
        self
    }

    /// Opens it, and restores what is there.
    ///
    /// # Errors
    ///
    /// [`CheckpointError`]: it is no regular file, in use, damaged with nothing before it, of
    /// another version or shape, or the system refused. The files are left as they are.
    pub fn open(self) -> Result<(Checkpoint<T>, Restored<T>), CheckpointError> {
        let io = |source| CheckpointError::Io {
            what: "open",
            path: self.path.clone(),
            source,
        };
        let store = match Store::open(&self.path).map_err(io)? {
            Taken::Mine(store) => store,
            Taken::By(pid) => return Err(in_use(self.path, pid)),
        };
        let mut checkpoint = Checkpoint {
            version: self.version,
            interval: self.interval,
            generation: 0,
            sound: false,
            last: Instant::now(),
            of: PhantomData,
            store,
        };
        let restored = checkpoint.restore()?;
        Ok((checkpoint, restored))
    }
}

impl<T: Serialize + DeserializeOwned> Checkpoint<T> {
    /// Opens the checkpoint at `path`, and restores what is there. Its directory must exist.
    ///
    /// # Errors
    ///
    /// As [`CheckpointBuilder::open`].
    pub fn open(path: impl Into<PathBuf>) -> Result<(Self, Restored<T>), CheckpointError> {
        Self::builder(path).open()
    }

    /// The settings, at their defaults.
    pub fn builder(path: impl Into<PathBuf>) -> CheckpointBuilder<T> {
        CheckpointBuilder {
            path: path.into(),
            version: 0,
            interval: INTERVAL,
            of: PhantomData,
        }
    }

    fn restore(&mut self) -> Result<Restored<T>, CheckpointError> {
        let damage = match self.read(&self.store.current)? {
            Found::State(generation, state) => {
                self.generation = generation;
                self.sound = true;
                return Ok(Restored::Current(state));
            }
            Found::Nothing => None,
            Found::Damaged(damage) => Some(damage),
        };
        match (self.read(&self.store.previous)?, damage) {
            (Found::State(generation, state), damage) => {
                self.generation = generation;
                // Killed between two renames, where the file system has no links.
                let damage = damage.unwrap_or(Damage::Missing);
                Ok(Restored::Previous { state, damage })
            }
            (Found::Nothing, None) => Ok(Restored::Fresh),
            (Found::Nothing | Found::Damaged(_), Some(damage)) => {
                Err(damaged(&self.store.current, damage))
            }
            (Found::Damaged(damage), None) => Err(damaged(&self.store.previous, damage)),
        }
    }

    fn read(&self, path: &Path) -> Result<Found<T>, CheckpointError> {
        let file = match store::read(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Found::Nothing),
            read => read.map_err(|source| CheckpointError::Io {
                what: "open",
                path: path.to_owned(),
                source,
            })?,
        };
        let contents = match decode(&file) {
            Ok(contents) => contents,
            Err(damage) => return Ok(Found::Damaged(damage)),
        };
        if contents.version != self.version {
            return Err(CheckpointError::Version {
                path: path.to_owned(),
                found: contents.version,
                expected: self.version,
            });
        }
        // Sound, but not what is expected: an older state would be no better, and taking it would
        // throw this one away.
        let state =
            serde_json::from_slice(contents.state).map_err(|error| CheckpointError::Shape {
                path: path.to_owned(),
                error: error.to_string(),
            })?;
        Ok(Found::State(contents.generation, state))
    }

    /// Saves `state`: when this returns, it is what the next run finds.
    ///
    /// # Errors
    ///
    /// [`CheckpointError::NotRestorable`] when it could not be read back, [`CheckpointError::Io`]
    /// when the system refused, a full disk for one; [`CheckpointError::InUse`] in a fork, or when
    /// somebody has removed the lock's file and another process has opened the checkpoint since.
    /// The state saved before is still there; the new one is, where the last step failed, the
    /// `fsync` of the directory.
    pub fn save(&mut self, state: &T) -> Result<(), CheckpointError> {
        let path = self.path().to_owned();
        let refused = |error: serde_json::Error| CheckpointError::NotRestorable {
            path: path.clone(),
            error: error.to_string(),
        };
        let state = serde_json::to_vec(state).map_err(refused)?;
        serde_json::from_slice::<T>(&state).map_err(refused)?;
        self.hold("save")?;
        let generation = self.generation + 1;
        let file = encode(&Contents {
            version: self.version,
            generation,
            state: &state,
        });
        let refused = |source| CheckpointError::Io {
            what: "save",
            path: path.clone(),
            source,
        };
        self.store.write(&file, self.sound).map_err(refused)?;
        // From here on it is what the next run finds, unless the power is cut.
        self.generation = generation;
        self.sound = true;
        self.store.sync_directory().map_err(refused)
    }

    /// Saves `state` if the interval is over, or if `token` has been stopped, and says which.
    ///
    /// Cheap while nothing is due: a load and a look at the clock. After a save that failed it
    /// tries again when the interval is over once more, or at the stop.
    ///
    /// # Errors
    ///
    /// As [`save`](Self::save). At the stop too: then the loop should end with it, as another try
    /// would most likely fail like this one.
    pub fn tick(&mut self, token: &StopToken, state: &T) -> Result<Ticked, CheckpointError> {
        if token.is_stopped() {
            self.save(state)?;
            return Ok(Ticked::Stopping);
        }
        if self.last.elapsed() < self.interval {
            return Ok(Ticked::NotDue);
        }
        let saved = self.save(state);
        self.last = Instant::now();
        saved.map(|()| Ticked::Saved)
    }

    /// The job is done: removes the state, so that the next run is a new one.
    ///
    /// # Errors
    ///
    /// [`CheckpointError::Io`] when the system refused, [`CheckpointError::InUse`] as with
    /// [`save`](Self::save).
    pub fn finish(mut self) -> Result<(), CheckpointError> {
        self.hold("finish")?;
        self.store.clear().map_err(|source| CheckpointError::Io {
            what: "finish",
            path: self.store.current.clone(),
            source,
        })
    }

    fn hold(&mut self, what: &'static str) -> Result<(), CheckpointError> {
        match self.store.hold() {
            Ok(Taken::Mine(())) => Ok(()),
            Ok(Taken::By(pid)) => Err(in_use(self.path().to_owned(), pid)),
            Err(source) => Err(CheckpointError::Io {
                what,
                path: self.path().to_owned(),
                source,
            }),
        }
    }

    /// How often this job has been saved, in all runs.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// Its file, absolute.
    pub fn path(&self) -> &Path {
        &self.store.current
    }
}

enum Found<T> {
    Nothing,
    State(u64, T),
    Damaged(Damage),
}

impl<T> fmt::Debug for Checkpoint<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Checkpoint")
            .field("path", &self.store.current)
            .field("generation", &self.generation)
            .finish_non_exhaustive()
    }
}
