//! What each profile sends, attribute by attribute, in both encodings.

use super::*;
use crate::sink::{fixtures, tests::settings};
use protobuf::{Field, fields};

const PROFILES: [&str; 4] = ["genai-1.36", "genai-1.41", "genai-latest", "openinference"];

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
    let alone = span("", fixtures::record(json!({"trace": {"trace_id": "0", "parent_id": "1"}})));
    assert_eq!(alone["traceId"], "0197341c5a007000800000000000000a");
    assert!(alone.get("parentSpanId").is_none());
    assert!(is_id(alone["spanId"].as_str().unwrap(), 16));
}

#[test]
fn words_go_along_only_where_asked_for() {
    for profile in PROFILES {
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
    assert_eq!(sink.verdict(&[], 415, b""), Some(Verdict::Pause));
    assert_eq!(sink.verdict(&[], 400, b"{}"), None);
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

/// What is no trace context leaves a span that stands alone: it never fails, and never makes up a parent.
#[test]
fn a_broken_trace_context_is_as_none() {
    let id = "0af7651916cd43dd8448eb211c80319c";
    let (zeros, upper) = ("0".repeat(32), id.to_uppercase());
    for trace in
        [&zeros, &upper, &id[1..], &format!("{id}0"), "0af7651916cd43dd8448eb211c80319é", ""]
    {
        let trace = json!({"trace_id": trace, "parent_id": "b7ad6b7169203331"});
        let span = span("", fixtures::record(json!({"trace": trace})));
        assert_eq!(span["traceId"], "0197341c5a007000800000000000000a", "{trace}");
        assert!(span.get("parentSpanId").is_none(), "{trace}");
    }
    for parent in ["0000000000000000", "b7ad6b716920333", "B7AD6B7169203331", ""] {
        let trace = json!({"trace_id": id, "parent_id": parent});
        let span = span("", fixtures::record(json!({"trace": trace})));
        assert_eq!(span["traceId"], id, "{trace}");
        assert!(span.get("parentSpanId").is_none(), "{trace}");
    }
}

/// One file a profile: what each call's span says, with the types of the protocol.
#[test]
fn golden() {
    for profile in PROFILES {
        let own = format!("profile = '{profile}'\nmessages = 'on'\nresource = {{ team = 'web' }}");
        let body = |record| -> Value {
            serde_json::from_slice(&sink(&own).requests(&[record])[0].body).unwrap()
        };
        let around = &body(fixtures::chat())["resourceSpans"][0];
        let scope = &around["scopeSpans"][0];
        let mut text = format!("schema {}\nresource\n", scope["schemaUrl"]);
        list(&mut text, &around["resource"]["attributes"]);
        for (title, record) in fixtures::all() {
            let span = &body(record)["resourceSpans"][0]["scopeSpans"][0]["spans"][0];
            text.push_str(&format!("\n--- {title}\n"));
            for (name, value) in span.as_object().unwrap() {
                if name != "attributes" && name != "events" {
                    text.push_str(&format!("{name} {value}\n"));
                }
            }
            list(&mut text, &span["attributes"]);
            for event in span["events"].as_array().into_iter().flatten() {
                text.push_str(&format!("event {} {}\n", event["name"], event["timeUnixNano"]));
                list(&mut text, &event["attributes"]);
            }
        }
        insta::assert_snapshot!(profile, text);
    }
}

/// `name type value`, a line each.
fn list(text: &mut String, attributes: &Value) {
    for attribute in attributes.as_array().unwrap() {
        let (kind, value) = attribute["value"].as_object().unwrap().iter().next().unwrap();
        let kind = kind.trim_end_matches("Value");
        let shown = match value.as_str() {
            Some(plain) if kind == "int" => plain.to_owned(),
            _ => value.to_string(),
        };
        text.push_str(&format!("  {} {kind} {shown}\n", attribute["key"].as_str().unwrap()));
    }
}

/// Names of the registries of 1.36 and 1.41 and of the newest pages, as far as calltap may send them.
const NAMES: [(&str, &str); 3] = [
    (
        "genai-1.36",
        "conversation.id openai.request.service_tier openai.response.service_tier \
         openai.response.system_fingerprint operation.name output.type request.choice.count \
         request.encoding_formats request.frequency_penalty request.max_tokens request.model \
         request.presence_penalty request.seed request.stop_sequences request.temperature \
         request.top_k request.top_p response.finish_reasons response.id response.model system \
         usage.input_tokens usage.output_tokens",
    ),
    (
        "genai-1.41",
        "conversation.id embeddings.dimension.count input.messages operation.name output.messages \
         output.type prompt.name provider.name request.choice.count request.encoding_formats \
         request.frequency_penalty request.max_tokens request.model request.presence_penalty \
         request.seed request.stop_sequences request.stream request.temperature request.top_k \
         request.top_p response.finish_reasons response.id response.model \
         response.time_to_first_chunk system_instructions tool.definitions \
         usage.cache_creation.input_tokens usage.cache_read.input_tokens usage.input_tokens \
         usage.output_tokens usage.reasoning.output_tokens",
    ),
    (
        "genai-latest",
        "conversation.id embeddings.dimension.count input.messages operation.name output.messages \
         output.type prompt.name prompt.variable.order prompt.version provider.name \
         request.choice.count request.encoding_formats request.frequency_penalty \
         request.max_tokens request.model request.presence_penalty request.previous_response.id \
         request.reasoning.level request.seed request.stop_sequences request.stream \
         request.temperature request.top_k request.top_p response.finish_reasons response.id \
         response.model response.time_to_first_chunk system_instructions tool.definitions \
         usage.audio.input_tokens usage.audio.output_tokens usage.cache_read.input_tokens \
         usage.cache_write.input_tokens usage.image.input_tokens usage.image.output_tokens \
         usage.input_tokens usage.output_tokens usage.reasoning.output_tokens",
    ),
];

#[test]
fn a_generation_has_the_names_of_its_registry_only() {
    for (profile, names) in NAMES {
        let own = format!("profile = '{profile}'\nmessages = 'on'");
        let known: Vec<&str> = names.split_whitespace().collect();
        for (title, record) in fixtures::all() {
            for attribute in span(&own, record)["attributes"].as_array().unwrap() {
                let name = attribute["key"].as_str().unwrap();
                if let Some(name) = name.strip_prefix("gen_ai.") {
                    assert!(known.contains(&name), "{profile}, {title}: {name}");
                }
            }
        }
    }
}

#[test]
fn nothing_that_was_said_is_sent_unasked() {
    let said = [
        "Slow down.",
        "Ping?",
        "Pong.",
        "Weather?",
        "rain",
        "Oslo",
        "A cat.",
        "Ears.",
        "img.test",
        "upon",
    ];
    for profile in PROFILES {
        let mut shown = 0;
        for (title, record) in fixtures::all() {
            let text = |messages: &str| {
                let own = format!("profile = '{profile}'\nmessages = '{messages}'");
                let mut record = record.clone();
                record.tags.labels.clear();
                span(&own, record).to_string()
            };
            let (off, redacted, on) = (text("off"), text("redacted"), text("on"));
            for words in said {
                assert!(!off.contains(words), "{profile}, {title}: {words}");
                assert!(!redacted.contains(words), "{profile}, {title}: {words}");
                shown += usize::from(on.contains(words));
            }
        }
        assert!(shown > 20, "{profile}: {shown}");
    }
}

/// What is written in binary is what is written in JSON.
#[test]
fn both_encodings_say_the_same() {
    for profile in PROFILES {
        let own = format!("profile = '{profile}'\nmessages = 'on'");
        let records: Vec<Record> = fixtures::all().into_iter().map(|(_, record)| record).collect();
        let plain = sink(&own).requests(&records).remove(0);
        let plain: Value = serde_json::from_slice(&plain.body).unwrap();
        let plain = &plain["resourceSpans"][0];
        let scope = &plain["scopeSpans"][0];
        let binary = sink(&format!("{own}\nencoding = 'protobuf'")).requests(&records).remove(0);
        let kind = binary.headers.iter().find(|(name, _)| *name == "content-type").unwrap();
        assert_eq!(kind.1.expose(), "application/x-protobuf");
        let found = fields(&binary.body).unwrap();
        assert_eq!(found.len(), records.len());
        for (place, (_, item)) in found.iter().enumerate() {
            let item = read(item, RESOURCE_SPANS);
            assert_eq!(item["resource"], plain["resource"]);
            let found = &item["scopeSpans"][0];
            assert_eq!(found["scope"], scope["scope"]);
            assert_eq!(found.get("schemaUrl"), scope.get("schemaUrl"));
            assert_eq!(found["spans"][0], scope["spans"][place], "{profile}, {place}");
        }
    }
}

/// A message's fields: number, name in JSON, and what it is. In the order in which JSON has them.
type Shape = &'static [(u64, &'static str, Kind)];

#[derive(Clone, Copy)]
enum Kind {
    Text,
    Hex,
    Enum,
    Time,
    Int,
    Bool,
    Double,
    Array,
    One(Shape),
    Many(Shape),
}

const RESOURCE_SPANS: Shape = &[
    (1, "resource", Kind::One(&[(1, "attributes", Kind::Many(KEY_VALUE))])),
    (2, "scopeSpans", Kind::Many(SCOPE_SPANS)),
];
const SCOPE_SPANS: Shape = &[
    (1, "scope", Kind::One(&[(1, "name", Kind::Text), (2, "version", Kind::Text)])),
    (2, "spans", Kind::Many(SPAN)),
    (3, "schemaUrl", Kind::Text),
];
const SPAN: Shape = &[
    (1, "traceId", Kind::Hex),
    (2, "spanId", Kind::Hex),
    (4, "parentSpanId", Kind::Hex),
    (5, "name", Kind::Text),
    (6, "kind", Kind::Enum),
    (7, "startTimeUnixNano", Kind::Time),
    (8, "endTimeUnixNano", Kind::Time),
    (9, "attributes", Kind::Many(KEY_VALUE)),
    (11, "events", Kind::Many(EVENT)),
    (15, "status", Kind::One(&[(2, "message", Kind::Text), (3, "code", Kind::Enum)])),
];
const EVENT: Shape = &[
    (1, "timeUnixNano", Kind::Time),
    (2, "name", Kind::Text),
    (3, "attributes", Kind::Many(KEY_VALUE)),
];
const KEY_VALUE: Shape = &[(1, "key", Kind::Text), (2, "value", Kind::One(ANY))];
const ANY: Shape = &[
    (1, "stringValue", Kind::Text),
    (2, "boolValue", Kind::Bool),
    (3, "intValue", Kind::Int),
    (4, "doubleValue", Kind::Double),
    (5, "arrayValue", Kind::Array),
];

/// A field of bytes as the JSON that it would be.
fn read(field: &Field<'_>, shape: Shape) -> Value {
    let Field::Bytes(message) = field else { panic!("no message: {field:?}") };
    let mut object = Map::new();
    for (number, field) in fields(message).unwrap() {
        let (_, name, kind) = shape.iter().find(|(known, ..)| *known == number).unwrap();
        let value = match (kind, &field) {
            (Kind::Text, Field::Bytes(text)) => json!(std::str::from_utf8(text).unwrap()),
            (Kind::Hex, Field::Bytes(id)) => json!(hex::encode(id)),
            (Kind::Enum, Field::Number(number)) => json!(number),
            (Kind::Bool, Field::Number(number)) => json!(*number == 1),
            (Kind::Int, Field::Number(number)) => json!(number.cast_signed().to_string()),
            (Kind::Time, Field::Fixed(number)) => json!(number.to_string()),
            (Kind::Double, Field::Fixed(bits)) => json!(f64::from_bits(*bits)),
            (Kind::Array, Field::Bytes(list)) => {
                let values = fields(list).unwrap();
                json!({"values": values.iter().map(|(_, it)| read(it, ANY)).collect::<Vec<_>>()})
            }
            (Kind::One(shape) | Kind::Many(shape), field) => read(field, shape),
            (_, field) => panic!("{name}: {field:?}"),
        };
        if matches!(kind, Kind::Many(_)) {
            let list = object.entry(*name).or_insert_with(|| json!([]));
            list.as_array_mut().unwrap().push(value);
        } else {
            assert!(object.insert((*name).to_owned(), value).is_none(), "{name} twice");
        }
    }
    Value::Object(object)
}

#[test]
fn numbers_of_both_signs_and_all_sizes_are_written() {
    let span = json!({"name": "", "attributes": [
        {"key": "a", "value": {"intValue": "-1"}},
        {"key": "b", "value": {"intValue": i64::MAX.to_string()}},
        {"key": "c", "value": {"intValue": "0"}},
        {"key": "d", "value": {"boolValue": false}},
        {"key": "e", "value": {"stringValue": "x".repeat(300)}},
        {"key": "f", "value": {"doubleValue": -0.5}},
        {"key": "g", "value": {"arrayValue": {"values": [{"stringValue": ""}]}}}]});
    let written = protobuf::item(&json!({}), &json!({}), &span, None);
    let (_, item) = fields(&written).unwrap().remove(0);
    let read = read(&item, RESOURCE_SPANS);
    assert_eq!(read["scopeSpans"][0]["spans"][0]["attributes"], span["attributes"]);
}

#[test]
fn answers_in_protobuf_are_judged() {
    for encoding in ["json", "protobuf"] {
        let sink = sink(&format!("encoding = '{encoding}'"));
        let judge = |body: &[u8]| sink.verdict(&[], 200, body);
        assert_eq!(judge(&[0x0a, 2, 0x08, 3]), Some(Verdict::Refused));
        assert_eq!(judge(&[0x0a, 5, 0x08, 1, 0x12, 1, b'x']), Some(Verdict::Refused));
        assert_eq!(judge(&[0x0a, 3, 0x12, 1, b'x']), Some(Verdict::Delivered));
        assert_eq!(judge(&[0x0a, 0]), Some(Verdict::Delivered));
        for odd in [&[][..], &[0x0a], &[0x0a, 9, 1], &[0xff; 12], &[0x0b], &[0x10, 1]] {
            assert_eq!(judge(odd), None, "{odd:?}");
        }
    }
}

#[test]
fn the_environment_may_choose_the_encoding() {
    let [traces, all] = PROTOCOL;
    let kind = |own: &str, variables: &[(&str, &str)]| {
        let mut settings = settings(&KIND);
        settings.own.extend(own.parse::<toml::Table>().unwrap());
        let variables = variables.iter().map(|(name, value)| ((*name).into(), (*value).into()));
        settings.environment.extend(variables);
        let request = build(&settings).map(|sink| sink.probe().unwrap());
        request.map(|request| request.headers[1].1.expose().to_owned()).map_err(|it| it.message)
    };
    let (plain, binary) =
        (Ok("application/json".to_owned()), Ok("application/x-protobuf".to_owned()));
    assert_eq!(kind("", &[]), plain);
    assert_eq!(kind("", &[(all, "http/protobuf")]), binary);
    assert_eq!(kind("", &[(all, "grpc"), (traces, "http/json")]), plain);
    assert_eq!(kind("", &[(all, " "), (traces, "http/protobuf ")]), binary);
    assert_eq!(kind("encoding = 'json'", &[(all, "http/protobuf")]), plain);
    assert_eq!(kind("encoding = 'protobuf'", &[(all, "grpc")]), binary);
    let refused = kind("", &[(all, "grpc")]).unwrap_err();
    assert!(
        refused.contains(all) && refused.contains("grpc") && refused.contains("4318"),
        "{refused}"
    );
    assert!(kind("encoding = 'grpc'", &[]).is_err());
}

#[test]
fn the_resource_is_the_configurations_and_then_the_environments() {
    let mut settings = settings(&KIND);
    let resource = |settings: &Settings| {
        let request = build(settings).unwrap().requests(&[fixtures::chat()]).remove(0);
        let body: Value = serde_json::from_slice(&request.body).unwrap();
        let attributes = body["resourceSpans"][0]["resource"]["attributes"].clone();
        let pair = |it: &Value| {
            format!(
                "{}={}",
                it["key"].as_str().unwrap(),
                it["value"]["stringValue"].as_str().unwrap()
            )
        };
        attributes.as_array().unwrap().iter().map(pair).collect::<Vec<_>>().join(",")
    };
    assert_eq!(resource(&settings), "service.name=calltap");
    let text = "team=a%20b, odd, service.name = shop,rest=%ff";
    settings.environment.insert("OTEL_RESOURCE_ATTRIBUTES".to_owned(), text.to_owned());
    assert_eq!(resource(&settings), "service.name=shop,team=a b,rest=%ff");
    settings.environment.insert("OTEL_SERVICE_NAME".to_owned(), "till".to_owned());
    assert_eq!(resource(&settings), "service.name=till,team=a b,rest=%ff");
    settings.own.extend("resource = { team = 'c' }".parse::<toml::Table>().unwrap());
    settings.own.insert("service_name".to_owned(), "desk".into());
    assert_eq!(resource(&settings), "service.name=desk,team=c,rest=%ff");
}

#[test]
fn an_answer_that_is_looked_up_again_has_no_tokens() {
    for profile in &PROFILES[..3] {
        let again = json!({"endpoint": "responses", "method": "GET"});
        let span = span(&format!("profile = '{profile}'"), fixtures::record(again));
        assert_eq!(span["name"], "fetch_response gpt-4o-mini");
        assert!(!span.to_string().contains("gen_ai.usage"), "{profile}");
    }
}

#[test]
fn the_server_is_the_upstream() {
    assert_eq!(server("api.openai.com"), ("api.openai.com", 443));
    assert_eq!(server("127.0.0.1:8080"), ("127.0.0.1", 8080));
    assert_eq!(server("[::1]:80"), ("::1", 80));
    assert_eq!(server("[::1]"), ("::1", 443));
    assert_eq!(server(""), ("", 443));
}

#[test]
fn a_call_that_ended_badly_says_how() {
    let kind = |patch: Value| error_type(&fixtures::record(patch));
    let error = |code: Value, kind: Value| json!({"source": "provider", "type": kind, "code": code, "message": "m", "param": null});
    let failed = |error: Value| json!({"outcome": "provider_error", "status": 429, "error": error});
    assert_eq!(kind(failed(error(json!("slow"), json!("tokens")))).as_deref(), Some("slow"));
    assert_eq!(kind(failed(error(json!(null), json!("tokens")))).as_deref(), Some("tokens"));
    assert_eq!(kind(failed(json!(null))).as_deref(), Some("429"));
    let broken = json!({"outcome": "upstream_truncated", "error": null});
    assert_eq!(kind(broken).as_deref(), Some("upstream_truncated"));
    assert_eq!(kind(json!({"outcome": "client_aborted"})), None);
    assert_eq!(kind(json!({})), None);
}
