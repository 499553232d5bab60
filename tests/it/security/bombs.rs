//! Small bodies that are large once decoded (S14).

use crate::{
    harness::{Calltap, Step, Upstream, count, fetch, json_answer, post},
    lists::record_of,
};
use flate2::{Compression, write::GzEncoder, write::ZlibEncoder};
use std::{fmt::Write as _, io::Write};

/// 64 MiB of zeros in brotli.
const BROTLI: &str = "cfffff7ff82700e2b14020f7fe9ffffffff04f00c4610180eefd3fffffffe19f0088c32200ddfbfffcffffc73f0110870500baf7ff";
/// Zeros that are encoded at once.
const PIECE: usize = 16 << 20;

/// (encoding, body, megabytes once decoded), each of about so many bytes.
fn bombs(wire: usize) -> Vec<(String, Vec<u8>, usize)> {
    let zeros = vec![0; PIECE];
    let event = b"data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"aaaa\"}}]}\n\n"
        .repeat(PIECE / 64);
    let gzip = |bytes: &[u8]| {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    };
    // Members and frames may follow each other: each adds as much again.
    let many = |piece: Vec<u8>| {
        let times = (wire / piece.len()).max(1);
        (piece.repeat(times), times * (PIECE >> 20))
    };
    let (gzipped, gzip_size) = many(gzip(&zeros));
    let (events, events_size) = many(gzip(&event));
    let (zstd, zstd_size) = many(zstd::encode_all(&zeros[..], 19).unwrap());
    let mut deflate = ZlibEncoder::new(Vec::new(), Compression::fast());
    let times = (wire / (PIECE / 220)).max(1);
    (0..times).for_each(|_| deflate.write_all(&zeros).unwrap());
    let layered = gzip(&gzip(&gzipped));
    let mut all = vec![
        ("gzip".to_owned(), gzipped, gzip_size),
        ("x-gzip".to_owned(), events, events_size),
        ("zstd".to_owned(), zstd, zstd_size),
        ("deflate".to_owned(), deflate.finish().unwrap(), times * (PIECE >> 20)),
        ("br".to_owned(), hex::decode(BROTLI).unwrap(), 64),
        ("gzip, gzip, gzip".to_owned(), layered.clone(), gzip_size),
    ];
    for layers in [2, 10, 100, 1000, 5000] {
        all.push((vec!["gzip"; layers].join(", "), layered.clone(), gzip_size));
    }
    all
}

#[test]
fn bombs_pass_and_go_off_nowhere() {
    let wire = count("CALLTAP_TEST_BOMB_KIB", 512) << 10;
    let bombs = bombs(wire);
    let served = bombs.clone();
    let upstream = Upstream::start(move |request| {
        let Some(at) = request.header("x-row") else {
            return json_answer(
                200,
                r#"{"choices":[{"index":0,"message":{"content":"hi"},"finish_reason":"stop"}]}"#,
            );
        };
        let at: usize = at.parse().unwrap();
        let (encoding, body, _) = &served[at];
        let mut head = String::from("HTTP/1.1 200 OK\r\n");
        let kind = if encoding == "x-gzip" { "text/event-stream" } else { "application/json" };
        write!(
            head,
            "content-type: {kind}\r\ncontent-encoding: {encoding}\r\ncontent-length: {}\r\n\r\n",
            body.len()
        )
        .unwrap();
        vec![Step::Send(head.into_bytes()), Step::Send(body.clone())]
    });
    let calltap = Calltap::start(&upstream);
    let body = crate::harness::chat_body(true);
    // The vocabulary that counts tokens where no usage is told is loaded once, and stays.
    let plain =
        post(calltap.address, "/v1/chat/completions", "", &crate::harness::chat_body(false));
    assert_eq!(record_of(&calltap, &plain)["usage"]["source"], "estimated");
    let mut megabytes = 0;
    for (at, (encoding, bytes, size)) in bombs.iter().enumerate() {
        // The peak so far is forgotten.
        std::fs::write(format!("/proc/{}/clear_refs", calltap.pid()), "5").ok();
        let (before, cpu) = (calltap.memory_kib(), calltap.cpu_seconds());
        let answer =
            post(calltap.address, "/v1/chat/completions", &format!("x-row: {at}\r\n"), &body);
        assert!(answer.body == *bytes, "the client has what the upstream sent");
        let record = record_of(&calltap, &answer);
        let notes = record["notes"].to_string();
        // A header that is too long is not kept: then the bytes are read as they are.
        let is_told =
            notes.contains("undecoded") || encoding.len() > 2048 && notes.contains("not JSON");
        assert!(is_told, "{encoding:.30}: {notes}");
        assert_eq!(
            record["outcome"].as_str().unwrap(),
            if *encoding == "x-gzip" { "upstream_truncated" } else { "completed" },
            "{record:.600}"
        );
        let grown = calltap.highest_memory_kib().saturating_sub(before) / 1024;
        println!(
            "{encoding:.24}: {} KiB are {size} MiB: {grown} MiB more memory at most, {:.0} ms of processor time",
            bytes.len() >> 10,
            (calltap.cpu_seconds() - cpu) * 1000.0
        );
        // As far as it is decoded, and what came.
        assert!(grown <= 32, "{encoding:.30}: {grown} MiB");
        megabytes += size;
    }
    // What a client sends is decoded for the record only, too.
    for (at, (encoding, bytes, _)) in
        bombs.iter().enumerate().filter(|(_, bomb)| bomb.0.len() < 100)
    {
        let head = format!(
            "POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nx-row: {at}\r\ncontent-type: application/json\r\ncontent-encoding: {encoding}\r\ncontent-length: {}\r\n\r\n",
            bytes.len()
        );
        let request = [head.as_bytes(), bytes].concat();
        assert_eq!(
            crate::harness::connect_and_send(calltap.address, &request).unwrap().status,
            200
        );
        assert!(upstream.last().unwrap().body == *bytes, "the upstream has what the client sent");
    }
    assert_eq!(fetch(calltap.address, "/readyz").unwrap().status, 200);
    println!("{} bombs of {megabytes} MiB in all", bombs.len());
}
