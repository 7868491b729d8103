//! The barrier: the end of a stream against a sequential model, over random histories. Never early, never left out.
//!
//! The model keeps what happened and looks at all of it after each step; it counts nothing, so that it has no count to get wrong.
//! `WINDDOWN_SEED` runs another series, or one that has failed again.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    clippy::print_stdout,
    missing_docs,
    reason = "tests"
)]

mod common;
#[path = "common/random.rs"]
mod random;

use std::collections::BTreeMap;

use common::{bounded, embedded};
use random::Random;
use winddown::{
    Arrival, Assignment, End, EndOfStream, EndPolicy, PartitionError, ShutdownCoordinator,
    StopReason,
};

const HISTORIES: usize = 20_000;
const STEPS: usize = 60;
/// Steps after the end, for the answers to what comes too late.
const LATE: usize = 8;
const PARTITIONS: u8 = 4;

fn partition(random: &mut Random) -> u8 {
    u8::try_from(random.below(PARTITIONS.into())).unwrap()
}

fn end(random: &mut Random) -> End {
    [End::OfData, End::Suspended][random.place(2)]
}

/// One assignment that was ever made, in order; its number is its place.
#[derive(Debug)]
struct Generation {
    partition: u8,
    end: Option<End>,
}

#[derive(Debug)]
struct Model {
    policy: EndPolicy,
    empty_is_end: bool,
    generations: Vec<Generation>,
    /// Which of them is the partition's now.
    current: BTreeMap<u8, usize>,
    /// The generation of each live arrival.
    arrivals: Vec<usize>,
    over: bool,
    /// By something else.
    stopped: bool,
}

impl Model {
    fn ends(&self) -> impl Iterator<Item = Option<End>> {
        self.current.values().map(|n| self.generations[*n].end)
    }

    fn sentinel(&self) -> bool {
        self.policy == EndPolicy::Any && self.ends().any(|end| end == Some(End::OfData))
    }

    fn should_be_over(&self) -> bool {
        if self.current.is_empty() {
            return self.empty_is_end;
        }
        let busy = self
            .arrivals
            .iter()
            .any(|n| self.current.values().any(|current| current == n));
        !busy && (self.sentinel() || self.ends().all(|end| end.is_some()))
    }

    fn named(&self, partition: u8) -> Result<usize, PartitionError> {
        let current = self.current.get(&partition).copied();
        current.ok_or(PartitionError::UnknownPartition)
    }

    fn numbered(&self, n: usize) -> Result<usize, PartitionError> {
        let partition = self.generations[n].partition;
        if self.current.get(&partition) == Some(&n) {
            Ok(n)
        } else {
            Err(PartitionError::OldGeneration)
        }
    }

    fn assign(&mut self, partition: u8) -> Result<(), PartitionError> {
        if self.over {
            return Err(PartitionError::IntakeClosed);
        }
        self.current.insert(partition, self.generations.len());
        let end = None;
        self.generations.push(Generation { partition, end });
        Ok(())
    }

    fn finish(&mut self, n: usize, end: End) -> bool {
        let old = &mut self.generations[n].end;
        let news = match (*old, end) {
            (None, _) | (Some(End::Suspended), End::OfData) => true,
            (Some(_), _) => false,
        };
        if news {
            *old = Some(end);
        }
        news
    }

    fn resume(&mut self, n: usize) -> Result<Option<End>, PartitionError> {
        if self.over {
            return Err(PartitionError::IntakeClosed);
        }
        Ok(self.generations[n].end.take())
    }

    fn end(&self, n: usize) -> Option<End> {
        match self.generations[n].end {
            None if self.sentinel() => Some(End::Suspended),
            end => end,
        }
    }

    fn arrive(&mut self, n: usize) -> Result<(), PartitionError> {
        if self.over || self.stopped {
            return Err(PartitionError::IntakeClosed);
        }
        if self.end(n).is_some() {
            return Err(PartitionError::Ended);
        }
        self.arrivals.push(n);
        Ok(())
    }
}

/// The real one, and the model of it, step by step.
struct History {
    shutdown: ShutdownCoordinator,
    stream: EndOfStream<u8>,
    /// As in the model, by place.
    generations: Vec<Assignment<u8>>,
    arrivals: Vec<Arrival<u8>>,
    model: Model,
}

impl History {
    fn begin(random: &mut Random) -> Self {
        let shutdown = embedded().install().unwrap();
        let policy = [EndPolicy::All, EndPolicy::Any][random.place(2)];
        let first: Vec<u8> = (0..PARTITIONS).filter(|_| random.below(2) == 0).collect();
        let mut model = Model {
            policy,
            empty_is_end: random.below(8) == 0,
            generations: Vec::new(),
            current: BTreeMap::new(),
            arrivals: Vec::new(),
            over: false,
            stopped: false,
        };
        let mut stream = shutdown.end_of_stream(first.iter().copied()).policy(policy);
        if model.empty_is_end {
            stream = stream.ends_when_empty();
        }
        let mut generations = Vec::new();
        for partition in first {
            model.assign(partition).unwrap();
            generations.push(stream.assignment(&partition).unwrap());
        }
        Self {
            shutdown,
            stream,
            generations,
            arrivals: Vec::new(),
            model,
        }
    }

    fn arrived(
        &mut self,
        expected: Result<(), PartitionError>,
        real: Result<Arrival<u8>, PartitionError>,
    ) -> String {
        let said = real.as_ref().map(|_| ()).map_err(|error| *error);
        assert_eq!(said, expected, "arrive");
        self.arrivals.extend(real.ok());
        format!("arrive: {expected:?}")
    }

    /// Takes one step with both; what was done, and the answer.
    fn step(&mut self, random: &mut Random) -> String {
        let (partition, end) = (partition(random), end(random));
        let known = !self.generations.is_empty();
        let n = random.place(self.generations.len().max(1));
        let any = random.place(self.arrivals.len().max(1));
        match random.below(100) {
            0..8 => {
                let expected = self.model.named(partition);
                let expected = expected.map(|n| self.model.finish(n, end));
                assert_eq!(self.stream.finish(&partition, end), expected);
                format!("finish: {expected:?}")
            }
            8..20 if known => {
                let expected = self.model.numbered(n);
                let expected = expected.map(|n| self.model.finish(n, end));
                assert_eq!(self.generations[n].finish(end), expected);
                format!("finish: {expected:?}")
            }
            20..27 => {
                let expected = self.model.named(partition);
                let expected = expected.and_then(|n| self.model.resume(n));
                assert_eq!(self.stream.resume(&partition), expected);
                format!("resume: {expected:?}")
            }
            27..34 if known => {
                let expected = self.model.numbered(n);
                let expected = expected.and_then(|n| self.model.resume(n));
                assert_eq!(self.generations[n].resume(), expected);
                format!("resume: {expected:?}")
            }
            34..44 => {
                let expected = self.model.assign(partition);
                let real = self.stream.assign(partition);
                let said = real.as_ref().map(|_| ()).map_err(|error| *error);
                assert_eq!(said, expected, "assign");
                self.generations.extend(real.ok());
                format!("assign: {expected:?}")
            }
            44..49 => {
                let expected = self.model.named(partition).map(|_| ());
                self.model.current.remove(&partition);
                assert_eq!(self.stream.revoke(&partition), expected);
                format!("revoke: {expected:?}")
            }
            49..59 => {
                let expected = self.model.named(partition);
                let expected = expected.and_then(|n| self.model.arrive(n));
                let real = self.stream.arrive(&partition);
                self.arrived(expected, real)
            }
            59..74 if known => {
                let expected = self.model.numbered(n);
                let expected = expected.and_then(|n| self.model.arrive(n));
                let real = self.generations[n].arrive();
                self.arrived(expected, real)
            }
            74..92 if !self.arrivals.is_empty() => {
                self.model.arrivals.swap_remove(any);
                drop(self.arrivals.swap_remove(any));
                "leave".to_owned()
            }
            92..97 if !self.arrivals.is_empty() => {
                self.model.arrivals.push(self.model.arrivals[any]);
                self.arrivals.push(self.arrivals[any].clone());
                "share".to_owned()
            }
            97 if random.below(8) == 0 => {
                self.model.stopped |= !self.model.over;
                self.shutdown.stop("by something else");
                "stop".to_owned()
            }
            _ => {
                let expected = self.model.named(partition).map(|n| self.model.end(n));
                assert_eq!(self.stream.end(&partition), expected);
                format!("end: {expected:?}")
            }
        }
    }

    /// Looks at both. True: the stream is over by the last step.
    fn look(&mut self) -> bool {
        let news = !self.model.over && self.model.should_be_over();
        self.model.over |= news;
        assert_eq!(self.stream.is_over(), self.model.over, "is it over?");
        let reason = if self.model.stopped {
            Some(StopReason::from("by something else"))
        } else {
            self.model.over.then_some(StopReason::EndOfStream)
        };
        assert_eq!(self.shutdown.token().reason(), reason);
        news
    }
}

#[test]
fn the_barrier_opens_when_the_model_says_so_and_never_else() {
    let mut random = Random::of("barrier", 0x5eed_0003);
    let histogram = bounded(move || {
        let mut histogram = BTreeMap::<String, usize>::new();
        for number in 0..HISTORIES {
            let mut history = History::begin(&mut random);
            let mut trace = Vec::new();
            let looked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                if history.look() {
                    *histogram
                        .entry("over from the start".to_owned())
                        .or_default() += 1;
                }
                let mut late = 0;
                for _ in 0..STEPS {
                    late += usize::from(history.model.over);
                    if late > LATE {
                        break;
                    }
                    let what = history.step(&mut random);
                    trace.push(what.clone());
                    if history.look() {
                        let by = what.split(':').next().unwrap();
                        *histogram.entry(format!("over by {by}")).or_default() += 1;
                        if history.model.stopped {
                            *histogram.entry("over after a stop".to_owned()).or_default() += 1;
                        }
                    }
                    *histogram.entry(what).or_default() += 1;
                }
            }));
            if let Err(payload) = looked {
                eprintln!(
                    "history {number}, after {trace:#?}, {:#?}, {:?}",
                    history.model, history.stream
                );
                std::panic::resume_unwind(payload);
            }
            if !history.model.over {
                *histogram.entry("not over".to_owned()).or_default() += 1;
            }
        }
        histogram
    });
    eprintln!("{histogram:#?}");
    // A history that cannot fail shows nothing: each way to the end and each answer must have come.
    for expected in [
        "over from the start",
        "over by finish",
        "over by leave",
        "over by revoke",
        "over by assign",
        "over after a stop",
        "not over",
        "finish: Ok(true)",
        "finish: Ok(false)",
        "finish: Err(UnknownPartition)",
        "finish: Err(OldGeneration)",
        "resume: Ok(Some(OfData))",
        "resume: Ok(Some(Suspended))",
        "resume: Ok(None)",
        "resume: Err(UnknownPartition)",
        "resume: Err(OldGeneration)",
        "resume: Err(IntakeClosed)",
        "assign: Ok(())",
        "assign: Err(IntakeClosed)",
        "revoke: Ok(())",
        "revoke: Err(UnknownPartition)",
        "arrive: Ok(())",
        "arrive: Err(UnknownPartition)",
        "arrive: Err(OldGeneration)",
        "arrive: Err(Ended)",
        "arrive: Err(IntakeClosed)",
        "end: Ok(None)",
        "end: Ok(Some(Suspended))",
        "share",
        "stop",
    ] {
        assert!(histogram.contains_key(expected), "never seen: {expected}");
    }
}
