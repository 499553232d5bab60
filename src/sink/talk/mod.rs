//! What was said in a call, in the shape of chat completions, whatever the endpoint was.

mod plain;
mod responses;

use crate::model::Record;
use serde_json::{Map, Value, json};

/// A message: `role`, `content`, …
pub(super) type Message = Map<String, Value>;

/// What kind of work a call asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Chat,
    Completion,
    Response,
    /// A message of an assistant's thread.
    Thread,
    Embedding,
    Image,
    Transcription,
    Speech,
    Moderation,
    Other,
}

impl Kind {
    pub(super) fn of(record: &Record) -> Self {
        match record.endpoint.as_str() {
            "chat.completions" | "chat.completions.stored" => Self::Chat,
            "completions" => Self::Completion,
            "responses" => Self::Response,
            "assistants.message" => Self::Thread,
            "embeddings" => Self::Embedding,
            "images.generations" | "images.edits" | "images.variations" => Self::Image,
            "audio.transcriptions" | "audio.translations" => Self::Transcription,
            "audio.speech" => Self::Speech,
            "moderations" => Self::Moderation,
            _ => Self::Other,
        }
    }
}

/// Question and answer of a call.
#[derive(Debug)]
pub(super) struct Talk {
    pub(super) kind: Kind,
    /// Messages sent. A plain prompt is one user message.
    pub(super) messages: Vec<Message>,
    /// The prompt, where the endpoint takes a text and no messages.
    pub(super) prompt: Option<String>,
    /// The first choice's message; `None` where there is no answer. What has no message (vectors,
    /// pictures, sound) is described in one.
    pub(super) answer: Option<Message>,
    /// The messages of further choices.
    pub(super) others: Vec<Message>,
    /// Tools offered, functions nested as chat completions have them.
    pub(super) tools: Vec<Value>,
    /// Functions offered in the legacy way.
    pub(super) functions: Vec<Value>,
}

impl Talk {
    /// Reads `request` and `response` of a record. Never fails: what is not there is empty.
    pub(super) fn of(record: &Record) -> Self {
        let kind = Kind::of(record);
        let none = Value::Null;
        let request = record.request.as_ref().unwrap_or(&none);
        let response = record.response.as_ref().unwrap_or(&none);
        let (messages, prompt) = match kind {
            Kind::Chat => (chat_messages(&request["messages"]), None),
            Kind::Response => (responses::question(request), None),
            Kind::Thread => (question_asked(record), None),
            _ => {
                let prompt = plain::prompt(kind, request);
                (prompt.iter().map(|text| message("user", text)).collect(), prompt)
            }
        };
        let mut answers = match kind {
            Kind::Chat => chat_answers(response),
            Kind::Response => responses::answer(response).into_iter().collect(),
            _ => plain::answers(kind, record, response),
        }
        .into_iter();
        Self {
            kind,
            messages,
            prompt,
            answer: answers.next(),
            others: answers.collect(),
            tools: objects(&request["tools"]).map(nested).collect(),
            functions: objects(&request["functions"]).cloned().collect(),
        }
    }

    /// The answer's text: its content, else its refusal, else what was spoken. `None` where it has none.
    pub(super) fn text(&self) -> Option<String> {
        text_of(self.answer.as_ref()?)
    }

    /// Tool calls of the answer.
    pub(super) fn tool_calls(&self) -> &[Value] {
        let calls = self.answer.as_ref().and_then(|answer| answer.get("tool_calls"));
        calls.and_then(Value::as_array).map_or(&[], Vec::as_slice)
    }

    /// Tools and legacy functions alike, as tools.
    pub(super) fn all_tools(&self) -> Vec<Value> {
        let wrapped = |function: &Value| json!({"type": "function", "function": function});
        self.tools.iter().cloned().chain(self.functions.iter().map(wrapped)).collect()
    }
}

/// A message of one text.
pub(super) fn message(role: &str, text: &str) -> Message {
    let mut message = Message::new();
    message.insert("role".to_owned(), role.into());
    message.insert("content".to_owned(), text.into());
    message
}

/// Content, else refusal, else transcript of a message.
pub(super) fn text_of(message: &Message) -> Option<String> {
    let content = message.get("content").and_then(|content| match content {
        Value::String(text) => Some(text.clone()),
        Value::Array(parts) => Some(parts.iter().filter_map(part_text).collect()),
        _ => None,
    });
    let refusal = || Some(message.get("refusal")?.as_str()?.to_owned());
    let spoken = || Some(message.get("audio")?.get("transcript")?.as_str()?.to_owned());
    let said = |text: &String| !text.is_empty();
    content.filter(said).or_else(refusal).filter(said).or_else(spoken).filter(said)
}

/// The text of a part of a message's content, if it is one of text.
pub(super) fn part_text(part: &Value) -> Option<String> {
    match part {
        Value::String(text) => Some(text.clone()),
        part => {
            let text = part.get("text").or_else(|| part.get("refusal"))?;
            text.as_str().or_else(|| text.get("value")?.as_str()).map(str::to_owned)
        }
    }
}

/// A message without the members that say nothing; `content` may be null.
pub(super) fn without_nulls(message: &Message) -> Message {
    let kept = |(name, value): &(&String, &Value)| !value.is_null() || *name == "content";
    message.iter().filter(kept).map(|(name, value)| (name.clone(), value.clone())).collect()
}

/// Members of a list that are objects.
fn objects(list: &Value) -> impl Iterator<Item = &Value> {
    list.as_array().into_iter().flatten().filter(|item| item.is_object())
}

/// Messages as they were sent; a bare text becomes a user message.
fn chat_messages(list: &Value) -> Vec<Message> {
    let one = |item: &Value| match item {
        Value::Object(members) if item["role"].is_string() => Some(sound(members.clone())),
        Value::String(text) => Some(message("user", text)),
        _ => None,
    };
    match list {
        Value::Array(items) => items.iter().filter_map(one).collect(),
        item => one(item).into_iter().collect(),
    }
}

/// A message whose content is a text, parts or nothing, as every reader expects.
fn sound(mut message: Message) -> Message {
    if let Some(content) = message.get_mut("content") {
        match content {
            Value::Null | Value::String(_) | Value::Array(_) => {}
            odd => *odd = Value::String(odd.to_string()),
        }
    }
    message
}

/// The message of each choice.
fn chat_answers(response: &Value) -> Vec<Message> {
    let choices = objects(&response["choices"]);
    let messages = choices.filter_map(|choice| choice["message"].as_object().cloned());
    messages.map(with_role).map(sound).collect()
}

fn with_role(mut answer: Message) -> Message {
    if !answer.get("role").is_some_and(Value::is_string) {
        answer.shift_insert(0, "role".to_owned(), "assistant".into());
    }
    answer
}

/// The question of a thread, which its answer's record knows only as the user's last message.
fn question_asked(record: &Record) -> Vec<Message> {
    record.tags.user_query.iter().map(|query| message("user", query)).collect()
}

/// A tool in the shape of chat completions: a function's members stand under `function`.
fn nested(tool: &Value) -> Value {
    match tool.as_object() {
        Some(members) if tool["type"] == "function" && tool.get("function").is_none() => {
            let mut function = members.clone();
            function.shift_remove("type");
            json!({"type": "function", "function": function})
        }
        _ => tool.clone(),
    }
}
