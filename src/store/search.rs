//! Pages of calls; those that must hold certain words are read along the full-text index.
//!
//! The index knows the calls up to its cursor. The few behind it are found by their preview.

use super::{
    filter::{Filter, filter, filter_with, required, unindexed},
    fulltext, reader,
};
use crate::{
    model::Timestamp,
    query::{Delivery, Expr, Query, Term},
};
use rusqlite::Connection;
use serde_json::Value;

/// The part of a list that a page continues: which side of which `seq`, in which order.
pub(super) type Span<'a> = (&'a str, i64, &'a str);

/// From so many calls on a phrase counts as common.
const COMMON: i64 = 50_000;
/// Tables and the column that orders them.
pub(super) const CALLS: (&str, &str) = ("calls", "calls.seq");
/// The index leads: its rows come in order, so that a page of a common word is found at once.
const INDEXED: (&str, &str) = ("fts CROSS JOIN calls ON calls.seq = fts.rowid", "fts.rowid");

/// Up to `limit` rows of `span` that match.
pub(super) fn rows(
    conn: &Connection,
    query: &Query,
    now: Timestamp,
    span: Span<'_>,
    limit: u32,
) -> rusqlite::Result<Vec<(i64, Value)>> {
    if let Some(ways) = undelivered(query) {
        let mut found = Vec::new();
        for way in &ways {
            found.extend(rows(conn, way, now, span, limit)?);
        }
        found.sort_by_key(|(seq, _)| if span.2 == "DESC" { -seq } else { *seq });
        found.dedup_by_key(|(seq, _)| *seq);
        found.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
        return Ok(found);
    }
    let Some(indexed) = required(query, now) else {
        return reader::rows(conn, CALLS, &usual(conn, query, now)?, span, limit);
    };
    // The index may hold more than its cursor says, and grow meanwhile: each call is in one part only.
    let position = fulltext::position(conn)?;
    let indexed = indexed.and("fts.rowid <= ?", position);
    let behind = unindexed(query, now).and("calls.seq > ?", position);
    let parts: [(_, Filter); 2] = if span.2 == "DESC" {
        [(CALLS, behind), (INDEXED, indexed)]
    } else {
        [(INDEXED, indexed), (CALLS, behind)]
    };
    let mut found = Vec::new();
    for (source, filter) in parts {
        let left = limit.saturating_sub(u32::try_from(found.len()).unwrap_or(limit));
        if left > 0 {
            found.extend(reader::rows(conn, source, &filter, span, left)?);
        }
    }
    Ok(found)
}

/// A query for undelivered calls as one for each way of being that: each of them leads along an index
/// of its own, all together along none.
fn undelivered(query: &Query) -> Option<[Query; 3]> {
    const ANY: Expr = Expr::Term(Term::Delivery(Delivery::Undelivered));
    let parts = match query.root.as_ref()? {
        Expr::And(parts) => parts.as_slice(),
        single => std::slice::from_ref(single),
    };
    if !parts.contains(&ANY) {
        return None;
    }
    Some([Delivery::Pending, Delivery::Waiting, Delivery::Dead].map(|state| {
        let way = |part: &Expr| {
            if *part == ANY { Expr::Term(Term::Delivery(state)) } else { part.clone() }
        };
        Query { root: Some(Expr::And(parts.iter().map(way).collect())) }
    }))
}

/// The condition where the index cannot lead.
fn usual(conn: &Connection, query: &Query, now: Timestamp) -> rusqlite::Result<Filter> {
    let filter = filter(query, now);
    let common = common(conn, &filter.phrases)?;
    Ok(if common.is_empty() { filter } else { filter_with(query, now, common) })
}

/// The phrases that so many calls hold that a page of them is found sooner by going through the calls.
fn common(conn: &Connection, phrases: &[String]) -> rusqlite::Result<Vec<String>> {
    let mut common = Vec::new();
    for phrase in phrases {
        let found: i64 = conn
            .prepare_cached("SELECT count(*) FROM (SELECT 1 FROM fts WHERE fts MATCH ?1 LIMIT ?2)")?
            .query_row(rusqlite::params![phrase, COMMON], |row| row.get(0))?;
        if found >= COMMON {
            common.push(phrase.clone());
        }
    }
    Ok(common)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{fulltext, tests};

    type Holds = fn(usize) -> bool;

    /// Whatever part of the calls is indexed, a page holds what a look at every call finds.
    #[test]
    fn pages_along_the_index_hold_what_every_call_says() {
        const CALLS: usize = 300;
        let (dir, store) = tests::open();
        let says =
            |at: usize| format!("parcel {}", if at.is_multiple_of(3) { "late" } else { "lost" });
        for at in 0..CALLS {
            let mut entry = tests::entry(0);
            entry.record.tags.user_query = Some(says(at));
            entry.record.tags.session = Some(format!("s{}", at % 2));
            store.append(entry, None);
        }
        store.close();
        let mut conn = Connection::open(dir.path().join("calltap.db")).unwrap();
        let text_of = |stored: crate::store::Stored| stored.record.tags.user_query.unwrap();
        let mut texts = fulltext::Texts::default();
        let queries: [(&str, Holds); 8] = [
            ("parcel", |_| true),
            ("late", |at| at.is_multiple_of(3)),
            ("parcel late session:s1", |at| at.is_multiple_of(3) && at % 2 == 1),
            ("parcel -late", |at| !at.is_multiple_of(3)),
            ("late OR lost", |_| true),
            ("parcel (late OR found) session:s0", |at| at.is_multiple_of(6)),
            ("pars*", |_| false),
            ("session:s0", |at| at.is_multiple_of(2)),
        ];
        let mut positions = Vec::new();
        let mut begins_again = false;
        loop {
            positions.push(fulltext::position(&conn).unwrap());
            for (text, holds) in queries {
                let query = tests::query(text);
                for from in [1, 100, 250, 301] {
                    for span in [("<", from, "DESC"), (">", from, "ASC")] {
                        let rows = rows(&conn, &query, Timestamp::now(), span, 7).unwrap();
                        let rows: Vec<i64> = rows.into_iter().map(|(seq, _)| seq).collect();
                        let matching = (1..=CALLS).filter(|seq| holds(seq - 1));
                        let all = matching.map(|seq| i64::try_from(seq).unwrap());
                        let expected: Vec<i64> = if span.2 == "ASC" {
                            all.filter(|seq| *seq > from).take(7).collect()
                        } else {
                            all.rev().filter(|seq| *seq < from).take(7).collect()
                        };
                        assert_eq!(rows, expected, "{text} {span:?} of {positions:?}");
                    }
                }
            }
            if begins_again {
                break;
            }
            if !fulltext::step(&mut conn, &mut texts, &text_of, true).unwrap() {
                // As after `reindex`: the cursor is gone, what it had indexed is not.
                conn.execute("DELETE FROM cursors WHERE name = ?1", [fulltext::CURSOR]).unwrap();
                begins_again = true;
            }
        }
        assert!(positions.len() > 1, "nothing was indexed meanwhile");
    }
}
