//! What cannot be read, written or meant.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::process::Command;

use crate::place::{ENDLESS, HASH_TREE, Place, lines};
use crate::process::{Process, until};
use crate::{example, reads};

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
    // Not by this process: what another test starts meanwhile would have the copy open for writing, and so it would be
    // "text file busy".
    let copied = Command::new("cp")
        .arg("-p")
        .args([&example::binary("checksum"), &reachable])
        .status();
    assert!(copied.unwrap().success());
    mode("tree/locked", 0);
    mode("tree/locked.d", 0);

    let mut command = place.command_of(&reachable, &HASH_TREE);
    if rustix::process::geteuid().is_root() {
        // Root may read everything; nobody may not. The supplementary groups go as well.
        command.uid(65534).gid(65534);
    }
    let status = Process::start(command).end();
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
            "foreign.partial: it is no checkpoint",
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
        let status = Process::start(place.command(arguments)).end();
        let stderr = place.stderr();
        assert_eq!(status.code(), Some(code), "{arguments:?}: {stderr}");
        assert!(stderr.contains(told), "{arguments:?}: {stderr}");
        assert!(!place.path("out").exists(), "{arguments:?}");
    }
}

#[test]
fn a_manifest_that_cannot_be_written_is_found_out_at_once() {
    let place = Place::in_memory();
    place.sparse("endless", ENDLESS);
    fs::create_dir(place.path("locked")).unwrap();
    // Root may write everywhere but here.
    let out = if rustix::process::geteuid().is_root() {
        "/proc/out"
    } else {
        "locked/out"
    };
    fs::set_permissions(place.path("locked"), PermissionsExt::from_mode(0o555)).unwrap();
    let command = place.command(&["tree", "--out", out]);
    assert_eq!(Process::start(command).end().code(), Some(1));
    assert!(
        place.stderr().contains("cannot open the checkpoint")
            && place.stderr().contains(&format!("{out}.partial")),
        "{}",
        place.stderr()
    );
}

#[test]
fn a_manifest_that_cannot_be_written_in_the_end_is_an_error() {
    let place = Place::in_memory();
    place.sparse("large", 1 << 30);
    fs::create_dir(place.path("gone")).unwrap();
    let mut running = Process::start(place.command(&["tree", "--out", "gone/out"]));
    until("the file to be opened", || reads(&running, "tree/large"));
    fs::remove_dir_all(place.path("gone")).unwrap();
    let status = running.end();
    assert_eq!(status.code(), Some(1), "{}", place.stderr());
    let stderr = place.stderr();
    assert!(
        stderr.contains("cannot write \"gone/out\": No such file or directory"),
        "{stderr}"
    );
}
