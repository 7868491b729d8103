//! systemd's side, as `sd_notify(3)` and `src/core/service.c` have it: the socket, and the timers of one service.

use std::io::ErrorKind;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::process::Stdio;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid};
use tempfile::TempDir;

use crate::harness::{Ended, Launch, PATIENCE, Program, Signal};

/// Bytes that systemd takes of a datagram.
const LIMIT: usize = 4096;

pub(crate) struct Manager {
    socket: UnixDatagram,
    address: SocketAddr,
    /// As the service is told it.
    name: String,
    variables: Vec<(&'static str, String)>,
    _directory: Option<TempDir>,
}

impl Manager {
    pub(crate) fn on_a_path() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("notify");
        let address = SocketAddr::from_pathname(&path).unwrap();
        Self::at(address, path.to_str().unwrap(), Some(directory))
    }

    pub(crate) fn with_an_abstract_name() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("winddown/{}/{number}", std::process::id());
        let address = SocketAddr::from_abstract_name(&name).unwrap();
        Self::at(address, &format!("@{name}"), None)
    }

    fn at(address: SocketAddr, name: &str, directory: Option<TempDir>) -> Self {
        Self {
            socket: UnixDatagram::bind_addr(&address).unwrap(),
            address,
            name: name.to_owned(),
            variables: Vec::new(),
            _directory: directory,
        }
    }

    /// Sets one more variable for its services.
    pub(crate) fn variable(mut self, name: &'static str, value: &impl ToString) -> Self {
        self.variables.push((name, value.to_string()));
        self
    }

    pub(crate) fn start(&self, launch: &Launch) -> Program {
        let variables = self.variables.iter().map(|(name, value)| (*name, &**value));
        start(launch, variables.chain([("NOTIFY_SOCKET", &*self.name)]))
    }

    /// The next datagram.
    #[track_caller]
    pub(crate) fn hear(&self) -> String {
        self.receive(PATIENCE).expect("told nothing more in time")
    }

    /// The next datagram that has this in it, and those before it.
    #[track_caller]
    pub(crate) fn hear_until(&self, what: &str) -> Vec<String> {
        let mut all = vec![self.hear()];
        while !all.last().unwrap().contains(what) {
            all.push(self.hear());
        }
        all
    }

    pub(crate) fn receive(&self, timeout: Duration) -> Option<String> {
        let mut buffer = [0; LIMIT + 1];
        self.socket.set_read_timeout(Some(timeout)).unwrap();
        match self.socket.recv(&mut buffer) {
            Ok(length) => {
                assert!(length <= LIMIT, "too long, and dropped");
                Some(String::from_utf8(buffer[..length].to_vec()).unwrap())
            }
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock) => None,
            Err(error) => panic!("{error}"),
        }
    }

    /// What is there.
    pub(crate) fn rest(&self) -> Vec<String> {
        std::iter::from_fn(|| self.receive(Duration::from_millis(1))).collect()
    }

    /// Fills the queue: a send that waits waits for ever.
    pub(crate) fn fill(&self) {
        let filler = UnixDatagram::unbound().unwrap();
        filler.set_nonblocking(true).unwrap();
        while filler.send_to_addr(b"X_FILLER=1", &self.address).is_ok() {}
    }

    /// Stops the service and does with it what systemd would, with its timers in this order: `TimeoutStopSec=`,
    /// `WatchdogSec=`.
    pub(crate) fn stop(
        &self,
        mut program: Program,
        stop: Duration,
        watchdog: Option<Duration>,
    ) -> Stopped {
        let pid = program.pid();
        program.signal(Signal::SIGTERM);
        let began = Instant::now();
        let mut deadline = began + stop;
        let mut watched = watchdog.map(|watchdog| began + watchdog);
        let mut told = Vec::new();
        loop {
            let flags = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT;
            let over = waitid(Id::Pid(pid), flags).unwrap() != WaitStatus::StillAlive;
            while let Some(datagram) =
                self.receive(Duration::from_millis(if over { 1 } else { 10 }))
            {
                let now = Instant::now();
                if let Some(more) = extension(&datagram) {
                    deadline = deadline.max(now + more);
                    watched = watched.map(|watched| watched.max(now + more));
                }
                if datagram.contains("WATCHDOG=1\n") {
                    watched = watchdog.map(|watchdog| now + watchdog);
                }
                told.push(datagram);
            }
            if over {
                break;
            }
            if Instant::now() >= deadline {
                program.signal(Signal::SIGKILL);
                deadline += PATIENCE;
            }
            if watched.is_some_and(|watched| Instant::now() >= watched) {
                program.signal(Signal::SIGABRT);
                watched = None;
            }
        }
        Stopped {
            told,
            took: began.elapsed(),
            ended: program.end(),
        }
    }
}

/// What became of a service that was stopped.
pub(crate) struct Stopped {
    pub(crate) told: Vec<String>,
    pub(crate) took: Duration,
    pub(crate) ended: Ended,
}

/// Starts a service with these variables, and none of the caller's.
pub(crate) fn start<'a>(
    launch: &Launch,
    variables: impl IntoIterator<Item = (&'a str, &'a str)>,
) -> Program {
    let mut command = launch.command();
    for name in ["NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"] {
        command.env_remove(name);
    }
    command
        .envs(variables)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let input = child.stdin.take().unwrap();
    let output = child.stdout.take().unwrap();
    Program::new(child, Box::new(input), output)
}

/// The value of an assignment.
pub(crate) fn value<'a>(datagram: &'a str, name: &str) -> Option<&'a str> {
    let mut lines = datagram.lines();
    lines.find_map(|line| line.strip_prefix(name)?.strip_prefix('='))
}

pub(crate) fn extension(datagram: &str) -> Option<Duration> {
    let more = value(datagram, "EXTEND_TIMEOUT_USEC")?;
    Some(Duration::from_micros(more.parse().unwrap()))
}

/// The time left that a status tells.
pub(crate) fn left(datagram: &str) -> Option<Duration> {
    let (_, left) = value(datagram, "STATUS")?.rsplit_once("; ")?;
    let (number, unit) = left.strip_suffix(" left")?.split_once(' ')?;
    let seconds: f64 = number.parse().unwrap();
    Some(Duration::from_secs_f64(match unit {
        "s" => seconds,
        "ms" => seconds / 1e3,
        "us" => seconds / 1e6,
        other => panic!("unit {other:?}"),
    }))
}
