//! Clients that take their time (S12).

use crate::{
    delivery::percentile,
    harness::{Calltap, Connection, Upstream, chat, chat_body, count, post},
};
use std::time::{Duration, Instant};

/// What a slow client sends at once, and what of it then follows a byte at a time.
const SLOW: &[(&str, &str, &str)] = &[
    ("in its first line", "POST /v1/chat", "/completions/and/so/on/without/an/end/and/more/of/it"),
    (
        "in its headers",
        "POST /v1/x HTTP/1.1\r\nhost: x\r\nx-a: ",
        "b\r\nx-c: d\r\nx-e: f\r\nx-g: h\r\nx-i: j\r\n",
    ),
    ("before anything", "", ""),
    (
        "in its body",
        "POST /v1/x HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 5000\r\n\r\n{",
        "\"model\":\"m\",\"messages\":[{\"role\":\"user\",\"content\":\"",
    ),
    (
        "in a body that streams",
        "POST /v1/x HTTP/1.1\r\nhost: x\r\ncontent-type: text/plain\r\ncontent-length: 5000\r\n\r\n-",
        "a text that comes a letter at a time and never ends",
    ),
];
/// All but the last two are waited for as long as a head may take.
const BODIES: usize = 2;
/// What a head may take here.
const HEAD: Duration = Duration::from_secs(2);
/// Between two bytes of one client.
const PAUSE: Duration = Duration::from_millis(400);

struct Slow {
    connection: Connection,
    kind: usize,
    left: std::str::Bytes<'static>,
    closed: Option<Duration>,
}

/// A usual call meanwhile; how long it took.
fn usual(calltap: &Calltap) -> Duration {
    let started = Instant::now();
    let answer = post(calltap.address, "/v1/chat/completions", "", &chat_body(false));
    assert_eq!(answer.status, 200, "others are served");
    started.elapsed()
}

#[test]
fn slow_clients_are_shown_the_door_and_hold_nobody_up() {
    let total = count("CALLTAP_TEST_SLOW", 100);
    // A body may take half a minute: that is waited for in the long run only.
    let kinds = if total < 1000 { SLOW.len() - BODIES } else { SLOW.len() };
    let upstream = Upstream::start(chat(1, Duration::ZERO));
    let calltap = Calltap::with(&upstream, "", "[server]\nheader_timeout = \"2s\"\n");
    let mut before: Vec<Duration> = (0..200).map(|_| usual(&calltap)).collect();
    let started = Instant::now();
    let mut clients: Vec<Slow> = (0..total)
        .map(|at| {
            let kind = at % SLOW.len();
            let mut connection = Connection::open(calltap.address);
            connection.stream().set_nonblocking(true).unwrap();
            connection.send(SLOW[kind].1.as_bytes());
            Slow { connection, kind, left: SLOW[kind].2.bytes(), closed: None }
        })
        .collect();
    let patience = if kinds == SLOW.len() { Duration::from_secs(50) } else { HEAD * 5 };
    let mut during = Vec::new();
    let waits = |clients: &[Slow]| {
        clients.iter().any(|client| client.kind < kinds && client.closed.is_none())
    };
    while waits(&clients) && started.elapsed() < patience {
        let round = Instant::now();
        for client in clients.iter_mut().filter(|client| client.closed.is_none()) {
            // An answer may come before the end.
            client.connection.read_some(4096);
            if client.connection.has_ended() {
                client.closed = Some(started.elapsed());
            } else if let Some(byte) = client.left.next() {
                client.connection.send(&[byte]);
            }
        }
        during.push(usual(&calltap));
        std::thread::sleep(PAUSE.saturating_sub(round.elapsed()));
    }
    for (kind, (name, ..)) in SLOW.iter().enumerate().take(kinds) {
        let of_kind: Vec<&Slow> = clients.iter().filter(|client| client.kind == kind).collect();
        let last =
            of_kind.iter().map(|client| client.closed.unwrap_or(Duration::MAX)).max().unwrap();
        println!(
            "{} clients that are slow {name}: the last was closed after {last:.1?}",
            of_kind.len()
        );
        assert!(last < patience, "{name}: still open after {patience:?}");
    }
    let held = clients.len();
    drop(clients);
    before.sort();
    during.sort();
    println!(
        "{held} slow clients: others p99 {:?} before, {:?} meanwhile",
        percentile(&before, 99),
        percentile(&during, 99)
    );
    usual(&calltap);
}
