//! What happens to a checkpoint when the system fails it: at each of its system calls, one after the other.
#![cfg(feature = "checkpoint")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::print_stderr,
    missing_docs,
    reason = "tests"
)]

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use nix::sys::signal::{Signal, raise};
use nix::sys::wait::waitpid;
use nix::unistd::ForkResult;
use tempfile::TempDir;
use winddown::{Checkpoint, CheckpointError, Restored};

/// Large enough for two states not to be taken for each other.
type State = Vec<u64>;

fn state(number: u64) -> State {
    vec![number; 100 + usize::try_from(number).unwrap()]
}

fn place() -> (TempDir, PathBuf) {
    let directory = TempDir::new().unwrap();
    // The one that the system knows it by: strace compares names.
    let path = fs::canonicalize(directory.path()).unwrap().join("job");
    (directory, path)
}

fn beside(path: &Path, ending: &str) -> PathBuf {
    PathBuf::from(format!("{}{ending}", path.display()))
}

fn can_trace() -> bool {
    let traces = Command::new("strace")
        .args(["-f", "-o", "/dev/null", "true"])
        .output();
    let can = traces.is_ok_and(|output| output.status.success());
    if !can {
        eprintln!("skipped, since there is no strace here, or it may not trace");
    }
    can
}

/// Runs the child with faults at those of its system calls that have to do with the checkpoint's files.
fn with_faults(path: &Path, what: &str, calls: &str, faults: &[&str]) -> (Output, String) {
    let log = beside(path, ".strace");
    let mut command = Command::new("strace");
    command.args(["-f", "-qq", "-o"]).arg(&log);
    let files = ["", ".previous", ".new", ".lock"].map(|ending| beside(path, ending));
    for file in files.iter().chain([&path.parent().unwrap().to_owned()]) {
        command.arg("-P").arg(file);
    }
    command.args(["-e", &format!("trace={calls}")]);
    for fault in faults {
        command.args(["-e", &format!("inject={fault}")]);
    }
    command.arg(std::env::current_exe().unwrap());
    let output = child_of(command, path, what).output().unwrap();
    let traced = fs::read_to_string(&log).unwrap();
    fs::remove_file(&log).unwrap();
    (output, traced)
}

/// A new place, with three saves in it.
fn saved_three(path: &Path) {
    for ending in ["", ".previous", ".new", ".lock"] {
        let _ = fs::remove_file(beside(path, ending));
    }
    assert_eq!(said(&child(path, "save").output().unwrap()), [1, 2, 3]);
}

/// What the child has saved, by its own account.
fn said(output: &Output) -> Vec<u64> {
    let text = String::from_utf8_lossy(&output.stderr);
    text.lines().filter_map(|line| line.parse().ok()).collect()
}

fn child(path: &Path, what: &str) -> Command {
    child_of(Command::new(std::env::current_exe().unwrap()), path, what)
}

/// What it has to say is on stderr; stdout is the test harness's.
fn child_of(mut command: Command, path: &Path, what: &str) -> Command {
    command
        .args(["--exact", "the_child", "--nocapture", "--ignored"])
        .env("WINDDOWN_CHECKPOINT", path)
        .env("WINDDOWN_CHECKPOINT_DO", what)
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    command
}

/// Not a test: the other process of the tests above.
#[test]
#[ignore = "the other process of the other tests"]
fn the_child() {
    let (Ok(path), Ok(what)) = (
        std::env::var("WINDDOWN_CHECKPOINT"),
        std::env::var("WINDDOWN_CHECKPOINT_DO"),
    ) else {
        return;
    };
    let (mut checkpoint, restored) = match Checkpoint::<State>::open(&path) {
        Ok(opened) => opened,
        Err(error) => return eprintln!("{error}"),
    };
    let first = restored.into_state().map_or(1, |state| state[0] + 1);
    if what == "fork" {
        return forked(checkpoint);
    }
    let saves = if what == "one" { 1 } else { 3 };
    for number in first..first + saves {
        match checkpoint.save(&state(number)) {
            Ok(()) => eprintln!("{number}"),
            Err(error) => eprintln!("{error}"),
        }
    }
}

/// Its fork tries to save, and drops the checkpoint; then it is its own turn.
#[expect(unsafe_code, reason = "fork without exec")]
fn forked(mut checkpoint: Checkpoint<State>) {
    // SAFETY: no other thread of this process does anything meanwhile.
    match unsafe { nix::unistd::fork() }.unwrap() {
        ForkResult::Child => {
            eprintln!("{}", checkpoint.save(&state(1)).unwrap_err());
            drop(checkpoint);
            raise(Signal::SIGKILL).unwrap();
        }
        ForkResult::Parent { child } => {
            waitpid(child, None).unwrap();
            assert!(Checkpoint::<State>::open(checkpoint.path()).is_err());
            checkpoint.save(&state(2)).unwrap();
            eprintln!("2");
        }
    }
}

/// The child's system calls on the files: their names, and how many there are of each.
fn calls(path: &Path) -> BTreeMap<String, usize> {
    saved_three(path);
    let (_, traced) = with_faults(path, "save", "%file,%desc", &[]);
    let mut calls = BTreeMap::new();
    for line in traced.lines() {
        let call = line.split_whitespace().nth(1).unwrap();
        if let Some((name, _)) = call.split_once('(') {
            *calls.entry(name.to_owned()).or_default() += 1;
        }
    }
    assert!(calls["rename"] >= 3 && calls["fsync"] >= 6, "{calls:?}");
    calls
}

#[test]
fn killed_at_each_system_call_it_leaves_the_old_state_or_the_new_one() {
    if !can_trace() {
        return;
    }
    let (directory, path) = place();
    let (mut known, mut kills) = (6, 0);
    for (call, times) in calls(&path) {
        for at in 1..=times {
            let fault = format!("{call}:signal=KILL:when={at}");
            let (out, _) = with_faults(&path, "save", &call, &[&fault]);
            kills += usize::from(out.status.signal() == Some(9));
            let last = said(&out).last().copied().unwrap_or(known);
            let Restored::Current(found) = Checkpoint::<State>::open(&path).unwrap().1 else {
                panic!("{fault}: no current state");
            };
            known = found[0];
            assert!(
                known == last || known == last + 1,
                "{fault}: {last} {known}"
            );
            assert_eq!(found, state(known), "{fault}");
        }
    }
    assert!(kills > 30, "{kills}");
    let left = fs::read_dir(directory.path()).unwrap().count();
    assert!(left <= 4, "litter: {left}");
}

#[test]
fn each_system_call_fails_once_and_the_next_save_works() {
    if !can_trace() {
        return;
    }
    let (_directory, path) = place();
    let errors = std::env::var("CHECKPOINT_ERRORS");
    let errors = errors.as_deref().unwrap_or("EIO");
    let calls = calls(&path);
    for error in errors.split(',') {
        for (call, times) in &calls {
            for at in 1..=*times {
                saved_three(&path);
                let fault = format!("{call}:error={error}:when={at}");
                let (out, _) = with_faults(&path, "save", call, &[&fault]);
                let text = String::from_utf8_lossy(&out.stderr);
                assert!(out.status.success(), "{fault}: {text}");
                let lines: Vec<_> = text.lines().collect();
                let typed = |line: &&&str| {
                    line.starts_with("cannot open the checkpoint /")
                        || line.starts_with("cannot save the checkpoint /")
                };
                let failed = lines.iter().filter(typed).count();
                assert!(failed <= 1, "{fault}: {text}");
                assert_eq!(failed + said(&out).len(), lines.len(), "{fault}: {text}");
                let Restored::Current(found) = Checkpoint::<State>::open(&path).unwrap().1 else {
                    panic!("{fault}: no current state");
                };
                // All that it says it has saved is there; what failed last may be.
                let last = said(&out).last().copied().unwrap_or(3);
                let newest = if failed == 1 && last == 5 { 6 } else { last };
                assert!((last..=newest).contains(&found[0]), "{fault}: {text}");
                assert_eq!(found, state(found[0]), "{fault}");
                assert!(!beside(&path, ".new").exists(), "{fault}");
            }
        }
    }
}

/// Reaching it fails the test.
const FAR: Duration = Duration::from_secs(20);

#[test]
fn what_is_no_file_is_refused_at_once_and_nothing_is_made_beside_it() {
    let (directory, path) = place();
    let fifo = || nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let other = directory.path().join("previous is one");
    let makings: [(&Path, &dyn Fn()); 4] = [
        (&path, &fifo),
        (&path, &|| fs::create_dir(&path).unwrap()),
        (&path, &|| symlink("/dev/zero", &path).unwrap()),
        (&other, &|| {
            symlink("/dev/zero", beside(&other, ".previous")).unwrap();
        }),
    ];
    for (path, make) in makings {
        make();
        let (told, answer) = mpsc::channel();
        let opened = path.to_owned();
        thread::spawn(move || told.send(Checkpoint::<State>::open(opened).map(|_| ())));
        // Nobody ever writes into the FIFO, and the zeros never end.
        let error = answer.recv_timeout(FAR).unwrap().unwrap_err().to_string();
        assert!(error.contains("it is not a regular file"), "{error}");
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
        let _ = fs::remove_file(path).or_else(|_| fs::remove_dir(path));
        let _ = fs::remove_file(beside(path, ".previous"));
    }
    assert!(Checkpoint::<State>::open("/").is_err());
}

#[test]
fn without_links_the_state_outlives_two_failures_in_a_row() {
    if !can_trace() {
        return;
    }
    let (_directory, path) = place();
    saved_three(&path);
    let faults = ["linkat:error=EPERM", "rename:error=EIO:when=2+"];
    let (out, _) = with_faults(&path, "save", "linkat,rename", &faults);
    let said = String::from_utf8(out.stderr).unwrap();
    assert_eq!(said.matches("cannot save").count(), 3, "{said}");
    let restored = Checkpoint::<State>::open(&path).unwrap().1;
    assert_eq!(restored.into_state(), Some(state(3)));
    // The moment without the current one is over when the failure is.
    saved_three(&path);
    let faults = ["linkat:error=EPERM", "rename:error=EIO:when=2"];
    let (out, _) = with_faults(&path, "one", "linkat,rename", &faults);
    let said = String::from_utf8(out.stderr).unwrap();
    assert_eq!(said.matches("cannot save").count(), 1, "{said}");
    let restored = Checkpoint::<State>::open(&path).unwrap().1;
    assert_eq!(restored, Restored::Current(state(3)));
}

#[test]
fn a_lock_that_somebody_has_removed_is_taken_again() {
    let (_directory, path) = place();
    let (mut first, _) = Checkpoint::<State>::open(&path).unwrap();
    fs::remove_file(beside(&path, ".lock")).unwrap();
    first.save(&state(1)).unwrap();
    let second = Checkpoint::<State>::open(&path).unwrap_err();
    assert!(matches!(second, CheckpointError::InUse { .. }), "{second}");
}

#[test]
fn who_has_lost_the_lock_to_another_saves_nothing_and_leaves_the_lock_alone() {
    let (_directory, path) = place();
    for finish in [false, true] {
        let (mut first, _) = Checkpoint::<State>::open(&path).unwrap();
        fs::remove_file(beside(&path, ".lock")).unwrap();
        let (mut second, _) = Checkpoint::<State>::open(&path).unwrap();
        second.save(&state(2)).unwrap();
        let error = if finish {
            first.finish().unwrap_err()
        } else {
            let error = first.save(&state(1)).unwrap_err();
            drop(first);
            error
        };
        assert!(matches!(error, CheckpointError::InUse { .. }), "{error}");
        let third = Checkpoint::<State>::open(&path).unwrap_err();
        assert!(matches!(third, CheckpointError::InUse { .. }), "{third}");
        second.save(&state(3)).unwrap();
        drop(second);
        let restored = Checkpoint::<State>::open(&path).unwrap().1;
        assert_eq!(restored, Restored::Current(state(3)));
    }
}

#[test]
fn a_fork_does_not_hold_the_lock_and_does_not_free_it() {
    let (_directory, path) = place();
    let out = child(&path, "fork").output().unwrap();
    let text = String::from_utf8_lossy(&out.stderr);
    assert!(text.contains("is in use by process "), "{text}");
    assert!(text.ends_with("\n2\n"), "{text}");
    let restored = Checkpoint::<State>::open(&path).unwrap().1;
    assert_eq!(restored, Restored::Current(state(2)));
}

#[test]
fn a_link_to_a_file_yet_to_come_is_followed_too() {
    let (directory, path) = place();
    let real = directory.path().join("real");
    fs::create_dir(&real).unwrap();
    symlink("step", &path).unwrap();
    symlink("real/state", directory.path().join("step")).unwrap();
    let (mut checkpoint, _) = Checkpoint::<State>::open(&path).unwrap();
    checkpoint.save(&state(1)).unwrap();
    assert!(fs::symlink_metadata(&path).unwrap().is_symlink());
    assert!(real.join("state").is_file());
    // By its own name it is the same one, with the same lock.
    let second = Checkpoint::<State>::open(real.join("state")).unwrap_err();
    assert!(matches!(second, CheckpointError::InUse { .. }), "{second}");
}

#[test]
fn numbers_come_back_to_the_last_bit() {
    let (_directory, path) = place();
    let mut random = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = || {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        f64::from_bits(random)
    };
    let numbers: Vec<f64> = (0..20_000).map(|_| next()).collect();
    let numbers: Vec<f64> = numbers.into_iter().filter(|n| n.is_finite()).collect();
    let (mut checkpoint, _) = Checkpoint::<Vec<f64>>::open(&path).unwrap();
    checkpoint.save(&numbers).unwrap();
    drop(checkpoint);
    let restored = Checkpoint::<Vec<f64>>::open(&path).unwrap().1;
    let restored = restored.into_state().unwrap();
    let bits = |numbers: &[f64]| -> Vec<u64> { numbers.iter().map(|n| n.to_bits()).collect() };
    assert!(bits(&numbers) == bits(&restored), "not the same");
}

#[test]
fn a_directory_that_cannot_be_synced_is_no_failure_and_one_that_fails_is() {
    if !can_trace() {
        return;
    }
    let (_directory, path) = place();
    for (call, fault, fails) in [
        // Of three saves: each syncs its file, and then the directory.
        ("fsync", "error=EINVAL:when=2+2", 0),
        ("fsync", "error=EIO:when=2+2", 3),
    ] {
        saved_three(&path);
        let (out, _) = with_faults(&path, "save", call, &[&format!("{call}:{fault}")]);
        let said = String::from_utf8(out.stderr).unwrap();
        assert_eq!(said.matches("cannot save").count(), fails, "{said}");
        let (checkpoint, restored) = Checkpoint::<State>::open(&path).unwrap();
        // As far as anybody can see they are there: each is counted.
        assert_eq!(checkpoint.generation(), 6);
        assert_eq!(restored, Restored::Current(state(6)));
    }
}

#[test]
fn a_file_of_somebody_else_is_not_taken_for_the_lock() {
    let (directory, path) = place();
    let lock = beside(&path, ".lock");
    fs::write(&lock, "version = 4\n").unwrap();
    let error = Checkpoint::<State>::open(&path).unwrap_err().to_string();
    assert!(error.contains("job.lock"), "{error}");
    assert_eq!(fs::read(&lock).unwrap(), b"version = 4\n");
    fs::remove_file(&lock).unwrap();
    let letters = directory.path().join("letters");
    fs::write(&letters, "").unwrap();
    symlink(&letters, &lock).unwrap();
    assert!(Checkpoint::<State>::open(&path).is_err());
    assert_eq!(fs::read(&letters).unwrap(), b"");
    fs::remove_file(&lock).unwrap();
    // What a killed process has left is: whole, cut off, or empty; or zeros, by a power cut.
    for left in ["4242\n", "42", "", "\0\0\0\0\0"] {
        fs::write(&lock, left).unwrap();
        assert!(Checkpoint::<State>::open(&path).unwrap().1.is_fresh());
        assert!(!lock.exists());
    }
}

#[test]
fn who_may_read_it_stays_as_it_was_set() {
    let (_directory, path) = place();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o7777;
    let (mut checkpoint, _) = Checkpoint::<State>::open(&path).unwrap();
    checkpoint.save(&state(1)).unwrap();
    for wanted in [0o600, 0o640] {
        fs::set_permissions(&path, fs::Permissions::from_mode(wanted)).unwrap();
        checkpoint.save(&state(2)).unwrap();
        checkpoint.save(&state(3)).unwrap();
        assert_eq!(mode(&path), wanted);
        assert_eq!(mode(&beside(&path, ".previous")), wanted);
    }
    fs::remove_file(&path).unwrap();
    checkpoint.save(&state(4)).unwrap();
    assert_eq!(mode(&path), 0o640, "that of the one before");
}
