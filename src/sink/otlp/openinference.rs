//! `OpenInference`, the conventions that Arize Phoenix and others read.
//!
//! Source: the `OpenInference` specification: semantic conventions, embedding spans, multimodal
//! attributes. Vectors stay out of embedding spans: they are larger than everything else together.

use super::{Attributes, Messages, attributes::words, finish_reasons};
use crate::{
    model::Record,
    sink::{
        facts::{self, Costs},
        json::text,
        talk::{Kind as Work, Message, Talk, part_text, text_of},
    },
};
use serde_json::{Value, json};

/// Providers whose name in the conventions is another.
const PROVIDERS: [(&str, &str); 4] =
    [("mistral", "mistralai"), ("gemini", "google"), ("vertex", "google"), ("bedrock", "aws")];

const TEXT: &str = "text/plain";
const JSON: &str = "application/json";

/// Adds a call's attributes and gives the span's name.
pub(super) fn add(to: &mut Attributes, record: &Record, talk: &Talk, messages: Messages) -> String {
    let embeds = talk.kind == Work::Embedding;
    to.text("openinference.span.kind", if embeds { "EMBEDDING" } else { "LLM" });
    let parameters = json!(record.parameters).to_string();
    let (requested, served) = (record.model.requested.as_deref(), record.model.served.as_deref());
    if embeds {
        to.maybe("embedding.model_name", served.or(requested));
        to.text("embedding.invocation_parameters", &parameters);
    } else {
        to.maybe("llm.model_name", served.or(requested));
        to.maybe("llm.request.model_name", requested);
        to.maybe("llm.response.model_name", served);
        let slug = record.provider.as_str();
        let provider = PROVIDERS.iter().find(|(ours, _)| *ours == slug);
        to.text("llm.provider", provider.map_or(slug, |(_, theirs)| theirs));
        // The shape of the API, whoever serves it.
        let shape = if record.endpoint.as_str() == "messages" { "anthropic" } else { "openai" };
        to.text("llm.system", shape);
        to.text("llm.invocation_parameters", &parameters);
        to.maybe("llm.finish_reason", finish_reasons(record).next());
    }
    counts(to, record);
    to.maybe("session.id", record.tags.session.as_deref());
    to.maybe("llm.prompt_template.version", record.tags.prompt_version.as_deref());
    to.maybe("calltap.prompt.name", record.tags.prompt.as_deref());
    to.texts("tag.tags", record.tags.labels.iter().map(String::as_str));
    if !record.tags.metadata.is_empty() {
        to.text("metadata", &json!(record.tags.metadata).to_string());
    }
    if messages != Messages::Off {
        content(to, record, talk, messages);
    }
    if embeds {
        return "CreateEmbeddings".to_owned();
    }
    format!("{} {}", record.endpoint.as_str(), facts::model(record))
}

/// Tokens and money.
fn counts(to: &mut Attributes, record: &Record) {
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
}

fn content(to: &mut Attributes, record: &Record, talk: &Talk, messages: Messages) {
    let mut value = |name: &str, kind: &str, text: Option<String>| {
        if let Some(text) = text {
            to.text(&format!("{name}.value"), &words(&text, messages));
            let kind = if messages == Messages::On { kind } else { TEXT };
            to.text(&format!("{name}.mime_type"), kind);
        }
    };
    value("input", TEXT, talk.messages.iter().rev().find_map(text_of));
    match talk.text() {
        Some(_) if talk.kind == Work::Embedding => value("output", JSON, talk.text()),
        Some(said) => value("output", TEXT, Some(said)),
        None if talk.tool_calls().is_empty() => {}
        None => value("output", JSON, Some(json!({"tool_calls": talk.tool_calls()}).to_string())),
    }
    let answers = talk.answer.iter().chain(&talk.others);
    match talk.kind {
        Work::Embedding => {
            for (place, said) in inputs(record, "input").enumerate() {
                let name = format!("embedding.embeddings.{place}.embedding.text");
                to.maybe(&name, said.map(|said| words(said, messages)).as_deref());
            }
        }
        Work::Completion => {
            for (place, said) in inputs(record, "prompt").enumerate() {
                let name = format!("llm.prompts.{place}.prompt.text");
                to.maybe(&name, said.map(|said| words(said, messages)).as_deref());
            }
            for (place, said) in answers.filter_map(text_of).enumerate() {
                to.text(&format!("llm.choices.{place}.completion.text"), &words(&said, messages));
            }
        }
        _ => {
            for (place, said) in talk.messages.iter().enumerate() {
                message(to, &format!("llm.input_messages.{place}.message"), said, messages);
            }
            for (place, said) in answers.enumerate() {
                message(to, &format!("llm.output_messages.{place}.message"), said, messages);
            }
        }
    }
    if messages == Messages::On {
        for (place, tool) in talk.all_tools().iter().enumerate() {
            to.text(&format!("llm.tools.{place}.tool.json_schema"), &tool.to_string());
        }
    }
}

/// The texts of a request that takes one or several; `None` stands for tokens, which are no text.
fn inputs<'a>(record: &'a Record, member: &str) -> impl Iterator<Item = Option<&'a str>> {
    let asked = record.request.as_ref().and_then(|request| request.get(member));
    let several = asked.and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    let several = several.iter().filter(|item| !item.is_number()).map(Value::as_str);
    asked.and_then(Value::as_str).map(Some).into_iter().chain(several)
}

fn message(to: &mut Attributes, at: &str, said: &Message, messages: Messages) {
    let member = |name: &str| said.get(name).and_then(Value::as_str);
    to.maybe(&format!("{at}.role"), member("role"));
    let thought = member("reasoning_content").map(|text| ("reasoning", text.to_owned()));
    let parts = said.get("content").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    if thought.is_none() && parts.iter().all(|part| part_text(part).is_some()) {
        let said = text_of(said).map(|text| words(&text, messages));
        to.maybe(&format!("{at}.content"), said.as_deref());
    } else {
        let alone = || text_of(said).filter(|_| parts.is_empty()).map(|text| ("text", text));
        let texts = thought.into_iter().chain(alone());
        let mut place = 0;
        let mut next = || {
            place += 1;
            format!("{at}.contents.{}.message_content", place - 1)
        };
        for (kind, text) in texts {
            let at = next();
            to.text(&format!("{at}.type"), kind);
            to.text(&format!("{at}.text"), &words(&text, messages));
        }
        for part in parts {
            content_part(to, &next(), part, messages);
        }
    }
    to.maybe(&format!("{at}.name"), member("name"));
    to.maybe(&format!("{at}.tool_call_id"), member("tool_call_id"));
    let calls = said.get("tool_calls").and_then(Value::as_array);
    for (place, call) in calls.into_iter().flatten().enumerate() {
        let at = format!("{at}.tool_calls.{place}.tool_call");
        let (name, arguments) = match call.get("custom") {
            Some(custom) => (&custom["name"], &custom["input"]),
            None => (&call["function"]["name"], &call["function"]["arguments"]),
        };
        to.maybe(&format!("{at}.id"), call["id"].as_str());
        to.maybe(&format!("{at}.function.name"), name.as_str());
        let arguments = arguments.as_str().map(|text| words(text, messages));
        to.maybe(&format!("{at}.function.arguments"), arguments.as_deref());
    }
    if let Some(call) = said.get("function_call").filter(|call| call.is_object()) {
        to.maybe(&format!("{at}.function_call_name"), call["name"].as_str());
        let arguments = words(&text(&call["arguments"]), messages);
        to.text(&format!("{at}.function_call_arguments_json"), &arguments);
    }
}

/// Pictures by their address; what is inline is only named.
fn content_part(to: &mut Attributes, at: &str, part: &Value, messages: Messages) {
    if let Some(said) = part_text(part) {
        to.text(&format!("{at}.type"), "text");
        to.text(&format!("{at}.text"), &words(&said, messages));
        return;
    }
    let kind = match part["type"].as_str().unwrap_or("part") {
        "image_url" | "input_image" => "image",
        "input_audio" => "audio",
        kind => kind,
    };
    to.text(&format!("{at}.type"), kind);
    let url = part["image_url"]["url"].as_str().or_else(|| part["image_url"].as_str());
    let open = url.filter(|url| messages == Messages::On && !url.starts_with("data:"));
    to.maybe(&format!("{at}.image.image.url"), open);
}
