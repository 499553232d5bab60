//! `reasoning_details`: entries that grow, told apart by type and index.

use crate::codec::merge;
use serde_json::{Map, Value};
use std::collections::HashMap;

/// The entries so far.
#[derive(Debug, Default)]
pub(crate) struct Details {
    entries: Vec<Value>,
    open: HashMap<Key, usize>,
}

/// Type, index and id; the index alone is no key, as a summary and an encrypted entry share it.
type Key = (String, Option<i64>, Option<String>);

impl Details {
    /// Takes the `reasoning_details` of a delta.
    pub(crate) fn add(&mut self, details: Value) {
        match details {
            Value::Null => {}
            Value::Array(entries) => entries.into_iter().for_each(|entry| self.add_entry(entry)),
            entry => self.add_entry(entry),
        }
    }

    /// The finished entries, `None` when there are none.
    pub(crate) fn finish(self) -> Option<Value> {
        (!self.entries.is_empty()).then_some(Value::Array(self.entries))
    }

    fn add_entry(&mut self, entry: Value) {
        let Value::Object(entry) = entry else { return };
        let text = |key: &str| entry.get(key).and_then(Value::as_str);
        let kind = text("type").unwrap_or_default().to_owned();
        let index = entry.get("index").and_then(Value::as_i64);
        let id = text("id").filter(|id| !id.is_empty()).map(str::to_owned);
        // Opaque, hence never in pieces.
        if kind == "reasoning.encrypted" {
            return self.entries.push(Value::Object(entry));
        }
        let by_place = (kind.clone(), index, None);
        let known = match &id {
            Some(_) => {
                let by_id = self.open.get(&(kind.clone(), index, id.clone()));
                by_id.or_else(|| self.open.get(&by_place).filter(|at| !self.has_id(**at)))
            }
            None => self.open.get(&by_place),
        };
        let at = known.copied().unwrap_or(self.entries.len());
        self.open.insert(by_place, at);
        if id.is_some() {
            self.open.insert((kind, index, id), at);
        }
        match self.entries.get_mut(at) {
            Some(Value::Object(old)) => grow(old, entry),
            _ => self.entries.push(Value::Object(entry)),
        }
    }

    fn has_id(&self, at: usize) -> bool {
        let id = self.entries.get(at).and_then(|entry| entry.get("id"));
        id.is_some_and(merge::is_filled)
    }
}

fn grow(old: &mut Map<String, Value>, new: Map<String, Value>) {
    for (key, value) in new {
        let rule = match key.as_str() {
            "text" | "summary" => merge::text,
            _ => merge::last,
        };
        merge::member(old, key, value, rule);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn details(deltas: &[Value]) -> Value {
        let mut details = Details::default();
        for delta in deltas {
            details.add(delta.clone());
        }
        details.finish().unwrap_or_default()
    }

    #[test]
    fn entries_grow_by_type_and_index() {
        assert_eq!(
            details(&[
                json!([{"type": "reasoning.summary", "summary": "a", "index": 0, "format": "f"}]),
                json!([{"type": "reasoning.summary", "summary": "b", "index": 0}]),
                json!([]),
                json!([{"type": "reasoning.encrypted", "data": "x", "index": 0, "id": "1"}]),
                json!([{"type": "reasoning.encrypted", "data": "y", "index": 0, "id": "1"}]),
                json!([{"type": "reasoning.text", "text": "t", "index": 1}]),
                json!([{"type": "reasoning.text", "text": "u", "index": 1, "signature": null}]),
                json!([{"type": "reasoning.text", "signature": "s", "index": 1}]),
            ]),
            json!([
                {"type": "reasoning.summary", "summary": "ab", "index": 0, "format": "f"},
                {"type": "reasoning.encrypted", "data": "x", "index": 0, "id": "1"},
                {"type": "reasoning.encrypted", "data": "y", "index": 0, "id": "1"},
                {"type": "reasoning.text", "text": "tu", "index": 1, "signature": "s"},
            ])
        );
    }

    #[test]
    fn a_different_id_is_a_different_entry() {
        assert_eq!(
            details(&[
                json!([{"type": "reasoning.text", "text": "a"}]),
                json!([{"type": "reasoning.text", "text": "b", "id": "1"}]),
                json!([{"type": "reasoning.text", "text": "c", "id": "2"}]),
                json!([{"type": "reasoning.text", "text": "d", "id": "1"}]),
                json!([{"type": "reasoning.text", "text": "e"}]),
            ]),
            json!([
                {"type": "reasoning.text", "text": "abde", "id": "1"},
                {"type": "reasoning.text", "text": "c", "id": "2"},
            ])
        );
    }
}
