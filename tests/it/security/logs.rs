//! Text of strangers in lines of the log, and in what is exported (S19, S20, S22).

use super::Asker;
use crate::{
    delivery::wait_sink,
    harness::{Calltap, Connection, Step, Upstream, chat_body, json_answer},
};
use serde_json::Value;

/// Text that would forge a line, colour a terminal, or turn what is read around.
const NASTY: &[&str] = &[
    "\u{1b}[31mred\u{1b}[0m",
    "\u{1b}]0;title\u{7}",
    "\u{9b}31m",
    "line\nline",
    "line\r\nINFO forged",
    "\"}\n{\"level\":\"ERROR\",\"message\":\"forged\"}",
    "\u{0}nul",
    "\u{8}\u{8}\u{8}back",
    "\u{7f}",
    "\u{85}next",
    "\u{202e}around",
    "\u{2066}\u{2067}\u{2068}isolates\u{2069}",
    "\u{200f}\u{061c}marks",
    "\u{2028}\u{2029}separators",
    "\u{feff}mark",
    "tab\tand\u{b}vertical\u{c}form",
    "%1b[31m%0d%0a",
    "${jndi:ldap://x}",
    "{{7*7}} %s %n {}",
    "\\u001b[31m",
];

fn is_control(c: char) -> bool {
    c.is_control() || is_bidi(c)
}

fn is_bidi(c: char) -> bool {
    matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

fn escaped(text: &str) -> String {
    percent_encoding::utf8_percent_encode(text, percent_encoding::NON_ALPHANUMERIC).to_string()
}

/// A calltap that has been told all of it, in every place where somebody may.
fn told(format: &str) -> (Calltap, usize) {
    let upstream = Upstream::start(|request| {
        let at: usize = request.header("x-row").and_then(|row| row.parse().ok()).unwrap_or(0);
        let nasty = NASTY[at % NASTY.len()];
        let body = serde_json::json!({"error": {"message": nasty, "type": nasty, "code": nasty}, "id": nasty, "model": nasty});
        let kind = match at % 3 {
            0 => return json_answer(500, &body.to_string()),
            1 => return json_answer(200, &body.to_string()),
            _ => nasty.replace(['\r', '\n', '\0'], ""),
        };
        let head = format!(
            "HTTP/1.1 200 {kind}\r\nx-request-id: {kind}\r\ncontent-type: {kind}\r\nserver: {kind}\r\n"
        );
        vec![Step::Send(format!("{head}content-length: 2\r\n\r\n{{}}").into_bytes())]
    });
    let hook = |status: &'static str| {
        let at = std::sync::atomic::AtomicUsize::new(0);
        Upstream::start(move |_| {
            let at = at.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            let nasty = NASTY[at % NASTY.len()];
            let body =
                serde_json::json!({"detail": nasty, "error": {"message": nasty}, "message": nasty});
            // As JSON, and as it is.
            let body = if at.is_multiple_of(2) { body.to_string() } else { nasty.to_owned() };
            let head = format!(
                "HTTP/1.1 {status} X\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
                body.len()
            );
            vec![Step::Send([head.as_bytes(), body.as_bytes()].concat())]
        })
    };
    let hooks = [hook("400"), hook("401"), hook("503"), hook("422"), hook("404")];
    let sinks: String = hooks
        .iter()
        .enumerate()
        .map(|(at, hook)| format!("[sinks.s{at}]\ntype = \"webhook\"\nsecret = \"s\"\nbase_url = \"http://{}\"\nbatch = 1\n", hook.address))
        .collect();
    let sections = format!("[log]\nlevel = \"trace\"\nformat = \"{format}\"\n{sinks}");
    let calltap = Calltap::with(&upstream, "", &sections);
    let (mut asker, mut tried) = (Asker::new(calltap.address), 0);
    for (at, nasty) in NASTY.iter().enumerate() {
        let in_url = escaped(nasty);
        // What a header may hold at all, as it is and escaped.
        let plain: String = nasty.chars().filter(|c| *c >= ' ' && *c != '\u{7f}').collect();
        let lines = format!(
            "host: x\r\nx-row: {at}\r\nx-calltap-session: {plain}\r\nx-calltap-user: {in_url}\r\nx-calltap-meta-k: {plain}\r\nuser-agent: {plain}\r\nx-request-id: {plain}\r\n"
        );
        let model = serde_json::json!({"model": nasty, "user": nasty, "messages": [{"role": nasty, "content": nasty}], "metadata": {*nasty: nasty}});
        for (first, lines) in [
            ("POST /v1/chat/completions".to_owned(), lines.clone()),
            (
                format!("POST /-/prompt={in_url}/v1/chat/completions?{in_url}={in_url}"),
                lines.clone(),
            ),
            (format!("POST /{in_url}/v1/x"), lines.clone()),
            (format!("GET /api/v1/calls?q={in_url}"), lines.clone()),
            (format!("GET /api/v1/calls/{in_url}"), lines.clone()),
            ("POST /v1/x".to_owned(), format!("{lines}x-calltap-upstream: {plain}\r\n")),
            ("POST /v1/x".to_owned(), format!("{lines}{plain}: x\r\n")),
        ] {
            tried += 1;
            if let Some(answer) = asker.ask(&first, &lines, &model.to_string()) {
                let named = |name: &str| answer.headers.iter().any(|(have, _)| have == name);
                assert!(!named("info forged") && !named("x-evil"), "{answer:?}");
            }
        }
        let mut connection = Connection::open(calltap.address);
        connection.send(nasty.as_bytes());
        connection.send(b"\r\n\r\n");
    }
    crate::harness::post(calltap.address, "/v1/chat/completions", "", &chat_body(false));
    for at in [0, 3] {
        wait_sink(&calltap, &format!("s{at}"), |sink| {
            sink["dead"].as_u64().is_some_and(|dead| dead > 5)
        });
    }
    for at in [1, 4] {
        wait_sink(&calltap, &format!("s{at}"), |sink| sink["state"] == "paused");
    }
    calltap.signal("HUP");
    std::thread::sleep(std::time::Duration::from_millis(200));
    (calltap, tried)
}

#[test]
fn an_event_is_a_line_whatever_strangers_say() {
    for format in ["json", "text"] {
        let (calltap, tried) = told(format);
        let log = calltap.log();
        let mut lines = 0;
        for line in log.lines() {
            lines += 1;
            let bad = line.chars().find(|c| is_control(*c));
            assert_eq!(bad, None, "{}", line.escape_debug());
            assert!(!line.trim_start().starts_with("INFO forged"), "{line}");
            // The first lines say how it was started.
            if format == "json" && line.starts_with('{') {
                let event: Value = serde_json::from_str(line).unwrap_or_else(|_| panic!("{line}"));
                assert_ne!(event["message"], "forged", "{line}");
            }
        }
        let refused = log.lines().filter(|line| line.contains("a record is refused")).count();
        assert!(refused > 5, "what a sink says came by");
        println!("{format}: {tried} requests with {} texts, {lines} lines of the log", NASTY.len());
    }
}

/// A record is a line of JSON lines and a row of CSV, and no cell begins as a formula.
#[test]
fn exports_hold_hostile_text_in_its_place() {
    let (calltap, _) = told("json");
    let stored = calltap.counts().0;
    let export = |format: &str| {
        let output = calltap.command().args(["export", "--format", format]).output().unwrap();
        assert!(output.status.success());
        String::from_utf8(output.stdout).unwrap()
    };
    let lines = export("jsonl");
    // Every end of a line that any reader knows.
    let ends = ['\n', '\r', '\u{85}', '\u{2028}', '\u{2029}', '\u{b}', '\u{c}'];
    let pieces: Vec<&str> = lines.trim_end_matches('\n').split(ends).collect();
    assert_eq!(pieces.len(), stored, "a line a record");
    for piece in pieces {
        serde_json::from_str::<Value>(piece).unwrap();
    }
    let table = export("csv");
    assert!(!table.contains('\0') && !table.contains('\u{1b}'), "{}", table.escape_debug());
    println!("{stored} records exported both ways");
    // What commands print may be shown by a terminal, which would do what it is told.
    let id = calltap.calls("")[0]["id"].as_str().unwrap().to_owned();
    for arguments in [
        vec!["logs", "--limit", "500"],
        vec!["stats", "--by", "session"],
        vec!["stats", "--by", "model"],
        vec!["show", &id],
        vec!["show", &id, "--curl"],
        vec!["show", &id, "--python"],
        vec!["sinks", "status"],
        vec!["sinks", "dead", "s0"],
        vec!["pricing", "missing"],
        vec!["doctor", "--offline"],
    ] {
        let output = calltap.command().args(&arguments).output().unwrap();
        for text in [output.stdout, output.stderr] {
            let text = String::from_utf8(text).unwrap();
            let bad = text.chars().find(|c| is_control(*c) && !matches!(c, '\n' | '\t'));
            assert_eq!(bad, None, "calltap {}: {}", arguments.join(" "), text.escape_debug());
        }
    }
}
