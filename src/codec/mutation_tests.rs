//! What another provider, client or network would have made of a recorded stream: cut, renumbered,
//! interleaved, split finer, framed otherwise. What is read stays the same, or a beginning of it.
//!
//! `CALLTAP_MUTATIONS` says how often each stream is changed in each way.

use super::{Meaning, Reading, corpus_tests::recorded_cases, read};
use crate::model::Endpoint;
use serde_json::{Value, json};

/// Rounds of a usual run.
const ROUNDS: u64 = 3;

/// Streams of our own, so that something is changed where no recordings are.
const OWN: &[(&str, &str)] = &[
    (
        "/v1/chat/completions",
        r#"{"id":"1","model":"m","choices":[{"index":0,"delta":{"role":"assistant","content":""}}],"usage":null}
{"id":"1","model":"m","choices":[{"index":0,"delta":{"reasoning":"why é","content":null}}],"usage":null}
{"id":"1","model":"m","choices":[{"index":0,"delta":{"content":"Hello 😀 world"}}],"usage":null}
{"id":"1","model":"m","choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"id":"a","type":"function","function":{"name":"f","arguments":""}}]}}]}
{"id":"1","model":"m","choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"function":{"arguments":"{\"x\":1}"}}]}}]}
{"id":"1","model":"m","choices":[{"index":0,"delta":{"tool_calls":[{"index":1,"id":"b","type":"function","function":{"name":"g","arguments":"{}"}}]}}]}
{"id":"1","model":"m","choices":[{"index":0,"delta":{},"finish_reason":"tool_calls"}],"usage":null}
{"id":"1","model":"m","choices":[],"usage":{"prompt_tokens":3,"completion_tokens":4,"total_tokens":7}}
[DONE]"#,
    ),
    (
        "/v1/responses",
        r#"{"type":"response.created","response":{"id":"r","object":"response","status":"in_progress","output":[]}}
{"type":"response.output_item.added","output_index":0,"item":{"id":"i","type":"message","role":"assistant","content":[]}}
{"type":"response.content_part.added","output_index":0,"content_index":0,"part":{"type":"output_text","text":""}}
{"type":"response.output_text.delta","output_index":0,"content_index":0,"delta":"Hello 😀"}
{"type":"response.output_text.delta","output_index":0,"content_index":0,"delta":" world"}
{"type":"response.output_text.done","output_index":0,"content_index":0,"text":"Hello 😀 world"}
{"type":"response.completed","response":{"id":"r","object":"response","status":"completed","model":"m","output":[{"id":"i","type":"message","role":"assistant","content":[{"type":"output_text","text":"Hello 😀 world"}]}],"usage":{"input_tokens":1,"output_tokens":2,"total_tokens":3}}}"#,
    ),
];

struct Case {
    name: String,
    path: String,
    provider: String,
    events: Vec<(String, String)>,
}

/// The names and data of a stream's events.
fn events(body: &[u8]) -> Vec<(String, String)> {
    let (mut decoder, mut events) = (super::sse::Decoder::default(), Vec::new());
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let mut each = |event: super::sse::Event<'_>| events.push((text(event.name), text(event.data)));
    decoder.push(body, &mut each);
    decoder.finish(&mut each);
    events
}

fn cases() -> Vec<Case> {
    let own = OWN.iter().map(|(path, lines)| Case {
        name: format!("own {path}"),
        path: (*path).to_owned(),
        provider: "openai".to_owned(),
        events: lines.lines().map(|line| (String::new(), line.to_owned())).collect(),
    });
    let recorded = recorded_cases().into_iter().filter_map(|(name, case)| {
        let is_stream = case["expected"]["facts"]["data_events"].is_u64();
        let body = case["response"]["body"].as_str().filter(|_| is_stream)?;
        let path = case["endpoint"].as_str()?.split('?').next()?.to_owned();
        let provider = case["provider"].as_str()?.to_owned();
        Some(Case { name, path, provider, events: events(body.as_bytes()) })
    });
    own.chain(recorded).collect()
}

fn stream(events: &[(String, String)]) -> String {
    events.iter().map(|(name, data)| one(name, data, "\n")).collect()
}

fn one(name: &str, data: &str, end: &str) -> String {
    let name = if name.is_empty() { String::new() } else { format!("event: {name}{end}") };
    let data: String = data.split('\n').map(|line| format!("data: {line}{end}")).collect();
    format!("{name}{data}{end}")
}

fn meaning(case: &Case, provider: &str, body: &str) -> Meaning {
    let endpoint = Endpoint::of_call("POST", &case.path);
    read(&Reading {
        endpoint: &endpoint,
        provider,
        method: "POST",
        path: &case.path,
        request: b"{}",
        status: Some(200),
        content_type: Some("text/event-stream"),
        response: body.as_bytes(),
    })
}

/// Everything that a record takes from the answer, but for places in the bytes and notes.
fn told(meaning: &Meaning) -> Value {
    json!({
        "response": meaning.response, "usage": meaning.usage, "finish": meaning.finish_reasons, "error": meaning.error,
        "model": meaning.model_served, "terminal": meaning.terminal, "tools": meaning.tools, "tier": meaning.service_tier,
        "outputs": meaning.first_output.is_some(),
    })
}

/// Every text that was generated, with where it stands.
fn texts(value: &Value, at: &str, found: &mut Vec<(String, String)>) {
    match value {
        Value::Object(members) => {
            for (key, member) in members {
                let grows = matches!(
                    key.as_str(),
                    "content"
                        | "text"
                        | "refusal"
                        | "reasoning"
                        | "reasoning_content"
                        | "arguments"
                        | "transcript"
                        | "value"
                );
                match member {
                    Value::String(text) if grows => {
                        found.push((format!("{at}/{key}"), text.clone()));
                    }
                    member => texts(member, &format!("{at}/{key}"), found),
                }
            }
        }
        Value::Array(items) => {
            for (place, item) in items.iter().enumerate() {
                texts(item, &format!("{at}/{place}"), found);
            }
        }
        _ => {}
    }
}

/// A small generator with a seed: what fails once fails again.
struct Random(u64);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % u64::try_from(end.max(1)).unwrap()).unwrap()
    }
}

fn each(mut check: impl FnMut(&Case, &mut Random)) {
    let rounds = std::env::var("CALLTAP_MUTATIONS").map_or(ROUNDS, |count| count.parse().unwrap());
    let mut random = Random(0x2545_F491_4F6C_DD1D);
    for case in cases() {
        for _ in 0..rounds {
            check(&case, &mut random);
        }
    }
}

fn json_of(data: &str) -> Option<Value> {
    serde_json::from_str(data).ok()
}

/// The events with `change` made to the data of each that is JSON.
fn changed(case: &Case, mut change: impl FnMut(&mut Value)) -> Vec<(String, String)> {
    let anew = |(name, data): &(String, String)| {
        let data = json_of(data).map_or_else(
            || data.clone(),
            |mut value| {
                change(&mut value);
                value.to_string()
            },
        );
        (name.clone(), data)
    };
    case.events.iter().map(anew).collect()
}

fn is_chunked(case: &Case) -> bool {
    case.path.ends_with("/completions")
}

#[test]
fn a_cut_stream_is_a_beginning() {
    each(|case, random| {
        let body = stream(&case.events);
        let whole = meaning(case, &case.provider, &body);
        let mut end = random.below(body.len() + 1);
        while !body.is_char_boundary(end) {
            end -= 1;
        }
        let part = meaning(case, &case.provider, &body[..end]);
        let (mut all, mut some) = (Vec::new(), Vec::new());
        texts(whole.response.as_ref().unwrap_or(&Value::Null), "", &mut all);
        texts(part.response.as_ref().unwrap_or(&Value::Null), "", &mut some);
        for (at, text) in some.iter().filter(|(at, _)| !at.contains("events")) {
            let begins = all.iter().any(|(_, whole)| whole.starts_with(text.as_str()));
            assert!(begins, "{} cut at {end}: {at} is {text:?}", case.name);
        }
        if let Some(usage) = part.usage {
            let raw = usage.raw.unwrap().to_string();
            let sent = events(&body.as_bytes()[..end]);
            let sent =
                sent.iter().filter_map(|(_, data)| json_of(data)).map(|value| value.to_string());
            assert!(
                sent.into_iter().any(|sent| sent.contains(&raw)),
                "{} cut at {end}: {raw}",
                case.name
            );
        }
    });
}

#[test]
fn a_lost_last_word_loses_no_text() {
    each(|case, _| {
        let body = stream(&case.events);
        let whole = meaning(case, &case.provider, &body);
        let is_last = |data: &str| {
            let kind =
                json_of(data).and_then(|value| Some(value.get("type")?.as_str()?.to_owned()));
            let kind = kind.unwrap_or_default();
            data.trim() == "[DONE]"
                || ["response.completed", "response.incomplete"].contains(&kind.as_str())
        };
        let kept: Vec<_> = case.events.iter().filter(|(_, data)| !is_last(data)).cloned().collect();
        let part = meaning(case, &case.provider, &stream(&kept));
        if !case.path.ends_with("/responses") {
            assert_eq!(part.response, whole.response, "{}", case.name);
        }
        assert!(
            !case.path.ends_with("/responses") || whole.error.is_some() || part.usage.is_none()
        );
    });
}

#[test]
fn framing_never_matters() {
    each(|case, random| {
        let whole = told(&meaning(case, &case.provider, &stream(&case.events)));
        let mut body = "\u{FEFF}".to_owned();
        // A name that only the line has must stay.
        let is_typed = |data: &str| json_of(data).is_some_and(|value| value["type"].is_string());
        for (name, data) in &case.events {
            let end = ["\n", "\r\n", "\r"][random.below(3)];
            if random.below(3) == 0 {
                body.push_str(&format!(": keep-alive{end}{end}"));
            }
            let name = if is_typed(data) && random.below(2) == 0 { "" } else { name };
            body.push_str(&one(name, data, end));
        }
        assert_eq!(told(&meaning(case, &case.provider, &body)), whole, "{}", case.name);
    });
}

#[test]
fn the_provider_changes_no_answer() {
    each(|case, _| {
        let body = stream(&case.events);
        let whole = meaning(case, &case.provider, &body);
        for provider in ["openai", "azure", "xai", "gemini", "perplexity", "mistral", "nobody"] {
            let other = meaning(case, provider, &body);
            assert_eq!(other.response, whole.response, "{} at {provider}", case.name);
            let input = |meaning: &Meaning| meaning.usage.as_ref().and_then(|usage| usage.input);
            assert_eq!(input(&other), input(&whole), "{} at {provider}", case.name);
        }
    });
}

#[test]
fn choices_may_interleave() {
    each(|case, random| {
        let single = |value: &Value| {
            value["choices"]
                .as_array()
                .is_none_or(|list| list.len() <= 1 && list.iter().all(|one| one["index"] == 0))
        };
        let is_plain =
            case.events.iter().all(|(_, data)| json_of(data).is_none_or(|value| single(&value)));
        let whole = meaning(case, &case.provider, &stream(&case.events));
        if !is_chunked(case) || !is_plain || whole.error.is_some() {
            return;
        }
        let mut copies = [
            case.events.clone(),
            changed(case, |value| {
                if let Some(choice) = value.pointer_mut("/choices/0") {
                    choice["index"] = json!(1);
                }
            }),
        ];
        let (mut both, mut last) = (Vec::new(), Vec::new());
        for copy in &mut copies {
            copy.reverse();
        }
        while copies.iter().any(|copy| !copy.is_empty()) {
            if let Some(event) = copies[random.below(2)].pop() {
                if event.1.trim() == "[DONE]" { last.push(event) } else { both.push(event) }
            }
        }
        both.extend(last);
        let read = meaning(case, &case.provider, &stream(&both));
        let mut choices = read.response.unwrap()["choices"].as_array().cloned().unwrap();
        let expected = whole.response.unwrap()["choices"][0].clone();
        assert_eq!(choices.len(), 2, "{}", case.name);
        for (place, choice) in choices.iter_mut().enumerate() {
            assert_eq!(choice["index"], place, "{}", case.name);
            choice["index"] = expected["index"].clone();
            assert_eq!(*choice, expected, "{}: choice {place}", case.name);
        }
    });
}

#[test]
fn tool_calls_may_be_numbered_from_anywhere() {
    each(|case, random| {
        let whole = meaning(case, &case.provider, &stream(&case.events));
        let offset = random.below(1000);
        let moved = changed(case, |value| {
            let choices = value.get_mut("choices").and_then(Value::as_array_mut);
            for choice in choices.into_iter().flatten() {
                let calls = choice.pointer_mut("/delta/tool_calls").and_then(Value::as_array_mut);
                for call in calls.into_iter().flatten() {
                    if let Some(index) = call["index"].as_u64() {
                        call["index"] = json!(index * 7 + u64::try_from(offset).unwrap());
                    }
                }
            }
        });
        assert_eq!(
            told(&meaning(case, &case.provider, &stream(&moved))),
            told(&whole),
            "{}",
            case.name
        );
    });
}

/// Members of a delta whose text may come in any pieces.
const GROWING: [&str; 4] = ["content", "reasoning", "reasoning_content", "refusal"];

#[test]
fn texts_may_come_in_any_pieces() {
    each(|case, random| {
        let whole = meaning(case, &case.provider, &stream(&case.events));
        let mut split = Vec::new();
        for (name, data) in &case.events {
            match json_of(data).and_then(|value| halves(&value, random)) {
                Some(halves) => split.extend(halves.map(|half| (name.clone(), half.to_string()))),
                None => split.push((name.clone(), data.clone())),
            }
        }
        let read = meaning(case, &case.provider, &stream(&split));
        assert_eq!(read.response, whole.response, "{}", case.name);
        assert_eq!(told(&read)["usage"], told(&whole)["usage"], "{}", case.name);
    });
}

/// An event whose text is cut in two: the first carries nothing but text and what names it.
fn halves(value: &Value, random: &mut Random) -> Option<[Value; 2]> {
    let mut cut = |text: &str| {
        let mut at = random.below(text.len() + 1);
        while !text.is_char_boundary(at) {
            at -= 1;
        }
        (json!(text[..at]), json!(text[at..]))
    };
    let (mut first, mut second) = (value.clone(), value.clone());
    if value["type"].as_str().is_some_and(|kind| kind.rsplit('.').next() == Some("delta")) {
        let (head, tail) = cut(value["delta"].as_str()?);
        // Beside a text its log probabilities stand; they are not repeated.
        first.as_object_mut()?.shift_remove("logprobs");
        (first["delta"], second["delta"]) = (head, tail);
        return Some([first, second]);
    }
    let delta = value.pointer("/choices/0/delta")?.as_object()?;
    let key = GROWING.into_iter().find(|key| delta.get(*key).is_some_and(Value::is_string))?;
    if value["choices"].as_array()?.len() > 1 || delta.contains_key("reasoning_details") {
        return None;
    }
    let (head, tail) = cut(delta[key].as_str()?);
    let index = value["choices"][0].get("index").cloned().unwrap_or(json!(0));
    first = json!({"choices": [{"index": index, "delta": {key: head}}]});
    second["choices"][0]["delta"][key] = tail;
    Some([first, second])
}

#[test]
fn what_nobody_knows_disturbs_nothing() {
    each(|case, random| {
        let whole = told(&meaning(case, &case.provider, &stream(&case.events)));
        if whole["response"].get("events").is_some() {
            return;
        }
        let mut more = Vec::new();
        for event in &case.events {
            if random.below(2) == 0 && event.1.trim() != "[DONE]" {
                let unknown = [
                    r#"{"type":"response.brand_new.progress","sequence_number":1}"#,
                    r#"{"type":"keepalive","sequence_number":2}"#,
                    r#"{"type":"ping"}"#,
                    "{broken",
                    "",
                ];
                let unknown = unknown[random.below(unknown.len())];
                more.push((String::new(), unknown.to_owned()));
            }
            more.push(event.clone());
        }
        let mut read = told(&meaning(case, &case.provider, &stream(&more)));
        if let Some(response) = read["response"].as_object_mut().filter(|_| is_chunked(case)) {
            // A member of a chunk that nobody knows is kept.
            response.shift_remove("type");
            response.shift_remove("sequence_number");
        }
        assert_eq!(read, whole, "{}", case.name);
    });
}
