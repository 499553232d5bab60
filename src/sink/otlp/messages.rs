//! What was said, as the `GenAI` conventions have it: JSON in attributes since 1.37, events before.
//!
//! Source: the JSON schemas of input messages, output messages, system instructions and tool
//! definitions beside the conventions.

use super::{Attributes, Messages, attributes::words, finish_reasons, genai::Generation};
use crate::{
    model::{Outcome, Record},
    sink::{
        json::Members,
        talk::{Kind as Work, Message, Talk, part_text, text_of},
    },
};
use serde_json::{Value, json};

/// Messages as JSON in attributes.
pub(super) fn content(
    to: &mut Attributes,
    generation: Generation,
    record: &Record,
    talk: &Talk,
    messages: Messages,
) {
    if talk.kind == Work::Embedding {
        return; // The conventions know no messages of it.
    }
    let (apart, history) = instructions(record, talk);
    let instructions: Vec<Value> = apart.iter().map(|said| text(said, messages)).collect();
    let input: Vec<Value> = history.iter().map(|said| message(said, messages)).collect();
    let answers = talk.answer.iter().chain(&talk.others).enumerate();
    let output: Vec<Value> = answers
        .map(|(place, said)| {
            let mut said = message(said, messages);
            // Once required beside each message, now only in `gen_ai.response.finish_reasons`.
            if generation == Generation::V141 {
                said["finish_reason"] = finish_reason(record, place).into();
            }
            said
        })
        .collect();
    let tools = talk.all_tools();
    let tools = tools.iter().filter(|_| messages == Messages::On).map(definition).collect();
    let lists = [
        ("gen_ai.system_instructions", instructions),
        ("gen_ai.input.messages", input),
        ("gen_ai.output.messages", output),
        ("gen_ai.tool.definitions", tools),
    ];
    for (name, list) in lists.into_iter().filter(|(_, list)| !list.is_empty()) {
        to.text(name, &Value::Array(list).to_string());
    }
    if generation == Generation::Latest {
        for (name, value) in &record.tags.inputs {
            let value = words(&crate::sink::json::text(value), messages);
            to.text(&format!("gen_ai.prompt.variable.{name}"), &value);
        }
    }
}

/// Instructions that stand apart from the messages, and the messages.
fn instructions<'a>(record: &Record, talk: &'a Talk) -> (Option<String>, &'a [Message]) {
    let request = record.request.as_ref().filter(|_| talk.kind == Work::Response);
    let apart = request.and_then(|request| request["instructions"].as_str());
    match (apart, talk.messages.split_first()) {
        (Some(apart), Some((_, rest))) => (Some(apart.to_owned()), rest),
        _ => (None, &talk.messages),
    }
}

/// A provider's own reason, with the one that is spelled differently.
fn finish_reason(record: &Record, place: usize) -> &str {
    match finish_reasons(record).nth(place) {
        Some("tool_calls" | "function_call") => "tool_call",
        Some(reason) => reason,
        None if record.outcome == Outcome::Completed => "stop",
        None => "error",
    }
}

fn text(text: &str, messages: Messages) -> Value {
    json!({"type": "text", "content": words(text, messages)})
}

/// A message in parts.
fn message(said: &Message, messages: Messages) -> Value {
    let member = |name: &str| said.get(name).and_then(Value::as_str);
    let role = member("role").unwrap_or("user");
    let mut parts = Vec::new();
    if let Some(thought) = member("reasoning_content") {
        parts.push(json!({"type": "reasoning", "content": words(thought, messages)}));
    }
    match said.get("content") {
        content if matches!(role, "tool" | "function") => {
            let answer = text_of(said).or_else(|| content.map(Value::to_string));
            let mut part = Members::default();
            part.put("type", "tool_call_response");
            part.add("id", member("tool_call_id"));
            part.put("response", words(&answer.unwrap_or_default(), messages));
            parts.push(part.into_value());
        }
        Some(Value::Array(content)) => {
            parts.extend(content.iter().map(|part| content_part(part, messages)));
        }
        _ => parts.extend(text_of(said).map(|said| text(&said, messages))),
    }
    let calls = said.get("tool_calls").and_then(Value::as_array);
    parts.extend(calls.into_iter().flatten().map(|call| tool_call(call, messages)));
    if let Some(function) = said.get("function_call").filter(|call| call.is_object()) {
        parts.push(tool_call(&json!({"function": function}), messages));
    }
    let mut message = Members::default();
    message.put("role", role);
    message.put("parts", parts);
    message.add("name", member("name"));
    message.into_value()
}

/// A call with its arguments as the object that their text stands for.
fn tool_call(call: &Value, messages: Messages) -> Value {
    let (name, arguments) = match call.get("custom") {
        Some(custom) => (&custom["name"], &custom["input"]),
        None => (&call["function"]["name"], &call["function"]["arguments"]),
    };
    let arguments = arguments.as_str().unwrap_or_default();
    let mut part = Members::default();
    part.put("type", "tool_call");
    part.add("id", call["id"].as_str());
    part.put("name", name.as_str().unwrap_or_default());
    let object = serde_json::from_str(arguments).ok().filter(Value::is_object);
    match object.filter(|_| messages == Messages::On) {
        Some(object) => part.put("arguments", object),
        None => part.put("arguments", words(arguments, messages)),
    }
    part.into_value()
}

/// Pictures by their address and files by their id; what is inline is only named.
fn content_part(part: &Value, messages: Messages) -> Value {
    if let Some(said) = part_text(part) {
        return text(&said, messages);
    }
    let open = messages == Messages::On;
    let url = part["image_url"]["url"].as_str().or_else(|| part["image_url"].as_str());
    if let Some(url) = url.filter(|url| open && !url.starts_with("data:")) {
        return json!({"type": "uri", "modality": "image", "uri": url});
    }
    let file = part["file"]["file_id"].as_str().or_else(|| part["file_id"].as_str());
    if let Some(id) = file.filter(|_| open) {
        let modality =
            if url.is_some() || part["type"] == "input_image" { "image" } else { "document" };
        return json!({"type": "file", "modality": modality, "file_id": id});
    }
    json!({"type": part["type"].as_str().unwrap_or("part")})
}

/// A tool with the members of its function beside its type; one without a name is named by its type.
fn definition(tool: &Value) -> Value {
    let kind = tool["type"].as_str().unwrap_or("function");
    let mut flat = Members::default();
    flat.put("type", kind);
    flat.put("name", kind);
    let inner =
        [kind, "function", "custom"].into_iter().find_map(|name| tool.get(name)?.as_object());
    for (name, value) in inner.or_else(|| tool.as_object()).into_iter().flatten() {
        flat.put(name, value.clone());
    }
    flat.into_value()
}

/// One event a message, up to 1.36.
pub(super) fn events(
    record: &Record,
    talk: &Talk,
    messages: Messages,
    system: &str,
) -> Vec<(String, Value)> {
    if talk.kind == Work::Embedding {
        return Vec::new();
    }
    let said = |message: &Message| text_of(message).map(|said| words(&said, messages));
    let calls = |message: &Message| match message.get("tool_calls") {
        Some(calls) if messages == Messages::On => calls.clone(),
        _ => Value::Null,
    };
    let mut events = Vec::new();
    for message in &talk.messages {
        let role = match message.get("role").and_then(Value::as_str).unwrap_or("user") {
            "developer" => "system",
            "function" => "tool",
            role => role,
        };
        let id = message.get("tool_call_id").cloned().unwrap_or_default();
        let body = json!({"gen_ai.system": system, "content": said(message),
            "tool_calls": calls(message), "id": id});
        events.push((format!("gen_ai.{role}.message"), body));
    }
    for (place, message) in talk.answer.iter().chain(&talk.others).enumerate() {
        let reason = finish_reasons(record).nth(place);
        let body = json!({"gen_ai.system": system, "index": place, "finish_reason": reason,
            "content": said(message), "tool_calls": calls(message)});
        events.push(("gen_ai.choice".to_owned(), body));
    }
    events
}
