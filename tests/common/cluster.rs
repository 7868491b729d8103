//! A throw-away `PostgreSQL` server on a Unix socket: of an account without rights, gone when the
//! last test that uses it is, whatever becomes of that.
#![allow(dead_code, reason = "each test binary uses its own part")]

use std::ffi::OsString;
use std::fs;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, OnceLock, Weak};
use std::thread;
use std::time::Duration;

use nix::sys::signal::Signal;
use nix::unistd::{Uid, User};
use tempfile::TempDir;

use crate::FAR;
use crate::process::{Process, command, until};

pub(crate) struct Cluster {
    // Before the directory: the server goes first.
    server: Mutex<Option<Server>>,
    programs: PathBuf,
    directory: TempDir,
    is_durable: bool,
}

/// A child is ended with the thread that started it, so that one outlives the tests.
struct Server {
    process: Process,
    _starter: std::sync::mpsc::Sender<()>,
}

/// Where `initdb` and `postgres` are.
fn programs() -> Option<PathBuf> {
    let of_path = std::env::var_os("PATH").unwrap_or_default();
    let mut places: Vec<PathBuf> = std::env::split_paths(&of_path).collect();
    for versions in ["/usr/lib/postgresql", "/usr/local/lib/postgresql"] {
        let versions = fs::read_dir(versions).into_iter().flatten().flatten();
        places.extend(versions.map(|version| version.path().join("bin")));
    }
    places
        .into_iter()
        .find(|place| place.join("initdb").exists() && place.join("postgres").exists())
}

/// Whether there is a server to be had here. Where there is none, that is said once.
pub(crate) fn is_there() -> bool {
    static IS_THERE: OnceLock<bool> = OnceLock::new();
    *IS_THERE.get_or_init(|| {
        let is_there = programs().is_some();
        if !is_there {
            eprintln!("skipped: the tests with PostgreSQL, as there is no initdb here");
        }
        is_there
    })
}

/// `postgres` does not run as root.
fn account() -> Option<User> {
    if !Uid::effective().is_root() {
        return None;
    }
    let known = ["postgres", "nobody"].map(|name| User::from_name(name).unwrap());
    Some(known.into_iter().flatten().next().expect("an account"))
}

fn as_account(program: PathBuf) -> Command {
    let mut command = command(program);
    if let Some(account) = account() {
        command.uid(account.uid.as_raw()).gid(account.gid.as_raw());
    }
    command.stdin(Stdio::null()).env("LC_ALL", "C");
    command
}

impl Cluster {
    /// The one that all tests share who leave it alone. `None`: there is no server to be had here.
    pub(crate) fn shared() -> Option<Arc<Self>> {
        static SHARED: Mutex<Weak<Cluster>> = Mutex::new(Weak::new());
        let mut shared = SHARED
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Some(cluster) = shared.upgrade() {
            return Some(cluster);
        }
        let cluster = Arc::new(Self::new(false)?);
        *shared = Arc::downgrade(&cluster);
        Some(cluster)
    }

    /// Durable: what is committed is on the disk. Elsewhere nobody cuts the power.
    pub(crate) fn new(is_durable: bool) -> Option<Self> {
        if !is_there() {
            return None;
        }
        let programs = programs()?;
        let directory = TempDir::new().unwrap();
        if let Some(account) = account() {
            let (uid, gid) = (account.uid.as_raw(), account.gid.as_raw());
            std::os::unix::fs::chown(directory.path(), Some(uid), Some(gid)).unwrap();
        }
        let made = as_account(programs.join("initdb"))
            .args([
                "--auth=trust",
                "--no-sync",
                "--username=winddown",
                "-E",
                "UTF8",
                "-D",
            ])
            .arg(directory.path().join("data"))
            .output()
            .unwrap();
        assert!(made.status.success(), "{made:?}");
        let cluster = Self {
            server: Mutex::new(None),
            programs,
            directory,
            is_durable,
        };
        cluster.start();
        Some(cluster)
    }

    pub(crate) fn socket(&self) -> &Path {
        self.directory.path()
    }

    /// As `postgresql://…`, with the schema that tables are made in.
    pub(crate) fn url(&self, schema: &str) -> String {
        let socket = self.socket().to_str().unwrap().replace('/', "%2F");
        format!("postgresql://winddown:secret@{socket}/postgres?options=-csearch_path%3D{schema}")
    }

    pub(crate) fn sql(&self, schema: &str) -> postgres::Client {
        postgres::Client::connect(&self.url(schema), postgres::NoTls).unwrap()
    }

    /// Returns when it takes connections.
    pub(crate) fn start(&self) {
        let mut command = as_account(self.programs.join("postgres"));
        let mut directory = OsString::from("unix_socket_directories=");
        directory.push(self.socket());
        command.arg("-D").arg(self.socket().join("data"));
        command.arg("-c").arg(directory);
        let fsync = if self.is_durable {
            "fsync=on"
        } else {
            "fsync=off"
        };
        command.args(["-c", "listen_addresses=", "-c", fsync]);
        command.args(["-c", "max_connections=200", "-c", "shared_buffers=16MB"]);
        command.stdout(Stdio::null()).stderr(Stdio::piped());
        let (starter, over) = std::sync::mpsc::channel::<()>();
        let (tell, process) = std::sync::mpsc::channel();
        thread::spawn(move || {
            tell.send(Process::start(command)).unwrap();
            let _ = over.recv();
        });
        let process = process.recv_timeout(FAR).unwrap();
        let err = process.err.clone();
        *self.server.lock().unwrap() = Some(Server {
            process,
            _starter: starter,
        });
        err.line("ready to accept connections");
    }

    pub(crate) fn signal(&self, signal: Signal) {
        let server = self.server.lock().unwrap();
        server.as_ref().unwrap().process.signal(signal);
    }

    /// As "fast": connections are broken off.
    pub(crate) fn stop(&self) {
        self.end(Signal::SIGINT);
    }

    fn end(&self, signal: Signal) {
        let server = self
            .server
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        let Some(mut server) = { server }.take() else {
            return;
        };
        let _ = nix::sys::signal::kill(server.process.pid(), Signal::SIGCONT);
        let _ = nix::sys::signal::kill(server.process.pid(), signal);
        let ended = std::time::Instant::now();
        while server.process.ended().is_none() && ended.elapsed() < Duration::from_secs(20) {
            thread::sleep(Duration::from_millis(5));
        }
        // Killed by its drop if it has not: no second panic here.
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.end(Signal::SIGQUIT);
    }
}

/// A schema of its own, and a directory for locks and journals.
pub(crate) struct InSchema {
    pub(crate) cluster: Arc<Cluster>,
    pub(crate) schema: String,
    pub(crate) directory: TempDir,
}

impl InSchema {
    pub(crate) fn new() -> Option<Self> {
        Some(Self::of(Cluster::shared()?))
    }

    /// On a server of its own, that may be stopped.
    pub(crate) fn alone() -> Option<Self> {
        Some(Self::of(Arc::new(Cluster::new(false)?)))
    }

    pub(crate) fn durable() -> Option<Self> {
        Some(Self::of(Arc::new(Cluster::new(true)?)))
    }

    fn of(cluster: Arc<Cluster>) -> Self {
        static NEXT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
        let number = NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let schema = format!("test_{number}");
        let mut sql = cluster.sql("public");
        sql.batch_execute(&format!("CREATE SCHEMA {schema}"))
            .unwrap();
        let directory = TempDir::new().unwrap();
        Self {
            cluster,
            schema,
            directory,
        }
    }

    pub(crate) fn url(&self) -> String {
        self.cluster.url(&self.schema)
    }

    pub(crate) fn sql(&self) -> postgres::Client {
        self.cluster.sql(&self.schema)
    }

    pub(crate) fn journals(&self) -> usize {
        let names = fs::read_dir(self.directory.path()).unwrap();
        let names = names.map(|entry| entry.unwrap().path());
        names
            .filter(|name| name.extension().is_some_and(|ending| ending == "journal"))
            .count()
    }

    /// Waits until somebody else waits for a lock.
    pub(crate) fn until_somebody_waits(&self) {
        let mut sql = self.sql();
        let waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'";
        until("somebody to wait", || {
            sql.query_one(waiting, &[]).unwrap().get::<_, i64>(0) > 0
        });
    }
}
