//! H: framing and connections of HTTP/1; `frames` has those of HTTP/2.

use super::{List, connect, frames, record_of, sound};
use crate::harness::{Calltap, Request, Step, Upstream, chat, chat_body, json_answer, post};
use std::{
    thread,
    time::{Duration, Instant},
};

/// A request behind the first one that nobody meant to send.
pub const SMUGGLED: &str = "GET /v1/smuggled HTTP/1.1\r\nhost: x\r\n\r\n";

/// Header lines and body of requests that are refused, or whose connection ends; nothing goes upstream.
pub const REFUSED: &[(&str, &str, &str)] = &[
    ("H2 two lengths", "content-length: 2\r\ncontent-length: 3\r\n", "{}x"),
    ("H4 a signed length", "content-length: +5\r\n", "12345"),
    ("H4 a hexadecimal length", "content-length: 0x5\r\n", "12345"),
    ("H4 a list of lengths", "content-length: 5,5\r\n", "12345"),
    ("H4 a list of different lengths", "content-length: 5, 6\r\n", "12345"),
    ("H4 a negative length", "content-length: -1\r\n", ""),
    ("H4 a length of 20 digits", "content-length: 99999999999999999999\r\n", ""),
    ("H4 no length in a length", "content-length: \r\n", ""),
    ("H4 two numbers", "content-length: 5 5\r\n", "12345"),
    ("H5 xchunked", "transfer-encoding: xchunked\r\n", "0\r\n\r\n"),
    ("H5 chunked, identity", "transfer-encoding: chunked, identity\r\n", "0\r\n\r\n"),
    ("H5 identity", "transfer-encoding: identity\r\n", ""),
    ("H5 chunked twice", "transfer-encoding: chunked, chunked\r\n", "2\r\n{}\r\n0\r\n\r\n"),
    ("H5 gzip, chunked", "transfer-encoding: gzip, chunked\r\n", "2\r\n{}\r\n0\r\n\r\n"),
    ("H5 a comma", "transfer-encoding: ,chunked\r\n", "2\r\n{}\r\n0\r\n\r\n"),
    ("H5 a vertical tab", "transfer-encoding: \x0bchunked\r\n", "0\r\n\r\n"),
    (
        "H6 chunked not last",
        "transfer-encoding: chunked\r\ntransfer-encoding: identity\r\n",
        "0\r\n\r\n",
    ),
    (
        "H6 chunked in two lines",
        "transfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n",
        "2\r\n{}\r\n0\r\n\r\n",
    ),
    (
        "H6 identity, then chunked",
        "transfer-encoding: identity\r\ntransfer-encoding: chunked\r\n",
        "2\r\n{}\r\n0\r\n\r\n",
    ),
    ("H7 a space before the colon", "transfer-encoding : chunked\r\n", "0\r\n\r\n"),
    ("H7 a tab before the colon", "transfer-encoding\t: chunked\r\n", "0\r\n\r\n"),
    ("H7 a space in the name of a length", "content-length : 2\r\n", "{}"),
    ("H8 a folded coding", "transfer-encoding:\r\n chunked\r\n", "0\r\n\r\n"),
    ("H8 a folded length", "content-length:\r\n\t2\r\n", "{}"),
    ("H8 a folded first line", " folded: x\r\ncontent-length: 2\r\n", "{}"),
    ("H10 a bare CR in a value", "x-a: b\rx-c: d\r\n", ""),
    ("H11 0x", "transfer-encoding: chunked\r\n", "0x2\r\nab\r\n0\r\n\r\n"),
    ("H11 an underscore", "transfer-encoding: chunked\r\n", "1_0\r\nab\r\n0\r\n\r\n"),
    ("H11 17 digits", "transfer-encoding: chunked\r\n", "10000000000000002\r\nab\r\n0\r\n\r\n"),
    ("H11 a space before", "transfer-encoding: chunked\r\n", " 2\r\nab\r\n0\r\n\r\n"),
    ("H11 a sign", "transfer-encoding: chunked\r\n", "+2\r\nab\r\n0\r\n\r\n"),
    ("H11 no size", "transfer-encoding: chunked\r\n", "\r\nab\r\n0\r\n\r\n"),
    ("H12 LF behind a size", "transfer-encoding: chunked\r\n", "2\nab\r\n0\r\n\r\n"),
    ("H12 LF behind a chunk", "transfer-encoding: chunked\r\n", "2\r\nab\n0\r\n\r\n"),
    ("H12 LF behind the last size", "transfer-encoding: chunked\r\n", "2\r\nab\r\n0\n\r\n"),
    ("H12 LF in an extension", "transfer-encoding: chunked\r\n", "2;a=b\nab\r\n0\r\n\r\n"),
    ("H13 a chunk longer than said", "transfer-encoding: chunked\r\n", "2\r\nabc\r\n0\r\n\r\n"),
    ("H13 a chunk shorter than said", "transfer-encoding: chunked\r\n", "5\r\nab\r\n0\r\n\r\n"),
    (
        "H13 a streamed chunk longer than said",
        "content-type: text/plain\r\ntransfer-encoding: chunked\r\n",
        "2\r\nabc\r\n0\r\n\r\n",
    ),
    (
        "H13 a streamed chunk shorter than said",
        "content-type: text/plain\r\ntransfer-encoding: chunked\r\n",
        "5\r\nab\r\n0\r\n\r\n",
    ),
    ("H30 two hosts", "host: y\r\n", ""),
    ("H31 no name", ": b\r\n", ""),
    ("H31 a space in a name", "x a: b\r\n", ""),
    ("H31 a bracket in a name", "x(a: b\r\n", ""),
    ("H31 NUL in a name", "x\0a: b\r\n", ""),
    ("H31 UTF-8 in a name", "x\u{e9}a: b\r\n", ""),
    ("H31 NUL in a value", "x-a: \0\r\n", ""),
    ("H31 no colon", "nonsense\r\n", ""),
];

/// Both ways of framing at once.
pub const BOTH: [(&str, &str); 2] = [
    ("H1 length, then chunks", "content-length: 30\r\ntransfer-encoding: chunked\r\n"),
    ("H1 chunks, then length", "transfer-encoding: chunked\r\ncontent-length: 30\r\n"),
];

fn is_refusal(status: u16) -> bool {
    matches!(status, 400 | 405 | 413 | 414 | 417 | 421 | 426 | 431 | 501)
}

/// Sends bytes that must come to nothing; how many calls that made.
fn refused(calltap: &Calltap, upstream: &Upstream, bytes: &[u8]) -> usize {
    let before = upstream.requests().len();
    let mut connection = connect(calltap);
    connection.send(bytes);
    let answer = connection.answer("POST");
    let calls = answer.as_ref().map_or(0, |a| usize::from(a.header("x-calltap-id").is_some()));
    let status = answer.map(|answer| answer.status);
    assert!(status.is_none_or(is_refusal), "{status:?}");
    let more = connection.answer("GET").map(|answer| answer.status);
    assert_eq!(more, None, "what follows is no request");
    assert!(connection.has_ended(), "the connection ends");
    let lines: Vec<String> =
        upstream.requests().into_iter().skip(before).map(|request| request.line).collect();
    assert!(lines.is_empty(), "{lines:?}");
    calls
}

/// Sends bytes that must become exactly one request, and gives it.
fn once(calltap: &Calltap, upstream: &Upstream, bytes: &[u8]) -> Request {
    let before = upstream.requests().len();
    let mut connection = connect(calltap);
    connection.send(bytes);
    let answer = connection.answer("POST").expect("an answer");
    assert_eq!(answer.status, 200);
    let mut requests = upstream.requests().split_off(before);
    assert_eq!(requests.len(), 1, "{requests:?}");
    let request = requests.remove(0);
    let framing = ["content-length", "transfer-encoding"];
    let named = |name: &&str| {
        request.headers.iter().filter(|(have, _)| have.eq_ignore_ascii_case(name)).count()
    };
    assert!(framing.iter().map(named).sum::<usize>() <= 1, "{:?}", request.headers);
    request
}

/// A request with these header lines and this body.
pub fn raw(lines: &str, body: &str) -> Vec<u8> {
    format!("POST /v1/x HTTP/1.1\r\nhost: x\r\n{lines}\r\n{body}").into_bytes()
}

fn answered(request: &Request) -> Vec<Step> {
    let send = |bytes: &str| vec![Step::Send(bytes.as_bytes().to_vec())];
    match request.header("x-kind").unwrap_or_default() {
        "length and chunks" => send(
            "HTTP/1.1 200 OK\r\ncontent-length: 30\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
        ),
        "two lengths" => {
            send("HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-length: 3\r\n\r\nok")
        }
        "negative length" => send("HTTP/1.1 200 OK\r\ncontent-length: -2\r\n\r\nok"),
        "broken chunk" => {
            send("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\nzz\r\n")
        }
        "more than the length" => send("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok and more"),
        "body of HEAD" => send("HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\npoison"),
        "body of 304" => send("HTTP/1.1 304 Not Modified\r\ncontent-length: 6\r\n\r\npoison"),
        "stream" => chat(20, Duration::from_millis(10))(request),
        "large" => vec![
            Step::Send(b"HTTP/1.1 200 OK\r\ncontent-length: 16777216\r\n\r\n".to_vec()),
            Step::Send(vec![b'x'; 16 << 20]),
        ],
        _ => json_answer(200, &format!("{{\"line\":\"{}\"}}", request.line)),
    }
}

#[test]
fn h_framing() {
    let upstream = Upstream::start(answered);
    let calltap = Calltap::with(&upstream, "", "[server]\nheader_timeout = \"2s\"\n");
    let (mut list, mut calls) = (List::new('H', 40), 0);
    let address = calltap.address;
    // A body that stops arriving is waited for in the background: that takes its time.
    let silent = ["application/json", "text/plain"].map(|kind| {
        thread::spawn(move || {
            let mut connection = crate::harness::Connection::open(address);
            connection.stream().set_read_timeout(Some(Duration::from_secs(50))).unwrap();
            connection.send(&raw(&format!("content-type: {kind}\r\ncontent-length: 50\r\n"), "{"));
            connection.answer("POST").map(|answer| answer.status)
        })
    });
    for (name, lines, body) in REFUSED {
        let bytes = [raw(lines, body), SMUGGLED.into()].concat();
        list.row(name, || calls += refused(&calltap, &upstream, &bytes));
    }
    heads(&mut list, &calltap, &upstream, &mut calls);
    bodies(&mut list, &calltap, &upstream, &mut calls);
    connections(&mut list, &calltap, &upstream, &mut calls);
    odd_answers(&mut list, &calltap, &mut calls);
    frames::rows(&mut list, &calltap, &upstream, &mut calls);
    list.elsewhere(&[
        ("H16 pipelined", "framing::pipelined_requests_are_answered_in_order"),
        ("H19", "faults::an_early_error_reaches_a_client_that_still_sends"),
        ("H21 in a stream, before the answer", "abort::a_reset_by_the_client_is_an_abort"),
        ("H21 any byte", "abort::a_client_may_vanish_at_any_byte"),
        ("H22", "faults::an_upstream_may_break_off_at_any_byte"),
        ("H23", "framing::odd_answers_do_not_hurt_the_next_call"),
        ("H24", "framing::odd_answers_do_not_hurt_the_next_call"),
        ("H26", "framing::odd_answers_do_not_hurt_the_next_call"),
        ("H27", "framing::odd_answers_do_not_hurt_the_next_call"),
        ("H29", "tunnel::a_websocket_is_tunnelled_and_recorded"),
        ("H30 absolute target, other host", "framing::the_client_never_names_a_host"),
        ("H30 no host", "framing::heads_name_one_host_and_expect_what_is_known"),
        ("H38", "pool::a_closing_pool_never_runs_a_call_twice"),
        ("H39", "framing::odd_answers_do_not_hurt_the_next_call"),
        ("H40 204", "framing::odd_answers_do_not_hurt_the_next_call"),
        ("H37 floods", "lists::frames::floods_of_frames_hurt_nobody_else"),
    ]);
    list.otherwise("H20 half-close", || {
        assert!(super::exists(
            "framing::a_client_that_only_stops_sending_is_told_or_recorded_as_gone"
        ));
    });
    for (kind, silent) in ["a body", "a body that streams"].into_iter().zip(silent) {
        list.row(&format!("H32 silence in {kind}"), || {
            calls += 1;
            assert_eq!(silent.join().unwrap(), Some(408));
        });
    }
    sound(&mut list, &calltap, calls);
    list.end();
}

/// Lines of the log that ask for somebody's eyes.
fn loud(calltap: &Calltap) -> usize {
    let loud = ["\"WARN\"", "\"ERROR\""];
    calltap.log().lines().filter(|line| loud.iter().any(|level| line.contains(level))).count()
}

/// What is odd about heads.
fn heads(list: &mut List, calltap: &Calltap, upstream: &Upstream, calls: &mut usize) {
    for (name, lines) in BOTH {
        let bytes = [raw(lines, "2\r\n{}\r\n0\r\n\r\n"), SMUGGLED.into()].concat();
        list.otherwise(name, || {
            *calls += 1;
            assert_eq!(once(calltap, upstream, &bytes).body, b"{}");
        });
    }
    list.row("H3 equal lengths", || {
        *calls += 1;
        let lines = "content-length: 2\r\ncontent-length: 2\r\n";
        assert_eq!(once(calltap, upstream, &raw(lines, "{}")).body, b"{}");
    });
    list.otherwise("H4 a blank behind", || {
        *calls += 1;
        assert_eq!(once(calltap, upstream, &raw("content-length: 2 \r\n", "{}")).body, b"{}");
    });
    list.otherwise("H10 LF alone", || {
        *calls += 1;
        let bytes = b"POST /v1/x HTTP/1.1\nhost: x\nx-a: b\ncontent-length: 2\n\n{}";
        let request = once(calltap, upstream, bytes);
        assert_eq!((request.header("x-a"), &request.body[..]), (Some("b"), &b"{}"[..]));
    });
    list.row("H31 an underscore in a name", || {
        *calls += 1;
        let request = once(calltap, upstream, &raw("x_a: b\r\ncontent-length: 2\r\n", "{}"));
        assert_eq!(request.header("x_a"), Some("b"));
    });
    let many: String = (0..10_000).map(|at| format!("x-{at}: y\r\n")).collect();
    let some: String = (0..200).map(|at| format!("x-{at}: y\r\n")).collect();
    let noise: Vec<u8> =
        (0..65_536_u32).map(|at| at.wrapping_mul(2_654_435_761).to_le_bytes()[3]).collect();
    let logged = loud(calltap);
    for (name, bytes) in [
        (
            "H9 HTTP/1.0 and chunks",
            b"POST /v1/x HTTP/1.0\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n"
                .to_vec(),
        ),
        (
            "H30 CONNECT",
            b"CONNECT evil.example:443 HTTP/1.1\r\nhost: evil.example:443\r\n\r\n".to_vec(),
        ),
        (
            "H31 a line of a megabyte",
            format!("GET /v1/{} HTTP/1.1\r\nhost: x\r\n\r\n", "a".repeat(1 << 20)).into_bytes(),
        ),
        ("H31 10,000 headers", raw(&many, "")),
        ("H31 200 headers", raw(&some, "")),
        ("H31 a header of a megabyte", raw(&format!("x-a: {}\r\n", "b".repeat(1 << 20)), "")),
        ("H31 a target with a space", b"GET /v1/a b HTTP/1.1\r\nhost: x\r\n\r\n".to_vec()),
        (
            "H33 TLS",
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03abcdefghijklmnop\r\n\r\n".to_vec(),
        ),
        ("H33 random bytes", noise),
        ("H33 another protocol", b"SSH-2.0-OpenSSH_9.6\r\n\r\n".to_vec()),
    ] {
        let bytes = [bytes, SMUGGLED.into()].concat();
        list.row(name, || *calls += refused(calltap, upstream, &bytes));
    }
    list.row("H33 leaves the log alone", || {
        assert_eq!(loud(calltap), logged);
    });
    list.row("H18 an unknown expectation", || {
        let mut connection = connect(calltap);
        *calls += 1;
        connection.send(&raw("expect: wonders\r\ncontent-length: 2\r\n", "{}"));
        assert_eq!(connection.answer("POST").unwrap().status, 417);
    });
}

/// What is odd about bodies.
fn bodies(list: &mut List, calltap: &Calltap, upstream: &Upstream, calls: &mut usize) {
    list.row("H11 an extension", || {
        *calls += 1;
        let bytes = raw("transfer-encoding: chunked\r\n", "2;a=b\r\n{}\r\n0\r\n\r\n");
        assert_eq!(once(calltap, upstream, &bytes).body, b"{}");
    });
    let long = format!("2;a={}\r\n{{}}\r\n0\r\n\r\n", "b".repeat(40_000));
    list.row("H11 an extension of 40 KB", || {
        *calls += refused(calltap, upstream, &raw("transfer-encoding: chunked\r\n", &long));
    });
    list.row("H13 no end, then gone", || {
        let before = upstream.requests().len();
        *calls += 1;
        let mut connection = connect(calltap);
        connection
            .send(&raw("transfer-encoding: chunked\r\nx-calltap-ref: h13\r\n", "2\r\n{}\r\n"));
        drop(connection);
        let call = calltap.wait_calls("has:ref", 1).remove(0);
        assert_eq!(
            (&call["outcome"], upstream.requests().len()),
            (&"client_aborted".into(), before)
        );
    });
    for (name, kind) in [("H14 of JSON", "application/json"), ("H14 of a stream", "text/plain")] {
        list.row(name, || {
            *calls += 1;
            let lines = format!("content-type: {kind}\r\ntransfer-encoding: chunked\r\n");
            let body = "2\r\n{}\r\n0\r\nauthorization: Bearer x\r\ncontent-length: 9\r\nhost: evil\r\nx-calltap-key: k\r\n\r\n";
            let request = once(calltap, upstream, &raw(&lines, body));
            assert_eq!((request.header("authorization"), &request.body[..]), (None, &b"{}"[..]));
            assert!(request.trailers.is_empty(), "{:?}", request.trailers);
        });
    }
    for method in ["GET", "HEAD", "OPTIONS", "DELETE"] {
        list.row(&format!("H15 {method}"), || {
            *calls += 2;
            let before = upstream.requests().len();
            let mut connection = connect(calltap);
            connection.send(format!("{method} /v1/x HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n\r\n{{}}POST /v1/y HTTP/1.1\r\nhost: x\r\ncontent-length: 3\r\n\r\n{{1}}").as_bytes());
            assert_eq!(connection.answer(method).unwrap().status, 200);
            assert_eq!(connection.answer("POST").unwrap().json()["line"], "POST /v1/y HTTP/1.1");
            let bodies: Vec<_> = upstream.requests().into_iter().skip(before).map(|r| r.body).collect();
            assert_eq!(bodies, [b"{}".to_vec(), b"{1}".to_vec()]);
        });
    }
    list.row("H17 too large", || {
        *calls += 1;
        let mut connection = connect(calltap);
        connection.send(&raw("expect: 100-continue\r\ncontent-length: 99999999999\r\n", ""));
        assert!(connection.read_some(12).ends_with(b" 413"), "and no 100 before");
    });
    list.elsewhere(&[("H17 withheld", "forward::chunked_and_expecting_uploads_arrive")]);
    list.row("H18 sent at once", || {
        *calls += 1;
        let bytes = raw("expect: 100-continue\r\ncontent-length: 2\r\n", "{}");
        let request = once(calltap, upstream, &bytes);
        assert_eq!((request.header("expect"), &request.body[..]), (None, &b"{}"[..]));
    });
}

/// What happens on a connection besides one request.
fn connections(list: &mut List, calltap: &Calltap, upstream: &Upstream, calls: &mut usize) {
    list.row("H16 while the first streams", || {
        *calls += 2;
        let mut connection = connect(calltap);
        let body = chat_body(true);
        let lines = format!("x-kind: stream\r\ncontent-length: {}\r\n", body.len());
        connection.send(&[raw(&lines, &body), raw("content-length: 2\r\n", "{}")].concat());
        assert!(connection.answer("POST").unwrap().body.ends_with(b"data: [DONE]\n\n"));
        assert_eq!(connection.answer("POST").unwrap().json()["line"], "POST /v1/x HTTP/1.1");
    });
    list.otherwise("H28 an upgrade elsewhere", || {
        *calls += 1;
        let before = upstream.requests().len();
        let mut connection = connect(calltap);
        let wish = "connection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
        connection.send(&[raw(wish, ""), b"\x81\x05hello\r\n\r\n".to_vec()].concat());
        assert_eq!(connection.answer("POST").unwrap().status, 200);
        let requests = upstream.requests().split_off(before);
        assert!(requests.len() == 1 && requests[0].body.is_empty(), "{requests:?}");
    });
    for (name, part) in [
        ("H32 a byte at a time in the first line", "POST /v1/x"),
        ("H32 a byte at a time in the headers", "POST /v1/x HTTP/1.1\r\nhost: x\r\nx-a: bcdefghij"),
    ] {
        list.row(name, || {
            let (mut connection, started) = (connect(calltap), Instant::now());
            let (begin, rest) = part.split_at(part.len() - 9);
            connection.send(begin.as_bytes());
            for byte in rest.as_bytes() {
                connection.send(&[*byte]);
                thread::sleep(Duration::from_millis(300));
            }
            let answer = connection.answer("POST").map(|answer| answer.status);
            assert!(answer.is_none_or(|status| status == 408), "{answer:?}");
            assert!(connection.has_ended() && started.elapsed() < Duration::from_secs(15));
        });
    }
    list.otherwise("H32 a client that does not read", || {
        *calls += 2;
        let mut connection = connect(calltap);
        connection.send(&raw("x-kind: large\r\ncontent-length: 2\r\n", "{}"));
        let memory = calltap.memory_kib();
        thread::sleep(Duration::from_secs(1));
        assert_eq!(post(calltap.address, "/v1/x", "", "{}").status, 200, "others go on");
        assert!(calltap.memory_kib() < memory + 32 * 1024);
        assert_eq!(connection.answer("POST").unwrap().body.len(), 16 << 20);
    });
}

/// Answers whose framing is odd: what the client gets, and that the next call is not hurt.
fn odd_answers(list: &mut List, calltap: &Calltap, calls: &mut usize) {
    for (name, kind, method, status, body, whole) in [
        ("H25 length and chunks", "length and chunks", "POST", 200, "ok", true),
        ("H25 two lengths", "two lengths", "POST", 502, "", true),
        ("H25 a negative length", "negative length", "POST", 502, "", true),
        ("H25 more than the length", "more than the length", "POST", 200, "ok", true),
        ("H24 a broken chunk", "broken chunk", "POST", 200, "ok", false),
        ("H40 HEAD", "body of HEAD", "HEAD", 200, "", true),
        ("H40 304", "body of 304", "POST", 304, "", true),
    ] {
        list.row(name, || {
            *calls += 2;
            let mut connection = connect(calltap);
            connection.send(format!("{method} /v1/x HTTP/1.1\r\nhost: x\r\nx-kind: {kind}\r\ncontent-length: 2\r\n\r\n{{}}").as_bytes());
            let answer = connection.answer(method).expect("an answer");
            assert_eq!((answer.status, answer.whole), (status, whole));
            let record = record_of(calltap, &answer);
            if status == 502 {
                assert_eq!(answer.header("x-calltap-error"), Some("1"));
            } else {
                assert_eq!(String::from_utf8_lossy(&answer.body), body);
                let outcome = if whole { "completed" } else { "upstream_truncated" };
                assert_eq!(record["outcome"], outcome);
            }
            let next = post(calltap.address, "/v1/next", "", "{}");
            assert_eq!(next.json()["line"], "POST /v1/next HTTP/1.1", "the next call");
        });
    }
}
