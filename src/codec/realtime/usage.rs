//! Usage of a connection: that of all its responses together. Each response was billed by itself, so
//! here, and only here, adding up is right.

use crate::codec::notes::Notes;
use serde_json::{Map, Value};

/// The sum, member by member; one usage alone stays as it came.
pub(super) fn sum<'a>(usages: impl Iterator<Item = &'a Value>, notes: &mut Notes) -> Value {
    let mut usages = usages.filter(|usage| usage.is_object());
    let mut total = usages.next().cloned().unwrap_or_default();
    for usage in usages {
        notes.add_many("usage_of_several_responses_added", 1);
        add(&mut total, usage);
    }
    total
}

fn add(total: &mut Value, more: &Value) {
    match (total, more) {
        (Value::Object(total), Value::Object(more)) => {
            for (key, more) in more {
                add(total.entry(key.clone()).or_insert(Value::Null), more);
            }
        }
        (total @ Value::Null, more @ Value::Object(_)) => {
            *total = Value::Object(Map::new());
            add(total, more);
        }
        (total, Value::Number(more)) => {
            let sum = total.as_u64().unwrap_or(0).checked_add(more.as_u64().unwrap_or(0));
            *total = sum.map_or(Value::Null, Value::from);
        }
        (total @ Value::Null, more) => *total = more.clone(),
        _ => {}
    }
}
