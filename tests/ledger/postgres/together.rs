//! What belongs to a claim, in one transaction with its verdict.

use std::future;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::thread;
use std::time::Duration;

use tokio_postgres::{Error, Transaction};
use winddown::{CompleteError, FailedClaim, Ledger, WriteError};

use super::NoAnswer;
use crate::cluster::InSchema;
use crate::common::{FAR, bounded, embedded};
use crate::conformance::{Program, Way, patient};
use crate::process::until;
use crate::sqlite::InFile;

const INSERT: &str = "INSERT INTO done VALUES ('it')";

async fn insert(tx: &Transaction<'_>) -> Result<u64, Error> {
    tx.execute(INSERT, &[]).await
}

/// With a table for effects.
fn begin(way: &InSchema) -> (Ledger, Program) {
    way.by_hand("CREATE TABLE done (key TEXT)");
    let ledger = way.open();
    let program = Program::start(&ledger, patient("worker"));
    (ledger, program)
}

fn done(way: &InSchema) -> i64 {
    let row = way.sql().query_one("SELECT count(*) FROM done", &[]);
    row.unwrap().get(0)
}

fn failed(ledger: &Ledger) -> Vec<String> {
    let failed = ledger.failed().unwrap();
    failed.iter().map(FailedClaim::to_string).collect()
}

#[test]
fn the_callers_part_and_the_verdict_happen_both_or_not_at_all() {
    let Some(way) = InSchema::new() else { return };
    let (ledger, program) = begin(&way);
    let claim = program.member.claim("a", &()).unwrap();
    assert_eq!(claim.complete_with_postgres(insert).unwrap(), 1);
    assert!(matches!(
        claim.complete_with_postgres(insert),
        Err(CompleteError::Write(WriteError::Decided { .. }))
    ));
    assert_eq!((done(&way), ledger.released().unwrap().len()), (1, 0));

    // An error of it.
    let claim = program.member.claim("b", &()).unwrap();
    let refused = claim.complete_with_postgres(async |tx| {
        insert(tx).await.map_err(|_| "")?;
        Err::<(), _>("no ink")
    });
    assert!(matches!(refused, Err(CompleteError::Failed("no ink"))));
    assert_eq!(
        (done(&way), ledger.released().unwrap()),
        (1, vec!["b".to_owned()])
    );
    let claim = program.member.claim("b", &()).unwrap();
    assert_eq!(claim.failures(), 1);

    // A panic of it.
    let panicked = catch_unwind(AssertUnwindSafe(|| {
        let claim = claim;
        let _: Result<(), CompleteError<Error>> = claim.complete_with_postgres(async |tx| {
            insert(tx).await?;
            resume_unwind(Box::new("as it does"))
        });
    }));
    panicked.unwrap_err();
    assert_eq!((done(&way), failed(&ledger).len()), (1, 1));

    // Somebody else has it meanwhile: the caller's part is not even begun.
    let claim = program.member.claim("c", &()).unwrap();
    way.by_hand("UPDATE winddown_claims SET epoch = epoch + 1 WHERE key = 'c'");
    let late = claim.complete_with_postgres(async |_| -> Result<(), Error> { panic!("too late") });
    assert!(matches!(
        late,
        Err(CompleteError::Write(WriteError::Superseded { .. }))
    ));
}

/// After a statement that failed the engine turns a commit into its opposite, and says nothing.
#[test]
fn an_error_that_the_caller_has_swallowed_is_no_completion() {
    let Some(way) = InSchema::new() else { return };
    let (ledger, program) = begin(&way);
    let claim = program.member.claim("a", &()).unwrap();
    let refused = claim.complete_with_postgres(async |tx| {
        insert(tx).await?;
        let _ = tx.execute("INSERT INTO nowhere VALUES (1)", &[]).await;
        Ok::<_, Error>(())
    });
    let Err(CompleteError::Write(WriteError::Store { error, .. })) = refused else {
        panic!("{refused:?}")
    };
    assert!(error.to_string().contains("aborted"), "{error}");
    assert_eq!(
        (done(&way), ledger.released().unwrap()),
        (0, vec!["a".to_owned()])
    );
}

#[test]
fn what_was_committed_without_an_answer_is_known_and_the_callers_part_done_once() {
    let Some(way) = InSchema::alone() else { return };
    let (ledger, program) = begin(&way);
    let claim = program.member.claim("a", &()).unwrap();
    let silent = NoAnswer::of(&way);
    thread::scope(|scope| {
        let completed = scope.spawn(|| {
            claim.complete_with_postgres(async |tx| insert(tx).await.map(|_| "its output"))
        });
        silent.end("done");
        assert_eq!(completed.join().unwrap().unwrap(), "its output");
    });
    silent.over();
    assert_eq!((done(&way), ledger.released().unwrap().len()), (1, 0));
    assert!(failed(&ledger).is_empty() && !program.member.is_fenced());
}

/// Ends the connection that asks.
async fn end_this_one(way: &InSchema, tx: &Transaction<'_>) -> Result<(), Error> {
    let pid: i32 = tx.query_one("SELECT pg_backend_pid()", &[]).await?.get(0);
    // A blocking client cannot be used within a runtime.
    thread::scope(|scope| {
        scope.spawn(|| {
            way.by_hand(&format!("SELECT pg_terminate_backend({pid})"));
            until("it to be gone", || {
                let there = "SELECT 1 FROM pg_stat_activity WHERE pid = $1";
                way.sql().query(there, &[&pid]).unwrap().is_empty()
            });
        });
    });
    Ok(())
}

#[test]
fn of_a_transaction_that_is_broken_off_nothing_is_done_and_the_claim_is_released() {
    let Some(way) = InSchema::new() else { return };
    let (ledger, program) = begin(&way);
    // In the caller's part: he is told what he was told.
    let claim = program.member.claim("a", &()).unwrap();
    let broken = claim.complete_with_postgres(async |tx| {
        insert(tx).await?;
        end_this_one(&way, tx).await?;
        insert(tx).await
    });
    assert!(
        matches!(broken, Err(CompleteError::Failed(_))),
        "{broken:?}"
    );
    // After it: it is not called again.
    let claim = program.member.claim("b", &()).unwrap();
    let mut called = 0;
    let broken = claim.complete_with_postgres(async |tx| {
        called += 1;
        insert(tx).await?;
        end_this_one(&way, tx).await
    });
    let Err(CompleteError::Write(WriteError::Store { error, .. })) = broken else {
        panic!("{broken:?}")
    };
    assert!(error.is_unreachable() && called == 1, "{error}, {called}");
    // Before it: another connection does.
    let claim = program.member.claim("c", &()).unwrap();
    way.by_hand(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
         WHERE application_name = 'winddown'",
    );
    assert_eq!(
        (done(&way), ledger.released().unwrap()),
        (0, vec!["a".to_owned(), "b".to_owned()])
    );
    assert_eq!(claim.complete_with_postgres(insert).unwrap(), 1);
    assert_eq!(done(&way), 1);
}

#[test]
fn a_callers_part_that_hangs_is_given_up_in_time() {
    let Some(way) = InSchema::new() else { return };
    way.by_hand("CREATE TABLE done (key TEXT)");
    let ledger = way.open();
    let shutdown = embedded()
        .grace_period(FAR)
        .cleanup_reserve(Duration::from_millis(400))
        .install()
        .unwrap();
    let member = ledger.join(&shutdown, patient("worker")).unwrap();
    let claim = member.claim("a", &()).unwrap();
    let hold = shutdown.hold("work").unwrap();
    shutdown.stop("enough");
    let late = bounded(move || {
        claim.complete_with_postgres(async |tx| {
            insert(tx).await?;
            future::pending::<Result<(), Error>>().await
        })
    });
    let Err(CompleteError::Write(WriteError::Store { error, .. })) = late else {
        panic!("{late:?}")
    };
    assert!(error.is_unreachable(), "{error}");
    assert_eq!(done(&way), 0);
    drop(hold);
    assert_eq!(shutdown.shutdown().exit_code(), 0);
    assert_eq!(ledger.released().unwrap(), ["a"]);
}

#[test]
fn it_works_within_a_runtime() {
    let Some(way) = InSchema::new() else { return };
    let (_ledger, program) = begin(&way);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    runtime.block_on(async {
        let claim = program.member.claim("a", &()).unwrap();
        assert_eq!(claim.complete_with_postgres(insert).unwrap(), 1);
    });
    assert_eq!(done(&way), 1);
}

/// The claim keeps its verdict for another try.
#[test]
fn in_another_store_it_is_refused_and_decides_nothing() {
    let file = InFile::new();
    let ledger = file.open();
    let program = Program::start(&ledger, patient("worker"));
    let claim = program.member.claim("a", &()).unwrap();
    let refused = claim.complete_with_postgres(insert).unwrap_err();
    assert!(
        refused.to_string().contains("not in PostgreSQL"),
        "{refused}"
    );
    drop(claim);
    assert_eq!(ledger.released().unwrap(), ["a"]);
    let Some(way) = InSchema::new() else { return };
    let (ledger, program) = begin(&way);
    let claim = program.member.claim("a", &()).unwrap();
    let refused = claim
        .complete_with(|tx| tx.execute(INSERT, []))
        .unwrap_err();
    assert!(refused.to_string().contains("not in SQLite"), "{refused}");
    drop(claim);
    assert_eq!(
        (done(&way), ledger.released().unwrap()),
        (0, vec!["a".to_owned()])
    );
}
