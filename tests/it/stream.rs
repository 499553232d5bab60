//! Chunks on their way: at once, and never held for the next.

use crate::harness::{Calltap, Connection, Step, Upstream, chat_body};
use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

const EVENTS: usize = 30;

/// The upstream sends an event only once the client has the one before.
fn step_by_step(sections: &str, event: impl Fn(usize) -> String + Send + Sync + 'static) {
    bursts_of(1, sections, event);
}

/// The upstream sends so many events at once, and more only once the client has them all.
fn bursts_of(
    burst: usize,
    sections: &str,
    event: impl Fn(usize) -> String + Send + Sync + 'static,
) {
    let seen = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&seen);
    let upstream = Upstream::start(move |_| {
        let mut steps = vec![Step::Send(
            b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
                .to_vec(),
        )];
        for first in (0..EVENTS).step_by(burst) {
            let events = (first..EVENTS.min(first + burst)).map(&event);
            let chunks = events.map(|event| format!("{:x}\r\n{event}\r\n", event.len()));
            steps.push(Step::Until(Arc::clone(&counter), first));
            steps.push(Step::Send(chunks.collect::<String>().into_bytes()));
        }
        steps.push(Step::Send(b"e\r\ndata: [DONE]\n\n\r\n0\r\n\r\n".to_vec()));
        steps
    });
    let calltap = Calltap::with(&upstream, "", sections);
    let body = chat_body(true);
    let mut connection = Connection::open(calltap.address);
    let patience = std::time::Duration::from_secs(5);
    connection.stream().set_read_timeout(Some(patience)).unwrap();
    connection.send(format!("POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}", body.len()).as_bytes());
    let mut text = Vec::new();
    for at in 0..EVENTS {
        let mark = format!("mark{at}.");
        while memchr::memmem::find(&text, mark.as_bytes()).is_none() {
            let piece = connection.read_some(1);
            assert!(
                !piece.is_empty(),
                "event {at} is held back: {}",
                String::from_utf8_lossy(&text)
            );
            text.extend(piece);
        }
        seen.store(at + 1, Ordering::Relaxed);
    }
    while memchr::memmem::find(&text, b"[DONE]").is_none() {
        let piece = connection.read_some(1);
        assert!(!piece.is_empty());
        text.extend(piece);
    }
    let record = calltap.only_record();
    assert!(record["timing"]["chunks"].as_u64().unwrap() > 1, "{}", record["timing"]);
}

fn chunk(at: usize, more: &str) -> String {
    format!(
        "data: {{\"choices\":[{{\"index\":0,\"delta\":{{\"content\":\"mark{at}.\"}},\"finish_reason\":null}}]{more}}}\n\n"
    )
}

#[test]
fn events_pass_as_they_arrive() {
    step_by_step("", |at| chunk(at, ""));
}

#[test]
fn a_burst_passes_without_what_comes_after_it() {
    for burst in [2, 7, 29] {
        bursts_of(burst, "", |at| chunk(at, ""));
        bursts_of(burst, "", |at| chunk(at, ",\"usage\":null"));
        bursts_of(burst, "[store]\ndurability = \"strict\"\n", |at| chunk(at, ""));
    }
}

#[test]
fn events_that_are_cut_pass_as_they_arrive() {
    step_by_step("", |at| chunk(at, ",\"usage\":null"));
}

#[test]
fn strict_holds_back_the_end_and_nothing_else() {
    step_by_step("[store]\ndurability = \"strict\"\n", |at| chunk(at, ",\"usage\":null"));
}

#[test]
fn comments_and_keepalives_pass_as_they_arrive() {
    step_by_step("", |at| format!(": mark{at}.\n\n"));
}
