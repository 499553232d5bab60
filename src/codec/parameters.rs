//! Hyper-parameters of a request: what shapes the answer without being the question.
//!
//! Source: request fields of `OpenAI`'s API description (2026-08-21) and the extensions of compatible
//! providers. A scalar that nobody has heard of is kept, so that new parameters are not lost.

use super::text::clip;
use serde_json::{Map, Value, json};

/// Parameters kept whatever their type.
const STRUCTURED: &[&str] = &[
    "audio",
    "chat_template_kwargs",
    "chunking_strategy",
    "context_management",
    "extra_body",
    "include",
    "logit_bias",
    "modalities",
    "models",
    "moderation",
    "plugins",
    "prompt_cache_options",
    "provider",
    "reasoning",
    "stop",
    "stream_options",
    "thinking",
    "timestamp_granularities",
    "tool_choice",
    "function_call",
    "transforms",
    "truncation",
    "truncation_strategy",
    "usage",
    "web_search_options",
];

/// Members that say what is asked, by whom, or with which credential: never parameters.
const NOT_PARAMETERS: &[&str] = &[
    "api_base",
    "base_url",
    "conversation",
    "customer_identifier",
    "file",
    "functions",
    "image",
    "input",
    "instructions",
    "litellm_session_id",
    "mask",
    "messages",
    "metadata",
    "model",
    "previous_response_id",
    "prompt",
    "safety_identifier",
    "session_id",
    "suffix",
    "system",
    "tools",
    "user",
];

/// Parts of names that belong to credentials.
const CREDENTIALS: &[&str] = &[
    "api_key",
    "apikey",
    "api-key",
    "secret",
    "password",
    "authorization",
    "credential",
    "auth_token",
    "access_token",
    "access_key",
];

/// Most parameters kept, and the longest text or serialized structure among them, in bytes.
const PARAMETERS_MAX: usize = 128;
const VALUE_BYTES_MAX: usize = 4096;

/// The parameters of a request.
pub(crate) fn read(request: &Map<String, Value>) -> Map<String, Value> {
    let kept =
        request.iter().filter_map(|(key, value)| Some((key.clone(), parameter(key, value)?)));
    kept.take(PARAMETERS_MAX).collect()
}

fn parameter(key: &str, value: &Value) -> Option<Value> {
    if NOT_PARAMETERS.contains(&key) || key.len() > 64 || is_credential(key) {
        return None;
    }
    match (key, value) {
        (_, Value::Null) => None,
        ("prediction", value) => Some(json!({"type": value.get("type")?})),
        ("response_format", Value::Object(format)) => Some(format_name(format)),
        ("text", Value::Object(text)) => Some(text_options(text)),
        (_, Value::String(text)) => Some(Value::String(clip(text, VALUE_BYTES_MAX))),
        (_, Value::Number(number)) if number.to_string().len() > 64 => None,
        (_, Value::Bool(_) | Value::Number(_)) => Some(value.clone()),
        (key, value) if STRUCTURED.contains(&key) => {
            (value.to_string().len() <= VALUE_BYTES_MAX).then(|| without_credentials(value))
        }
        _ => None,
    }
}

/// Type and name of a format; the schema itself is part of the request, not of its parameters.
fn format_name(format: &Map<String, Value>) -> Value {
    let schema = format.get("json_schema");
    let name = format.get("name").or_else(|| schema?.get("name"));
    let strict = format.get("strict").or_else(|| schema?.get("strict"));
    let parts = [("type", format.get("type")), ("name", name), ("strict", strict)];
    let parts = parts.into_iter().filter_map(|(key, value)| Some((key.to_owned(), value?.clone())));
    Value::Object(parts.filter(|(_, value)| !value.is_object() && !value.is_null()).collect())
}

fn text_options(text: &Map<String, Value>) -> Value {
    let mut options = Map::new();
    for (key, value) in text {
        match (key.as_str(), value) {
            ("format", Value::Object(format)) => options.insert(key.clone(), format_name(format)),
            (_, Value::String(_) | Value::Bool(_) | Value::Number(_)) => {
                options.insert(key.clone(), value.clone())
            }
            _ => None,
        };
    }
    Value::Object(options)
}

fn is_credential(key: &str) -> bool {
    let key = key.to_ascii_lowercase();
    CREDENTIALS.iter().any(|part| key.contains(part))
}

fn without_credentials(value: &Value) -> Value {
    match value {
        Value::Object(members) => {
            let kept = members.iter().filter(|(key, _)| !is_credential(key));
            Value::Object(
                kept.map(|(key, value)| (key.clone(), without_credentials(value))).collect(),
            )
        }
        Value::Array(items) => Value::Array(items.iter().map(without_credentials).collect()),
        value => value.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_and_what_is_not_a_parameter() {
        let request = json!({
            "model": "m", "messages": [], "tools": [{}], "user": "u", "metadata": {"a": "b"}, "input": "x",
            "temperature": 0.2, "max_tokens": 5, "stop": ["a"], "stream": true, "seed": null, "new_scalar": "v",
            "new_object": {"a": 1}, "logit_bias": {"5": -100}, "tool_choice": {"type": "function"},
            "prediction": {"type": "content", "content": "long"}, "api_key": "sk-1", "extra_headers": {"a": "b"},
            "response_format": {"type": "json_schema", "json_schema": {"name": "n", "strict": true, "schema": {}}},
            "text": {"verbosity": "low", "format": {"type": "json_schema", "name": "n", "schema": {}}},
            "provider": {"order": ["a"], "api_key": "sk-2"},
            "prompt_cache_key": "k",
        });
        let expected = json!({
            "temperature": 0.2, "max_tokens": 5, "stop": ["a"], "stream": true, "new_scalar": "v",
            "logit_bias": {"5": -100}, "tool_choice": {"type": "function"}, "prediction": {"type": "content"},
            "response_format": {"type": "json_schema", "name": "n", "strict": true},
            "text": {"verbosity": "low", "format": {"type": "json_schema", "name": "n"}},
            "provider": {"order": ["a"]},
            "prompt_cache_key": "k",
        });
        assert_eq!(Value::Object(read(request.as_object().unwrap())), expected);
    }

    #[test]
    fn bounded() {
        let many: Map<String, Value> = (0..10_000).map(|i| (format!("k{i}"), json!(1))).collect();
        assert_eq!(read(&many).len(), PARAMETERS_MAX);
        let big = json!({"stop": vec!["x"; 10_000], "note": "y".repeat(10_000)});
        let kept = read(big.as_object().unwrap());
        assert_eq!(kept.get("stop"), None);
        assert_eq!(kept["note"].as_str().unwrap().len(), VALUE_BYTES_MAX);
    }
}
