//! The provider's error, in every shape that providers give it.
//!
//! Source: recorded error bodies of OpenAI, Azure, Groq, Together, `OpenRouter`, xAI, Mistral,
//! Perplexity, `DeepSeek`, vLLM and gateways.

use super::text::{self, clip};
use crate::model::CallError;
use serde_json::{Map, Value};

/// Longest message taken from a body of unknown shape, in bytes.
const FALLBACK_BYTES_MAX: usize = 500;

/// Longest message kept, in bytes.
const MESSAGE_BYTES_MAX: usize = 16 * 1024;

/// Longest `type`, `code` or `param` kept, in bytes.
const WORD_BYTES_MAX: usize = 256;

/// The error in a whole JSON body: any body of an answer with an error status, and any body that says
/// so itself although its status does not.
pub(crate) fn in_body(status: Option<u16>, body: &Value) -> Option<CallError> {
    (is_error_status(status) || is_failure(body) || choice_error(body).is_some())
        .then(|| read(body))
}

/// The error in one event of a stream.
pub(crate) fn in_event(name: &str, data: &Value) -> Option<CallError> {
    let fails = name == "error" || is_failure(data);
    (fails || hidden_error(data).is_some() || choice_error(data).is_some()).then(|| read(data))
}

/// The error that a finished object carries, or the bare fact that its status is `failed`.
pub(crate) fn in_object(object: &Value) -> Option<CallError> {
    let failed = || object.get("status").and_then(Value::as_str) == Some("failed");
    match object.get("error").filter(|error| is_truthy(error)) {
        Some(_) => Some(read(object)),
        None => failed().then(|| from_text("")),
    }
}

/// What the object of a stream says of the error that an event told, in either of its shapes.
pub(crate) fn told(mut event: Map<String, Value>) -> Value {
    if let Some(error) = event.shift_remove("error").filter(is_truthy) {
        return error;
    }
    event.retain(|key, _| !matches!(key.as_str(), "type" | "sequence_number" | "error"));
    Value::Object(event)
}

/// The error in an answer that has no JSON: only its status can say so.
pub(crate) fn in_text(status: Option<u16>, body: &str) -> Option<CallError> {
    is_error_status(status).then(|| from_text(body))
}

/// An error of which only a text is known.
pub(crate) fn from_text(text: &str) -> CallError {
    let text = text.trim();
    let message = (!text.is_empty()).then(|| clip(text, FALLBACK_BYTES_MAX));
    CallError { source: "provider".to_owned(), message, ..CallError::default() }
}

fn is_error_status(status: Option<u16>) -> bool {
    status.is_some_and(|status| status >= 400)
}

/// A truthy `error`, or an object that calls itself one.
fn is_failure(value: &Value) -> bool {
    let says = |key: &str| value.get(key).and_then(Value::as_str) == Some("error");
    value.get("error").is_some_and(is_truthy) || says("object") || says("type")
}

/// Groq's error beside a chunk's usual members.
fn hidden_error(value: &Value) -> Option<&Value> {
    value.get("x_groq")?.get("error").filter(|error| is_truthy(error))
}

/// `OpenRouter`'s error inside a choice.
fn choice_error(value: &Value) -> Option<&Value> {
    let choices = value.get("choices")?.as_array()?;
    choices.iter().find_map(|choice| choice.get("error").filter(|error| is_truthy(error)))
}

pub(crate) fn is_truthy(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => false,
        Value::Bool(true) => true,
        Value::Number(number) => number.as_f64() != Some(0.0),
        Value::String(text) => !text.is_empty(),
        Value::Array(items) => !items.is_empty(),
        Value::Object(members) => !members.is_empty(),
    }
}

fn read(value: &Value) -> CallError {
    // Gemini's compatible endpoint wraps its error in an array.
    let value = match value {
        Value::Array(items) => items.first().unwrap_or(value),
        _ => value,
    };
    let Value::Object(outer) = value else { return from_text(&plain(value)) };
    let stated = outer.get("error").filter(|error| is_truthy(error));
    let stated = stated.or_else(|| hidden_error(value)).or_else(|| choice_error(value));
    let mut error = match stated {
        Some(Value::Object(inner)) => from_members(inner),
        Some(Value::String(message)) => CallError { message: some(message), ..from_members(outer) },
        _ => from_members(outer),
    };
    if error.message.is_none() {
        error.message = from_text(&plain(stated.unwrap_or(value))).message;
    }
    error
}

/// The members of an error object, wherever it stood.
fn from_members(members: &Map<String, Value>) -> CallError {
    let word = |key: &str| members.get(key).and_then(word);
    // `{"type":"error","message":…}`: the type says nothing that is not known.
    let kind =
        word("type").filter(|kind| kind != "error").or_else(|| text::name(members.get("status")));
    CallError {
        source: "provider".to_owned(),
        kind,
        code: word("code"),
        message: message(members),
        param: word("param"),
    }
}

/// What the error says: `message`, else `detail` (a text, or a list of validation faults), else the
/// first of a list of errors.
fn message(members: &Map<String, Value>) -> Option<String> {
    let text = |key: &str| members.get(key).and_then(Value::as_str).and_then(some);
    if let Some(message) = text("message").or_else(|| text("detail")).or_else(|| text("Message")) {
        return Some(message);
    }
    let list = match members.get("detail").or_else(|| members.get("errors"))? {
        Value::Array(items) => items.as_slice(),
        item => std::slice::from_ref(item),
    };
    let said = |item: &Value| match item {
        Value::String(text) => some(text),
        item => ["msg", "message"].iter().find_map(|key| some(item.get(key)?.as_str()?)),
    };
    let said: Vec<String> = list.iter().take(8).filter_map(said).collect();
    some(&said.join("; "))
}

/// A text or a number as a short text.
fn word(value: &Value) -> Option<String> {
    match value {
        Value::String(text) if !text.is_empty() => Some(clip(text, WORD_BYTES_MAX)),
        Value::Number(number) => Some(clip(&number.to_string(), WORD_BYTES_MAX)),
        _ => None,
    }
}

fn some(text: &str) -> Option<String> {
    (!text.is_empty()).then(|| clip(text, MESSAGE_BYTES_MAX))
}

fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    type Fields<'a> = (Option<&'a str>, Option<&'a str>, Option<&'a str>, Option<&'a str>);

    fn fields(error: &CallError) -> Fields<'_> {
        assert_eq!(error.source, "provider");
        (
            error.kind.as_deref(),
            error.code.as_deref(),
            error.message.as_deref(),
            error.param.as_deref(),
        )
    }

    #[test]
    fn http_shapes() {
        for (body, expected) in [
            (
                json!({"error": {"message": "m", "type": "t", "param": "p", "code": "c"}}),
                (Some("t"), Some("c"), Some("m"), Some("p")),
            ),
            (
                json!({"error": {"message": "m", "code": 429, "metadata": {}}}),
                (None, Some("429"), Some("m"), None),
            ),
            (
                json!({"error": {"message": "m", "type": null, "code": "content_filter", "status": 400}}),
                (None, Some("content_filter"), Some("m"), None),
            ),
            (json!({"code": "c", "error": "text"}), (None, Some("c"), Some("text"), None)),
            (json!({"detail": "d"}), (None, None, Some("d"), None)),
            (
                json!({"detail": [{"loc": ["body"], "msg": "a", "type": "x"}, {"msg": "b"}]}),
                (None, None, Some("a; b"), None),
            ),
            (
                json!({"object": "error", "message": "m", "type": "t", "code": 40303}),
                (Some("t"), Some("40303"), Some("m"), None),
            ),
            (
                json!([{"error": {"code": 400, "message": "m", "status": "S"}}]),
                (Some("S"), Some("400"), Some("m"), None),
            ),
            (
                json!({"success": false, "errors": [{"code": 7, "message": "m"}]}),
                (None, None, Some("m"), None),
            ),
            (json!({"why": "else"}), (None, None, Some("{\"why\":\"else\"}"), None)),
            (json!({"error": {"why": 1}}), (None, None, Some("{\"why\":1}"), None)),
            (json!("text"), (None, None, Some("text"), None)),
        ] {
            assert_eq!(fields(&in_body(Some(400), &body).unwrap()), expected, "{body}");
        }
        assert_eq!(
            in_text(Some(502), "<html>bad</html>").unwrap().message.unwrap(),
            "<html>bad</html>"
        );
        assert_eq!(in_text(Some(502), " ").unwrap().message, None);
        assert_eq!(in_text(Some(500), &"é".repeat(400)).unwrap().message.unwrap().len(), 500);
        assert!(in_text(Some(200), "fine").is_none());
    }

    #[test]
    fn a_good_status_may_still_carry_an_error() {
        assert!(in_body(Some(200), &json!({"error": {"message": "m"}})).is_some());
        assert!(in_body(Some(200), &json!({"error": null, "id": 1})).is_none());
        assert!(in_body(Some(200), &json!({"error": {}, "id": 1})).is_none());
        assert!(in_body(Some(200), &json!({"choices": [{"error": {"message": "m"}}]})).is_some());
    }

    #[test]
    fn stream_shapes() {
        for (name, data) in [
            ("", json!({"error": {"message": "m"}})),
            ("error", json!({"error": {"message": "m", "status_code": 400}})),
            ("", json!({"id": "1", "choices": [], "error": {"message": "m"}})),
            ("", json!({"type": "error", "message": "m"})),
            ("", json!({"type": "error", "error": {"type": "x", "message": "m"}})),
            ("", json!({"object": "error", "message": "m"})),
            ("error", json!({"message": "m"})),
            ("", json!({"x_groq": {"error": "m"}})),
        ] {
            assert_eq!(in_event(name, &data).unwrap().message.as_deref(), Some("m"), "{data}");
        }
        assert!(in_event("", &json!({"choices": [], "error": null})).is_none());
        assert!(in_event("ping", &json!({"type": "ping"})).is_none());
    }
}
