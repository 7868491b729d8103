//! What is in a complete manifest.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;

use crate::place::Place;
use crate::process::Process;

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
        let command = place.command(&["tree", "--out", "tree/sub/../out"]);
        assert!(Process::start(command).end().success());
        assert_eq!(fs::read(place.path("tree/out")).unwrap(), expected);
    }
}

#[test]
fn a_tree_without_files_has_an_empty_manifest() {
    let place = Place::new();
    assert_eq!(place.complete(&[]), b"");
}
