//! The store: one SQLite file, one writer thread, group commit (SPEC §5).

use crate::model::{Body, ChunkLog, Record, Timestamp};
use crate::query::Query;
use bytes::Bytes;
use serde::Serialize;
use serde_json::Value;
use std::path::Path;
use tokio::sync::{oneshot, watch};
use uuid::Uuid;

/// What the recorder hands to the writer for one finished call.
#[derive(Clone, Debug)]
pub struct Entry {
    /// The record, without `seq`, `request` and `response`.
    pub record: Record,
    /// Raw bodies, already redacted; `None` when content is not kept.
    pub bodies: Option<Bodies>,
}

/// The raw capture of one call.
#[derive(Clone, Debug, Default)]
pub struct Bodies {
    /// Request body as the client sent it.
    pub request: Body,
    /// Where the `calltap` member stood in it.
    pub member: Option<std::ops::Range<usize>>,
    /// Response body as received, still content-encoded.
    pub response: Body,
    /// Arrival of the response's chunks.
    pub chunks: ChunkLog,
}

/// A call that went upstream and has not ended yet.
#[derive(Clone, Debug)]
pub struct Started {
    /// The record as far as it is known: outcome `interrupted`, no response.
    pub record: Record,
    /// Request body, already redacted.
    pub request: Option<Bytes>,
}

/// A stored record with its raw bodies.
#[derive(Clone, Debug)]
pub struct Stored {
    /// The record, without `request` and `response`.
    pub record: Record,
    /// Raw bodies, as far as they are still kept.
    pub bodies: Option<Bodies>,
}

/// Everything that can go wrong with the store.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Another process owns the data directory.
    #[error("{0}")]
    Locked(String),
    /// The data directory cannot be used.
    #[error("{0}")]
    Directory(String),
    /// The file was written by a newer calltap.
    #[error("{0}")]
    Newer(String),
    /// A read took longer than its deadline.
    #[error("the query took too long")]
    Deadline,
    /// A cursor or an id that this store never gave out.
    #[error("{0}")]
    Invalid(String),
    /// SQLite's own trouble.
    #[error(transparent)]
    Sqlite(#[from] rusqlite::Error),
    /// Trouble with a file.
    #[error(transparent)]
    Io(#[from] std::io::Error),
}

/// The owner of the data directory: the writing side.
#[derive(Clone, Debug)]
pub struct Store;

/// What the writer is doing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Health {
    /// `None` when all is well, else why records cannot be written.
    pub trouble: Option<String>,
    /// Records waiting for a commit.
    pub waiting: u64,
    /// Records lost for good, by reason; survives restarts.
    pub dropped: Vec<(String, u64)>,
}

impl Store {
    /// Opens (and creates) the store in `dir`, takes its lock, migrates it, and turns calls that were
    /// in flight when it was last closed into `interrupted` records.
    ///
    /// # Errors
    /// When the directory cannot be used, another process owns it, or a newer calltap wrote it.
    pub fn open(_dir: &Path, _options: &crate::config::Store) -> Result<Self, StoreError> {
        Err(StoreError::Directory("not built".into()))
    }

    /// Appends a finished call. `done` fires after the commit that holds it (or says why it failed).
    /// Never waits: the caller bounds what is in flight.
    pub fn append(&self, _entry: Entry, _done: Option<oneshot::Sender<Result<i64, String>>>) {}

    /// Whether the queue to the writer is below its limit.
    pub fn has_room(&self) -> bool {
        true
    }

    /// Notes calls that went upstream. Superseded by `append` of the same id.
    pub fn journal(&self, _started: Vec<Started>) {}

    /// Counts a record that could not be kept, durably, by reason.
    pub fn count_dropped(&self, _reason: &'static str) {}

    /// The highest committed `seq`; changes wake whoever follows the log.
    pub fn committed(&self) -> watch::Receiver<i64> {
        watch::channel(0).1
    }

    /// State of the writer.
    pub fn health(&self) -> Health {
        Health::default()
    }

    /// A reading side that shares this store's file.
    ///
    /// # Errors
    /// When no reading connection can be opened.
    pub fn reader(&self) -> Result<Reader, StoreError> {
        Err(StoreError::Directory("not built".into()))
    }

    /// Commits what is waiting, checkpoints and closes. Blocks.
    pub fn close(&self) {}
}

/// The reading side: read-only connections with deadlines; works beside a running server or without.
/// Cheap to clone. All its calls block; async callers use `spawn_blocking`.
#[derive(Clone, Debug)]
pub struct Reader;

/// One page of calls.
#[derive(Clone, Debug, Default)]
pub struct Page {
    /// Rows for a list, newest first: the record without bodies, inputs and headers.
    pub items: Vec<Value>,
    /// Where the next page starts.
    pub next: Option<String>,
}

/// Totals of a group of calls.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct StatRow {
    /// The group's value; `None` for calls without one.
    pub key: Option<String>,
    /// Calls.
    pub calls: u64,
    /// Calls whose outcome is not `completed`.
    pub errors: u64,
    /// Input tokens.
    pub input_tokens: u64,
    /// Output tokens.
    pub output_tokens: u64,
    /// Cached input tokens.
    pub cached_tokens: u64,
    /// Sum of known costs, a decimal string in USD.
    pub cost: String,
    /// Calls whose cost is unknown though they may have cost something.
    pub unpriced: u64,
    /// Latency percentiles, ms.
    pub latency_p50_ms: Option<f64>,
    /// 95th.
    pub latency_p95_ms: Option<f64>,
    /// Median time to first token, ms.
    pub ttft_p50_ms: Option<f64>,
    /// 95th.
    pub ttft_p95_ms: Option<f64>,
}

/// What `stats` groups by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GroupBy {
    /// One row over all.
    Nothing,
    /// Served model, else the one asked for.
    Model,
    /// Prompt slug.
    Prompt,
    /// Tenant.
    Customer,
    /// Session.
    Session,
    /// End user.
    User,
    /// `client.key`.
    Key,
    /// Upstream.
    Upstream,
    /// Outcome.
    Outcome,
    /// Endpoint.
    Endpoint,
    /// Environment.
    Environment,
    /// UTC day.
    Day,
}

/// Facts about the store.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Info {
    /// Path of the database.
    pub path: String,
    /// Schema version.
    pub schema: i64,
    /// SQLite's version.
    pub sqlite: String,
    /// Calls kept.
    pub calls: u64,
    /// Calls whose bodies are kept.
    pub bodies: u64,
    /// Bytes of database and write-ahead log.
    pub bytes: u64,
    /// Oldest call.
    pub oldest: Option<Timestamp>,
    /// Newest call.
    pub newest: Option<Timestamp>,
    /// Records lost for good, by reason.
    pub dropped: Vec<(String, u64)>,
}

/// What `verify` found.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Verdict {
    /// SQLite's own integrity check; empty when it is `ok`.
    pub integrity: Vec<String>,
    /// Bodies read and found equal to their stored hash.
    pub bodies_ok: u64,
    /// Ids of records whose bodies do not match their hash or do not unpack.
    pub bodies_bad: Vec<Uuid>,
}

impl Reader {
    /// Opens the store in `dir` read-only.
    ///
    /// # Errors
    /// When there is none, or a newer calltap wrote it.
    pub fn open(_dir: &Path) -> Result<Self, StoreError> {
        Err(StoreError::Directory("not built".into()))
    }

    /// One page of calls that match `query`, newest first. `after` is a `next` of an earlier page.
    ///
    /// # Errors
    /// [`StoreError::Invalid`] for a forged cursor, [`StoreError::Deadline`] after 2 s.
    pub fn list(
        &self,
        _query: &Query,
        _limit: u32,
        _after: Option<&str>,
    ) -> Result<Page, StoreError> {
        Ok(Page::default())
    }

    /// Calls with a `seq` above `seq` that match, oldest first: (seq, row).
    ///
    /// # Errors
    /// As [`Self::list`].
    pub fn since(
        &self,
        _query: &Query,
        _seq: i64,
        _limit: u32,
    ) -> Result<Vec<(i64, Value)>, StoreError> {
        Ok(Vec::new())
    }

    /// The highest committed `seq`, 0 when empty.
    ///
    /// # Errors
    /// SQLite's.
    pub fn last_seq(&self) -> Result<i64, StoreError> {
        Ok(0)
    }

    /// One record by id; a prefix of at least 8 characters that fits only one id does too.
    ///
    /// # Errors
    /// [`StoreError::Invalid`] when a prefix fits several.
    pub fn get(&self, _id: &str) -> Result<Option<Stored>, StoreError> {
        Ok(None)
    }

    /// Totals of the calls that match, largest cost first.
    ///
    /// # Errors
    /// As [`Self::list`].
    pub fn stats(&self, _query: &Query, _by: GroupBy) -> Result<Vec<StatRow>, StoreError> {
        Ok(Vec::new())
    }

    /// Facts about the store.
    ///
    /// # Errors
    /// SQLite's.
    pub fn info(&self) -> Result<Info, StoreError> {
        Ok(Info::default())
    }

    /// Checks the file and every body. `progress` gets (done, total).
    ///
    /// # Errors
    /// SQLite's.
    pub fn verify(&self, _progress: &mut dyn FnMut(u64, u64)) -> Result<Verdict, StoreError> {
        Ok(Verdict::default())
    }
}
