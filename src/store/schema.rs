//! The file's format: how connections are opened, what the tables are, how older files are brought up.

use super::StoreError;
use rusqlite::{Connection, OpenFlags, TransactionBehavior, config::DbConfig};
use std::{path::Path, time::Duration};

/// Name of the database in the data directory.
pub(super) const FILE: &str = "calltap.db";
/// "CTAP": marks the file as ours, so that another program's database is not taken for one.
const APPLICATION_ID: i64 = 0x4354_4150;
/// One script a version; version n is the state after the first n. Never edit one that was released.
const MIGRATIONS: &[&str] = &[include_str!("schema.sql"), include_str!("lanes.sql")];
/// How long a statement waits for another process's lock.
pub(super) const BUSY: Duration = Duration::from_millis(500);

/// The schema version that this build writes.
pub(super) fn version() -> i64 {
    i64::try_from(MIGRATIONS.len()).unwrap_or(i64::MAX)
}

/// Opens the writing connection and brings the schema up.
pub(super) fn open_writer(file: &Path) -> Result<Connection, StoreError> {
    let mut conn = Connection::open_with_flags(
        file,
        OpenFlags::SQLITE_OPEN_READ_WRITE
            | OpenFlags::SQLITE_OPEN_CREATE
            | OpenFlags::SQLITE_OPEN_NO_MUTEX,
    )?;
    conn.busy_timeout(BUSY)?;
    // Partial indexes make SQLite plan a statement anew for each value it is bound to.
    conn.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
    // auto_vacuum has to come before the first table. fullfsync matters on macOS only, where a plain
    // fsync does not reach the disk.
    conn.execute_batch(
        "PRAGMA auto_vacuum = INCREMENTAL;
         PRAGMA journal_mode = WAL;
         PRAGMA synchronous = FULL;
         PRAGMA fullfsync = 1;
         PRAGMA checkpoint_fullfsync = 1;
         PRAGMA foreign_keys = ON;
         PRAGMA wal_autocheckpoint = 0;
         PRAGMA journal_size_limit = 67108864;",
    )?;
    conn.set_prepared_statement_cache_capacity(64);
    migrate(&mut conn, file)?;
    Ok(conn)
}

/// Opens a reading connection. It never checkpoints, and a file in a directory that cannot be written
/// is read as it is.
pub(super) fn open_reader(file: &Path) -> Result<Connection, StoreError> {
    if !file.is_file() {
        return Err(StoreError::Directory(format!("there is no store at {}", file.display())));
    }
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let opened = Connection::open_with_flags(file, flags).and_then(ready_to_read);
    let conn = match opened {
        Ok(conn) => conn,
        Err(error) if cannot_open(&error) && !has_wal(file) => {
            let uri = format!("file:{}?immutable=1", uri_path(file));
            Connection::open_with_flags(uri, flags | OpenFlags::SQLITE_OPEN_URI)
                .and_then(ready_to_read)?
        }
        Err(error) => return Err(error.into()),
    };
    refuse_newer(&conn, file)?;
    Ok(conn)
}

/// Fails when a newer calltap wrote the file. Touches nothing.
pub(super) fn refuse_newer(conn: &Connection, file: &Path) -> Result<(), StoreError> {
    let found: i64 = conn.pragma_query_value(None, "user_version", |row| row.get(0))?;
    if found <= version() || !is_ours(conn)? {
        return Ok(());
    }
    Err(StoreError::Newer(format!(
        "{} was written by a newer calltap (schema {found}, this one knows {}); use that version, or another data directory",
        file.display(),
        version()
    )))
}

/// True when the file carries our mark.
pub(super) fn is_ours(conn: &Connection) -> Result<bool, rusqlite::Error> {
    let mark: i64 = conn.pragma_query_value(None, "application_id", |row| row.get(0))?;
    Ok(mark == APPLICATION_ID)
}

/// True when the error says that the file is not a sound database. Damage to the schema shows as a
/// plain error: a table that is not there.
pub(super) fn is_damage(error: &rusqlite::Error) -> bool {
    use rusqlite::ErrorCode::{DatabaseCorrupt, NotADatabase, Unknown};
    matches!(error.sqlite_error_code(), Some(DatabaseCorrupt | NotADatabase | Unknown))
        || matches!(
            error,
            rusqlite::Error::FromSqlConversionFailure(..)
                | rusqlite::Error::InvalidColumnType(..)
                | rusqlite::Error::QueryReturnedNoRows
        )
}

/// Each version is one transaction, so a kill leaves the file at a whole version.
fn migrate(conn: &mut Connection, file: &Path) -> Result<(), StoreError> {
    let found: i64 = conn.pragma_query_value(None, "user_version", |row| row.get(0))?;
    if found > 0 && found < version() {
        keep_older(conn, file, found)?;
    }
    loop {
        let found: i64 = conn.pragma_query_value(None, "user_version", |row| row.get(0))?;
        let Some(script) = usize::try_from(found).ok().and_then(|found| MIGRATIONS.get(found))
        else {
            return Ok(());
        };
        let step = conn.transaction_with_behavior(TransactionBehavior::Immediate)?;
        step.execute_batch(script)?;
        if found == 0 {
            step.pragma_update(None, "application_id", APPLICATION_ID)?;
            step.execute(
                "INSERT INTO meta (key, value) VALUES ('salt', ?1)",
                [uuid::Uuid::now_v7().simple().to_string()],
            )?;
        }
        step.pragma_update(None, "user_version", found + 1)?;
        step.commit()?;
    }
}

/// Keeps the store as an older calltap left it, under its own name and version.
fn keep_older(conn: &Connection, file: &Path, found: i64) -> Result<(), StoreError> {
    let kept = beside(file, &format!(".v{found}"));
    if kept.try_exists()? {
        // An upgrade was interrupted: nothing had changed when this was made.
        return Ok(());
    }
    let unfinished = beside(&kept, ".unfinished");
    match std::fs::remove_file(&unfinished) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error.into()),
        _ => {}
    }
    super::open::create(&unfinished)?;
    conn.backup("main", &unfinished, None::<fn(rusqlite::backup::Progress)>)?;
    std::fs::rename(&unfinished, &kept)?;
    tracing::info!(from = found, to = version(), kept = %kept.display(), "the store is brought up");
    Ok(())
}

fn ready_to_read(conn: Connection) -> rusqlite::Result<Connection> {
    conn.busy_timeout(Duration::from_secs(1))?;
    conn.pragma_update(None, "query_only", true)?;
    conn.set_prepared_statement_cache_capacity(32);
    // The first page is read here, so that a file that cannot be opened says so now.
    conn.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get::<_, i64>(0))?;
    Ok(conn)
}

fn cannot_open(error: &rusqlite::Error) -> bool {
    matches!(
        error.sqlite_error_code(),
        Some(rusqlite::ErrorCode::CannotOpen | rusqlite::ErrorCode::ReadOnly)
    )
}

fn has_wal(file: &Path) -> bool {
    std::fs::metadata(beside(file, "-wal")).is_ok_and(|wal| wal.len() > 0)
}

/// The path of a file whose name continues `file`'s.
pub(super) fn beside(file: &Path, suffix: &str) -> std::path::PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

fn uri_path(file: &Path) -> String {
    let text = file.to_string_lossy();
    percent_encoding::utf8_percent_encode(&text, percent_encoding::NON_ALPHANUMERIC)
        .to_string()
        .replace("%2F", "/")
}
