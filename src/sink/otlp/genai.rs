//! The `GenAI` conventions of OpenTelemetry in three generations, all in development.
//!
//! Source: ux.md §10.1; the attribute registries of the semantic conventions 1.36 (`gen_ai.system`,
//! messages as events) and 1.41 (`gen_ai.provider.name`, messages as attributes), and the page
//! "client inference" of the `GenAI` conventions' own repository, which `genai-latest` follows.

use super::{Attributes, Messages, finish_reasons, messages::content, messages::events};
use crate::{
    model::{Outcome, Record},
    sink::{
        json::seconds,
        talk::{Kind as Work, Talk},
    },
};
use serde_json::Value;

/// Which names hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Generation {
    V136,
    V141,
    Latest,
}

impl Generation {
    /// What is newer has no published schema.
    pub(super) fn schema_url(self) -> Option<&'static str> {
        match self {
            Self::V136 => Some("https://opentelemetry.io/schemas/1.36.0"),
            Self::V141 => Some("https://opentelemetry.io/schemas/1.41.0"),
            Self::Latest => None,
        }
    }
}

/// Providers whose name in the conventions is another.
const PROVIDERS: [(&str, &str); 8] = [
    ("azure", "azure.ai.openai"),
    ("bedrock", "aws.bedrock"),
    ("gemini", "gcp.gemini"),
    ("google", "gcp.gemini"),
    ("vertex", "gcp.vertex_ai"),
    ("mistral", "mistral_ai"),
    ("moonshot", "moonshot_ai"),
    ("xai", "x_ai"),
];

/// What looks up an answer again: it generates nothing, so it has no tokens.
const FETCH: &str = "fetch_response";

/// Adds a call's attributes. Gives the span's name, and its events with their members.
pub(super) fn add(
    to: &mut Attributes,
    generation: Generation,
    record: &Record,
    talk: &Talk,
    messages: Messages,
) -> (String, Vec<(String, Value)>) {
    let operation = operation(record, talk);
    let provider = provider(&record.provider, generation);
    let old = generation == Generation::V136;
    to.text("gen_ai.operation.name", operation);
    to.text(if old { "gen_ai.system" } else { "gen_ai.provider.name" }, provider);
    to.maybe("gen_ai.request.model", record.model.requested.as_deref());
    to.maybe("gen_ai.response.model", record.model.served.as_deref());
    request(to, generation, record, talk);
    response(to, generation, record, talk);
    if operation != FETCH {
        usage(to, generation, record);
    }
    if record.provider == "openai" {
        openai(to, generation, record, talk);
    }
    to.maybe("gen_ai.conversation.id", record.tags.session.as_deref());
    let (prompt, version) = match generation {
        Generation::V136 => ("calltap.prompt.name", "calltap.prompt.version"),
        Generation::V141 => ("gen_ai.prompt.name", "calltap.prompt.version"),
        Generation::Latest => ("gen_ai.prompt.name", "gen_ai.prompt.version"),
    };
    to.maybe(prompt, record.tags.prompt.as_deref());
    to.maybe(version, record.tags.prompt_version.as_deref());
    to.int("http.response.status_code", record.status.map(u64::from));
    let name = match record.model.requested.as_deref().or(record.model.served.as_deref()) {
        Some(model) => format!("{operation} {model}"),
        None => operation.to_owned(),
    };
    let mut said = Vec::new();
    match (messages, old) {
        (Messages::Off, _) => {}
        (_, true) => said = events(record, talk, messages, provider),
        (_, false) => content(to, generation, record, talk, messages),
    }
    (name, said)
}

fn provider(slug: &str, generation: Generation) -> &str {
    if generation == Generation::V136 && slug == "xai" {
        return slug;
    }
    PROVIDERS.iter().find(|(ours, _)| *ours == slug).map_or(slug, |(_, theirs)| theirs)
}

fn operation<'a>(record: &'a Record, talk: &Talk) -> &'a str {
    match talk.kind {
        Work::Response if record.method == "GET" => FETCH,
        Work::Chat | Work::Response | Work::Thread => "chat",
        Work::Completion => "text_completion",
        Work::Embedding => "embeddings",
        Work::Image => "generate_content",
        _ if record.endpoint.as_str() == "messages" => "chat",
        _ => record.endpoint.as_str(),
    }
}

fn request(to: &mut Attributes, generation: Generation, record: &Record, talk: &Talk) {
    let asked = |name: &str| record.parameters.get(name);
    let number = |name: &str| asked(name).and_then(Value::as_f64);
    let count = |name: &str| asked(name).and_then(Value::as_u64);
    let longest = ["max_completion_tokens", "max_tokens", "max_output_tokens"];
    to.int("gen_ai.request.max_tokens", longest.into_iter().find_map(count));
    for name in ["temperature", "top_p", "frequency_penalty", "presence_penalty"] {
        to.double(&format!("gen_ai.request.{name}"), number(name));
    }
    if generation == Generation::Latest {
        to.int("gen_ai.request.top_k", count("top_k"));
    } else {
        to.double("gen_ai.request.top_k", number("top_k"));
    }
    if let Some(seed) = asked("seed").filter(|seed| seed.is_i64()) {
        to.value("gen_ai.request.seed", seed);
    }
    to.int("gen_ai.request.choice.count", count("n").filter(|count| *count != 1));
    match asked("stop") {
        Some(Value::String(stop)) => to.texts("gen_ai.request.stop_sequences", [stop.as_str()]),
        Some(Value::Array(stops)) => {
            to.texts("gen_ai.request.stop_sequences", stops.iter().filter_map(Value::as_str));
        }
        _ => {}
    }
    to.maybe("gen_ai.output.type", output_type(record, talk));
    if talk.kind == Work::Embedding {
        let format = asked("encoding_format").and_then(Value::as_str);
        to.texts("gen_ai.request.encoding_formats", format);
        let dimensions = count("dimensions").filter(|_| generation > Generation::V136);
        to.int("gen_ai.embeddings.dimension.count", dimensions);
    }
    if generation > Generation::V136 && record.stream {
        to.flag("gen_ai.request.stream", true);
    }
    if generation == Generation::Latest {
        let level = asked("reasoning_effort").or_else(|| asked("reasoning")?.get("effort"));
        to.maybe("gen_ai.request.reasoning.level", level.and_then(Value::as_str));
        let previous = record.tags.metadata.get("previous_response_id").and_then(Value::as_str);
        to.maybe("gen_ai.request.previous_response.id", previous);
    }
}

/// The kind of output that the client asked for, where it did.
fn output_type(record: &Record, talk: &Talk) -> Option<&'static str> {
    let asked = |name: &str| record.parameters.get(name);
    match talk.kind {
        Work::Image => return Some("image"),
        Work::Speech => return Some("speech"),
        _ => {}
    }
    let format = asked("response_format").or_else(|| asked("text")?.get("format"))?;
    match format.get("type").unwrap_or(format).as_str()? {
        "json_object" | "json_schema" | "json" | "verbose_json" => Some("json"),
        "text" => Some("text"),
        _ => None,
    }
}

fn response(to: &mut Attributes, generation: Generation, record: &Record, talk: &Talk) {
    let id = record.response.as_ref().and_then(|body| body["id"].as_str());
    to.maybe("gen_ai.response.id", id.or(record.response_id.as_deref()));
    // The newest generation wants a reason for an answer that broke off.
    let speaks = matches!(talk.kind, Work::Chat | Work::Completion | Work::Response);
    let broke_off = speaks && record.outcome != Outcome::Completed;
    if record.finish_reasons.is_empty() && broke_off && generation == Generation::Latest {
        to.texts("gen_ai.response.finish_reasons", ["error"]);
    } else {
        to.texts("gen_ai.response.finish_reasons", finish_reasons(record));
    }
    if generation > Generation::V136 && record.stream {
        let first = record.timing.first_byte_ms.map(seconds);
        to.double("gen_ai.response.time_to_first_chunk", first);
    }
}

fn usage(to: &mut Attributes, generation: Generation, record: &Record) {
    let usage = &record.usage;
    to.int("gen_ai.usage.input_tokens", usage.input);
    to.int("gen_ai.usage.output_tokens", usage.output);
    if generation == Generation::V136 {
        return;
    }
    let latest = generation == Generation::Latest;
    let written = if latest { "cache_write" } else { "cache_creation" };
    to.int("gen_ai.usage.cache_read.input_tokens", usage.input_cached);
    to.int(&format!("gen_ai.usage.{written}.input_tokens"), usage.input_cache_write);
    to.int("gen_ai.usage.reasoning.output_tokens", usage.output_reasoning);
    if latest {
        let some = |count: Option<u64>| count.filter(|count| *count > 0);
        to.int("gen_ai.usage.audio.input_tokens", some(usage.input_audio));
        to.int("gen_ai.usage.image.input_tokens", some(usage.input_image));
        to.int("gen_ai.usage.audio.output_tokens", some(usage.output_audio));
        to.int("gen_ai.usage.image.output_tokens", some(usage.output_image));
    }
}

/// What only `OpenAI` has, under names that lost a prefix with 1.37.
fn openai(to: &mut Attributes, generation: Generation, record: &Record, talk: &Talk) {
    let old = generation == Generation::V136;
    let prefix = if old { "gen_ai.openai" } else { "openai" };
    let api = match talk.kind {
        Work::Chat => Some("chat_completions"),
        Work::Response => Some("responses"),
        _ => None,
    };
    to.maybe("openai.api.type", api.filter(|_| !old));
    let tier = record.parameters.get("service_tier").and_then(Value::as_str);
    let tier = tier.filter(|tier| *tier != "auto");
    to.maybe(&format!("{prefix}.request.service_tier"), tier);
    for name in ["service_tier", "system_fingerprint"] {
        let said = record.response.as_ref().and_then(|body| body[name].as_str());
        to.maybe(&format!("{prefix}.response.{name}"), said);
    }
}
