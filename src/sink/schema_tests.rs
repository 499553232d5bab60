//! JSON Schema as far as the sinks' schemas use it, and records of recorded exchanges. Both lie beside
//! the project and may be missing.

use super::fixtures;
use crate::{
    codec::{self, Reading},
    model::{Endpoint, Outcome, Record},
};
use regex::Regex;
use serde_json::{Value, json};
use std::{cell::RefCell, collections::HashMap, path::Path};

const SHARED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../shared");

fn file(path: &str) -> Option<Value> {
    let text = std::fs::read(Path::new(SHARED).join(path)).ok()?;
    Some(serde_json::from_slice(&text).unwrap())
}

/// A schema by its name.
pub(super) fn schema(name: &str) -> Option<Value> {
    file(&format!("sink-schemas/{name}.schema.json"))
}

/// An example payload by its name.
pub(super) fn example(name: &str) -> Option<Value> {
    file(&format!("sink-examples/{name}.json"))
}

/// What is wrong with `value`.
pub(super) fn faults(schema: &Value, value: &Value) -> Vec<String> {
    let mut faults = Vec::new();
    check("", schema, schema, value, &mut faults);
    faults
}

fn check(at: &str, root: &Value, schema: &Value, value: &Value, faults: &mut Vec<String>) {
    let fits = |schema: &Value| {
        let mut inner = Vec::new();
        check(at, root, schema, value, &mut inner);
        inner.is_empty()
    };
    let mut fault = |what: String| faults.push(format!("{at}: {what}"));
    for (word, rule) in schema.as_object().unwrap() {
        match word.as_str() {
            "type" => {
                let types: Vec<&Value> =
                    rule.as_array().map_or(vec![rule], |all| all.iter().collect());
                if !types.iter().any(|kind| is(kind.as_str().unwrap(), value)) {
                    fault(format!("{} is not of type {rule}", clipped(value)));
                }
            }
            "enum" if !rule.as_array().unwrap().contains(value) => {
                fault(format!("{} is not in {rule}", clipped(value)));
            }
            "anyOf" if !rule.as_array().unwrap().iter().any(fits) => {
                fault(format!("{} fits nothing of {}", clipped(value), clipped(rule)));
            }
            "not" if fits(rule) => fault(format!("fits {rule}")),
            "required" if value.is_object() => {
                for name in rule.as_array().unwrap() {
                    if value.get(name.as_str().unwrap()).is_none() {
                        fault(format!("{name} is missing"));
                    }
                }
            }
            "pattern" if value.is_string() => {
                if !matches(rule.as_str().unwrap(), value.as_str().unwrap()) {
                    fault(format!("{} does not match {rule}", clipped(value)));
                }
            }
            "minimum" if value.as_f64() < rule.as_f64() => fault(format!("below {rule}")),
            "maximum" if value.is_number() && value.as_f64() > rule.as_f64() => {
                fault(format!("above {rule}"));
            }
            "minLength" | "maxLength" | "minItems" | "maxItems" => {
                let length = match value {
                    Value::String(text) => text.chars().count(),
                    Value::Array(items) => items.len(),
                    _ => continue,
                };
                let limit = usize::try_from(rule.as_u64().unwrap()).unwrap();
                let holds = if word.starts_with("min") { length >= limit } else { length <= limit };
                if !holds {
                    fault(format!("{word} {limit}, but {length}"));
                }
            }
            "enum"
            | "anyOf"
            | "not"
            | "required"
            | "pattern"
            | "minimum"
            | "maximum"
            | "format"
            | "title"
            | "description"
            | "$schema"
            | "$id"
            | "$defs"
            | "x-http"
            | "$ref"
            | "allOf"
            | "items"
            | "properties"
            | "additionalProperties" => {}
            other => panic!("the keyword {other} is not understood"),
        }
    }
    descend(at, root, schema, value, faults);
}

fn descend(at: &str, root: &Value, schema: &Value, value: &Value, faults: &mut Vec<String>) {
    if let Some(name) = schema["$ref"].as_str() {
        let target = root.pointer(name.trim_start_matches('#')).unwrap();
        check(at, root, target, value, faults);
    }
    for all in schema["allOf"].as_array().into_iter().flatten() {
        check(at, root, all, value, faults);
    }
    if let (Some(items), Value::Array(values)) = (schema.get("items"), value) {
        for (place, value) in values.iter().enumerate() {
            check(&format!("{at}[{place}]"), root, items, value, faults);
        }
    }
    let Value::Object(members) = value else { return };
    for (name, value) in members {
        let at = format!("{at}.{name}");
        match (schema["properties"].get(name), schema.get("additionalProperties")) {
            (None, Some(Value::Bool(false))) => faults.push(format!("{at}: unknown name")),
            (Some(rule), _) | (None, Some(rule @ Value::Object(_))) => {
                check(&at, root, rule, value, faults);
            }
            (None, _) => {}
        }
    }
}

/// Patterns are few and used often.
fn matches(pattern: &str, text: &str) -> bool {
    thread_local!(static PATTERNS: RefCell<HashMap<String, Regex>> = RefCell::default());
    PATTERNS.with_borrow_mut(|patterns| {
        let new = || Regex::new(pattern).unwrap();
        patterns.entry(pattern.to_owned()).or_insert_with(new).is_match(text)
    })
}

fn is(kind: &str, value: &Value) -> bool {
    match kind {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "boolean" => value.is_boolean(),
        "null" => value.is_null(),
        "number" => value.is_number(),
        "integer" => value.is_i64() || value.is_u64(),
        other => panic!("the type {other} is not understood"),
    }
}

fn clipped(value: &Value) -> String {
    value.to_string().chars().take(120).collect()
}

/// Records of all recorded exchanges.
pub(super) fn recordings() -> Vec<(String, Record)> {
    let Ok(folder) = std::fs::read_dir(Path::new(SHARED).join("corpus/open")) else {
        return Vec::new();
    };
    let mut paths: Vec<_> = folder.map(|entry| entry.unwrap().path()).collect();
    paths.retain(|path| path.extension().is_some_and(|kind| kind == "json"));
    paths.sort();
    let mut records = Vec::new();
    for path in paths {
        let case: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        records.push((path.file_stem().unwrap().to_string_lossy().into_owned(), recorded(&case)));
    }
    records
}

fn recorded(case: &Value) -> Record {
    let path = case["endpoint"].as_str().unwrap().split('?').next().unwrap();
    let endpoint = Endpoint::of(path);
    let request = match &case["request"]["body"] {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        body => body.to_string(),
    };
    let headers = case["response"]["headers"].as_object();
    let content_type =
        headers.into_iter().flatten().find(|(name, _)| name.eq_ignore_ascii_case("content-type"));
    let status = u16::try_from(case["response"]["status"].as_u64().unwrap()).unwrap();
    let meaning = codec::read(&Reading {
        endpoint: &endpoint,
        provider: case["provider"].as_str().unwrap(),
        method: case["request"]["method"].as_str().unwrap_or("POST"),
        path,
        request: request.as_bytes(),
        status: Some(status),
        content_type: content_type.and_then(|(_, value)| value.as_str()),
        response: case["response"]["body"].as_str().unwrap_or_default().as_bytes(),
    });
    let mut record = fixtures::record(json!({"provider": case["provider"], "status": status}));
    record.endpoint = endpoint;
    record.outcome =
        if meaning.error.is_some() { Outcome::ProviderError } else { Outcome::Completed };
    record.stream = meaning.stream;
    record.model.requested = meaning.model_requested;
    record.model.served = meaning.model_served;
    record.error = meaning.error;
    record.finish_reasons = meaning.finish_reasons;
    record.usage = meaning.usage.unwrap_or_default();
    record.parameters = meaning.parameters;
    record.tags = meaning.tags;
    record.request = meaning.request;
    record.response = meaning.response;
    record.notes = meaning.notes;
    record
}

#[test]
fn the_validator_can_say_no() {
    let schema = json!({"type": "object", "required": ["a"], "additionalProperties": false,
        "properties": {"a": {"type": "integer", "minimum": 0}, "b": {"anyOf": [{"enum": ["x"]},
        {"$ref": "#/$defs/s"}]}}, "$defs": {"s": {"type": "array", "items": {"type": "null"}}},
        "not": {"required": ["c"]}});
    for (value, right) in [
        (json!({"a": 1, "b": "x"}), true),
        (json!({"a": 1, "b": [null]}), true),
        (json!({"a": 1, "b": [1]}), false),
        (json!({"a": 1, "b": "y"}), false),
        (json!({"a": -1}), false),
        (json!({"a": 1.5}), false),
        (json!({"a": 1, "d": 1}), false),
        (json!({"b": "x"}), false),
        (json!({"a": 1, "c": 1}), false),
        (json!([]), false),
    ] {
        assert_eq!(faults(&schema, &value).is_empty(), right, "{value}");
    }
}
