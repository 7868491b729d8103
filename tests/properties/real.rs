//! The same history, with the crate.

use std::panic::resume_unwind;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::time::{Duration, Instant};

use winddown::{Guard, Hook, HookReport, ShutdownHandle, ShutdownReport};

use crate::common::{FAR, embedded};
use crate::history::{Body, End, Ending, History, Step};
use crate::model::{Row, Told};

/// The moment of the stop is known to a fifteenth of a millisecond: what began less before it may seem to have begun after.
const STEP_OF_THE_STOP: Duration = Duration::from_micros(100);

/// What the program has in hand of a hook or guard.
enum Value {
    Hook(Hook),
    #[expect(dead_code, reason = "it is there to be dropped")]
    Guard(Guard<()>),
}

struct World {
    handle: ShutdownHandle,
    values: Mutex<Vec<Option<Value>>>,
    log: Mutex<Vec<String>>,
    depth: AtomicUsize,
    bodies: AtomicUsize,
}

/// In each closure, so that it is seen when one is not dropped.
struct Alive(Arc<World>);

impl Alive {
    fn new(world: &Arc<World>) -> Self {
        world.bodies.fetch_add(1, Ordering::SeqCst);
        Self(Arc::clone(world))
    }
}

impl Drop for Alive {
    fn drop(&mut self) {
        self.0.bodies.fetch_sub(1, Ordering::SeqCst);
    }
}

pub(crate) fn of(history: &History) -> Told {
    let shutdown = embedded().hook_timeout(FAR).install().unwrap();
    let world = Arc::new(World {
        handle: shutdown.handle(),
        values: Mutex::default(),
        log: Mutex::default(),
        depth: AtomicUsize::new(0),
        bodies: AtomicUsize::new(0),
    });
    let (tell, told) = mpsc::channel();
    shutdown.on_report(move |report| tell.send(rows(report)).unwrap());
    world.all(&history.before);
    match history.ending {
        Ending::Shutdown => drop(shutdown.shutdown()),
        Ending::Wait => {
            world.step(&Step::Stop);
            drop(shutdown.wait());
        }
        Ending::Drop => drop(shutdown),
    }
    let report = told.recv_timeout(FAR).unwrap();
    world.tell("over");
    world.all(&history.after);
    // Meanwhile more are made.
    let mut number = 0;
    while number < world.made() {
        world.step(&Step::Drop(number));
        number += 1;
    }
    Told {
        log: std::mem::take(&mut world.log.lock().unwrap()),
        report,
        bodies_left: world.bodies.load(Ordering::SeqCst),
    }
}

fn rows(report: &ShutdownReport) -> Vec<Row> {
    let row = |hook: &HookReport| Row {
        name: hook.name().to_owned(),
        outcome: hook.outcome().to_string(),
        early: hook.started().is_zero(),
    };
    report.hooks().iter().map(row).collect()
}

impl World {
    fn tell(&self, what: &str) {
        let indent = "  ".repeat(self.depth.load(Ordering::SeqCst));
        self.log.lock().unwrap().push(format!("{indent}{what}"));
    }

    fn made(&self) -> usize {
        self.values.lock().unwrap().len()
    }

    fn all(self: &Arc<Self>, steps: &[Step]) {
        for step in steps {
            self.step(step);
        }
    }

    fn step(self: &Arc<Self>, step: &Step) {
        match step {
            Step::Hook(body) => {
                let number = self.next();
                let called = self.called(number, body);
                let hook = self.handle.hook(number.to_string(), called);
                self.keep(number, Value::Hook(hook));
            }
            Step::Guard(body) => {
                let number = self.next();
                let called = self.called(number, body);
                let guard = self.handle.guard(number.to_string(), (), |()| called());
                self.keep(number, Value::Guard(guard));
            }
            Step::Stop => {
                let began = Instant::now();
                while began.elapsed() < STEP_OF_THE_STOP {
                    std::hint::spin_loop();
                }
                let first = self.handle.stop("a step");
                self.tell(&format!("stop: {first}"));
            }
            Step::Remove(number) | Step::RunNow(number) | Step::Drop(number) => {
                self.use_up(*number, step);
            }
        }
    }

    fn next(&self) -> usize {
        let mut values = self.values.lock().unwrap();
        values.push(None);
        values.len() - 1
    }

    fn keep(&self, number: usize, value: Value) {
        self.values.lock().unwrap()[number] = Some(value);
    }

    fn use_up(&self, number: usize, step: &Step) {
        let value = {
            let mut values = self.values.lock().unwrap();
            match values.len() {
                0 => None,
                made => values[number % made].take(),
            }
        };
        match (value, step) {
            (Some(Value::Hook(hook)), Step::Remove(_)) => {
                let removed = hook.remove();
                self.tell(&format!("remove: {removed}"));
            }
            (Some(Value::Hook(hook)), Step::RunNow(_)) => {
                let outcome = hook.run_now().map(|outcome| outcome.to_string());
                self.tell(&format!("run_now: {outcome:?}"));
            }
            (value, _) => drop(value),
        }
    }

    fn called(
        self: &Arc<Self>,
        number: usize,
        body: &Body,
    ) -> impl FnOnce() -> Result<(), usize> + Send + use<> {
        let (alive, body) = (Alive::new(self), body.clone());
        move || {
            let world = &alive.0;
            world.tell(&format!("call {number}"));
            world.depth.fetch_add(1, Ordering::SeqCst);
            world.all(&body.steps);
            world.depth.fetch_sub(1, Ordering::SeqCst);
            match body.end {
                End::Complete => Ok(()),
                End::Fail => Err(number),
                // As `panic!`, but silent.
                End::Panic => resume_unwind(Box::new(number.to_string())),
            }
        }
    }
}
