//! When a member dies, or is taken for dead.

use std::time::{SystemTime, UNIX_EPOCH};

use nix::sys::signal::Signal;
use winddown::{ClaimError, GivenUp, PreviousRun, Written};

use super::{BEAT, Program, Way, brittle, keys, patient};
use crate::common::FAR;
use crate::process::until;
use crate::worker::Worker;

pub(crate) fn a_member_of_another_host_is_dead_when_its_heart_has_stood_still(way: &dyn Way) {
    let ledger = way.open();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let minute_ago = now.as_millis() - 60_000;
    let strangers = [("late", 1000), ("in time", 3_600_000)];
    for (id, (name, dead_after)) in strangers.iter().enumerate() {
        way.by_hand(&format!(
            "INSERT INTO winddown_members (id, name, host, boot, pid, started, heartbeat, beats, \
                 dead_after, max_crashes, phase) \
             VALUES ({}, '{name}', 'elsewhere', 'another', 1, {minute_ago}, {minute_ago}, 5, \
                 {dead_after}, 1, 'cleaning')",
            9000 + id
        ));
    }
    let found = ledger.previous_run("late").unwrap();
    assert!(
        matches!(&found, PreviousRun::Killed { phase, in_flight: 0, .. } if phase == "cleaning"),
        "{found}"
    );
    assert_eq!(ledger.previous_run("in time").unwrap(), PreviousRun::None);
    let _program = Program::start(&ledger, patient("worker"));
    let left: Vec<String> = ledger
        .members()
        .unwrap()
        .iter()
        .map(|member| member.name().to_owned())
        .collect();
    assert_eq!(left, ["worker", "in time"]);
    assert_eq!(ledger.previous_run("late").unwrap(), found);
}

pub(crate) fn a_killed_process_is_found_dead_and_pruned_once(way: &dyn Way) {
    let ledger = way.open();
    // Long before it would count as dead by its heartbeat.
    let pruners: Vec<Program> = (0..3)
        .map(|_| Program::start(&way.open(), patient("pruner")))
        .collect();
    let mut worker = Worker::start(way, "worker", "max_crashes=2");
    worker.tell("claim a");
    worker.line("claimed a crashes=0");
    worker.tell("claim b");
    worker.line("claimed b crashes=0");
    worker.tell("complete b");
    worker.line("stored");
    let id = worker.id;
    worker.kill();
    until("it to be pruned", || {
        ledger.members().unwrap().len() == pruners.len()
    });
    assert_eq!(ledger.released().unwrap(), ["a"]);
    let found = ledger.previous_run("worker").unwrap();
    assert!(
        matches!(&found, PreviousRun::Killed { phase, hook: None, in_flight: 1, .. } if phase == "running"),
        "{found}"
    );
    // Pruned once: one crash, not as many as there were pruners.
    let mut second = Worker::start(way, "worker", "max_crashes=2");
    second.tell("claim a");
    second.line("claimed a crashes=1");
    let heard = ledger.members().unwrap().last().unwrap().last_heartbeat();
    let second_id = second.id;
    second.kill();
    until("it to be given up", || keys(&ledger) == ["a"]);
    let failed = &ledger.failed().unwrap()[0];
    assert_eq!(failed.crashes(), 2);
    match failed.why() {
        GivenUp::Pruned {
            member,
            id,
            last_heartbeat,
            ..
        } => {
            assert_eq!((&**member, *id), ("worker", second_id));
            assert!(*last_heartbeat >= heard);
        }
        other => panic!("{other:?}"),
    }
    assert!(id < second_id);
    let refused = pruners[0].member.claim("a", &());
    assert!(
        matches!(refused, Err(ClaimError::GivenUp(_))),
        "{refused:?}"
    );
}

pub(crate) fn what_a_killed_process_was_doing_is_known(way: &dyn Way) {
    let ledger = way.open();
    let mut worker = Worker::start(way, "worker", "hook=flush");
    worker.tell("claim a");
    worker.line("claimed a");
    worker.process.signal(Signal::SIGTERM);
    worker.line("in the hook");
    let said = || ledger.members().unwrap()[0].hook() == Some("flush");
    until("the hook to be known", said);
    worker.kill();
    let expected = "killed while cleaning, in the hook flush, with 1 in flight";
    // Also before anybody has pruned it.
    assert_eq!(ledger.previous_run("worker").unwrap().to_string(), expected);
    let _pruner = Program::start(&ledger, patient("pruner"));
    assert_eq!(ledger.members().unwrap().len(), 1);
    assert_eq!(ledger.previous_run("worker").unwrap().to_string(), expected);
}

pub(crate) fn a_hook_of_any_name_stops_no_heart(way: &dyn Way) {
    let ledger = way.open();
    let program = Program::start(&ledger, brittle("worker"));
    let (in_hook, begun) = std::sync::mpsc::channel();
    let (go, gone) = std::sync::mpsc::channel::<()>();
    program.shutdown.hook("zero \0 byte", move || {
        in_hook.send(()).unwrap();
        gone.recv().unwrap();
    });
    std::thread::scope(|scope| {
        let ending = scope.spawn(|| program.shutdown.shutdown());
        begun.recv().unwrap();
        let row = || ledger.members().unwrap().remove(0);
        until("it to be said", || {
            row().hook().is_some_and(|hook| hook.starts_with("zero")) || program.member.is_fenced()
        });
        go.send(()).unwrap();
        assert_eq!(ending.join().unwrap().exit_code(), 0);
    });
}

pub(crate) fn a_forced_run_is_told_from_a_killed_one(way: &dyn Way) {
    let ledger = way.open();
    let mut worker = Worker::start(way, "worker", "hook=flush");
    worker.process.signal(Signal::SIGTERM);
    worker.line("in the hook");
    until("the hook to be known", || {
        ledger.members().unwrap()[0].hook().is_some()
    });
    worker
        .process
        .end_by(FAR, |worker| worker.signal(Signal::SIGTERM));
    let found = ledger.previous_run("worker").unwrap();
    assert_eq!(
        found.to_string(),
        "forced while cleaning, in the hook flush, with 0 in flight"
    );
    let _pruner = Program::start(&ledger, patient("pruner"));
    assert_eq!(ledger.previous_run("worker").unwrap(), found);
}

pub(crate) fn a_run_that_is_out_of_time_says_so(way: &dyn Way) {
    let ledger = way.open();
    // The owner does not come back: the process is ended without it.
    let mut worker = Worker::start(way, "worker", "grace=1000 deaf");
    worker.tell("claim a");
    worker.line("claimed a");
    worker.process.signal(Signal::SIGTERM);
    let status = worker.process.end();
    assert_eq!(status.code(), Some(124));
    assert_eq!(
        ledger.previous_run("worker").unwrap(),
        PreviousRun::TimedOut
    );
    assert!(ledger.members().unwrap().is_empty(), "it has left");
    assert_eq!(ledger.released().unwrap(), ["a"]);
}

pub(crate) fn one_that_wakes_up_too_late_is_fenced_and_refused(way: &dyn Way) {
    let ledger = way.open();
    let program = Program::start(&way.open(), patient("pruner"));
    let mut worker = Worker::start(way, "worker", "heartbeat=50 dead_after=1000 hold");
    worker.tell("claim a");
    worker.line("claimed a");
    worker.process.signal(Signal::SIGSTOP);
    until("it to be pruned", || keys(&ledger) == ["a"]);
    assert!(ledger.retry("a").unwrap());
    let claim = program.member.claim("a", &()).unwrap();
    // Told while it is stopped: among the first things it does.
    worker.tell("complete a");
    worker.process.signal(Signal::SIGCONT);
    assert_eq!(worker.process.end().code(), Some(1));
    let said = worker.process.out.all();
    assert!(said.contains("refused: too late"), "{said}");
    assert!(
        said.contains("stopped: member worker counts as dead"),
        "{said}"
    );
    assert_eq!(ledger.previous_run("worker").unwrap(), PreviousRun::Fenced);
    // It has changed nothing.
    assert_eq!(claim.complete().unwrap(), Written::Stored);
    assert!(!program.member.is_fenced());
}

pub(crate) fn one_that_is_stopped_for_less_than_that_goes_on(way: &dyn Way) {
    let ledger = way.open();
    let pruner = Program::start(&way.open(), patient("pruner"));
    let mut worker = Worker::start(way, "worker", "heartbeat=50 dead_after=60000");
    worker.tell("claim a");
    worker.line("claimed a");
    worker.process.signal(Signal::SIGSTOP);
    let id = pruner.member.id();
    let beats = || {
        let members = ledger.members().unwrap();
        members
            .iter()
            .find(|member| member.id() == id)
            .unwrap()
            .last_heartbeat()
    };
    let first = beats();
    until("the pruner to have looked", || beats() > first + BEAT * 10);
    worker.process.signal(Signal::SIGCONT);
    worker.tell("complete a");
    worker.line("stored");
    worker.process.signal(Signal::SIGTERM);
    assert_eq!(worker.process.end().code(), Some(0));
    assert!(ledger.failed().unwrap().is_empty());
}
