//! The examples' sources and executables.
#![allow(dead_code, reason = "each test binary uses its own part")]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::time::SystemTime;
use std::{env, fs};

use crate::process;

pub(crate) fn source(example: &str) -> String {
    fs::read_to_string(source_path(example)).unwrap()
}

/// Runs the example as from a shell: see [`process::command`].
pub(crate) fn command(example: &str, arguments: &[&str]) -> Command {
    let mut command = process::command(binary(example));
    command.args(arguments);
    command
}

/// The example's executable, next to this test's own.
///
/// `cargo test` builds the examples, `cargo test --test NAME` does not: then it is missing, or older than what it was
/// made from, and is built here.
pub(crate) fn binary(example: &str) -> PathBuf {
    static UP_TO_DATE: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());
    let test = env::current_exe().unwrap();
    let profile = test.parent().and_then(Path::parent).unwrap();
    let binary = profile.join("examples").join(example);
    // Held while building: whoever else needs it waits.
    let mut up_to_date = UP_TO_DATE.lock().unwrap();
    if !up_to_date.contains(example) {
        let changed = newest(&in_crate("src")).max(newest(&source_path(example)));
        if newest(&binary) < changed {
            build(example, profile);
        }
        up_to_date.insert(example.to_owned());
    }
    binary
}

fn build(example: &str, profile: &Path) {
    let mut cargo = Command::new(env!("CARGO"));
    // Whatever this test was built with, so that a binary that is up to date can do everything.
    cargo.args([
        "build",
        "--all-features",
        "--example",
        example,
        "--manifest-path",
    ]);
    cargo.arg(in_crate("Cargo.toml"));
    cargo.arg("--target-dir").arg(profile.parent().unwrap());
    if example == "console" {
        cargo.args(["--features", "console"]);
    }
    if profile.ends_with("release") {
        cargo.arg("--release");
    }
    assert!(cargo.status().unwrap().success(), "{cargo:?}");
}

/// A file, or a directory with a `main.rs`.
fn source_path(example: &str) -> PathBuf {
    let directory = in_crate("examples").join(example);
    if directory.is_dir() {
        directory
    } else {
        directory.with_extension("rs")
    }
}

fn in_crate(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// When the file, or the latest one in the directory, was written; `None` if there is none.
fn newest(path: &Path) -> Option<SystemTime> {
    if !path.is_dir() {
        return path.metadata().and_then(|file| file.modified()).ok();
    }
    let entries = fs::read_dir(path).unwrap();
    entries
        .filter_map(|entry| newest(&entry.unwrap().path()))
        .max()
}
