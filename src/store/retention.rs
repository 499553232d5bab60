//! Retention by age and by size, in small transactions in the writer's idle moments (R20, R23).

use super::{fulltext::Texts, schema::beside};
use crate::model::Timestamp;
use rusqlite::{Connection, params_from_iter};
use std::time::{Duration, Instant};

/// Rows pruned in one transaction: held short, so that a commit never waits long behind it.
const STEP: i64 = 50;
/// Free pages that are kept for new rows before the file is made smaller.
const FREE_PAGES: i64 = 2560;
/// Pages given back to the file system in one step.
const VACUUM_PAGES: i64 = 64;
/// Longest time in one step for getting words of calls that went out of the index.
pub(super) const MERGING: Duration = Duration::from_millis(5);
/// So much the store may grow meanwhile, as one part of so many of the quota.
const MERGING_PART: u64 = 16;
/// Pause between two looks when there was nothing to do.
const PAUSE: Duration = Duration::from_secs(1);
/// A jump of the wall clock by more than this, unexplained by the monotonic clock, stops pruning by age.
const JUMP_US: i64 = 86_400_000_000;

/// Why calls that went though a consumer waited for them are counted.
pub(super) const EXPIRED: &str = "expired_undelivered";

/// Rows of `table` that nobody waits for: every lane that holds has passed them, and none has them off
/// its path.
fn settled(table: &str) -> String {
    format!(
        "seq <= (SELECT coalesce(min(seq), 9223372036854775807) FROM cursors WHERE holds)
         AND NOT EXISTS (SELECT 1 FROM exceptions e JOIN cursors c
             ON c.name = 'sink:' || e.sink AND c.holds WHERE e.seq = {table}.seq)"
    )
}

/// What is pruned when.
#[derive(Debug)]
pub(super) struct Retention {
    keep_bodies: Duration,
    keep_calls: Duration,
    max_size: u64,
    /// Bytes in use up to which merging comes before pruning, while the quota is exceeded.
    patience: u64,
    /// Wall and monotonic clock when they were first read together.
    origin: (Timestamp, Instant),
    warned: bool,
    next: Instant,
}

impl Retention {
    pub(super) fn new(options: &crate::config::Store) -> Self {
        Self {
            keep_bodies: options.keep_bodies.0,
            keep_calls: options.keep_calls.0,
            max_size: options.max_size.0,
            patience: u64::MAX,
            origin: (Timestamp::now(), Instant::now()),
            warned: false,
            next: Instant::now(),
        }
    }

    /// One small step; `expired` is told of calls that went though a consumer waited for them, `texts` that
    /// the index has words of calls that went. True when there is more to do.
    pub(super) fn step(
        &mut self,
        conn: &mut Connection,
        texts: &mut Texts,
        expired: &mut dyn FnMut(u64),
    ) -> rusqlite::Result<bool> {
        if Instant::now() < self.next {
            return Ok(false);
        }
        let pruned = self.prune_by_age(conn)? || self.prune_by_size(conn, texts, expired)?;
        if pruned {
            texts.took_out();
        }
        let more = pruned || shrink(conn)?;
        if !more {
            self.next = Instant::now() + PAUSE;
        }
        Ok(more)
    }

    fn prune_by_age(&mut self, conn: &mut Connection) -> rusqlite::Result<bool> {
        let now = Timestamp::now();
        if self.clock_jumped(now) {
            return Ok(false);
        }
        let bodies = select(
            conn,
            &format!(
                "SELECT seq FROM calls WHERE has_bodies = 1 AND started_at < ?1 AND {}
                 ORDER BY started_at LIMIT ?2",
                settled("calls")
            ),
            &before(now, self.keep_bodies),
        )?;
        if !bodies.is_empty() {
            return prune_bodies(conn, &bodies).map(|()| true);
        }
        let calls = select(
            conn,
            &format!(
                "SELECT seq FROM calls WHERE started_at < ?1 AND {} ORDER BY started_at LIMIT ?2",
                settled("calls")
            ),
            &before(now, self.keep_calls),
        )?;
        prune_calls(conn, &calls)?;
        Ok(!calls.is_empty())
    }

    /// The oldest bodies go first, then the oldest calls; what a consumer still waits for goes last
    /// and is counted. Words of calls that went take room until segments of the index are merged: calls must
    /// not go for that.
    fn prune_by_size(
        &mut self,
        conn: &mut Connection,
        texts: &mut Texts,
        expired: &mut dyn FnMut(u64),
    ) -> rusqlite::Result<bool> {
        let used = used_bytes(conn)?;
        if used <= self.max_size {
            self.patience = u64::MAX;
            return Ok(false);
        }
        let growth = self.max_size / MERGING_PART;
        // Goes down with the store, never up: under a load that leaves no time for merging calls go all the same.
        self.patience = self
            .patience
            .min(used.saturating_add(growth))
            .max(self.max_size.saturating_add(growth));
        // On a full disk merging fails, and pruning may not.
        if texts.merge_for(conn, MERGING).unwrap_or(false) && used <= self.patience {
            return Ok(true);
        }
        if used_bytes(conn)? <= self.max_size {
            return Ok(true);
        }
        let bodies = select(
            conn,
            &format!(
                "SELECT seq FROM bodies WHERE {} AND ?1 ORDER BY seq LIMIT ?2",
                settled("bodies")
            ),
            &true,
        )?;
        if !bodies.is_empty() {
            return prune_bodies(conn, &bodies).map(|()| true);
        }
        let calls = select(
            conn,
            &format!(
                "SELECT seq FROM calls WHERE {} AND ?1 ORDER BY seq LIMIT ?2",
                settled("calls")
            ),
            &true,
        )?;
        if !calls.is_empty() {
            return prune_calls(conn, &calls).map(|()| true);
        }
        let waiting = select(conn, "SELECT seq FROM calls WHERE ?1 ORDER BY seq LIMIT ?2", &true)?;
        prune_calls(conn, &waiting)?;
        if !waiting.is_empty() {
            expired(waiting.len() as u64);
        }
        Ok(!waiting.is_empty())
    }

    fn clock_jumped(&mut self, now: Timestamp) -> bool {
        let passed = i64::try_from(self.origin.1.elapsed().as_micros()).unwrap_or(i64::MAX);
        let jumped = (now.0 - self.origin.0.plus_us(passed).0).abs() > JUMP_US;
        if jumped && !self.warned {
            tracing::warn!(
                "the clock jumped by more than a day: nothing is pruned by age until a restart"
            );
        }
        self.warned = jumped;
        jumped
    }
}

/// Bytes in use: pages of the file that hold something, and the write-ahead log.
pub(super) fn file_bytes(file: &std::path::Path) -> u64 {
    let len = |path: &std::path::Path| std::fs::metadata(path).map_or(0, |file| file.len());
    len(file) + len(&beside(file, "-wal"))
}

fn used_bytes(conn: &Connection) -> rusqlite::Result<u64> {
    let read = |name| conn.pragma_query_value(None, name, |row| row.get::<_, i64>(0));
    let pages = read("page_count")?.saturating_sub(read("freelist_count")?);
    Ok(u64::try_from(pages.saturating_mul(read("page_size")?)).unwrap_or(0))
}

/// Gives free pages back to the file system. True when there is more to give.
fn shrink(conn: &Connection) -> rusqlite::Result<bool> {
    let free: i64 = conn.pragma_query_value(None, "freelist_count", |row| row.get(0))?;
    if free <= FREE_PAGES {
        return Ok(false);
    }
    conn.execute_batch(&format!("PRAGMA incremental_vacuum({VACUUM_PAGES})"))?;
    Ok(true)
}

fn before(now: Timestamp, age: Duration) -> String {
    let age = i64::try_from(age.as_micros()).unwrap_or(i64::MAX);
    now.plus_us(age.saturating_neg()).to_string()
}

fn select(conn: &Connection, sql: &str, bound: &dyn rusqlite::ToSql) -> rusqlite::Result<Vec<i64>> {
    conn.prepare_cached(sql)?.query_map([bound, &STEP], |row| row.get(0))?.collect()
}

fn prune_bodies(conn: &mut Connection, seqs: &[i64]) -> rusqlite::Result<()> {
    let step = conn.transaction()?;
    for sql in [
        "DELETE FROM bodies WHERE seq IN",
        "UPDATE calls SET has_bodies = 0 WHERE seq IN",
        "DELETE FROM fts WHERE rowid IN",
    ] {
        each(&step, sql, seqs)?;
    }
    step.commit()
}

fn prune_calls(conn: &mut Connection, seqs: &[i64]) -> rusqlite::Result<()> {
    if seqs.is_empty() {
        return Ok(());
    }
    let step = conn.transaction()?;
    each(&step, "DELETE FROM calls WHERE seq IN", seqs)?;
    each(&step, "DELETE FROM fts WHERE rowid IN", seqs)?;
    step.commit()
}

fn each(conn: &Connection, sql: &str, seqs: &[i64]) -> rusqlite::Result<()> {
    let marks = vec!["?"; seqs.len()].join(", ");
    conn.prepare_cached(&format!("{sql} ({marks})"))?.execute(params_from_iter(seqs))?;
    Ok(())
}
