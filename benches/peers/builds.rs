//! What a dependency costs before the program runs: crates, and the time to compile them.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use crate::rounds::{Effort, median};
use crate::table::Figure::{Count, Time};
use crate::table::Must::Nothing;
use crate::table::Table;

const ROUNDS: usize = 3;

/// With `--long` alone: it needs the registry, and minutes.
pub(crate) fn rows(table: &mut Table, effort: Effort) {
    if effort != Effort::Long {
        return;
    }
    let path = format!("{{ path = {:?} }}", env!("CARGO_MANIFEST_DIR"));
    let agnostic = r#"{ version = "2.1", default-features = false, features = ["agnostic"] }"#;
    let programs = [
        ("winddown", &*path),
        ("signal-mod", agnostic),
        ("signal-mod", r#""2.1""#),
        ("tokio-graceful-shutdown", r#""0.20""#),
    ]
    .map(|(name, dependency)| Program::new(name, dependency));
    let mut took = [const { Vec::new() }; 4];
    for _ in 0..ROUNDS {
        for (program, took) in programs.iter().zip(&mut took) {
            took.push(program.build());
        }
    }
    let took = took.map(|took| Time(median(&took)));
    let crates = programs.each_ref().map(Program::crates);
    for (what, figures) in [
        ("crates, with their own", crates),
        ("to compile them (debug)", took),
    ] {
        let [ours, agnostic, theirs, graceful] = figures;
        let peers = [
            ("signal-mod, without a runtime", agnostic, Nothing),
            ("signal-mod, with tokio", theirs, Nothing),
            ("tokio-graceful-shutdown", graceful, Nothing),
        ];
        table.row(what, ours, &peers);
    }
}

/// An empty one that depends on a crate.
struct Program {
    place: tempfile::TempDir,
}

impl Program {
    fn new(name: &str, dependency: &str) -> Self {
        let place = tempfile::tempdir().unwrap();
        let manifest = format!(
            "[package]\nname = \"empty\"\nedition = \"2024\"\n[dependencies]\n{name} = {dependency}\n[workspace]\n"
        );
        fs::write(place.path().join("Cargo.toml"), manifest).unwrap();
        fs::create_dir(place.path().join("src")).unwrap();
        fs::write(place.path().join("src/main.rs"), "fn main() {}\n").unwrap();
        let program = Self { place };
        program.cargo(&["fetch"]);
        program
    }

    fn cargo(&self, args: &[&str]) -> String {
        let mut command = Command::new(env!("CARGO"));
        let target: &Path = &self.place.path().join("target");
        command
            .args(args)
            .current_dir(&self.place)
            .env("CARGO_TARGET_DIR", target);
        let output = command.stderr(Stdio::null()).output().unwrap();
        assert!(output.status.success(), "cargo {args:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// Nanoseconds of a build from nothing.
    fn build(&self) -> f64 {
        let _ = fs::remove_dir_all(self.place.path().join("target"));
        let start = Instant::now();
        self.cargo(&["build", "--offline", "--quiet"]);
        start.elapsed().as_secs_f64() * 1e9
    }

    /// How many are compiled, itself not counted.
    fn crates(&self) -> crate::table::Figure {
        let tree = self.cargo(&[
            "tree",
            "--offline",
            "--prefix",
            "none",
            "--edges",
            "normal,build",
        ]);
        let crates: BTreeSet<&str> = tree
            .lines()
            .map(|line| line.trim_end_matches(" (*)"))
            .collect();
        let count = u32::try_from(crates.len() - 1).unwrap();
        Count(f64::from(count))
    }
}
