//! Everything without a codec of its own: the body as it is, and what it plainly says about itself.

use super::{
    Codec, Meaning, Reading, errors,
    notes::Notes,
    reader,
    stream::{Assembly, Data, Seen},
};
use crate::model::Endpoint;
use serde_json::{Map, Value, json};

/// Most events of an unknown stream kept.
const EVENTS_MAX: usize = 1000;

/// Any endpoint.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Other;

impl Codec for Other {
    fn reads(&self, _: &Endpoint) -> bool {
        true
    }

    fn read(&self, reading: &Reading<'_>) -> Meaning {
        let mut meaning = reader::read(reading, || Box::<Events>::default());
        if reading.method != "POST" {
            // What is read again was counted when it was made.
            meaning.usage = None;
            meaning.tools.clear();
        }
        meaning
    }
}

/// The events of a stream of unknown shape: `{"events": [{"event", "data"}]}` and the last of each fact
/// that stands at the top of one.
#[derive(Debug, Default)]
pub(crate) struct Events {
    events: Vec<Value>,
    facts: Map<String, Value>,
}

impl Assembly for Events {
    fn add(&mut self, event: Data<'_>, notes: &mut Notes) -> Seen {
        for key in ["model", "service_tier", "usage"] {
            if let Some(value) = event.value.get(key).filter(|value| !value.is_null()) {
                self.facts.insert(key.to_owned(), value.clone());
            }
        }
        if let Some(error) = event.value.get("error").filter(|error| errors::is_truthy(error)) {
            self.facts.insert("error".to_owned(), error.clone());
        }
        if self.events.len() >= EVENTS_MAX {
            notes.add("events_beyond_limit");
        } else if event.name.is_empty() {
            self.events.push(json!({"data": event.value}));
        } else {
            self.events.push(json!({"event": event.name, "data": event.value}));
        }
        Seen::default()
    }

    fn finish(mut self: Box<Self>, _: &mut Notes) -> Option<Value> {
        if self.events.is_empty() {
            return None;
        }
        self.facts.insert("events".to_owned(), Value::Array(self.events));
        Some(Value::Object(self.facts))
    }
}
