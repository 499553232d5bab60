//! A copy of the whole store while it is in use.

use super::{Reader, StoreError, open};
use rusqlite::{
    Connection, OpenFlags,
    backup::{Backup, StepResult},
};
use std::path::Path;

/// Pages copied between two reports.
const STEP: i32 = 1024;

impl Reader {
    /// Copies the store, as it is at this moment, into the new file `to`. `progress` gets
    /// (done, total) in pages. Blocks as long as it takes.
    ///
    /// # Errors
    /// [`StoreError::Directory`] when `to` exists already; `SQLite`'s and the file system's.
    pub fn backup(&self, to: &Path, progress: &mut dyn FnMut(u64, u64)) -> Result<(), StoreError> {
        if to.try_exists()? {
            return Err(StoreError::Directory(format!("{} exists already", to.display())));
        }
        open::create(to)?;
        self.pool.read_within(None, |from| {
            let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
            let mut copy = Connection::open_with_flags(to, flags)?;
            // Inside one transaction all steps see the same moment, whatever is written meanwhile.
            let snapshot = from.transaction()?;
            snapshot.query_row("SELECT count(*) FROM meta", [], |_| Ok(()))?;
            {
                let backup = Backup::new(&snapshot, &mut copy)?;
                while backup.step(STEP)? != StepResult::Done {
                    let pages = backup.progress();
                    let count = |pages: i32| u64::try_from(pages).unwrap_or(0);
                    progress(count(pages.pagecount - pages.remaining), count(pages.pagecount));
                }
            }
            snapshot.finish()?;
            copy.close().map_err(|(_, error)| error.into())
        })
    }
}
