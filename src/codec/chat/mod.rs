//! Chat completions: the finished object, or the object that a stream of chunks amounts to.

pub(crate) mod audio;
mod content;
mod message;
mod output;
mod reasoning;
mod tool_calls;

use super::{
    Codec, Meaning, Reading,
    chunks::{Choice, Chunks},
    merge,
    notes::Notes,
    reader,
};
use crate::model::Endpoint;
use message::Message;
use serde_json::{Map, Value};

/// `/chat/completions`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Chat;

impl Codec for Chat {
    fn reads(&self, endpoint: &Endpoint) -> bool {
        endpoint.as_str() == "chat.completions"
    }

    fn read(&self, reading: &Reading<'_>) -> Meaning {
        reader::read(reading, || Box::<Chunks<ChatChoice>>::default())
    }
}

/// One choice of a chat completion, growing.
#[derive(Debug, Default)]
pub(crate) struct ChatChoice {
    message: Message,
    has_delta: bool,
    whole_message: Option<Value>,
    finish_reason: Value,
    members: Map<String, Value>,
}

impl Choice for ChatChoice {
    const OBJECT: &'static str = "chat.completion";

    fn add(&mut self, chunk: Map<String, Value>, notes: &mut Notes) -> bool {
        let mut output = false;
        for (key, value) in chunk {
            match (key.as_str(), value) {
                ("delta", Value::Object(delta)) => {
                    self.has_delta = true;
                    output |= output::is_in(&delta);
                    self.message.add(delta, notes);
                }
                // Perplexity repeats the whole message so far, Together the text of the delta.
                ("message", message @ Value::Object(_)) => self.whole_message = Some(message),
                ("index" | "delta" | "message" | "text", _) => {}
                ("finish_reason", value) => merge::last_filled(&mut self.finish_reason, value),
                ("logprobs", value) => merge::member(&mut self.members, key, value, merge_logprobs),
                ("content_filter_results", value) => {
                    merge::member(&mut self.members, key, value, merge::deep);
                }
                (_, value) => merge::member(&mut self.members, key, value, merge::last),
            }
        }
        if let (false, Some(Value::Object(message))) = (self.has_delta, &self.whole_message) {
            output |= output::is_in(message);
        }
        output
    }

    fn repeats(chunk: &Map<String, Value>) -> Option<&'static str> {
        let is_plain = |(key, value): (&String, &Value)| match key.as_str() {
            "index" => value.is_u64(),
            "delta" => value.as_object().is_some_and(is_text),
            "finish_reason" | "logprobs" => value.is_null(),
            _ => false,
        };
        (chunk.contains_key("delta") && chunk.iter().all(is_plain)).then_some("content")
    }

    fn add_text(&mut self, text: &str) {
        self.message.add_text(text);
    }

    fn finish(self, index: Value, notes: &mut Notes) -> Value {
        // A stream of finished messages without any delta: the last one is the answer.
        let whole = self.whole_message.filter(|_| !self.has_delta);
        let message = whole.unwrap_or_else(|| self.message.finish(notes));
        let mut choice = Map::new();
        choice.insert("index".to_owned(), index);
        choice.insert("message".to_owned(), message);
        choice.insert("finish_reason".to_owned(), self.finish_reason);
        choice.extend(self.members);
        Value::Object(choice)
    }
}

/// Whether a delta is nothing but a piece of text.
fn is_text(delta: &Map<String, Value>) -> bool {
    delta.contains_key("content")
        && delta.iter().all(|(key, value)| match key.as_str() {
            "content" => value.as_str().is_some_and(|text| !text.is_empty()),
            "role" => value.is_string(),
            _ => false,
        })
}

/// Joins log probabilities: lists grow, the rest is replaced. Legacy completions have parallel lists.
pub(crate) fn merge_logprobs(slot: &mut Value, value: Value) {
    match (slot, value) {
        (Value::Object(old), Value::Object(new)) => {
            for (key, value) in new {
                merge::unknown(old.entry(key).or_insert(Value::Null), value);
            }
        }
        (slot, value) => merge::unknown(slot, value),
    }
}

#[cfg(test)]
mod tests;
