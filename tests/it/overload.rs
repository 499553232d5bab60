//! Far more than can be recorded (`reliability.md` R29).

use crate::harness::{Calltap, Connection, Random, Upstream, count, json_answer};
use std::{
    net::SocketAddr,
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

/// Clients and the pause between their calls: as usual, and ten times that and more.
const USUAL: (usize, Duration) = (4, Duration::from_millis(20));
const FLOOD: (usize, Duration) = (40, Duration::ZERO);

struct Seen {
    calls: usize,
    refused: usize,
    /// Sorted.
    latencies: Vec<Duration>,
    /// Most memory meanwhile, in KiB.
    peak: u64,
}

/// `memory` tells how much calltap holds.
fn clients(
    address: SocketAddr,
    memory: impl Fn() -> u64,
    (clients, pause): (usize, Duration),
    body: &str,
    time: Duration,
) -> Seen {
    let stop = AtomicBool::new(false);
    let mut seen = Seen { calls: 0, refused: 0, latencies: Vec::new(), peak: 0 };
    std::thread::scope(|scope| {
        let threads: Vec<_> =
            (0..clients).map(|_| scope.spawn(|| client(address, pause, body, &stop))).collect();
        let until = Instant::now() + time;
        while Instant::now() < until {
            seen.peak = seen.peak.max(memory());
            std::thread::sleep(Duration::from_millis(20));
        }
        stop.store(true, Ordering::Relaxed);
        for thread in threads {
            let (latencies, refused) = thread.join().unwrap();
            seen.calls += latencies.len();
            seen.latencies.extend(latencies);
            seen.refused += refused;
        }
    });
    seen.latencies.sort();
    seen
}

/// Latencies of the calls that were taken, and how many were not.
fn client(
    address: SocketAddr,
    pause: Duration,
    body: &str,
    stop: &AtomicBool,
) -> (Vec<Duration>, usize) {
    let (mut connection, mut taken, mut refused) = (Connection::open(address), Vec::new(), 0);
    let request = format!(
        "POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    while !stop.load(Ordering::Relaxed) {
        let begun = Instant::now();
        connection.send(request.as_bytes());
        let answer = connection.answer("POST").expect("an answer");
        match answer.status {
            200 => taken.push(begun.elapsed()),
            503 if answer.header("retry-after").is_some() => refused += 1,
            other => panic!("{other}"),
        }
        std::thread::sleep(pause);
    }
    (taken, refused)
}

/// `CALLTAP_TEST_OVERLOAD`: seconds.
#[test]
fn a_flood_is_taken_or_refused_and_passes() {
    let time = Duration::from_secs(count("CALLTAP_TEST_OVERLOAD", 4) as u64);
    let mut dice = Random(5);
    // Text that does not pack.
    let text: String = (0..2500).map(|_| format!("{:08x}", dice.below(1 << 32))).collect();
    let answer = format!(r#"{{"id":"c1","choices":[],"pad":"{text}"}}"#);
    let body = format!(r#"{{"model":"gpt-4o-mini","messages":[],"pad":"{text}"}}"#);
    let upstream = Upstream::start(move |_| json_answer(200, &answer));
    let sections = "[capture]\nmax_memory = \"1MiB\"\nredact = []\n[log]\nlevel = \"warn\"\n";
    let calltap = Calltap::with(&upstream, "", sections);
    let usual = Duration::from_secs(2);
    // What the same flood costs without calltap: clients and upstream are on the same processors.
    let direct = clients(upstream.address, || 0, FLOOD, &body, usual);
    upstream.forget();
    let through = |load, time| clients(calltap.address, || calltap.memory_kib(), load, &body, time);
    let before = through(USUAL, usual);
    let idle = calltap.memory_kib();
    // Nothing is recorded meanwhile, so that what waits grows as fast as it can.
    let database = rusqlite::Connection::open(calltap.data_dir().join("calltap.db")).unwrap();
    database.busy_timeout(Duration::from_secs(10)).unwrap();
    database.execute_batch("BEGIN IMMEDIATE").unwrap();
    let mut flood = through(FLOOD, time);
    let begun = Instant::now();
    let lost = |calltap: &Calltap| calltap.log().matches("calls are not recorded").count();
    while lost(&calltap) == 0 && begun.elapsed() < Duration::from_mins(1) {
        let more = through(FLOOD, Duration::from_secs(1));
        flood.calls += more.calls;
        flood.refused += more.refused;
        flood.peak = flood.peak.max(more.peak);
    }
    database.execute_batch("ROLLBACK").unwrap();
    let over = Instant::now();
    let accepted = before.calls + flood.calls;
    let (stored, dropped) = wait_counted(&calltap, accepted);
    let back = over.elapsed();
    let after = through(USUAL, usual);
    upstream.forget();
    let p99 = |seen: &Seen| seen.latencies[seen.latencies.len() * 99 / 100];
    let lines = lost(&calltap);
    println!(
        "overload: {} calls/s before, {} taken and {} refused in {time:?} and more; client p99 {:?} before, {:?} meanwhile, {:?} after, {:?} with as many clients and no calltap; memory {idle} KiB before, {} KiB at the peak; {stored} stored, {dropped} dropped, {lines} lines of it in the log; all told {back:?} after",
        before.calls / 2,
        flood.calls,
        flood.refused,
        p99(&before),
        p99(&flood),
        p99(&after),
        p99(&direct),
        flood.peak,
    );
    assert!(dropped > 0 && flood.calls > 10 * before.calls, "it was too much");
    assert!(
        (1..=1 + usize::try_from(begun.elapsed().as_secs() + time.as_secs()).unwrap() / 60)
            .contains(&lines)
    );
    // What waits for a commit, `max_memory` and 32 MiB beyond it, 32 MiB on the way to the disk.
    assert!(flood.peak.saturating_sub(idle) < (64 + 1 + 32 + 32) * 1024, "{} KiB", flood.peak);
    assert_eq!(after.refused, 0);
    let end = wait_counted(&calltap, accepted + after.calls);
    assert_eq!(end.1, dropped, "nothing is lost any more");
}

/// Waits until every call is stored or counted as dropped; gives how many of each.
fn wait_counted(calltap: &Calltap, calls: usize) -> (usize, usize) {
    let until = Instant::now() + Duration::from_mins(2);
    loop {
        let (stored, dropped) = calltap.counts();
        if stored + dropped >= calls {
            assert_eq!(stored + dropped, calls);
            return (stored, dropped);
        }
        assert!(Instant::now() < until, "{calls} calls, {stored} stored, {dropped} dropped");
        std::thread::sleep(Duration::from_millis(50));
    }
}
