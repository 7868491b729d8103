//! The program under test: a small HTTP/1.1 server, one request a connection, as Gunicorn's plain
//! workers have it.
//!
//! The owner accepts, worker threads answer, a pool of connections leads to a peer that the test
//! runs. What there is to clean up, newest first: a hook `on_exit`, the pool (a guard: closed by
//! whoever comes last, at the shutdown at the latest), the flush of the access log, a hook
//! `atexit`, and the pid file, which goes on the forced path too.

use std::fmt::Display;
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use winddown::{Guard, HookOptions, ShutdownCoordinator, ShutdownHandle, SpawnError, StopToken};

/// Threads that answer, and connections to the peer: one each.
pub(crate) const WORKERS: usize = 4;
/// Lines of an answer: enough to be seen when some are missing.
pub(crate) const LINES: usize = 500;
pub(crate) const ACCESS_LOG: &str = "access.log";
pub(crate) const PID_FILE: &str = "server.pid";
/// How long anybody outside may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// What the server does besides serving, by the name that the test gives.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum How {
    Plain,
    /// The next signal counts at once, however soon it comes.
    NoDebounce,
    /// The owner never comes back from its first client.
    OwnerHangs,
    OnExitHangs,
    /// It opens and registers everything after the stop.
    Late,
    /// Who closes the pool: the owner, when it has joined the workers.
    ClosedByOwner,
    /// A hook that runs before the pool's turn.
    ClosedInOnExit,
    /// A hook that runs after it.
    ClosedAtExit,
    /// A thread of its own, while the shutdown closes it.
    ClosedMeanwhile,
}

impl How {
    const ALL: [(&str, Self); 9] = [
        ("plain", Self::Plain),
        ("no debounce", Self::NoDebounce),
        ("owner hangs", Self::OwnerHangs),
        ("on_exit hangs", Self::OnExitHangs),
        ("late", Self::Late),
        ("closed by owner", Self::ClosedByOwner),
        ("closed in on_exit", Self::ClosedInOnExit),
        ("closed at exit", Self::ClosedAtExit),
        ("closed meanwhile", Self::ClosedMeanwhile),
    ];

    pub(crate) fn name(self) -> &'static str {
        Self::ALL.iter().find(|(_, how)| *how == self).unwrap().0
    }
}

/// Its arguments: the directory for its files, the peer, milliseconds of grace, how.
pub(crate) fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [place, peer, grace, name] = &arguments[..] else {
        return ExitCode::from(64);
    };
    let (_, how) = How::ALL.into_iter().find(|(own, _)| own == name).unwrap();
    let (place, peer) = (PathBuf::from(place), peer.parse().unwrap());
    let mut builder =
        ShutdownCoordinator::builder().grace_period(Duration::from_millis(grace.parse().unwrap()));
    if how == How::NoDebounce {
        builder = builder.debounce(Duration::ZERO);
    }
    builder.run(|shutdown| serve(shutdown, &place, peer, how))
}

/// One line for the test.
fn tell(line: impl Display) {
    // One write, and no panic when nobody reads any more.
    let _ = io::stdout()
        .lock()
        .write_all(format!("{line}\n").as_bytes());
}

fn hang() -> ! {
    loop {
        thread::park();
    }
}

fn serve(
    shutdown: &ShutdownCoordinator,
    place: &Path,
    peer: SocketAddr,
    how: How,
) -> io::Result<()> {
    let token = shutdown.token();
    if how == How::Late {
        tell("installed");
        token.wait();
    }
    let pid_file = place.join(PID_FILE);
    fs::write(&pid_file, std::process::id().to_string())?;
    shutdown.hook_with(HookOptions::new("pid file").emergency(), move || {
        fs::remove_file(pid_file)
    });

    // The second to close the pool, where there is one: in the hooks that are older and newer than
    // the guard.
    let (late_closer, early_closer) = (Closer::default(), Closer::default());
    let at_exit = late_closer.clone();
    shutdown.hook("atexit", move || {
        at_exit.close();
        tell("atexit");
    });
    let log = Arc::new(AccessLog::create(&place.join(ACCESS_LOG))?);
    let flushed = Arc::clone(&log);
    shutdown.hook("access log", move || {
        let flush = flushed.flush();
        tell("log flushed");
        flush
    });
    let (begun, closing) = mpsc::channel();
    let pool = Arc::new(Pool::open(peer)?);
    let net = shutdown.guard("pool", Arc::clone(&pool), move |pool: &Arc<Pool>| {
        // Whoever closes it too, does it now.
        let _ = begun.send(());
        pool.close();
    });
    let on_exit = early_closer.clone();
    shutdown.hook("on_exit", move || {
        tell("on_exit");
        on_exit.close();
        if how == How::OnExitHangs {
            hang();
        }
    });

    let (mut by_workers, mut by_owner) = (None, None);
    match how {
        How::ClosedByOwner => by_owner = Some(net),
        How::ClosedInOnExit => early_closer.give(net),
        How::ClosedAtExit => late_closer.give(net),
        How::ClosedMeanwhile => {
            thread::spawn(move || {
                let _ = closing.recv();
                drop(net);
            });
        }
        _ => by_workers = Some(Arc::new(net)),
    }
    let site = Arc::new(Site {
        shutdown: shutdown.handle(),
        pool,
        log,
    });
    let (accepted, waiting) = mpsc::channel();
    let waiting = Arc::new(Mutex::new(waiting));
    let mut workers = Vec::new();
    for number in 1..=WORKERS {
        let (site, waiting, net) = (Arc::clone(&site), Arc::clone(&waiting), by_workers.clone());
        match shutdown.spawn(format!("worker {number}"), move |_| {
            site.work(&waiting, net);
        }) {
            Ok(worker) => workers.push(worker),
            Err(SpawnError::IntakeClosed { .. }) => break,
            Err(error) => return Err(io::Error::other(error.to_string())),
        }
    }
    drop(by_workers);
    accept(&token, &accepted, how)?;
    if let Some(net) = by_owner {
        drop(accepted); // there are no more: the workers end
        for worker in workers {
            let _ = worker.join();
        }
        drop(net);
    }
    Ok(())
}

/// The owner's loop. Whoever was accepted is answered, whoever comes later is refused.
fn accept(token: &StopToken, accepted: &Sender<TcpStream>, how: How) -> io::Result<()> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let own = listener.local_addr()?;
    token
        .on_stop(move |_| {
            tell("stopping");
            // Ends `accept`. Where the queue is full nothing has to: there is somebody to accept.
            drop(TcpStream::connect_timeout(&own, PATIENCE));
        })
        .detach();
    tell(format!("listening on {own}"));
    let mut count = 0;
    while !token.is_stopped() {
        let (client, _) = listener.accept()?;
        if how == How::OwnerHangs {
            tell("the owner hangs");
            hang();
        }
        // Accepted is promised, whatever has come meanwhile; the one of the closure above asks for
        // nothing.
        let _ = accepted.send(client);
        count += 1;
        tell(format!("accepted {count}"));
    }
    drop(listener);
    tell("closed");
    Ok(())
}

/// What the workers share.
struct Site {
    shutdown: ShutdownHandle,
    pool: Arc<Pool>,
    log: Arc<AccessLog>,
}

impl Site {
    /// Answers until nobody is left to be answered. The last one to go closes the pool.
    fn work(&self, waiting: &Mutex<Receiver<TcpStream>>, net: Option<Arc<Guard<Arc<Pool>>>>) {
        loop {
            // In a statement of its own, so that the lock is not held while answering.
            let client = waiting.lock().unwrap().recv();
            let Ok(client) = client else { break };
            // A client that is gone has only itself to blame.
            let _ = self.answer(client);
        }
        drop(net);
    }

    fn answer(&self, mut client: TcpStream) -> io::Result<()> {
        client.set_read_timeout(Some(PATIENCE))?;
        client.set_write_timeout(Some(PATIENCE))?;
        let path = read_request(&client)?;
        // Names the request in the report. Refused after the stop: then the worker's task stands
        // for it.
        let _hold = self.shutdown.hold(format!("request {path}"));
        let lent = self.pool.lend()?;
        let reply = lent.ask(&path)?;
        match path.as_str() {
            "/hang" => hang(),
            "/panic" => panic!("the handler of {path}"),
            _ => {}
        }
        drop(lent);
        let body = format!("{reply}\n").repeat(LINES);
        let length = body.len();
        write!(
            client,
            "HTTP/1.1 200 OK\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n"
        )?;
        // In pieces, so that a stop can come in between.
        for piece in body.as_bytes().chunks(1024) {
            client.write_all(piece)?;
        }
        self.log.line(&path);
        Ok(())
    }
}

/// The path of a request without a body.
fn read_request(client: &TcpStream) -> io::Result<String> {
    let mut lines = BufReader::new(client).lines();
    let first = lines.next().unwrap_or_else(|| Ok(String::new()))?;
    for line in lines {
        if line?.is_empty() {
            let path = first.strip_prefix("GET ");
            let path = path.and_then(|rest| rest.strip_suffix(" HTTP/1.1"));
            return path
                .map(str::to_owned)
                .ok_or(io::ErrorKind::InvalidData.into());
        }
    }
    Err(io::ErrorKind::UnexpectedEof.into())
}

/// Lines that are kept until they are flushed, by nobody but a hook: no drop writes them.
struct AccessLog {
    file: File,
    lines: Mutex<Vec<u8>>,
}

impl AccessLog {
    fn create(path: &Path) -> io::Result<Self> {
        let (file, lines) = (File::create_new(path)?, Mutex::default());
        Ok(Self { file, lines })
    }

    fn line(&self, path: &str) {
        let line = format!("GET {path} 200\n");
        self.lines
            .lock()
            .unwrap()
            .extend_from_slice(line.as_bytes());
    }

    fn flush(&self) -> io::Result<()> {
        let lines = std::mem::take(&mut *self.lines.lock().unwrap());
        (&self.file).write_all(&lines)
    }
}

/// A few connections to the peer, opened at the start and lent out one request at a time.
struct Pool {
    idle: Mutex<Vec<TcpStream>>,
    all: Vec<TcpStream>,
}

impl Pool {
    fn open(peer: SocketAddr) -> io::Result<Self> {
        let all = (0..WORKERS).map(|_| TcpStream::connect_timeout(&peer, PATIENCE));
        let all = all.collect::<io::Result<Vec<_>>>()?;
        let idle = all
            .iter()
            .map(TcpStream::try_clone)
            .collect::<io::Result<_>>()?;
        Ok(Self {
            idle: Mutex::new(idle),
            all,
        })
    }

    fn lend(&self) -> io::Result<Lent<'_>> {
        let stream = self.idle.lock().unwrap().pop();
        if stream.is_none() {
            return Err(io::Error::other("the pool is closed"));
        }
        Ok(Lent { pool: self, stream })
    }

    /// Takes leave of the peer on each connection that is not lent, and ends them all. Nothing in
    /// it keeps it from being done twice.
    fn close(&self) {
        for mut stream in std::mem::take(&mut *self.idle.lock().unwrap()) {
            let _ = stream.write_all(b"bye\n");
            let _ = stream.shutdown(Shutdown::Write);
            // The peer has hung up too: it has counted.
            let _ = stream.read(&mut [0]);
        }
        for stream in &self.all {
            let _ = stream.shutdown(Shutdown::Both);
        }
        tell("pool closed");
    }
}

/// Goes back when it is dropped, also by a panic.
struct Lent<'a> {
    pool: &'a Pool,
    /// `None` only while it is dropped.
    stream: Option<TcpStream>,
}

impl Lent<'_> {
    fn ask(&self, question: &str) -> io::Result<String> {
        let mut stream = self.stream.as_ref().ok_or(io::ErrorKind::NotConnected)?;
        stream.write_all(format!("{question}\n").as_bytes())?;
        let mut reply = String::new();
        // One reply to one question: there is nothing behind it that the reader could take.
        BufReader::new(stream).read_line(&mut reply)?;
        let reply = reply.strip_suffix('\n');
        reply
            .map(str::to_owned)
            .ok_or(io::ErrorKind::UnexpectedEof.into())
    }
}

impl Drop for Lent<'_> {
    fn drop(&mut self) {
        let mut idle = self.pool.idle.lock().unwrap();
        idle.extend(self.stream.take());
    }
}

/// Closes the pool explicitly, if it has been given the pool's guard.
#[derive(Clone, Default)]
struct Closer(Arc<Mutex<Option<Guard<Arc<Pool>>>>>);

impl Closer {
    fn give(&self, net: Guard<Arc<Pool>>) {
        *self.0.lock().unwrap() = Some(net);
    }

    fn close(&self) {
        let net = self.0.lock().unwrap().take();
        drop(net);
    }
}
