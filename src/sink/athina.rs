//! Athina: one inference log a record.
//!
//! Source: sinks.md §3, from Athina's pages on logging over HTTP and on `OpenAI` Assistants.

use super::{
    Kind, Limits, Problem, Request, Settings, Sink,
    facts::{self, Costs, NO_CONTENT, body_text, error_text},
    json::{Members, fit, text, whole_millis},
    own::Own,
    talk::{self, Talk, without_nulls},
};
use crate::model::{Record, Secret};
use serde_json::{Map, Value, json};
use uuid::Uuid;

/// How Athina is reached.
pub const KIND: Kind = Kind {
    name: "athina",
    aliases: &[],
    base_url: Some("https://log.athina.ai"),
    url_variables: &["ATHINA_BASE_URL"],
    tails: &[],
    retired: None,
    key_variables: &["ATHINA_API_KEY"],
    header_variables: &[],
    build,
};

/// Largest body. Athina documents no limit; a record's bodies are at most this by default.
const BODY_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Facts that have a place of their own.
const HOMES: [&str; 17] = [
    "http_status",
    "prompt_slug",
    "session_id",
    "environment",
    "customer_id",
    "user_id",
    "external_reference_id",
    "user_query",
    "context",
    "expected_response",
    "prompt_tokens",
    "completion_tokens",
    "total_tokens",
    "total_cost",
    "tags",
    "ttft_ms",
    "endpoint",
];

#[derive(Debug)]
struct Athina {
    key: Secret,
    path: &'static str,
}

fn build(settings: &Settings) -> Result<Box<dyn Sink>, Problem> {
    let mut own = Own::new(settings);
    let path = match own.choice("flavour", &["v1", "v2"])? {
        "v2" => "/api/v2/log/inference",
        _ => "/api/v1/log/inference",
    };
    let key = own.api_key(&KIND)?;
    own.finish()?;
    Ok(Box::new(Athina { key, path }))
}

impl Sink for Athina {
    fn limits(&self) -> Limits {
        Limits { records: 1, bytes: BODY_BYTES_MAX }
    }

    fn requests(&self, records: &[Record]) -> Vec<Request> {
        let one = |(place, record)| self.request(fit(&log(record), BODY_BYTES_MAX), vec![place]);
        records.iter().enumerate().map(one).collect()
    }

    /// A log without its required fields: refused, after the key was looked at.
    fn probe(&self) -> Option<Request> {
        Some(self.request("{}".into(), Vec::new()))
    }
}

impl Athina {
    fn request(&self, body: bytes::Bytes, records: Vec<usize>) -> Request {
        let headers = vec![("athina-api-key", self.key.clone())];
        Request::json(self.path, headers, body, records)
    }
}

/// The inference log of a record.
fn log(record: &Record) -> Value {
    let talk = Talk::of(record);
    let (tags, usage) = (&record.tags, &record.usage);
    let mut log = Members::default();
    log.put("language_model_id", facts::model(record));
    log.put("prompt", prompt(&talk));
    log.put("response", response(record, &talk));
    log.add("user_query", &tags.user_query);
    log.add("context", tags.context.as_ref().and_then(context));
    log.put("response_time", whole_millis(record.timing.latency_ms));
    log.add("status_code", record.status);
    log.add("error", error_text(record));
    log.add("prompt_tokens", usage.input);
    log.add("completion_tokens", usage.output);
    log.add("total_tokens", usage.total);
    log.add("cost", Costs::of(record).total);
    log.add("prompt_slug", &tags.prompt);
    log.add("environment", &tags.environment);
    log.add("customer_id", &tags.customer);
    log.add("customer_user_id", &tags.user);
    log.add("session_id", &tags.session);
    log.put("external_reference_id", reference(record.id, tags.reference.as_deref()));
    log.add("expected_response", tags.expected.as_ref().map(text));
    log.add("tools", &talk.tools);
    log.add("functions", &talk.functions);
    log.add("tool_calls", talk.tool_calls());
    let call = talk.answer.as_ref().and_then(|answer| answer.get("function_call"));
    log.add("function_call_response", call.filter(|call| call.is_object()));
    log.add("model_options", model_options(&record.parameters));
    log.add("custom_attributes", custom_attributes(record, &talk));
    log.add("tags", &tags.labels);
    log.into_value()
}

/// Athina wants an id that is unique across all calls: the caller's, else the record's.
fn reference(id: Uuid, reference: Option<&str>) -> String {
    reference.map_or_else(|| id.to_string(), str::to_owned)
}

fn prompt(talk: &Talk) -> Value {
    match &talk.prompt {
        Some(text) => text.as_str().into(),
        None if talk.messages.is_empty() => NO_CONTENT.into(),
        None => json!(talk.messages),
    }
}

/// The answer as text: its words, else the whole message (a call of tools has no words), else the
/// provider's error.
fn response(record: &Record, talk: &Talk) -> String {
    let message = || talk.answer.as_ref().map(|answer| json!(without_nulls(answer)).to_string());
    let answer = talk.text().or_else(message);
    let answer = answer.or_else(|| body_text(record)).or_else(|| error_text(record));
    answer.unwrap_or_else(|| NO_CONTENT.to_owned())
}

/// Text or an object; a list is wrapped.
fn context(context: &Value) -> Option<Value> {
    match context {
        Value::Null => None,
        Value::String(_) | Value::Object(_) => Some(context.clone()),
        Value::Array(_) => Some(json!({"information": context})),
        other => Some(other.to_string().into()),
    }
}

/// The four options that Athina names, where they are of its types, and the others.
fn model_options(parameters: &Map<String, Value>) -> Map<String, Value> {
    let (mut options, mut extra) = (Members::default(), Members::default());
    for (name, value) in parameters {
        match name.as_str() {
            "temperature" | "top_p" if value.is_number() => options.put(name, value.clone()),
            "max_tokens" | "max_completion_tokens" | "max_output_tokens" if value.is_u64() => {
                options.put("max_completion_tokens", value.clone());
            }
            "stop" if is_texts(value) => options.put(name, value.clone()),
            "stream_options" => {}
            _ => extra.add(name, value),
        }
    }
    options.add("extra_options", extra.0);
    options.0
}

fn is_texts(value: &Value) -> bool {
    let all = |items: &Vec<Value>| items.iter().all(Value::is_string);
    value.is_string() || value.as_array().is_some_and(all)
}

/// Facts without a place, under a prefix that keeps clear of the caller's own names, which win.
fn custom_attributes(record: &Record, talk: &Talk) -> Map<String, Value> {
    let mut facts = facts::facts(record, talk);
    facts.put("started_at", record.started_at.to_string());
    facts.put("ended_at", record.ended_at.to_string());
    let mut attributes = Members::default();
    attributes.add("proxy_ttft_ms", record.timing.ttft_ms.map(whole_millis));
    if talk.kind != talk::Kind::Chat {
        attributes.put("proxy_endpoint", record.endpoint.as_str());
    }
    for (name, value) in facts.0 {
        if !HOMES.contains(&name.as_str()) {
            attributes.put(&format!("proxy_{name}"), value);
        }
    }
    for (name, value) in &record.tags.metadata {
        attributes.put(name, value.clone());
    }
    attributes.0
}
