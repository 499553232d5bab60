//! Opening: the directory, the check of the file, and the calls that were in flight.

use super::{
    Bodies, Entry, StoreError, fulltext, pack,
    row::{Row, read_doc},
    schema,
};
use crate::model::{Body, Outcome, Record, Timestamp};
use rusqlite::Connection;
use std::{
    collections::BTreeMap,
    fs, io,
    path::Path,
    time::{Duration, Instant},
};

/// How long the check of the file may hold up the start.
const CHECK: Duration = Duration::from_millis(500);
/// Steps of the check from one look at the clock to the next.
const CHECK_STEPS: i32 = 50;

/// Creates the directory, for its owner only; one that is there is left as it is.
pub(super) fn directory(dir: &Path) -> Result<(), StoreError> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(dir).map_err(|error| {
        StoreError::Directory(format!("cannot use the data directory {}: {error}", dir.display()))
    })
}

/// A store that is ready to be written.
pub(super) struct Opened {
    pub(super) conn: Connection,
    /// Calls that were in flight and are `interrupted` now.
    pub(super) settled: usize,
    /// Calls in flight that could not be read any more.
    pub(super) unreadable: u64,
    /// The highest `seq` that was ever given.
    pub(super) last: i64,
    /// Drop counts of earlier runs.
    pub(super) dropped: BTreeMap<String, u64>,
}

/// Opens the file for writing. A damaged file is set aside and a fresh one takes its place: capture must
/// go on. `check` looks through the whole file, within limits. `settle` deals with what the last run left
/// behind: while calltap runs, the calls in the journal run too.
pub(super) fn sound(file: &Path, check: bool, settle: bool) -> Result<Opened, StoreError> {
    let damage = match attempt(file, check, settle) {
        Ok(Ok(opened)) => return Ok(opened),
        Ok(Err(damage)) => damage,
        Err(StoreError::Sqlite(error)) if schema::is_damage(&error) => error.to_string(),
        Err(error) => return Err(error),
    };
    let aside = set_aside(file)?;
    tracing::error!(
        damage,
        kept = %aside.display(),
        "the store is damaged; it was set aside and a fresh one started"
    );
    attempt(file, false, settle)?.map_err(StoreError::Directory)
}

/// The inner error says what is wrong with the file's content.
fn attempt(file: &Path, check: bool, settle: bool) -> Result<Result<Opened, String>, StoreError> {
    let reader = match inspect(file, check)? {
        Ok(reader) => reader,
        Err(damage) => return Ok(Err(damage)),
    };
    let mut conn = schema::open_writer(file)?;
    // Had the last connection closed before, the index of a long log would be made once more.
    drop(reader);
    if let Err(error) = fulltext::configure(&conn) {
        tracing::warn!(%error, "the index merges by itself for now"); // the disk may be full
    }
    let (settled, unreadable) = if settle { settle_journal(&mut conn)? } else { (0, 0) };
    let (last, dropped) = (last_seq(&conn)?, dropped(&conn)?);
    Ok(Ok(Opened { conn, settled, unreadable, last, dropped }))
}

/// The highest `seq` that was ever given.
pub(super) fn last_seq(conn: &Connection) -> rusqlite::Result<i64> {
    conn.query_row(
        "SELECT coalesce(max(seq), 0) FROM sqlite_sequence WHERE name = 'calls'",
        [],
        |row| row.get(0),
    )
}

/// Drop counts of earlier runs.
pub(super) fn dropped(conn: &Connection) -> rusqlite::Result<BTreeMap<String, u64>> {
    let mut statement = conn.prepare("SELECT reason, count FROM dropped")?;
    let rows = statement.query_map([], |row| {
        Ok((row.get::<_, String>(0)?, u64::try_from(row.get::<_, i64>(1)?).unwrap_or(0)))
    })?;
    rows.collect()
}

/// Turns what is left in the journal into `interrupted` records; gives how many, and how many could
/// not be read.
fn settle_journal(conn: &mut Connection) -> rusqlite::Result<(usize, u64)> {
    let (mut settled, mut lost) = (0, 0);
    let step = conn.transaction()?;
    // Looked up one by one: the journal is short, the calls may be millions.
    step.execute(
        "DELETE FROM journal WHERE EXISTS (SELECT 1 FROM calls WHERE calls.id = journal.id)",
        [],
    )?;
    loop {
        let Some((id, found)) = next_in_flight(&step)? else { break };
        match found {
            Some(entry) => {
                Row::of(entry).insert(&step)?;
                settled += 1;
            }
            None => lost += 1,
        }
        step.execute("DELETE FROM journal WHERE id = ?1", [id])?;
    }
    step.commit()?;
    Ok((settled, lost))
}

fn next_in_flight(conn: &Connection) -> rusqlite::Result<Option<(String, Option<Entry>)>> {
    use rusqlite::OptionalExtension;
    conn.prepare_cached(
        "SELECT id, doc, crc, request, request_zstd, request_crc FROM journal ORDER BY rowid LIMIT 1",
    )?
    .query_row([], |row| {
        let record = read_doc(row.get_ref(1)?, row.get(2)?)
            .ok()
            .and_then(|json| serde_json::from_slice::<Record>(&json).ok());
        let request = match row.get::<_, Option<Vec<u8>>>(3)? {
            Some(data) => pack::unpack(&data, row.get(4)?, row.get(5)?).ok(),
            None => None,
        };
        Ok((row.get(0)?, record.map(|record| interrupted(record, request))))
    })
    .optional()
}

fn interrupted(mut record: Record, request: Option<Vec<u8>>) -> Entry {
    record.outcome = Outcome::Interrupted;
    record.ended_at = record.ended_at.max(record.started_at);
    record.notes.push("calltap stopped before the call ended".to_owned());
    let bodies = request.map(|kept| Bodies {
        request: Body {
            total: record.bytes.request.max(kept.len() as u64),
            sha256: None,
            kept: kept.into(),
        },
        ..Bodies::default()
    });
    Entry { record, bodies, answer: None, json: None, text: None }
}

/// What is wrong with the file, before anything is written to it; the connection that saw it, where
/// there was something to see.
fn inspect(file: &Path, check: bool) -> Result<Result<Option<Connection>, String>, StoreError> {
    if !file.try_exists()? {
        create(file)?;
        return Ok(Ok(None));
    }
    if !file.is_file() {
        return Err(StoreError::Directory(format!("{} is not a file", file.display())));
    }
    if fs::metadata(file)?.len() == 0 {
        return Ok(Ok(None));
    }
    let mut conn = schema::open_reader(file)?;
    if !schema::is_ours(&conn)? {
        let tables: i64 =
            conn.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
        let foreign = "it is another program's database".to_owned();
        return Ok(if tables > 0 { Err(foreign) } else { Ok(None) });
    }
    let damage = if check { quick_check(&mut conn)? } else { None };
    Ok(damage.map_or(Ok(Some(conn)), Err))
}

/// `quick_check`, as far as it comes in the time there is.
fn quick_check(conn: &mut Connection) -> Result<Option<String>, StoreError> {
    let deadline = Instant::now() + CHECK;
    // Each step may be a page that has to come from the disk first.
    conn.progress_handler(CHECK_STEPS, Some(move || Instant::now() > deadline))?;
    let verdict = conn.query_row("PRAGMA quick_check(1)", [], |row| row.get::<_, String>(0));
    conn.progress_handler(0, None::<fn() -> bool>)?;
    match verdict {
        Ok(verdict) if verdict == "ok" => Ok(None),
        Ok(damage) => Ok(Some(damage)),
        Err(error)
            if error.sqlite_error_code() == Some(rusqlite::ErrorCode::OperationInterrupted) =>
        {
            Ok(None)
        }
        Err(error) => Err(error.into()),
    }
}

/// An empty file that only its owner can read; `SQLite` gives its companions the same mode.
pub(super) fn create(file: &Path) -> io::Result<()> {
    let mut options = fs::OpenOptions::new();
    options.write(true).create(true).truncate(false);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(file).map(drop)
}

/// Renames the file and its write-ahead log so that they still belong together.
fn set_aside(file: &Path) -> io::Result<std::path::PathBuf> {
    let stamp = Timestamp::now().to_string().replace([':', '-'], "");
    let aside = schema::beside(file, &format!(".damaged-{stamp}"));
    fs::rename(file, &aside)?;
    let wal = schema::beside(file, "-wal");
    if wal.exists() {
        fs::rename(wal, schema::beside(&aside, "-wal"))?;
    }
    let index = schema::beside(file, "-shm");
    if index.exists() {
        fs::remove_file(index)?;
    }
    Ok(aside)
}
