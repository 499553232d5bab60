//! Where calls go, and what goes along.

use crate::harness::{Calltap, Connection, Upstream, chat, chat_body, fetch, json_answer, post};
use std::time::Duration;

#[test]
fn every_path_form_reaches_its_upstream() {
    let upstream = Upstream::start(|_| json_answer(200, "{}"));
    let azure = Upstream::start(|_| json_answer(200, "{}"));
    let named = Upstream::start(|_| json_answer(200, "{}"));
    let calltap = Calltap::with(
        &upstream,
        "",
        &format!(
            "[upstreams.azure]\nbase_url = \"http://{}\"\n[upstreams.local]\nbase_url = \"http://{}/base/v1\"\n",
            azure.address, named.address
        ),
    );
    for path in [
        "/v1/chat/completions",
        "/chat/completions",
        "/v1/brand/new?a=b&c=%20d",
        "/v1/models/a%2Fb",
        "/local/v1/chat/completions",
        "/local/embeddings",
        "/openai/deployments/d/chat/completions?api-version=2024-10-21",
        "/openai/v1/responses",
        "/-/prompt=p1;session=s%201/v1/chat/completions",
        "/-/prompt=p2/local/v1/x",
    ] {
        assert_eq!(post(calltap.address, path, "", "{}").status, 200, "{path}");
    }
    post(calltap.address, "/v1/y", "x-calltap-upstream: local\r\n", "{}");
    let lines = |upstream: &Upstream| {
        upstream.requests().into_iter().map(|request| request.line).collect::<Vec<_>>()
    };
    assert_eq!(
        lines(&upstream),
        [
            "POST /v1/chat/completions HTTP/1.1",
            "POST /v1/chat/completions HTTP/1.1",
            "POST /v1/brand/new?a=b&c=%20d HTTP/1.1",
            "POST /v1/models/a%2Fb HTTP/1.1",
            "POST /v1/chat/completions HTTP/1.1",
        ]
    );
    assert_eq!(
        lines(&named),
        [
            "POST /base/v1/chat/completions HTTP/1.1",
            "POST /base/v1/embeddings HTTP/1.1",
            "POST /base/v1/x HTTP/1.1",
            "POST /base/v1/y HTTP/1.1",
        ]
    );
    assert_eq!(
        lines(&azure),
        [
            "POST /openai/deployments/d/chat/completions?api-version=2024-10-21 HTTP/1.1",
            "POST /openai/v1/responses HTTP/1.1",
        ]
    );
    let calls = calltap.wait_calls("", 11);
    assert_eq!(calls[2]["tags"]["session"], "s 1");
    assert_eq!(calls[2]["tags"]["prompt"], "p1");
    assert_eq!(calls[1]["upstream"], "local");
}

#[test]
fn refused_calls_are_told_apart_and_recorded() {
    let upstream = Upstream::start(|_| json_answer(200, "{}"));
    let calltap = Calltap::with(&upstream, "", "[server]\nmax_body = \"1KiB\"\n");
    for (path, headers, body, status, code) in [
        ("/nosuch/v1/x", "", "{}".to_owned(), 404, "calltap_unknown_upstream"),
        ("/nosuch", "", "{}".to_owned(), 404, "calltap_unknown_route"),
        (
            "/v1/x",
            "x-calltap-upstream: nosuch\r\n",
            "{}".to_owned(),
            404,
            "calltap_unknown_upstream",
        ),
        ("/v1/../x", "", "{}".to_owned(), 400, "calltap_bad_request"),
        ("/v1/x", "", "x".repeat(2000), 413, "calltap_body_too_large"),
        ("/v1/x", "origin: https://evil.example\r\n", "{}".to_owned(), 403, "calltap_forbidden"),
    ] {
        let answer = post(calltap.address, path, headers, &body);
        assert_eq!(answer.status, status, "{path}");
        assert_eq!(answer.json()["error"]["code"], code, "{path}");
        assert_eq!(answer.header("x-calltap-error"), Some("1"));
        assert_eq!(answer.header("x-should-retry"), Some("false"));
        assert!(answer.header("x-calltap-id").is_some());
    }
    assert!(upstream.requests().is_empty(), "nothing of it went upstream");
    let calls = calltap.wait_calls("outcome:refused", 6);
    assert_eq!(calls[0]["error"]["source"], "calltap");
}

#[test]
fn headers_pass_and_connection_headers_do_not() {
    let upstream = Upstream::start(|_| {
        vec![crate::harness::Step::Send(
            b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nset-cookie: a=1\r\nset-cookie: b=2\r\nx-odd:  v\r\nconnection: x-hop\r\nx-hop: 1\r\nlocation: /elsewhere\r\nx-request-id: r1\r\n\r\nok".to_vec(),
        )]
    });
    let calltap = Calltap::start(&upstream);
    let answer = post(
        calltap.address,
        "/v1/x",
        "authorization: Bearer sk-1\r\nconnection: x-private, authorization\r\nx-private: 1\r\nx-multi: a\r\nx-multi: b\r\naccept-encoding: br, gzip;q=0\r\nx-calltap-session: s\r\ncookie: c=1\r\n",
        "{}",
    );
    let request = upstream.requests().remove(0);
    assert_eq!(request.header("authorization"), Some("Bearer sk-1"));
    assert_eq!(request.header("accept-encoding"), Some("br, gzip;q=0"));
    assert_eq!(request.header("cookie"), Some("c=1"));
    assert_eq!(request.header("host"), Some(upstream.address.to_string().as_str()));
    assert!(request.header("via").unwrap().starts_with("1.1 calltap-"));
    let multi: Vec<&str> = request
        .headers
        .iter()
        .filter(|(name, _)| name == "x-multi")
        .map(|(_, value)| value.as_str())
        .collect();
    assert_eq!(multi, ["a", "b"]);
    assert!(request.header("x-private").is_none() && request.header("x-calltap-session").is_none());
    let cookies: Vec<&str> = answer
        .headers
        .iter()
        .filter(|(name, _)| name == "set-cookie")
        .map(|(_, value)| value.as_str())
        .collect();
    assert_eq!(cookies, ["a=1", "b=2"]);
    assert_eq!(answer.header("x-hop"), None);
    assert_eq!(answer.header("location"), Some("/elsewhere"));
    assert!(answer.header("server-timing").unwrap().starts_with("calltap;dur="));
    let record = calltap.only_record();
    assert_eq!(record["headers"]["response"][1][0], "x-request-id");
    assert!(!record.to_string().contains("c=1") && !record.to_string().contains("set-cookie"));
}

#[test]
fn other_vendors_headers_are_read_and_stay_here() {
    let upstream = Upstream::start(chat(1, Duration::ZERO));
    let calltap = Calltap::start(&upstream);
    let answer = post(
        calltap.address,
        "/v1/chat/completions",
        "Helicone-Auth: Bearer sk-helicone-1\r\nHelicone-Session-Id: s-9\r\nHelicone-Property-Plan: Pro\r\nx-portkey-metadata: {\"_user\":\"u-9\",\"order\":\"7\"}\r\nx-litellm-tags: a, b\r\ncf-aig-metadata: {broken\r\nx-calltap-prompt: own\r\nhelicone-prompt-id: theirs\r\nx-client-request-id: r-9\r\nopenai-organization: org-1\r\n",
        &chat_body(false),
    );
    assert!(answer.header("x-calltap-warning").unwrap().contains("cf-aig-metadata"));
    let request = upstream.requests().remove(0);
    let names: Vec<&str> = request.headers.iter().map(|(name, _)| name.as_str()).collect();
    let theirs = ["helicone", "portkey", "litellm", "cf-aig", "calltap"];
    let leaked =
        names.iter().filter(|name| **name != "via" && theirs.iter().any(|t| name.contains(t)));
    assert_eq!(leaked.count(), 0, "{names:?}");
    assert!(names.contains(&"x-client-request-id") && names.contains(&"openai-organization"));
    let record = calltap.only_record();
    let tags = &record["tags"];
    assert_eq!((&tags["session"], &tags["user"]), (&"s-9".into(), &"u-9".into()));
    assert_eq!((&tags["prompt"], &tags["reference"]), (&"own".into(), &"r-9".into()));
    assert_eq!(tags["labels"], serde_json::json!(["a", "b"]));
    assert_eq!(tags["metadata"], serde_json::json!({"plan": "Pro", "order": "7"}));
    assert!(!record.to_string().contains("sk-helicone"));
}

#[test]
fn redirects_methods_and_bodyless_answers_pass() {
    let upstream = Upstream::start(|request| {
        let method = request.line.split(' ').next().unwrap_or_default().to_owned();
        let answer = match method.as_str() {
            "GET" => "HTTP/1.1 307 T\r\nlocation: http://127.0.0.1:1/\r\ncontent-length: 0\r\n\r\n",
            "DELETE" => "HTTP/1.1 204 N\r\n\r\n",
            "HEAD" => "HTTP/1.1 200 O\r\ncontent-length: 1234\r\n\r\n",
            "PATCH" => "HTTP/1.1 304 N\r\netag: \"x\"\r\n\r\n",
            _ => "HTTP/1.1 200 O\r\ncontent-length: 0\r\n\r\n",
        };
        vec![crate::harness::Step::Send(answer.as_bytes().to_vec())]
    });
    let calltap = Calltap::start(&upstream);
    for (method, status) in [
        ("GET", 307),
        ("DELETE", 204),
        ("HEAD", 200),
        ("PATCH", 304),
        ("OPTIONS", 200),
        ("PUT", 200),
    ] {
        let mut connection = Connection::open(calltap.address);
        connection.send(format!("{method} /v1/x HTTP/1.1\r\nhost: x\r\n\r\n").as_bytes());
        let answer = connection.answer(method).unwrap();
        assert_eq!(answer.status, status, "{method}");
        if method == "HEAD" {
            assert_eq!(answer.header("content-length"), Some("1234"));
        }
    }
    let calls = calltap.wait_calls("", 6);
    assert!(calls.iter().all(|call| call["outcome"] == "completed"), "{calls:#?}");
}

#[test]
fn a_call_that_comes_back_is_stopped() {
    let upstream = Upstream::start(|_| json_answer(200, "{}"));
    let port = crate::harness::free_port();
    let calltap = Calltap::with(
        &upstream,
        "",
        &format!("[upstreams.self]\nbase_url = \"http://127.0.0.1:{port}/self/v1\"\n"),
    );
    // The address is only known once it runs: tell it about itself by a reload.
    let text = std::fs::read_to_string(calltap.config()).unwrap();
    let text = text.replace(&format!("127.0.0.1:{port}"), &calltap.address.to_string());
    std::fs::write(calltap.config(), text).unwrap();
    calltap.signal("HUP");
    let until = std::time::Instant::now() + Duration::from_secs(10);
    loop {
        let answer = post(calltap.address, "/self/v1/x", "", "{}");
        if answer.status == 508 {
            assert_eq!(answer.json()["error"]["code"], "calltap_loop");
            return;
        }
        assert!(std::time::Instant::now() < until, "{answer:?}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn chunked_and_expecting_uploads_arrive() {
    let upstream = Upstream::start(|_| json_answer(200, "{}"));
    let calltap = Calltap::start(&upstream);
    let mut connection = Connection::open(calltap.address);
    connection.send(b"POST /v1/files HTTP/1.1\r\nhost: x\r\ncontent-type: multipart/form-data; boundary=b\r\ntransfer-encoding: chunked\r\n\r\n");
    for _ in 0..100 {
        connection.send(b"400\r\n");
        connection.send(&[b'x'; 0x400]);
        connection.send(b"\r\n");
    }
    connection.send(b"0\r\n\r\n");
    assert_eq!(connection.answer("POST").unwrap().status, 200);
    connection.send(b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nexpect: 100-continue\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n");
    let interim = connection.read_some(25);
    assert!(interim.starts_with(b"HTTP/1.1 100 Continue"), "{}", String::from_utf8_lossy(&interim));
    connection.send(b"{}");
    assert_eq!(connection.answer("POST").unwrap().status, 200);
    let requests = upstream.requests();
    assert_eq!(requests[0].body, vec![b'x'; 102_400]);
    assert_eq!(requests[1].body, b"{}");
    let calls = calltap.wait_calls("", 2);
    assert_eq!(calls[1]["bytes"]["request"], 102_400);
    assert_eq!(calls[1]["endpoint"], "files");
}

#[test]
fn the_first_page_answers_browsers() {
    let upstream = Upstream::start(chat(1, Duration::ZERO));
    let calltap = Calltap::start(&upstream);
    let page = fetch(calltap.address, "/").unwrap();
    assert!(page.header("content-security-policy").unwrap().contains("default-src 'none'"));
    let text = String::from_utf8(page.body).unwrap();
    // The dashboard, or in a binary built without it the page that says how to get it.
    assert!(text.contains("<title>calltap") || text.contains("make ui"), "{text}");
    let scripts: Vec<&str> = text.split("<script").skip(1).collect();
    assert!(scripts.iter().all(|script| script.contains("src=\"/assets/")), "{text}");
    post(calltap.address, "/v1/chat/completions", "", &chat_body(false));
    assert_eq!(calltap.wait_calls("", 1).len(), 1, "looking at the page is no call");
}
