//! The end that the data brings.

use super::{Place, text};
use crate::process::Process;

const BATCHES: [&str; 4] = ["1", "7", "4096", "262144"];

/// Name, content, how many lines of it count.
type Case = (&'static str, &'static [u8], usize);

#[test]
fn one_file_to_its_end() {
    let cases: &[Case] = &[
        ("empty", b"", 0),
        ("one line", b"a b a\n", 1),
        ("no line break at the end", b"a b\nc a", 2),
        ("one word", b"a", 1),
        ("blank lines", b"\n\n \n\t\n", 4),
        ("CRLF", b"a b\r\nb\r\n\r\nc", 4),
        ("exit first", b"exit\na\n", 0),
        ("exit alone, without a line break", b"exit", 0),
        ("exit in the middle", b"a\nb a\nexit\na\nexit\nb\n", 2),
        ("exit last", b"a\nb\nexit\n", 2),
        ("exit last, without a line break", b"a\nb\nexit", 2),
        ("exit with CRLF", b"a\r\nexit\r\nb\r\n", 1),
        (
            "no exit",
            b" exit\nexit \nexit exit\nexits\nEXIT\n\"exit\"\nxexit\n",
            7,
        ),
        ("not UTF-8", b"a \xff\n\xc3\xa9\n\xc3\n\xa9 a\n", 4),
        ("not UTF-8 at the end", b"a\n\xe2\x82", 2),
        ("NUL and other control bytes", b"a\0b \0\na\x01 a a!\n", 2),
    ];
    for (name, content, lines) in cases {
        for batch in BATCHES {
            let place = Place::new(&[("file", content)]);
            let ended = place.run(&["--batch", batch, "--channel", "1"]);
            assert_eq!(
                ended.status.code(),
                Some(0),
                "{name}, {batch}: {}",
                ended.said
            );
            assert_eq!(ended.read, Some(vec![*lines]), "{name}, {batch}");
            place.assert_exactly_once(&ended);
        }
    }
}

#[test]
fn lines_that_are_not_utf8_are_told() {
    let place = Place::new(&[
        ("some", b"a\n\xff\nb\n\xc3\xa9\n\xc3\n"),
        ("none", b"\xc3\xa9"),
    ]);
    let ended = place.run(&["--batch", "3"]);
    assert_eq!(ended.status.code(), Some(0));
    assert!(
        ended.said.contains("\"some\": 2 lines are not UTF-8\n"),
        "{}",
        ended.said
    );
    assert!(!ended.said.contains("\"none\": "), "{}", ended.said);
    place.assert_exactly_once(&ended);
}

#[test]
fn lines_longer_than_a_batch() {
    let mut content = vec![b'x'; 3_000_000];
    content.extend_from_slice(b" y\n");
    content.extend_from_slice("word ".repeat(300_000).as_bytes());
    content.extend_from_slice(b"\nz\nexit\n");
    content.extend_from_slice(&vec![b'x'; 100_000]);
    let place = Place::new(&[("long", &content), ("short", b"y\n")]);
    for batch in ["4096", "262144"] {
        let ended = place.run(&["--batch", batch, "--channel", "1"]);
        assert_eq!(ended.status.code(), Some(0), "{}", ended.said);
        assert_eq!(ended.read, Some(vec![3, 1]));
        place.assert_exactly_once(&ended);
    }
}

#[test]
fn all_waits_for_every_file() {
    let (long, longer) = (text(2_000, "b"), text(3_000, "c"));
    let place = Place::new(&[
        ("a", b"one\nexit\ntwo\n"),
        ("b", &long),
        ("empty", b""),
        ("c", &longer),
    ]);
    for batch in BATCHES.into_iter().skip(1) {
        let ended = place.run(&["--batch", batch, "--channel", "1"]);
        assert_eq!(ended.status.code(), Some(0), "{}", ended.said);
        assert_eq!(ended.read, Some(vec![1, 2_000, 0, 3_000]));
        assert!(ended.last.starts_with("lines read: "), "{}", ended.last);
        place.assert_exactly_once(&ended);
    }
}

#[test]
fn any_ends_with_the_first_exit() {
    let long = text(200_000, "long");
    for (name, first, lines) in [
        ("first", &b"exit\n"[..], 0),
        ("in the middle of a batch", b"a\nb\nc\nexit\nd\n", 3),
    ] {
        let place = Place::new(&[("long", &long), ("first", first), ("empty", b"")]);
        let ended = place.run(&["--policy", "any", "--batch", "64", "--channel", "1"]);
        assert_eq!(ended.status.code(), Some(0), "{name}: {}", ended.said);
        let read = ended.read.clone().unwrap();
        assert_eq!(read[1], lines, "{name}");
        assert!(
            read[0] < 200_000,
            "{name}: the other was read to its end all the same"
        );
        assert!(ended.last.starts_with("lines read: "), "{}", ended.last);
        place.assert_exactly_once(&ended);
    }
}

#[test]
fn any_ends_those_that_wait_for_more() {
    let place = Place::new(&[("waits", b"a\nhalf"), ("says", b"b\nexit\n")]);
    let ended = place.run(&["--policy", "any", "--follow"]);
    assert_eq!(ended.status.code(), Some(0), "{}", ended.said);
    // The first may have been too late even for its one line.
    assert_eq!(ended.read.as_ref().unwrap()[1], 1);
    place.assert_exactly_once(&ended);
}

#[test]
fn any_without_an_exit_ends_when_all_have_ended() {
    let place = Place::new(&[("a", b"a\nb"), ("b", b"b\n"), ("empty", b"")]);
    let ended = place.run(&["--policy", "any"]);
    assert_eq!(ended.status.code(), Some(0), "{}", ended.said);
    assert_eq!(ended.read, Some(vec![2, 1, 0]));
    place.assert_exactly_once(&ended);
}

#[test]
fn the_grace_period_does_not_hurry_the_end_of_the_data() {
    let place = Place::new(&[("a", b"a\nexit\n"), ("b", b"b\n")]);
    // The disk takes longer than an interrupted run would have.
    let slow = ["-e", "trace=fsync", "-e", "inject=fsync:delay_enter=2s"];
    let Some(command) = place.traced(&slow, &["--grace-period", "1"]) else {
        return;
    };
    let ended = place.end(Process::start(command));
    assert_eq!(ended.status.code(), Some(0), "{}", ended.said);
    assert_eq!(ended.read, Some(vec![1, 1]));
    place.assert_exactly_once(&ended);
}
