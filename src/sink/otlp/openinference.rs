//! `OpenInference`, the conventions that Arize Phoenix and others read.
//!
//! Source: the `OpenInference` specification of semantic conventions.

use super::{Attributes, Messages, words};
use crate::{
    model::Record,
    sink::{
        facts::{self, Costs},
        talk::{Kind as Work, Message, Talk, text_of},
    },
};
use serde_json::{Value, json};

/// Adds a call's attributes and gives the span's name.
pub(super) fn add(to: &mut Attributes, record: &Record, talk: &Talk, messages: Messages) -> String {
    let embeds = talk.kind == Work::Embedding;
    to.text("openinference.span.kind", if embeds { "EMBEDDING" } else { "LLM" });
    let model = record.model.served.as_deref().or(record.model.requested.as_deref());
    to.maybe(if embeds { "embedding.model_name" } else { "llm.model_name" }, model);
    to.text("llm.provider", &record.provider);
    to.text("llm.system", if record.provider == "azure" { "openai" } else { &record.provider });
    let parameters = json!(record.parameters).to_string();
    to.text("llm.invocation_parameters", &parameters);
    let usage = &record.usage;
    to.int("llm.token_count.prompt", usage.input);
    to.int("llm.token_count.completion", usage.output);
    to.int("llm.token_count.total", usage.total);
    to.int("llm.token_count.prompt_details.cache_read", usage.input_cached);
    to.int("llm.token_count.prompt_details.cache_write", usage.input_cache_write);
    to.int("llm.token_count.prompt_details.audio", usage.input_audio);
    to.int("llm.token_count.completion_details.reasoning", usage.output_reasoning);
    to.int("llm.token_count.completion_details.audio", usage.output_audio);
    let costs = Costs::of(record);
    to.double("llm.cost.total", costs.total.and_then(|cost| cost.as_f64()));
    to.double("llm.cost.prompt", costs.input.and_then(|cost| cost.as_f64()));
    to.double("llm.cost.completion", costs.output.and_then(|cost| cost.as_f64()));
    to.maybe("session.id", record.tags.session.as_deref());
    to.maybe("user.id", record.tags.user.as_deref());
    to.maybe("llm.prompt_template.version", record.tags.prompt_version.as_deref());
    to.maybe("calltap.prompt.name", record.tags.prompt.as_deref());
    if !record.tags.labels.is_empty() {
        to.value("tag.tags", &json!(record.tags.labels));
    }
    if messages != Messages::Off {
        content(to, talk, messages);
    }
    format!("{} {}", record.endpoint.as_str(), facts::model(record))
}

fn content(to: &mut Attributes, talk: &Talk, messages: Messages) {
    let asked = talk.messages.iter().rev().find_map(text_of);
    to.maybe("input.value", asked.map(|text| words(&text, messages)).as_deref());
    to.maybe("output.value", talk.text().map(|text| words(&text, messages)).as_deref());
    for (place, said) in talk.messages.iter().enumerate() {
        message(to, &format!("llm.input_messages.{place}.message"), said, messages);
    }
    for (place, said) in talk.answer.iter().chain(&talk.others).enumerate() {
        message(to, &format!("llm.output_messages.{place}.message"), said, messages);
    }
    if messages == Messages::On {
        for (place, tool) in talk.all_tools().iter().enumerate() {
            to.text(&format!("llm.tools.{place}.tool.json_schema"), &tool.to_string());
        }
    }
}

fn message(to: &mut Attributes, at: &str, said: &Message, messages: Messages) {
    let text = |name: &str| said.get(name).and_then(Value::as_str);
    to.maybe(&format!("{at}.role"), text("role"));
    let content = text_of(said).map(|text| words(&text, messages));
    to.maybe(&format!("{at}.content"), content.as_deref());
    to.maybe(&format!("{at}.name"), text("name"));
    to.maybe(&format!("{at}.tool_call_id"), text("tool_call_id"));
    let calls = said.get("tool_calls").and_then(Value::as_array);
    for (place, call) in calls.into_iter().flatten().enumerate() {
        let at = format!("{at}.tool_calls.{place}.tool_call");
        to.maybe(&format!("{at}.id"), call["id"].as_str());
        to.maybe(&format!("{at}.function.name"), call["function"]["name"].as_str());
        let arguments = call["function"]["arguments"].as_str();
        let arguments = arguments.map(|text| words(text, messages));
        to.maybe(&format!("{at}.function.arguments"), arguments.as_deref());
    }
}
