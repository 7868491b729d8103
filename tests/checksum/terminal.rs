//! On a terminal.

use std::fs;
use std::os::unix::process::ExitStatusExt;

use crate::FAR;
use crate::place::endless;
use crate::process::{Process, until};
use crate::pty::{CTRL_C, Pty};

#[test]
fn progress_is_shown_on_a_terminal_and_only_there() {
    let (place, _) = endless();
    let pty = Pty::open();
    let mut command = place.hash(&[]);
    command.stderr(pty.line.try_clone().unwrap());
    let running = Process::start(command);
    until("the progress", || pty.screen.all().contains("/1.00 TiB"));
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
    let (place, finished) = endless();
    let mut pty = Pty::open();
    let mut running = pty.start(place.hash(&["--threads", "1"]));
    until("the first save", || place.path("out").exists());
    pty.type_key(CTRL_C);
    until("the word that it waits", || {
        running.out.all().contains("a second Ctrl-C ends at once")
    });
    assert!(running.out.all().contains("SIGINT"));
    let status = running.end_by(FAR, |_| pty.type_key(CTRL_C));
    assert_eq!(status.signal(), Some(2), "{status}: {}", running.out.all());
    assert_eq!(place.manifest(), finished);
}
