//! One call, one record, whatever becomes of it (`reliability.md` R30).

use crate::harness::{
    Calltap, Connection, Random, Request, Step, Upstream, chat, chat_body, count, free_port,
    json_answer,
};
use std::{
    collections::BTreeMap,
    net::Shutdown,
    time::{Duration, Instant},
};

/// What is done, and the outcomes that may come of it.
const WAYS: &[(&str, &[&str])] = &[
    ("plain", &["completed"]),
    ("stream", &["completed"]),
    ("embeddings", &["completed"]),
    ("anything", &["completed"]),
    ("HEAD", &["completed"]),
    ("OPTIONS", &["completed"]),
    ("chunked upload", &["completed"]),
    ("metadata only", &["completed"]),
    ("repeated id", &["completed"]),
    ("upgrade", &["completed"]),
    ("error", &["provider_error"]),
    ("unknown upstream", &["refused"]),
    ("too large", &["refused"]),
    ("no such name", &["connect_failed"]),
    ("nobody there", &["connect_failed"]),
    ("reset before the answer", &["upstream_truncated"]),
    ("reset in the answer", &["upstream_truncated"]),
    ("silence", &["upstream_timeout"]),
    ("left in the answer", &["client_aborted"]),
    ("left in the request", &["client_aborted"]),
];

fn answers(request: &Request) -> Vec<Step> {
    let send = |text: &str| Step::Send(text.as_bytes().to_vec());
    match request.header("x-way").unwrap_or_default() {
        "HEAD" => vec![send("HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\n")],
        "OPTIONS" => vec![send("HTTP/1.1 204 No Content\r\nallow: POST\r\n\r\n")],
        "upgrade" => vec![
            send(
                "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\nsec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n",
            ),
            Step::Fin,
        ],
        "error" => json_answer(500, r#"{"error":{"message":"no"}}"#),
        "reset before the answer" => vec![Step::Rst],
        "reset in the answer" => vec![
            send("HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{\"a\":"),
            Step::Pause(Duration::from_millis(3)),
            Step::Rst,
        ],
        "silence" => vec![Step::Stall],
        "left in the answer" => vec![
            send(
                "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\na\r\ndata: 12\n\n\r\n",
            ),
            Step::Stall,
        ],
        _ => chat(3, Duration::ZERO)(request),
    }
}

/// Makes call `at` on a connection that is kept where it can be.
fn call(calltap: &Calltap, kept: &mut Option<Connection>, way: &str, at: usize, dice: &mut Random) {
    let mut connection = kept.take().unwrap_or_else(|| Connection::open(calltap.address));
    let json = "content-type: application/json\r\n";
    let body = chat_body(way == "stream" || way == "left in the answer");
    let large = "x".repeat(70_000);
    let (first, lines, body) = match way {
        "embeddings" => ("POST /v1/embeddings", json, r#"{"model":"m","input":"x"}"#),
        "anything" => ("PUT /v1/unknown/thing", "", "\u{0}\u{1}"),
        "HEAD" => ("HEAD /v1/models", "", ""),
        "OPTIONS" => ("OPTIONS /v1/chat/completions", "", ""),
        "metadata only" => (
            "POST /v1/chat/completions",
            "content-type: application/json\r\nx-calltap-log: metadata\r\n",
            &*body,
        ),
        "repeated id" => (
            "POST /v1/chat/completions",
            "content-type: application/json\r\nx-calltap-id: 0190a0b0-0000-7000-8000-0000000000aa\r\n",
            &*body,
        ),
        "upgrade" => (
            "GET /v1/realtime?model=m",
            "connection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n",
            "",
        ),
        "unknown upstream" => ("POST /nosuch/v1/x", json, "{}"),
        "too large" => ("POST /v1/chat/completions", json, &*large),
        "no such name" => ("POST /nameless/v1/chat/completions", json, &*body),
        "nobody there" => ("POST /away/v1/chat/completions", json, &*body),
        _ => ("POST /v1/chat/completions", json, &*body),
    };
    let framing = match way {
        "chunked upload" => "transfer-encoding: chunked\r\n".to_owned(),
        "upgrade" | "HEAD" | "OPTIONS" => String::new(),
        "left in the request" => format!("content-length: {}\r\n", body.len() + 100),
        _ => format!("content-length: {}\r\n", body.len()),
    };
    let body = match way {
        "chunked upload" => format!("{:x}\r\n{body}\r\n0\r\n\r\n", body.len()),
        _ => body.to_owned(),
    };
    connection.send(format!("{first} HTTP/1.1\r\nhost: 127.0.0.1\r\nx-way: {way}\r\nx-calltap-ref: {at}\r\n{lines}{framing}\r\n{body}").as_bytes());
    match way {
        "left in the request" => {
            connection.stream().shutdown(Shutdown::Both).ok();
        }
        "left in the answer" => {
            assert!(connection.read_body(8) > 0, "the answer had begun");
            if dice.below(2) == 0 {
                connection.reset();
            }
        }
        _ => {
            let method = first.split(' ').next().unwrap();
            let answer = connection.answer(method).expect(way);
            let goes_on = answer.header("connection") != Some("close");
            if answer.whole && answer.status < 400 && answer.status != 101 && goes_on {
                *kept = Some(connection);
            }
        }
    }
}

/// `CALLTAP_TEST_MIXED`: calls.
#[test]
fn everything_leaves_one_record() {
    let total = count("CALLTAP_TEST_MIXED", 2000);
    let upstream = Upstream::start(answers);
    let sections = format!(
        "[server]\nmax_body = \"64KiB\"\n[log]\nlevel = \"error\"\n[upstreams.nameless]\nbase_url = \"http://provider.invalid/v1\"\n[upstreams.away]\nbase_url = \"http://127.0.0.1:{}/v1\"\n",
        free_port()
    );
    let calltap = Calltap::with(&upstream, "first_byte_timeout = \"200ms\"", &sections);
    let begun = Instant::now();
    std::thread::scope(|scope| {
        for client in 0..8 {
            let calltap = &calltap;
            scope.spawn(move || {
                let (mut kept, mut dice) = (None, Random(client as u64));
                for at in (client..total).step_by(8) {
                    // Every way comes up with every client.
                    call(calltap, &mut kept, WAYS[at / 8 % WAYS.len()].0, at, &mut dice);
                }
            });
        }
    });
    let took = begun.elapsed();
    let until = Instant::now() + Duration::from_mins(1);
    let mut counted = calltap.counts();
    while counted.0 + counted.1 < total && Instant::now() < until {
        std::thread::sleep(Duration::from_millis(100));
        counted = calltap.counts();
    }
    // One that came later would be one too many.
    std::thread::sleep(Duration::from_millis(500));
    let database = rusqlite::Connection::open(calltap.data_dir().join("calltap.db")).unwrap();
    let mut statement = database
        .prepare("SELECT cast(reference AS INTEGER), outcome, count(*) FROM calls GROUP BY reference, outcome")
        .unwrap();
    let rows: Vec<(isize, String, isize)> = statement
        .query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))
        .unwrap()
        .collect::<Result<_, _>>()
        .unwrap();
    let mut outcomes = BTreeMap::<&str, usize>::new();
    let mut seen = vec![0; total];
    for (at, outcome, records) in &rows {
        let [at, records] = [at, records].map(|number| usize::try_from(*number).unwrap());
        let (way, allowed) = WAYS[at / 8 % WAYS.len()];
        assert!(allowed.contains(&outcome.as_str()), "{way} became {outcome}");
        seen[at] += records;
        *outcomes.entry(outcome).or_default() += records;
    }
    let wrong: Vec<_> = (0..total)
        .filter(|at| seen[*at] != 1)
        .map(|at| (WAYS[at / 8 % WAYS.len()].0, seen[at]))
        .collect();
    println!(
        "{total} calls of {} kinds in {took:?}: {} stored, {} dropped, {outcomes:?}",
        WAYS.len(),
        counted.0,
        counted.1
    );
    assert!(wrong.is_empty(), "{} calls without one record: {wrong:?}", wrong.len());
    assert_eq!(calltap.counts(), (total, 0));
}
