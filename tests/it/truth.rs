//! Times and tokens of a record beside those of an upstream that knows them (`reliability.md` R31).

use crate::harness::{Calltap, Random, Request, Step, Upstream, count};
use serde_json::Value;
use std::{
    collections::BTreeMap,
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    sync::{Arc, Mutex, mpsc},
    time::{Duration, Instant},
};

/// What the upstream knows of a call: when the request was there, and when it began to write the first
/// token and the end.
struct Upstreams {
    read: Instant,
    marks: mpsc::Receiver<Instant>,
}

/// What the client knows: when it began to send, had the first token, and had all.
struct Clients {
    sent: Instant,
    token: Instant,
    end: Instant,
}

type Book = Mutex<BTreeMap<usize, Upstreams>>;

/// Tokens of call `at`, as the provider counts them.
fn tokens(at: usize) -> (u64, u64) {
    let mut dice = Random(at as u64);
    (1 + dice.below(100_000), 1 + dice.below(5000))
}

/// One in ten says nothing of its usage.
fn has_usage(at: usize) -> bool {
    at % 10 != 9
}

fn script(request: &Request, book: &Book) -> Vec<Step> {
    let read = Instant::now();
    let at: usize = request.header("x-number").unwrap().parse().unwrap();
    let (tell, marks) = mpsc::channel();
    book.lock().unwrap().insert(at, Upstreams { read, marks });
    let mark = || Step::Mark(tell.clone());
    let pause = || Step::Pause(Duration::from_millis(Random(at as u64 + 7).below(20)));
    let (input, output) = tokens(at);
    let usage = format!(
        r#""usage":{{"prompt_tokens":{input},"completion_tokens":{output},"total_tokens":{}}}"#,
        input + output
    );
    let usage = if has_usage(at) { usage } else { r#""usage":null"#.to_owned() };
    if request.json()["stream"] != true {
        let body = format!(
            r#"{{"id":"c","object":"chat.completion","model":"gpt-4o-mini","choices":[{{"index":0,"message":{{"role":"assistant","content":"tok0"}},"finish_reason":"stop"}}],{usage}}}"#
        );
        let head = format!(
            "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
            body.len()
        );
        return vec![
            pause(),
            mark(),
            mark(),
            Step::Send([head.as_bytes(), body.as_bytes()].concat()),
        ];
    }
    let chunk = |event: &str| {
        let event = format!("data: {event}\n\n");
        Step::Send(format!("{:x}\r\n{event}\r\n", event.len()).into_bytes())
    };
    let delta = |text: &str| {
        chunk(&format!(
            r#"{{"id":"c","object":"chat.completion.chunk","model":"gpt-4o-mini","choices":[{{"index":0,"delta":{text},"finish_reason":null}}]}}"#
        ))
    };
    let mut steps = vec![
        Step::Send(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n".to_vec()),
        delta(r#"{"role":"assistant","content":""}"#),
        pause(),
        mark(),
    ];
    steps.extend((0..5).map(|at| delta(&format!(r#"{{"content":"tok{at}"}}"#))));
    steps.push(pause());
    if has_usage(at) {
        steps.push(chunk(&format!(r#"{{"id":"c","object":"chat.completion.chunk","model":"gpt-4o-mini","choices":[],{usage}}}"#)));
    }
    steps.extend([mark(), chunk("[DONE]"), Step::Send(b"0\r\n\r\n".to_vec())]);
    steps
}

fn is_stream(at: usize) -> bool {
    at % 5 < 3
}

/// One call on a connection of its own.
fn ask(address: SocketAddr, at: usize) -> Clients {
    let body = format!(
        r#"{{"model":"gpt-4o-mini","stream":{},"stream_options":{{"include_usage":true}},"messages":[{{"role":"user","content":"{at}"}}]}}"#,
        is_stream(at)
    );
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_nodelay(true).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    let request = format!(
        "POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nconnection: close\r\nx-number: {at}\r\nx-calltap-ref: {at}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    let sent = Instant::now();
    stream.write_all(request.as_bytes()).unwrap();
    let (mut came, mut token, mut piece) = (Vec::new(), None, [0; 4096]);
    loop {
        let len = stream.read(&mut piece).unwrap();
        came.extend_from_slice(&piece[..len]);
        let now = Instant::now();
        if token.is_none() && memchr::memmem::find(&came, b"tok0").is_some() {
            token = Some(now);
        }
        if len == 0 {
            return Clients { sent, token: token.expect("the first token"), end: now };
        }
    }
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}

/// How far a time of the record is above the least that it can be, in ms; it is never beyond the most.
fn above(what: &str, call: &Value, least: Duration, most: Duration) -> f64 {
    let time = call["timing"][what].as_f64().unwrap();
    // Times of records are rounded to a microsecond.
    assert!(time > ms(least) - 0.01, "{what}: {time} ms, the upstream took {least:?}: {call:#}");
    assert!(time < ms(most) + 0.01, "{what}: {time} ms, the client waited {most:?}: {call:#}");
    time - ms(least)
}

fn spread(mut values: Vec<f64>) -> String {
    values.sort_by(f64::total_cmp);
    let at = |percent: usize| values[(values.len() - 1) * percent / 100];
    format!("p50 {:.2} ms, p99 {:.2} ms, max {:.2} ms", at(50), at(99), at(100))
}

/// Whatever the load: a time of the record lies between what upstream and client have seen.
/// `CALLTAP_TEST_TRUTHS`: calls.
#[test]
fn times_and_tokens_are_true() {
    let total = count("CALLTAP_TEST_TRUTHS", 500);
    let book = Arc::new(Book::default());
    let shared = Arc::clone(&book);
    let upstream = Upstream::start(move |request| script(request, &shared));
    let calltap = Calltap::with(&upstream, "", "[log]\nlevel = \"warn\"\n");
    let seen = Mutex::new(BTreeMap::new());
    let begun = Instant::now();
    std::thread::scope(|scope| {
        for client in 0..8 {
            let (seen, address) = (&seen, calltap.address);
            scope.spawn(move || {
                for at in (client..total).step_by(8) {
                    let clients = ask(address, at);
                    seen.lock().unwrap().insert(at, clients);
                }
            });
        }
    });
    let took = begun.elapsed();
    let (mut first, mut latency, mut estimated) = (Vec::new(), Vec::new(), 0);
    let seen = seen.into_inner().unwrap();
    let calls = calltap.wait_calls("", total);
    assert_eq!(calls.len(), total);
    for call in &calls {
        let at: usize = call["tags"]["reference"].as_str().unwrap().parse().unwrap();
        let (clients, upstreams) = (&seen[&at], book.lock().unwrap().remove(&at).unwrap());
        let [token, end] = [(); 2].map(|()| upstreams.marks.recv().unwrap());
        let what = if is_stream(at) { "ttft_ms" } else { "first_byte_ms" };
        first.push(above(what, call, token - upstreams.read, clients.token - clients.sent));
        latency.push(above("latency_ms", call, end - upstreams.read, clients.end - clients.sent));
        let (usage, (input, output)) = (&call["usage"], tokens(at));
        if has_usage(at) {
            assert_eq!(
                (&usage["source"], &usage["input"], &usage["output"]),
                (&"provider".into(), &input.into(), &output.into()),
                "{at}"
            );
        } else {
            assert_eq!(usage["source"], "estimated", "{at}: {call:#}");
            estimated += 1;
        }
    }
    println!(
        "{total} calls in {took:?}, every time between what upstream and client saw; above the upstream's own: first token {}; latency {}; tokens as the provider says, {estimated} estimated where it says nothing",
        spread(first),
        spread(latency)
    );
}
