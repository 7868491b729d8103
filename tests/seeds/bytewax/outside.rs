//! What the program is told, where it gets stuck, and what it closes.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use winddown::{EndPolicy, ShutdownHandle};

use crate::program::GLANCE;

pub(crate) struct Options {
    pub(crate) directory: PathBuf,
    pub(crate) partitions: usize,
    /// Lines.
    pub(crate) batch: usize,
    /// Batches.
    pub(crate) save_every: usize,
    pub(crate) policy: EndPolicy,
    pub(crate) grace: Duration,
    pub(crate) debounce: Duration,
    /// Where it gets stuck, and the how-manieth time.
    pub(crate) stall: Option<(String, usize)>,
}

impl Options {
    pub(crate) fn new(directory: &Path) -> Self {
        let mut options = Self {
            directory: directory.to_owned(),
            partitions: 3,
            batch: 4,
            save_every: 8,
            policy: EndPolicy::All,
            grace: Duration::from_secs(25),
            debounce: Duration::from_millis(300),
            stall: None,
        };
        for argument in std::env::args().skip(1) {
            let (name, value) = argument.split_once('=').unwrap();
            let millis = || Duration::from_millis(value.parse().unwrap());
            match name {
                "partitions" => options.partitions = value.parse().unwrap(),
                "batch" => options.batch = value.parse().unwrap(),
                "save" => options.save_every = value.parse().unwrap(),
                "policy" if value == "any" => options.policy = EndPolicy::Any,
                "grace" => options.grace = millis(),
                "debounce" => options.debounce = millis(),
                "stall" => {
                    let (place, time) = value.split_once(':').unwrap();
                    options.stall = Some((place.to_owned(), time.parse().unwrap()));
                }
                _ => panic!("{argument}"),
            }
        }
        options
    }

    /// Beyond it nobody tries to hand something on.
    pub(crate) fn keep(&self) -> Duration {
        self.grace / 2
    }
}

/// Gets stuck where it is told to, until there is a file `release`.
pub(crate) struct Stall {
    place: Option<(String, usize)>,
    release: PathBuf,
    came_by: AtomicUsize,
}

impl Stall {
    pub(crate) fn of(options: &Options) -> Arc<Self> {
        Arc::new(Self {
            place: options.stall.clone(),
            release: options.directory.join("release"),
            came_by: AtomicUsize::new(0),
        })
    }

    pub(crate) fn here(&self, place: &str) {
        let Some((stall, time)) = &self.place else {
            return;
        };
        if stall == place && self.came_by.fetch_add(1, Ordering::Relaxed) + 1 == *time {
            println!("stalled {place}");
            while !self.release.exists() {
                thread::sleep(GLANCE);
            }
        }
    }
}

/// Something that is closed once, and not used afterwards.
pub(crate) struct Resource<T> {
    name: &'static str,
    closed: AtomicBool,
    inner: Mutex<T>,
}

impl<T: Send + 'static> Resource<T> {
    /// Closed by a hook: what is opened last is closed first.
    pub(crate) fn open(shutdown: &ShutdownHandle, name: &'static str, inner: T) -> Arc<Self> {
        let resource = Arc::new(Self {
            name,
            closed: AtomicBool::new(false),
            inner: Mutex::new(inner),
        });
        let own = Arc::clone(&resource);
        shutdown.hook(name, move || {
            let _last_use = own.inner.lock().unwrap();
            own.closed.store(true, Ordering::SeqCst);
            println!("close {name}");
        });
        resource
    }

    pub(crate) fn with<R>(&self, f: impl FnOnce(&mut T) -> R) -> R {
        let mut inner = self.inner.lock().unwrap();
        if self.closed.load(Ordering::SeqCst) {
            println!("violation: {} used after its end", self.name);
        }
        f(&mut inner)
    }
}
