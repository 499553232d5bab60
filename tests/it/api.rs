//! The API from outside.

use crate::harness::{Calltap, Connection, Upstream, chat, chat_body, fetch, post};
use std::time::{Duration, Instant};

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
    let ended = Instant::now();
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

#[test]
fn what_the_dashboard_asks_for_adds_up() {
    let upstream = Upstream::start(chat(3, Duration::ZERO));
    let calltap = Calltap::start(&upstream);
    let labels =
        "x-calltap-session: tree/1\r\nx-calltap-prompt: greet\r\nx-calltap-prompt-version: 7\r\n";
    for _ in 0..3 {
        post(calltap.address, "/v1/chat/completions", labels, &chat_body(true));
    }
    calltap.wait_calls("session:tree/1", 3);
    let get = |path: &str| fetch(calltap.address, path).unwrap();
    let until = Instant::now() + Duration::from_secs(10);
    while get("/api/v1/metrics").json()["lag"] != 0 {
        assert!(Instant::now() < until, "the roll-ups follow");
        std::thread::sleep(Duration::from_millis(20));
    }
    let metrics = get("/api/v1/metrics?by=model&compare=1").json();
    assert_eq!(
        (&metrics["totals"]["calls"], &metrics["previous"]["calls"]),
        (&3.into(), &0.into())
    );
    let facets = get("/api/v1/facets?fields=prompt,version").json();
    assert_eq!(facets["items"][0]["values"][0]["value"], "greet");
    assert_eq!(get("/api/v1/sessions").json()["items"][0]["calls"], 3);
    assert_eq!(get("/api/v1/sessions/tree%2F1").json()["session"], "tree/1");
    let turns = get("/api/v1/sessions/tree%2F1/turns?limit=2").json();
    assert_eq!(
        (&turns["items"][0]["resent"], &turns["items"][1]["resent"]),
        (&0.into(), &1.into())
    );
    assert!(turns["items"][0]["answer"]["content"].is_string() && turns["next"].is_string());
    assert_eq!(get("/api/v1/prompts").json()["items"][0]["prompt"], "greet");
    assert_eq!(get("/api/v1/prompts/greet").json()["versions"][0]["version"], "7");
    assert_eq!(get("/api/v1/query?q=modle:x").json()["error"]["at"], 0);
    let pricing = get("/api/v1/pricing").json();
    assert_eq!(
        (&pricing["layers"][0]["layer"], &pricing["missing"]),
        (&"embedded".into(), &Vec::<i32>::new().into())
    );
    let settings = get("/api/v1/settings").json();
    assert_eq!(settings["listen"], calltap.address.to_string());
    for wrong in [
        "facets?fields=cost",
        "metrics?by=weather",
        "metrics?from=2026-01-02T00:00:00Z&to=2026-01-01T00:00:00Z",
        "sessions?after=0-0",
        "sessions?limit=many",
        "prompts?since=soon",
    ] {
        let answer = get(&format!("/api/v1/{wrong}"));
        assert_eq!(
            (answer.status, &answer.json()["error"]["code"]),
            (400, &"calltap_bad_request".into()),
            "{wrong}"
        );
    }
    for nothing in ["sessions/none", "prompts/none"] {
        assert_eq!(get(&format!("/api/v1/{nothing}")).status, 404, "{nothing}");
    }
}
