//! Claims, in SQL.

use std::time::UNIX_EPOCH;

use tokio_postgres::{Row, Transaction};

use super::members::number;
use super::{Done, Turn, members, now};
use crate::ledger::info::{Counts, FailedClaim, GivenUp};
use crate::ledger::store::{Answer, ClaimId, MemberRow, Verdict, millis, time};

/// How long it is known that something was decided: longer than anybody waits for an answer.
const KNOWN_FOR: i64 = 3_600_000;

pub(super) async fn claim(
    turn: &Turn<'_>,
    owner: i64,
    key: &str,
    payload: &str,
    mark: i64,
) -> Done<Answer> {
    let tx = &turn.tx;
    // Whoever gets the key next takes a larger number, also where there is no row to lock yet.
    let alone = "SELECT pg_advisory_xact_lock(hashtextextended($1, 0))";
    tx.query_one(alone, &[&key]).await?;
    // A member that was pruned meanwhile gets nothing: its claim would be an orphan. Until this is
    // over it is not pruned; it may beat.
    let there = "SELECT 1 FROM winddown_members WHERE id = $1 FOR KEY SHARE";
    if tx.query_opt(there, &[&owner]).await?.is_none() {
        return why_not(tx, key).await;
    }
    let sql = concat!(
        "INSERT INTO winddown_claims AS mine (key, state, owner, epoch, crashes, interruptions, \
             failures, since, payload, mark) \
         VALUES ($2, 'claimed', $1, nextval('winddown_epochs'), 1, 0, 0, ",
        now!(),
        ", $3, $4) \
         ON CONFLICT (key) DO UPDATE SET state = 'claimed', owner = excluded.owner, \
             epoch = excluded.epoch, crashes = mine.crashes + 1, since = excluded.since, \
             payload = excluded.payload, mark = excluded.mark WHERE mine.state = 'open' \
         RETURNING epoch, crashes, interruptions, failures, saved"
    );
    let mut claimed = tx.query_opt(sql, &[&owner, &key, &payload, &mark]).await?;
    if claimed.is_none() && turn.is_again {
        let sql = "SELECT epoch, crashes, interruptions, failures, saved FROM winddown_claims \
                   WHERE key = $2 AND owner = $1 AND mark = $3";
        claimed = tx.query_opt(sql, &[&owner, &key, &mark]).await?;
    }
    match claimed {
        Some(row) => Ok(Answer::Claimed {
            epoch: row.try_get("epoch")?,
            counts: counts(&row)?,
            saved: row.try_get("saved")?,
        }),
        None => why_not(tx, key).await,
    }
}

async fn why_not(tx: &Transaction<'_>, key: &str) -> Done<Answer> {
    let sql = "SELECT * FROM winddown_claims WHERE key = $1 AND state <> 'open'";
    let Some(row) = tx.query_opt(sql, &[&key]).await? else {
        return Ok(Answer::NoMember);
    };
    Ok(match row.try_get::<_, Option<i64>>("owner")? {
        None => Answer::GivenUp(Box::new(failed_claim(&row)?)),
        Some(owner) => {
            let by = members::one(tx, owner).await?;
            Answer::Taken(by.map(|by| Box::new(by.info)))
        }
    })
}

pub(super) async fn save(tx: &Transaction<'_>, claim: &ClaimId, state: &str) -> Done<bool> {
    let sql = "UPDATE winddown_claims SET saved = $4 WHERE key = $1 AND owner = $2 AND epoch = $3";
    let ClaimId { key, owner, epoch } = claim;
    Ok(tx.execute(sql, &[key, owner, epoch, &state]).await? == 1)
}

/// Until the transaction is over nobody else decides it. False: not this owner's, or not of this
/// epoch.
pub(super) async fn lock(tx: &Transaction<'_>, claim: &ClaimId) -> Done<bool> {
    let sql = "SELECT 1 FROM winddown_claims WHERE key = $1 AND owner = $2 AND epoch = $3 \
               FOR UPDATE";
    let ClaimId { key, owner, epoch } = claim;
    Ok(tx.query_opt(sql, &[key, owner, epoch]).await?.is_some())
}

/// A verdict, and the note of it.
macro_rules! decide {
    ($($verdict:expr),+) => {
        concat!(
            "WITH decided AS (",
            $($verdict,)+
            " WHERE key = $1 AND owner = $2 AND epoch = $3 RETURNING epoch) \
             INSERT INTO winddown_decided SELECT epoch, ",
            now!(),
            " FROM decided ON CONFLICT DO NOTHING"
        )
    };
}

pub(super) async fn decide(tx: &Transaction<'_>, claim: &ClaimId, verdict: &Verdict) -> Done<bool> {
    let ClaimId { key, owner, epoch } = claim;
    let decided = match verdict {
        Verdict::Completed => {
            let sql = decide!("DELETE FROM winddown_claims");
            tx.execute(sql, &[key, owner, epoch]).await?
        }
        Verdict::Released {
            interrupted,
            failed,
        } => {
            let sql = decide!(
                "UPDATE winddown_claims SET state = 'open', owner = NULL, since = ",
                now!(),
                ", crashes = crashes - 1, interruptions = interruptions + $4, \
                     failures = failures + $5"
            );
            let (interrupted, failed) = (i64::from(*interrupted), i64::from(*failed));
            tx.execute(sql, &[key, owner, epoch, &interrupted, &failed])
                .await?
        }
        Verdict::Failed { error } => {
            let sql = decide!(
                "UPDATE winddown_claims SET state = 'failed', owner = NULL, since = ",
                now!(),
                ", crashes = crashes - 1, failures = failures + 1, cause = 'failed', error = $4"
            );
            // The engine keeps no zero in a text.
            let error = error.replace('\0', "\u{fffd}");
            tx.execute(sql, &[key, owner, epoch, &error]).await?
        }
    };
    Ok(decided == 1)
}

/// For somebody who lost the connection before he was told.
pub(super) async fn is_decided(tx: &Transaction<'_>, epoch: i64) -> Done<bool> {
    let sql = "SELECT 1 FROM winddown_decided WHERE epoch = $1";
    Ok(tx.query_opt(sql, &[&epoch]).await?.is_some())
}

pub(super) async fn note_decided(tx: &Transaction<'_>, epoch: i64) -> Done<()> {
    let sql = concat!(
        "INSERT INTO winddown_decided VALUES ($1, ",
        now!(),
        ") ON CONFLICT DO NOTHING"
    );
    tx.execute(sql, &[&epoch]).await?;
    Ok(())
}

/// What another is forgetting at the moment is his.
pub(super) async fn forget_decided(tx: &Transaction<'_>) -> Done<()> {
    let sql = concat!(
        "DELETE FROM winddown_decided WHERE epoch IN (SELECT epoch FROM winddown_decided \
         WHERE decided < ",
        now!(),
        " - $1 LIMIT 10000 FOR UPDATE SKIP LOCKED)"
    );
    tx.execute(sql, &[&KNOWN_FOR]).await?;
    Ok(())
}

/// Of a member that leaves. Says how many there were.
pub(super) async fn release_all(tx: &Transaction<'_>, owner: i64) -> Done<usize> {
    let sql = concat!(
        "UPDATE winddown_claims SET state = 'open', owner = NULL, since = ",
        now!(),
        ", crashes = crashes - 1, interruptions = interruptions + 1 \
         WHERE state = 'claimed' AND owner = $1"
    );
    Ok(count(tx.execute(sql, &[&owner]).await?))
}

macro_rules! prune {
    ($cause:literal, $condition:literal) => {
        concat!(
            "UPDATE winddown_claims SET \
                 state = CASE WHEN crashes < $1 THEN 'open' ELSE 'failed' END, \
                 last_owner = owner, owner = NULL, since = ",
            now!(),
            ", cause = '",
            $cause,
            "', error = $2, last_heartbeat = $3 WHERE state = 'claimed' AND ",
            $condition
        )
    };
}

/// Of a member that is dead. The crash was counted when it claimed them.
pub(super) async fn prune(tx: &Transaction<'_>, dead: &MemberRow) -> Done<usize> {
    let info = &dead.info;
    let heard = info.last_heartbeat.duration_since(UNIX_EPOCH);
    let (most, heard) = (
        i64::from(dead.max_crashes),
        millis(heard.unwrap_or_default()),
    );
    let sql = prune!("pruned", "owner = $4");
    let pruned = tx
        .execute(sql, &[&most, &info.name, &heard, &info.id])
        .await?;
    Ok(count(pruned))
}

pub(super) async fn prune_orphans(tx: &Transaction<'_>, max_crashes: u32) -> Done<usize> {
    // Whoever has one locked is about to change it. And they are looked at again when they are
    // ours: a claim may have got a new owner, who was not there yet at the first look.
    let look = "SELECT key FROM winddown_claims WHERE state = 'claimed' AND NOT EXISTS \
                    (SELECT 1 FROM winddown_members WHERE id = winddown_claims.owner) \
                FOR UPDATE SKIP LOCKED";
    let found = tx.query(look, &[]).await?;
    if found.is_empty() {
        return Ok(0);
    }
    let keys: Vec<String> = found
        .iter()
        .map(|row| row.try_get(0))
        .collect::<Done<_>>()?;
    let sql = prune!(
        "orphaned",
        "key = ANY($4) AND NOT EXISTS \
             (SELECT 1 FROM winddown_members WHERE id = winddown_claims.owner)"
    );
    let (most, none) = (i64::from(max_crashes), None::<String>);
    let pruned = tx
        .execute(sql, &[&most, &none, &None::<i64>, &keys])
        .await?;
    Ok(count(pruned))
}

fn count(rows: u64) -> usize {
    usize::try_from(rows).unwrap_or(usize::MAX)
}

pub(super) async fn open_keys(tx: &Transaction<'_>) -> Done<Vec<String>> {
    let sql = "SELECT key FROM winddown_claims WHERE state = 'open' ORDER BY since, epoch";
    let rows = tx.query(sql, &[]).await?;
    rows.iter().map(|row| row.try_get(0)).collect()
}

pub(super) async fn failed(tx: &Transaction<'_>) -> Done<Vec<FailedClaim>> {
    let sql = "SELECT * FROM winddown_claims WHERE state = 'failed' ORDER BY since, epoch";
    let rows = tx.query(sql, &[]).await?;
    rows.iter().map(failed_claim).collect()
}

/// Somebody has looked into it: its crashes are forgiven.
pub(super) async fn retry(tx: &Transaction<'_>, key: &str) -> Done<bool> {
    let sql = concat!(
        "UPDATE winddown_claims SET state = 'open', crashes = 0, cause = NULL, error = NULL, \
             since = ",
        now!(),
        " WHERE key = $1 AND state = 'failed'"
    );
    Ok(tx.execute(sql, &[&key]).await? == 1)
}

pub(super) async fn discard(tx: &Transaction<'_>, key: &str) -> Done<bool> {
    let sql = "DELETE FROM winddown_claims WHERE key = $1 AND state = 'failed'";
    Ok(tx.execute(sql, &[&key]).await? == 1)
}

fn counts(row: &Row) -> Done<Counts> {
    Ok(Counts {
        crashes: number(row, "crashes")?,
        interruptions: number(row, "interruptions")?,
        failures: number(row, "failures")?,
    })
}

fn failed_claim(row: &Row) -> Done<FailedClaim> {
    let kind: Option<String> = row.try_get("cause")?;
    let error = row
        .try_get::<_, Option<String>>("error")?
        .unwrap_or_default();
    let owner = row
        .try_get::<_, Option<i64>>("last_owner")?
        .unwrap_or_default();
    let heard = row.try_get::<_, Option<i64>>("last_heartbeat")?;
    let why = match kind.as_deref() {
        Some("pruned") => GivenUp::Pruned {
            member: error,
            id: owner,
            last_heartbeat: time(heard.unwrap_or_default()),
        },
        Some("orphaned") => GivenUp::Orphaned { owner },
        _ => GivenUp::Failed { error },
    };
    Ok(FailedClaim {
        key: row.try_get("key")?,
        payload: row.try_get("payload")?,
        why,
        counts: counts(row)?,
        since: time(row.try_get("since")?),
    })
}
