//! The protocol in protobuf: spans as `mod.rs` has them in JSON, written in binary, and the one thing
//! that an answer says.
//!
//! Source: the files `trace_service.proto`, `trace.proto`, `resource.proto` and `common.proto` of
//! opentelemetry-proto 1.x. Field numbers stand where they are used.

use crate::model::leb128;
use serde_json::Value;

/// One `resource_spans` field of a request, with one span in it. Requests are such fields one after
/// the other, so that they can be cut apart: nothing around them knows their length.
pub(super) fn item(resource: &Value, scope: &Value, span: &Value, schema: Option<&str>) -> Vec<u8> {
    let mut request = Vec::new();
    message(&mut request, 1, |to| {
        message(to, 1, |to| attributes(to, 1, &resource["attributes"]));
        message(to, 2, |to| {
            message(to, 1, |to| {
                text(to, 1, &scope["name"]);
                text(to, 2, &scope["version"]);
            });
            message(to, 2, |to| write_span(to, span));
            if let Some(schema) = schema {
                bytes(to, 3, schema.as_bytes());
            }
        });
    });
    request
}

fn write_span(to: &mut Vec<u8>, span: &Value) {
    id(to, 1, &span["traceId"]);
    id(to, 2, &span["spanId"]);
    id(to, 4, &span["parentSpanId"]);
    text(to, 5, &span["name"]);
    number(to, 6, span["kind"].as_u64().unwrap_or(0));
    nanos(to, 7, &span["startTimeUnixNano"]);
    nanos(to, 8, &span["endTimeUnixNano"]);
    attributes(to, 9, &span["attributes"]);
    for event in span["events"].as_array().into_iter().flatten() {
        message(to, 11, |to| {
            nanos(to, 1, &event["timeUnixNano"]);
            text(to, 2, &event["name"]);
            attributes(to, 3, &event["attributes"]);
        });
    }
    if let Some(code) = span["status"]["code"].as_u64() {
        message(to, 15, |to| {
            text(to, 2, &span["status"]["message"]);
            number(to, 3, code);
        });
    }
}

fn attributes(to: &mut Vec<u8>, field: u32, attributes: &Value) {
    for attribute in attributes.as_array().into_iter().flatten() {
        message(to, field, |to| {
            text(to, 1, &attribute["key"]);
            message(to, 2, |to| any(to, &attribute["value"]));
        });
    }
}

/// A value is there even where it is zero or empty: it is one of several kinds.
fn any(to: &mut Vec<u8>, value: &Value) {
    let Some((kind, value)) = value.as_object().and_then(|members| members.iter().next()) else {
        return;
    };
    match kind.as_str() {
        "stringValue" => bytes(to, 1, value.as_str().unwrap_or_default().as_bytes()),
        "boolValue" => number(to, 2, u64::from(value == &Value::Bool(true))),
        "intValue" => {
            let signed: i64 = value.as_str().and_then(|text| text.parse().ok()).unwrap_or(0);
            number(to, 3, signed.cast_unsigned());
        }
        "doubleValue" => fixed(to, 4, value.as_f64().unwrap_or(0.0).to_bits()),
        "arrayValue" => message(to, 5, |to| {
            for value in value["values"].as_array().into_iter().flatten() {
                message(to, 1, |to| any(to, value));
            }
        }),
        _ => {}
    }
}

fn text(to: &mut Vec<u8>, field: u32, value: &Value) {
    if let Some(text) = value.as_str() {
        bytes(to, field, text.as_bytes());
    }
}

/// Hex in JSON, bytes here.
fn id(to: &mut Vec<u8>, field: u32, value: &Value) {
    if let Some(id) = value.as_str().and_then(|text| hex::decode(text).ok()) {
        bytes(to, field, &id);
    }
}

fn nanos(to: &mut Vec<u8>, field: u32, value: &Value) {
    fixed(to, field, value.as_str().and_then(|text| text.parse().ok()).unwrap_or(0));
}

/// Wire types of the encoding.
const VARINT: u64 = 0;
const FIXED64: u64 = 1;
const BYTES: u64 = 2;
const FIXED32: u64 = 5;

fn tag(to: &mut Vec<u8>, field: u32, wire: u64) {
    leb128::put(to, u64::from(field) << 3 | wire);
}

fn number(to: &mut Vec<u8>, field: u32, number: u64) {
    tag(to, field, VARINT);
    leb128::put(to, number);
}

fn fixed(to: &mut Vec<u8>, field: u32, number: u64) {
    tag(to, field, FIXED64);
    to.extend_from_slice(&number.to_le_bytes());
}

fn bytes(to: &mut Vec<u8>, field: u32, bytes: &[u8]) {
    tag(to, field, BYTES);
    leb128::put(to, bytes.len() as u64);
    to.extend_from_slice(bytes);
}

fn message(to: &mut Vec<u8>, field: u32, write: impl FnOnce(&mut Vec<u8>)) {
    let mut inner = Vec::new();
    write(&mut inner);
    bytes(to, field, &inner);
}

/// A field of a message.
#[derive(Debug, PartialEq)]
pub(super) enum Field<'a> {
    Number(u64),
    Fixed(u64),
    Bytes(&'a [u8]),
}

/// The fields of a message by number, in order. `None` where it is no message.
pub(super) fn fields(mut message: &[u8]) -> Option<Vec<(u64, Field<'_>)>> {
    let mut fields = Vec::new();
    while !message.is_empty() {
        let tag = leb128::take(&mut message)?;
        let field = match tag & 7 {
            VARINT => Field::Number(leb128::take(&mut message)?),
            FIXED64 => {
                let (number, rest) = message.split_first_chunk()?;
                message = rest;
                Field::Fixed(u64::from_le_bytes(*number))
            }
            FIXED32 => {
                let (number, rest) = message.split_first_chunk()?;
                message = rest;
                Field::Fixed(u32::from_le_bytes(*number).into())
            }
            BYTES => {
                let length = usize::try_from(leb128::take(&mut message)?).ok()?;
                let (bytes, rest) = message.split_at_checked(length)?;
                message = rest;
                Field::Bytes(bytes)
            }
            _ => return None,
        };
        fields.push((tag >> 3, field));
    }
    Some(fields)
}

/// How many spans an answer says were rejected; `None` where it has no partial success.
pub(super) fn rejected(answer: &[u8]) -> Option<i64> {
    let answer = fields(answer)?;
    let partial = answer.iter().find_map(|field| match field {
        (1, Field::Bytes(partial)) => fields(partial),
        _ => None,
    })?;
    let count = partial.iter().find_map(|field| match field {
        (1, Field::Number(count)) => Some(count.cast_signed()),
        _ => None,
    });
    Some(count.unwrap_or(0))
}
