//! The API from outside.

use crate::harness::{Calltap, Connection, Upstream, chat, chat_body, fetch, post};
use std::time::Duration;

#[test]
fn pages_queries_and_errors() {
    let upstream = Upstream::start(chat(1, Duration::ZERO));
    let calltap = Calltap::start(&upstream);
    for at in 0..25 {
        let header = format!("x-calltap-session: s{}\r\n", at % 5);
        post(calltap.address, "/v1/chat/completions", &header, &chat_body(false));
    }
    calltap.wait_calls("", 25);
    let page = fetch(calltap.address, "/api/v1/calls?limit=10").unwrap().json();
    assert_eq!(page["items"].as_array().unwrap().len(), 10);
    assert!(page["items"][0].get("request").is_none());
    let next = page["next"].as_str().unwrap();
    let page =
        fetch(calltap.address, &format!("/api/v1/calls?limit=100&after={next}")).unwrap().json();
    assert_eq!(page["items"].as_array().unwrap().len(), 15);
    assert!(page["next"].is_null());
    assert_eq!(calltap.calls("session:s3 model:gpt-4o*").len(), 5);
    let stats = fetch(calltap.address, "/api/v1/stats?by=session").unwrap().json();
    assert_eq!(stats["items"].as_array().unwrap().len(), 5);
    for (path, status, code) in [
        ("/api/v1/calls?q=modl:x", 400, "calltap_bad_request"),
        ("/api/v1/calls?after=forged", 400, "calltap_bad_request"),
        ("/api/v1/calls?limit=many", 400, "calltap_bad_request"),
        ("/api/v1/stats?by=nonsense", 400, "calltap_bad_request"),
        ("/api/v1/calls/..%2f", 404, "calltap_not_found"),
        ("/api/v1/nothing", 404, "calltap_not_found"),
    ] {
        let answer = fetch(calltap.address, path).unwrap();
        assert_eq!(
            (answer.status, answer.json()["error"]["code"].as_str()),
            (status, Some(code)),
            "{path}"
        );
    }
    let metrics = fetch(calltap.address, "/metrics").unwrap();
    assert_eq!(metrics.status, 200);
    assert_eq!(fetch(calltap.address, "/version").unwrap().json()["version"], "0.1.0");
}

#[test]
fn raw_bytes_are_never_a_page() {
    let upstream =
        Upstream::start(|_| crate::harness::json_answer(200, "<script>alert(1)</script>"));
    let calltap = Calltap::start(&upstream);
    post(calltap.address, "/v1/chat/completions", "", &chat_body(false));
    let id = calltap.only_record()["id"].as_str().unwrap().to_owned();
    let raw = fetch(calltap.address, &format!("/api/v1/calls/{id}/raw?part=response")).unwrap();
    assert_eq!(raw.body, b"<script>alert(1)</script>");
    assert_eq!(raw.header("content-type"), Some("application/octet-stream"));
    assert_eq!(raw.header("x-content-type-options"), Some("nosniff"));
    let both = fetch(calltap.address, &format!("/api/v1/calls/{id}/raw")).unwrap().json();
    assert_eq!(both["request"]["text"], chat_body(false));
    assert_eq!(both["chunks"].as_array().unwrap().len(), 1);
}

#[test]
fn a_call_shows_up_live_within_a_second() {
    let upstream = Upstream::start(chat(1, Duration::ZERO));
    let calltap = Calltap::start(&upstream);
    let mut events = Connection::open(calltap.address);
    events.send(
        format!("GET /api/v1/events?q=session:live HTTP/1.1\r\nhost: {}\r\n\r\n", calltap.address)
            .as_bytes(),
    );
    let mut seen = String::new();
    while !seen.contains(": following") {
        seen.push_str(&String::from_utf8_lossy(&events.read_some(1)));
    }
    post(
        calltap.address,
        "/v1/chat/completions",
        "x-calltap-session: other\r\n",
        &chat_body(false),
    );
    post(calltap.address, "/v1/chat/completions", "x-calltap-session: live\r\n", &chat_body(false));
    let ended = std::time::Instant::now();
    while !seen.contains("\"session\":\"live\"") {
        let piece = events.read_some(1);
        assert!(!piece.is_empty());
        seen.push_str(&String::from_utf8_lossy(&piece));
    }
    println!("seen {:?} after the answer", ended.elapsed());
    assert!(
        seen.contains("event: call\nid: 2\n") && !seen.contains("\"session\":\"other\""),
        "{seen}"
    );
}

#[test]
fn doors_of_a_loopback_listener() {
    let upstream = Upstream::start(chat(1, Duration::ZERO));
    let calltap = Calltap::start(&upstream);
    let status = |headers: &str| {
        let mut connection = Connection::open(calltap.address);
        connection.send(format!("GET /api/v1/calls HTTP/1.1\r\n{headers}\r\n").as_bytes());
        connection.answer("GET").unwrap().status
    };
    let host = format!("host: {}\r\n", calltap.address);
    assert_eq!(status(&host), 200);
    assert_eq!(status("host: localhost:4777\r\n"), 200);
    assert_eq!(status("host: evil.example\r\n"), 421);
    assert_eq!(status(&format!("{host}origin: https://evil.example\r\n")), 403);
    assert_eq!(status(&format!("{host}origin: null\r\n")), 403);
    assert_eq!(status(&format!("{host}sec-fetch-site: cross-site\r\n")), 403);
    assert_eq!(status(&format!("{host}origin: http://{}\r\n", calltap.address)), 200);
}

#[test]
fn an_admin_token_guards_the_api_and_not_the_calls() {
    let upstream = Upstream::start(chat(1, Duration::ZERO));
    let calltap = Calltap::with(&upstream, "", "[auth]\nadmin_token = \"s3cret\"\n");
    assert_eq!(fetch(calltap.address, "/api/v1/calls").unwrap().status, 401);
    assert_eq!(fetch(calltap.address, "/metrics").unwrap().status, 401);
    assert_eq!(fetch(calltap.address, "/livez").unwrap().status, 200);
    assert_eq!(post(calltap.address, "/v1/chat/completions", "", &chat_body(false)).status, 200);
    let mut connection = Connection::open(calltap.address);
    connection.send(
        format!(
            "GET /api/v1/calls HTTP/1.1\r\nhost: {}\r\nauthorization: Bearer s3cret\r\n\r\n",
            calltap.address
        )
        .as_bytes(),
    );
    assert_eq!(connection.answer("GET").unwrap().status, 200);
}
