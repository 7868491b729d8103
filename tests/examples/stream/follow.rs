//! Files that others still write to, and pipes.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::process::ExitStatusExt;
use std::process::Stdio;
use std::time::Instant;

use nix::sys::signal::Signal;
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;
use rustix::io::ioctl_fionread;

use super::{Place, assert_same};
use crate::SLACK;
use crate::process::{Process, until};

impl Place {
    /// Appends, and waits until that has been read.
    fn append(&self, process: &Process, name: &str, content: &str) {
        let end = self.append_last(name, content);
        self.wait_for_position(process, name, end);
    }

    /// Appends what ends the program, maybe. Gives the file's length.
    fn append_last(&self, name: &str, content: &str) -> u64 {
        let mut file = OpenOptions::new()
            .append(true)
            .open(self.path(name))
            .unwrap();
        file.write_all(content.as_bytes()).unwrap();
        file.metadata().unwrap().len()
    }
}

#[test]
fn half_lines_are_no_lines_until_they_are_whole() {
    let place = Place::new(&[("a", b"one\ntw"), ("b", b"")]);
    let process = place.start(&["--follow", "--batch", "5", "--channel", "1"]);
    place.append(&process, "b", "ex");
    place.append(&process, "a", "o thr");
    place.append(&process, "a", "ee\nfour\n");
    place.append(&process, "a", "ex");
    place.append(&process, "b", "it now\n");
    place.append_last("a", "it\n");
    place.append(&process, "b", "exit");
    // Not yet a line, so that it is still there to read this.
    place.append_last("b", "ing\nlast\nexit\nlate\n");
    let ended = place.end(process);
    assert_eq!(ended.status.code(), Some(0), "{}", ended.said);
    assert_eq!(ended.read, Some(vec![3, 3]), "{}", ended.said);
    place.assert_exactly_once(&ended);
}

#[test]
fn a_stop_leaves_the_half_line() {
    for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP] {
        let place = Place::new(&[("a", b"one\ntwo\nha"), ("b", b"exit")]);
        let process = place.start(&["--follow"]);
        place.wait_for_position(&process, "a", 10);
        place.append(&process, "a", "lf");
        place.wait_for_position(&process, "b", 4);
        let begin = Instant::now();
        process.signal(signal);
        let ended = place.end(process);
        assert!(begin.elapsed() < SLACK, "a sleeping reader is woken");
        match signal {
            Signal::SIGINT => assert_eq!(ended.status.signal(), Some(libc::SIGINT)),
            _ => assert_eq!(ended.status.code(), Some(0)),
        }
        assert_eq!(ended.read, Some(vec![2, 0]), "{}", ended.said);
        assert!(ended.last.starts_with("interrupted; "), "{}", ended.last);
        place.assert_exactly_once(&ended);
    }
}

#[test]
fn a_file_that_became_shorter_is_read_again_from_its_beginning() {
    let place = Place::new(&[("a", b"old old\nold\nhalf")]);
    let process = place.start(&["--follow"]);
    place.wait_for_position(&process, "a", 16);
    File::create(place.path("a")).unwrap();
    place.wait_for_position(&process, "a", 0);
    place.append_last("a", "new\nexit\n");
    let ended = place.end(process);
    assert_eq!(ended.status.code(), Some(0), "{}", ended.said);
    assert!(
        ended.said.contains("\"a\" has become shorter"),
        "{}",
        ended.said
    );
    assert_eq!(ended.read, Some(vec![3]));
    assert_same(&place.counts().unwrap(), b"new 1\nold 3\n");
}

#[test]
fn a_file_that_is_renamed_is_followed() {
    let place = Place::new(&[("a", b"one\n")]);
    let process = place.start(&["--follow"]);
    place.wait_for_position(&process, "a", 4);
    fs::rename(place.path("a"), place.path("a.1")).unwrap();
    fs::write(place.path("a"), "another\nexit\n").unwrap();
    place.append_last("a.1", "two\nexit\n");
    let ended = place.end(process);
    assert_eq!(ended.status.code(), Some(0), "{}", ended.said);
    assert_same(&place.counts().unwrap(), b"one 1\ntwo 1\n");
}

/// A named pipe as the only file; the writer's end is opened when the reader's is.
fn pipe() -> Place {
    let mut place = Place::new(&[]);
    mkfifo(&place.path("pipe"), Mode::S_IRWXU).unwrap();
    place.files.push("pipe");
    place
}

#[test]
fn a_pipe_is_read_until_its_writer_has_gone() {
    let place = pipe();
    let process = place.start(&[]);
    let mut writer = File::create(place.path("pipe")).unwrap();
    writer.write_all(b"a b\nc").unwrap();
    writer.write_all(b"d\na").unwrap();
    drop(writer);
    let ended = place.end(process);
    assert_eq!(ended.status.code(), Some(0), "{}", ended.said);
    assert_eq!(ended.read, Some(vec![3]));
    assert_same(&place.counts().unwrap(), b"a 2\nb 1\ncd 1\n");
}

#[test]
fn a_pipe_with_nothing_in_it_does_not_hold_up_the_stop() {
    let place = pipe();
    let process = place.start(&[]);
    let mut writer = File::create(place.path("pipe")).unwrap();
    writer.write_all(b"a b\nhalf").unwrap();
    // Empty again: all of it has been read.
    until("the pipe to be read", || {
        ioctl_fionread(&writer).unwrap() == 0
    });
    let begin = Instant::now();
    process.signal(Signal::SIGTERM);
    let ended = place.end(process);
    assert!(begin.elapsed() < SLACK, "{:?}", begin.elapsed());
    assert_eq!(ended.status.code(), Some(0), "{}", ended.said);
    // Taken out of the pipe, and handed on or not: the stop may have come between the two.
    match ended.read.as_deref() {
        Some([1]) => assert_same(&place.counts().unwrap(), b"a 1\nb 1\n"),
        Some([0]) => assert_same(&place.counts().unwrap(), b""),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_pipe_that_nobody_ever_writes_to_neither() {
    let place = pipe();
    let mut command = place.command(&["--follow"]);
    command.stdout(Stdio::null());
    let process = Process::start(command);
    let path = place.path("pipe");
    until("the pipe to be opened", || {
        let open = fs::read_dir(format!("/proc/{}/fd", process.pid())).unwrap();
        open.flatten()
            .any(|fd| fs::read_link(fd.path()).is_ok_and(|to| to == path))
    });
    process.signal(Signal::SIGTERM);
    let ended = place.end(process);
    assert_eq!(ended.status.code(), Some(0), "{}", ended.said);
    assert_eq!(ended.read, Some(vec![0]));
    assert_same(&place.counts().unwrap(), b"");
}
