//! The Responses API in the shape of chat completions.

use super::{Message, message, objects, part_text};
use serde_json::{Value, json};

/// `instructions` and `input` as messages.
pub(super) fn question(request: &Value) -> Vec<Message> {
    let mut messages = Vec::new();
    if let Some(text) = request["instructions"].as_str() {
        messages.push(message("system", text));
    }
    match &request["input"] {
        Value::String(text) => messages.push(message("user", text)),
        Value::Array(items) => messages.extend(items.iter().filter_map(item)),
        _ => {}
    }
    messages
}

/// An item of the input. Reasoning says nothing that was not in the answer it came from.
fn item(item: &Value) -> Option<Message> {
    let text = |name: &str| item[name].as_str().unwrap_or_default();
    match text("type") {
        "message" | "" if item["role"].is_string() => {
            let mut said = message(text("role"), "");
            said.insert("content".to_owned(), content(&item["content"]));
            Some(said)
        }
        "function_call" | "custom_tool_call" => {
            let mut said = message("assistant", "");
            said.insert("content".to_owned(), Value::Null);
            said.insert("tool_calls".to_owned(), json!([call(item)]));
            Some(said)
        }
        "function_call_output" | "custom_tool_call_output" => {
            let mut said = message("tool", "");
            said.insert("content".to_owned(), content(&item["output"]));
            said.insert("tool_call_id".to_owned(), item["call_id"].clone());
            Some(said)
        }
        "reasoning" => None,
        kind => {
            let role = if kind.ends_with("_output") { "tool" } else { "assistant" };
            let kind = if kind.is_empty() { "item" } else { kind };
            Some(message(role, &format!("[{kind}]")))
        }
    }
}

fn call(item: &Value) -> Value {
    let id = if item["call_id"].is_string() { &item["call_id"] } else { &item["id"] };
    let name = &item["name"];
    if item["type"] == "custom_tool_call" {
        json!({"id": id, "type": "custom", "custom": {"name": name, "input": item["input"]}})
    } else {
        json!({"id": id, "type": "function",
            "function": {"name": name, "arguments": item["arguments"]}})
    }
}

/// Parts under their names of chat completions.
fn content(content: &Value) -> Value {
    let Value::Array(parts) = content else { return content.clone() };
    parts.iter().map(part).collect()
}

fn part(part: &Value) -> Value {
    match part["type"].as_str().unwrap_or_default() {
        "input_text" | "output_text" | "summary_text" => {
            json!({"type": "text", "text": part["text"]})
        }
        "input_image" if part["image_url"].is_string() => {
            let mut image = json!({"url": part["image_url"]});
            if part["detail"].is_string() {
                image["detail"] = part["detail"].clone();
            }
            json!({"type": "image_url", "image_url": image})
        }
        "input_file" => {
            let mut file = part.as_object().cloned().unwrap_or_default();
            file.shift_remove("type");
            json!({"type": "file", "file": file})
        }
        _ => part.clone(),
    }
}

/// The output as one message: its texts together, its calls, what was thought.
pub(super) fn answer(response: &Value) -> Option<Message> {
    let (mut text, mut refusal, mut thought) = (String::new(), String::new(), String::new());
    let (mut calls, mut done) = (Vec::new(), Vec::new());
    for item in objects(&response["output"]) {
        match item["type"].as_str().unwrap_or_default() {
            "message" => {
                for part in objects(&item["content"]) {
                    let to = if part["type"] == "refusal" { &mut refusal } else { &mut text };
                    to.push_str(&part_text(part).unwrap_or_default());
                }
            }
            "function_call" | "custom_tool_call" => calls.push(call(item)),
            "reasoning" => {
                let parts = objects(&item["summary"]).chain(objects(&item["content"]));
                parts.filter_map(part_text).for_each(|part| thought.push_str(&part));
            }
            kind => done.push(format!("[{kind}]")),
        }
    }
    if text.is_empty() && refusal.is_empty() && calls.is_empty() {
        text = done.join(" ");
    }
    if [&text, &refusal, &thought].iter().all(|text| text.is_empty()) && calls.is_empty() {
        return None;
    }
    let mut answer = message("assistant", &text);
    if text.is_empty() {
        answer.insert("content".to_owned(), Value::Null);
    }
    for (name, text) in [("refusal", refusal), ("reasoning_content", thought)] {
        if !text.is_empty() {
            answer.insert(name.to_owned(), text.into());
        }
    }
    if !calls.is_empty() {
        answer.insert("tool_calls".to_owned(), calls.into());
    }
    Some(answer)
}
