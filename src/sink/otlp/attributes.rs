//! Attributes in the protocol's JSON.

use super::Messages;
use serde_json::{Map, Value, json};

/// Attributes in the order in which they were added.
#[derive(Debug, Default)]
pub(super) struct Attributes(pub(super) Vec<Value>);

impl Attributes {
    fn push(&mut self, name: &str, value: &Value) {
        self.0.push(json!({"key": name, "value": value}));
    }

    pub(super) fn text(&mut self, name: &str, text: &str) {
        self.push(name, &json!({"stringValue": text}));
    }

    pub(super) fn maybe(&mut self, name: &str, text: Option<&str>) {
        if let Some(text) = text {
            self.text(name, text);
        }
    }

    pub(super) fn flag(&mut self, name: &str, flag: bool) {
        self.push(name, &json!({"boolValue": flag}));
    }

    /// 64-bit integers are texts in the protocol's JSON.
    pub(super) fn int(&mut self, name: &str, number: Option<u64>) {
        if let Some(number) = number.filter(|number| i64::try_from(*number).is_ok()) {
            self.push(name, &json!({"intValue": number.to_string()}));
        }
    }

    pub(super) fn double(&mut self, name: &str, number: Option<f64>) {
        if let Some(number) = number {
            self.push(name, &json!({"doubleValue": number}));
        }
    }

    /// A list of texts.
    pub(super) fn texts<'a>(&mut self, name: &str, texts: impl IntoIterator<Item = &'a str>) {
        let values: Vec<Value> =
            texts.into_iter().map(|text| json!({"stringValue": text})).collect();
        if !values.is_empty() {
            self.push(name, &json!({"arrayValue": {"values": values}}));
        }
    }

    /// A value of the kind that it is; objects and mixed lists as JSON text.
    pub(super) fn value(&mut self, name: &str, value: &Value) {
        if let Some(value) = any(value) {
            self.push(name, &value);
        }
    }

    /// Each member as an attribute.
    pub(super) fn members(&mut self, value: &Value) {
        for (name, value) in value.as_object().unwrap_or(&Map::new()) {
            self.value(name, value);
        }
    }
}

fn any(value: &Value) -> Option<Value> {
    Some(match value {
        Value::Null => return None,
        Value::Bool(flag) => json!({"boolValue": flag}),
        Value::String(text) => json!({"stringValue": text}),
        Value::Number(number) if number.is_i64() => json!({"intValue": number.to_string()}),
        Value::Number(number) => json!({"doubleValue": number.as_f64()?}),
        Value::Array(items) if items.iter().all(Value::is_string) => {
            json!({"arrayValue": {"values": items.iter().filter_map(any).collect::<Vec<_>>()}})
        }
        other => json!({"stringValue": other.to_string()}),
    })
}

/// Words as they are, or how many there were.
pub(super) fn words(text: &str, messages: Messages) -> String {
    match messages {
        Messages::Redacted => format!("[{} characters]", text.chars().count()),
        _ => text.to_owned(),
    }
}
