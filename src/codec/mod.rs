//! Bytes to meaning: pure functions that never fail. What cannot be read is absent, with a note.

mod answer;
mod assistants;
mod body;
mod chat;
mod chunks;
mod completions;
/// Normalised usage and billed tool calls of a provider's own usage object.
pub fn read_usage(raw: &Value, provider: &str) -> (Option<Usage>, Vec<(String, u64)>) {
    let mut notes = notes::Notes::default();
    (usage::read(raw, provider, &mut notes), usage::tools(raw, &mut notes))
}

/// The texts that crossed a websocket in one direction, one a line. Frames of clients are masked, so
/// nothing is found in them as they stand.
pub fn socket_texts(bytes: &[u8]) -> Vec<u8> {
    let mut lines = Vec::new();
    realtime::frames::texts(bytes, &mut notes::Notes::default(), |text, _| {
        // JSON has line feeds between its parts only.
        lines.extend(text.iter().map(|byte| if *byte == b'\n' { b' ' } else { *byte }));
        lines.push(b'\n');
    });
    lines
}

#[cfg(test)]
mod corpus_tests;
mod embeddings;
mod errors;
mod facts;
mod files;
mod form;
mod images;
mod json;
mod merge;
mod messages;
#[cfg(test)]
mod mutation_tests;
#[cfg(test)]
mod nasty_tests;
mod notes;
mod other;
mod parameters;
mod reader;
mod realtime;
mod repeat;
#[cfg(test)]
mod repeat_tests;
mod request;
mod request_tags;
mod responses;
mod speech;
#[cfg(test)]
mod split_tests;
pub mod sse;
#[cfg(test)]
mod sse_differential_tests;
mod stream;
mod sum;
mod text;
mod transcripts;
mod usage;

pub use answer::{answer_text, collect_text};

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
static CODECS: &[&dyn Codec] = &[
    &chat::Chat,
    &completions::Completions,
    &embeddings::Embeddings,
    &responses::Responses,
    &messages::Messages,
    &transcripts::Transcripts,
    &speech::Speech,
    &images::Images,
    &realtime::Realtime,
    &files::Files,
    &assistants::Assistants,
    &other::Other,
];

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
    /// Byte offset just past the first event that reports a failure: a client needs nothing after it.
    pub failed_end: Option<u64>,
    /// Normalised usage, when the provider sent one, or where the request itself is what is billed.
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
    /// The provider's id of the response, where later calls can refer to it.
    pub response_id: Option<String>,
    /// The answer stands with the provider and may be read many times: what it used counts in the
    /// first record that reports it.
    pub is_read_again: bool,
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

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn reading<'a>(endpoint: &'a Endpoint, response: &'a [u8]) -> Reading<'a> {
        Reading {
            endpoint,
            provider: "openai",
            method: "POST",
            path: "/v1/things",
            request: br#"{"model":"asked","input":"x","dimensions":3,"user":"u"}"#,
            status: Some(200),
            content_type: Some("application/json"),
            response,
        }
    }

    #[test]
    fn embeddings() {
        let body =
            br#"{"object":"list","data":[{"object":"embedding","index":0,"embedding":[0.10,1e-5]}],
            "model":"served","usage":{"prompt_tokens":5,"total_tokens":5}}"#;
        let meaning = read(&reading(&Endpoint::from("embeddings"), body));
        assert_eq!(
            (meaning.model_requested.as_deref(), meaning.model_served.as_deref()),
            (Some("asked"), Some("served"))
        );
        assert_eq!(meaning.response.unwrap()["data"][0]["embedding"].to_string(), "[0.10,1e-5]");
        let usage = meaning.usage.unwrap();
        assert_eq!((usage.input, usage.output, usage.total), (Some(5), None, Some(5)));
        assert_eq!(Value::Object(meaning.parameters), json!({"dimensions": 3}));
        assert_eq!((meaning.tags.user.as_deref(), meaning.tags.user_query), (Some("u"), None));
        assert!(meaning.terminal && meaning.finish_reasons.is_empty() && meaning.notes.is_empty());
    }

    #[test]
    fn anything_else() {
        let other = Endpoint::from("other");
        let body =
            br#"{"model":"m","usage":{"input_tokens":2,"output_tokens":3},"service_tier":"flex"}"#;
        let meaning = read(&reading(&other, body));
        assert_eq!(meaning.usage.unwrap().total, Some(5));
        assert_eq!(meaning.service_tier.as_deref(), Some("flex"));
        let polled = read(&Reading { method: "GET", ..reading(&other, body) });
        assert_eq!(polled.usage, None, "counted when it was made");
        let events = b"event: a\ndata: {\"usage\":{\"input_tokens\":2}}\n\ndata: {\"error\":{\"message\":\"m\"}}\n\n";
        let meaning =
            read(&Reading { content_type: Some("text/event-stream"), ..reading(&other, events) });
        assert_eq!(
            (meaning.usage.unwrap().input, meaning.error.unwrap().message.as_deref()),
            (Some(2), Some("m"))
        );
        assert_eq!(meaning.response.unwrap()["events"].as_array().map(Vec::len), Some(2));
        let binary =
            read(&Reading { content_type: Some("audio/mpeg"), ..reading(&other, b"\xFF\xFB\x90") });
        assert_eq!((binary.response, binary.error), (None, None));
    }

    /// Text that is nearly a stream of chunks.
    fn near_chunks() -> impl Strategy<Value = String> {
        let value = prop_oneof![
            Just("null"),
            Just("0"),
            Just("-1"),
            Just("\"x\""),
            Just("\"\""),
            Just("[]"),
            Just("{}"),
            Just("[{}]"),
            Just("[null,1,\"a\",[],{\"text\":\"t\",\"type\":\"text\",\"index\":0,\"id\":\"i\"}]"),
            Just("1e999"),
            Just(
                "{\"name\":[],\"arguments\":{},\"data\":\"=A=\",\"id\":{},\"text\":1,\"content\":[1]}"
            ),
            Just("\"\\ud800\""),
        ];
        let key = prop::sample::select(vec![
            "role",
            "content",
            "refusal",
            "tool_calls",
            "function_call",
            "audio",
            "images",
            "reasoning",
            "reasoning_details",
            "executed_tools",
            "annotations",
            "index",
            "id",
            "thinking_blocks",
        ]);
        let top = prop::sample::select(vec![
            "id", "usage", "x_groq", "error", "choices", "created", "object", "type", "model",
        ]);
        let delta = prop::collection::vec((key, value.clone()), 0..4);
        let event = (delta, top, value.clone(), value).prop_map(|(delta, top, first, second)| {
            let members: Vec<String> =
                delta.iter().map(|(key, value)| format!("\"{key}\":{value}")).collect();
            let choice = format!(
                "{{\"index\":{first},\"delta\":{{{}}},\"logprobs\":{second}}}",
                members.join(",")
            );
            format!("data: {{\"choices\":[{choice}],\"{top}\":{second}}}\n\n")
        });
        prop::collection::vec(event, 0..6).prop_map(|events| events.concat())
    }

    proptest! {
        #[test]
        fn nothing_panics(body in near_chunks(), status in prop::option::of(100_u16..600), cut in any::<prop::sample::Index>()) {
            for name in ["chat.completions", "completions", "embeddings", "responses", "assistants.run", "audio.transcriptions", "audio.speech", "images.generations", "other"] {
                let endpoint = Endpoint::from(name);
                let bytes = body.as_bytes();
                let bytes = &bytes[..bytes.len() - cut.index(bytes.len() + 1)];
                let stream = Reading { content_type: None, status, ..reading(&endpoint, bytes) };
                let meaning = read(&stream);
                // What was read can be written and read again.
                let written = serde_json::to_string(&meaning.response).unwrap();
                prop_assert_eq!(serde_json::from_str::<Option<Value>>(&written).unwrap(), meaning.response.filter(|v| !v.is_null()));
                read(&Reading { request: bytes, ..stream });
            }
        }
    }
}
