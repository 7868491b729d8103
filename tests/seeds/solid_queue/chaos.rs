//! Four workers that are killed, asked to end, stopped and woken at random, with poison among their tasks.

use std::collections::BTreeMap;
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use nix::sys::signal::Signal;

use crate::FAR;
use crate::process::Process;
use crate::queue::{LEDGERS, Place, SERVER, has_server};

/// Without a heartbeat for so long a worker is dead.
const DEAD_AFTER: Duration = Duration::from_millis(800);

/// Higher than a task gets by chance, with so few in hand at a time.
const MAX_CRASHES: &str = "5";

/// Between two looks whether there is enough to do.
const LOOK: Duration = Duration::from_millis(100);

/// What the ledger says where it has waited for a server for all the time it had.
const LATE: [&str; 3] = ["no answer in time", "lock timeout", "statement timeout"];

/// Each of them is to be seen.
const ENDINGS: [&str; 4] = ["left", "killed", "aborted", "fenced"];

#[test]
fn whatever_becomes_of_the_workers_each_task_has_one_end() {
    chaos(LEDGERS[0], 300, 15, Duration::from_secs(4));
}

#[test]
fn whatever_becomes_of_the_workers_of_a_server_each_task_has_one_end() {
    if has_server() {
        chaos(SERVER, 300, 15, Duration::from_secs(4));
    }
}

#[test]
#[ignore = "takes two minutes"]
fn of_20_000_tasks_in_40_seconds_each_has_one_end() {
    chaos(LEDGERS[0], 20_000, 5, Duration::from_secs(40));
}

#[test]
#[ignore = "takes two minutes"]
fn of_20_000_tasks_on_a_server_in_40_seconds_each_has_one_end() {
    if has_server() {
        chaos(SERVER, 20_000, 5, Duration::from_secs(40));
    }
}

/// A generator that can be started again from what it printed.
struct Random(u64);

impl Random {
    fn new() -> Self {
        let given = std::env::var("SOLID_SEED").ok();
        let seed = given.and_then(|seed| seed.parse().ok()).unwrap_or_else(|| {
            let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
            u64::from(now.subsec_nanos()) << 10 | 1
        });
        println!("SOLID_SEED={seed}");
        Self(seed)
    }

    fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % end
    }
}

struct Slot {
    worker: Process,
    /// Until when it is stopped.
    stopped: Option<Instant>,
    asked_to_end: bool,
    over: bool,
}

impl Slot {
    fn start(place: &Place) -> Self {
        let dead_after = DEAD_AFTER.as_millis().to_string();
        let options = ["--until-empty", "--threads", "2", "--grace-ms", "5000"];
        let ledger = ["--dead-after-ms", &dead_after, "--max-crashes", MAX_CRASHES];
        Self {
            worker: place.worker(&[&options[..], &ledger].concat()),
            stopped: None,
            asked_to_end: false,
            over: false,
        }
    }

    /// What its end was.
    fn class(&self, ended: ExitStatus) -> &'static str {
        let said = self.worker.err.all();
        match (ended.code(), ended.signal()) {
            (Some(0), _) => "left",
            (_, Some(9)) => "killed",
            (_, Some(6)) => "aborted",
            (Some(1), _) if said.contains("counted as dead") => "fenced",
            // Somebody was stopped in the middle of a write, and all others waited for it.
            (Some(1), _) if said.contains("locked") => "locked out",
            // A server gives no answer to one that is woken just before it counts as dead.
            (Some(1), _) if LATE.iter().any(|late| said.contains(late)) => "kept waiting",
            (Some(1 | 124), _) if self.asked_to_end => "out of time",
            // Its shutdown was over, and with that it was as any program is (P10).
            (_, Some(15)) if self.asked_to_end && said.contains(" put back") => "asked too late",
            _ => panic!("{ended}\n{said}"),
        }
    }

    fn disturb(&mut self, random: &mut Random) -> Option<&'static str> {
        if self.over || self.stopped.is_some() || self.worker.ended().is_some() {
            return None;
        }
        // From then on TERM is a request.
        let begun = self.worker.err.all().contains("threads");
        match random.below(8) {
            0..3 => self.worker.signal(Signal::SIGKILL),
            3..6 if begun && !self.asked_to_end => {
                self.worker.signal(Signal::SIGTERM);
                self.asked_to_end = true;
            }
            6.. if begun => {
                self.worker.signal(Signal::SIGSTOP);
                // Half of them longer than they may.
                let longest = u64::try_from(DEAD_AFTER.as_millis()).unwrap() * 2;
                let time = Duration::from_millis(random.below(longest));
                self.stopped = Some(Instant::now() + time);
                return Some("stopped");
            }
            _ => {}
        }
        None
    }

    fn wake(&mut self, now: Instant) {
        if self.stopped.is_some_and(|until| until <= now) {
            self.stopped = None;
            if self.worker.ended().is_none() {
                self.worker.signal(Signal::SIGCONT);
            }
        }
    }
}

fn chaos(ledger: &'static str, count: u32, task_ms: u32, time: Duration) {
    let mut random = Random::new();
    let place = Place::of(ledger, count, task_ms, count / 100);
    let mut slots = [(); 4].map(|()| Slot::start(&place));
    let mut seen: BTreeMap<&str, u32> = BTreeMap::new();
    let began = Instant::now();
    let (mut count, mut poison, mut disturbed) = (count, count / 100, time);
    let (mut next, mut look) = (began, began);
    loop {
        let now = Instant::now();
        let all = ENDINGS.iter().all(|ending| seen.contains_key(ending));
        let over = now.duration_since(began) >= time && all;
        assert!(
            over || began.elapsed() < time + FAR,
            "not all seen: {seen:?}"
        );
        // Whoever is stopped may keep the file locked, and is woken only when this has come back.
        let nobody_is_stopped = slots.iter().all(|slot| slot.stopped.is_none());
        if !over && now >= look && nobody_is_stopped {
            look = now + LOOK;
            if place.count("SELECT count(*) FROM tasks WHERE state = 'open'") < 100 {
                // There is always something to disturb them at.
                place.more(200, task_ms, 2);
                (count, poison) = (count + 200, poison + 2);
            }
        }
        for slot in &mut slots {
            slot.wake(if over { now + DEAD_AFTER * 2 } else { now });
            if slot.over || slot.worker.ended().is_none() {
                continue;
            }
            let ended = slot.worker.end();
            let class = slot.class(ended);
            *seen.entry(class).or_default() += 1;
            if over && class == "left" && !slot.asked_to_end {
                slot.over = true;
            } else {
                *slot = Slot::start(&place);
            }
        }
        if over {
            if slots.iter().all(|slot| slot.over) {
                break;
            }
            assert!(
                began.elapsed() < disturbed + FAR * 8,
                "it does not end: {seen:?}"
            );
        } else {
            disturbed = began.elapsed();
            if now >= next {
                let which = usize::try_from(random.below(4)).unwrap();
                if let Some(what) = slots[which].disturb(&mut random) {
                    *seen.entry(what).or_default() += 1;
                }
                next = now + Duration::from_millis(random.below(150));
            }
        }
        thread::sleep(Duration::from_millis(2));
    }
    println!(
        "{count} tasks, {poison} of them poison, disturbed for {disturbed:?} of {:?}: {seen:?}",
        began.elapsed()
    );
    // The audit says 0 lost and 0 with two effects.
    place.assert_audit(count, count - poison, poison, 0);
    let wrong = "SELECT count(*) FROM tasks WHERE poison <> (state = 'dead')";
    assert_eq!(place.count(wrong), 0);
    let effects = place.count("SELECT count(*) FROM effects");
    assert_eq!(effects, i64::from(count - poison));
    // In the ledger there is nothing but what is given up.
    place.assert_nobody_is_left();
    assert_eq!(place.ledger().failed().unwrap().len(), poison as usize);
    let claims = place.count_claims("SELECT count(*) FROM winddown_claims");
    assert_eq!(claims, i64::from(poison));
}
