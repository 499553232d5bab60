//! Retention where consumers wait: what goes first, what is counted, how long the writer is held (R23).

use super::tests::entry;
use super::*;
use crate::config::ByteSize;
use rusqlite::Connection;
use std::{
    path::Path,
    time::{Duration, Instant},
};

type Options = crate::config::Store;

/// Where the lane of a sink that waits stands: half of all.
const SINK: &str = "s1";

/// A store of so many calls with bodies that do not pack, half of them delivered.
fn filled(dir: &Path, calls: u32) -> Connection {
    let options = Options { max_size: ByteSize::gib(10), ..Options::default() };
    let store = Store::open(dir, &options).unwrap();
    store.change_lane(SINK, LaneChange::Open { first: 0 }).blocking_recv().unwrap().unwrap();
    let mut dice = 1_u64;
    for at in 0..calls {
        let mut entry = entry(i64::from(at));
        let noise = std::iter::repeat_with(|| {
            dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            dice.to_le_bytes()[7]
        });
        let kept: Vec<u8> = noise.take(8192).collect();
        let body = Body { total: 8192, kept: kept.into(), sha256: None };
        entry.bodies.as_mut().unwrap().request = body;
        store.append(entry, None);
        // The queue is bounded: what it has no room for is dropped.
        while store.health().waiting > 1000 {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
    let cursor = Some(i64::from(calls / 2));
    let progress = Progress { cursor, ..Progress::default() };
    store.change_lane(SINK, LaneChange::Progress(progress)).blocking_recv().unwrap().unwrap();
    assert!(store.health().dropped.is_empty());
    store.close();
    schema::open_writer(&dir.join(schema::FILE)).unwrap()
}

/// Calls and bodies that are left, before the sink's place and behind it; the oldest call behind it.
fn left(conn: &Connection, place: u32) -> [i64; 5] {
    let sql = "SELECT
        (SELECT count(*) FROM calls WHERE seq <= ?1), (SELECT count(*) FROM bodies WHERE seq <= ?1),
        (SELECT count(*) FROM calls WHERE seq > ?1), (SELECT count(*) FROM bodies WHERE seq > ?1),
        (SELECT coalesce(min(seq), 0) FROM calls WHERE seq > ?1)";
    conn.query_row(sql, [place], |row| {
        Ok([row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?, row.get(4)?])
    })
    .unwrap()
}

/// `CALLTAP_TEST_PRUNED`: calls.
#[test]
fn delivered_bodies_go_first_then_delivered_calls_then_the_oldest_of_the_others() {
    let calls = std::env::var("CALLTAP_TEST_PRUNED").map_or(2000, |count| count.parse().unwrap());
    let dir = tempfile::tempdir().unwrap();
    let mut conn = filled(dir.path(), calls);
    let half = i64::from(calls / 2);
    // A tenth of what there is: nothing that is delivered can stay.
    let size = u64::from(calls) * 8192 / 10;
    let options = Options { max_size: ByteSize(size), ..Options::default() };
    let mut retention = retention::Retention::new(&options);
    let mut texts = fulltext::Texts::default();
    let (mut expired, mut times) = (0, Vec::new());
    let mut before = left(&conn, calls / 2);
    assert_eq!(before, [half, half, half, half, half + 1]);
    loop {
        let (begun, lost) = (Instant::now(), expired);
        let more = retention.step(&mut conn, &mut texts, &mut |lost| expired += lost).unwrap();
        let took = begun.elapsed();
        let now = left(&conn, calls / 2);
        let [sent, sent_bodies, waiting, _, oldest] = now;
        if now != before {
            times.push(took);
            // One kind at a time, in this order, a few at once.
            assert!(sent == half || sent_bodies == 0, "bodies go before calls: {now:?}");
            assert!(waiting == half || sent == 0, "what waits goes last: {now:?}");
            assert!((0..5).all(|at| at == 4 || before[at] - now[at] <= 50), "{before:?} {now:?}");
        }
        let gone = half - waiting;
        assert_eq!(i64::try_from(expired).unwrap(), gone, "what is lost is counted");
        assert!(oldest == half + 1 + gone || waiting == 0, "the oldest goes first: {now:?}");
        assert!(expired - lost <= 50);
        before = now;
        if !more {
            break;
        }
    }
    times.sort();
    let kept: Vec<i64> = conn
        .prepare("SELECT seq FROM calls ORDER BY seq")
        .unwrap()
        .query_map([], |row| row.get(0))
        .unwrap()
        .collect::<Result<_, _>>()
        .unwrap();
    println!(
        "{calls} calls, half of them delivered, a tenth of the room: {} transactions, median {:?}, p99 {:?}, longest {:?}; {expired} expired undelivered, {} kept",
        times.len(),
        times[times.len() / 2],
        times[(times.len() - 1) * 99 / 100],
        times.last().unwrap(),
        kept.len(),
    );
    assert!(expired > 0 && !kept.is_empty(), "{expired} {kept:?}");
    assert_eq!(kept.last(), Some(&i64::from(calls)), "the newest stays");
}

/// Most of such a store is index, and that gives room back only when its segments are merged.
#[test]
fn no_call_goes_for_words_of_calls_that_went() {
    let calls = 2000;
    let dir = tempfile::tempdir().unwrap();
    let mut conn = filled(dir.path(), calls);
    fulltext::configure(&conn).unwrap();
    for seq in 1..=calls {
        let text: String = (0..1000).map(|word| format!("{:015x} ", seq * 1000 + word)).collect();
        conn.execute("INSERT INTO fts (rowid, text) VALUES (?1, ?2)", (seq, text)).unwrap();
    }
    let used = |conn: &Connection| -> u64 {
        let pragma =
            |name| conn.pragma_query_value(None, name, |row| row.get::<_, u32>(0)).unwrap();
        u64::from(pragma("page_count") - pragma("freelist_count")) * u64::from(pragma("page_size"))
    };
    let full = used(&conn);
    let options = Options { max_size: ByteSize(full / 2), ..Options::default() };
    let mut retention = retention::Retention::new(&options);
    let mut texts = fulltext::Texts::default();
    while retention.step(&mut conn, &mut texts, &mut |_| {}).unwrap() {}
    let kept: u32 = conn.query_row("SELECT count(*) FROM calls", [], |row| row.get(0)).unwrap();
    let words: u32 = conn.query_row("SELECT count(*) FROM fts", [], |row| row.get(0)).unwrap();
    println!("{full} bytes, {} of half of them in use: {kept} calls, {words} indexed", used(&conn));
    assert!(used(&conn) <= full / 2);
    assert!(words > calls * 2 / 5, "{words} of {calls} kept");
}

/// `CALLTAP_TEST_HEADROOM`: calls. R25: five times 500 a second, each with a body of 8 KB, all synced.
#[test]
fn the_writer_has_headroom() {
    let calls = std::env::var("CALLTAP_TEST_HEADROOM").map_or(3000, |count| count.parse().unwrap());
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path(), &Options::default()).unwrap();
    let write = |at: i64| {
        let mut entry = entry(at);
        // Text packs to about a third.
        let mut dice = u64::try_from(at).unwrap();
        let mut words = String::with_capacity(8300);
        while words.len() < 8192 {
            dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            words += &format!("word-{:03} of the text, ", (dice >> 33) % 1000);
        }
        let body =
            Body { total: words.len() as u64, kept: words.into_bytes().into(), sha256: None };
        entry.bodies.as_mut().unwrap().request = body;
        store.append(entry, None);
    };
    let begun = Instant::now();
    for at in 0..calls {
        write(at);
        while store.health().waiting > 2000 {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
    let appended = begun.elapsed();
    while *store.committed().borrow() < calls {
        assert!(begun.elapsed() < Duration::from_mins(5));
        std::thread::sleep(Duration::from_millis(1));
    }
    let rate = f64::from(u32::try_from(calls).unwrap()) / begun.elapsed().as_secs_f64();
    // At 500 a second: what waits, looked at before each call.
    let (begun, mut waiting) = (Instant::now(), Vec::new());
    for at in 0..calls {
        let due = Duration::from_millis(2) * u32::try_from(at).unwrap();
        std::thread::sleep(due.saturating_sub(begun.elapsed()));
        waiting.push(store.health().waiting);
        write(calls + at);
    }
    let paced = begun.elapsed();
    waiting.sort_unstable();
    let p99 = waiting[waiting.len() * 99 / 100];
    println!(
        "{calls} calls of 8 KB as fast as they come: {rate:.0} a second, synced ({appended:?} to hand them over, packing included); at 500 a second for {paced:?}: {p99} waiting at p99, {} at most; the budget is {} of 8 KB",
        waiting[waiting.len() - 1],
        queue::MAX_BYTES / 8192,
    );
    while *store.committed().borrow() < 2 * calls {
        assert!(begun.elapsed() < Duration::from_mins(5));
        std::thread::sleep(Duration::from_millis(1));
    }
    assert!(store.health().dropped.is_empty(), "nothing found the queue full");
    assert_eq!(store.reader().unwrap().info().unwrap().calls, 2 * u64::try_from(calls).unwrap());
}
