//! P8, P13, P20 with programs that end at moments nobody chose: what is left on the disk must be what one of the allowed ends
//! leaves, and the next run must be able to go on from it.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::path::Path;
use std::process::ExitCode;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use libtest_mimic::Trial;
use tempfile::TempDir;
use winddown::{Checkpoint, HookOptions, InFlight, Interrupted, Restored};

use crate::Scenario;
use crate::child::quick;
use crate::harness::{End, Ended, Launch, Signal, trial, trials};
use crate::random::Random;

pub(crate) const SCENARIOS: &[Scenario] = &[("killed", killed)];

pub(crate) fn tests() -> Vec<Trial> {
    let mut all = trials![whatever_ends_it_leaves_what_it_should];
    let long = || each_leaves_what_it_should(2000);
    all.push(trial("whatever_ends_2000_leaves_what_it_should", long).with_ignored_flag(true));
    all
}

fn whatever_ends_it_leaves_what_it_should() {
    each_leaves_what_it_should(200);
}

/// Of one job, which takes as many runs as it is interrupted, and one.
const ITEMS: u64 = 100;
/// So many items are done between two saves, and again after a crash.
const SAVED_EVERY: u64 = 4;

/// So long it takes at least, so that there is something to be forced.
const ENDING: Duration = Duration::from_millis(2);

/// What a whole run writes into `life`, but for `FINISHED`, which comes before `TOP` where there was nothing left to do.
const LIFE: [&str; 7] = [UP, READY, TOP, EMERGENCY, "save", "bottom", OVER];
const UP: &str = "up";
const READY: &str = "ready";
const TOP: &str = "top";
const EMERGENCY: &str = "emergency";
const OVER: &str = "over";
const FINISHED: &str = "finished";

/// A file of lines, each of which is there or not.
#[derive(Clone)]
struct Lines(Arc<File>);

impl Lines {
    fn of(place: &Path, name: &str) -> Self {
        let open = OpenOptions::new()
            .append(true)
            .create(true)
            .open(place.join(name));
        Lines(Arc::new(open.unwrap()))
    }

    fn add(&self, line: &str) {
        let line = format!("{line}\n");
        assert_eq!((&*self.0).write(line.as_bytes()).unwrap(), line.len());
    }
}

fn read<T: std::str::FromStr>(place: &Path, name: &str) -> Vec<T> {
    let text = std::fs::read_to_string(place.join(name)).unwrap_or_default();
    let lines = text.lines().map(|line| line.parse().ok().unwrap());
    lines.collect()
}

fn work(time: Duration) {
    let began = Instant::now();
    while began.elapsed() < time {
        std::hint::spin_loop();
    }
}

fn killed(place: &str) -> ExitCode {
    let place = Path::new(place);
    let [life, taken, done, back] =
        ["life", "taken", "done", "back"].map(|name| Lines::of(place, name));
    let (checkpoint, restored) = Checkpoint::<u64>::open(place.join("state")).unwrap();
    let mut next = restored.into_state().unwrap_or_default();
    let saved = Arc::new(Mutex::new((checkpoint, next)));

    let shutdown = quick().install().unwrap();
    life.add(UP);
    let says = |what: &'static str| {
        let life = life.clone();
        move || life.add(what)
    };
    shutdown.hook("bottom", says("bottom"));
    let (last, said) = (Arc::clone(&saved), says("save"));
    shutdown.hook("save", move || {
        let (checkpoint, next) = &mut *last.lock().unwrap();
        checkpoint.save(next).map(|()| said())
    });
    shutdown.hook_with(HookOptions::new(EMERGENCY).emergency(), says(EMERGENCY));
    let said = says(TOP);
    shutdown.hook(TOP, move || {
        said();
        work(ENDING / 2);
    });
    let jobs: InFlight<u64> =
        shutdown
            .in_flight("jobs")
            .on_interrupted(move |interrupted: Interrupted<u64>| {
                back.add(&interrupted.item().to_string());
            });
    life.add(READY);

    let stop = shutdown.token();
    while next < ITEMS {
        let Some(slot) = jobs.reserve() else { break };
        // Fetched from somewhere: from here on it is this program's.
        work(Duration::from_micros(50));
        taken.add(&next.to_string());
        let Some(item) = slot.fill(next) else { break };
        work(Duration::from_micros(50));
        if next % 2 == 0 && stop.is_stopped() {
            drop(item);
            break;
        }
        let commit = |number: &u64| {
            done.add(&number.to_string());
            let (checkpoint, next) = &mut *saved.lock().unwrap();
            *next = number + 1;
            if *next % SAVED_EVERY == 0 {
                checkpoint.save(next)?;
            }
            Ok::<_, winddown::CheckpointError>(())
        };
        item.complete(commit).unwrap();
        next += 1;
    }
    let report = if next == ITEMS {
        life.add(FINISHED);
        shutdown.shutdown()
    } else {
        shutdown.wait()
    };
    life.add(OVER);
    report.exit()
}

/// How a run has ended, as its parent and the disk tell it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Fate {
    /// Before there was a handler.
    NeverUp,
    /// Asked to, with everything that belongs to it.
    Stopped,
    /// By itself, in the same way.
    Finished,
    /// By a signal after all that, on its way out.
    DiedLate,
    Forced,
    /// By SIGKILL, or by SIGHUP, which it has no handler for.
    Killed,
}

/// What is on the disk must go with the end.
fn fate(ended: &Ended, place: &Path) -> Fate {
    let life: Vec<String> = read(place, "life");
    let finished = life.iter().any(|line| line == FINISHED);
    let in_order: Vec<&str> = life
        .iter()
        .map(String::as_str)
        .filter(|line| *line != FINISHED)
        .collect();
    let up_to = |end: usize| in_order == LIFE[..end.min(LIFE.len())];
    let whole = up_to(LIFE.len());
    match ended.end {
        End::Code(0) if whole && finished => Fate::Finished,
        End::Code(0) | End::Signal(2) if whole => Fate::Stopped,
        End::Signal(2 | 15) if life.is_empty() => Fate::NeverUp,
        End::Signal(2 | 15) if up_to(in_order.len()) && in_order.len() >= LIFE.len() - 1 => {
            Fate::DiedLate
        }
        End::Signal(1 | 9) if up_to(in_order.len()) => Fate::Killed,
        // A shell is to see the second SIGINT too.
        End::Code(143) | End::Signal(2) => {
            // The emergency hook, in its place or at last, but once; and where it was there, it was called.
            let others: Vec<&str> = in_order
                .iter()
                .copied()
                .filter(|line| *line != EMERGENCY)
                .collect();
            let due: Vec<&str> = LIFE.into_iter().filter(|line| *line != EMERGENCY).collect();
            let emergencies = in_order.len() - others.len();
            assert_eq!(
                others,
                due[..others.len().min(due.len())],
                "{ended:?} {life:?}"
            );
            assert!(emergencies <= 1, "{ended:?} {life:?}");
            assert!(
                emergencies == 1 || !life.iter().any(|line| line == READY),
                "{ended:?} {life:?}"
            );
            Fate::Forced
        }
        _ => panic!("{ended:?} {life:?}"),
    }
}

/// A job, over all its runs.
struct Job {
    place: TempDir,
    saved: u64,
    /// What was done twice, and how often it crashed.
    again: u64,
    crashes: u64,
    reached: u64,
}

impl Job {
    fn new() -> Self {
        // Processes are killed here, not machines: a disk would only make it slow.
        let memory = tempfile::tempdir_in("/dev/shm");
        Job {
            place: memory.or_else(|_| tempfile::tempdir()).unwrap(),
            saved: 0,
            again: 0,
            crashes: 0,
            reached: 0,
        }
    }

    fn start(&self) -> crate::harness::Program {
        for name in ["life", "taken", "done", "back"] {
            let _ = std::fs::remove_file(self.place.path().join(name));
        }
        let place = self.place.path().to_str().unwrap();
        Launch::new("killed").argument(place).start()
    }

    /// Looks at what the run has left. True: the job is over.
    fn look(&mut self, ended: &Ended) -> (Fate, bool) {
        let place = self.place.path();
        let fate = fate(ended, place);
        let [taken, done, back]: [Vec<u64>; 3] =
            ["taken", "done", "back"].map(|name| read(place, name));
        // The old state or a new one, never a third.
        let (_, restored) = Checkpoint::<u64>::open(place.join("state")).unwrap();
        assert!(!matches!(restored, Restored::Previous { .. }), "{ended:?}");
        let saved = restored.into_state().unwrap_or_default();
        let reached = self.saved + done.len() as u64;
        let tale = format!(
            "{ended:?}, from {}: {taken:?} {done:?} {back:?} {saved}",
            self.saved
        );

        assert!(done.iter().copied().eq(self.saved..reached), "{tale}");
        // P20: never both, and only what was in hand of a crashed one is without.
        assert!(
            back.iter().all(|number| *number == reached) && back.len() <= 1,
            "{tale}"
        );
        let verdicts = done.len() + back.len();
        assert!(
            taken
                .iter()
                .copied()
                .eq(self.saved..self.saved + taken.len() as u64),
            "{tale}"
        );
        let crashed = matches!(fate, Fate::Forced | Fate::Killed);
        if crashed {
            assert!(
                verdicts == taken.len() || verdicts + 1 == taken.len(),
                "{tale}"
            );
            assert!(saved <= reached && reached - saved <= SAVED_EVERY, "{tale}");
        } else {
            assert_eq!(verdicts, taken.len(), "{tale}");
            assert_eq!(saved, reached, "{tale}");
        }
        assert!(saved >= self.saved, "{tale}");
        self.crashes += u64::from(crashed);
        self.again += self
            .reached
            .saturating_sub(self.saved)
            .min(done.len() as u64);
        self.reached = self.reached.max(reached);
        self.saved = saved;
        (fate, saved == ITEMS)
    }
}

fn each_leaves_what_it_should(runs: usize) {
    let mut random = Random::new("whatever_ends_it");
    let plain = || {
        let (job, began) = (Job::new(), Instant::now());
        let ended = job.start().end();
        assert_eq!(ended.end, End::Code(0), "{ended:?}");
        began.elapsed()
    };
    // When nobody is in its way: the neighbours neither.
    let whole = (0..5).map(|_| plain()).min().unwrap();

    let mut fates = BTreeMap::new();
    let (mut jobs, mut crashes, mut again) = (0, 0, 0);
    let mut job = Job::new();
    for _ in 0..runs {
        let mut program = job.start();
        // A third of them while they start, or in their first items.
        let within = if random.below(3) == 0 {
            whole / 8
        } else {
            whole
        };
        thread::sleep(random.up_to(within));
        let first = [
            Signal::SIGTERM,
            Signal::SIGINT,
            Signal::SIGKILL,
            Signal::SIGHUP,
        ];
        // The last two leave no room for a second.
        let first = first[[0, 0, 0, 1, 1, 1, 2, 3][random.place(8)]];
        program.signal(first);
        if random.below(3) > 0 {
            thread::sleep(random.up_to(ENDING));
            let second = [Signal::SIGTERM, Signal::SIGINT, Signal::SIGKILL];
            program.signal(second[[0, 0, 0, 1, 1, 2][random.place(6)]]);
        }
        let (fate, over) = job.look(&program.end());
        *fates.entry(fate).or_insert(0) += 1;
        if over {
            // Only what was not saved when it crashed.
            assert!(job.again <= job.crashes * SAVED_EVERY);
            jobs += 1;
            crashes += job.crashes;
            again += job.again;
            job = Job::new();
        }
    }
    eprintln!(
        "{runs} runs of {whole:?}: {fates:?}; {jobs} jobs with {crashes} crashes, {again} items done again"
    );
    for due in [
        Fate::NeverUp,
        Fate::Stopped,
        Fate::Finished,
        Fate::Forced,
        Fate::Killed,
    ] {
        assert!(fates.contains_key(&due), "{due:?} was never seen");
    }
}
