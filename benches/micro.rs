//! What each step of a call costs by itself, and how that grows with the work.
//!
//! `cargo bench --bench micro [PART OF A NAME]` prints a line a step and size: time a call, and a byte or event.
//! Compare lines of one run; a step is linear where the last column stays level.

#![expect(
    clippy::print_stdout,
    clippy::unwrap_used,
    clippy::cast_precision_loss,
    reason = "a program for people: it prints, and stops where anything is wrong"
)]

use bytes::Bytes;
use calltap::{
    codec,
    config::{Redaction, RedactionPreset},
    interpret::interpret,
    model::{Body, ChunkLog, End, Endpoint, Exchange, Head, Timestamp, Usage},
    pricing::{Charge, PriceBook},
    redact::Redactor,
    splice::{UsageCutter, edit_request},
    store::{Bodies, Entry, Store},
};
use std::{
    hint::black_box,
    sync::Arc,
    time::{Duration, Instant},
};

/// Shortest time that a step is repeated for.
const LEAST: Duration = Duration::from_millis(300);
/// Bytes of a piece that a stream arrives in.
const PIECE: usize = 16 << 10;

/// A chat request whose one message has so many bytes.
fn request(bytes: usize) -> Bytes {
    let words = "The quick brown fox jumps over the lazy dog. ".repeat(bytes / 45 + 1);
    let text = words.get(..bytes).unwrap_or(&words);
    format!(
        r#"{{"model":"gpt-4o-mini","messages":[{{"role":"user","content":"{text}"}}],"stream":true,"temperature":0.2}}"#
    )
    .into()
}

/// A streamed answer of so many content events, with usage at its end.
fn stream(events: usize) -> Bytes {
    let head = r#""id":"chatcmpl-1","object":"chat.completion.chunk","created":1760000000,"model":"gpt-4o-mini-2024-07-18","system_fingerprint":"fp_1","choices":"#;
    let mut text = String::new();
    for at in 0..events {
        text += &format!(
            "data: {{{head}[{{\"index\":0,\"delta\":{{\"content\":\" word{at}\"}},\"logprobs\":null,\"finish_reason\":null}}],\"usage\":null}}\n\n"
        );
    }
    text += &format!(
        "data: {{{head}[{{\"index\":0,\"delta\":{{}},\"logprobs\":null,\"finish_reason\":\"stop\"}}],\"usage\":null}}\n\n"
    );
    text += &format!(
        "data: {{{head}[],\"usage\":{{\"prompt_tokens\":9,\"completion_tokens\":{events},\"total_tokens\":{}}}}}\n\ndata: [DONE]\n\n",
        events + 9
    );
    text.into()
}

/// A plain answer of so many bytes of text.
fn answer(bytes: usize) -> Bytes {
    let text = "x ".repeat(bytes / 2);
    format!(
        r#"{{"id":"chatcmpl-1","object":"chat.completion","created":1760000000,"model":"gpt-4o-mini-2024-07-18","choices":[{{"index":0,"message":{{"role":"assistant","content":"{text}","refusal":null}},"logprobs":null,"finish_reason":"stop"}}],"usage":{{"prompt_tokens":9,"completion_tokens":12,"total_tokens":21}}}}"#
    )
    .into()
}

fn body(kept: Bytes) -> Body {
    Body { total: kept.len() as u64, kept, sha256: Some([7; 32]) }
}

fn exchange(request: Bytes, response: Bytes, kind: &str) -> Exchange {
    let mut chunks = ChunkLog::default();
    for (at, piece) in response.chunks(PIECE).enumerate() {
        chunks.push(piece.len(), 1000 * (at as u64 + 1));
    }
    let json = |kind: &str| vec![("content-type".to_owned(), kind.to_owned())];
    Exchange {
        head: Arc::new(Head {
            id: uuid::Uuid::now_v7(),
            started_at: Timestamp::now(),
            method: "POST".to_owned(),
            path: "/v1/chat/completions".to_owned(),
            endpoint: Endpoint::of_call("POST", "/v1/chat/completions"),
            upstream: "openai".into(),
            provider: "openai".into(),
            keep_content: true,
            request_headers: json("application/json"),
            ..Head::default()
        }),
        request: body(request),
        status: Some(200),
        response_headers: json(kind),
        delivered: response.len() as u64,
        response: body(response),
        chunks,
        ended_us: 250_000,
        overhead_us: 60,
        end: End::Complete,
        notes: Vec::new(),
    }
}

struct Bench {
    only: Option<String>,
}

impl Bench {
    /// Repeats a step for a while and prints what one costs, and a unit of its size.
    fn step(&self, name: &str, size: usize, unit: &str, mut work: impl FnMut()) {
        if self.only.as_ref().is_some_and(|only| !name.contains(only.as_str())) {
            return;
        }
        work();
        let (started, mut times) = (Instant::now(), 0_u32);
        while started.elapsed() < LEAST {
            work();
            times += 1;
        }
        let one = started.elapsed().as_secs_f64() / f64::from(times) * 1e9;
        println!(
            "{name:<28}{size:>10} {unit:<7}{:>14.2} µs{:>12.2} ns a {unit}",
            one / 1e3,
            one / size as f64
        );
    }
}

fn main() {
    let only = std::env::args().skip(1).find(|argument| !argument.starts_with("--"));
    let bench = Bench { only };
    let book = PriceBook::default();
    let redactor = Redactor::new(&[Redaction::Preset(RedactionPreset::Secrets)]).unwrap();
    for bytes in [1 << 10, 10 << 10, 100 << 10, 1 << 20, 10 << 20] {
        let request = request(bytes);
        bench.step("splice a request", bytes, "byte", || {
            black_box(edit_request(black_box(&request), true));
        });
        bench.step("mask", bytes, "byte", || {
            black_box(redactor.redact(black_box(&request)));
        });
        let whole = exchange(request.clone(), answer(1024), "application/json");
        bench.step("read a plain call", bytes, "byte", || {
            black_box(interpret(black_box(&whole), &book));
        });
    }
    for events in [10, 100, 1000, 10_000, 100_000] {
        let stream = stream(events);
        bench.step("decode a stream", events, "event", || {
            let (mut decoder, mut seen) = (codec::sse::Decoder::default(), 0);
            for piece in stream.chunks(PIECE) {
                decoder.push(piece, |_| seen += 1);
            }
            black_box((decoder.finish(|_| ()), seen));
        });
        bench.step("cut usage out of a stream", events, "event", || {
            let (mut cutter, mut out) = (UsageCutter::default(), Vec::new());
            let mut at = 0;
            while at < stream.len() {
                let end = (at + PIECE).min(stream.len());
                cutter.push(stream.slice(at..end), &mut out);
                at = end;
            }
            cutter.finish(&mut out);
            black_box(out);
        });
        let whole = exchange(request(1024), stream.clone(), "text/event-stream");
        bench.step("read a streamed call", events, "event", || {
            black_box(interpret(black_box(&whole), &book));
        });
    }
    let usage = Usage { input: Some(1000), output: Some(100), ..Usage::default() };
    let charge = Charge {
        served: Some("gpt-4o-mini-2024-07-18"),
        at: Timestamp::now(),
        ..Charge::new("openai", &usage)
    };
    bench.step("price", 1, "call", || {
        black_box(book.price(black_box(&charge)));
    });
    store(&bench, &book);
}

/// Calls into a store, a group at a time, each group on disk before the next.
fn store(bench: &Bench, book: &PriceBook) {
    for group in [1, 10, 100, 1000] {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path(), &calltap::config::Store::default()).unwrap();
        let whole = exchange(request(1024), answer(1024), "application/json");
        let read = interpret(&whole, book);
        bench.step("store a group, durably", group, "call", || {
            let (done, durable) = tokio::sync::oneshot::channel();
            let mut done = Some(done);
            for left in (0..group).rev() {
                let mut record = read.record.clone();
                record.id = uuid::Uuid::now_v7();
                let bodies = Bodies {
                    request: whole.request.clone(),
                    response: whole.response.clone(),
                    chunks: whole.chunks.clone(),
                    member: None,
                };
                let entry = Entry {
                    record,
                    bodies: Some(bodies),
                    answer: Some("x x".to_owned()),
                    json: None,
                    text: None,
                };
                store.append(entry, if left == 0 { done.take() } else { None });
            }
            durable.blocking_recv().unwrap().unwrap();
        });
        store.close();
    }
}
