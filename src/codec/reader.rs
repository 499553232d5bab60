//! Reads an exchange the way that all endpoints share; an endpoint adds how its events go together.

use super::{
    Meaning, Reading,
    body::{self, Body},
    errors, facts, json,
    notes::Notes,
    other::Events,
    request,
    stream::{self, Assembly},
};
use serde_json::Value;

/// Reads both sides. A stream in which nothing is of the endpoint's shape is kept as a list of events.
pub(crate) fn read(reading: &Reading<'_>, assembly: fn() -> Box<dyn Assembly>) -> Meaning {
    let mut notes = Notes::default();
    let mut meaning = request::read(reading, &mut notes);
    match body::answer(reading.content_type, reading.response, &mut notes) {
        Body::Stream(bytes) => {
            meaning.stream = true;
            stream::read(bytes, assembly(), &mut meaning, &mut notes);
            if meaning.response.is_none() {
                let mut again = Meaning::default();
                stream::read(bytes, Box::<Events>::default(), &mut again, &mut Notes::default());
                meaning.response = again.response;
            }
        }
        Body::Json(value) => {
            meaning.error = errors::in_body(reading.status, &value);
            meaning.response = Some(value);
            meaning.terminal = true;
        }
        Body::Text(text) => meaning.response = Some(Value::String(text)),
        Body::Opaque => {}
    }
    facts::read(&mut meaning, reading.provider, &mut notes);
    if meaning.stream && !meaning.finish_reasons.is_empty() {
        meaning.terminal = true;
    }
    if meaning.error.is_none() {
        let text = String::from_utf8_lossy(
            json::trim(reading.response).get(..2048).unwrap_or(json::trim(reading.response)),
        );
        meaning.error = errors::in_text(reading.status, &text);
    }
    meaning.notes = notes.into_lines();
    meaning
}
