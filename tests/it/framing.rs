//! Framing of HTTP/1: hosts, order, ends, and answers whose frames are odd. What is ambiguous in requests
//! is in `lists::http`.

use crate::harness::{Calltap, Connection, Step, Upstream, chat_body, json_answer, post};

/// The upstream is never taken from what the client says about hosts.
#[test]
fn the_client_never_names_a_host() {
    let (upstream, other) =
        (Upstream::start(|_| json_answer(200, "{}")), Upstream::start(|_| json_answer(200, "{}")));
    let calltap = Calltap::start(&upstream);
    let evil = other.address;
    for head in [
        format!("GET http://{evil}/v1/models HTTP/1.1\r\nhost: {evil}\r\n"),
        format!("GET /v1/models HTTP/1.1\r\nhost: {evil}\r\n"),
        format!("GET /v1/models HTTP/1.1\r\nhost: x\r\nx-forwarded-host: {evil}\r\n"),
        format!("GET /v1//{evil}/x HTTP/1.1\r\nhost: x\r\n"),
        format!("GET //{evil}/v1/models HTTP/1.1\r\nhost: x\r\n"),
    ] {
        let mut connection = Connection::open(calltap.address);
        connection.send(format!("{head}\r\n").as_bytes());
        let answer = connection.answer("GET").expect("an answer");
        assert!(matches!(answer.status, 200 | 400 | 404 | 421), "{head}: {}", answer.status);
    }
    assert!(other.requests().is_empty(), "{:?}", other.requests());
    let own = upstream.address.to_string();
    assert!(upstream.requests().iter().all(|request| request.header("host") == Some(&own)));
}

/// Two requests in one packet are answered in order.
#[test]
fn pipelined_requests_are_answered_in_order() {
    let upstream =
        Upstream::start(|request| json_answer(200, &format!("{{\"line\":\"{}\"}}", request.line)));
    let calltap = Calltap::start(&upstream);
    let mut connection = Connection::open(calltap.address);
    let packet: String = (0..20)
        .map(|at| format!("POST /v1/p{at} HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n\r\n{{}}"))
        .collect();
    connection.send(packet.as_bytes());
    for at in 0..20 {
        let answer = connection.answer("POST").unwrap();
        assert_eq!(answer.json()["line"], format!("POST /v1/p{at} HTTP/1.1"));
    }
    calltap.wait_calls("", 20);
}

/// A client that stops sending cannot be told from one that left: it gets a whole answer or none,
/// and the record says which.
#[test]
fn a_client_that_only_stops_sending_is_told_or_recorded_as_gone() {
    let upstream = Upstream::start(crate::harness::chat(10, std::time::Duration::from_millis(10)));
    let calltap = Calltap::start(&upstream);
    let body = chat_body(true);
    let mut connection = Connection::open(calltap.address);
    connection.send(format!("POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}", body.len()).as_bytes());
    connection.stream().shutdown(std::net::Shutdown::Write).unwrap();
    let answer = connection.answer("POST");
    let outcome = calltap.only_record()["outcome"].as_str().unwrap().to_owned();
    match answer.filter(|answer| answer.whole) {
        Some(answer) => {
            assert!(answer.body.ends_with(b"data: [DONE]\n\n"));
            assert_eq!(outcome, "completed");
        }
        None => assert_eq!(outcome, "client_aborted"),
    }
}

fn send(text: &str) -> Vec<Step> {
    vec![Step::Send(text.as_bytes().to_vec())]
}

/// Answers with odd frames: what the client gets, and that the next call is not hurt.
#[test]
fn odd_answers_do_not_hurt_the_next_call() {
    let upstream = Upstream::start(|request| match request.header("x-kind").unwrap_or_default() {
        "informational" => {
            let many = "HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n".repeat(50);
            send(&format!("{many}HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"))
        }
        "until the end" => {
            let mut steps = send("HTTP/1.0 200 OK\r\ncontent-type: text/plain\r\n\r\nok");
            steps.push(Step::Fin);
            steps
        }
        "no last chunk" => {
            let mut steps =
                send("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n");
            steps.push(Step::Fin);
            steps
        }
        "short" => {
            let mut steps = send("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nok");
            steps.push(Step::Fin);
            steps
        }
        "switching" => {
            send("HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n")
        }
        "left over" => send(
            "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nokHTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\npoison",
        ),
        "body of 204" => {
            send("HTTP/1.1 204 No\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\npoison")
        }
        _ => send("HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nnext"),
    });
    let calltap = Calltap::start(&upstream);
    for (kind, status, body, whole) in [
        ("informational", 200, "ok", true),
        ("until the end", 200, "ok", true),
        ("no last chunk", 200, "ok", false),
        ("short", 200, "ok", false),
        ("switching", 502, "", true),
        ("left over", 200, "ok", true),
        ("body of 204", 204, "", true),
    ] {
        let answer = post(calltap.address, "/v1/x", &format!("x-kind: {kind}\r\n"), "{}");
        assert_eq!((answer.status, answer.whole), (status, whole), "{kind}");
        if status == 502 {
            assert_eq!(answer.header("x-calltap-error"), Some("1"), "{kind}");
        } else {
            assert_eq!(String::from_utf8_lossy(&answer.body), body, "{kind}");
        }
        let next = post(calltap.address, "/v1/x", "", "{}");
        assert_eq!(String::from_utf8_lossy(&next.body), "next", "after {kind}");
    }
    let calls = calltap.wait_calls("", 14);
    assert_eq!(calls.iter().filter(|call| call["outcome"] == "upstream_truncated").count(), 3);
}

/// HTTP/1.1 names its host once; what a request expects must be known.
#[test]
fn heads_name_one_host_and_expect_what_is_known() {
    let upstream = Upstream::start(|_| json_answer(200, "{}"));
    let calltap = Calltap::start(&upstream);
    for (head, status) in [
        ("GET /v1/models HTTP/1.1\r\n", 400),
        ("GET /v1/models HTTP/1.1\r\nhost: a\r\nhost: b\r\n", 400),
        ("GET /v1/models HTTP/1.1\r\nhost: a\r\nexpect: wonders\r\n", 417),
        ("GET /v1/models HTTP/1.1\r\nhost: a\r\n", 200),
        ("GET /v1/models HTTP/1.0\r\n", 200),
    ] {
        let mut connection = Connection::open(calltap.address);
        connection.send(format!("{head}\r\n").as_bytes());
        assert_eq!(connection.answer("GET").expect("an answer").status, status, "{head}");
    }
    assert_eq!(upstream.requests().len(), 2);
}
