//! Responses: the finished object, or what the events of a stream amount to (`openai-surface.md` §7).
//!
//! A terminal event carries the finished object and wins. Without one the last object that a lifecycle
//! event carried is filled with items put together from their parts.

mod item;
mod items;

use super::{
    Codec, Meaning, Reading,
    chat::audio::Audio,
    errors,
    notes::Notes,
    reader, realtime,
    stream::{Assembly, Data, Seen},
    text,
};
use crate::model::Endpoint;
use items::Items;
use serde_json::{Map, Value};
use std::collections::HashSet;

/// `/responses`, and what is asked about a response later.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Responses;

impl Codec for Responses {
    fn reads(&self, endpoint: &Endpoint) -> bool {
        matches!(endpoint.as_str(), "responses" | "responses.compact")
    }

    fn read(&self, reading: &Reading<'_>) -> Meaning {
        if reading.status == Some(realtime::SWITCHED) {
            return realtime::read_socket(reading);
        }
        let mut meaning = reader::read(reading, || Box::<Events>::default());
        let Some(object) = meaning.response.as_ref().filter(|object| object.is_object()) else {
            return meaning;
        };
        meaning.finish_reasons = finish_reason(object).into_iter().collect();
        meaning.tools = tools(object);
        let runs_apart = object.get("background").and_then(Value::as_bool) == Some(true);
        meaning.is_read_again = reading.method == "GET" || reading.path.ends_with("/cancel");
        if meaning.is_read_again && !runs_apart {
            // What is read again was counted when it was made; what ran in the background was not.
            meaning.usage = None;
            meaning.tools.clear();
        }
        let id = object.get("object").and_then(Value::as_str) == Some("response");
        meaning.response_id = text::name(object.get("id").filter(|_| id));
        if let Some(previous) = text::name(object.get("previous_response_id")) {
            let metadata = &mut meaning.tags.metadata;
            metadata.entry("previous_response_id").or_insert(Value::String(previous));
        }
        let conversation = object.pointer("/conversation/id");
        let conversation = conversation.or_else(|| object.get("conversation"));
        meaning.tags.session = meaning.tags.session.or_else(|| text::name(conversation));
        meaning
    }
}

/// Why the response ended: its status, or what it lacks to be complete. `None` while it goes on.
pub(crate) fn finish_reason(object: &Value) -> Option<String> {
    let status = text::name(object.get("status"))?;
    match status.as_str() {
        "incomplete" => {
            let why = text::name(object.pointer("/incomplete_details/reason"));
            let why = why.or_else(|| text::name(object.pointer("/status_details/reason")));
            Some(why.unwrap_or(status))
        }
        "queued" | "in_progress" => None,
        _ => Some(status),
    }
}

/// Billed tool calls: searches, and the containers that code ran in.
fn tools(object: &Value) -> Vec<(String, u64)> {
    let items = object.get("output").and_then(Value::as_array).map(Vec::as_slice);
    let (mut web, mut files, mut containers) = (0, 0, HashSet::new());
    for item in items.unwrap_or_default() {
        match item.get("type").and_then(Value::as_str) {
            // Opening a page that was found is part of the search.
            Some("web_search_call") => {
                let action = item.pointer("/action/type").and_then(Value::as_str);
                web += u64::from(action.is_none_or(|action| action == "search"));
            }
            Some("file_search_call") => files += 1,
            Some("code_interpreter_call") => {
                containers.insert(item.get("container_id").and_then(Value::as_str));
            }
            _ => {}
        }
    }
    let sessions = u64::try_from(containers.len()).unwrap_or(u64::MAX);
    let counts = [("web_search", web), ("file_search", files), ("code_session", sessions)];
    let used = counts.into_iter().filter(|(_, count)| *count > 0);
    used.map(|(name, count)| (name.to_owned(), count)).collect()
}

/// The response, growing.
#[derive(Debug, Default)]
pub(super) struct Events {
    object: Map<String, Value>,
    is_finished: bool,
    items: Items,
    audio: Audio,
    error: Option<Value>,
    recognized: bool,
}

impl Assembly for Events {
    fn add(&mut self, event: Data<'_>, notes: &mut Notes) -> Seen {
        let Value::Object(mut members) = event.value else { return Seen::default() };
        let kind = members.get("type").and_then(Value::as_str).unwrap_or(event.name).to_owned();
        let Some(kind) = kind.strip_prefix("response.") else {
            if event.failed {
                self.recognized = true;
                self.error = Some(errors::told(members));
            }
            return Seen::default();
        };
        self.recognized = true;
        match kind {
            // `done` ends the responses of realtime connections.
            "completed" | "incomplete" | "failed" | "cancelled" | "done" => {
                self.take_object(&mut members);
                self.is_finished = true;
                Seen { output: false, terminal: true, ..Seen::default() }
            }
            "created" | "queued" | "in_progress" => {
                if !self.is_finished {
                    self.take_object(&mut members);
                }
                Seen::default()
            }
            _ => Seen { output: self.add_part(kind, members, notes), ..Seen::default() },
        }
    }

    fn finish(mut self: Box<Self>, _: &mut Notes) -> Option<Value> {
        if !self.recognized {
            return None;
        }
        let is_bare = self.object.is_empty();
        let items = self.items.finish();
        let has_output = self
            .object
            .get("output")
            .and_then(Value::as_array)
            .is_some_and(|list| !list.is_empty());
        // What a finished object says of its output holds; an empty list says nothing.
        if !items.is_empty() && (!self.is_finished || !has_output) {
            if is_bare {
                self.object.insert("object".to_owned(), Value::String("response".to_owned()));
            }
            self.object.insert("output".to_owned(), Value::Array(items));
        }
        if let Some(audio) = self.audio.finish()
            && !self.is_finished
        {
            self.object.entry("audio").or_insert(audio);
        }
        if let Some(error) = self.error
            && !self.object.get("error").is_some_and(errors::is_truthy)
        {
            self.object.insert("error".to_owned(), error);
        }
        (!self.object.is_empty()).then_some(Value::Object(self.object))
    }
}

impl Events {
    fn take_object(&mut self, members: &mut Map<String, Value>) {
        if let Some(Value::Object(object)) = members.shift_remove("response") {
            self.object = object;
        }
    }

    /// Everything between the first and the last word; true when it was generated.
    fn add_part(&mut self, kind: &str, members: Map<String, Value>, notes: &mut Notes) -> bool {
        let delta = members.get("delta");
        let output = match kind {
            "output_item.added" => {
                let item = members.get("item").and_then(|item| item.get("type"));
                item.and_then(Value::as_str).is_some_and(|kind| kind.ends_with("_call"))
            }
            "image_generation_call.partial_image" => true,
            kind => is_delta(kind) && delta.is_some_and(errors::is_truthy),
        };
        match kind {
            // Previews are large and no part of the result; of a realtime connection's sound the
            // transcript is kept.
            "output_audio.delta" | "image_generation_call.partial_image" => {}
            "audio.delta" if members.contains_key("response_id") => {}
            "audio.delta" => self.hear("data", members),
            "audio.transcript.delta" => self.hear("transcript", members),
            kind => self.items.add(kind, members, notes),
        }
        output
    }

    fn hear(&mut self, member: &str, mut event: Map<String, Value>) {
        let delta = event.shift_remove("delta").unwrap_or_default();
        self.audio.add(Value::Object(Map::from_iter([(member.to_owned(), delta)])));
    }
}

fn is_delta(kind: &str) -> bool {
    kind.rsplit_once('.').is_some_and(|(_, step)| step == "delta")
}

#[cfg(test)]
mod tests;
