//! U: what the dashboard and the API are asked.

use super::{List, connect, sound};
use crate::harness::{Answer, Calltap, Connection, Upstream, chat, chat_body, fetch, post};
use std::time::{Duration, Instant};

/// Paths of the API, and the statuses that may come of them.
const ASKED: &[(&str, &str, &[u16])] = &[
    ("U4 dots", "/api/v1/calls/..%2f..%2fx", &[404]),
    ("U4 NUL", "/api/v1/calls/%00", &[404]),
    ("U4 SQL", "/api/v1/calls/'%20OR%201=1--", &[404]),
    ("U4 another's", "/api/v1/calls/0190a0b0-0000-7000-8000-0000000000ff", &[404]),
    ("U4 raw bytes of none", "/api/v1/calls/x/raw", &[404]),
    ("U4 no UTF-8", "/api/v1/calls/%ff%fe", &[400, 404]),
    ("U4 a session of none", "/api/v1/sessions/..%2f", &[200, 404]),
    ("U4 a sink of none", "/api/v1/sinks/..%2f", &[404]),
    ("U4 an asset outside", "/assets/..%2f..%2fCargo.toml", &[404]),
    ("U4 an asset by dots", "/assets/../../Cargo.toml", &[404]),
    ("U5 nothing", "/api/v1/calls?q=", &[200]),
    ("U5 an underscore", "/api/v1/calls?q=_", &[200]),
    ("U5 a quote", "/api/v1/calls?q=%22", &[200, 400]),
    ("U5 words of a query", "/api/v1/calls?q=AND%20OR%20NOT", &[200, 400]),
    ("U5 NEAR", "/api/v1/calls?q=NEAR(", &[200, 400]),
    ("U5 a star", "/api/v1/calls?q=*", &[200, 400]),
    ("U5 an emoji", "/api/v1/calls?q=%F0%9F%98%80", &[200]),
    ("U5 NUL", "/api/v1/calls?q=a%00b", &[200, 400]),
    ("U5 a column", "/api/v1/calls?q=seq:1%20UNION%20SELECT%201", &[200, 400]),
    ("U5 a quoted quote", "/api/v1/calls?q=%22a%22%22b%22", &[200, 400]),
    ("U5 brackets", "/api/v1/calls?q=((((((((((", &[400]),
    ("U5 no UTF-8", "/api/v1/calls?q=%ff", &[200, 400]),
    ("U6 limit=-1", "/api/v1/calls?limit=-1", &[400]),
    ("U6 limit=0", "/api/v1/calls?limit=0", &[200]),
    ("U6 limit=10⁹", "/api/v1/calls?limit=1000000000", &[200]),
    ("U6 a limit beyond numbers", "/api/v1/calls?limit=99999999999999999999999", &[400]),
    ("U6 an order of SQL", "/api/v1/calls?order=id;drop", &[400]),
    ("U6 a group of SQL", "/api/v1/stats?by=id;drop", &[400]),
    (
        "U6 from behind to",
        "/api/v1/metrics?from=2026-01-02T00:00:00Z&to=2026-01-01T00:00:00Z",
        &[200, 400],
    ),
    ("U6 the year 9999", "/api/v1/calls?q=since:9999-12-31T00:00:00Z", &[200, 400]),
    (
        "U6 a range of 9999 years",
        "/api/v1/metrics?from=0001-01-01T00:00:00Z&to=9999-12-31T00:00:00Z",
        &[200, 400],
    ),
    ("U6 a forged cursor", "/api/v1/calls?after=forged", &[400]),
    ("U6 a cursor of numbers", "/api/v1/calls?after=-1.99999999999999999999", &[200, 400]),
    ("U6 a key twice", "/api/v1/calls?limit=1&limit=2", &[200, 400]),
    ("U6 sessions", "/api/v1/sessions?limit=-1&after=x", &[400]),
    ("U6 facets", "/api/v1/facets?by=nothing", &[400, 404, 200]),
];

/// Header lines of a `POST` that changes something, and the status that comes of it.
const FOREIGN: &[(&str, &str, u16)] = &[
    (
        "U7 another origin, as text",
        "content-type: text/plain\r\norigin: https://evil.example\r\n",
        403,
    ),
    (
        "U7 a form of another origin",
        "content-type: application/x-www-form-urlencoded\r\norigin: https://evil.example\r\n",
        403,
    ),
    ("U7 no origin of one's own", "content-type: application/json\r\norigin: null\r\n", 403),
    ("U7 another site", "content-type: application/json\r\nsec-fetch-site: cross-site\r\n", 403),
    ("U7 another port", "content-type: application/json\r\norigin: http://127.0.0.1:1\r\n", 403),
    ("U7 a form", "content-type: application/x-www-form-urlencoded\r\n", 415),
    ("U7 text", "content-type: text/plain\r\n", 415),
    ("U7 no type", "", 415),
];

/// Hosts that are not this one.
const HOSTS: &[&str] = &[
    "evil.example",
    "127.0.0.1.evil.example",
    "0.0.0.0",
    "localhost:99999",
    "localhost:x@evil",
    "[::1",
    "[fe80::1%25eth0]",
    "::1",
    "127.1",
    "2130706433",
    "localhost.evil.example",
    "",
];

fn ask(calltap: &Calltap, method: &str, path: &str, lines: &str, body: &str) -> Answer {
    let mut connection = connect(calltap);
    let length = body.len();
    connection.send(
        format!("{method} {path} HTTP/1.1\r\n{lines}content-length: {length}\r\n\r\n{body}")
            .as_bytes(),
    );
    connection.answer(method).expect("an answer")
}

#[test]
fn u_surface() {
    let hook = Upstream::start(|_| crate::harness::json_answer(200, "{}"));
    let upstream = Upstream::start(chat(1, Duration::ZERO));
    let sink = format!(
        "[sinks.hook]\ntype = \"webhook\"\nsecret = \"s\"\nbase_url = \"http://{}\"\n",
        hook.address
    );
    let calltap = Calltap::with(&upstream, "", &sink);
    let (mut list, mut calls) = (List::new('U', 12), 0);
    let host = format!("host: {}\r\n", calltap.address);
    for user in
        ["=1+1", "+1", "-1", "@SUM(1)", "a,b", "a\"b", "%0d=x", "a%0Ab", "%09=x", "a\u{2028}b"]
    {
        calls += 1;
        post(
            calltap.address,
            "/v1/chat/completions",
            &format!("x-calltap-user: {user}\r\n"),
            &chat_body(false),
        );
    }
    calltap.wait_calls("", calls);
    let soon = |path: &str, statuses: &[u16]| {
        let started = Instant::now();
        let answer = ask(&calltap, "GET", path, &host, "");
        assert!(
            statuses.contains(&answer.status),
            "{}: {}",
            answer.status,
            String::from_utf8_lossy(&answer.body)
        );
        assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
        if answer.status == 400 && path.contains('?') {
            assert!(answer.json()["error"]["code"].as_str().unwrap().starts_with("calltap_"));
        }
    };
    for (name, path, statuses) in ASKED {
        list.row(name, || soon(path, statuses));
    }
    for (name, what) in
        [("%", "%25"), ("*", "*"), ("words", "a%20"), ("quotes", "%22"), ("minus", "-")]
    {
        let path = format!("/api/v1/calls?q={}", what.repeat(1000));
        list.row(&format!("U5 1000 {name}"), || soon(&path, &[200, 400]));
    }
    list.row("U4 10 KB", || soon(&format!("/api/v1/calls/{}", "a".repeat(10_000)), &[404, 414]));
    list.row("U5 a megabyte", || {
        let mut connection = connect(&calltap);
        connection.send(
            format!("GET /api/v1/calls?q={} HTTP/1.1\r\n{host}\r\n", "a".repeat(1 << 20))
                .as_bytes(),
        );
        let status = connection.answer("GET").map(|answer| answer.status);
        assert!(matches!(status, None | Some(414 | 431)), "{status:?}");
    });
    foreign(&mut list, &calltap, &upstream, &mut calls);
    list.row("U9 is not framed", || {
        let page = fetch(calltap.address, "/").unwrap();
        let policy = page.header("content-security-policy").unwrap();
        assert!(policy.contains("frame-ancestors 'none'") && policy.contains("default-src 'none'"));
        assert_eq!(page.header("cross-origin-opener-policy"), Some("same-origin"));
    });
    list.row("U10 CSV", || table(&calltap, calls));
    list.otherwise("U11 tabs that do not read", || tabs(&calltap, &mut calls));
    twice(&mut list, &calltap);
    list.elsewhere(&[
        ("U1", "ui/tests/browser/hostile.test.js"),
        ("U1 raw bytes", "api::raw_bytes_are_never_a_page"),
        ("U2", "ui/tests/browser/hostile.test.js"),
        ("U3", "ui/tests/browser/hostile.test.js"),
        ("U5 any text", "query::tests::no_text_panics_and_what_parses_survives_its_display"),
        ("U10 JSON lines", "cli::an_export_is_whole_and_one_line_a_record"),
        ("U12 with a token", "delivery::control::only_json_from_here_may_change_sinks"),
    ]);
    sound(&mut list, &calltap, calls);
    list.end();
}

/// Pages of others, and names that lead here from elsewhere.
fn foreign(list: &mut List, calltap: &Calltap, upstream: &Upstream, calls: &mut usize) {
    let host = format!("host: {}\r\n", calltap.address);
    for (name, lines, status) in FOREIGN {
        list.row(name, || {
            let answer =
                ask(calltap, "POST", "/api/v1/sinks/hook/pause", &format!("{host}{lines}"), "{}");
            assert_eq!(answer.status, *status);
            assert_ne!(crate::delivery::sink(calltap, "hook")["state"], "paused");
        });
    }
    for (name, path) in [("U7 events", "/api/v1/events"), ("U7 a call", "/v1/chat/completions")] {
        list.row(name, || {
            *calls += usize::from(path.starts_with("/v1/"));
            let before = upstream.requests().len();
            let answer =
                ask(calltap, "GET", path, &format!("{host}origin: https://evil.example\r\n"), "");
            assert_eq!((answer.status, upstream.requests().len()), (403, before));
        });
    }
    for name in HOSTS {
        list.row(&format!("U8 {name}"), || {
            for path in ["/api/v1/calls", "/", "/metrics"] {
                let answer = ask(calltap, "GET", path, &format!("host: {name}\r\n"), "");
                assert!(matches!(answer.status, 400 | 403 | 421), "{path}: {}", answer.status);
            }
        });
    }
}

/// What changes something may be asked for again.
fn twice(list: &mut List, calltap: &Calltap) {
    let host = format!("host: {}\r\n", calltap.address);
    list.row("U12 twice", || {
        for action in ["pause", "pause", "resume", "resume", "redrive", "redrive"] {
            let lines = format!("{host}content-type: application/json\r\n");
            let answer =
                ask(calltap, "POST", &format!("/api/v1/sinks/hook/{action}"), &lines, "{}");
            assert!(matches!(answer.status, 200 | 409), "{action}: {}", answer.status);
        }
    });
}

/// No cell of an exported table begins as a formula does.
fn table(calltap: &Calltap, calls: usize) {
    calltap.wait_calls("", calls);
    let output = calltap.command().args(["export", "--format", "csv"]).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let (mut rows, mut row, mut cell, mut quoted) = (0, Vec::new(), String::new(), false);
    for c in text.chars() {
        match c {
            '"' => quoted = !quoted,
            ',' if !quoted => row.push(std::mem::take(&mut cell)),
            '\n' if !quoted => {
                row.push(std::mem::take(&mut cell));
                // A number is no formula, with or without a sign.
                let formula = |cell: &&String| {
                    cell.starts_with(['=', '+', '-', '@', '\t', '\r'])
                        && cell.parse::<f64>().is_err()
                };
                let bad = row.iter().find(formula);
                assert_eq!(bad, None, "{row:?}");
                (rows, row) = (rows + 1, Vec::new());
            }
            c => cell.push(c),
        }
    }
    assert_eq!(rows, calls + 1, "a row a call, and the heading");
}

/// Live feeds that nobody reads: calls go on. Each feed holds what its last read gave, at most a page of
/// the log, and while many read at once memory grows with them.
fn tabs(calltap: &Calltap, calls: &mut usize) {
    let tabs: Vec<Connection> = (0..200)
        .map(|_| {
            let mut tab = connect(calltap);
            tab.send(
                format!("GET /api/v1/events HTTP/1.1\r\nhost: {}\r\n\r\n", calltap.address)
                    .as_bytes(),
            );
            tab
        })
        .collect();
    let before = calltap.memory_kib();
    // More than a connection's buffers in the system hold.
    let metadata = format!("x-calltap-meta-a: {0}\r\nx-calltap-meta-b: {0}\r\n", "x".repeat(8000));
    let mut most = 0;
    for _ in 0..400 {
        *calls += 1;
        let answer = post(calltap.address, "/v1/chat/completions", &metadata, &chat_body(false));
        assert_eq!(answer.status, 200);
        most = most.max(calltap.memory_kib());
    }
    let grown = most.saturating_sub(before) / tabs.len() as u64;
    println!("{} feeds that nobody reads: {grown} KiB more for each at most", tabs.len());
    assert!(grown < 512, "{grown} KiB a feed");
}
