//! Members and the ends of their runs, in SQL.

use std::time::Duration;

use tokio_postgres::{Row, Transaction};

use super::{Done, now};
use crate::ledger::info::MemberInfo;
use crate::ledger::store::{Doing, End, EndKind, MemberRow, NewMember, millis, time};

pub(super) async fn insert(tx: &Transaction<'_>, new: &NewMember) -> Done<()> {
    // The number is nobody else's: a row that is there is of an earlier try.
    let sql = concat!(
        "INSERT INTO winddown_members (id, name, host, boot, pid, started, heartbeat, beats, \
             dead_after, max_crashes, phase, hook) \
         VALUES ($1, $2, $3, $4, $5, ",
        now!(),
        ", ",
        now!(),
        ", 0, $6, $7, 'running', NULL) ON CONFLICT DO NOTHING"
    );
    tx.execute(
        sql,
        &[
            &new.id,
            &new.name,
            &new.host,
            &new.boot,
            &i64::from(new.pid),
            &millis(new.dead_after),
            &i64::from(new.max_crashes),
        ],
    )
    .await?;
    Ok(())
}

pub(super) async fn beat(tx: &Transaction<'_>, id: i64, doing: &Doing) -> Done<bool> {
    let sql = concat!(
        "UPDATE winddown_members SET beats = beats + 1, phase = $2, hook = $3, heartbeat = ",
        now!(),
        " WHERE id = $1"
    );
    // The engine keeps no zero in a text, and a heart must beat.
    let hook = doing.hook.as_deref();
    let hook = hook.map(|hook| hook.replace('\0', "\u{fffd}"));
    Ok(tx.execute(sql, &[&id, &doing.phase, &hook]).await? == 1)
}

pub(super) async fn delete(tx: &Transaction<'_>, id: i64) -> Done<bool> {
    let sql = "DELETE FROM winddown_members WHERE id = $1";
    Ok(tx.execute(sql, &[&id]).await? == 1)
}

/// Whoever waits here for a heartbeat that is being written looks again when it is.
pub(super) async fn delete_unheard(tx: &Transaction<'_>, dead: &MemberRow) -> Done<bool> {
    let sql = "DELETE FROM winddown_members WHERE id = $1 AND beats = $2";
    Ok(tx.execute(sql, &[&dead.info.id, &dead.beats]).await? == 1)
}

macro_rules! select {
    () => {
        concat!(
            "SELECT id, name, host, boot, pid, started, heartbeat, beats, dead_after, \
                 max_crashes, phase, hook, ",
            now!(),
            " - heartbeat > dead_after AS late, \
                 (SELECT count(*) FROM winddown_claims \
                  WHERE state = 'claimed' AND owner = winddown_members.id) AS in_flight \
             FROM winddown_members "
        )
    };
}

pub(super) async fn all(tx: &Transaction<'_>) -> Done<Vec<MemberRow>> {
    let rows = tx.query(concat!(select!(), "ORDER BY id"), &[]).await?;
    rows.iter().map(member).collect()
}

pub(super) async fn one(tx: &Transaction<'_>, id: i64) -> Done<Option<MemberRow>> {
    let sql = concat!(select!(), "WHERE id = $1");
    let row = tx.query_opt(sql, &[&id]).await?;
    row.as_ref().map(member).transpose()
}

/// What somebody has written by hand may be out of bounds.
pub(super) fn number<N: TryFrom<i64> + Default>(row: &Row, name: &str) -> Done<N> {
    Ok(N::try_from(row.try_get::<_, i64>(name)?).unwrap_or_default())
}

fn member(row: &Row) -> Done<MemberRow> {
    Ok(MemberRow {
        info: MemberInfo {
            id: row.try_get("id")?,
            name: row.try_get("name")?,
            host: row.try_get("host")?,
            pid: number(row, "pid")?,
            started: time(row.try_get("started")?),
            last_heartbeat: time(row.try_get("heartbeat")?),
            dead_after: Duration::from_millis(number(row, "dead_after")?),
            phase: row.try_get("phase")?,
            hook: row.try_get("hook")?,
            in_flight: number(row, "in_flight")?,
        },
        boot: row.try_get("boot")?,
        max_crashes: number(row, "max_crashes")?,
        beats: row.try_get("beats")?,
        is_late: row.try_get("late")?,
    })
}

/// The last one counts.
pub(super) async fn note_end(tx: &Transaction<'_>, name: &str, end: &End) -> Done<()> {
    let sql = "INSERT INTO winddown_runs (name, ended, took, phase, hook, in_flight) \
         VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (name) DO UPDATE SET \
             ended = excluded.ended, took = excluded.took, phase = excluded.phase, \
             hook = excluded.hook, in_flight = excluded.in_flight";
    tx.execute(
        sql,
        &[
            &name,
            &end.kind.word(),
            &millis(end.took),
            &end.doing.phase,
            &end.doing.hook,
            &i64::try_from(end.in_flight).unwrap_or(i64::MAX),
        ],
    )
    .await?;
    Ok(())
}

pub(super) async fn last_end(tx: &Transaction<'_>, name: &str) -> Done<Option<End>> {
    let sql = "SELECT ended, took, phase, hook, in_flight FROM winddown_runs WHERE name = $1";
    let Some(row) = tx.query_opt(sql, &[&name]).await? else {
        return Ok(None);
    };
    Ok(Some(End {
        kind: EndKind::of_word(row.try_get("ended")?),
        took: Duration::from_millis(number(&row, "took")?),
        doing: Doing {
            phase: row.try_get("phase")?,
            hook: row.try_get("hook")?,
        },
        in_flight: number(&row, "in_flight")?,
    }))
}
