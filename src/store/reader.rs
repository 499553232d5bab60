//! The reading side: read-only connections with deadlines.

use super::{
    DATABASE, GroupBy, Info, Page, StatRow, StoreError, Stored, Verdict, filter, row, schema,
};
use crate::{model::Timestamp, query::Query};
use rusqlite::{Connection, OpenFlags, types::Value as Sql};
use serde_json::Value;
use std::{
    collections::BTreeMap,
    fmt,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};
use uuid::Uuid;

/// Longest time a read may take.
const DEADLINE: Duration = Duration::from_secs(2);
/// SQLite's virtual-machine steps between looks at the clock.
const STEPS: i32 = 4_000;
/// Idle connections kept.
const POOL_MAX: usize = 8;
/// Most rows a page may have.
const LIMIT_MAX: u32 = 1000;

/// The reading side: works beside a running server or without. Cheap to clone. All its calls block;
/// async callers use `spawn_blocking`.
#[derive(Clone)]
pub struct Reader {
    shared: Arc<Shared>,
}

struct Shared {
    path: PathBuf,
    pool: Mutex<Vec<Connection>>,
}

impl fmt::Debug for Reader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reader").field("path", &self.shared.path).finish()
    }
}

impl Reader {
    /// Opens the store in `dir` read-only.
    ///
    /// # Errors
    /// When there is none, or a newer calltap wrote it.
    pub fn open(dir: &Path) -> Result<Self, StoreError> {
        let path = dir.join(DATABASE);
        if !path.is_file() {
            return Err(StoreError::Directory(format!(
                "there is no store in {}; start `calltap` or name another with --data-dir",
                dir.display()
            )));
        }
        let reader = Self { shared: Arc::new(Shared { path, pool: Mutex::default() }) };
        reader.with(|connection| schema::check(connection).map(|_| ()))?;
        Ok(reader)
    }

    /// Runs `work` on a connection that is interrupted when it takes too long.
    fn with<T>(
        &self,
        work: impl FnOnce(&Connection) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        self.within(Some(DEADLINE), work)
    }

    fn within<T>(
        &self,
        deadline: Option<Duration>,
        work: impl FnOnce(&Connection) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let pooled = self.shared.pool.lock().ok().and_then(|mut pool| pool.pop());
        let mut connection = match pooled {
            Some(connection) => connection,
            None => connect(&self.shared.path)?,
        };
        let until = deadline.map(|deadline| Instant::now() + deadline);
        connection.progress_handler(STEPS, until.map(|until| move || Instant::now() > until))?;
        let result = work(&connection);
        connection.progress_handler(0, None::<fn() -> bool>)?;
        if let Ok(mut pool) = self.shared.pool.lock()
            && pool.len() < POOL_MAX
        {
            pool.push(connection);
        }
        result.map_err(|error| match error {
            StoreError::Sqlite(rusqlite::Error::SqliteFailure(failure, _))
                if failure.code == rusqlite::ErrorCode::OperationInterrupted =>
            {
                StoreError::Deadline
            }
            other => other,
        })
    }

    /// One page of calls that match `query`, newest first. `after` is a `next` of an earlier page.
    ///
    /// # Errors
    /// [`StoreError::Invalid`] for a forged cursor, [`StoreError::Deadline`] after 2 s.
    pub fn list(&self, query: &Query, limit: u32, after: Option<&str>) -> Result<Page, StoreError> {
        let below = match after {
            None => i64::MAX,
            Some(cursor) => cursor
                .strip_prefix('s')
                .and_then(|seq| seq.parse::<i64>().ok())
                .filter(|seq| *seq > 0)
                .ok_or_else(|| StoreError::Invalid("this cursor was not given out here".into()))?,
        };
        let limit = limit.clamp(1, LIMIT_MAX);
        let rows = self.rows(query, "c.seq < ?1", below, "DESC", limit)?;
        let full = rows.len() == usize::try_from(limit).unwrap_or(usize::MAX);
        let next = rows.last().filter(|_| full).map(|(seq, _)| format!("s{seq}"));
        Ok(Page { items: rows.into_iter().map(|(_, row)| row).collect(), next })
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
        self.rows(query, "c.seq > ?1", seq, "ASC", limit.clamp(1, LIMIT_MAX))
    }

    fn rows(
        &self,
        query: &Query,
        position: &str,
        seq: i64,
        order: &str,
        limit: u32,
    ) -> Result<Vec<(i64, Value)>, StoreError> {
        let filter = filter::of(query, 2);
        let sql = format!(
            "SELECT c.seq, d.doc FROM calls c JOIN docs d USING (seq) \
             WHERE {position} AND {} ORDER BY c.seq {order} LIMIT {limit}",
            filter.sql
        );
        let values = std::iter::once(Sql::Integer(seq)).chain(filter.values);
        let values: Vec<Sql> = values.collect();
        self.with(|connection| {
            let mut statement = connection.prepare_cached(&sql)?;
            let mut rows = statement.query(rusqlite::params_from_iter(values))?;
            let mut found = Vec::new();
            while let Some(row) = rows.next()? {
                let seq: i64 = row.get(0)?;
                let doc: String = row.get(1)?;
                found.push((seq, list_row(seq, &doc)));
            }
            Ok(found)
        })
    }

    /// The highest committed `seq`, 0 when empty.
    ///
    /// # Errors
    /// SQLite's.
    pub fn last_seq(&self) -> Result<i64, StoreError> {
        self.with(|connection| {
            Ok(connection.query_row("SELECT coalesce(max(seq), 0) FROM calls", [], |r| r.get(0))?)
        })
    }

    /// One record by id; a prefix of at least 8 characters that fits only one id does too.
    ///
    /// # Errors
    /// [`StoreError::Invalid`] when a prefix fits several.
    pub fn get(&self, id: &str) -> Result<Option<Stored>, StoreError> {
        let Some(id) = self.whole_id(id)? else { return Ok(None) };
        let sql = format!(
            "SELECT {} FROM calls c JOIN docs d USING (seq) LEFT JOIN bodies b USING (seq) \
             WHERE c.id = ?1",
            row::STORED_COLUMNS
        );
        self.with(|connection| {
            let mut statement = connection.prepare_cached(&sql)?;
            let mut rows = statement.query([id])?;
            match rows.next()? {
                Some(row) => row::stored(row).map(Some),
                None => Ok(None),
            }
        })
    }

    fn whole_id(&self, id: &str) -> Result<Option<String>, StoreError> {
        let id = id.to_ascii_lowercase();
        if Uuid::parse_str(&id).is_ok() && id.len() == 36 {
            return Ok(Some(id));
        }
        let plain = id.bytes().all(|b| b.is_ascii_hexdigit() || b == b'-');
        if id.len() < 8 || id.len() > 36 || !plain {
            return Ok(None);
        }
        let found: Vec<String> = self.with(|connection| {
            let mut statement = connection
                .prepare_cached("SELECT id FROM calls WHERE id >= ?1 AND id < ?2 LIMIT 2")?;
            let rows = statement.query_map([id.clone(), format!("{id}g")], |row| row.get(0))?;
            Ok(rows.collect::<Result<_, _>>()?)
        })?;
        if found.len() > 1 {
            return Err(StoreError::Invalid(format!(
                "several calls have an id that starts with {id}"
            )));
        }
        Ok(found.into_iter().next())
    }

    /// Totals of the calls that match, largest cost first.
    ///
    /// # Errors
    /// As [`Self::list`].
    pub fn stats(&self, query: &Query, by: GroupBy) -> Result<Vec<StatRow>, StoreError> {
        let filter = filter::of(query, 1);
        let sql = format!(
            "SELECT {}, outcome = 'completed', input_tokens, output_tokens, cached_tokens, \
             cost_pico, cost_status, latency_ms, ttft_ms FROM calls c WHERE {}",
            column(by),
            filter.sql
        );
        self.with(|connection| {
            let mut statement = connection.prepare_cached(&sql)?;
            let mut rows = statement.query(rusqlite::params_from_iter(filter.values))?;
            let mut groups: BTreeMap<Option<String>, Totals> = BTreeMap::new();
            while let Some(row) = rows.next()? {
                groups.entry(row.get(0)?).or_default().add(row)?;
            }
            let mut rows: Vec<(i128, StatRow)> =
                groups.into_iter().map(|(key, totals)| totals.finish(key)).collect();
            rows.sort_by(|a, b| b.0.cmp(&a.0).then(b.1.calls.cmp(&a.1.calls)));
            Ok(rows.into_iter().map(|(_, row)| row).collect())
        })
    }

    /// Facts about the store.
    ///
    /// # Errors
    /// SQLite's.
    pub fn info(&self) -> Result<Info, StoreError> {
        let path = &self.shared.path;
        let bytes = ["", "-wal"]
            .iter()
            .filter_map(|end| std::fs::metadata(format!("{}{end}", path.display())).ok())
            .map(|metadata| metadata.len())
            .sum();
        self.with(|connection| {
            let one = |sql: &str| connection.query_row(sql, [], |row| row.get::<_, Option<i64>>(0));
            let count = |sql: &str| one(sql).map(|n| u64::try_from(n.unwrap_or(0)).unwrap_or(0));
            let mut dropped = connection.prepare("SELECT reason, count FROM dropped")?;
            let dropped = dropped
                .query_map([], |row| {
                    Ok((row.get(0)?, u64::try_from(row.get::<_, i64>(1)?).unwrap_or(0)))
                })?
                .collect::<Result<_, _>>()?;
            Ok(Info {
                path: path.display().to_string(),
                schema: schema::check(connection)?,
                sqlite: rusqlite::version().to_owned(),
                calls: count("SELECT count(*) FROM calls")?,
                bodies: count("SELECT count(*) FROM bodies")?,
                bytes,
                oldest: one("SELECT min(started_us) FROM calls")?.map(Timestamp),
                newest: one("SELECT max(started_us) FROM calls")?.map(Timestamp),
                dropped,
            })
        })
    }

    /// Checks the file and every body. `progress` gets (done, total).
    ///
    /// # Errors
    /// SQLite's.
    pub fn verify(&self, progress: &mut dyn FnMut(u64, u64)) -> Result<Verdict, StoreError> {
        let mut verdict = Verdict::default();
        let total = self.info()?.bodies;
        self.within(None, |connection| {
            let mut statement = connection.prepare("PRAGMA integrity_check")?;
            let lines = statement.query_map([], |row| row.get::<_, String>(0))?;
            verdict.integrity = lines.filter_map(Result::ok).filter(|line| line != "ok").collect();
            Ok(())
        })?;
        let sql = format!(
            "SELECT {} FROM bodies b JOIN calls c USING (seq) JOIN docs d USING (seq) \
             WHERE b.seq > ?1 ORDER BY b.seq LIMIT 200",
            row::STORED_COLUMNS
        );
        let mut last = 0;
        loop {
            // A page at a time, so that no snapshot holds the log up.
            let page: Vec<Stored> = self.within(None, |connection| {
                let mut statement = connection.prepare_cached(&sql)?;
                let mut rows = statement.query([last])?;
                let mut page = Vec::new();
                while let Some(row) = rows.next()? {
                    page.push(row::stored(row)?);
                }
                Ok(page)
            })?;
            let Some(end) = page.last().and_then(|stored| stored.record.seq) else {
                return Ok(verdict);
            };
            last = end;
            for stored in page {
                match stored.bodies {
                    Some(_) => verdict.bodies_ok += 1,
                    None => verdict.bodies_bad.push(stored.record.id),
                }
            }
            let bad = u64::try_from(verdict.bodies_bad.len()).unwrap_or(0);
            progress(verdict.bodies_ok + bad, total);
        }
    }
}

/// Beside a server the log is shared; without one, and without the right to write, the file alone is
/// read.
fn connect(path: &Path) -> Result<Connection, StoreError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let probe = |connection: &Connection| {
        connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get::<_, i64>(0))
    };
    let connection = Connection::open_with_flags(path, flags)?;
    schema::prepare_reader(&connection)?;
    if probe(&connection).is_ok() {
        return Ok(connection);
    }
    let uri = format!("file:{}?immutable=1", path.display().to_string().replace('?', "%3f"));
    let connection = Connection::open_with_flags(uri, flags | OpenFlags::SQLITE_OPEN_URI)?;
    schema::prepare_reader(&connection)?;
    probe(&connection)?;
    Ok(connection)
}

/// The record as a list shows it: everything but what only the page of a call needs.
fn list_row(seq: i64, doc: &str) -> Value {
    let mut row: Value = serde_json::from_str(doc).unwrap_or(Value::Null);
    if let Some(row) = row.as_object_mut() {
        row.insert("seq".to_owned(), seq.into());
        for heavy in ["request", "response", "headers", "parameters"] {
            row.remove(heavy);
        }
        if let Some(tags) = row.get_mut("tags").and_then(Value::as_object_mut) {
            for heavy in ["inputs", "context", "expected"] {
                tags.remove(heavy);
            }
            if let Some(Value::String(text)) = tags.get_mut("user_query")
                && let Some((at, _)) = text.char_indices().nth(200)
            {
                text.truncate(at);
                text.push('…');
            }
        }
        if let Some(usage) = row.get_mut("usage").and_then(Value::as_object_mut) {
            usage.remove("raw");
        }
    }
    row
}

fn column(by: GroupBy) -> &'static str {
    match by {
        GroupBy::Nothing => "NULL",
        GroupBy::Model => "model",
        GroupBy::Prompt => "prompt",
        GroupBy::Customer => "customer",
        GroupBy::Session => "session",
        GroupBy::User => "user",
        GroupBy::Key => "client_key",
        GroupBy::Upstream => "upstream",
        GroupBy::Outcome => "outcome",
        GroupBy::Endpoint => "endpoint",
        GroupBy::Environment => "environment",
        GroupBy::Day => "substr(started_at, 1, 10)",
    }
}

#[derive(Default)]
struct Totals {
    row: StatRow,
    pico: i128,
    latency: Vec<f64>,
    ttft: Vec<f64>,
}

impl Totals {
    fn add(&mut self, row: &rusqlite::Row<'_>) -> Result<(), StoreError> {
        let tokens = |at: usize| -> Result<u64, StoreError> {
            Ok(u64::try_from(row.get::<_, Option<i64>>(at)?.unwrap_or(0)).unwrap_or(0))
        };
        self.row.calls += 1;
        self.row.errors += u64::from(!row.get::<_, bool>(1)?);
        self.row.input_tokens += tokens(2)?;
        self.row.output_tokens += tokens(3)?;
        self.row.cached_tokens += tokens(4)?;
        self.pico += i128::from(row.get::<_, Option<i64>>(5)?.unwrap_or(0));
        self.row.unpriced +=
            u64::from(matches!(row.get_ref(6)?.as_str().ok(), Some("unpriced" | "partial")));
        self.latency.push(row.get(7)?);
        self.ttft.extend(row.get::<_, Option<f64>>(8)?);
        Ok(())
    }

    fn finish(mut self, key: Option<String>) -> (i128, StatRow) {
        self.row.key = key;
        self.row.cost = row::dollars(self.pico);
        self.row.latency_p50_ms = percentile(&mut self.latency, 50);
        self.row.latency_p95_ms = percentile(&mut self.latency, 95);
        self.row.ttft_p50_ms = percentile(&mut self.ttft, 50);
        self.row.ttft_p95_ms = percentile(&mut self.ttft, 95);
        (self.pico, self.row)
    }
}

/// Nearest rank.
fn percentile(values: &mut [f64], percent: usize) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let rank = (values.len() * percent).div_ceil(100).max(1);
    values.get(rank - 1).copied()
}
