//! Pages of other sites, and names that lead here from elsewhere (S17).

use super::Asker;
use crate::{
    delivery::sink,
    harness::{Calltap, Upstream, chat, chat_body, json_answer},
};
use std::time::Duration;

const FIRST_LINES: &[(&str, bool)] = &[
    ("GET /", true),
    ("GET /api/v1/calls", true),
    ("GET /metrics", true),
    ("HEAD /api/v1/calls", true),
    ("POST /api/v1/sinks/hook/pause", true),
    ("OPTIONS /api/v1/sinks/hook/pause", true),
    ("POST /v1/chat/completions", false),
    ("GET /v1/models", false),
    ("OPTIONS /v1/chat/completions", false),
    ("DELETE /v1/files/f", false),
    ("POST /other/v1/chat/completions", false),
];

/// `{}` is the port. Whether the name is one of this machine's own.
const HOSTS: &[(&str, bool)] = &[
    ("127.0.0.1:{}", true),
    ("localhost:{}", true),
    ("[::1]:{}", true),
    ("LOCALHOST.:{}", true),
    ("evil.example:{}", false),
    ("evil.example", false),
    ("127.0.0.1.evil.example:{}", false),
    ("localhost.evil.example:{}", false),
    ("0.0.0.0:{}", false),
    ("10.0.0.7:{}", false),
];

/// What a browser says of the page; `{host}` is the host that was asked for. Whether that is this one's own.
const PAGES: &[(&str, bool)] = &[
    ("", true),
    ("origin: http://{host}\r\n", true),
    ("sec-fetch-site: same-origin\r\n", true),
    ("sec-fetch-site: none\r\n", true),
    ("origin: https://evil.example\r\n", false),
    ("origin: null\r\n", false),
    ("origin: http://127.0.0.1:1\r\n", false),
    ("origin: http://{host}.evil.example\r\n", false),
    ("origin: http://evil.example@{host}\r\n", false),
    ("origin: file://{host}\r\n", false),
    ("sec-fetch-site: cross-site\r\n", false),
    ("origin: https://evil.example\r\nsec-fetch-site: same-origin\r\n", false),
];

#[test]
fn pages_of_others_change_and_read_nothing() {
    let hook = Upstream::start(|_| json_answer(200, "{}"));
    let upstream = Upstream::start(chat(1, Duration::ZERO));
    let sections = format!(
        "[upstreams.other]\nbase_url = \"{}\"\n[sinks.hook]\ntype = \"webhook\"\nsecret = \"s\"\nbase_url = \"http://{}\"\n",
        upstream.url(),
        hook.address
    );
    let calltap = Calltap::with(&upstream, "", &sections);
    let port = calltap.address.port().to_string();
    let (mut asker, mut tried, mut refused) = (Asker::new(calltap.address), 0, 0);
    let mut faults = Vec::new();
    for (first, is_own) in FIRST_LINES {
        for (host, is_local) in HOSTS {
            for (page, same) in PAGES {
                tried += 1;
                let host = host.replace("{}", &port);
                let page = page.replace("{host}", &host);
                let before = upstream.requests().len();
                let lines = format!("host: {host}\r\ncontent-type: application/json\r\n{page}");
                let body =
                    if first.ends_with("completions") { chat_body(false) } else { String::new() };
                let answer = asker.ask(first, &lines, &body).unwrap();
                // A client that is no browser may name what host it likes for a call (SPEC §13.12).
                let may = *same && (*is_local || (!is_own && page.is_empty()));
                refused += usize::from(!may);
                let went = upstream.requests().len() - before;
                let is_refusal = matches!(answer.status, 403 | 421);
                let shared =
                    answer.headers.iter().any(|(name, _)| name.starts_with("access-control-"));
                if may == is_refusal || (!may && went > 0) || shared {
                    faults.push(format!(
                        "{first} as {host} {page:?}: {}, {went} upstream",
                        answer.status
                    ));
                }
                if first.contains("pause") && !may {
                    assert_ne!(sink(&calltap, "hook")["state"], "paused", "{host} {page}");
                }
                if first.starts_with("POST") && first.contains("pause") && may {
                    let resumed = asker.ask("POST /api/v1/sinks/hook/resume", &lines, "").unwrap();
                    assert_eq!(resumed.status, 200);
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
    println!(
        "{tried} combinations of host, page, method and route: {refused} refused, none of them did anything"
    );
}

/// What the configuration names may call, and nobody else.
#[test]
fn named_origins_may_call() {
    let upstream = Upstream::start(chat(1, Duration::ZERO));
    let origins = "[server]\nallowed_origins = [\"https://app.example\"]\n";
    let calltap = Calltap::with(&upstream, "", origins);
    let mut asker = Asker::new(calltap.address);
    for (origin, status) in [
        ("https://app.example", 200),
        ("http://app.example", 403),
        ("https://app.example.evil.example", 403),
        ("https://app.example:8443", 403),
        ("https://APP.example", 403),
    ] {
        for host in [calltap.address.to_string(), "gateway.example".to_owned()] {
            let lines = format!("host: {host}\r\norigin: {origin}\r\n");
            let answer = asker.ask("POST /v1/chat/completions", &lines, &chat_body(false)).unwrap();
            assert_eq!(answer.status, status, "{origin} {host}");
        }
    }
}
