//! The `GenAI` conventions of OpenTelemetry in three generations, all in development.
//!
//! Source: ux.md §10.1; semantic conventions 1.36 (`gen_ai.system`, messages as events), 1.37 to 1.42
//! (`gen_ai.provider.name`, messages as attributes), and the repository of the `GenAI`
//! conventions since.

use super::{Attributes, Messages, words};
use crate::{
    model::{Outcome, Record},
    sink::talk::{Kind as Work, Message, Talk, part_text, text_of},
};
use serde_json::{Value, json};

/// Which names hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Generation {
    V136,
    V141,
    Latest,
}

impl Generation {
    pub(super) fn schema_url(self) -> &'static str {
        match self {
            Self::V136 => "https://opentelemetry.io/schemas/1.36.0",
            Self::V141 | Self::Latest => "https://opentelemetry.io/schemas/1.41.0",
        }
    }
}

/// Providers whose name in the conventions is another.
const PROVIDERS: [(&str, &str); 8] = [
    ("azure", "azure.ai.openai"),
    ("bedrock", "aws.bedrock"),
    ("gemini", "gcp.gemini"),
    ("google", "gcp.gemini"),
    ("vertex", "gcp.vertex_ai"),
    ("mistral", "mistral_ai"),
    ("moonshot", "moonshot_ai"),
    ("xai", "x_ai"),
];

/// Adds a call's attributes. Gives the span's name, and its events with their members.
pub(super) fn add(
    to: &mut Attributes,
    generation: Generation,
    record: &Record,
    talk: &Talk,
    messages: Messages,
) -> (String, Vec<(String, Value)>) {
    let operation = operation(record, talk);
    let provider = PROVIDERS.iter().find(|(ours, _)| *ours == record.provider);
    let provider = provider.map_or(record.provider.as_str(), |(_, theirs)| theirs);
    let old = generation == Generation::V136;
    to.text("gen_ai.operation.name", operation);
    to.text(if old { "gen_ai.system" } else { "gen_ai.provider.name" }, provider);
    to.maybe("gen_ai.request.model", record.model.requested.as_deref());
    to.maybe("gen_ai.response.model", record.model.served.as_deref());
    request(to, generation, record);
    let response = record.response.as_ref();
    to.maybe("gen_ai.response.id", response.and_then(|body| body["id"].as_str()));
    if !record.finish_reasons.is_empty() {
        to.value("gen_ai.response.finish_reasons", &json!(record.finish_reasons));
    }
    usage(to, generation, record);
    to.maybe("gen_ai.conversation.id", record.tags.session.as_deref());
    to.maybe("user.id", record.tags.user.as_deref());
    if generation == Generation::Latest {
        to.maybe("gen_ai.prompt.name", record.tags.prompt.as_deref());
        to.maybe("gen_ai.prompt.version", record.tags.prompt_version.as_deref());
    } else {
        to.maybe("calltap.prompt.name", record.tags.prompt.as_deref());
        to.maybe("calltap.prompt.version", record.tags.prompt_version.as_deref());
    }
    to.maybe("error.type", error_type(record).as_deref());
    to.int("http.response.status_code", record.status.map(u64::from));
    let name = match record.model.requested.as_deref().or(record.model.served.as_deref()) {
        Some(model) => format!("{operation} {model}"),
        None => operation.to_owned(),
    };
    let mut said = Vec::new();
    match (messages, old) {
        (Messages::Off, _) => {}
        (_, true) => said = events(record, talk, messages),
        (_, false) => content(to, record, talk, messages),
    }
    (name, said)
}

fn operation<'a>(record: &'a Record, talk: &Talk) -> &'a str {
    match talk.kind {
        Work::Chat | Work::Response | Work::Thread => "chat",
        Work::Completion => "text_completion",
        Work::Embedding => "embeddings",
        Work::Image => "generate_content",
        _ => record.endpoint.as_str(),
    }
}

fn request(to: &mut Attributes, generation: Generation, record: &Record) {
    let asked = |name: &str| record.parameters.get(name);
    let number = |name: &str| asked(name).and_then(Value::as_f64);
    let count = |name: &str| asked(name).and_then(Value::as_u64);
    let longest = ["max_completion_tokens", "max_tokens", "max_output_tokens"];
    to.int("gen_ai.request.max_tokens", longest.into_iter().find_map(count));
    for name in ["temperature", "top_p", "frequency_penalty", "presence_penalty"] {
        to.double(&format!("gen_ai.request.{name}"), number(name));
    }
    if let Some(seed) = asked("seed").filter(|seed| seed.is_i64()) {
        to.value("gen_ai.request.seed", seed);
    }
    to.int("gen_ai.request.choice.count", count("n").filter(|count| *count != 1));
    match asked("stop") {
        Some(Value::String(stop)) => to.value("gen_ai.request.stop_sequences", &json!([stop])),
        Some(stop @ Value::Array(_)) => to.value("gen_ai.request.stop_sequences", stop),
        _ => {}
    }
    if let Some(kind) = asked("response_format").and_then(output_type) {
        to.text("gen_ai.output.type", kind);
    }
    if generation == Generation::Latest {
        to.flag("gen_ai.request.stream", record.stream);
        let level = asked("reasoning_effort").or_else(|| asked("reasoning")?.get("effort"));
        to.maybe("gen_ai.request.reasoning.level", level.and_then(Value::as_str));
        let previous = record.tags.metadata.get("previous_response_id").and_then(Value::as_str);
        to.maybe("gen_ai.request.previous_response.id", previous);
        let first = record.timing.ttft_ms.map(crate::sink::json::seconds);
        to.double("gen_ai.response.time_to_first_chunk", first);
    }
}

fn output_type(format: &Value) -> Option<&'static str> {
    match format["type"].as_str()? {
        "json_object" | "json_schema" => Some("json"),
        "text" => Some("text"),
        _ => None,
    }
}

fn usage(to: &mut Attributes, generation: Generation, record: &Record) {
    let usage = &record.usage;
    to.int("gen_ai.usage.input_tokens", usage.input);
    to.int("gen_ai.usage.output_tokens", usage.output);
    if generation == Generation::V136 {
        return;
    }
    let latest = generation == Generation::Latest;
    let written = if latest { "cache_write" } else { "cache_creation" };
    to.int("gen_ai.usage.cache_read.input_tokens", usage.input_cached);
    to.int(&format!("gen_ai.usage.{written}.input_tokens"), usage.input_cache_write);
    if latest {
        to.int("gen_ai.usage.reasoning.output_tokens", usage.output_reasoning);
    }
}

/// The provider's code where it gave one, else its status, else how the call ended.
fn error_type(record: &Record) -> Option<String> {
    if record.outcome == Outcome::ClientAborted {
        return None;
    }
    let error = record.error.as_ref()?;
    let status = record.status.filter(|status| *status >= 400).map(|status| status.to_string());
    let said = error.code.clone().or_else(|| error.kind.clone()).or(status);
    Some(said.unwrap_or_else(|| record.outcome.as_str().to_owned()))
}

/// Messages as JSON in attributes, since 1.37.
fn content(to: &mut Attributes, record: &Record, talk: &Talk, messages: Messages) {
    let input: Vec<Value> = talk.messages.iter().map(|said| message(said, messages)).collect();
    let answers = talk.answer.iter().chain(&talk.others).enumerate();
    let output: Vec<Value> = answers
        .map(|(place, said)| {
            let mut said = message(said, messages);
            if let Some(reason) = record.finish_reasons.get(place) {
                said["finish_reason"] = reason.as_str().into();
            }
            said
        })
        .collect();
    let tools = if messages == Messages::On { talk.all_tools() } else { Vec::new() };
    let lists = [
        ("gen_ai.input.messages", input),
        ("gen_ai.output.messages", output),
        ("gen_ai.tool.definitions", tools),
    ];
    for (name, list) in lists.into_iter().filter(|(_, list)| !list.is_empty()) {
        to.text(name, &Value::Array(list).to_string());
    }
}

/// A message in parts.
fn message(said: &Message, messages: Messages) -> Value {
    let role = said.get("role").and_then(Value::as_str).unwrap_or("user");
    let mut parts = Vec::new();
    if let Some(thought) = said.get("reasoning_content").and_then(Value::as_str) {
        parts.push(json!({"type": "reasoning", "content": words(thought, messages)}));
    }
    let answered = said.get("tool_call_id").and_then(Value::as_str);
    match (answered, said.get("content")) {
        (Some(id), content) => {
            let text = text_of(said).or_else(|| content.map(Value::to_string)).unwrap_or_default();
            let response = words(&text, messages);
            parts.push(json!({"type": "tool_call_response", "id": id, "response": response}));
        }
        (None, Some(Value::Array(content))) => {
            parts.extend(content.iter().map(|part| content_part(part, messages)));
        }
        (None, _) => parts.extend(
            text_of(said).map(|text| json!({"type": "text", "content": words(&text, messages)})),
        ),
    }
    let calls = said.get("tool_calls").and_then(Value::as_array);
    for call in calls.into_iter().flatten() {
        let (name, arguments) = match call.get("custom") {
            Some(custom) => (&custom["name"], &custom["input"]),
            None => (&call["function"]["name"], &call["function"]["arguments"]),
        };
        let arguments = words(arguments.as_str().unwrap_or_default(), messages);
        parts.push(json!({"type": "tool_call", "id": call["id"], "name": name,
            "arguments": arguments}));
    }
    json!({"role": role, "parts": parts})
}

/// Pictures by their address; what is inline is only named.
fn content_part(part: &Value, messages: Messages) -> Value {
    if let Some(text) = part_text(part) {
        return json!({"type": "text", "content": words(&text, messages)});
    }
    let url = part["image_url"]["url"].as_str().filter(|url| !url.starts_with("data:"));
    match url.filter(|_| messages == Messages::On) {
        Some(url) => json!({"type": "uri", "modality": "image", "uri": url}),
        None => json!({"type": part["type"].as_str().unwrap_or("part")}),
    }
}

/// One event a message, up to 1.36.
fn events(record: &Record, talk: &Talk, messages: Messages) -> Vec<(String, Value)> {
    let said = |message: &Message| words(&text_of(message).unwrap_or_default(), messages);
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
        let body = json!({"content": said(message), "tool_calls": calls(message), "id": id});
        events.push((format!("gen_ai.{role}.message"), body));
    }
    for (place, message) in talk.answer.iter().chain(&talk.others).enumerate() {
        let reason = record.finish_reasons.get(place);
        let body = json!({"index": place, "finish_reason": reason, "content": said(message),
            "tool_calls": calls(message)});
        events.push(("gen_ai.choice".to_owned(), body));
    }
    events
}
