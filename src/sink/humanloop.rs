//! Humanloop: one prompt log a record, for a server that speaks its API.
//!
//! The service was closed on 8 September 2025, so a base URL must be given. The body is closed: an
//! unknown name or shape is a 422, so only what the first and the last version of the API both take is
//! sent. Source: sinks.md §5, from Humanloop's page on logging to a prompt, its API description of
//! October 2024 and its Python package 0.8.38.

use super::{
    Kind, Limits, Problem, Request, Settings, Sink, Verdict,
    facts::{self, Costs, add_metadata, error_text},
    json::{Members, fit, seconds, text},
    own::{Own, problem},
    talk::{Kind as Work, Message, Talk, part_text},
};
use crate::model::{Record, Secret};
use serde_json::{Map, Value, json};
use uuid::Uuid;

/// How Humanloop is reached.
pub const KIND: Kind = Kind {
    name: "humanloop",
    aliases: &[],
    base_url: None,
    url_variables: &[],
    tails: &[],
    retired: Some(RETIRED),
    key_variables: &["HUMANLOOP_API_KEY"],
    header_variables: &[],
    build,
};

/// The vendor's own host.
const RETIRED: (&str, &str) = (
    "api.humanloop.com",
    "Humanloop closed this service on 8 September 2025: nothing can be delivered there. Give the base URL of a server that speaks its API",
);

/// Largest body. No limit is documented.
const BODY_BYTES_MAX: usize = 20_000_000;

/// Facts that have a place of their own.
const HOMES: [&str; 5] =
    ["prompt_tokens", "completion_tokens", "cost_input", "cost_output", "finish_reason"];

/// Providers that the API knows, and what calltap calls them.
const PROVIDERS: [(&str, &str); 11] = [
    ("openai", "openai"),
    ("azure", "openai_azure"),
    ("anthropic", "anthropic"),
    ("bedrock", "bedrock"),
    ("cohere", "cohere"),
    ("replicate", "replicate"),
    ("google", "google"),
    ("gemini", "google"),
    ("vertex", "google"),
    ("groq", "groq"),
    ("mock", "mock"),
];

#[derive(Debug)]
struct Humanloop {
    key: Secret,
    path: String,
    environment: bool,
}

fn build(settings: &Settings) -> Result<Box<dyn Sink>, Problem> {
    let mut own = Own::new(settings);
    let path = own.text("path")?.unwrap_or_else(|| "proxy/{prompt}".to_owned());
    let environment = own.flag("environment", true)?;
    let key = own.api_key(&KIND)?;
    own.finish()?;
    if path.replace("{prompt}", "").contains(['{', '}']) {
        return Err(problem("path", "has a placeholder that is not known; there is {prompt}"));
    }
    Ok(Box::new(Humanloop { key, path, environment }))
}

impl Sink for Humanloop {
    fn limits(&self) -> Limits {
        Limits { records: 1, bytes: BODY_BYTES_MAX }
    }

    fn requests(&self, records: &[Record]) -> Vec<Request> {
        let one =
            |(place, record)| self.request(fit(&self.log(record), BODY_BYTES_MAX), vec![place]);
        records.iter().enumerate().map(one).collect()
    }

    /// A conflict passes, as the vendor's client has it.
    fn verdict(&self, _: &[Uuid], status: u16, _: &[u8]) -> Option<Verdict> {
        (status == 409).then_some(Verdict::Retry)
    }

    /// A log without a prompt: refused, after the key was looked at.
    fn probe(&self) -> Option<Request> {
        Some(self.request("{}".into(), Vec::new()))
    }
}

impl Humanloop {
    fn request(&self, body: bytes::Bytes, records: Vec<usize>) -> Request {
        Request::json("/prompts/log", vec![("x-api-key", self.key.clone())], body, records)
    }

    /// The path of a prompt. A slug is one name, whatever it holds.
    fn path(&self, slug: Option<&str>) -> String {
        let name = slug.unwrap_or("default").trim().replace(['/', '\\'], "-");
        let name = if name.is_empty() || name == "." || name == ".." { "default" } else { &name };
        self.path.replace("{prompt}", name)
    }

    fn log(&self, record: &Record) -> Value {
        let talk = Talk::of(record);
        let (tags, costs) = (&record.tags, Costs::of(record));
        let mut log = Members::default();
        log.put("path", self.path(tags.prompt.as_deref()));
        log.put("prompt", prompt(record, &talk));
        log.add("messages", talk.messages.iter().map(message).collect::<Vec<_>>());
        log.add("output_message", talk.answer.as_ref().map(message));
        log.add("output", talk.text());
        log.add("tool_choice", tool_choice(record));
        log.add("prompt_tokens", record.usage.input);
        log.add("output_tokens", record.usage.output);
        log.add("prompt_cost", costs.input);
        log.add("output_cost", costs.output);
        log.add("finish_reason", record.finish_reasons.first());
        log.add("error", error_text(record));
        log.put("start_time", record.started_at.to_string());
        log.put("end_time", record.ended_at.to_string());
        log.put("created_at", record.ended_at.to_string());
        log.put("provider_latency", seconds(record.timing.latency_ms));
        log.add("provider_request", record.request.as_ref().filter(|body| body.is_object()));
        log.add("provider_response", record.response.as_ref().filter(|body| body.is_object()));
        log.add("inputs", inputs(record, &talk));
        log.put("source", "calltap");
        log.add("user", tags.user.as_ref().or(tags.customer.as_ref()));
        log.add("environment", tags.environment.as_ref().filter(|_| self.environment));
        log.put("metadata", metadata(record, &talk));
        log.into_value()
    }
}

/// What identifies a version of a prompt: settings that change slowly, never the conversation.
fn prompt(record: &Record, talk: &Talk) -> Value {
    let none = Value::Null;
    let asked = |name: &str| {
        let sent = record.request.as_ref().and_then(|request| request.get(name));
        sent.or_else(|| record.parameters.get(name)).unwrap_or(&none)
    };
    let number = |name: &str| Some(asked(name)).filter(|value| value.is_number());
    let mut prompt = Members::default();
    prompt.put("model", facts::model(record));
    prompt.put("endpoint", if talk.kind == Work::Completion { "complete" } else { "chat" });
    match PROVIDERS.iter().find(|(ours, _)| *ours == record.provider) {
        Some((_, theirs)) => prompt.put("provider", *theirs),
        None if record.provider.is_empty() => {}
        None => prompt.put("attributes", json!({"provider": record.provider})),
    }
    let longest = ["max_tokens", "max_completion_tokens", "max_output_tokens"];
    prompt.add("max_tokens", longest.iter().map(|name| asked(name)).find(|value| value.is_u64()));
    for name in ["temperature", "top_p", "presence_penalty", "frequency_penalty"] {
        prompt.add(name, number(name));
    }
    let texts =
        |value: &Value| value.as_array().is_some_and(|all| all.iter().all(Value::is_string));
    prompt.add("stop", Some(asked("stop")).filter(|stop| stop.is_string() || texts(stop)));
    prompt.add("response_format", response_format(asked("response_format")));
    let (functions, others): (Vec<Value>, Vec<Value>) =
        talk.all_tools().into_iter().partition(|tool| tool["function"]["name"].is_string());
    prompt.add("tools", functions.iter().map(|tool| flat(&tool["function"])).collect::<Vec<_>>());
    if !others.is_empty() {
        prompt.put("other", json!({"tools": others}));
    }
    prompt.into_value()
}

fn response_format(format: &Value) -> Option<Value> {
    let kind =
        format["type"].as_str().filter(|kind| ["json_object", "json_schema"].contains(kind))?;
    let mut taken = Members::default();
    taken.put("type", kind);
    taken.add("json_schema", Some(&format["json_schema"]).filter(|schema| schema.is_object()));
    Some(taken.into_value())
}

/// A function without its wrapping; the API wants a description.
fn flat(function: &Value) -> Value {
    let mut tool = Members::default();
    tool.put("name", function["name"].clone());
    tool.put("description", function["description"].as_str().unwrap_or_default());
    tool.add("strict", function["strict"].as_bool());
    if function["parameters"].is_object() {
        tool.put("parameters", function["parameters"].clone());
    }
    tool.into_value()
}

fn tool_choice(record: &Record) -> Option<Value> {
    let choice = record.request.as_ref()?.get("tool_choice")?;
    match choice.as_str() {
        Some("none" | "auto" | "required") => Some(choice.clone()),
        Some(_) => None,
        None => {
            let name = choice["function"]["name"].as_str()?;
            Some(json!({"type": "function", "function": {"name": name}}))
        }
    }
}

/// A message of the API's closed shape; what does not fit stands in `provider_request`.
fn message(message: &Message) -> Value {
    let text_member = |name: &str| message.get(name).and_then(Value::as_str);
    let role = match text_member("role").unwrap_or_default() {
        role @ ("user" | "assistant" | "system" | "tool") => role,
        "developer" => "system",
        "function" => "tool",
        _ => "user",
    };
    let mut taken = Members::default();
    taken.put("role", role);
    let said =
        || text_member("refusal").or_else(|| message.get("audio")?.get("transcript")?.as_str());
    match message.get("content") {
        Some(Value::String(text)) => taken.put("content", text.as_str()),
        Some(Value::Array(parts)) => {
            taken.put("content", parts.iter().map(part).collect::<Vec<_>>());
        }
        _ => taken.put("content", said().map_or(Value::Null, Value::from)),
    }
    taken.add("name", text_member("name"));
    taken.add("tool_call_id", text_member("tool_call_id"));
    taken.add("tool_calls", tool_calls(message));
    taken.into_value()
}

fn part(part: &Value) -> Value {
    let kind = part["type"].as_str().unwrap_or("part");
    let url = part["image_url"]["url"].as_str().filter(|_| kind == "image_url");
    if let Some(url) = url {
        let mut image = json!({"url": url});
        if let Some(detail @ ("high" | "low" | "auto")) = part["image_url"]["detail"].as_str() {
            image["detail"] = detail.into();
        }
        return json!({"type": "image_url", "image_url": image});
    }
    let said = part_text(part).unwrap_or_else(|| format!("[{kind} omitted]"));
    json!({"type": "text", "text": said})
}

/// Calls of functions; a custom tool's input stands as its arguments, a legacy call as the only one.
fn tool_calls(message: &Message) -> Vec<Value> {
    let one = |call: &Value| {
        let (name, arguments) = match call.get("custom") {
            Some(custom) => (&custom["name"], &custom["input"]),
            None => (&call["function"]["name"], &call["function"]["arguments"]),
        };
        Some(json!({"id": call["id"].as_str().unwrap_or_default(), "type": "function",
            "function": {"name": name.as_str()?, "arguments": text(arguments)}}))
    };
    let calls = message.get("tool_calls").and_then(Value::as_array);
    let mut calls: Vec<Value> = calls.into_iter().flatten().filter_map(one).collect();
    if let Some(legacy) = message.get("function_call").filter(|call| call.is_object()) {
        calls.extend(one(&json!({"id": "function_call", "function": legacy})));
    }
    calls
}

/// The variables of the template, and the prompt of a completion.
fn inputs(record: &Record, talk: &Talk) -> Map<String, Value> {
    let mut inputs = record.tags.inputs.clone();
    if let (Work::Completion, Some(prompt)) = (talk.kind, &talk.prompt) {
        inputs.entry("prompt").or_insert_with(|| prompt.as_str().into());
    }
    inputs
}

fn metadata(record: &Record, talk: &Talk) -> Map<String, Value> {
    let mut facts = facts::facts(record, talk);
    facts.0.retain(|name, _| !HOMES.contains(&name.as_str()));
    if tool_choice(record).is_none() {
        let choice = record.request.as_ref().and_then(|request| request.get("tool_choice"));
        facts.add("tool_choice", choice);
    }
    add_metadata(&mut facts, &record.tags.metadata);
    facts.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sink::{fixtures, tests::settings};

    fn path(template: &str, slug: Option<&str>) -> String {
        let mut settings = settings(&KIND);
        settings.own.insert("path".to_owned(), template.into());
        let record = fixtures::record(json!({"tags": {"prompt": slug}}));
        let requests = build(&settings).unwrap().requests(&[record]);
        let body: Value = serde_json::from_slice(&requests[0].body).unwrap();
        text(&body["path"])
    }

    #[test]
    fn paths() {
        assert_eq!(path("proxy/{prompt}", Some("help/v3")), "proxy/help-v3");
        assert_eq!(path("a/{prompt}-b", None), "a/default-b");
        assert_eq!(path("{prompt}", Some("..")), "default");
        let mut settings = settings(&KIND);
        settings.own.insert("path".to_owned(), "{model}".into());
        assert_eq!(build(&settings).unwrap_err().key, "path");
    }

    #[test]
    fn the_prompt_does_not_change_with_the_conversation() {
        let said = |text: &str| {
            let request = json!({"model": "gpt-4o", "temperature": 1, "seed": text.len(),
                "messages": [{"role": "user", "content": text}]});
            let record = fixtures::record(json!({"request": request}));
            prompt(&record, &Talk::of(&record))
        };
        assert_eq!(said("a"), said("something else"));
    }

    #[test]
    fn a_conflict_passes() {
        let sink = build(&settings(&KIND)).unwrap();
        assert_eq!(sink.verdict(&[], 409, b""), Some(Verdict::Retry));
        assert_eq!(sink.verdict(&[], 422, b""), None);
    }
}
