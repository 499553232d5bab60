//! Bytes to meaning: pure functions that never fail. What cannot be read is absent, with a note.

mod body;
mod chat;
mod chunks;
mod completions;
#[cfg(test)]
mod corpus_tests;
mod embeddings;
mod errors;
mod facts;
mod json;
mod merge;
mod notes;
mod other;
mod parameters;
mod reader;
mod request;
mod request_tags;
pub mod sse;
mod stream;
mod text;
mod usage;

use crate::model::{CallError, Endpoint, Tags, Usage};
use serde_json::{Map, Value};

/// How the exchanges of one API are read: one file, and one line in [`CODECS`].
trait Codec: Sync {
    /// Whether the codec is for this endpoint.
    fn reads(&self, endpoint: &Endpoint) -> bool;

    /// Reads an exchange. Never fails.
    fn read(&self, reading: &Reading<'_>) -> Meaning;
}

/// Every codec; the first that reads an endpoint is used, the last reads all.
static CODECS: &[&dyn Codec] =
    &[&chat::Chat, &completions::Completions, &embeddings::Embeddings, &other::Other];

/// An exchange as a codec sees it: content-decoded, whole as far as it was kept.
#[derive(Clone, Copy, Debug)]
pub struct Reading<'a> {
    /// The API.
    pub endpoint: &'a Endpoint,
    /// Provider slug.
    pub provider: &'a str,
    /// Request method.
    pub method: &'a str,
    /// Request path without query.
    pub path: &'a str,
    /// Request body, without the `calltap` member.
    pub request: &'a [u8],
    /// Status of the answer, if there was one.
    pub status: Option<u16>,
    /// `Content-Type` of the answer.
    pub content_type: Option<&'a str>,
    /// Response body.
    pub response: &'a [u8],
}

/// What an exchange meant.
#[derive(Clone, Debug, Default)]
pub struct Meaning {
    /// Model asked for (body, else Azure deployment in the path).
    pub model_requested: Option<String>,
    /// Model that answered.
    pub model_served: Option<String>,
    /// Whether the answer was an event stream.
    pub stream: bool,
    /// Request body as JSON; text when it is not JSON; `None` when empty or binary.
    pub request: Option<Value>,
    /// What the non-streaming endpoint would have returned, as far as it came.
    pub response: Option<Value>,
    /// The provider's error, from an error answer or from inside the stream.
    pub error: Option<CallError>,
    /// One a choice, in order of the choices.
    pub finish_reasons: Vec<String>,
    /// A finish reason or a terminal event was seen, or a plain JSON body parsed whole.
    pub terminal: bool,
    /// Byte offset just past the first terminal event (`[DONE]`, …) in `response`; the client has
    /// everything once it has this much.
    pub terminal_end: Option<u64>,
    /// Normalised usage, `source: provider`, when the provider sent one.
    pub usage: Option<Usage>,
    /// Tier that the provider says it served.
    pub service_tier: Option<String>,
    /// Billed tool calls by price unit (`web_search`, …).
    pub tools: Vec<(String, u64)>,
    /// Byte offset just past the event with the first generated output; streams only.
    pub first_output: Option<u64>,
    /// Index of that event among the events with data.
    pub first_output_event: Option<usize>,
    /// Byte offset just past the event with the last generated output; streams only.
    pub last_output: Option<u64>,
    /// Events with generated output.
    pub output_events: u64,
    /// Hyper-parameters of the request.
    pub parameters: Map<String, Value>,
    /// Metadata from the request's own fields: `metadata`, `user`, `safety_identifier`, `prompt.id`,
    /// `conversation`, and `user_query` from the last user message.
    pub tags: Tags,
    /// What was odd.
    pub notes: Vec<String>,
}

/// Reads an exchange.
pub fn read(reading: &Reading<'_>) -> Meaning {
    let codec = CODECS.iter().find(|codec| codec.reads(reading.endpoint));
    codec.map_or_else(Meaning::default, |codec| codec.read(reading))
}
