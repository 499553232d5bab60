//! Every codec: nothing panics, and what was read can be written and read again.

#![no_main]

use calltap::{
    codec::{self, Reading},
    model::Endpoint,
};
use libfuzzer_sys::fuzz_target;
use serde_json::Value;

const PATHS: &[&str] = &[
    "/v1/chat/completions",
    "/v1/completions",
    "/v1/embeddings",
    "/v1/responses",
    "/v1/threads/t/runs",
    "/v1/threads/t/runs/r",
    "/v1/threads/t/messages",
    "/v1/images/generations",
    "/v1/audio/transcriptions",
    "/v1/audio/speech",
    "/v1/moderations",
    "/v1/models",
    "/v1/files/f/content",
    "/v1/batches",
    "/v1/realtime",
    "/v1/conversations",
    "/v1/messages",
    "/anything",
];
const PROVIDERS: &[&str] =
    &["openai", "azure", "xai", "gemini", "mistral", "deepseek", "perplexity", "anthropic"];
const TYPES: &[Option<&str>] =
    &[None, Some("text/event-stream"), Some("application/json"), Some("audio/mpeg")];

/// One of `list`, by a letter from `a` on.
fn chosen<T: Copy>(list: &[T], letter: u8) -> T {
    list[usize::from(letter.wrapping_sub(b'a')) % list.len()]
}

fuzz_target!(|input: &[u8]| {
    let [path, provider, kind, status, bytes @ ..] = input else { return };
    // The request stands before a byte that neither JSON nor UTF-8 has.
    let at = bytes.iter().position(|byte| *byte == 0xFE);
    let (request, response) = at.map_or((&b"{}"[..], bytes), |at| (&bytes[..at], &bytes[at + 1..]));
    let path = chosen(PATHS, *path);
    let method = if path.ends_with("/content") || path.ends_with("/r") { "GET" } else { "POST" };
    let endpoint = Endpoint::of_call(method, path);
    let meaning = codec::read(&Reading {
        endpoint: &endpoint,
        provider: chosen(PROVIDERS, *provider),
        method,
        path,
        request,
        status: chosen(&[None, Some(200), Some(400), Some(101)], *status),
        content_type: chosen(TYPES, *kind),
        response,
    });
    codec::socket_texts(response);
    for value in [&meaning.request, &meaning.response].into_iter().flatten() {
        let text = serde_json::to_string(value).expect("values can be written");
        let back: Value = serde_json::from_str(&text).expect("and read");
        assert_eq!(&back, value);
        codec::answer_text(value);
    }
    let len = response.len() as u64;
    for offset in
        [meaning.terminal_end, meaning.first_output, meaning.last_output].into_iter().flatten()
    {
        assert!(offset <= len);
    }
});
