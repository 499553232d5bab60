//! A streamed run: `thread.run…`, `thread.message…` and `thread.run.step…` events become
//! `{"run", "messages", "steps"}`. Full objects replace what stood there, deltas grow it.

use super::{grow::grow, is_end};
use crate::codec::{
    errors, merge,
    notes::Notes,
    stream::{Assembly, Data, Seen},
};
use serde_json::{Map, Value};
use std::collections::HashMap;

/// Most messages, and most steps, of one stream.
const PARTS_MAX: usize = 1024;

/// The run, growing.
#[derive(Debug, Default)]
pub(crate) struct Run {
    object: Value,
    messages: Parts,
    steps: Parts,
    error: Option<Value>,
    recognized: bool,
}

impl Assembly for Run {
    fn add(&mut self, event: Data<'_>, notes: &mut Notes) -> Seen {
        if event.failed {
            self.recognized = true;
            let stated = event.value.get("error").filter(|error| errors::is_truthy(error)).cloned();
            self.error = Some(stated.unwrap_or(event.value));
            return Seen::default();
        }
        // Every object says what it is; the event's name only says what happened to it.
        let kind = event.value["object"].as_str().unwrap_or_default().to_owned();
        let mut seen = Seen::default();
        match kind.as_str() {
            "thread" => {}
            "thread.run" => {
                seen.terminal = event.value["status"]
                    .as_str()
                    .is_some_and(|status| is_end(status) || status == "requires_action");
                self.object = event.value;
            }
            "thread.message" => seen.output = self.messages.put(event.value, notes),
            "thread.message.delta" => seen.output = self.messages.grow(event.value, notes),
            "thread.run.step" => drop(self.steps.put(event.value, notes)),
            "thread.run.step.delta" => seen.output = self.steps.grow(event.value, notes),
            _ => return seen,
        }
        self.recognized = true;
        seen
    }

    fn finish(self: Box<Self>, _: &mut Notes) -> Option<Value> {
        if !self.recognized {
            return None;
        }
        let mut object = Map::new();
        if !self.object.is_null() {
            object.insert("run".to_owned(), self.object);
        }
        object.insert("messages".to_owned(), self.messages.finish());
        object.insert("steps".to_owned(), self.steps.finish());
        object.extend(self.error.map(|error| ("error".to_owned(), error)));
        Some(Value::Object(object))
    }
}

/// Messages or steps by id, in order of appearance.
#[derive(Debug, Default)]
struct Parts {
    parts: Vec<Part>,
    at: HashMap<String, usize>,
}

#[derive(Debug, Default)]
struct Part {
    value: Value,
    /// Deltas were added since the object last came whole.
    grown: bool,
    /// Output of it was seen.
    shown: bool,
}

impl Parts {
    fn part(&mut self, id: &Value, notes: &mut Notes) -> Option<&mut Part> {
        let id = id.as_str().unwrap_or_default();
        if !self.at.contains_key(id) {
            if self.parts.len() >= PARTS_MAX {
                notes.add("parts_of_a_run_beyond_limit");
                return None;
            }
            self.at.insert(id.to_owned(), self.parts.len());
            self.parts.push(Part::default());
        }
        self.parts.get_mut(*self.at.get(id)?)
    }

    /// Takes a whole object; true when it brings content that no delta brought before.
    fn put(&mut self, object: Value, notes: &mut Notes) -> bool {
        let Some(part) = self.part(&object["id"], notes) else { return false };
        let is_news = !part.shown && object["content"].as_array().is_some_and(|c| !c.is_empty());
        part.shown |= is_news;
        part.grown = false;
        part.value = object;
        is_news
    }

    /// Takes a delta; true when something was generated.
    fn grow(&mut self, mut event: Value, notes: &mut Notes) -> bool {
        let delta = event["delta"].take();
        let Some(part) = self.part(&event["id"], notes) else { return false };
        let output = has_output(&delta);
        part.shown |= output;
        part.grown = true;
        if !part.value.is_object() {
            let id = event["id"].take();
            part.value = Value::Object(Map::from_iter([("id".to_owned(), id)]));
        }
        if let (Value::Object(object), Value::Object(delta)) = (&mut part.value, delta) {
            grow(object, delta, notes);
        }
        output
    }

    fn finish(self) -> Value {
        let parts = self.parts.into_iter().map(|mut part| {
            if part.grown {
                super::grow::strip_places(&mut part.value);
            }
            part.value
        });
        Value::Array(parts.collect())
    }
}

/// Whether a delta carries generated output: text, a refusal, an image, a tool call.
fn has_output(delta: &Value) -> bool {
    let says = |part: &Value| match part["type"].as_str() {
        Some("text") => merge::is_filled(&part["text"]["value"]),
        Some("refusal") => merge::is_filled(&part["refusal"]),
        _ => part.is_object(),
    };
    let filled = |list: &Value| list.as_array().is_some_and(|list| !list.is_empty());
    delta["content"].as_array().is_some_and(|content| content.iter().any(says))
        || filled(&delta["step_details"]["tool_calls"])
}
