//! The items of an output, told apart by `output_index`: ids change on the way at some providers.

use super::item::Item;
use crate::codec::notes::Notes;
use serde_json::{Map, Value};
use std::collections::BTreeMap;

/// Most items put together; events of further ones are dropped, with a note.
const ITEMS_MAX: usize = 4096;

/// The items so far.
#[derive(Debug, Default)]
pub(super) struct Items {
    items: BTreeMap<i64, Item>,
    last: i64,
}

impl Items {
    /// Takes an event about an item; what it is about stands in `kind`, without `response.`.
    pub(super) fn add(&mut self, kind: &str, event: Map<String, Value>, notes: &mut Notes) {
        let index = event.get("output_index");
        let Some(index) = index.map_or(Some(self.last), Value::as_i64) else {
            return notes.add("output_index_odd");
        };
        if !Item::knows(kind) {
            return;
        }
        if self.items.len() >= ITEMS_MAX && !self.items.contains_key(&index) {
            return notes.add("items_beyond_limit");
        }
        self.last = index;
        self.items.entry(index).or_default().add(kind, event, notes);
    }

    /// The finished items, in order.
    pub(super) fn finish(self) -> Vec<Value> {
        self.items.into_values().filter_map(Item::finish).collect()
    }
}
