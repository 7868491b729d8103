//! SIGTERM at moments that nobody chose, under load.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use nix::sys::signal::Signal;

use crate::outside::{Peer, is_answered, send};
use crate::random::Random;
use crate::server::{How, WORKERS};
use crate::{FAR, Server};

pub(crate) fn stopped_at_random_every_answer_is_whole_and_in_the_log() {
    stopped_under_load("a few stops", 8);
}

/// SIGTERM at moments that nobody chose, while twice as many clients as workers ask as fast as they
/// can.
pub(crate) fn stopped_under_load(test: &str, rounds: u32) {
    let mut random = Random::new(test);
    let (mut in_all, mut after_in_all, mut none) = (0, 0, 0);
    for _ in 0..rounds {
        let (place, peer) = (
            tempfile::tempdir().unwrap(),
            Peer::start(Duration::from_millis(1)),
        );
        let mut server = Server::start_with(How::Plain, FAR, place, peer);
        let (answered, after, unanswered) = round_under_load(&mut server, &mut random);
        // Neither one that is missing in the log, nor one that is there twice.
        let mut sorted: Vec<_> = answered.iter().map(String::as_str).collect();
        sorted.sort_unstable();
        server.assert_clean(&sorted);
        in_all += answered.len();
        after_in_all += after;
        none += unanswered;
    }
    println!(
        "{test}: {rounds} stops, {in_all} answers, {after_in_all} of them after the signal, \
         {none} requests without one"
    );
    assert!(after_in_all > 0, "no stop has met a request in hand");
}

/// What was answered, how much of it after the signal, and how many requests were not.
fn round_under_load(server: &mut Server, random: &mut Random) -> (HashSet<String>, usize, usize) {
    let addr = server.addr();
    let (answered, signalled) = (Mutex::new(HashSet::new()), AtomicBool::new(false));
    let (after, unanswered) = thread::scope(|scope| {
        let clients: Vec<_> = (0..WORKERS * 2)
            .map(|client| {
                let (answered, signalled) = (&answered, &signalled);
                scope.spawn(move || load(addr, client, answered, signalled))
            })
            .collect();
        thread::sleep(random.up_to(Duration::from_millis(80)));
        signalled.store(true, Ordering::SeqCst);
        let (status, _) = server.stop(Signal::SIGTERM);
        assert_eq!(status.code(), Some(0), "{}", server.process.err.all());
        let counts = clients.into_iter().map(|client| client.join().unwrap());
        counts.fold((0, 0), |sum, (after, none)| (sum.0 + after, sum.1 + none))
    });
    (answered.into_inner().unwrap(), after, unanswered)
}

/// Asks until it is refused: how many answers came after the signal, and how many did not come.
fn load(
    addr: SocketAddr,
    client: usize,
    answered: &Mutex<HashSet<String>>,
    signalled: &AtomicBool,
) -> (usize, usize) {
    let (mut after, mut unanswered) = (0, 0);
    for number in 0.. {
        let path = format!("/{client}/{number}");
        let Some(stream) = send(addr, &path) else {
            break;
        };
        let got = is_answered(stream, &path);
        let late = signalled.load(Ordering::SeqCst);
        if got {
            after += usize::from(late);
            assert!(answered.lock().unwrap().insert(path));
        } else {
            assert!(
                late,
                "{path}: not answered, before anybody has asked for a stop"
            );
            unanswered += 1;
        }
    }
    assert!(signalled.load(Ordering::SeqCst), "refused before the stop");
    (after, unanswered)
}
