//! The reading side: pages of calls, single ones, what the store holds.

use super::{
    Bodies, Consumer, Info, Page, Reader, StoreError, Stored, Table, Verdict,
    filter::{Filter, filter},
    open, pack,
    pool::Pool,
    retention, row, schema,
    search::{self, CALLS, Span},
};
use crate::{
    model::{Body, ChunkLog, Record, Timestamp},
    query::Query,
};
use rusqlite::{Connection, OptionalExtension, Row, params_from_iter, types::Value as Sql};
use serde_json::{Value, json};
use std::{path::Path, time::Duration};

/// Longest count of all rows of a large store that is in no cache.
const COUNTING: Duration = Duration::from_secs(10);
/// Most rows of a page.
const MAX_LIMIT: u32 = 1000;
/// Length of an id.
const ID_LEN: usize = 36;
/// Shortest prefix of an id.
const MIN_PREFIX: usize = 8;
/// Largest file whose tables are measured: every page of it is read for that.
const TABLES_MAX: u64 = 256 << 20;
/// Bodies that `verify` reads in one go, so that no snapshot lives long.
const VERIFY_STEP: i64 = 200;

impl Reader {
    /// Opens the store in `dir` read-only.
    ///
    /// # Errors
    /// When there is none, or a newer calltap wrote it.
    pub fn open(dir: &Path) -> Result<Self, StoreError> {
        let reader = Self { pool: Pool::new(dir.join(schema::FILE)) };
        reader.last_seq()?;
        Ok(reader)
    }

    /// For reads that may take half a minute each, as those of an export on a busy machine.
    #[must_use]
    pub fn patient(&self) -> Self {
        Self { pool: self.pool.patient() }
    }

    /// One page of calls that match `query`, newest first. `after` is a `next` of an earlier page.
    ///
    /// # Errors
    /// [`StoreError::Invalid`] for a forged cursor, [`StoreError::Deadline`] after 2 s.
    pub fn list(&self, query: &Query, limit: u32, after: Option<&str>) -> Result<Page, StoreError> {
        self.page(query, limit, after, ("<", i64::MAX, "DESC"))
    }

    /// As [`Self::list`], oldest first.
    ///
    /// # Errors
    /// As [`Self::list`].
    pub fn oldest(
        &self,
        query: &Query,
        limit: u32,
        after: Option<&str>,
    ) -> Result<Page, StoreError> {
        self.page(query, limit, after, (">", 0, "ASC"))
    }

    fn page(
        &self,
        query: &Query,
        limit: u32,
        after: Option<&str>,
        (side, start, order): Span<'_>,
    ) -> Result<Page, StoreError> {
        let limit = limit.clamp(1, MAX_LIMIT);
        let now = Timestamp::now();
        self.pool.read(|conn| {
            let salt = salt(conn)?;
            let from = after.map_or(Ok(start), |cursor| open_cursor(cursor, &salt))?;
            // One row more than asked for tells whether there is a next page.
            let span = (side, from, order);
            let mut rows = search::rows(conn, query, now, span, limit + 1)?;
            let wanted = usize::try_from(limit).unwrap_or(usize::MAX);
            let more = rows.len() > wanted;
            rows.truncate(wanted);
            let next = rows.last().filter(|_| more).map(|(seq, _)| cursor(*seq, &salt));
            Ok(Page { items: rows.into_iter().map(|(_, row)| row).collect(), next })
        })
    }

    /// Calls with a `seq` above `seq` that match, oldest first: (seq, row).
    ///
    /// # Errors
    /// As [`Self::list`].
    pub fn since(
        &self,
        query: &Query,
        seq: i64,
        limit: u32,
    ) -> Result<Vec<(i64, Value)>, StoreError> {
        let filter = filter(query, Timestamp::now());
        self.pool.read(|conn| {
            Ok(rows(conn, CALLS, &filter, (">", seq, "ASC"), limit.clamp(1, MAX_LIMIT))?)
        })
    }

    /// The highest committed `seq`, 0 when empty.
    ///
    /// # Errors
    /// `SQLite`'s.
    pub fn last_seq(&self) -> Result<i64, StoreError> {
        self.pool.read(|conn| Ok(open::last_seq(conn)?))
    }

    /// One record by id; a prefix of at least 8 characters that fits only one id does too.
    ///
    /// # Errors
    /// [`StoreError::Invalid`] when a prefix fits several.
    pub fn get(&self, id: &str) -> Result<Option<Stored>, StoreError> {
        let id = id.to_ascii_lowercase();
        let plain = id.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b'-');
        if !plain || id.len() < MIN_PREFIX || id.len() > ID_LEN {
            return Ok(None);
        }
        self.pool.read(|conn| {
            let seqs = conn
                .prepare_cached("SELECT seq FROM calls WHERE id >= ?1 AND id < ?2 LIMIT 2")?
                .query_map([&id, &format!("{id}g")], |row| row.get(0))?
                .collect::<rusqlite::Result<Vec<i64>>>()?;
            match seqs.as_slice() {
                // A bit that flipped in the index of ids, where no check at the start sees it, hides no call.
                [] if id.len() == ID_LEN => match scan(conn, &id) {
                    Some(seq) => Ok(load(conn, seq)?),
                    None => Ok(None),
                },
                [] => Ok(None),
                [seq] => Ok(load(conn, *seq)?),
                _ => Err(StoreError::Invalid(format!(
                    "several ids start with `{id}`; give more of it"
                ))),
            }
        })
    }

    /// The call with this `seq`, as far as it is still kept.
    ///
    /// # Errors
    /// `SQLite`'s.
    pub fn get_seq(&self, seq: i64) -> Result<Option<Stored>, StoreError> {
        self.pool.read(|conn| Ok(load(conn, seq)?))
    }

    /// What can be said of the store at once, however large it is: its path, and as many calls as fit
    /// between the oldest and the newest.
    ///
    /// # Errors
    /// `SQLite`'s.
    pub fn glance(&self) -> Result<Info, StoreError> {
        self.pool.read(|conn| {
            let first: Option<i64> =
                conn.query_row("SELECT min(seq) FROM calls", [], |row| row.get(0))?;
            let last_seq = open::last_seq(conn)?;
            let calls = first.map_or(0, |first| (last_seq - first + 1).max(0));
            let path = self.pool.file.display().to_string();
            Ok(Info { path, last_seq, calls: u64::try_from(calls).unwrap_or(0), ..Info::default() })
        })
    }

    /// Facts about the store.
    ///
    /// # Errors
    /// `SQLite`'s.
    pub fn info(&self) -> Result<Info, StoreError> {
        self.pool.read_within(Some(COUNTING), |conn| {
            let count = |sql: &str| -> rusqlite::Result<u64> {
                let count: i64 = conn.query_row(sql, [], |row| row.get(0))?;
                Ok(u64::try_from(count).unwrap_or(0))
            };
            let time = |sql: &str| -> rusqlite::Result<Option<Timestamp>> {
                let text: Option<String> = conn.query_row(sql, [], |row| row.get(0))?;
                Ok(text.and_then(|text| text.parse().ok()))
            };
            let last_seq = open::last_seq(conn)?;
            let consumers = conn
                .prepare_cached("SELECT name, seq FROM cursors ORDER BY name")?
                .query_map([], |row| {
                    let seq = row.get(1)?;
                    Ok(Consumer { name: row.get(0)?, seq, lag: (last_seq - seq).max(0) })
                })?
                .collect::<rusqlite::Result<Vec<Consumer>>>()?;
            Ok(Info {
                last_seq,
                consumers,
                path: self.pool.file.display().to_string(),
                schema: conn.pragma_query_value(None, "user_version", |row| row.get(0))?,
                sqlite: rusqlite::version().to_owned(),
                calls: count("SELECT count(*) FROM calls")?,
                bodies: count("SELECT count(*) FROM calls WHERE has_bodies = 1")?,
                bytes: retention::file_bytes(&self.pool.file),
                oldest: time("SELECT min(started_at) FROM calls")?,
                newest: time("SELECT max(started_at) FROM calls")?,
                dropped: open::dropped(conn)?.into_iter().collect(),
                tables: tables(conn, retention::file_bytes(&self.pool.file))?,
            })
        })
    }

    /// Checks the file and every body. `progress` gets (done, total).
    ///
    /// # Errors
    /// `SQLite`'s.
    pub fn verify(&self, progress: &mut dyn FnMut(u64, u64)) -> Result<Verdict, StoreError> {
        let mut verdict = Verdict::default();
        self.pool.read_within(None, |conn| {
            let lines = conn
                .prepare("PRAGMA integrity_check")?
                .query_map([], |row| row.get::<_, String>(0))?
                .collect::<rusqlite::Result<Vec<_>>>()?;
            verdict.integrity = lines.into_iter().filter(|line| line != "ok").collect();
            Ok(())
        })?;
        let total: i64 = self.pool.read_within(None, |conn| {
            Ok(conn.query_row("SELECT count(*) FROM bodies", [], |row| row.get(0))?)
        })?;
        let total = u64::try_from(total).unwrap_or(0);
        let (mut done, mut last) = (0, 0);
        loop {
            let seqs = self.pool.read_within(None, |conn| {
                let seqs = conn
                    .prepare_cached("SELECT seq FROM bodies WHERE seq > ?1 ORDER BY seq LIMIT ?2")?
                    .query_map([last, VERIFY_STEP], |row| row.get(0))?
                    .collect::<rusqlite::Result<Vec<i64>>>()?;
                for seq in &seqs {
                    let Some(stored) = load(conn, *seq)? else { continue };
                    if stored
                        .bodies
                        .as_ref()
                        .is_some_and(|bodies| are_sound(bodies, &stored.record))
                    {
                        verdict.bodies_ok += 1;
                    } else {
                        verdict.bodies_bad.push(stored.record.id);
                    }
                }
                Ok(seqs)
            })?;
            let Some(&newest) = seqs.last() else { return Ok(verdict) };
            last = newest;
            done += seqs.len() as u64;
            progress(done, total.max(done));
        }
    }
}

/// Bytes of each table with its indexes, largest first; empty for a file that takes long to walk through.
fn tables(conn: &Connection, bytes: u64) -> rusqlite::Result<Vec<Table>> {
    if bytes > TABLES_MAX {
        return Ok(Vec::new());
    }
    let mut statement = conn.prepare_cached(
        "SELECT coalesce(tbl_name, name), sum(pgsize)
         FROM dbstat LEFT JOIN sqlite_schema USING (name) WHERE aggregate
         GROUP BY 1 ORDER BY 2 DESC",
    )?;
    let tables = statement.query_map([], |row| {
        let bytes: i64 = row.get(1)?;
        Ok(Table { name: row.get(0)?, bytes: u64::try_from(bytes).unwrap_or(0) })
    })?;
    tables.collect()
}

/// The call with this id, looked for row by row as long as the deadline allows.
fn scan(conn: &Connection, id: &str) -> Option<i64> {
    let mut statement =
        conn.prepare_cached("SELECT seq FROM calls NOT INDEXED WHERE id = ?1").ok()?;
    statement.query_row([id], |row| row.get(0)).ok()
}

/// Marks a stored part that its checksum shows to be damaged.
const DAMAGED: &str = "damaged in the store: ";

/// `load` notes every damaged part.
fn are_sound(_bodies: &Bodies, record: &Record) -> bool {
    !is_damaged(record)
}

/// Whether some part of the call could not be read from the store.
pub(super) fn is_damaged(record: &Record) -> bool {
    record.notes.iter().any(|note| note.starts_with(DAMAGED))
}

/// One call with its bodies. Damage is noted in the record, never an error.
pub(super) fn load(conn: &Connection, seq: i64) -> rusqlite::Result<Option<Stored>> {
    let record = conn
        .prepare_cached(&format!(
            "SELECT {ROW} FROM calls LEFT JOIN docs USING (seq) WHERE calls.seq = ?1"
        ))?
        .query_row([seq], |row| Ok((record_json(row)?, row.get(0)?)))
        .optional()?;
    let Some((json, seq)) = record else { return Ok(None) };
    let Ok(mut record) = serde_json::from_value::<Record>(json) else { return Ok(None) };
    record.seq = Some(seq);
    let bodies = conn
        .prepare_cached(
            "SELECT request, request_zstd, request_crc, request_total, request_sha256,
                 response, response_zstd, response_crc, response_total, response_sha256,
                 chunks, chunks_zstd, chunks_crc, member_start, member_end
             FROM bodies WHERE seq = ?1",
        )?
        .query_row([seq], |row| read_bodies(row, &mut record.notes))
        .optional()?;
    Ok(Some(Stored { record, bodies }))
}

fn read_bodies(row: &Row<'_>, notes: &mut Vec<String>) -> rusqlite::Result<Bodies> {
    let mut part = |at: usize, name: &str| -> rusqlite::Result<Vec<u8>> {
        let data = row.get_ref(at)?.as_bytes().unwrap_or_default();
        // A sum that is damaged itself fits nothing.
        let (zstd, crc) =
            (row.get(at + 1).unwrap_or_default(), row.get(at + 2).unwrap_or_default());
        Ok(pack::unpack(data, zstd, crc).unwrap_or_else(|damage| {
            notes.push(format!("{DAMAGED}{name}: {damage}"));
            Vec::new()
        }))
    };
    let (request, response) = (part(0, "request")?, part(5, "response")?);
    let chunks = part(10, "chunks")?;
    let body = |kept: Vec<u8>, at: usize| Body {
        kept: kept.into(),
        total: row.get::<_, i64>(at).ok().and_then(|total| u64::try_from(total).ok()).unwrap_or(0),
        sha256: row.get(at + 1).unwrap_or_default(),
    };
    let index = |at: usize| -> Option<usize> {
        row.get::<_, Option<i64>>(at).ok().flatten().and_then(|index| usize::try_from(index).ok())
    };
    Ok(Bodies {
        request: body(request, 3),
        member: index(13).zip(index(14)).map(|(start, end)| start..end),
        response: body(response, 8),
        chunks: ChunkLog::from_encoded(chunks),
    })
}

/// What a list row is made from: the document, and columns that stand in where it is damaged.
const ROW: &str = "calls.seq, docs.doc, docs.crc, id, started_at, ended_at, endpoint, method, path, \
    upstream, provider, model, model_requested, stream, outcome, status, latency_ms, overhead_ms, answer";

pub(super) fn rows(
    conn: &Connection,
    (tables, key): (&str, &str),
    filter: &Filter,
    (side, seq, order): Span<'_>,
    limit: u32,
) -> rusqlite::Result<Vec<(i64, Value)>> {
    let sql = format!(
        "SELECT {ROW} FROM {tables} LEFT JOIN docs USING (seq)
         WHERE {key} {side} ? AND ({}) ORDER BY {key} {order} LIMIT ?",
        filter.sql
    );
    let params = std::iter::once(Sql::from(seq))
        .chain(filter.params.iter().cloned())
        .chain([Sql::from(limit)]);
    let mut statement = conn.prepare(&sql)?;
    let mut found = statement.query(params_from_iter(params))?;
    let mut rows = Vec::new();
    while let Some(row) = found.next()? {
        let mut item = list_row(record_json(row)?);
        if let Some(fields) = item.as_object_mut() {
            fields.insert("answer".to_owned(), lossy(row, 18)?.into());
        }
        rows.push((row.get(0)?, item));
    }
    Ok(rows)
}

/// The stored document; where it is damaged, what the columns still say.
fn record_json(row: &Row<'_>) -> rusqlite::Result<Value> {
    let crc = row.get::<_, Option<u32>>(2).ok().flatten().unwrap_or(0);
    let read = row::read_doc(row.get_ref(1)?, crc)
        .and_then(|json| serde_json::from_slice(&json).map_err(|_| "it is not JSON"));
    let seq: i64 = row.get(0)?;
    match read {
        Ok(Value::Object(mut record)) => {
            record.insert("seq".to_owned(), seq.into());
            Ok(Value::Object(record))
        }
        other => {
            let damage = other.err().unwrap_or("it is not a record");
            let text = |at: usize| lossy(row, at);
            Ok(json!({
                "id": text(3)?, "seq": seq, "started_at": text(4)?, "ended_at": text(5)?,
                "endpoint": text(6)?, "method": text(7)?, "path": text(8)?, "upstream": text(9)?,
                "provider": text(10)?, "model": {"served": text(11)?, "requested": text(12)?},
                "stream": row.get::<_, bool>(13).unwrap_or_default(), "outcome": text(14)?,
                "status": row.get::<_, Option<u16>>(15).unwrap_or_default(), "error": null, "finish_reasons": [],
                "timing": {"latency_ms": row.get::<_, f64>(16).unwrap_or_default(), "first_byte_ms": null,
                    "ttft_ms": null, "overhead_ms": row.get::<_, f64>(17).unwrap_or_default(), "chunks": 0,
                    "output_tokens_per_second": null},
                "usage": {}, "cost": {}, "tags": {}, "client": {}, "trace": {}, "bytes": {},
                "notes": [format!("{DAMAGED}record: {damage}")],
            }))
        }
    }
}

/// A text, also where damage has made something else than UTF-8 of it.
fn lossy(row: &Row<'_>, at: usize) -> rusqlite::Result<Option<String>> {
    let value = row.get_ref(at)?;
    Ok(value
        .as_bytes_or_null()
        .ok()
        .flatten()
        .map(|text| String::from_utf8_lossy(text).into_owned()))
}

/// Everything a row shows: the record without bodies, headers, inputs and long details.
fn list_row(mut record: Value) -> Value {
    let Some(fields) = record.as_object_mut() else { return record };
    for name in ["request", "response", "headers", "parameters"] {
        fields.shift_remove(name);
    }
    for (part, names) in [
        ("tags", ["inputs", "context", "expected"].as_slice()),
        ("usage", &["raw"]),
        ("cost", &["lines"]),
    ] {
        if let Some(part) = fields.get_mut(part).and_then(Value::as_object_mut) {
            for name in names {
                part.shift_remove(*name);
            }
        }
    }
    if let Some(query) = record.pointer_mut("/tags/user_query")
        && let Some(long) = query.as_str()
        && long.len() > MAX_QUERY
    {
        *query = long.get(..long.floor_char_boundary(MAX_QUERY)).unwrap_or_default().into();
    }
    record
}

/// Bytes of the question that a row shows.
const MAX_QUERY: usize = 512;

/// The secret of this store that tells its own cursors from forged ones.
pub(super) fn salt(conn: &Connection) -> rusqlite::Result<String> {
    conn.prepare_cached("SELECT value FROM meta WHERE key = 'salt'")?
        .query_row([], |row| row.get(0))
}

pub(super) fn cursor(seq: i64, salt: &str) -> String {
    format!("{seq:x}-{:08x}", pack::crc(format!("{salt}{seq}").as_bytes()))
}

pub(super) fn open_cursor(text: &str, salt: &str) -> Result<i64, StoreError> {
    text.split_once('-')
        .and_then(|(seq, _)| i64::from_str_radix(seq, 16).ok())
        .filter(|seq| cursor(*seq, salt) == text)
        .ok_or_else(|| StoreError::Invalid("this cursor is not one of this store's".to_owned()))
}
