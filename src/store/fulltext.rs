//! The full-text index: a cursor over the record log, fed when the writer has nothing else to do.

use super::{Stored, reader};
use rusqlite::{Connection, params};
use std::time::{Duration, Instant};

/// Name of the index's cursor.
pub(super) const CURSOR: &str = "fts";
/// Most calls indexed in one transaction.
const STEP: u32 = 200;
/// Longest time spent on reading them; keeps the writer free for commits.
const BUDGET: Duration = Duration::from_millis(15);
/// Longest text of one call that is indexed, in bytes.
const MAX_TEXT: usize = 256 << 10;

/// Indexes the next few calls. True when there may be more.
pub(super) fn step(
    conn: &mut Connection,
    text_of: &(dyn Fn(&Stored) -> String + Send + Sync),
) -> rusqlite::Result<bool> {
    let last = position(conn)?;
    let seqs = conn
        .prepare_cached("SELECT seq FROM calls WHERE seq > ?1 ORDER BY seq LIMIT ?2")?
        .query_map(params![last, STEP], |row| row.get(0))?
        .collect::<rusqlite::Result<Vec<i64>>>()?;
    let started = Instant::now();
    let mut texts = Vec::with_capacity(seqs.len());
    for seq in &seqs {
        let stored = reader::load(conn, *seq)?;
        texts.push((seq, stored.map(|stored| guarded(text_of, &stored)).unwrap_or_default()));
        if started.elapsed() > BUDGET {
            break;
        }
    }
    let Some((newest, _)) = texts.last() else { return Ok(false) };
    let more = seqs.len() == STEP as usize || texts.len() < seqs.len();
    let step = conn.transaction()?;
    for (seq, text) in texts.iter().filter(|(_, text)| !text.is_empty()) {
        let end = text.floor_char_boundary(MAX_TEXT);
        step.prepare_cached("INSERT OR REPLACE INTO fts (rowid, text) VALUES (?1, ?2)")?
            .execute(params![seq, text.get(..end)])?;
    }
    step.prepare_cached("INSERT OR REPLACE INTO cursors (name, seq, holds) VALUES (?1, ?2, 0)")?
        .execute(params![CURSOR, newest])?;
    step.commit()?;
    Ok(more)
}

/// Up to which `seq` calls are indexed.
pub(super) fn position(conn: &Connection) -> rusqlite::Result<i64> {
    conn.prepare_cached("SELECT coalesce(max(seq), 0) FROM cursors WHERE name = ?1")?
        .query_row([CURSOR], |row| row.get(0))
}

/// The extractor reads hostile bodies: a panic in it must not end the writer.
fn guarded(text_of: &(dyn Fn(&Stored) -> String + Send + Sync), stored: &Stored) -> String {
    let read = std::panic::AssertUnwindSafe(|| text_of(stored));
    std::panic::catch_unwind(read).unwrap_or_default()
}
