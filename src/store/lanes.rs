//! What delivery writes and reads: places in the record log, records off the straight path.

use super::{Reader, Store, StoreError, Stored, filter::filter, open, queue::Work, reader::load};
use crate::{model::Timestamp, query::Query};
use rusqlite::{Connection, OptionalExtension, Row, params, params_from_iter, types::Value};
use serde::Serialize;
use tokio::sync::oneshot;
use uuid::Uuid;

/// Calls that one read looks at, matching or not: a filter that rarely matches must not read long.
const SCAN: i64 = 20_000;
/// Most exceptions of one page.
const PAGE: u32 = 1000;

/// A change to what the store knows of a lane. Applying it twice does what applying it once does,
/// except for counts.
#[derive(Clone, Debug)]
pub enum LaneChange {
    /// The sink is there; when it is new its lane begins after `first`.
    Open {
        /// Where a new lane begins.
        first: i64,
    },
    /// Deliveries that were settled.
    Progress(Progress),
    /// A person stopped it (with a reason) or let it go on.
    Pause(Option<String>),
    /// Dead records are to be tried again: these, or all.
    Redrive(Option<Vec<i64>>),
    /// Dead records are given up: these, or all.
    Drop(Option<Vec<i64>>),
    /// Calls after `from` up to `until` are to be sent beside the new ones.
    Fill {
        /// The last call that is not.
        from: i64,
        /// The last one that is.
        until: i64,
    },
    /// The sink is not configured any more: nothing is kept for it.
    Release,
}

/// What was settled since the last write.
#[derive(Clone, Debug, Default)]
pub struct Progress {
    /// All up to this call is delivered, not wanted, or an exception.
    pub cursor: Option<i64>,
    /// The same for the backfill.
    pub fill: Option<i64>,
    /// Records that leave the straight path, or were tried again in vain.
    pub exceptions: Vec<Exception>,
    /// Exceptions that were delivered after all.
    pub settled: Vec<i64>,
    /// Records taken by the sink.
    pub delivered: u64,
}

impl Progress {
    /// Whether there is nothing to write.
    pub fn is_empty(&self) -> bool {
        self.cursor.is_none()
            && self.fill.is_none()
            && self.exceptions.is_empty()
            && self.settled.is_empty()
            && self.delivered == 0
    }
}

/// A record off the straight path.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Exception {
    /// Its place in the record log.
    pub seq: i64,
    /// The call.
    pub id: Uuid,
    /// Whether it is given up; else it waits to be tried alone.
    pub dead: bool,
    /// How often it was tried alone.
    pub attempts: u32,
    /// When it is tried next, or when it died.
    pub at: Timestamp,
    /// Why it is here.
    pub reason: String,
}

/// What the store knows of a lane.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LaneRow {
    /// Stable id of the sink.
    pub sink: String,
    /// Where it began: earlier calls were never sent, unless filled.
    pub first: i64,
    /// All up to here is settled.
    pub cursor: i64,
    /// Why a person stopped it.
    pub paused: Option<String>,
    /// A backfill: settled up to here, and where it ends.
    pub fill: Option<(i64, i64)>,
    /// Records taken by the sink.
    pub delivered: u64,
    /// Records that wait to be tried alone.
    pub waiting: u64,
    /// Dead records.
    pub dead: u64,
}

/// Calls read for a lane.
#[derive(Debug, Default)]
pub struct Taken {
    /// Those that match, oldest first.
    pub calls: Vec<Stored>,
    /// All up to here was looked at.
    pub through: i64,
    /// Whether there was no room for more.
    pub full: bool,
}

/// How much one read may bring.
#[derive(Clone, Copy, Debug)]
pub struct Room {
    /// Calls.
    pub calls: usize,
    /// Bytes of raw bodies; one call always fits.
    pub bytes: u64,
}

impl Store {
    /// Applies a change; the receiver fires after its commit with the number of rows it met. It is
    /// dropped where the change found no room or the store closed.
    pub fn change_lane(
        &self,
        sink: &str,
        change: LaneChange,
    ) -> oneshot::Receiver<Result<i64, String>> {
        let (done, committed) = oneshot::channel();
        self.inner.shared.push(Work::Lane(Box::new((sink.to_owned(), change)), Some(done)));
        committed
    }
}

/// Name of a lane's cursor.
fn cursor_name(sink: &str) -> String {
    format!("sink:{sink}")
}

/// Name of the cursor of its backfill.
fn fill_name(sink: &str) -> String {
    format!("fill:{sink}")
}

/// Applies a change inside the writer's transaction. A record that is gone by now is passed over: no
/// change of a lane may keep calls from being stored.
pub(super) fn apply(conn: &Connection, sink: &str, change: &LaneChange) -> rusqlite::Result<i64> {
    let rows = match change {
        LaneChange::Open { first } => {
            conn.prepare_cached("INSERT OR IGNORE INTO lanes (sink, first_seq) VALUES (?1, ?2)")?
                .execute(params![sink, first])?;
            conn.prepare_cached(
                "INSERT INTO cursors (name, seq, holds) VALUES (?1, ?2, 1)
                 ON CONFLICT (name) DO UPDATE SET holds = 1",
            )?
            .execute(params![cursor_name(sink), first])?;
            hold(conn, &fill_name(sink), true)?
        }
        LaneChange::Progress(progress) => progressed(conn, sink, progress)?,
        LaneChange::Pause(reason) => conn
            .prepare_cached("UPDATE lanes SET paused = ?2 WHERE sink = ?1")?
            .execute(params![sink, reason])?,
        LaneChange::Redrive(seqs) => {
            let now = Timestamp::now().to_string();
            let sql = "UPDATE exceptions SET state = 'waiting', attempts = 0, next_at = ?";
            dead(conn, sql, Some(now), sink, seqs.as_deref())?
        }
        LaneChange::Drop(seqs) => {
            dead(conn, "DELETE FROM exceptions", None, sink, seqs.as_deref())?
        }
        LaneChange::Fill { from, until } => {
            conn.prepare_cached("UPDATE lanes SET first_seq = min(first_seq, ?2) WHERE sink = ?1")?
                .execute(params![sink, from])?;
            conn.prepare_cached(
                "INSERT OR REPLACE INTO cursors (name, seq, holds, until) VALUES (?1, ?2, 1, ?3)",
            )?
            .execute(params![fill_name(sink), from, until])?
        }
        LaneChange::Release => {
            hold(conn, &cursor_name(sink), false)? + hold(conn, &fill_name(sink), false)?
        }
    };
    Ok(i64::try_from(rows).unwrap_or(i64::MAX))
}

fn hold(conn: &Connection, name: &str, holds: bool) -> rusqlite::Result<usize> {
    conn.prepare_cached("UPDATE cursors SET holds = ?2 WHERE name = ?1")?
        .execute(params![name, holds])
}

fn progressed(conn: &Connection, sink: &str, progress: &Progress) -> rusqlite::Result<usize> {
    let mut rows = 0;
    if let Some(seq) = progress.cursor {
        // A fresh file may have taken the place of a damaged one.
        conn.prepare_cached("INSERT OR IGNORE INTO lanes (sink, first_seq) VALUES (?1, ?2)")?
            .execute(params![sink, seq])?;
        rows += conn
            .prepare_cached(
                "INSERT INTO cursors (name, seq, holds) VALUES (?1, ?2, 1)
                 ON CONFLICT (name) DO UPDATE SET seq = ?2",
            )?
            .execute(params![cursor_name(sink), seq])?;
    }
    if let Some(seq) = progress.fill {
        let name = fill_name(sink);
        rows += conn
            .prepare_cached("UPDATE cursors SET seq = ?2 WHERE name = ?1")?
            .execute(params![name, seq])?;
        conn.prepare_cached("DELETE FROM cursors WHERE name = ?1 AND seq >= until")?
            .execute([name])?;
    }
    for exception in &progress.exceptions {
        rows += conn
            .prepare_cached(
                "INSERT OR REPLACE INTO exceptions (sink, seq, state, attempts, next_at, reason)
                 SELECT ?1, seq, ?3, ?4, ?5, ?6 FROM calls WHERE seq = ?2",
            )?
            .execute(params![
                sink,
                exception.seq,
                if exception.dead { "dead" } else { "waiting" },
                exception.attempts,
                exception.at.to_string(),
                exception.reason,
            ])?;
    }
    for seq in &progress.settled {
        rows += conn
            .prepare_cached("DELETE FROM exceptions WHERE sink = ?1 AND seq = ?2")?
            .execute(params![sink, seq])?;
    }
    if progress.delivered > 0 {
        conn.prepare_cached("UPDATE lanes SET delivered = delivered + ?2 WHERE sink = ?1")?
            .execute(params![sink, i64::try_from(progress.delivered).unwrap_or(i64::MAX)])?;
    }
    Ok(rows)
}

/// Runs `sql` over the dead records of a sink: these, or all.
fn dead(
    conn: &Connection,
    sql: &str,
    first: Option<String>,
    sink: &str,
    seqs: Option<&[i64]>,
) -> rusqlite::Result<usize> {
    let base = format!("{sql} WHERE sink = ? AND state = 'dead'");
    let params: Vec<Value> = first.into_iter().chain([sink.to_owned()]).map(Value::from).collect();
    let Some(seqs) = seqs else {
        return conn.prepare_cached(&base)?.execute(params_from_iter(params));
    };
    let mut rows = 0;
    for seq in seqs {
        let params = params.iter().cloned().chain([Value::from(*seq)]);
        rows += conn
            .prepare_cached(&format!("{base} AND seq = ?"))?
            .execute(params_from_iter(params))?;
    }
    Ok(rows)
}

const LANE: &str = "SELECT lanes.sink, first_seq, coalesce(live.seq, first_seq), paused,
        fill.seq, fill.until, delivered,
        (SELECT count(*) FROM exceptions e WHERE e.sink = lanes.sink AND state = 'waiting'),
        (SELECT count(*) FROM exceptions e WHERE e.sink = lanes.sink AND state = 'dead')
    FROM lanes LEFT JOIN cursors live ON live.name = 'sink:' || lanes.sink
        LEFT JOIN cursors fill ON fill.name = 'fill:' || lanes.sink";

impl Reader {
    /// What is known of every lane that there ever was.
    ///
    /// # Errors
    /// `SQLite`'s.
    pub fn lanes(&self) -> Result<Vec<LaneRow>, StoreError> {
        self.pool.read(|conn| {
            let mut statement = conn.prepare_cached(&format!("{LANE} ORDER BY lanes.sink"))?;
            let rows = statement.query_map([], lane_row)?;
            Ok(rows.collect::<rusqlite::Result<_>>()?)
        })
    }

    /// What is known of one lane.
    ///
    /// # Errors
    /// `SQLite`'s.
    pub fn lane(&self, sink: &str) -> Result<Option<LaneRow>, StoreError> {
        self.pool.read(|conn| {
            let mut statement = conn.prepare_cached(&format!("{LANE} WHERE lanes.sink = ?1"))?;
            Ok(statement.query_row([sink], lane_row).optional()?)
        })
    }

    /// The next calls after `after`, up to `until`, that match.
    ///
    /// # Errors
    /// `SQLite`'s, or that it took too long.
    pub fn take(
        &self,
        only: &Query,
        after: i64,
        until: Option<i64>,
        room: Room,
    ) -> Result<Taken, StoreError> {
        let filter = filter(only, Timestamp::now());
        self.pool.read(|conn| {
            // One snapshot: what is committed later is looked at later.
            let conn = conn.transaction()?;
            let last = open::last_seq(&conn)?;
            let end = until.unwrap_or(i64::MAX).min(last).min(after.saturating_add(SCAN));
            let mut taken = Taken { calls: Vec::new(), through: end.max(after), full: false };
            let sql = format!(
                "SELECT calls.seq, request_bytes + response_bytes FROM calls
                 WHERE calls.seq > ? AND calls.seq <= ? AND ({}) ORDER BY calls.seq LIMIT ?",
                filter.sql
            );
            let limit = i64::try_from(room.calls).unwrap_or(i64::MAX);
            let params = [Value::from(after), Value::from(end)]
                .into_iter()
                .chain(filter.params.iter().cloned())
                .chain([Value::from(limit)]);
            let found: Vec<(i64, i64)> = conn
                .prepare_cached(&sql)?
                .query_map(params_from_iter(params), |row| Ok((row.get(0)?, row.get(1)?)))?
                .collect::<rusqlite::Result<_>>()?;
            let mut bytes = 0;
            for (seq, size) in &found {
                bytes += u64::try_from(*size).unwrap_or(0);
                if bytes > room.bytes && !taken.calls.is_empty() {
                    taken.full = true;
                    break;
                }
                taken.calls.extend(load(&conn, *seq)?);
                taken.through = *seq;
            }
            taken.full |= found.len() == room.calls;
            if !taken.full {
                taken.through = end.max(after);
            }
            Ok(taken)
        })
    }

    /// These calls, as far as they are still kept.
    ///
    /// # Errors
    /// `SQLite`'s.
    pub fn calls_at(&self, seqs: &[i64]) -> Result<Vec<Stored>, StoreError> {
        self.pool.read(|conn| {
            let mut calls = Vec::with_capacity(seqs.len());
            for seq in seqs {
                calls.extend(load(conn, *seq)?);
            }
            Ok(calls)
        })
    }

    /// Exceptions that are due, longest first.
    ///
    /// # Errors
    /// `SQLite`'s.
    pub fn due(&self, sink: &str, limit: usize) -> Result<Vec<Exception>, StoreError> {
        // After a step of the clock nothing waits longer than it would have.
        let now = Timestamp::now();
        let far = now.plus_us(2 * 3_600_000_000).to_string();
        self.pool.read(|conn| {
            let mut statement = conn.prepare_cached(&format!(
                "{EXCEPTION} WHERE sink = ?1 AND state = 'waiting' AND (next_at <= ?2 OR next_at > ?3)
                 ORDER BY next_at LIMIT ?4"
            ))?;
            let limit = i64::try_from(limit).unwrap_or(i64::MAX);
            let rows =
                statement.query_map(params![sink, now.to_string(), far, limit], exception_row)?;
            Ok(rows.collect::<rusqlite::Result<_>>()?)
        })
    }

    /// Dead records of a sink after `after`, oldest first, and whether there are more.
    ///
    /// # Errors
    /// `SQLite`'s.
    pub fn dead(
        &self,
        sink: &str,
        after: i64,
        limit: u32,
    ) -> Result<(Vec<Exception>, bool), StoreError> {
        let limit = limit.clamp(1, PAGE);
        self.pool.read(|conn| {
            let mut statement = conn.prepare_cached(&format!(
                "{EXCEPTION} WHERE sink = ?1 AND state = 'dead' AND seq > ?2 ORDER BY seq LIMIT ?3"
            ))?;
            let rows = statement.query_map(params![sink, after, limit + 1], exception_row)?;
            let mut rows = rows.collect::<rusqlite::Result<Vec<_>>>()?;
            let more = rows.len() > limit as usize;
            rows.truncate(limit as usize);
            Ok((rows, more))
        })
    }

    /// The exception that a call is for a sink.
    ///
    /// # Errors
    /// `SQLite`'s.
    pub fn exception(&self, sink: &str, seq: i64) -> Result<Option<Exception>, StoreError> {
        self.pool.read(|conn| {
            let mut statement =
                conn.prepare_cached(&format!("{EXCEPTION} WHERE sink = ?1 AND seq = ?2"))?;
            Ok(statement.query_row(params![sink, seq], exception_row).optional()?)
        })
    }

    /// How many calls after `after`, up to `until`, match, and when the oldest of them ended.
    ///
    /// # Errors
    /// [`StoreError::Deadline`] after 2 s.
    pub fn backlog(
        &self,
        only: &Query,
        after: i64,
        until: Option<i64>,
    ) -> Result<(u64, Option<Timestamp>), StoreError> {
        let filter = filter(only, Timestamp::now());
        self.pool.read(|conn| {
            let sql = format!(
                "SELECT count(*), min(calls.ended_at) FROM calls
                 WHERE calls.seq > ? AND calls.seq <= ? AND ({})",
                filter.sql
            );
            let params = [Value::from(after), Value::from(until.unwrap_or(i64::MAX))]
                .into_iter()
                .chain(filter.params.iter().cloned());
            let (count, oldest) =
                conn.prepare_cached(&sql)?.query_row(params_from_iter(params), |row| {
                    Ok((row.get::<_, i64>(0)?, row.get::<_, Option<String>>(1)?))
                })?;
            let oldest = oldest.and_then(|text| text.parse().ok());
            Ok((u64::try_from(count).unwrap_or(0), oldest))
        })
    }

    /// The last call that started before `time`; 0 when there is none.
    ///
    /// # Errors
    /// `SQLite`'s.
    pub fn seq_before(&self, time: Timestamp) -> Result<i64, StoreError> {
        self.pool.read(|conn| {
            Ok(conn.query_row(
                "SELECT coalesce(min(seq) - 1, (SELECT coalesce(max(seq), 0) FROM sqlite_sequence
                     WHERE name = 'calls')) FROM calls WHERE started_at >= ?1",
                [time.to_string()],
                |row| row.get(0),
            )?)
        })
    }

    /// The places of calls by id or the first 8 characters of one.
    ///
    /// # Errors
    /// [`StoreError::Invalid`] where an id is not known.
    pub fn seqs_of(&self, ids: &[String]) -> Result<Vec<i64>, StoreError> {
        let mut seqs = Vec::with_capacity(ids.len());
        for id in ids {
            let found = self.get(id)?.and_then(|stored| stored.record.seq);
            seqs.push(found.ok_or_else(|| StoreError::Invalid(format!("no call `{id}`")))?);
        }
        Ok(seqs)
    }
}

const EXCEPTION: &str = "SELECT seq, id, state = 'dead', attempts, next_at, reason
    FROM exceptions JOIN calls USING (seq)";

fn exception_row(row: &Row<'_>) -> rusqlite::Result<Exception> {
    let (id, at): (String, String) = (row.get(1)?, row.get(4)?);
    Ok(Exception {
        seq: row.get(0)?,
        id: id.parse().unwrap_or_default(),
        dead: row.get(2)?,
        attempts: row.get(3)?,
        at: at.parse().unwrap_or_default(),
        reason: row.get(5)?,
    })
}

fn lane_row(row: &Row<'_>) -> rusqlite::Result<LaneRow> {
    let count = |at: usize| -> rusqlite::Result<u64> {
        Ok(u64::try_from(row.get::<_, i64>(at)?).unwrap_or(0))
    };
    let (position, until): (Option<i64>, Option<i64>) = (row.get(4)?, row.get(5)?);
    Ok(LaneRow {
        sink: row.get(0)?,
        first: row.get(1)?,
        cursor: row.get(2)?,
        paused: row.get(3)?,
        fill: position.zip(until),
        delivered: count(6)?,
        waiting: count(7)?,
        dead: count(8)?,
    })
}
