//! Where a call may lead: only to what is configured (S8, S9, S18).

use super::{Asker, Foreign, keys};
use crate::{
    delivery::wait_sink,
    harness::{Calltap, Step, Upstream, chat_body, json_answer},
};
use std::time::Duration;

/// Spellings of a URL that leads elsewhere; `{}` is the port of a listener on loopback, where nobody may come.
const URLS: &[&str] = &[
    "http://127.0.0.1:{}",
    "http://127.0.0.1:{}/",
    "http://127.0.0.1:{}/v1",
    "https://127.0.0.1:{}/v1",
    "http://localhost:{}",
    "http://LOCALHOST:{}",
    "http://localhost.:{}",
    "http://127.1:{}",
    "http://127.0.1:{}",
    "http://2130706433:{}",
    "http://0x7f000001:{}",
    "http://0x7f.0.0.1:{}",
    "http://017700000001:{}",
    "http://0177.0.0.1:{}",
    "http://[::1]:{}",
    "http://[::ffff:127.0.0.1]:{}",
    "http://[::ffff:7f00:1]:{}",
    "http://[0:0:0:0:0:ffff:127.0.0.1]:{}",
    "http://[::127.0.0.1]:{}",
    "http://[::]:{}",
    "http://0.0.0.0:{}",
    "http://0:{}",
    "http://①②⑦.⓪.⓪.①:{}",
    "http://127。0。0。1:{}",
    "http://127.0.0.1.nip.io:{}",
    "http://user@127.0.0.1:{}",
    "http://user:pass@127.0.0.1:{}",
    "http://api.openai.com@127.0.0.1:{}",
    "http://api.openai.com:80@127.0.0.1:{}",
    "http://127.0.0.1:{}@api.openai.com",
    "http://127.0.0.1:{}#@api.openai.com",
    "http://127.0.0.1:{}?@api.openai.com",
    "http://127.0.0.1:{}\\@api.openai.com",
    "http:\\\\127.0.0.1:{}",
    "http:/127.0.0.1:{}",
    "http:127.0.0.1:{}",
    "//127.0.0.1:{}",
    "///127.0.0.1:{}",
    "\\\\127.0.0.1:{}",
    "127.0.0.1:{}",
    "127.0.0.1:{}/v1",
    "HTTP://127.0.0.1:{}",
    "hTTp://127.0.0.1:{}",
    "http://127.0.0.1:{}/../x",
    "http://127.0.0.1:{}/%2e%2e/x",
    "http://169.254.169.254/latest/meta-data/",
    "http://[fd00:ec2::254]/latest/",
    "http://metadata.google.internal/",
    "http://100.100.100.200/",
    "http://192.168.0.1/",
    "http://10.0.0.1/",
    "file:///etc/passwd",
    "gopher://127.0.0.1:{}/_x",
    "ftp://127.0.0.1:{}/",
    "dict://127.0.0.1:{}/",
    "ws://127.0.0.1:{}/",
    "jar:http://127.0.0.1:{}!/",
    "data:text/plain,x",
    "http://127.0.0.1:{}%0d%0ax-evil:%201",
    "http://127.0.0.1:{}/%00",
    "http%3a%2f%2f127.0.0.1:{}",
    "unix:/var/run/docker.sock",
];

/// Headers in which products and servers take a target.
const HEADERS: &[&str] = &[
    "x-calltap-upstream",
    "x-calltap-base-url",
    "helicone-target-url",
    "helicone-openai-api-base",
    "x-portkey-custom-host",
    "x-portkey-provider",
    "x-portkey-config",
    "x-litellm-api-base",
    "cf-aig-backend",
    "x-base-url",
    "x-upstream-url",
    "x-target-url",
    "x-forwarded-host",
    "x-forwarded-server",
    "x-host",
    "x-original-url",
    "x-rewrite-url",
    "x-proxy-url",
    "forwarded",
    "destination",
    "origin-host",
    "location",
];

const MEMBERS: &[&str] = &[
    "api_base",
    "base_url",
    "api_url",
    "endpoint",
    "host",
    "proxy",
    "proxies",
    "upstream",
    "target",
    "webhook",
    "callback_url",
];

fn is_own(request: &crate::harness::Request, upstream: &Upstream) -> bool {
    let target = request.line.split(' ').nth(1).unwrap_or_default();
    request.header("host") == Some(&*upstream.address.to_string()) && target.starts_with("/v1")
}

/// Nothing that a caller writes anywhere picks the host, and no key of calltap's goes elsewhere.
#[test]
fn callers_name_no_host_of_their_own() {
    let (upstream, foreign) = (Upstream::start(|_| json_answer(200, "{}")), Foreign::start());
    let auth = format!("[auth]\n{}", keys(&[("a", "key-a-7777"), ("b", "key-b-7777")]));
    let calltap = Calltap::with(&upstream, "", &auth);
    let (mut asker, mut tried, mut went) = (Asker::new(calltap.address), 0, 0);
    let port = foreign.address.port().to_string();
    let mut ask = |first: &str, lines: &str, body: &str| {
        tried += 1;
        let lines = format!("x-calltap-key: key-a-7777\r\n{lines}");
        let Some(answer) = asker.ask(first, &lines, body) else { return };
        let status = answer.status;
        assert!(matches!(status, 200 | 400 | 404 | 405 | 421), "{first} {lines}: {status}");
        // The dashboard answers too, where the path is one of its own.
        went += usize::from(status == 200 && answer.header("x-calltap-id").is_some());
    };
    for url in URLS {
        let url = url.replace("{}", &port);
        let escaped =
            percent_encoding::utf8_percent_encode(&url, percent_encoding::NON_ALPHANUMERIC);
        for name in HEADERS {
            ask("POST /v1/x", &format!("host: x\r\n{name}: {url}\r\n"), "{}");
        }
        let members: Vec<String> =
            MEMBERS.iter().map(|name| format!("\"{name}\":{}", serde_json::json!(url))).collect();
        let member = format!(
            "{{\"model\":\"m\",{},\"extra_headers\":{{\"host\":\"x\"}}}}",
            members.join(",")
        );
        ask("POST /v1/chat/completions", "host: x\r\n", &member);
        let calltap = format!(
            "{{\"model\":\"m\",\"calltap\":{{\"upstream\":{0},\"base_url\":{0}}}}}",
            serde_json::json!(url)
        );
        ask("POST /v1/chat/completions", "host: x\r\n", &calltap);
        ask(&format!("GET /-/upstream={escaped};base_url={escaped}/v1/x"), "host: x\r\n", "");
        ask(&format!("GET /{escaped}/v1/x"), "host: x\r\n", "");
        if url.is_ascii() && !url.contains('\\') {
            ask(&format!("GET /{url}"), "host: x\r\n", "");
            ask(&format!("GET /v1/{url}"), "host: x\r\n", "");
            ask(&format!("GET {url}"), "host: x\r\n", "");
            ask(&format!("GET /v1/x?base_url={url}"), "host: x\r\n", "");
        }
        let host = url.rsplit('/').find(|part| !part.is_empty()).unwrap_or("x").to_owned();
        ask("POST /v1/x", &format!("host: {host}\r\n"), "{}");
    }
    assert_eq!(foreign.came(), 0, "somebody came");
    let requests = upstream.requests();
    assert_eq!(requests.len(), went);
    let strayed: Vec<_> = requests.iter().filter(|request| !is_own(request, &upstream)).collect();
    assert!(strayed.is_empty(), "{:?}", strayed.first());
    println!(
        "{} URLs, {tried} requests, {went} of them forwarded: all to the upstream that is configured",
        URLS.len()
    );
}

/// Neither calls nor deliveries go where an answer sends them.
#[test]
fn redirects_lead_nowhere() {
    let foreign = Foreign::start();
    let location = format!("http://{}/elsewhere", foreign.address);
    let redirect = move |status: &str| {
        let head = format!(
            "HTTP/1.1 {status} Moved\r\nlocation: {location}\r\nrefresh: 0; url={location}\r\ncontent-length: 0\r\n\r\n"
        );
        vec![Step::Send(head.into_bytes())]
    };
    let again = redirect.clone();
    let upstream =
        Upstream::start(move |request| redirect(request.header("x-status").unwrap_or("302")));
    let hooks: Vec<(&str, Upstream)> = ["301", "302", "303", "307", "308"]
        .into_iter()
        .flat_map(|status| ["webhook", "athina", "keywordsai"].map(|kind| (kind, status)))
        .map(|(kind, status)| {
            let again = again.clone();
            (kind, Upstream::start(move |_| again(status)))
        })
        .collect();
    let sections: String = hooks
        .iter()
        .enumerate()
        .map(|(at, (kind, hook))| {
            let key = if *kind == "webhook" { "secret" } else { "api_key" };
            format!("[sinks.s{at}]\ntype = \"{kind}\"\n{key} = \"sink-key-{at}\"\nbase_url = \"http://{}\"\nonly = \"session:s\"\n", hook.address)
        })
        .collect();
    let calltap = Calltap::with(&upstream, "", &sections);
    let mut asker = Asker::new(calltap.address);
    let mut calls = 0;
    for status in ["300", "301", "302", "303", "307", "308"] {
        for method in ["GET", "HEAD", "POST", "PUT", "DELETE"] {
            calls += 1;
            let lines = format!("host: x\r\nauthorization: Bearer k\r\nx-status: {status}\r\n");
            let answer = asker.ask(&format!("{method} /v1/x"), &lines, "").unwrap();
            assert_eq!(answer.status.to_string(), status);
            assert!(answer.header("location").unwrap().ends_with("/elsewhere"), "it passes");
        }
    }
    asker.ask(
        "POST /v1/chat/completions",
        "host: x\r\nx-calltap-session: s\r\n",
        &chat_body(false),
    );
    for at in 0..hooks.len() {
        let status = wait_sink(&calltap, &format!("s{at}"), |sink| sink["state"] == "paused");
        assert_eq!((&status["obstacle"], &status["dead"]), (&"misconfigured".into(), &0.into()));
    }
    let doctor = calltap.command().arg("doctor").output().unwrap();
    assert!(!doctor.stdout.is_empty());
    assert_eq!(foreign.came(), 0, "a redirect was followed");
    println!(
        "{calls} redirects of an upstream passed on, {} of sinks: nobody followed",
        hooks.len()
    );
}

/// Ways to leave a path.
const ESCAPES: &[&str] = &[
    "..",
    "../..",
    "%2e%2e",
    "%2E%2E",
    ".%2e",
    "%2e.",
    "..%2f",
    "..%2F",
    "%2e%2e%2f",
    "%2e%2e/",
    "..%5c",
    "..\\",
    "%2e%2e%5c",
    "..;",
    "..;/",
    "..;a=b",
    "%2e%2e;x",
    "./..",
    ".",
    "%2e",
    "./",
    ".%2f..",
    "a/../..",
    "a%2f..%2f..",
    "a%2f..%5c..",
    "..%2f..%2f..%2f",
    "%5c..",
    "\\..\\",
    "/..",
    "//..",
    "..//",
    "....//",
    "...",
    "..%00",
    "..%20",
    "..%09",
    "..%3b",
    "..%3B/x",
    "%252e%252e",
    "%252e%252e%252f",
    "..%252f",
    "..%c0%af",
    "%c0%ae%c0%ae",
    "%c0%ae.",
    "%e0%80%ae.",
    "..%ef%bc%8f",
    "．．",
    "%uff0e%uff0e",
    "..\u{2215}",
    "..?x",
    "..#x",
    "..%23",
    "..%3f",
    "..%2f%2e",
    "%2f..",
    "%2f%2e%2e%2f",
    "~",
    "%7e/..",
    "..a",
    "a..",
    "..%2f;/",
    ";/..",
    ".;/..;/",
    "..%2f..;x",
];

/// No spelling leaves the upstream's base path, nor the files that are compiled in.
#[test]
fn no_path_leaves_its_base() {
    let upstream = Upstream::start(|_| json_answer(200, "{}"));
    let other = format!("[upstreams.deep]\nbase_url = \"http://{}/v1/tenant\"\n", upstream.address);
    let calltap = Calltap::with(&upstream, "", &other);
    let (mut asker, mut tried) = (Asker::new(calltap.address), 0);
    let host = format!("host: {}\r\n", calltap.address);
    for escape in ESCAPES {
        for (before, after) in [
            ("/v1/", "/admin"),
            ("/v1/", "admin"),
            ("/v1/files/", "/x"),
            ("/deep/", "/admin"),
            ("/deep/v1/", "/x"),
            ("/", "/v1/x"),
            ("/-/a=b/", "/v1/x"),
            ("/assets/", "/Cargo.toml"),
            ("/assets/", "Cargo.toml"),
            ("/api/v1/calls/", "/x"),
            ("/api/v1/sinks/", "/dead"),
        ] {
            tried += 1;
            let answer = asker.ask(&format!("GET {before}{escape}{after}"), &host, "");
            let body = answer.map(|answer| String::from_utf8_lossy(&answer.body).into_owned());
            let body = body.unwrap_or_default();
            assert!(
                !body.contains("[package]") && !body.contains("root:"),
                "{before}{escape}{after}"
            );
        }
    }
    let requests = upstream.requests();
    for request in &requests {
        let target = request.line.split(' ').nth(1).unwrap();
        let path = target.split('?').next().unwrap().to_lowercase();
        let undone =
            path.replace("%2e", ".").replace("%2f", "/").replace("%5c", "/").replace("%3b", ";");
        let leaves = undone
            .split(['/', '\\'])
            .any(|part| matches!(part.split(';').next(), Some("." | "..")));
        assert!(path.starts_with("/v1/") && !leaves, "{target}");
    }
    std::thread::sleep(Duration::from_millis(10));
    println!(
        "{} forms, {tried} paths, {} of them forwarded: none leaves its base",
        ESCAPES.len(),
        requests.len()
    );
}
