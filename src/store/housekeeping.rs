//! What the writer does between commits: checkpoints, retention, room on a full disk.

use super::{DATABASE, StoreError};
use crate::{config, model::Timestamp};
use rusqlite::{Connection, params};
use std::{
    fs::{self, OpenOptions},
    io::Write,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

/// Pages in the write-ahead log at which it is copied into the file.
const CHECKPOINT_BYTES: u64 = 1000 * 4096;
/// Size of the write-ahead log at which it is cut short.
const TRUNCATE_BYTES: u64 = 64 << 20;
/// Rows removed in one transaction, so that the writer is never away for long.
const PRUNE_ROWS: i64 = 50;
/// Time spent on removing rows in one idle moment.
const PRUNE_TIME: Duration = Duration::from_millis(20);
/// How often sizes are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// A full disk leaves no room even for deleting: this much is kept back for that.
const RESERVE_BYTES: usize = 8 << 20;
const RESERVE: &str = "reserve";
/// A clock that jumps ahead by more than this must not empty the store.
const CLOCK_JUMP_MAX: Duration = Duration::from_hours(24);

/// Retention and checkpoints.
#[derive(Debug)]
pub struct Housekeeping {
    dir: PathBuf,
    options: config::Store,
    looked: Instant,
    /// Wall clock and monotonic clock, taken together.
    clock: (Timestamp, Instant),
    over_size: bool,
    last_checkpoint: u64,
}

impl Housekeeping {
    /// Of the store in `dir`.
    pub fn new(dir: &Path, options: &config::Store) -> Self {
        Self {
            dir: dir.to_owned(),
            options: options.clone(),
            looked: Instant::now(),
            clock: (Timestamp::now(), Instant::now()),
            over_size: false,
            last_checkpoint: 0,
        }
    }

    /// Makes the reserve if it is missing.
    pub fn reserve(&self) {
        let path = self.dir.join(RESERVE);
        if path.exists() {
            return;
        }
        let made = OpenOptions::new()
            .write(true)
            .create_new(true)
            .open(&path)
            .and_then(|mut file| file.write_all(&vec![0; RESERVE_BYTES]));
        if made.is_err() {
            fs::remove_file(&path).ok();
        }
    }

    /// A full disk: gives the reserve up, so that the next attempt can make room.
    pub fn make_room(&mut self, dir: &Path, error: &StoreError) {
        let full = match error {
            StoreError::Sqlite(rusqlite::Error::SqliteFailure(failure, _)) => {
                failure.code == rusqlite::ErrorCode::DiskFull
            }
            StoreError::Io(error) => error.kind() == std::io::ErrorKind::StorageFull,
            _ => false,
        };
        if full && fs::remove_file(dir.join(RESERVE)).is_ok() {
            tracing::warn!("the disk is full: the reserve was given up to make room");
            self.over_size = true;
        }
    }

    /// Copies the log into the file now and then; readers never do that.
    pub fn after_commit(&mut self, connection: &Connection) {
        let wal = size(&self.dir.join(format!("{DATABASE}-wal")));
        if wal >= TRUNCATE_BYTES {
            connection.execute_batch("PRAGMA wal_checkpoint(TRUNCATE)").ok();
            self.last_checkpoint = 0;
        } else if wal >= self.last_checkpoint + CHECKPOINT_BYTES {
            connection.execute_batch("PRAGMA wal_checkpoint(PASSIVE)").ok();
            self.last_checkpoint = wal;
        }
        if wal < self.last_checkpoint {
            self.last_checkpoint = 0;
        }
    }

    /// Nothing to write: checkpoint, then a little pruning.
    ///
    /// # Errors
    /// SQLite's.
    pub fn idle(&mut self, connection: &mut Connection) -> Result<(), StoreError> {
        connection.execute_batch("PRAGMA wal_checkpoint(PASSIVE)")?;
        self.last_checkpoint = 0;
        if self.looked.elapsed() < LOOK_EVERY && !self.over_size {
            return Ok(());
        }
        self.looked = Instant::now();
        let now = self.now();
        let started = Instant::now();
        let pages: i64 = connection.pragma_query_value(None, "page_count", |row| row.get(0))?;
        let free: i64 = connection.pragma_query_value(None, "freelist_count", |row| row.get(0))?;
        let page: i64 = connection.pragma_query_value(None, "page_size", |row| row.get(0))?;
        let used = u64::try_from((pages - free).saturating_mul(page)).unwrap_or(0);
        let mut over = used > self.options.max_size.0 || self.over_size;
        while started.elapsed() < PRUNE_TIME {
            let removed = prune(connection, now, &self.options, over)?;
            if removed == 0 {
                over = false;
                break;
            }
        }
        if over {
            self.over_size = used > self.options.max_size.0;
        } else {
            self.over_size = false;
            self.reserve();
        }
        connection.execute_batch("PRAGMA incremental_vacuum(64)")?;
        Ok(())
    }

    /// The wall clock, unless it jumped: then the time that has really passed.
    fn now(&self) -> Timestamp {
        let passed = i64::try_from(self.clock.1.elapsed().as_micros()).unwrap_or(i64::MAX);
        let expected = self.clock.0.plus_us(passed);
        let wall = Timestamp::now();
        let jump = i64::try_from(CLOCK_JUMP_MAX.as_micros()).unwrap_or(i64::MAX);
        if (wall.0 - expected.0).abs() > jump { expected } else { wall }
    }
}

fn size(path: &Path) -> u64 {
    fs::metadata(path).map_or(0, |metadata| metadata.len())
}

/// Bodies first, then calls; past the size limit the oldest of each, whatever their age.
fn prune(
    connection: &mut Connection,
    now: Timestamp,
    options: &config::Store,
    over_size: bool,
) -> Result<usize, StoreError> {
    let before = |period: config::Period| {
        let us = i64::try_from(period.0.as_micros()).unwrap_or(i64::MAX);
        if over_size { i64::MAX } else { now.0.saturating_sub(us) }
    };
    let transaction = connection.transaction()?;
    let mut removed = transaction
        .prepare_cached(
            "DELETE FROM bodies WHERE seq IN (SELECT b.seq FROM bodies b JOIN calls c USING (seq) \
             WHERE c.started_us < ?1 ORDER BY b.seq LIMIT ?2)",
        )?
        .execute(params![before(options.keep_bodies), PRUNE_ROWS])?;
    if removed == 0 {
        removed = transaction
            .prepare_cached(
                "DELETE FROM calls WHERE seq IN \
                 (SELECT seq FROM calls WHERE started_us < ?1 ORDER BY started_us LIMIT ?2)",
            )?
            .execute(params![before(options.keep_calls), PRUNE_ROWS])?;
    }
    transaction.commit()?;
    Ok(removed)
}
