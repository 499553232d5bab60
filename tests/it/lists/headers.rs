//! K: headers and metadata.

use super::{List, record_of, sound};
use crate::harness::{
    Answer, Calltap, Request, Step, Upstream, chat, chat_body, connect_and_send, json_answer,
};
use serde_json::Value;
use sha2::Digest;
use std::time::Duration;

/// A call with these header lines; the answer, and what went upstream.
fn call(calltap: &Calltap, upstream: &Upstream, lines: &[u8]) -> (Answer, Option<Request>) {
    let before = upstream.requests().len();
    let body = chat_body(false);
    let head = b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\n";
    let rest = format!("content-length: {}\r\n\r\n{body}", body.len());
    let answer = connect_and_send(calltap.address, &[head, lines, rest.as_bytes()].concat());
    (answer.expect("an answer"), upstream.requests().split_off(before).pop())
}

fn values<'a>(request: &'a Request, name: &str) -> Vec<&'a str> {
    let named = request.headers.iter().filter(|(have, _)| have.eq_ignore_ascii_case(name));
    named.map(|(_, value)| value.as_str()).collect()
}

/// Header lines that go on as they are: name, and the values that arrive.
const PASS: &[(&str, &str, &str, &[&str])] = &[
    (
        "K2 security headers named",
        "connection: authorization, x-api-key, host, content-length, keep-alive\r\nauthorization: Bearer a\r\n",
        "authorization",
        &["Bearer a"],
    ),
    ("K2 a header of one hop", "connection: x-hop\r\nx-hop: 1\r\n", "x-hop", &[]),
    (
        "K2 calltap's own named",
        "connection: x-calltap-session\r\nx-calltap-session: s\r\n",
        "x-calltap-session",
        &[],
    ),
    ("K2 keep-alive", "keep-alive: timeout=5\r\n", "keep-alive", &[]),
    ("K2 proxy-connection", "proxy-connection: keep-alive\r\n", "proxy-connection", &[]),
    ("K2 proxy-authorization", "proxy-authorization: Basic eA==\r\n", "proxy-authorization", &[]),
    ("K7 weights", "accept-encoding: gzip;q=0, *\r\n", "accept-encoding", &["gzip;q=0, *"]),
    ("K7 none", "", "accept-encoding", &[]),
    ("K7 br", "accept-encoding: br\r\n", "accept-encoding", &["br"]),
    ("K8 a malformed parent", "traceparent: 00-zz\r\n", "traceparent", &["00-zz"]),
    ("K9", "idempotency-key: i-1\r\n", "idempotency-key", &["i-1"]),
    (
        "K10 utf-7",
        "content-type: application/json; charset=utf-7\r\n",
        "content-type",
        &["application/json; charset=utf-7"],
    ),
    ("K10 none", "", "content-type", &[]),
    (
        "K10 two",
        "content-type: application/json\r\ncontent-type: text/plain\r\n",
        "content-type",
        &["application/json", "text/plain"],
    ),
    ("K12 range", "range: bytes=0-1\r\n", "range", &["bytes=0-1"]),
    ("K12 if-none-match", "if-none-match: \"x\"\r\n", "if-none-match", &["\"x\""]),
    ("K12 te: trailers", "te: trailers\r\n", "te", &["trailers"]),
    ("K12 te: gzip", "te: gzip\r\n", "te", &[]),
    ("K12 max-forwards", "max-forwards: 0\r\n", "max-forwards", &["0"]),
    ("K12 repeated", "x-a: 1\r\nx-a: 2\r\n", "x-a", &["1", "2"]),
];

/// Metadata: header lines, where it stands in the record, and what is there; whether a warning says
/// that something was refused.
fn metadata() -> Vec<(&'static str, Vec<u8>, &'static str, Value, bool)> {
    let line = |value: &[u8]| [b"x-calltap-session: ", value, b"\r\n"].concat();
    let session = "/tags/session";
    let hundred = (0..100).map(|at| format!("x-calltap-tags: t{at}\r\n")).collect::<String>();
    let entries = (0..100).map(|at| format!("x-calltap-meta-k{at:02}: v\r\n"));
    vec![
        (
            "K1 an escaped line end",
            line(b"a%0d%0aX-Evil: y"),
            session,
            "a\r\nX-Evil: y".into(),
            false,
        ),
        ("K1 raw bytes", line(b"a\x80\xffb"), session, Value::Null, true),
        ("K1 UTF-8", line("a😀".as_bytes()), session, "a😀".into(), false),
        ("K1 an escape that is no UTF-8", line(b"%ff"), session, Value::Null, true),
        ("K1 half an escape", line(b"100%"), session, "100%".into(), false),
        ("K1 nothing", line(b""), session, Value::Null, true),
        ("K1 10 KB", line(&[b'x'; 10_000]), session, Value::Null, true),
        ("K1 twice", [line(b"first"), line(b"second")].concat(), session, "first".into(), false),
        ("K1 unknown", b"x-calltap-nonsense: x\r\n".to_vec(), session, Value::Null, true),
        (
            "K1 90 labels",
            hundred.lines().take(90).map(|l| format!("{l}\r\n")).collect::<String>().into(),
            "/tags/labels/63",
            "t63".into(),
            true,
        ),
        (
            "K1 90 entries",
            entries.take(90).collect::<String>().into(),
            "/tags/metadata/k63",
            "v".into(),
            true,
        ),
        (
            "K1 no object",
            b"x-calltap-meta: [1]\r\n".to_vec(),
            "/tags/metadata",
            Value::Object(serde_json::Map::new()),
            true,
        ),
        ("K1 no id", b"x-calltap-id: ../../x\r\n".to_vec(), session, Value::Null, true),
        (
            "K8 a malformed parent is not kept",
            b"traceparent: 00-4BF9-x\r\n".to_vec(),
            "/trace/trace_id",
            Value::Null,
            false,
        ),
        (
            "K8 a parent of zeros",
            b"traceparent: 00-00000000000000000000000000000000-0000000000000000-01\r\n".to_vec(),
            "/trace/trace_id",
            Value::Null,
            false,
        ),
    ]
}

/// What somebody says of who asks, or of where to; none of it is believed.
const SPOOFED: &[(&str, &str)] = &[
    ("K3 x-forwarded-for", "x-forwarded-for: 10.9.8.7\r\n"),
    ("K3 forwarded", "forwarded: for=10.9.8.7;host=evil\r\n"),
    ("K3 x-real-ip", "x-real-ip: 10.9.8.7\r\n"),
    ("K3 x-forwarded-host", "x-forwarded-host: 10.9.8.7\r\nx-original-url: /admin\r\n"),
];

fn answered(request: &Request) -> Vec<Step> {
    let head = |lines: String| {
        let head = format!("HTTP/1.1 200 OK\r\n{lines}content-length: 2\r\n\r\n{{}}");
        vec![Step::Send(head.into_bytes())]
    };
    match request.header("x-kind").unwrap_or_default() {
        "cookies" => head("set-cookie: s=cookie-canary\r\nlocation: http://10.0.0.1/\r\n".into()),
        "90 headers" => head((0..90).map(|at| format!("x-h{at}: v\r\n")).collect()),
        "200 headers" => head((0..200).map(|at| format!("x-h{at}: v\r\n")).collect()),
        "large" => head(format!("x-large: {}\r\n", "v".repeat(30_000))),
        "100 KB" => head(format!("x-large: {}\r\n", "v".repeat(100_000))),
        "two types" => head("content-type: text/plain\r\ncontent-type: text/html\r\n".into()),
        "folded" => head("x-folded: a\r\n b\r\n".into()),
        "trailers" => vec![Step::Send(b"HTTP/1.1 200 OK\r\ntrailer: x-t\r\ntransfer-encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\nx-t: 1\r\n\r\n".to_vec())],
        _ => chat(1, Duration::ZERO)(request),
    }
}

#[test]
fn k_headers() {
    let upstream = Upstream::start(answered);
    let calltap = Calltap::start(&upstream);
    let (mut list, mut calls) = (List::new('K', 12), 0);
    for (name, lines, header, expected) in PASS {
        calls += 1;
        list.row(name, || {
            let (answer, request) = call(&calltap, &upstream, lines.as_bytes());
            let request = request.expect("it goes on");
            assert_eq!((answer.status, values(&request, header)), (200, expected.to_vec()));
            assert_eq!(values(&request, "host"), [upstream.address.to_string()]);
        });
    }
    for (name, lines, pointer, expected, warns) in metadata() {
        calls += 1;
        list.row(name, || {
            let (answer, request) = call(&calltap, &upstream, &lines);
            assert_eq!(answer.status, 200);
            let record = record_of(&calltap, &answer);
            assert_eq!(*record.pointer(pointer).unwrap_or(&Value::Null), expected);
            assert_eq!(answer.header("x-calltap-warning").is_some(), warns, "a warning");
            let new = |headers: &[(String, String)]| {
                headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("x-evil"))
            };
            assert!(
                !new(&answer.headers) && !new(&request.unwrap().headers),
                "a header of its own"
            );
        });
    }
    for (name, lines) in SPOOFED {
        calls += 1;
        list.row(name, || {
            let (answer, _) = call(&calltap, &upstream, lines.as_bytes());
            assert!(!record_of(&calltap, &answer).to_string().contains("10.9.8.7"));
        });
    }
    of_answers(&mut list, &calltap, &upstream, &mut calls);
    list.row("K8 baggage is not stored", || {
        calls += 1;
        let lines =
            format!("tracestate: {}\r\nbaggage: key=baggage-canary\r\n", "a=b,".repeat(2500));
        let (answer, request) = call(&calltap, &upstream, lines.as_bytes());
        let request = request.unwrap();
        assert_eq!(values(&request, "baggage"), ["key=baggage-canary"]);
        assert_eq!(values(&request, "tracestate")[0].len(), 10_000);
        assert!(!record_of(&calltap, &answer).to_string().contains("baggage-canary"));
    });
    list.row("K9 a retry leaves two records", || {
        calls += 2;
        let twice = [0, 1].map(|_| call(&calltap, &upstream, b"idempotency-key: same\r\n").0);
        let [one, two] = twice.map(|answer| record_of(&calltap, &answer));
        assert_ne!(one["id"], two["id"]);
        for record in [one, two] {
            assert!(record["headers"]["request"].to_string().contains("same"), "what links them");
        }
    });
    credentials(&mut list);
    list.elsewhere(&[
        ("K4 of dashboard and API", "api::doors_of_a_loopback_listener"),
        ("K4 forms", "api::doors::only_local_names_are_local"),
        ("K4 of calls", "framing::the_client_never_names_a_host"),
        ("K12 a loop", "forward::a_call_that_comes_back_is_stopped"),
    ]);
    sound(&mut list, &calltap, calls);
    list.end();
}

/// Headers of answers.
fn of_answers(list: &mut List, calltap: &Calltap, upstream: &Upstream, calls: &mut usize) {
    let mut row = |name: &str, kind: &str, check: &dyn Fn(&Answer)| {
        *calls += 1;
        list.row(name, || {
            let lines = format!("x-kind: {kind}\r\nte: trailers\r\n");
            let (answer, _) = call(calltap, upstream, lines.as_bytes());
            check(&answer);
        });
    };
    let passes = |answer: &Answer| {
        assert_eq!((answer.status, &answer.body[..]), (200, &b"{}"[..]));
        record_of(calltap, answer)
    };
    row("K11 cookies", "cookies", &|answer| {
        assert!(!passes(answer).to_string().contains("cookie-canary"));
        assert_eq!(answer.header("set-cookie"), Some("s=cookie-canary"));
        assert_eq!(answer.header("location"), Some("http://10.0.0.1/"));
    });
    row("K11 90 headers", "90 headers", &|answer| {
        passes(answer);
        assert_eq!(answer.header("x-h89"), Some("v"));
    });
    row("K11 30 KB", "large", &|answer| {
        passes(answer);
        assert_eq!(answer.header("x-large").map(str::len), Some(30_000));
    });
    for kind in ["200 headers", "100 KB"] {
        row(&format!("K11 {kind}"), kind, &|answer| {
            assert!(matches!(answer.status, 200 | 502), "{}", answer.status);
            record_of(calltap, answer);
        });
    }
    row("K11 two types", "two types", &|answer| {
        passes(answer);
        let types = answer.headers.iter().filter(|(name, _)| name == "content-type").count();
        assert_eq!(types, 2);
    });
    row("K11 folded", "folded", &|answer| {
        assert!(matches!(answer.status, 200 | 502), "{}", answer.status);
        record_of(calltap, answer);
    });
    row("K12 trailers", "trailers", &|answer| {
        passes(answer);
        assert_eq!(answer.trailers, [("x-t".to_owned(), "1".to_owned())]);
    });
}

/// Keys, where calltap asks for one.
fn credentials(list: &mut List) {
    let upstream = Upstream::start(|_| json_answer(200, "{}"));
    let hash = |key: &str| hex::encode(sha2::Sha256::digest(key));
    let keys = format!(
        "[auth]\nkeys = [{{ name = \"one\", sha256 = \"{}\" }}, {{ name = \"two\", sha256 = \"{}\" }}]\n[log]\nlevel = \"trace\"\n",
        hash("key-canary-one"),
        hash("key-canary-two")
    );
    let calltap = Calltap::with(&upstream, "", &keys);
    let long = format!("authorization: Bearer {}\r\n", "k".repeat(50_000));
    for (name, lines) in [
        ("K5 a scheme alone", "authorization: bearer\r\n"),
        ("K5 a wrong key", "authorization: Bearer  wrong-canary\r\n"),
        ("K5 basic", "authorization: Basic d3JvbmctY2FuYXJ5\r\n"),
        ("K5 a right key as basic", "authorization: Basic key-canary-one\r\n"),
        ("K5 a list", "authorization: Bearer wrong-canary, Bearer key-canary-one\r\n"),
        (
            "K5 two lines, the wrong one first",
            "authorization: Bearer wrong-canary\r\nauthorization: Bearer key-canary-one\r\n",
        ),
        ("K5 no ASCII", "authorization: Bearer wrong-canary\u{e9}\r\n"),
        ("K5 50 KB", &long),
        ("K5 nothing", "authorization: \r\n"),
        ("K5 none", ""),
        (
            "K6 a wrong key of calltap's beside a right one",
            "x-calltap-key: wrong-canary\r\nauthorization: Bearer key-canary-one\r\n",
        ),
    ] {
        list.row(name, || {
            let (answer, request) = call(&calltap, &upstream, lines.as_bytes());
            assert_eq!(answer.status, 401);
            assert!(request.is_none(), "it went upstream");
        });
    }
    for (name, lines, key) in [
        (
            "K6 the header of calltap's own wins",
            "authorization: Bearer key-canary-two\r\nx-calltap-key: key-canary-one\r\n",
            "one",
        ),
        (
            "K6 then the bearer token",
            "api-key: key-canary-two\r\nauthorization: Bearer key-canary-one\r\n",
            "one",
        ),
    ] {
        list.row(name, || {
            let (answer, _) = call(&calltap, &upstream, lines.as_bytes());
            assert_eq!(answer.status, 200);
            assert_eq!(record_of(&calltap, &answer)["client"]["key"], key);
        });
    }
    list.row("K5 values are nowhere", || {
        let bytes = calltap.every_byte();
        let found = |part: &str| memchr::memmem::find(&bytes, part.as_bytes()).is_some();
        assert!(!found("wrong-canary") && !found("key-canary") && !found("d3JvbmctY2Fu"));
    });
}
