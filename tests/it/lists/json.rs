//! J: bodies of requests, and usage in answers. Whatever it is goes on as it is.

use super::{List, record_of, row_of, sound};
use crate::harness::{
    Answer, Calltap, Request, Step, Upstream, chat, connect_and_send, json_answer,
};
use flate2::{Compression, write::GzEncoder};
use serde_json::Value;
use std::{io::Write, sync::Arc, time::Duration};

struct Row {
    name: &'static str,
    /// Header lines.
    head: String,
    body: Vec<u8>,
    /// What stands where in the record.
    expect: Vec<(&'static str, Value)>,
    /// Part of a note; nothing where it does not matter.
    note: &'static str,
}

const JSON: &str = "content-type: application/json\r\n";
const PLAIN: &str = r#"{"model":"gpt-4o-mini","choices":[{"index":0,"message":{"role":"assistant","content":"ok"},"finish_reason":"stop"}],"usage":{"prompt_tokens":9,"completion_tokens":1,"total_tokens":10}}"#;

fn row(name: &'static str, body: impl Into<Vec<u8>>, note: &'static str) -> Row {
    Row { name, head: JSON.to_owned(), body: body.into(), expect: Vec::new(), note }
}

impl Row {
    fn expect(self, expect: &[(&'static str, Value)]) -> Self {
        Self { expect: expect.to_vec(), ..self }
    }

    fn head(self, head: &str) -> Self {
        Self { head: head.to_owned(), ..self }
    }
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn with_model(model: &str) -> String {
    format!("{{\"model\":{model},\"messages\":[]}}")
}

/// Shapes and sizes.
fn shapes() -> Vec<Row> {
    let many: String = (0..200_000).map(|at| format!("\"k{at}\":0,")).collect();
    let messages: String =
        (0..5000).map(|at| format!("{{\"role\":\"user\",\"content\":\"m{at}\"}},")).collect();
    let image = format!(
        "{{\"messages\":[{{\"role\":\"user\",\"content\":[{{\"type\":\"image_url\",\"image_url\":{{\"url\":\"data:image/png;base64,{}\"}}}}]}}]}}",
        "iVBORw0K".repeat(2 << 20)
    );
    let odd = |name, body: &str| row(name, body, "");
    vec![
        row("J1 lists", format!("{{\"a\":{}{}}}", "[".repeat(100_000), "]".repeat(100_000)), "request_unparsed: nested too deeply"),
        row("J1 objects", format!("{}0{}", "{\"a\":".repeat(100_000), "}".repeat(100_000)), "request_unparsed: nested too deeply"),
        row("J1 without an end", "[".repeat(100_000), "request_unparsed"),
        odd("J2 numbers", r#"{"n":1e400,"m":-0,"e":1E-999999,"f":1.10}"#).expect(&[("/request/f", serde_json::from_str("1.10").unwrap()), ("/request/n", serde_json::from_str("1e400").unwrap())]),
        odd("J2 a number of 100,000 digits", &format!("{{\"n\":{}}}", "7".repeat(100_000))),
        row("J3 two models", r#"{"model":"a","model":"b","stream":true,"stream":false}"#, "request_duplicate_keys").expect(&[("/model/requested", "b".into())]),
        row("J4 a lone half", r#"{"a":"\ud83d"}"#, "request_lone_surrogates").expect(&[("/request/a", "\u{fffd}".into())]),
        odd("J4 NUL", r#"{"a":"\u0000"}"#).expect(&[("/request/a", "\0".into())]),
        row("J4 an unknown escape", r#"{"a":"\x"}"#, "request_unparsed"),
        row("J4 single quotes", "{'a':1}", "request_unparsed"),
        row("J4 a comment", "{/* a */\"a\":1}", "request_unparsed"),
        row("J4 a comma behind", "{\"a\":1,}", "request_unparsed"),
        row("J4 NaN", "{\"a\":NaN}", "request_unparsed"),
        row("J4 bad bytes", b"{\"a\":\"\xFF\"}".to_vec(), "request_invalid_utf8"),
        odd("J5 200,000 keys", &format!("{{{many}\"z\":0}}")),
        odd("J5 5,000 messages", &format!("{{\"model\":\"m\",\"messages\":[{messages}{{\"role\":\"user\",\"content\":\"last\"}}]}}")).expect(&[("/tags/user_query", "last".into())]),
        row("J5 an image of 16 MiB", image, "kept"),
        odd("J6 nothing", ""),
        row("J6 null", "null", "request_unparsed: not an object"),
        row("J6 a list", "[]", "request_unparsed: not an object"),
        row("J6 a text", "\"x\"", "request_unparsed: not an object"),
        row("J6 a number", "7", "request_unparsed: not an object"),
        row("J6 two values", "{}{}", "request_unparsed: not JSON"),
        odd("J6 a mark before", "\u{feff}{\"model\":\"m\"}").expect(&[("/model/requested", "m".into())]),
        row("J6 UTF-16", b"\xFF\xFE{\0}\0".to_vec(), "request_unparsed"),
        odd("J7 a path", &with_model("\"../../x\"")).expect(&[("/model/requested", "../../x".into())]),
        odd("J7 a script", &with_model("\"<script>\"")).expect(&[("/model/requested", "<script>".into())]),
        odd("J7 CR LF", &with_model("\"a\\r\\nb\"")).expect(&[("/model/requested", "a\r\nb".into())]),
        odd("J7 an emoji", &with_model("\"😀\"")).expect(&[("/model/requested", "😀".into())]),
        odd("J7 a megabyte", &with_model(&format!("\"{}\"", "m".repeat(1 << 20)))),
        odd("J7 a list", &with_model("[1]")),
        odd("J7 none", "{\"messages\":[]}"),
        odd("J9 names", r#"{"model":"m","metadata":{"__proto__":"a","constructor":"b","$where":"c","a.b":"d"}}"#).expect(&[("/tags/metadata/__proto__", "a".into()), ("/tags/metadata/$where", "c".into()), ("/tags/metadata/a.b", "d".into())]),
        odd("J9 10,000 keys", &format!("{{\"model\":\"m\",\"metadata\":{{{}\"z\":\"\"}}}}", (0..10_000).map(|at| format!("\"k{at}\":\"v\",")).collect::<String>())),
        odd("J9 no object", r#"{"model":"m","metadata":7}"#),
    ]
}

/// What must not be taken for an order, and bodies that are no plain JSON.
fn contents() -> Vec<Row> {
    let form = |lines: &str| {
        format!(
            "--b\r\ncontent-disposition: form-data; name=\"file\"; filename=\"../../x\"\r\n\r\n{lines}\r\n--b--\r\n"
        )
    };
    let parts = "--b\r\ncontent-disposition: form-data; name=\"a\"\r\n\r\nx\r\n".repeat(20_000)
        + "--b--\r\n";
    let multipart = "content-type: multipart/form-data; boundary=b\r\n";
    let zipped = format!("{JSON}content-encoding: gzip\r\n");
    let hello = br#"{"model":"m","messages":[{"role":"user","content":"zipped"}]}"#;
    vec![
        row("J10", r#"{"model":"m","api_base":"http://127.0.0.1:1/","base_url":"http://127.0.0.1:1/","proxy":"http://127.0.0.1:1/","extra_headers":{"x-evil":"1"},"messages":[]}"#, "").expect(&[("/upstream", "openai".into())]),
        row("J11 a file", form("data"), "").head(multipart),
        row("J11 no boundary", form("data"), "").head("content-type: multipart/form-data\r\n"),
        row("J11 another boundary", form("data"), "").head("content-type: multipart/form-data; boundary=c\r\n"),
        row("J11 20,000 parts", parts, "").head(multipart),
        row("J11 no end", "--b\r\ncontent-disposition: form-data; name=\"a\"\r\n\r\nx", "form_cut_short").head(multipart),
        row("J13 gzip", gzip(hello), "").head(&zipped).expect(&[("/tags/user_query", "zipped".into())]),
        row("J13 gzip that is none", hello.to_vec(), "").head(&zipped),
        row("J13 gzip twice", gzip(&gzip(hello)), "").head(&format!("{JSON}content-encoding: gzip, gzip\r\n")),
        row("J13 an unknown encoding", hello.to_vec(), "").head(&format!("{JSON}content-encoding: rot13\r\n")),
        row("J13 5,000 layers", hello.to_vec(), "").head(&format!("{JSON}content-encoding: {}\r\n", vec!["gzip"; 5000].join(","))),
        row("J13 a bomb", gzip(&vec![b' '; 64 << 20]), "").head(&zipped),
    ]
}

/// Usage that cannot be counted, in answers.
const USAGES: &[(&str, &str)] = &[
    ("J8 negative", "{\"prompt_tokens\":-5,\"completion_tokens\":1}"),
    ("J8 a fraction", "{\"prompt_tokens\":1.5,\"completion_tokens\":1}"),
    ("J8 beyond 2⁶³", "{\"prompt_tokens\":9223372036854775808,\"completion_tokens\":1}"),
    ("J8 beyond everything", "{\"prompt_tokens\":1e400,\"completion_tokens\":1}"),
    ("J8 words", "{\"prompt_tokens\":\"many\",\"completion_tokens\":1}"),
    ("J8 NaN as text", "{\"prompt_tokens\":\"NaN\",\"completion_tokens\":1}"),
    ("J8 a list", "{\"prompt_tokens\":[],\"completion_tokens\":1}"),
    ("J8 a text for all", "\"lots\""),
];

fn send(calltap: &Calltap, at: &str, head: &str, body: &[u8]) -> Answer {
    let head = format!(
        "POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\n{head}x-row: {at}\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    connect_and_send(calltap.address, &[head.as_bytes(), body].concat()).expect("an answer")
}

fn check(calltap: &Calltap, upstream: &Upstream, at: usize, row: &Row) {
    let answer = send(calltap, &at.to_string(), &row.head, &row.body);
    assert_eq!(answer.status, 200, "{}", String::from_utf8_lossy(&answer.body));
    let request = upstream.last().unwrap();
    assert!(
        request.body == row.body,
        "{} bytes went on, not {}",
        request.body.len(),
        row.body.len()
    );
    let record = record_of(calltap, &answer);
    assert_eq!(record["outcome"], "completed");
    for (pointer, value) in &row.expect {
        assert_eq!(record.pointer(pointer), Some(value), "{pointer}");
    }
    assert!(record["notes"].to_string().contains(row.note), "{}", record["notes"]);
    assert_eq!(record["bytes"]["request"], row.body.len());
}

fn answered(request: &Request) -> Vec<Step> {
    match request.header("x-row") {
        None => chat(1, Duration::ZERO)(request),
        Some("more") => {
            let body = "{\"choices\":[]}  {\"more\":1}";
            json_answer(200, body)
        }
        Some("short") => vec![Step::Send(format!("HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 10\r\n\r\n{PLAIN}").into_bytes())],
        Some(at) if at.starts_with('u') => {
            let usage = USAGES[at[1..].parse::<usize>().unwrap()].1;
            json_answer(200, &format!("{{\"model\":\"gpt-4o-mini\",\"choices\":[],\"usage\":{usage}}}"))
        }
        Some(_) if row_of(request).is_some() => json_answer(200, PLAIN),
        Some(_) => json_answer(404, "{}"),
    }
}

#[test]
fn j_bodies() {
    let upstream = Upstream::start(answered);
    let calltap = Calltap::start(&upstream);
    let rows: Arc<Vec<Row>> = Arc::new(shapes().into_iter().chain(contents()).collect());
    let (mut list, mut calls) = (List::new('J', 14), 0);
    let memory = calltap.memory_kib();
    for (at, row) in rows.iter().enumerate() {
        calls += 1;
        list.row(row.name, || check(&calltap, &upstream, at, row));
    }
    list.row("J5 bounds memory", || {
        let grown = calltap.memory_kib().saturating_sub(memory);
        assert!(grown < 400 * 1024, "{grown} KiB more");
    });
    for (at, (name, _)) in USAGES.iter().enumerate() {
        calls += 1;
        list.row(name, || {
            let record = record_of(
                &calltap,
                &send(&calltap, &format!("u{at}"), JSON, b"{\"model\":\"gpt-4o-mini\"}"),
            );
            assert!(record["notes"].to_string().contains("usage_invalid"), "{}", record["notes"]);
            assert_ne!(record["cost"]["status"], "priced", "{}", record["cost"]);
            assert!(record["usage"]["input"].is_null(), "{}", record["usage"]);
        });
    }
    list.row("J10 keys are masked", || {
        calls += 1;
        let secret = "sk-proj-abcDEF0123456789abcDEF0123456789abcDEF01";
        let body = format!("{{\"model\":\"m\",\"api_key\":\"{secret}\",\"messages\":[]}}");
        let answer = send(&calltap, "0", JSON, body.as_bytes());
        assert!(upstream.last().unwrap().body == body.as_bytes());
        assert!(!record_of(&calltap, &answer).to_string().contains("abcDEF0123456789"));
    });
    list.row("J12 text behind", || {
        calls += 1;
        let answer = send(&calltap, "more", JSON, b"{}");
        let record = record_of(&calltap, &answer);
        assert!(
            record["notes"].to_string().contains("response_trailing_text"),
            "{}",
            record["notes"]
        );
    });
    list.row("J12 more than the length", || {
        calls += 1;
        let answer = send(&calltap, "short", JSON, b"{}");
        assert_eq!(answer.body, PLAIN.as_bytes()[..10]);
        let notes = &record_of(&calltap, &answer)["notes"];
        assert!(notes.to_string().contains("response_unparsed"), "{notes}");
    });
    list.elsewhere(&[
        ("J1 in answers", "codec::nasty_tests::bytes_that_are_no_stream"),
        ("J14 credentials", "secrets::planted_secrets_are_found_nowhere"),
        ("J14 shapes", "redact::tests::each_shape_is_masked_wherever_it_stands"),
        ("J14 ordinary text", "redact::tests::ordinary_text_stays"),
        ("J14 cards", "redact::tests::cards"),
        ("J14 addresses", "redact::tests::emails"),
    ]);
    sound(&mut list, &calltap, calls);
    list.end();
}
