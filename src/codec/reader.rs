//! Reads an exchange the way that all endpoints share; an endpoint adds how its events go together.

use super::{
    Meaning, Reading,
    body::{self, Body},
    errors, facts,
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
        Body::Stream(bytes) => read_stream(bytes, assembly(), &mut meaning, &mut notes),
        Body::Json(value) => {
            meaning.error = errors::in_body(reading.status, &value);
            meaning.response = Some(value);
            meaning.terminal = true;
        }
        Body::Text(text) => meaning.response = Some(Value::String(text)),
        Body::Opaque => {}
    }
    if meaning.stream && meaning.error.is_none() {
        meaning.error = meaning.response.as_ref().and_then(errors::in_object);
    }
    if meaning.error.is_none() {
        let text = match &meaning.response {
            Some(Value::String(text)) => text.as_str(),
            _ => "",
        };
        meaning.error = errors::in_text(reading.status, text);
    }
    facts::read(&mut meaning, reading.provider, &mut notes);
    if meaning.stream && !meaning.finish_reasons.is_empty() {
        meaning.terminal = true;
    }
    meaning.notes = notes.into_lines();
    meaning
}

fn read_stream(
    bytes: &[u8],
    assembly: Box<dyn Assembly>,
    meaning: &mut Meaning,
    notes: &mut Notes,
) {
    meaning.stream = true;
    let is_silent = stream::read(bytes, assembly, meaning, notes);
    if meaning.response.is_none() && !is_silent && !bytes.trim_ascii().is_empty() {
        let mut again = Meaning::default();
        stream::read(bytes, Box::<Events>::default(), &mut again, &mut Notes::default());
        let text = || Value::String(String::from_utf8_lossy(bytes).into_owned());
        meaning.response = again.response.or_else(|| (!meaning.terminal).then(text));
    }
}
