//! Many slow streams at once.

use crate::harness::{Calltap, Connection, Random, Upstream, chat, chat_body, count};
use std::time::{Duration, Instant};

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
        let mut steps = vec![crate::harness::Step::Send(head.into_bytes())];
        steps.extend(
            sent.as_bytes().chunks(30_000).map(|piece| crate::harness::Step::Send(piece.to_vec())),
        );
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
    let hash = {
        use sha2::Digest;
        hex::encode(sha2::Sha256::digest(big.as_bytes()))
    };
    assert_eq!(record["bytes"]["response"], 300_000);
    assert_eq!(record["bytes"]["response_sha256"], hash);
    assert!(record["notes"].to_string().contains("kept 102400 of 300000"), "{}", record["notes"]);
}
