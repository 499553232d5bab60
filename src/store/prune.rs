//! Retention by hand, on a store that no server has open.

use super::{StoreError, fulltext::Texts, lock, open, retention, rollup, schema};
use serde::Serialize;
use std::path::Path;

/// What was pruned.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Pruned {
    /// Calls that are gone.
    pub calls: u64,
    /// Calls that are gone or have lost their bodies.
    pub bodies: u64,
    /// Calls among them that a consumer still waited for.
    pub undelivered: u64,
    /// Bytes of the file before.
    pub bytes_before: u64,
    /// Bytes of the file now.
    pub bytes_after: u64,
}

/// Takes out of the store in `dir` what `options` do not keep. Totals are brought up first, so that they
/// keep what the calls added; an interruption leaves the rest for the next time.
///
/// # Errors
/// [`StoreError::Locked`] while a server runs on it; `SQLite`'s.
pub fn prune(
    dir: &Path,
    options: &crate::config::Store,
    progress: &mut dyn FnMut(),
) -> Result<Pruned, StoreError> {
    let file = dir.join(schema::FILE);
    if !file.is_file() {
        return Err(StoreError::Directory(format!("there is no store at {}", file.display())));
    }
    let _lock = lock::take(dir)?;
    let mut conn = schema::open_writer(&file)?;
    let bytes_before = retention::file_bytes(&file);
    while rollup::step(&mut conn)? {
        progress();
    }
    let before = counts(&conn)?;
    let mut undelivered = 0;
    let (mut retention, mut texts) = (retention::Retention::new(options), Texts::default());
    while retention.step(&mut conn, &mut texts, &mut |lost| undelivered += lost)?
        || texts.merge_for(&conn, retention::MERGING)?
    {
        progress();
    }
    if undelivered > 0 {
        let known = open::dropped(&conn)?.get(retention::EXPIRED).copied().unwrap_or(0);
        let sum = i64::try_from(known + undelivered).unwrap_or(i64::MAX);
        conn.execute(
            "INSERT OR REPLACE INTO dropped (reason, count) VALUES (?1, ?2)",
            rusqlite::params![retention::EXPIRED, sum],
        )?;
    }
    let after = counts(&conn)?;
    conn.execute_batch("PRAGMA incremental_vacuum; PRAGMA wal_checkpoint(TRUNCATE)")?;
    drop(conn);
    Ok(Pruned {
        calls: before.0.saturating_sub(after.0),
        bodies: before.1.saturating_sub(after.1),
        undelivered,
        bytes_before,
        bytes_after: retention::file_bytes(&file),
    })
}

/// Calls, and those with bodies.
fn counts(conn: &rusqlite::Connection) -> rusqlite::Result<(u64, u64)> {
    conn.query_row("SELECT count(*), coalesce(sum(has_bodies), 0) FROM calls", [], |row| {
        let count = |at| row.get::<_, i64>(at).map(|count| u64::try_from(count).unwrap_or(0));
        Ok((count(0)?, count(1)?))
    })
}
