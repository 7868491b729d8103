//! What the server sees of the world: its clients, and the peer behind its pool.

use std::collections::HashSet;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crate::FAR;
use crate::server::LINES;

/// The other side of the pool: it counts what is open, and how each connection ended.
pub(crate) struct Peer {
    pub(crate) addr: SocketAddr,
    seen: Arc<(Mutex<Seen>, Condvar)>,
    acceptor: Option<JoinHandle<()>>,
}

#[derive(Default)]
pub(crate) struct Seen {
    pub(crate) open: usize,
    /// Ended with a farewell.
    pub(crate) orderly: usize,
    /// Ended without.
    pub(crate) cut: usize,
    pub(crate) asked: HashSet<String>,
    /// Questions that begin with `/held` are answered now.
    released: bool,
    over: bool,
}

impl Peer {
    /// Takes `work` for each answer.
    pub(crate) fn start(work: Duration) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let addr = listener.local_addr().unwrap();
        let seen = Arc::<(Mutex<Seen>, Condvar)>::default();
        let shared = Arc::clone(&seen);
        let acceptor = thread::spawn(move || {
            for stream in listener.incoming() {
                let mut now = shared.0.lock().unwrap();
                if now.over {
                    return;
                }
                now.open += 1;
                drop(now);
                let shared = Arc::clone(&shared);
                thread::spawn(move || serve(&stream.unwrap(), work, &shared));
            }
        });
        Self {
            addr,
            seen,
            acceptor: Some(acceptor),
        }
    }

    /// Waits until it holds, and gives what it was asked for.
    pub(crate) fn until<R>(&self, what: &str, look: impl Fn(&Seen) -> Option<R>) -> R {
        let (seen, changed) = &*self.seen;
        let now = seen.lock().unwrap();
        let (now, late) = changed
            .wait_timeout_while(now, FAR, |now| look(now).is_none())
            .unwrap();
        assert!(!late.timed_out(), "waited in vain for {what}");
        look(&now).unwrap()
    }

    pub(crate) fn was_asked(&self, question: &str) {
        self.until(question, |seen| seen.asked.contains(question).then_some(()));
    }

    pub(crate) fn release(&self) {
        self.seen.0.lock().unwrap().released = true;
        self.seen.1.notify_all();
    }

    /// Waits until none is open: how many ended with a farewell, and without.
    pub(crate) fn ends(&self) -> (usize, usize) {
        self.until("all connections to be closed", |seen| {
            (seen.open == 0).then_some((seen.orderly, seen.cut))
        })
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        self.seen.0.lock().unwrap().over = true;
        self.release();
        drop(TcpStream::connect(self.addr));
        if let Some(acceptor) = self.acceptor.take() {
            let _ = acceptor.join();
        }
    }
}

fn serve(stream: &TcpStream, work: Duration, (seen, changed): &(Mutex<Seen>, Condvar)) {
    let mut orderly = false;
    for question in BufReader::new(stream).lines().map_while(Result::ok) {
        if question == "bye" {
            orderly = true;
            continue;
        }
        let held = question.starts_with("/held");
        let mut now = seen.lock().unwrap();
        now.asked.insert(question.clone());
        changed.notify_all();
        let now = changed.wait_timeout_while(now, FAR, |now| held && !now.released);
        drop(now);
        thread::sleep(work);
        let answer = format!("the answer to {question}\n");
        if { stream }.write_all(answer.as_bytes()).is_err() {
            break;
        }
    }
    let mut now = seen.lock().unwrap();
    now.open -= 1;
    *(if orderly {
        &mut now.orderly
    } else {
        &mut now.cut
    }) += 1;
    changed.notify_all();
    // Hung up by the caller, afterwards: who sees that is counted already.
}

/// A request that was sent; `None` where the server is not there any more.
pub(crate) fn send(server: SocketAddr, path: &str) -> Option<TcpStream> {
    let mut stream = match TcpStream::connect(server) {
        // A free port of this machine may be drawn for both ends.
        Ok(stream) if stream.local_addr().unwrap() != server => stream,
        Ok(_) => return None,
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => return None,
        // Its listener was closed between the two halves of it.
        Err(error) if error.kind() == io::ErrorKind::ConnectionReset => return None,
        Err(error) => panic!("{error}"),
    };
    stream.set_read_timeout(Some(FAR)).unwrap();
    stream.set_write_timeout(Some(FAR)).unwrap();
    // Where this fails the answer does not come either.
    let _ = stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: there\r\n\r\n").as_bytes());
    Some(stream)
}

/// Whether there was an answer. Half of one, or somebody else's, fails the test.
pub(crate) fn is_answered(mut stream: TcpStream, path: &str) -> bool {
    let mut answer = Vec::new();
    if let Err(error) = stream.read_to_end(&mut answer) {
        assert_eq!(error.kind(), io::ErrorKind::ConnectionReset, "{path}");
    }
    if answer.is_empty() {
        return false;
    }
    let body = format!("the answer to {path}\n").repeat(LINES);
    let whole = format!(
        "HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    );
    assert!(
        answer == whole.as_bytes(),
        "{path}: {} of {} bytes, or others",
        answer.len(),
        whole.len()
    );
    true
}

pub(crate) fn ask(server: SocketAddr, path: &str) -> bool {
    send(server, path).is_some_and(|stream| is_answered(stream, path))
}
