//! Progress that survives.
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

#[path = "common/random.rs"]
mod random;

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use random::Random;
use serde::{Deserialize, Serialize};
use tempfile::TempDir;
use winddown::{Checkpoint, CheckpointError, Damage, Restored, StopSource, Ticked};

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct State {
    next: u64,
    /// As large as `next` says, so that states differ in length too.
    done: Vec<u64>,
}

impl State {
    fn at(next: u64) -> Self {
        let done = (0..next % 500).map(|n| n * next).collect();
        Self { next, done }
    }
}

fn place() -> (TempDir, PathBuf) {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("job.checkpoint");
    (directory, path)
}

fn open(path: &Path) -> Result<(Checkpoint<State>, Restored<State>), CheckpointError> {
    Checkpoint::open(path)
}

fn beside(path: &Path, ending: &str) -> PathBuf {
    PathBuf::from(format!("{}{ending}", path.display()))
}

fn names(directory: &TempDir) -> Vec<String> {
    let entries = fs::read_dir(directory.path()).unwrap();
    let mut names: Vec<String> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn what_is_saved_is_restored_and_what_is_finished_is_gone() {
    let (directory, path) = place();
    let (mut checkpoint, restored) = open(&path).unwrap();
    assert!(restored.is_fresh());
    assert_eq!(
        names(&directory),
        ["job.checkpoint.lock"],
        "opening writes no state"
    );
    for next in 1..=3 {
        checkpoint.save(&State::at(next)).unwrap();
    }
    drop(checkpoint);
    assert_eq!(
        names(&directory),
        ["job.checkpoint", "job.checkpoint.previous"]
    );
    let (checkpoint, restored) = open(&path).unwrap();
    assert_eq!(restored, Restored::Current(State::at(3)));
    assert_eq!(checkpoint.generation(), 3);
    checkpoint.finish().unwrap();
    assert!(names(&directory).is_empty());
    assert!(open(&path).unwrap().1.is_fresh());
}

#[test]
fn a_damaged_file_gives_the_one_before_and_says_so() {
    let (_directory, path) = place();
    let (mut checkpoint, _) = open(&path).unwrap();
    checkpoint.save(&State::at(1)).unwrap();
    checkpoint.save(&State::at(2)).unwrap();
    drop(checkpoint);
    let whole = fs::read(&path).unwrap();
    let mut flipped = whole.clone();
    let last = flipped.len() - 3;
    flipped[last] ^= 4;
    let damaged: [(&[u8], Damage); 4] = [
        (b"", Damage::CutOff),
        (&whole[..whole.len() / 2], Damage::CutOff),
        (&flipped, Damage::Altered),
        (b"something else", Damage::Foreign),
    ];
    for (file, damage) in damaged {
        fs::write(&path, file).unwrap();
        let (mut checkpoint, restored) = open(&path).unwrap();
        let state = State::at(1);
        assert_eq!(restored, Restored::Previous { state, damage });
        // The sound one stays the previous one; the damaged one does not take its place.
        checkpoint.save(&State::at(7)).unwrap();
        drop(checkpoint);
        fs::write(&path, b"").unwrap();
        let restored = open(&path).unwrap().1;
        assert_eq!(restored.into_state(), Some(State::at(1)));
    }
    fs::remove_file(&path).unwrap();
    let restored = open(&path).unwrap().1;
    assert!(matches!(
        restored,
        Restored::Previous {
            damage: Damage::Missing,
            ..
        }
    ));
}

#[test]
fn with_nothing_before_it_a_damaged_file_is_an_error_and_stays_as_it_is() {
    let (_directory, path) = place();
    for (file, damage) in [(&b"my letters"[..], Damage::Foreign), (b"", Damage::CutOff)] {
        fs::write(&path, file).unwrap();
        let error = open(&path).unwrap_err();
        assert!(error.to_string().contains("job.checkpoint"), "{error}");
        assert!(matches!(error, CheckpointError::Damaged { damage: found, .. } if found == damage));
        assert_eq!(fs::read(&path).unwrap(), file);
    }
    fs::write(&path, b"").unwrap();
    fs::write(beside(&path, ".previous"), b"also bad").unwrap();
    assert!(matches!(open(&path), Err(CheckpointError::Damaged { .. })));
}

#[test]
fn a_state_of_another_version_or_shape_is_refused_not_replaced_by_an_older_one() {
    let (_directory, path) = place();
    let (mut checkpoint, _) = open(&path).unwrap();
    checkpoint.save(&State::at(1)).unwrap();
    checkpoint.save(&State::at(2)).unwrap();
    drop(checkpoint);
    let other = Checkpoint::<String>::open(&path).unwrap_err();
    assert!(matches!(&other, CheckpointError::Shape { .. }), "{other}");
    let version = Checkpoint::<State>::builder(&path)
        .version(1)
        .open()
        .unwrap_err();
    let text = version.to_string();
    assert!(text.ends_with("has a state of version 0, not 1"), "{text}");
    assert_eq!(open(&path).unwrap().1, Restored::Current(State::at(2)));
}

#[test]
fn what_could_not_be_read_back_is_not_saved() {
    let (_directory, path) = place();
    let (mut checkpoint, _) = Checkpoint::<f64>::open(&path).unwrap();
    checkpoint.save(&1.5).unwrap();
    let error = checkpoint.save(&f64::NAN).unwrap_err();
    assert!(
        matches!(error, CheckpointError::NotRestorable { .. }),
        "{error}"
    );
    drop(checkpoint);
    assert_eq!(
        Checkpoint::<f64>::open(&path).unwrap().1,
        Restored::Current(1.5)
    );
}

#[test]
fn the_second_to_open_it_is_told_who_the_first_is() {
    let (directory, path) = place();
    let (checkpoint, _) = open(&path).unwrap();
    let error = open(&path).unwrap_err();
    assert!(
        error
            .to_string()
            .ends_with("is in use by this process itself"),
        "{error}"
    );
    drop(checkpoint);
    let (mut child, _) = saver(&path);
    let told = open(&path).unwrap_err();
    let CheckpointError::InUse { pid, holder, .. } = &told else {
        panic!("{told}")
    };
    assert_eq!(*pid, Some(child.id()));
    assert!(
        holder.starts_with(&format!("process {} (", child.id())),
        "{holder}"
    );
    // The kernel frees the lock with the process, and nothing has to be cleaned up.
    kill(&mut child);
    assert!(open(&path).is_ok());
    drop(directory);
}

#[test]
fn it_is_opened_by_one_of_many_at_a_time() {
    let (_directory, path) = place();
    let opened = std::sync::atomic::AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..500 {
                    let Ok((mut checkpoint, restored)) = open(&path) else {
                        continue;
                    };
                    let mut state = restored.into_state().unwrap_or_default();
                    state.next += 1;
                    checkpoint.save(&state).unwrap();
                    opened.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                }
            });
        }
    });
    let state = open(&path).unwrap().1.into_state().unwrap();
    // Each of them has seen what the one before it had saved.
    assert_eq!(state.next, opened.into_inner() as u64);
}

#[test]
fn tick_saves_when_it_is_time_and_when_the_program_stops() {
    let (_directory, path) = place();
    let source = StopSource::new();
    let token = source.token();
    let builder = Checkpoint::<State>::builder(&path).interval(Duration::from_secs(3600));
    let (mut checkpoint, _) = builder.open().unwrap();
    assert_eq!(
        checkpoint.tick(&token, &State::at(1)).unwrap(),
        Ticked::NotDue
    );
    assert!(!path.exists());
    source.stop("now");
    assert_eq!(
        checkpoint.tick(&token, &State::at(2)).unwrap(),
        Ticked::Stopping
    );
    drop(checkpoint);
    let builder = Checkpoint::<State>::builder(&path).interval(Duration::ZERO);
    let (mut checkpoint, restored) = builder.open().unwrap();
    assert_eq!(restored, Restored::Current(State::at(2)));
    let running = StopSource::new().token();
    assert_eq!(
        checkpoint.tick(&running, &State::at(3)).unwrap(),
        Ticked::Saved
    );
}

#[test]
fn a_link_is_followed_and_a_change_of_directory_changes_nothing() {
    let (directory, path) = place();
    let real = directory.path().join("real");
    fs::create_dir(&real).unwrap();
    let target = real.join("state");
    fs::write(&target, b"").unwrap();
    fs::remove_file(&target).unwrap();
    let (mut checkpoint, _) = open(&target).unwrap();
    checkpoint.save(&State::at(1)).unwrap();
    drop(checkpoint);
    std::os::unix::fs::symlink(&target, &path).unwrap();
    let (mut checkpoint, restored) = open(&path).unwrap();
    assert_eq!(restored, Restored::Current(State::at(1)));
    checkpoint.save(&State::at(2)).unwrap();
    assert!(fs::symlink_metadata(&path).unwrap().is_symlink());
    assert_eq!(checkpoint.path(), fs::canonicalize(&target).unwrap());
    assert!(
        open(Path::new("/no/such/place/job"))
            .unwrap_err()
            .to_string()
            .contains("/no/such/place/job")
    );
}

#[test]
fn a_full_disk_is_an_error_and_the_old_state_is_still_there() {
    // A limit on the size of files has the same effect, and needs no disk.
    let (_directory, path) = place();
    let (mut checkpoint, _) = open(&path).unwrap();
    checkpoint.save(&State::at(1)).unwrap();
    drop(checkpoint);
    let out = child(&path, "full").wait_with_output().unwrap();
    let said = String::from_utf8(out.stderr).unwrap();
    assert!(said.contains("cannot save the checkpoint"), "{said}");
    assert!(said.contains("File too large"), "{said}");
    assert_eq!(open(&path).unwrap().1, Restored::Current(State::at(1)));
    assert!(!beside(&path, ".new").exists());
}

#[test]
fn after_sigkill_at_any_moment_it_is_the_old_state_or_the_new_one() {
    killed_at_random(200);
}

#[test]
#[ignore = "takes minutes"]
fn after_sigkill_at_any_moment_5_000_times() {
    killed_at_random(5_000);
}

fn killed_at_random(rounds: u32) {
    let (directory, path) = place();
    let mut known = 0;
    let mut steps = 0;
    let mut random = Random::new("killed at random");
    for _ in 0..rounds {
        let (mut child, first) = saver(&path);
        known = known.max(first);
        // The child has saved once when it is here; then it goes on as fast as it can.
        std::thread::sleep(random.up_to(Duration::from_millis(4)));
        kill(&mut child);
        let mut said = String::new();
        child
            .stderr
            .take()
            .unwrap()
            .read_to_string(&mut said)
            .unwrap();
        // The last line may be cut off, as its writer was.
        let whole = said.rfind('\n').map_or("", |end| &said[..end]);
        let last: u64 = whole
            .lines()
            .last()
            .map_or(known, |line| line.parse().unwrap());
        let (checkpoint, restored) = open(&path).unwrap();
        let Restored::Current(state) = restored else {
            panic!("{restored:?}")
        };
        // What it said it had saved is there; at most the one that was on its way is newer.
        assert!(
            state.next == last.max(known) || state.next == last.max(known) + 1,
            "{} {last} {known}",
            state.next
        );
        assert_eq!(
            state,
            State::at(state.next),
            "neither the old state nor the new one"
        );
        assert_eq!(checkpoint.generation(), state.next);
        steps += u64::from(state.next > first);
        known = state.next;
    }
    assert!(
        steps > u64::from(rounds) / 10,
        "hardly any was killed while saving: {steps}"
    );
    let left = names(&directory);
    assert!(left.len() <= 4, "litter: {left:?}");
}

/// A process that has the checkpoint open, has saved once, with this number, and goes on saving.
fn saver(path: &Path) -> (Child, u64) {
    let mut child = child(path, "save");
    let mut line = String::new();
    // Byte by byte: the rest of what it says is for whoever asks later.
    let stderr = child.stderr.as_mut().unwrap();
    let mut reader = BufReader::with_capacity(1, stderr);
    reader.read_line(&mut line).unwrap();
    let first = line.trim().parse();
    (child, first.unwrap_or_else(|_| panic!("{line}")))
}

/// What it has to say is on stderr; stdout is the test harness's.
fn child(path: &Path, what: &str) -> Child {
    // A file may have a block, of 512 bytes or of 1,024, where the disk is to be full.
    let limit = if what == "full" { "ulimit -f 1; " } else { "" };
    Command::new("sh")
        .args(["-c", &format!("trap '' XFSZ; {limit}exec \"$0\" \"$@\"")])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "the_child", "--nocapture", "--ignored"])
        .env("WINDDOWN_CHECKPOINT", path)
        .env("WINDDOWN_CHECKPOINT_DO", what)
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
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
    let (mut checkpoint, restored) = open(Path::new(&path)).unwrap();
    let mut state = restored.into_state().unwrap_or_default();
    if what == "full" {
        eprintln!("{}", checkpoint.save(&State::at(499)).unwrap_err());
        return;
    }
    loop {
        state = State::at(state.next + 1);
        checkpoint.save(&state).unwrap();
        eprintln!("{}", state.next);
    }
}

fn kill(child: &mut Child) {
    child.kill().unwrap();
    child.wait().unwrap();
}
