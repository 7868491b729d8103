//! A small threaded HTTP/1.1 server that ends with nothing left open.
//!
//! ```text
//! cargo run --features serde --example server -- \
//!     --addr 127.0.0.1:8080 --work 500 --admin 127.0.0.1:8081 --linger 5 --grace 25
//! curl http://127.0.0.1:8080/
//! curl http://127.0.0.1:8081/readyz
//! ```
//!
//! At the stop (Ctrl-C, `SIGTERM`) it closes its listener, answers the requests in hand, closes
//! connections that are idle, then the pool of connections to its backend, and says how many of
//! both are open: none. A client that never finishes its request cannot hold it for longer than the
//! grace period.
//!
//! With `--linger` a `SIGTERM` withdraws the readiness first, and the rest follows some seconds
//! later. With `--admin` there are probes, and a page, <http://127.0.0.1:8081/shutdown>, that shows
//! who is still here and how the grace period runs down.

mod admin;
mod backend;
mod page;

use std::io::{self, IsTerminal, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use backend::{Counted, Open, Pool, start_backend};
use clap::Parser;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use tracing::{info, warn};
use winddown::{Guard, ShutdownCoordinator, ShutdownHandle, StopToken, say};

/// How long a request may take to arrive, an answer to leave, the backend to reply.
const PATIENCE: Duration = Duration::from_secs(5);
/// Longest head of a request.
const MAX_HEAD: usize = 8 * 1024;
/// What a connection says while its request is on its way.
const HALF: &str = "has a part of a request";

/// A threaded HTTP server that ends with nothing left open
///
/// SIGTERM: with --linger the readiness goes first, while requests are still accepted; then the
/// listener closes, what was begun is finished, and the connections to the backend are closed.
/// Ctrl-C: the same without the linger. A second signal ends a linger, the next one the process.
#[derive(Parser)]
struct Args {
    /// Address to listen on; port 0 takes a free one
    #[arg(long, default_value = "127.0.0.1:0")]
    addr: SocketAddr,
    /// Seconds that the ending may take, from the signal on; the linger is a part of them
    #[arg(long, default_value_t = 10)]
    grace: u64,
    /// Seconds to go on accepting after SIGTERM, with /readyz at 503
    #[arg(long, default_value_t = 0)]
    linger: u64,
    /// Address of /livez, /readyz and /shutdown (also .json and .txt); none by default
    ///
    /// A listener of its own, so that it can answer while the other one is closed: /livez is 200
    /// until the end, since who is restarted while draining loses what is in hand; /readyz is 503
    /// from the signal on. It has no authentication: keep it off the public network. Takes a port,
    /// not 0.
    #[arg(long, value_name = "ADDR", value_parser = with_port)]
    admin: Option<SocketAddr>,
    /// Milliseconds of work in the backend behind each answer
    #[arg(long, default_value_t = 20)]
    work: u64,
}

/// How long the ending may take, and what of that is spent on accepting.
struct Times {
    grace: Duration,
    linger: Duration,
}

impl Args {
    fn times(&self) -> Times {
        let grace = Duration::from_secs(self.grace);
        // The builder would cut it to this; the page says when it is over.
        let reserve = (grace / 3).min(Duration::from_secs(5));
        let linger = Duration::from_secs(self.linger).min(grace.saturating_sub(reserve));
        Times { grace, linger }
    }
}

/// Nobody would find it at port 0.
fn with_port(text: &str) -> Result<SocketAddr, String> {
    match text.parse::<SocketAddr>() {
        Ok(addr) if addr.port() == 0 => Err("it needs a port of its own".to_owned()),
        Ok(addr) => Ok(addr),
        Err(error) => Err(error.to_string()),
    }
}

fn main() -> ExitCode {
    let args = Args::parse();
    tracing_subscriber::fmt()
        .with_writer(io::stderr)
        .with_ansi(io::stderr().is_terminal())
        .init();
    let times = args.times();
    ShutdownCoordinator::builder()
        .grace_period(times.grace)
        .linger(times.linger)
        .run(|shutdown| serve(shutdown, &args))
}

fn serve(shutdown: &ShutdownHandle, args: &Args) -> Result<(), String> {
    let token = shutdown.token();
    let listener = TcpListener::bind(args.addr)
        .map_err(|error| format!("cannot listen on {}: {error}", args.addr))?;
    let open = Arc::new(Open::default());
    let backend = start_backend(Duration::from_millis(args.work), &open)
        .map_err(|error| format!("no backend: {error}"))?;
    let pool = Pool::open(backend, &open)
        .map_err(|error| format!("no connection to the backend: {error}"))?;
    let stop = StopFd::new(&token).map_err(|error| format!("no socket pair: {error}"))?;

    // Shared by the connections, so that it is not this function that drops it: the pool closes
    // after the last connection that uses it, and in the clean-up phase at the latest, whoever
    // still holds it.
    let pool = Arc::new(shutdown.guard("backend pool", pool, Pool::close));
    shutdown.on_report({
        let open = Arc::clone(&open);
        // The last words of the process, after drain and hooks. Not `println!`: it panics when
        // nobody reads any more.
        move |_| drop(writeln!(io::stdout(), "stopped: {open}"))
    });

    // The last thing to start: a readiness probe goes there.
    if let Some(addr) = args.admin {
        admin::start(addr, shutdown.clone(), args.times())
            .map_err(|error| format!("cannot listen on {addr}: {error}"))?;
        let told = writeln!(io::stdout(), "who is still here: http://{addr}/shutdown");
        told.map_err(|error| format!("nobody listens: {error}"))?;
    }
    accept(shutdown, &listener, &stop, &pool, &open)
        .map_err(|error| format!("cannot accept: {error}"))
    // The listener is closed here, at the stop and not after the drain: a load balancer sees at
    // once that it has to go elsewhere.
}

fn accept(
    shutdown: &ShutdownHandle,
    listener: &TcpListener,
    stop: &StopFd,
    pool: &Arc<Guard<Pool>>,
    open: &Arc<Open>,
) -> io::Result<()> {
    // poll(2) may announce a client that is gone again when we accept; a blocking `accept` would
    // then wait for the next.
    listener.set_nonblocking(true)?;
    writeln!(io::stdout(), "listening on {}", listener.local_addr()?)?;
    let token = shutdown.token();
    let Ok(door) = shutdown.hold("listener") else {
        return Ok(()); // stopped already
    };
    door.say("nobody has come yet");
    let mut accepted = 0_u64;
    while !token.is_stopped() {
        wait(listener, Some(stop), None)?;
        let (stream, peer) = match listener.accept() {
            Ok(client) => client,
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::WouldBlock | io::ErrorKind::ConnectionAborted
                ) =>
            {
                continue;
            }
            Err(error) => {
                // Out of descriptors, mostly. The client stays queued, so poll(2) would return at
                // once: give others time to end.
                warn!("cannot accept: {error}");
                let _ = token.sleep(Duration::from_millis(100));
                continue;
            }
        };
        accepted += 1;
        door.say(format!("{accepted} accepted so far"));
        let mut connection = Connection {
            pool: Arc::clone(pool),
            stop: stop.clone(),
            stream,
            peer,
            received: Vec::new(),
            _counted: Counted::new(open, |open| &open.connections),
        };
        // A task: the drain waits for it, and the report names it if it has to be left behind. A
        // client's failure is logged, not returned, since an `Err` of a task would stop the whole
        // server.
        let task = shutdown.spawn(format!("connection {peer}"), move |token| {
            if let Err(error) = connection.converse(&token) {
                info!("{peer}: {error}");
            }
        });
        if let Err(error) = task {
            warn!("{peer} turned away: {error}");
        }
    }
    Ok(())
}

/// One client.
///
/// The fields are dropped from top to bottom: the count goes down when all else is closed.
struct Connection {
    pool: Arc<Guard<Pool>>,
    stop: StopFd,
    stream: TcpStream,
    peer: SocketAddr,
    received: Vec<u8>,
    _counted: Counted,
}

/// What a client sent, as far as this server cares.
enum Request {
    Get { path: String, close: bool },
    Refused(&'static str),
}

impl Connection {
    /// Answers requests until the client is done or, at the stop, no request is in hand.
    fn converse(&mut self, token: &StopToken) -> io::Result<()> {
        info!("{} connected", self.peer);
        self.stream.set_nonblocking(false)?; // inherited from the listener on some systems
        self.stream.set_nodelay(true)?;
        while let Some(request) = self.next_request(token)? {
            let (status, body, close) = match request {
                Request::Get { path, close } if path.split('?').next() == Some("/") => {
                    info!("{} GET {path}", self.peer);
                    say(format!("GET {path}: asks the backend"));
                    match self.pool.ask(&self.peer.to_string()) {
                        Ok(answer) => ("200 OK", answer, close),
                        Err(error) => ("503 Service Unavailable", format!("{error}\n"), close),
                    }
                }
                Request::Get { close, .. } => ("404 Not Found", "there is only /\n".into(), close),
                Request::Refused(status) => (status, format!("{status}\n"), true),
            };
            // Asked after the work: whoever is answered during the drain is told not to come back
            // on this connection.
            let close = close || token.is_stopped();
            say("sends its answer");
            self.answer(token, status, &body, close)?;
            if close {
                break;
            }
        }
        Ok(())
    }

    /// The next request; `None` when there is none: the client is gone or silent, or the stop found
    /// it idle.
    fn next_request(&mut self, token: &StopToken) -> io::Result<Option<Request>> {
        // A thread says what it does, and the snapshot shows it with its task.
        say(if self.received.is_empty() {
            "idle"
        } else {
            HALF
        });
        let mut deadline = Instant::now() + PATIENCE;
        let stop = self.stop.clone();
        let mut stop = Some(&stop);
        loop {
            if let Some(end) = self
                .received
                .windows(4)
                .position(|bytes| bytes == b"\r\n\r\n")
            {
                let head: Vec<u8> = self.received.drain(..end + 4).collect();
                return Ok(Some(parse(&head)));
            }
            if self.received.len() > MAX_HEAD {
                return Ok(Some(Request::Refused(
                    "431 Request Header Fields Too Large",
                )));
            }
            let idle = self.received.is_empty();
            match wait(&self.stream, stop, Some(deadline))? {
                Ready::Input => {}
                Ready::Stop | Ready::Late if idle => return Ok(None),
                Ready::Stop => {
                    // Half a request: its client may finish it, in a part of the time that is left.
                    deadline = deadline.min(Instant::now() + patience(token));
                    stop = None;
                    continue;
                }
                Ready::Late => return Ok(Some(Request::Refused("408 Request Timeout"))),
            }
            let mut chunk = [0; 1024];
            let length = self.stream.read(&mut chunk)?;
            if length == 0 {
                return Ok(None);
            }
            if idle {
                // Counted from the first byte, not renewed by each: else one byte a second holds
                // the connection for ever.
                say(HALF);
                deadline = Instant::now() + PATIENCE;
            }
            self.received.extend_from_slice(&chunk[..length]);
        }
    }

    fn answer(
        &mut self,
        token: &StopToken,
        status: &str,
        body: &str,
        close: bool,
    ) -> io::Result<()> {
        let connection = if close { "close" } else { "keep-alive" };
        let length = body.len();
        let head = format!(
            "HTTP/1.1 {status}\r\nContent-Type: text/plain\r\nContent-Length: {length}\r\nConnection: {connection}\r\n\r\n"
        );
        // A client that does not read its answer gets no more time than one that does not finish
        // its question.
        self.stream.set_write_timeout(Some(patience(token)))?;
        self.stream
            .write_all(&[head.as_bytes(), body.as_bytes()].concat())
    }
}

/// How long to put up with somebody slow: after the stop half of what is left, so that the drain
/// ends before it is ended.
fn patience(token: &StopToken) -> Duration {
    let left = token.time_left().map_or(PATIENCE, |left| left / 2);
    // Never zero, which set_write_timeout refuses.
    left.clamp(Duration::from_millis(1), PATIENCE)
}

fn parse(head: &[u8]) -> Request {
    let head = String::from_utf8_lossy(head);
    let mut lines = head.split("\r\n");
    let mut words = lines.next().unwrap_or_default().split(' ');
    let (method, path, version) = (words.next(), words.next(), words.next());
    let (Some(path), Some(version @ ("HTTP/1.0" | "HTTP/1.1"))) = (path, version) else {
        return Request::Refused("400 Bad Request");
    };
    if method != Some("GET") {
        return Request::Refused("405 Method Not Allowed");
    }
    let mut close = version == "HTTP/1.0";
    for (name, value) in lines.filter_map(|line| line.split_once(':')) {
        match name.to_ascii_lowercase().as_str() {
            "connection" => close |= value.trim().eq_ignore_ascii_case("close"),
            // A body would be taken for the next request.
            "content-length" | "transfer-encoding" => {
                return Request::Refused("413 Content Too Large");
            }
            _ => {}
        }
    }
    Request::Get {
        path: path.to_owned(),
        close,
    }
}

/// What can be seen through `wait`.
enum Ready {
    Input,
    Stop,
    Late,
}

/// A descriptor that hangs up at the stop, so that poll(2) can watch for it together with a socket.
///
/// The other ways to wake a thread in `accept` or `read` are worse: a short timeout costs wake-ups
/// for ever, a connection to oneself has to find the way to `0.0.0.0` and past a full queue.
#[derive(Clone)]
struct StopFd(Arc<UnixStream>);

impl StopFd {
    fn new(token: &StopToken) -> io::Result<Self> {
        let (watched, dropped_at_the_stop) = UnixStream::pair()?;
        token.on_stop(move |_| drop(dropped_at_the_stop)).detach();
        Ok(Self(Arc::new(watched)))
    }
}

/// Waits until `socket` has something to read; where both have come, input is seen before the stop.
fn wait(socket: &impl AsFd, stop: Option<&StopFd>, deadline: Option<Instant>) -> io::Result<Ready> {
    let mut watched = vec![PollFd::new(socket.as_fd(), PollFlags::POLLIN)];
    watched.extend(stop.map(|stop| PollFd::new(stop.0.as_fd(), PollFlags::POLLIN)));
    loop {
        let time = deadline.map(|deadline| {
            // poll(2) counts whole milliseconds: one more, or the last one is spent spinning.
            let time =
                deadline.saturating_duration_since(Instant::now()) + Duration::from_millis(1);
            PollTimeout::try_from(time).unwrap_or(PollTimeout::MAX)
        });
        match poll(&mut watched, time) {
            // Our own signal: what it has to say comes through the token.
            Err(Errno::EINTR) => continue,
            Err(error) => return Err(error.into()),
            Ok(_) => {}
        }
        let seen = |fd: &PollFd<'_>| fd.revents().is_some_and(|events| !events.is_empty());
        if seen(&watched[0]) {
            return Ok(Ready::Input);
        } else if watched.get(1).is_some_and(seen) {
            return Ok(Ready::Stop);
        } else if deadline.is_some_and(|deadline| deadline <= Instant::now()) {
            return Ok(Ready::Late);
        }
    }
}
