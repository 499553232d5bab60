//! Upstreams that fail: the client sees what a direct client would, or an error of calltap's own.

use crate::harness::{Calltap, Step, Upstream, chat, chat_body, count, free_port, places, post};
use std::{sync::Arc, time::Duration};

/// What came of a chunked answer's body; `None` where its head is not whole.
fn came(answer: &[u8]) -> Option<Vec<u8>> {
    let line = |rest: &[u8]| rest.windows(2).position(|bytes| bytes == b"\r\n");
    let head = answer.windows(4).position(|bytes| bytes == b"\r\n\r\n")?;
    let (mut rest, mut body) = (&answer[head + 4..], Vec::new());
    while let Some(end) = line(rest) {
        let size = usize::from_str_radix(str::from_utf8(&rest[..end]).unwrap(), 16).unwrap();
        let data = &rest[end + 2..];
        body.extend(&data[..size.min(data.len())]);
        rest = data.get(size + 2..).unwrap_or_default();
    }
    Some(body)
}

/// The upstream resets after every so many bytes of a stream: one record each, with what came.
#[test]
fn an_upstream_may_break_off_at_any_byte() {
    let whole: Vec<u8> = chat(200, Duration::ZERO)(&crate::harness::Request {
        body: r#"{"stream":true,"stream_options":{"include_usage":true}}"#.into(),
        ..crate::harness::Request::default()
    })
    .into_iter()
    .flat_map(|step| match step {
        Step::Send(bytes) => bytes,
        _ => Vec::new(),
    })
    .collect();
    let length = whole.len();
    let body = r#"{"model":"gpt-4o-mini","stream":true,"stream_options":{"include_usage":true},"messages":[]}"#;
    // With all of its bytes the answer would be whole.
    let places = Arc::new(places(count("CALLTAP_TEST_CUTS", 150), length));
    let cuts = places.len();
    let whole = Arc::new(whole);
    let sent = Arc::clone(&whole);
    let done_end = whole.windows(6).position(|bytes| bytes == b"[DONE]").unwrap() + 6;
    let upstream = Upstream::start(move |request| {
        let at: usize = request.header("x-cut").unwrap().parse().unwrap();
        let bytes = Step::Send(sent[..at].to_vec());
        if at.is_multiple_of(2) {
            // A reset right behind the bytes would overtake them.
            vec![bytes, Step::Pause(Duration::from_millis(3)), Step::Rst]
        } else {
            vec![bytes, Step::Fin]
        }
    });
    let calltap = Calltap::start(&upstream);
    post(calltap.address, "/v1/chat/completions", &format!("x-cut: {length}\r\n"), body);
    calltap.wait_calls("", 1);
    let (descriptors, tasks) = (calltap.descriptors(), calltap.tasks());
    let address = calltap.address;
    let threads: Vec<_> = (0..4)
        .map(|thread| {
            let (places, whole) = (Arc::clone(&places), Arc::clone(&whole));
            std::thread::spawn(move || {
                for &at in places.iter().skip(thread).step_by(4) {
                    let header = format!("x-cut: {at}\r\nx-calltap-ref: {at}\r\n");
                    let answer = post(address, "/v1/chat/completions", &header, body);
                    assert!(
                        answer.status == 502 || !answer.whole,
                        "no clean end at {at}: {answer:?}"
                    );
                    let came = came(&whole[..at]);
                    assert_eq!(answer.status == 502, came.is_none(), "after {at} bytes");
                    if let Some(came) = came {
                        let got = answer.body.len();
                        assert!(answer.body == came, "after {at} bytes: {got} of {}", came.len());
                    }
                }
            })
        })
        .collect();
    for thread in threads {
        thread.join().unwrap();
    }
    let (mut broken, mut done) = (0, 0);
    for call in calltap.wait_calls("has:ref", cuts) {
        let at: usize = call["tags"]["reference"].as_str().unwrap().parse().unwrap();
        // After `[DONE]` nothing is missing: only the frame of HTTP was cut.
        let whole = at >= done_end;
        *(if whole { &mut done } else { &mut broken }) += 1;
        let expected = if whole { "completed" } else { "upstream_truncated" };
        assert_eq!(call["outcome"], expected, "after {at} of {length} bytes: {call:#}");
    }
    // The first call's connection may have been closed meanwhile; nothing else may be open.
    let left = calltap.wait_left(descriptors, tasks);
    println!(
        "{cuts} cuts of {length} bytes: {broken} upstream_truncated, {done} completed; descriptors and tasks {left:?}, before {:?}",
        (descriptors, tasks),
    );
}

#[test]
fn nobody_at_the_upstream_is_a_502() {
    let upstream = Upstream::start(chat(1, Duration::ZERO));
    let calltap = Calltap::with(
        &upstream,
        "",
        &format!("[upstreams.gone]\nbase_url = \"http://127.0.0.1:{}/v1\"\n", free_port()),
    );
    let answer = post(calltap.address, "/gone/v1/chat/completions", "", &chat_body(false));
    assert_eq!(answer.status, 502);
    assert_eq!(answer.json()["error"]["code"], "calltap_upstream_unreachable");
    assert_eq!(answer.header("x-should-retry"), Some("true"));
    let record = calltap.only_record();
    assert_eq!(record["outcome"], "connect_failed");
    assert_eq!(record["error"]["source"], "upstream");
    assert_eq!(record["status"], 502);
}

#[test]
fn garbage_and_early_ends_are_a_502() {
    let upstream = Upstream::start(|request| {
        let garbage = request.header("x-kind") == Some("garbage");
        let bytes = if garbage {
            b"\x16\x03\x01 nonsense\r\n\r\n".to_vec()
        } else {
            b"HTTP/1.1 2".to_vec()
        };
        vec![Step::Send(bytes), Step::Fin]
    });
    let calltap = Calltap::start(&upstream);
    for kind in ["garbage", "half"] {
        let header = format!("x-kind: {kind}\r\n");
        let answer = post(calltap.address, "/v1/chat/completions", &header, &chat_body(false));
        assert_eq!(answer.status, 502, "{kind}");
    }
    let calls = calltap.wait_calls("outcome:upstream_truncated", 2);
    assert!(calls.iter().all(|call| call["error"]["source"] == "upstream"), "{calls:#?}");
    assert_eq!(upstream.requests().len(), 2, "nothing was sent twice");
}

#[test]
fn silence_is_a_504_or_a_broken_stream() {
    let upstream = Upstream::start(|request| {
        if request.json()["stream"] == true {
            let head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n2\r\nda\r\n";
            return vec![Step::Send(head.to_vec()), Step::Stall];
        }
        vec![Step::Stall]
    });
    let calltap =
        Calltap::with(&upstream, "first_byte_timeout = \"300ms\"\nidle_timeout = \"300ms\"", "");
    let answer = post(calltap.address, "/v1/chat/completions", "", &chat_body(false));
    assert_eq!(answer.status, 504);
    assert_eq!(answer.json()["error"]["code"], "calltap_upstream_timeout");
    let answer = post(calltap.address, "/v1/chat/completions", "", &chat_body(true));
    assert!(answer.status == 200 && !answer.whole);
    calltap.wait_calls("outcome:upstream_timeout", 2);
}

#[test]
fn an_early_error_reaches_a_client_that_still_sends() {
    let upstream =
        Upstream::start(|_| crate::harness::json_answer(401, "{\"error\":{\"message\":\"no\"}}"));
    let calltap = Calltap::start(&upstream);
    let answer = post(
        calltap.address,
        "/v1/files",
        "content-type: application/octet-stream\r\n",
        &"x".repeat(1 << 20),
    );
    assert_eq!(answer.status, 401);
    assert_eq!(calltap.only_record()["outcome"], "provider_error");
}
