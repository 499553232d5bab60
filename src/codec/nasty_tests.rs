//! Bad input, for every codec alike (`reliability.md` §3.2 and §3.3): a record comes of it, with a note
//! where something was lost, and it is never much larger than what came in.

use super::{Meaning, Reading, read};
use crate::model::Endpoint;

const ENDPOINTS: &[&str] = &[
    "chat.completions",
    "completions",
    "embeddings",
    "responses",
    "assistants.run",
    "audio.transcriptions",
    "audio.speech",
    "images.generations",
    "moderations",
    "files",
    "batches",
    "models",
    "realtime",
    "messages",
    "other",
];

const EVENTS: &str = "text/event-stream";
const JSON: &str = "application/json";

/// What an event of each endpoint looks like around a text and a number.
const SHAPES: &[&str] = &[
    r##"{"choices":[{"index":@,"delta":{"content":"#","tool_calls":[{"index":@,"id":"#","function":{"name":"#","arguments":"#"}}]}}],"usage":{"prompt_tokens":@}}"##,
    r##"{"choices":[{"index":@,"text":"#"}],"usage":{"total_tokens":@}}"##,
    r##"{"type":"response.output_text.delta","output_index":@,"content_index":@,"delta":"#"}"##,
    r##"{"type":"response.completed","response":{"status":"#","output":[],"usage":{"input_tokens":@,"output_tokens":@}}}"##,
    r##"{"type":"transcript.text.delta","delta":"#"}"##,
    r##"{"type":"speech.audio.delta","audio":"#"}"##,
    r##"{"type":"image_generation.completed","b64_json":"#","created_at":@}"##,
    r##"{"id":"#","object":"thread.message.delta","delta":{"content":[{"index":@,"type":"text","text":{"value":"#"}}]}}"##,
    r##"{"type":"response.done","response":{"id":"#","usage":{"input_tokens":@}}}"##,
];

const TEXTS: &[&str] =
    &["", "a", "\\ud83d", "\\ude00", "\\u0000", "[DONE]", "\\u001b[31m", "\u{2028}", "😀", "\\x"];
const NUMBERS: &[&str] = &[
    "0",
    "-1",
    "1000000000",
    "9223372036854775808",
    "1e400",
    "1.5",
    "-0",
    "null",
    "\"7\"",
    "[]",
    "{}",
    "true",
    "NaN",
];

fn meaning(endpoint: &str, status: u16, content_type: &str, body: &[u8]) -> Meaning {
    read(&Reading {
        endpoint: &Endpoint::from(endpoint),
        provider: "openai",
        method: "POST",
        path: "/v1/files/f/content",
        request: body,
        status: Some(status),
        content_type: Some(content_type),
        response: body,
    })
}

/// Reads a body as every endpoint, announced in every way.
fn everywhere(body: &[u8]) {
    for endpoint in ENDPOINTS {
        for (status, content_type) in [
            (200, EVENTS),
            (200, JSON),
            (200, "text/event-stream;charset=latin1"),
            (500, JSON),
            (101, ""),
        ] {
            let meaning = meaning(endpoint, status, content_type, body);
            let size = meaning.response.map_or(0, |response| response.to_string().len());
            assert!(size <= body.len() * 12 + 1000, "{endpoint}: {size} from {}", body.len());
            assert!(meaning.notes.len() < 32, "{endpoint}: {:?}", meaning.notes);
        }
    }
}

#[test]
fn shapes_with_odd_texts_and_numbers() {
    for shape in SHAPES {
        for text in TEXTS {
            let body: String = NUMBERS
                .iter()
                .map(|number| {
                    format!("data: {}\n\n", shape.replace('#', text).replace('@', number))
                })
                .collect();
            everywhere(body.as_bytes());
        }
    }
}

#[test]
fn bytes_that_are_no_stream() {
    let deep = b"[".repeat(100_000);
    let events = |text: &[u8]| [b"data: ", text, b"\n\n"].concat();
    let bodies: Vec<Vec<u8>> = vec![
        vec![],
        b"null".to_vec(),
        b"[]".to_vec(),
        b"\"x\"".to_vec(),
        b"7 8".to_vec(),
        b"{}{}".to_vec(),
        b"\xEF\xBB\xBF{}".to_vec(),
        b"\xFF\xFE{\0}\0".to_vec(),
        b"{\"a\":1e400,\"b\":-0,\"c\":1E-999999}".to_vec(),
        b"{'a':1,}".to_vec(),
        b"<html>502</html>".to_vec(),
        b"data".to_vec(),
        b"data:\n\ndata\n\n: only\n\n".to_vec(),
        b"\r\r\r\n\n\r".to_vec(),
        b"data: \xF0\x9F\x98\n\n".to_vec(),
        b"data: {\"choices\":[{\"delta\":{\"content\":\"\xC0\xAF\xED\xA0\x80\"}}]}\n\n".to_vec(),
        b"event: error\ndata: broken\n\nid: \0\nretry: -1\n\n".to_vec(),
        b"data: [DONE] \n\ndata: [DONE]\n\ndata: {\"choices\":[]}\n\n".to_vec(),
        b"--x\r\n\r\n--x\r\n".to_vec(),
        events(&deep),
        deep.clone(),
        b"{\"a\":".repeat(50_000),
        b"\n".repeat(1_000_000),
        b"data: {}\n\n".repeat(20_000),
        b"\x81".repeat(100_000),
        vec![0; 100_000],
    ];
    for body in bodies {
        everywhere(&body);
    }
}

#[test]
fn an_endless_line_is_passed_over() {
    let mut body = b"data: {\"choices\":[{\"delta\":{\"content\":\"kept\"}}]}\n\ndata: ".to_vec();
    body.resize(64 << 20, b'x');
    body.extend_from_slice(b"\n\ndata: [DONE]\n\n");
    let meaning = meaning("chat.completions", 200, EVENTS, &body);
    assert_eq!(meaning.response.unwrap()["choices"][0]["message"]["content"], "kept");
    assert!(meaning.notes.contains(&"event_too_long".to_owned()), "{:?}", meaning.notes);
    assert!(meaning.terminal);
}

#[test]
fn what_is_lost_is_noted() {
    for (endpoint, content_type, body, note) in [
        ("chat.completions", EVENTS, "{\"choices\":[]}", "content_type_does_not_fit"),
        (
            "responses",
            JSON,
            "data: {\"type\":\"response.created\",\"response\":{}}\n\n",
            "content_type_does_not_fit",
        ),
        ("responses", EVENTS, "data: {\"type\":\n\n", "event_not_json"),
        (
            "responses",
            EVENTS,
            "data: {\"type\":\"response.output_text.delta\",\"output_index\":\"x\",\"delta\":\"\"}\n\n",
            "output_index_odd",
        ),
        ("images.generations", EVENTS, "data: {\"type\":\"image_generation.com", "event_cut_short"),
        (
            "chat.completions",
            JSON,
            "{\"usage\":{\"prompt_tokens\":-5}}",
            "usage_invalid: prompt_tokens",
        ),
        ("audio.transcriptions", JSON, "{\"text\":", "response_unparsed: not JSON"),
        ("responses", JSON, "{\"output\":1,\"output\":2}", "response_duplicate_keys"),
    ] {
        let meaning = meaning(endpoint, 200, content_type, body.as_bytes());
        assert!(meaning.notes.iter().any(|found| found == note), "{body}: {:?}", meaning.notes);
    }
}
