//! Whether a delta carries generated output: what ends the time to first token.
//!
//! Not output: a role alone, empty texts, filter results, an encrypted blob without text.

use serde_json::{Map, Value};

/// Whether anything in `delta` (or in a whole message) was generated.
pub(crate) fn is_in(delta: &Map<String, Value>) -> bool {
    delta.iter().any(|(key, value)| match key.as_str() {
        "content" | "thinking_blocks" => has_text(value),
        "refusal" | "reasoning" | "reasoning_content" | "reasoning_text" | "thinking" => {
            has_text(value)
        }
        "reasoning_details" => any(value, |entry| part_has(entry, &["text", "summary"])),
        "tool_calls" | "images" => value.as_array().is_some_and(|items| !items.is_empty()),
        "function_call" => value.as_object().is_some_and(|call| !call.is_empty()),
        "audio" => part_has(value, &["data", "transcript"]),
        _ => false,
    })
}

/// A text that is not empty, or parts with one.
fn has_text(value: &Value) -> bool {
    match value {
        Value::String(text) => !text.is_empty(),
        Value::Array(_) => any(value, has_text),
        Value::Object(_) => part_has(
            value,
            &["text", "thinking", "summary", "refusal", "image_url", "input_audio", "audio"],
        ),
        _ => false,
    }
}

fn any(value: &Value, has: impl Fn(&Value) -> bool) -> bool {
    value.as_array().is_some_and(|items| items.iter().any(has))
}

fn part_has(part: &Value, keys: &[&str]) -> bool {
    keys.iter().any(|key| match part.get(*key) {
        Some(Value::Object(inner)) => !inner.is_empty(),
        Some(inner) => has_text(inner),
        None => false,
    })
}
