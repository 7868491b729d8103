//! What has to come out, from the input alone.

use std::collections::BTreeMap;

use crate::program::{EXIT, REOPEN};
use crate::store::{Row, State};

/// One partition, as it stands in its file.
#[derive(Clone, Debug, Default)]
pub(crate) struct Input {
    pub(crate) lines: Vec<String>,
}

impl Input {
    /// The lines of the stream, each with the hash of all up to it.
    pub(crate) fn rows(&self) -> Vec<Row> {
        let (mut rows, mut start, mut open) = (Vec::new(), 0, true);
        let mut hash: u64 = 0;
        for line in &self.lines {
            let end = start + line.len() as u64 + 1;
            match line.as_str() {
                EXIT => open = false,
                REOPEN => open = true,
                _ if open => {
                    hash = line.bytes().fold(hash, |hash, byte| {
                        hash.wrapping_mul(1_000_003).wrapping_add(byte.into())
                    });
                    rows.push(Row {
                        span: (start, end),
                        text: line.clone(),
                        hash,
                    });
                }
                _ => {}
            }
            start = end;
        }
        rows
    }
}

/// The state of a run that read so far of each partition, and was never interrupted.
pub(crate) fn state_at(inputs: &[Input], next: impl Fn(usize) -> u64) -> State {
    let mut words = BTreeMap::new();
    let mut partitions = BTreeMap::new();
    for (partition, input) in inputs.iter().enumerate() {
        let rows = input.rows();
        let seen = rows.iter().filter(|row| row.span.1 <= next(partition));
        for row in seen {
            partitions.insert(partition, (row.span.1, row.hash));
            let word = row.text.split_whitespace().next().unwrap();
            *words.entry(word.to_owned()).or_insert(0) += 1;
        }
    }
    State { partitions, words }
}
