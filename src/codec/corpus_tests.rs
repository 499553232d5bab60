//! Recorded exchanges, where they lie beside the project: what is read must be what was expected.

use super::realtime::frames::tests::frame;
use super::{Meaning, Reading, read, sse};
use crate::model::Endpoint;
use serde_json::{Map, Value, json};
use std::path::{Path, PathBuf};

const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../shared/corpus/open");

#[test]
fn recorded_exchanges_are_read_as_expected() {
    let files = files();
    let (mut failures, mut equal) = (Vec::new(), 0);
    for file in &files {
        let name = file.file_stem().unwrap().to_string_lossy();
        let case: Value = serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap();
        let found = check(&case);
        equal += usize::from(found.is_empty());
        failures.extend(found.into_iter().map(|failure| format!("{name}: {failure}")));
    }
    println!("{equal} of {} recorded exchanges are read as expected", files.len());
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

/// Cut anywhere, an answer is what had arrived: every text is a beginning of the whole text.
#[test]
fn cut_streams_hold_what_had_arrived() {
    for file in files() {
        let case: Value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
        let body = case["response"]["body"].as_str().unwrap();
        let endpoint = Endpoint::of(case["endpoint"].as_str().unwrap());
        let mut reading = Reading {
            endpoint: &endpoint,
            provider: "openai",
            method: "POST",
            path: "/",
            request: b"",
            status: Some(200),
            content_type: None,
            response: body.as_bytes(),
        };
        let whole = read(&reading);
        if !whole.stream {
            continue;
        }
        let step = (body.len() / 60).max(1);
        for end in (0..body.len()).step_by(step) {
            reading.response = &body.as_bytes()[..end];
            let part = read(&reading).response.unwrap_or_default();
            for (place, choice) in part["choices"].as_array().into_iter().flatten().enumerate() {
                let full = &whole.response.as_ref().unwrap()["choices"];
                for pointer in [
                    "/message/content",
                    "/message/reasoning",
                    "/text",
                    "/message/tool_calls/0/function/arguments",
                ] {
                    let text = |choice: &Value| {
                        choice
                            .pointer(pointer)
                            .and_then(Value::as_str)
                            .unwrap_or_default()
                            .to_owned()
                    };
                    let ends = full
                        .as_array()
                        .unwrap()
                        .iter()
                        .any(|full| text(full).starts_with(&text(choice)));
                    assert!(
                        ends || full[place]["message"]["content"].is_array(),
                        "{} cut at {end}: {pointer}",
                        file.display()
                    );
                }
            }
        }
    }
}

fn files() -> Vec<PathBuf> {
    let Ok(folder) = std::fs::read_dir(Path::new(FOLDER)) else { return Vec::new() };
    let paths = folder.map(|entry| entry.unwrap().path());
    let wanted = |path: &PathBuf| path.extension().is_some_and(|kind| kind == "json");
    let mut files: Vec<PathBuf> = paths.filter(wanted).collect();
    files.sort();
    files
}

/// Every recorded exchange, by name.
pub(super) fn recorded_cases() -> Vec<(String, Value)> {
    let read = |file: &PathBuf| {
        let case = serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap();
        (file.file_stem().unwrap().to_string_lossy().into_owned(), case)
    };
    files().iter().map(read).collect()
}

/// Every recorded stream, by name.
pub(super) fn recorded_streams() -> Vec<(String, Vec<u8>)> {
    let streams = recorded_cases().into_iter().filter_map(|(name, case)| {
        let is_stream = case["expected"]["facts"]["data_events"].is_u64();
        let body = case["response"]["body"].as_str().filter(|_| is_stream)?;
        Some((name, body.as_bytes().to_vec()))
    });
    streams.collect()
}

fn check(case: &Value) -> Vec<String> {
    let path = case["endpoint"].as_str().unwrap();
    let endpoint = Endpoint::of(path.split('?').next().unwrap());
    let request = case["request"]["body"].to_string();
    let body = case["response"]["body"].as_str().unwrap();
    let (request, body) = if endpoint.as_str() == "realtime" {
        (frames(body, "sent"), frames(body, "received"))
    } else {
        (request.into_bytes(), body.as_bytes().to_vec())
    };
    let headers = case["response"]["headers"].as_object();
    let content_type =
        headers.into_iter().flatten().find(|(name, _)| name.eq_ignore_ascii_case("content-type"));
    let meaning = read(&Reading {
        endpoint: &endpoint,
        provider: case["provider"].as_str().unwrap(),
        method: "POST",
        path,
        request: &request,
        status: case["response"]["status"].as_u64().map(|status| u16::try_from(status).unwrap()),
        content_type: content_type.and_then(|(_, value)| value.as_str()),
        response: &body,
    });
    let mut failures = Vec::new();
    let expected = &case["expected"];
    differences(
        "object",
        &normal(&expected["object"]),
        &normal(&meaning.response.clone().unwrap_or_default()),
        &mut failures,
    );
    check_facts(&expected["facts"], &meaning, &mut failures);
    if meaning.stream {
        check_chunkings(&body, &expected["facts"], &mut failures);
    }
    failures
}

/// One direction of a websocket's log as the frames that crossed.
fn frames(log: &str, direction: &str) -> Vec<u8> {
    let lines = log.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let of = lines.filter(|line| line["direction"] == direction);
    let masked = direction == "sent";
    of.flat_map(|line| frame(0x81, masked, line["data"].to_string().as_bytes())).collect()
}

fn check_facts(facts: &Value, meaning: &Meaning, failures: &mut Vec<String>) {
    let mut same = |what: &str, expected: Value, found: Value| {
        differences(what, &normal(&expected), &normal(&found), failures);
    };
    same(
        "first_output_event",
        facts["first_output_event"].clone(),
        json!(meaning.first_output_event),
    );
    same("model", facts["model"].clone(), json!(meaning.model_served));
    let calls = facts["responses"].as_array();
    if let Some(calls) = calls {
        // A connection: what its responses used is one sum.
        let sum =
            |key: &str| calls.iter().map(|call| call["usage"][key].as_u64().unwrap()).sum::<u64>();
        let usage = meaning.usage.clone().unwrap_or_default();
        let expected = [Some(sum("input_tokens")), Some(sum("output_tokens"))];
        same("usage", json!(expected), json!([usage.input, usage.output]));
        let statuses: Vec<&Value> = calls.iter().map(|call| &call["status"]).collect();
        same("finish reasons", json!(statuses), json!(meaning.finish_reasons));
        return;
    }
    let usage = meaning.usage.as_ref().and_then(|usage| usage.raw.clone());
    same("usage", facts["usage"].clone(), json!(usage));
    let choices = facts["choices"].as_array().cloned().unwrap_or_default();
    if let Some(status) = facts["status"].as_str().filter(|_| facts["output_types"].is_array()) {
        let ended = !matches!(status, "queued" | "in_progress");
        same("ended", json!(ended), json!(!meaning.finish_reasons.is_empty()));
    } else if facts["choices"].is_array() {
        let reasons: Vec<Value> = choices
            .iter()
            .map(|choice| choice["finish_reason"].clone())
            .filter(|reason| !reason.is_null())
            .collect();
        same("finish reasons", json!(reasons), json!(meaning.finish_reasons));
    }
    let none = Value::Null;
    let response = meaning.response.as_ref().unwrap_or(&none);
    for (place, choice) in choices.iter().enumerate() {
        let message = &response["choices"][place]["message"];
        let text = &choice["text"];
        let found = if message.is_null() {
            &response["choices"][place]["text"]
        } else {
            &message["content"]
        };
        if !found.is_array() {
            same("text", json!({"text": text}), json!({"text": found}));
        }
        let calls = message["tool_calls"].as_array().cloned().unwrap_or_default();
        let calls: Vec<Value> = calls
            .iter()
            .map(|call| json!({"id": call["id"], "name": call["function"]["name"], "arguments": call["function"]["arguments"]}))
            .collect();
        let expected = choice["tool_calls"]
            .as_array()
            .filter(|calls| calls.iter().all(|call| call.get("id").is_some()));
        if let Some(expected) = expected {
            same("tool calls", json!(expected), json!(calls));
        }
    }
    let said = &facts["error"];
    if said.is_object() {
        let error = meaning.error.clone().unwrap_or_default();
        same("error message", said["message"].clone(), json!(error.message));
        let code = said["code"]
            .as_str()
            .map(str::to_owned)
            .or_else(|| said["code"].as_u64().map(|code| code.to_string()));
        same("error code", json!(code), json!(error.code));
    } else {
        same("error", Value::Null, json!(meaning.error));
    }
    if let Some(done) = facts["done_marker"].as_bool() {
        let done = done || (facts["output_types"].is_array() && facts["status"] != "in_progress");
        same("terminal end", json!(done), json!(meaning.terminal_end.is_some()));
    }
}

/// The events are the same in one piece, by single bytes, and in pieces of a prime length.
fn check_chunkings(body: &[u8], facts: &Value, failures: &mut Vec<String>) {
    type Seen = (Vec<u8>, Vec<u8>, u64, bool);
    let decode = |size: usize| {
        let (mut decoder, mut events) = (sse::Decoder::default(), Vec::<Seen>::new());
        let mut each = |event: sse::Event<'_>| {
            events.push((event.name.into(), event.data.into(), event.end, event.complete));
        };
        body.chunks(size).for_each(|chunk| decoder.push(chunk, &mut each));
        let counts = decoder.finish(&mut each);
        (events, counts)
    };
    let whole = decode(body.len().max(1));
    for size in [1, 2, 7, 61] {
        if decode(size) != whole {
            failures.push(format!("events differ in pieces of {size} bytes"));
        }
    }
    if facts["comments"].as_u64() != Some(whole.1.0) {
        failures.push(format!("comments: expected {}, found {}", facts["comments"], whole.1.0));
    }
    let data = whole.0.len();
    if facts["data_events"].as_u64() != u64::try_from(data).ok() {
        failures.push(format!("data events: expected {}, found {data}", facts["data_events"]));
    }
}

/// What comparing ignores: null, empty and absent are the same, so are 1 and 1.0; `""` is no content;
/// the index of a tool call and length padding are not part of the result.
fn normal(value: &Value) -> Value {
    match value {
        Value::Object(members) => {
            let mut kept = Map::new();
            for (key, value) in members {
                let mut value = normal(value);
                if matches!(key.as_str(), "content" | "refusal" | "text") && value == json!("") {
                    continue;
                }
                if let ("tool_calls", Value::Array(calls)) = (key.as_str(), &mut value) {
                    for call in calls.iter_mut().filter_map(Value::as_object_mut) {
                        call.shift_remove("index");
                    }
                }
                if !value.is_null() && !matches!(key.as_str(), "obfuscation" | "p") {
                    kept.insert(key.clone(), value);
                }
            }
            if kept.is_empty() { Value::Null } else { Value::Object(kept) }
        }
        Value::Array(items) if items.is_empty() => Value::Null,
        Value::Array(items) => Value::Array(items.iter().map(normal).collect()),
        Value::Number(number) => json!(format!("{:?}", number.as_f64())),
        value => value.clone(),
    }
}

fn differences(at: &str, expected: &Value, found: &Value, failures: &mut Vec<String>) {
    match (expected, found) {
        (Value::Object(expected), Value::Object(found)) => {
            let keys =
                expected.keys().chain(found.keys().filter(|key| !expected.contains_key(*key)));
            for key in keys {
                let of =
                    |members: &Map<String, Value>| members.get(key).cloned().unwrap_or_default();
                differences(&format!("{at}.{key}"), &of(expected), &of(found), failures);
            }
        }
        (Value::Array(expected), Value::Array(found)) if expected.len() == found.len() => {
            for (place, (expected, found)) in expected.iter().zip(found).enumerate() {
                differences(&format!("{at}[{place}]"), expected, found, failures);
            }
        }
        _ if expected != found => {
            failures.push(format!("{at}: expected {expected}, found {found}"));
        }
        _ => {}
    }
}
