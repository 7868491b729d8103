//! A member in a process of its own, which does what it is told and says what came of it.

use std::collections::HashMap;
use std::io::{BufRead, Write};
use std::process::{ChildStdin, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use nix::sys::signal::Signal;
use winddown::{
    Claim, Ledger, Member, Membership, ShutdownCoordinator, ShutdownHandle, StopReason,
};

use crate::conformance::Way;
use crate::process::{Process, command};
use crate::work::Work;

const STORE: &str = "WINDDOWN_LEDGER";
const NAME: &str = "WINDDOWN_LEDGER_NAME";
const OPTIONS: &str = "WINDDOWN_LEDGER_OPTIONS";

pub(crate) struct Worker {
    pub(crate) process: Process,
    pub(crate) id: i64,
    told: ChildStdin,
}

impl Worker {
    /// Of these options: `heartbeat=MS`, `dead_after=MS`, `max_crashes=N`, `grace=MS`, `hook=NAME`
    /// (which hangs), `deaf` (the owner never comes back), `hold` (until something is
    /// completed), `work` (see `work`).
    pub(crate) fn start(way: &dyn Way, name: &str, options: &str) -> Self {
        let mut command = command(std::env::current_exe().unwrap());
        command
            .args(["--exact", "worker::the_worker", "--nocapture", "--ignored"])
            .env(STORE, way.address())
            .env(NAME, name)
            .env(OPTIONS, options)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let (process, told) = Process::start_told(command);
        let line = process.out.line("member ");
        let (_, id) = line.split_once("member ").unwrap();
        let id = id.parse().unwrap();
        Self { process, id, told }
    }

    pub(crate) fn tell(&mut self, what: &str) {
        writeln!(self.told, "{what}").unwrap();
    }

    /// As `tell`, for one that may have ended.
    pub(crate) fn tell_if_there(&mut self, what: &str) {
        let _ = writeln!(self.told, "{what}");
    }

    pub(crate) fn line(&self, what: &str) -> String {
        self.process.out.line(what)
    }

    pub(crate) fn kill(&mut self) {
        self.process.signal(Signal::SIGKILL);
        self.process.end();
    }
}

/// What `Way::address` says.
pub(crate) fn open(address: &str) -> Ledger {
    #[cfg(feature = "ledger-postgres")]
    if let Some((url, directory)) = address.split_once('#') {
        return Ledger::connect_with(url, directory).unwrap();
    }
    Ledger::open(address).unwrap()
}

/// Not a test: the other process of the tests.
#[test]
#[ignore = "the other process of the other tests"]
fn the_worker() {
    let (Ok(address), Ok(name)) = (std::env::var(STORE), std::env::var(NAME)) else {
        return;
    };
    let options = std::env::var(OPTIONS).unwrap_or_default();
    let options: HashMap<&str, &str> = options
        .split_whitespace()
        .map(|option| option.split_once('=').unwrap_or((option, "")))
        .collect();
    let millis = |option: &str, default: u64| {
        let given = options.get(option).map(|millis| millis.parse().unwrap());
        Duration::from_millis(given.unwrap_or(default))
    };
    let shutdown = ShutdownCoordinator::builder()
        .grace_period(millis("grace", 60_000))
        .hook_timeout(crate::FAR)
        .install()
        .unwrap();
    let membership = Membership::new(name)
        .heartbeat(millis("heartbeat", 50))
        .dead_after(millis("dead_after", 60_000))
        .max_crashes(options.get("max_crashes").map_or(1, |n| n.parse().unwrap()));
    let member = open(&address).join(&shutdown, membership).unwrap();
    if let Some(hook) = options.get("hook") {
        shutdown.hook((*hook).to_owned(), || {
            println!("in the hook");
            loop {
                std::thread::park();
            }
        });
    }
    println!("member {}", member.id());
    if options.contains_key("work") {
        let (address, member, shutdown) = (address.clone(), member.clone(), shutdown.handle());
        std::thread::spawn(move || work(&address, &member, &shutdown));
    }
    let mut hold = options
        .contains_key("hold")
        .then(|| shutdown.hold("work").unwrap());
    std::thread::spawn(move || {
        let mut claims: HashMap<String, Claim> = HashMap::new();
        for line in std::io::stdin().lock().lines() {
            let line = line.unwrap();
            let (what, key) = line.split_once(' ').unwrap();
            match what {
                "claim" => match member.claim(key, &()) {
                    Ok(claim) => {
                        println!("claimed {key} crashes={}", claim.crashes());
                        claims.insert(key.to_owned(), claim);
                    }
                    Err(error) => println!("refused: {error}"),
                },
                "complete" => {
                    match claims.remove(key).unwrap().complete() {
                        Ok(written) => println!("{}", format!("{written:?}").to_lowercase()),
                        Err(error) => println!("refused: {error}"),
                    }
                    drop(hold.take());
                }
                "exhaust" => {
                    use nix::sys::resource::{Resource, setrlimit};
                    setrlimit(Resource::RLIMIT_NOFILE, 64, 64).unwrap();
                    while let Ok(file) = std::fs::File::open("/dev/null") {
                        std::mem::forget(file);
                    }
                    println!("exhausted");
                }
                "finish" => FINISH.store(true, Ordering::Release),
                other => panic!("{other}"),
            }
        }
        std::mem::forget(claims);
    });
    let reason = shutdown.token().wait();
    println!("stopped: {reason}");
    if options.contains_key("deaf") {
        loop {
            std::thread::park();
        }
    }
    shutdown.wait().exit()
}

/// The program is to end when there is nothing left to do.
static FINISH: AtomicBool = AtomicBool::new(false);

/// Does what stands in the table `work`: each item in one transaction with its verdict.
fn work(address: &str, member: &Member, shutdown: &ShutdownHandle) {
    let Ok(_hold) = shutdown.hold("work") else {
        return;
    };
    let mut table = Work::at(address);
    let token = shutdown.token();
    while !token.is_stopped() {
        let keys = table.some_open();
        if keys.is_empty() && FINISH.load(Ordering::Acquire) {
            shutdown.stop(StopReason::Completed);
        }
        for key in keys {
            let Ok(claim) = member.claim(&*key, &()) else {
                continue;
            };
            // Another may have done it between the look and the claim; from now on nobody can.
            if table.is_done(&key) {
                let _ = claim.complete();
                continue;
            }
            // The work: long enough to be killed in.
            std::thread::sleep(Duration::from_millis(3));
            table.complete(&claim);
        }
        let _ = token.sleep(Duration::from_millis(2));
    }
}
