//! `stream FILE… --out COUNTS`: counts the words of many files at a time, and ends exactly: every line that was read is in
//! COUNTS, and once.
//!
//! ```text
//! cargo run --release --example stream -- src/*.rs --out /tmp/counts
//! cargo run --release --example stream -- /var/log/syslog --follow --out /tmp/counts    # Ctrl-C when it is enough
//! ```
//!
//! | what | how |
//! |---|---|
//! | the source stops first, and the sink last, when all has come through | a `stage` each, built from the end |
//! | what stands before an `exit` in the same batch is not lost with it | `split_at_end` |
//! | the end comes when every file has ended, or one that ends all | `end_of_stream`, `EndPolicy` |
//! | and not before COUNTS is written | an `arrive` for each batch, kept until then |
//! | a source that hangs does not hold up the rest for ever | the stage's token, `drain` |
//! | the last line on stderr is the last | `on_report` |

#![expect(
    clippy::unnecessary_debug_formatting,
    reason = "a file's name may hold line breaks, or what moves the cursor"
)]

mod console;
mod ledger;
mod output;
mod pipeline;
mod reader;

use std::error::Error as StdError;
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::{Parser, ValueEnum, value_parser};
use crossbeam_channel::bounded;
use thiserror::Error;
use winddown::{EndOfStream, EndPolicy, ShutdownCoordinator, Signal, SpawnError, StopReason};

use crate::console::Console;
use crate::ledger::Ledger;
use crate::output::{Output, OutputError};
use crate::reader::{Reader, Source, SourceError};

/// Count the words of files, all of them at a time, until they have ended
///
/// Each FILE is a partition of one stream; a pipe will do as well. COUNTS gets a line `word count`
/// for each word, in byte order, and is only ever replaced as a whole. A word is what stands between
/// ASCII blanks, as it is: lines that are not UTF-8 count like the others, and stderr says how many
/// there were.
///
/// A line that is just `exit` ends its FILE: the lines before it count, it and those after it do
/// not. A last line without a line break counts, but not under --follow, nor after an interruption:
/// there it may be half a line.
///
/// Ctrl-C, SIGTERM or a closed terminal: nothing more is read, and COUNTS gets every line that was.
/// A second Ctrl-C ends at once, and leaves COUNTS as it was. The last line on stderr says how many
/// lines of each FILE were read, from its beginning: exactly those are in COUNTS.
///
/// The same FILE given twice, also under two names, is refused, and so is a COUNTS that is one of
/// them.
#[derive(Debug, Parser)]
#[command(after_help = EXIT_STATUS)]
struct Args {
    /// The files to read, each on a thread of its own
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,

    /// Where the counts go; an older file is replaced
    #[arg(long, value_name = "COUNTS")]
    out: PathBuf,

    /// Whose end is the end of the stream
    #[arg(long, value_enum, default_value_t = Policy::All)]
    policy: Policy,

    /// Wait for more at the end of a file: then only `exit` ends it
    ///
    /// A file that is renamed is followed, not what takes its name. One that has become shorter is
    /// read again from its beginning, and its lines go on counting; what was written to it and cut
    /// off between two looks, a tenth of a second apart, is never seen.
    #[arg(long)]
    follow: bool,

    /// How long an interrupted run may take to count what was read and to write it
    #[arg(long, value_name = "SECONDS", default_value_t = 25, value_parser = value_parser!(u64).range(1..=86400))]
    grace_period: u64,

    /// How much is read at a time; a line may be longer
    #[arg(long, value_name = "BYTES", default_value_t = 256 * 1024, value_parser = value_parser!(u32).range(1..=1 << 30))]
    batch: u32,

    /// How many batches wait between two stages
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = value_parser!(u16).range(1..))]
    channel: u16,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Policy {
    /// Every file has ended: with `exit`, or it has no more
    All,
    /// One file has said `exit`, or every one has ended
    Any,
}

const EXIT_STATUS: &str = "\
Exit status:
  0    the stream has ended, or SIGTERM or SIGHUP has ended it: COUNTS is written
       (but for a signal before the files were looked at; stderr says so)
  1    a file could not be opened, and nothing was read; or one could not be read
       to its end, and what was read is in COUNTS; or COUNTS could not be written
  2    wrong arguments
  130  interrupted: died by SIGINT, as shells expect it. COUNTS is written
  124  something hung, and did not end within the grace period

A second signal ends it at once: COUNTS is as it was.";

/// Why the run has failed.
#[derive(Debug, Error)]
enum Error {
    #[error(transparent)]
    Source(#[from] SourceError),
    #[error(transparent)]
    Output(#[from] OutputError),
    #[error("{0} of the files could not be read to the end")]
    Unreadable(usize),
    #[error("{0} lines were read and are not in {1:?}")]
    Lost(u64, PathBuf),
}

/// What [`count`] may end with: also a [`Stopped`](winddown::Stopped), which `run` takes for an
/// interruption and not for a failure.
type Result<T, E = Box<dyn StdError + Send + Sync>> = std::result::Result<T, E>;

fn main() -> ExitCode {
    let args = Args::parse();
    ShutdownCoordinator::builder()
        .signals([Signal::INT, Signal::TERM, Signal::HUP])
        .grace_period(Duration::from_secs(args.grace_period))
        .run(|shutdown| count(shutdown, &args))
}

fn count(shutdown: &ShutdownCoordinator, args: &Args) -> Result<()> {
    // From the end: what is built last is stopped first.
    let [sink, aggregate, parse, readers] =
        ["sink", "aggregate", "parse", "readers"].map(|name| shutdown.stage(name));
    // While it is held, the turn of those below does not come: whatever stops the program from here on, there will be a
    // sink, and COUNTS.
    let Ok(setting_up) = readers.hold("setting up") else {
        let _ = writeln!(io::stderr(), "interrupted; nothing was read or written");
        return Ok(());
    };

    let sources = Source::open_all(&args.files).map_err(Error::from)?;
    let output = Output::new(&args.out, &sources).map_err(Error::from)?;
    let console = Console::start()?;
    let ledger = Arc::new(Ledger::new(&args.files));
    let stream = shutdown
        .end_of_stream(0..sources.len())
        .policy(args.policy.into());
    tell(shutdown, &console, &ledger, &stream);

    let size = usize::from(args.channel);
    let (counted, to_write) = bounded(1);
    let written = sink.spawn("write", {
        let (ledger, console) = (Arc::clone(&ledger), console.clone());
        move |_token| pipeline::write(&to_write, &output, &ledger, &console)
    })?;
    let (words, to_count) = bounded(size);
    let partitions = sources.len();
    aggregate.spawn("count", move |_token| {
        pipeline::aggregate(&to_count, &counted, partitions);
    })?;
    let (batches, to_parse) = bounded(size);
    parse.spawn("parse", {
        let ledger = Arc::clone(&ledger);
        move |token| pipeline::parse(&to_parse, &words, &token, &ledger)
    })?;
    for (partition, source) in sources.into_iter().enumerate() {
        let reader = Reader {
            source,
            assignment: stream.assignment(&partition)?,
            partition,
            batches: batches.clone(),
            ledger: Arc::clone(&ledger),
            console: console.clone(),
            ends_all: args.policy == Policy::Any,
            follow: args.follow,
            batch: args.batch as usize,
        };
        match readers.spawn(format!("{:?}", args.files[partition]), move |token| {
            reader.run(&token);
        }) {
            // Stopped already: the others are not to be read either.
            Err(SpawnError::IntakeClosed { .. }) => break,
            spawned => drop(spawned?),
        }
    }
    // The last one, but for the readers': when they go, everything after them comes to its end.
    drop(batches);
    drop(setting_up);

    written.join()?.map_err(Error::from)?;
    match (ledger.lost(), ledger.failed()) {
        (0, 0) => Ok(()),
        (0, failed) => Err(Error::Unreadable(failed).into()),
        (lost, _) => Err(Error::Lost(lost, args.out.clone()).into()),
    }
}

/// Says why it stops, and at the very end what was read.
fn tell(
    shutdown: &ShutdownCoordinator,
    console: &Console,
    ledger: &Arc<Ledger>,
    stream: &EndOfStream<usize>,
) {
    let announcement = shutdown.token().on_stop({
        let console = console.clone();
        move |reason| {
            if matches!(reason, StopReason::Signal(_)) {
                console.say(format!(
                    "{reason}: writing what was read; a second Ctrl-C ends at once"
                ));
            }
        }
    });
    // Also when `count` is the quicker one to see the stop, and is gone by then.
    announcement.detach();
    shutdown.on_report({
        let (console, ledger, stream) = (console.clone(), Arc::clone(ledger), stream.clone());
        move |_report| {
            for line in ledger.remarks() {
                console.say(line);
            }
            let interrupted = if stream.is_over() {
                ""
            } else {
                "interrupted; "
            };
            console.last(format!("{interrupted}{}", ledger.summary()));
        }
    });
}

impl From<Policy> for EndPolicy {
    fn from(policy: Policy) -> Self {
        match policy {
            Policy::All => Self::All,
            Policy::Any => Self::Any,
        }
    }
}
