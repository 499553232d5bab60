//! OpenTelemetry: one span a record over OTLP/HTTP in JSON, named by a chosen generation of the
//! conventions for generative AI.
//!
//! Source: the OTLP specification 1.x (JSON encoding, partial success) and ux.md §10.1. All `gen_ai.*`
//! names are in development, so the profile is pinned by the configuration.

mod genai;
mod openinference;

use super::{
    Kind, Limits, Problem, Request, Settings, Sink, Verdict,
    batch::{body, runs},
    facts::{Costs, error_text},
    json::{Members, fit},
    own::Own,
    talk::Talk,
};
use crate::model::{Record, Secret, Timestamp};
use bytes::Bytes;
use genai::Generation;
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};
use std::ops::Range;
use uuid::Uuid;

/// How a collector is reached.
pub const KIND: Kind = Kind {
    name: "otlp",
    aliases: &["opentelemetry"],
    base_url: Some("http://localhost:4318"),
    url_variables: &["OTEL_EXPORTER_OTLP_ENDPOINT"],
    tails: &[PATH],
    retired: None,
    key_variables: &[],
    header_variables: &["OTEL_EXPORTER_OTLP_TRACES_HEADERS", "OTEL_EXPORTER_OTLP_HEADERS"],
    build,
};

/// Where traces go.
const PATH: &str = "/v1/traces";

/// Spans and bytes of a request; collectors take 20 MiB by default, some receivers 4.
const LIMITS: Limits = Limits { records: 100, bytes: 4 * 1024 * 1024 };

/// Bytes left for what stands around the spans.
const FRAME_BYTES: usize = 64 * 1024;

/// Span kind CLIENT and status code ERROR of the protocol.
const CLIENT: u8 = 3;
const ERROR: u8 = 2;

/// Whether what was said goes along.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Messages {
    On,
    Off,
    /// Roles, parts and lengths, without the words.
    Redacted,
}

/// Which names attributes have.
#[derive(Clone, Copy, Debug)]
enum Profile {
    GenAi(Generation),
    OpenInference,
}

#[derive(Debug)]
struct Otlp {
    authorization: Option<Secret>,
    profile: Profile,
    messages: Messages,
    resource: Value,
}

fn build(settings: &Settings) -> Result<Box<dyn Sink>, Problem> {
    let mut own = Own::new(settings);
    let opted = settings.environment.get("OTEL_SEMCONV_STABILITY_OPT_IN");
    let opted = opted.is_some_and(|list| list.contains("gen_ai_latest_experimental"));
    let known = ["genai-1.41", "genai-1.36", "genai-latest", "openinference"];
    let chosen = settings.own.contains_key("profile");
    let profile = match own.choice("profile", &known)? {
        _ if opted && !chosen => Profile::GenAi(Generation::Latest),
        "genai-1.36" => Profile::GenAi(Generation::V136),
        "genai-latest" => Profile::GenAi(Generation::Latest),
        "openinference" => Profile::OpenInference,
        _ => Profile::GenAi(Generation::V141),
    };
    let messages = match own.choice("messages", &["off", "on", "redacted"])? {
        "on" => Messages::On,
        "redacted" => Messages::Redacted,
        _ => Messages::Off,
    };
    let service = own.text_or("service_name", &["OTEL_SERVICE_NAME"])?;
    let mut resource = Attributes::default();
    resource.text("service.name", service.as_deref().unwrap_or("calltap"));
    for (name, value) in own.texts("resource")? {
        resource.text(&name, &value);
    }
    let authorization = settings.api_key.is_some().then(|| own.bearer(&KIND)).transpose()?;
    own.finish()?;
    let resource = json!({"attributes": resource.0});
    Ok(Box::new(Otlp { authorization, profile, messages, resource }))
}

impl Sink for Otlp {
    fn limits(&self) -> Limits {
        LIMITS
    }

    fn requests(&self, records: &[Record]) -> Vec<Request> {
        let room = Limits { bytes: LIMITS.bytes - FRAME_BYTES, ..LIMITS };
        let spans: Vec<Bytes> =
            records.iter().map(|record| fit(&self.span(record), room.bytes - 2)).collect();
        let one = |run: Range<usize>| self.request(&spans[run.clone()], run.collect());
        runs(&spans, room).into_iter().map(one).collect()
    }

    /// A partial success counts spans and does not name them: where some were rejected, parts are
    /// sent until each is found. Repeated spans have the same ids and the same bytes.
    fn verdict(&self, _: &[Uuid], status: u16, body: &[u8]) -> Option<Verdict> {
        if status != 200 {
            return None;
        }
        let body: Value = serde_json::from_slice(body).ok()?;
        let rejected = &body.as_object()?.get("partialSuccess")?["rejectedSpans"];
        let count = rejected.as_i64().or_else(|| rejected.as_str()?.parse().ok()).unwrap_or(0);
        Some(if count > 0 { Verdict::Refused } else { Verdict::Delivered })
    }

    /// No spans, which the protocol allows.
    fn probe(&self) -> Option<Request> {
        Some(self.request(&[], Vec::new()))
    }
}

impl Otlp {
    fn request(&self, spans: &[Bytes], records: Vec<usize>) -> Request {
        let key = self.authorization.clone();
        let headers = key.map(|key| ("authorization", key)).into_iter().collect();
        if spans.is_empty() {
            return Request::json(PATH, headers, "{\"resourceSpans\":[]}".into(), records);
        }
        let scope = json!({"name": "calltap", "version": env!("CARGO_PKG_VERSION")});
        let before = format!(
            "{{\"resourceSpans\":[{{\"resource\":{},\"scopeSpans\":[{{\"scope\":{scope},\"spans\":[",
            self.resource
        );
        let schema = match self.profile {
            Profile::GenAi(generation) => {
                format!(",\"schemaUrl\":{}", json!(generation.schema_url()))
            }
            Profile::OpenInference => String::new(),
        };
        let body = body(&before, spans, ",", &format!("]{schema}}}]}}]}}"));
        Request::batch(PATH, headers, body, records)
    }

    fn span(&self, record: &Record) -> Value {
        let talk = Talk::of(record);
        let mut span = Members::default();
        let trace = record.trace.trace_id.clone().filter(|id| is_id(id, 32));
        let parent = record.trace.parent_id.as_ref().filter(|id| trace.is_some() && is_id(id, 16));
        span.put("traceId", trace.unwrap_or_else(|| record.id.simple().to_string()));
        span.put("spanId", span_id(record.id));
        span.add("parentSpanId", parent);
        let mut attributes = Attributes::default();
        let (name, events) = match self.profile {
            Profile::GenAi(generation) => {
                genai::add(&mut attributes, generation, record, &talk, self.messages)
            }
            Profile::OpenInference => {
                let name = openinference::add(&mut attributes, record, &talk, self.messages);
                (name, Vec::new())
            }
        };
        own_attributes(&mut attributes, record);
        span.put("name", name);
        span.put("kind", CLIENT);
        span.put("startTimeUnixNano", nanos(record.started_at));
        span.put("endTimeUnixNano", nanos(record.ended_at));
        span.put("attributes", attributes.0);
        let at = nanos(record.started_at);
        let event = |(name, body): (String, Value)| {
            let mut attributes = Attributes::default();
            attributes.members(&body);
            json!({"timeUnixNano": at, "name": name, "attributes": attributes.0})
        };
        span.add("events", events.into_iter().map(event).collect::<Vec<_>>());
        if let Some(message) = error_text(record) {
            span.put("status", json!({"code": ERROR, "message": message}));
        }
        span.into_value()
    }
}

/// What no convention has a name for.
fn own_attributes(attributes: &mut Attributes, record: &Record) {
    let tags = &record.tags;
    attributes.flag("calltap.gateway", true);
    attributes.text("calltap.record_id", &record.id.to_string());
    attributes.text("calltap.endpoint", record.endpoint.as_str());
    attributes.text("calltap.outcome", record.outcome.as_str());
    attributes.text("calltap.upstream", &record.upstream);
    attributes.maybe("calltap.session_path", tags.session_path.as_deref());
    attributes.maybe("calltap.customer", tags.customer.as_deref());
    attributes.maybe("calltap.reference", tags.reference.as_deref());
    attributes.maybe("deployment.environment.name", tags.environment.as_deref());
    let cost = Costs::of(record).total.and_then(|cost| cost.as_f64());
    attributes.double("calltap.cost.usd", cost);
    for (name, value) in &tags.metadata {
        attributes.value(&format!("calltap.metadata.{name}"), value);
    }
    if !tags.labels.is_empty() {
        attributes.value("calltap.labels", &json!(tags.labels));
    }
}

/// Lower-case hex of a length, and not all zeros.
fn is_id(id: &str, length: usize) -> bool {
    let hex = id.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte));
    id.len() == length && hex && id.bytes().any(|byte| byte != b'0')
}

/// The same span for the same record.
fn span_id(id: Uuid) -> String {
    hex::encode(&Sha256::digest(id.as_bytes())[..8])
}

fn nanos(time: Timestamp) -> String {
    i128::from(time.0).max(0).saturating_mul(1000).to_string()
}

/// Attributes in the protocol's JSON.
#[derive(Debug, Default)]
struct Attributes(Vec<Value>);

impl Attributes {
    fn push(&mut self, name: &str, value: &Value) {
        self.0.push(json!({"key": name, "value": value}));
    }

    fn text(&mut self, name: &str, text: &str) {
        self.push(name, &json!({"stringValue": text}));
    }

    fn maybe(&mut self, name: &str, text: Option<&str>) {
        if let Some(text) = text {
            self.text(name, text);
        }
    }

    fn flag(&mut self, name: &str, flag: bool) {
        self.push(name, &json!({"boolValue": flag}));
    }

    /// 64-bit integers are texts in the protocol's JSON.
    fn int(&mut self, name: &str, number: Option<u64>) {
        if let Some(number) = number {
            self.push(name, &json!({"intValue": number.to_string()}));
        }
    }

    fn double(&mut self, name: &str, number: Option<f64>) {
        if let Some(number) = number {
            self.push(name, &json!({"doubleValue": number}));
        }
    }

    /// A value of the kind that it is; objects as JSON text.
    fn value(&mut self, name: &str, value: &Value) {
        if let Some(value) = any(value) {
            self.push(name, &value);
        }
    }

    fn members(&mut self, value: &Value) {
        for (name, value) in value.as_object().unwrap_or(&Map::new()) {
            self.value(name, value);
        }
    }
}

fn any(value: &Value) -> Option<Value> {
    Some(match value {
        Value::Null => return None,
        Value::Bool(flag) => json!({"boolValue": flag}),
        Value::String(text) => json!({"stringValue": text}),
        Value::Number(number) if number.is_i64() => json!({"intValue": number.to_string()}),
        Value::Number(number) => json!({"doubleValue": number.as_f64()?}),
        Value::Array(items) if items.iter().all(Value::is_string) => {
            json!({"arrayValue": {"values": items.iter().filter_map(any).collect::<Vec<_>>()}})
        }
        other => json!({"stringValue": other.to_string()}),
    })
}

/// Words as they are, or how many there were.
fn words(text: &str, messages: Messages) -> String {
    match messages {
        Messages::Redacted => format!("[{} characters]", text.chars().count()),
        _ => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sink::{fixtures, tests::settings};

    fn sink(own: &str) -> Box<dyn Sink> {
        let mut settings = settings(&KIND);
        settings.own.extend(own.parse::<toml::Table>().unwrap());
        build(&settings).unwrap()
    }

    fn span(own: &str, record: Record) -> Value {
        let requests = sink(own).requests(&[record]);
        let body: Value = serde_json::from_slice(&requests[0].body).unwrap();
        body["resourceSpans"][0]["scopeSpans"][0]["spans"][0].clone()
    }

    #[test]
    fn spans_hang_on_the_incoming_trace() {
        let traced = span("", fixtures::chat());
        assert_eq!(traced["traceId"], "0af7651916cd43dd8448eb211c80319c");
        assert_eq!(traced["parentSpanId"], "b7ad6b7169203331");
        let alone =
            span("", fixtures::record(json!({"trace": {"trace_id": "0", "parent_id": "1"}})));
        assert_eq!(alone["traceId"], "0197341c5a007000800000000000000a");
        assert!(alone.get("parentSpanId").is_none());
        assert!(is_id(alone["spanId"].as_str().unwrap(), 16));
    }

    #[test]
    fn words_go_along_only_where_asked_for() {
        for profile in ["genai-1.36", "genai-1.41", "genai-latest", "openinference"] {
            let said = |messages: &str| {
                let own = format!("profile = '{profile}'\nmessages = '{messages}'");
                let text = span(&own, fixtures::chat()).to_string();
                (text.contains("On its way."), text.contains("[11 characters]"))
            };
            assert_eq!(said("on"), (true, false), "{profile}");
            assert_eq!(said("off"), (false, false), "{profile}");
            assert_eq!(said("redacted"), (false, true), "{profile}");
        }
    }

    #[test]
    fn partial_success_is_judged() {
        let sink = sink("");
        let judge = |body: Value| sink.verdict(&[], 200, body.to_string().as_bytes());
        let rejected = |count: Value| json!({"partialSuccess": {"rejectedSpans": count}});
        assert_eq!(judge(rejected(json!("2"))), Some(Verdict::Refused));
        assert_eq!(judge(rejected(json!(1))), Some(Verdict::Refused));
        assert_eq!(judge(rejected(json!("0"))), Some(Verdict::Delivered));
        assert_eq!(judge(json!({"partialSuccess": {}})), Some(Verdict::Delivered));
        assert_eq!(judge(json!({})), None);
    }

    #[test]
    fn the_environment_may_ask_for_the_latest_names() {
        let mut settings = settings(&KIND);
        let opt_in = "OTEL_SEMCONV_STABILITY_OPT_IN".to_owned();
        settings.environment.insert(opt_in, "http,gen_ai_latest_experimental".to_owned());
        let text = |settings: &Settings| {
            let request = build(settings).unwrap().requests(&[fixtures::chat()]).remove(0);
            String::from_utf8(request.body.to_vec()).unwrap()
        };
        assert!(text(&settings).contains("gen_ai.request.stream"));
        settings.own.insert("profile".to_owned(), "genai-1.36".into());
        assert!(!text(&settings).contains("gen_ai.request.stream"));
    }
}
