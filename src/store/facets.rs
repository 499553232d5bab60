//! How often each value of a field stands in the newest calls that match.

use super::{
    Reader, StoreError,
    filter::{column, filter},
    pool::ran_out,
};
use crate::{
    model::Timestamp,
    query::{Field, Kind, Query},
};
use rusqlite::{params_from_iter, types::ValueRef};
use serde::Serialize;
use std::{collections::HashMap, time::Duration};

/// Most calls counted.
const CALLS_MAX: usize = 20_000;
/// Longest time spent: what is counted by then is the answer.
const TIME_MAX: Duration = Duration::from_millis(300);

/// Counts of values.
#[derive(Clone, Debug, Serialize)]
pub struct Facets {
    /// Calls that were counted.
    pub scanned: usize,
    /// Whether those are all that match.
    pub complete: bool,
    /// One a field, in the order asked for.
    pub items: Vec<Facet>,
}

/// Values of one field.
#[derive(Clone, Debug, Serialize)]
pub struct Facet {
    /// The field, as the query language names it.
    pub field: &'static str,
    /// Most frequent first.
    pub values: Vec<Count>,
    /// Whether there are others.
    pub more: bool,
}

/// One value.
#[derive(Clone, Debug, Serialize)]
pub struct Count {
    /// As `field:value` takes it.
    pub value: String,
    /// Calls.
    pub count: u64,
}

impl Reader {
    /// Counts the values of `fields`; `prefix` keeps only values that start with it.
    ///
    /// # Errors
    /// `SQLite`'s.
    pub fn facets(
        &self,
        query: &Query,
        fields: &[Field],
        limit: usize,
        prefix: &str,
    ) -> Result<Facets, StoreError> {
        self.facets_within(TIME_MAX, query, fields, limit, prefix)
    }

    pub(super) fn facets_within(
        &self,
        time: Duration,
        query: &Query,
        fields: &[Field],
        limit: usize,
        prefix: &str,
    ) -> Result<Facets, StoreError> {
        let filter = filter(query, Timestamp::now());
        let columns: Vec<&str> = fields.iter().map(|field| column(*field)).collect();
        let sql = format!(
            "SELECT {} FROM calls WHERE ({}) ORDER BY seq DESC",
            columns.join(", "),
            filter.sql
        );
        self.pool.read_within(Some(time), |conn| {
            let mut counts: Vec<HashMap<String, u64>> = vec![HashMap::new(); fields.len()];
            let mut scanned = 0;
            let mut count = || -> rusqlite::Result<bool> {
                let mut statement = conn.prepare(&sql)?;
                let mut rows = statement.query(params_from_iter(&filter.params))?;
                while let Some(row) = rows.next()? {
                    if scanned == CALLS_MAX {
                        return Ok(false);
                    }
                    scanned += 1;
                    for ((at, field), counts) in fields.iter().enumerate().zip(&mut counts) {
                        add(counts, *field, row.get_ref(at)?, prefix);
                    }
                }
                Ok(true)
            };
            let complete = match count() {
                Err(error) if ran_out(&error) => false,
                counted => counted?,
            };
            let items =
                fields.iter().zip(counts).map(|(field, counts)| facet(*field, counts, limit));
            Ok(Facets { scanned, complete, items: items.collect() })
        })
    }
}

fn add(counts: &mut HashMap<String, u64>, field: Field, value: ValueRef<'_>, prefix: &str) {
    let mut count = |value: &str| {
        if !value.starts_with(prefix) {
        } else if let Some(count) = counts.get_mut(value) {
            *count += 1;
        } else {
            counts.insert(value.to_owned(), 1);
        }
    };
    match value {
        ValueRef::Text(text) if field == Field::Tag => {
            let labels: Vec<String> = serde_json::from_slice(text).unwrap_or_default();
            for label in &labels {
                count(label);
            }
        }
        ValueRef::Text(text) => count(&String::from_utf8_lossy(text)),
        ValueRef::Integer(number) if field.kind() == Kind::Flag => {
            count(if number == 0 { "false" } else { "true" });
        }
        ValueRef::Integer(number) => count(&number.to_string()),
        _ => {}
    }
}

fn facet(field: Field, counts: HashMap<String, u64>, limit: usize) -> Facet {
    let mut values: Vec<Count> =
        counts.into_iter().map(|(value, count)| Count { value, count }).collect();
    values.sort_by(|left, right| {
        right.count.cmp(&left.count).then_with(|| left.value.cmp(&right.value))
    });
    let more = values.len() > limit;
    values.truncate(limit);
    Facet { field: field.name(), values, more }
}
