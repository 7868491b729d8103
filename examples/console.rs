//! Copies a directory tree, in several threads; at the stop each finishes the file in its hands, and
//! the console says what is still going on.
//!
//! `cargo run --release --features console --example console -- FROM TO --limit 2000`
//!
//! Press Ctrl-C in the middle, and look; press it again to see what that does.
#![expect(clippy::print_stderr, reason = "an example speaks")]

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::thread;
use std::time::Duration;

use clap::Parser;
use crossbeam_channel::{Receiver, bounded};
use walkdir::WalkDir;
use winddown::{Console, ShutdownCoordinator, StopToken, UntilStopped, say, say_progress};

/// Copies a directory tree.
#[derive(Parser)]
struct Arguments {
    from: PathBuf,
    to: PathBuf,
    /// Threads that copy.
    #[arg(long, default_value_t = 3)]
    threads: usize,
    /// KiB a second for each of them: a disk that others want to use, too.
    #[arg(long)]
    limit: Option<u64>,
    /// Seconds that a shutdown may take.
    #[arg(long, default_value_t = 25)]
    grace: u64,
}

const CHUNK: usize = 64 * 1024;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    ShutdownCoordinator::builder()
        .grace_period(Duration::from_secs(arguments.grace))
        .console(Console::stderr())
        .run(|shutdown| -> Result<(), Box<dyn std::error::Error>> {
            fs::create_dir_all(&arguments.to)?;
            let to = arguments.to.clone();
            shutdown.hook("remove halves", move || remove_halves(&to));

            let (files, next) = bounded::<PathBuf>(64);
            let mut workers = Vec::new();
            for number in 1..=arguments.threads.max(1) {
                let (next, from, to) = (next.clone(), arguments.from.clone(), arguments.to.clone());
                let limit = arguments.limit;
                let copy = move |token| copy_all(&next, &from, &to, limit, &token);
                workers.push(shutdown.spawn(format!("copy {number}"), copy)?);
            }
            drop(next);
            let token = shutdown.token();
            for entry in WalkDir::new(&arguments.from) {
                token.check()?;
                let entry = entry?;
                if entry.file_type().is_file() && files.send(entry.into_path()).is_err() {
                    break; // all of them have ended, and the stop says why
                }
            }
            drop(files);
            for worker in workers {
                worker.join()??;
            }
            Ok(())
        })
}

/// File by file; at the stop the one in hand is finished, and no other begun.
fn copy_all(
    files: &Receiver<PathBuf>,
    from: &Path,
    to: &Path,
    limit: Option<u64>,
    token: &StopToken,
) -> io::Result<()> {
    for file in files.iter().until_stopped(token) {
        let name = file.strip_prefix(from).unwrap_or(&file);
        copy(&file, &to.join(name), &name.display().to_string(), limit).map_err(|error| {
            io::Error::new(error.kind(), format!("{}: {error}", file.display()))
        })?;
    }
    Ok(())
}

/// Under another name first, so that what is there is whole.
fn copy(from: &Path, to: &Path, name: &str, limit: Option<u64>) -> io::Result<()> {
    if let Some(parent) = to.parent() {
        fs::create_dir_all(parent)?;
    }
    let half = half(to);
    let (mut source, mut copy) = (File::open(from)?, File::create(&half)?);
    let whole = source.metadata()?.len();
    let mut done = 0;
    let mut chunk = vec![0; CHUNK];
    loop {
        say_progress(format!("{name}, MB"), done / 1_000_000, whole / 1_000_000);
        let length = source.read(&mut chunk)?;
        if length == 0 {
            break;
        }
        copy.write_all(&chunk[..length])?;
        done += length as u64;
        if let Some(limit) = limit {
            thread::sleep(Duration::from_millis(
                length as u64 * 1000 / 1024 / limit.max(1),
            ));
        }
    }
    say(format!("{name}, to the disk"));
    copy.sync_all()?;
    fs::rename(half, to)
}

fn half(file: &Path) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(".half");
    PathBuf::from(name)
}

/// What was not finished in time.
fn remove_halves(to: &Path) -> io::Result<()> {
    for entry in WalkDir::new(to).into_iter().flatten() {
        if entry.path().extension().is_some_and(|end| end == "half") {
            eprintln!("removing {}", entry.path().display());
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}
