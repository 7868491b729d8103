//! The checksum example, as its users meet it: a process on a real tree, interrupted, killed, resumed.
//!
//! Every wait ends, by what is waited for or by a failure; every child is gone when its test is.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "tests"
)]

use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, OnceLock};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use nix::pty::{Winsize, openpty};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use sha2::{Digest, Sha256};
use tempfile::TempDir;
use walkdir::WalkDir;

/// Reaching it fails the test.
const FAR: Duration = Duration::from_secs(40);

/// No disk holds it and no processor gets through it while a test runs; as a file without content it costs nothing.
const ENDLESS: u64 = 1 << 40;

// ---------------------------------------------------------------- the program

/// The example that was built with these tests.
fn program() -> &'static Path {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| {
        let tests = std::env::current_exe().unwrap();
        let profile = tests.parent().and_then(Path::parent).unwrap();
        let program = profile.join("examples/checksum");
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let age = program.metadata().and_then(|found| found.modified()).ok();
        let sources = ["src", "examples/checksum"].map(|part| WalkDir::new(root.join(part)));
        let changed = sources
            .into_iter()
            .flatten()
            .flatten()
            .filter_map(|entry| entry.metadata().ok()?.modified().ok());
        if changed.max() > age {
            // `cargo test --test checksum` builds no examples.
            let mut build = Command::new(env!("CARGO"));
            build.args(["build", "--example", "checksum", "--manifest-path"]);
            build.arg(root.join("Cargo.toml"));
            build.arg("--target-dir").arg(profile.parent().unwrap());
            if profile.ends_with("release") {
                build.arg("--release");
            }
            assert!(
                build.status().unwrap().success(),
                "the example does not build"
            );
        }
        program
    })
}

/// What goes before the program, so that it starts as from a shell: a runner that was started with `&` has SIGINT
/// ignored, and its children inherit that. And it goes when the test is killed.
fn launcher() -> &'static [&'static str] {
    static LAUNCHER: OnceLock<&[&str]> = OnceLock::new();
    LAUNCHER.get_or_init(|| {
        let all = &[
            "setpriv",
            "--pdeathsig",
            "KILL",
            "env",
            "--default-signal=INT,TERM,HUP",
        ];
        let works = Command::new(all[0])
            .args(&all[1..])
            .arg("true")
            .stderr(Stdio::null())
            .status();
        if works.is_ok_and(|status| status.success()) {
            all
        } else {
            eprintln!("no setpriv, or an env without --default-signal: started as it is");
            &[]
        }
    })
}

fn has(tool: &str) -> bool {
    let found = Command::new(tool)
        .arg("--version")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    let found = found.is_ok_and(|status| status.success());
    if !found {
        eprintln!("skipped, since there is no {tool} here");
    }
    found
}

/// A child that does not outlive its test.
struct Running(Child);

impl Running {
    fn signal(&self, signal: Signal) {
        kill(self.pid(), signal).unwrap();
    }

    fn pid(&self) -> Pid {
        Pid::from_raw(i32::try_from(self.0.id()).unwrap())
    }

    /// It is reading that file now.
    fn reads(&self, name: &str) -> bool {
        let open = fs::read_dir(format!("/proc/{}/fd", self.pid())).unwrap();
        open.flatten()
            .any(|fd| fs::read_link(fd.path()).is_ok_and(|path| path.ends_with(name)))
    }

    fn wait(mut self) -> ExitStatus {
        let mut status = None;
        until("the end of the program", || {
            status = self.0.try_wait().unwrap();
            status.is_some()
        });
        status.unwrap()
    }

    /// Ctrl-C for as long as it takes. One that comes close to another is the same (P7), so no single one can be
    /// "the second".
    fn interrupt_until_gone(mut self) -> ExitStatus {
        let mut status = None;
        until("the end after a further Ctrl-C", || {
            status = self.0.try_wait().unwrap();
            if status.is_none() {
                self.signal(Signal::SIGINT);
            }
            status.is_some()
        });
        status.unwrap()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let started = Instant::now();
    while !holds() {
        assert!(started.elapsed() < FAR, "waited in vain for {what}");
        thread::sleep(Duration::from_millis(5));
    }
}

// ---------------------------------------------------------------- trees

/// A directory to work in: the tree is `tree`, the manifest is `out`, both as the program is told them.
struct Place {
    directory: TempDir,
}

impl Place {
    fn new() -> Self {
        let place = Self {
            directory: TempDir::new().unwrap(),
        };
        fs::create_dir(place.tree()).unwrap();
        place
    }

    fn path(&self, name: impl AsRef<Path>) -> PathBuf {
        self.directory.path().join(name)
    }

    fn tree(&self) -> PathBuf {
        self.path("tree")
    }

    /// A file in the tree that was last written to a while ago, as most have been.
    fn file(&self, name: impl AsRef<Path>, content: impl AsRef<[u8]>) {
        let path = self.tree().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, content).unwrap();
        age(&File::options().write(true).open(&path).unwrap());
    }

    /// A long file without content.
    fn sparse(&self, name: impl AsRef<Path>, length: u64) {
        let file = File::create(self.tree().join(name)).unwrap();
        file.set_len(length).unwrap();
        age(&file);
    }

    fn manifest(&self) -> Vec<u8> {
        fs::read(self.path("out")).unwrap()
    }

    fn is_interrupted(&self) -> bool {
        self.path("out.partial").exists()
    }

    fn stderr(&self) -> String {
        fs::read_to_string(self.path("stderr")).unwrap()
    }

    fn start(&self, arguments: &[&str]) -> Running {
        self.start_by(launcher(), program(), arguments)
    }

    fn start_by(&self, launcher: &[&str], program: &Path, arguments: &[&str]) -> Running {
        let mut words: Vec<&OsStr> = launcher.iter().map(OsStr::new).collect();
        words.push(program.as_os_str());
        words.extend(["tree", "--out", "out"].map(OsStr::new));
        words.extend(arguments.iter().map(OsStr::new));
        let child = Command::new(words[0])
            .args(&words[1..])
            .current_dir(self.directory.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(self.path("stderr")).unwrap())
            .spawn()
            .unwrap();
        Running(child)
    }

    /// Runs to the end.
    fn run(&self, arguments: &[&str]) -> ExitStatus {
        self.start(arguments).wait()
    }

    fn complete(&self, arguments: &[&str]) -> Vec<u8> {
        let status = self.run(arguments);
        assert!(status.success(), "{status}: {}", self.stderr());
        assert!(
            !self.is_interrupted(),
            "a complete manifest has no side file"
        );
        self.manifest()
    }

    /// What the manifest must be, found by other means.
    fn expected(&self) -> Vec<u8> {
        let mut files = Vec::new();
        files_below(&self.tree(), Path::new("tree"), &mut files);
        files.sort();
        let mut manifest = Vec::new();
        for path in files {
            let digest = Sha256::digest(fs::read(self.path(&path)).unwrap());
            let name = path.as_bytes();
            if name.iter().any(|byte| b"\\\n\r".contains(byte)) {
                manifest.push(b'\\');
            }
            for byte in digest {
                write!(manifest, "{byte:02x}").unwrap();
            }
            manifest.extend_from_slice(b"  ");
            for byte in name {
                match byte {
                    b'\\' => manifest.extend_from_slice(br"\\"),
                    b'\n' => manifest.extend_from_slice(br"\n"),
                    b'\r' => manifest.extend_from_slice(br"\r"),
                    _ => manifest.push(*byte),
                }
            }
            manifest.push(b'\n');
        }
        manifest
    }

    /// `sha256sum` says that every line is true.
    fn assert_accepted(&self) {
        if self.manifest().is_empty() || !has("sha256sum") {
            return;
        }
        let checked = Command::new("sha256sum")
            .args(["--strict", "--quiet", "-c", "out"])
            .current_dir(self.directory.path())
            .output()
            .unwrap();
        assert!(checked.status.success(), "{checked:?}");
    }
}

fn files_below(directory: &Path, name: &Path, files: &mut Vec<OsString>) {
    for entry in fs::read_dir(directory).unwrap() {
        let entry = entry.unwrap();
        let name = name.join(entry.file_name());
        let kind = entry.file_type().unwrap();
        if kind.is_dir() {
            files_below(&entry.path(), &name, files);
        } else if kind.is_file() {
            files.push(name.into_os_string());
        }
    }
}

/// The same for all: so no test can pass because of the modification time alone.
fn age(file: &File) {
    file.set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000))
        .unwrap();
}

fn lines(manifest: &[u8]) -> Vec<&[u8]> {
    manifest.split_inclusive(|byte| *byte == b'\n').collect()
}

/// Every line of an interrupted manifest is one of the complete one, in its order.
fn assert_part_of(part: &[u8], whole: &[u8]) {
    let mut whole = lines(whole).into_iter();
    for line in lines(part) {
        assert!(
            whole.any(|other| other == line),
            "{:?} is not in its place",
            String::from_utf8_lossy(line)
        );
    }
}

/// Small files, and enough large ones for a run to take some tenths of a second.
fn grove() -> Place {
    let place = Place::new();
    for number in 0..200 {
        place.file(
            format!("{}/small {number}", number % 7),
            format!("{number}").repeat(number),
        );
    }
    for number in 0..24 {
        place.sparse(format!("{}/large {number}", number % 7), (8 << 20) + number);
    }
    place
}

/// A few files, and then one that never ends.
fn endless() -> (Place, Vec<u8>) {
    let place = Place::new();
    for name in ["a", "b", "c/d"] {
        place.file(name, name);
    }
    let finished = place.expected();
    place.sparse("endless", ENDLESS);
    (place, finished)
}

/// Marsaglia's xorshift: the moments need not be better than that.
struct Random(u64);

impl Random {
    fn new(test: &str) -> Self {
        let seed = std::env::var("CHECKSUM_SEED")
            .ok()
            .and_then(|seed| seed.parse().ok())
            .unwrap_or_else(|| {
                let now = SystemTime::now()
                    .duration_since(SystemTime::UNIX_EPOCH)
                    .unwrap();
                u64::from(now.subsec_nanos()) << 10 | 1
            });
        println!("{test}: CHECKSUM_SEED={seed}");
        Self(seed)
    }

    fn up_to(&mut self, longest: Duration) -> Duration {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        let share = u32::try_from(self.0 >> 40).unwrap();
        longest * (share >> 8) / (1 << 16)
    }
}

// ---------------------------------------------------------------- the manifest

#[test]
fn the_manifest_is_that_of_sha256sum() {
    let place = Place::new();
    let names: [&[u8]; 14] = [
        b"plain",
        b"with space",
        b" leading",
        b"trailing ",
        b"line\nbreak",
        b"return\r",
        b"back\\slash",
        b"\\",
        b"not utf-8 \xff\xfe",
        b"tab\there",
        b"*star",
        b"#hash",
        b"-dash",
        "gr\u{fc}n".as_bytes(),
    ];
    for name in names {
        place.file(OsStr::from_bytes(name), name);
        // The same as a directory's name.
        let mut below = name.to_vec();
        below.extend_from_slice(b".d/x");
        place.file(OsStr::from_bytes(&below), &below);
    }
    place.file("empty", "");
    place.file("large", vec![7; 1_000_001]);
    // In bytes "order.b" comes before "order/b", and "order-b" before both.
    for name in ["order/b", "order.b", "order-b"] {
        place.file(name, name);
    }
    fs::create_dir_all(place.path("tree/nothing/but/directories")).unwrap();
    symlink("plain", place.path("tree/link")).unwrap();
    symlink("nowhere", place.path("tree/dangling link")).unwrap();
    symlink("..", place.path("tree/link round in a circle")).unwrap();
    nix::unistd::mkfifo(&place.path("tree/fifo"), nix::sys::stat::Mode::S_IRWXU).unwrap();

    let manifest = place.complete(&[]);
    assert_eq!(
        manifest.escape_ascii().to_string(),
        place.expected().escape_ascii().to_string()
    );
    assert_eq!(place.stderr(), "");
    place.assert_accepted();
    assert_eq!(
        place.complete(&["--threads", "1"]),
        manifest,
        "however many threads"
    );
    assert_eq!(
        place.complete(&["--threads", "33"]),
        manifest,
        "however many threads"
    );
}

#[test]
fn the_manifest_does_not_list_itself() {
    let place = Place::new();
    place.file("a", "a");
    place.file("sub/out", "somebody else's");
    let expected = place.expected();
    for _ in 0..2 {
        let child = Command::new(program())
            .args(["tree", "--out", "tree/sub/../out"])
            .current_dir(place.directory.path())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        assert!(Running(child).wait().success());
        assert_eq!(fs::read(place.path("tree/out")).unwrap(), expected);
    }
}

#[test]
fn a_tree_without_files_has_an_empty_manifest() {
    let place = Place::new();
    assert_eq!(place.complete(&[]), b"");
}

#[test]
fn unreadable_files_are_listed_and_the_others_hashed() {
    let place = Place::new();
    for name in ["a", "b", "locked", "sub/c", "locked.d/d"] {
        place.file(name, name);
    }
    let all = place.expected();
    let mode = |name: &str, mode| {
        fs::set_permissions(place.path(name), PermissionsExt::from_mode(mode)).unwrap();
    };
    // For another user the place, and the program, must be within reach.
    mode(".", 0o777);
    let reachable = place.path("checksum");
    fs::copy(program(), &reachable).unwrap();
    mode("tree/locked", 0);
    mode("tree/locked.d", 0);

    let nobody = [
        "setpriv",
        "--reuid=65534",
        "--regid=65534",
        "--clear-groups",
    ];
    let launcher: &[&str] = if rustix::process::geteuid().is_root() {
        if !has("setpriv") {
            return;
        }
        &nobody
    } else {
        &[]
    };
    let status = place.start_by(launcher, &reachable, &[]).wait();
    mode("tree/locked.d", 0o755);

    assert_eq!(status.code(), Some(1), "{}", place.stderr());
    let stderr = place.stderr();
    assert!(
        stderr.contains("\"tree/locked\": Permission denied"),
        "{stderr}"
    );
    assert!(
        stderr.contains("\"tree/locked.d\": Permission denied"),
        "{stderr}"
    );
    assert!(
        stderr.contains("2 of the files and directories could not be read"),
        "{stderr}"
    );
    let others: Vec<_> = lines(&all)
        .into_iter()
        .filter(|line| !line.escape_ascii().to_string().contains("locked"))
        .collect();
    assert_eq!(others.len(), 3);
    assert_eq!(lines(&place.manifest()), others);
    assert!(!place.is_interrupted());
}

#[test]
fn bad_arguments_are_named() {
    let place = Place::new();
    place.file("a", "a");
    fs::create_dir(place.path("directory")).unwrap();
    fs::write(place.path("foreign.partial"), "not from checksum").unwrap();
    let cases: [(&[&str], i32, &str); 9] = [
        (
            &["missing", "--out", "out"],
            1,
            "cannot open \"missing\": No such file or directory",
        ),
        (
            &["tree/a", "--out", "out"],
            1,
            "\"tree/a\" is not a directory",
        ),
        (
            &["tree", "--out", "directory"],
            1,
            "\"directory\" is a directory",
        ),
        (
            &["tree", "--out", "/dev/null"],
            1,
            "\"/dev/null\" is not a regular file",
        ),
        (
            &["tree", "--out", "missing/out"],
            1,
            "cannot write \"missing/out\": No such file or directory",
        ),
        (
            &["tree", "--out", "foreign"],
            1,
            "\"foreign.partial\" was not written by checksum",
        ),
        (
            &["tree", "--out", "out", "--threads", "0"],
            2,
            "'0' for '--threads <N>': 0 is not in 1..=1024",
        ),
        (&["tree"], 2, "--out <MANIFEST>"),
        (&[], 2, "<DIR>"),
    ];
    for (arguments, code, told) in cases {
        let output = Command::new(program())
            .args(arguments)
            .current_dir(place.directory.path())
            .output()
            .unwrap();
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {stderr}");
        assert!(stderr.contains(told), "{arguments:?}: {stderr}");
        assert!(!place.path("out").exists(), "{arguments:?}");
    }
}

#[test]
fn a_manifest_that_cannot_be_written_is_found_out_at_once() {
    let place = Place::new();
    place.sparse("endless", ENDLESS);
    fs::create_dir(place.path("locked")).unwrap();
    // Root may write everywhere but here.
    let out = if rustix::process::geteuid().is_root() {
        "/proc/out"
    } else {
        "locked/out"
    };
    fs::set_permissions(place.path("locked"), PermissionsExt::from_mode(0o555)).unwrap();
    let child = Command::new(program())
        .args(["tree", "--out", out])
        .current_dir(place.directory.path())
        .stderr(File::create(place.path("stderr")).unwrap())
        .spawn()
        .unwrap();
    assert_eq!(Running(child).wait().code(), Some(1));
    assert!(
        place.stderr().contains(&format!("cannot write \"{out}\"")),
        "{}",
        place.stderr()
    );
}

#[test]
fn a_manifest_that_cannot_be_written_in_the_end_is_an_error() {
    let place = Place::new();
    place.sparse("large", 1 << 30);
    fs::create_dir(place.path("gone")).unwrap();
    let child = Command::new(program())
        .args(["tree", "--out", "gone/out"])
        .current_dir(place.directory.path())
        .stderr(File::create(place.path("stderr")).unwrap())
        .spawn()
        .unwrap();
    let running = Running(child);
    until("the file to be opened", || running.reads("tree/large"));
    fs::remove_dir(place.path("gone")).unwrap();
    let status = running.wait();
    assert_eq!(status.code(), Some(1), "{}", place.stderr());
    let stderr = place.stderr();
    assert!(
        stderr.contains("cannot write \"gone/out\": No such file or directory"),
        "{stderr}"
    );
}

// ---------------------------------------------------------------- interrupted

#[test]
fn interrupted_and_resumed_it_is_the_manifest_of_one_run() {
    let place = grove();
    let started = Instant::now();
    let whole = place.complete(&[]);
    let took = started.elapsed();
    assert_eq!(lines(&whole).len(), 224);
    fs::remove_file(place.path("out")).unwrap();

    let mut random = Random::new("interrupted_and_resumed");
    let (mut interrupted, mut resumed, mut completed) = (0, 0, 0);
    while interrupted < 20 {
        let running = place.start(&[]);
        thread::sleep(random.up_to(took / 3));
        running.signal(if interrupted % 3 == 2 {
            Signal::SIGTERM
        } else {
            Signal::SIGINT
        });
        let status = running.wait();
        resumed += usize::from(
            place
                .stderr()
                .contains("going on where the last run stopped"),
        );
        if place.path("out").exists() {
            assert_part_of(&place.manifest(), &whole);
        }
        match status.signal() {
            // It may be over before the signal, or with it.
            _ if place.path("out").exists() && !place.is_interrupted() => {
                completed += 1;
                assert_eq!(place.manifest(), whole);
                fs::remove_file(place.path("out")).unwrap();
            }
            Some(_) => interrupted += 1,
            None => panic!("{status}, and not complete: {}", place.stderr()),
        }
    }
    println!(
        "{interrupted} interrupted, {resumed} of all went on from another, {completed} became complete; one run: {took:?}"
    );
    assert!(resumed > 0, "no run has gone on from another");
    assert_eq!(place.complete(&[]), whole);
    place.assert_accepted();
}

#[test]
fn killed_at_random_it_loses_nothing_that_was_saved() {
    let place = grove();
    let started = Instant::now();
    let whole = place.complete(&[]);
    let took = started.elapsed();
    fs::remove_file(place.path("out")).unwrap();

    let mut random = Random::new("killed_at_random");
    let (mut killed, mut saved, mut rounds) = (0, 0, 0);
    let mut before = 0;
    while killed < 8 || saved < 8 {
        rounds += 1;
        assert!(
            rounds < 200,
            "{killed} were killed, {saved} saved more than there was"
        );
        let running = place.start(&[]);
        thread::sleep(random.up_to(took / 3));
        // A polite signal first makes it save: so the kill meets that as well.
        running.signal(Signal::SIGINT);
        if rounds % 4 > 0 {
            thread::sleep(random.up_to(took / 20));
            running.signal(Signal::SIGKILL);
        }
        killed += usize::from(running.wait().signal() == Some(9));
        if !place.path("out").exists() {
            continue;
        }
        let manifest = place.manifest();
        assert_part_of(&manifest, &whole);
        if place.is_interrupted() {
            saved += usize::from(lines(&manifest).len() > before);
            assert!(lines(&manifest).len() >= before, "lost what was saved");
            before = lines(&manifest).len();
        } else {
            assert_eq!(manifest, whole);
            fs::remove_file(place.path("out")).unwrap();
            before = 0;
        }
    }
    println!("{killed} of {rounds} were killed, {saved} saved more than there was");
    assert_eq!(place.complete(&[]), whole);
    place.assert_accepted();
}

#[test]
fn killed_it_goes_on_from_what_it_saved_while_hashing() {
    let (place, finished) = endless();
    let running = place.start(&["--threads", "1"]);
    until("the first save", || place.path("out").exists());
    running.signal(Signal::SIGKILL);
    running.wait();
    assert_eq!(place.manifest(), finished);
    assert!(place.is_interrupted());

    place.sparse("endless", 3);
    let whole = place.complete(&[]);
    assert!(
        place
            .stderr()
            .contains("stopped: 3 unchanged, 1 file (3 B) to hash"),
        "{}",
        place.stderr()
    );
    assert_eq!(whole, place.expected());
}

/// Each system call of a save that changes anything on the disk, and the process gone just before it.
#[test]
fn killed_at_any_step_of_a_save_both_files_hold() {
    let traces = Command::new("strace")
        .args(["-f", "-o", "/dev/null", "true"])
        .output();
    if !traces.is_ok_and(|output| output.status.success()) {
        eprintln!("skipped, since there is no strace here, or it may not trace");
        return;
    }
    let steps = [
        ("/^rename", 1),
        ("/^rename", 2),
        ("fsync", 1),
        ("fsync", 2),
        ("fsync", 3),
        ("fsync", 4),
    ];
    // Side by side, since each waits for its save.
    thread::scope(|scope| {
        for (call, time) in steps {
            scope.spawn(move || {
                let (place, finished) = endless();
                let (trace, inject) = (
                    format!("trace={call}"),
                    format!("inject={call}:signal=KILL:when={time}"),
                );
                let strace = [
                    "strace",
                    "-f",
                    "-o",
                    "/dev/null",
                    "-e",
                    &trace,
                    "-e",
                    &inject,
                ];
                let launcher = [&strace, launcher()].concat();
                let status = place
                    .start_by(&launcher, program(), &["--threads", "1"])
                    .wait();
                assert_eq!(
                    status.signal(),
                    Some(9),
                    "{call} {time}: {}",
                    place.stderr()
                );
                if place.path("out").exists() {
                    assert_eq!(place.manifest(), finished);
                    assert!(
                        place.is_interrupted(),
                        "{call} {time}: it passes for a complete one"
                    );
                }
                place.sparse("endless", 3);
                assert_eq!(place.complete(&[]), place.expected());
            });
        }
    });
}

#[test]
fn a_file_in_hand_is_finished_and_none_is_begun() {
    let place = Place::new();
    place.file("a", "a");
    place.sparse("large", 1 << 30);
    place.file("z", "z");
    let running = place.start(&["--threads", "1"]);
    until("the large file to be opened", || {
        running.reads("tree/large")
    });
    running.signal(Signal::SIGINT);
    let status = running.wait();
    assert_eq!(status.signal(), Some(2), "{status}");
    let stderr = place.stderr();
    assert!(
        stderr.contains("finishing 1 file in hand, for 25 s at most"),
        "{stderr}"
    );
    assert!(stderr.contains("\"tree/large\""), "{stderr}");
    assert!(stderr.contains("a second Ctrl-C ends at once"), "{stderr}");
    assert!(stderr.contains("lists 2 files, 1 left"), "{stderr}");
    let manifest = place.manifest();
    let names: Vec<_> = lines(&manifest)
        .iter()
        .map(|line| line[66..].to_vec())
        .collect();
    assert_eq!(names, [b"tree/a\n".to_vec(), b"tree/large\n".to_vec()]);
    assert!(place.is_interrupted());

    let whole = place.complete(&[]);
    assert!(
        place.stderr().contains("2 unchanged, 1 file (1 B) to hash"),
        "{}",
        place.stderr()
    );
    assert_part_of(&manifest, &whole);
    assert_eq!(lines(&whole).len(), 3);
}

#[test]
fn a_file_that_takes_too_long_is_left_to_the_next_run() {
    let (place, finished) = endless();
    let running = place.start(&["--threads", "2", "--grace-period", "3"]);
    until("the first save", || place.path("out").exists());
    let stopped = Instant::now();
    running.signal(Signal::SIGTERM);
    let status = running.wait();
    let took = stopped.elapsed();
    assert_eq!(
        status.signal(),
        Some(15),
        "an interrupted run does not pass for a complete one: {status}"
    );
    assert!(took < Duration::from_secs(4), "{took:?}");
    let stderr = place.stderr();
    assert!(
        stderr.contains("finishing 1 file in hand, for 3 s at most"),
        "{stderr}"
    );
    assert!(
        stderr.contains("\"tree/endless\": no time left to finish it"),
        "{stderr}"
    );
    assert_eq!(place.manifest(), finished);
    assert!(place.is_interrupted());

    place.sparse("endless", 5);
    assert_eq!(place.complete(&[]), place.expected());
}

#[test]
fn a_second_ctrl_c_ends_at_once() {
    let (place, finished) = endless();
    let running = place.start(&["--threads", "1"]);
    until("the first save", || place.path("out").exists());
    let stopped = Instant::now();
    running.signal(Signal::SIGINT);
    until("the word that it waits", || {
        place.stderr().contains("a second Ctrl-C")
    });
    assert!(
        place.stderr().contains("\"tree/endless\""),
        "{}",
        place.stderr()
    );
    let status = running.interrupt_until_gone();
    let took = stopped.elapsed();
    assert!(
        status.signal() == Some(2) || status.code() == Some(130),
        "{status}"
    );
    assert!(
        took < Duration::from_secs(5),
        "{took:?}: that was the grace period, not the second Ctrl-C"
    );
    assert!(
        !place.stderr().contains("no time left"),
        "{}",
        place.stderr()
    );
    assert_eq!(place.manifest(), finished, "the last valid one");
    place.assert_accepted();

    place.sparse("endless", 7);
    assert_eq!(place.complete(&[]), place.expected());
}

#[test]
fn what_has_changed_meanwhile_is_hashed_again() {
    let (place, finished) = endless();
    place.file("0", "fresh");
    // Written to a moment ago: it could be written to again, and look the same.
    File::options()
        .write(true)
        .open(place.path("tree/0"))
        .unwrap()
        .set_modified(SystemTime::now())
        .unwrap();
    let running = place.start(&["--threads", "1"]);
    until("the first save", || place.path("out").exists());
    running.interrupt_until_gone();
    assert_eq!(lines(&place.manifest()).len(), lines(&finished).len() + 1);

    // The same length and the same modification time: only the change time tells.
    place.file("a", "A");
    fs::remove_file(place.path("tree/b")).unwrap();
    place.file("new", "new");
    place.sparse("endless", 9);
    let whole = place.complete(&[]);
    assert!(
        place.stderr().contains("1 unchanged, 4 files"),
        "{}",
        place.stderr()
    );
    assert_eq!(whole, place.expected());
}

#[test]
fn a_damaged_side_file_is_not_believed() {
    let (place, _) = endless();
    let running = place.start(&["--threads", "1"]);
    until("the first save", || place.path("out").exists());
    running.interrupt_until_gone();
    let mut state = fs::read(place.path("out.partial")).unwrap();
    let middle = state.len() / 2;
    state[middle] ^= 1;
    fs::write(place.path("out.partial"), state).unwrap();

    place.sparse("endless", 9);
    let whole = place.complete(&[]);
    assert!(
        place
            .stderr()
            .contains("\"out.partial\" is damaged: hashing everything again"),
        "{}",
        place.stderr()
    );
    assert_eq!(whole, place.expected());
}

#[test]
fn a_run_that_is_interrupted_at_once_leaves_the_old_manifest_alone() {
    let place = Place::new();
    place.file("a", "a");
    let old = place.complete(&[]);
    place.sparse("0", ENDLESS);
    let running = place.start(&["--threads", "1", "--grace-period", "1"]);
    until("the endless file to be opened", || running.reads("tree/0"));
    running.signal(Signal::SIGINT);
    assert_eq!(running.wait().signal(), Some(2));
    assert_eq!(place.manifest(), old);
}

// ---------------------------------------------------------------- the terminal

/// A pseudo-terminal, and all that was written to it.
struct Terminal {
    keyboard: File,
    screen: Arc<Mutex<Vec<u8>>>,
}

impl Terminal {
    fn open() -> (Self, OwnedFd) {
        let size = Winsize {
            ws_row: 24,
            ws_col: 100,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        let pair = openpty(Some(&size), None).unwrap();
        let keyboard = File::from(pair.master);
        let mut reader = keyboard.try_clone().unwrap();
        let screen = Arc::new(Mutex::new(Vec::new()));
        let written = Arc::clone(&screen);
        // Ends by itself: with the last program that has the terminal open, reading it is an error.
        thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(length @ 1..) = reader.read(&mut buffer) {
                written.lock().unwrap().extend_from_slice(&buffer[..length]);
            }
        });
        (Self { keyboard, screen }, pair.slave)
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.screen.lock().unwrap()).into_owned()
    }

    fn shows(&self, text: &str) -> bool {
        self.text().contains(text)
    }
}

#[test]
fn progress_is_shown_on_a_terminal_and_only_there() {
    let (place, _) = endless();
    let (terminal, slave) = Terminal::open();
    let child = Command::new(program())
        .args(["tree", "--out", "out"])
        .current_dir(place.directory.path())
        .stderr(slave)
        .spawn()
        .unwrap();
    let running = Running(child);
    until("the progress", || terminal.shows("/1.00 TiB"));
    drop(running);

    fs::remove_file(place.path("out")).ok();
    fs::remove_file(place.path("out.partial")).ok();
    let running = place.start(&[]);
    until("the first save", || place.path("out").exists());
    drop(running);
    assert_eq!(place.stderr(), "", "not a terminal");
}

#[test]
fn ctrl_c_typed_on_a_terminal() {
    if !has("setsid") {
        return;
    }
    let (place, finished) = endless();
    let (mut terminal, slave) = Terminal::open();
    // A session of its own, with that terminal, as a login has.
    let child = Command::new("setsid")
        .arg("--ctty")
        .args(launcher())
        .arg(program())
        .args(["tree", "--out", "out", "--threads", "1"])
        .current_dir(place.directory.path())
        .stdin(slave.try_clone().unwrap())
        .stdout(slave.try_clone().unwrap())
        .stderr(slave)
        .spawn()
        .unwrap();
    let mut running = Running(child);
    until("the first save", || place.path("out").exists());
    terminal.keyboard.write_all(b"\x03").unwrap();
    until("the word that it waits", || {
        terminal.shows("a second Ctrl-C ends at once")
    });
    assert!(terminal.shows("SIGINT"));
    let mut status = None;
    until("the end after a further Ctrl-C", || {
        status = running.0.try_wait().unwrap();
        if status.is_none() {
            terminal.keyboard.write_all(b"\x03").unwrap();
        }
        status.is_some()
    });
    let status = status.unwrap();
    assert_eq!(status.signal(), Some(2), "{status}: {}", terminal.text());
    assert_eq!(place.manifest(), finished);
}
