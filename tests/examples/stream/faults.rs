//! What cannot be read, or written.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};

use super::{Place, text};
use crate::example;
use crate::process::Process;

/// Refused, before anything was read: with these words, and COUNTS as it was.
#[track_caller]
fn assert_refused(place: &Place, arguments: &[&str], words: &[&str]) {
    let mut command = example::command("stream", arguments);
    command.current_dir(place.dir.path());
    command.stderr(std::process::Stdio::piped());
    let before = place.counts();
    let ended = place.end(Process::start(command));
    assert_eq!(ended.status.code(), Some(1), "{}", ended.said);
    assert_eq!(ended.said.lines().count(), 1, "{}", ended.said);
    assert!(ended.said.starts_with("Error: "), "{}", ended.said);
    for word in words {
        assert!(ended.said.contains(word), "no {word:?} in {}", ended.said);
    }
    assert_eq!(place.counts(), before);
}

#[test]
fn what_cannot_be_opened_is_refused_before_anything_is_read() {
    let place = Place::new(&[("a", b"a\n"), ("counts", b"the old one")]);
    fs::create_dir(place.path("dir")).unwrap();
    symlink("a", place.path("link")).unwrap();
    fs::hard_link(place.path("a"), place.path("hard")).unwrap();
    symlink("nowhere", place.path("dangling")).unwrap();
    let out = ["--out", "counts"];
    for (files, words) in [
        (&["a", "missing"][..], &["\"missing\"", "No such file"][..]),
        (&["dir", "a"], &["\"dir\"", "directory"]),
        (&["a", "a"], &["\"a\" and \"a\"", "same file"]),
        (&["a", "./a"], &["\"./a\"", "same file"]),
        (&["link", "a"], &["\"link\" and \"a\"", "same file"]),
        (&["a", "hard"], &["\"hard\"", "same file"]),
        (&["a", "dangling"], &["\"dangling\"", "No such file"]),
        (&["a", "counts"], &["\"counts\"", "one of the files"]),
    ] {
        assert_refused(&place, &[files, &out].concat(), words);
    }
    for (out, words) in [
        ("no/counts", &["\"no/counts\"", "No such file"][..]),
        ("dir", &["\"dir\"", "not a regular file"]),
        ("/dev/null", &["\"/dev/null\"", "not a regular file"]),
        ("a", &["\"a\"", "one of the files"]),
        ("link", &["one of the files"]),
        ("a/counts", &["\"a/counts\"", "Not a directory"]),
        ("dangling", &["\"dangling\"", "No such file"]),
    ] {
        assert_refused(&place, &["a", "--out", out], words);
    }
    assert_eq!(fs::read(place.path("a")).unwrap(), b"a\n");
}

#[test]
fn what_may_not_be_opened_is_refused() {
    if rustix::process::geteuid().is_root() {
        println!("skipped: root may open everything");
        return;
    }
    let place = Place::new(&[("a", b"a\n"), ("secret", b"a\n")]);
    let none = fs::Permissions::from_mode(0o000);
    fs::set_permissions(place.path("secret"), none).unwrap();
    let arguments = ["a", "secret", "--out", "counts"];
    assert_refused(&place, &arguments, &["\"secret\"", "Permission denied"]);
    fs::create_dir(place.path("closed")).unwrap();
    let read_only = fs::Permissions::from_mode(0o500);
    fs::set_permissions(place.path("closed"), read_only).unwrap();
    let arguments = ["a", "--out", "closed/counts"];
    assert_refused(
        &place,
        &arguments,
        &["\"closed/counts\"", "Permission denied"],
    );
}

#[test]
fn counts_is_written_through_a_symlink() {
    let place = Place::new(&[("a", b"a\n")]);
    fs::create_dir(place.path("dir")).unwrap();
    fs::write(place.path("dir/real"), "old").unwrap();
    symlink("dir/real", place.path("counts")).unwrap();
    let ended = place.run(&[]);
    place.assert_exactly_once(&ended);
    assert!(
        fs::symlink_metadata(place.path("counts"))
            .unwrap()
            .is_symlink()
    );
}

#[test]
fn a_read_error_ends_one_file_and_not_what_was_read() {
    let (broken, whole) = (text(1_000, "broken"), text(1_000, "whole"));
    for policy in ["all", "any"] {
        let place = Place::new(&[("broken", &broken), ("whole", &whole)]);
        let path = place.path("broken");
        let path = path.to_str().unwrap();
        let fault = [
            "-P",
            path,
            "-e",
            "trace=read",
            "-e",
            "inject=read:error=EIO:when=5+",
        ];
        let options = ["--batch", "100", "--channel", "1", "--policy", policy];
        let Some(command) = place.traced(&fault, &options) else {
            return;
        };
        let ended = place.end(Process::start(command));
        assert_eq!(ended.status.code(), Some(1), "{}", ended.said);
        assert!(
            ended
                .said
                .contains("cannot read \"broken\" to its end: Input/output error"),
            "{}",
            ended.said
        );
        let read = ended
            .read
            .clone()
            .unwrap_or_else(|| panic!("{}", ended.said));
        assert!(read[0] > 0 && read[0] < 1_000, "{read:?}");
        assert_eq!(read[1], 1_000, "the other goes on");
        place.assert_exactly_once(&ended);
    }
}

#[test]
fn counts_that_cannot_be_written_are_no_success() {
    let place = Place::new(&[("a", b"a\n")]);
    fs::write(place.path("counts"), "the old one").unwrap();
    let fault = ["-e", "trace=fsync", "-e", "inject=fsync:error=ENOSPC"];
    let Some(command) = place.traced(&fault, &[]) else {
        return;
    };
    let ended = place.end(Process::start(command));
    assert_eq!(ended.status.code(), Some(1), "{}", ended.said);
    let error = "Error: cannot write \"counts\": No space left on device";
    assert!(ended.said.contains(error), "{}", ended.said);
    assert_eq!(ended.read, Some(vec![1]), "{}", ended.said);
    assert_eq!(place.counts().unwrap(), b"the old one");
    println!("{}", ended.said);
}
