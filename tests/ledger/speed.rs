//! Claim and completion, beside the same statements without a ledger and beside the least that does
//! it, in one run:
//!
//! ```sh
//! cargo test --release --all-features --test ledger speed -- --ignored --nocapture
//! ```
//!
//! On a disk, with everything durable. `TMPDIR` says on which.

use std::time::Instant;

use rusqlite::{Transaction, TransactionBehavior, params};
use winddown::Membership;

use crate::conformance::{Program, Way};
use crate::sqlite::InFile;

/// So short that what else the machine does meets all three.
const EACH: u16 = 200;
const ROUNDS: usize = 15;

/// How often a second, in the median of the rounds, in which they take turns. No number is given
/// twice to the same.
fn rates(mut kinds: [&mut dyn FnMut(usize); 3]) -> [f64; 3] {
    let mut rates = [(); 3].map(|()| Vec::new());
    for round in 0..ROUNDS {
        for (kind, rates) in kinds.iter_mut().zip(&mut rates) {
            let began = Instant::now();
            for number in 0..usize::from(EACH) {
                kind(round * usize::from(EACH) + number);
            }
            rates.push(f64::from(EACH) / began.elapsed().as_secs_f64());
        }
    }
    rates.map(|mut rates| {
        rates.sort_by(f64::total_cmp);
        rates[ROUNDS / 2]
    })
}

/// Says it, and how large the part of the bare statements' rate is.
fn tell(store: &str, [ours, same, least]: [f64; 3]) -> f64 {
    println!(
        "{store}: claim + complete {ours:.0}/s; the same statements bare {same:.0}/s ({:.0} %); \
         the least pair of transactions {least:.0}/s ({:.0} %)",
        100.0 * ours / same,
        100.0 * ours / least
    );
    ours / same
}

#[test]
#[ignore = "measures"]
fn in_a_file_it_is_at_least_60_percent_of_the_bare_transactions() {
    let file = InFile::new();
    let Program { member, .. } = &Program::start(&file.open(), Membership::new("speed"));
    let sql = file.sql();
    sql.pragma_update(None, "synchronous", "FULL").unwrap();
    sql.execute_batch("CREATE TABLE bare (key TEXT PRIMARY KEY, owner INTEGER) WITHOUT ROWID")
        .unwrap();
    let begin = || Transaction::new_unchecked(&sql, TransactionBehavior::Immediate).unwrap();
    let execute = |tx: &Transaction<'_>, statement: &str, values: &[&dyn rusqlite::ToSql]| {
        let mut statement = tx.prepare_cached(statement).unwrap();
        assert_eq!(statement.execute(values).unwrap(), 1);
    };
    let mut ours = |number| {
        let claim = member.claim(format!("key {number}"), &number).unwrap();
        claim.complete().unwrap();
    };
    let mut same = |number| {
        let (key, owner) = (format!("bare {number}"), member.id());
        let tx = begin();
        let next = "UPDATE winddown_ledger SET epoch = epoch + 1 RETURNING epoch";
        let mut next = tx.prepare_cached(next).unwrap();
        let epoch: i64 = next.query_row([], |row| row.get(0)).unwrap();
        drop(next);
        let claim = "INSERT INTO winddown_claims (key, state, owner, epoch, crashes, interruptions, \
             failures, since, payload) VALUES (?1, 'claimed', ?2, ?3, 1, 0, 0, \
             CAST(unixepoch('subsec') * 1000 AS INTEGER), ?4)";
        execute(&tx, claim, params![key, owner, epoch, "1"]);
        tx.commit().unwrap();
        let tx = begin();
        let complete = "DELETE FROM winddown_claims WHERE key = ?1 AND owner = ?2 AND epoch = ?3";
        execute(&tx, complete, params![key, owner, epoch]);
        tx.commit().unwrap();
    };
    let mut least = |number| {
        let (key, owner) = (format!("key {number}"), member.id());
        for statement in [
            "INSERT INTO bare VALUES (?1, ?2)",
            "DELETE FROM bare WHERE key = ?1 AND owner = ?2",
        ] {
            let tx = begin();
            execute(&tx, statement, params![key, owner]);
            tx.commit().unwrap();
        }
    };
    let part = tell("SQLite", rates([&mut ours, &mut same, &mut least]));
    assert!(part >= 0.6, "{part}");
}

#[cfg(feature = "ledger-postgres")]
#[test]
#[ignore = "measures"]
fn on_a_server_it_is_at_least_60_percent_of_the_bare_transactions() {
    use std::cell::RefCell;

    use crate::cluster::InSchema;

    // As the ledger has them, in order.
    const BEGIN: &str = "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE";
    const LIMITS: &str = "SET LOCAL lock_timeout = 4950; SET LOCAL statement_timeout = 4950; \
         SET LOCAL idle_in_transaction_session_timeout = 4950";
    const CLAIM: &str = "INSERT INTO winddown_claims AS mine (key, state, owner, epoch, crashes, \
             interruptions, failures, since, payload, mark) \
         VALUES ($2, 'claimed', $1, nextval('winddown_epochs'), 1, 0, 0, \
             floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint, $3, $4) \
         ON CONFLICT (key) DO UPDATE SET state = 'claimed', owner = excluded.owner, \
             epoch = excluded.epoch, crashes = mine.crashes + 1, since = excluded.since, \
             payload = excluded.payload, mark = excluded.mark WHERE mine.state = 'open' \
         RETURNING epoch, crashes, interruptions, failures, saved";
    const COMPLETE: &str = "WITH decided AS (DELETE FROM winddown_claims \
             WHERE key = $1 AND owner = $2 AND epoch = $3 RETURNING epoch) \
         INSERT INTO winddown_decided SELECT epoch, \
             floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint FROM decided \
         ON CONFLICT DO NOTHING";

    let Some(way) = InSchema::durable() else {
        return;
    };
    let Program { member, .. } = &Program::start(&way.open(), Membership::new("speed"));
    way.by_hand("CREATE TABLE bare (key TEXT PRIMARY KEY, owner BIGINT)");
    let mut ours = |number| {
        let claim = member.claim(format!("key {number}"), &number).unwrap();
        claim.complete().unwrap();
    };
    let sql = RefCell::new(way.sql());
    let mut same = |number| {
        let (key, owner, mut sql) = (format!("bare {number}"), member.id(), sql.borrow_mut());
        sql.batch_execute(BEGIN).unwrap();
        sql.batch_execute(LIMITS).unwrap();
        let alone = "SELECT pg_advisory_xact_lock(hashtextextended($1, 0))";
        sql.query_one(alone, &[&key]).unwrap();
        let there = "SELECT 1 FROM winddown_members WHERE id = $1 FOR KEY SHARE";
        sql.query_one(there, &[&owner]).unwrap();
        let claimed = sql.query_one(CLAIM, &[&owner, &key, &"1", &0_i64]);
        let epoch: i64 = claimed.unwrap().get(0);
        sql.batch_execute("COMMIT").unwrap();
        sql.batch_execute(BEGIN).unwrap();
        sql.batch_execute(LIMITS).unwrap();
        let completed = sql.execute(COMPLETE, &[&key, &owner, &epoch]).unwrap();
        assert_eq!(completed, 1);
        sql.batch_execute("COMMIT").unwrap();
    };
    let [insert, delete] = [
        "INSERT INTO bare VALUES ($1, $2)",
        "DELETE FROM bare WHERE key = $1 AND owner = $2",
    ]
    .map(|statement| sql.borrow_mut().prepare(statement).unwrap());
    let mut least = |number| {
        let (key, owner, mut sql) = (format!("key {number}"), member.id(), sql.borrow_mut());
        for statement in [&insert, &delete] {
            assert_eq!(sql.execute(statement, &[&key, &owner]).unwrap(), 1);
        }
    };
    let part = tell("PostgreSQL", rates([&mut ours, &mut same, &mut least]));
    assert!(part >= 0.6, "{part}");
}
