//! Claims, in SQL.

use rusqlite::{Connection, OptionalExtension, Result, Row, named_params, params};

use super::{members, now};
use crate::ledger::info::{Counts, FailedClaim, GivenUp};
use crate::ledger::store::{Answer, ClaimId, MemberRow, Verdict, time};

pub(super) fn next_epoch(connection: &Connection) -> Result<i64> {
    let sql = "UPDATE winddown_ledger SET epoch = epoch + 1 RETURNING epoch";
    connection
        .prepare_cached(sql)?
        .query_row([], |row| row.get(0))
}

pub(super) fn claim(
    connection: &Connection,
    owner: i64,
    key: &str,
    payload: &str,
) -> Result<Answer> {
    let epoch = next_epoch(connection)?;
    // A member that was pruned meanwhile gets nothing: its claim would be an orphan.
    let sql = concat!(
        "INSERT INTO winddown_claims (key, state, owner, epoch, crashes, interruptions, failures, \
             since, payload) \
         SELECT :key, 'claimed', :owner, :epoch, 1, 0, 0, ",
        now!(),
        ", :payload WHERE EXISTS (SELECT 1 FROM winddown_members WHERE id = :owner) \
         ON CONFLICT (key) DO UPDATE SET state = 'claimed', owner = excluded.owner, \
             epoch = excluded.epoch, crashes = crashes + 1, since = excluded.since, \
             payload = excluded.payload WHERE state = 'open' \
         RETURNING crashes, interruptions, failures, saved"
    );
    let claimed = connection
        .prepare_cached(sql)?
        .query_row(
            named_params! {":key": key, ":owner": owner, ":epoch": epoch, ":payload": payload},
            |row| {
                Ok(Answer::Claimed {
                    epoch,
                    counts: counts(row)?,
                    saved: row.get("saved")?,
                })
            },
        )
        .optional()?;
    match claimed {
        Some(claimed) => Ok(claimed),
        None => why_not(connection, key),
    }
}

fn why_not(connection: &Connection, key: &str) -> Result<Answer> {
    let sql = "SELECT * FROM winddown_claims WHERE key = ?1 AND state <> 'open'";
    let taken = connection
        .prepare_cached(sql)?
        .query_row([key], |row| match row.get::<_, Option<i64>>("owner")? {
            Some(owner) => Ok(Err(owner)),
            None => Ok(Ok(failed_claim(row)?)),
        })
        .optional()?;
    Ok(match taken {
        None => Answer::NoMember,
        Some(Ok(failed)) => Answer::GivenUp(Box::new(failed)),
        Some(Err(owner)) => {
            let by = members::one(connection, owner).optional()?;
            Answer::Taken(by.map(|by| Box::new(by.info)))
        }
    })
}

pub(super) fn save(connection: &Connection, claim: &ClaimId, state: &str) -> Result<bool> {
    let sql = "UPDATE winddown_claims SET saved = ?4 WHERE key = ?1 AND owner = ?2 AND epoch = ?3";
    let ClaimId { key, owner, epoch } = claim;
    let saved = connection
        .prepare_cached(sql)?
        .execute(params![key, owner, epoch, state])?;
    Ok(saved == 1)
}

pub(super) fn decide(connection: &Connection, claim: &ClaimId, verdict: &Verdict) -> Result<bool> {
    let ClaimId { key, owner, epoch } = claim;
    let changed = match verdict {
        Verdict::Completed => {
            let sql = "DELETE FROM winddown_claims WHERE key = ?1 AND owner = ?2 AND epoch = ?3";
            connection
                .prepare_cached(sql)?
                .execute(params![key, owner, epoch])?
        }
        Verdict::Released {
            interrupted,
            failed,
        } => {
            let sql = concat!(
                "UPDATE winddown_claims SET state = 'open', owner = NULL, since = ",
                now!(),
                ", crashes = crashes - 1, interruptions = interruptions + ?4, \
                     failures = failures + ?5 \
                 WHERE key = ?1 AND owner = ?2 AND epoch = ?3"
            );
            connection.prepare_cached(sql)?.execute(params![
                key,
                owner,
                epoch,
                interrupted,
                failed
            ])?
        }
        Verdict::Failed { error } => {
            let sql = concat!(
                "UPDATE winddown_claims SET state = 'failed', owner = NULL, since = ",
                now!(),
                ", crashes = crashes - 1, failures = failures + 1, cause = 'failed', error = ?4 \
                 WHERE key = ?1 AND owner = ?2 AND epoch = ?3"
            );
            connection
                .prepare_cached(sql)?
                .execute(params![key, owner, epoch, error])?
        }
    };
    Ok(changed == 1)
}

/// Of a member that leaves. Says how many there were.
pub(super) fn release_all(connection: &Connection, owner: i64) -> Result<usize> {
    let sql = concat!(
        "UPDATE winddown_claims SET state = 'open', owner = NULL, since = ",
        now!(),
        ", crashes = crashes - 1, interruptions = interruptions + 1 \
         WHERE state = 'claimed' AND owner = ?1"
    );
    connection.execute(sql, [owner])
}

macro_rules! prune {
    ($cause:literal, $condition:literal) => {
        concat!(
            "UPDATE winddown_claims SET \
                 state = iif(crashes < ?1, 'open', 'failed'), \
                 last_owner = owner, owner = NULL, since = ",
            now!(),
            ", cause = '",
            $cause,
            "', error = ?2, last_heartbeat = ?3 WHERE state = 'claimed' AND ",
            $condition
        )
    };
}

/// Of a member that is dead. The crash was counted when it claimed them.
pub(super) fn prune(connection: &Connection, dead: &MemberRow) -> Result<usize> {
    let heard = dead
        .info
        .last_heartbeat
        .duration_since(std::time::UNIX_EPOCH);
    connection.execute(
        prune!("pruned", "owner = ?4"),
        params![
            dead.max_crashes,
            dead.info.name,
            crate::ledger::store::millis(heard.unwrap_or_default()),
            dead.info.id
        ],
    )
}

pub(super) fn has_orphans(connection: &Connection) -> Result<bool> {
    let sql = "SELECT EXISTS (SELECT 1 FROM winddown_claims WHERE state = 'claimed' AND \
               owner NOT IN (SELECT id FROM winddown_members))";
    connection
        .prepare_cached(sql)?
        .query_row([], |row| row.get(0))
}

pub(super) fn prune_orphans(connection: &Connection, max_crashes: u32) -> Result<usize> {
    connection.execute(
        prune!("orphaned", "owner NOT IN (SELECT id FROM winddown_members)"),
        params![max_crashes, None::<String>, None::<i64>],
    )
}

pub(super) fn open_keys(connection: &Connection) -> Result<Vec<String>> {
    let sql = "SELECT key FROM winddown_claims WHERE state = 'open' ORDER BY since, epoch";
    let mut statement = connection.prepare_cached(sql)?;
    let keys = statement.query_map([], |row| row.get(0))?;
    keys.collect()
}

pub(super) fn failed(connection: &Connection) -> Result<Vec<FailedClaim>> {
    let sql = "SELECT * FROM winddown_claims WHERE state = 'failed' ORDER BY since, epoch";
    let mut statement = connection.prepare_cached(sql)?;
    let failed = statement.query_map([], failed_claim)?;
    failed.collect()
}

/// Somebody has looked into it: its crashes are forgiven.
pub(super) fn retry(connection: &Connection, key: &str) -> Result<bool> {
    let sql = concat!(
        "UPDATE winddown_claims SET state = 'open', crashes = 0, cause = NULL, error = NULL, \
             since = ",
        now!(),
        " WHERE key = ?1 AND state = 'failed'"
    );
    Ok(connection.execute(sql, [key])? == 1)
}

pub(super) fn discard(connection: &Connection, key: &str) -> Result<bool> {
    let sql = "DELETE FROM winddown_claims WHERE key = ?1 AND state = 'failed'";
    Ok(connection.execute(sql, [key])? == 1)
}

fn counts(row: &Row<'_>) -> Result<Counts> {
    Ok(Counts {
        crashes: row.get("crashes")?,
        interruptions: row.get("interruptions")?,
        failures: row.get("failures")?,
    })
}

fn failed_claim(row: &Row<'_>) -> Result<FailedClaim> {
    let kind: Option<String> = row.get("cause")?;
    let error = row.get::<_, Option<String>>("error")?.unwrap_or_default();
    let owner = row.get::<_, Option<i64>>("last_owner")?.unwrap_or_default();
    let why = match kind.as_deref() {
        Some("pruned") => GivenUp::Pruned {
            member: error,
            id: owner,
            last_heartbeat: time(
                row.get::<_, Option<i64>>("last_heartbeat")?
                    .unwrap_or_default(),
            ),
        },
        Some("orphaned") => GivenUp::Orphaned { owner },
        _ => GivenUp::Failed { error },
    };
    Ok(FailedClaim {
        key: row.get("key")?,
        payload: row.get("payload")?,
        why,
        counts: counts(row)?,
        since: time(row.get("since")?),
    })
}
