//! Workers that are killed, stopped and woken at random: every item ends once, and none is lost.

use std::collections::BTreeMap;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use nix::sys::signal::Signal;

use crate::FAR;
#[cfg(feature = "ledger-postgres")]
use crate::cluster::InSchema;
use crate::conformance::Way;
use crate::sqlite::InFile;
use crate::work::Work;
use crate::worker::Worker;

#[test]
fn whatever_becomes_of_the_workers_each_item_is_done_once() {
    at_random(&InFile::new(), Duration::from_secs(4));
}

#[test]
#[ignore = "takes a minute"]
fn whatever_becomes_of_the_workers_each_item_is_done_once_for_a_minute() {
    at_random(&InFile::new(), FAR);
}

#[cfg(feature = "ledger-postgres")]
#[test]
fn whatever_becomes_of_the_workers_of_a_server_each_item_is_done_once() {
    let Some(way) = InSchema::new() else { return };
    at_random(&way, Duration::from_secs(4));
}

#[cfg(feature = "ledger-postgres")]
#[test]
#[ignore = "takes a minute"]
fn whatever_becomes_of_the_workers_of_a_server_each_item_is_done_once_for_a_minute() {
    let Some(way) = InSchema::new() else { return };
    at_random(&way, FAR);
}

/// A generator that can be started again from what it printed.
struct Random(u64);

impl Random {
    fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % end
    }
}

fn at_random(way: &dyn Way, time: Duration) {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let seed = u64::from(now.subsec_nanos());
    println!("seed {seed}");
    let mut random = Random(seed | 1);
    let ledger = way.open();
    let mut work = Work::at(&way.address());
    work.make();
    let mut items = 0;
    let start = || {
        Worker::start(
            way,
            "worker",
            "work max_crashes=1000000 dead_after=600 heartbeat=50",
        )
    };
    let mut workers: Vec<Worker> = (0..3).map(|_| start()).collect();
    let mut ends: BTreeMap<&str, u32> = BTreeMap::new();
    let began = Instant::now();
    // Every class is to be seen.
    while began.elapsed() < time || ends.len() < 4 {
        assert!(began.elapsed() < time + FAR, "seed {seed}: {ends:?}");
        work.put(items, items + 10);
        items += 10;
        std::thread::sleep(Duration::from_millis(random.below(40)));
        let place = usize::try_from(random.below(3)).unwrap();
        let worker = &mut workers[place];
        let what = match random.below(8) {
            0..3 => {
                worker.kill();
                "killed"
            }
            3..5 => {
                worker
                    .process
                    .end_by(FAR, |worker| worker.signal(Signal::SIGTERM));
                "ended"
            }
            5 => {
                worker.process.signal(Signal::SIGSTOP);
                std::thread::sleep(Duration::from_millis(random.below(1000)));
                worker.process.signal(Signal::SIGCONT);
                "woken"
            }
            _ => "left alone",
        };
        *ends.entry(what).or_default() += 1;
        if matches!(what, "killed" | "ended") || worker.process.ended().is_some() {
            workers[place] = start();
        }
    }
    // A worker that is idle has nothing left to do, and ends.
    for worker in &mut workers {
        worker.tell_if_there("finish -");
    }
    for mut worker in workers {
        let status = worker.process.end();
        // One that was woken too late has stopped itself: there is another for it.
        if !status.success() {
            let mut other = start();
            other.tell("finish -");
            assert!(other.process.end().success(), "{}", other.process.out.all());
        }
    }
    println!("{items} items, {ends:?}");
    let once = format!("1 x {items}");
    assert_eq!(work.tally(), [once], "seed {seed}: {ends:?}");
    let members = ledger.members().unwrap();
    assert!(members.is_empty(), "seed {seed}: {members:?}");
    assert!(ledger.failed().unwrap().is_empty(), "seed {seed}");
}
