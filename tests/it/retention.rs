//! The hard quota under load, while a sink is away (`reliability.md` R23).

use crate::{
    delivery::{Hook, UNAVAILABLE, WELL, percentile},
    harness::{Calltap, Connection, Random, Upstream, chat, count},
};
use std::{
    sync::Mutex,
    time::{Duration, Instant},
};

/// So many calls of some 8 KB that do not pack; latencies, sorted.
fn load(calltap: &Calltap, calls: usize, seed: u64) -> Vec<Duration> {
    let latencies = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for client in 0..4 {
            let (latencies, address) = (&latencies, calltap.address);
            scope.spawn(move || {
                let (mut connection, mut dice) = (Connection::open(address), Random(seed + client));
                for _ in 0..calls / 4 {
                    let text: String =
                        (0..1000).map(|_| format!("{:08x}", dice.below(1 << 32))).collect();
                    let body = format!(
                        r#"{{"model":"gpt-4o-mini","messages":[{{"role":"user","content":"{text}"}}]}}"#
                    );
                    let begun = Instant::now();
                    connection.send(format!("POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}", body.len()).as_bytes());
                    assert_eq!(connection.answer("POST").unwrap().status, 200);
                    latencies.lock().unwrap().push(begun.elapsed());
                }
            });
        }
    });
    let mut latencies = latencies.into_inner().unwrap();
    latencies.sort();
    latencies
}

fn wait(calltap: &Calltap, what: &str, is_so: impl Fn() -> bool) {
    let until = Instant::now() + Duration::from_mins(2);
    while !is_so() {
        assert!(Instant::now() < until, "{what}: {:?}", calltap.counts());
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// `CALLTAP_TEST_EXPIRED`: calls.
#[test]
fn the_quota_takes_the_oldest_and_counts_what_no_sink_had() {
    let calls = count("CALLTAP_TEST_EXPIRED", 4000) / 4 * 4;
    let hook = Hook::start();
    let upstream = Upstream::start(chat(1, Duration::ZERO));
    let sections = format!(
        "{}[store]\nmax_size = \"8MiB\"\n[log]\nlevel = \"error\"\n",
        hook.section("hook", "timeout = \"2s\"")
    );
    let calltap = Calltap::with(&upstream, "", &sections);
    // What was delivered may go; then the sink is away.
    let first = load(&calltap, 400, 1);
    wait(&calltap, "the first are delivered", || hook.count() == 400);
    hook.set(UNAVAILABLE);
    let memory = calltap.memory_kib();
    let second = load(&calltap, calls, 100);
    let all = 400 + calls;
    wait(&calltap, "each is stored or counted", || {
        let (stored, lost) = calltap.counts();
        stored + lost >= all - 400
    });
    let grown = calltap.memory_kib().saturating_sub(memory);
    // Oldest first: those that were delivered are gone, and what is left is the end of the log.
    let database = rusqlite::Connection::open(calltap.data_dir().join("calltap.db")).unwrap();
    let left = || {
        database
            .query_row("SELECT count(*), coalesce(min(seq), 0), max(seq) FROM calls", [], |row| {
                Ok([row.get(0)?, row.get(1)?, row.get(2)?])
            })
            .unwrap()
    };
    let mut settled: [i64; 3] = left();
    loop {
        std::thread::sleep(Duration::from_millis(1500));
        let now = left();
        if now == settled {
            break;
        }
        settled = now;
    }
    let [stored, oldest, newest] = settled;
    assert_eq!(stored, newest - oldest + 1, "the oldest went first");
    assert!(oldest > 401, "the quota took what no sink had");
    let expired = calltap.counts().1;
    assert_eq!(i64::try_from(expired).unwrap(), oldest - 401, "and counted it");
    hook.set(WELL);
    let resume = calltap.command().args(["sinks", "resume", "hook"]).output().unwrap();
    assert!(resume.status.success(), "{resume:?}");
    wait(&calltap, "what is left arrives", || hook.count() + expired >= all);
    std::thread::sleep(Duration::from_millis(500));
    let came = hook.count();
    println!(
        "{all} calls of 8 KB within 8 MiB, the sink away after 400: {expired} expired undelivered, {stored} left, {came} delivered, {} of the expired among them; client p99 {:?} before, {:?} while it was pruned; memory +{grown} KiB",
        came + expired - all,
        percentile(&first, 99),
        percentile(&second, 99),
    );
    // A lane may hold a few batches that were pruned meanwhile.
    assert!(came + expired - all <= 300, "{came} {expired} {all}");
    assert!(grown < 96 * 1024, "memory grew by {grown} KiB");
}
