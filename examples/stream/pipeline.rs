//! What comes after the readers: parse, aggregate, write.
//!
//! Each ends when the one before it has gone and everything that it sent is done. So the end in band needs no stop at all:
//! it runs through the channels, and the program stops when COUNTS is written. Nothing hurries it then; the grace period
//! is for those who interrupt it.
//!
//! There is one thread a stage: so the batches of a partition stay in their order, and what is counted of a file is always
//! its beginning, with no gap.

use std::collections::HashMap;
use std::io::Write;
use std::ops::Range;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, select};
use winddown::{Arrival, StopToken, drain};

use crate::console::Console;
use crate::ledger::Ledger;
use crate::output::{Output, OutputError};

/// Whole lines of one partition.
pub(crate) struct Batch {
    pub(crate) partition: usize,
    pub(crate) lines: u64,
    pub(crate) bytes: Vec<u8>,
    /// The stream is not over before these lines are in COUNTS.
    pub(crate) arrival: Arrival<usize>,
}

/// A batch, and where its words are.
pub(crate) struct Words {
    batch: Batch,
    words: Vec<Range<usize>>,
}

/// Everything.
pub(crate) struct Counted {
    words: HashMap<Box<[u8]>, u64>,
    /// Of each partition.
    lines: Vec<u64>,
    /// The last one of each partition that anything came from.
    arrivals: Vec<Option<Arrival<usize>>>,
}

/// When a reader hangs, this much of the grace period is left to those who come after it.
const KEEP: Duration = Duration::from_secs(6);

/// Finds the words.
pub(crate) fn parse(
    input: &Receiver<Batch>,
    output: &Sender<Words>,
    token: &StopToken,
    ledger: &Ledger,
) {
    let each = |batch: Batch| {
        ledger.add_not_utf8(batch.partition, not_utf8(&batch.bytes));
        let words = words(&batch.bytes);
        // It goes before this only when it panics, and then the program ends with that.
        let _ = output.send(Words { batch, words });
    };
    loop {
        select! {
            recv(input) -> batch => match batch {
                Ok(batch) => each(batch),
                Err(_) => return,
            },
            // The readers have gone, or one of them hangs (a network's disk): what they have sent is done, and they are
            // not waited for.
            recv(token.receiver()) -> _ => {
                let _ = drain(input, token, KEEP, each);
                return;
            }
        }
    }
}

/// How many of the lines are not UTF-8.
fn not_utf8(lines: &[u8]) -> u64 {
    // Mostly all of it is. A line break is never part of a character.
    if std::str::from_utf8(lines).is_ok() {
        return 0;
    }
    let lines = lines.split(|byte| *byte == b'\n');
    lines
        .map(|line| u64::from(std::str::from_utf8(line).is_err()))
        .sum()
}

/// What stands between ASCII blanks.
fn words(bytes: &[u8]) -> Vec<Range<usize>> {
    // Six letters and a blank, in a guess that need not be right.
    let mut words = Vec::with_capacity(bytes.len() / 7);
    let mut start = None;
    for (at, byte) in bytes.iter().enumerate() {
        match (byte.is_ascii_whitespace(), start) {
            (false, None) => start = Some(at),
            (true, Some(from)) => {
                words.push(from..at);
                start = None;
            }
            _ => {}
        }
    }
    words.extend(start.map(|from| from..bytes.len()));
    words
}

/// Counts the words, and hands on what it has when nothing more comes.
pub(crate) fn aggregate(input: &Receiver<Words>, output: &Sender<Counted>, partitions: usize) {
    let mut counted = Counted {
        words: HashMap::new(),
        lines: vec![0; partitions],
        arrivals: (0..partitions).map(|_| None).collect(),
    };
    for Words { batch, words } in input {
        for word in words {
            let word = &batch.bytes[word];
            match counted.words.get_mut(word) {
                Some(count) => *count += 1,
                None => {
                    counted.words.insert(word.into(), 1);
                }
            }
        }
        counted.lines[batch.partition] += batch.lines;
        // The last one of each partition keeps the stream open.
        counted.arrivals[batch.partition] = Some(batch.arrival);
    }
    // As for `parse`.
    let _ = output.send(counted);
}

/// Writes the counts, and lets the stream be over with that.
pub(crate) fn write(
    input: &Receiver<Counted>,
    output: &Output,
    ledger: &Ledger,
    console: &Console,
) -> Result<(), OutputError> {
    let Ok(counted) = input.recv() else {
        return Err(OutputError::NoCounts(output.path().to_owned()));
    };
    let lines = counted.words.into_iter().map(|(word, count)| {
        let mut line = Vec::from(word);
        // A `Vec` takes everything.
        let _ = writeln!(line, " {count}");
        line
    });
    let mut lines: Vec<Vec<u8>> = lines.collect();
    // The whole lines, since a word may go on with what comes before a blank.
    lines.sort_unstable();
    output.replace(&lines)?;
    ledger.written(&counted.lines);
    console.say(format!(
        "different words in {1:?}: {0}",
        lines.len(),
        output.path()
    ));
    drop(counted.arrivals);
    Ok(())
}
