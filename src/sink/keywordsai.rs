//! Keywords AI, now Respan: one request log a record, or a batch of them where asked for.
//!
//! Source: sinks.md §6, from the vendor's page on creating logs, its field reference and the models of
//! its packages `keywordsai-sdk` 0.5.2 and `respan-sdk` 2.9.0. A log that these models refuse is dropped
//! there without a word, so what they refuse is rewritten here.

use super::{
    Kind, Limits, Problem, Request, Settings, Sink, Verdict,
    batch::{body, runs},
    facts::{self, Costs, NO_CONTENT, add_metadata, body_text, error_text},
    json::{Members, clip_chars, fit, seconds, text},
    own::Own,
    talk::{Kind as Work, Message, Talk, part_text},
};
use crate::model::{Outcome, Record, Secret};
use bytes::Bytes;
use serde_json::{Map, Value, json};
use std::ops::Range;
use uuid::Uuid;

/// How Keywords AI is reached.
pub const KEYWORDSAI: Kind = Kind {
    name: "keywordsai",
    aliases: &[],
    base_url: Some("https://api.keywordsai.co"),
    url_variables: &["KEYWORDSAI_BASE_URL", "KEYWORDS_AI_BASE_URL"],
    tails: &["/api"],
    retired: None,
    key_variables: &["KEYWORDSAI_API_KEY"],
    header_variables: &[],
    build: |settings| build(settings, &KEYWORDSAI, &["create", "logs", "batch"]),
};

/// The same under its new name and host.
pub const RESPAN: Kind = Kind {
    name: "respan",
    aliases: &[],
    base_url: Some("https://api.respan.ai"),
    url_variables: &["RESPAN_BASE_URL"],
    tails: &["/api"],
    retired: None,
    key_variables: &["RESPAN_API_KEY", "KEYWORDSAI_API_KEY"],
    header_variables: &[],
    build: |settings| build(settings, &RESPAN, &["logs", "create", "batch"]),
};

/// Largest log, as documented; a batch may have five times as much, which nobody needs.
const LOG_BYTES_MAX: usize = 20_000_000;

/// Logs of a batch; 5000 are documented.
const BATCH_MAX: usize = 100;

/// Characters that the vendor keeps of an identifier.
const IDENTIFIER_MAX: usize = 120;

/// Facts that have a place of their own.
const HOMES: [&str; 14] = [
    "http_status",
    "stream",
    "ttft_ms",
    "provider",
    "session_id",
    "prompt_slug",
    "user_id",
    "external_reference_id",
    "expected_response",
    "inputs",
    "prompt_tokens",
    "completion_tokens",
    "total_tokens",
    "total_cost",
];

#[derive(Debug)]
struct KeywordsAi {
    authorization: Secret,
    path: &'static str,
    batch: bool,
}

fn build(
    settings: &Settings,
    kind: &Kind,
    flavours: &[&'static str],
) -> Result<Box<dyn Sink>, Problem> {
    let mut own = Own::new(settings);
    let flavour = own.choice("flavour", flavours)?;
    let path = match flavour {
        "batch" => "/api/request-logs/batch/create",
        "logs" => "/api/request-logs/",
        _ => "/api/request-logs/create/",
    };
    let authorization = own.bearer(kind)?;
    own.finish()?;
    Ok(Box::new(KeywordsAi { authorization, path, batch: flavour == "batch" }))
}

impl Sink for KeywordsAi {
    fn limits(&self) -> Limits {
        Limits { records: if self.batch { BATCH_MAX } else { 1 }, bytes: LOG_BYTES_MAX }
    }

    fn requests(&self, records: &[Record]) -> Vec<Request> {
        let logs: Vec<Bytes> = records.iter().map(log).collect();
        let room = Limits { bytes: LOG_BYTES_MAX - 16, ..self.limits() };
        let one = |run: Range<usize>| match &logs[run.clone()] {
            [log] if !self.batch => self.request(log.clone(), run.collect()),
            logs => {
                let body = body("{\"logs\":[", logs, ",", "]}");
                Request::batch(self.path, self.headers(), body, run.collect())
            }
        };
        runs(&logs, room).into_iter().map(one).collect()
    }

    /// A batch is answered log by log.
    fn verdict(&self, ids: &[Uuid], status: u16, body: &[u8]) -> Option<Verdict> {
        if !self.batch || status >= 300 {
            return None;
        }
        let body: Value = serde_json::from_slice(body).ok()?;
        let results = body["results"].as_array().filter(|results| results.len() == ids.len())?;
        let failed = |result: &Value| {
            let status = result["status"].as_str().unwrap_or_default().to_ascii_lowercase();
            ["error", "fail"].iter().any(|bad| status.contains(bad))
        };
        let refused: Vec<(usize, String)> = results
            .iter()
            .enumerate()
            .filter(|(_, result)| failed(result))
            .map(|(place, result)| (place, result.to_string()))
            .collect();
        Some(if refused.is_empty() { Verdict::Delivered } else { Verdict::Partly(refused) })
    }

    /// A log without its required fields: refused, after the key was looked at.
    fn probe(&self) -> Option<Request> {
        Some(self.request("{}".into(), Vec::new()))
    }
}

impl KeywordsAi {
    fn headers(&self) -> Vec<(&'static str, Secret)> {
        vec![("authorization", self.authorization.clone())]
    }

    fn request(&self, body: Bytes, records: Vec<usize>) -> Request {
        Request::json(self.path, self.headers(), body, records)
    }
}

/// The log of a record, without the raw bodies where they would make it too large.
fn log(record: &Record) -> Bytes {
    let log = members(record).into_value();
    let whole = log.to_string();
    if whole.len() <= LOG_BYTES_MAX - 1024 {
        return whole.into();
    }
    let mut log = members(record);
    log.0.shift_remove("full_request");
    log.0.shift_remove("full_response");
    log.put("warnings", "raw bodies left out: the log would be larger than 20 MB");
    fit(&log.into_value(), LOG_BYTES_MAX - 1024)
}

fn members(record: &Record) -> Members {
    let talk = Talk::of(record);
    let (tags, timing) = (&record.tags, &record.timing);
    let mut log = Members::default();
    log.put("model", facts::model(record));
    add_talk(&mut log, record, &talk);
    log.add("tool_calls", objects(talk.tool_calls()));
    log.add("tools", talk.all_tools());
    add_parameters(&mut log, record);
    log.add("prompt_tokens", record.usage.input);
    log.add("completion_tokens", record.usage.output);
    log.add("usage", facts::usage(record, "cache_creation_prompt_tokens"));
    log.add("cost", Costs::of(record).total);
    for name in ["generation_time", "latency"] {
        log.put(name, seconds(timing.latency_ms));
    }
    for name in ["ttft", "time_to_first_token"] {
        log.add(name, timing.ttft_ms.map(seconds));
    }
    log.add("tokens_per_second", timing.output_tokens_per_second);
    log.put("timestamp", record.ended_at.to_string());
    log.put("start_time", record.started_at.to_string());
    log.put("stream", record.stream);
    log.add("status_code", record.status);
    let error = error_text(record);
    if error.is_some() && record.status.is_none_or(|status| status < 400) {
        log.put("status", "error");
    }
    log.add("error_message", error);
    let gone = record.outcome == Outcome::ClientAborted;
    log.add("warnings", gone.then_some("the client went away before the end"));
    let person = tags.user.as_ref().or(tags.customer.as_ref());
    log.add("customer_params", person.map(|id| json!({"customer_identifier": identifier(id)})));
    log.add("thread_identifier", tags.session.as_deref().map(identifier));
    log.add("custom_identifier", tags.reference.as_deref().map(identifier));
    if let Some(prompt) = &tags.prompt {
        log.put("prompt_id", prompt.as_str());
        log.put("prompt_name", prompt.as_str());
        log.put("is_custom_prompt", true);
    }
    log.add("variables", &tags.inputs);
    log.add("ideal_output", tags.expected.as_ref().map(text));
    log.add("provider_id", Some(&record.provider).filter(|provider| !provider.is_empty()));
    let whole =
        |body: &Option<Value>| body.clone().filter(|body| body.is_object() || body.is_array());
    log.add("full_request", whole(&record.request));
    log.add("full_response", whole(&record.response));
    log.add("metadata", metadata(record, &talk));
    log
}

/// Question and answer: messages where there are any, else texts.
fn add_talk(log: &mut Members, record: &Record, talk: &Talk) {
    if matches!(talk.kind, Work::Chat | Work::Thread) {
        log.put("prompt_messages", talk.messages.iter().map(message).collect::<Vec<_>>());
        log.add("completion_message", talk.answer.as_ref().map(message));
        if !talk.others.is_empty() {
            let all = talk.answer.iter().chain(&talk.others).map(message);
            log.put("completion_messages", all.collect::<Vec<_>>());
        }
        return;
    }
    let kind = match talk.kind {
        Work::Completion => "completion",
        Work::Response => "response",
        Work::Embedding => "embedding",
        Work::Transcription => "transcription",
        Work::Speech => "speech",
        Work::Image => "generation",
        _ => "custom",
    };
    let nothing = || NO_CONTENT.to_owned();
    let input = match &talk.prompt {
        Some(text) => text.clone(),
        None if talk.messages.is_empty() => nothing(),
        None => json!(talk.messages).to_string(),
    };
    let output =
        talk.text().or_else(|| talk.answer.as_ref().map(|answer| json!(answer).to_string()));
    let output = output.or_else(|| body_text(record)).or_else(|| error_text(record));
    log.put("log_type", kind);
    log.put("input", input);
    log.put("output", output.unwrap_or_else(nothing));
}

/// A message that the vendor's models take.
fn message(message: &Message) -> Value {
    let role = match message.get("role").and_then(Value::as_str).unwrap_or_default() {
        role @ ("user" | "assistant" | "system" | "tool" | "developer") => role,
        "function" => "tool",
        _ => "user",
    };
    let mut taken = Members::default();
    taken.put("role", role);
    for (name, value) in message.iter().filter(|(name, _)| *name != "role") {
        match (name.as_str(), value) {
            ("content", Value::Array(parts)) => {
                taken.put(name, parts.iter().map(part).collect::<Vec<_>>());
            }
            ("content", Value::Null | Value::String(_)) => taken.put(name, value.clone()),
            ("tool_calls" | "annotations" | "thinking_blocks", Value::Array(items)) => {
                taken.add(name, objects(items));
            }
            ("name" | "tool_call_id" | "reasoning_content", Value::String(_)) => {
                taken.add(name, value);
            }
            ("refusal", Value::String(refusal)) => {
                taken.0.insert("content".to_owned(), refusal.as_str().into());
            }
            ("audio", audio) => {
                let said = audio["transcript"].as_str().unwrap_or("[audio omitted]");
                taken.0.insert("content".to_owned(), said.into());
            }
            _ => {} // whatever else there is stands in full_request and full_response
        }
    }
    taken.into_value()
}

/// A part of a kind that the vendor's models know, else a text in its place.
fn part(part: &Value) -> Value {
    let kind = part["type"].as_str().unwrap_or("part");
    match kind {
        _ if part.is_string() => part.clone(),
        "text" | "input_text" | "output_text" | "image_url" | "input_image" | "image" | "file"
        | "input_file" | "tool_use" | "tool_result" => part.clone(),
        _ => {
            let said = part_text(part).unwrap_or_else(|| format!("[{kind} omitted]"));
            json!({"type": "text", "text": said})
        }
    }
}

fn objects(items: &[Value]) -> Vec<&Value> {
    items.iter().filter(|item| item.is_object()).collect()
}

/// Parameters under their own names, where they are of the vendor's types.
fn add_parameters(log: &mut Members, record: &Record) {
    let none = Value::Null;
    let request = record.request.as_ref().unwrap_or(&none);
    let asked = |name: &str| request.get(name).or_else(|| record.parameters.get(name));
    let texts =
        |value: &Value| value.as_array().is_some_and(|all| all.iter().all(Value::is_string));
    let numbers =
        |value: &Value| value.as_object().is_some_and(|all| all.values().all(Value::is_number));
    let typed = |value: &Value| value["type"].is_string();
    let choice = |value: &Value| matches!(value.as_str(), Some("auto" | "none" | "required"));
    let mut add = |names: &[&str], fits: &dyn Fn(&Value) -> bool| {
        for name in names {
            log.add(name, asked(name).filter(|value| fits(value)));
        }
    };
    add(&["temperature", "top_p", "frequency_penalty", "presence_penalty"], &Value::is_number);
    add(&["max_tokens", "max_completion_tokens", "n", "top_logprobs"], &|value| {
        value.is_i64() || value.is_u64()
    });
    add(&["logprobs", "parallel_tool_calls", "echo"], &Value::is_boolean);
    add(&["logit_bias"], &numbers);
    add(&["stop"], &|value| value.is_string() || texts(value));
    add(&["stream_options", "thinking"], &Value::is_object);
    add(&["reasoning_effort", "encoding_format"], &Value::is_string);
    add(&["dimensions"], &|value| value.is_u64());
    add(&["response_format"], &typed);
    add(&["tool_choice"], &|value| choice(value) || typed(value));
}

/// As much of an identifier as the vendor keeps.
fn identifier(id: &str) -> &str {
    clip_chars(id, IDENTIFIER_MAX)
}

/// Facts without a place, and identifiers that had to be cut, as texts.
fn metadata(record: &Record, talk: &Talk) -> Map<String, Value> {
    let tags = &record.tags;
    let mut facts = facts::facts(record, talk);
    let cut = |id: &Option<String>| id.as_ref().is_some_and(|id| identifier(id) != id);
    let whole = [
        ("session_id", cut(&tags.session)),
        ("user_id", cut(&tags.user)),
        ("external_reference_id", cut(&tags.reference)),
    ];
    facts.0.retain(|name, _| {
        whole.contains(&(name.as_str(), true)) || !HOMES.contains(&name.as_str())
    });
    add_metadata(&mut facts, &tags.metadata);
    let as_text = |(name, value): (String, Value)| match value {
        Value::Array(items) if name == "tags" || name == "notes" => {
            let separator = if name == "tags" { "," } else { "; " };
            let joined = items.iter().map(text).collect::<Vec<_>>().join(separator);
            (name, joined.into())
        }
        value => (name, text(&value).into()),
    };
    facts.0.into_iter().map(as_text).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sink::{fixtures, tests::settings};

    #[test]
    fn identifiers_are_cut_and_kept_whole_in_metadata() {
        let record = fixtures::record(json!({"tags": {"session": "é".repeat(121), "user": "u"}}));
        let log: Value = serde_json::from_slice(&log(&record)).unwrap();
        assert_eq!(log["thread_identifier"], "é".repeat(120));
        assert_eq!(log["metadata"]["session_id"], "é".repeat(121));
        assert!(log["metadata"].get("user_id").is_none());
    }

    #[test]
    fn a_log_is_at_most_20_megabytes() {
        let huge = json!({"messages": [{"role": "user", "content": "x".repeat(15_000_000)}]});
        let half = log(&fixtures::record(json!({"request": huge})));
        let half: Value = serde_json::from_slice(&half).unwrap();
        assert!(half.get("full_request").is_none() && half["warnings"].is_string());
        assert_eq!(half["prompt_messages"][0]["content"].as_str().unwrap().len(), 15_000_000);
        let more = json!({"messages": [{"role": "user", "content": "x".repeat(25_000_000)}]});
        assert!(log(&fixtures::record(json!({"request": more}))).len() < LOG_BYTES_MAX);
    }

    #[test]
    fn batches_are_judged_log_by_log() {
        let mut settings = settings(&KEYWORDSAI);
        settings.own.insert("flavour".to_owned(), "batch".into());
        let sink = (KEYWORDSAI.build)(&settings).unwrap();
        let ids = [Uuid::from_u128(1), Uuid::from_u128(2)];
        let judge = |body: Value| sink.verdict(&ids, 200, body.to_string().as_bytes());
        let results =
            |second: &str| json!({"results": [{"status": "success"}, {"status": second}]});
        assert_eq!(judge(results("success")), Some(Verdict::Delivered));
        assert!(matches!(judge(results("error")), Some(Verdict::Partly(all)) if all[0].0 == 1));
        assert_eq!(judge(json!({"message": "ok"})), None);
    }
}
