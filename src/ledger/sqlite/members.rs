//! Members and the ends of their runs, in SQL.

use std::time::Duration;

use rusqlite::{Connection, Result, Row, named_params, params};

use super::now;
use crate::ledger::info::MemberInfo;
use crate::ledger::store::{Doing, End, EndKind, MemberRow, NewMember, millis, time};

pub(super) fn insert(connection: &Connection, new: &NewMember) -> Result<()> {
    let sql = concat!(
        "INSERT INTO winddown_members (id, name, host, boot, pid, started, heartbeat, beats, \
             dead_after, max_crashes, phase, hook) \
         VALUES (:id, :name, :host, :boot, :pid, ",
        now!(),
        ", ",
        now!(),
        ", 0, :dead_after, :max_crashes, 'running', NULL)"
    );
    connection.prepare_cached(sql)?.execute(named_params! {
        ":id": new.id,
        ":name": new.name,
        ":host": new.host,
        ":boot": new.boot,
        ":pid": new.pid,
        ":dead_after": millis(new.dead_after),
        ":max_crashes": new.max_crashes,
    })?;
    Ok(())
}

pub(super) fn beat(connection: &Connection, id: i64, doing: &Doing) -> Result<bool> {
    let sql = concat!(
        "UPDATE winddown_members SET beats = beats + 1, phase = ?2, hook = ?3, heartbeat = ",
        now!(),
        " WHERE id = ?1"
    );
    let beaten = connection
        .prepare_cached(sql)?
        .execute(params![id, doing.phase, doing.hook])?;
    Ok(beaten == 1)
}

pub(super) fn delete(connection: &Connection, id: i64) -> Result<bool> {
    let gone = connection.execute("DELETE FROM winddown_members WHERE id = ?1", [id])?;
    Ok(gone == 1)
}

pub(super) fn delete_unheard(connection: &Connection, dead: &MemberRow) -> Result<bool> {
    let gone = connection.execute(
        "DELETE FROM winddown_members WHERE id = ?1 AND beats = ?2",
        [dead.info.id, dead.beats],
    )?;
    Ok(gone == 1)
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

pub(super) fn all(connection: &Connection) -> Result<Vec<MemberRow>> {
    let mut statement = connection.prepare_cached(concat!(select!(), "ORDER BY id"))?;
    let rows = statement.query_map([], member)?;
    rows.collect()
}

pub(super) fn one(connection: &Connection, id: i64) -> Result<MemberRow> {
    let mut statement = connection.prepare_cached(concat!(select!(), "WHERE id = ?1"))?;
    statement.query_row([id], member)
}

fn member(row: &Row<'_>) -> Result<MemberRow> {
    let dead_after: i64 = row.get("dead_after")?;
    Ok(MemberRow {
        info: MemberInfo {
            id: row.get("id")?,
            name: row.get("name")?,
            host: row.get("host")?,
            pid: row.get("pid")?,
            started: time(row.get("started")?),
            last_heartbeat: time(row.get("heartbeat")?),
            dead_after: Duration::from_millis(u64::try_from(dead_after).unwrap_or(0)),
            phase: row.get("phase")?,
            hook: row.get("hook")?,
            in_flight: row.get("in_flight")?,
        },
        boot: row.get("boot")?,
        max_crashes: row.get("max_crashes")?,
        beats: row.get("beats")?,
        is_late: row.get("late")?,
    })
}

/// The last one counts.
pub(super) fn note_end(connection: &Connection, name: &str, end: &End) -> Result<()> {
    connection.execute(
        "INSERT OR REPLACE INTO winddown_runs (name, ended, took, phase, hook, in_flight) \
         VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
        params![
            name,
            end.kind.word(),
            millis(end.took),
            end.doing.phase,
            end.doing.hook,
            end.in_flight
        ],
    )?;
    Ok(())
}

pub(super) fn last_end(connection: &Connection, name: &str) -> Result<End> {
    let sql = "SELECT ended, took, phase, hook, in_flight FROM winddown_runs WHERE name = ?1";
    connection.query_row(sql, [name], |row| {
        let ended: String = row.get("ended")?;
        let took: i64 = row.get("took")?;
        Ok(End {
            kind: EndKind::of_word(&ended),
            took: Duration::from_millis(u64::try_from(took).unwrap_or(0)),
            doing: Doing {
                phase: row.get("phase")?,
                hook: row.get("hook")?,
            },
            in_flight: row.get("in_flight")?,
        })
    })
}
