//! `HoneyHive`: model events, one request a session.
//!
//! Source: sinks.md §4, from HoneyHive's page on model event batches, its API description 1.2.1 and
//! the models of its Python package 0.2.57.

use super::{
    Kind, Limits, Problem, Request, Settings, Sink, Verdict,
    batch::{body, runs},
    facts::{self, Costs, add_metadata, error_text, positive_millis, unix_ms},
    json::{Members, fit, millis, text},
    own::{Own, problem},
    talk::{Kind as Work, Talk, without_nulls},
};
use crate::model::{Record, Secret};
use bytes::Bytes;
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};
use uuid::Uuid;

/// How `HoneyHive` is reached.
pub const KIND: Kind = Kind {
    name: "honeyhive",
    aliases: &[],
    base_url: Some("https://api.honeyhive.ai"),
    url_variables: &["HH_API_URL"],
    tails: &[],
    retired: None,
    key_variables: &["HH_API_KEY"],
    header_variables: &[],
    build,
};

/// Events and bytes of a request. `HoneyHive` publishes no limits; its own exporter sends 100 events.
const LIMITS: Limits = Limits { records: 100, bytes: 5_000_000 };

/// Bytes left for what stands around the events of a request.
const FRAME_BYTES: usize = 64 * 1024;

/// Facts that have a place of their own.
const HOMES: [&str; 11] = [
    "provider",
    "session_id",
    "prompt_slug",
    "environment",
    "customer_id",
    "user_id",
    "expected_response",
    "inputs",
    "total_cost",
    "choices",
    "session_name",
];

/// Members of an event that servers before 2026 know.
const SEED: [&str; 17] = [
    "project",
    "model",
    "provider",
    "messages",
    "response",
    "duration",
    "usage",
    "cost",
    "error",
    "source",
    "event_name",
    "hyperparameters",
    "template",
    "template_inputs",
    "tools",
    "tool_choice",
    "response_format",
];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Flavour {
    /// `POST /events/model/batch`.
    Model,
    /// The same with the members of the first documentation only.
    Seed,
    /// `POST /v1/events/batch`.
    V1,
}

#[derive(Debug)]
struct HoneyHive {
    authorization: Secret,
    flavour: Flavour,
    project: String,
    source: Option<String>,
}

fn build(settings: &Settings) -> Result<Box<dyn Sink>, Problem> {
    let mut own = Own::new(settings);
    let flavour = match own.choice("flavour", &["model", "seed", "v1"])? {
        "v1" => Flavour::V1,
        "seed" => Flavour::Seed,
        _ => Flavour::Model,
    };
    let project = own.text_or("project", &["HH_PROJECT"])?;
    let source = own.text_or("source", &["HH_SOURCE"])?;
    let authorization = own.bearer(&KIND)?;
    own.finish()?;
    // A key of version 1 belongs to one project.
    if project.is_none() && flavour != Flavour::V1 {
        return Err(problem(
            "project",
            "is missing: write HoneyHive's project here, or set HH_PROJECT",
        ));
    }
    let project = project.unwrap_or_default();
    Ok(Box::new(HoneyHive { authorization, flavour, project, source }))
}

impl Sink for HoneyHive {
    fn limits(&self) -> Limits {
        LIMITS
    }

    /// Calls of a session go together and alone, calls without one together.
    fn requests(&self, records: &[Record]) -> Vec<Request> {
        let mut groups: Vec<(Option<&str>, Vec<usize>)> = Vec::new();
        for (place, record) in records.iter().enumerate() {
            let session = record.tags.session.as_deref().filter(|_| self.flavour != Flavour::V1);
            match groups.iter_mut().find(|(name, _)| *name == session) {
                Some((_, places)) => places.push(place),
                None => groups.push((session, vec![place])),
            }
        }
        let mut requests = Vec::new();
        for (_, places) in groups {
            let members: Vec<&Record> = places.iter().filter_map(|at| records.get(*at)).collect();
            let events: Vec<Bytes> = members.iter().map(|record| self.event(record)).collect();
            let room = Limits { bytes: LIMITS.bytes - FRAME_BYTES, ..LIMITS };
            for run in runs(&events, room) {
                let (members, events) = (&members[run.clone()], &events[run.clone()]);
                requests.push(self.request(members, events, places[run].to_vec()));
            }
        }
        requests
    }

    /// 500 with `event_ids` names the events that were stored all the same.
    fn verdict(&self, ids: &[Uuid], status: u16, body: &[u8]) -> Option<Verdict> {
        let body: Value = serde_json::from_slice(body).ok()?;
        if !(status == 500 || (status < 300 && body["success"] == false)) {
            return None;
        }
        let stored: Vec<&str> =
            body["event_ids"].as_array()?.iter().filter_map(Value::as_str).collect();
        let why = body["errors"].as_array().filter(|errors| !errors.is_empty());
        if stored.is_empty() && why.is_none() {
            return None;
        }
        let why = why.map_or_else(
            || "not stored".to_owned(),
            |errors| errors.iter().map(text).collect::<Vec<_>>().join("; "),
        );
        let missing: Vec<(usize, String)> = ids
            .iter()
            .enumerate()
            .filter(|(_, id)| {
                !stored.iter().any(|stored| stored.eq_ignore_ascii_case(&id.to_string()))
            })
            .map(|(place, _)| (place, why.clone()))
            .collect();
        Some(if missing.is_empty() { Verdict::Delivered } else { Verdict::Partly(missing) })
    }

    /// No events: nothing to store, after the key was looked at.
    fn probe(&self) -> Option<Request> {
        Some(self.request(&[], &[], Vec::new()))
    }
}

impl HoneyHive {
    fn list(&self) -> &'static str {
        if self.flavour == Flavour::V1 { "events" } else { "model_events" }
    }

    fn request(&self, members: &[&Record], events: &[Bytes], places: Vec<usize>) -> Request {
        let path =
            if self.flavour == Flavour::V1 { "/v1/events/batch" } else { "/events/model/batch" };
        let headers = vec![("authorization", self.authorization.clone())];
        let rest = self.rest(members);
        let of_session = rest.contains_key("session_properties");
        let rest = json!(rest).to_string();
        let comma = if rest == "{}" { "" } else { "," };
        let before = format!("{{\"{}\":[", self.list());
        let after = format!("]{comma}{}", rest.trim_start_matches('{'));
        let mut request = Request::batch(path, headers, body(&before, events, ",", &after), places);
        if of_session {
            // What is said of a session is taken from all its events.
            request.parts.clear();
        }
        request
    }

    fn source(&self, record: &Record) -> Option<String> {
        record.tags.environment.clone().or_else(|| self.source.clone())
    }

    /// What stands beside the events.
    fn rest(&self, records: &[&Record]) -> Map<String, Value> {
        let mut body = Members::default();
        if self.flavour == Flavour::V1 || records.is_empty() {
            return body.0;
        }
        let named =
            records.first().and_then(|record| Some((record, record.tags.session.as_ref()?)));
        body.put("is_single_session", named.is_some());
        if let Some((first, session)) = named {
            let find = |wanted: fn(&Record) -> Option<String>| {
                records.iter().find_map(|record| wanted(record))
            };
            let mut properties = Members::default();
            let name = find(|record| record.tags.session_name.clone());
            properties.put("session_name", name.unwrap_or_else(|| session.clone()));
            properties.add("source", self.source(first));
            properties.put("session_id", session_id(session).to_string());
            properties.add("user_properties", user_properties(first));
            let ids: Vec<Uuid> = records.iter().map(|record| record.id).collect();
            properties.put("metadata", json!({"session_external_id": session, "record_ids": ids}));
            body.put("session_properties", properties.into_value());
        }
        body.0
    }

    fn event(&self, record: &Record) -> Bytes {
        let talk = Talk::of(record);
        let mut event = if self.flavour == Flavour::V1 {
            v1_event(record, &talk)
        } else {
            self.model_event(record, &talk)
        };
        event.put("event_name", record.tags.prompt.as_deref().unwrap_or(record.endpoint.as_str()));
        event.add("error", error_text(record));
        event.add("source", self.source(record));
        event.put("duration", positive_millis(record.timing.latency_ms));
        event.put("event_id", record.id.to_string());
        event.add("session_id", record.tags.session.as_deref().map(session_id));
        event.put("start_time", unix_ms(record.started_at));
        event.put("end_time", unix_ms(record.ended_at));
        event.put("metadata", metadata(record, &talk));
        event.add("metrics", record.timing.ttft_ms.map(|ttft| json!({"ttft_ms": millis(ttft)})));
        event.add("feedback", record.tags.expected.as_ref().map(|it| json!({"ground_truth": it})));
        event.add("user_properties", user_properties(record));
        if self.flavour == Flavour::Seed {
            event.0.retain(|name, _| SEED.contains(&name.as_str()));
        }
        // One that is too large alone is cut.
        fit(&event.into_value(), LIMITS.bytes - FRAME_BYTES - 1)
    }

    fn model_event(&self, record: &Record, talk: &Talk) -> Members {
        let mut event = Members::default();
        event.put("project", self.project.as_str());
        event.put("model", facts::model(record));
        event.put("provider", provider(record));
        event.put("messages", json!(talk.messages));
        event.put("response", response(record, talk));
        event.put("usage", facts::usage(record, "cache_creation_input_tokens"));
        event.add("cost", Costs::of(record).total);
        event.add("hyperparameters", hyperparameters(record));
        event.add("template_inputs", &record.tags.inputs);
        event.add("tools", talk.all_tools());
        event.add("tool_choice", asked(record, "tool_choice").map(text));
        event.add("response_format", asked(record, "response_format").filter(|it| it.is_object()));
        event
    }
}

/// The members that only `/v1/events/batch` has.
fn v1_event(record: &Record, talk: &Talk) -> Members {
    let mut config = Members::default();
    config.put("model", facts::model(record));
    config.put("provider", provider(record));
    config.put("type", if talk.kind == Work::Chat { "chat" } else { record.endpoint.as_str() });
    config.add("hyperparameters", hyperparameters(record));
    config.add("tool_choice", asked(record, "tool_choice"));
    config.add("response_format", asked(record, "response_format"));
    let mut inputs = Members::default();
    inputs.put("chat_history", json!(talk.messages));
    inputs.add("functions", talk.all_tools());
    inputs.add("template_inputs", &record.tags.inputs);
    let mut event = Members::default();
    event.put("event_type", "model");
    event.put("config", config.into_value());
    event.put("inputs", inputs.into_value());
    event.put("outputs", response(record, talk));
    event
}

/// A UUID for a session: the caller's id where it is one, else one derived from it, since an invalid id is
/// replaced by a random one without a word.
fn session_id(session: &str) -> Uuid {
    if let Ok(id) = Uuid::try_parse(session) {
        return id;
    }
    let digest = Sha256::new()
        .chain_update(b"honeyhive-session\0")
        .chain_update(session.as_bytes())
        .finalize();
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&digest[..16]);
    uuid::Builder::from_random_bytes(bytes).into_uuid()
}

fn provider(record: &Record) -> &str {
    if record.provider.is_empty() { "unknown" } else { &record.provider }
}

/// An object always: the message, else what came in its place.
fn response(record: &Record, talk: &Talk) -> Value {
    match (&talk.answer, &record.response) {
        (Some(answer), _) => without_nulls(answer).into(),
        (None, Some(Value::Object(body))) => body.clone().into(),
        (None, Some(body)) if !body.is_null() => json!({"body": text(body)}),
        _ => json!({}),
    }
}

/// A member of the request as it was sent, else as it was kept.
fn asked<'a>(record: &'a Record, name: &str) -> Option<&'a Value> {
    let sent = record.request.as_ref().and_then(|request| request.get(name));
    sent.or_else(|| record.parameters.get(name)).filter(|value| !value.is_null())
}

fn hyperparameters(record: &Record) -> Map<String, Value> {
    let elsewhere = ["tool_choice", "response_format", "stream", "stream_options"];
    let mut kept = Members::default();
    for (name, value) in &record.parameters {
        match value {
            Value::String(stop) if name == "stop" => kept.put(name, json!([stop])),
            _ if elsewhere.contains(&name.as_str()) => {}
            value => kept.add(name, value),
        }
    }
    kept.0
}

fn user_properties(record: &Record) -> Map<String, Value> {
    let mut properties = Members::default();
    properties.add("user_id", &record.tags.user);
    properties.add("customer_id", &record.tags.customer);
    properties.0
}

fn metadata(record: &Record, talk: &Talk) -> Map<String, Value> {
    let mut facts = facts::facts(record, talk);
    facts.0.retain(|name, _| !HOMES.contains(&name.as_str()));
    facts.add("session_external_id", &record.tags.session);
    facts.add("cost", Costs::of(record).total);
    let others: Vec<_> = talk.others.iter().map(without_nulls).collect();
    facts.add("other_choices", others);
    add_metadata(&mut facts, &record.tags.metadata);
    facts.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sink::{fixtures, tests::settings};

    #[test]
    fn sessions_are_uuids() {
        let derived = session_id("chat-7731").to_string();
        assert_eq!(derived, "032926a0-1077-49f6-97ee-947819d9c188");
        let id = "0197341c-5a00-7000-8000-00000000000a";
        assert_eq!(session_id(id).to_string(), id);
    }

    #[test]
    fn a_session_has_a_request_of_its_own() {
        let sink = build(&settings(&KIND)).unwrap();
        let named = |name: &str| {
            let tags = if name.is_empty() { json!({}) } else { json!({"session": name}) };
            fixtures::record(json!({"tags": tags}))
        };
        let records: Vec<Record> = ["a", "", "b", "a", ""].map(named).into();
        let requests = sink.requests(&records);
        let places: Vec<_> = requests.iter().map(|request| request.records.clone()).collect();
        assert_eq!(places, [vec![0, 3], vec![1, 4], vec![2]]);
        let single: Vec<Value> = requests
            .iter()
            .map(|request| {
                serde_json::from_slice::<Value>(&request.body).unwrap()["is_single_session"].clone()
            })
            .collect();
        assert_eq!(single, [true, false, true]);
        let many: Vec<Record> = (0..250).map(|_| named("a")).collect();
        assert_eq!(sink.requests(&many).len(), 3);
        let large = json!({"messages": [{"role": "user", "content": "x".repeat(3_000_000)}]});
        let large = fixtures::record(json!({"request": large}));
        let requests = sink.requests(&[large.clone(), large]);
        assert_eq!(requests.len(), 2);
        let huge = json!({"messages": [{"role": "user", "content": "x".repeat(9_000_000)}]});
        let requests = sink.requests(&[fixtures::record(json!({"request": huge}))]);
        assert!(requests[0].body.len() <= LIMITS.bytes);
    }

    #[test]
    fn a_partly_stored_batch_is_told_apart() {
        let sink = build(&settings(&KIND)).unwrap();
        let ids = [Uuid::from_u128(1), Uuid::from_u128(2)];
        let judge =
            |status: u16, body: Value| sink.verdict(&ids, status, body.to_string().as_bytes());
        let half = json!({"event_ids": [ids[0]], "errors": ["missing model"], "success": false});
        let missing = Verdict::Partly(vec![(1, "missing model".to_owned())]);
        assert_eq!(judge(500, half.clone()), Some(missing.clone()));
        assert_eq!(judge(200, half), Some(missing));
        assert_eq!(judge(500, json!({"event_ids": ids})), Some(Verdict::Delivered));
        assert_eq!(judge(500, json!({"event_ids": []})), None);
        assert_eq!(judge(500, json!({"message": "down"})), None);
        assert_eq!(judge(200, json!({"event_ids": [], "success": true})), None);
        assert_eq!(sink.verdict(&ids, 500, b"<html>"), None);
    }
}
