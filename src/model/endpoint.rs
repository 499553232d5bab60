//! Which API a path belongs to. Routes by path suffix, never by a literal `/v1/` prefix.

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::borrow::Cow;

/// The API a call used, written as in the record: `chat.completions`, `embeddings`, … or `other`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Endpoint(Cow<'static, str>);

/// Path suffix patterns, most specific first; `*` stands for one segment.
/// Source: the endpoint map of the OpenAI API description (2026-08-21).
const PATTERNS: &[(&str, &str)] = &[
    ("/chat/completions", "chat.completions"),
    ("/chat/completions/*", "chat.completions.stored"),
    ("/chat/completions/*/messages", "chat.completions.stored"),
    ("/threads/*/runs/*/submit_tool_outputs", "assistants.run"),
    ("/threads/*/runs/*/steps", "assistants.steps"),
    ("/threads/*/runs/*/steps/*", "assistants.steps"),
    ("/threads/*/runs/*/cancel", "assistants.runs"),
    ("/threads/*/runs/*", "assistants.runs"),
    ("/threads/*/runs", "assistants.run"),
    ("/threads/runs", "assistants.run"),
    ("/threads/*/messages", "assistants.messages"),
    ("/threads/*/messages/*", "assistants.messages"),
    ("/threads", "assistants.threads"),
    ("/threads/*", "assistants.threads"),
    ("/assistants", "assistants"),
    ("/assistants/*", "assistants"),
    ("/responses", "responses"),
    ("/responses/compact", "responses.compact"),
    ("/responses/input_tokens", "responses.input_tokens"),
    ("/responses/*/cancel", "responses"),
    ("/responses/*/input_items", "responses.input_items"),
    ("/responses/*", "responses"),
    ("/conversations", "conversations"),
    ("/conversations/*", "conversations"),
    ("/conversations/*/items", "conversations"),
    ("/conversations/*/items/*", "conversations"),
    ("/messages", "messages"),
    ("/embeddings", "embeddings"),
    ("/completions", "completions"),
    ("/images/generations", "images.generations"),
    ("/images/edits", "images.edits"),
    ("/images/variations", "images.variations"),
    ("/audio/transcriptions", "audio.transcriptions"),
    ("/audio/translations", "audio.translations"),
    ("/audio/speech", "audio.speech"),
    ("/moderations", "moderations"),
    ("/models", "models"),
    ("/models/*", "models"),
    ("/files", "files"),
    ("/files/*", "files"),
    ("/files/*/content", "files"),
    ("/uploads", "uploads"),
    ("/uploads/*", "uploads"),
    ("/uploads/*/*", "uploads"),
    ("/batches", "batches"),
    ("/batches/*", "batches"),
    ("/batches/*/cancel", "batches"),
    ("/vector_stores", "vector_stores"),
    ("/vector_stores/*", "vector_stores"),
    ("/realtime", "realtime"),
    ("/realtime/*", "realtime.session"),
];

impl Endpoint {
    /// The endpoint that `path` (without query) ends in; `other` where none is known.
    pub fn of(path: &str) -> Self {
        let path = path.trim_end_matches('/');
        let segments: Vec<&str> = path.split('/').skip(1).collect();
        let known = PATTERNS.iter().find(|(pattern, _)| ends_with(&segments, pattern));
        Self(Cow::Borrowed(known.map_or("other", |(_, name)| name)))
    }

    /// The endpoint of a call. Where runs begin, they are listed too; that is another thing.
    pub fn of_call(method: &str, path: &str) -> Self {
        let endpoint = Self::of(path);
        let lists = endpoint.as_str() == "assistants.run" && method != "POST";
        if lists { Self(Cow::Borrowed("assistants.runs")) } else { endpoint }
    }

    /// The name as it stands in the record.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether a stream of this endpoint takes `stream_options.include_usage`.
    pub fn has_stream_usage(&self) -> bool {
        matches!(self.as_str(), "chat.completions" | "completions")
    }
}

/// Whether the last segments fit; `*` takes any one that is not empty.
fn ends_with(segments: &[&str], pattern: &str) -> bool {
    let wanted: Vec<&str> = pattern.split('/').skip(1).collect();
    segments.len() >= wanted.len()
        && segments[segments.len() - wanted.len()..]
            .iter()
            .zip(&wanted)
            .all(|(have, want)| if *want == "*" { !have.is_empty() } else { have == want })
}

impl From<&str> for Endpoint {
    fn from(name: &str) -> Self {
        PATTERNS.iter().find(|(_, known)| *known == name).map_or_else(
            || Self(Cow::Owned(name.to_owned())),
            |(_, known)| Self(Cow::Borrowed(known)),
        )
    }
}

impl Serialize for Endpoint {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Endpoint {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Self::from(Cow::<'_, str>::deserialize(deserializer)?.as_ref()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_are_found_by_suffix() {
        for (path, endpoint) in [
            ("/v1/chat/completions", "chat.completions"),
            ("/chat/completions/", "chat.completions"),
            ("/openai/deployments/my-gpt/chat/completions", "chat.completions"),
            ("/api/coding/paas/v4/chat/completions", "chat.completions"),
            ("/v1/completions", "completions"),
            ("/v1/embeddings", "embeddings"),
            ("/v1/threads/runs", "assistants.run"),
            ("/v1/threads/t1/runs/r1/submit_tool_outputs", "assistants.run"),
            ("/threads/t1/runs", "assistants.run"),
            ("/openai/threads/t1/runs/r1", "assistants.runs"),
            ("/v1/threads/t1/runs/r1/cancel", "assistants.runs"),
            ("/v1/threads/t1/runs/r1/steps", "assistants.steps"),
            ("/v1/threads/t1/messages", "assistants.messages"),
            ("/v1/messages", "messages"),
            ("/v1/chat/completions/c1/messages", "chat.completions.stored"),
            ("/v1/threads/t1", "assistants.threads"),
            ("/v1/responses/resp_1", "responses"),
            ("/v1/models/gpt-4o", "models"),
            ("/v1/new/thing", "other"),
            ("/", "other"),
        ] {
            assert_eq!(Endpoint::of(path).as_str(), endpoint, "{path}");
        }
        let runs = |method| Endpoint::of_call(method, "/v1/threads/t1/runs");
        assert_eq!(
            (runs("POST").as_str(), runs("GET").as_str()),
            ("assistants.run", "assistants.runs")
        );
    }
}
