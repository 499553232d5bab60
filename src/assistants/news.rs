//! What one call tells about a thread.

use super::thread::Question;
use crate::model::Record;
use serde_json::{Value, json};

/// Longest question kept, in bytes.
const QUESTION_BYTES_MAX: usize = 64 << 10;

/// Objects of one thread, in the order in which they came to be.
#[derive(Debug, Default)]
pub(super) struct News {
    /// The thread's id.
    pub(super) thread: String,
    /// The last message of a user that the call shows or sends.
    pub(super) question: Option<Question>,
    /// Runs as they now are.
    pub(super) runs: Vec<Value>,
    /// Steps.
    pub(super) steps: Vec<Value>,
    /// Messages that a run wrote, each with the question before it where the call shows that.
    pub(super) messages: Vec<(Value, Option<Value>)>,
    /// The call was an event stream.
    pub(super) stream: bool,
}

/// Reads a call; `None` when it tells nothing about any thread.
pub(super) fn read(record: &Record) -> Option<News> {
    if record.method == "DELETE" || record.status.is_none_or(|status| status >= 400) {
        return None;
    }
    let objects = objects(record.response.as_ref()?);
    let thread = objects.iter().find_map(|object| match object["object"].as_str()? {
        "thread" => object["id"].as_str(),
        _ => object["thread_id"].as_str(),
    })?;
    let mut news = News { thread: thread.to_owned(), stream: record.stream, ..News::default() };
    let mut shown: Option<Question> = None;
    for object in
        objects.iter().filter(|object| object["thread_id"].as_str().is_none_or(|id| id == thread))
    {
        match object["object"].as_str().unwrap_or_default() {
            "thread.run" => news.runs.push((*object).clone()),
            "thread.run.step" => news.steps.push((*object).clone()),
            "thread.message" if object["role"] == "user" => shown = question(object),
            "thread.message" if is_answer(object) => {
                let before = shown.as_ref().map(|question| question.content.clone());
                news.messages.push(((*object).clone(), before));
            }
            _ => {}
        }
    }
    let made_at = objects.first().and_then(|object| object["created_at"].as_i64());
    news.question = sent(record, made_at.unwrap_or_default()).or(shown);
    Some(news)
}

/// What an answer consists of: itself, the entries of a list, the parts of a streamed run.
fn objects(response: &Value) -> Vec<&Value> {
    let list = |name: &str| response[name].as_array().into_iter().flatten();
    if response["object"] == "list" {
        let mut entries: Vec<&Value> = list("data").collect();
        let at = |entry: Option<&&Value>| entry.map(|entry| entry["created_at"].as_i64());
        // Lists come newest first unless the client asked otherwise.
        if at(entries.first()) >= at(entries.last()) {
            entries.reverse();
        }
        return entries;
    }
    if response["run"].is_object() || response["messages"].is_array() {
        return std::iter::once(&response["run"])
            .chain(list("steps"))
            .chain(list("messages"))
            .collect();
    }
    vec![response]
}

/// A message that a run wrote, not one that the client put into an assistant's mouth.
fn is_answer(message: &Value) -> bool {
    let by_run = message["run_id"].is_string() || message["assistant_id"].is_string();
    message["role"] == "assistant" && by_run && message["id"].is_string()
}

/// The last message of a user that the request brings along.
fn sent(record: &Record, created_at: i64) -> Option<Question> {
    let request = record.request.as_ref().filter(|_| record.method == "POST")?;
    let messages = match record.endpoint.as_str() {
        "assistants.threads" => &request["messages"],
        "assistants.run" if request["additional_messages"].is_array() => {
            &request["additional_messages"]
        }
        "assistants.run" => &request["thread"]["messages"],
        _ => return None,
    };
    let last = messages.as_array()?.iter().rev().find(|message| message["role"] == "user")?;
    Some(Question { content: content(&last["content"])?, created_at })
}

fn question(message: &Value) -> Option<Question> {
    let created_at = message["created_at"].as_i64().unwrap_or_default();
    Some(Question { content: content(&message["content"])?, created_at })
}

/// A message's content as a chat would hold it: text, or parts where there is more than text.
fn content(content: &Value) -> Option<Value> {
    let Value::Array(parts) = content else {
        return content.as_str().map(|text| clipped(text).into());
    };
    let text_of = |part: &Value| {
        let text = part.get("text")?;
        text.as_str().or_else(|| text["value"].as_str()).map(str::to_owned)
    };
    let texts: Vec<String> = parts.iter().filter_map(text_of).collect();
    if texts.len() < parts.len() {
        let part = |part: &Value| match text_of(part) {
            Some(text) => json!({"type": "text", "text": text}),
            None => part.clone(),
        };
        let whole = Value::Array(parts.iter().map(part).collect());
        if whole.to_string().len() <= QUESTION_BYTES_MAX {
            return Some(whole);
        }
    }
    Some(clipped(&texts.join("\n")).into())
}

fn clipped(text: &str) -> &str {
    text.get(..text.floor_char_boundary(QUESTION_BYTES_MAX)).unwrap_or_default()
}
