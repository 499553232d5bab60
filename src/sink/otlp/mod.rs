//! OpenTelemetry: one span a record over OTLP/HTTP in JSON or protobuf, named by a chosen generation of
//! the conventions for generative AI.
//!
//! Source: the OTLP specification 1.x (encodings, partial success) and ux.md §10.1. All `gen_ai.*`
//! names are in development, so the profile is pinned by the configuration.

mod attributes;
mod genai;
mod messages;
mod openinference;
mod protobuf;
#[cfg(test)]
mod tests;

use super::{
    Kind, Limits, Problem, Request, Settings, Sink, Verdict,
    batch::{body, runs},
    facts::{Costs, error_text},
    json::{Members, fit},
    own::{Own, problem},
    talk::Talk,
};
use crate::model::{Outcome, Record, Secret, Timestamp};
use attributes::Attributes;
use bytes::Bytes;
use genai::Generation;
use percent_encoding::percent_decode_str;
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};
use std::ops::Range;
use uuid::Uuid;

/// How a collector is reached.
pub const KIND: Kind = Kind {
    name: "otlp",
    aliases: &["opentelemetry"],
    base_url: Some("http://localhost:4318"),
    url_variables: &["OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT"],
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

/// Variables that say how the protocol is spoken.
const PROTOCOL: [&str; 2] = ["OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL"];

/// How a request is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Encoding {
    Json,
    Protobuf,
}

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
    encoding: Encoding,
    profile: Profile,
    messages: Messages,
    resource: Value,
    scope: Value,
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
    let encoding = encoding(settings, &mut own)?;
    let resource = resource(settings, &mut own)?;
    let authorization = settings.api_key.is_some().then(|| own.bearer(&KIND)).transpose()?;
    own.finish()?;
    let scope = json!({"name": "calltap", "version": env!("CARGO_PKG_VERSION")});
    Ok(Box::new(Otlp { authorization, encoding, profile, messages, resource, scope }))
}

/// Who sends: what the configuration says goes before what the environment says.
fn resource(settings: &Settings, own: &mut Own<'_>) -> Result<Value, Problem> {
    let variable = settings.environment.get("OTEL_RESOURCE_ATTRIBUTES");
    let mut all = Map::new();
    all.insert("service.name".to_owned(), "calltap".into());
    for pair in variable.map_or("", String::as_str).split(',') {
        if let Some((name, value)) = pair.split_once('=') {
            all.insert(name.trim().to_owned(), decoded(value.trim()).into());
        }
    }
    if let Some(service) = own.text_or("service_name", &["OTEL_SERVICE_NAME"])? {
        all.insert("service.name".to_owned(), service.into());
    }
    all.extend(own.texts("resource")?.into_iter().map(|(name, text)| (name, text.into())));
    let mut attributes = Attributes::default();
    attributes.members(&Value::Object(all));
    Ok(json!({"attributes": attributes.0}))
}

/// A value that may be percent-encoded.
fn decoded(value: &str) -> String {
    percent_decode_str(value).decode_utf8().map_or_else(|_| value.to_owned(), Into::into)
}

/// What the configuration says, else what OpenTelemetry's own exporters would read.
fn encoding(settings: &Settings, own: &mut Own<'_>) -> Result<Encoding, Problem> {
    let chosen = settings.own.contains_key("encoding");
    match own.choice("encoding", &["json", "protobuf"])? {
        "protobuf" => return Ok(Encoding::Protobuf),
        _ if chosen => return Ok(Encoding::Json),
        _ => {}
    }
    let said = PROTOCOL.iter().filter_map(|name| Some((name, settings.environment.get(*name)?)));
    let said = said.map(|(name, text)| (name, text.trim())).find(|(_, text)| !text.is_empty());
    match said {
        None | Some((_, "http/json")) => Ok(Encoding::Json),
        Some((_, "http/protobuf")) => Ok(Encoding::Protobuf),
        Some((name, other)) => Err(problem(
            "encoding",
            &format!(
                "is not set, and {name} says `{other}`, which is not spoken here: set `encoding` to \
                 json or protobuf, and `base_url` to where the collector takes HTTP (port 4318)"
            ),
        )),
    }
}

impl Sink for Otlp {
    fn limits(&self) -> Limits {
        LIMITS
    }

    fn requests(&self, records: &[Record]) -> Vec<Request> {
        let room = Limits { bytes: LIMITS.bytes - FRAME_BYTES, ..LIMITS };
        let item = |record| self.item(record, room.bytes - 2);
        let spans: Vec<Bytes> = records.iter().map(item).collect();
        let one = |run: Range<usize>| self.request(&spans[run.clone()], run.collect());
        runs(&spans, room).into_iter().map(one).collect()
    }

    /// A partial success counts spans and does not name them: where some were rejected, parts are
    /// sent until each is found. Repeated spans have the same ids and the same bytes.
    fn verdict(&self, _: &[Uuid], status: u16, body: &[u8]) -> Option<Verdict> {
        match status {
            200 => {}
            // It takes the other encoding only, which is no fault of any record.
            415 => return Some(Verdict::Pause),
            _ => return None,
        }
        // Some back ends answer in JSON whatever they are sent.
        let count = rejected(body).or_else(|| protobuf::rejected(body))?;
        Some(if count > 0 { Verdict::Refused } else { Verdict::Delivered })
    }

    /// No spans, which the protocol allows.
    fn probe(&self) -> Option<Request> {
        Some(self.request(&[], Vec::new()))
    }
}

impl Otlp {
    /// A span as it stands in a request.
    fn item(&self, record: &Record, max: usize) -> Bytes {
        let span = fit(&self.span(record), max);
        match (self.encoding, serde_json::from_slice(&span)) {
            (Encoding::Protobuf, Ok(span)) => {
                protobuf::item(&self.resource, &self.scope, &span, self.schema()).into()
            }
            _ => span,
        }
    }

    fn schema(&self) -> Option<&'static str> {
        match self.profile {
            Profile::GenAi(generation) => generation.schema_url(),
            Profile::OpenInference => None,
        }
    }

    fn request(&self, spans: &[Bytes], records: Vec<usize>) -> Request {
        let key = self.authorization.clone();
        let headers = key.map(|key| ("authorization", key)).into_iter().collect();
        let (kind, body) = match self.encoding {
            Encoding::Protobuf => ("application/x-protobuf", body("", spans, "", "")),
            Encoding::Json if spans.is_empty() => {
                ("application/json", body("{\"resourceSpans\":[]}", spans, "", ""))
            }
            Encoding::Json => {
                let (resource, scope) = (&self.resource, &self.scope);
                let before = format!(
                    "{{\"resourceSpans\":[{{\"resource\":{resource},\"scopeSpans\":[{{\"scope\":{scope},\"spans\":["
                );
                let schema = self.schema().map(|url| format!(",\"schemaUrl\":{}", json!(url)));
                let after = format!("]{}}}]}}]}}", schema.unwrap_or_default());
                ("application/json", body(&before, spans, ",", &after))
            }
        };
        let parts = body.parts;
        Request { parts, ..Request::post(PATH, headers, kind, body.bytes, records) }
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
        shared_attributes(&mut attributes, record);
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
        if let Some(why) = error_type(record) {
            // Providers quote the question in what they say.
            let said = error_text(record).filter(|_| self.messages == Messages::On);
            span.put("status", json!({"code": ERROR, "message": said.unwrap_or(why)}));
        }
        span.into_value()
    }
}

/// How many spans a JSON answer says were rejected; `None` where it has no partial success.
fn rejected(answer: &[u8]) -> Option<i64> {
    let answer: Value = serde_json::from_slice(answer).ok()?;
    let count = &answer.as_object()?.get("partialSuccess")?["rejectedSpans"];
    Some(count.as_i64().or_else(|| count.as_str()?.parse().ok()).unwrap_or(0))
}

/// What every profile has.
fn shared_attributes(attributes: &mut Attributes, record: &Record) {
    let (host, port) = server(record.host.as_deref().unwrap_or_default());
    if !host.is_empty() {
        attributes.text("server.address", host);
        attributes.int("server.port", Some(port.into()));
    }
    attributes.maybe("user.id", record.tags.user.as_deref());
    attributes.maybe("deployment.environment.name", record.tags.environment.as_deref());
    attributes.maybe("error.type", error_type(record).as_deref());
}

/// Reasons as completions give them; responses and runs say how they ended instead.
fn finish_reasons(record: &Record) -> impl Iterator<Item = &str> {
    record.finish_reasons.iter().map(|reason| match reason.as_str() {
        "completed" => "stop",
        "max_output_tokens" => "length",
        reason => reason,
    })
}

/// Host and port of an upstream; one that names no port is reached over TLS.
fn server(authority: &str) -> (&str, u16) {
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, port.parse().ok()),
        _ => (authority, None),
    };
    (host.trim_start_matches('[').trim_end_matches(']'), port.unwrap_or(443))
}

/// The provider's code where it gave one, else its status, else how the call ended.
fn error_type(record: &Record) -> Option<String> {
    let ended = record.outcome;
    if matches!(ended, Outcome::Completed | Outcome::ClientAborted) {
        return None;
    }
    let status = record.status.filter(|status| *status >= 400).map(|status| status.to_string());
    let said = record.error.as_ref().and_then(|error| error.code.clone().or(error.kind.clone()));
    Some(said.or(status).unwrap_or_else(|| ended.as_str().to_owned()))
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
    let cost = Costs::of(record).total.and_then(|cost| cost.as_f64());
    attributes.double("calltap.cost.usd", cost);
    for (name, value) in &tags.metadata {
        attributes.value(&format!("calltap.metadata.{name}"), value);
    }
    attributes.texts("calltap.labels", tags.labels.iter().map(String::as_str));
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
