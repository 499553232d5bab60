//! Many slow streams at once.

use crate::harness::{
    Calltap, Connection, Random, Request, Step, Upstream, chat, chat_body, count,
};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo};
use sha2::{Digest, Sha256};
use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};
use tokio::task::JoinSet;

/// A thousand streams at once: every body whole, memory bounded.
#[test]
fn a_thousand_slow_streams() {
    let streams = count("CALLTAP_TEST_STREAMS", 1000);
    let upstream = Upstream::start(chat(60, Duration::from_millis(60)));
    let calltap = Calltap::with(&upstream, "", "[log]\nlevel = \"warn\"\n");
    let body = chat_body(true);
    let request = format!(
        "POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    let idle = calltap.memory_kib();
    let connections: Vec<Connection> = (0..streams)
        .map(|_| {
            let mut connection = Connection::open(calltap.address);
            connection.send(request.as_bytes());
            connection
        })
        .collect();
    let mut peak = 0;
    let mut expected: Option<Vec<u8>> = None;
    for (at, mut connection) in connections.into_iter().enumerate() {
        if at % 100 == 0 {
            peak = peak.max(calltap.memory_kib());
        }
        let answer = connection.answer("POST").unwrap();
        assert!(answer.whole, "stream {at}");
        assert_eq!(
            &answer.body,
            expected.get_or_insert_with(|| answer.body.clone()),
            "stream {at}"
        );
    }
    println!(
        "{streams} streams: {} KiB idle, {} KiB at the peak, {} KiB a stream",
        idle,
        peak,
        peak.saturating_sub(idle) / streams as u64
    );
    assert!(peak < (streams as u64 / 10).max(400) * 1024, "{peak} KiB");
    calltap.wait_calls("outcome:completed", streams);
}

/// Streams of one HTTP/2 connection: with a connection each, ten thousand would need more descriptors
/// than a process is given.
const STREAMS_EACH: usize = 100;
/// Bytes a second that all clients together read: ten thousand read 1 KiB a second each.
const READ_TOGETHER: usize = 10 << 20;
/// Words that make 256 KiB of events.
const WORDS: usize = 1_600;
/// What captures may hold (`capture.max_memory`).
const CAPTURED_KIB: u64 = 256 << 10;

/// Sends a long stream at once, as fast as it is taken.
fn at_once() -> impl Fn(&Request) -> Vec<Step> + Send + Sync {
    let (script, answers) = (chat(WORDS, Duration::ZERO), Mutex::new(HashMap::new()));
    move |request| {
        let answer = || -> Arc<[u8]> {
            let sent = script(request).into_iter().filter_map(|step| match step {
                Step::Send(bytes) => Some(bytes),
                _ => None,
            });
            sent.flatten().collect()
        };
        let mut answers = answers.lock().unwrap();
        vec![Step::Share(answers.entry(request.body.clone()).or_insert_with(answer).clone())]
    }
}

/// A connection with so many streams, as far as the heads of their answers.
async fn open_streams(address: SocketAddr, streams: usize) -> Vec<Incoming> {
    let stream = tokio::net::TcpStream::connect(address).await.unwrap();
    let (sender, connection) = hyper::client::conn::http2::Builder::new(TokioExecutor::new())
        .initial_stream_window_size(16 * 1024)
        // The library takes half as much as it allows small frames to cost that nobody has read.
        .initial_connection_window_size(32 << 20)
        .handshake(TokioIo::new(stream))
        .await
        .unwrap();
    tokio::spawn(connection);
    let ask = |_| {
        let request = hyper::Request::post(format!("http://{address}/v1/chat/completions"))
            .header("content-type", "application/json")
            .body(Full::new(Bytes::from(chat_body(true))))
            .unwrap();
        sender.clone().send_request(request)
    };
    let mut bodies = Vec::new();
    for answer in (0..streams).map(ask).collect::<Vec<_>>() {
        let answer = answer.await.unwrap();
        assert_eq!(answer.status(), 200);
        bodies.push(answer.into_body());
    }
    bodies
}

/// Length and hash of a body that is read no faster than that, 8 KiB at a time: what is taken in crumbs
/// is sent in crumbs, by the way HTTP/2 opens its windows.
async fn read_slowly(mut body: Incoming, bytes_a_second: usize) -> (usize, [u8; 32]) {
    let (mut came, mut rest, mut hash, begun) = (0, 0, Sha256::new(), Instant::now());
    while let Some(frame) = body.frame().await {
        let data = frame.expect("no stream fails").into_data().unwrap_or_default();
        came += data.len();
        rest += data.len();
        hash.update(&data);
        if rest >= 8 * 1024 {
            rest = 0;
            let due = Duration::from_millis((came * 1000 / bytes_a_second) as u64);
            tokio::time::sleep(due.saturating_sub(begun.elapsed())).await;
        }
    }
    (came, hash.finalize().into())
}

/// Clients that read slowly what comes fast, all at once: every body whole, memory bounded.
#[tokio::test(flavor = "multi_thread")]
async fn slow_readers_of_fast_streams() {
    let streams = count("CALLTAP_TEST_STREAMS", 400);
    let upstream = Upstream::start(at_once());
    let calltap = Calltap::with(&upstream, "", "[log]\nlevel = \"warn\"\n");
    let direct =
        crate::harness::post(upstream.address, "/v1/chat/completions", "", &chat_body(true));
    let expected = (direct.body.len(), Sha256::digest(&direct.body).into());
    let idle = calltap.memory_kib();
    let mut bodies = Vec::new();
    while bodies.len() < streams {
        let more = STREAMS_EACH.min(streams - bodies.len());
        bodies.extend(open_streams(calltap.address, more).await);
    }
    // One more is the direct one; all the others are open at once.
    assert!(upstream.open() >= streams, "{} of {streams}", upstream.open());
    let (opened, begun) = (calltap.memory_kib(), Instant::now());
    let rate = READ_TOGETHER / streams;
    let mut readers: JoinSet<_> = bodies.into_iter().map(|body| read_slowly(body, rate)).collect();
    while let Some(read) = readers.join_next().await {
        assert!(read.unwrap() == expected, "a body differs");
    }
    let peak = calltap.highest_memory_kib();
    let (count, each) = (streams as u64, expected.0 as u64 / 1024);
    println!(
        "{streams} streams of {each} KiB, read in {:.0} s: {idle} KiB idle, {opened} KiB once all were open, {peak} KiB at the peak, {} KiB a stream",
        begun.elapsed().as_secs_f64(),
        peak.saturating_sub(idle) / count
    );
    // What is on its way: two read buffers of 64 KiB, one of them kept by the few bytes of it that wait
    // for the client, and as much for all else. What is captured, 32 MiB beyond that, 32 MiB on the way
    // to the disk, and what waits for a commit (64 MiB).
    let bound = count * 192 + CAPTURED_KIB.min(count * each) + (128 << 10);
    assert!(peak - idle < bound, "{peak} KiB, {idle} KiB idle, {bound} KiB allowed beyond that");
    tokio::task::spawn_blocking(move || calltap.wait_calls("outcome:completed", streams))
        .await
        .unwrap();
}

/// A burst while the store cannot be written: memory stays within what is allowed, and in the end every
/// call is stored or counted as dropped.
#[test]
fn a_stalled_store_costs_no_memory_beyond_its_bounds() {
    // Text that does not pack, so that what waits is as large as it looks.
    let mut random = Random(7);
    let noise: String =
        (0..20_000).map(|_| char::from(b'!' + u8::try_from(random.below(90)).unwrap())).collect();
    let noise = noise.replace(['"', '\\'], "x");
    let answer = format!(r#"{{"id":"c1","choices":[],"pad":"{noise}"}}"#);
    let upstream = Upstream::start(move |_| crate::harness::json_answer(200, &answer));
    let calltap = Calltap::with(
        &upstream,
        "",
        "[capture]\nmax_memory = \"8MiB\"\nredact = []\n[log]\nlevel = \"error\"\n",
    );
    let idle = calltap.memory_kib();
    let database = rusqlite::Connection::open(calltap.data_dir().join("calltap.db")).unwrap();
    database.execute_batch("BEGIN IMMEDIATE").unwrap();
    let (clients, each) = (8, count("CALLTAP_TEST_BURST", 6000) / 8);
    let body = format!(r#"{{"model":"gpt-4o-mini","messages":[],"pad":"{noise}"}}"#);
    let threads: Vec<_> = (0..clients)
        .map(|_| {
            let (address, body) = (calltap.address, body.clone());
            std::thread::spawn(move || {
                let request = format!(
                    "POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
                    body.len()
                );
                let mut connection = Connection::open(address);
                for _ in 0..each {
                    connection.send(request.as_bytes());
                    assert_eq!(connection.answer("POST").unwrap().status, 200);
                }
            })
        })
        .collect();
    let mut peak = 0;
    while threads.iter().any(|thread| !thread.is_finished()) {
        peak = peak.max(calltap.memory_kib());
        std::thread::sleep(Duration::from_millis(10));
    }
    for thread in threads {
        thread.join().unwrap();
    }
    peak = peak.max(calltap.memory_kib());
    assert!(calltap.calls("").is_empty(), "the store stood still");
    database.execute_batch("ROLLBACK").unwrap();
    // What waits for a commit (64 MiB), `max_memory` and 32 MiB beyond it, 32 MiB on the way to the
    // disk. The burst is nearly twice that.
    let bound = 64 + 8 + 32 + 32;
    let accepted = clients * each;
    let until = Instant::now() + Duration::from_mins(1);
    let (mut stored, mut dropped);
    loop {
        (stored, dropped) = calltap.counts();
        if stored + dropped >= accepted || Instant::now() > until {
            break;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    println!(
        "{accepted} calls: {stored} stored, {dropped} dropped; {idle} KiB idle, {peak} KiB at the peak, {bound} MiB allowed above idle"
    );
    assert_eq!(stored + dropped, accepted);
    assert!(peak - idle < bound * 1024, "{peak} KiB, {idle} KiB idle");
}

/// Bodies beyond the memory budget wait on disk and come back whole.
#[test]
fn what_memory_has_no_room_for_is_spilled_and_kept() {
    let big = format!("{{\"pad\":\"{}\"}}", "abcdefghij".repeat(200_000));
    let sent = big.clone();
    let upstream = Upstream::start(move |_| {
        let head = format!(
            "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
            sent.len()
        );
        let mut steps = vec![Step::Send(head.into_bytes())];
        steps.extend(sent.as_bytes().chunks(30_000).map(|piece| Step::Send(piece.to_vec())));
        steps
    });
    let calltap = Calltap::with(&upstream, "", "[capture]\nmax_memory = \"1KiB\"\n");
    let answer =
        crate::harness::post(calltap.address, "/v1/chat/completions", "", &chat_body(false));
    assert_eq!(answer.body, big.as_bytes());
    let record = calltap.only_record();
    assert_eq!(record["bytes"]["response"], big.len());
    let id = record["id"].as_str().unwrap();
    let raw =
        crate::harness::fetch(calltap.address, &format!("/api/v1/calls/{id}/raw?part=response"))
            .unwrap();
    assert!(raw.body == big.as_bytes(), "{} of {} bytes", raw.body.len(), big.len());
    assert_eq!(
        std::fs::read_dir(calltap.data_dir().join("spill")).unwrap().count(),
        0,
        "nothing is left behind"
    );
}

/// Past `max_body` the bytes go, hash and size stay, and a note says so.
#[test]
fn what_is_too_large_is_cut_and_said() {
    let big = "x".repeat(300_000);
    let sent = big.clone();
    let upstream = Upstream::start(move |_| crate::harness::json_answer(200, &sent));
    let calltap = Calltap::with(&upstream, "", "[capture]\nmax_body = \"100KiB\"\n");
    let answer = crate::harness::post(calltap.address, "/v1/x", "", "{}");
    assert_eq!(answer.body.len(), big.len());
    let record = calltap.only_record();
    let hash = hex::encode(Sha256::digest(big.as_bytes()));
    assert_eq!(record["bytes"]["response"], 300_000);
    assert_eq!(record["bytes"]["response_sha256"], hash);
    assert!(record["notes"].to_string().contains("kept 102400 of 300000"), "{}", record["notes"]);
}
