//! What holds for every kind, and what each sends.

use super::{
    KINDS, Kind, Request, Settings, Sink, fixtures,
    schema_tests::{example, faults, recordings, schema},
};
use crate::model::{Record, Secret};
use serde_json::{Value, json};

/// The least that a kind can be built from.
pub(super) fn settings(kind: &Kind) -> Settings {
    let mut settings = Settings { api_key: Secret::new("key-1"), ..Settings::default() };
    if kind.name == "honeyhive" {
        settings.own.insert("project".to_owned(), "Sample".into());
    }
    if kind.name == "webhook" {
        settings.own.insert("secret".to_owned(), "a shared secret".into());
    }
    settings
}

fn kind(name: &str) -> &'static Kind {
    KINDS.iter().find(|kind| kind.name == name).unwrap()
}

/// A sink of a kind with more settings in TOML.
fn sink(name: &str, own: &str) -> Box<dyn Sink> {
    let mut settings = settings(kind(name));
    settings.own.extend(own.parse::<toml::Table>().unwrap());
    (kind(name).build)(&settings).unwrap()
}

fn body(request: &Request) -> Value {
    serde_json::from_slice(&request.body).unwrap()
}

/// What the narrow contract takes, the wide one takes too.
const SEED: &[&str] = &["honeyhive-events-model-batch.seed", "honeyhive-events-model-batch"];

/// Kinds and settings, and the schemas that all their bodies must satisfy.
const FLAVOURS: &[(&str, &str, &[&str])] = &[
    ("athina", "", &["athina-log-inference"]),
    ("athina", "flavour = 'v2'", &["athina-log-inference"]),
    ("honeyhive", "", &["honeyhive-events-model-batch"]),
    ("honeyhive", "flavour = 'seed'", SEED),
    ("honeyhive", "flavour = 'v1'", &["honeyhive-v1-events-batch"]),
    ("humanloop", "", &["humanloop-prompts-log", "humanloop-prompts-log.late"]),
    ("keywordsai", "", &["keywordsai-request-logs-create"]),
    ("keywordsai", "flavour = 'batch'", &["keywordsai-request-logs-batch-create"]),
    ("respan", "", &["keywordsai-request-logs-create"]),
    ("otlp", "", &[]),
    ("otlp", "profile = 'genai-1.36'\nmessages = 'on'", &[]),
    ("otlp", "profile = 'genai-1.41'\nmessages = 'on'", &[]),
    ("otlp", "profile = 'genai-latest'\nmessages = 'redacted'", &[]),
    ("otlp", "profile = 'openinference'\nmessages = 'on'", &[]),
];

#[test]
fn every_record_is_in_one_request_and_a_resend_is_identical() {
    let records: Vec<Record> = fixtures::all().into_iter().map(|(_, record)| record).collect();
    for (name, own, _) in FLAVOURS.iter().chain(&[OTLP_BINARY]) {
        let sink = sink(name, own);
        let requests = sink.requests(&records);
        let mut places: Vec<usize> =
            requests.iter().flat_map(|request| request.records.clone()).collect();
        places.sort_unstable();
        assert_eq!(places, (0..records.len()).collect::<Vec<_>>(), "{name}");
        for request in &requests {
            assert!(request.records.len() <= sink.limits().records, "{name}");
            assert!(request.body.len() <= sink.limits().bytes, "{name}");
            assert!(request.path.is_empty() || request.path.starts_with('/'), "{name}");
            let again: Vec<Record> =
                request.records.iter().map(|place| records[*place].clone()).collect();
            let again = sink.requests(&again);
            assert_eq!(again.len(), 1, "{name}: the records of a request make one request");
            assert_eq!((&again[0].body, &again[0].path), (&request.body, &request.path), "{name}");
        }
    }
}

/// Half of a batch is the same bytes whether it is taken out of the batch or built from its records.
#[test]
fn a_batch_can_be_taken_apart() {
    let records: Vec<Record> = fixtures::all().into_iter().map(|(_, record)| record).collect();
    let mut apart = std::collections::BTreeSet::new();
    for (name, own, _) in FLAVOURS.iter().chain(&[WEBHOOK, WEBHOOK_LINES, OTLP_BINARY]) {
        let sink = sink(name, own);
        for request in sink.requests(&records) {
            for places in [vec![0], vec![1, 2], vec![request.records.len() - 1]] {
                let Some(part) = request.only(&places) else { continue };
                let chosen: Vec<Record> =
                    part.records.iter().map(|place| records[*place].clone()).collect();
                let built = sink.requests(&chosen).remove(0);
                assert_eq!((&part.body, &part.path), (&built.body, &built.path), "{name} {own}");
                assert_eq!(part.parts, built.parts, "{name} {own}");
                apart.insert(*name);
            }
        }
    }
    assert_eq!(Vec::from_iter(apart), ["honeyhive", "keywordsai", "otlp", "webhook"]);
}

const WEBHOOK: (&str, &str, &[&str]) = ("webhook", "", &[]);
const WEBHOOK_LINES: (&str, &str, &[&str]) = ("webhook", "format = 'ndjson'", &[]);
const OTLP_BINARY: (&str, &str, &[&str]) =
    ("otlp", "encoding = 'protobuf'\nmessages = 'on'\nresource = { team = 'web' }", &[]);

/// One file a flavour, with the body of each fixture. `otlp` has its own, an attribute a line.
#[test]
fn payloads() {
    for (name, own, _) in FLAVOURS.iter().filter(|(name, ..)| *name != "otlp") {
        let sink = sink(name, own);
        let mut text = String::new();
        for (title, record) in fixtures::all() {
            for request in sink.requests(&[record]) {
                let body = serde_json::to_string_pretty(&body(&request)).unwrap();
                text.push_str(&format!(
                    "--- {title}: {} {}\n{body}\n",
                    request.method, request.path
                ));
            }
        }
        let choices = own.split('\'').skip(1).step_by(2);
        let title: Vec<&str> = std::iter::once(*name).chain(choices).collect();
        insta::assert_snapshot!(title.join("-"), text);
    }
}

/// Nothing is sent as null, except where a message's content or a provider's own body has it.
#[test]
fn absent_rather_than_null() {
    fn nulls(at: &str, value: &Value, found: &mut Vec<String>) {
        match value {
            Value::Null => found.push(at.to_owned()),
            Value::Object(members) => {
                for (name, value) in members {
                    nulls(&format!("{at}.{name}"), value, found);
                }
            }
            _ => {}
        }
    }
    for (name, own, _) in FLAVOURS {
        for (title, record) in fixtures::all() {
            for request in sink(name, own).requests(&[record]) {
                let mut found = Vec::new();
                nulls("", &body(&request), &mut found);
                found.retain(|at| {
                    !["content", "provider_", "full_", "refusal"]
                        .iter()
                        .any(|known| at.contains(known))
                });
                assert!(found.is_empty(), "{name}, {title}: {found:?}");
            }
        }
    }
}

#[test]
fn payloads_satisfy_the_schemas() {
    for (name, own, schemas) in FLAVOURS {
        let sink = sink(name, own);
        for schema in schemas.iter().filter_map(|name| schema(name)) {
            let fixtures =
                fixtures::all().into_iter().map(|(title, record)| (title.to_owned(), record));
            for (title, record) in fixtures.chain(recordings()) {
                for request in sink.requests(&[record]) {
                    let faults = faults(&schema, &body(&request));
                    assert!(faults.is_empty(), "{name} {own}, {title}: {faults:#?}");
                }
            }
        }
    }
}

/// The records behind the examples: the same three calls at each sink.
fn examples() -> [Record; 3] {
    let question = "When will order 88123 arrive if I ordered this morning?";
    let policy = "orders ship within two working days; returns are free for 30 days";
    let details = json!({"cached_tokens": 1024, "audio_tokens": 0});
    let system = format!(
        "You answer questions about shipping for Acme Outdoors. Use the policy below.\nPolicy: {policy}."
    );
    let answer = "Orders placed today ship within two working days. With standard delivery that usually \
        means four to six days in total.";
    let request = json!({"model": "gpt-4o-mini", "messages": [{"role": "system", "content": system},
        {"role": "user", "content": question}], "temperature": 0.2, "top_p": 1, "max_tokens": 400,
        "stop": ["\n\nUser:"], "stream": true, "stream_options": {"include_usage": true}});
    let mut parameters = request.clone();
    parameters.as_object_mut().unwrap().retain(|name, _| name != "model" && name != "messages");
    let streamed = fixtures::record(json!({
        "id": "6f1c2a0e-8d0b-4a57-9f0e-2f6b1f6f3a11", "stream": true,
        "started_at": "2025-06-03T09:15:27.104211Z", "ended_at": "2025-06-03T09:15:30.291548Z",
        "timing": {"latency_ms": 3187.337, "ttft_ms": 412.387},
        "usage": {"input": 1180, "output": 212, "total": 1392, "input_cached": 1024,
            "input_audio": 0, "output_reasoning": 0, "output_audio": 0},
        "cost": {"total": "0.0002274", "input": "0.0000234", "cache_read": "0.0000768",
            "output": "0.0001272"},
        "tags": {"prompt": "shipping-help/v3", "session": "chat-7731", "environment": "production",
            "customer": "acme-outdoors", "user": "user_5521", "reference": "msg-000918",
            "labels": ["support", "beta"], "metadata": {"channel": "web"}, "user_query": question,
            "context": {"information": [policy]}, "expected": "Four to six days."},
        "trace": {"trace_id": "4bf92f3577b34da6a3ce929d0e0e4736"},
        "parameters": parameters, "request": request,
        "response": {"id": "chatcmpl-Be1", "object": "chat.completion", "created": 1_748_942_127,
            "model": "gpt-4o-mini-2024-07-18", "choices": [{"index": 0, "message":
            {"role": "assistant", "content": answer}, "finish_reason": "stop"}],
            "usage": {"prompt_tokens": 1180, "completion_tokens": 212, "total_tokens": 1392,
                "prompt_tokens_details": details,
                "completion_tokens_details": {"reasoning_tokens": 0, "audio_tokens": 0}}}
    }));
    let parameter = json!({"type": "string"});
    let tool = json!({"type": "function", "function": {"name": "get_forecast",
        "description": "Forecast for a city and day", "parameters": {"type": "object",
        "properties": {"city": parameter, "day": parameter}, "required": ["city", "day"]}}});
    let called = fixtures::record(json!({
        "id": "0b9d6a52-1f6e-4c1a-8f0d-7a2c9f3f5e02",
        "started_at": "2025-06-03T09:16:02.500000Z", "ended_at": "2025-06-03T09:16:03.481204Z",
        "timing": {"latency_ms": 981.204}, "finish_reasons": ["tool_calls"],
        "usage": {"input": 96, "output": 23, "total": 119},
        "cost": {"total": "0.0000282", "input": "0.0000144", "output": "0.0000138"},
        "tags": {"user_query": "Weather in Oslo tomorrow?"},
        "parameters": {"tool_choice": "auto", "temperature": 0},
        "request": {"model": "gpt-4o-mini", "messages": [
            {"role": "system", "content": "Use tools when needed."},
            {"role": "user", "content": "Weather in Oslo tomorrow?"}],
            "tools": [tool], "tool_choice": "auto", "temperature": 0},
        "response": {"id": "chatcmpl-Be2", "object": "chat.completion", "created": 1_748_942_162,
            "model": "gpt-4o-mini-2024-07-18", "choices": [{"index": 0, "message":
            {"role": "assistant", "content": null, "tool_calls": [{"id": "call_9aQ",
                "type": "function", "function": {"name": "get_forecast",
                "arguments": "{\"city\":\"Oslo\",\"day\":\"tomorrow\"}"}}]},
            "finish_reason": "tool_calls"}],
            "usage": {"prompt_tokens": 96, "completion_tokens": 23, "total_tokens": 119}}
    }));
    let said = "Rate limit reached for gpt-4o in organization org-x on tokens per min";
    let failed = fixtures::record(json!({
        "id": "d2b7e0c4-5a55-4a0e-b1d1-3a8f4f6c9c03", "outcome": "provider_error", "status": 429,
        "started_at": "2025-06-03T09:17:40.010000Z", "ended_at": "2025-06-03T09:17:40.233410Z",
        "model": {"requested": "gpt-4o", "served": null}, "finish_reasons": [],
        "timing": {"latency_ms": 223.41},
        "usage": {"source": "none", "input": null, "output": null, "total": null},
        "cost": {"status": "no_usage", "total": null, "input": null, "output": null},
        "tags": {"environment": "staging", "user_query": "Summarise the attached notes."},
        "error": {"source": "provider", "type": "tokens", "param": null, "message": said,
            "code": "rate_limit_exceeded"},
        "request": {"model": "gpt-4o",
            "messages": [{"role": "user", "content": "Summarise the attached notes."}]},
        "response": {"error": {"message": said, "type": "tokens", "param": null,
            "code": "rate_limit_exceeded"}}
    }));
    [streamed, called, failed]
}

/// What an example has and a payload has not, or has otherwise; a payload may say more.
fn lacks(at: &str, example: &Value, found: &Value, out: &mut Vec<String>) {
    match (example, found) {
        (Value::Object(example), Value::Object(found)) => {
            for (name, value) in example {
                match found.get(name) {
                    Some(found) => lacks(&format!("{at}.{name}"), value, found, out),
                    None if value.is_null() => {}
                    None => out.push(format!("{at}.{name} is missing")),
                }
            }
        }
        (Value::Array(example), Value::Array(found)) if example.len() == found.len() => {
            for (place, (example, found)) in example.iter().zip(found).enumerate() {
                lacks(&format!("{at}[{place}]"), example, found, out);
            }
        }
        (Value::Number(example), Value::Number(found)) if example.as_f64() == found.as_f64() => {}
        _ if example == found => {}
        _ => out.push(format!("{at}: {found} instead of {example}")),
    }
}

const SHIPPING: &str = "project = 'Shipping Assistant'\nsource = 'production'";
const SHIPPING_SEED: &str =
    "project = 'Shipping Assistant'\nsource = 'production'\nflavour = 'seed'";
const SHIPPING_V1: &str = "flavour = 'v1'";

/// Kind, settings, example, which of the records, and where the example differs from the other ones.
type Example<'a> = (&'a str, &'a str, &'a str, &'a [usize], &'a [&'a str]);

const EXAMPLES: &[Example<'_>] = &[
    ("athina", "", "athina-1-streamed-success", &[0], &[]),
    ("athina", "", "athina-2-tool-call", &[1], &[".environment"]),
    ("athina", "", "athina-3-provider-error", &[2], &[]),
    ("honeyhive", SHIPPING, "honeyhive-1-streamed-success", &[0], &[]),
    ("honeyhive", SHIPPING_SEED, "honeyhive-1-streamed-success.seed", &[0], &[]),
    ("honeyhive", SHIPPING, "honeyhive-2-mixed-batch", &[1, 2], &[]),
    ("honeyhive", SHIPPING_V1, "honeyhive-3-v1-batch", &[0], &[]),
    ("humanloop", "", "humanloop-1-streamed-success", &[0], &[".source"]),
    ("humanloop", "", "humanloop-2-tool-call", &[1], &[".source"]),
    ("humanloop", "", "humanloop-3-provider-error", &[2], &[".source"]),
    ("keywordsai", "", "keywordsai-1-streamed-success", &[0], &[]),
    ("keywordsai", "", "keywordsai-2-tool-call", &[1], &[".metadata.environment"]),
    ("keywordsai", "", "keywordsai-3-provider-error", &[2], &[]),
];

#[test]
fn the_examples_are_reproduced() {
    let records = examples();
    for (name, own, file, places, known) in EXAMPLES {
        let Some(example) = example(file) else { continue };
        let records: Vec<Record> = places.iter().map(|place| records[*place].clone()).collect();
        let requests = sink(name, own).requests(&records);
        let mut missing = Vec::new();
        lacks("", &example, &body(&requests[0]), &mut missing);
        missing.retain(|fault| !known.iter().any(|known| fault.starts_with(known)));
        assert!(missing.is_empty(), "{file}: {missing:#?}");
    }
}
