//! Endpoints that take a text and give a text, or give something that is described in one.

use super::{Kind, Message, message, objects, part_text, text_of};
use crate::model::Record;
use serde_json::{Map, Value, json};

/// The prompt of a request.
pub(super) fn prompt(kind: Kind, request: &Value) -> Option<String> {
    if let Some(text) = request.as_str() {
        return Some(whole(text));
    }
    let member = match kind {
        Kind::Embedding | Kind::Speech | Kind::Moderation => "input",
        _ => "prompt",
    };
    let asked = request.get(member).or_else(|| request.get("input"))?;
    let text = match asked {
        Value::String(text) => text.clone(),
        Value::Array(items) if items.iter().any(Value::is_number) => tokens(items),
        Value::Array(items) => items.iter().map(part).collect::<Vec<_>>().join("\n"),
        _ => return None,
    };
    Some(text)
}

/// A request that is not JSON: a form's bytes say little.
fn whole(text: &str) -> String {
    if text.starts_with("--") { "[form]".to_owned() } else { text.to_owned() }
}

fn tokens(items: &[Value]) -> String {
    format!("[{} tokens]", items.len())
}

/// One of several inputs: a text, tokens, or a part with a type.
fn part(part: &Value) -> String {
    match part {
        Value::Array(items) => tokens(items),
        part => part_text(part)
            .unwrap_or_else(|| format!("[{}]", part["type"].as_str().unwrap_or("input"))),
    }
}

/// The answers of a response: one message a choice, or one that describes what came.
pub(super) fn answers(kind: Kind, record: &Record, response: &Value) -> Vec<Message> {
    if let Some(text) = response.as_str() {
        return vec![message("assistant", text)];
    }
    let describe = |value: Option<Value>| {
        value.map(|value| message("assistant", &value.to_string())).into_iter().collect()
    };
    match kind {
        Kind::Completion => objects(&response["choices"])
            .filter_map(|choice| Some(message("assistant", choice["text"].as_str()?)))
            .collect(),
        Kind::Thread => thread(response).into_iter().collect(),
        Kind::Transcription => {
            response["text"].as_str().map(|text| message("assistant", text)).into_iter().collect()
        }
        Kind::Embedding => describe(vectors(response)),
        Kind::Image => describe(pictures(response)),
        Kind::Moderation => describe(judgements(response)),
        Kind::Speech if record.error.is_none() && record.bytes.response > 0 => {
            describe(Some(json!({"audio_bytes": record.bytes.response})))
        }
        _ => Vec::new(),
    }
}

/// A message of a thread: texts, and files by name.
fn thread(response: &Value) -> Option<Message> {
    let parts = response["content"].as_array()?;
    let texts: Vec<String> = parts
        .iter()
        .map(|part| {
            part_text(part)
                .unwrap_or_else(|| format!("[{}]", part["type"].as_str().unwrap_or("part")))
        })
        .collect();
    let said = message(response["role"].as_str().unwrap_or("assistant"), &texts.join("\n"));
    text_of(&said).map(|_| said)
}

fn vectors(response: &Value) -> Option<Value> {
    let data = response["data"].as_array()?;
    let mut summary = Map::new();
    summary.insert("embeddings".to_owned(), data.len().into());
    if let Some(dimensions) = data.first().and_then(|item| dimensions(&item["embedding"])) {
        summary.insert("dimensions".to_owned(), dimensions.into());
    }
    Some(Value::Object(summary))
}

/// A list of numbers, or four bytes a number in Base64.
fn dimensions(embedding: &Value) -> Option<usize> {
    match embedding {
        Value::Array(numbers) => Some(numbers.len()),
        Value::String(text) => Some(text.trim_end_matches('=').len() * 3 / 4 / 4),
        _ => None,
    }
}

fn pictures(response: &Value) -> Option<Value> {
    let data = response["data"].as_array()?;
    let revised: Vec<&Value> =
        data.iter().map(|item| &item["revised_prompt"]).filter(|text| text.is_string()).collect();
    let mut summary = Map::new();
    summary.insert("images".to_owned(), data.len().into());
    if !revised.is_empty() {
        summary.insert("revised_prompts".to_owned(), json!(revised));
    }
    Some(Value::Object(summary))
}

/// Whether each input was flagged, and why.
fn judgements(response: &Value) -> Option<Value> {
    let one = |result: &Value| {
        let categories = result["categories"].as_object();
        let held: Vec<&String> = categories
            .into_iter()
            .flatten()
            .filter(|(_, held)| **held == Value::Bool(true))
            .map(|(name, _)| name)
            .collect();
        json!({"flagged": result["flagged"], "categories": held})
    };
    let mut results: Vec<Value> = response["results"].as_array()?.iter().map(one).collect();
    if results.len() == 1 { results.pop() } else { Some(results.into()) }
}
