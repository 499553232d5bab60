//! Token counts where the provider sent none (`openai-surface.md` §20): text by the model's own
//! vocabulary, the rest by rules that were measured against recorded usage. Estimates, never more.
//!
//! A vocabulary is loaded when it is first needed and then stays: some 0.1 s and 40 MB each.

mod answer;
#[cfg(test)]
mod corpus_tests;
mod counter;
mod family;
mod images;
mod prompt;
#[cfg(test)]
mod tests;
mod tools;

use counter::Counter;
use serde_json::Value;

/// What is to be counted: a request and its answer, read as JSON.
#[derive(Clone, Copy, Debug)]
pub struct Question<'a> {
    /// Endpoint, as in the record.
    pub endpoint: &'a str,
    /// Model that answered, else the one asked for.
    pub model: &'a str,
    /// The request's body.
    pub request: Option<&'a Value>,
    /// What the non-streaming endpoint would have returned, as far as it came.
    pub response: Option<&'a Value>,
    /// Whether the answer broke off.
    pub broke_off: bool,
}

/// Counted tokens. `None` where they cannot be known.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Estimate {
    /// Tokens of the prompt.
    pub input: Option<u64>,
    /// Tokens of the answer.
    pub output: Option<u64>,
    /// How they were counted, and what could not be.
    pub notes: Vec<String>,
}

/// Whether calls of this endpoint are billed by tokens that can be counted here.
pub fn counts(endpoint: &str) -> bool {
    matches!(endpoint, "chat.completions" | "completions" | "responses" | "embeddings")
}

/// Counts the tokens of a call. Slow: up to `EXACT_BYTES_MAX` bytes of it are looked at.
pub fn estimate(question: &Question<'_>) -> Estimate {
    let family = family::of(question.model);
    let Some(mut counter) = Counter::new(family.encoding) else { return Estimate::default() };
    let mut notes = Notes::default();
    let request = question.request.and_then(Value::as_object);
    let input = request.and_then(|request| {
        prompt::count(question.endpoint, request, &family, &mut counter, &mut notes)
    });
    let output = match question.endpoint {
        "embeddings" => None,
        _ => Some(answer::count(question, &family, &mut counter, &mut notes)),
    };
    if input.is_none() && output.is_none() {
        return Estimate::default();
    }
    if counter.extrapolated() {
        notes.add("of a long text only the beginning was counted");
    }
    let how =
        if family.stand_in { "which stands in for the model's own" } else { "the model's own" };
    let how = format!("tokens are counted with {}, {how}", family.encoding.name());
    let notes = std::iter::once(how).chain(notes.0.into_iter().map(str::to_owned)).collect();
    Estimate { input, output, notes }
}

/// Each remark once.
#[derive(Debug, Default)]
struct Notes(Vec<&'static str>);

impl Notes {
    fn add(&mut self, note: &'static str) {
        if !self.0.contains(&note) {
            self.0.push(note);
        }
    }
}

/// The text of `value[key]`; empty where there is none.
fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value.get(key).and_then(Value::as_str).unwrap_or_default()
}

/// The items of `value[key]`; none where it is no list.
fn items<'a>(value: &'a Value, key: &str) -> &'a [Value] {
    value.get(key).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default()
}
