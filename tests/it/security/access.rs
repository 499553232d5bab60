//! Who may do what: every route, every credential, every place where one can stand (S6, S7).

use super::{Asker, keys};
use crate::harness::{Calltap, Connection, Upstream, chat, chat_body, post};
use std::{collections::BTreeSet, time::Duration};

/// Routes that need no token. Every other one does, also one that is added tomorrow.
const OPEN: &[&str] = &["/livez", "/healthz", "/readyz", "/assets/{file}"];

const TOKEN: &str = "admin-token-6f1c";
const KEY_A: &str = "ct-key-of-a-91d2";
const KEY_B: &str = "ct-key-of-b-55e0";

/// What stands in place of a credential, and its name.
const CREDENTIALS: &[(&str, &str)] = &[
    ("none", ""),
    ("wrong", "nonsense"),
    ("the token", TOKEN),
    ("half of the token", "admin-token-"),
    ("more than the token", "admin-token-6f1c0"),
    ("the token in capitals", "ADMIN-TOKEN-6F1C"),
    ("key a", KEY_A),
    ("key b", KEY_B),
    ("more than key a", "ct-key-of-a-91d2 "),
    ("the hash of nothing", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"),
    ("a quote", "' OR '1'='1"),
];

/// Where it can stand: header lines, and what is added to the query. `{}` is the credential.
const CARRIERS: &[(&str, &str, &str)] = &[
    ("bearer", "authorization: Bearer {}\r\n", ""),
    ("BEARER", "AUTHORIZATION: BEARER {}\r\n", ""),
    ("no scheme", "authorization: {}\r\n", ""),
    ("basic", "authorization: Basic {}\r\n", ""),
    ("token", "authorization: Token {}\r\n", ""),
    ("behind a wrong one", "authorization: Bearer x\r\nauthorization: Bearer {}\r\n", ""),
    ("in a list", "authorization: Bearer x, Bearer {}\r\n", ""),
    ("x-api-key", "x-api-key: {}\r\n", ""),
    ("api-key", "api-key: {}\r\n", ""),
    ("x-calltap-key", "x-calltap-key: {}\r\n", ""),
    ("x-calltap-admin-token", "x-calltap-admin-token: {}\r\n", ""),
    ("x-goog-api-key", "x-goog-api-key: {}\r\n", ""),
    ("proxy-authorization", "proxy-authorization: Bearer {}\r\n", ""),
    ("cookie", "cookie: token={}; admin_token={}\r\n", ""),
    ("query", "", "?token={}&key={}&access_token={}&admin_token={}"),
];

/// Paths that a client calls through calltap.
const CALLS: &[&str] = &[
    "POST /v1/chat/completions",
    "POST /chat/completions",
    "POST /-/session=s/v1/chat/completions",
    "POST /openai/v1/chat/completions",
    "POST /other/v1/chat/completions",
    "GET /v1/models",
    "GET /v1/files/f/content",
    "DELETE /v1/files/f",
    "PUT /v1/anything",
    "POST /v1/threads/t/runs",
    "OPTIONS /v1/chat/completions",
];

fn start(upstream: &Upstream) -> Calltap {
    let other = format!("[upstreams.other]\nbase_url = \"{}\"\n", upstream.url());
    let auth =
        format!("[auth]\nadmin_token = \"{TOKEN}\"\n{}", keys(&[("a", KEY_A), ("b", KEY_B)]));
    Calltap::with(upstream, "", &format!("{other}{auth}"))
}

/// Routes and their methods as the router's source names them.
fn routes() -> Vec<(String, &'static str)> {
    let source = std::fs::read_to_string("src/api/mod.rs").unwrap();
    let code = source.split("#[cfg(test)]").next().unwrap().to_owned();
    let found = code.split(".route(\"").skip(1).map(|rest| {
        let (path, rest) = rest.split_once('"').unwrap();
        let method = rest.trim_start_matches([',', ' ', '\n']);
        let method = if method.starts_with("post(") { "POST" } else { "GET" };
        (path.to_owned(), method)
    });
    found.collect()
}

/// A route with its holes filled.
fn filled(route: &str, id: &str) -> String {
    let parts = route.split('/').map(|part| match part {
        "{id}" => id,
        "{name}" => "none",
        "{action}" => "pause",
        part if part.starts_with('{') => "x",
        part => part,
    });
    parts.collect::<Vec<_>>().join("/")
}

#[test]
fn every_route_asks_for_the_token_wherever_it_may_stand() {
    let upstream = Upstream::start(chat(1, Duration::ZERO));
    let calltap = start(&upstream);
    let answer = post(
        calltap.address,
        "/v1/chat/completions",
        &format!("x-calltap-key: {KEY_A}\r\nx-calltap-session: marker-of-a\r\n"),
        &chat_body(false),
    );
    let id = answer.header("x-calltap-id").unwrap().to_owned();
    let routes = routes();
    let open: BTreeSet<&str> = OPEN.iter().copied().collect();
    let found: BTreeSet<&str> = routes.iter().map(|(path, _)| path.as_str()).collect();
    assert!(open.is_subset(&found) && found.len() > 20, "{found:?}");
    let (mut asker, mut tried, mut opened) = (Asker::new(calltap.address), 0, 0);
    let mut faults = Vec::new();
    for (route, method) in &routes {
        for (name, lines, query) in CARRIERS {
            for (what, credential) in CREDENTIALS {
                tried += 1;
                let path = format!("{}{query}", filled(route, &id));
                let path = path.replace("{}", &credential.replace([' ', '\''], "%20"));
                let lines = format!(
                    "host: {}\r\ncontent-type: application/json\r\n{}",
                    calltap.address,
                    lines.replace("{}", credential)
                );
                let right = *what == "the token" && matches!(*name, "bearer" | "BEARER");
                let status = if route == "/api/v1/events" && right {
                    // It goes on for ever: its head is enough.
                    let mut connection = Connection::open(calltap.address);
                    connection.send(format!("GET {path} HTTP/1.1\r\n{lines}\r\n").as_bytes());
                    String::from_utf8(connection.read_some(12)).unwrap()[9..].parse().unwrap()
                } else {
                    let answer = asker.ask(&format!("{method} {path}"), &lines, "").unwrap();
                    let told = String::from_utf8_lossy(&answer.body).contains("marker-of-a");
                    assert!(right || !told, "{route}: a record is told");
                    answer.status
                };
                let allowed = right || open.contains(route.as_str());
                opened += usize::from(allowed);
                if allowed != (status != 401) {
                    faults.push(format!("{method} {route}, {what} as {name}: {status}"));
                }
            }
        }
    }
    assert!(
        faults.is_empty(),
        "{} of {tried}: {:#?}",
        faults.len(),
        &faults[..faults.len().min(20)]
    );
    println!("{} routes, {tried} requests, {opened} of them may be answered", routes.len());
}

#[test]
fn every_call_asks_for_a_key_wherever_it_may_stand() {
    let upstream = Upstream::start(chat(1, Duration::ZERO));
    let calltap = start(&upstream);
    let (mut asker, mut tried, mut sent) = (Asker::new(calltap.address), 0, 0);
    let mut faults = Vec::new();
    for call in CALLS {
        for (name, lines, query) in CARRIERS {
            for (what, credential) in CREDENTIALS {
                tried += 1;
                let first =
                    format!("{call}{query}").replace("{}", &credential.replace([' ', '\''], "%20"));
                let lines = format!("host: x\r\n{}", lines.replace("{}", credential));
                let answer = asker.ask(&first, &lines, "").unwrap();
                let carried = matches!(
                    *name,
                    "bearer" | "BEARER" | "no scheme" | "x-api-key" | "api-key" | "x-calltap-key"
                );
                // Blanks around a value are no part of it.
                let known = matches!(*what, "key a" | "key b" | "more than key a");
                sent += usize::from(carried && known);
                let expected = if carried && known { 200 } else { 401 };
                if answer.status != expected {
                    faults.push(format!("{call}, {what} as {name}: {}", answer.status));
                }
            }
        }
    }
    assert!(
        faults.is_empty(),
        "{} of {tried}: {:#?}",
        faults.len(),
        &faults[..faults.len().min(20)]
    );
    let requests = upstream.requests();
    assert_eq!(requests.len(), sent, "what was accepted is what went upstream");
    for request in &requests {
        let seen = format!("{request:?}");
        for own in [KEY_A, KEY_B, TOKEN] {
            assert!(!seen.contains(own), "{own} went upstream: {seen}");
        }
        let credential = request.header("authorization");
        assert!(matches!(credential, None | Some("Bearer sk-upstream-of-a")), "{credential:?}");
    }
    println!("{} paths, {tried} calls, {sent} of them forwarded", CALLS.len());
}

/// Neither the host that is named nor the spelling of the path changes who may enter.
#[test]
fn no_spelling_of_host_or_path_opens_a_door() {
    let upstream = Upstream::start(chat(1, Duration::ZERO));
    let calltap = start(&upstream);
    let key = format!("x-calltap-key: {KEY_A}\r\nx-calltap-session: marker-of-a\r\n");
    post(calltap.address, "/v1/chat/completions", &key, &chat_body(false));
    let port = calltap.address.port();
    let hosts =
        ["127.0.0.1", "localhost", "[::1]", "evil.example", "localhost/livez", "x@127.0.0.1"];
    let paths = [
        "/api/v1/calls",
        "//api/v1/calls",
        "/api//v1/calls",
        "/api/v1//calls",
        "/api/v1/calls/",
        "/API/v1/calls",
        "/%61pi/v1/calls",
        "/api/v1/%63alls",
        "/api%2fv1%2fcalls",
        "/api/v1/calls;x",
        "/api/v1/./calls",
        "/api/v1/x/../calls",
        "/livez/../api/v1/calls",
        "/livez/..%2fapi/v1/calls",
        "/assets/../api/v1/calls",
        "/assets/..%2fapi%2fv1%2fcalls",
        "/readyz/api/v1/calls",
        "/api/v1/calls%00",
        "/api/v1/calls?x=/livez",
        "/api/v1/calls#/livez",
        "/-/a=b/api/v1/calls",
        "/-/a=b/../api/v1/calls",
        "/other/api/v1/calls",
        "/other/../api/v1/calls",
        "/v1/../api/v1/calls",
        "/api/v1/calls/.",
        "/api/v1\\calls",
        "/\\api/v1/calls",
        "/./api/v1/calls",
        "/api/v1/metrics/",
        "http://127.0.0.1/api/v1/calls",
        "http://localhost/livez/../api/v1/calls",
        "/metrics/",
        "//metrics",
    ];
    let (mut asker, mut tried) = (Asker::new(calltap.address), 0);
    let before = upstream.requests().len();
    for host in hosts {
        for path in paths {
            for lines in [
                "",
                "x-original-url: /livez\r\n",
                "x-rewrite-url: /livez\r\n",
                "x-http-method-override: HEAD\r\n",
            ] {
                tried += 1;
                let lines = format!("host: {host}:{port}\r\n{lines}");
                let Some(answer) = asker.ask(&format!("GET {path}"), &lines, "") else { continue };
                let body = String::from_utf8_lossy(&answer.body);
                let tells = body.contains("marker-of-a")
                    || body.contains("\"items\"")
                    || body.contains("calltap_requests");
                assert!(!tells, "{host} {path}: {} {body}", answer.status);
            }
        }
    }
    assert_eq!(upstream.requests().len(), before, "no key, no call");
    println!("{tried} spellings of host and path: none opens a door");
}

/// A key opens calls, not records: not its own, and not those of another.
#[test]
fn a_key_reads_no_records_and_overwrites_none() {
    let upstream = Upstream::start(chat(1, Duration::ZERO));
    let calltap = start(&upstream);
    let of = |key: &str, lines: &str| {
        let lines = format!("x-calltap-key: {key}\r\n{lines}");
        post(calltap.address, "/v1/chat/completions", &lines, &chat_body(false))
    };
    let first = of(KEY_A, "x-calltap-session: s\r\nx-calltap-user: marker-of-a\r\n");
    let id = first.header("x-calltap-id").unwrap().to_owned();
    let mut asker = Asker::new(calltap.address);
    let mut ask = |first: &str, credential: &str| {
        let lines = format!(
            "host: {}\r\nauthorization: Bearer {credential}\r\ncontent-type: application/json\r\n",
            calltap.address
        );
        asker.ask(first, &lines, "").unwrap()
    };
    let mut tried = 0;
    for key in [KEY_A, KEY_B, "sk-upstream-of-a"] {
        for (route, method) in routes().iter().filter(|(route, _)| route.contains('{')) {
            for id in [&id, "0190a0b0-0000-7000-8000-0000000000ff", "..", "1"] {
                if OPEN.contains(&route.as_str()) {
                    continue;
                }
                tried += 1;
                let answer = ask(&format!("{method} {}", filled(route, id)), key);
                assert_eq!(answer.status, 401, "{route}");
            }
        }
    }
    // Another's id, session and name of a call change nothing of what is stored.
    let second = of(KEY_B, &format!("x-calltap-id: {id}\r\nx-calltap-session: s\r\n"));
    assert_ne!(second.header("x-calltap-log"), Some(id.as_str()));
    let read = |ask: &mut dyn FnMut(&str, &str) -> crate::harness::Answer| {
        for _ in 0..500 {
            let list = ask("GET /api/v1/calls", TOKEN).json();
            if list["items"].as_array().is_some_and(|items| items.len() == 2) {
                return list;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        panic!("two records");
    };
    let list = read(&mut ask);
    let record = ask(&format!("GET /api/v1/calls/{id}"), TOKEN).json();
    assert_eq!(
        (&record["client"]["key"], &record["tags"]["user"]),
        (&"a".into(), &"marker-of-a".into())
    );
    let ids: BTreeSet<&str> =
        list["items"].as_array().unwrap().iter().filter_map(|row| row["id"].as_str()).collect();
    assert_eq!(ids.len(), 2, "{ids:?}");
    // What is not there is not there, and says no more.
    for (route, method) in routes().iter().filter(|(route, _)| route.contains("{id}")) {
        let answer = ask(
            &format!("{method} {}", filled(route, "0190a0b0-0000-7000-8000-0000000000ff")),
            TOKEN,
        );
        assert_eq!(answer.status, 404, "{route}");
    }
    println!("{tried} requests for records by holders of keys: all refused");
}
