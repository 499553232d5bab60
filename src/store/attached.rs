//! What hangs on a call: records that were derived from it and what is remembered for later ones.
//! It is committed with the call or not at all.

use super::{Attached, row::Row};
use rusqlite::{Connection, params};

/// The rows of it.
#[derive(Clone, Debug, Default)]
pub(super) struct Rows {
    derived: Vec<Row>,
    threads: Vec<(String, Option<String>)>,
}

impl Rows {
    pub(super) fn of(attached: Attached) -> Self {
        let derived = attached.derived.into_iter().map(Row::once).collect();
        Self { derived, threads: attached.threads }
    }

    /// What they hold in memory, about.
    pub(super) fn size(&self) -> usize {
        let threads = self
            .threads
            .iter()
            .map(|(key, state)| key.len() + state.as_ref().map_or(0, String::len));
        threads.sum::<usize>() + self.derived.iter().map(Row::size).sum::<usize>()
    }

    /// How many records they are.
    pub(super) fn records(&self) -> u64 {
        self.derived.len() as u64
    }

    /// Writes them; gives the highest `seq` among them.
    pub(super) fn insert(&mut self, conn: &Connection) -> rusqlite::Result<Option<i64>> {
        let mut last = None;
        for row in &mut self.derived {
            last = last.max(Some(row.insert(conn)?));
        }
        for (key, state) in &self.threads {
            match state {
                Some(state) => conn
                    .prepare_cached("INSERT OR REPLACE INTO threads (key, state) VALUES (?1, ?2)")?
                    .execute(params![key, state])?,
                None => {
                    conn.prepare_cached("DELETE FROM threads WHERE key = ?1")?.execute([key])?
                }
            };
        }
        Ok(last)
    }
}

/// What is remembered, by key.
pub(super) fn threads(conn: &Connection) -> rusqlite::Result<Vec<(String, String)>> {
    let mut statement = conn.prepare_cached("SELECT key, state FROM threads")?;
    let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
    rows.collect()
}
