//! The same work, with the claims in a [`Ledger`]: who works on what, who is dead, and what becomes of its tasks is the ledger's.
//!
//! The tasks stay where they are. The ledger may be in the same place, or in another:
//!
//! | the ledger | a task's effect is made |
//! |---|---|
//! | in the queue's own file or database | in one transaction with the verdict |
//! | elsewhere | before the verdict, bound to the claim's epoch: who was taken for dead changes nothing |

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use std::{fs, io, process};

use parking_lot::RwLock;
use thiserror::Error;
use winddown::{
    Claim, ClaimError, CompleteError, InFlight, Ledger, LedgerError, Member, Membership,
    NotCompleted, ShutdownCoordinator, StopReason, StopToken, StoreError, WriteError,
};

use crate::queue::QueueError;
use crate::tasks::{Place, State, Task, Tasks};
use crate::{Args, POLL, ROUND, admitted, say};

const NAME: &str = "queue_worker";

/// What ends a worker that keeps its claims in a ledger.
#[derive(Debug, Error)]
pub(crate) enum Error {
    #[error(transparent)]
    Queue(#[from] QueueError),
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Claim(#[from] ClaimError),
    #[error(transparent)]
    Write(#[from] WriteError),
    #[error(transparent)]
    Complete(#[from] CompleteError<QueueError>),
}

impl Error {
    /// The task is somebody else's by now, and nothing has been done for it.
    fn is_late(&self) -> bool {
        let write = match self {
            Self::Queue(QueueError::ClaimLost(_))
            | Self::Complete(CompleteError::Failed(QueueError::ClaimLost(_))) => return true,
            Self::Write(write) | Self::Complete(CompleteError::Write(write)) => write,
            _ => return false,
        };
        matches!(
            write,
            WriteError::Superseded { .. } | WriteError::Fenced { .. }
        )
    }
}

/// Works until the stop, or until the queue is empty.
pub(crate) fn work(
    shutdown: &ShutdownCoordinator,
    args: &Args,
    place: &Place,
) -> crate::Result<()> {
    let token = shutdown.token();
    let tasks = args.db.open()?;
    let ledger = open(args, place)?;
    say(format_args!("before: {}", ledger.previous_run(NAME)?));
    let membership = Membership::new(NAME)
        .heartbeat(Duration::from_millis(args.heartbeat_ms))
        .dead_after(Duration::from_millis(args.dead_after_ms))
        .max_crashes(args.max_crashes);
    // What the dead have left is settled by this, before anything is claimed. And leaving is the last thing that happens.
    let member = ledger.join(shutdown, membership)?;
    let worker = member.id();

    let done = Arc::new(AtomicUsize::new(0));
    shutdown.on_report({
        let done = Arc::clone(&done);
        move |report| {
            // Also where it was about to end anyway: that is why the status is not 0 then.
            let mut reasons = std::iter::once(report.reason()).chain(report.later_reasons());
            if reasons.any(|reason| matches!(reason, StopReason::Fenced { .. })) {
                say(format_args!("worker {worker}: counted as dead"));
            }
            say(format_args!(
                "worker {worker}: {} done, {} put back",
                done.load(Ordering::Relaxed),
                report.handed_back()
            ));
        }
    });
    let mut undertaker = Undertaker {
        ledger,
        member: member.clone(),
        tasks,
    };
    undertaker.round()?;
    let undertaker = shutdown.spawn("undertaker", move |token| {
        while token.sleep(ROUND).is_ok() {
            undertaker.round()?;
        }
        Ok::<_, Error>(())
    });
    admitted(undertaker, &token)?;

    let jobs = member.in_flight("tasks");
    let alone = Arc::new(RwLock::new(()));
    let in_one_place = is_same(&args.db, place)?;
    let mut threads = Vec::new();
    for number in 1..=args.threads {
        let mut thread = Worker {
            member: member.clone(),
            tasks: args.db.open()?,
            jobs: jobs.clone(),
            alone: Arc::clone(&alone),
            done: Arc::clone(&done),
            in_one_place,
            until_empty: args.until_empty,
        };
        let thread = shutdown.spawn(format!("thread {number}"), move |token| thread.run(&token));
        threads.push(admitted(thread, &token)?);
    }
    say(format_args!("worker {worker}: {} threads", args.threads));
    for thread in threads {
        thread.join()??;
    }
    Ok(())
}

fn open(args: &Args, place: &Place) -> Result<Ledger, Error> {
    Ok(match (place, &args.host_dir) {
        (Place::File(path), _) => Ledger::open(path)?,
        #[cfg(feature = "ledger-postgres")]
        (Place::Url(url), None) => Ledger::connect(url)?,
        #[cfg(feature = "ledger-postgres")]
        (Place::Url(url), Some(directory)) => Ledger::connect_with(url, directory)?,
        #[cfg(not(feature = "ledger-postgres"))]
        (Place::Url(_), _) => return Err(QueueError::NoServer.into()),
    })
}

/// Two names of one database are taken for two: that costs a transaction, and nothing else.
fn is_same(tasks: &Place, ledger: &Place) -> io::Result<bool> {
    match (tasks, ledger) {
        (Place::File(tasks), Place::File(ledger)) => {
            Ok(fs::canonicalize(tasks)? == fs::canonicalize(ledger)?)
        }
        (Place::Url(tasks), Place::Url(ledger)) => Ok(tasks == ledger),
        _ => Ok(false),
    }
}

fn key(task: i64) -> String {
    format!("task {task}")
}

/// Brings the queue into line with what the ledger has decided.
struct Undertaker {
    ledger: Ledger,
    member: Member,
    tasks: Box<dyn Tasks>,
}

impl Undertaker {
    fn round(&mut self) -> Result<(), Error> {
        for failed in self.ledger.failed()? {
            // A ledger in a file of its own may serve others, too.
            let Some(task) = task_of(failed.key()) else {
                continue;
            };
            match self.tasks.state(task)? {
                Some(State::Open) if self.tasks.bury(task)? => {
                    say(format_args!("given up: {failed}"));
                }
                // Its worker died after the effect and before the verdict.
                Some(State::Done) => {
                    self.ledger.discard(failed.key())?;
                }
                _ => {}
            }
        }
        for key in self.ledger.released()? {
            let Some(task) = task_of(&key) else { continue };
            if self.tasks.state(task)? == Some(State::Done) {
                match self.member.claim(key, &()) {
                    Ok(claim) => over(claim.complete())?,
                    // Somebody else does it, or the next one will.
                    Err(error) => refused(error)?,
                }
            }
        }
        Ok(())
    }
}

fn task_of(key: &str) -> Option<i64> {
    key.strip_prefix("task ")?.parse().ok()
}

/// That somebody else has the task, or that this worker is to end, is no error.
fn refused(error: ClaimError) -> Result<(), Error> {
    match error {
        ClaimError::Taken { .. }
        | ClaimError::GivenUp(_)
        | ClaimError::Fenced { .. }
        | ClaimError::IntakeClosed => Ok(()),
        other => Err(other.into()),
    }
}

/// Nor is that a verdict came too late.
fn over<T>(written: Result<T, WriteError>) -> Result<(), Error> {
    match written {
        Ok(_) | Err(WriteError::Superseded { .. } | WriteError::Fenced { .. }) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// One of the threads that work.
struct Worker {
    member: Member,
    tasks: Box<dyn Tasks>,
    jobs: InFlight<Claim>,
    /// As without a ledger: a task that is suspected of having taken a process down has this one for itself.
    alone: Arc<RwLock<()>>,
    done: Arc<AtomicUsize>,
    in_one_place: bool,
    until_empty: bool,
}

enum Did {
    Work,
    Nothing,
    /// Not while others work.
    Suspect,
}

impl Worker {
    fn run(&mut self, token: &StopToken) -> Result<(), Error> {
        while !token.is_stopped() {
            let tasks = self.tasks.some_open()?;
            if tasks.is_empty() && self.until_empty {
                break;
            }
            let mut idle = true;
            for task in tasks {
                if token.is_stopped() {
                    break;
                }
                idle &= !self.take(token, &task)?;
            }
            if idle {
                // The loop sees the stop.
                let _ = token.sleep(POLL);
            }
        }
        Ok(())
    }

    /// True: it was this one's.
    fn take(&mut self, token: &StopToken, task: &Task) -> Result<bool, Error> {
        let alone = Arc::clone(&self.alone);
        // A suspect has the thread wait: a stop has to be seen.
        let Some(together) = alone.try_read_for(POLL) else {
            return Ok(false);
        };
        let did = self.one(task, false)?;
        drop(together);
        if let Did::Suspect = did {
            while !token.is_stopped() {
                if let Some(_alone) = alone.try_write_for(POLL) {
                    self.one(task, true)?;
                    return Ok(true);
                }
            }
        }
        Ok(matches!(did, Did::Work))
    }

    fn one(&mut self, task: &Task, alone: bool) -> Result<Did, Error> {
        let Some(slot) = self.jobs.reserve() else {
            return Ok(Did::Nothing);
        };
        let claim = match self.member.claim(key(task.id), &()) {
            Ok(claim) => claim,
            Err(error) => return refused(error).map(|()| Did::Nothing),
        };
        if claim.crashes() > 0 && !alone {
            // Not kept while waiting: it would count one more if this process went down meanwhile.
            over(claim.release())?;
            return Ok(Did::Suspect);
        }
        let epoch = claim.epoch();
        if !self.tasks.begin(task.id, epoch)? {
            // Done since it was seen, with the ledger elsewhere perhaps by one that died before the verdict.
            over(claim.complete())?;
            return Ok(Did::Nothing);
        }
        let Some(item) = slot.fill(claim) else {
            return Ok(Did::Nothing);
        };
        if task.is_poison {
            process::abort();
        }
        // The work. A real one would look at the token now and then.
        if item.token().sleep(task.takes).is_err() {
            // Out of time: it has been released.
            return Ok(Did::Work);
        }
        let tasks = &mut self.tasks;
        let in_one_place = self.in_one_place;
        let done = item.complete(|claim| {
            if in_one_place {
                tasks.finish_with(claim, task.id)?;
            } else {
                tasks.finish(task.id, epoch)?;
                over(claim.complete())?;
            }
            Ok::<_, Error>(())
        });
        match done {
            Ok(()) => {
                self.done.fetch_add(1, Ordering::Relaxed);
            }
            Err(NotCompleted::CommitFailed(error)) if error.is_late() => {
                say(format_args!(
                    "task {} was taken away: left as it is",
                    task.id
                ));
            }
            Err(NotCompleted::CommitFailed(error)) => return Err(error),
            // Too late by a moment: it has been released.
            Err(_) => {}
        }
        Ok(Did::Work)
    }
}
