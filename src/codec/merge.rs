//! How a value that came in pieces grows: every rule moves what it is given and touches nothing twice.

use serde_json::{Map, Value};
use std::collections::HashMap;

/// Keeps the last value that is not null.
pub(crate) fn last(slot: &mut Value, value: Value) {
    if !value.is_null() {
        *slot = value;
    }
}

/// Keeps the last value that says something: `""` never displaces what is there.
pub(crate) fn last_filled(slot: &mut Value, value: Value) {
    if is_filled(&value) || slot.is_null() {
        last(slot, value);
    }
}

/// Keeps the first value that is neither null, `""` nor 0.
pub(crate) fn first_filled(slot: &mut Value, value: Value) {
    if !is_filled(slot) {
        last(slot, value);
    }
}

/// Appends text to text; anything else is as [`unknown`].
pub(crate) fn text(slot: &mut Value, value: Value) {
    match (slot, value) {
        (Value::String(old), Value::String(new)) => old.push_str(&new),
        (slot, value) => unknown(slot, value),
    }
}

/// Appends the elements of an array, or a single element.
pub(crate) fn append(slot: &mut Value, value: Value) {
    match (slot, value) {
        (_, Value::Null) => {}
        (Value::Array(old), Value::Array(new)) => old.extend(new),
        (Value::Array(old), new) => old.push(new),
        (slot, new @ Value::Array(_)) => *slot = new,
        (slot, new) => *slot = Value::Array(vec![new]),
    }
}

/// Merges objects member by member, one level deep; anything else: the last that is not null.
pub(crate) fn shallow(slot: &mut Value, value: Value) {
    match (slot, value) {
        (Value::Object(old), Value::Object(new)) => {
            for (key, value) in new {
                last(old.entry(key).or_insert(Value::Null), value);
            }
        }
        (slot, value) => last(slot, value),
    }
}

/// Merges objects at every level; later wins. The depth is that of the parsed JSON, hence bounded.
pub(crate) fn deep(slot: &mut Value, value: Value) {
    match (slot, value) {
        (Value::Object(old), Value::Object(new)) => {
            for (key, value) in new {
                deep(old.entry(key).or_insert(Value::Null), value);
            }
        }
        (slot, value) => last(slot, value),
    }
}

/// What to do with a member nobody has heard of: arrays append, objects merge, the rest is replaced.
/// Strings are not joined: most of them are labels that every chunk repeats.
pub(crate) fn unknown(slot: &mut Value, value: Value) {
    match value {
        Value::Array(_) if slot.is_array() => append(slot, value),
        Value::Object(_) => shallow(slot, value),
        value => last(slot, value),
    }
}

/// Adds a member to `map` by a rule.
pub(crate) fn member(
    map: &mut Map<String, Value>,
    key: String,
    value: Value,
    rule: fn(&mut Value, Value),
) {
    rule(map.entry(key).or_insert(Value::Null), value);
}

/// Whether a value is neither null, `""` nor 0.
pub(crate) fn is_filled(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::String(text) => !text.is_empty(),
        Value::Number(number) => number.as_f64() != Some(0.0),
        _ => true,
    }
}

/// A list whose entries may carry an `index`: an entry seen before is merged, others are appended.
#[derive(Debug, Default)]
pub(crate) struct Indexed {
    items: Vec<Value>,
    at: HashMap<i64, usize>,
}

impl Indexed {
    pub(crate) fn add(&mut self, value: Value) {
        match value {
            Value::Null => {}
            Value::Array(items) => items.into_iter().for_each(|item| self.add_item(item)),
            item => self.add_item(item),
        }
    }

    fn add_item(&mut self, item: Value) {
        let index = item.get("index").and_then(Value::as_i64);
        let known = index.and_then(|index| self.at.get(&index).copied());
        if let Some(old) = known.and_then(|at| self.items.get_mut(at)) {
            shallow(old, item);
            return;
        }
        if let Some(index) = index {
            self.at.insert(index, self.items.len());
        }
        self.items.push(item);
    }

    /// The list, when anything was in it.
    pub(crate) fn finish(self) -> Option<Value> {
        (!self.items.is_empty()).then_some(Value::Array(self.items))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn merged(rule: fn(&mut Value, Value), values: Vec<Value>) -> Value {
        let mut slot = Value::Null;
        for value in values {
            rule(&mut slot, value);
        }
        slot
    }

    #[test]
    fn rules() {
        assert_eq!(merged(last, vec![json!(1), json!(2), Value::Null]), json!(2));
        assert_eq!(merged(last_filled, vec![json!(""), json!("a"), json!("")]), json!("a"));
        assert_eq!(merged(last_filled, vec![json!("")]), json!(""));
        assert_eq!(merged(first_filled, vec![json!(""), json!("a"), json!("b")]), json!("a"));
        assert_eq!(merged(first_filled, vec![json!(0), json!(7), json!(8)]), json!(7));
        assert_eq!(merged(text, vec![json!("a"), Value::Null, json!("b")]), json!("ab"));
        assert_eq!(merged(append, vec![json!([1]), json!([2, 3]), json!(4)]), json!([1, 2, 3, 4]));
        assert_eq!(merged(unknown, vec![json!("x"), json!("x")]), json!("x"));
        assert_eq!(
            merged(unknown, vec![json!({"a": 1}), json!({"b": 2})]),
            json!({"a": 1, "b": 2})
        );
        assert_eq!(
            merged(deep, vec![json!({"a": {"b": 1, "c": 1}}), json!({"a": {"c": 2}})]),
            json!({"a": {"b": 1, "c": 2}})
        );
    }

    #[test]
    fn entries_with_an_index_merge() {
        let mut list = Indexed::default();
        list.add(json!([{"index": 0, "a": 1}]));
        list.add(json!([{"index": 0, "b": 2}, {"c": 3}]));
        assert_eq!(list.finish(), Some(json!([{"index": 0, "a": 1, "b": 2}, {"c": 3}])));
    }
}
