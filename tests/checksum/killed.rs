//! Killed, without a chance to save.

use std::os::unix::process::ExitStatusExt;
use std::process::Command;
use std::thread;

use nix::sys::signal::Signal;

use crate::example;
use crate::place::{HASH_TREE, endless};
use crate::process::{Process, until};

#[test]
fn killed_it_goes_on_from_what_it_saved_while_hashing() {
    let (place, finished) = endless();
    let mut running = place.start(&["--threads", "1"]);
    until("the first save", || place.path("out").exists());
    running.signal(Signal::SIGKILL);
    running.end();
    assert_eq!(place.manifest(), finished);
    assert!(place.is_interrupted());

    place.sparse("endless", 3);
    let whole = place.complete(&[]);
    assert!(
        place
            .stderr()
            .contains("stopped: 3 unchanged, 1 file (3 B) to hash"),
        "{}",
        place.stderr()
    );
    assert_eq!(whole, place.expected());
}

/// Each system call of a save that changes anything on the disk, and the process gone just before it.
#[test]
fn killed_at_any_step_of_a_save_both_files_hold() {
    // With -D the program stays this test's child, and goes with it; strace goes with the program.
    let strace = ["-D", "-f", "-o", "/dev/null"];
    let traces = Command::new("strace").args(strace).arg("true").output();
    if !traces.is_ok_and(|output| output.status.success()) {
        eprintln!("skipped, since there is no strace here, or it may not trace");
        return;
    }
    let steps = [
        ("/^rename", 1),
        ("/^rename", 2),
        ("fsync", 1),
        ("fsync", 2),
        ("fsync", 3),
        ("fsync", 4),
    ];
    // Side by side, since each waits for its save.
    thread::scope(|scope| {
        for (call, time) in steps {
            scope.spawn(move || {
                let (place, finished) = endless();
                let mut command = place.command_of("strace", &strace);
                command
                    .args(["-e", &format!("trace={call}")])
                    .args(["-e", &format!("inject={call}:signal=KILL:when={time}")])
                    .arg(example::binary("checksum"))
                    .args(HASH_TREE)
                    .args(["--threads", "1"]);
                let status = Process::start(command).end();
                assert_eq!(
                    status.signal(),
                    Some(9),
                    "{call} {time}: {}",
                    place.stderr()
                );
                if place.path("out").exists() {
                    assert_eq!(place.manifest(), finished);
                    assert!(
                        place.is_interrupted(),
                        "{call} {time}: it passes for a complete one"
                    );
                }
                place.sparse("endless", 3);
                assert_eq!(place.complete(&[]), place.expected());
            });
        }
    });
}
