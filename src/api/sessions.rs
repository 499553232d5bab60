//! Sessions, and what each call of one added to the conversation.

use super::{ApiError, Context, Parameters, blocking};
use crate::{interpret::restore, model::Record, query::Query};
use axum::{
    Json,
    extract::{Path, State},
};
use serde::Deserialize;
use serde_json::{Value, json};

/// Sessions, and calls of one, on a page.
const SESSIONS: u32 = 50;
const TURNS: usize = 50;
const TURNS_MAX: usize = 100;
/// Bytes of one message that are shown; the call itself has it whole.
const MESSAGE_BYTES_MAX: usize = 16 << 10;

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct SessionParameters {
    q: String,
    limit: Option<u32>,
    after: Option<String>,
    from: Option<String>,
}

pub(super) async fn list(
    State(context): State<Context>,
    Parameters(parameters): Parameters<SessionParameters>,
) -> Result<Json<Value>, ApiError> {
    let query: Query = parameters.q.parse()?;
    let limit = parameters.limit.unwrap_or(SESSIONS);
    let page =
        blocking(move || context.reader.sessions(&query, limit, parameters.after.as_deref()))
            .await?;
    Ok(Json(json!({ "items": page.items, "next": page.next })))
}

pub(super) async fn show(
    State(context): State<Context>,
    Path(session): Path<String>,
) -> Result<Json<Value>, ApiError> {
    let found = blocking(move || context.reader.session(&session)).await?;
    found.map(Json).ok_or_else(|| ApiError::not_found("no call has this session"))
}

pub(super) async fn turns(
    State(context): State<Context>,
    Path(session): Path<String>,
    Parameters(parameters): Parameters<SessionParameters>,
) -> Result<Json<Value>, ApiError> {
    let limit = parameters.limit.map_or(TURNS, |limit| usize::try_from(limit).unwrap_or(TURNS_MAX));
    let limit = limit.clamp(1, TURNS_MAX);
    let page = blocking(move || {
        let (after, from) = (parameters.after.as_deref(), parameters.from.as_deref());
        let turns = context.reader.turns(&session, limit, after, from)?;
        let mut before = turns.before.map(restore);
        let mut items = Vec::with_capacity(turns.calls.len());
        for stored in turns.calls {
            let call = restore(stored);
            items.push(turn(before.as_ref(), &call));
            before = Some(call);
        }
        Ok(json!({ "items": items, "next": turns.next }))
    })
    .await?;
    Ok(Json(page))
}

/// What a call added to the one before it.
fn turn(before: Option<&Record>, call: &Record) -> Value {
    let messages = sent(call);
    let known: Vec<&Value> =
        before.map_or_else(Vec::new, |before| sent(before).iter().chain(answers(before)).collect());
    let resent = messages.iter().zip(&known).take_while(|(new, old)| is_same(new, old)).count();
    let messages: Vec<Value> = messages.iter().skip(resent).map(shortened).collect();
    let answer = match call.response.as_ref() {
        Some(response) => response
            .pointer("/choices/0/message")
            .or_else(|| response.get("output").filter(|output| output.is_array())),
        None => None,
    };
    let mut row = serde_json::to_value(call).unwrap_or_default();
    if let Some(fields) = row.as_object_mut() {
        for name in ["request", "response", "headers", "parameters"] {
            fields.shift_remove(name);
        }
    }
    json!({
        "call": row, "resent": resent, "messages": messages, "answer": answer.map(shortened),
        "truncated": call.request.as_ref().is_some_and(Value::is_string),
    })
}

/// The messages of a request; for Responses its input items.
fn sent(call: &Record) -> &[Value] {
    let list = |name: &str| call.request.as_ref()?.get(name)?.as_array().map(Vec::as_slice);
    list("messages").or_else(|| list("input")).unwrap_or_default()
}

/// What a client sends back of an answer in the next request.
fn answers(call: &Record) -> impl Iterator<Item = &Value> {
    let response = call.response.as_ref();
    let message = response.and_then(|response| response.pointer("/choices/0/message"));
    let items = response.and_then(|response| response.get("output")?.as_array());
    message.into_iter().chain(items.into_iter().flatten())
}

/// Whether two messages say the same: clients leave out and add empty members.
fn is_same(left: &Value, right: &Value) -> bool {
    match (left, right) {
        (Value::Object(left), Value::Object(right)) => [
            "role",
            "type",
            "content",
            "tool_calls",
            "tool_call_id",
            "call_id",
            "name",
            "arguments",
            "output",
        ]
        .iter()
        .all(|name| {
            let said = |value: Option<&Value>| value.filter(|value| !is_empty(value)).map(plain);
            let (left, right) = (said(left.get(*name)), said(right.get(*name)));
            left == right || (*name == "type" && (left.is_none() || right.is_none()))
        }),
        _ => left == right,
    }
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        _ => false,
    }
}

/// Content as text where it is one text part, so that both ways of writing it are equal.
fn plain(value: &Value) -> Value {
    match value.as_array().map(Vec::as_slice) {
        Some([only]) => only.get("text").filter(|text| text.is_string()).unwrap_or(value).clone(),
        _ => value.clone(),
    }
}

/// A message with its long texts cut.
fn shortened(message: &Value) -> Value {
    let size = serde_json::to_string(message).map_or(0, |text| text.len());
    if size <= MESSAGE_BYTES_MAX {
        return message.clone();
    }
    let mut short = message.clone();
    let mut cut = 0;
    cut_texts(&mut short, &mut cut);
    if let Some(fields) = short.as_object_mut() {
        fields.insert("cut_bytes".to_owned(), cut.into());
    }
    short
}

fn cut_texts(value: &mut Value, cut: &mut usize) {
    match value {
        Value::String(text) if text.len() > MESSAGE_BYTES_MAX / 4 => {
            let end = text.floor_char_boundary(MESSAGE_BYTES_MAX / 4);
            *cut += text.len() - end;
            text.truncate(end);
        }
        Value::Array(items) => items.iter_mut().for_each(|item| cut_texts(item, cut)),
        Value::Object(fields) => fields.values_mut().for_each(|field| cut_texts(field, cut)),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(messages: &Value, answer: &Value) -> Record {
        let mut record = crate::interpret::begun(&crate::model::Head::default());
        record.request = Some(json!({ "messages": messages }));
        record.response = Some(json!({ "choices": [{ "message": answer }] }));
        record
    }

    #[test]
    fn only_what_is_new_is_shown() {
        let hi = json!({"role": "user", "content": "hi"});
        let first =
            call(&json!([hi]), &json!({"role": "assistant", "content": "hello", "refusal": null}));
        let more = json!({"role": "user", "content": "more"});
        let second = call(
            &json!([{"role": "user", "content": [{"type": "text", "text": "hi"}]},
                {"role": "assistant", "content": "hello", "tool_calls": []}, more]),
            &json!({"role": "assistant", "content": "yes"}),
        );
        let shown = turn(None, &first);
        assert_eq!((&shown["resent"], &shown["messages"]), (&json!(0), &json!([hi])));
        let shown = turn(Some(&first), &second);
        assert_eq!((&shown["resent"], &shown["messages"]), (&json!(2), &json!([more])));
        assert_eq!(shown["answer"]["content"], "yes");
        assert!(shown["call"].get("request").is_none());
    }

    #[test]
    fn long_messages_are_cut_with_their_count() {
        let long = json!({"role": "user", "content": "é".repeat(20_000)});
        let short = shortened(&long);
        let kept = short["content"].as_str().unwrap().len();
        assert_eq!(short["cut_bytes"], 40_000 - kept);
        assert!(kept <= MESSAGE_BYTES_MAX / 4);
    }
}
