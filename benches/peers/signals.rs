//! From the signal to whoever waits for it.

use std::fmt::Write;
use std::hint::spin_loop;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::getpid;
use signal_hook::consts::SIGTERM;
use winddown::ShutdownCoordinator;

use crate::parts::{Installed, Look, Part, Who, say};
use crate::rounds::{Effort, median, percentile};
use crate::table::Figure::Time;
use crate::table::Must::{self, Nothing, Times};
use crate::table::Table;

/// Threads that keep the machine busy, by looking.
const BUSY: usize = 8;

/// Whoever waits for the signal has been waiting for long, as in a program that has been running for a while: without
/// this, what would be measured is the start of a thread.
const SETTLE: Duration = Duration::from_millis(10);

pub(crate) fn rows(table: &mut Table, effort: Effort) {
    for (lookers, load, half, worst) in [
        (1, "", Times(1.5), Nothing),
        (BUSY, ", 8 busy threads", Nothing, Times(2.0)),
    ] {
        let samples = sampled(effort, lookers);
        for (part, name, must) in [(0.5, "median", half), (0.99, "p99", worst)] {
            let figures = samples.each_ref().map(|[seen, _]| percentile(seen, part));
            let what = format!("signal to token{load}: {name}");
            row(table, &what, figures, must, "`flag::register`");
        }
        if lookers == 1 {
            let figures = samples
                .each_ref()
                .map(|[_, handled]| percentile(handled, 0.5));
            row(
                table,
                "signal handler, all of it",
                figures,
                Nothing,
                "`flag::register`",
            );
        }
    }
    let took = to_exit(effort);
    row(
        table,
        "signal to exit, empty program",
        took,
        Nothing,
        "`_exit` in the handler",
    );
}

fn row(table: &mut Table, what: &str, figures: [f64; 4], must: Must, bare: &str) {
    let [ours, theirs, signal_mod, ctrlc] = figures.map(Time);
    let peers = [
        (bare, theirs, must),
        ("signal-mod", signal_mod, Nothing),
        ("ctrlc", ctrlc, Nothing),
    ];
    table.row(what, ours, &peers);
}

/// Processes in turn, each with some samples: when the stop was seen, and when the handler was through.
fn sampled(effort: Effort, lookers: usize) -> [[Vec<f64>; 2]; 4] {
    let (rounds, count) = match effort {
        Effort::Short => (1, "5"),
        _ => (10, "20"),
    };
    let mut samples = Who::ALL.map(|who| (who, [const { Vec::new() }; 2]));
    for _ in 0..rounds {
        for (who, samples) in &mut samples {
            let mut part = Part::start("latency", *who, &[&lookers.to_string(), count]);
            let line = part.line();
            part.end();
            for pair in line.split_whitespace() {
                let (seen, handled) = pair.split_once('/').unwrap();
                samples[0].push(seen.parse().unwrap());
                samples[1].push(handled.parse().unwrap());
            }
        }
    }
    samples.map(|(_, samples)| samples)
}

/// What those see who look at it.
struct Sight {
    token: Mutex<Option<Look>>,
    /// Of which sample it is.
    sample: AtomicUsize,
    /// When the stop was first seen, in nanoseconds from `begin`, in each sample: who comes late with an old one changes
    /// nothing.
    seen: Vec<AtomicU64>,
    begin: Instant,
    main: Thread,
    over: AtomicBool,
}

impl Sight {
    fn new(samples: usize) -> Self {
        Self {
            token: Mutex::new(None),
            sample: AtomicUsize::new(usize::MAX),
            seen: (0..samples).map(|_| AtomicU64::new(u64::MAX)).collect(),
            begin: Instant::now(),
            main: thread::current(),
            over: AtomicBool::new(false),
        }
    }

    fn now(&self) -> u64 {
        u64::try_from(self.begin.elapsed().as_nanos()).unwrap()
    }

    fn set(&self, sample: usize, token: Look) {
        let mut place = self.token.lock().unwrap();
        self.sample.store(sample, Ordering::Release);
        *place = Some(token);
    }

    fn look(&self) {
        let (mut sample, mut token) = (usize::MAX, None);
        while !self.over.load(Ordering::Relaxed) {
            if self.sample.load(Ordering::Acquire) != sample {
                let place = self.token.lock().unwrap();
                (sample, token) = (self.sample.load(Ordering::Acquire), place.clone());
            }
            if token.as_ref().is_some_and(Look::is_stopped) {
                self.see(sample);
                token = None;
            }
            spin_loop();
        }
    }

    fn see(&self, sample: usize) {
        self.seen[sample].fetch_min(self.now(), Ordering::AcqRel);
        self.main.unpark();
    }
}

/// A process that signals itself, and looks how soon that is seen: by any of its threads, as only that one will do
/// which has a processor just then.
pub(crate) fn latency(who: Who, lookers: usize, samples: usize) {
    let sight = Sight::new(samples);
    thread::scope(|scope| {
        for _ in 0..lookers {
            scope.spawn(|| sight.look());
        }
        let mut installed = Installed::new(who);
        let mut took = String::new();
        for sample in 0..samples {
            installed = installed.again(who);
            let token = installed.look();
            sight.set(sample, token.clone());
            thread::sleep(SETTLE);
            let start = sight.now();
            kill(getpid(), Signal::SIGTERM).unwrap();
            let handled = sight.now() - start;
            if token.is_stopped() {
                sight.see(sample);
            }
            // Not by looking too: a listener's thread needs a processor.
            let seen = loop {
                match sight.seen[sample].load(Ordering::Acquire) {
                    u64::MAX => thread::park_timeout(SETTLE),
                    seen => break seen - start,
                }
            };
            write!(took, "{seen}/{handled} ").unwrap();
        }
        sight.over.store(true, Ordering::Relaxed);
        say(&took);
        drop(installed);
    });
}

fn to_exit(effort: Effort) -> [f64; 4] {
    let mut took = Who::ALL.map(|who| (who, Vec::new()));
    for _ in 0..effort.rounds() {
        for (who, took) in &mut took {
            let mut part = Part::start("exit", *who, &[]);
            assert_eq!(part.line(), "up\n");
            thread::sleep(SETTLE);
            let start = Instant::now();
            kill(part.pid(), Signal::SIGTERM).unwrap();
            part.end();
            took.push(start.elapsed().as_secs_f64() * 1e9);
        }
    }
    took.map(|(_, took)| median(&took))
}

/// A program that does nothing until it is told to end.
pub(crate) fn exit(who: Who) {
    match who {
        Who::Winddown => {
            let coordinator = ShutdownCoordinator::install().unwrap();
            say("up");
            coordinator.wait().exit();
        }
        Who::Bare => {
            let yes = Arc::new(AtomicBool::new(true));
            signal_hook::flag::register_conditional_shutdown(SIGTERM, 0, yes).unwrap();
            say("up");
            loop {
                thread::park();
            }
        }
        Who::SignalMod => {
            let coordinator = signal_mod::Coordinator::builder().build();
            coordinator.install().unwrap();
            say("up");
            coordinator.token().wait_blocking();
        }
        Who::Ctrlc => {
            let (sender, receiver) = mpsc::channel();
            ctrlc::set_handler(move || sender.send(()).unwrap()).unwrap();
            say("up");
            receiver.recv().unwrap();
        }
    }
}
