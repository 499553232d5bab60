//! E: event streams. Every answer comes once in one piece and once in pieces of a byte, and what the
//! record says of it must be the same.

use super::{List, record_of, row_of, sound};
use crate::harness::{Calltap, Request, Step, Upstream, chat, post};
use flate2::{Compression, write::GzEncoder};
use serde_json::{Value, json};
use std::{io::Write, time::Duration};

const EVENTS: &str = "content-type: text/event-stream\r\n";
const TEXT: &str = "/response/choices/0/message/content";
const DONE: &str = "data: [DONE]\n\n";
const STOP: &str =
    "data: {\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\n\n";
/// Longest body that is sent byte by byte.
const PIECES_MAX: usize = 4096;

/// How the connection goes on behind the body.
#[derive(Clone, Copy, PartialEq)]
enum Ends {
    Well,
    /// Before the last chunk.
    Reset,
}

struct Row {
    name: &'static str,
    path: &'static str,
    head: &'static str,
    body: Vec<u8>,
    ends: Ends,
    outcome: &'static str,
    /// What stands where in the record.
    expect: Vec<(&'static str, Value)>,
    /// Part of a note; nothing where there must be none.
    note: &'static str,
}

/// A row about a chat that ends well and without a note.
fn row(name: &'static str, body: impl Into<Vec<u8>>, expect: &[(&'static str, Value)]) -> Row {
    Row {
        name,
        path: "/v1/chat/completions",
        head: EVENTS,
        body: body.into(),
        ends: Ends::Well,
        outcome: "completed",
        expect: expect.to_vec(),
        note: "",
    }
}

impl Row {
    fn outcome(self, outcome: &'static str) -> Self {
        Self { outcome, ..self }
    }

    fn note(self, note: &'static str) -> Self {
        Self { note, ..self }
    }

    fn head(self, head: &'static str) -> Self {
        Self { head, ..self }
    }

    fn at(self, path: &'static str) -> Self {
        Self { path, ..self }
    }
}

/// An event with a delta.
fn delta(delta: &str) -> String {
    format!("data: {{\"choices\":[{{\"index\":0,\"delta\":{delta},\"finish_reason\":null}}]}}\n\n")
}

fn says(text: &str) -> String {
    delta(&format!("{{\"content\":\"{text}\"}}"))
}

/// A stream that says `Hello`, in two events.
fn hello() -> String {
    says("Hel") + &says("lo") + STOP + DONE
}

fn text(text: &str) -> (&'static str, Value) {
    (TEXT, text.into())
}

/// A chunk that reports usage.
fn usage(input: u64, choices: &str) -> String {
    format!(
        "data: {{\"choices\":[{choices}],\"usage\":{{\"prompt_tokens\":{input},\"completion_tokens\":2,\"total_tokens\":{}}}}}\n\n",
        input + 2
    )
}

fn gzip(parts: &[&str]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    for part in parts {
        encoder.write_all(part.as_bytes()).unwrap();
        encoder.flush().unwrap();
    }
    encoder.finish().unwrap()
}

/// How lines, fields and events are written.
fn syntax() -> Vec<Row> {
    let hello = hello();
    let with = |name, body: String| row(name, body, &[text("Hello")]);
    vec![
        with("E1 CR", hello.replace('\n', "\r")),
        with("E1 CR LF", hello.replace('\n', "\r\n")),
        with("E1 mixed", says("Hel").replace('\n', "\r") + &says("lo").replace('\n', "\r\n") + STOP + DONE),
        with("E2 a mark at the start", format!("\u{feff}{hello}")),
        row("E2 a mark before a field", says("Hel") + "\u{feff}" + &says("no") + &says("lo") + STOP + DONE, &[text("Hello")]),
        row("E2 a mark inside", says("Hel\u{feff}lo") + STOP + DONE, &[text("Hel\u{feff}lo")]),
        with("E3 comments", format!(": OPENROUTER PROCESSING\n\n:\n\n:ping\n{}", hello.replace("data:", ": x\ndata:"))),
        with("E4 no space", hello.replace("data: ", "data:")),
        with("E4 two spaces", hello.replace("data: ", "data:  ")),
        with("E4 data alone", format!("data\n\ndata\ndata\n\n{hello}")),
        with("E5 three lines", says("Hel").replace(",\"", ",\ndata: \"") + &says("lo") + STOP + DONE),
        with("E6 other events", format!("event: ping\ndata: {{\"type\":\"ping\"}}\n\nevent: strange\ndata: {{}}\n\n{hello}")),
        with("E6 odd fields", hello.replace("data:", "id: a\0b\nretry: abc\nretry: -1\nfoo: bar\ndata:")),
        row("E6 an error in its middle", says("Hel") + "event: error\ndata: {\"error\":{\"message\":\"overloaded\",\"type\":\"server_error\"}}\n\n", &[text("Hel"), ("/error/message", "overloaded".into())]).outcome("provider_error"),
        row("E6 an error that is text", says("Hel") + "event: error\ndata: overloaded\n\n", &[text("Hel"), ("/error/message", "overloaded".into())]).outcome("provider_error"),
        row("E7", says("😀e\u{301}👩‍👩‍👧") + STOP + DONE, &[text("😀e\u{301}👩‍👩‍👧")]),
        row("E8 bad bytes", bad(b"a\xFFb"), &[text("a\u{fffd}b")]).note("stream_invalid_utf8"),
        row("E8 an overlong form", bad(b"a\xC0\xAFb"), &[text("a\u{fffd}\u{fffd}b")]).note("stream_invalid_utf8"),
        row("E8 a lone continuation", bad(b"a\x80b"), &[text("a\u{fffd}b")]).note("stream_invalid_utf8"),
        row("E8 a surrogate's bytes", bad(b"a\xED\xA0\x80b"), &[text("a\u{fffd}\u{fffd}\u{fffd}b")]).note("stream_invalid_utf8"),
        row("E9 halves in two events", says("a\\ud83d") + &says("\\ude00b") + STOP + DONE, &[text("a😀b")])
        .note("lone_surrogates"),
        row("E9 a lone half", says("a\\ud83d") + &says("b") + STOP + DONE, &[text("a\u{fffd}b")]).note("lone_surrogates"),
    ]
}

/// A stream with these bytes as content.
fn bad(content: &[u8]) -> Vec<u8> {
    let whole = says("@") + STOP + DONE;
    let (before, behind) = whole.split_once('@').unwrap();
    [before.as_bytes(), content, behind.as_bytes()].concat()
}

/// How streams end, and what stands in chunks.
fn meaning() -> Vec<Row> {
    let said = says("Hel") + &says("lo");
    let with = |name, body: String| row(name, body, &[text("Hello")]);
    let choice = |index: &str, text: &str| {
        format!(
            "data: {{\"choices\":[{{\"index\":{index},\"delta\":{{\"content\":\"{text}\"}}}}]}}\n\n"
        )
    };
    let call = |index: usize, rest: &str| {
        delta(&format!("{{\"tool_calls\":[{{\"index\":{index},{rest}}}]}}"))
    };
    let counted = |input: u64| {
        vec![text("Hello"), ("/usage/input", input.into()), ("/usage/source", "provider".into())]
    };
    let stop = "{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}";
    vec![
        with("E10 no DONE behind the end", said.clone() + STOP),
        with("E10 no end", said.clone()).outcome("upstream_truncated"),
        with("E11 data behind DONE", hello() + &says("!")).note("data_after_done"),
        with("E11 two DONE", hello() + DONE).note("data_after_done"),
        with("E11 a space behind DONE", said.clone() + STOP + "data: [DONE] \n\n"),
        row("E11 DONE inside", says("data: [DONE]") + STOP + DONE, &[text("data: [DONE]")]),
        with("E12 no blank line", said.clone() + STOP.trim_end()),
        row("E12 half an event", said.clone() + "data: {\"choices\":[{\"index\":0,\"del", &[text("Hello")]).outcome("upstream_truncated").note("event_cut_short"),
        row("E13 usage behind the end", said.clone() + STOP + &usage(9, "") + DONE, &counted(9)),
        row("E13 usage in every chunk", said.clone() + &usage(9, "{\"index\":0,\"delta\":{\"content\":\"\"}}") + &usage(9, stop) + DONE, &counted(9)),
        row("E13 usage null", said.clone() + STOP + "data: {\"choices\":[],\"usage\":null}\n\n" + &usage(9, "") + DONE, &counted(9)),
        row("E13 usage twice", said.clone() + STOP + &usage(9, "") + &usage(5, "") + DONE, &counted(5)).note("usage_sent_twice_and_different"),
        with("E14", "data: {\"choices\":[],\"prompt_filter_results\":[{\"prompt_index\":0,\"content_filter_results\":{}}]}\n\n".to_owned() + &hello()),
        row("E15 interleaved", choice("1", "b") + &choice("0", "Hel") + &choice("2", "c") + &choice("1", "b") + &choice("0", "lo") + STOP + DONE, &[text("Hello"), ("/response/choices/1/message/content", "bb".into()), ("/response/choices/2/message/content", "c".into())]),
        with("E15 an index of 10⁹", said.clone() + &choice("1000000000", "x") + STOP + DONE).note("choice_index_odd"),
        row("E15 a negative index", said.clone() + &choice("-1", "x") + STOP + DONE, &[]).note("choice_index_odd"),
        with("E15 no index", said.replace("\"index\":0,", "") + STOP + DONE),
        row(
            "E16",
            call(0, "\"id\":\"a\",\"type\":\"function\",\"function\":{\"name\":\"f\",\"arguments\":\"\"}")
                + &call(1, "\"id\":\"b\",\"type\":\"function\",\"function\":{\"name\":\"g\",\"arguments\":\"{bro\"}")
                + &call(0, "\"function\":{\"arguments\":\"{\\\"x\\\":\"}")
                + &call(1, "\"function\":{\"arguments\":\"ken\"}")
                + &call(0, "\"function\":{\"arguments\":\"1}\"}")
                + STOP
                + DONE,
            &[
                ("/response/choices/0/message/tool_calls/0/function/arguments", "{\"x\":1}".into()),
                ("/response/choices/0/message/tool_calls/1/function/arguments", "{broken".into()),
                ("/response/choices/0/message/tool_calls/1/id", "b".into()),
            ],
        ),
        with("E17 100,000 events", "data: {}\n\n".repeat(100_000) + &hello()),
        with("E17 a million lines", "\n".repeat(1_000_000) + &hello()),
        with("E17 8 MB of a comment", format!(":{}\n\n", "x".repeat(8 << 20)) + &hello()),
        row("E17 20 MB without a line", "data: ".to_owned() + &"x".repeat(20 << 20), &[]).note("kept"),
        row("E18", says("\\u0000\\u001b[31m\u{2028}\u{202e}x") + STOP + DONE, &[text("\0\u{1b}[31m\u{2028}\u{202e}x")]),
        row("E18 raw NUL", bad(b"a\0b"), &[]).outcome("completed").note("event_not_json"),
        with("E25", delta("{\"role\":\"assistant\"}") + &delta("{\"content\":null}") + &delta("{\"content\":\"\"}") + &delta("null") + &hello()),
        row("E25 a number", delta("{\"content\":7}") + &hello(), &[])
        .note("content_is_no_text"),
        row("E25 parts", delta("{\"content\":[{\"type\":\"text\",\"text\":\"x\"}]}") + &hello(), &[]),
        Row { ends: Ends::Reset, ..with("E26 a reset before DONE", said.clone() + STOP) }.outcome("upstream_truncated"),
        Row { ends: Ends::Reset, ..with("E26 a reset before the end", said) }.outcome("upstream_truncated"),
    ]
}

/// What an answer says it is, and what it is.
fn kinds() -> Vec<Row> {
    let with = |name, body: String| row(name, body, &[text("Hello")]);
    let plain = r#"{"choices":[{"index":0,"message":{"role":"assistant","content":"Hello"},"finish_reason":"stop"}]}"#;
    vec![
        row(
            "E19 an error",
            r#"{"error":{"message":"no","type":"server_error","code":"c"}}"#,
            &[("/error/code", "c".into())],
        )
        .outcome("provider_error")
        .note("content_type_does_not_fit"),
        row("E19 a page", "<html>oops</html>", &[("/response", "<html>oops</html>".into())])
            .note("content_type_does_not_fit"),
        with("E20 said to be JSON", hello())
            .head("content-type: application/json\r\n")
            .note("content_type_does_not_fit"),
        with("E20 without a type", hello()).head(""),
        with("E20 latin1", hello()).head("content-type: text/event-stream;charset=latin1\r\n"),
        row("E21 gzip", gzip(&[&hello()]), &[text("Hello")])
            .head("content-type: text/event-stream\r\ncontent-encoding: gzip\r\n"),
        row(
            "E21 gzip, an event at a time",
            gzip(&[&says("Hel"), &says("lo"), STOP, DONE]),
            &[text("Hello")],
        )
        .head("content-type: text/event-stream\r\ncontent-encoding: gzip\r\n"),
        row("E21 zstd", zstd::encode_all(hello().as_bytes(), 1).unwrap(), &[text("Hello")])
            .head("content-type: text/event-stream\r\ncontent-encoding: zstd\r\n"),
        row("E27 JSON for a stream", plain, &[text("Hello"), ("/stream", false.into())])
            .head("content-type: application/json\r\n"),
    ]
}

/// A named event with its type inside.
fn part(kind: &str, rest: &str) -> String {
    format!("event: {kind}\ndata: {{\"type\":\"{kind}\"{rest}}}\n\n")
}

/// Streams of Anthropic's messages.
fn messages() -> Vec<Row> {
    let started = part(
        "message_start",
        ",\"message\":{\"id\":\"m\",\"type\":\"message\",\"role\":\"assistant\",\"model\":\"claude\",\"content\":[],\"usage\":{\"input_tokens\":9,\"output_tokens\":1}}",
    );
    let block = |index: usize, text: &str| {
        part(
            "content_block_start",
            &format!(",\"index\":{index},\"content_block\":{{\"type\":\"text\",\"text\":\"\"}}"),
        ) + &part(
            "content_block_delta",
            &format!(
                ",\"index\":{index},\"delta\":{{\"type\":\"text_delta\",\"text\":\"{text}\"}}"
            ),
        )
    };
    vec![
        row(
            "E23 gaps and pings",
            started.clone()
                + &part("ping", "")
                + &block(0, "Hel")
                + &block(4, "lo")
                + &part(
                    "message_delta",
                    ",\"delta\":{\"stop_reason\":\"end_turn\"},\"usage\":{\"output_tokens\":7}",
                )
                + &part("message_stop", ""),
            &[
                ("/usage/input", 9.into()),
                ("/usage/output", 7.into()),
                ("/response/content/0/text", "Hel".into()),
            ],
        )
        .at("/v1/messages"),
        row(
            "E23 an error in its middle",
            started
                + &block(0, "Hel")
                + &part(
                    "error",
                    ",\"error\":{\"type\":\"overloaded_error\",\"message\":\"Overloaded\"}",
                ),
            &[
                ("/error/type", "overloaded_error".into()),
                ("/response/content/0/text", "Hel".into()),
            ],
        )
        .outcome("provider_error")
        .at("/v1/messages"),
    ]
}

/// Streams of responses.
fn responses() -> Vec<Row> {
    let created = part(
        "response.created",
        ",\"response\":{\"id\":\"r\",\"object\":\"response\",\"status\":\"in_progress\",\"output\":[]}",
    );
    let ended = |status: &str, rest: &str| {
        part(
            &format!("response.{status}"),
            &format!(
                ",\"response\":{{\"id\":\"r\",\"object\":\"response\",\"status\":\"{status}\",\"output\":[]{rest}}}"
            ),
        )
    };
    vec![
        row(
            "E24 completed",
            created.clone()
                + &part("response.strange.new", ",\"x\":1")
                + &ended(
                    "completed",
                    ",\"usage\":{\"input_tokens\":9,\"output_tokens\":2,\"total_tokens\":11}",
                ),
            &[("/usage/input", 9.into()), ("/response/status", "completed".into())],
        )
        .at("/v1/responses"),
        row(
            "E24 failed",
            created.clone()
                + &ended("failed", ",\"error\":{\"code\":\"server_error\",\"message\":\"no\"}"),
            &[("/error/code", "server_error".into())],
        )
        .outcome("provider_error")
        .at("/v1/responses"),
        row(
            "E24 incomplete",
            created
                + &ended(
                    "incomplete",
                    ",\"incomplete_details\":{\"reason\":\"max_output_tokens\"}",
                ),
            &[("/response/status", "incomplete".into())],
        )
        .at("/v1/responses"),
    ]
}

fn answer(row: &Row, pieces: bool) -> Vec<Step> {
    let size = if pieces { 1 } else { row.body.len().max(1) };
    let chunk = |part: &[u8]| [format!("{:x}\r\n", part.len()).as_bytes(), part, b"\r\n"].concat();
    let head = format!("HTTP/1.1 200 OK\r\n{}transfer-encoding: chunked\r\n\r\n", row.head);
    let mut bytes = head.into_bytes();
    row.body.chunks(size).for_each(|part| bytes.extend(chunk(part)));
    if row.ends == Ends::Well {
        bytes.extend(b"0\r\n\r\n");
        return vec![Step::Send(bytes)];
    }
    // A reset right behind the bytes would overtake them.
    vec![Step::Send(bytes), Step::Pause(Duration::from_millis(100)), Step::Rst]
}

fn check(calltap: &Calltap, at: usize, row: &Row, pieces: bool) {
    let lines = format!("x-row: {at}\r\nx-pieces: {pieces}\r\n");
    let body =
        r#"{"model":"m","stream":true,"stream_options":{"include_usage":true},"messages":[]}"#;
    let answer = post(calltap.address, row.path, &lines, body);
    assert_eq!(answer.status, 200);
    assert!(answer.body == row.body, "the bytes: {}", answer.body.escape_ascii());
    assert_eq!(answer.whole, row.ends == Ends::Well);
    let record = record_of(calltap, &answer);
    let told = format!("{} {} {}", record["outcome"], record["notes"], record["response"]);
    assert_eq!(record["outcome"], row.outcome, "{told}");
    for (pointer, value) in &row.expect {
        assert_eq!(record.pointer(pointer), Some(value), "{pointer}: {told}");
    }
    let notes = record["notes"].as_array().unwrap();
    let degraded_note = |note: &&Value| !note.as_str().unwrap().starts_with("tokens are counted");
    let degraded: Vec<_> = notes.iter().filter(degraded_note).collect();
    assert!(
        if row.note.is_empty() {
            degraded.is_empty()
        } else {
            notes.iter().any(|note| note.as_str().unwrap().contains(row.note))
        },
        "{told}"
    );
}

#[test]
fn e_events() {
    let rows: std::sync::Arc<Vec<Row>> = std::sync::Arc::new(
        [syntax(), meaning(), kinds(), messages(), responses()].into_iter().flatten().collect(),
    );
    let script = std::sync::Arc::clone(&rows);
    let upstream = Upstream::start(move |request: &Request| match row_of(request) {
        Some(at) => answer(&script[at], request.header("x-pieces") == Some("true")),
        None => chat(1, Duration::ZERO)(request),
    });
    let calltap = Calltap::start(&upstream);
    let (mut list, mut calls) = (List::new('E', 28), 0);
    for (at, row) in rows.iter().enumerate() {
        list.row(row.name, || {
            for pieces in [false, true] {
                if !pieces || row.body.len() <= PIECES_MAX {
                    calls += 1;
                    check(&calltap, at, row, pieces);
                }
            }
        });
    }
    list.row("E27 a stream for JSON", || {
        let hello = rows.iter().position(|row| row.name == "E10 no DONE behind the end").unwrap();
        calls += 1;
        let answer = post(
            calltap.address,
            "/v1/chat/completions",
            &format!("x-row: {hello}\r\n"),
            "{\"model\":\"m\",\"messages\":[]}",
        );
        let record = record_of(&calltap, &answer);
        assert_eq!(
            (&record["stream"], record.pointer(TEXT)),
            (&json!(true), Some(&json!("Hello")))
        );
    });
    list.elsewhere(&[
        ("E1 any split", "codec::split_tests::any_split_gives_the_same_events"),
        ("E1 any stream", "codec::sse_differential_tests::agrees_with_the_standard_on_any_stream"),
        ("E17 a line of 64 MiB", "codec::nasty_tests::an_endless_line_is_passed_over"),
        ("E17 what is not kept", "memory::what_is_too_large_is_cut_and_said"),
        ("E22 silence", "faults::silence_is_a_504_or_a_broken_stream"),
        ("E22 comments meanwhile", "stream::comments_and_keepalives_pass_as_they_arrive"),
        ("E26 any byte", "faults::an_upstream_may_break_off_at_any_byte"),
        ("E28 known meanwhile", "durability::running_calls_appear_as_interrupted_after_a_kill"),
    ]);
    list.untried(&["E28 four hours"]);
    sound(&mut list, &calltap, calls);
    list.end();
}
