//! Interrupted and killed at moments that nobody chose.

use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use crate::example;
use crate::place::{Place, assert_part_of, grove, lines};
use crate::random::Random;

/// What comes of it, and how long that takes.
fn one_run(place: &Place) -> (Vec<u8>, Duration) {
    // Which may build it first: that is not to be counted, or no moment after it would come before the end.
    example::binary("checksum");
    let started = Instant::now();
    let whole = place.complete(&[]);
    let took = started.elapsed();
    fs::remove_file(place.path("out")).unwrap();
    (whole, took)
}

#[test]
fn interrupted_and_resumed_it_is_the_manifest_of_one_run() {
    let place = grove();
    let (whole, took) = one_run(&place);
    assert_eq!(lines(&whole).len(), 224);

    let mut random = Random::new("interrupted_and_resumed");
    let (mut interrupted, mut resumed, mut completed) = (0, 0, 0);
    while interrupted < 20 {
        let mut running = place.start(&[]);
        thread::sleep(random.up_to(took / 3));
        running.signal(if interrupted % 3 == 2 {
            Signal::SIGTERM
        } else {
            Signal::SIGINT
        });
        let status = running.end();
        resumed += usize::from(
            place
                .stderr()
                .contains("going on where the last run stopped"),
        );
        if place.path("out").exists() {
            assert_part_of(&place.manifest(), &whole);
        }
        match status.signal() {
            // It may be over before the signal, or with it.
            _ if place.path("out").exists() && !place.is_interrupted() => {
                completed += 1;
                assert_eq!(place.manifest(), whole);
                fs::remove_file(place.path("out")).unwrap();
            }
            Some(_) => interrupted += 1,
            None => panic!("{status}, and not complete: {}", place.stderr()),
        }
    }
    println!(
        "{interrupted} interrupted, {resumed} of all went on from another, {completed} became complete; one run: {took:?}"
    );
    assert!(resumed > 0, "no run has gone on from another");
    assert_eq!(place.complete(&[]), whole);
    place.assert_accepted();
}

#[test]
fn killed_at_random_it_loses_nothing_that_was_saved() {
    let place = grove();
    let (whole, took) = one_run(&place);

    let mut random = Random::new("killed_at_random");
    let (mut killed, mut saved, mut rounds) = (0, 0, 0);
    let mut before = 0;
    while killed < 8 || saved < 8 {
        rounds += 1;
        assert!(
            rounds < 200,
            "{killed} were killed, {saved} saved more than there was"
        );
        let mut running = place.start(&[]);
        thread::sleep(random.up_to(took / 3));
        // A polite signal first makes it save: so the kill meets that as well.
        running.signal(Signal::SIGINT);
        if rounds % 4 > 0 {
            thread::sleep(random.up_to(took / 20));
            running.signal(Signal::SIGKILL);
        }
        killed += usize::from(running.end().signal() == Some(9));
        if !place.path("out").exists() {
            continue;
        }
        let manifest = place.manifest();
        assert_part_of(&manifest, &whole);
        if place.is_interrupted() {
            saved += usize::from(lines(&manifest).len() > before);
            assert!(lines(&manifest).len() >= before, "lost what was saved");
            before = lines(&manifest).len();
        } else {
            assert_eq!(manifest, whole);
            fs::remove_file(place.path("out")).unwrap();
            before = 0;
        }
    }
    println!("{killed} of {rounds} were killed, {saved} saved more than there was");
    assert_eq!(place.complete(&[]), whole);
    place.assert_accepted();
}
