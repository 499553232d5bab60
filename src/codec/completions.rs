//! Legacy completions: text by choice, log probabilities as parallel lists.

use super::{
    Codec, Meaning, Reading,
    chat::merge_logprobs,
    chunks::{Choice, Chunks},
    merge,
    notes::Notes,
    reader,
};
use crate::model::Endpoint;
use serde_json::{Map, Value};

/// `/completions`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Completions;

impl Codec for Completions {
    fn reads(&self, endpoint: &Endpoint) -> bool {
        endpoint.as_str() == "completions"
    }

    fn read(&self, reading: &Reading<'_>) -> Meaning {
        reader::read(reading, || Box::<Chunks<TextChoice>>::default())
    }
}

/// One choice of a completion, growing. A list of prompts gives choices for each, in order.
#[derive(Debug, Default)]
struct TextChoice {
    text: String,
    finish_reason: Value,
    members: Map<String, Value>,
}

impl Choice for TextChoice {
    const OBJECT: &'static str = "text_completion";

    fn add(&mut self, chunk: Map<String, Value>, _notes: &mut Notes) -> bool {
        let mut output = false;
        for (key, value) in chunk {
            match (key.as_str(), value) {
                ("index", _) => {}
                ("text", Value::String(text)) => {
                    output |= !text.is_empty();
                    self.text.push_str(&text);
                }
                ("text", _) => {}
                ("finish_reason", value) => merge::last_filled(&mut self.finish_reason, value),
                ("logprobs", value) => merge::member(&mut self.members, key, value, merge_logprobs),
                ("content_filter_results", value) => {
                    merge::member(&mut self.members, key, value, merge::deep)
                }
                (_, value) => merge::member(&mut self.members, key, value, merge::last),
            }
        }
        output
    }

    fn finish(self, index: Value, _notes: &mut Notes) -> Value {
        let mut choice = Map::new();
        choice.insert("text".to_owned(), Value::String(self.text));
        choice.insert("index".to_owned(), index);
        choice.insert("finish_reason".to_owned(), self.finish_reason);
        choice.extend(self.members);
        Value::Object(choice)
    }
}
