//! How the deltas of messages and steps add up: members by name, list entries by `index`.

use crate::codec::{merge, notes::Notes};
use serde_json::{Map, Value};

/// Members whose text comes in fragments.
const FRAGMENTS: &[&str] = &["value", "arguments", "input", "refusal", "logs"];
/// Most entries of one list.
const ENTRIES_MAX: usize = 1024;

/// Adds `delta` to `object`. The depth is that of the parsed JSON, hence bounded.
pub(super) fn grow(object: &mut Map<String, Value>, delta: Map<String, Value>, notes: &mut Notes) {
    for (key, value) in delta {
        if value.is_null() {
            continue;
        }
        let is_fragment = FRAGMENTS.contains(&key.as_str());
        let slot = object.entry(key).or_insert(Value::Null);
        match value {
            Value::Array(entries) => grow_list(slot, entries, notes),
            Value::Object(members) => grow_object(slot, members, notes),
            value @ Value::String(_) if is_fragment => merge::text(slot, value),
            value => merge::last_filled(slot, value),
        }
    }
}

fn grow_object(slot: &mut Value, members: Map<String, Value>, notes: &mut Notes) {
    if !slot.is_object() {
        *slot = Value::Object(Map::new());
    }
    if let Value::Object(object) = slot {
        grow(object, members, notes);
    }
}

fn grow_list(slot: &mut Value, entries: Vec<Value>, notes: &mut Notes) {
    if !slot.is_array() {
        *slot = Value::Array(Vec::new());
    }
    let Value::Array(list) = slot else { return };
    for entry in entries {
        let place = place_of(&entry);
        let known = list.iter().position(|old| place.is_some() && place_of(old) == place);
        let has_room = list.len() < ENTRIES_MAX;
        match (known.and_then(|at| list.get_mut(at)), entry) {
            (Some(old), Value::Object(members)) => grow_object(old, members, notes),
            (None, entry) if has_room => list.push(entry),
            _ => notes.add("entries_of_a_delta_beyond_limit"),
        }
    }
}

fn place_of(entry: &Value) -> Option<u64> {
    entry.get("index").and_then(Value::as_u64)
}

/// Puts entries in the order of their `index` and takes it out: a finished object has none.
pub(super) fn strip_places(value: &mut Value) {
    match value {
        Value::Object(members) => members.values_mut().for_each(strip_places),
        Value::Array(entries) => {
            entries.sort_by_key(place_of);
            for entry in entries {
                if let Value::Object(members) = entry {
                    members.shift_remove("index");
                }
                strip_places(entry);
            }
        }
        _ => {}
    }
}
