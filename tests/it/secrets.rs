//! No secret in any byte that is written (S1), and no header that is not on a list (S2).

use crate::{
    delivery::wait_sink,
    harness::{Calltap, Connection, Random, Request, Step, Upstream, fetch, post},
};
use aho_corasick::AhoCorasick;
use base64::Engine;
use std::{
    fmt::Write as _,
    sync::{Arc, Mutex},
    time::Duration,
};

/// Shapes of keys: what stands before and behind a part that is random, how long that is, of what.
const SHAPES: &[(&str, usize, &str, &str)] = &[
    ("sk-proj-", 48, "A", ""),
    ("sk-svcacct-", 48, "A", ""),
    ("sk-admin-", 48, "A", ""),
    ("sk-", 48, "A", ""),
    ("sk-ant-api03-", 80, "A", "AA"),
    ("sk-ant-admin01-", 80, "A", "AA"),
    ("sk-or-v1-", 64, "f", ""),
    ("AKIA", 16, "Z", ""),
    ("AIza", 35, "A", ""),
    ("ya29.", 60, "A", ""),
    ("GOCSPX-", 28, "A", ""),
    ("hf_", 34, "A", ""),
    ("ghp_", 36, "A", ""),
    ("gho_", 36, "A", ""),
    ("github_pat_", 60, "A", ""),
    ("glpat-", 20, "A", ""),
    ("xoxb-", 40, "A", ""),
    ("xapp-1-", 40, "A", ""),
    ("sk_live_", 24, "A", ""),
    ("rk_live_", 24, "A", ""),
    ("whsec_", 32, "A", ""),
    ("gsk_", 40, "A", ""),
    ("xai-", 40, "A", ""),
    ("pplx-", 40, "A", ""),
    ("fw_", 24, "A", ""),
    ("csk-", 40, "a", ""),
    ("r8_", 37, "A", ""),
    ("nvapi-", 48, "A", ""),
    ("npm_", 36, "A", ""),
    ("pypi-", 60, "A", ""),
    ("dckr_pat_", 27, "A", ""),
    ("dapi", 32, "f", ""),
    ("eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.", 43, "A", ""),
    ("-----BEGIN RSA PRIVATE KEY-----\\n", 64, "A", "\\n-----END RSA PRIVATE KEY-----"),
];

/// A secret that nothing is known of, and where it is asked for.
const NO_SHAPE: (&str, usize, &str, &str) = ("", 32, "A", "");
const ANY: usize = usize::MAX;

/// Header lines of requests that carry credentials. `{}` is one.
const HEADERS: &[&str] = &[
    "authorization: Bearer {}",
    "authorization: {}",
    "x-api-key: {}",
    "api-key: {}",
    "x-goog-api-key: {}",
    "cookie: session={}",
    "proxy-authorization: Bearer {}",
    "x-calltap-key: {}",
    "x-calltap-nonsense: {}",
    "helicone-auth: Bearer {}",
    "x-portkey-api-key: {}",
    "x-portkey-virtual-key: {}",
    "x-litellm-api-key: {}",
    "cf-aig-authorization: Bearer {}",
    "openai-organization: {}",
    "x-foo-token: {}",
    "x-amz-security-token: {}",
    "sec-websocket-protocol: openai-insecure-api-key.{}",
    "x-auth: {}",
    "x-forwarded-access-token: {}",
];

/// Queries likewise.
const QUERIES: &[&str] = &[
    "key={}",
    "api_key={}",
    "api-key={}",
    "access_token={}",
    "token={}",
    "sig={}",
    "X-Amz-Signature={}",
    "{}",
    "{}=1",
];

/// Header lines of answers likewise.
const ANSWERED: &[&str] = &[
    "set-cookie: s={}; HttpOnly",
    "location: http://127.0.0.1/?token={}",
    "authorization: Bearer {}",
    "x-api-key: {}",
    "www-authenticate: Bearer realm=\"{}\"",
    "x-amz-security-token: {}",
    "x-debug-request-headers: {}",
];

/// Bodies in which keys are known by their shape.
const BODIES: &[&str] = &[
    r#"{"model":"m","messages":[{"role":"user","content":"my key is {} ok"}]}"#,
    r#"{"model":"m","messages":[{"role":"user","content":"export KEY={}"}],"user":"{}"}"#,
    r#"{"model":"m","metadata":{"k":"{}"},"api_key":"{}","messages":[]}"#,
    r#"{"model":"m","messages":[{"role":"user","content":[{"type":"text","text":"{}"}]}]}"#,
    r#"{"model":"m","messages":[{"role":"assistant","tool_calls":[{"id":"t","type":"function","function":{"name":"f","arguments":"{\"k\":\"{}\"}"}}]}]}"#,
    "no JSON: {}",
];

/// A planted secret: all of it, and the part that nothing else holds.
struct Canary {
    whole: String,
    random: String,
    place: String,
}

struct Planter {
    random: Random,
    canaries: Vec<Canary>,
}

impl Planter {
    /// A new secret of a shape, for a place.
    fn plant(&mut self, shape: usize, place: &str) -> String {
        let (before, len, kind, behind) =
            if shape == ANY { NO_SHAPE } else { SHAPES[shape % SHAPES.len()] };
        let letters: &[u8] = match kind {
            "f" => b"0123456789abcdef",
            "a" => b"abcdefghijklmnopqrstuvwxyz0123456789",
            "Z" => b"ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789",
            _ => b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789",
        };
        let random: String =
            (0..len).map(|_| char::from(letters[self.random.index(letters.len())])).collect();
        let whole = format!("{before}{random}{behind}");
        self.canaries.push(Canary { whole: whole.clone(), random, place: place.to_owned() });
        whole
    }
}

/// Ways to write 12 bytes of a secret down.
fn forms(part: &str) -> Vec<Vec<u8>> {
    let bytes = part.as_bytes();
    let mut forms = vec![
        bytes.to_vec(),
        hex::encode(bytes).into_bytes(),
        hex::encode_upper(bytes).into_bytes(),
    ];
    forms.push(bytes.iter().flat_map(|byte| [*byte, 0]).collect());
    forms.push(part.chars().rev().collect::<String>().into_bytes());
    for shift in 0..3 {
        let padded = [&vec![0; shift][..], bytes].concat();
        let text = base64::engine::general_purpose::STANDARD_NO_PAD.encode(padded);
        // What depends on what stands beside it is left out.
        let (from, to) = ((shift * 8).div_ceil(6), text.len() - 2);
        forms.push(text.as_bytes()[from..to].to_vec());
    }
    forms
}

/// Places whose secrets are found in `bytes`, in whatever form, by any 12 bytes.
fn found(canaries: &[Canary], bytes: &[u8]) -> Vec<String> {
    let (mut patterns, mut owners) = (Vec::new(), Vec::new());
    for (at, canary) in canaries.iter().enumerate() {
        for from in 0..=canary.random.len() - 12 {
            for form in forms(&canary.random[from..from + 12]) {
                patterns.push(form);
                owners.push(at);
            }
        }
    }
    let searcher = AhoCorasick::new(&patterns).unwrap();
    let mut found: Vec<String> = searcher
        .find_overlapping_iter(bytes)
        .map(|hit| {
            let around = &bytes[hit.start().saturating_sub(60)..(hit.end() + 20).min(bytes.len())];
            let canary = &canaries[owners[hit.pattern().as_usize()]];
            format!("{} ({}): …{}…", canary.place, canary.whole, String::from_utf8_lossy(around))
        })
        .collect();
    found.dedup_by_key(|found| found.split(':').next().map(str::to_owned));
    found
}

/// An upstream that gives back what the test has prepared for a row.
fn upstream(prepared: &Arc<Mutex<Vec<String>>>) -> Upstream {
    let prepared = Arc::clone(prepared);
    Upstream::start(move |request: &Request| {
        let at: Option<usize> = request.header("x-row").and_then(|row| row.parse().ok());
        let answer = at.and_then(|at| prepared.lock().unwrap().get(at).cloned());
        let answer = answer.unwrap_or_else(|| {
            // What was sent is told back, as debugging pages and careless errors do.
            let body = String::from_utf8_lossy(&request.body).into_owned();
            let body = serde_json::json!({"error": {"message": format!("refused: {body}"), "code": "invalid_api_key"}});
            let body = body.to_string();
            format!("HTTP/1.1 401 No\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}", body.len())
        });
        vec![Step::Send(answer.into_bytes())]
    })
}

/// A stream that holds a secret in pieces.
fn streamed(secret: &str) -> String {
    let mut events = String::new();
    for piece in secret.as_bytes().chunks(5) {
        let piece = serde_json::json!({"choices": [{"index": 0, "delta": {"content": String::from_utf8_lossy(piece)}}]});
        write!(events, "data: {piece}\n\n").unwrap();
    }
    events.push_str("data: [DONE]\n\n");
    format!(
        "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncontent-length: {}\r\n\r\n{events}",
        events.len()
    )
}

/// Makes every call that carries a secret; how many records come of it.
fn calls(calltap: &Calltap, planter: &mut Planter, prepared: &Mutex<Vec<String>>) -> usize {
    let (mut calls, mut shape) = (0, 0);
    let json = "content-type: application/json\r\n";
    let mut send = |path: &str, lines: &str, body: &str| {
        calls += 1;
        // Where calltap itself answers, it tells nothing of it either.
        post(calltap.address, path, lines, body)
    };
    for times in 0..3 {
        // Where credentials stand, also one that nothing is known of must not be kept.
        let mut next = || {
            shape += 1;
            if times == 2 { ANY } else { shape }
        };
        for header in HEADERS {
            let line = header.replace("{}", &planter.plant(next(), header).replace("\\n", ""));
            let path = ["/v1/chat/completions", "/nosuch/v1/x", "/v1/anything"][times];
            let answer = send(path, &format!("{line}\r\n"), r#"{"model":"m","messages":[]}"#);
            assert!(answer.header("x-calltap-id").is_some());
        }
        for query in QUERIES {
            let query = query.replace("{}", &planter.plant(next(), query).replace(['\\', ' '], ""));
            let path = ["/v1/chat/completions", "/nosuch/v1/x", "/-/session=s/v1/x"][times];
            send(&format!("{path}?{query}"), "", "{}");
        }
        for line in ANSWERED {
            let line = line.replace("{}", &planter.plant(next(), line).replace("\\n", ""));
            let row = prepared.lock().unwrap().len();
            prepared
                .lock()
                .unwrap()
                .push(format!("HTTP/1.1 200 OK\r\n{line}\r\ncontent-length: 2\r\n\r\n{{}}"));
            send("/v1/x", &format!("x-row: {row}\r\n"), "{}");
        }
    }
    for (at, _) in SHAPES.iter().enumerate() {
        let body = BODIES[at % BODIES.len()];
        let secret = planter.plant(at, "a body, and an error that tells it back");
        send("/v1/chat/completions", json, &body.replace("{}", &secret));
        let secret = planter.plant(at, "the deltas of a stream");
        if !secret.contains("-----") {
            let row = prepared.lock().unwrap().len();
            prepared.lock().unwrap().push(streamed(&secret));
            send(
                "/v1/chat/completions",
                &format!("x-row: {row}\r\n"),
                r#"{"model":"m","stream":true,"messages":[]}"#,
            );
        }
    }
    for (name, lines) in [("userinfo", ""), ("a call that is left", "content-length: 50\r\n")] {
        let secret = planter.plant(3, name);
        let target = if name == "userinfo" {
            format!("http://u:{secret}@127.0.0.1/v1/x")
        } else {
            "/v1/x".into()
        };
        let mut connection = Connection::open(calltap.address);
        connection.send(
            format!(
                "POST {target} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {secret}\r\n{lines}\r\n"
            )
            .as_bytes(),
        );
        connection.stream().set_read_timeout(Some(Duration::from_millis(300))).unwrap();
        let came = connection.answer("POST");
        calls += usize::from(
            !lines.is_empty() || came.is_some_and(|answer| answer.header("x-calltap-id").is_some()),
        );
    }
    calls
}

/// Everything that calltap says of its calls, to whomever.
fn said(calltap: &Calltap, rows: &[serde_json::Value]) -> Vec<u8> {
    let mut bytes = calltap.every_byte();
    let mut get = |path: &str| bytes.extend(fetch(calltap.address, path).unwrap().body);
    for path in [
        "calls?limit=1000",
        "stats",
        "facets",
        "metrics",
        "pricing",
        "prompts",
        "sessions",
        "settings",
        "store",
        "sinks",
    ] {
        get(&format!("/api/v1/{path}"));
    }
    ["/metrics", "/version", "/readyz?verbose"].into_iter().for_each(&mut get);
    for row in rows {
        let id = row["id"].as_str().unwrap();
        for part in ["", "/raw", "/raw?part=request", "/raw?part=response", "/delivery"] {
            get(&format!("/api/v1/calls/{id}{part}"));
        }
    }
    let last = rows[0]["id"].as_str().unwrap();
    for arguments in [
        vec!["export"],
        vec!["export", "--format", "csv"],
        vec!["config", "show"],
        vec!["config", "check"],
        vec!["doctor", "--offline"],
        vec!["doctor", "--json", "--offline"],
        vec!["logs"],
        vec!["stats", "--by", "key"],
        vec!["show", last],
        vec!["show", last, "--curl"],
        vec!["show", last, "--python"],
        vec!["show", last, "--raw"],
        vec!["sinks", "status"],
        vec!["sinks", "status", "--json"],
        vec!["store", "info"],
        vec!["store", "verify"],
        vec!["env"],
    ] {
        let output = calltap.command().args(arguments).output().unwrap();
        bytes.extend([output.stdout, output.stderr].concat());
    }
    bytes
}

#[test]
fn planted_secrets_are_found_nowhere() {
    let mut planter = Planter { random: Random(41), canaries: Vec::new() };
    let prepared = Arc::new(Mutex::new(Vec::new()));
    let (upstream, sink) = (
        upstream(&prepared),
        Upstream::start(|_| crate::harness::json_answer(200, r#"{"success":true}"#)),
    );
    let mut configured = Vec::new();
    let mut own = |name: &str, shape: usize| {
        configured.push(planter.plant(shape, name));
        configured.last().unwrap().clone()
    };
    let sections = format!(
        "[log]\nlevel = \"trace\"\n[capture]\nredact = [\"secrets\"]\n\
         [sinks.hook]\ntype = \"webhook\"\nsecret = \"{}\"\nbase_url = \"http://{1}\"\nheaders = {{ x-own = \"{2}\" }}\n\
         [sinks.athina]\ntype = \"athina\"\napi_key = \"{3}\"\nbase_url = \"http://{1}\"\n\
         [sinks.keywordsai]\ntype = \"keywordsai\"\napi_key = \"{4}\"\nbase_url = \"http://{1}\"\n\
         [sinks.honeyhive]\ntype = \"honeyhive\"\nproject = \"p\"\napi_key = \"{5}\"\nbase_url = \"http://{1}\"\n\
         [sinks.files]\ntype = \"jsonl\"\n",
        own("the secret of a webhook", 19),
        sink.address,
        own("a header of a sink", 3),
        own("a sink's key", 0),
        own("a sink's key", 5),
        own("a sink's key", 12)
    );
    let calltap = Calltap::with(&upstream, "", &sections);
    let count = calls(&calltap, &mut planter, &prepared);
    let rows = calltap.wait_calls("", count);
    for name in ["hook", "athina", "keywordsai", "honeyhive"] {
        wait_sink(&calltap, name, |sink| {
            sink["delivered"].as_u64() > Some(0) && sink["queue"] == 0
        });
    }
    let payloads: Vec<u8> = sink
        .requests()
        .iter()
        .flat_map(|request| [&request.body[..], request.line.as_bytes()].concat())
        .collect();
    assert!(sink.requests().len() > 3 && payloads.len() > 10_000, "sinks were given something");
    let said = said(&calltap, &rows);
    let masked = memchr::memmem::find_iter(&said, b"[redacted:").count();
    assert!(masked > 100, "the secrets did come by: {masked}");
    // The search itself finds what is there.
    let control =
        [planter.canaries[0].whole.as_bytes(), hex::encode(&planter.canaries[1].random).as_bytes()]
            .concat();
    assert_eq!(found(&planter.canaries, &control).len(), 2);
    let hits = [found(&planter.canaries, &said), found(&planter.canaries, &payloads)].concat();
    assert!(hits.is_empty(), "{} hits: {:#?}", hits.len(), &hits[..hits.len().min(12)]);
    println!(
        "{} secrets of {} shapes in {count} calls: none in {} bytes",
        planter.canaries.len(),
        SHAPES.len(),
        said.len() + payloads.len()
    );
}

/// Headers by any other name are forwarded, and kept nowhere.
#[test]
fn what_is_on_no_list_is_not_kept() {
    let mut random = Random(5);
    let upstream = Upstream::start(|request| {
        let names = request.headers.iter().filter(|(name, _)| name.starts_with("x-q"));
        let lines: String =
            names.map(|(name, value)| format!("{name}-answered: {value}\r\n")).collect();
        vec![Step::Send(
            format!("HTTP/1.1 200 OK\r\n{lines}content-length: 2\r\n\r\n{{}}").into_bytes(),
        )]
    });
    let sink = Upstream::start(|_| crate::harness::json_answer(200, "{}"));
    let section = format!(
        "[log]\nlevel = \"trace\"\n[sinks.hook]\ntype = \"webhook\"\nsecret = \"s\"\nbase_url = \"http://{}\"\n",
        sink.address
    );
    let calltap = Calltap::with(&upstream, "", &section);
    let mut passed = 0;
    for _ in 0..13 {
        let lines: String = (0..40)
            .map(|_| {
                format!(
                    "x-q{:06x}-{}: canary-value-{:x}\r\n",
                    random.below(1 << 24),
                    ["token", "key", "id"][random.index(3)],
                    random.below(1 << 40)
                )
            })
            .collect();
        let answer =
            post(calltap.address, "/v1/chat/completions", &lines, r#"{"model":"m","messages":[]}"#);
        passed += answer.headers.iter().filter(|(name, _)| name.ends_with("-answered")).count();
    }
    let rows = calltap.wait_calls("", 13);
    wait_sink(&calltap, "hook", |sink| sink["delivered"] == 13);
    let mut bytes = said(&calltap, &rows);
    bytes.extend(sink.requests().iter().flat_map(|request| format!("{request:?}").into_bytes()));
    for trace in [&b"canary-value-"[..], b"x-q"] {
        assert!(
            memchr::memmem::find(&bytes, trace).is_none(),
            "{}",
            String::from_utf8_lossy(trace)
        );
    }
    println!("{passed} headers of random names passed both ways, none is kept");
    assert!(passed > 500);
}

/// What a client packs is looked into before it is stored.
#[test]
fn packed_requests_are_masked_too() {
    let secret = format!("sk-proj-{}", "A1b2".repeat(12));
    let question = "words ".repeat(500);
    let body = serde_json::json!({"model": "m", "messages": [
        {"role": "user", "content": format!("{question}{secret} findable")}]});
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    std::io::Write::write_all(&mut gzip, body.to_string().as_bytes()).unwrap();
    let packed = gzip.finish().unwrap();
    let upstream = Upstream::start(|_| crate::harness::json_answer(200, "{}"));
    let calltap = Calltap::start(&upstream);
    let mut connection = Connection::open(calltap.address);
    let head = format!(
        "POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n\
         content-encoding: gzip\r\ncontent-length: {}\r\n\r\n",
        packed.len()
    );
    connection.send(&[head.as_bytes(), &packed].concat());
    assert_eq!(connection.answer("POST").unwrap().status, 200);
    assert_eq!(upstream.last().unwrap().body, packed, "the upstream gets what was sent");
    let record = calltap.only_record().to_string();
    assert!(record.contains("[redacted:openai-key:") && record.contains("findable"), "{record}");
    assert!(!record.contains(&secret));
    assert!(record.contains("request redacted: openai-key"), "{record}");
}
