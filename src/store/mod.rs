//! The store: one `SQLite` file, one writer thread, group commit (SPEC §5).
//!
//! Rows are made on the caller's thread (`row`), wait in a queue bounded by bytes (`queue`) and are
//! committed by the only thread that writes (`writer`). Readers have connections of their own.

mod attached;
mod backup;
#[cfg(test)]
mod damage_tests;
mod facets;
mod filter;
mod fulltext;
mod histogram;
mod lanes;
mod lock;
mod network;
mod open;
mod pack;
mod pool;
mod prune;
mod queue;
mod reader;
mod reserve;
mod retention;
#[cfg(test)]
mod retention_tests;
mod revise;
mod rewrite;
mod rollup;
#[cfg(test)]
mod rollup_tests;
mod row;
mod schema;
mod search;
mod series;
mod sessions;
mod stats;
#[cfg(test)]
mod tests;
mod totals;
#[cfg(test)]
mod totals_tests;
mod unpriced;
mod writer;

pub use facets::{Count, Facet, Facets};
pub use lanes::{Exception, LaneChange, LaneRow, Progress, Room, Taken};
pub use pack::{Packed, pack, unpack};
pub use prune::{Pruned, prune};
pub use rewrite::{Rewriter, Step};
pub use series::{Line, PromptRow, Question, Series, Totals, VersionRow};
pub use sessions::Turns;
pub use unpriced::UnpricedModel;

use crate::model::{Body, ChunkLog, Record, Timestamp};
use bytes::Bytes;
use fulltext::Text;
use queue::{Shared, Work};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::{
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    thread::JoinHandle,
};
use tokio::sync::{oneshot, watch};
use uuid::Uuid;

/// What the recorder hands to the writer for one finished call.
#[derive(Clone, Debug)]
pub struct Entry {
    /// The record, without `seq`, `request` and `response`.
    pub record: Record,
    /// Raw bodies, already redacted; `None` when content is not kept.
    pub bodies: Option<Bodies>,
    /// The first words of the answer, redacted, for lists.
    pub answer: Option<String>,
    /// The record as JSON, where somebody has made that already.
    pub json: Option<String>,
    /// What searching for words looks at, likewise.
    pub text: Option<String>,
}

/// What follows from a call and is committed with it or not at all.
#[derive(Clone, Debug, Default)]
pub struct Attached {
    /// Records of their own. Their ids say what they are about: one that is taken stays as it is.
    pub derived: Vec<Entry>,
    /// What is remembered of threads by key; `None` for what is forgotten.
    pub threads: Vec<(String, Option<String>)>,
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
    /// `SQLite`'s own trouble.
    #[error(transparent)]
    Sqlite(#[from] rusqlite::Error),
    /// Trouble with a file.
    #[error(transparent)]
    Io(#[from] std::io::Error),
}

/// The owner of the data directory: the writing side. Cheap to clone; the last clone closes it.
#[derive(Clone, Debug)]
pub struct Store {
    inner: Arc<Inner>,
}

struct Inner {
    shared: Arc<Shared>,
    extractor: Arc<Mutex<Option<writer::Extractor>>>,
    pool: Arc<pool::Pool>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

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
    /// in flight when it was last closed into `interrupted` records. A damaged file is set aside and a
    /// fresh one started.
    ///
    /// # Errors
    /// When the directory cannot be used, another process owns it, or a newer calltap wrote it.
    pub fn open(dir: &Path, options: &crate::config::Store) -> Result<Self, StoreError> {
        open::directory(dir)?;
        if let Some(kind) = network::kind(dir).filter(|_| !options.allow_network) {
            return Err(StoreError::Directory(format!(
                "the data directory {} is on a network ({kind}), where locks and the write-ahead log do not hold; \
                 choose a local --data-dir, or set store.allow_network",
                dir.display()
            )));
        }
        let lock = lock::take(dir)?;
        let file = dir.join(schema::FILE);
        let open::Opened { conn, settled, unreadable, last, dropped } =
            open::sound(&file, true, true)?;
        if settled > 0 {
            tracing::warn!(calls = settled, "calls were in flight when calltap last stopped");
        }
        let shared = Arc::new(Shared::new(file.clone(), last, dropped));
        if unreadable > 0 {
            shared.count_dropped("journal", unreadable);
        }
        let extractor = Arc::new(Mutex::new(None));
        let writer = writer::Writer {
            shared: Arc::clone(&shared),
            conn: Some(conn),
            retention: retention::Retention::new(options),
            extractor: Arc::clone(&extractor),
            texts: fulltext::Texts::default(),
            pages: Arc::default(),
            closing_since: None,
            file_id: pool::file_id(&file),
            next_wait: std::time::Instant::now(),
            wait_pause: writer::READERS_PAUSE,
            next_reserve: std::time::Instant::now(),
            _lock: lock,
        };
        let thread = std::thread::Builder::new()
            .name("calltap-store".to_owned())
            .spawn(move || writer.run())?;
        let thread = Mutex::new(Some(thread));
        Ok(Self {
            inner: Arc::new(Inner { shared, extractor, pool: pool::Pool::new(file), thread }),
        })
    }

    /// Whether a running calltap has the store in `dir`.
    pub fn is_served(dir: &Path) -> bool {
        lock::is_taken(dir)
    }

    /// Appends a finished call. `done` fires after the commit that holds it (or says why it failed;
    /// the call still waits for better times then). Never waits: the caller bounds what is in flight.
    /// Packs the bodies on the caller's thread.
    pub fn append(&self, entry: Entry, done: Option<oneshot::Sender<Result<i64, String>>>) {
        self.append_with(entry, Attached::default(), done);
    }

    /// As [`Self::append`], with what follows from the call.
    pub fn append_with(
        &self,
        mut entry: Entry,
        attached: Attached,
        done: Option<oneshot::Sender<Result<i64, String>>>,
    ) {
        let text = entry.text.take().map(|text| Text::new(text, &self.inner.shared.texts));
        let mut row = row::Row::of(entry).with(attached);
        row.text = text;
        self.inner.shared.push(Work::Call(Box::new(row), done));
    }

    /// Appends what follows from no call but from time that passed.
    pub fn append_derived(&self, mut attached: Attached) {
        if let Some(first) = attached.derived.pop() {
            let row = row::Row::once(first).with(attached);
            self.inner.shared.push(Work::Call(Box::new(row), None));
        }
    }

    /// What is remembered of threads, by key.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn threads(&self) -> Result<Vec<(String, String)>, StoreError> {
        self.inner.pool.read(|conn| Ok(attached::threads(conn)?))
    }

    /// The session of the latest call that made, or asked about, a provider's response.
    ///
    /// # Errors
    /// `SQLite`'s.
    pub fn session_of_response(&self, id: &str) -> Result<Option<String>, StoreError> {
        self.inner.pool.read(|conn| Ok(sessions::of_response(conn, id)?))
    }

    /// Whether a record has the usage that the provider reported for this response or file.
    ///
    /// # Errors
    /// The read pool's.
    pub fn has_usage_of(&self, id: &str, upstream: &str) -> Result<bool, StoreError> {
        self.inner.pool.read(|conn| Ok(sessions::has_usage_of(conn, id, upstream)?))
    }

    /// Whether an entry of any size would find room in the queue to the writer.
    pub fn has_room(&self) -> bool {
        self.inner.shared.has_room()
    }

    /// Whether an entry may bring the text that is searched; otherwise it is read from the store later.
    pub fn wants_text(&self) -> bool {
        self.inner.shared.texts.has_room()
    }

    /// Notes calls that went upstream. Superseded by `append` of the same id.
    pub fn journal(&self, started: Vec<Started>) {
        for call in started {
            self.inner.shared.push(Work::Started(Box::new(row::JournalRow::of(call))));
        }
    }

    /// Counts a record that could not be kept, durably, by reason.
    pub fn count_dropped(&self, reason: &'static str) {
        self.inner.shared.count_dropped(reason, 1);
    }

    /// How the text for full-text search is read from a call. Without one nothing is indexed.
    pub fn set_text_extractor(&self, text_of: impl Fn(Stored) -> String + Send + Sync + 'static) {
        *self.inner.extractor.lock().unwrap_or_else(PoisonError::into_inner) =
            Some(Arc::new(text_of));
    }

    /// The highest committed `seq`; changes wake whoever follows the log.
    pub fn committed(&self) -> watch::Receiver<i64> {
        self.inner.shared.committed.subscribe()
    }

    /// State of the writer.
    pub fn health(&self) -> Health {
        self.inner.shared.health()
    }

    /// A reading side that shares this store's file.
    ///
    /// # Errors
    /// When no reading connection can be opened.
    pub fn reader(&self) -> Result<Reader, StoreError> {
        let reader = Reader { pool: Arc::clone(&self.inner.pool) };
        reader.last_seq()?;
        Ok(reader)
    }

    /// Commits what is waiting, checkpoints and closes. Blocks.
    pub fn close(&self) {
        self.inner.close();
    }
}

impl Inner {
    fn close(&self) {
        self.shared.close();
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if thread.is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the store's writer panicked");
        }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.close();
    }
}

impl std::fmt::Debug for Inner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Store").field("file", &self.shared.file).finish_non_exhaustive()
    }
}

/// The reading side: read-only connections with deadlines; works beside a running server or without.
/// Cheap to clone. All its calls block; async callers use `spawn_blocking`.
#[derive(Clone, Debug)]
pub struct Reader {
    pool: Arc<pool::Pool>,
}

/// One page of calls.
#[derive(Clone, Debug, Default)]
pub struct Page {
    /// Rows for a list, newest first: the record without bodies, inputs and headers.
    pub items: Vec<Value>,
    /// Where the next page starts.
    pub next: Option<String>,
}

/// Totals of a group of calls.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
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

/// Totals by group.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Stats {
    /// Largest cost first.
    pub rows: Vec<StatRow>,
    /// True where every call was read. Otherwise percentiles are good to ±2.2 % and calls that are no
    /// longer kept are counted too; counts and sums are exact either way.
    pub exact: bool,
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
    /// The provider's error code, else its type.
    Error,
    /// HTTP status.
    Status,
    /// Finish reason of the first choice.
    Finish,
    /// The client's library.
    Client,
    /// Provider.
    Provider,
    /// Version of the prompt.
    Version,
}

impl std::str::FromStr for GroupBy {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        Ok(match name {
            "model" => Self::Model,
            "prompt" => Self::Prompt,
            "customer" => Self::Customer,
            "session" => Self::Session,
            "user" => Self::User,
            "key" => Self::Key,
            "upstream" => Self::Upstream,
            "outcome" => Self::Outcome,
            "endpoint" => Self::Endpoint,
            "env" | "environment" => Self::Environment,
            "day" => Self::Day,
            "nothing" => Self::Nothing,
            "error" => Self::Error,
            "status" => Self::Status,
            "finish" => Self::Finish,
            "client" => Self::Client,
            "provider" => Self::Provider,
            "version" => Self::Version,
            _ => {
                return Err("is one of model, prompt, customer, session, user, key, upstream, \
                            outcome, endpoint, environment, day, error, status, finish, client, provider, version, \
                            nothing"
                    .to_owned());
            }
        })
    }
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
    /// Newest place in the record log.
    pub last_seq: i64,
    /// Who follows the record log.
    pub consumers: Vec<Consumer>,
    /// Bytes of each table with its indexes, largest first; empty where the file is too large to be
    /// walked through for it.
    pub tables: Vec<Table>,
}

/// A table and what it takes up.
#[derive(Clone, Debug, Serialize)]
pub struct Table {
    /// Its name.
    pub name: String,
    /// Bytes of its pages and those of its indexes.
    pub bytes: u64,
}

/// A consumer of the record log.
#[derive(Clone, Debug, Serialize)]
pub struct Consumer {
    /// `fts` and `rollups` are the store's own.
    pub name: String,
    /// The last record it has taken.
    pub seq: i64,
    /// Records behind the newest.
    pub lag: i64,
}

/// What `verify` found.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Verdict {
    /// `SQLite`'s own integrity check; empty when it is `ok`.
    pub integrity: Vec<String>,
    /// Bodies read and found equal to their stored hash.
    pub bodies_ok: u64,
    /// Ids of records whose bodies do not match their hash or do not unpack.
    pub bodies_bad: Vec<Uuid>,
}
