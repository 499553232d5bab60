//! The writer: one thread, the only writing connection, group commit.
//!
//! Invariant: what was acknowledged is on disk; what was not is still in memory, or counted.

use super::{
    Health, Started, StoreError, housekeeping::Housekeeping, open_writer, row, row::Packed,
};
use rusqlite::Connection;
use std::{
    collections::HashMap,
    path::PathBuf,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
        mpsc::{Receiver, RecvTimeoutError, Sender},
    },
    time::Duration,
};
use tokio::sync::{oneshot, watch};

/// Most records in one transaction.
const BATCH_ROWS: usize = 256;
/// Most bytes in one transaction, about.
const BATCH_BYTES: u64 = 4 << 20;
/// Bytes that may wait for the writer.
pub const QUEUE_BYTES: u64 = 64 << 20;
/// The writer tidies up when nothing came for this long.
const IDLE: Duration = Duration::from_millis(200);
/// Longest pause between attempts while the store is in trouble.
const TROUBLE_PAUSE_MAX: Duration = Duration::from_secs(5);

/// Told the `seq` of a record once it is committed.
pub type Waiter = oneshot::Sender<Result<i64, String>>;

/// A message to the writer.
#[derive(Debug)]
pub enum Job {
    /// A finished call.
    Append(Box<Packed>, Option<Waiter>),
    /// Calls that went upstream.
    Journal(Vec<Started>),
    /// A record that could not be kept.
    Dropped(&'static str),
    /// Commit, tidy up, end.
    Close(Sender<()>),
}

/// What the writer tells the others.
#[derive(Debug, Default)]
pub struct State {
    /// Bytes waiting.
    pub waiting_bytes: AtomicU64,
    /// Records waiting.
    pub waiting: AtomicU64,
    /// Trouble, and what was dropped.
    pub health: Mutex<Health>,
}

/// The writer thread.
#[derive(Debug)]
pub struct Writer {
    /// Data directory.
    pub dir: PathBuf,
    /// The connection; `None` between an error and the next attempt.
    pub connection: Option<Connection>,
    /// From everybody.
    pub jobs: Receiver<Job>,
    /// To everybody.
    pub state: Arc<State>,
    /// Highest committed `seq`.
    pub committed: watch::Sender<i64>,
    /// Retention and checkpoints.
    pub housekeeping: Housekeeping,
}

#[derive(Default)]
struct Batch {
    entries: Vec<(Box<Packed>, Option<Waiter>)>,
    bytes: u64,
    started: Vec<Started>,
    dropped: HashMap<&'static str, u64>,
    close: Option<Sender<()>>,
}

impl Batch {
    fn add(&mut self, job: Job) {
        match job {
            Job::Append(packed, waiter) => {
                self.bytes += packed.size();
                self.entries.push((packed, waiter));
            }
            Job::Journal(started) => self.started.extend(started),
            Job::Dropped(reason) => *self.dropped.entry(reason).or_default() += 1,
            Job::Close(done) => self.close = Some(done),
        }
    }

    fn is_full(&self) -> bool {
        self.entries.len() + self.started.len() >= BATCH_ROWS
            || self.bytes >= BATCH_BYTES
            || self.close.is_some()
    }

    fn is_empty(&self) -> bool {
        self.entries.is_empty() && self.started.is_empty() && self.dropped.is_empty()
    }
}

impl Writer {
    /// Works until told to close, or nobody is left to tell.
    pub fn run(mut self) {
        loop {
            let mut batch = Batch::default();
            match self.jobs.recv_timeout(IDLE) {
                Ok(job) => batch.add(job),
                Err(RecvTimeoutError::Timeout) => {
                    self.tidy();
                    continue;
                }
                Err(RecvTimeoutError::Disconnected) => break,
            }
            // Whatever waits goes along; nothing is waited for.
            while !batch.is_full() {
                let Ok(job) = self.jobs.try_recv() else { break };
                batch.add(job);
            }
            let close = batch.close.take();
            if !batch.is_empty() {
                self.commit(batch, close.is_some());
            }
            if let Some(connection) = &self.connection {
                self.housekeeping.after_commit(connection);
            }
            if let Some(done) = close {
                self.finish();
                done.send(()).ok();
                return;
            }
        }
        self.finish();
    }

    fn tidy(&mut self) {
        if let Some(connection) = &mut self.connection
            && let Err(error) = self.housekeeping.idle(connection)
        {
            tracing::warn!(%error, "the store could not be tidied");
        }
    }

    fn finish(&mut self) {
        if let Some(connection) = &self.connection {
            connection.execute_batch("PRAGMA wal_checkpoint(TRUNCATE)").ok();
        }
        self.connection = None;
    }

    /// Commits the batch, however long that takes; when closing, a few attempts are all it gets.
    fn commit(&mut self, mut batch: Batch, closing: bool) {
        let mut pause = Duration::from_millis(50);
        for attempt in 0_u32.. {
            match self.try_commit(&mut batch) {
                Ok(seqs) => return self.acknowledge(batch, &seqs),
                Err(error) => self.trouble(&mut batch, &error),
            }
            if closing && attempt >= 3 {
                tracing::error!(
                    records = batch.entries.len(),
                    "records are lost: the store could not be written before the end"
                );
                return;
            }
            std::thread::sleep(pause);
            pause = (pause * 2).min(TROUBLE_PAUSE_MAX);
        }
    }

    fn try_commit(&mut self, batch: &mut Batch) -> Result<Vec<i64>, StoreError> {
        let connection = match &mut self.connection {
            Some(connection) => connection,
            empty => empty.insert(open_writer(&self.dir)?),
        };
        let transaction = connection.transaction()?;
        let mut seqs = Vec::with_capacity(batch.entries.len());
        for started in &batch.started {
            row::insert_started(&transaction, started)?;
        }
        for (packed, _) in &mut batch.entries {
            let id = packed.id().to_string();
            let seq = match packed.insert(&transaction) {
                Err(error) if is_taken(&error) => {
                    packed.rename();
                    packed.insert(&transaction)?
                }
                inserted => inserted?,
            };
            transaction.prepare_cached("DELETE FROM journal WHERE id = ?1")?.execute([id])?;
            seqs.push(seq);
        }
        for (reason, count) in &batch.dropped {
            transaction
                .prepare_cached(
                    "INSERT INTO dropped (reason, count) VALUES (?1, ?2) \
                     ON CONFLICT (reason) DO UPDATE SET count = count + excluded.count",
                )?
                .execute(rusqlite::params![reason, i64::try_from(*count).unwrap_or(i64::MAX)])?;
        }
        transaction.commit()?;
        Ok(seqs)
    }

    fn acknowledge(&mut self, batch: Batch, seqs: &[i64]) {
        self.state.waiting_bytes.fetch_sub(batch.bytes, Ordering::Relaxed);
        let count = u64::try_from(batch.entries.len()).unwrap_or(0);
        self.state.waiting.fetch_sub(count, Ordering::Relaxed);
        if let Ok(mut health) = self.state.health.lock() {
            if let Some(trouble) = health.trouble.take() {
                tracing::info!(trouble, "the store can be written again");
            }
            for (reason, count) in batch.dropped {
                match health.dropped.iter_mut().find(|(have, _)| have == reason) {
                    Some((_, total)) => *total += count,
                    None => health.dropped.push((reason.to_owned(), count)),
                }
            }
        }
        for ((_, waiter), seq) in batch.entries.into_iter().zip(seqs) {
            if let Some(waiter) = waiter {
                waiter.send(Ok(*seq)).ok();
            }
        }
        if let Some(last) = seqs.last() {
            self.committed.send_replace(*last);
        }
    }

    /// After a failed commit the file may hold anything up to it: the connection goes, and the next
    /// one recovers. Whoever waits is told now; the records themselves stay.
    fn trouble(&mut self, batch: &mut Batch, error: &StoreError) {
        self.connection = None;
        self.housekeeping.make_room(&self.dir, error);
        let text = error.to_string();
        for (_, waiter) in &mut batch.entries {
            if let Some(waiter) = waiter.take() {
                waiter.send(Err(text.clone())).ok();
            }
        }
        if let Ok(mut health) = self.state.health.lock() {
            if health.trouble.is_none() {
                tracing::error!(
                    error = text,
                    "the store cannot be written; records wait in memory"
                );
            }
            health.trouble = Some(text);
        }
    }
}

/// The id belongs to an earlier call.
fn is_taken(error: &StoreError) -> bool {
    matches!(
        error,
        StoreError::Sqlite(rusqlite::Error::SqliteFailure(failure, Some(message)))
            if failure.code == rusqlite::ErrorCode::ConstraintViolation
                && message.contains("calls.id")
    )
}
