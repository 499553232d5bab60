//! A small pool of read-only connections, each read with a deadline.

use super::{StoreError, schema};
use rusqlite::Connection;
use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

/// Longest read: a long reader keeps the write-ahead log from being reused (R24).
const DEADLINE: Duration = Duration::from_secs(2);
/// Longest read of one who would rather wait than go without.
const PATIENT: Duration = Duration::from_secs(30);
/// Most idle connections.
const POOL: usize = 8;

/// What the clones of a reader share.
#[derive(Debug)]
pub(super) struct Pool {
    pub(super) file: PathBuf,
    idle: Mutex<Vec<(FileId, Connection)>>,
    deadline: Duration,
}

/// Tells a fresh file from the one that a connection was opened on.
type FileId = u64;

impl Pool {
    pub(super) fn new(file: PathBuf) -> Arc<Self> {
        Self::with_deadline(file, DEADLINE)
    }

    pub(super) fn patient(&self) -> Arc<Self> {
        Self::with_deadline(self.file.clone(), PATIENT)
    }

    pub(super) fn with_deadline(file: PathBuf, deadline: Duration) -> Arc<Self> {
        Arc::new(Self { file, idle: Mutex::default(), deadline })
    }

    /// Runs `read` on a connection of its own, within the deadline.
    pub(super) fn read<T>(
        &self,
        read: impl FnOnce(&mut Connection) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        self.read_within(Some(self.deadline), read)
    }

    pub(super) fn read_within<T>(
        &self,
        deadline: Option<Duration>,
        read: impl FnOnce(&mut Connection) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let id = file_id(&self.file);
        let mut conn = match self.take(id) {
            Some(conn) => conn,
            None => schema::open_reader(&self.file)?,
        };
        if let Some(deadline) = deadline {
            let end = Instant::now() + deadline;
            conn.progress_handler(1000, Some(move || Instant::now() > end))?;
        }
        let result = read(&mut conn);
        conn.progress_handler(0, None::<fn() -> bool>)?;
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.len() < POOL {
            idle.push((id, conn));
        }
        match result {
            Err(StoreError::Sqlite(error)) if ran_out(&error) => Err(StoreError::Deadline),
            other => other,
        }
    }

    fn take(&self, id: FileId) -> Option<Connection> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        idle.retain(|(of, _)| *of == id);
        idle.pop().map(|(_, conn)| conn)
    }
}

/// Whether a read was stopped at its deadline.
pub(super) fn ran_out(error: &rusqlite::Error) -> bool {
    error.sqlite_error_code() == Some(rusqlite::ErrorCode::OperationInterrupted)
}

/// Tells one file at this path from another; 0 when there is none.
#[cfg(unix)]
pub(super) fn file_id(file: &Path) -> FileId {
    use std::os::unix::fs::MetadataExt;
    std::fs::metadata(file).map_or(0, |file| file.ino())
}

#[cfg(not(unix))]
pub(super) fn file_id(_file: &Path) -> FileId {
    0
}
