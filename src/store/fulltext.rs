//! The full-text index: a cursor over the record log, fed when the writer has nothing else to do.
//!
//! Each transaction leaves the index one segment more, and segments have to be merged. Left to itself, FTS5
//! does that inside a commit, for a quarter of a second now and then where half a million calls are stored. So it
//! is told not to, and asked for a little of it after each step.

use super::{Stored, reader};
use rusqlite::{Connection, params};
use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

/// Name of the index's cursor.
pub(super) const CURSOR: &str = "fts";
/// Most calls indexed in one transaction.
const STEP: u32 = 200;
/// Longest time spent on reading them where nothing else waits, and where calls come all the time.
const BUDGET: Duration = Duration::from_millis(15);
const BUDGET_UNDER_LOAD: Duration = Duration::from_millis(4);
/// Pages merged at a time (<https://sqlite.org/fts5.html#the_merge_command>): as many as keep up with steps of
/// [`STEP`] calls.
const MERGE_PAGES: u32 = 32;
/// Segments of one size at which FTS5 merges them after all; searches look into each segment.
const SEGMENTS_MAX: u32 = 256;
/// Longest text of one call that is indexed, in bytes.
const MAX_TEXT: usize = 256 << 10;
/// Most bytes of texts that wait for the index; those of further calls are read from the store.
const WAITING_MAX: usize = 8 << 20;

/// Bytes of all texts that wait for the index.
#[derive(Clone, Debug, Default)]
pub(super) struct Waiting(Arc<AtomicUsize>);

impl Waiting {
    /// Whether one more may wait.
    pub(super) fn has_room(&self) -> bool {
        self.0.load(Ordering::Relaxed) < WAITING_MAX
    }
}

/// The text of a call on its way to the index.
#[derive(Debug)]
pub(super) struct Text {
    text: String,
    waiting: Waiting,
}

impl Text {
    /// Counts `text` among those that wait.
    pub(super) fn new(text: String, waiting: &Waiting) -> Self {
        waiting.0.fetch_add(text.len(), Ordering::Relaxed);
        Self { text, waiting: waiting.clone() }
    }
}

impl Drop for Text {
    fn drop(&mut self) {
        self.waiting.0.fetch_sub(self.text.len(), Ordering::Relaxed);
    }
}

/// What the index has before it.
#[derive(Debug, Default)]
pub(super) struct Texts {
    /// Texts of stored calls, in order of `seq`.
    waiting: VecDeque<(i64, Text)>,
    /// Whether there is nothing to be merged, as far as is known.
    merged: bool,
}

impl Texts {
    /// The text of the call `seq`.
    pub(super) fn push(&mut self, seq: i64, text: Text) {
        if self.waiting.back().is_none_or(|(last, _)| *last < seq) {
            self.waiting.push_back((seq, text));
        }
    }

    /// The text of the call `seq`, if it is here; those of earlier calls are let go.
    fn take(&mut self, seq: i64) -> Option<Text> {
        while self.waiting.front().is_some_and(|(first, _)| *first < seq) {
            self.waiting.pop_front();
        }
        let found = self.waiting.front().is_some_and(|(first, _)| *first == seq);
        if found { self.waiting.pop_front().map(|(_, text)| text) } else { None }
    }

    /// Something was taken out of the index.
    pub(super) const fn took_out(&mut self) {
        self.merged = false;
    }

    /// Merges for about so long. True when there may be more.
    pub(super) fn merge_for(
        &mut self,
        conn: &Connection,
        time: Duration,
    ) -> rusqlite::Result<bool> {
        let begun = Instant::now();
        while self.merge(conn)? {
            if begun.elapsed() >= time {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Merges a little. True when there may be more.
    fn merge(&mut self, conn: &Connection) -> rusqlite::Result<bool> {
        if !self.merged {
            let before = conn.total_changes();
            conn.prepare_cached("INSERT INTO fts (fts, rank) VALUES ('merge', ?1)")?
                .execute([MERGE_PAGES])?;
            // The command itself counts as one change.
            self.merged = conn.total_changes() - before < 2;
        }
        Ok(!self.merged)
    }
}

/// Indexes the next few calls. True when there may be more.
pub(super) fn step(
    conn: &mut Connection,
    texts: &mut Texts,
    text_of: &(dyn Fn(Stored) -> String + Send + Sync),
    idle: bool,
) -> rusqlite::Result<bool> {
    let last = position(conn)?;
    let seqs = conn
        .prepare_cached("SELECT seq FROM calls WHERE seq > ?1 ORDER BY seq LIMIT ?2")?
        .query_map(params![last, STEP], |row| row.get(0))?
        .collect::<rusqlite::Result<Vec<i64>>>()?;
    let (started, budget) = (Instant::now(), if idle { BUDGET } else { BUDGET_UNDER_LOAD });
    let mut newest = None;
    let step = conn.transaction()?;
    for seq in &seqs {
        if let Some(text) = texts.take(*seq) {
            insert(&step, *seq, &text.text)?;
        } else {
            let stored = reader::load(&step, *seq)?;
            let text = stored.map(|stored| guarded(text_of, stored)).unwrap_or_default();
            insert(&step, *seq, &text)?;
        }
        newest = Some(*seq);
        if started.elapsed() > budget {
            break;
        }
    }
    let Some(newest) = newest else {
        drop(step);
        return texts.merge(conn);
    };
    step.prepare_cached("INSERT OR REPLACE INTO cursors (name, seq, holds) VALUES (?1, ?2, 0)")?
        .execute(params![CURSOR, newest])?;
    step.commit()?;
    texts.merged = false;
    let merges = texts.merge(conn)?;
    Ok(merges || seqs.len() == STEP as usize || seqs.last() != Some(&newest))
}

/// Leaves merging to [`step`]. Stands in the store from then on.
pub(super) fn configure(conn: &Connection) -> rusqlite::Result<()> {
    for (option, value) in [("automerge", 0), ("crisismerge", SEGMENTS_MAX)] {
        let is_set = "SELECT EXISTS (SELECT 1 FROM fts_config WHERE k = ?1 AND v = ?2)";
        if !conn.query_row(is_set, params![option, value], |row| row.get(0))? {
            conn.execute("INSERT INTO fts (fts, rank) VALUES (?1, ?2)", params![option, value])?;
        }
    }
    Ok(())
}

fn insert(conn: &Connection, seq: i64, text: &str) -> rusqlite::Result<()> {
    if text.is_empty() {
        return Ok(());
    }
    let end = text.floor_char_boundary(MAX_TEXT);
    conn.prepare_cached("INSERT OR REPLACE INTO fts (rowid, text) VALUES (?1, ?2)")?
        .execute(params![seq, text.get(..end)])?;
    Ok(())
}

/// Up to which `seq` calls are indexed.
pub(super) fn position(conn: &Connection) -> rusqlite::Result<i64> {
    conn.prepare_cached("SELECT coalesce(max(seq), 0) FROM cursors WHERE name = ?1")?
        .query_row([CURSOR], |row| row.get(0))
}

/// The extractor reads hostile bodies: a panic in it must not end the writer.
fn guarded(text_of: &(dyn Fn(Stored) -> String + Send + Sync), stored: Stored) -> String {
    let read = std::panic::AssertUnwindSafe(|| text_of(stored));
    std::panic::catch_unwind(read).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn segments(conn: &Connection) -> u32 {
        conn.query_row("SELECT count(DISTINCT segid) FROM fts_idx", [], |row| row.get(0)).unwrap()
    }

    #[test]
    fn segments_are_merged_a_little_at_a_time_and_every_word_is_found() {
        let conn = Connection::open_in_memory().unwrap();
        conn.execute_batch(
            "CREATE VIRTUAL TABLE fts USING fts5(text, content='', contentless_delete=1, tokenize='unicode61')",
        )
        .unwrap();
        configure(&conn).unwrap();
        (1..40).for_each(|seq| insert(&conn, seq, &format!("word{seq} common")).unwrap());
        assert_eq!(segments(&conn), 39, "nothing is merged unasked");
        let mut texts = Texts::default();
        for seq in 40..600 {
            insert(&conn, seq, &format!("word{seq} common")).unwrap();
            texts.merged = false;
            texts.merge(&conn).unwrap();
            assert!(segments(&conn) < 64, "{}", segments(&conn));
        }
        while texts.merge(&conn).unwrap() {}
        assert!(segments(&conn) < 12, "{}", segments(&conn));
        let count = |word: &str| -> u32 {
            conn.query_row("SELECT count(*) FROM fts WHERE fts MATCH ?1", [word], |row| row.get(0))
                .unwrap()
        };
        assert_eq!((count("common"), count("word2"), count("word599")), (599, 1, 1));
    }

    #[test]
    fn what_is_configured_already_is_not_written_again() {
        let conn = Connection::open_in_memory().unwrap();
        conn.execute_batch("CREATE VIRTUAL TABLE fts USING fts5(text, content='')").unwrap();
        configure(&conn).unwrap();
        let before = conn.total_changes();
        configure(&conn).unwrap();
        assert_eq!(conn.total_changes(), before);
    }
}
