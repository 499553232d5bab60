//! A query as SQL over `calls c`, every value bound.

use crate::{model::Timestamp, query::Query};
use rusqlite::types::Value;

/// A condition and its values.
#[derive(Debug)]
pub struct Filter {
    /// For a `WHERE` clause.
    pub sql: String,
    /// Bound to `?first`, `?first+1`, …
    pub values: Vec<Value>,
}

/// The condition of `query`; its values are numbered from `first`.
pub fn of(_query: &Query, _now: Timestamp, _first: usize) -> Filter {
    Filter { sql: "1".to_owned(), values: Vec::new() }
}
