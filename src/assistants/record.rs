//! The exchange that stands for a message: what led to it as the request, the message itself as the
//! response. It is read like any other, and can be read again.

use super::thread::{Message, Run};
use crate::model::{Body, ChunkLog, End, Endpoint, Exchange, Head, Timing};
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};
use std::sync::Arc;
use uuid::Uuid;

/// Members of a run that shaped its answer.
const PARAMETERS: &[&str] = &[
    "instructions",
    "tools",
    "tool_choice",
    "parallel_tool_calls",
    "temperature",
    "top_p",
    "reasoning_effort",
    "response_format",
    "max_prompt_tokens",
    "max_completion_tokens",
    "truncation_strategy",
    "metadata",
];
/// Members that say how it went.
const COURSE: &[&str] = &[
    "id",
    "status",
    "model",
    "created_at",
    "started_at",
    "completed_at",
    "failed_at",
    "cancelled_at",
    "incomplete_details",
    "last_error",
    "usage",
];

/// A record to be made: the exchange to read, and what the exchange cannot say.
#[derive(Clone, Debug)]
pub struct Derived {
    /// What is read.
    pub exchange: Exchange,
    /// Times of the message, not of an exchange.
    pub timing: Timing,
    /// Whether it came as a stream.
    pub stream: bool,
}

/// The run that is told of.
#[derive(Clone, Copy, Debug)]
pub(super) struct Telling<'a> {
    pub(super) thread: &'a str,
    pub(super) run: &'a Run,
}

impl Telling<'_> {
    /// The record of a message. `place` says whether it is the first and the last of its run.
    pub(super) fn of_message(
        self,
        message: &Message,
        question: Option<Value>,
        share: Option<Value>,
        steps: Vec<Value>,
        place: (bool, bool),
    ) -> Derived {
        let run = self.run;
        let mut notes = Vec::new();
        if share.is_none() {
            notes.push(self.missing_tokens().to_owned());
        }
        let timing = self.timing(message, place, &mut notes);
        let mut request = self.request(question, share);
        if !steps.is_empty() {
            request.insert("steps".to_owned(), Value::Array(steps));
        }
        let id = message.object["id"].as_str().unwrap_or_default();
        let mut derived = self.exchange("message", id, request, &message.object, timing);
        let exchange = &mut derived.exchange;
        exchange.notes = notes;
        if message.object["status"] == "in_progress" && !run.has_ended() {
            let left = message.streamed.as_ref().is_some_and(|streamed| streamed.client_left);
            exchange.end = if left {
                End::ClientGone
            } else {
                End::UpstreamBroke("the end of the message was not seen".to_owned())
            };
        }
        let head = Arc::make_mut(&mut exchange.head);
        head.keep_content &= message.keep;
        if let Some(streamed) = &message.streamed {
            head.started_at = streamed.started_at;
            derived.stream = true;
        }
        derived
    }

    /// The record of tokens that no message tells of.
    pub(super) fn of_tokens(self) -> Derived {
        let run = self.run;
        let request = self.request(None, run.object.get("usage").cloned());
        let timing = self.timing_of_run();
        let mut derived = self.exchange("usage", &run.id, request, &run.object, timing);
        derived.exchange.notes =
            vec!["no message of this run was seen; its tokens stand here".into()];
        derived
    }

    fn missing_tokens(self) -> &'static str {
        match &self.run.object {
            Value::Null => "the run of this message was not seen: its tokens are unknown",
            _ if !self.run.has_ended() => "the end of the run was not seen: its tokens are unknown",
            run if run["usage"].is_object() => "the run's tokens are counted in another record",
            _ => "the provider gave no tokens for the run",
        }
    }

    /// A JSON body that a chat would know: model, messages, parameters; beside them the run's course.
    fn request(self, question: Option<Value>, share: Option<Value>) -> Map<String, Value> {
        let run = self.run;
        let mut request = Map::new();
        let mut put = |key: &str, value: Value| {
            let is_empty = match &value {
                Value::Null => true,
                Value::Array(items) => items.is_empty(),
                Value::Object(members) => members.is_empty(),
                _ => false,
            };
            if !is_empty {
                request.insert(key.to_owned(), value);
            }
        };
        let served = &run.object["model"];
        put("model", run.made.model.as_ref().map_or_else(|| served.clone(), |m| m.clone().into()));
        put(
            "messages",
            question.map_or(Value::Null, |text| json!([{"role": "user", "content": text}])),
        );
        for name in PARAMETERS {
            put(name, run.object[*name].clone());
        }
        put("assistant_id", run.object["assistant_id"].clone());
        put("thread_id", self.thread.into());
        put("run_id", run.id.clone().into());
        let mut course = Map::new();
        for name in COURSE {
            if let Some(value) = run.object.get(*name).filter(|value| !value.is_null()) {
                course.insert((*name).to_owned(), value.clone());
            }
        }
        course.insert("call".to_owned(), run.made.call.to_string().into());
        put("run", course.into());
        put("usage", share.unwrap_or_default());
        request
    }

    fn exchange(
        self,
        kind: &str,
        id: &str,
        request: Map<String, Value>,
        response: &Value,
        timing: Timing,
    ) -> Derived {
        let made = &self.run.made;
        let head = Head {
            id: self.id_of(kind, id),
            started_at: made.started_at,
            method: made.method.clone(),
            path: made.path.clone(),
            endpoint: Endpoint::from(format!("assistants.{kind}").as_str()),
            upstream: made.upstream.as_str().into(),
            provider: made.provider.as_str().into(),
            host: made.host.as_deref().map(Into::into),
            tags: made.tags.clone(),
            keep_content: made.keep,
            sinks: made.sinks.clone(),
            client: made.client.clone(),
            trace: made.trace.clone(),
            ..Head::default()
        };
        let response = body(response.to_string());
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "saturates")]
        let ended_us = (timing.latency_ms * 1000.0) as u64;
        let exchange = Exchange {
            head: Arc::new(head),
            request: body(Value::Object(request).to_string()),
            status: Some(200),
            response_headers: Vec::new(),
            delivered: response.total,
            response,
            chunks: ChunkLog::default(),
            ended_us,
            overhead_us: 0,
            end: End::Complete,
            notes: Vec::new(),
        };
        Derived { exchange, timing, stream: false }
    }

    /// The same for the same message wherever and however often it is seen.
    fn id_of(self, kind: &str, id: &str) -> Uuid {
        let upstream = &self.run.made.upstream;
        let digest = Sha256::digest(format!("calltap\n{kind}\n{upstream}\n{}\n{id}", self.thread));
        let mut bytes = [0; 16];
        bytes.iter_mut().zip(digest).for_each(|(byte, from)| *byte = from);
        uuid::Builder::from_custom_bytes(bytes).into_uuid()
    }

    /// Times from the stream where the message had one to itself, else from the provider's clock.
    fn timing(self, message: &Message, place: (bool, bool), notes: &mut Vec<String>) -> Timing {
        let mut timing = match &message.streamed {
            Some(streamed) => Timing {
                first_byte_ms: streamed.first_byte_ms,
                ttft_ms: streamed.ttft_ms,
                latency_ms: if streamed.alone { streamed.latency_ms } else { 0.0 },
                ..Timing::default()
            },
            None => Timing::default(),
        };
        if timing.latency_ms == 0.0 {
            let (message, run) = (&message.object, &self.run.object);
            let (first, last) = place;
            let start = if first { &run["created_at"] } else { &message["created_at"] };
            let end = [&message["completed_at"], &message["incomplete_at"]]
                .into_iter()
                .chain(last.then_some(&run["completed_at"]))
                .find(|end| end.is_u64());
            match seconds(start, end.unwrap_or(&Value::Null)) {
                Some(ms) => {
                    timing.latency_ms = ms;
                    notes.push("timed by the provider's clock, to the second".to_owned());
                }
                None => {
                    notes.push("latency unknown: neither stream nor provider tells it".to_owned());
                }
            }
        }
        timing
    }

    fn timing_of_run(self) -> Timing {
        let run = &self.run.object;
        let ends = ["completed_at", "failed_at", "cancelled_at"];
        let end = ends.into_iter().map(|end| &run[end]).find(|end| end.is_u64());
        let latency_ms = seconds(&run["created_at"], end.unwrap_or(&Value::Null)).unwrap_or(0.0);
        Timing { latency_ms, ..Timing::default() }
    }
}

/// Milliseconds between two times in whole seconds.
fn seconds(start: &Value, end: &Value) -> Option<f64> {
    let seconds = end.as_u64()?.checked_sub(start.as_u64()?)?;
    u32::try_from(seconds).ok().map(|seconds| f64::from(seconds) * 1000.0)
}

fn body(text: String) -> Body {
    let kept = bytes::Bytes::from(text);
    let sha256 = Some(Sha256::digest(&kept).into());
    Body { total: u64::try_from(kept.len()).unwrap_or(u64::MAX), sha256, kept }
}
