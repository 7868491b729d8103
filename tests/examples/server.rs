//! `examples/server` and clients of all kinds.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::process::ExitStatusExt;
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use crate::process::{Process, until};
use crate::{FAR, SLACK, start};

/// The server's own patience with a slow client.
const PATIENCE: Duration = Duration::from_secs(5);

pub(crate) struct Server {
    pub(crate) process: Process,
    pub(crate) addr: SocketAddr,
}

impl Server {
    pub(crate) fn start(args: &[&str]) -> Self {
        Self::of(start("server", args))
    }

    pub(crate) fn of(process: Process) -> Self {
        let line = process.out.line("listening on ");
        let addr = line.strip_prefix("listening on ").unwrap().parse().unwrap();
        Self { process, addr }
    }

    pub(crate) fn connect(&self) -> Client {
        Client::connect(self.addr).unwrap()
    }

    /// Waits until the listener is closed.
    pub(crate) fn refuses(&self) {
        until("the listener to be closed", || {
            TcpStream::connect(self.addr).is_err()
        });
    }

    /// To be asked when the process has ended.
    pub(crate) fn left_nothing_open(&self) {
        let expected = "stopped: 0 connections open, 0 pool members open, 0 seen by the backend";
        assert_eq!(
            self.process.out.last_line(),
            expected,
            "\n{}",
            self.process.err.all()
        );
    }
}

pub(crate) struct Client {
    stream: TcpStream,
    received: Vec<u8>,
}

pub(crate) struct Answer {
    pub(crate) head: String,
    pub(crate) body: String,
}

impl Answer {
    pub(crate) fn status(&self) -> u16 {
        self.head.split(' ').nth(1).unwrap().parse().unwrap()
    }

    fn field(&self, name: &str) -> &str {
        let value = self
            .head
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
        value.unwrap_or_else(|| panic!("no {name}: {}", self.head))
    }

    pub(crate) fn connection(&self) -> &str {
        self.field("Connection")
    }
}

impl Client {
    fn connect(addr: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect(addr)?;
        stream.set_read_timeout(Some(FAR))?;
        stream.set_write_timeout(Some(FAR))?;
        Ok(Self {
            stream,
            received: Vec::new(),
        })
    }

    pub(crate) fn local(&self) -> SocketAddr {
        self.stream.local_addr().unwrap()
    }

    fn try_send(&mut self, text: &str) -> io::Result<()> {
        self.stream.write_all(text.as_bytes())
    }

    pub(crate) fn send(&mut self, text: &str) {
        self.try_send(text).unwrap();
    }

    pub(crate) fn ask(&mut self, request: &str) -> Answer {
        self.send(request);
        self.answer()
    }

    pub(crate) fn answer(&mut self) -> Answer {
        self.try_answer().expect("an answer")
    }

    /// A whole answer; `None` if there was not a byte of one. Half of one fails the test.
    fn try_answer(&mut self) -> Option<Answer> {
        loop {
            if let Some(end) = self
                .received
                .windows(4)
                .position(|bytes| bytes == b"\r\n\r\n")
            {
                let head = String::from_utf8(self.received[..end].to_vec()).unwrap();
                let answer = Answer {
                    head,
                    body: String::new(),
                };
                let whole = end + 4 + answer.field("Content-Length").parse::<usize>().unwrap();
                if self.received.len() >= whole {
                    let body = String::from_utf8(self.received[end + 4..whole].to_vec()).unwrap();
                    self.received.drain(..whole);
                    return Some(Answer { body, ..answer });
                }
            }
            if self.read_more() == 0 {
                assert!(
                    self.received.is_empty(),
                    "half an answer: {}",
                    String::from_utf8_lossy(&self.received)
                );
                return None;
            }
        }
    }

    /// What else comes until the server closes.
    fn rest(&mut self) -> String {
        while self.read_more() > 0 {}
        String::from_utf8(std::mem::take(&mut self.received)).unwrap()
    }

    fn read_more(&mut self) -> usize {
        let mut chunk = [0; 4096];
        match self.stream.read(&mut chunk) {
            Ok(length) => {
                self.received.extend_from_slice(&chunk[..length]);
                length
            }
            // Closed with something of ours unread.
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => 0,
            Err(error) => panic!("{error}"),
        }
    }
}

#[test]
fn answers_what_it_has_in_hand_at_the_stop() {
    let mut server = Server::start(&["--work", "700"]);

    let mut regular = server.connect();
    assert_eq!(
        regular.ask("GET / HTTP/1.1\r\n\r\n").connection(),
        "keep-alive"
    );
    let mut idle = regular; // open and silent from now on

    let mut busy = server.connect();
    busy.send("GET / HTTP/1.1\r\n\r\n");
    server.process.err.line(&format!("{} GET /", busy.local()));
    server.process.signal(Signal::SIGTERM);

    assert_eq!(
        idle.rest(),
        "",
        "an idle connection is closed, without a word"
    );
    server.refuses();
    let answer = busy.answer();
    assert_eq!(answer.status(), 200, "{}", answer.head);
    assert!(
        answer.body.starts_with(&format!("hello {}", busy.local())),
        "{}",
        answer.body
    );
    // Says that the answer was written after the stop was seen, so that the request was in hand
    // indeed.
    assert_eq!(answer.connection(), "close");
    assert_eq!(busy.rest(), "");

    assert_eq!(server.process.end().code(), Some(0));
    server.left_nothing_open();
}

#[test]
fn is_not_held_by_half_a_request() {
    let mut server = Server::start(&["--grace", "3"]);
    let mut silent = server.connect();
    silent.send("GET / HT");
    server
        .process
        .err
        .line(&format!("{} connected", silent.local()));
    let asked = Instant::now();
    server.process.signal(Signal::SIGTERM);
    let status = server.process.end();
    let took = asked.elapsed();
    assert!(took < Duration::from_secs(3) + SLACK, "took {took:?}");
    // It got half of the time to finish the request, and then an answer.
    assert_eq!(silent.answer().status(), 408);
    assert_eq!(status.code(), Some(0), "{status}");
    server.left_nothing_open();
}

#[test]
fn is_not_held_by_a_slow_backend() {
    let mut server = Server::start(&["--grace", "1", "--work", "60000"]);
    let mut busy = server.connect();
    busy.send("GET / HTTP/1.1\r\n\r\n");
    let line = format!("{} GET /", busy.local());
    server.process.err.line(&line);
    let asked = Instant::now();
    server.process.signal(Signal::SIGTERM);
    let status = server.process.end();
    let took = asked.elapsed();
    assert!(took < Duration::from_secs(1) + SLACK, "took {took:?}");
    // Somebody was left without an answer: whatever watches this process is told.
    assert_eq!(status.code(), Some(1), "{status}");
    assert_eq!(busy.rest(), "");
    let last = server.process.out.last_line();
    assert!(last.starts_with("stopped: 1 connections open"), "{last}");
}

#[test]
fn tells_a_client_that_the_backend_is_slow() {
    let server = Server::start(&["--work", "60000"]);
    let answer = server.connect().ask("GET / HTTP/1.1\r\n\r\n");
    assert_eq!(answer.status(), 503, "{}", answer.head);
    assert_eq!(answer.body, "the backend has not answered\n");
}

#[test]
fn closes_a_silent_connection_at_the_stop() {
    let mut server = Server::start(&["--grace", "60"]);
    let mut silent = server.connect();
    server
        .process
        .err
        .line(&format!("{} connected", silent.local()));
    let asked = Instant::now();
    server.process.signal(Signal::SIGTERM);
    assert_eq!(server.process.end().code(), Some(0));
    let took = asked.elapsed();
    assert!(
        took < PATIENCE,
        "waited for a client that had asked nothing: {took:?}"
    );
    assert_eq!(silent.rest(), "");
    server.left_nothing_open();
}

#[test]
fn never_breaks_off_an_answer() {
    const CLIENTS: usize = 8;
    let mut server = Server::start(&["--work", "2"]);
    let addr = server.addr;
    let answered = Arc::new((Mutex::new(0_usize), Condvar::new()));
    let clients: Vec<_> = (0..CLIENTS)
        .map(|_| {
            let answered = Arc::clone(&answered);
            thread::spawn(move || {
                // Until the server says "close", or closes; whatever comes is whole.
                while let Ok(mut client) = Client::connect(addr) {
                    loop {
                        if client.try_send("GET / HTTP/1.1\r\n\r\n").is_err() {
                            break;
                        }
                        let Some(answer) = client.try_answer() else {
                            break;
                        };
                        assert_eq!(answer.status(), 200);
                        *answered.0.lock().unwrap() += 1;
                        answered.1.notify_all();
                        if answer.connection() == "close" {
                            break;
                        }
                    }
                }
            })
        })
        .collect();
    let enough = answered
        .1
        .wait_timeout_while(answered.0.lock().unwrap(), FAR, |count| *count < 200)
        .unwrap();
    assert!(!enough.1.timed_out(), "only {} answers", enough.0);
    drop(enough);
    server.process.signal(Signal::SIGTERM);
    assert_eq!(server.process.end().code(), Some(0));
    server.left_nothing_open();
    for client in clients {
        client.join().unwrap();
    }
}

#[test]
fn dies_by_sigint_with_nothing_open() {
    let mut server = Server::start(&[]);
    let mut client = server.connect();
    client.ask("GET / HTTP/1.1\r\n\r\n");
    server.process.signal(Signal::SIGINT);
    let status = server.process.end();
    assert_eq!(status.signal(), Some(libc::SIGINT), "{status}");
    server.left_nothing_open();
}

#[test]
fn refuses_what_it_cannot_do() {
    let mut server = Server::start(&[]);
    let mut client = server.connect();
    assert_eq!(client.ask("GET /elsewhere HTTP/1.1\r\n\r\n").status(), 404);
    // Two in one packet, a head in pieces: each gets its answer.
    client.send("GET / HTTP/1.1\r\n\r\nGET /2 HTTP/1.1\r\n\r\nGET / ");
    assert_eq!(client.answer().status(), 200);
    assert_eq!(client.answer().status(), 404);
    assert_eq!(
        client
            .ask("HTTP/1.1\r\nConnection: Close\r\n\r\n")
            .connection(),
        "close"
    );
    assert_eq!(client.rest(), "");

    let long = format!("GET / HTTP/1.1\r\nX: {}", "x".repeat(9000));
    for (request, status) in [
        ("POST / HTTP/1.1\r\n\r\n", 405),
        ("GET / HTTP/1.1\r\nContent-Length: 3\r\n\r\n", 413),
        ("hello\r\n\r\n", 400),
        ("\u{0}\u{ff}\r\n\r\n", 400),
        (long.as_str(), 431),
    ] {
        let mut client = server.connect();
        assert_eq!(client.ask(request).status(), status, "{request:.40}");
    }
    server.process.signal(Signal::SIGTERM);
    assert_eq!(server.process.end().code(), Some(0));
    server.left_nothing_open();
}

#[test]
fn says_that_its_address_is_taken() {
    let server = Server::start(&[]);
    let mut second = start("server", &["--addr", &server.addr.to_string()]);
    assert_eq!(second.end().code(), Some(1));
    second
        .err
        .line(&format!("cannot listen on {}", server.addr));
}
