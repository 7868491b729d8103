//! Where the examples' executables are.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::SystemTime;
use std::{env, fs};

const EXAMPLES: [&str; 3] = ["minimal", "terminal", "server"];

pub(crate) fn source(example: &str) -> String {
    fs::read_to_string(in_crate("examples").join(example).with_extension("rs")).unwrap()
}

/// The example's executable, next to this test's own.
///
/// `cargo test` builds the examples, `cargo test --test examples` does not: then they are missing,
/// or older than what they were made from.
pub(crate) fn binary(example: &str) -> PathBuf {
    static BUILT: OnceLock<()> = OnceLock::new();
    let test = env::current_exe().unwrap();
    let profile = test.parent().and_then(Path::parent).unwrap();
    let path = |example: &str| profile.join("examples").join(example);
    BUILT.get_or_init(|| {
        let sources = newest(&in_crate("src")).max(newest(&in_crate("examples")));
        if EXAMPLES
            .iter()
            .any(|example| newest(&path(example)) < sources)
        {
            build_examples(profile);
        }
    });
    path(example)
}

fn build_examples(profile: &Path) {
    let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo
        .arg("build")
        .args(EXAMPLES.map(|example| format!("--example={example}")));
    cargo.arg("--manifest-path").arg(in_crate("Cargo.toml"));
    cargo.arg("--target-dir").arg(profile.parent().unwrap());
    if profile.ends_with("release") {
        cargo.arg("--release");
    }
    assert!(cargo.status().unwrap().success(), "{cargo:?}");
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
