//! Puts together the chunks of chat and legacy completions: everything around the choices.

use super::{
    errors, merge,
    notes::Notes,
    stream::{Assembly, Data, Seen},
};
use serde_json::{Map, Value};
use std::collections::BTreeMap;

/// Most choices put together; chunks of further ones are dropped, with a note.
const CHOICES_MAX: usize = 4096;

/// Highest choice index that is not odd.
const INDEX_MAX: i64 = 100_000;

/// One choice, growing.
pub(crate) trait Choice: Default {
    /// `object` of the finished thing.
    const OBJECT: &'static str;

    /// Takes what a chunk says about the choice; true when that is generated output.
    fn add(&mut self, chunk: Map<String, Value>, notes: &mut Notes) -> bool;

    /// The member whose text, not empty, is all that such a chunk says.
    fn repeats(_chunk: &Map<String, Value>) -> Option<&'static str> {
        None
    }

    /// Takes the text of a further chunk like that.
    fn add_text(&mut self, _text: &str) {}

    /// The finished choice.
    fn finish(self, index: Value, notes: &mut Notes) -> Value;
}

/// The object, growing.
#[derive(Debug, Default)]
pub(crate) struct Chunks<C> {
    members: Map<String, Value>,
    choices: BTreeMap<i64, C>,
    /// The choice of the last chunk that had one.
    last: i64,
    usage: Value,
    usage_is_final: bool,
    error: Option<Value>,
    recognized: bool,
}

impl<C: Choice> Assembly for Chunks<C> {
    fn add(&mut self, event: Data<'_>, notes: &mut Notes) -> Seen {
        self.recognized |= event.failed;
        let has_error = event.value.get("error").is_some_and(errors::is_truthy);
        let chunk = match event.value {
            Value::Object(chunk) if !event.failed || has_error || chunk.contains_key("choices") => {
                chunk
            }
            // The event itself is the error.
            value if event.failed => {
                self.error = Some(value);
                return Seen::default();
            }
            _ => return Seen::default(),
        };
        let repeats = repeats::<C>(&chunk).filter(|_| !event.failed);
        let is_alone = chunk.get("choices").and_then(Value::as_array).is_none_or(Vec::is_empty);
        let mut output = false;
        for (key, value) in chunk {
            match key.as_str() {
                "choices" => output |= self.add_choices(value, notes),
                "usage" => self.add_usage(value, is_alone, notes),
                "error" if !errors::is_truthy(&value) => {}
                "error" => self.error = Some(value),
                "type" if event.failed => {}
                // What the finished object overrules, and padding against traffic analysis.
                "object" | "obfuscation" | "p" => {}
                // Azure begins with blank ones, Snowflake never fills them.
                "id" | "model" | "created" if !merge::is_filled(&value) => {}
                "id" | "model" | "created" => self.add_member(key, value, merge::first_filled),
                "system_fingerprint" | "service_tier" => {
                    self.add_member(key, value, merge::last_filled);
                }
                "x_groq" => self.add_member(key, value, merge::shallow),
                _ => self.add_member(key, value, merge::last),
            }
        }
        Seen { output, terminal: false, repeats }
    }

    fn add_text(&mut self, text: &str) {
        if let Some(choice) = self.choices.get_mut(&self.last) {
            choice.add_text(text);
        }
    }

    fn finish(mut self: Box<Self>, notes: &mut Notes) -> Option<Value> {
        if !self.recognized {
            return None;
        }
        let mut object = Map::new();
        let mut put = |key: &str, value: Option<Value>| {
            if let Some(value) = value {
                object.insert(key.to_owned(), value);
            }
        };
        put("id", self.members.shift_remove("id"));
        put("object", Some(Value::String(C::OBJECT.to_owned())));
        put("created", self.members.shift_remove("created"));
        put("model", self.members.shift_remove("model"));
        let choices = std::mem::take(&mut self.choices).into_iter();
        let choices = choices.map(|(index, choice)| choice.finish(index.into(), notes));
        put("choices", Some(Value::Array(choices.collect())));
        // Groq used to send the usage only beside the chunk's own members.
        let elsewhere = || self.members.get("x_groq")?.get("usage").cloned();
        put("usage", Some(self.usage.take()).filter(|usage| !usage.is_null()).or_else(elsewhere));
        object.extend(self.members);
        object.extend(self.error.map(|error| ("error".to_owned(), error)));
        Some(Value::Object(object))
    }
}

impl<C: Choice> Chunks<C> {
    fn add_member(&mut self, key: String, value: Value, rule: fn(&mut Value, Value)) {
        merge::member(&mut self.members, key, value, rule);
    }

    fn add_choices(&mut self, choices: Value, notes: &mut Notes) -> bool {
        self.recognized = true;
        let Value::Array(choices) = choices else { return false };
        // Several choices without any index can only be told apart by their places.
        let by_place =
            choices.len() > 1 && choices.iter().all(|choice| choice.get("index").is_none());
        let mut output = false;
        for (place, choice) in choices.into_iter().enumerate() {
            let Value::Object(choice) = choice else { continue };
            let index = if by_place {
                i64::try_from(place).unwrap_or(i64::MAX)
            } else {
                index_of(choice.get("index"), notes)
            };
            if self.choices.len() >= CHOICES_MAX && !self.choices.contains_key(&index) {
                notes.add("choices_beyond_limit");
                continue;
            }
            self.last = index;
            output |= self.choices.entry(index).or_default().add(choice, notes);
        }
        output
    }

    /// Some providers send a growing usage with every chunk: the last one holds, nothing is summed.
    /// One that comes alone is meant to be final; two of those, or one that shrinks, disagree.
    fn add_usage(&mut self, usage: Value, is_alone: bool, notes: &mut Notes) {
        if usage.is_null() {
            return;
        }
        let total = |usage: &Value| usage.get("total_tokens").and_then(Value::as_u64);
        let shrinks = total(&usage).zip(total(&self.usage)).is_some_and(|(new, old)| new < old);
        if shrinks || (is_alone && self.usage_is_final && usage != self.usage) {
            notes.add("usage_sent_twice_and_different");
        }
        self.usage_is_final = is_alone;
        self.usage = usage;
    }
}

/// The member of a chunk's only choice whose text is all that the chunk adds. All else in it stays the
/// same however often it comes.
fn repeats<C: Choice>(chunk: &Map<String, Value>) -> Option<&'static str> {
    let is_plain = |(key, value): (&String, &Value)| match key.as_str() {
        "id" | "object" | "created" | "model" | "service_tier" | "system_fingerprint"
        | "choices" | "obfuscation" => true,
        "usage" => value.is_null(),
        _ => false,
    };
    let [Value::Object(choice)] = chunk.get("choices")?.as_array()?.as_slice() else { return None };
    C::repeats(choice).filter(|_| chunk.iter().all(is_plain))
}

/// A choice's index; a missing one is 0.
fn index_of(index: Option<&Value>, notes: &mut Notes) -> i64 {
    let number = match index {
        None | Some(Value::Null) => return 0,
        Some(Value::Number(number)) => number.as_i64(),
        Some(Value::String(text)) => text.parse().ok(),
        Some(_) => None,
    };
    if !number.is_some_and(|number| (0..=INDEX_MAX).contains(&number)) {
        notes.add("choice_index_odd");
    }
    // What no integer holds must not be mixed into another choice.
    number.unwrap_or(i64::MAX)
}
