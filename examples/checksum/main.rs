//! `checksum DIR --out MANIFEST`: SHA-256 of every file in a directory tree, for `sha256sum -c`.
//!
//! A program that takes minutes or hours, and so will be interrupted. What it does then is `winddown`'s part of it:
//!
//! | what | how |
//! |---|---|
//! | the walk and the workers take nothing new | `until_stopped(&token)` |
//! | the files in hand are finished, if there is time | a `hold` for each, in tasks started with `spawn` |
//! | the user is told what is waited for, and how long | `on_stop`, `time_left` |
//! | the manifest is saved on every path out | `hook` |
//! | the next run goes on from there, also after `SIGKILL` | `Checkpoint` |
//! | a second Ctrl-C ends at once, a hung disk ends in time, the status is right | `run` |
//!
//! ```text
//! cargo run --release --features checkpoint --example checksum -- /usr/share/doc --out /tmp/doc.sha256
//! sha256sum --quiet -c /tmp/doc.sha256
//! ```

#![expect(
    clippy::unnecessary_debug_formatting,
    reason = "a file's name may hold line breaks, or what moves the cursor"
)]

use std::error::Error as StdError;
use std::io;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use clap::{Parser, value_parser};
use crossbeam_channel::Receiver;
use indicatif::HumanBytes;
use thiserror::Error;
use winddown::{
    ExitPolicy, HookOptions, ShutdownCoordinator, Signal, SpawnError, StopReason, StopToken,
    UntilStopped,
};

use crate::console::{Console, files};
use crate::in_hand::Hands;
use crate::ledger::Ledger;
use crate::output::{Entries, Output, OutputError};
use crate::tree::Found;

mod console;
mod hash;
mod in_hand;
mod ledger;
mod output;
mod tree;

/// Hash every regular file below a directory with SHA-256, into a manifest for `sha256sum -c`
///
/// The manifest lists the files in the byte order of their paths. The paths begin with DIR as it is
/// given here: `sha256sum -c MANIFEST` works in the directory that checksum was run in. Symlinks
/// below DIR are not followed, and the manifest does not list itself.
///
/// Ctrl-C, SIGTERM or a closed terminal: the files in hand are finished, as far as there is time,
/// and MANIFEST then lists every file that is done. MANIFEST.partial lies beside it as long as it is
/// not complete. The same command, run again, keeps what is done, if the file has not changed since
/// (size, times and inode), and hashes the rest. Both files are also saved while hashing, and only
/// ever replaced as a whole: a second Ctrl-C, which ends at once, costs no more than the last second
/// or so of work. A file that changes while it is read counts as one that could not be read. One run
/// at a time writes a MANIFEST: a second is told which process the first is.
#[derive(Debug, Parser)]
#[command(after_help = EXIT_STATUS)]
struct Args {
    /// The directory tree to hash
    dir: PathBuf,

    /// Where the manifest goes; an older one is replaced
    #[arg(long, value_name = "MANIFEST")]
    out: PathBuf,

    /// How many files are hashed at a time [default: one for each processor]
    #[arg(long, value_name = "N", value_parser = value_parser!(u16).range(1..=1024))]
    threads: Option<u16>,

    /// How long an interrupted run may take to finish the files in hand and to save
    #[arg(long, value_name = "SECONDS", default_value_t = 25, value_parser = value_parser!(u64).range(1..=86400))]
    grace_period: u64,
}

const EXIT_STATUS: &str = "\
Exit status:
  0    the manifest is complete
  1    the manifest is complete but for the files or directories listed on stderr,
       which could not be read; or it could not be made at all, as stderr says
  2    wrong arguments
  130  interrupted: died by SIGINT, as shells expect it. 143 after SIGTERM, 129
       after SIGHUP. The manifest lists what is done; run the same command again.
  124  something hung, and did not end within the grace period";

/// Why there is no manifest.
#[derive(Debug, Error)]
enum Error {
    #[error("cannot open {dir:?}: {source}")]
    NoTree { dir: PathBuf, source: io::Error },
    #[error("{0:?} is not a directory")]
    NotADirectory(PathBuf),
    #[error("{0} of the files and directories could not be read, and are not in the manifest")]
    Unreadable(usize),
}

/// What [`checksum`] may end with: also a [`Stopped`](winddown::Stopped), which `run` takes for an
/// interruption and not for a failure.
type Result<T, E = Box<dyn StdError + Send + Sync>> = std::result::Result<T, E>;

/// At least so much time lies between two saves.
const SAVE_EVERY: Duration = Duration::from_secs(1);

/// Saving may take one part in so many of the time, however large the manifest and slow the disk.
const SAVE_SHARE: u32 = 20;

/// Large enough for the disk to be busy, small enough to look at the clock now and then.
const BUFFER: usize = 256 * 1024;

/// So many files in hand are told by name.
const TOLD: usize = 8;

fn main() -> ExitCode {
    let args = Args::parse();
    let time = Time::new(Duration::from_secs(args.grace_period));
    ShutdownCoordinator::builder()
        .signals([Signal::INT, Signal::TERM, Signal::HUP])
        .grace_period(time.grace)
        .cleanup_reserve(time.reserve)
        // An interrupted run must not pass for a complete one. The default policy makes SIGTERM a success, as is right
        // for a server, which is never done.
        .exit_policy(ExitPolicy::reraise())
        .run(|shutdown| {
            let console = Arc::new(Console::new());
            let result = checksum(shutdown, &args, &time, &console);
            console.clear();
            result
        })
}

/// How the grace period is shared out.
struct Time {
    grace: Duration,
    /// Kept back for saving. The builder's own default, by name, since the files in hand are given up a little before.
    reserve: Duration,
    /// A file is given up when no more than this is left.
    give_up: Duration,
}

impl Time {
    fn new(grace: Duration) -> Self {
        let reserve = (grace / 3).min(Duration::from_secs(5));
        // On top of the reserve: what the slowest read of one buffer takes.
        let give_up = reserve + (grace / 10).min(Duration::from_secs(1));
        Self {
            grace,
            reserve,
            give_up,
        }
    }
}

fn checksum(
    shutdown: &ShutdownCoordinator,
    args: &Args,
    time: &Time,
    console: &Arc<Console>,
) -> Result<()> {
    let token = shutdown.token();
    let hands = Arc::new(Hands::new(shutdown.handle()));
    let announcement = token.on_stop({
        let (hands, token, console) = (Arc::clone(&hands), token.clone(), Arc::clone(console));
        move |reason| announce(reason, &hands, &token, &console)
    });
    // Also when this function is the quicker one to see the stop, and is gone by then.
    announcement.detach();
    shutdown.on_report({
        let console = Arc::clone(console);
        move |report| {
            for left in report.abandoned() {
                console.line(format_args!("left behind: {} {}", left.what(), left.name()));
            }
        }
    });

    tree::check(&args.dir)?;
    let output = Output::new(&args.out)?;
    let (checkpoint, earlier) = output.resume(console)?;
    let plan = plan(tree::walk(&args.dir, &output, console, &token)?, earlier);
    if !plan.kept.is_empty() {
        console.line(format_args!(
            "going on where the last run stopped: {} unchanged, {} ({}) to hash",
            plan.kept.len(),
            files(plan.queue.len()),
            HumanBytes(plan.bytes)
        ));
    }
    console.start(plan.bytes);

    let Plan {
        kept,
        all_kept,
        queue,
        ..
    } = plan;
    let ledger = Arc::new(Ledger::new(output, checkpoint, kept, all_kept, queue.len()));
    let save = shutdown.hook_with(HookOptions::new("save the manifest").timeout(time.grace), {
        let (ledger, console) = (Arc::clone(&ledger), Arc::clone(console));
        move || save_interrupted(&ledger, &console)
    });
    let saver = shutdown.spawn("saver", {
        let ledger = Arc::clone(&ledger);
        move |token| save_now_and_then(&ledger, &token)
    });
    admitted(saver, &token)?;
    let mut workers = Vec::new();
    let threads = args.threads.map_or_else(
        || thread::available_parallelism().map_or(1, usize::from),
        usize::from,
    );
    for number in 1..=threads.min(queue.len()) {
        let worker = Worker {
            queue: queue.clone(),
            hands: Arc::clone(&hands),
            ledger: Arc::clone(&ledger),
            console: Arc::clone(console),
            give_up: time.give_up,
        };
        let worker = shutdown.spawn(format!("worker {number}"), move |token| worker.run(&token));
        workers.push(admitted(worker, &token)?);
    }
    for worker in workers {
        worker.join()?;
    }

    if ledger.left() > 0 {
        // Stopped, by a signal or since the saver has failed: what is done is saved by the hook.
        return Ok(token.check()?);
    }
    ledger.complete()?;
    save.remove();
    console.remark(format_args!(
        "{} in {:?}",
        files(ledger.len()),
        ledger.output().manifest()
    ));
    match console.count_unreadable() {
        0 => Ok(()),
        count => Err(Error::Unreadable(count).into()),
    }
}

/// What of the tree is known from an interrupted run, and what is to be hashed.
struct Plan {
    kept: Entries,
    /// The interrupted run has left nothing else.
    all_kept: bool,
    queue: Receiver<Found>,
    bytes: u64,
}

fn plan(found: Vec<Found>, mut earlier: Entries) -> Plan {
    // All of it is in the queue before the first is taken out: it ends by itself, and nobody ever waits at it.
    let (jobs, queue) = crossbeam_channel::unbounded();
    let mut kept = Entries::new();
    let mut bytes = 0;
    for file in found {
        match earlier.remove_entry(&file.path.as_path().into()) {
            // One written to a moment ago could have changed again without another stamp.
            Some((path, hashed)) if hashed.settled && hashed.stamp == file.stamp => {
                kept.insert(path, hashed);
            }
            changed => {
                earlier.extend(changed);
                bytes += file.stamp.size;
                // The other end is held right here.
                let _ = jobs.send(file);
            }
        }
    }
    Plan {
        kept,
        all_kept: earlier.is_empty(),
        queue,
        bytes,
    }
}

/// A task that is refused because of a stop is no failure.
fn admitted<T>(task: Result<T, SpawnError>, token: &StopToken) -> Result<T> {
    if task.is_err() {
        token.check()?;
    }
    Ok(task?)
}

/// One of the threads that hash.
struct Worker {
    queue: Receiver<Found>,
    hands: Arc<Hands>,
    ledger: Arc<Ledger>,
    console: Arc<Console>,
    give_up: Duration,
}

impl Worker {
    fn run(&self, token: &StopToken) {
        let mut buffer = vec![0; BUFFER];
        for file in self.queue.iter().until_stopped(token) {
            let Ok(_in_hand) = self.hands.take(&file.path) else {
                return;
            };
            let hashed = hash::hash(&file.path, &mut buffer, |length| {
                self.console.advance(length);
                token.time_left().is_none_or(|left| left > self.give_up)
            });
            match hashed {
                Ok(Some(hashed)) => self.ledger.finished(&file.path, hashed),
                Ok(None) => {
                    self.console.line(format_args!(
                        "{:?}: no time left to finish it: left to the next run",
                        file.path
                    ));
                }
                Err(why) => {
                    self.console.unreadable(&file.path, &why);
                    self.ledger.passed_over();
                }
            }
        }
    }
}

/// So that little is lost when the process ends without a chance to save. A disk that takes no more stops the program.
fn save_now_and_then(ledger: &Ledger, token: &StopToken) -> Result<(), OutputError> {
    let mut pause = SAVE_EVERY;
    while token.sleep(pause).is_ok() {
        let started = Instant::now();
        ledger.save()?;
        pause = SAVE_EVERY.max(started.elapsed() * SAVE_SHARE);
    }
    Ok(())
}

/// The last thing an interrupted run does, and one that failed.
fn save_interrupted(ledger: &Ledger, console: &Console) -> Result<(), OutputError> {
    ledger.save().inspect_err(|error| console.line(error))?;
    let manifest = ledger.output().manifest();
    match ledger.len() {
        0 => console.line("no file was finished"),
        done => console.line(format_args!(
            "{manifest:?} is not complete: it lists {}, {} left; the same command goes on from here",
            files(done),
            ledger.left()
        )),
    }
    Ok(())
}

/// Tells what is waited for, how long at most, and what a user can do about it.
fn announce(reason: &StopReason, hands: &Hands, token: &StopToken, console: &Console) {
    if matches!(reason, StopReason::Completed | StopReason::Failed { .. }) {
        // At the end of the program there is nothing to explain.
        return;
    }
    let in_hand = hands.paths();
    let seconds = token.time_left().unwrap_or_default().as_secs_f64().ceil();
    // Signals are counted, not stops: where none has arrived, the first is still the polite one.
    let force = match reason {
        StopReason::Signal(_) => "a second Ctrl-C ends at once",
        _ => "Ctrl-C, pressed twice, ends at once",
    };
    console.line(match in_hand.len() {
        0 => format!("{reason}: stopping, with no file in hand"),
        count => format!(
            "{reason}: finishing {} in hand, for {seconds} s at most; {force}",
            files(count)
        ),
    });
    for path in in_hand.iter().take(TOLD) {
        console.line(format_args!("  {path:?}"));
    }
    if in_hand.len() > TOLD {
        console.line(format_args!("  and {} more", in_hand.len() - TOLD));
    }
}
