//! Ended from outside, at moments that nobody chose.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Write;
use std::os::fd::OwnedFd;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use nix::unistd::pipe;
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};

use super::{Place, assert_same, oracle, position_of, text};
use crate::FAR;
use crate::process::Process;
use crate::pty::{CTRL_C, Pty};
use crate::random::Random;

const ROUNDS: u32 = 32;

#[test]
fn what_was_read_is_counted_once_whenever_the_signal_comes() {
    let files: Vec<Vec<u8>> = [("a", 5_000), ("b", 10_000), ("c", 7_000)]
        .map(|(name, lines)| text(lines, name))
        .into();
    let place = Place::new(&[("a", &files[0]), ("b", &files[1]), ("c", &files[2])]);
    let options = ["--batch", "500", "--channel", "1"];
    // Which may build it first: that is not to be counted.
    let whole = place.run(&options);
    assert_eq!(whole.read, Some(vec![5_000, 10_000, 7_000]));
    place.assert_exactly_once(&whole);

    let mut random = Random::new("stream");
    let mut seen: BTreeMap<&str, u32> = BTreeMap::new();
    for round in 0..ROUNDS {
        let _ = fs::remove_file(place.path("counts"));
        let signal = [Signal::SIGINT, Signal::SIGTERM][round as usize % 2];
        let process = place.start(&options);
        if round % 8 < 2 {
            // While it starts, too.
            thread::sleep(random.up_to(Duration::from_millis(10)));
        } else {
            let (file, length) = (round as usize % 3, files[round as usize % 3].len() as u64);
            let (path, from) = (place.path(place.files[file]), random.below(length));
            wait_until_read_from(&process, &path, from);
        }
        process.signal(signal);
        let ended = place.end(process);
        let by_signal = ended.status.signal();
        let Some(read) = &ended.read else {
            // Before it had looked at its files.
            let quiet = ["", "interrupted; nothing was read or written"];
            assert!(quiet.contains(&ended.last.as_str()), "{}", ended.said);
            assert_eq!(place.counts(), None, "{}", ended.said);
            *seen.entry("before").or_default() += 1;
            continue;
        };
        place.assert_exactly_once(&ended);
        let class = match (ended.last.starts_with("interrupted; "), read) {
            (true, read) if read.iter().sum::<usize>() > 0 => "in the middle",
            (true, _) => "at the beginning",
            (false, read) => {
                assert_eq!(Some(read), whole.read.as_ref());
                "complete"
            }
        };
        *seen.entry(class).or_default() += 1;
        let expected = match signal {
            Signal::SIGINT => by_signal == Some(libc::SIGINT),
            _ => ended.status.code() == Some(0),
        };
        // The end of the stream may have come first.
        let ok = expected || class == "complete" && ended.status.code() == Some(0);
        assert!(ok, "{signal}, {class}: {}\n{}", ended.status, ended.said);
    }
    println!("{seen:?}");
    let middle = seen.get("in the middle");
    assert!(middle.is_some_and(|&seen| seen >= ROUNDS / 3), "{seen:?}");
}

/// Until so much of the file has been read, or all.
fn wait_until_read_from(process: &Process, file: &Path, from: u64) {
    let begin = Instant::now();
    let mut opened = false;
    loop {
        assert!(begin.elapsed() < FAR, "it does not read");
        match position_of(process, file) {
            Some(position) if position >= from => return,
            None if opened => return,
            position => opened |= position.is_some(),
        }
        // Not to take the processor from it.
        thread::sleep(Duration::from_micros(200));
    }
}

#[test]
fn any_and_a_signal_at_the_same_time() {
    let mut says = text(10_000, "says");
    says.extend_from_slice(b"exit\nlate\n");
    let other = text(20_000, "other");
    let place = Place::new(&[("says", &says), ("other", &other)]);
    let options = ["--policy", "any", "--batch", "500", "--channel", "1"];
    let mut random = Random::new("stream");
    let mut complete = 0;
    for _ in 0..10 {
        let process = place.start(&options);
        // The last part of it.
        let from = says.len() as u64 - random.below(20_000);
        wait_until_read_from(&process, &place.path("says"), from);
        process.signal(Signal::SIGTERM);
        let ended = place.end(process);
        assert_eq!(ended.status.code(), Some(0), "{}", ended.said);
        place.assert_exactly_once(&ended);
        complete += u32::from(ended.read.unwrap()[0] == 10_000);
    }
    println!("{complete} came to the exit");
}

#[test]
fn a_second_signal_leaves_no_half_of_counts() {
    let content = text(30_000, "a");
    let place = Place::new(&[("a", &content)]);
    place.run(&[]);
    let mut random = Random::new("stream");
    let mut seen: BTreeMap<&str, u32> = BTreeMap::new();
    for round in 0..16 {
        let old = (round % 2 == 0).then_some("the old one");
        match old {
            Some(old) => fs::write(place.path("counts"), old).unwrap(),
            None => fs::remove_file(place.path("counts")).unwrap(),
        }
        let mut process = place.start(&["--follow"]);
        place.wait_for_position(&process, "a", content.len() as u64);
        // From here on it counts, sorts and writes: all of it, or as much as the next signals let it.
        process.signal(Signal::SIGTERM);
        process.err.line("writing what was read");
        thread::sleep(random.up_to(Duration::from_millis(400)));
        let status = process.end_by(Duration::from_secs(5), |process| {
            process.signal(Signal::SIGTERM);
        });
        let counts = place.counts();
        let class = if counts.as_deref() == old.map(str::as_bytes) {
            "forced"
        } else {
            // Or all of it, of as many lines as there are first words.
            let counts = counts.unwrap();
            let lines = counts.split(|byte| *byte == b'\n');
            let first = |line: &&[u8]| line.len() > 1 && line[0] == b'a' && line[1] != b' ';
            let lines = lines.filter(first).count();
            assert_same(&counts, &oracle(std::slice::from_ref(&content), &[lines]));
            "written"
        };
        // One that comes after the end has its old effect back (P10).
        let late = status.signal() == Some(libc::SIGTERM);
        let as_written = class == "written" && (late || status.code() == Some(0));
        assert!(
            as_written || status.code() == Some(143),
            "{class}: {status}"
        );
        *seen.entry(class).or_default() += 1;
        fs::write(place.path("counts"), "").unwrap();
    }
    // What it is depends on how fast the machine is: `forced` is sure only in the next test.
    println!("{seen:?}");
}

#[test]
fn a_second_signal_while_the_disk_is_slow_leaves_counts_as_it_was() {
    for old in [None, Some("the old one")] {
        let place = Place::new(&[("a", b"a\n")]);
        if let Some(old) = old {
            fs::write(place.path("counts"), old).unwrap();
        }
        // In the moment before the rename, and far beyond the debounce.
        let slow = ["-e", "trace=fsync", "-e", "inject=fsync:delay_enter=2s"];
        let Some(command) = place.traced(&slow, &["--follow"]) else {
            return;
        };
        let mut process = Process::start(command);
        place.wait_for_position(&process, "a", 2);
        process.signal(Signal::SIGTERM);
        process.err.line("writing what was read");
        let status = process.end_by(FAR, |process| process.signal(Signal::SIGTERM));
        assert_eq!(status.code(), Some(128 + libc::SIGTERM), "{status}");
        assert_eq!(place.counts().as_deref(), old.map(str::as_bytes));
    }
}

#[test]
fn on_a_terminal_ctrl_c_writes_what_was_read() {
    let place = Place::new(&[("a", b"one two\none\nhalf")]);
    let mut pty = Pty::open();
    let mut process = pty.start(place.command(&["--follow"]));
    place.wait_for_position(&process, "a", 16);
    pty.type_key(CTRL_C);
    let status = process.end();
    assert_eq!(status.signal(), Some(libc::SIGINT), "{status}");
    pty.screen
        .line("SIGINT from the terminal: writing what was read");
    pty.screen.line("interrupted; lines read: \"a\" 2");
    assert_same(&place.counts().unwrap(), b"one 2\ntwo 1\n");
}

/// A pipe that takes nothing more.
fn full() -> (OwnedFd, File) {
    let (reader, writer) = pipe().unwrap();
    let mut writer = File::from(writer);
    let flags = fcntl_getfl(&writer).unwrap();
    fcntl_setfl(&writer, flags | OFlags::NONBLOCK).unwrap();
    while writer.write(&[b'x'; 4096]).is_ok() {}
    fcntl_setfl(&writer, flags).unwrap();
    (reader, writer)
}

#[test]
fn a_stdout_and_a_stderr_that_nobody_reads_lose_nothing() {
    for closed in [true, false] {
        for end in ["\nexit\n", "\n"] {
            let content = format!("a\n\u{e9}{end}");
            let place = Place::new(&[("a", content.as_bytes())]);
            let (out_reader, out) = full();
            let (err_reader, err) = full();
            let mut command = place.command(&["--follow"]);
            command.stdout(out).stderr(err);
            // Closed: nobody has its other end.
            let readers = (!closed).then_some((out_reader, err_reader));
            let mut process = Process::start(command);
            if end == "\n" {
                place.wait_for_position(&process, "a", content.len() as u64);
                process.signal(Signal::SIGTERM);
            }
            assert_eq!(process.end().code(), Some(0));
            assert_same(&place.counts().unwrap(), "a 1\n\u{e9} 1\n".as_bytes());
            drop(readers);
        }
    }
}
