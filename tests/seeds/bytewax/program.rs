//! The program: partitions that are files, a step, a stateful step, a sink, and between them
//! channels that are soon full.

use std::convert::Infallible;
use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, bounded, select};
use winddown::{
    Arrival, Assignment, End, EndOfStream, PartitionError, ShutdownCoordinator, ShutdownHandle,
    StopReason, StopToken, drain, split_at_end,
};

use crate::outside::{Options, Resource, Stall};
use crate::store::{Output, Row, State, StateFile};

/// Ends a partition, in band.
pub(crate) const EXIT: &str = "exit";
/// Behind an end: takes it back. What stands between the two is not part of the stream.
pub(crate) const REOPEN: &str = "reopen";

/// Between two looks at a file that had nothing new.
pub(crate) const GLANCE: Duration = Duration::from_millis(1);

/// Batches in a channel.
const ROOM: usize = 2;

#[derive(Clone)]
struct Line {
    span: (u64, u64),
    text: String,
}

/// Lines of one partition on their way. They have arrived until they are written.
struct Batch<T> {
    partition: usize,
    items: Vec<T>,
    arrival: Arrival<usize>,
}

enum ToSink {
    Rows(Batch<Row>),
    /// Behind everything that it has seen.
    Save(State),
    Total(usize, u64),
}

pub(crate) fn main(directory: &Path) -> ExitCode {
    let options = Options::new(directory);
    ShutdownCoordinator::builder()
        .grace_period(options.grace)
        .cleanup_reserve(options.grace / 4)
        .debounce(options.debounce)
        .run(|shutdown| {
            let stall = Stall::of(&options);
            shutdown.on_report(move |report| {
                stall.here("report");
                match report.reason() {
                    StopReason::Signal(received) => println!("over: {}", received.signal),
                    reason => println!("over: {reason:?}"),
                }
            });
            let token = shutdown.token();
            token.on_stop(|_| println!("stopping")).detach();
            let (replay, gate) = build(shutdown, &Arc::new(options));
            println!("ready, replay {replay}");
            drop(gate);
            token.wait();
            Ok::<_, Infallible>(())
        })
}

/// From its end, so that it is stopped, and closed, from its beginning. How many bytes are to be
/// read again, and what keeps the readers from their first one.
fn build(shutdown: &ShutdownHandle, options: &Arc<Options>) -> (u64, Sender<Infallible>) {
    let directory = &options.directory;
    let stall = Stall::of(options);
    let stream = shutdown
        .end_of_stream(0..options.partitions)
        .policy(options.policy);

    let states = Resource::open(shutdown, "state store", StateFile::of(directory));
    let state = states.with(|file| file.load());

    let output = Resource::open(shutdown, "sink", Output::open(directory));
    let written = |partition| output.with(|output| output.next(partition));
    let mut replay = 0;
    for partition in 0..options.partitions {
        let (from, to) = (state.next(partition), written(partition));
        if from > to {
            println!("violation: the state has seen what is not written");
        }
        replay += to.saturating_sub(from);
    }
    let (to_sink, rows) = bounded(ROOM);
    let sink = Sink {
        output,
        states,
        stall: Arc::clone(&stall),
        options: Arc::clone(options),
    };
    spawn(shutdown, "sink", move |token| sink.run(&rows, token));

    let (to_count, parsed) = bounded(ROOM);
    let starts: Vec<u64> = (0..options.partitions).map(|p| state.next(p)).collect();
    let count = Count {
        state: Resource::open(shutdown, "count", state),
        to_sink,
        program: shutdown.token(),
        stream: stream.clone(),
        stall,
        options: Arc::clone(options),
    };
    spawn(shutdown, "count", move |token| count.run(&parsed, token));

    let (to_parse, read) = bounded(ROOM);
    let parse = Parse {
        lines: Resource::open(shutdown, "parse", 0),
        to_count,
        options: Arc::clone(options),
    };
    spawn(shutdown, "parse", move |token| parse.run(&read, token));

    let files = (0..options.partitions).map(|partition| open(directory, partition));
    let files = Resource::open(shutdown, "source", files.collect());
    let source = shutdown.stage("source");
    let (gate, opened) = bounded(0);
    for (partition, at) in starts.into_iter().enumerate() {
        let reader = Reader {
            files: Arc::clone(&files),
            partition,
            assignment: stream.assignment(&partition).unwrap(),
            to_parse: to_parse.clone(),
            batch: options.batch,
        };
        let opened = opened.clone();
        let task = source.spawn(format!("read {partition}"), move |token| {
            let _ = opened.recv();
            reader.run(at, &token);
            println!("end source");
        });
        drop(task.unwrap());
    }
    (replay, gate)
}

/// A stage of one task. What ends the next one, its end of the channel, is dropped after it has
/// told its end.
#[track_caller]
fn spawn(shutdown: &ShutdownHandle, name: &'static str, run: impl Fn(&StopToken) + Send + 'static) {
    let task = shutdown.stage(name).spawn(name, move |token| {
        run(&token);
        println!("end {name}");
    });
    drop(task.unwrap());
}

fn open(directory: &Path, partition: usize) -> File {
    let path = directory.join(format!("partition-{partition}"));
    fs::OpenOptions::new()
        .read(true)
        .append(true)
        .create(true)
        .open(path)
        .unwrap()
}

struct Reader {
    files: Arc<Resource<Vec<File>>>,
    partition: usize,
    assignment: Assignment<usize>,
    to_parse: Sender<Batch<Line>>,
    batch: usize,
}

impl Reader {
    fn run(&self, mut at: u64, token: &StopToken) {
        let mut ended = false;
        while !token.is_stopped() {
            let lines = self.next_batch(at);
            let Some(last) = lines.last() else {
                let _ = token.sleep(GLANCE);
                continue;
            };
            if ended {
                let Some(reopen) = lines.iter().find(|line| line.text == REOPEN) else {
                    at = last.span.1;
                    continue;
                };
                if self.assignment.resume().is_err() {
                    return;
                }
                println!("resumed {}", self.partition);
                at = reopen.span.1;
                ended = false;
                continue;
            }
            // What comes behind the end is read again, as what it is then.
            let split = split_at_end(lines, |line| line.text == EXIT);
            if let Some(last) = split.before.last() {
                let next = last.span.1;
                let arrival = match self.assignment.arrive() {
                    Ok(arrival) => arrival,
                    // The end of another one is the end of this one, unless it is taken back.
                    Err(PartitionError::Ended) => {
                        let _ = token.sleep(GLANCE);
                        continue;
                    }
                    // Read again by the next run.
                    Err(_) => break,
                };
                if !self.pass(split.before, arrival, token) {
                    break;
                }
                at = next;
            }
            if let Some(end) = split.end {
                self.assignment.finish(End::OfData).unwrap();
                println!("ended {}", self.partition);
                at = end.span.1;
                ended = true;
            }
        }
        self.assignment.finish(End::Suspended).unwrap();
    }

    /// False: stopped before there was room.
    fn pass(&self, items: Vec<Line>, arrival: Arrival<usize>, token: &StopToken) -> bool {
        let batch = Batch {
            partition: self.partition,
            items,
            arrival,
        };
        select! {
            send(self.to_parse, batch) -> sent => sent.is_ok(),
            recv(token.receiver()) -> _ => false,
        }
    }

    /// The whole lines that stand there, up to the size of a batch.
    fn next_batch(&self, at: u64) -> Vec<Line> {
        let mut bytes = [0; 4096];
        let length = self
            .files
            .with(|files| files[self.partition].read_at(&mut bytes, at))
            .unwrap();
        let mut lines = Vec::new();
        let mut start = at;
        for line in bytes[..length].split_inclusive(|byte| *byte == b'\n') {
            let Some(text) = line.strip_suffix(b"\n") else {
                break;
            };
            let end = start + line.len() as u64;
            lines.push(Line {
                span: (start, end),
                text: String::from_utf8(text.to_vec()).unwrap(),
            });
            start = end;
            if lines.len() == self.batch {
                break;
            }
        }
        lines
    }
}

/// Gives `f` what comes, until all senders are gone; when it is this stage's turn to stop and they
/// are not, what is there.
fn pump<T>(from: &Receiver<T>, token: &StopToken, keep: Duration, mut f: impl FnMut(T)) {
    loop {
        select! {
            recv(from) -> item => match item {
                Ok(item) => f(item),
                Err(_) => return,
            },
            recv(token.receiver()) -> _ => {
                let _ = drain(from, token, keep, f);
                return;
            }
        }
    }
}

/// Waits for room; from this stage's turn on not beyond its time. False: it was not handed on, and
/// neither may be what comes behind it.
fn pass<T>(to: &Sender<T>, item: T, token: &StopToken, keep: Duration) -> bool {
    select! {
        send(to, item) -> sent => sent.is_ok(),
        recv(token.receiver()) -> _ => {
            let left = token.time_left().unwrap_or_default().saturating_sub(keep);
            to.send_timeout(item, left).is_ok()
        }
    }
}

/// A step without state.
struct Parse {
    lines: Arc<Resource<usize>>,
    to_count: Sender<Batch<(String, Line)>>,
    options: Arc<Options>,
}

impl Parse {
    fn run(&self, from: &Receiver<Batch<Line>>, token: &StopToken) {
        let keep = self.options.keep();
        let mut open = true;
        pump(from, token, keep, |batch| {
            self.lines.with(|lines| *lines += batch.items.len());
            let items = batch.items.into_iter().map(|line| {
                let word = line.text.split(' ').next().unwrap_or_default();
                (word.to_owned(), line)
            });
            let parsed = Batch {
                partition: batch.partition,
                items: items.collect(),
                arrival: batch.arrival,
            };
            open = open && pass(&self.to_count, parsed, token, keep);
        });
    }
}

/// The stateful step.
struct Count {
    state: Arc<Resource<State>>,
    to_sink: Sender<ToSink>,
    program: StopToken,
    stream: EndOfStream<usize>,
    stall: Arc<Stall>,
    options: Arc<Options>,
}

impl Count {
    fn run(&self, from: &Receiver<Batch<(String, Line)>>, token: &StopToken) {
        let keep = self.options.keep();
        let mut open = true;
        let mut batches = 0;
        pump(from, token, keep, |batch| {
            self.stall.here("count");
            let (partition, arrival) = (batch.partition, batch.arrival);
            let items = self.state.with(|state| {
                let rows = batch.items.into_iter();
                rows.map(|(word, line)| step(state, partition, word, line))
                    .collect()
            });
            let rows = Batch {
                partition,
                items,
                arrival,
            };
            open = open && pass(&self.to_sink, ToSink::Rows(rows), token, keep);
            batches += 1;
            if open && batches % self.options.save_every == 0 {
                let state = self.state.with(|state| state.clone());
                open = pass(&self.to_sink, ToSink::Save(state), token, keep);
            }
        });
        if !open {
            return;
        }
        let state = self.state.with(|state| state.clone());
        // An end of data is the last word about a partition only if the stream has ended by that.
        let over = self.program.reason() == Some(StopReason::EndOfStream);
        let totals: Vec<_> = (0..self.options.partitions)
            .filter(|partition| over && self.stream.end(partition) == Ok(Some(End::OfData)))
            .map(|partition| (partition, state.partitions.get(&partition)))
            .map(|(partition, at)| ToSink::Total(partition, at.map_or(0, |(_, hash)| *hash)))
            .collect();
        let mut last = std::iter::once(ToSink::Save(state)).chain(totals);
        last.all(|message| pass(&self.to_sink, message, token, keep));
    }
}

fn step(state: &mut State, partition: usize, word: String, line: Line) -> Row {
    let (next, hash) = state.partitions.entry(partition).or_insert((0, 0));
    for byte in line.text.bytes() {
        *hash = hash.wrapping_mul(1_000_003).wrapping_add(u64::from(byte));
    }
    *next = line.span.1;
    *state.words.entry(word).or_insert(0) += 1;
    Row {
        span: line.span,
        text: line.text,
        hash: *hash,
    }
}

struct Sink {
    output: Arc<Resource<Output>>,
    states: Arc<Resource<StateFile>>,
    stall: Arc<Stall>,
    options: Arc<Options>,
}

impl Sink {
    fn run(&self, from: &Receiver<ToSink>, token: &StopToken) {
        pump(
            from,
            token,
            self.options.keep() / 2,
            |message| match message {
                ToSink::Rows(batch) => {
                    let (partition, rows) = (batch.partition, &batch.items);
                    self.output.with(|output| {
                        output.commit(partition, rows, || self.stall.here("commit"));
                    });
                    drop(batch.arrival);
                }
                ToSink::Save(state) => {
                    self.stall.here("save");
                    self.states
                        .with(|file| file.save(&state, || self.stall.here("rename")));
                }
                ToSink::Total(partition, hash) => {
                    self.output.with(|output| output.total(partition, hash));
                }
            },
        );
    }
}
