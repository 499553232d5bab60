//! Errors of providers pass as they are, and those of calltap say whose they are (`reliability.md` R28).

use crate::harness::{
    Answer, Calltap, Connection, Random, Request, Step, Upstream, chat, chat_body, count, fetch,
    free_port, post,
};
use std::{collections::BTreeMap, time::Duration};

/// An error as a provider, or something before it, gives it.
struct Fault {
    status: u16,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
    chunked: bool,
}

impl Fault {
    /// The same for the same number.
    fn numbered(at: usize) -> Self {
        let mut dice = Random(at as u64);
        let status = u16::try_from(400 + at % 200).unwrap();
        let (kind, body) = Self::body(at, status, &mut dice);
        let mut headers = vec![("x-request-id".to_owned(), format!("req-{at}"))];
        if !kind.is_empty() {
            headers.push(("content-type".to_owned(), kind.to_owned()));
        }
        let now_and_then = [
            ("retry-after", format!("{}", dice.below(100))),
            ("retry-after", "Wed, 21 Oct 2026 07:28:00 GMT".to_owned()),
            ("retry-after-ms", format!("{}", dice.below(10_000))),
            ("x-should-retry", "false".to_owned()),
            ("x-ratelimit-limit-requests", format!("{}", dice.below(10_000))),
            ("x-ratelimit-remaining-tokens", "0".to_owned()),
            ("x-ratelimit-reset-requests", "1m0.5s".to_owned()),
            ("anthropic-ratelimit-unified-status", "rejected".to_owned()),
            ("www-authenticate", "Bearer realm=\"api\"".to_owned()),
            ("set-cookie", format!("a={at}; HttpOnly")),
            ("set-cookie", format!("b={at}; Secure")),
            ("openai-processing-ms", format!("{}", dice.below(500))),
            ("x-custom", "a value,  with  blanks".to_owned()),
        ];
        for (name, value) in now_and_then {
            if dice.below(3) == 0 {
                headers.push((name.to_owned(), value));
            }
        }
        Self { status, headers, body, chunked: dice.below(3) == 0 }
    }

    fn body(at: usize, status: u16, dice: &mut Random) -> (&'static str, Vec<u8>) {
        let json = "application/json";
        let (kind, text) = match at % 9 {
            0 => (
                json,
                format!(
                    r#"{{"error":{{"message":"no. {at}","type":"invalid_request_error","param":null,"code":"c{at}"}}}}"#
                ),
            ),
            1 => {
                (json, format!(r#"{{"detail":[{{"loc":["body",{at}],"msg":"field required"}}]}}"#))
            }
            2 => (
                "text/html; charset=utf-8",
                format!(
                    "<html><head><title>{status}</title></head>\r\n<body><center><h1>{status}</h1></center></body></html>\r\n"
                ),
            ),
            3 => ("", String::new()),
            4 => (json, String::new()),
            5 => (
                "text/plain",
                format!("upstream connect error or disconnect/reset before headers. {at}"),
            ),
            6 => (json, format!("{{\"error\":{{\"message\":\"cut {at}")),
            7 => (
                "application/problem+json",
                format!("[ {{ \"title\" : \"é \\u2028 {at}\", \"n\": 1.50 }} ]\n"),
            ),
            _ => {
                return (
                    "application/octet-stream",
                    (0..=dice.index(5000))
                        .map(|_| u8::try_from(dice.below(256)).unwrap())
                        .collect(),
                );
            }
        };
        (kind, text.into_bytes())
    }

    fn steps(&self) -> Vec<Step> {
        let mut head = format!("HTTP/1.1 {} Some Reason\r\n", self.status);
        for (name, value) in &self.headers {
            head += &format!("{name}: {value}\r\n");
        }
        if !self.chunked {
            head += &format!("content-length: {}\r\n\r\n", self.body.len());
            return vec![Step::Send([head.as_bytes(), &self.body].concat())];
        }
        let mut steps = vec![Step::Send((head + "transfer-encoding: chunked\r\n\r\n").into())];
        for piece in self.body.chunks(100) {
            let size = format!("{:x}\r\n", piece.len());
            steps.push(Step::Send([size.as_bytes(), piece, b"\r\n"].concat()));
        }
        steps.push(Step::Send(b"0\r\n\r\n".to_vec()));
        steps
    }
}

/// Headers less those that calltap adds and those of the framing, sorted.
fn told(headers: &[(String, String)]) -> Vec<(String, String)> {
    let own = ["x-calltap-id", "server-timing", "date", "content-length", "transfer-encoding"];
    let mut told: Vec<_> =
        headers.iter().filter(|(name, _)| !own.contains(&name.as_str())).cloned().collect();
    told.sort();
    told
}

fn number(request: &Request) -> usize {
    request.header("x-number").unwrap().parse().unwrap()
}

/// One client's share of the errors: what it got is what was sent.
fn ask(calltap: &Calltap, client: usize, total: usize) {
    let mut connection = Connection::open(calltap.address);
    for at in (client..total).step_by(4) {
        let body = chat_body(at % 2 == 0);
        connection.send(format!("POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nx-number: {at}\r\nx-calltap-ref: {at}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}", body.len()).as_bytes());
        let answer = connection.answer("POST").expect("an answer");
        let fault = Fault::numbered(at);
        assert_eq!(answer.status, fault.status, "{at}");
        assert!(answer.whole && answer.body == fault.body, "{at}: {answer:?}");
        assert_eq!(told(&answer.headers), told(&fault.headers), "{at}");
        assert!(answer.header("x-calltap-error").is_none(), "{at}: it is not calltap's");
    }
}

/// `CALLTAP_TEST_ERRORS`: how many.
#[test]
fn errors_of_providers_pass_unchanged_and_are_recorded() {
    let total = count("CALLTAP_TEST_ERRORS", 1000);
    let upstream = Upstream::start(|request| Fault::numbered(number(request)).steps());
    // What is masked in the record is shown by others: here every byte is compared.
    let calltap = Calltap::with(&upstream, "", "[capture]\nredact = []\n");
    std::thread::scope(|scope| {
        for client in 0..4 {
            let calltap = &calltap;
            scope.spawn(move || ask(calltap, client, total));
        }
    });
    assert_eq!(upstream.requests().len(), total, "nothing is tried again");
    let calls = calltap.wait_calls("outcome:provider_error", total);
    assert_eq!(calls.len(), total);
    let mut kinds = BTreeMap::<u16, usize>::new();
    for call in &calls {
        let at: usize = call["tags"]["reference"].as_str().unwrap().parse().unwrap();
        let fault = Fault::numbered(at);
        assert_eq!(call["status"], fault.status, "{at}");
        assert_eq!(call["error"]["source"], "provider", "{at}: {call:#}");
        let path = format!("/api/v1/calls/{}/raw?part=response", call["id"].as_str().unwrap());
        assert!(
            fetch(calltap.address, &path).unwrap().body == fault.body,
            "{at}: the body is kept"
        );
        *kinds.entry(fault.status / 100).or_default() += 1;
    }
    println!(
        "{total} errors of providers, {kinds:?} by class: passed unchanged, recorded with their bodies"
    );
}

/// What calltap itself says: marked, in OpenAI's shape, with a code and an id of its own.
fn is_own(answer: &Answer, status: u16, code: &str) {
    assert_eq!((answer.status, answer.header("x-calltap-error")), (status, Some("1")), "{code}");
    let error = &answer.json()["error"];
    assert_eq!(error["code"], code);
    assert!(error["message"].is_string() && error["type"].is_string(), "{error}");
    assert!(answer.header("x-calltap-id").is_some() && answer.header("x-request-id").is_none());
}

#[test]
fn errors_of_calltap_are_marked() {
    let upstream = Upstream::start(|request| match request.header("x-way") {
        Some("silence") => vec![Step::Stall],
        Some("garbage") => vec![Step::Send(b"SSH-2.0 nonsense\r\n\r\n".to_vec()), Step::Fin],
        Some("gone") => vec![Step::Rst],
        // A provider that is a calltap itself, or says so: that is not this one's error.
        Some("claims") => vec![Step::Send(
            b"HTTP/1.1 503 X\r\nx-calltap-error: 1\r\ncontent-length: 0\r\n\r\n".to_vec(),
        )],
        _ => chat(1, Duration::ZERO)(request),
    });
    let sections = format!(
        "[server]\nmax_body = \"1KiB\"\n[upstreams.away]\nbase_url = \"http://127.0.0.1:{}/v1\"\n",
        free_port()
    );
    let calltap = Calltap::with(&upstream, "first_byte_timeout = \"300ms\"", &sections);
    let ask = |path: &str, way: &str, body: &str| {
        post(calltap.address, path, &format!("x-way: {way}\r\n"), body)
    };
    let chat_path = "/v1/chat/completions";
    is_own(&ask(chat_path, "silence", &chat_body(false)), 504, "calltap_upstream_timeout");
    for way in ["garbage", "gone"] {
        is_own(&ask(chat_path, way, &chat_body(false)), 502, "calltap_upstream_unreachable");
    }
    let away = ask("/away/v1/chat/completions", "", &chat_body(false));
    is_own(&away, 502, "calltap_upstream_unreachable");
    is_own(&ask(chat_path, "", &"x".repeat(2000)), 413, "calltap_body_too_large");
    is_own(&ask("/nosuch/v1/x", "", "{}"), 404, "calltap_unknown_upstream");
    let claims = ask(chat_path, "claims", &chat_body(false));
    assert_eq!((claims.status, claims.body.len()), (503, 0));
    let calls = calltap.wait_calls("", 7);
    let sources: Vec<_> = calls
        .iter()
        .rev()
        .map(|call| call["error"]["source"].as_str().unwrap_or_default())
        .collect();
    println!(
        "sources of errors: {sources:?}; a provider's own mark is passed on: {:?}",
        claims.header("x-calltap-error")
    );
    assert_eq!(sources.iter().filter(|source| **source == "provider").count(), 1, "{sources:?}");
}
