//! What is known of each partition, for the last words.
//!
//! The reader's count and the sink's are kept apart: that they are equal is what the program promises.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// The counts are read when the threads that write them have been waited for, or in last words that may be late.
const ORDER: Ordering = Ordering::Relaxed;

pub(crate) struct Ledger {
    partitions: Vec<Partition>,
}

struct Partition {
    path: PathBuf,
    read: AtomicU64,
    not_utf8: AtomicU64,
    written: AtomicU64,
    failed: AtomicBool,
}

impl Ledger {
    pub(crate) fn new(paths: &[PathBuf]) -> Self {
        let partition = |path: &PathBuf| Partition {
            path: path.clone(),
            read: AtomicU64::new(0),
            not_utf8: AtomicU64::new(0),
            written: AtomicU64::new(0),
            failed: AtomicBool::new(false),
        };
        Self {
            partitions: paths.iter().map(partition).collect(),
        }
    }

    /// So many more lines were read and handed on.
    pub(crate) fn add_read(&self, partition: usize, lines: u64) {
        self.partitions[partition].read.fetch_add(lines, ORDER);
    }

    pub(crate) fn add_not_utf8(&self, partition: usize, lines: u64) {
        self.partitions[partition].not_utf8.fetch_add(lines, ORDER);
    }

    /// So many are in the file that was written.
    pub(crate) fn written(&self, lines: &[u64]) {
        for (partition, lines) in self.partitions.iter().zip(lines) {
            partition.written.store(*lines, ORDER);
        }
    }

    pub(crate) fn fail(&self, partition: usize) {
        self.partitions[partition].failed.store(true, ORDER);
    }

    /// How many could not be read to the end.
    pub(crate) fn failed(&self) -> usize {
        let failed = |partition: &&Partition| partition.failed.load(ORDER);
        self.partitions.iter().filter(failed).count()
    }

    /// How many lines were read and not written.
    pub(crate) fn lost(&self) -> u64 {
        let lost = |partition: &Partition| {
            partition
                .read
                .load(ORDER)
                .abs_diff(partition.written.load(ORDER))
        };
        self.partitions.iter().map(lost).sum()
    }

    /// A line for each partition that there is something to say about.
    pub(crate) fn remarks(&self) -> Vec<String> {
        let remark = |partition: &Partition| match partition.not_utf8.load(ORDER) {
            0 => None,
            lines => Some(format!("{:?}: {lines} lines are not UTF-8", partition.path)),
        };
        self.partitions.iter().filter_map(remark).collect()
    }

    pub(crate) fn summary(&self) -> String {
        let lines =
            |partition: &Partition| format!("{:?} {}", partition.path, partition.read.load(ORDER));
        let lines: Vec<String> = self.partitions.iter().map(lines).collect();
        format!("lines read: {}", lines.join(", "))
    }
}
