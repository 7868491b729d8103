//! What goes wrong beside the store: files that are moved, descriptors that run out, clocks that jump.

use std::fs;
use std::thread;
use std::time::Duration;

use nix::sys::signal::Signal;
use winddown::{Ledger, LedgerError, Membership, PreviousRun, StopReason, WriteError, Written};

use crate::common::{FAR, embedded};
use crate::conformance::{BEAT, Program, Way, brittle, patient};
use crate::process::until;
use crate::sqlite::{Away, InFile, journals};
use crate::worker::Worker;

fn keys(ledger: &Ledger) -> Vec<String> {
    let failed = ledger.failed().unwrap();
    failed.iter().map(|claim| claim.key().to_owned()).collect()
}

#[test]
fn a_verdict_that_nobody_took_can_be_given_again() {
    let file = InFile::new();
    let ledger = file.open();
    let shutdown = embedded()
        .cleanup_reserve(Duration::from_millis(400))
        .install()
        .unwrap();
    let slow = Membership::new("worker").heartbeat(FAR / 4).dead_after(FAR);
    let member = ledger.join(&shutdown, slow).unwrap();
    let hold = shutdown.hold("work").unwrap();
    let (done, dropped) = (
        member.claim("done", &()).unwrap(),
        member.claim("dropped", &()).unwrap(),
    );
    // Nothing can be written into a directory.
    fs::create_dir(format!("{}.member-{}.journal", file.address(), member.id())).unwrap();
    let away = Away::of(&file);
    shutdown.stop("enough");
    for claim in [&done, &dropped] {
        let refused = claim.complete();
        assert!(
            matches!(
                &refused,
                Err(WriteError::Store {
                    journal: Some(_),
                    ..
                })
            ),
            "{refused:?}"
        );
    }
    away.over();
    assert_eq!(done.complete().unwrap(), Written::Stored);
    drop(dropped);
    assert_eq!(ledger.released().unwrap(), ["dropped"]);
    drop(hold);
}

#[test]
fn what_was_kept_stays_while_there_is_no_descriptor_to_read_it() {
    let file = InFile::new();
    let ledger = file.open();
    let mut worker = Worker::start(&file, "worker", "heartbeat=50 dead_after=600000");
    worker.tell("claim a");
    worker.line("claimed");
    let away = Away::of(&file);
    worker.tell("complete a");
    worker.line("kept");
    worker.tell("exhaust -");
    worker.line("exhausted");
    away.over();
    let heard = || ledger.members().unwrap()[0].last_heartbeat();
    let first = heard();
    until("the heart to beat", || heard() > first + BEAT * 5);
    worker.kill();
    let _pruner = Program::start(&ledger, patient("pruner"));
    assert!(keys(&ledger).is_empty(), "it was done");
    assert_eq!((ledger.members().unwrap().len(), journals(&file)), (1, 0));
}

#[test]
fn a_long_journal_keeps_no_heart_from_beating() {
    const MANY: usize = 20_000;
    let file = InFile::new();
    let ledger = file.open();
    let membership = Membership::new("worker")
        .heartbeat(BEAT)
        .dead_after(BEAT * 160);
    let program = Program::start(&ledger, membership);
    let id = program.member.id();
    let claim = program.member.claim("a", &()).unwrap();
    file.by_hand(&format!(
        "WITH RECURSIVE n(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < {MANY}) \
         INSERT INTO winddown_claims (key, state, owner, epoch, crashes, interruptions, failures, \
             since, payload) \
         SELECT 'key ' || n, 'claimed', {id}, 1000 + n, 1, 0, 0, 0, '4' FROM n"
    ));
    let away = Away::of(&file);
    assert_eq!(claim.complete().unwrap(), Written::Kept);
    // As if so many had been decided at the same time.
    let path = format!("{}.member-{id}.journal", file.address());
    let mut journal = fs::read_to_string(&path).unwrap();
    let line = journal.trim().to_owned();
    let of = format!("\"epoch\":{}", claim.epoch());
    assert!(line.contains(&of), "{line}");
    for n in 1..=MANY {
        let line = line.replace(&of, &format!("\"epoch\":{}", 1000 + n));
        journal += &line.replace("\"key\":\"a\"", &format!("\"key\":\"key {n}\""));
        journal += "\n";
    }
    fs::write(&path, journal).unwrap();
    away.over();
    until("it to be settled", || {
        journals(&file) == 0 || program.member.is_fenced()
    });
    assert!(!program.member.is_fenced());
    assert_eq!(ledger.members().unwrap()[0].in_flight(), 0);
}

#[test]
fn who_ends_before_the_store_has_answered_has_left_all_the_same() {
    let file = InFile::new();
    let ledger = file.open();
    let keys: Vec<String> = (0..6).map(|n| n.to_string()).collect();
    let mut workers: Vec<Worker> = keys
        .iter()
        .map(|key| {
            let mut worker = Worker::start(&file, "worker", "grace=1000 dead_after=600000");
            worker.tell(&format!("claim {key}"));
            worker.line("claimed");
            worker
        })
        .collect();
    let away = Away::of(&file);
    for worker in &workers {
        worker.process.signal(Signal::SIGTERM);
    }
    for worker in &mut workers {
        worker.process.end();
    }
    away.over();
    let _next = Program::start(&ledger, patient("next"));
    assert_eq!(ledger.members().unwrap().len(), 1);
    let mut open = ledger.released().unwrap();
    open.sort();
    assert_eq!(open, keys, "{:?}", ledger.failed().unwrap());
}

#[test]
fn who_is_killed_while_it_leaves_has_left() {
    let file = InFile::new();
    let ledger = file.open();
    let mut worker = Worker::start(&file, "worker", "dead_after=600000");
    worker.tell("claim a");
    worker.line("claimed");
    let away = Away::of(&file);
    worker.process.signal(Signal::SIGTERM);
    let lock = format!("{}.member-{}.lock", file.address(), worker.id);
    until("it to leave", || {
        fs::read_to_string(&lock).unwrap().contains("left")
    });
    worker.kill();
    away.over();
    let next = Program::start(&ledger, patient("next"));
    assert_eq!(ledger.members().unwrap().len(), 1);
    assert!(keys(&ledger).is_empty());
    let claim = next.member.claim("a", &()).unwrap();
    assert_eq!((claim.crashes(), claim.interruptions()), (0, 1));
    let found = ledger.previous_run("worker").unwrap();
    assert!(matches!(found, PreviousRun::Clean { .. }), "{found}");
}

#[test]
fn one_that_was_heard_of_and_then_died_is_found_by_its_lock() {
    let file = InFile::new();
    let ledger = file.open();
    let _pruner = Program::start(&ledger, patient("pruner"));
    let mut worker = Worker::start(&file, "worker", "dead_after=600000");
    for key in ["done", "begun"] {
        worker.tell(&format!("claim {key}"));
        worker.line("claimed");
    }
    let away = Away::of(&file);
    worker.tell("complete done");
    worker.line("kept");
    worker.kill();
    // Its last heartbeat arrives between the look at the members and the pruning.
    let heard = "CREATE TRIGGER heard AFTER DELETE ON winddown_claims BEGIN \
                 UPDATE winddown_members SET beats = beats + 1 WHERE name = 'worker'; END; COMMIT";
    away.0.execute_batch(heard).unwrap();
    until("it to be pruned", || ledger.members().unwrap().len() == 1);
    assert_eq!(keys(&ledger), ["begun"]);
}

#[test]
fn one_whose_journal_cannot_be_read_keeps_no_other_from_being_found() {
    let file = InFile::new();
    let ledger = file.open();
    let _pruner = Program::start(&ledger, patient("pruner"));
    let mut workers = ["one", "two"].map(|name| Worker::start(&file, name, "dead_after=600000"));
    let journal = format!("{}.member-{}.journal", file.address(), workers[0].id);
    fs::create_dir(&journal).unwrap();
    workers.iter_mut().for_each(Worker::kill);
    until("the other to be pruned", || {
        ledger.members().unwrap().len() == 2
    });
    assert_eq!(ledger.members().unwrap()[1].name(), "one");
    fs::remove_dir(&journal).unwrap();
    until("it to be pruned", || ledger.members().unwrap().len() == 1);
}

#[test]
fn a_member_of_a_file_that_was_moved_fences_itself() {
    let file = InFile::new();
    let ledger = file.open();
    let program = Program::start(&ledger, brittle("worker"));
    let claim = program.member.claim("a", &()).unwrap();
    let heard = || ledger.members().unwrap()[0].last_heartbeat();
    let first = heard();
    until("the heart to beat", || heard() > first);
    for ending in ["", "-wal", "-shm"] {
        let path = format!("{}{ending}", file.address());
        fs::rename(&path, file.directory.path().join(format!("old{ending}"))).unwrap();
    }
    let next = Program::start(&file.open(), patient("next"));
    let _claim = next.member.claim("a", &()).unwrap();
    let reason = program.shutdown.token().wait_timeout(FAR / 4).unwrap();
    assert!(matches!(reason, StopReason::Fenced { .. }));
    assert!(claim.complete().is_err(), "somebody else has it");
}

#[test]
fn a_link_to_nothing_yet_and_its_file_are_one_ledger() {
    let file = InFile::new();
    let link = file.directory.path().join("link.db");
    std::os::unix::fs::symlink(file.path(), &link).unwrap();
    let _program = Program::start(&Ledger::open(&link).unwrap(), patient("worker"));
    let names = fs::read_dir(file.directory.path()).unwrap();
    let names = names.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let locks: Vec<String> = names.filter(|name| name.contains(".member-")).collect();
    assert_eq!(locks.len(), 1);
    assert!(locks[0].starts_with("ledger.db."), "{locks:?}");
}

#[test]
fn a_clock_that_was_put_back_keeps_nobody_alive() {
    let file = InFile::new();
    let ledger = file.open();
    let _pruner = Program::start(&file.open(), patient("pruner"));
    let mut worker = Worker::start(&file, "worker", "dead_after=1000");
    worker.tell("claim a");
    worker.line("claimed a");
    worker.process.signal(Signal::SIGSTOP);
    file.by_hand(
        "UPDATE winddown_members SET heartbeat = heartbeat + 36000000 WHERE name = 'worker'",
    );
    until("it to be pruned", || keys(&ledger) == ["a"]);
    worker.kill();
}

#[test]
fn who_died_before_the_machine_was_started_is_dead() {
    let file = InFile::new();
    let ledger = file.open();
    let mut worker = Worker::start(&file, "worker", "dead_after=600000");
    worker.kill();
    file.by_hand("UPDATE winddown_members SET boot = 'the one before'");
    let found = ledger.previous_run("worker").unwrap();
    assert!(matches!(found, PreviousRun::Killed { .. }), "{found}");
}

#[test]
fn a_hook_is_named_after_what_it_has_dropped_too() {
    let file = InFile::new();
    let ledger = file.open();
    let program = Program::start(&ledger, patient("worker"));
    let (in_hook, begun) = std::sync::mpsc::channel();
    let (go, gone) = std::sync::mpsc::channel::<()>();
    let handle = program.shutdown.handle();
    program.shutdown.hook("outer", move || {
        drop(handle.guard("inner", (), |()| ()));
        in_hook.send(()).unwrap();
        gone.recv().unwrap();
    });
    // More than anybody keeps for one who cannot take it at the moment.
    for _ in 0..1000 {
        program.shutdown.hook("quick", || ());
    }
    thread::scope(|scope| {
        scope.spawn(|| program.shutdown.shutdown());
        begun.recv().unwrap();
        let row = || ledger.members().unwrap().remove(0);
        let first = row().last_heartbeat();
        until("the heart to beat", || {
            row().last_heartbeat() > first + BEAT * 5
        });
        let said = row().hook().map(str::to_owned);
        go.send(()).unwrap();
        assert_eq!(said.as_deref(), Some("outer"));
    });
}

#[test]
fn what_is_no_ledger_is_refused() {
    let file = InFile::new();
    fs::write(
        file.path(),
        "to whom it may concern: this is no database, and stays one",
    )
    .unwrap();
    let refused = Ledger::open(file.path()).unwrap_err();
    assert!(refused.to_string().contains("not a database"), "{refused}");
    assert!(Ledger::open(file.directory.path().join("no/such/file")).is_err());
    fs::remove_file(file.path()).unwrap();
    drop(file.open());
    file.by_hand("UPDATE winddown_ledger SET version = 7");
    let refused = Ledger::open(file.path()).unwrap_err();
    assert!(
        matches!(refused, LedgerError::Version { found: 7, .. }),
        "{refused}"
    );
    file.by_hand("UPDATE winddown_ledger SET version = 1");
    let shutdown = embedded().install().unwrap();
    let times = Membership::new("worker")
        .heartbeat(BEAT)
        .dead_after(BEAT * 2);
    let refused = file.open().join(&shutdown, times).unwrap_err();
    assert!(matches!(refused, LedgerError::Times { .. }), "{refused}");
}
