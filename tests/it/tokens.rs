//! Tokens that the provider did not count.

use crate::harness::{
    Calltap, Connection, Upstream, chat, chat_body, json_answer, post, sse_answer,
};
use serde_json::Value;
use std::{
    net::Shutdown,
    time::{Duration, Instant},
};

fn mentions(record: &Value, words: &str) -> bool {
    record["notes"].as_array().unwrap().iter().any(|note| note.as_str().unwrap().contains(words))
}

#[test]
fn a_whole_answer_without_usage_is_estimated_and_priced() {
    let upstream = Upstream::start(|request| {
        let whole = r#"{"id":"c","object":"chat.completion","model":"gpt-4o-mini-2024-07-18","choices":[{"index":0,"message":{"role":"assistant","content":"hello there"},"finish_reason":"stop"}]}"#;
        if request.json()["stream"] == true {
            let event = |delta: &str, reason: &str| {
                format!(
                    r#"data: {{"id":"c","object":"chat.completion.chunk","model":"gpt-4o-mini-2024-07-18","choices":[{{"index":0,"delta":{{{delta}}},"finish_reason":{reason}}}]}}"#
                ) + "\n\n"
            };
            let events = [
                event("\"content\":\"hello there\"", "null"),
                event("", "\"stop\""),
                "data: [DONE]\n\n".to_owned(),
            ];
            sse_answer(&events, Duration::ZERO)
        } else {
            json_answer(200, whole)
        }
    });
    let calltap = Calltap::start(&upstream);
    for stream in [false, true] {
        assert!(post(calltap.address, "/v1/chat/completions", "", &chat_body(stream)).whole);
    }
    for call in calltap.wait_calls("", 2) {
        let record = calltap.record(call["id"].as_str().unwrap());
        assert_eq!(record["outcome"], "completed", "{record:#}");
        assert_eq!(record["usage"]["source"], "estimated");
        // Three for the message, one for the role, one for "hi", three for the reply.
        assert_eq!(record["usage"]["input"], 8);
        assert_eq!(record["usage"]["output"], 2);
        assert_eq!(record["cost"]["status"], "priced");
        assert!(record["cost"]["notes"].to_string().contains("estimated"));
        assert!(mentions(&record, "o200k_base"), "{record:#}");
    }
}

#[test]
fn an_answer_that_broke_off_is_counted_as_far_as_it_came() {
    let upstream = Upstream::start(chat(10_000, Duration::from_millis(5)));
    let calltap = Calltap::start(&upstream);
    let mut connection = Connection::open(calltap.address);
    let body = chat_body(true);
    connection.send(
        format!(
            "POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        )
        .as_bytes(),
    );
    connection.read_some(2000);
    connection.stream().shutdown(Shutdown::Both).unwrap();
    let record = calltap.only_record();
    assert_eq!(record["outcome"], "client_aborted");
    assert_eq!(record["usage"]["source"], "partial");
    assert_eq!(record["usage"]["input"], 8);
    assert!(record["usage"]["output"].as_u64().unwrap() > 5, "{record:#}");
    assert!(record["cost"]["notes"].to_string().contains("partial"));
}

/// The thread that counts must not hold up the others: while it has megabytes to count, calls with
/// usage are recorded.
#[test]
fn counting_holds_up_no_other_call() {
    let upstream = Upstream::start(|request| {
        let usage = if request.json()["model"] == "gpt-4o" {
            ""
        } else {
            r#","usage":{"prompt_tokens":1,"completion_tokens":1}"#
        };
        json_answer(
            200,
            &format!(
                r#"{{"object":"chat.completion","model":"gpt-4o","choices":[{{"index":0,"message":{{"content":"x"}},"finish_reason":"stop"}}]{usage}}}"#
            ),
        )
    });
    let calltap = Calltap::start(&upstream);
    let long = "word ".repeat(400_000);
    let uncounted =
        format!(r#"{{"model":"gpt-4o","messages":[{{"role":"user","content":"{long}"}}]}}"#);
    for _ in 0..4 {
        assert!(post(calltap.address, "/v1/chat/completions", "", &uncounted).whole);
    }
    assert!(
        post(
            calltap.address,
            "/v1/chat/completions",
            "x-calltap-ref: counted\r\n",
            &chat_body(false)
        )
        .whole
    );
    let started = Instant::now();
    calltap.wait_calls("ref:counted", 1);
    let counted = started.elapsed();
    for call in calltap.wait_calls("-ref:counted", 4) {
        let record = calltap.record(call["id"].as_str().unwrap());
        let input = record["usage"]["input"].as_u64().unwrap();
        assert!((399_000..401_100).contains(&input), "{input}");
        assert!(mentions(&record, "only the beginning"));
    }
    println!("a counted call was there after {counted:?}, all after {:?}", started.elapsed());
}
