//! The conformance suite on `SQLite`, and what only `SQLite` does.

use std::fs;
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use tempfile::TempDir;
use winddown::{
    ClaimError, CompleteError, FailedClaim, Ledger, LedgerError, Membership, PreviousRun,
    StopReason, WriteError, Written,
};

use crate::common::{FAR, bounded, embedded};
use crate::conformance::{self, BEAT, Program, Way, brittle, patient};
use crate::process::until;
use crate::worker::Worker;

pub(crate) struct InFile {
    pub(crate) directory: TempDir,
}

impl InFile {
    pub(crate) fn new() -> Self {
        Self {
            directory: TempDir::new().unwrap(),
        }
    }

    pub(crate) fn path(&self) -> std::path::PathBuf {
        self.directory.path().join("ledger.db")
    }

    pub(crate) fn sql(&self) -> rusqlite::Connection {
        let connection = rusqlite::Connection::open(self.path()).unwrap();
        connection.busy_timeout(crate::FAR).unwrap();
        connection
    }
}

impl Way for InFile {
    fn open(&self) -> Ledger {
        Ledger::open(self.path()).unwrap()
    }

    fn address(&self) -> String {
        self.path().into_os_string().into_string().unwrap()
    }

    fn by_hand(&self, sql: &str) {
        self.sql().execute_batch(sql).unwrap();
    }
}

conformance::conforms!(Some(InFile::new()));

/// Until it is dropped nobody else can write: to them the store is away.
pub(crate) struct Away(pub(crate) rusqlite::Connection);

impl Away {
    pub(crate) fn of(file: &InFile) -> Self {
        let connection = file.sql();
        connection.execute_batch("BEGIN IMMEDIATE").unwrap();
        Self(connection)
    }

    pub(crate) fn over(self) {
        self.0.execute_batch("ROLLBACK").unwrap();
    }
}

pub(crate) fn journals(file: &InFile) -> usize {
    let names = fs::read_dir(file.directory.path()).unwrap();
    let names = names.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.filter(|name| name.ends_with(".journal")).count()
}

#[test]
fn the_callers_part_and_the_verdict_happen_both_or_not_at_all() {
    let file = InFile::new();
    let ledger = file.open();
    let program = Program::start(&ledger, patient("worker"));
    file.by_hand("CREATE TABLE done (key TEXT)");
    let done = || {
        let sql = file.sql();
        let count = sql.query_row("SELECT count(*) FROM done", [], |row| row.get::<_, i64>(0));
        count.unwrap()
    };
    let insert = |tx: &rusqlite::Transaction<'_>| tx.execute("INSERT INTO done VALUES ('a')", []);
    let claim = program.member.claim("a", &()).unwrap();
    assert_eq!(claim.complete_with(insert).unwrap(), 1);
    assert!(matches!(
        claim.complete_with(insert),
        Err(CompleteError::Write(WriteError::Decided { .. }))
    ));
    assert_eq!((done(), ledger.released().unwrap().len()), (1, 0));

    // An error of it.
    let claim = program.member.claim("b", &()).unwrap();
    let failed = claim.complete_with(|tx| insert(tx).map_err(|_| "").and(Err::<(), _>("no ink")));
    assert!(matches!(failed, Err(CompleteError::Failed("no ink"))));
    assert_eq!(
        (done(), ledger.released().unwrap()),
        (1, vec!["b".to_owned()])
    );
    let claim = program.member.claim("b", &()).unwrap();
    assert_eq!(claim.failures(), 1);

    // A panic of it.
    let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        let claim = claim;
        let _: Result<(), CompleteError<rusqlite::Error>> = claim.complete_with(|tx| {
            insert(tx)?;
            std::panic::resume_unwind(Box::new("as it does"))
        });
    }));
    panicked.unwrap_err();
    assert_eq!((done(), ledger.failed().unwrap().len()), (1, 1));

    // An error by which the engine has rolled back already.
    file.by_hand("CREATE UNIQUE INDEX once ON done (key)");
    let claim = program.member.claim("twice", &()).unwrap();
    let twice = "INSERT OR ROLLBACK INTO done VALUES ('a')";
    let failed = claim.complete_with(|tx| tx.execute(twice, []));
    assert!(
        matches!(failed, Err(CompleteError::Failed(_))),
        "{failed:?}"
    );

    // Somebody else has it meanwhile: the caller's part is not even begun.
    let claim = program.member.claim("c", &()).unwrap();
    file.by_hand("UPDATE winddown_claims SET epoch = epoch + 1 WHERE key = 'c'");
    let late = claim.complete_with(|_| -> rusqlite::Result<()> { panic!("too late") });
    assert!(matches!(
        late,
        Err(CompleteError::Write(WriteError::Superseded { .. }))
    ));
}

#[test]
fn whoever_cannot_renew_fences_itself_before_others_take_over() {
    let file = InFile::new();
    let ledger = file.open();
    let member = brittle("worker");
    let program = Program::start(&ledger, member.clone());
    let claim = program.member.claim("a", &()).unwrap();
    let before = ledger.members().unwrap()[0].last_heartbeat();
    let away = Away::of(&file);
    let reason = program.shutdown.token().wait_timeout(FAR).unwrap();
    let fenced_at = SystemTime::now();
    assert!(matches!(reason, StopReason::Fenced { .. }));
    let heard = ledger.members().unwrap()[0].last_heartbeat();
    assert!(heard >= before);
    let silent = fenced_at.duration_since(heard).unwrap();
    assert!(silent < BEAT * 40, "{silent:?}: others may have taken over");
    assert!(silent > BEAT * 20, "{silent:?}: long before it had to");
    assert!(matches!(claim.complete(), Err(WriteError::Fenced { .. })));
    away.over();
    // The store is back before anybody has pruned it: it leaves as it should.
    let report = program.shutdown.shutdown();
    assert_eq!(
        (report.exit_code(), report.hooks().len()),
        (1, 1),
        "{report}"
    );
    assert!(ledger.members().unwrap().is_empty());
    assert_eq!(ledger.released().unwrap(), ["a"]);
    assert_eq!(ledger.previous_run("worker").unwrap(), PreviousRun::Fenced);
}

#[test]
fn whoever_waits_to_claim_until_it_is_fenced_is_told_so() {
    let file = InFile::new();
    let ledger = file.open();
    let program = Program::start(&ledger, brittle("worker"));
    let away = Away::of(&file);
    let late = program.member.claim("a", &());
    assert!(matches!(late, Err(ClaimError::Fenced { .. })), "{late:?}");
    away.over();
}

#[test]
fn a_verdict_that_the_store_cannot_take_is_kept_and_settled_when_it_is_back() {
    let file = InFile::new();
    let ledger = file.open();
    let program = Program::start(&ledger, patient("worker"));
    let claims: Vec<_> = ["done", "failed", "released", "lost"]
        .map(|key| program.member.claim(key, &()).unwrap())
        .into();
    let away = Away::of(&file);
    thread::scope(|scope| {
        let verdicts = [
            scope.spawn(|| claims[0].complete()),
            scope.spawn(|| claims[1].fail("no paper")),
            scope.spawn(|| claims[2].release()),
            scope.spawn(|| claims[3].complete()),
        ];
        for verdict in verdicts {
            assert_eq!(verdict.join().unwrap().unwrap(), Written::Kept);
        }
    });
    assert!(matches!(
        claims[0].complete(),
        Err(WriteError::Decided { .. })
    ));
    assert_eq!(journals(&file), 1);
    away.0
        .execute_batch("UPDATE winddown_claims SET epoch = epoch + 1 WHERE key = 'lost'; COMMIT")
        .unwrap();
    until("it to be settled", || journals(&file) == 0);
    assert_eq!(ledger.released().unwrap(), ["released"]);
    assert_eq!(
        ledger.failed().unwrap()[0].to_string(),
        "failed: failed: no paper"
    );
    // What was somebody else's by then is still theirs.
    assert_eq!(ledger.members().unwrap()[0].in_flight(), 1);
    let refused = program.member.claim("lost", &());
    assert!(
        matches!(refused, Err(ClaimError::Taken { .. })),
        "{refused:?}"
    );
    assert!(!program.member.is_fenced());
}

/// One that dies with a verdict that the store could not take, and something without one.
fn killed_with_a_journal(file: &InFile) {
    let mut worker = Worker::start(file, "worker", "");
    for key in ["done", "begun"] {
        worker.tell(&format!("claim {key}"));
        worker.line("claimed");
    }
    let away = Away::of(file);
    worker.tell("complete done");
    worker.line("kept");
    worker.kill();
    assert_eq!(journals(file), 1);
    away.over();
}

fn assert_one_is_done_and_one_has_failed(ledger: &Ledger) {
    let failed = ledger.failed().unwrap();
    let failed: Vec<&str> = failed.iter().map(FailedClaim::key).collect();
    assert_eq!(failed, ["begun"]);
    assert!(
        ledger.released().unwrap().is_empty(),
        "done, not to be done again"
    );
}

#[test]
fn what_a_killed_process_had_decided_is_settled_by_the_next_that_joins() {
    let file = InFile::new();
    let ledger = file.open();
    killed_with_a_journal(&file);
    let _program = Program::start(&ledger, patient("worker"));
    assert_eq!(journals(&file), 0);
    assert_one_is_done_and_one_has_failed(&ledger);
}

#[test]
fn what_a_killed_process_had_decided_is_settled_by_whoever_prunes_it() {
    let file = InFile::new();
    let ledger = file.open();
    let _program = Program::start(&ledger, patient("pruner"));
    killed_with_a_journal(&file);
    until("it to be pruned", || ledger.members().unwrap().len() == 1);
    assert_eq!(journals(&file), 0);
    assert_one_is_done_and_one_has_failed(&ledger);
}

#[test]
fn who_cannot_prune_a_dead_member_leaves_it_to_be_found() {
    let file = InFile::new();
    let ledger = file.open();
    let mut worker = Worker::start(&file, "worker", "");
    worker.kill();
    let away = Away::of(&file);
    let shutdown = embedded().install().unwrap();
    let refused = ledger.join(&shutdown, patient("next"));
    assert!(matches!(refused, Err(LedgerError::Store(error)) if error.is_busy()));
    away.over();
    let _next = Program::start(&ledger, patient("next"));
    assert_eq!(ledger.members().unwrap().len(), 1);
}

#[test]
fn a_journal_of_a_file_that_is_gone_is_not_settled_in_its_successor() {
    let file = InFile::new();
    let mut worker = Worker::start(&file, "worker", "");
    worker.tell("claim a");
    worker.line("claimed");
    let away = Away::of(&file);
    worker.tell("complete a");
    worker.line("kept");
    worker.kill();
    drop(away);
    for ending in ["", "-wal", "-shm"] {
        let _ = fs::remove_file(format!("{}{ending}", file.address()));
    }
    let mut worker = Worker::start(&file, "worker", "");
    worker.tell("claim a");
    worker.line("claimed");
    let _program = Program::start(&file.open(), patient("worker"));
    assert_eq!(file.open().members().unwrap()[0].in_flight(), 1);
}

#[test]
fn while_stopping_the_store_is_waited_for_no_longer_than_the_slice() {
    let file = InFile::new();
    let ledger = file.open();
    let shutdown = embedded()
        .grace_period(Duration::from_secs(3))
        .cleanup_reserve(Duration::from_millis(400))
        .install()
        .unwrap();
    let member = ledger.join(&shutdown, patient("worker")).unwrap();
    let jobs = member.in_flight("jobs");
    let slot = jobs.reserve().unwrap();
    let item = slot.fill(member.claim("a", &()).unwrap()).unwrap();
    let left = member.claim("left", &()).unwrap();
    let away = Away::of(&file);
    shutdown.stop("enough");
    let began = Instant::now();
    drop(item);
    let took = began.elapsed();
    assert!(
        took >= Duration::from_millis(200) && took < Duration::from_secs(2),
        "{took:?}"
    );
    assert_eq!(journals(&file), 1);
    // P15, and nobody has left: it is said, and the next one finds it.
    let report = bounded(move || shutdown.shutdown());
    assert!(report.took() < Duration::from_millis(3100), "{report}");
    let last = report.hooks().last().unwrap();
    assert!(!last.outcome().is_completed(), "{report}");
    assert_eq!(report.exit_code(), 1);
    away.over();
    let next = Program::start(&ledger, patient("worker"));
    assert_eq!(ledger.members().unwrap().len(), 1);
    for key in ["a", "left"] {
        let claim = next.member.claim(key, &()).unwrap();
        assert_eq!((claim.crashes(), claim.interruptions()), (0, 1), "{key}");
    }
    let found = ledger.previous_run("worker").unwrap();
    assert!(matches!(found, PreviousRun::Clean { .. }), "{found}");
    drop(left);
}

#[test]
fn what_was_kept_is_settled_before_the_rest_is_released() {
    let file = InFile::new();
    let ledger = file.open();
    let shutdown = embedded()
        .cleanup_reserve(Duration::from_millis(400))
        .install()
        .unwrap();
    // No heartbeat settles it in between.
    let slow = Membership::new("worker").heartbeat(FAR / 4).dead_after(FAR);
    let member = ledger.join(&shutdown, slow).unwrap();
    let (done, left) = (
        member.claim("done", &()).unwrap(),
        member.claim("left", &()).unwrap(),
    );
    let hold = shutdown.hold("work").unwrap();
    let away = Away::of(&file);
    shutdown.stop("enough");
    assert_eq!(done.complete().unwrap(), Written::Kept);
    away.over();
    drop(hold);
    assert_eq!(shutdown.shutdown().exit_code(), 0);
    assert_eq!(
        (ledger.released().unwrap(), journals(&file)),
        (vec!["left".to_owned()], 0)
    );
    drop(left);
}

#[test]
fn leaving_has_its_time_whatever_the_hooks_do() {
    let file = InFile::new();
    let ledger = file.open();
    let shutdown = embedded()
        .grace_period(Duration::from_millis(800))
        .hook_timeout(FAR)
        .install()
        .unwrap();
    let member = ledger.join(&shutdown, patient("worker")).unwrap();
    let claim = member.claim("a", &()).unwrap();
    let (_never, end) = std::sync::mpsc::channel::<()>();
    shutdown.hook("hangs", move || end.recv());
    let report = bounded(move || shutdown.shutdown());
    assert!(report.took() < Duration::from_millis(900), "{report}");
    let outcomes: Vec<String> = report
        .hooks()
        .iter()
        .map(|hook| format!("{} {}", hook.holder(), hook.outcome()))
        .collect();
    assert_eq!(outcomes, ["hook timed out", "last completed"], "{report}");
    assert!(ledger.members().unwrap().is_empty());
    assert_eq!(ledger.released().unwrap(), ["a"]);
    assert_eq!(
        ledger.previous_run("worker").unwrap(),
        PreviousRun::TimedOut
    );
    drop(claim);
}

#[test]
fn while_its_lock_is_held_the_clock_alone_kills_nobody() {
    let file = InFile::new();
    let ledger = file.open();
    // As after a night's sleep: by the clock it is long dead, and it has not beaten yet.
    let slow = Membership::new("asleep").heartbeat(FAR / 4).dead_after(FAR);
    let asleep = Program::start(&ledger, slow);
    file.by_hand("UPDATE winddown_members SET heartbeat = heartbeat - 36000000");
    let _pruner = Program::start(&file.open(), patient("pruner"));
    let beats = || ledger.members().unwrap()[1].last_heartbeat();
    let first = beats();
    until("the pruner to have looked", || beats() > first + BEAT * 10);
    assert_eq!(ledger.members().unwrap()[0].name(), "asleep");
    assert!(asleep.member.claim("a", &()).is_ok());
}

#[test]
fn nothing_stays_beside_the_file() {
    let file = InFile::new();
    let ledger = file.open();
    killed_with_a_journal(&file);
    // Somebody was quicker, who does not see these files.
    file.by_hand("DELETE FROM winddown_members");
    let program = Program::start(&ledger, patient("worker"));
    drop(program);
    let mut names: Vec<String> = fs::read_dir(file.directory.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.retain(|name| name.contains(".member-"));
    assert!(names.is_empty(), "{names:?}");
}
