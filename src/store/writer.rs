//! The writer thread: it alone writes. Commits groups, survives trouble, tidies up in idle moments.

use super::{
    StoreError, fulltext, lanes, open,
    pool::file_id,
    queue::{Next, Shared, Work, answer},
    reserve, retention, rollup,
    schema::{self, beside},
};
use rusqlite::{Connection, TransactionBehavior, params};
use std::{
    collections::HashSet,
    fs::File,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicI32, Ordering},
    },
    time::{Duration, Instant},
};

/// How long nothing may come before the writer counts as idle.
const IDLE: Duration = Duration::from_millis(100);
/// Longest time without background work under load.
const FAIR: Duration = Duration::from_millis(250);
/// How long upkeep keeps a processor at a time, and how long it leaves it to others after that. To yield is
/// not enough: the scheduler lets a thread that has work go on to the end of its slice, some milliseconds.
const STRETCH: Duration = Duration::from_micros(300);
const REST: Duration = Duration::from_micros(50);
/// Steps of SQLite's machine between two looks at the clock.
const LOOK: i32 = 50;
/// How often the reserve is looked after: on a disk that stays full it cannot be made again at once.
const RESERVE: Duration = Duration::from_secs(30);
/// Pages in the write-ahead log that cause a checkpoint.
const CHECKPOINT_PAGES: i32 = 1000;
/// Size of the write-ahead log beyond which it is cut.
const MAX_WAL: u64 = 64 << 20;
/// Size of the write-ahead log at which cutting it waits for the readers that are in its way: where one
/// follows upon the other, there is never a moment without.
const WAL_URGENT: u64 = 80 << 20;
/// How long it waits for them: longer than a read of calltap's own may take. Records queue meanwhile.
const READERS: Duration = Duration::from_millis(2500);
/// Pause after a wait that was in vain; twice as long after each further one, up to the longest: a reader
/// may never end.
pub(super) const READERS_PAUSE: Duration = Duration::from_secs(2);
const READERS_PAUSE_MAX: Duration = Duration::from_mins(1);
/// Longest pause between two tries in times of trouble.
const MAX_PAUSE: Duration = Duration::from_secs(2);
/// How long closing goes on trying to save what waits.
const CLOSING: Duration = Duration::from_secs(5);

/// The text of a call for full-text search.
pub(super) type Extractor = Arc<dyn Fn(super::Stored) -> String + Send + Sync>;

/// Everything the thread owns.
pub(super) struct Writer {
    pub(super) shared: Arc<Shared>,
    pub(super) conn: Option<Connection>,
    pub(super) retention: retention::Retention,
    pub(super) extractor: Arc<Mutex<Option<Extractor>>>,
    /// What the next calls to be indexed say.
    pub(super) texts: fulltext::Texts,
    pub(super) pages: Arc<AtomicI32>,
    /// When trouble first met the wish to close.
    pub(super) closing_since: Option<Instant>,
    /// The file that `conn` is open on.
    pub(super) file_id: u64,
    /// When readers may be waited for again.
    pub(super) next_wait: Instant,
    /// How long not, after the next one that is in vain.
    pub(super) wait_pause: Duration,
    /// When the reserve is next looked after.
    pub(super) next_reserve: Instant,
    /// Held for life.
    pub(super) _lock: File,
}

impl Writer {
    /// Runs until the store is closed and everything is on disk.
    pub(super) fn run(mut self) {
        self.watch_wal();
        let (mut patience, mut last_upkeep) = (IDLE, Instant::now());
        loop {
            match self.shared.next(patience) {
                Next::Group(group) => {
                    self.commit(group);
                    patience = IDLE;
                    // Under load upkeep gets its share, so that it never falls behind for good.
                    if last_upkeep.elapsed() < FAIR {
                        continue;
                    }
                    self.upkeep(false);
                }
                Next::Idle => patience = if self.upkeep(true) { Duration::ZERO } else { IDLE },
                Next::Closed => break,
            }
            last_upkeep = Instant::now();
        }
        self.save_dropped();
        if let Some(conn) = self.conn.take() {
            checkpoint(&conn, "TRUNCATE", Duration::ZERO);
            drop(conn.close());
        }
    }

    /// Brings a group to disk, however long it takes; nothing that was confirmed is lost, nothing is
    /// stored twice.
    fn commit(&mut self, mut group: Vec<Work>) {
        let mut pause = Duration::from_millis(50);
        let mut damaged = false;
        loop {
            let failure = match self.try_commit(&mut group, damaged) {
                Ok(seqs) => {
                    self.confirm(group, &seqs);
                    return;
                }
                Err(failure) => failure,
            };
            let reason = format!("the store cannot be written: {failure}");
            self.shared.trouble(&reason);
            for work in &mut group {
                answer(work, &reason);
            }
            self.conn = None;
            damaged = is_damage(&failure);
            if is_full(&failure) {
                self.make_room();
            }
            let closing = self.shared.pause(pause);
            if closing && self.closing_since.get_or_insert_with(Instant::now).elapsed() > CLOSING {
                let lost: u64 = group.iter().map(Work::records).sum();
                tracing::error!(
                    lost,
                    "records are lost: the store could not be written until the end"
                );
                self.shared.count_dropped(super::queue::DROPPED, lost);
                self.shared.group_done();
                return;
            }
            if closing {
                // `pause` returns at once while closing.
                std::thread::sleep(pause);
            }
            pause = (pause * 2).min(MAX_PAUSE);
        }
    }

    /// One try: on a fresh connection if the last one failed, since a failed sync must not be repeated
    /// on the same handle. Gives the `seq` of each call, and the rows that each change of a lane met.
    fn try_commit(
        &mut self,
        group: &mut [Work],
        damaged: bool,
    ) -> Result<Vec<Option<i64>>, StoreError> {
        let last = *self.shared.committed.borrow();
        let reopened = self.conn.is_none();
        if reopened {
            self.reopen(damaged)?;
        }
        let conn = self.conn.as_mut().ok_or_else(|| StoreError::Invalid("no connection".into()))?;
        #[cfg(test)]
        limit_pages(conn, &self.shared)?;
        let mut ended = HashSet::new();
        ended.extend(group.iter().filter_map(|work| match work {
            Work::Call(row, _) => Some(row.id),
            Work::Started(_) | Work::Lane(..) => None,
        }));
        let unsynced = group.iter().all(Work::is_progress);
        if unsynced {
            conn.pragma_update(None, "synchronous", "NORMAL")?;
        }
        let step = conn.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let mut seqs = Vec::with_capacity(group.len());
        for work in group {
            seqs.push(match work {
                Work::Started(row) if ended.contains(&row.id) => None,
                Work::Started(row) => {
                    row.insert(&step)?;
                    None
                }
                Work::Call(row, _) => {
                    // A commit may have reached the disk though it reported failure.
                    let stored = if reopened { find(&step, row.id, last)? } else { None };
                    Some(stored.map_or_else(|| row.insert(&step), Ok)?)
                }
                Work::Lane(change, _) => Some(lanes::apply(&step, &change.0, &change.1)?),
            });
        }
        step.commit()?;
        if unsynced {
            conn.pragma_update(None, "synchronous", "FULL")?;
        }
        Ok(seqs)
    }

    fn confirm(&mut self, group: Vec<Work>, seqs: &[Option<i64>]) {
        let calls = group.iter().zip(seqs).filter(|(work, _)| matches!(work, Work::Call(..)));
        if let Some(last) = calls.filter_map(|(_, seq)| *seq).max() {
            // A record that was there already has an old place.
            self.shared.committed.send_if_modified(|committed| {
                let grew = last > *committed;
                *committed = last.max(*committed);
                grew
            });
        }
        self.shared.group_done();
        for (mut work, seq) in group.into_iter().zip(seqs) {
            if let (Work::Call(row, _), Some(seq)) = (&mut work, seq)
                && let Some(text) = row.text.take()
            {
                self.texts.push(*seq, text);
            }
            if let (Work::Call(_, Some(done)) | Work::Lane(_, Some(done)), Some(seq)) = (work, seq)
            {
                // Whoever waited may be gone.
                drop(done.send(Ok(*seq)));
            }
        }
        if let Some(conn) = &self.conn
            && self.pages.load(Ordering::Relaxed) >= CHECKPOINT_PAGES
        {
            self.pages.store(0, Ordering::Relaxed);
            checkpoint(conn, "PASSIVE", Duration::ZERO);
        }
    }

    /// On a full disk: the reserve first, then whatever retention allows to go.
    fn make_room(&mut self) {
        reserve::release(&self.shared.file);
        self.next_reserve = Instant::now() + RESERVE;
        if self.reopen(false).is_ok()
            && let Some(conn) = &mut self.conn
        {
            let mut expired = |lost| self.shared.count_dropped(retention::EXPIRED, lost);
            put_off(self.retention.step(conn, &mut self.texts, &mut expired));
        }
        self.conn = None;
    }

    fn reopen(&mut self, check: bool) -> Result<(), StoreError> {
        let last = *self.shared.committed.borrow();
        self.shared.file.parent().map_or(Ok(()), open::directory)?;
        let open::Opened { conn, last: found, .. } = open::sound(&self.shared.file, check, false)?;
        // Where a damaged file gave way to a fresh one, `seq` still only grows.
        if found < last {
            conn.execute("DELETE FROM sqlite_sequence WHERE name = 'calls'", [])?;
            conn.execute("INSERT INTO sqlite_sequence (name, seq) VALUES ('calls', ?1)", [last])?;
        }
        self.conn = Some(conn);
        self.file_id = file_id(&self.shared.file);
        self.watch_wal();
        Ok(())
    }

    fn watch_wal(&mut self) {
        let pages = Arc::clone(&self.pages);
        if let Some(conn) = &mut self.conn
            && let Err(error) = conn.wal_hook(Some(move |_: &mut rusqlite::hooks::Wal, count| {
                pages.store(count, Ordering::Relaxed);
                Ok(())
            }))
        {
            tracing::warn!(%error, "the write-ahead log is not watched");
        }
    }

    /// One small step of everything that can wait. True when there is more to do at once.
    fn upkeep(&mut self, idle: bool) -> bool {
        if self.conn.is_some() && file_id(&self.shared.file) != self.file_id {
            tracing::error!("the store's file was removed or replaced; a fresh one is started");
            self.conn = None;
            if let Err(error) = self.reopen(false) {
                self.shared.trouble(&format!("the store cannot be opened: {error}"));
            }
        }
        self.save_dropped();
        let Some(conn) = &mut self.conn else { return false };
        if idle {
            if self.next_reserve <= Instant::now() {
                self.next_reserve = Instant::now() + RESERVE;
                reserve::keep(&self.shared.file);
            }
            if self.pages.swap(0, Ordering::Relaxed) > 0 {
                checkpoint(conn, "PASSIVE", Duration::ZERO);
            }
        }
        let wal = std::fs::metadata(beside(&self.shared.file, "-wal")).map_or(0, |wal| wal.len());
        if wal > MAX_WAL {
            let is_patient = wal > WAL_URGENT && self.next_wait <= Instant::now();
            let wait = if is_patient { READERS } else { Duration::ZERO };
            if checkpoint(conn, "TRUNCATE", wait) {
                self.wait_pause = READERS_PAUSE;
            } else if is_patient {
                self.next_wait = Instant::now() + self.wait_pause;
                self.wait_pause = (self.wait_pause * 2).min(READERS_PAUSE_MAX);
            }
        }
        let extractor = self.extractor.lock().unwrap_or_else(PoisonError::into_inner).clone();
        put_off(conn.progress_handler(LOOK, Some(rest_often())).map(|()| false));
        // All can be done again: what a power cut takes of it need not be on disk at once. A count of
        // what was pruned is never there without that: the log keeps their order.
        let indexed = conn.pragma_update(None, "synchronous", "NORMAL").and_then(|()| {
            let texts = &mut self.texts;
            extractor.map_or(Ok(false), |text_of| fulltext::step(conn, texts, &*text_of, idle))
        });
        let rolled = rollup::step(conn);
        let mut expired = |lost| self.shared.count_dropped(retention::EXPIRED, lost);
        let pruned = self.retention.step(conn, &mut self.texts, &mut expired);
        put_off(conn.pragma_update(None, "synchronous", "FULL").map(|()| false));
        put_off(conn.progress_handler(0, None::<fn() -> bool>).map(|()| false));
        put_off(indexed) | put_off(rolled) | put_off(pruned)
    }

    fn save_dropped(&mut self) {
        let Some(dropped) = self.shared.unsaved_dropped() else { return };
        let saved = self.conn.as_mut().is_some_and(|conn| {
            let mut save = || -> rusqlite::Result<()> {
                let step = conn.transaction()?;
                for (reason, count) in &dropped {
                    step.prepare_cached(
                        "INSERT OR REPLACE INTO dropped (reason, count) VALUES (?1, ?2)",
                    )?
                    .execute(params![reason, i64::try_from(*count).unwrap_or(i64::MAX)])?;
                }
                step.commit()
            };
            save().is_ok()
        });
        if !saved {
            self.shared.dropped_not_saved();
        }
    }
}

/// What SQLite calls again and again while upkeep runs. Never stops it.
fn rest_often() -> impl FnMut() -> bool + Send + 'static {
    let mut since = Instant::now();
    move || {
        if since.elapsed() > STRETCH {
            std::thread::sleep(REST);
            since = Instant::now();
        }
        false
    }
}

/// Upkeep that fails is tried again later; the records come first.
fn put_off(step: rusqlite::Result<bool>) -> bool {
    step.unwrap_or_else(|error| {
        tracing::warn!(%error, "upkeep of the store was put off");
        false
    })
}

/// The `seq` of the call `id` if it was stored after `last`.
fn find(conn: &Connection, id: uuid::Uuid, last: i64) -> rusqlite::Result<Option<i64>> {
    use rusqlite::OptionalExtension;
    conn.prepare_cached("SELECT seq FROM calls WHERE id = ?1 AND seq > ?2")?
        .query_row(params![id.to_string(), last], |row| row.get(0))
        .optional()
}

/// Best effort: a checkpoint that fails is tried again later. A reader in the way holds up the commits
/// behind this for as long as it is waited for. Whether no reader was in the way.
fn checkpoint(conn: &Connection, mode: &str, wait: Duration) -> bool {
    let run = || {
        conn.busy_timeout(wait)?;
        let done = conn
            .query_row(&format!("PRAGMA wal_checkpoint({mode})"), [], |row| row.get::<_, bool>(0));
        conn.busy_timeout(schema::BUSY)?;
        done
    };
    // The first column says whether something was in the way.
    match run() {
        Ok(busy) => !busy,
        Err(error) => {
            tracing::debug!(%error, mode, "checkpoint put off");
            false
        }
    }
}

fn is_damage(error: &StoreError) -> bool {
    matches!(error, StoreError::Sqlite(error) if schema::is_damage(error))
}

fn is_full(error: &StoreError) -> bool {
    let StoreError::Sqlite(error) = error else { return false };
    matches!(
        error.sqlite_error_code(),
        Some(rusqlite::ErrorCode::DiskFull | rusqlite::ErrorCode::SystemIoFailure)
    )
}

/// Tests simulate a full disk by a limit on the file.
#[cfg(test)]
fn limit_pages(conn: &Connection, shared: &Shared) -> rusqlite::Result<()> {
    match shared.max_pages.load(Ordering::Relaxed) {
        0 => Ok(()),
        limit => conn.query_row(&format!("PRAGMA max_page_count = {limit}"), [], |_| Ok(())),
    }
}
