//! Records derived anew, in the order of the record log: a step is one transaction over a few calls, and
//! how far it came is part of it. An interruption at any moment loses nothing; the next run goes on there.

use super::{
    Entry, StoreError, Stored, filter::filter, fulltext, lock, open, reader, revise, row::Row,
    schema,
};
use crate::{model::Timestamp, query::Query};
use rusqlite::{Connection, OptionalExtension, params, params_from_iter, types::Value as Sql};
use serde::{Deserialize, Serialize};
use std::{fs::File, path::Path};

/// Calls of one transaction.
const STEP: i64 = 200;

/// The writing side of a store that no server has open; the reading side where nothing is written.
#[derive(Debug)]
pub struct Rewriter {
    conn: Connection,
    job: Job,
    /// Nothing is written.
    dry: bool,
    /// What can be searched for stays as it is.
    keeps_texts: bool,
    _lock: Option<File>,
}

/// A walk over the record log, as it stands in `meta` while it is not finished.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Job {
    name: String,
    /// What it is for: a job for anything else begins anew.
    purpose: String,
    /// The last call that was looked at.
    seq: i64,
    /// The last call there was at the beginning.
    until: i64,
}

/// How far a walk came.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Step {
    /// Calls looked at.
    pub looked_at: u64,
    /// Calls written anew.
    pub changed: u64,
    /// Whether there is nothing more to look at.
    pub finished: bool,
}

impl Rewriter {
    /// Opens the store in `dir`. A job `name` with the same purpose that was interrupted goes on.
    ///
    /// # Errors
    /// [`StoreError::Locked`] while a server runs on it; `SQLite`'s.
    pub fn open(dir: &Path, name: &str, purpose: &str, dry: bool) -> Result<Self, StoreError> {
        let file = dir.join(schema::FILE);
        if !file.is_file() {
            return Err(StoreError::Directory(format!("there is no store at {}", file.display())));
        }
        let (lock, conn) = if dry {
            (None, schema::open_reader(&file)?)
        } else {
            let lock = lock::take(dir).map_err(|error| with_advice(error, name))?;
            (Some(lock), schema::open_writer(&file)?)
        };
        let stored: Option<String> = conn
            .query_row("SELECT value FROM meta WHERE key = ?1", [name], |row| row.get(0))
            .optional()?;
        let stored = stored.and_then(|text| serde_json::from_str::<Job>(&text).ok());
        let job = match stored {
            Some(job) if job.purpose == purpose && !dry => job,
            _ => Job {
                name: name.to_owned(),
                purpose: purpose.to_owned(),
                seq: 0,
                until: open::last_seq(&conn)?,
            },
        };
        Ok(Self { conn, job, dry, keeps_texts: false, _lock: lock })
    }

    /// Says that no change touches what can be searched for.
    #[must_use]
    pub fn keeping_texts(self) -> Self {
        Self { keeps_texts: true, ..self }
    }

    /// Whether an interrupted job goes on.
    pub fn resumes(&self) -> bool {
        self.job.seq > 0
    }

    /// Calls between here and the end, of which `query` may leave some out.
    ///
    /// # Errors
    /// `SQLite`'s.
    pub fn remaining(&self) -> Result<u64, StoreError> {
        let count: i64 = self.conn.query_row(
            "SELECT count(*) FROM calls WHERE seq > ?1 AND seq <= ?2",
            [self.job.seq, self.job.until],
            |row| row.get(0),
        )?;
        Ok(u64::try_from(count).unwrap_or(0))
    }

    /// Looks at the next few calls that match; what `change` gives takes the place of the record.
    ///
    /// # Errors
    /// `SQLite`'s; nothing of the step was written then.
    pub fn step(
        &mut self,
        query: &Query,
        change: &mut dyn FnMut(Stored) -> Option<Entry>,
    ) -> Result<Step, StoreError> {
        let seqs = self.next(query)?;
        let finished = seqs.len() < usize::try_from(STEP).unwrap_or(0);
        let step = self.conn.transaction()?;
        let mut entries = Vec::new();
        for seq in &seqs {
            let Some(stored) = reader::load(&step, *seq)? else { continue };
            // What is damaged stays as it is, for whoever may mend it.
            if reader::is_damaged(&stored.record) {
                continue;
            }
            entries.extend(change(stored).map(|entry| (*seq, entry)));
        }
        let changed = entries.len() as u64;
        if !self.dry {
            rewrite(&step, entries)?;
        }
        self.job.seq = seqs.last().copied().unwrap_or(self.job.seq);
        if self.dry {
            return Ok(Step { looked_at: seqs.len() as u64, changed, finished });
        }
        if changed > 0 && !self.keeps_texts {
            // The index is made anew from the calls, by the server in its idle moments.
            step.execute("DELETE FROM cursors WHERE name = ?1", [fulltext::CURSOR])?;
        }
        if finished {
            step.execute("DELETE FROM meta WHERE key = ?1", [&self.job.name])?;
        } else {
            let job = serde_json::to_string(&self.job).unwrap_or_default();
            step.execute(
                "INSERT OR REPLACE INTO meta (key, value) VALUES (?1, ?2)",
                params![self.job.name, job],
            )?;
        }
        step.commit()?;
        Ok(Step { looked_at: seqs.len() as u64, changed, finished })
    }

    fn next(&self, query: &Query) -> rusqlite::Result<Vec<i64>> {
        let filter = filter(query, Timestamp::now());
        let sql = format!(
            "SELECT seq FROM calls WHERE seq > ? AND seq <= ? AND ({}) ORDER BY seq LIMIT {STEP}",
            filter.sql
        );
        let range = [Sql::from(self.job.seq), Sql::from(self.job.until)];
        let params = range.into_iter().chain(filter.params);
        self.conn.prepare(&sql)?.query_map(params_from_iter(params), |row| row.get(0))?.collect()
    }
}

/// Puts the entries in the place of what is stored, in calls and totals.
fn rewrite(conn: &Connection, entries: Vec<(i64, Entry)>) -> rusqlite::Result<()> {
    let seqs: Vec<i64> = entries.iter().map(|(seq, _)| *seq).collect();
    let before = revise::added(conn, &seqs)?;
    for (seq, entry) in entries {
        Row::of(entry).update(conn, seq)?;
    }
    revise::replace(conn, &before, revise::added(conn, &seqs)?)
}

/// Who has the store, and what can be done about it.
fn with_advice(error: StoreError, name: &str) -> StoreError {
    match error {
        StoreError::Locked(who) => StoreError::Locked(format!(
            "`{name}` writes every record anew and needs the store for itself: {who}. Nothing is lost by a stop of the server; \
             `{name} --dry-run` tells beside it what would change"
        )),
        error => error,
    }
}
