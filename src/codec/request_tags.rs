//! Metadata that a request carries in fields of its own: the lowest rung of what a caller can say.

use super::text::clip;
use crate::model::Tags;
use serde_json::{Map, Value};

/// Longest text of a tag, and of the question asked, in bytes.
const TAG_BYTES_MAX: usize = 4096;
const QUERY_BYTES_MAX: usize = 256 * 1024;

/// Most members taken from `metadata` and from the variables of a prompt.
const MEMBERS_MAX: usize = 256;

/// Reads the tags of a request.
pub(crate) fn read(request: &Map<String, Value>, endpoint: &str) -> Tags {
    let member = |key: &str| request.get(key);
    let mut tags = Tags { user_query: user_query(request, endpoint), ..Tags::default() };
    tags.user = ["user", "safety_identifier", "customer_identifier"]
        .into_iter()
        .find_map(|key| text(member(key)));
    if let Some(Value::Object(prompt)) = member("prompt") {
        tags.prompt = text(prompt.get("id"));
        tags.prompt_version = text(prompt.get("version"));
        tags.inputs = members(prompt.get("variables"), str::to_owned);
    }
    tags.session = text(member("conversation"))
        .or_else(|| text(member("conversation")?.get("id")))
        .or_else(|| text(member("session_id")))
        .or_else(|| text(member("litellm_session_id")));
    tags.metadata = members(member("metadata"), str::to_lowercase);
    from_metadata(&mut tags);
    if let Some(previous) = text(member("previous_response_id")) {
        let previous = Value::String(previous);
        tags.metadata.entry("previous_response_id").or_insert(previous);
    }
    tags
}

/// Fills empty slots from the names that callers commonly give to metadata; they stay in it too.
fn from_metadata(tags: &mut Tags) {
    let metadata = &tags.metadata;
    let first = |keys: &[&str]| keys.iter().find_map(|key| text(metadata.get(*key)));
    let found = Tags {
        prompt: first(&["prompt_slug", "prompt_id", "prompt_name", "prompt"]),
        prompt_version: first(&["prompt_version"]),
        session: first(&["session_id", "session", "conversation_id", "thread_id"]),
        session_name: first(&["session_name"]),
        session_path: first(&["session_path"]),
        environment: first(&["environment", "env"]),
        customer: first(&["customer_id", "customer", "customer_identifier"]),
        user: first(&["user_id", "trace_user_id", "customer_user_id", "user"]),
        reference: first(&["external_reference_id", "reference", "ref"]),
        labels: labels(metadata.get("tags").or_else(|| metadata.get("labels"))),
        ..Tags::default()
    };
    tags.fill_from(found);
}

fn labels(value: Option<&Value>) -> Vec<String> {
    match value {
        Some(Value::Array(items)) => {
            items.iter().take(MEMBERS_MAX).filter_map(|item| text(Some(item))).collect()
        }
        Some(Value::String(list)) => {
            let labels = list.split(',').map(str::trim).filter(|label| !label.is_empty());
            labels.take(MEMBERS_MAX).map(|label| clip(label, TAG_BYTES_MAX)).collect()
        }
        _ => Vec::new(),
    }
}

fn members(value: Option<&Value>, rename: fn(&str) -> String) -> Map<String, Value> {
    let Some(Value::Object(members)) = value else { return Map::new() };
    let short = |value: &Value| match value {
        Value::String(text) => Value::String(clip(text, TAG_BYTES_MAX)),
        value => value.clone(),
    };
    members
        .iter()
        .take(MEMBERS_MAX)
        .map(|(key, value)| (clip(&rename(key), 256), short(value)))
        .collect()
}

/// A text that is not empty; numbers count as their text.
fn text(value: Option<&Value>) -> Option<String> {
    match value? {
        Value::String(text) if !text.is_empty() => Some(clip(text, TAG_BYTES_MAX)),
        Value::Number(number) => Some(clip(&number.to_string(), TAG_BYTES_MAX)),
        _ => None,
    }
}

/// The text of the last user message; the prompt of a completion and the bare input of a response
/// are one. (The input of embeddings is not: it is a document.)
fn user_query(request: &Map<String, Value>, endpoint: &str) -> Option<String> {
    let input = request.get("input").filter(|_| endpoint.starts_with("responses"));
    // Whoever transcribes is given a hint, not a question.
    let prompt = request.get("prompt").filter(|_| !endpoint.starts_with("audio"));
    match request.get("messages").or(input).or(prompt)? {
        messages @ Value::Array(_) => last_user_text(messages),
        question => content_text(question),
    }
}

/// The text of the last message of a list that a user sent.
pub(crate) fn last_user_text(messages: &Value) -> Option<String> {
    let is_user = |message: &&Value| message.get("role").and_then(Value::as_str) == Some("user");
    content_text(messages.as_array()?.iter().rev().find(is_user)?.get("content")?)
}

/// The text of a message: itself, or its text parts joined by line feeds.
fn content_text(content: &Value) -> Option<String> {
    let text = match content {
        Value::String(text) => clip(text, QUERY_BYTES_MAX),
        Value::Array(parts) => {
            let mut joined = String::new();
            for part in
                parts.iter().filter_map(|part| part.as_str().or_else(|| part.get("text")?.as_str()))
            {
                if !joined.is_empty() {
                    joined.push('\n');
                }
                joined.push_str(&clip(part, QUERY_BYTES_MAX.saturating_sub(joined.len())));
            }
            joined
        }
        _ => return None,
    };
    (!text.is_empty()).then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn tags(request: &Value) -> Tags {
        read(request.as_object().unwrap(), "chat.completions")
    }

    #[test]
    fn own_fields() {
        let tags = tags(&json!({
            "user": "u", "safety_identifier": "s",
            "prompt": {"id": "pmpt_1", "version": "3", "variables": {"Name": "x"}},
            "conversation": {"id": "conv_1"}, "previous_response_id": "resp_1",
            "metadata": {"Plan": "pro", "customer_id": 7, "env": "prod", "tags": "a, b"},
        }));
        assert_eq!(tags.user.as_deref(), Some("u"));
        assert_eq!(
            (tags.prompt.as_deref(), tags.prompt_version.as_deref()),
            (Some("pmpt_1"), Some("3"))
        );
        assert_eq!(tags.inputs["Name"], "x");
        assert_eq!(tags.session.as_deref(), Some("conv_1"));
        assert_eq!(
            (tags.customer.as_deref(), tags.environment.as_deref()),
            (Some("7"), Some("prod"))
        );
        assert_eq!(tags.labels, ["a", "b"]);
        assert_eq!(
            (&tags.metadata["plan"], &tags.metadata["previous_response_id"]),
            (&json!("pro"), &json!("resp_1"))
        );
    }

    #[test]
    fn metadata_names() {
        let tags = tags(&json!({"safety_identifier": "s", "conversation": "conv_2",
            "metadata": {"session_id": "s1", "prompt_slug": "p", "prompt_version": 2}}));
        assert_eq!((tags.user.as_deref(), tags.session.as_deref()), (Some("s"), Some("conv_2")));
        assert_eq!(
            (tags.prompt.as_deref(), tags.prompt_version.as_deref()),
            (Some("p"), Some("2"))
        );
        assert_eq!(tags.metadata["session_id"], "s1");
    }

    #[test]
    fn the_last_user_message() {
        let query =
            |endpoint, request: Value| read(request.as_object().unwrap(), endpoint).user_query;
        let chat = json!({"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"},
            {"role": "user", "content": [{"type": "text", "text": "c"}, {"type": "image_url"}, {"type": "text", "text": "d"}]},
            {"role": "tool", "content": "e"}]});
        assert_eq!(query("chat.completions", chat).as_deref(), Some("c\nd"));
        assert_eq!(query("completions", json!({"prompt": "once"})).as_deref(), Some("once"));
        assert_eq!(query("completions", json!({"prompt": [1, 2]})), None);
        assert_eq!(
            query("responses", json!({"input": "hi", "prompt": {"id": "p"}})).as_deref(),
            Some("hi")
        );
        assert_eq!(
            query("responses", json!({"input": [{"role": "user", "content": "hi"}]})).as_deref(),
            Some("hi")
        );
        assert_eq!(query("embeddings", json!({"input": "document"})), None);
        assert_eq!(query("chat.completions", json!({"messages": "no"})).as_deref(), Some("no"));
    }
}
