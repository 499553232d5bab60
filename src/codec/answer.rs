//! The words of an answer: the first for lists, all for searching.

use serde_json::Value;

/// What was generated, as one text: of the first choice, of all output items, or of all responses of a
/// connection; a refusal where it refused; the names of the tools where it only called some. `None`
/// where there is nothing to read.
pub fn answer_text(response: &Value) -> Option<String> {
    if let Some(Value::Array(responses)) = response.get("responses") {
        return joined(responses.iter().filter(|one| one.get("output").is_some()).map(answer_text));
    }
    let chosen = response.pointer("/choices/0");
    let message = chosen.and_then(|choice| choice.get("message"));
    let text = match (message, chosen, response.get("output")) {
        (Some(message), ..) => of_message(message),
        (None, Some(choice), _) => text_of(choice.get("text")),
        (None, None, Some(Value::Array(items))) => joined(items.iter().map(of_item)),
        (None, None, _) => {
            text_of(response.get("content")).or_else(|| text_of(response.get("text")))
        }
    };
    text.filter(|text| !text.trim().is_empty())
}

fn of_message(message: &Value) -> Option<String> {
    let calls = || message.get("tool_calls").and_then(Value::as_array).map(Vec::as_slice);
    text_of(message.get("content"))
        .or_else(|| text_of(message.get("refusal")))
        .or_else(|| joined(calls().unwrap_or_default().iter().map(tool_name)))
        .or_else(|| tool_name(message.get("function_call")?))
        .or_else(|| text_of(message.pointer("/audio/transcript")))
}

/// One item of a Responses answer.
fn of_item(item: &Value) -> Option<String> {
    match item.get("type").and_then(Value::as_str)? {
        "message" => text_of(item.get("content")),
        kind if kind.ends_with("_call") => {
            tool_name(item).or_else(|| Some(format!("{}(…)", kind.trim_end_matches("_call"))))
        }
        _ => None,
    }
}

fn tool_name(call: &Value) -> Option<String> {
    let name = ["/function/name", "/custom/name", "/name"]
        .iter()
        .find_map(|path| call.pointer(path).and_then(Value::as_str))?;
    Some(format!("{name}(…)"))
}

/// A text, or the texts of content parts, in any of their shapes.
fn text_of(content: Option<&Value>) -> Option<String> {
    match content? {
        Value::String(text) if !text.is_empty() => Some(text.clone()),
        Value::Array(parts) => joined(parts.iter().map(|part| {
            let text = ["/text/value", "/text", "/refusal", "/transcript"]
                .iter()
                .find_map(|path| part.pointer(path).and_then(Value::as_str));
            text.map(str::to_owned)
        })),
        _ => None,
    }
}

fn joined(texts: impl Iterator<Item = Option<String>>) -> Option<String> {
    let texts: Vec<String> = texts.flatten().filter(|text| !text.is_empty()).collect();
    (!texts.is_empty()).then(|| texts.join(" "))
}

/// Members that hold an answer's text, whatever the endpoint.
const TEXT_MEMBERS: [&str; 8] = [
    "content",
    "text",
    "refusal",
    "reasoning_content",
    "reasoning",
    "arguments",
    "transcript",
    "output_text",
];

/// Every text of an answer, of all choices and items, one a line, until there are `most` bytes.
pub fn collect_text(response: &Value, most: usize, text: &mut String) {
    collect(response, 0, most, text);
}

fn collect(value: &Value, depth: u8, most: usize, text: &mut String) {
    if depth > 12 || text.len() > most {
        return;
    }
    match value {
        Value::Object(members) => {
            for (name, member) in members {
                match member {
                    Value::String(part) if TEXT_MEMBERS.contains(&name.as_str()) => {
                        text.push_str(part);
                        text.push('\n');
                    }
                    other => collect(other, depth + 1, most, text),
                }
            }
        }
        Value::Array(items) => items.iter().for_each(|item| collect(item, depth + 1, most, text)),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_first_words_of_every_kind_of_answer() {
        let chat = |message: Value| answer_text(&json!({"choices": [{"message": message}]}));
        assert_eq!(chat(json!({"content": "hi"})).as_deref(), Some("hi"));
        assert_eq!(chat(json!({"content": null, "refusal": "no"})).as_deref(), Some("no"));
        assert_eq!(
            chat(
                json!({"content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]})
            )
            .as_deref(),
            Some("a b")
        );
        let calls = json!({"content": "", "tool_calls": [{"function": {"name": "weather"}},
            {"type": "custom", "custom": {"name": "sql"}}]});
        assert_eq!(chat(calls).as_deref(), Some("weather(…) sql(…)"));
        let legacy = answer_text(&json!({"choices": [{"text": "old"}]}));
        assert_eq!(legacy.as_deref(), Some("old"));
        let response = json!({"output": [{"type": "reasoning"}, {"type": "web_search_call"},
            {"type": "message", "content": [{"type": "output_text", "text": "new"}]}]});
        assert_eq!(answer_text(&response).as_deref(), Some("web_search(…) new"));
        let spoken = json!({"responses": [response, {"output": [{"type": "message",
            "content": [{"type": "output_audio", "transcript": "said"}]}]}, {}, 7]});
        assert_eq!(answer_text(&spoken).as_deref(), Some("web_search(…) new said"));
        let message = json!({"content": [{"type": "text", "text": {"value": "thread"}}]});
        assert_eq!(answer_text(&message).as_deref(), Some("thread"));
        assert_eq!(answer_text(&json!({"text": "heard"})).as_deref(), Some("heard"));
        for nothing in [json!({}), json!(null), json!({"data": []}), json!({"choices": [{}]})] {
            assert_eq!(answer_text(&nothing), None, "{nothing}");
        }
    }
}
