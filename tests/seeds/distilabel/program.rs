//! The program: a source, two steps with replicas, and the batch manager that everything goes
//! through.

use std::error::Error as StdError;
use std::fs;
use std::path::Path;
use std::process::ExitCode;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::thread;

use crossbeam_channel::{Receiver, Sender, bounded, select};
use winddown::{
    HookOptions, InFlight, Interruption, ShutdownCoordinator, Stage, StopReason, StopToken, Stopped,
};

use crate::manager::{Batch, Channels, Manager, Message, Row, STEPS};
use crate::outside::{IN_HAND, Options, Stall, start_telling};

/// The prompts, one a line, in the directory of the program.
pub(crate) const PROMPTS: &str = "prompts";
/// Of a batch.
pub(crate) const ROWS: usize = 3;
/// Batches in a queue.
const ROOM: usize = 4;

type Result<T, E = Box<dyn StdError + Send + Sync>> = std::result::Result<T, E>;

pub(crate) fn main(directory: &Path) -> ExitCode {
    let options = Options::new(directory);
    ShutdownCoordinator::builder()
        .grace_period(options.grace)
        .cleanup_reserve(options.reserve)
        .debounce(options.debounce)
        .run(|shutdown| {
            let stall = Stall::of(&options);
            start_telling(shutdown);
            let last = Arc::clone(&stall);
            shutdown.on_report(move |report| {
                let reason = match report.reason() {
                    StopReason::Signal(received) => received.signal.to_string(),
                    reason => format!("{reason:?}"),
                };
                println!("over: {reason}, {}", report.outcome());
                last.here("report");
            });
            let token = shutdown.token();
            token.on_stop(|_| println!("stopping")).detach();
            run(shutdown, &options, &stall)
        })
}

fn run(shutdown: &ShutdownCoordinator, options: &Options, stall: &Arc<Stall>) -> Result<()> {
    // From the end: what is built last is stopped first.
    let [manager_stage, judge, generate, source] =
        ["batch manager", "judge", "generate", "source"].map(|name| shutdown.stage(name));
    // Whatever stops it from here on, the manager's turn comes when all of it is there.
    let Ok(setting_up) = source.hold("setting up") else {
        return Ok(shutdown.token().check()?);
    };
    let (to_manager, messages) = bounded(ROOM);
    let (ask, asked) = bounded(1);
    let (queues, ends): (Vec<_>, Vec<_>) = STEPS.iter().map(|_| bounded(ROOM)).unzip();
    let channels = Channels {
        ask,
        queues,
        ends: ends.clone(),
        messages: messages.clone(),
    };
    let Some(manager) = Manager::open(options, channels, stall)? else {
        return Ok(());
    };
    let manager = Arc::new(Mutex::new(manager));
    let suspend = Arc::clone(&manager);
    // What it does not use is left for the report, which has to say what hung.
    let save = HookOptions::new("save the state").timeout(options.grace / 8);
    let hook = shutdown.hook_with(save, move || suspend.lock().unwrap().suspend());

    for (step, (stage, queue)) in [generate, judge].iter().zip(ends).enumerate() {
        let back = Arc::clone(&manager);
        let batches = shutdown
            .in_flight::<Batch>(format!("batches of {}", STEPS[step]))
            .on_interrupted(move |interrupted| {
                let late = *interrupted.why() == Interruption::OutOfTime;
                let mut batch = interrupted.into_item();
                batch.tries += u32::from(late);
                println!("put back {} of {}", batch.number, STEPS[step]);
                back.lock().unwrap().put_back(step, batch);
            });
        for replica in 0..options.replicas {
            let replica = Replica {
                step,
                name: format!("{} {replica}", STEPS[step]),
                queue: queue.clone(),
                batches: batches.clone(),
                to_manager: to_manager.clone(),
                program: shutdown.token(),
                stall: Arc::clone(stall),
                work: options.work,
            };
            spawn_replica(stage, replica)?;
        }
    }
    let prompts = fs::read_to_string(options.directory.join(PROMPTS))?;
    let prompts: Vec<String> = prompts.lines().map(str::to_owned).collect();
    source.spawn("read", move |token| {
        read(&prompts, &asked, &to_manager, &token);
    })?;
    let (replicas, program) = (STEPS.len() * options.replicas, shutdown.token());
    let managing = manager_stage.spawn("manage", move |token| {
        manage(&manager, &messages, replicas, &program, &token)
    })?;
    println!("ready");
    drop(setting_up);

    if managing.join()?.is_ok_and(|over| over) {
        hook.remove();
        return Ok(());
    }
    Ok(shutdown.token().check()?)
}

fn spawn_replica(stage: &Stage, replica: Replica) -> Result<()> {
    stage.spawn(replica.name.clone(), move |_| replica.run())?;
    Ok(())
}

/// Gives the batches that it is asked for.
fn read(
    prompts: &[String],
    asked: &Receiver<u64>,
    to_manager: &Sender<Message>,
    token: &StopToken,
) {
    loop {
        let number = select! {
            recv(asked) -> number => number,
            recv(token.receiver()) -> _ => return,
        };
        let Ok(number) = number else { return };
        let from = usize::try_from(number).unwrap() * ROWS;
        let rows = prompts.iter().skip(from).take(ROWS).map(|prompt| Row {
            prompt: prompt.clone(),
            generation: None,
            score: None,
        });
        let rows: Vec<Row> = rows.collect();
        let batch = (!rows.is_empty()).then_some(Batch {
            number,
            rows,
            tries: 0,
        });
        // What it does not come to hand on is read again by the next run.
        select! {
            send(to_manager, Message::Read(batch)) -> sent => if sent.is_err() { return },
            recv(token.receiver()) -> _ => return,
        }
    }
}

/// One of the threads of a step.
struct Replica {
    step: usize,
    name: String,
    queue: Receiver<Batch>,
    batches: InFlight<Batch>,
    to_manager: Sender<Message>,
    /// It takes no more when the program stops; its stage is there until it has finished.
    program: StopToken,
    stall: Arc<Stall>,
    work: std::time::Duration,
}

impl Replica {
    /// # Errors
    ///
    /// [`Stopped`] while it was loading.
    fn run(&self) -> Result<(), Stopped> {
        self.stall.until_stopped("load", &self.program);
        self.stall.here("hung load");
        self.program.check()?;
        if self.to_manager.send(Message::Loaded).is_err() {
            return Ok(());
        }
        // Before the batch is taken out: in between it would be nobody's.
        while let Some(slot) = self.batches.reserve() {
            let batch = select! {
                recv(self.queue) -> batch => batch,
                recv(self.program.receiver()) -> _ => break,
            };
            let Ok(batch) = batch else { break };
            let tries = batch.tries;
            let Some(item) = slot.fill_with(batch, tries) else {
                break;
            };
            winddown::say(format!("batch {}", item.number));
            IN_HAND.fetch_add(1, Ordering::SeqCst);
            let finished = self.process(&item);
            IN_HAND.fetch_sub(1, Ordering::SeqCst);
            let _ = item.complete(|_| {
                let finished = Message::Finished(self.step, finished);
                self.to_manager
                    .send(finished)
                    .map_err(|_| "the manager has gone")
            });
        }
        Ok(())
    }

    fn process(&self, batch: &Batch) -> Batch {
        let mut batch = batch.clone();
        thread::sleep(self.work);
        self.stall.in_hand(STEPS[self.step], batch.number);
        for row in &mut batch.rows {
            if self.step == 0 {
                row.generation = Some(row.prompt.chars().rev().collect());
            } else {
                let generation = row.generation.as_deref().unwrap_or_default();
                let sum: u64 = generation.bytes().map(u64::from).sum();
                row.score = Some(sum % 101);
            }
        }
        batch
    }
}

/// Until all is written (true), or the steps have ended and all they did has come.
fn manage(
    manager: &Mutex<Manager>,
    messages: &Receiver<Message>,
    replicas: usize,
    program: &StopToken,
    token: &StopToken,
) -> Result<bool> {
    let mut loaded = 0;
    loop {
        if loaded == replicas && !program.is_stopped() && manager.lock().unwrap().send() {
            manager.lock().unwrap().finish()?;
            return Ok(true);
        }
        let message = select! {
            recv(messages) -> message => message,
            // Those above have ended, or are out of time: the hook takes what is still there.
            recv(token.receiver()) -> _ => return Ok(false),
        };
        let Ok(message) = message else {
            return Ok(false);
        };
        if matches!(message, Message::Loaded) {
            loaded += 1;
            if loaded == replicas {
                println!("loaded");
            }
        }
        manager.lock().unwrap().take(message, token)?;
    }
}
