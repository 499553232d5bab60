//! Totals follow calls that were written anew: what a call added before is taken out, what it adds now
//! is put in. So totals of calls that are no longer kept stay.

use super::rollup::{self, Batch, COLUMNS, OTHER, Sum};
use rusqlite::{Connection, OptionalExtension, params};

/// What the calls `seqs`, in their order, add to the totals, as far as they are in them.
pub(super) fn added(conn: &Connection, seqs: &[i64]) -> rusqlite::Result<Batch> {
    let position = rollup::position(conn)?.unwrap_or(0);
    let rolled: Vec<i64> = seqs.iter().copied().filter(|seq| *seq <= position).collect();
    Batch::of(conn, &rolled)
}

/// Puts what the same calls add now in the place of that.
pub(super) fn replace(conn: &Connection, before: &Batch, after: Batch) -> rusqlite::Result<()> {
    for ((hour, dimension, key), sum) in &before.hours {
        let place = "dimension = ?1 AND hour = ?2 AND key = ?3";
        let taken = take(conn, "rollups", place, params![dimension, hour, key], sum)?;
        if !taken {
            take(conn, "rollups", place, params![dimension, hour, OTHER], sum)?;
        }
    }
    for (session, (sum, _)) in &before.sessions {
        take(conn, "sessions", "session = ?1", params![session], sum)?;
    }
    rollup::add(conn, after)
}

/// False where there is no such row. One that holds nothing more stays until something is added.
fn take(
    conn: &Connection,
    table: &str,
    place: &str,
    key: &[&dyn rusqlite::ToSql],
    less: &Sum,
) -> rusqlite::Result<bool> {
    let mut sum = Sum::default();
    let found = conn
        .prepare_cached(&format!("SELECT {COLUMNS} FROM {table} WHERE {place}"))?
        .query_row(key, |row| sum.merge_row(row, 0))
        .optional()?;
    if found.is_none() {
        return Ok(false);
    }
    sum.subtract(less);
    let first = key.len() + 1;
    let columns: Vec<String> = COLUMNS
        .split(',')
        .enumerate()
        .map(|(at, column)| format!("{} = ?{}", column.trim(), first + at))
        .collect();
    let mut update =
        conn.prepare_cached(&format!("UPDATE {table} SET {} WHERE {place}", columns.join(", ")))?;
    for (at, value) in key.iter().enumerate() {
        update.raw_bind_parameter(at + 1, value)?;
    }
    rollup::bind(&mut update, first, &sum)?;
    update.raw_execute()?;
    Ok(true)
}
