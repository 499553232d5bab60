//! What one caller sends and gets stays apart from what others do (S29).

use crate::harness::{Calltap, Connection, Random, Request, Step, Upstream, count};
use std::sync::atomic::{AtomicUsize, Ordering};

/// Answers with everything that the request said of itself; what happens to the connection differs.
fn echo(name: &'static str) -> Upstream {
    Upstream::start(move |request: &Request| {
        let nonce = request.header("x-nonce").unwrap_or_default();
        let body = format!(
            "{name}|{}|{nonce}|{}|{}",
            request.line,
            request.header("authorization").unwrap_or_default(),
            String::from_utf8_lossy(&request.body)
        );
        let head = format!("HTTP/1.1 200 OK\r\nx-nonce: {nonce}\r\ncontent-type: text/plain\r\n");
        let whole = format!("{head}content-length: {}\r\n\r\n{body}", body.len());
        let send = |text: String| Step::Send(text.into_bytes());
        match request.header("x-way").unwrap_or_default() {
            "chunks" => {
                let mut steps = vec![send(format!("{head}transfer-encoding: chunked\r\n\r\n"))];
                let pieces = body.as_bytes().chunks(7);
                steps.extend(pieces.map(|piece| {
                    send(format!("{:x}\r\n{}\r\n", piece.len(), String::from_utf8_lossy(piece)))
                }));
                steps.push(send("0\r\n\r\n".into()));
                steps
            }
            // More than the answer is long: it must not be the beginning of the next.
            "too much" => {
                vec![send(format!("{whole}HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\npoison"))]
            }
            "closes" => vec![send(whole), Step::Fin],
            "resets" => vec![send(whole[..whole.len() - 3].to_owned()), Step::Rst],
            "short" => vec![send(whole[..whole.len() - 3].to_owned()), Step::Fin],
            // Long enough for a caller to leave in its middle.
            "long" => {
                let filler = "x".repeat(200_000);
                vec![send(format!(
                    "{head}content-length: {}\r\n\r\n{body}{filler}",
                    body.len() + filler.len()
                ))]
            }
            _ => vec![send(whole)],
        }
    })
}

const WAYS: [&str; 8] =
    ["plain", "chunks", "plain", "too much", "closes", "resets", "short", "long"];
const UPSTREAMS: [&str; 3] = ["openai", "two", "three"];

/// One caller's requests, on connections that are kept: how many were answered in full, and left.
fn caller(calltap: &Calltap, client: usize, count: usize) -> (usize, usize) {
    let mut random = Random(client as u64 + 1);
    let (mut kept, mut whole, mut left) = (None, 0, 0);
    for at in 0..count {
        let nonce = format!("n{client}x{at}x{}", random.below(1 << 40));
        let (way, upstream) =
            (WAYS[random.index(WAYS.len())], UPSTREAMS[random.index(UPSTREAMS.len())]);
        let body = format!("body-of-{nonce}");
        let kind = if random.below(2) == 0 { "text/plain" } else { "application/json" };
        let mut connection = kept.take().unwrap_or_else(|| Connection::open(calltap.address));
        let path = if upstream == "openai" { String::new() } else { format!("/{upstream}") };
        connection.send(format!("POST {path}/v1/{nonce} HTTP/1.1\r\nhost: x\r\nx-nonce: {nonce}\r\nx-way: {way}\r\nauthorization: Bearer {nonce}\r\ncontent-type: {kind}\r\ncontent-length: {}\r\n\r\n{body}", body.len()).as_bytes());
        if way == "long" && random.below(2) == 0 {
            connection.read_some(1000);
            connection.reset();
            left += 1;
            continue;
        }
        let answer = connection.answer("POST").expect("an answer");
        let expected =
            format!("{upstream}|POST /v1/{nonce} HTTP/1.1|{nonce}|Bearer {nonce}|{body}");
        let came = String::from_utf8(answer.body.clone()).unwrap();
        let came = came.trim_end_matches('x');
        if answer.status == 200 {
            assert_eq!(answer.header("x-nonce"), Some(&*nonce), "another's head");
            assert!(expected.starts_with(came), "another's bytes: {came} in place of {expected}");
        } else {
            // A connection that broke before its answer: nobody else's is given instead.
            assert_eq!((answer.status, answer.header("x-calltap-error")), (502, Some("1")));
        }
        if answer.whole {
            assert!(answer.status != 200 || came == expected, "{came}");
            whole += 1;
            kept = Some(connection);
        }
    }
    (whole, left)
}

#[test]
fn nobody_gets_what_is_anothers() {
    let total = count("CALLTAP_TEST_NONCES", 4000);
    let upstreams: Vec<Upstream> = UPSTREAMS.into_iter().map(echo).collect();
    let more: String = UPSTREAMS[1..]
        .iter()
        .zip(&upstreams[1..])
        .map(|(name, upstream)| format!("[upstreams.{name}]\nbase_url = \"{}\"\n", upstream.url()))
        .collect();
    let calltap = Calltap::with(&upstreams[0], "", &more);
    let (whole, left) = (AtomicUsize::new(0), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        for client in 0..16 {
            let (calltap, whole, left) = (&calltap, &whole, &left);
            scope.spawn(move || {
                let came = caller(calltap, client, total / 16);
                whole.fetch_add(came.0, Ordering::Relaxed);
                left.fetch_add(came.1, Ordering::Relaxed);
            });
        }
    });
    let reused: usize = upstreams.iter().map(|upstream| upstream.requests().len()).sum();
    println!(
        "{total} calls over {} upstreams, {} whole, {} left in their middle, {reused} arrived: no byte of another's",
        UPSTREAMS.len(),
        whole.into_inner(),
        left.into_inner()
    );
}
