//! winddown beside what people use today: one table, each row with its peers measured in the same run.
//!
//! ```sh
//! cargo bench                      # the whole table, some two minutes
//! cargo bench -- hold hook         # the rows with one of these words in them
//! cargo bench -- --short           # every row, badly measured: shows that they all still work
//! cargo bench -- --long            # idle for 60 s, and what the crates cost to build
//! ```
//!
//! Only ratios mean something. The sides of a row take turns, many short rounds of each, and what is shown is the
//! median (of long rounds, the best); so what else the machine does hits all of them. No row fails because of a time: a "must" that was not
//! reached is marked, and that is all.
//!
//! Where a signal is involved, each side is a process of its own, as it has to own the handlers: this executable,
//! started again with the part that it is to play.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    missing_docs,
    reason = "a benchmark speaks, and ends where something is wrong"
)]

mod allocator;
mod builds;
mod hooks;
mod idle;
mod memory;
mod parts;
mod rounds;
mod signals;
mod table;
mod token;
mod work;

use rounds::Effort;
use table::Table;

/// What is measured, in the order of the table: words to choose it by, and the rows.
type Chapter = (&'static str, fn(&mut Table, Effort));

const CHAPTERS: [Chapter; 7] = [
    ("token is_stopped child chain", token::rows),
    ("signal", signals::rows),
    ("hold item work", work::rows),
    ("hook shutdown", hooks::rows),
    ("memory", memory::rows),
    ("idle wake-ups threads", idle::rows),
    ("builds crates compile", builds::rows),
];

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    if let [part, args @ ..] = &args[..]
        && part == parts::FLAG
    {
        return parts::play(args);
    }
    let has = |flag: &str| args.iter().any(|arg| arg == flag);
    let effort = match (has("--short"), has("--long")) {
        (true, _) => Effort::Short,
        (_, true) => Effort::Long,
        _ => Effort::Usual,
    };
    let words: Vec<&str> = args
        .iter()
        .map(String::as_str)
        .filter(|arg| !arg.starts_with("--"))
        .collect();
    let mut table = Table::begin();
    for (about, rows) in CHAPTERS {
        if words.is_empty() || words.iter().any(|word| about.contains(word)) {
            rows(&mut table, effort);
        }
    }
    table.end();
}
