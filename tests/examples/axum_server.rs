//! `examples/axum_server.rs` under load, stopped at random moments.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::process::ExitStatusExt;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use crate::process::{Process, until};
use crate::random::Random;
use crate::{FAR, SLACK, start};

struct Server {
    process: Process,
    addr: SocketAddr,
    admin: SocketAddr,
}

impl Server {
    fn start(args: &[&str]) -> Self {
        let process = start("axum_server", args);
        let told = |what: &str| {
            let line = process.out.line(what);
            line.strip_prefix(what).unwrap().parse().unwrap()
        };
        let (admin, addr) = (told("probes on "), told("listening on "));
        Self {
            process,
            addr,
            admin,
        }
    }

    fn probe(&self, path: &str) -> Option<u16> {
        match ask(self.admin, path) {
            Asked::Whole(status, _) => Some(status),
            Asked::Refused => None,
        }
    }

    fn becomes_unready(&self) {
        until("the readiness to go", || self.probe("/readyz") == Some(503));
    }

    fn refuses(&self) {
        until("the listener to be closed", || {
            TcpStream::connect(self.addr).is_err()
        });
    }
}

/// What became of one request.
#[derive(Debug)]
enum Asked {
    /// All of an answer: its status and its body.
    Whole(u16, String),
    /// Not a byte of one: nobody listens, or the connection was closed before the request was read.
    Refused,
}

/// One request on a connection of its own. Half an answer fails the test.
fn ask(addr: SocketAddr, path: &str) -> Asked {
    let Ok(mut stream) = TcpStream::connect(addr) else {
        return Asked::Refused;
    };
    stream.set_read_timeout(Some(FAR)).unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n");
    if stream.write_all(request.as_bytes()).is_err() {
        return Asked::Refused;
    }
    let mut answer = Vec::new();
    let end = stream.read_to_end(&mut answer);
    if answer.is_empty() {
        if let Err(error) = end {
            let reset = error.kind() == std::io::ErrorKind::ConnectionReset;
            assert!(reset, "{path}: {error}");
        }
        return Asked::Refused;
    }
    let answer = String::from_utf8(answer).unwrap();
    let Some((head, body)) = answer.split_once("\r\n\r\n") else {
        panic!("half a head for {path}: {answer}");
    };
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    let length = head.lines().find_map(|line| {
        let (name, value) = line.split_once(": ")?;
        name.eq_ignore_ascii_case("content-length")
            .then(|| value.parse::<usize>().unwrap())
    });
    assert_eq!(length, Some(body.len()), "half an answer to {path}");
    Asked::Whole(status, body.to_owned())
}

fn is_answer_to(asked: &Asked, path: &str) -> bool {
    let whole = format!("you asked for {path}\n").repeat(1000);
    matches!(asked, Asked::Whole(200, body) if *body == whole)
}

#[test]
fn lingers_answers_what_is_in_flight_and_refuses_the_rest() {
    let mut server = Server::start(&["--linger", "1", "--work", "3"]);
    let addr = server.addr;
    let early = thread::spawn(move || ask(addr, "/early"));
    server.process.err.line("GET /early");
    assert_eq!(server.probe("/readyz"), Some(200));
    server.process.signal(Signal::SIGTERM);
    server.becomes_unready();
    // Not ready, and open.
    let late = thread::spawn(move || ask(addr, "/late"));
    server.process.err.line("GET /late");
    server.refuses();
    // Alive to the end, and it says for whom it waits.
    assert_eq!(server.probe("/livez"), Some(200));
    let Asked::Whole(200, waits) = ask(server.admin, "/shutdown") else {
        panic!("no snapshot");
    };
    assert!(waits.contains("GET /late"), "{waits}");
    assert!(is_answer_to(&early.join().unwrap(), "/early"));
    assert!(is_answer_to(&late.join().unwrap(), "/late"));
    assert_eq!(server.process.end().code(), Some(0));
    assert_eq!(
        server.process.out.last_line(),
        "pool closed, 0 still in use"
    );
}

#[test]
fn a_request_that_hangs_is_left_behind_by_name() {
    let mut server = Server::start(&["--linger", "0", "--grace", "2", "--work", "1000"]);
    let addr = server.addr;
    let client = thread::spawn(move || ask(addr, "/slow"));
    server.process.err.line("GET /slow");
    let asked = Instant::now();
    server.process.signal(Signal::SIGTERM);
    assert_eq!(server.process.end().code(), Some(1));
    assert!(asked.elapsed() < Duration::from_secs(2) + SLACK);
    let report = server.process.err.all();
    assert!(report.contains("hold GET /slow: abandoned"), "{report}");
    assert!(matches!(client.join().unwrap(), Asked::Refused));
}

#[test]
fn ctrl_c_does_not_linger() {
    let mut server = Server::start(&["--linger", "20"]);
    assert!(is_answer_to(&ask(server.addr, "/hello"), "/hello"));
    let asked = Instant::now();
    server.process.signal(Signal::SIGINT);
    let status = server.process.end();
    assert_eq!(status.signal(), Some(libc::SIGINT), "{status}");
    assert!(asked.elapsed() < Duration::from_secs(5) + SLACK);
}

/// What all rounds came to.
#[derive(Default)]
struct Tally {
    answered: AtomicUsize,
    refused: AtomicUsize,
    /// Requests that were on their way when the signal came, or after it.
    over_the_signal: AtomicUsize,
}

#[test]
fn no_accepted_request_is_broken_in_fifty_rounds() {
    const ROUNDS: usize = 50;
    const AT_ONCE: usize = 5;
    let mut random = Random::new("axum_server");
    let moments = (0..ROUNDS).map(|number| (number, random.up_to(Duration::from_millis(200))));
    let left = Arc::new(Mutex::new(moments.collect::<Vec<_>>()));
    let tally = Arc::new(Tally::default());
    let lanes: Vec<_> = (0..AT_ONCE)
        .map(|_| {
            let (left, tally) = (Arc::clone(&left), Arc::clone(&tally));
            thread::spawn(move || {
                loop {
                    let Some((number, moment)) = left.lock().unwrap().pop() else {
                        return;
                    };
                    round(number, moment, &tally);
                }
            })
        })
        .collect();
    for lane in lanes {
        lane.join().unwrap();
    }
    let [answered, refused, over] = [&tally.answered, &tally.refused, &tally.over_the_signal]
        .map(|count| count.load(Ordering::SeqCst));
    println!(
        "{ROUNDS} rounds: {answered} answered, {over} of them after the signal; {refused} refused; 0 broken"
    );
    assert!(answered > ROUNDS * 10 && refused > 0 && over > ROUNDS);
}

/// A server under load that is asked to stop at a random moment.
///
/// Two kinds of clients: those that keep to the readiness, as behind a load balancer, are answered
/// without exception. Those that do not care go on until the listener refuses them: what the server
/// has begun of theirs is answered, too, and what is refused was never begun.
fn round(number: usize, moment: Duration, tally: &Arc<Tally>) {
    const OF_EACH: usize = 3;
    let work = ["0", "0.002", "0.02"][number % 3];
    let mut server = Server::start(&["--linger", "1", "--work", work]);
    let addr = server.addr;
    let (signalled, unready) = (
        Arc::new(AtomicBool::new(false)),
        Arc::new(AtomicBool::new(false)),
    );
    let clients: Vec<_> = (0..2 * OF_EACH)
        .map(|client| {
            let cares = client < OF_EACH;
            let (signalled, unready) = (Arc::clone(&signalled), Arc::clone(&unready));
            let tally = Arc::clone(tally);
            thread::spawn(move || {
                let (mut answered, mut refused) = (BTreeSet::new(), BTreeSet::new());
                for request in 0.. {
                    let path = format!("/{client}/{request}/");
                    if cares && unready.load(Ordering::SeqCst) {
                        break;
                    }
                    let asked = ask(addr, &path);
                    if is_answer_to(&asked, &path) {
                        answered.insert(path);
                        if signalled.load(Ordering::SeqCst) {
                            tally.over_the_signal.fetch_add(1, Ordering::SeqCst);
                        }
                    } else if !cares && matches!(asked, Asked::Refused) {
                        refused.insert(path);
                        // Closed in between is not refused: the next one tells.
                        if TcpStream::connect(addr).is_err() {
                            break;
                        }
                    } else {
                        panic!("broken: {path} in round {number}: {asked:?}");
                    }
                    // Some room for the others; these are closed loops on few processors.
                    thread::sleep(Duration::from_millis(2));
                }
                (answered, refused)
            })
        })
        .collect();
    server.process.err.line("GET /");
    thread::sleep(moment);
    server.process.signal(Signal::SIGTERM);
    signalled.store(true, Ordering::SeqCst);
    server.becomes_unready();
    unready.store(true, Ordering::SeqCst);
    let status = server.process.end();
    let log = server.process.err.all();
    assert_eq!(status.code(), Some(0), "round {number}: {log}");
    assert_eq!(
        server.process.out.last_line(),
        "pool closed, 0 still in use"
    );
    for client in clients {
        let (answered, refused) = client.join().unwrap();
        for path in &refused {
            let begun = log.contains(&format!("GET {path}\n"));
            assert!(
                !begun,
                "{path} in round {number} was begun and not answered"
            );
        }
        tally.answered.fetch_add(answered.len(), Ordering::SeqCst);
        tally.refused.fetch_add(refused.len(), Ordering::SeqCst);
    }
}
