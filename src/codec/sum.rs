//! Usage of several answers that came in one exchange: the responses of a connection, the calls of a
//! batch. Each was billed by itself, so here, and only here, adding up is right.

use serde_json::{Map, Value};

/// Adds `more` to `total`, member by member. A member that is no count keeps its first value.
pub(crate) fn add(total: &mut Value, more: &Value) {
    match (total, more) {
        (Value::Object(total), Value::Object(more)) => {
            for (key, more) in more {
                add(total.entry(key.clone()).or_insert(Value::Null), more);
            }
        }
        (total @ Value::Null, Value::Object(_)) => {
            *total = Value::Object(Map::new());
            add(total, more);
        }
        (total @ Value::Null, more) => *total = more.clone(),
        (Value::Number(total), Value::Number(more)) => {
            let sum = total.as_u64().zip(more.as_u64()).and_then(|(a, b)| a.checked_add(b));
            if let Some(sum) = sum {
                *total = sum.into();
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn counts_add_up_at_every_level() {
        let mut total = Value::Null;
        add(&mut total, &json!({"a": 1, "b": {"c": 2}, "d": "x"}));
        add(&mut total, &json!({"a": 10, "b": {"c": 20, "e": 3}, "d": "y", "f": null}));
        add(&mut total, &json!("nothing"));
        assert_eq!(total, json!({"a": 11, "b": {"c": 22, "e": 3}, "d": "x", "f": null}));
        add(&mut total, &json!({"a": u64::MAX}));
        assert_eq!(total["a"], 11, "a sum that fits nowhere is none");
    }
}
