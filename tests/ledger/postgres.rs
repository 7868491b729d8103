//! The conformance suite on `PostgreSQL`, and what only a server does: it goes away.

mod together;

use std::sync::Barrier;
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use nix::sys::signal::Signal;
use winddown::{
    ClaimError, CompleteError, Ledger, LedgerError, PreviousRun, StopReason, WriteError, Written,
};

use crate::cluster::InSchema;
use crate::common::{FAR, SHORT, bounded, embedded};
use crate::conformance::{self, BEAT, Program, Way, brittle, patient};
use crate::process::until;
use crate::worker::Worker;

impl Way for InSchema {
    fn open(&self) -> Ledger {
        Ledger::connect_with(&self.url(), self.directory.path()).unwrap()
    }

    fn address(&self) -> String {
        format!("{}#{}", self.url(), self.directory.path().display())
    }

    fn by_hand(&self, sql: &str) {
        self.sql().batch_execute(sql).unwrap();
    }
}

conformance::conforms!(InSchema::new());

#[test]
fn of_many_who_make_the_tables_at_once_all_find_the_same() {
    const MANY: usize = 8;
    let Some(way) = InSchema::new() else { return };
    let start = Barrier::new(MANY);
    thread::scope(|scope| {
        let all: Vec<_> = (0..MANY)
            .map(|_| {
                scope.spawn(|| {
                    start.wait();
                    Ledger::connect(&way.url()).map(drop)
                })
            })
            .collect();
        for one in all {
            one.join().unwrap().unwrap();
        }
    });
    let sql = "SELECT identity FROM winddown_ledger";
    assert_eq!(way.sql().query(sql, &[]).unwrap().len(), 1);
    way.by_hand("UPDATE winddown_ledger SET version = 7");
    let refused = Ledger::connect(&way.url());
    assert!(matches!(
        refused,
        Err(LedgerError::Version { found: 7, .. })
    ));
}

#[test]
fn an_error_names_the_host_and_never_the_password() {
    let nowhere = [
        "postgresql://worker:s3cr3t@127.0.0.1:1/jobs",
        "host=/no/such/place user=worker password=s3cr3t",
        "host=127.0.0.1 user=worker password=s3cr3t sslmode=require port=1",
        "postgresql://worker:s3cr3t@127.0.0.1:1/jobs?s3cr3t=1",
        "host=127.0.0.1 password=half s3cr3t",
    ];
    for (place, url) in nowhere.into_iter().enumerate() {
        let refused = bounded(move || Ledger::connect(url)).unwrap_err();
        let (text, debug) = (refused.to_string(), format!("{refused:?}"));
        assert!(
            !text.contains("s3cr3t") && !debug.contains("s3cr3t"),
            "{debug}"
        );
        let LedgerError::Store(error) = &refused else {
            panic!("{debug}")
        };
        if place < 3 {
            let host = if place == 1 {
                "/no/such/place:5432"
            } else {
                "127.0.0.1:1"
            };
            assert!(error.is_unreachable() && text.contains(host), "{text}");
        } else {
            assert!(!error.is_unreachable() && !error.is_busy(), "{text}");
        }
    }
    let Some(way) = InSchema::new() else { return };
    let url = way.url().replace("/postgres?", "/no_such_database?");
    let refused = Ledger::connect(&url).unwrap_err().to_string();
    assert!(
        refused.contains("no_such_database") && !refused.contains("secret"),
        "{refused}"
    );
}

/// Takes the calls of somebody who waits within his own runtime.
#[test]
fn it_can_be_used_and_dropped_within_a_runtime() {
    let Some(way) = InSchema::new() else { return };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    runtime.block_on(async {
        let program = Program::start(&way.open(), patient("worker"));
        let claim = program.member.claim("a", &()).unwrap();
        assert_eq!(claim.complete().unwrap(), Written::Stored);
        assert_eq!(program.shutdown.shutdown().exit_code(), 0);
    });
}

#[test]
fn without_a_directory_the_heart_alone_says_who_lives() {
    let Some(way) = InSchema::new() else { return };
    let ledger = Ledger::connect(&way.url()).unwrap();
    let program = Program::start(&ledger, patient("pruner"));
    let mut worker = Worker::start(&way, "worker", "heartbeat=50 dead_after=500");
    worker.tell("claim a");
    worker.line("claimed a");
    worker.kill();
    until("it to be pruned", || ledger.failed().unwrap().len() == 1);
    let found = ledger.previous_run("worker").unwrap();
    assert!(matches!(found, PreviousRun::Killed { .. }), "{found}");
    // Nothing can be kept: that is said.
    let claim = program.member.claim("b", &()).unwrap();
    let mut sql = way.sql();
    let mut tx = sql.transaction().unwrap();
    tx.batch_execute("SELECT 1 FROM winddown_claims WHERE key = 'b' FOR UPDATE")
        .unwrap();
    program.shutdown.stop("enough");
    let refused = claim.complete();
    match refused {
        Err(WriteError::Store {
            error,
            journal: Some(_),
            ..
        }) => {
            assert!(error.is_busy() && !error.is_unreachable(), "{error}");
        }
        other => panic!("{other:?}"),
    }
    tx.rollback().unwrap();
}

#[test]
fn a_server_that_is_started_again_is_used_again() {
    let Some(way) = InSchema::alone() else { return };
    let ledger = way.open();
    let program = Program::start(&ledger, patient("worker"));
    let done = program.member.claim("done", &()).unwrap();
    let kept = program.member.claim("kept", &()).unwrap();
    way.cluster.stop();
    let away = ledger.members().unwrap_err();
    assert!(away.is_unreachable(), "{away}");
    assert_eq!(kept.complete().unwrap(), Written::Kept);
    assert_eq!(way.journals(), 1);
    way.cluster.start();
    assert_eq!(done.complete().unwrap(), Written::Stored);
    until("it to be settled", || way.journals() == 0);
    assert_eq!(ledger.members().unwrap()[0].in_flight(), 0);
    assert!(ledger.released().unwrap().is_empty());
    assert!(!program.member.is_fenced());
}

/// Ended, or there without answering.
fn away_for_too_long(away: impl FnOnce(&InSchema), back: impl FnOnce(&InSchema)) {
    let Some(way) = InSchema::alone() else { return };
    let ledger = way.open();
    let program = Program::start(&ledger, brittle("worker"));
    let claim = program.member.claim("a", &()).unwrap();
    let began = SystemTime::now();
    away(&way);
    let reason = program.shutdown.token().wait_timeout(FAR).unwrap();
    let fenced = SystemTime::now();
    assert!(matches!(reason, StopReason::Fenced { .. }), "{reason}");
    // Others may take over `BEAT * 40` after the last heartbeat, which was before `began` or while
    // it went away.
    let silent = fenced.duration_since(began).unwrap();
    assert!(silent < BEAT * 40, "{silent:?}");
    assert!(matches!(claim.complete(), Err(WriteError::Fenced { .. })));
    back(&way);
    let heard = ledger.members().unwrap()[0].last_heartbeat();
    let silent = fenced.duration_since(heard).unwrap();
    assert!(silent < BEAT * 40, "{silent:?}: others may have taken over");
    assert!(silent > BEAT * 20, "{silent:?}: long before it had to");
    let report = program.shutdown.shutdown();
    assert_eq!(report.exit_code(), 1, "{report}");
    assert!(ledger.members().unwrap().is_empty());
    assert_eq!(ledger.released().unwrap(), ["a"]);
    assert_eq!(ledger.previous_run("worker").unwrap(), PreviousRun::Fenced);
}

#[test]
fn whoever_cannot_renew_as_the_server_has_ended_fences_itself_first() {
    away_for_too_long(|way| way.cluster.stop(), |way| way.cluster.start());
}

/// All of its processes: what is connected, and what would take a connection.
fn signal_all(way: &InSchema, pids: &[i32], signal: Signal) {
    way.cluster.signal(signal);
    for pid in pids {
        let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(*pid), signal);
    }
}

fn backends(way: &InSchema) -> Vec<i32> {
    let sql = "SELECT pid FROM pg_stat_activity WHERE application_name = 'winddown'";
    let rows = way.sql().query(sql, &[]).unwrap();
    rows.iter().map(|row| row.get(0)).collect()
}

#[test]
fn whoever_cannot_renew_as_the_server_hangs_fences_itself_first() {
    let pids = std::cell::RefCell::default();
    away_for_too_long(
        |way| {
            *pids.borrow_mut() = backends(way);
            signal_all(way, &pids.borrow(), Signal::SIGSTOP);
        },
        |way| signal_all(way, &pids.borrow(), Signal::SIGCONT),
    );
}

#[test]
fn of_a_server_that_hangs_nobody_waits_longer_than_there_is_time() {
    let Some(way) = InSchema::alone() else { return };
    let ledger = way.open();
    let shutdown = embedded()
        .grace_period(Duration::from_secs(3))
        .cleanup_reserve(Duration::from_millis(400))
        .install()
        .unwrap();
    let member = ledger.join(&shutdown, patient("worker")).unwrap();
    let claim = member.claim("a", &()).unwrap();
    let pids = backends(&way);
    signal_all(&way, &pids, Signal::SIGSTOP);
    shutdown.stop("enough");
    let began = Instant::now();
    assert_eq!(claim.release().unwrap(), Written::Kept);
    let took = began.elapsed();
    assert!(
        took >= SHORT * 4 && took < Duration::from_secs(2),
        "{took:?}"
    );
    let report = bounded(move || shutdown.shutdown());
    assert!(report.took() < Duration::from_millis(3100), "{report}");
    assert_eq!(report.exit_code(), 1, "{report}");
    signal_all(&way, &pids, Signal::SIGCONT);
    let next = Program::start(&ledger, patient("worker"));
    assert_eq!(ledger.members().unwrap().len(), 1);
    assert_eq!(next.member.claim("a", &()).unwrap().interruptions(), 1);
}

#[test]
fn what_is_locked_for_all_the_time_there_is_is_busy_and_kept() {
    let Some(way) = InSchema::new() else { return };
    let program = Program::start(&way.open(), patient("worker"));
    let claim = program.member.claim("a", &()).unwrap();
    let mut sql = way.sql();
    let mut tx = sql.transaction().unwrap();
    tx.batch_execute("SELECT 1 FROM winddown_claims FOR UPDATE")
        .unwrap();
    let refused = claim.save(&1);
    assert!(
        matches!(&refused, Err(WriteError::Store { error, .. }) if error.is_busy()),
        "{refused:?}"
    );
    assert_eq!(claim.complete().unwrap(), Written::Kept);
    tx.rollback().unwrap();
    until("it to be settled", || way.journals() == 0);
    assert!(!program.member.is_fenced());
}

/// In the middle of a transaction: it waits for the lock of a row, and has begun.
#[test]
fn a_connection_that_is_ended_in_the_middle_is_made_again_and_nothing_is_done_twice() {
    let Some(way) = InSchema::alone() else { return };
    let ledger = way.open();
    let program = Program::start(&ledger, patient("worker"));
    let claim = program.member.claim("a", &()).unwrap();
    for round in 0..20 {
        let mut sql = way.sql();
        let mut tx = sql.transaction().unwrap();
        tx.batch_execute("SELECT 1 FROM winddown_claims FOR UPDATE")
            .unwrap();
        thread::scope(|scope| {
            let saved = scope.spawn(|| claim.save(&round));
            way.until_somebody_waits();
            way.by_hand(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
                 WHERE application_name = 'winddown'",
            );
            way.until_somebody_waits();
            tx.rollback().unwrap();
            saved.join().unwrap().unwrap();
        });
        assert_eq!(claim.saved::<i32>().unwrap(), Some(round));
    }
    let mut sql = way.sql();
    let mut tx = sql.transaction().unwrap();
    tx.batch_execute("SELECT 1 FROM winddown_claims FOR UPDATE")
        .unwrap();
    thread::scope(|scope| {
        let failed = scope.spawn(|| claim.fail("no paper"));
        way.until_somebody_waits();
        way.by_hand(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
             WHERE application_name = 'winddown'",
        );
        tx.rollback().unwrap();
        assert_eq!(failed.join().unwrap().unwrap(), Written::Stored);
    });
    let failed = ledger.failed().unwrap();
    assert_eq!((failed[0].failures(), failed[0].crashes()), (1, 0));
    assert!(!program.member.is_fenced());
    assert!(matches!(
        program.member.claim("a", &()),
        Err(ClaimError::GivenUp(_))
    ));
}

/// Until it is over a commit is done and not answered: the server waits for a copy that is not
/// there.
struct NoAnswer<'a>(&'a InSchema);

impl<'a> NoAnswer<'a> {
    fn of(way: &'a InSchema) -> Self {
        way.by_hand("ALTER SYSTEM SET synchronous_standby_names = 'nobody'");
        way.by_hand("SELECT pg_reload_conf()");
        let mut sql = way.sql();
        until("the server to know", || {
            let row = sql
                .query_one("SHOW synchronous_standby_names", &[])
                .unwrap();
            row.get::<_, String>(0) == "nobody"
        });
        Self(way)
    }

    /// Ends the connections whose commit has the query before it.
    fn end(&self, query: &str) {
        let mut sql = self.0.sql();
        let end = format!(
            "SELECT pg_terminate_backend(a.pid) FROM pg_stat_activity a \
             WHERE wait_event = 'SyncRep' AND EXISTS (SELECT 1 FROM pg_locks l \
                 WHERE l.pid = a.pid AND l.relation = '{query}'::regclass \
                     AND l.mode = 'RowExclusiveLock')"
        );
        until("somebody to commit", || {
            !sql.query(&end, &[]).unwrap().is_empty()
        });
    }

    fn over(self) {
        self.0
            .by_hand("ALTER SYSTEM RESET synchronous_standby_names");
        self.0.by_hand("SELECT pg_reload_conf()");
    }
}

#[test]
fn what_was_committed_without_an_answer_is_known_and_not_done_again() {
    let Some(way) = InSchema::alone() else { return };
    let ledger = way.open();
    let program = Program::start(&ledger, patient("worker"));
    let claim = program.member.claim("a", &()).unwrap();
    let silent = NoAnswer::of(&way);
    thread::scope(|scope| {
        let completed = scope.spawn(|| claim.complete());
        silent.end("winddown_decided");
        assert_eq!(completed.join().unwrap().unwrap(), Written::Stored);
    });
    thread::scope(|scope| {
        let claimed = scope.spawn(|| program.member.claim("b", &()));
        silent.end("winddown_claims");
        silent.over();
        let claim = claimed.join().unwrap().unwrap();
        assert_eq!(claim.crashes(), 0);
        assert_eq!(claim.complete().unwrap(), Written::Stored);
    });
    assert!(ledger.released().unwrap().is_empty() && ledger.failed().unwrap().is_empty());
    assert!(!program.member.is_fenced());
}

#[test]
fn a_transaction_that_is_refused_is_no_verdict() {
    let Some(way) = InSchema::new() else { return };
    let program = Program::start(&way.open(), patient("worker"));
    let claim = program.member.claim("a", &()).unwrap();
    let refused = claim.complete_with(|_| -> Result<(), &str> { panic!("there is none") });
    assert!(
        matches!(refused, Err(CompleteError::Write(WriteError::Store { .. }))),
        "{refused:?}"
    );
    assert_eq!(claim.complete().unwrap(), Written::Stored);
}
