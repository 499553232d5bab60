//! The tables, and how a file of an older calltap becomes one of this.

use super::StoreError;
use rusqlite::Connection;

/// Version of the schema below, in `PRAGMA user_version`.
pub const VERSION: i64 = 1;

/// Marks the file as calltap's (`PRAGMA application_id`): "ctap".
const APPLICATION_ID: i64 = 0x6374_6170;

const TABLES: &str = "
CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE dropped (reason TEXT PRIMARY KEY, count INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE cursors (name TEXT PRIMARY KEY, seq INTEGER NOT NULL) WITHOUT ROWID;

CREATE TABLE calls (
  seq              INTEGER PRIMARY KEY AUTOINCREMENT,
  id               TEXT NOT NULL UNIQUE,
  started_at       TEXT NOT NULL,
  started_us       INTEGER NOT NULL,
  endpoint         TEXT NOT NULL,
  method           TEXT NOT NULL,
  path             TEXT NOT NULL,
  upstream         TEXT NOT NULL,
  provider         TEXT NOT NULL,
  model            TEXT,
  model_requested  TEXT,
  stream           INTEGER NOT NULL,
  outcome          TEXT NOT NULL,
  status           INTEGER,
  error_code       TEXT,
  finish_reason    TEXT,
  latency_ms       REAL NOT NULL,
  first_byte_ms    REAL,
  ttft_ms          REAL,
  overhead_ms      REAL NOT NULL,
  input_tokens     INTEGER,
  cached_tokens    INTEGER,
  output_tokens    INTEGER,
  reasoning_tokens INTEGER,
  total_tokens     INTEGER,
  usage_source     TEXT NOT NULL,
  cost_status      TEXT NOT NULL,
  cost_pico        INTEGER,
  cost             REAL GENERATED ALWAYS AS (cost_pico / 1e12) VIRTUAL,
  prompt           TEXT,
  prompt_version   TEXT,
  session          TEXT,
  environment      TEXT,
  customer         TEXT,
  user             TEXT,
  reference        TEXT,
  labels           TEXT,
  metadata         TEXT,
  client_key       TEXT,
  sdk              TEXT,
  trace_id         TEXT,
  request_bytes    INTEGER NOT NULL,
  response_bytes   INTEGER NOT NULL
);
CREATE INDEX calls_started  ON calls (started_us);
CREATE INDEX calls_session  ON calls (session)  WHERE session  IS NOT NULL;
CREATE INDEX calls_prompt   ON calls (prompt)   WHERE prompt   IS NOT NULL;
CREATE INDEX calls_customer ON calls (customer) WHERE customer IS NOT NULL;

CREATE TABLE docs (
  seq INTEGER PRIMARY KEY REFERENCES calls (seq) ON DELETE CASCADE,
  doc TEXT NOT NULL
);

CREATE TABLE texts (
  seq    INTEGER PRIMARY KEY REFERENCES calls (seq) ON DELETE CASCADE,
  input  TEXT,
  output TEXT
);

CREATE TABLE bodies (
  seq             INTEGER PRIMARY KEY REFERENCES calls (seq) ON DELETE CASCADE,
  request         BLOB,
  request_zstd    INTEGER NOT NULL,
  request_total   INTEGER NOT NULL,
  request_sha256  BLOB,
  member_start    INTEGER,
  member_end      INTEGER,
  response        BLOB,
  response_zstd   INTEGER NOT NULL,
  response_total  INTEGER NOT NULL,
  response_sha256 BLOB,
  chunks          BLOB,
  stored_sha256   BLOB NOT NULL
);

CREATE TABLE journal (
  id      TEXT PRIMARY KEY,
  doc     TEXT NOT NULL,
  request BLOB
) WITHOUT ROWID;
";

/// Settings of the writing connection. `FULL`: a commit survives the loss of power.
pub fn prepare_writer(connection: &Connection) -> Result<(), StoreError> {
    connection.execute_batch(
        "PRAGMA auto_vacuum = INCREMENTAL;
         PRAGMA journal_mode = WAL;
         PRAGMA synchronous = FULL;
         PRAGMA fullfsync = 1;
         PRAGMA checkpoint_fullfsync = 1;
         PRAGMA foreign_keys = ON;
         PRAGMA busy_timeout = 5000;
         PRAGMA wal_autocheckpoint = 0;
         PRAGMA journal_size_limit = 67108864;
         PRAGMA temp_store = MEMORY;",
    )?;
    connection.set_prepared_statement_cache_capacity(64);
    Ok(())
}

/// Settings of a reading connection.
pub fn prepare_reader(connection: &Connection) -> Result<(), StoreError> {
    connection.execute_batch(
        "PRAGMA query_only = ON; PRAGMA busy_timeout = 2000; PRAGMA wal_autocheckpoint = 0;",
    )?;
    connection.set_prepared_statement_cache_capacity(64);
    Ok(())
}

/// The version of an existing file, refused when it is newer than this program.
///
/// # Errors
/// [`StoreError::Newer`]; SQLite's when the file is no database.
pub fn check(connection: &Connection) -> Result<i64, StoreError> {
    let version: i64 = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
    if version > VERSION {
        return Err(StoreError::Newer(format!(
            "the store has schema {version}, this calltap knows {VERSION}: use a newer calltap"
        )));
    }
    Ok(version)
}

/// Brings the file to [`VERSION`], in one transaction a step.
///
/// # Errors
/// As [`check`].
pub fn migrate(connection: &mut Connection) -> Result<(), StoreError> {
    if check(connection)? == 0 {
        let transaction = connection.transaction()?;
        transaction.execute_batch(TABLES)?;
        transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
        transaction.pragma_update(None, "user_version", VERSION)?;
        transaction.commit()?;
    }
    Ok(())
}
