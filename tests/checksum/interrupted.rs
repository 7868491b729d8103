//! Interrupted by a signal: what is finished, what is left, and how the next run goes on.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::ExitStatusExt;
use std::time::{Duration, Instant, SystemTime};

use nix::sys::signal::Signal;

use crate::place::{ENDLESS, Place, assert_part_of, endless, lines};
use crate::process::{Process, until};
use crate::{FAR, reads};

#[test]
fn a_file_in_hand_is_finished_and_none_is_begun() {
    let place = Place::in_memory();
    place.file("a", "a");
    place.sparse("large", 1 << 30);
    place.file("z", "z");
    let mut running = place.start(&["--threads", "1"]);
    until("the large file to be opened", || {
        reads(&running, "tree/large")
    });
    running.signal(Signal::SIGINT);
    let status = running.end();
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
    let mut running = place.start(&["--threads", "2", "--grace-period", "3"]);
    until("the first save", || place.path("out").exists());
    let stopped = Instant::now();
    running.signal(Signal::SIGTERM);
    let status = running.end();
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
    let mut running = place.start(&["--threads", "1"]);
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
    let status = running.end_by(FAR, |running| running.signal(Signal::SIGINT));
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
    let mut running = place.start(&["--threads", "1"]);
    until("the first save", || place.path("out").exists());
    running.end_by(FAR, |running| running.signal(Signal::SIGINT));
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
    let mut running = place.start(&["--threads", "1"]);
    until("the first save", || place.path("out").exists());
    running.end_by(FAR, |running| running.signal(Signal::SIGINT));
    let mut state = fs::read(place.path("out.partial")).unwrap();
    let middle = state.len() / 2;
    state[middle] ^= 1;
    fs::write(place.path("out.partial"), state).unwrap();

    place.sparse("endless", 9);
    let whole = place.complete(&[]);
    assert!(
        place
            .stderr()
            .contains("out.partial\" is damaged: hashing everything again"),
        "{}",
        place.stderr()
    );
    assert_eq!(whole, place.expected());
}

#[test]
fn a_run_that_is_interrupted_at_once_leaves_the_old_manifest_alone() {
    let place = Place::in_memory();
    place.file("a", "a");
    let old = place.complete(&[]);
    place.sparse("0", ENDLESS);
    let mut running = place.start(&["--threads", "1", "--grace-period", "1"]);
    until("the endless file to be opened", || {
        reads(&running, "tree/0")
    });
    running.signal(Signal::SIGINT);
    assert_eq!(running.end().signal(), Some(2));
    assert_eq!(place.manifest(), old);
}

#[test]
fn a_second_run_for_the_same_manifest_is_told_who_the_first_is() {
    let (place, _) = endless();
    let mut first = place.start(&["--threads", "1"]);
    until("the first save", || place.path("out").exists());
    let manifest = place.manifest();
    let second = Process::start(place.hash(&[])).end();
    assert_eq!(second.code(), Some(1), "{}", place.stderr());
    let told = format!("out.partial is in use by process {} (", first.pid());
    assert!(place.stderr().contains(&told), "{}", place.stderr());
    assert_eq!(place.manifest(), manifest);
    // Of another manifest in the same place, it is none of the first's business.
    let mut other = Process::start(place.command(&["tree/c", "--out", "other"]));
    assert!(other.end().success(), "{}", place.stderr());
    // Killed, it leaves no lock that somebody would have to remove.
    first.signal(Signal::SIGKILL);
    first.end();
    place.sparse("endless", 9);
    assert_eq!(place.complete(&[]), place.expected());
}

#[test]
fn names_of_any_bytes_survive_an_interruption() {
    let (place, _) = endless();
    let names: [&[u8]; 6] = [
        b"a not utf-8 \xff\xfe\x80",
        b"a line\nbreak",
        b"a \"quote\"",
        b"a back\\slash",
        b"a \x01\x7f",
        "a gr\u{fc}n \u{2014}".as_bytes(),
    ];
    for name in names {
        place.file(OsStr::from_bytes(name), name);
    }
    let mut running = place.start(&["--threads", "1"]);
    until("the first save", || place.path("out").exists());
    running.signal(Signal::SIGKILL);
    running.end();
    place.sparse("endless", 9);
    let whole = place.complete(&[]);
    assert!(
        place.stderr().contains("9 unchanged, 1 file"),
        "{}",
        place.stderr()
    );
    assert_eq!(whole, place.expected());
    assert_eq!(place.names(), ["out", "stderr", "tree"]);
}
