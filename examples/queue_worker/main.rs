//! A worker on a job queue in a `SQLite` file or in `PostgreSQL`: several threads, several processes at once, nothing lost,
//! nothing done twice.
//!
//! ```text
//! cargo run --example queue_worker -- /tmp/queue.db --enqueue 1000
//! cargo run --example queue_worker -- /tmp/queue.db --until-empty    # stop it and start it again as often as you like
//! cargo run --example queue_worker -- /tmp/queue.db --audit
//! ```
//!
//! | what | how |
//! |---|---|
//! | nothing is claimed once the program stops | `reserve` before the claim |
//! | the tasks in hand are finished, if there is time | `in_flight`, in tasks started with `spawn` |
//! | the others are put back, and the attempt is not counted | `on_interrupted` |
//! | a task is completed or put back, never both | the effect is written by the commit of `complete` |
//! | a task that fails again and again ends with the dead ones | `fill_with`, `max_interruptions` |
//! | a worker that is killed is noticed | `member`: a lock that the kernel takes away |
//! | the worker signs off last of all | the `hook` that was registered first |
//!
//! With the feature `ledger` all of that is kept for it: `--ledger PATH-OR-URL` claims each task in a `Ledger` before it is run. See
//! `ledger`. With `ledger-postgres` both may be in a database, for workers on many machines: then `DB` is its URL, too.
//!
//! ```text
//! cargo run --example queue_worker --features ledger -- /tmp/queue.db --ledger /tmp/ledger.db --max-crashes 1
//! cargo run --example queue_worker --features ledger-postgres -- $URL --enqueue 1000
//! cargo run --example queue_worker --features ledger-postgres -- $URL --ledger $URL --host-dir /var/lib/worker
//! ```

#[cfg(feature = "ledger-postgres")]
mod in_postgres;
mod in_sqlite;
#[cfg(feature = "ledger")]
mod ledger;
mod member;
mod queue;
mod tasks;

use std::error::Error as StdError;
use std::io::{self, Write};
use std::path::Path;
use std::process::{self, ExitCode};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use clap::{Parser, value_parser};
use parking_lot::{Mutex, RwLock};
use winddown::{
    Advice, InFlight, Interrupted, Interruption, NotCompleted, ShutdownCoordinator, SpawnError,
    StopToken,
};

use crate::member::{Member, bury_the_dead};
use crate::queue::{Job, MAX_ATTEMPTS, Next, Queue, QueueError, Verdict};
use crate::tasks::Place;

/// Work on a queue of tasks in a file, or in a database
///
/// Ctrl-C or SIGTERM: nothing more is claimed, the tasks in hand are finished, as far as there is
/// time, and the others are put back. A task that has taken its process down is run again alone, so
/// that no other goes down with it, and is dead after the third time.
#[derive(Debug, Parser)]
struct Args {
    /// The file with the queue, or the postgresql://… of the database
    db: Place,

    /// Put N tasks in, instead of working; makes the file, or the tables, if there are none
    #[arg(long, value_name = "N")]
    enqueue: Option<u32>,

    /// How long each of them takes
    #[arg(
        long,
        value_name = "MILLISECONDS",
        default_value_t = 20,
        requires = "enqueue"
    )]
    task_ms: u32,

    /// So many of them abort the process that runs them
    #[arg(long, value_name = "K", default_value_t = 0, requires = "enqueue")]
    poison: u32,

    /// Count what has become of the tasks, instead of working: one line of JSON
    #[arg(long, conflicts_with = "enqueue")]
    audit: bool,

    /// How many tasks are worked on at a time
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = value_parser!(u16).range(1..=256))]
    threads: u16,

    /// End when every task is done or dead, instead of waiting for more
    #[arg(long)]
    until_empty: bool,

    /// How long a worker that is stopped may take to finish the tasks in hand
    #[arg(long, value_name = "MILLISECONDS", default_value_t = 25_000)]
    grace_ms: u64,

    /// Keep who works on what in a ledger in this file or database; it may be the queue's own
    #[cfg(feature = "ledger")]
    #[arg(long, value_name = "PATH-OR-URL", conflicts_with_all = ["enqueue", "audit"])]
    ledger: Option<Place>,

    /// Where all workers of this host have their locks, with a ledger in a database: one that is
    /// killed is then noticed at once
    #[cfg(feature = "ledger")]
    #[arg(long, value_name = "DIRECTORY", requires = "ledger")]
    host_dir: Option<std::path::PathBuf>,

    /// A task that has taken so many processes down is dead
    #[cfg(feature = "ledger")]
    #[arg(long, value_name = "N", default_value_t = MAX_ATTEMPTS, requires = "ledger")]
    max_crashes: u32,

    /// How often a worker says that it lives
    #[cfg(feature = "ledger")]
    #[arg(
        long,
        value_name = "MILLISECONDS",
        default_value_t = 5000,
        requires = "ledger"
    )]
    heartbeat_ms: u64,

    /// A worker that has not said so for so long is dead
    #[cfg(feature = "ledger")]
    #[arg(
        long,
        value_name = "MILLISECONDS",
        default_value_t = 30_000,
        requires = "ledger"
    )]
    dead_after_ms: u64,
}

/// Between two looks for something to do.
const POLL: Duration = Duration::from_millis(50);

/// Between two looks for dead workers.
const ROUND: Duration = Duration::from_millis(200);

fn main() -> ExitCode {
    let args = Args::parse();
    let other = match (args.audit, args.enqueue) {
        (true, _) => audit(&args),
        (false, Some(count)) => enqueue(&args, count),
        (false, None) => {
            return ShutdownCoordinator::builder()
                .grace_period(Duration::from_millis(args.grace_ms))
                .run(|shutdown| {
                    #[cfg(feature = "ledger")]
                    if let Some(place) = &args.ledger {
                        return ledger::work(shutdown, &args, place);
                    }
                    match &args.db {
                        Place::File(db) => work(shutdown, &args, db),
                        Place::Url(_) => {
                            Err("a queue in a database is worked on with --ledger".into())
                        }
                    }
                });
        }
    };
    match other {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say(format_args!("Error: {error}"));
            ExitCode::FAILURE
        }
    }
}

type Result<T, E = Box<dyn StdError + Send + Sync>> = std::result::Result<T, E>;

fn audit(args: &Args) -> Result<()> {
    let audit = args.db.open()?.audit()?;
    writeln!(io::stdout(), "{audit}")?;
    Ok(())
}

fn enqueue(args: &Args, count: u32) -> Result<()> {
    if args.poison > count {
        return Err(format!("of {count} tasks, {} cannot be poison", args.poison).into());
    }
    let mut tasks = args.db.create()?;
    tasks.enqueue(count, args.task_ms, args.poison)?;
    Ok(())
}

fn work(shutdown: &ShutdownCoordinator, args: &Args, db: &Path) -> Result<()> {
    let token = shutdown.token();
    let mut queue = Queue::open(db)?;
    let member = Member::sign_on(db, &mut queue)?;
    let worker = member.id();
    // The first hook is the last to run: others see this worker as alive until its last task is finished or put back.
    shutdown.hook("sign off", move || member.sign_off());

    let done = Arc::new(AtomicUsize::new(0));
    shutdown.on_report({
        let done = Arc::clone(&done);
        move |report| {
            say(format_args!(
                "worker {worker}: {} done, {} put back",
                done.load(Ordering::Relaxed),
                report.handed_back()
            ));
        }
    });
    // Tasks come back on whatever thread drops them, or on the coordinator's: they share a connection.
    let back = Mutex::new(Queue::open(db)?);
    let jobs = shutdown
        .in_flight("tasks")
        .max_interruptions(MAX_ATTEMPTS)
        .on_interrupted(move |job| put_back(&mut back.lock(), &job));

    // Once before anything is claimed, so that what a crash has left comes first.
    bury(db, worker, &mut queue)?;
    let undertaker = shutdown.spawn("undertaker", {
        let db = db.to_owned();
        move |token| {
            while token.sleep(ROUND).is_ok() {
                tell(worker, bury_the_dead(&db, &mut queue)?);
            }
            Ok::<_, QueueError>(())
        }
    });
    admitted(undertaker, &token)?;
    let alone = Arc::new(RwLock::new(()));
    let mut threads = Vec::new();
    for number in 1..=args.threads {
        let mut thread = Worker {
            member: worker,
            queue: Queue::open(db)?,
            jobs: jobs.clone(),
            alone: Arc::clone(&alone),
            done: Arc::clone(&done),
            until_empty: args.until_empty,
        };
        let thread = shutdown.spawn(format!("thread {number}"), move |token| thread.run(&token));
        threads.push(admitted(thread, &token)?);
    }
    say(format_args!("worker {worker}: {} threads", args.threads));
    for thread in threads {
        // What stops one of them for good stops the program.
        thread.join()??;
    }
    Ok(())
}

fn bury(db: &Path, worker: i64, queue: &mut Queue) -> Result<()> {
    tell(worker, bury_the_dead(db, queue)?);
    Ok(())
}

fn tell(worker: i64, reopened: usize) {
    if reopened > 0 {
        say(format_args!(
            "worker {worker}: {reopened} tasks left behind by workers that are dead"
        ));
    }
}

/// A task that is refused because of a stop is no failure.
fn admitted<T>(task: Result<T, SpawnError>, token: &StopToken) -> Result<T> {
    if task.is_err() {
        token.check()?;
    }
    Ok(task?)
}

fn put_back(queue: &mut Queue, job: &Interrupted<Job>) -> Result<(), QueueError> {
    let verdict = match (job.why(), job.advice()) {
        (Interruption::Failed(_) | Interruption::Panicked, Advice::GiveUp) => Verdict::Dead,
        (Interruption::Failed(_) | Interruption::Panicked, _) => Verdict::Failed,
        // The stop, the end of the time, a commit that the disk refused: not the task's fault.
        _ => Verdict::Interrupted,
    };
    match queue.hand_back(job.item(), verdict) {
        // It is in other hands already, and nothing has been lost.
        Err(QueueError::ClaimLost(_)) => Ok(()),
        other => other,
    }
}

/// One of the threads that work.
struct Worker {
    member: i64,
    queue: Queue,
    jobs: InFlight<Job>,
    /// Held by all while they work, and by one for itself when its task is suspected of having taken a process down.
    alone: Arc<RwLock<()>>,
    done: Arc<AtomicUsize>,
    until_empty: bool,
}

impl Worker {
    fn run(&mut self, token: &StopToken) -> Result<(), QueueError> {
        let alone = Arc::clone(&self.alone);
        while !token.is_stopped() {
            // Neither lock is waited for longer than POLL: a stop has to be seen. Suspects come first, so that each thread that
            // comes free waits for the others to come free, too.
            match self.queue.next()? {
                Next::Suspect => {
                    if let Some(_alone) = alone.try_write_for(POLL) {
                        self.one(true)?;
                    }
                }
                Next::Fresh => {
                    if let Some(_together) = alone.try_read_for(POLL) {
                        self.one(false)?;
                    }
                }
                Next::Empty if self.until_empty => break,
                Next::Wait | Next::Empty => {
                    // The loop sees the stop.
                    let _ = token.sleep(POLL);
                }
            }
        }
        Ok(())
    }

    /// Works on one task, if it gets one.
    fn one(&mut self, suspect: bool) -> Result<(), QueueError> {
        let Some(slot) = self.jobs.reserve() else {
            return Ok(());
        };
        let Some(job) = self.queue.claim(self.member, suspect)? else {
            return Ok(());
        };
        let failures = job.failures();
        let Some(item) = slot.fill_with(job, failures) else {
            return Ok(());
        };
        if item.is_poison {
            process::abort();
        }
        // The work. A real one would look at the token now and then.
        if item.token().sleep(item.takes).is_err() {
            // Out of time: it has been put back, and there is nothing to complete.
            return Ok(());
        }
        match item.complete(|job| self.queue.finish(job)) {
            Ok(()) => {
                self.done.fetch_add(1, Ordering::Relaxed);
                Ok(())
            }
            Err(NotCompleted::CommitFailed(QueueError::ClaimLost(id))) => {
                say(format_args!("task {id} was taken away: left as it is"));
                Ok(())
            }
            Err(NotCompleted::CommitFailed(error)) => Err(error),
            // Too late by a moment: it has been put back.
            Err(_) => Ok(()),
        }
    }
}

fn say(what: impl std::fmt::Display) {
    // Not `eprintln!`: it panics when nobody reads any more.
    let _ = writeln!(io::stderr(), "{what}");
}
