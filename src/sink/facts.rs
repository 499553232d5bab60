//! What a record says that is the same for every sink, under one list of names.

use super::{
    json::{Members, amount, micros, millis, sum},
    talk::Talk,
};
use crate::model::{CostStatus, Outcome, Record, UsageSource};
use serde_json::{Map, Value, json};

/// Everything that may have no place of its own at a sink, under the names that sinks share. A kind
/// takes out what it has a place for.
pub(super) fn facts(record: &Record, talk: &Talk) -> Members {
    let mut facts = Members::default();
    let (tags, usage, model) = (&record.tags, &record.usage, &record.model);
    facts.add("record_id", record.id);
    facts.add("endpoint", record.endpoint.as_str());
    facts.add("outcome", record.outcome.as_str());
    facts.add("http_status", record.status);
    facts.add("stream", record.stream);
    facts.add("ttft_ms", record.timing.ttft_ms.map(millis));
    facts.add("provider", &record.provider);
    facts.add("model_served", model.served.as_ref().filter(|_| model.served != model.requested));
    facts.add("finish_reason", record.finish_reasons.first());
    facts.add("session_id", &tags.session);
    facts.add("session_name", &tags.session_name);
    facts.add("session_path", &tags.session_path);
    facts.add("prompt_slug", &tags.prompt);
    facts.add("prompt_version", &tags.prompt_version);
    facts.add("environment", &tags.environment);
    facts.add("customer_id", &tags.customer);
    facts.add("user_id", &tags.user);
    facts.add("external_reference_id", &tags.reference);
    facts.add("trace_id", &record.trace.trace_id);
    facts.add("user_query", &tags.user_query);
    facts.add("context", &tags.context);
    facts.add("expected_response", &tags.expected);
    facts.add("inputs", &tags.inputs);
    if let Some(error) = &record.error {
        facts.add("error_source", Some(&error.source).filter(|source| *source != "provider"));
        facts.add("error_type", &error.kind);
        facts.add("error_code", &error.code);
    }
    let source = Some(usage.source).filter(|source| *source != UsageSource::Provider);
    facts.add("usage_source", source.filter(|source| *source != UsageSource::None));
    facts.add("prompt_tokens", usage.input);
    facts.add("completion_tokens", usage.output);
    facts.add("total_tokens", usage.total);
    let used = |count: Option<u64>| count.filter(|count| *count > 0);
    facts.add("cached_input_tokens", used(usage.input_cached));
    facts.add("cache_write_tokens", used(usage.input_cache_write));
    facts.add("audio_input_tokens", used(usage.input_audio));
    facts.add("image_input_tokens", used(usage.input_image));
    facts.add("reasoning_tokens", used(usage.output_reasoning));
    facts.add("audio_output_tokens", used(usage.output_audio));
    facts.add("image_output_tokens", used(usage.output_image));
    let cost = Costs::of(record);
    facts.add("total_cost", cost.total);
    facts.add("cost_input", cost.input);
    facts.add("cost_output", cost.output);
    let partial = record.cost.status == CostStatus::Partial;
    facts.add("cost_of_priced_part", record.cost.total.as_ref().filter(|_| partial));
    facts.add("choices", Some(talk.others.len() + 1).filter(|count| *count > 1));
    facts.add("tags", &tags.labels);
    facts.add("notes", &record.notes);
    facts
}

/// Amounts as JSON numbers. All are unknown where some used unit has no price: a sink would take the
/// known part for the whole.
#[derive(Debug, Default)]
pub(super) struct Costs {
    /// The whole call.
    pub(super) total: Option<serde_json::Number>,
    /// Input, from a cache or not.
    pub(super) input: Option<serde_json::Number>,
    /// Output.
    pub(super) output: Option<serde_json::Number>,
}

impl Costs {
    pub(super) fn of(record: &Record) -> Self {
        let cost = &record.cost;
        let number = |text: Option<&String>| text.and_then(|text| amount(text));
        match cost.status {
            CostStatus::Priced | CostStatus::Free => {
                let input = [&cost.input, &cost.cache_read, &cost.cache_write];
                let input = sum(&input.map(Option::as_ref));
                Self {
                    total: number(cost.total.as_ref()),
                    input: number(input.as_ref()),
                    output: number(cost.output.as_ref()),
                }
            }
            _ => Self::default(),
        }
    }
}

/// Adds the caller's own metadata. Where a name is taken, the caller's value stands under `user_…`.
pub(super) fn add_metadata(facts: &mut Members, metadata: &Map<String, Value>) {
    for (name, value) in metadata {
        if facts.0.contains_key(name) {
            facts.put(&format!("user_{name}"), value.clone());
        } else {
            facts.put(name, value.clone());
        }
    }
}

/// What went wrong, in words. A client that went away early is no error of the call.
pub(super) fn error_text(record: &Record) -> Option<String> {
    if record.outcome == Outcome::ClientAborted {
        return None;
    }
    let said = record.error.as_ref().and_then(|error| {
        let texts = [&error.message, &error.code, &error.kind];
        texts.into_iter().flatten().find(|text| !text.is_empty()).cloned()
    });
    let failed = record.outcome != Outcome::Completed;
    said.or_else(|| failed.then(|| record.outcome.as_str().to_owned()))
}

/// The model's name as it was asked for, else as it was served, else `unknown`.
pub(super) fn model(record: &Record) -> &str {
    let names = [&record.model.requested, &record.model.served];
    names.into_iter().flatten().find(|name| !name.is_empty()).map_or("unknown", String::as_str)
}

/// Token counts under OpenAI's names; `cache_write` is the sink's name for tokens written to a cache.
pub(super) fn usage(record: &Record, cache_write: &str) -> Value {
    let usage = &record.usage;
    let mut counts = Members::default();
    counts.add("prompt_tokens", usage.input);
    counts.add("completion_tokens", usage.output);
    counts.add("total_tokens", usage.total);
    let mut input = Members::default();
    input.add("cached_tokens", usage.input_cached);
    input.add("audio_tokens", usage.input_audio);
    counts.add("prompt_tokens_details", input.0);
    let mut output = Members::default();
    output.add("reasoning_tokens", usage.output_reasoning);
    output.add("audio_tokens", usage.output_audio);
    counts.add("completion_tokens_details", output.0);
    counts.add(cache_write, usage.input_cache_write);
    counts.into_value()
}

/// Unix milliseconds, rounded.
pub(super) fn unix_ms(time: crate::model::Timestamp) -> i64 {
    (time.0.saturating_add(500)).div_euclid(1000)
}

/// Milliseconds that are never zero, which some servers take for absent.
pub(super) fn positive_millis(ms: f64) -> f64 {
    if micros(ms) == 0 { 0.001 } else { millis(ms) }
}

/// What stands for a question or an answer that was not kept.
pub(super) const NO_CONTENT: &str = "[content not sent]";

/// The body of an answer that has no message: an error, or a shape that nobody here knows.
pub(super) fn body_text(record: &Record) -> Option<String> {
    let body = record.response.as_ref().filter(|body| !body.is_null() && **body != json!(""))?;
    Some(super::json::text(body))
}
