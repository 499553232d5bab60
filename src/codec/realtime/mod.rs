//! Websockets: the events of a connection as a session with its responses (`openai-surface.md` §13),
//! for realtime and for Responses over a websocket (§7.4).

pub(super) mod frames;

use super::{
    Codec, Meaning, Reading, errors,
    json::{self, trim},
    notes::Notes,
    other,
    responses::{self, Events},
    stream::{Assembly, Data},
    sum::Total,
    text,
};
use crate::model::Endpoint;
use serde_json::{Map, Value, json};

/// Most responses of a connection.
const RESPONSES_MAX: usize = 1000;
/// Most messages of the client, transcriptions and errors kept, each.
const LIST_MAX: usize = 1000;
/// Status of an answer that turned its connection into a websocket.
pub(super) const SWITCHED: u16 = 101;

/// Connections that became websockets.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Realtime;

impl Codec for Realtime {
    fn reads(&self, endpoint: &Endpoint) -> bool {
        endpoint.as_str() == "realtime"
    }

    fn read(&self, reading: &Reading<'_>) -> Meaning {
        if reading.status == Some(SWITCHED) {
            read_socket(reading)
        } else {
            other::Other.read(reading)
        }
    }
}

/// Reads both directions of a websocket.
pub(crate) fn read_socket(reading: &Reading<'_>) -> Meaning {
    let (mut meaning, mut notes) = (Meaning::default(), Notes::default());
    let mut client = Client::default();
    frames::texts(reading.request, &mut notes, |text, notes| {
        if let Some(message) = parse(text, notes) {
            client.add(message, notes);
        }
    });
    let mut session = Session::default();
    frames::texts(reading.response, &mut notes, |text, notes| {
        if let Some(event) = parse(text, notes) {
            session.add(event, notes);
        }
    });
    meaning.tags.user_query = client.user_query.take();
    meaning.request = (!client.messages.is_empty()).then(|| json!({"events": client.messages}));
    if session.is_known {
        meaning.terminal = true;
        let object = session.finish(&mut notes);
        let responses = object.get("responses").and_then(Value::as_array).cloned();
        let responses = responses.unwrap_or_default();
        let first = |pointer: &str| {
            responses.iter().find_map(|response| text::name(response.pointer(pointer)))
        };
        let served = text::name(object.pointer("/session/model")).or_else(|| first("/model"));
        let used = responses.iter().filter_map(|response| response.get("usage"));
        let used: Vec<&Value> = used.filter(|usage| usage.is_object()).collect();
        let mut total = Total::default();
        for usage in &used {
            total.add(usage, reading.provider);
        }
        if used.len() > 1 {
            notes.add("usage_of_several_responses_added");
        }
        let heard = object.get("input_transcriptions").and_then(Value::as_array);
        if heard.into_iter().flatten().any(|heard| heard.get("usage").is_some()) {
            // Another model wrote them down, at prices of its own.
            notes.add("usage_of_input_transcriptions_not_added");
        }
        total.tell(&mut meaning, reading.provider, &mut notes);
        meaning.finish_reasons = responses.iter().filter_map(responses::finish_reason).collect();
        meaning.model_served = served;
        meaning.service_tier = meaning.service_tier.or_else(|| first("/service_tier"));
        meaning.response = Some(object);
    }
    meaning.notes = notes.into_lines();
    meaning
}

fn parse(text: &[u8], notes: &mut Notes) -> Option<Map<String, Value>> {
    match json::parse(trim(text)) {
        Ok((mut value, odd)) => {
            odd.note("message", notes);
            if odd.lone_surrogates {
                json::join_halves(&mut value);
            }
            if let Value::Object(members) = value {
                return Some(members);
            }
            notes.add("message_not_json");
        }
        Err(_) => notes.add("message_not_json"),
    }
    None
}

/// What the client said.
#[derive(Debug, Default)]
struct Client {
    messages: Vec<Value>,
    user_query: Option<String>,
}

impl Client {
    fn add(&mut self, mut message: Map<String, Value>, notes: &mut Notes) {
        let kind = message.get("type").and_then(Value::as_str).unwrap_or_default();
        if kind == "conversation.item.create"
            && let Some(said) = message.get("item").and_then(said_by_user)
        {
            self.user_query = Some(said);
        }
        if kind == "input_audio_buffer.append" {
            // Sound is counted, not repeated.
            let len = message.get("audio").and_then(Value::as_str).map_or(0, str::len);
            message.insert("audio".to_owned(), json!({"base64_bytes": len}));
        }
        if self.messages.len() < LIST_MAX {
            self.messages.push(Value::Object(message));
        } else {
            notes.add("messages_beyond_limit");
        }
    }
}

/// The text of an item, where the user said it.
fn said_by_user(item: &Value) -> Option<String> {
    if item.get("role").and_then(Value::as_str) != Some("user") {
        return None;
    }
    let parts = item.get("content")?.as_array()?;
    let texts = parts.iter().filter_map(|part| part.get("text")?.as_str());
    let said = texts.collect::<Vec<_>>().join("\n");
    (!said.is_empty()).then(|| text::clip(&said, 64 * 1024))
}

/// What the server said, as it goes together.
#[derive(Debug, Default)]
struct Session {
    is_known: bool,
    id: Option<Value>,
    model: Option<Value>,
    responses: Vec<(String, Events)>,
    transcriptions: Vec<Value>,
    errors: Vec<Value>,
}

impl Session {
    fn add(&mut self, mut event: Map<String, Value>, notes: &mut Notes) {
        let Some(kind) = text::name(event.get("type")) else { return };
        self.is_known = true;
        match kind.as_str() {
            "session.created"
            | "session.updated"
            | "transcription_session.created"
            | "transcription_session.updated" => {
                let mut session = event.shift_remove("session").unwrap_or_default();
                let mut take = |key: &str| {
                    let value = session.get_mut(key).map(Value::take);
                    value.filter(|value| !value.is_null())
                };
                self.id = take("id").or(self.id.take());
                self.model = take("model").or(self.model.take());
            }
            "conversation.item.input_audio_transcription.completed" => {
                event.retain(|key, _| matches!(key.as_str(), "item_id" | "transcript" | "usage"));
                push(&mut self.transcriptions, Value::Object(event), notes);
            }
            "error" => push(&mut self.errors, errors::told(event), notes),
            kind if kind.starts_with("response.") => self.add_to_response(event, notes),
            _ => {}
        }
    }

    /// An event of a response goes to the response it names, else to the last one.
    fn add_to_response(&mut self, event: Map<String, Value>, notes: &mut Notes) {
        let response = event.get("response").and_then(|response| response.get("id"));
        let id = text::name(response.or_else(|| event.get("response_id")));
        let at = match &id {
            Some(id) => self.responses.iter().rposition(|(known, _)| known == id),
            None => self.responses.len().checked_sub(1),
        };
        let at = match at {
            Some(at) => at,
            None if self.responses.len() >= RESPONSES_MAX => {
                return notes.add("responses_beyond_limit");
            }
            None => {
                self.responses.push((id.unwrap_or_default(), Events::default()));
                self.responses.len() - 1
            }
        };
        if let Some((_, events)) = self.responses.get_mut(at) {
            events.add(Data { name: "", value: Value::Object(event), failed: false }, notes);
        }
    }

    fn finish(self, notes: &mut Notes) -> Value {
        let mut session = Map::new();
        session.extend(self.id.map(|id| ("id".to_owned(), id)));
        session.extend(self.model.map(|model| ("model".to_owned(), model)));
        let responses = self.responses.into_iter();
        let responses = responses.filter_map(|(_, events)| Box::new(events).finish(notes));
        json!({
            "session": session,
            "responses": responses.collect::<Vec<_>>(),
            "input_transcriptions": self.transcriptions,
            "errors": self.errors,
        })
    }
}

fn push(list: &mut Vec<Value>, value: Value, notes: &mut Notes) {
    if list.len() < LIST_MAX {
        list.push(value);
    } else {
        notes.add("messages_beyond_limit");
    }
}

#[cfg(test)]
mod tests;
