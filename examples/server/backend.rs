//! The backend, and the pool of connections to it.

use std::fmt;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender};
use tracing::warn;

use crate::PATIENCE;

/// Connections to the backend.
const POOL: usize = 4;

/// A few connections to the backend, opened at the start and lent out one request at a time.
pub(crate) struct Pool {
    backend: SocketAddr,
    open: Arc<Open>,
    closed: AtomicBool,
    lend: Sender<Member>,
    idle: Receiver<Member>,
}

/// A place in the pool; empty after a failure, until its next use.
type Member = Option<(TcpStream, Counted)>;

impl Pool {
    pub(crate) fn open(backend: SocketAddr, open: &Arc<Open>) -> io::Result<Self> {
        let (lend, idle) = crossbeam_channel::bounded(POOL);
        let pool = Self {
            backend,
            open: Arc::clone(open),
            closed: AtomicBool::new(false),
            lend,
            idle,
        };
        for _ in 0..POOL {
            pool.give_back(Some(pool.connect()?));
        }
        Ok(pool)
    }

    fn connect(&self) -> io::Result<(TcpStream, Counted)> {
        let stream = TcpStream::connect_timeout(&self.backend, PATIENCE)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_nodelay(true)?;
        Ok((stream, Counted::new(&self.open, |open| &open.pool)))
    }

    /// One question to the backend, one line as its answer.
    pub(crate) fn ask(&self, question: &str) -> io::Result<String> {
        let mut member = self
            .idle
            .recv_timeout(PATIENCE)
            .map_err(|_| io::Error::other("the backend is busy"))?;
        let answer = self.ask_with(&mut member, question);
        if answer.is_err() {
            member = None; // half an answer may be under way in it
        }
        self.give_back(member);
        answer.map_err(|error| match error.kind() {
            // What a read says when its time is over: WouldBlock, on most systems.
            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => {
                io::Error::new(io::ErrorKind::TimedOut, "the backend has not answered")
            }
            _ => error,
        })
    }

    fn ask_with(&self, member: &mut Member, question: &str) -> io::Result<String> {
        if self.closed.load(Ordering::SeqCst) {
            return Err(io::Error::other("the pool is closed"));
        }
        let (mut stream, counted) = match member.take() {
            Some(connection) => connection,
            None => self.connect()?,
        };
        stream.write_all(format!("{question}\n").as_bytes())?;
        let mut answer = String::new();
        BufReader::new(&stream).read_line(&mut answer)?;
        if !answer.ends_with('\n') {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        *member = Some((stream, counted));
        Ok(answer)
    }

    fn give_back(&self, member: Member) {
        // There is room: every member came from here.
        let _ = self.lend.try_send(member);
        if self.closed.load(Ordering::SeqCst) {
            self.close_idle();
        }
    }

    /// Closes what is in the pool now, and what a straggler still holds when it gives it back.
    pub(crate) fn close(&self) {
        self.closed.store(true, Ordering::SeqCst);
        self.close_idle();
    }

    fn close_idle(&self) {
        for (stream, counted) in self.idle.try_iter().flatten() {
            // In order: say that nothing more comes, wait until the other side has hung up too.
            let _ = stream.shutdown(Shutdown::Write);
            let _ = (&stream).read(&mut [0]);
            drop(stream);
            drop(counted);
        }
    }
}

/// What is open, counted where it is opened and closed.
#[derive(Default)]
pub(crate) struct Open {
    pub(crate) connections: AtomicUsize,
    pool: AtomicUsize,
    /// The pool as its other side sees it.
    backend: AtomicUsize,
}

impl fmt::Display for Open {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [connections, pool, backend] = [&self.connections, &self.pool, &self.backend]
            .map(|count| count.load(Ordering::SeqCst));
        write!(
            f,
            "{connections} connections open, {pool} pool members open, {backend} seen by the backend"
        )
    }
}

/// One more, until it is dropped.
pub(crate) struct Counted(Arc<Open>, fn(&Open) -> &AtomicUsize);

impl Counted {
    pub(crate) fn new(open: &Arc<Open>, which: fn(&Open) -> &AtomicUsize) -> Self {
        which(open).fetch_add(1, Ordering::SeqCst);
        Self(Arc::clone(open), which)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.1(&self.0).fetch_sub(1, Ordering::SeqCst);
    }
}

/// Stands in for a database: another process as far as the server is concerned, so its threads are
/// no part of the shutdown.
pub(crate) fn start_backend(work: Duration, open: &Arc<Open>) -> io::Result<SocketAddr> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let addr = listener.local_addr()?;
    let open = Arc::clone(open);
    thread::Builder::new()
        .name("backend".into())
        .spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let counted = Counted::new(&open, |open| &open.backend);
                let serving = move || {
                    for question in BufReader::new(&stream).lines().map_while(Result::ok) {
                        thread::sleep(work);
                        let answer = format!("hello {question}, after {work:?} of work\n");
                        if (&stream).write_all(answer.as_bytes()).is_err() {
                            break;
                        }
                    }
                    drop(counted); // before the stream: who sees it closed sees it counted
                    drop(stream);
                };
                if let Err(error) = thread::Builder::new()
                    .name("backend connection".into())
                    .spawn(serving)
                {
                    warn!("no thread for the backend: {error}");
                }
            }
        })?;
    Ok(addr)
}
