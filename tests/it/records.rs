//! What a record says.

use crate::harness::{Calltap, Step, Upstream, chat, chat_body, json_answer, post, sse_answer};
use serde_json::{Value, json};
use std::time::Duration;

#[test]
fn a_long_question_stands_once_in_the_store_and_is_whole_in_the_record() {
    let upstream = Upstream::start(chat(0, Duration::ZERO));
    let calltap = Calltap::start(&upstream);
    let secret = "sk-proj-0123456789abcdefghijABCDEFGHIJ";
    // The secret lies across the place where the stored record's own copy ends.
    let question = format!("{}é {secret} {}", "word ".repeat(202), "more ".repeat(4000));
    let body = json!({"model": "gpt-4o-mini", "messages": [{"role": "user", "content": question}]});
    post(calltap.address, "/v1/chat/completions", "", &body.to_string());
    let record = calltap.only_record();
    let asked = record["request"]["messages"][0]["content"].as_str().unwrap();
    assert!(asked.contains("[redacted:openai-key:") && asked.len() > 20_000);
    assert_eq!(record["tags"]["user_query"].as_str(), Some(asked));
    let file = calltap.data_dir().join("calltap.db");
    let store = rusqlite::Connection::open(file).unwrap();
    let doc: String = store.query_row("SELECT doc FROM docs", [], |row| row.get(0)).unwrap();
    assert!(doc.len() < 5000, "{} bytes", doc.len());
    assert!(doc.contains("word word") && !doc.contains("sk-proj") && !doc.contains("more more"));
}

#[test]
fn a_plain_call() {
    let upstream = Upstream::start(chat(0, Duration::ZERO));
    let calltap = Calltap::start(&upstream);
    let answer = post(
        calltap.address,
        "/v1/chat/completions",
        "authorization: Bearer sk-test-0123456789abcdefghijkl\r\nuser-agent: OpenAI/Python 2.54.0\r\nx-stainless-retry-count: 1\r\ntraceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01\r\nx-calltap-session: s1\r\nx-calltap-tags: a, b\r\nx-calltap-meta-Order: 7\r\n",
        &chat_body(false),
    );
    let record = calltap.only_record();
    assert_eq!(answer.header("x-calltap-id"), record["id"].as_str());
    assert_eq!(record["endpoint"], "chat.completions");
    assert_eq!(record["outcome"], "completed");
    assert_eq!(
        record["model"],
        json!({"requested": "gpt-4o-mini", "served": "gpt-4o-mini-2024-07-18"})
    );
    assert_eq!(record["usage"]["input"], 9);
    assert_eq!(record["usage"]["source"], "provider");
    assert_eq!(record["finish_reasons"], json!(["stop"]));
    assert_eq!(record["tags"]["session"], "s1");
    assert_eq!(record["tags"]["labels"], json!(["a", "b"]));
    assert_eq!(record["tags"]["metadata"], json!({"order": "7"}));
    assert_eq!(record["tags"]["user_query"], "hi");
    assert_eq!(record["client"]["sdk"], "openai-python");
    assert_eq!(record["client"]["retry"], 1);
    assert!(record["client"]["key"].as_str().unwrap().starts_with("fp_"));
    assert_eq!(record["trace"]["trace_id"], "4bf92f3577b34da6a3ce929d0e0e4736");
    assert_eq!(record["request"]["messages"][0]["content"], "hi");
    assert_eq!(record["response"]["choices"][0]["message"]["content"], "hello");
    assert_eq!(record["bytes"]["response"], record["bytes"]["delivered"]);
    assert!(record["timing"]["ttft_ms"].is_null() && record["timing"]["first_byte_ms"].is_number());
    for key in [
        "id",
        "seq",
        "started_at",
        "ended_at",
        "endpoint",
        "method",
        "path",
        "upstream",
        "provider",
        "model",
        "stream",
        "outcome",
        "status",
        "error",
        "finish_reasons",
        "timing",
        "usage",
        "cost",
        "tags",
        "client",
        "trace",
        "request",
        "response",
        "bytes",
        "notes",
    ] {
        assert!(record.get(key).is_some(), "{key}");
    }
}

#[test]
fn a_stream_without_usage_asked_for() {
    let upstream = Upstream::start(chat(5, Duration::from_millis(20)));
    let calltap = Calltap::start(&upstream);
    let body = chat_body(true);
    let answer = post(calltap.address, "/v1/chat/completions", "", &body);
    let direct = post(upstream.address, "/v1/chat/completions", "", &body);
    assert_eq!(answer.body, direct.body, "the client sees what it would have seen");
    assert_eq!(upstream.requests()[0].json()["stream_options"], json!({"include_usage": true}));
    let record = calltap.only_record();
    assert_eq!(record["usage"]["output"], 5);
    assert_eq!(record["response"]["choices"][0]["message"]["content"], "w0 w1 w2 w3 w4 ");
    let (ttft, first) = (&record["timing"]["ttft_ms"], &record["timing"]["first_byte_ms"]);
    assert!(ttft.as_f64().unwrap() > first.as_f64().unwrap(), "the role is no token: {record:#}");
    assert!(
        record["bytes"]["response"].as_u64().unwrap()
            > record["bytes"]["delivered"].as_u64().unwrap()
    );
    assert_eq!(record["bytes"]["delivered"], direct.body.len());
    let sha = {
        use sha2::Digest;
        hex::encode(sha2::Sha256::digest(&direct.body))
    };
    assert_eq!(record["bytes"]["delivered_sha256"], sha);
    assert_eq!(record["request"], serde_json::from_str::<Value>(&body).unwrap());
    assert!(record["notes"].to_string().contains("asked for"));
}

#[test]
fn a_client_that_asks_for_usage_gets_it() {
    let upstream = Upstream::start(chat(2, Duration::ZERO));
    let calltap = Calltap::start(&upstream);
    let body =
        r#"{"model":"m","stream":true,"stream_options":{"include_usage":true},"messages":[]}"#;
    let answer = post(calltap.address, "/v1/chat/completions", "", body);
    assert_eq!(answer.body, post(upstream.address, "/v1/chat/completions", "", body).body);
    assert!(String::from_utf8(answer.body).unwrap().contains("\"total_tokens\":11"));
    assert_eq!(upstream.requests()[0].body, body.as_bytes());
}

#[test]
fn metadata_in_the_body_is_cut_out() {
    let upstream = Upstream::start(chat(0, Duration::ZERO));
    let calltap = Calltap::start(&upstream);
    let id = "0190a0b0-0000-7000-8000-000000000001";
    let body = format!(
        r#"{{"model":"gpt-4o-mini", "calltap": {{"prompt":"p","id":"{id}","context":["doc",1.50],"metadata":{{"Plan":"pro"}}}}, "messages":[]}}"#
    );
    let answer =
        post(calltap.address, "/v1/chat/completions", "x-calltap-prompt: header\r\n", &body);
    assert_eq!(answer.header("x-calltap-id"), Some(id));
    assert_eq!(upstream.requests()[0].body, br#"{"model":"gpt-4o-mini", "messages":[]}"#);
    calltap.wait_calls("", 1);
    let record = calltap.record(id);
    assert_eq!(record["tags"]["prompt"], "header");
    assert_eq!(record["tags"]["context"].to_string(), r#"["doc",1.50]"#);
    assert_eq!(record["tags"]["metadata"], json!({"plan": "pro"}));
    assert_eq!(record["request"], json!({"model": "gpt-4o-mini", "messages": []}));
}

#[test]
fn bad_metadata_costs_a_warning_and_no_call() {
    let upstream = Upstream::start(chat(0, Duration::ZERO));
    let calltap = Calltap::start(&upstream);
    let answer = post(
        calltap.address,
        "/v1/chat/completions",
        "x-calltap-id: nope\r\nx-calltap-meta: {\r\nx-calltap-session: fine\r\n",
        &chat_body(false),
    );
    assert_eq!(answer.status, 200);
    let warning = answer.header("x-calltap-warning").unwrap();
    assert!(warning.contains("x-calltap-id") && warning.contains("x-calltap-meta"), "{warning}");
    assert_eq!(calltap.only_record()["tags"]["session"], "fine");
}

#[test]
fn log_levels_are_kept() {
    let upstream = Upstream::start(chat(0, Duration::ZERO));
    let calltap = Calltap::start(&upstream);
    let post =
        |headers: &str| post(calltap.address, "/v1/chat/completions", headers, &chat_body(false));
    post("x-calltap-log: off\r\n");
    post("x-calltap-log: metadata\r\nx-calltap-session: m\r\n");
    let row = calltap.wait_calls("", 1).remove(0);
    let record = calltap.record(row["id"].as_str().unwrap());
    assert!(record["request"].is_null() && record["response"].is_null());
    assert!(record["tags"]["user_query"].is_null());
    assert_eq!(record["usage"]["input"], 9);
    assert_eq!(record["tags"]["session"], "m");
}

#[test]
fn odd_bodies_are_forwarded_recorded_and_noted() {
    let upstream = Upstream::start(|_| json_answer(200, "{}"));
    let calltap = Calltap::start(&upstream);
    let deep = format!("{{\"a\":{}{}}}", "[".repeat(100_000), "]".repeat(100_000));
    let bodies = [
        "not json".to_owned(),
        deep,
        r#"{"model":"a","model":"b","stream":true,"stream":false}"#.to_owned(),
        r#"{"model":"a","stream":"true"}"#.to_owned(),
        r#"{"n":1e400,"m":-0,"lone":"\ud83d"}"#.to_owned(),
        "null".to_owned(),
        String::new(),
    ];
    for body in &bodies {
        assert_eq!(post(calltap.address, "/v1/chat/completions", "", body).status, 200);
    }
    for (request, body) in upstream.requests().iter().zip(&bodies) {
        assert!(request.body == body.as_bytes(), "{}", &body[..body.len().min(60)]);
    }
    let calls = calltap.wait_calls("", bodies.len());
    let notes = |at: usize| calls[bodies.len() - 1 - at]["notes"].to_string();
    for at in [0, 1] {
        assert!(notes(at).contains("request_unparsed"), "{at}: {}", notes(at));
    }
    assert!(notes(2).contains("duplicate"), "{}", notes(2));
}

#[test]
fn compressed_answers_pass_as_they_are_and_are_read() {
    use flate2::{Compression, write::GzEncoder};
    use std::io::Write;
    let plain = r#"{"model":"m","choices":[{"index":0,"message":{"content":"zipped"},"finish_reason":"stop"}]}"#;
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(plain.as_bytes()).unwrap();
    let zipped = encoder.finish().unwrap();
    let sent = zipped.clone();
    let upstream = Upstream::start(move |_| {
        let head = format!(
            "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-encoding: gzip\r\ncontent-length: {}\r\n\r\n",
            sent.len()
        );
        vec![Step::Send([head.as_bytes(), &sent].concat())]
    });
    let calltap = Calltap::start(&upstream);
    let answer = post(calltap.address, "/v1/chat/completions", "", &chat_body(false));
    assert_eq!(answer.body, zipped);
    let record = calltap.only_record();
    assert_eq!(record["response"]["choices"][0]["message"]["content"], "zipped");
    assert_eq!(record["bytes"]["response"], zipped.len());
}

#[test]
fn provider_errors_pass_and_are_recorded() {
    let error = r#"{"error":{"message":"slow down","type":"rate_limit_error","param":null,"code":"rate_limit_exceeded"}}"#;
    let upstream = Upstream::start(move |request| {
        if request.json()["stream"] == true {
            let event = format!("data: {error}\n\n");
            return sse_answer(
                &[
                    "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"a\"}}]}\n\n".into(),
                    event,
                ],
                Duration::ZERO,
            );
        }
        let head = format!(
            "HTTP/1.1 429 Slow\r\ncontent-type: application/json\r\nretry-after: 3\r\ncontent-length: {}\r\n\r\n{error}",
            error.len()
        );
        vec![Step::Send(head.into_bytes())]
    });
    let calltap = Calltap::start(&upstream);
    let answer = post(calltap.address, "/v1/chat/completions", "", &chat_body(false));
    assert_eq!((answer.status, answer.body), (429, error.as_bytes().to_vec()));
    assert_eq!(answer.headers.iter().find(|(name, _)| name == "retry-after").unwrap().1, "3");
    post(calltap.address, "/v1/chat/completions", "", &chat_body(true));
    let calls = calltap.wait_calls("outcome:provider_error", 2);
    for call in &calls {
        assert_eq!(call["error"]["source"], "provider");
        assert_eq!(call["error"]["code"], "rate_limit_exceeded");
    }
    let partial = calltap.record(calls[0]["id"].as_str().unwrap());
    assert_eq!(partial["response"]["choices"][0]["message"]["content"], "a");
}

#[test]
fn a_repeated_id_is_recorded_once_more_and_linked() {
    let upstream = Upstream::start(chat(0, Duration::ZERO));
    let calltap = Calltap::start(&upstream);
    let header = "x-calltap-id: 0190a0b0-0000-7000-8000-0000000000aa\r\n";
    post(calltap.address, "/v1/chat/completions", header, &chat_body(false));
    calltap.wait_calls("", 1);
    post(calltap.address, "/v1/chat/completions", header, &chat_body(false));
    let calls = calltap.wait_calls("", 2);
    assert_eq!(calls[1]["id"], "0190a0b0-0000-7000-8000-0000000000aa");
    assert_eq!(calls[0]["repeats"], "0190a0b0-0000-7000-8000-0000000000aa");
}
