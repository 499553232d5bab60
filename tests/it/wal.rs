//! The write-ahead log stays within its bounds while others read (`reliability.md` R24).

use crate::harness::{Calltap, Connection, Random, Upstream, chat, count, fetch};
use std::{
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
    time::{Duration, Instant},
};

const MIB: u64 = 1024 * 1024;
/// How long another process holds a read transaction open at once; it lets go for a tenth of that.
const HELD: Duration = Duration::from_secs(2);
/// Pause between two calls of a client: some 200 a second in all, of 17 KB each.
const PAUSE: Duration = Duration::from_millis(20);

fn len(file: &Path) -> u64 {
    std::fs::metadata(file).map_or(0, |file| file.len())
}

/// `CALLTAP_TEST_WAL`: minutes.
#[test]
fn the_write_ahead_log_stays_small_while_others_read() {
    let minutes = count("CALLTAP_TEST_WAL", 0) as u64;
    let time = if minutes == 0 { Duration::from_secs(6) } else { Duration::from_mins(minutes) };
    let upstream = Upstream::start(chat(3, Duration::ZERO));
    let calltap = Calltap::with(&upstream, "", "[log]\nlevel = \"warn\"\n");
    let wal = calltap.data_dir().join("calltap.db-wal");
    let (stop, calls, queries) = (AtomicBool::new(false), AtomicUsize::new(0), AtomicUsize::new(0));
    let (exports, mut most) = (AtomicUsize::new(0), 0);
    std::thread::scope(|scope| {
        for client in 0..4 {
            let (stop, calls) = (&stop, &calls);
            let address = calltap.address;
            scope.spawn(move || {
                let (mut connection, mut dice) = (Connection::open(address), Random(client));
                while !stop.load(Ordering::Relaxed) {
                    let text: String =
                        (0..1000).map(|_| format!("{:016x} ", dice.below(u64::MAX))).collect();
                    let body = format!(
                        r#"{{"model":"gpt-4o-mini","messages":[{{"role":"user","content":"{text}"}}]}}"#
                    );
                    connection.send(format!("POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}", body.len()).as_bytes());
                    assert_eq!(connection.answer("POST").unwrap().status, 200);
                    calls.fetch_add(1, Ordering::Relaxed);
                    std::thread::sleep(PAUSE);
                }
            });
        }
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                for path in ["calls?limit=1000", "calls?q=%22a%22&limit=50", "stats"] {
                    fetch(calltap.address, &format!("/api/v1/{path}")).unwrap();
                    queries.fetch_add(1, Ordering::Relaxed);
                }
            }
        });
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                let export = calltap.command().args(["export"]).output().unwrap();
                assert!(export.status.success(), "{export:?}");
                exports.fetch_add(1, Ordering::Relaxed);
            }
        });
        scope.spawn(|| hold_open(calltap.data_dir().join("calltap.db"), &stop));
        let begun = Instant::now();
        while begun.elapsed() < time {
            most = most.max(len(&wal));
            std::thread::sleep(Duration::from_millis(20));
        }
        stop.store(true, Ordering::Relaxed);
    });
    let (ended, mut shrunk) = (Instant::now(), len(&wal));
    while shrunk > 64 * MIB && ended.elapsed() < Duration::from_secs(30) {
        std::thread::sleep(Duration::from_millis(50));
        shrunk = len(&wal);
    }
    let [calls, queries, exports] = [calls, queries, exports].map(AtomicUsize::into_inner);
    println!(
        "write-ahead log: {time:?}, {calls} calls of 17 KB, {queries} queries, {exports} exports, a reader held open: at most {} KiB, {} KiB {:?} after",
        most / 1024,
        shrunk / 1024,
        ended.elapsed()
    );
    assert!(most > 5 * MIB, "readers kept it from being used again: {most}");
    assert!(most <= 128 * MIB, "{most}");
    assert!(shrunk <= 64 * MIB, "{shrunk}");
    assert_eq!(calltap.wait_calls("", calls).len(), calls);
}

/// Another reader, which takes its time.
fn hold_open(file: PathBuf, stop: &AtomicBool) {
    let database = rusqlite::Connection::open(file).unwrap();
    while !stop.load(Ordering::Relaxed) {
        database.execute_batch("BEGIN; SELECT count(*) FROM calls;").unwrap();
        let until = Instant::now() + HELD;
        while Instant::now() < until && !stop.load(Ordering::Relaxed) {
            std::thread::sleep(Duration::from_millis(50));
        }
        database.execute_batch("ROLLBACK").unwrap();
        std::thread::sleep(HELD / 10);
    }
}
