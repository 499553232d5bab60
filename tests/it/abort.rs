//! Clients that leave.

use crate::harness::{Calltap, Connection, Step, Upstream, chat, chat_body, count, places, post};
use std::{
    net::Shutdown,
    sync::Arc,
    time::{Duration, Instant},
};

fn request(body: &str) -> Vec<u8> {
    request_with("", body)
}

fn request_with(headers: &str, body: &str) -> Vec<u8> {
    format!(
        "POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n{headers}content-length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

/// A stream of 200 chunks stops after every so many bytes of what the upstream sends, and the client
/// leaves when it has read what came: one record each, with the outcome that the place implies, and
/// nothing is left open. `CALLTAP_TEST_CUTS` sets how many places are tried; with at least as many as
/// the stream has bytes, each is.
#[test]
fn a_client_may_vanish_at_any_byte() {
    let wire = Arc::new(chat_wire(200));
    let sent = Arc::clone(&wire);
    let upstream = Upstream::start(move |request| {
        let at = request.header("x-cut").and_then(|at| at.parse().ok()).unwrap_or(sent.len());
        let mut steps = vec![Step::Send(sent[..at].to_vec())];
        // After a whole answer the connection waits for the next call.
        steps.extend((at < sent.len()).then_some(Step::Stall));
        steps
    });
    let calltap = Calltap::start(&upstream);
    let body = r#"{"model":"gpt-4o-mini","stream":true,"stream_options":{"include_usage":true},"messages":[{"role":"user","content":"hi"}]}"#;
    assert!(post(calltap.address, "/v1/chat/completions", "", body).whole);
    calltap.wait_calls("", 1);
    let (descriptors, tasks) = (calltap.descriptors(), calltap.tasks());
    let places = Arc::new(places(count("CALLTAP_TEST_CUTS", 150), wire.len() + 1));
    let cuts = places.len();
    let threads: Vec<_> = (0..4)
        .map(|thread| {
            let (address, wire, places) = (calltap.address, Arc::clone(&wire), Arc::clone(&places));
            std::thread::spawn(move || {
                for at in places.iter().skip(thread).step_by(4) {
                    let header = format!("x-cut: {at}\r\nx-calltap-ref: {at}\r\n");
                    let mut connection = Connection::open(address);
                    connection.send(&request_with(&header, body));
                    match payload(&wire[..*at]) {
                        Some(payload) => assert_eq!(connection.read_body(payload), payload, "{at}"),
                        None => std::thread::sleep(Duration::from_millis(1)),
                    }
                }
            })
        })
        .collect();
    for thread in threads {
        thread.join().unwrap();
    }
    let whole = payload(&wire).unwrap();
    let (mut aborted, mut completed) = (0, 0);
    for call in calltap.wait_calls("has:ref", cuts) {
        let at: usize = call["tags"]["reference"].as_str().unwrap().parse().unwrap();
        let came = payload(&wire[..at]).unwrap_or_default();
        // Whoever has `[DONE]` has all that was said; the line ends behind it say nothing more.
        let has_end = came >= whole - "\n\n".len();
        *(if has_end { &mut completed } else { &mut aborted }) += 1;
        let expected = if has_end { "completed" } else { "client_aborted" };
        assert_eq!(call["outcome"], expected, "after {at} of {} bytes: {call:#}", wire.len());
        assert_eq!(
            call["bytes"]["delivered"],
            came,
            "after {at} of {} bytes: {call:#}",
            wire.len()
        );
    }
    // What was open before may have been closed meanwhile; nothing else may be open.
    wait(|| upstream.open() <= 1, "the upstream calls end");
    let left = calltap.wait_left(descriptors, tasks);
    println!(
        "{cuts} cuts of {} bytes: {aborted} client_aborted, {completed} completed; descriptors and tasks {left:?}, before {:?}",
        wire.len(),
        (descriptors, tasks),
    );
}

/// What the upstream sends for a streamed chat with usage.
fn chat_wire(words: usize) -> Vec<u8> {
    let request = crate::harness::Request {
        body: r#"{"stream":true,"stream_options":{"include_usage":true}}"#.into(),
        ..crate::harness::Request::default()
    };
    let steps = chat(words, Duration::ZERO)(&request).into_iter();
    steps.flat_map(|step| if let Step::Send(bytes) = step { bytes } else { Vec::new() }).collect()
}

/// Bytes of the body in the first part of a chunked answer; `None` before its head is whole.
fn payload(wire: &[u8]) -> Option<usize> {
    let find = |part: &[u8], mark: &[u8]| part.windows(mark.len()).position(|at| at == mark);
    let mut rest = &wire[find(wire, b"\r\n\r\n")? + 4..];
    let mut bytes = 0;
    while let Some(end) = find(rest, b"\r\n") {
        let size = usize::from_str_radix(std::str::from_utf8(&rest[..end]).unwrap(), 16).unwrap();
        rest = &rest[end + 2..];
        bytes += size.min(rest.len());
        rest = &rest[(size + 2).min(rest.len())..];
    }
    Some(bytes)
}

/// The same while the stream runs on: whoever read the last event has the whole answer.
#[test]
fn a_client_may_vanish_from_a_stream_that_runs() {
    let upstream = Upstream::start(chat(100, Duration::from_micros(300)));
    let calltap = Calltap::start(&upstream);
    let mut whole = Connection::open(calltap.address);
    whole.send(&request(&chat_body(true)));
    let mut wire = Vec::new();
    while !wire.ends_with(b"\r\n0\r\n\r\n") {
        let piece = whole.read_some(1);
        assert!(!piece.is_empty());
        wire.extend(piece);
    }
    drop(whole);
    calltap.wait_calls("", 1);
    let (descriptors, tasks) = (calltap.descriptors(), calltap.tasks());
    let cuts = 60;
    for at in 0..cuts {
        let header = format!("x-calltap-ref: {at}\r\n");
        let mut connection = Connection::open(calltap.address);
        connection.send(&request_with(&header, &chat_body(true)));
        connection.read_some(at * wire.len() / (cuts - 1));
    }
    let last_place = (cuts - 1).to_string();
    for call in calltap.wait_calls("has:ref", cuts) {
        let outcome = call["outcome"].as_str().unwrap();
        let last = call["tags"]["reference"] == last_place.as_str();
        assert!(outcome == "completed" || (outcome == "client_aborted" && !last), "{call:#}");
    }
    assert!(calltap.calls("outcome:client_aborted").len() > cuts / 2, "the cuts landed");
    // A connection to the upstream may wait for the next call.
    calltap.wait_left(descriptors + 1, tasks + 1);
}

#[test]
fn the_upstream_call_ends_with_the_client() {
    let upstream = Upstream::start(chat(10_000, Duration::from_millis(5)));
    let calltap = Calltap::start(&upstream);
    let mut connection = Connection::open(calltap.address);
    connection.send(&request(&chat_body(true)));
    assert!(connection.read_some(2000).len() == 2000);
    assert_eq!(upstream.open(), 1);
    let left = Instant::now();
    connection.stream().shutdown(Shutdown::Both).unwrap();
    while upstream.open() > 0 {
        assert!(left.elapsed() < Duration::from_secs(5), "the upstream call goes on");
        std::thread::sleep(Duration::from_millis(1));
    }
    println!("upstream closed after {:?}", left.elapsed());
    let record = calltap.only_record();
    assert_eq!(record["outcome"], "client_aborted");
    assert!(
        record["response"]["choices"][0]["message"]["content"].as_str().unwrap().starts_with("w0 ")
    );
}

#[test]
fn draining_reads_the_answer_to_its_end() {
    let upstream = Upstream::start(chat(40, Duration::from_millis(10)));
    let calltap = Calltap::with(&upstream, "on_disconnect = \"drain\"", "");
    let mut connection = Connection::open(calltap.address);
    connection.send(&request(&chat_body(true)));
    connection.read_some(1000);
    drop(connection);
    // And one that leaves before the answer begins.
    let mut early = Connection::open(calltap.address);
    early.send(&request(&chat_body(true)));
    let until = Instant::now() + Duration::from_secs(10);
    while upstream.requests().len() < 2 {
        assert!(Instant::now() < until, "the call goes upstream");
    }
    drop(early);
    for call in calltap.wait_calls("", 2) {
        assert_eq!(call["outcome"], "client_aborted");
        assert_eq!(call["usage"]["output"], 40, "{call:#}");
    }
}

/// Whoever leaves at about the moment when the answer begins costs the record nothing of it.
#[test]
fn draining_misses_no_answer_that_begins_as_the_client_leaves() {
    let upstream = Upstream::start(chat(20, Duration::ZERO));
    let calltap = Calltap::with(&upstream, "on_disconnect = \"drain\"", "");
    let total = 100;
    for at in 0..total {
        let mut connection = Connection::open(calltap.address);
        connection.send(&request(&chat_body(true)));
        wait(|| upstream.requests().len() > at, "the call goes upstream");
        std::thread::sleep(Duration::from_micros(at as u64 * 20));
        drop(connection);
    }
    let calls = calltap.wait_calls("", total);
    let lost: Vec<_> = calls.iter().filter(|call| call["usage"]["output"] != 20).collect();
    assert!(lost.is_empty(), "{} of {total} lost their answer: {:#}", lost.len(), lost[0]);
}

#[test]
fn closing_after_the_last_event_is_no_abort() {
    let delta = "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"a\"},\"finish_reason\":\"stop\"}]}\n\n";
    let error = "data: {\"error\":{\"message\":\"overloaded\",\"type\":\"server_error\"}}\n\n";
    for (last, outcome) in [("data: [DONE]\n\n", "completed"), (error, "provider_error")] {
        let upstream = Upstream::start(move |_| {
            let events = [delta.to_owned(), last.to_owned()];
            let mut steps = crate::harness::sse_answer(&events, Duration::ZERO);
            steps.pop();
            steps.push(Step::Stall);
            steps
        });
        let calltap = Calltap::start(&upstream);
        let mut connection = Connection::open(calltap.address);
        connection.send(&request(&chat_body(true)));
        let mut seen = Vec::new();
        while !seen.windows(last.len()).any(|part| part == last.as_bytes()) {
            let piece = connection.read_some(1);
            assert!(!piece.is_empty());
            seen.extend(piece);
        }
        drop(connection);
        assert_eq!(calltap.only_record()["outcome"], outcome);
    }
}

#[test]
fn a_client_that_leaves_inside_its_request_is_recorded() {
    let upstream = Upstream::start(chat(1, Duration::ZERO));
    let calltap = Calltap::start(&upstream);
    let bytes = request(&chat_body(false));
    let mut connection = Connection::open(calltap.address);
    connection.send(&bytes[..bytes.len() - 5]);
    std::thread::sleep(Duration::from_millis(50));
    drop(connection);
    let record = calltap.only_record();
    assert_eq!(record["outcome"], "client_aborted");
    assert_eq!(record["path"], "/v1/chat/completions");
    assert!(upstream.requests().is_empty());
}

/// A reset says the same as an orderly end, before the answer and in its middle.
#[test]
fn a_reset_by_the_client_is_an_abort() {
    let upstream = Upstream::start(chat(10_000, Duration::from_millis(5)));
    let calltap = Calltap::start(&upstream);
    for (at, bytes) in [0, 1, 700, 3000].into_iter().enumerate() {
        let mut connection = Connection::open(calltap.address);
        connection.send(&request(&chat_body(true)));
        wait(|| upstream.requests().len() == at + 1, "the call goes upstream");
        assert_eq!(connection.read_some(bytes).len(), bytes);
        connection.reset();
        wait(|| upstream.open() == 0, "the upstream call ends");
    }
    for call in calltap.wait_calls("", 4) {
        assert_eq!(call["outcome"], "client_aborted", "{call:#}");
        assert!(!call["cost"]["status"].is_null(), "{call:#}");
    }
}

/// Leaving a plain answer that has not begun ends the upstream call too.
#[test]
fn a_client_may_leave_before_a_plain_answer() {
    let upstream = Upstream::start(|_| vec![Step::Stall]);
    let calltap = Calltap::start(&upstream);
    let mut connection = Connection::open(calltap.address);
    connection.send(&request(&chat_body(false)));
    wait(|| upstream.requests().len() == 1, "the call goes upstream");
    drop(connection);
    wait(|| upstream.open() == 0, "the upstream call ends");
    let record = calltap.only_record();
    assert_eq!(record["outcome"], "client_aborted");
    assert_eq!(record["request"]["messages"][0]["content"], "hi");
    assert!(record["response"].is_null());
}

fn wait(done: impl Fn() -> bool, what: &str) {
    let until = Instant::now() + Duration::from_secs(10);
    while !done() {
        assert!(Instant::now() < until, "{what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Streams of one HTTP/2 connection that the client resets, and one beside them that it reads.
#[tokio::test(flavor = "multi_thread")]
async fn a_reset_http2_stream_hurts_no_other() {
    use http_body_util::{BodyExt, Full};
    use hyper_util::rt::{TokioExecutor, TokioIo};
    let upstream = Upstream::start(chat(100, Duration::from_millis(10)));
    let calltap = Calltap::start(&upstream);
    let stream = tokio::net::TcpStream::connect(calltap.address).await.unwrap();
    let (sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
            .await
            .unwrap();
    tokio::spawn(connection);
    let ask = || {
        let request =
            hyper::Request::post(format!("http://{}/v1/chat/completions", calltap.address))
                .header("content-type", "application/json")
                .body(Full::new(bytes::Bytes::from(chat_body(true))))
                .unwrap();
        sender.clone().send_request(request)
    };
    let kept = ask().await.unwrap();
    for _ in 0..10 {
        let mut left = ask().await.unwrap().into_body();
        left.frame().await.unwrap().unwrap();
        drop(left);
    }
    let body = kept.into_body().collect().await.unwrap().to_bytes();
    assert!(body.ends_with(b"data: [DONE]\n\n"));
    tokio::task::spawn_blocking(move || {
        calltap.wait_calls("", 11);
        assert_eq!(calltap.calls("outcome:client_aborted").len(), 10);
        assert_eq!(calltap.calls("outcome:completed").len(), 1);
        // The reset streams are gone upstream too; one connection may wait for the next call.
        wait(|| upstream.open() <= 1, "the upstream calls end");
    })
    .await
    .unwrap();
}
