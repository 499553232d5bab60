//! What hangs on a call: records that were derived from it and what is remembered for later ones.
//! It is committed with the call or not at all.

use super::{Attached, row::Row};
use rusqlite::{Connection, params};

/// The rows of it.
#[derive(Debug, Default)]
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

#[cfg(test)]
mod tests {
    use crate::store::{
        Attached, Store,
        tests::{entry, open, query},
    };
    use tokio::sync::oneshot;

    fn put(store: &Store, at: i64, derived: &[i64], threads: &[(&str, Option<&str>)]) -> i64 {
        let threads = threads.iter();
        let threads = threads.map(|(key, state)| ((*key).to_owned(), state.map(str::to_owned)));
        let derived = derived.iter().map(|at| {
            let mut derived = entry(*at);
            derived.record.id = uuid::Uuid::from_u128(u128::try_from(*at).unwrap());
            derived
        });
        let attached = Attached { derived: derived.collect(), threads: threads.collect() };
        let (done, stored) = oneshot::channel();
        store.append_with(entry(at), attached, Some(done));
        stored.blocking_recv().unwrap().unwrap()
    }

    #[test]
    fn what_was_derived_is_there_once_and_what_is_remembered_survives() {
        let (dir, store) = open();
        assert_eq!(put(&store, 1, &[7, 8], &[("a", Some("1")), ("b", Some("1"))]), 3);
        assert_eq!(put(&store, 2, &[8, 9, 7], &[("a", Some("2")), ("b", None)]), 5);
        assert_eq!(*store.committed().borrow(), 5);
        let mut again = Attached { derived: vec![entry(3)], ..Attached::default() };
        again.derived[0].record.id = uuid::Uuid::from_u128(7);
        store.append_derived(again);
        assert_eq!(put(&store, 4, &[], &[]), 6, "nothing was added");
        assert_eq!(*store.committed().borrow(), 6);
        let page = store.reader().unwrap().list(&query(""), 100, None).unwrap();
        assert_eq!(page.items.len(), 6);
        store.close();
        drop(store);
        let store = Store::open(dir.path(), &crate::config::Store::default()).unwrap();
        assert_eq!(store.threads().unwrap(), [("a".to_owned(), "2".to_owned())]);
    }
}
