//! The full-text index: a cursor over the record log, fed when the writer has nothing else to do.

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

/// Texts of stored calls, in order of `seq`.
#[derive(Debug, Default)]
pub(super) struct Texts(VecDeque<(i64, Text)>);

impl Texts {
    /// The text of the call `seq`.
    pub(super) fn push(&mut self, seq: i64, text: Text) {
        if self.0.back().is_none_or(|(last, _)| *last < seq) {
            self.0.push_back((seq, text));
        }
    }

    /// The text of the call `seq`, if it is here; those of earlier calls are let go.
    fn take(&mut self, seq: i64) -> Option<Text> {
        while self.0.front().is_some_and(|(first, _)| *first < seq) {
            self.0.pop_front();
        }
        let found = self.0.front().is_some_and(|(first, _)| *first == seq);
        if found { self.0.pop_front().map(|(_, text)| text) } else { None }
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
    let Some(newest) = newest else { return Ok(false) };
    step.prepare_cached("INSERT OR REPLACE INTO cursors (name, seq, holds) VALUES (?1, ?2, 0)")?
        .execute(params![CURSOR, newest])?;
    step.commit()?;
    Ok(seqs.len() == STEP as usize || seqs.last() != Some(&newest))
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
