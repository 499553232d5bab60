//! Byte for byte: what passes is what was sent, in both directions.

use crate::harness::{Calltap, Connection, Random, Request, Step, Upstream, chat, count};
use std::time::Duration;

/// An answer made from a seed: status, headers, framing, sizes of writes, line ends, trailers.
fn answer(seed: u64) -> Vec<Step> {
    let mut random = Random(seed);
    let status = [200, 200, 200, 201, 400, 404, 429, 500, 503][random.index(9)];
    let kinds = [
        "application/json",
        "text/event-stream",
        "text/plain; charset=latin1",
        "application/octet-stream",
    ];
    let kind = kinds[random.index(4)];
    let mut head = format!("HTTP/1.1 {status} Any\r\ncontent-type: {kind}\r\n");
    for at in 0..random.below(4) {
        head.push_str(&format!("x-{}: v{at}\r\n", ["a", "b", "repeated"][random.index(3)]));
    }
    if random.below(5) == 0 {
        // Nobody says that it really is; it passes as it is.
        head.push_str("content-encoding: br\r\n");
    }
    let body: Vec<u8> = if kind == "text/event-stream" {
        let end = ["\n", "\r\n", "\r"][random.index(3)];
        (0..random.below(12))
            .flat_map(|at| {
                let text = ["x", "\"usage\":null", ": c", "data: y", "é\u{1f40b}"][random.index(5)];
                format!("data: {{\"n\":{at},\"t\":\"{text}\"}}{end}{end}").into_bytes()
            })
            .collect()
    } else {
        (0..random.below(9000)).map(|_| u8::try_from(random.below(256)).unwrap()).collect()
    };
    let chunked = random.below(2) == 0;
    let trailers = chunked && random.below(3) == 0;
    if trailers {
        head.push_str("trailer: x-sum\r\n");
    }
    head.push_str(&if chunked {
        "transfer-encoding: chunked\r\n\r\n".to_owned()
    } else {
        format!("content-length: {}\r\n\r\n", body.len())
    });
    let mut wire = head.into_bytes();
    if chunked {
        for piece in body.chunks(1 + random.index(4096)) {
            wire.extend(format!("{:x}\r\n", piece.len()).bytes());
            wire.extend(piece);
            wire.extend(b"\r\n");
        }
        wire.extend(b"0\r\n");
        if trailers {
            wire.extend(b"x-sum: 42\r\n");
        }
        wire.extend(b"\r\n");
    } else {
        wire.extend(&body);
    }
    let size = 1 + random.index(4096);
    let size = if random.below(4) == 0 { 1 + size % 40 } else { size };
    wire.chunks(size.max(wire.len() / 60 + 1)).map(|piece| Step::Send(piece.to_vec())).collect()
}

/// A request made from a seed.
fn request(seed: u64) -> Vec<u8> {
    let mut random = Random(seed ^ 0xa5a5);
    let method = ["POST", "POST", "PUT", "PATCH"][random.index(4)];
    let kind = ["application/json", "application/octet-stream", "multipart/form-data; boundary=x"]
        [random.index(3)];
    let body: Vec<u8> =
        (0..random.below(6000)).map(|_| u8::try_from(random.below(256)).unwrap()).collect();
    let mut wire = format!(
        "{method} /v1/any/thing?q={seed} HTTP/1.1\r\nhost: x\r\nte: trailers\r\nx-seed: {seed}\r\ncontent-type: {kind}\r\nx-two: 1\r\nx-two: 2\r\n"
    );
    if random.below(2) == 0 {
        wire.push_str(&format!("content-length: {}\r\n\r\n", body.len()));
        return [wire.into_bytes(), body].concat();
    }
    wire.push_str("transfer-encoding: chunked\r\n\r\n");
    let mut wire = wire.into_bytes();
    for piece in body.chunks(1 + random.index(4096)) {
        wire.extend(format!("{:x}\r\n", piece.len()).bytes());
        wire.extend(piece);
        wire.extend(b"\r\n");
    }
    wire.extend(b"0\r\n\r\n");
    wire
}

/// Request headers that may differ: framing, and what belongs to the connection.
fn comparable(request: &Request) -> (String, Vec<(String, String)>, Vec<u8>) {
    let mut headers: Vec<(String, String)> = request
        .headers
        .iter()
        .map(|(name, value)| (name.to_lowercase(), value.clone()))
        .filter(|(name, _)| {
            !matches!(name.as_str(), "host" | "via" | "content-length" | "transfer-encoding")
        })
        .collect();
    headers.sort();
    (request.line.clone(), headers, request.body.clone())
}

/// At least 10,000 generated exchanges equal a direct connection in both directions.
#[test]
fn exchanges_equal_a_direct_connection() {
    let script = |request: &Request| answer(request.header("x-seed").unwrap().parse().unwrap());
    let (direct, behind) = (Upstream::start(script), Upstream::start(script));
    let calltap = Calltap::with(&behind, "", "[capture]\nmax_memory = \"8MiB\"\n");
    let total = count("CALLTAP_TEST_EXCHANGES", 10_000);
    let lanes = 8;
    let threads: Vec<_> = (0..lanes)
        .map(|lane| {
            let (direct, through) = (direct.address, calltap.address);
            std::thread::spawn(move || {
                let mut connections = (Connection::open(direct), Connection::open(through));
                for seed in (lane..total).step_by(lanes) {
                    let request = request(seed as u64);
                    connections.0.send(&request);
                    connections.1.send(&request);
                    let expected = connections.0.answer("POST").unwrap();
                    let mut seen = connections.1.answer("POST").unwrap();
                    let own = ["x-calltap-id", "server-timing", "date"];
                    seen.headers.retain(|(name, _)| !own.contains(&name.as_str()));
                    let (mut expected, mut seen) = (expected, seen);
                    expected.headers.sort();
                    seen.headers.sort();
                    assert!(expected == seen, "seed {seed}: {expected:?} {seen:?}");
                }
            })
        })
        .collect();
    for thread in threads {
        thread.join().unwrap();
    }
    let sorted = |upstream: &Upstream| {
        let mut requests: Vec<_> = upstream.requests().iter().map(comparable).collect();
        requests.sort();
        requests
    };
    assert!(sorted(&direct) == sorted(&behind), "requests differ");
    println!("{total} exchanges equal in both directions");
}

/// Streams whose usage was asked for by calltap reach the client as if it had not been.
#[test]
fn the_usage_splice_leaves_no_byte_behind() {
    let upstream = Upstream::start(chat(60, Duration::ZERO));
    let calltap = Calltap::start(&upstream);
    let total = count("CALLTAP_TEST_SPLICES", 200);
    for at in 0..total {
        let body = match at % 4 {
            0 => r#"{"model":"m","stream":true}"#,
            1 => r#"{"stream": true, "stream_options": {"include_usage": false}, "model":"m"}"#,
            2 => r#"{ "stream_options":null,"stream":true }"#,
            _ => "{\n  \"stream\": true,\n  \"stream_options\": {\n    \"x\": 1\n  }\n}",
        };
        let path = if at % 3 == 0 { "/v1/completions" } else { "/v1/chat/completions" };
        let through = crate::harness::post(calltap.address, path, "", body);
        let direct = crate::harness::post(upstream.address, path, "", body);
        assert!(through.body == direct.body && through.whole, "{body}");
    }
    let asked = upstream
        .requests()
        .iter()
        .filter(|r| r.json()["stream_options"]["include_usage"] == true)
        .count();
    assert_eq!(asked, total, "each was asked for usage once");
    let calls = calltap.wait_calls("output:60", total);
    assert!(calls.iter().all(|call| call["usage"]["source"] == "provider"));
    println!("{total} spliced streams, 0 differing bytes");
}
