//! Assistants: threads, messages, runs and steps, streamed or polled, and the records that calltap
//! makes of their messages.
//!
//! A run's tokens belong to its messages, which have records of their own (SPEC §13.4). So a run keeps
//! the provider's usage object and counts nothing, unless it is a stream without any message.
//! Source: openai-surface.md §9.

mod grow;
mod run;
#[cfg(test)]
mod tests;

use super::{Codec, Meaning, Reading, notes::Notes, reader, request_tags, text, usage};
use crate::model::{CallError, Endpoint, Usage};
use run::Run;
use serde_json::Value;

/// `/threads…` and `/assistants…`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Assistants;

impl Codec for Assistants {
    fn reads(&self, endpoint: &Endpoint) -> bool {
        endpoint.as_str().split('.').next() == Some("assistants")
    }

    fn read(&self, reading: &Reading<'_>) -> Meaning {
        let mut meaning = reader::read(reading, || Box::<Run>::default());
        let mut notes = Notes::default();
        match reading.endpoint.as_str() {
            "assistants.run" => run(&mut meaning, reading, &mut notes),
            "assistants.message" | "assistants.usage" => made(&mut meaning, reading, &mut notes),
            _ => plumbing(&mut meaning),
        }
        meaning.notes.extend(notes.into_lines());
        meaning
    }
}

/// A call that begins or continues a run.
fn run(meaning: &mut Meaning, reading: &Reading<'_>, notes: &mut Notes) {
    meaning.parameters.shift_remove("additional_instructions");
    let request = meaning.request.as_ref();
    let messages = request.and_then(|request| {
        let first = || request.get("thread")?.get("messages");
        request.get("additional_messages").filter(|list| !list.is_null()).or_else(first)
    });
    meaning.tags.user_query = messages.and_then(request_tags::last_user_text);
    let assistant = request.and_then(|request| text::name(request.get("assistant_id")));
    meaning.tags.prompt = meaning.tags.prompt.take().or(assistant);
    let response = meaning.response.take().unwrap_or_default();
    let object = if meaning.stream { &response["run"] } else { &response };
    let thread = text::name(object.get("thread_id")).or_else(|| thread_of(reading.path));
    meaning.tags.session = thread.or_else(|| meaning.tags.session.take());
    about_run(meaning, object);
    let is_answer = |message: &Value| message["role"] == "assistant";
    let answers = response["messages"].as_array().is_some_and(|list| list.iter().any(is_answer));
    if meaning.stream && !answers {
        meaning.usage = usage::read(&object["usage"], reading.provider, notes);
    } else if meaning.usage.is_some() {
        notes.add("the run's tokens are counted in the records of its messages");
    }
    meaning.response = Some(response).filter(|response| !response.is_null());
}

/// A record that calltap made: the request holds the run's facts and the tokens that are counted here.
fn made(meaning: &mut Meaning, reading: &Reading<'_>, notes: &mut Notes) {
    for name in ["thread_id", "run_id", "usage"] {
        meaning.parameters.shift_remove(name);
    }
    let response = meaning.response.take().unwrap_or_default();
    let request = meaning.request.take().unwrap_or_default();
    let run = &request["run"];
    about_run(meaning, run);
    if response["object"] == "thread.message" {
        let reason = text::name(response["incomplete_details"].get("reason"));
        let failed =
            reason.as_deref().is_none_or(|why| matches!(why, "run_failed" | "run_expired"));
        // A message that came whole before its run failed is whole.
        if !failed || response["status"] != "incomplete" {
            meaning.error = None;
        }
        let status = text::name(response.get("status"));
        // A listed message need not say how it ended; then its run does.
        if let Some(reason) = reason.or(status) {
            meaning.finish_reasons = vec![reason];
        }
    }
    meaning.usage = usage::read(&request["usage"], reading.provider, notes);
    meaning.tags.session = text::name(request.get("thread_id"));
    let assistant = text::name(request.get("assistant_id"));
    meaning.tags.prompt = meaning.tags.prompt.take().or(assistant);
    meaning.request = Some(request).filter(|request| !request.is_null());
    meaning.response = Some(response).filter(|response| !response.is_null());
}

/// Everything that is asked for on the way: shown as it is, counted nowhere.
fn plumbing(meaning: &mut Meaning) {
    // Their members are texts of the conversation, not parameters.
    meaning.parameters.clear();
    meaning.tags.user_query = None;
    meaning.usage = None;
    let response = meaning.response.take();
    if let Some(object) = response.as_ref().filter(|object| object["object"] == "thread.run") {
        about_run(meaning, object);
    }
    meaning.response = response;
}

/// What a run object says about itself. Its tokens are kept as they came and not counted here.
fn about_run(meaning: &mut Meaning, run: &Value) {
    meaning.model_served = text::name(run.get("model"));
    let raw = run.get("usage").filter(|usage| usage.is_object()).cloned();
    meaning.usage = raw.map(|raw| Usage { raw: Some(raw), ..Usage::default() });
    let Some(status) = text::name(run.get("status")) else { return };
    let reason = text::name(run["incomplete_details"].get("reason"));
    if is_end(&status) || status == "requires_action" {
        meaning.finish_reasons = vec![if status == "incomplete" {
            reason.unwrap_or_else(|| status.clone())
        } else {
            status.clone()
        }];
    }
    if meaning.error.is_none() && matches!(status.as_str(), "failed" | "expired") {
        let said = &run["last_error"];
        meaning.error = Some(CallError {
            source: "provider".to_owned(),
            kind: Some(format!("run_{status}")),
            code: text::name(said.get("code")).or(Some(status)),
            message: said["message"].as_str().map(|message| text::clip(message, 16 * 1024)),
            param: None,
        });
    }
}

/// Whether a run in this state stays in it.
fn is_end(status: &str) -> bool {
    matches!(status, "completed" | "incomplete" | "failed" | "cancelled" | "expired")
}

/// The thread that a path names.
fn thread_of(path: &str) -> Option<String> {
    let (_, after) = path.split_once("/threads/")?;
    let id = after.split('/').next()?;
    (!id.is_empty() && id != "runs").then(|| text::clip(id, 256))
}
