//! The store: one SQLite file, one writer thread, group commit (SPEC §5).
//!
//! SQL lives only here. Invariant: `accepted = stored + counted as dropped`.

mod filter;
mod housekeeping;
mod lock;
mod reader;
mod row;
mod schema;
mod writer;

pub use reader::Reader;
pub use row::{dollars, pico};

use crate::{
    config,
    model::{Body, ChunkLog, Record, Timestamp},
};
use bytes::Bytes;
use housekeeping::Housekeeping;
use lock::Lock;
use row::Packed;
use rusqlite::Connection;
use serde::Serialize;
use serde_json::Value;
use std::{
    fs,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex,
        atomic::Ordering,
        mpsc::{self, Sender},
    },
    thread::JoinHandle,
};
use tokio::sync::{oneshot, watch};
use uuid::Uuid;
use writer::{Job, QUEUE_BYTES, State, Writer};

/// Name of the database file in the data directory.
pub const DATABASE: &str = "calltap.db";

/// What the recorder hands to the writer for one finished call.
#[derive(Clone, Debug)]
pub struct Entry {
    /// The record, without `seq`, `request` and `response`.
    pub record: Record,
    /// Raw bodies, already redacted; `None` when content is not kept.
    pub bodies: Option<Bodies>,
    /// What searching for words looks at.
    pub text: Option<Text>,
}

/// Question and answer of a call, already redacted.
#[derive(Clone, Debug, Default)]
pub struct Text {
    /// The question.
    pub input: String,
    /// The answer.
    pub output: String,
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

/// The owner of the data directory: the writing side. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Store {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    dir: PathBuf,
    jobs: Mutex<Sender<Job>>,
    state: Arc<State>,
    committed: watch::Receiver<i64>,
    thread: Mutex<Option<JoinHandle<()>>>,
    /// Held for life.
    _lock: Lock,
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
    /// in flight when it was last closed into `interrupted` records.
    ///
    /// # Errors
    /// When the directory cannot be used, another process owns it, or a newer calltap wrote it.
    pub fn open(dir: &Path, options: &config::Store) -> Result<Self, StoreError> {
        make_private(dir)?;
        let lock = Lock::take(dir)?;
        let mut connection = open_or_set_aside(dir)?;
        let (last, dropped) = recover(&mut connection)?;
        let state = Arc::new(State::default());
        if let Ok(mut health) = state.health.lock() {
            health.dropped = dropped;
        }
        let housekeeping = Housekeeping::new(dir, options);
        housekeeping.reserve();
        let (jobs, inbox) = mpsc::channel();
        let (commits, committed) = watch::channel(last);
        let writer = Writer {
            dir: dir.to_owned(),
            connection: Some(connection),
            jobs: inbox,
            state: Arc::clone(&state),
            committed: commits,
            housekeeping,
        };
        let thread =
            std::thread::Builder::new().name("store".into()).spawn(move || writer.run())?;
        Ok(Self {
            shared: Arc::new(Shared {
                dir: dir.to_owned(),
                jobs: Mutex::new(jobs),
                state,
                committed,
                thread: Mutex::new(Some(thread)),
                _lock: lock,
            }),
        })
    }

    /// Appends a finished call. `done` fires after the commit that holds it, or says why the first
    /// attempt failed. Packs on the calling thread; never waits. Without room it drops and counts.
    pub fn append(&self, entry: Entry, done: Option<oneshot::Sender<Result<i64, String>>>) {
        if !self.has_room() {
            self.count_dropped("store_full");
            if let Some(done) = done {
                done.send(Err("the queue to the store is full".to_owned())).ok();
            }
            return;
        }
        let packed = Box::new(Packed::new(entry));
        self.shared.state.waiting_bytes.fetch_add(packed.size(), Ordering::Relaxed);
        self.shared.state.waiting.fetch_add(1, Ordering::Relaxed);
        self.tell(Job::Append(packed, done));
    }

    /// Whether the queue to the writer is below its limit.
    pub fn has_room(&self) -> bool {
        self.shared.state.waiting_bytes.load(Ordering::Relaxed) < QUEUE_BYTES
    }

    /// Notes calls that went upstream. Superseded by `append` of the same id.
    pub fn journal(&self, started: Vec<Started>) {
        if self.has_room() {
            self.tell(Job::Journal(started));
        }
    }

    /// Counts a record that could not be kept, durably, by reason.
    pub fn count_dropped(&self, reason: &'static str) {
        self.tell(Job::Dropped(reason));
    }

    fn tell(&self, job: Job) {
        if let Ok(jobs) = self.shared.jobs.lock() {
            // The writer outlives every sender; after `close` there is nobody to tell.
            jobs.send(job).ok();
        }
    }

    /// The highest committed `seq`; changes wake whoever follows the log.
    pub fn committed(&self) -> watch::Receiver<i64> {
        self.shared.committed.clone()
    }

    /// State of the writer.
    pub fn health(&self) -> Health {
        let state = &self.shared.state;
        let mut health = state.health.lock().map(|health| health.clone()).unwrap_or_default();
        health.waiting = state.waiting.load(Ordering::Relaxed);
        health
    }

    /// A reading side that shares this store's file.
    ///
    /// # Errors
    /// When no reading connection can be opened.
    pub fn reader(&self) -> Result<Reader, StoreError> {
        Reader::open(&self.shared.dir)
    }

    /// Commits what is waiting, checkpoints and closes. Blocks.
    pub fn close(&self) {
        let (done, wait) = mpsc::channel();
        self.tell(Job::Close(done));
        wait.recv().ok();
        let thread = self.shared.thread.lock().ok().and_then(|mut thread| thread.take());
        if let Some(thread) = thread
            && thread.join().is_err()
        {
            tracing::error!("the store's writer panicked");
        }
    }
}

/// Only the owner may look at what people say to models.
fn make_private(dir: &Path) -> Result<(), StoreError> {
    let problem = |error: std::io::Error| {
        StoreError::Directory(format!(
            "the data directory {} cannot be used: {error}",
            dir.display()
        ))
    };
    if dir.exists() && !dir.is_dir() {
        return Err(StoreError::Directory(format!("{} is not a directory", dir.display())));
    }
    let fresh = !dir.exists();
    fs::create_dir_all(dir).map_err(problem)?;
    #[cfg(unix)]
    if fresh {
        use std::os::unix::fs::PermissionsExt;
        fs::set_permissions(dir, fs::Permissions::from_mode(0o700)).map_err(problem)?;
    }
    let probe = dir.join(".probe");
    fs::write(&probe, b"").and_then(|()| fs::remove_file(&probe)).map_err(problem)
}

/// Opens the writing connection of the file in `dir`.
fn open_writer(dir: &Path) -> Result<Connection, StoreError> {
    let path = dir.join(DATABASE);
    private_file(&path)?;
    let mut connection = Connection::open(&path)?;
    schema::check(&connection)?;
    schema::prepare_writer(&connection)?;
    schema::migrate(&mut connection)?;
    Ok(connection)
}

/// SQLite gives its log the mode of the file, so the file is made first.
fn private_file(path: &Path) -> Result<(), StoreError> {
    if path.exists() {
        return Ok(());
    }
    let mut options = fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)?;
    Ok(())
}

/// A file that is damaged beyond opening must not keep calls from being forwarded: it is set aside,
/// and a new one begun.
fn open_or_set_aside(dir: &Path) -> Result<Connection, StoreError> {
    let error = match open_writer(dir).and_then(usable) {
        Ok(connection) => return Ok(connection),
        Err(StoreError::Sqlite(error)) if is_damage(&error) => error,
        Err(error) => return Err(error),
    };
    let stamp = Timestamp::now().to_string().replace(':', "-");
    for end in ["", "-wal", "-shm"] {
        let from = dir.join(format!("{DATABASE}{end}"));
        if from.exists() {
            fs::rename(&from, dir.join(format!("damaged-{stamp}-{DATABASE}{end}")))?;
        }
    }
    tracing::error!(%error, "the store was damaged and set aside as damaged-{stamp}-{DATABASE}; a new one begins");
    open_writer(dir)
}

/// A damaged file often opens, and fails on the first look.
fn usable(connection: Connection) -> Result<Connection, StoreError> {
    connection.query_row("SELECT count(*) FROM journal", [], |row| row.get::<_, i64>(0))?;
    connection
        .query_row("SELECT coalesce(max(seq), 0) FROM calls", [], |row| row.get::<_, i64>(0))?;
    Ok(connection)
}

fn is_damage(error: &rusqlite::Error) -> bool {
    use rusqlite::ErrorCode::{DatabaseCorrupt, NotADatabase};
    match error {
        rusqlite::Error::SqliteFailure(failure, message) => {
            matches!(failure.code, DatabaseCorrupt | NotADatabase)
                || message.as_deref().is_some_and(|text| text.contains("no such table"))
        }
        _ => false,
    }
}

/// What a process that is gone left behind: running calls become records. Returns the last `seq` and
/// what was dropped so far.
fn recover(connection: &mut Connection) -> Result<(i64, Vec<(String, u64)>), StoreError> {
    let transaction = connection.transaction()?;
    for entry in row::left_behind(&transaction)? {
        let mut packed = Packed::new(entry);
        let taken: bool = transaction.query_row(
            "SELECT EXISTS (SELECT 1 FROM calls WHERE id = ?1)",
            [packed.id().to_string()],
            |row| row.get(0),
        )?;
        if taken {
            packed.rename();
        }
        packed.insert(&transaction)?;
    }
    transaction.execute("DELETE FROM journal", [])?;
    transaction.commit()?;
    let last =
        connection.query_row("SELECT coalesce(max(seq), 0) FROM calls", [], |row| row.get(0))?;
    let mut statement = connection.prepare("SELECT reason, count FROM dropped")?;
    let dropped = statement
        .query_map([], |row| Ok((row.get(0)?, u64::try_from(row.get::<_, i64>(1)?).unwrap_or(0))))?
        .collect::<Result<_, _>>()?;
    drop(statement);
    Ok((last, dropped))
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
            _ => {
                return Err("is one of model, prompt, customer, session, user, key, upstream, \
                            outcome, endpoint, environment, day, nothing"
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

#[cfg(test)]
mod tests;
