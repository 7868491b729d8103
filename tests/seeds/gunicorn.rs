//! Gunicorn's shutdown, told again: a server whose clean-up runs even when a request never ends.
//!
//! At SIGTERM Gunicorn's master closes the listening sockets, passes the signal on to its worker
//! processes and waits for `graceful_timeout` (30 s); whoever is left then is sent SIGKILL. The
//! master calls `on_exit` and exits with 0, whatever it had to kill (`Arbiter.stop` and
//! `Arbiter.halt` in `gunicorn/arbiter.py`). A worker that ends by itself calls `worker_exit`, and
//! `atexit` closes what is open; one that is killed does none of this. What is clean-up there is
//! spread over the application (an explicit close), context managers, and these hooks.
//!
//! Measured with Gunicorn 27.0.1 on Python 3.11, `graceful_timeout` 2, a handler that hangs: with
//! `sync` workers neither `worker_exit` nor `atexit` ran in the worker; with `gthread` workers the
//! former did, the latter did not; both exited with 0, and the access log did not have the request.
//! After SIGINT it exits with 0 as well, so that a shell's loop goes on; and a second SIGTERM
//! changes nothing, as only SIGINT and SIGQUIT are looked for meanwhile.
//!
//! Here the same is done to a server on top of this crate (`gunicorn/server.rs`), as a process of
//! its own: this executable plays both parts. How many connections are open is counted outside of
//! it, by the peer of its pool, and so is whether each was closed with a farewell: the system
//! closes them for everybody.
//!
//! Every wait ends, by what is waited for or by a failure; every child is gone when its test is.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    missing_docs,
    reason = "tests"
)]

#[path = "gunicorn/load.rs"]
mod load;
#[path = "gunicorn/outside.rs"]
mod outside;
#[path = "../common/process.rs"]
mod process;
#[path = "../common/random.rs"]
mod random;
#[path = "gunicorn/server.rs"]
mod server;

use std::net::{SocketAddr, TcpStream};
use std::os::unix::process::ExitStatusExt;
use std::process::{ExitCode, ExitStatus, Stdio};
use std::time::{Duration, Instant};
use std::{env, fs};

use libtest_mimic::{Arguments, Trial};
use nix::sys::signal::Signal;
use tempfile::TempDir;

use crate::load::{stopped_at_random_every_answer_is_whole_and_in_the_log, stopped_under_load};
use crate::outside::{Peer, ask, is_answered, send};
use crate::process::Process;
use crate::server::{ACCESS_LOG, How, PID_FILE, WORKERS};

/// Reaching it fails the test.
pub(crate) const FAR: Duration = Duration::from_secs(60);
/// Of the endings that use their time up: two thirds for the drain, one for the clean-up.
const GRACE: Duration = Duration::from_millis(1500);
const DRAIN: Duration = Duration::from_secs(1);
/// What the end may take beyond the grace period (P15).
const BEYOND: Duration = Duration::from_millis(100);
/// What a loaded machine may add to a bound before it is seen from outside.
const NOISE: Duration = Duration::from_millis(500);
/// A forced exit (P8), with emergency hooks.
const FORCED: Duration = Duration::from_millis(300);

/// The process is the program under test.
const SERVER: &str = "WINDDOWN_GUNICORN_SERVER";

fn main() -> ExitCode {
    if env::var_os(SERVER).is_some() {
        return server::main();
    }
    macro_rules! trials {
        ($($test:ident),* $(,)?) => {
            vec![$(Trial::test(stringify!($test), || { $test(); Ok(()) })),*]
        };
    }
    let mut tests = trials![
        what_is_in_hand_is_finished_and_the_rest_refused,
        stopped_before_the_first_request_it_cleans_up,
        stopped_before_it_serves_it_cleans_up_what_it_opens_late,
        a_hung_request_does_not_keep_the_clean_up_from_running,
        a_hung_request_and_a_hung_hook_do_not_keep_the_others_from_running,
        a_hung_owner_does_not_keep_the_clean_up_from_running,
        the_second_sigterm_ends_it_at_once,
        sigint_cleans_up_and_is_died_of,
        a_panic_of_a_request_cleans_up,
        explicit_close_and_safety_net_close_the_pool_once,
        stopped_at_random_every_answer_is_whole_and_in_the_log,
        what_is_not_cleaned_up_is_seen,
    ];
    tests.push(
        Trial::test("a_hundred_stops_under_load", || {
            stopped_under_load("a hundred stops", 100);
            Ok(())
        })
        .with_ignored_flag(true),
    );
    libtest_mimic::run(&Arguments::from_args(), tests).exit_code()
}

/// A server in a process of its own, its files, and its peer.
struct Server {
    process: Process,
    place: TempDir,
    peer: Peer,
}

impl Server {
    fn start(how: How, grace: Duration) -> Self {
        let (place, peer) = (tempfile::tempdir().unwrap(), Peer::start(Duration::ZERO));
        Self::start_with(how, grace, place, peer)
    }

    fn start_with(how: How, grace: Duration, place: TempDir, peer: Peer) -> Self {
        let mut command = process::command(env::current_exe().unwrap());
        command
            .arg(place.path())
            .args([&peer.addr.to_string(), &grace.as_millis().to_string()])
            .arg(how.name())
            .env(SERVER, "1")
            .env_remove("RUST_BACKTRACE")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let process = Process::start(command);
        Self {
            process,
            place,
            peer,
        }
    }

    /// Waits until it listens.
    fn addr(&self) -> SocketAddr {
        let line = self.process.out.line("listening on ");
        line.strip_prefix("listening on ").unwrap().parse().unwrap()
    }

    /// Sends a request that stays in hand; the peer has been asked.
    fn in_hand(&self, addr: SocketAddr, path: &str) -> TcpStream {
        let stream = send(addr, path).unwrap();
        self.peer.was_asked(path);
        stream
    }

    /// Signals it, and waits for the end: how it ended, and how long after the signal.
    fn stop(&mut self, signal: Signal) -> (ExitStatus, Duration) {
        let signalled = Instant::now();
        self.process.signal(signal);
        let status = self.process.end();
        (status, signalled.elapsed())
    }

    /// What the clean-up has said, in order. To be asked when it has ended.
    fn cleaned_up(&self) -> Vec<String> {
        self.process.out.last_line();
        let all = self.process.out.all();
        let parts = ["on_exit", "pool closed", "log flushed", "atexit"];
        all.lines()
            .filter(|line| parts.contains(line))
            .map(str::to_owned)
            .collect()
    }

    fn log(&self) -> Vec<String> {
        let log = fs::read_to_string(self.place.path().join(ACCESS_LOG)).unwrap();
        let lines = log.lines().map(|line| {
            let path = line.strip_prefix("GET ").unwrap();
            path.strip_suffix(" 200").unwrap().to_owned()
        });
        lines.collect()
    }

    fn has_pid_file(&self) -> bool {
        self.place.path().join(PID_FILE).exists()
    }

    /// Everything was cleaned up, each thing once, and the log has what was answered, each once.
    #[track_caller]
    fn assert_clean(&self, answered: &[&str]) {
        let all = ["pool closed", "on_exit", "log flushed", "atexit"];
        assert_eq!(self.cleaned_up(), all, "{}", self.process.err.all());
        // One after the other: a farewell on each connection.
        assert_eq!(self.peer.ends(), (WORKERS, 0));
        assert!(!self.has_pid_file());
        let mut log = self.log();
        log.sort();
        assert_eq!(log, answered);
    }
}

fn assert_within(what: &str, took: Duration, bound: Duration) {
    println!("{what}: ended after {took:?}, bound {bound:?}");
    assert!(
        took <= bound + NOISE,
        "took {took:?}, bound {bound:?} and {NOISE:?}"
    );
}

fn what_is_in_hand_is_finished_and_the_rest_refused() {
    let mut server = Server::start(How::Plain, FAR);
    let addr = server.addr();
    assert!(ask(addr, "/1"));
    assert!(ask(addr, "/2"));
    // One for each worker, and one that nobody has time for yet.
    let held = ["/held/1", "/held/2", "/held/3", "/held/4"];
    let in_hand = held.map(|path| server.in_hand(addr, path));
    let queued = send(addr, "/queued").unwrap();
    server.process.out.line("accepted 7");
    server.process.signal(Signal::SIGTERM);
    server.process.out.line("closed");
    // Refused, and not left in a queue that nobody serves.
    assert!(send(addr, "/late").is_none());
    // P21: nothing is taken from under them. The log is with its hook.
    assert_eq!(server.log(), [""; 0]);
    assert_eq!(
        server.peer.until("the count", |seen| Some(seen.open)),
        WORKERS
    );
    server.peer.release();
    for (stream, path) in in_hand.into_iter().zip(held) {
        assert!(is_answered(stream, path), "{path}");
    }
    assert!(is_answered(queued, "/queued"));
    let status = server.process.end();
    assert_eq!(status.code(), Some(0), "{}", server.process.err.all());
    let mut answered = vec!["/1", "/2"];
    answered.extend(held);
    answered.push("/queued");
    server.assert_clean(&answered);
}

fn stopped_before_the_first_request_it_cleans_up() {
    let mut server = Server::start(How::Plain, FAR);
    server.addr();
    let (status, _) = server.stop(Signal::SIGTERM);
    assert_eq!(status.code(), Some(0), "{}", server.process.err.all());
    server.assert_clean(&[]);
}

fn stopped_before_it_serves_it_cleans_up_what_it_opens_late() {
    let mut server = Server::start(How::Late, FAR);
    server.process.out.line("installed");
    let (status, _) = server.stop(Signal::SIGTERM);
    assert_eq!(status.code(), Some(0), "{}", server.process.err.all());
    // P19. No worker was started (P22), so that the owner is the last to have the pool.
    server.assert_clean(&[]);
}

/// The report names it, and says where it was registered.
fn assert_reported(server: &Server, name: &str, outcome: &str, registered: &str) {
    server.process.err.last_line();
    let report = server.process.err.all();
    let mut lines = report.lines();
    let row = lines.find(|line| line.contains(name) && line.ends_with(outcome));
    assert!(row.is_some(), "no {name} {outcome}:\n{report}");
    let (_, wrong) = report.split_once("where it was registered:").unwrap();
    let mut lines = wrong.lines();
    let location = lines.find(|line| line.contains(name) && line.ends_with(outcome));
    let location = location.unwrap();
    let source = include_str!("gunicorn/server.rs");
    let line = source.lines().position(|line| line.contains(registered));
    let place = format!("gunicorn/server.rs:{}:", line.unwrap() + 1);
    assert!(location.contains(&place), "not {place}\n{report}");
}

fn a_hung_request_does_not_keep_the_clean_up_from_running() {
    let mut server = Server::start(How::Plain, GRACE);
    let addr = server.addr();
    assert!(ask(addr, "/1"));
    let hung = server.in_hand(addr, "/hang");
    let held = server.in_hand(addr, "/held");
    let signalled = Instant::now();
    server.process.signal(Signal::SIGTERM);
    server.process.out.line("closed");
    server.peer.release();
    assert!(is_answered(held, "/held"));
    let status = server.process.end();
    let took = signalled.elapsed();
    // It had its share of the time.
    assert!(took >= DRAIN, "took {took:?}");
    assert_within("hung request", took, GRACE + BEYOND);
    assert_eq!(status.code(), Some(1), "{}", server.process.err.all());
    assert!(!is_answered(hung, "/hang"));
    // The one who hangs is among those who would have closed the pool: the safety net has.
    let all = ["on_exit", "pool closed", "log flushed", "atexit"];
    assert_eq!(server.cleaned_up(), all);
    assert_eq!(server.peer.ends(), (WORKERS - 1, 1));
    assert!(!server.has_pid_file());
    assert_eq!(server.log(), ["/1", "/held"]);
    assert_reported(&server, "request /hang", "abandoned", "shutdown.hold(");
    let worker = "shutdown.spawn(format!(\"worker";
    assert_reported(&server, "worker", "abandoned", worker);
}

/// P14, P15, P16.
fn a_hung_request_and_a_hung_hook_do_not_keep_the_others_from_running() {
    let mut server = Server::start(How::OnExitHangs, GRACE);
    let addr = server.addr();
    assert!(ask(addr, "/1"));
    let hung = server.in_hand(addr, "/hang");
    let (status, took) = server.stop(Signal::SIGTERM);
    assert_within("hung request and hook", took, GRACE + BEYOND);
    assert_eq!(status.code(), Some(1), "{}", server.process.err.all());
    assert!(!is_answered(hung, "/hang"));
    let all = ["on_exit", "pool closed", "log flushed", "atexit"];
    assert_eq!(server.cleaned_up(), all);
    assert_eq!(server.peer.ends(), (WORKERS - 1, 1));
    assert!(!server.has_pid_file());
    assert_eq!(server.log(), ["/1"]);
    assert_reported(&server, "request /hang", "abandoned", "shutdown.hold(");
    assert_reported(&server, "on_exit", "timed out", "shutdown.hook(\"on_exit\"");
}

fn a_hung_owner_does_not_keep_the_clean_up_from_running() {
    let mut server = Server::start(How::OwnerHangs, GRACE);
    let addr = server.addr();
    let client = send(addr, "/1").unwrap();
    server.process.out.line("the owner hangs");
    let (status, took) = server.stop(Signal::SIGTERM);
    assert!(took >= DRAIN, "took {took:?}");
    assert_within("hung owner", took, GRACE + BEYOND);
    assert_eq!(status.code(), Some(124), "{}", server.process.err.all());
    assert!(!is_answered(client, "/1"));
    let all = ["on_exit", "pool closed", "log flushed", "atexit"];
    assert_eq!(server.cleaned_up(), all);
    assert_eq!(server.peer.ends(), (WORKERS, 0));
    assert!(!server.has_pid_file());
    assert_eq!(server.log(), [""; 0]);
}

/// P8: with 143, and the emergency hook has run; the others do not (P13).
fn the_second_sigterm_ends_it_at_once() {
    let mut server = Server::start(How::NoDebounce, FAR);
    let addr = server.addr();
    assert!(ask(addr, "/1"));
    let held = server.in_hand(addr, "/held");
    assert!(server.has_pid_file());
    server.process.signal(Signal::SIGTERM);
    server.process.out.line("closed");
    let (status, took) = server.stop(Signal::SIGTERM);
    assert_within("second SIGTERM", took, FORCED);
    assert_eq!(status.code(), Some(143), "{}", server.process.err.all());
    assert!(!server.has_pid_file(), "no emergency hook has run");
    assert!(!is_answered(held, "/held"));
    assert_eq!(server.cleaned_up(), [""; 0]);
    server.peer.release();
    assert_eq!(server.peer.ends(), (0, WORKERS));
}

fn sigint_cleans_up_and_is_died_of() {
    let mut server = Server::start(How::Plain, FAR);
    let addr = server.addr();
    assert!(ask(addr, "/1"));
    let held = server.in_hand(addr, "/held");
    server.process.signal(Signal::SIGINT);
    server.process.out.line("closed");
    server.peer.release();
    assert!(is_answered(held, "/held"));
    let status = server.process.end();
    assert_eq!(status.signal(), Some(libc::SIGINT), "{status}");
    server.assert_clean(&["/1", "/held"]);
}

fn a_panic_of_a_request_cleans_up() {
    let mut server = Server::start(How::Plain, FAR);
    let addr = server.addr();
    assert!(ask(addr, "/1"));
    let held = server.in_hand(addr, "/held");
    let panicked = server.in_hand(addr, "/panic");
    assert!(!is_answered(panicked, "/panic"));
    // Nobody has signalled it.
    server.process.out.line("closed");
    server.peer.release();
    assert!(is_answered(held, "/held"));
    let status = server.process.end();
    assert_eq!(status.code(), Some(101), "{}", server.process.err.all());
    server.assert_clean(&["/1", "/held"]);
    let report = server.process.err.all();
    assert!(report.contains("the handler of /panic"), "{report}");
}

fn explicit_close_and_safety_net_close_the_pool_once() {
    for how in [
        How::ClosedByOwner,
        How::ClosedInOnExit,
        How::ClosedAtExit,
        How::ClosedMeanwhile,
    ] {
        let mut server = Server::start(how, FAR);
        let addr = server.addr();
        assert!(ask(addr, "/1"));
        let (status, _) = server.stop(Signal::SIGTERM);
        let (name, all) = (how.name(), server.process.err.all());
        assert_eq!(status.code(), Some(0), "{name}: {all}");
        let mut expected = vec!["on_exit", "pool closed", "log flushed", "atexit"];
        if how == How::ClosedByOwner {
            expected.swap(0, 1);
        }
        assert_eq!(server.cleaned_up(), expected, "{name}");
        assert_eq!(server.peer.ends(), (WORKERS, 0), "{name}");
        assert_eq!(server.log(), ["/1"], "{name}");
    }
}

/// So that a clean end means something.
fn what_is_not_cleaned_up_is_seen() {
    let mut server = Server::start(How::Plain, FAR);
    let addr = server.addr();
    assert!(ask(addr, "/1"));
    let (status, _) = server.stop(Signal::SIGKILL);
    assert_eq!(status.signal(), Some(libc::SIGKILL));
    assert_eq!(server.cleaned_up(), [""; 0]);
    assert_eq!(server.peer.ends(), (0, WORKERS));
    assert!(server.has_pid_file());
    assert_eq!(server.log(), [""; 0]);
}
