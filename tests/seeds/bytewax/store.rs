//! What outlives the program: the output, and the state with which it goes on.
//!
//! The two are not written in one step. What makes it exactly once all the same: the output carries
//! its own offset in the same transaction, the state is saved only after the output that it has
//! seen, and what is computed again for the state is not written again.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{Connection, params};

/// What the stateful step knows, and how far it has read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct State {
    /// By partition: where the next line begins, and the hash of all lines before it.
    pub(crate) partitions: BTreeMap<usize, (u64, u64)>,
    /// How often each first word came, in all partitions.
    pub(crate) words: BTreeMap<String, u64>,
}

impl State {
    pub(crate) fn next(&self, partition: usize) -> u64 {
        self.partitions.get(&partition).map_or(0, |(next, _)| *next)
    }

    /// The last line says that it is whole.
    fn to_text(&self) -> String {
        let partitions = self.partitions.iter();
        let partitions = partitions
            .map(|(partition, (next, hash))| format!("partition {partition} {next} {hash}\n"));
        let words = self.words.iter();
        let words = words.map(|(word, count)| format!("word {word} {count}\n"));
        partitions.chain(words).collect::<String>() + "whole\n"
    }

    fn of_text(text: &str) -> Self {
        let text = text.strip_suffix("whole\n").expect("half a state");
        let mut state = Self::default();
        for line in text.lines() {
            let fields: Vec<&str> = line.split(' ').collect();
            match fields[..] {
                ["partition", partition, next, hash] => {
                    let at = (next.parse().unwrap(), hash.parse().unwrap());
                    state.partitions.insert(partition.parse().unwrap(), at);
                }
                ["word", word, count] => {
                    state.words.insert(word.to_owned(), count.parse().unwrap());
                }
                _ => panic!("{line:?} in a state"),
            }
        }
        state
    }
}

/// A file that is the old state or the new one, whatever happens.
pub(crate) struct StateFile {
    path: PathBuf,
}

impl StateFile {
    pub(crate) fn of(directory: &Path) -> Self {
        let path = directory.join("state");
        Self { path }
    }

    pub(crate) fn load(&self) -> State {
        match fs::read_to_string(&self.path) {
            Ok(text) => State::of_text(&text),
            Err(_) => State::default(),
        }
    }

    pub(crate) fn save(&self, state: &State, before_rename: impl FnOnce()) {
        let new = self.path.with_extension("new");
        let mut file = File::create(&new).unwrap();
        file.write_all(state.to_text().as_bytes()).unwrap();
        file.sync_all().unwrap();
        before_rename();
        fs::rename(&new, &self.path).unwrap();
        let directory = File::open(self.path.parent().unwrap()).unwrap();
        directory.sync_all().unwrap();
    }
}

/// One line of output.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Row {
    /// Where its line begins and ends in its partition.
    pub(crate) span: (u64, u64),
    pub(crate) text: String,
    /// Of this line and all before it in its partition.
    pub(crate) hash: u64,
}

/// The sink: output and offset in one transaction.
pub(crate) struct Output {
    tables: Connection,
}

impl Output {
    pub(crate) fn open(directory: &Path) -> Self {
        let tables = Connection::open(directory.join("output.db")).unwrap();
        tables.busy_timeout(Duration::from_secs(30)).unwrap();
        tables
            .execute_batch(
                "PRAGMA journal_mode = WAL;
                 PRAGMA synchronous = NORMAL;
                 CREATE TABLE IF NOT EXISTS output (
                     place INTEGER PRIMARY KEY AUTOINCREMENT,
                     partition INTEGER, start INTEGER, end INTEGER, text TEXT, hash TEXT);
                 CREATE TABLE IF NOT EXISTS offsets (partition INTEGER PRIMARY KEY, next INTEGER);
                 CREATE TABLE IF NOT EXISTS totals (partition INTEGER PRIMARY KEY, hash TEXT);",
            )
            .unwrap();
        Self { tables }
    }

    /// Where the next line of a partition begins that is not in the output.
    pub(crate) fn next(&self, partition: usize) -> u64 {
        self.tables
            .query_row(
                "SELECT ifnull(max(next), 0) FROM offsets WHERE partition = ?",
                params![partition as i64],
                |row| row.get::<_, i64>(0),
            )
            .unwrap() as u64
    }

    /// Writes those that are not there yet.
    pub(crate) fn commit(&mut self, partition: usize, rows: &[Row], before_offset: impl FnOnce()) {
        let next = self.next(partition);
        let transaction = self.tables.transaction().unwrap();
        for row in rows.iter().filter(|row| row.span.0 >= next) {
            let (start, end) = (row.span.0 as i64, row.span.1 as i64);
            transaction
                .execute(
                    "INSERT INTO output (partition, start, end, text, hash) VALUES (?, ?, ?, ?, ?)",
                    params![partition as i64, start, end, row.text, row.hash.to_string()],
                )
                .unwrap();
        }
        before_offset();
        if let Some(last) = rows.last().filter(|last| last.span.1 > next) {
            transaction
                .execute(
                    "INSERT OR REPLACE INTO offsets VALUES (?, ?)",
                    params![partition as i64, last.span.1 as i64],
                )
                .unwrap();
        }
        transaction.commit().unwrap();
    }

    /// The last word about a partition that has come to its end.
    pub(crate) fn total(&self, partition: usize, hash: u64) {
        self.tables
            .execute(
                "INSERT OR REPLACE INTO totals VALUES (?, ?)",
                params![partition as i64, hash.to_string()],
            )
            .unwrap();
    }

    /// In the order in which they were written.
    pub(crate) fn rows(&self, partition: usize) -> Vec<Row> {
        let mut select = self
            .tables
            .prepare("SELECT start, end, text, hash FROM output WHERE partition = ? ORDER BY place")
            .unwrap();
        let rows = select.query_map(params![partition as i64], |row| {
            let hash: String = row.get(3)?;
            Ok(Row {
                span: (row.get::<_, i64>(0)? as u64, row.get::<_, i64>(1)? as u64),
                text: row.get(2)?,
                hash: hash.parse().unwrap(),
            })
        });
        rows.unwrap().map(Result::unwrap).collect()
    }

    pub(crate) fn totals(&self) -> BTreeMap<usize, u64> {
        let mut select = self
            .tables
            .prepare("SELECT partition, hash FROM totals")
            .unwrap();
        let rows = select.query_map([], |row| {
            let hash: String = row.get(1)?;
            Ok((row.get::<_, i64>(0)? as usize, hash.parse().unwrap()))
        });
        rows.unwrap().map(Result::unwrap).collect()
    }
}
