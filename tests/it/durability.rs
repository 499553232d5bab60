//! Kills, stops, and a store in trouble.

use crate::harness::{Calltap, Connection, Upstream, chat, chat_body, count, fetch, post};
use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

/// A record is durable within this of its call's end, unless the machine is overrun.
const WINDOW: Duration = Duration::from_millis(100);

struct Load {
    stop: Arc<AtomicBool>,
    running: Arc<AtomicUsize>,
    /// Ids of calls whose last byte arrived, and when.
    answered: Arc<Mutex<Vec<(String, Instant)>>>,
    threads: Vec<std::thread::JoinHandle<()>>,
}

/// Clients that call until they are told to stop, or nobody answers.
fn load(address: std::net::SocketAddr, clients: usize) -> Load {
    let (stop, running) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let answered = Arc::new(Mutex::new(Vec::new()));
    let threads = (0..clients)
        .map(|client| {
            let (stop, running, answered) =
                (Arc::clone(&stop), Arc::clone(&running), Arc::clone(&answered));
            std::thread::spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    let body = chat_body(client % 2 == 0);
                    let Some(mut connection) = Connection::try_open(address) else { return };
                    let head = format!("POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}", body.len());
                    running.fetch_add(1, Ordering::Relaxed);
                    connection.send(head.as_bytes());
                    let answer = connection.answer("POST");
                    running.fetch_sub(1, Ordering::Relaxed);
                    let Some(answer) = answer.filter(|answer| answer.whole) else { return };
                    let id = answer.header("x-calltap-id").unwrap().to_owned();
                    answered.lock().unwrap().push((id, Instant::now()));
                    // Some 500 calls a second in all: a load, not a flood that outruns the disk.
                    std::thread::sleep(Duration::from_millis(10));
                }
            })
        })
        .collect();
    Load { stop, running, answered, threads }
}

/// Kills under load: no call may be missing that was answered `allowed` or longer before the kill.
fn kills(durability: &str, allowed: Duration) {
    let rounds = count("CALLTAP_TEST_KILLS", 4);
    // Streams of some 100 ms: most that run at a kill are old enough to stand in the journal.
    let upstream = Upstream::start(chat(20, Duration::from_millis(5)));
    let sections = format!("[store]\ndurability = \"{durability}\"\n[log]\nlevel = \"warn\"\n");
    let mut calltap = Calltap::with(&upstream, "", &sections);
    let (mut in_flight, mut torn) = (0, 0);
    // Every answered call, and how long before the kill its last byte arrived.
    let mut answered: BTreeMap<String, Duration> = BTreeMap::new();
    for round in 0..rounds {
        let load = load(calltap.address, 12);
        std::thread::sleep(allowed + Duration::from_millis(250 + 37 * (round as u64 % 11)));
        in_flight += load.running.load(Ordering::Relaxed);
        let killed = Instant::now();
        calltap.kill();
        load.stop.store(true, Ordering::Relaxed);
        for thread in load.threads {
            thread.join().unwrap();
        }
        torn += usize::from(ends_in_a_half_commit(&calltap.data_dir().join("calltap.db-wal")));
        for (id, at) in load.answered.lock().unwrap().drain(..) {
            answered.insert(id, killed.saturating_duration_since(at));
        }
        calltap.restart();
    }
    let calls = calltap.calls("");
    let ids: BTreeSet<&str> = calls.iter().map(|call| call["id"].as_str().unwrap()).collect();
    assert_eq!(ids.len(), calls.len(), "no record twice");
    let interrupted = calls.iter().filter(|call| call["outcome"] == "interrupted").count();
    // A call that was answered is not kept if only its beginning is.
    let stored: BTreeSet<&str> = calls
        .iter()
        .filter(|call| call["outcome"] != "interrupted")
        .map(|call| call["id"].as_str().unwrap())
        .collect();
    let missing: Vec<Duration> = answered
        .iter()
        .filter(|(id, _)| !stored.contains(id.as_str()))
        .map(|(_, before)| *before)
        .collect();
    let oldest = missing.iter().max().copied().unwrap_or_default();
    let late = missing.iter().filter(|before| **before >= WINDOW).count();
    // With `strict` a client hears the end only after the commit: these were committed, and nobody told.
    let unheard = stored.len() - (answered.len() - missing.len());
    println!(
        "{durability}: {rounds} kills, {torn} with a half-written commit, {unheard} calls committed and not yet told, {} answered calls, {} missing, {late} of them answered {WINDOW:?} or longer before the kill, the oldest {oldest:?}; {in_flight} in flight at the kills, {interrupted} interrupted",
        answered.len(),
        missing.len(),
    );
    assert!(
        missing.is_empty() || oldest < allowed,
        "a call answered {oldest:?} before the kill is missing"
    );
    assert!(in_flight > 0 && interrupted > 0, "the kills landed among running calls");
    if rounds >= 100 && durability == "strict" {
        assert!(torn + unheard > 0, "kills landed in the middle of commits");
    }
}

/// Whether the write-ahead log ends in frames that no commit closes
/// (<https://www.sqlite.org/fileformat2.html#walformat>).
fn ends_in_a_half_commit(wal: &Path) -> bool {
    let Ok(bytes) = std::fs::read(wal) else { return false };
    let Some((head, frames)) = bytes.split_at_checked(32) else { return false };
    let page = u32::from_be_bytes(head[8..12].try_into().unwrap()) as usize;
    let current =
        frames.chunks(24 + page).take_while(|frame| frame.get(8..16) == Some(&head[16..24]));
    current.last().is_some_and(|frame| frame[4..8] == [0; 4])
}

#[test]
fn strict_loses_no_answered_call_to_a_kill() {
    kills("strict", Duration::ZERO);
}

/// The figure printed is that of the window; the bound is one that a busy machine keeps too.
#[test]
fn group_loses_nothing_older_than_its_window_to_a_kill() {
    kills("group", 10 * WINDOW);
}

#[test]
fn running_calls_appear_as_interrupted_after_a_kill() {
    let upstream = Upstream::start(chat(10_000, Duration::from_millis(5)));
    let mut calltap = Calltap::start(&upstream);
    let streams: Vec<Connection> = (0..20)
        .map(|at| {
            let body = chat_body(true);
            let mut connection = Connection::open(calltap.address);
            connection.send(format!("POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nx-calltap-ref: r{at}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}", body.len()).as_bytes());
            connection.read_some(500);
            connection
        })
        .collect();
    std::thread::sleep(Duration::from_millis(300));
    calltap.kill();
    drop(streams);
    calltap.restart();
    let calls = calltap.wait_calls("outcome:interrupted", 20);
    let record = calltap.record(calls[0]["id"].as_str().unwrap());
    assert_eq!(record["request"]["messages"][0]["content"], "hi");
    assert_eq!(record["model"]["requested"], "gpt-4o-mini");
}

/// `CALLTAP_TEST_DRAINS`: how many times.
#[test]
fn a_stop_lets_streams_finish_and_commits() {
    const STREAMS: usize = 40;
    let upstream = Upstream::start(chat(100, Duration::from_millis(10)));
    let mut calltap = Calltap::start(&upstream);
    let address = calltap.address;
    let drains = count("CALLTAP_TEST_DRAINS", 1);
    let mut slowest = Duration::ZERO;
    for drain in 0..drains {
        let streams: Vec<_> = (0..STREAMS)
            .map(|_| {
                std::thread::spawn(move || {
                    post(address, "/v1/chat/completions", "", &chat_body(true))
                })
            })
            .collect();
        let begun = Instant::now();
        while upstream.requests().len() < (drain + 1) * STREAMS {
            assert!(begun.elapsed() < Duration::from_secs(20), "the streams run");
            std::thread::sleep(Duration::from_millis(5));
        }
        // At any moment of them.
        std::thread::sleep(Duration::from_millis((drain as u64 * 37 + 200) % 500));
        let mut kept = Connection::open(calltap.address);
        let ready = format!("GET /readyz HTTP/1.1\r\nhost: {address}\r\n\r\n");
        kept.send(ready.as_bytes());
        assert_eq!(kept.answer("GET").unwrap().status, 200);
        let told = Instant::now();
        calltap.signal("TERM");
        std::thread::sleep(Duration::from_millis(200));
        // Whoever asks while it drains is turned away or told so.
        assert!(fetch(address, "/readyz").is_none_or(|answer| answer.status == 503));
        kept.send(ready.as_bytes());
        assert!(kept.answer("GET").is_none_or(|answer| answer.status == 503));
        let mut bodies: Vec<Vec<u8>> = streams
            .into_iter()
            .map(|stream| {
                let answer = stream.join().unwrap();
                assert!(answer.whole && answer.body.ends_with(b"data: [DONE]\n\n"));
                answer.body
            })
            .collect();
        bodies.dedup();
        assert_eq!(bodies.len(), 1, "all streams are the same bytes");
        assert!(calltap.wait().success());
        slowest = slowest.max(told.elapsed());
        calltap.restart();
        calltap.wait_calls("outcome:completed", (drain + 1) * STREAMS);
    }
    assert_eq!(calltap.calls("").len(), drains * STREAMS);
    println!(
        "{drains} drains of {STREAMS} streams: all whole and recorded, the slowest in {slowest:?}"
    );
}

#[test]
fn a_second_signal_ends_at_once() {
    let upstream = Upstream::start(chat(10_000, Duration::from_millis(10)));
    let mut calltap = Calltap::start(&upstream);
    let address = calltap.address;
    let stream =
        std::thread::spawn(move || post(address, "/v1/chat/completions", "", &chat_body(true)));
    std::thread::sleep(Duration::from_millis(300));
    calltap.signal("TERM");
    std::thread::sleep(Duration::from_millis(200));
    let asked = Instant::now();
    calltap.signal("TERM");
    calltap.wait();
    println!("ended {:?} after the second signal", asked.elapsed());
    assert!(!stream.join().unwrap().whole);
    calltap.restart();
    assert_eq!(calltap.wait_calls("", 1)[0]["outcome"], "interrupted");
}

#[test]
fn a_store_that_cannot_be_written_stops_no_call() {
    let upstream = Upstream::start(chat(1, Duration::ZERO));
    let calltap = Calltap::start(&upstream);
    post(calltap.address, "/v1/chat/completions", "", &chat_body(false));
    calltap.wait_calls("", 1);
    // Another process holds the write lock: commits fail until it lets go.
    let database = rusqlite::Connection::open(calltap.data_dir().join("calltap.db")).unwrap();
    database.execute_batch("BEGIN IMMEDIATE").unwrap();
    for _ in 0..50 {
        assert_eq!(
            post(calltap.address, "/v1/chat/completions", "", &chat_body(false)).status,
            200
        );
    }
    assert_eq!(calltap.calls("").len(), 1, "the fault landed");
    database.execute_batch("ROLLBACK").unwrap();
    calltap.wait_calls("", 51);
}

#[test]
fn strict_refuses_calls_that_it_cannot_record() {
    let upstream = Upstream::start(chat(1, Duration::ZERO));
    let calltap = Calltap::with(&upstream, "", "[store]\ndurability = \"strict\"\n");
    assert_eq!(post(calltap.address, "/v1/chat/completions", "", &chat_body(false)).status, 200);
    let dir = calltap.data_dir();
    let database = rusqlite::Connection::open(dir.join("calltap.db")).unwrap();
    database.execute_batch("BEGIN IMMEDIATE").unwrap();
    // The first call meets the trouble, those after it are told before they go upstream.
    let address = calltap.address;
    let first = std::thread::spawn(move || post_any(address));
    let until = Instant::now() + Duration::from_secs(20);
    while fetch(calltap.address, "/readyz").unwrap().status != 503 {
        assert!(Instant::now() < until, "the trouble shows");
        std::thread::sleep(Duration::from_millis(50));
    }
    let before = upstream.requests().len();
    let answer = post(calltap.address, "/v1/chat/completions", "", &chat_body(false));
    assert_eq!(answer.status, 503);
    assert_eq!(answer.json()["error"]["code"], "calltap_store_unavailable");
    assert_eq!(upstream.requests().len(), before, "nothing went upstream");
    database.execute_batch("ROLLBACK").unwrap();
    first.join().unwrap();
    let until = Instant::now() + Duration::from_secs(20);
    while post(calltap.address, "/v1/chat/completions", "", &chat_body(false)).status != 200 {
        assert!(Instant::now() < until, "it recovers");
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn post_any(address: std::net::SocketAddr) {
    let mut connection = Connection::open(address);
    let body = chat_body(false);
    connection.send(format!("POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}", body.len()).as_bytes());
    connection.answer("POST");
}

#[test]
fn a_reload_swaps_the_configuration_whole_or_not_at_all() {
    let (one, two) =
        (Upstream::start(chat(1, Duration::ZERO)), Upstream::start(chat(1, Duration::ZERO)));
    let calltap = Calltap::start(&one);
    std::fs::write(calltap.config(), "[upstreams.openai]\nbase_url = \"nonsense\"\n").unwrap();
    calltap.signal("HUP");
    let until = Instant::now() + Duration::from_secs(10);
    while !calltap.log().contains("not reloaded") {
        assert!(Instant::now() < until, "{}", calltap.log());
        std::thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(post(calltap.address, "/v1/chat/completions", "", &chat_body(false)).status, 200);
    assert_eq!(one.requests().len(), 1);
    std::fs::write(calltap.config(), format!("[upstreams.openai]\nbase_url = \"{}\"\n", two.url()))
        .unwrap();
    calltap.signal("HUP");
    while !calltap.log().contains("configuration reloaded") {
        assert!(Instant::now() < until, "{}", calltap.log());
        std::thread::sleep(Duration::from_millis(20));
    }
    post(calltap.address, "/v1/chat/completions", "", &chat_body(false));
    assert_eq!((one.requests().len(), two.requests().len()), (1, 1));
}
