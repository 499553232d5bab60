//! Sessions: a list by latest call, the totals of one, and its calls from the first on.

use super::{
    Page, Reader, StoreError, Stored,
    filter::filter,
    reader::{cursor, load, open_cursor, salt},
    rollup::{self, COLUMNS, FACE, FACE_COLUMNS, FACTS, Face, Sum},
    row::dollars,
};
use crate::{model::Timestamp, query::Query};
use rusqlite::{Connection, OptionalExtension, params, params_from_iter, types::Value as Sql};
use serde_json::{Value, json};
use std::collections::HashSet;

/// Most sessions of a page.
const LIMIT_MAX: u32 = 200;
/// Most calls that are looked through for the sessions of a page.
const WALK_MAX: usize = 400_000;
/// Bytes of bodies read for one page of calls; the page ends there.
const PAGE_BYTES_MAX: usize = 32 << 20;

/// A page of a session's calls.
#[derive(Debug)]
pub struct Turns {
    /// The call before the first of the page, if there is one.
    pub before: Option<Stored>,
    /// Oldest first.
    pub calls: Vec<Stored>,
    /// Where the next page starts.
    pub next: Option<String>,
}

impl Reader {
    /// Sessions with a call that matches, by their latest such call, newest first.
    ///
    /// # Errors
    /// As [`Self::list`].
    pub fn sessions(
        &self,
        query: &Query,
        limit: u32,
        after: Option<&str>,
    ) -> Result<Page, StoreError> {
        let limit = usize::try_from(limit.clamp(1, LIMIT_MAX)).unwrap_or(1);
        self.pool.read(|conn| {
            let salt = salt(conn)?;
            let below = after.map_or(Ok(i64::MAX), |cursor| open_cursor(cursor, &salt))?;
            let mut found = latest(conn, query, below, limit + 1)?;
            let more = found.len() > limit;
            found.truncate(limit);
            let next = found.last().filter(|_| more).map(|(seq, _)| cursor(*seq, &salt));
            let mut items = Vec::with_capacity(found.len());
            for (_, session) in found {
                items.extend(one(conn, &session)?);
            }
            Ok(Page { items, next })
        })
    }

    /// One session; `None` when it has no call.
    ///
    /// # Errors
    /// `SQLite`'s.
    pub fn session(&self, session: &str) -> Result<Option<Value>, StoreError> {
        self.pool.read(|conn| one(conn, session))
    }

    /// Calls of a session from the first on, or from the call `from` on.
    ///
    /// # Errors
    /// [`StoreError::Invalid`] for a forged cursor.
    pub fn turns(
        &self,
        session: &str,
        limit: usize,
        after: Option<&str>,
        from: Option<&str>,
    ) -> Result<Turns, StoreError> {
        self.pool.read(|conn| {
            let salt = salt(conn)?;
            let mut above = after.map_or(Ok(0), |cursor| open_cursor(cursor, &salt))?;
            if let Some(id) = from.filter(|_| after.is_none()) {
                let at: Option<i64> = conn
                    .query_row(
                        "SELECT seq FROM calls WHERE id = ?1 AND session = ?2",
                        [id, session],
                        |row| row.get(0),
                    )
                    .optional()?;
                above = at.map_or(0, |seq| seq - 1);
            }
            let before: Option<i64> = conn
                .prepare_cached("SELECT max(seq) FROM calls WHERE session = ?1 AND seq <= ?2")?
                .query_row(params![session, above], |row| row.get(0))?;
            let seqs = conn
                .prepare_cached(
                    "SELECT seq FROM calls WHERE session = ?1 AND seq > ?2 ORDER BY seq LIMIT ?3",
                )?
                .query_map(params![session, above, i64::try_from(limit + 1).unwrap_or(1)], |row| {
                    row.get(0)
                })?
                .collect::<rusqlite::Result<Vec<i64>>>()?;
            let before = before.map(|seq| load(conn, seq)).transpose()?.flatten();
            let (mut calls, mut bytes, mut last) = (Vec::new(), 0, None);
            for seq in seqs.iter().take(limit) {
                if bytes > PAGE_BYTES_MAX {
                    break;
                }
                let Some(stored) = load(conn, *seq)? else { continue };
                bytes += stored
                    .bodies
                    .as_ref()
                    .map_or(0, |bodies| bodies.request.kept.len() + bodies.response.kept.len());
                calls.push(stored);
                last = Some(*seq);
            }
            let next = last.filter(|last| seqs.last() > Some(last)).map(|seq| cursor(seq, &salt));
            Ok(Turns { before, calls, next })
        })
    }
}

/// The sessions whose latest matching call has a `seq` below `below`: (that `seq`, session).
fn latest(
    conn: &Connection,
    query: &Query,
    below: i64,
    limit: usize,
) -> Result<Vec<(i64, String)>, StoreError> {
    if query.root.is_none() {
        return latest_of_all(conn, below, limit);
    }
    let filter = filter(query, Timestamp::now());
    let mut params = filter.params.clone();
    params.push(below.into());
    let candidates = walk(conn, &format!("({}) AND seq < ?", filter.sql), &params, usize::MAX)?;
    let mut found = Vec::new();
    for (seq, session) in candidates {
        if found.len() == limit {
            break;
        }
        let sql = format!(
            "SELECT EXISTS (SELECT 1 FROM calls WHERE session = ? AND seq >= ? AND ({}))",
            filter.sql
        );
        let params =
            [Sql::from(session.clone()), below.into()].into_iter().chain(filter.params.clone());
        let is_later = below < i64::MAX
            && conn.prepare_cached(&sql)?.query_row(params_from_iter(params), |row| row.get(0))?;
        if !is_later {
            found.push((seq, session));
        }
    }
    Ok(found)
}

/// As [`latest`] for every call: from the totals, and for what is not in them yet from the calls.
fn latest_of_all(
    conn: &Connection,
    below: i64,
    limit: usize,
) -> Result<Vec<(i64, String)>, StoreError> {
    let rolled = rollup::position(conn)?.unwrap_or(0);
    let goes_on = |session: &str, after: i64| -> rusqlite::Result<bool> {
        conn.prepare_cached("SELECT EXISTS (SELECT 1 FROM calls WHERE session = ?1 AND seq > ?2)")?
            .query_row(params![session, after], |row| row.get(0))
    };
    let mut found = Vec::new();
    for (seq, session) in
        walk(conn, "seq > ? AND seq < ?", &[rolled.into(), below.into()], usize::MAX)?
    {
        // A session that goes on stood on an earlier page.
        if found.len() < limit && !goes_on(&session, seq)? {
            found.push((seq, session));
        }
    }
    let mut statement = conn.prepare_cached(
        "SELECT last_seq, session FROM sessions WHERE last_seq < ?1 ORDER BY last_seq DESC",
    )?;
    let mut rows = statement.query([below])?;
    while found.len() < limit
        && let Some(row) = rows.next()?
    {
        let (seq, session): (i64, String) = (row.get(0)?, row.get(1)?);
        if !goes_on(&session, seq)? {
            found.push((seq, session));
        }
    }
    Ok(found)
}

/// Distinct sessions of calls, newest first, each with its newest `seq`.
fn walk(
    conn: &Connection,
    condition: &str,
    params: &[Sql],
    limit: usize,
) -> Result<Vec<(i64, String)>, StoreError> {
    let mut statement = conn.prepare(&format!(
        "SELECT seq, session FROM calls WHERE session IS NOT NULL AND {condition} ORDER BY seq DESC"
    ))?;
    let mut rows = statement.query(params_from_iter(params))?;
    let (mut seen, mut found, mut walked) = (HashSet::new(), Vec::new(), 0);
    while found.len() < limit
        && walked < WALK_MAX
        && let Some(row) = rows.next()?
    {
        walked += 1;
        let session = row.get_ref(1)?.as_str().unwrap_or_default();
        if !seen.contains(session) {
            seen.insert(session.to_owned());
            found.push((row.get(0)?, session.to_owned()));
        }
    }
    Ok(found)
}

/// Totals of a session: the roll-up, and the calls that are not in it yet.
fn one(conn: &Connection, session: &str) -> Result<Option<Value>, StoreError> {
    let mut sum = Sum::default();
    let stored = conn
        .prepare_cached(&format!(
            "SELECT {FACE_COLUMNS}, {COLUMNS} FROM sessions WHERE session = ?1"
        ))?
        .query_row([session], |row| {
            sum.merge_row(row, 7)?;
            Face::read(row, 0)
        })
        .optional()?;
    let mut face = Face::default();
    let mut statement = conn.prepare_cached(&format!(
        "SELECT {FACE}, {FACTS} FROM calls WHERE session = ?1 AND seq > ?2 ORDER BY seq"
    ))?;
    let mut rows = statement.query(params![session, rollup::position(conn)?.unwrap_or(0)])?;
    while let Some(row) = rows.next()? {
        face.add(row, 0)?;
        sum.add(row, 7)?;
    }
    if let Some(stored) = stored {
        face = face.after(stored);
    }
    Ok((sum.calls > 0).then(|| {
        json!({
            "session": session, "name": face.name, "customer": face.customer, "user": face.user,
            "first_at": sum.first_at, "last_at": sum.last_at, "calls": sum.calls, "errors": sum.errors,
            "input_tokens": sum.input, "output_tokens": sum.output, "cost": dollars(sum.cost),
            "unpriced": sum.unpriced, "model_ms": (sum.latency_total * 1000.0).round() / 1000.0, "models": face.models,
            "prompts": face.prompts, "preview": face.preview,
        })
    }))
}

/// The session of the latest call with this response.
pub(super) fn of_response(conn: &Connection, id: &str) -> rusqlite::Result<Option<String>> {
    let sql = "SELECT session FROM calls WHERE response_id = ? AND session IS NOT NULL ORDER BY seq DESC LIMIT 1";
    conn.prepare_cached(sql)?.query_row([id], |row| row.get(0)).optional()
}

/// Whether a call has the usage that was reported for this response or file.
pub(super) fn has_usage_of(conn: &Connection, id: &str, upstream: &str) -> rusqlite::Result<bool> {
    let sql =
        "SELECT 1 FROM calls WHERE response_id = ? AND upstream = ? AND usage_source = 'provider'";
    conn.prepare_cached(sql)?.exists([id, upstream])
}
