//! The store as a whole.

use super::*;
use crate::{
    model::{Body, Cost, CostStatus, Endpoint, Outcome, Sizes, Tags, Timing, Usage, UsageSource},
    query::Query,
};
use std::{
    sync::atomic::Ordering,
    time::{Duration, Instant},
};
use tempfile::TempDir;

type Options = crate::config::Store;

const DAY_US: i64 = 86_400_000_000;

pub(super) fn record(at: i64) -> Record {
    Record {
        id: Uuid::now_v7(),
        seq: None,
        started_at: Timestamp::now().plus_us(at),
        ended_at: Timestamp::now().plus_us(at + 1000),
        endpoint: Endpoint::from("chat.completions"),
        method: "POST".into(),
        query: None,
        path: "/v1/chat/completions".into(),
        upstream: "openai".into(),
        host: None,
        provider: "openai".into(),
        model: crate::model::Model {
            requested: Some("gpt-4o".into()),
            served: Some("gpt-4o-2024-08-06".into()),
        },
        stream: true,
        outcome: Outcome::Completed,
        status: Some(200),
        error: None,
        finish_reasons: vec!["stop".into()],
        timing: Timing { latency_ms: 12.5, ttft_ms: Some(3.0), ..Timing::default() },
        usage: Usage {
            source: UsageSource::Provider,
            input: Some(10),
            output: Some(5),
            total: Some(15),
            ..Usage::default()
        },
        cost: Cost {
            status: CostStatus::Priced,
            total: Some("0.000324".into()),
            ..Cost::default()
        },
        tags: Tags {
            session: Some("s1".into()),
            labels: vec!["beta".into()],
            metadata: [("order".to_owned(), "123".into())].into_iter().collect(),
            user_query: Some("Where is my parcel?".into()),
            ..Tags::default()
        },
        client: crate::model::Client::default(),
        trace: crate::model::Trace::default(),
        parameters: serde_json::Map::default(),
        request: None,
        response: None,
        bytes: Sizes::default(),
        headers: crate::model::record::Headers::default(),
        sinks: None,
        repeats: None,
        response_id: None,
        notes: Vec::new(),
    }
}

pub(super) fn entry(at: i64) -> Entry {
    let body = |text: String| Body { total: text.len() as u64, kept: text.into(), sha256: None };
    let mut chunks = ChunkLog::default();
    chunks.push(100, 5000);
    let bodies = Bodies {
        request: body("{\"q\":\"Where is my parcel?\"}".repeat(100)),
        member: Some(3..9),
        response: body("data: {}\n\n".into()),
        chunks,
    };
    Entry { record: record(at), bodies: Some(bodies), answer: None, json: None, text: None }
}

pub(super) fn open() -> (TempDir, Store) {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path(), &Options::default()).unwrap();
    (dir, store)
}

pub(super) fn put(store: &Store, entry: Entry) -> Result<i64, String> {
    let (done, stored) = oneshot::channel();
    store.append(entry, Some(done));
    stored.blocking_recv().unwrap()
}

pub(super) fn query(text: &str) -> Query {
    text.parse().unwrap()
}

/// Bytes that do not pack.
fn noise(len: usize) -> Vec<u8> {
    let mut seed = 1_u64;
    let next = || {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        seed.to_le_bytes()[3]
    };
    std::iter::repeat_with(next).take(len).collect()
}

pub(super) fn wait_for(what: impl Fn() -> bool) {
    let start = Instant::now();
    while !what() {
        assert!(start.elapsed() < Duration::from_secs(10), "waited in vain");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn what_is_stored_comes_back_after_reopening() {
    let (dir, store) = open();
    let entry = entry(0);
    assert_eq!(put(&store, entry.clone()), Ok(1));
    assert_eq!(*store.committed().borrow(), 1);
    store.close();
    assert!(!dir.path().join("calltap.db-wal").exists());
    let reader = Reader::open(dir.path()).unwrap();
    let id = entry.record.id.to_string();
    let stored = reader.get(&id).unwrap().unwrap();
    let (had, has) = (entry.bodies.unwrap(), stored.bodies.unwrap());
    assert_eq!(has.request.kept, had.request.kept);
    assert_eq!(has.response.kept, had.response.kept);
    assert_eq!((has.member, has.chunks), (had.member, had.chunks));
    assert_eq!(stored.record.seq, Some(1));
    assert_eq!(stored.record.cost, entry.record.cost);
    assert!(reader.get(&id[..35]).unwrap().is_some());
    assert!(reader.get("../../etc").unwrap().is_none());
    let again = Store::open(dir.path(), &Options::default()).unwrap();
    assert_eq!(put(&again, self::entry(0)), Ok(2));
    assert!(reader.verify(&mut |_, _| ()).unwrap().bodies_bad.is_empty());
}

#[test]
fn users_can_sum_costs() {
    let (dir, store) = open();
    put(&store, entry(0)).unwrap();
    put(&store, entry(0)).unwrap();
    let conn = rusqlite::Connection::open(dir.path().join("calltap.db")).unwrap();
    let (model, sum): (String, f64) = conn
        .query_row("SELECT model, sum(cost) FROM calls GROUP BY model", [], |row| {
            Ok((row.get(0)?, row.get(1)?))
        })
        .unwrap();
    assert_eq!(model, "gpt-4o-2024-08-06");
    assert!((sum - 0.000_648).abs() < 1e-12);
}

#[test]
fn calls_in_flight_become_interrupted() {
    let (dir, store) = open();
    let (running, ended, late) = (record(0), entry(0), entry(0));
    let started = |record: &Record| Started { record: record.clone(), request: Some("{}".into()) };
    store.journal(vec![started(&running), started(&ended.record)]);
    put(&store, ended.clone()).unwrap();
    put(&store, late.clone()).unwrap();
    store.journal(vec![started(&late.record)]);
    store.close();
    let store = Store::open(dir.path(), &Options::default()).unwrap();
    let reader = store.reader().unwrap();
    let found = reader.list(&query("outcome:interrupted"), 10, None).unwrap();
    assert_eq!(found.items.len(), 1);
    let stored = reader.get(&running.id.to_string()).unwrap().unwrap();
    assert_eq!(stored.bodies.unwrap().request.kept, "{}");
    assert_eq!(reader.list(&Query::default(), 10, None).unwrap().items.len(), 3);
}

#[test]
fn a_taken_id_is_never_overwritten() {
    let (_dir, store) = open();
    let (first, mut second) = (entry(0), entry(0));
    second.record.id = first.record.id;
    put(&store, first.clone()).unwrap();
    assert_eq!(put(&store, second), Ok(2));
    let reader = store.reader().unwrap();
    let rows = reader.since(&Query::default(), 1, 10).unwrap();
    assert_eq!(rows[0].1["repeats"], first.record.id.to_string());
    assert_ne!(rows[0].1["id"], first.record.id.to_string());
}

#[test]
fn one_owner() {
    let (dir, store) = open();
    let refused = Store::open(dir.path(), &Options::default()).unwrap_err();
    assert!(matches!(&refused, StoreError::Locked(text) if text.contains("process")), "{refused}");
    drop(store);
    Store::open(dir.path(), &Options::default()).unwrap();
}

#[test]
fn pages_have_no_gaps_and_no_repeats() {
    let (_dir, store) = open();
    for at in 0..10_000 {
        store.append(
            Entry { record: record(at), bodies: None, answer: None, json: None, text: None },
            None,
        );
    }
    wait_for(|| *store.committed().borrow() == 10_000);
    assert!(store.health().dropped.is_empty());
    let reader = store.reader().unwrap();
    let (mut after, mut seqs) = (None, Vec::new());
    loop {
        let page = reader.list(&Query::default(), 777, after.as_deref()).unwrap();
        seqs.extend(page.items.iter().map(|row| row["seq"].as_i64().unwrap()));
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    assert_eq!(seqs, (1..=10_000).rev().collect::<Vec<_>>());
    let forged = reader.list(&Query::default(), 10, Some("3e8-00000000"));
    assert!(matches!(forged, Err(StoreError::Invalid(_))));
    let hasty =
        Reader { pool: pool::Pool::with_deadline(reader.pool.file.clone(), Duration::ZERO) };
    assert!(matches!(hasty.stats(&query("-path:*x*y*z"), GroupBy::Day), Err(StoreError::Deadline)));
}

#[test]
fn queries_find_what_they_name() {
    let (_dir, store) = open();
    store.set_text_extractor(|stored| stored.record.tags.user_query.unwrap_or_default());
    put(&store, entry(0)).unwrap();
    let mut failed = entry(-7_200_000_000);
    failed.record.outcome = Outcome::ProviderError;
    failed.record.status = Some(429);
    failed.record.tags.session = None;
    failed.record.cost = Cost::default();
    put(&store, failed).unwrap();
    let reader = store.reader().unwrap();
    let check = || {
        for (text, seqs) in [
            ("", vec![2, 1]),
            ("model:gpt-4o", vec![2, 1]),
            ("model:GPT*", vec![]),
            ("model:*-2024-*", vec![2, 1]),
            ("status:error", vec![2]),
            ("status:4xx", vec![2]),
            ("status:<300", vec![1]),
            ("-session:s1", vec![2]),
            ("session:s1", vec![1]),
            ("has:session OR status:429", vec![2, 1]),
            ("cost:0.000324", vec![1]),
            ("cost:>0.000324", vec![]),
            ("tag:beta meta.order:123 stream:true", vec![2, 1]),
            ("since:1h", vec![1]),
            ("before:1h", vec![2]),
            ("latency:>12ms ttft:1..3ms tokens:15", vec![2, 1]),
            ("parcel", vec![2, 1]),
            ("\"my parcel\" status:ok", vec![1]),
            ("parcels", vec![]),
        ] {
            let page = reader.list(&query(text), 10, None).unwrap();
            let found: Vec<_> = page.items.iter().map(|row| row["seq"].as_i64().unwrap()).collect();
            assert_eq!(found, seqs, "{text}");
        }
    };
    check();
    wait_for(|| reader.pool.read(|conn| Ok(fulltext::position(conn)?)).unwrap() == 2);
    check();
    assert_eq!(reader.list(&query("parc* \"is my\""), 10, None).unwrap().items.len(), 2);
    let all = reader.stats(&Query::default(), GroupBy::Nothing).unwrap();
    assert_eq!((all[0].calls, all[0].errors, all[0].input_tokens), (2, 1, 20));
    assert_eq!((all[0].cost.as_str(), all[0].unpriced), ("0.000324", 0));
}

#[test]
fn a_lock_held_by_another_delays_but_loses_nothing() {
    let (dir, store) = open();
    let running = entry(0);
    store.journal(vec![Started { record: running.record.clone(), request: None }]);
    put(&store, entry(0)).unwrap();
    let other = rusqlite::Connection::open(dir.path().join("calltap.db")).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    assert!(put(&store, entry(0)).is_err());
    wait_for(|| store.health().trouble.is_some());
    assert!(put(&store, entry(0)).is_err());
    other.execute_batch("ROLLBACK").unwrap();
    wait_for(|| *store.committed().borrow() == 3);
    assert_eq!(store.health(), Health::default());
    // A call that runs meanwhile goes on.
    put(&store, running).unwrap();
    assert_eq!(store.reader().unwrap().info().unwrap().calls, 4);
}

#[test]
fn a_full_disk_drops_only_beyond_the_budget_and_counts_it() {
    let (dir, store) = open();
    put(&store, entry(0)).unwrap();
    store.inner.shared.max_pages.store(1, Ordering::Relaxed);
    let noise = noise(2_000_000);
    let big = || {
        let mut entry = entry(0);
        let kept = Bytes::from(noise.clone());
        entry.bodies.as_mut().unwrap().response =
            Body { total: kept.len() as u64, kept, sha256: None };
        entry
    };
    assert!(put(&store, big()).is_err());
    for _ in 1..50 {
        store.append(big(), None);
    }
    let (_, dropped) = store.health().dropped.first().cloned().unwrap();
    assert!(dropped > 10);
    assert!(store.health().trouble.is_some());
    assert_eq!(store.reader().unwrap().info().unwrap().calls, 1);
    store.inner.shared.max_pages.store(1 << 30, Ordering::Relaxed);
    wait_for(|| store.health().trouble.is_none() && store.health().waiting == 0);
    store.close();
    let info = Reader::open(dir.path()).unwrap().info().unwrap();
    assert_eq!(info.calls + dropped, 51);
    assert_eq!(info.dropped, [("recorder".to_owned(), dropped)]);
}

#[test]
fn retention_by_age_and_size() {
    let dir = tempfile::tempdir().unwrap();
    let options = Options { max_size: crate::config::ByteSize::mib(1), ..Options::default() };
    let store = Store::open(dir.path(), &options).unwrap();
    put(&store, entry(-400 * DAY_US)).unwrap();
    put(&store, entry(-40 * DAY_US)).unwrap();
    put(&store, entry(0)).unwrap();
    let reader = store.reader().unwrap();
    wait_for(|| {
        let info = reader.info().unwrap();
        (info.calls, info.bodies) == (2, 1)
    });
    for at in 0..2000 {
        store.append(
            Entry { record: record(at), bodies: None, answer: None, json: None, text: None },
            None,
        );
    }
    wait_for(|| *store.committed().borrow() == 2003);
    wait_for(|| reader.info().unwrap().calls < 1500);
    assert!(reader.get_seq(2003).unwrap().is_some());
}

#[test]
fn a_changed_byte_in_a_body_is_noticed() {
    let (dir, store) = open();
    put(&store, entry(0)).unwrap();
    store.close();
    let conn = rusqlite::Connection::open(dir.path().join("calltap.db")).unwrap();
    conn.execute("UPDATE bodies SET request = zeroblob(10)", []).unwrap();
    let reader = Reader::open(dir.path()).unwrap();
    let stored = reader.get_seq(1).unwrap().unwrap();
    assert!(stored.record.notes[0].contains("request"), "{:?}", stored.record.notes);
    assert_eq!(reader.verify(&mut |_, _| ()).unwrap().bodies_bad, [stored.record.id]);
    conn.execute("UPDATE docs SET doc = 'x'", []).unwrap();
    let stored = reader.get_seq(1).unwrap().unwrap();
    assert_eq!(stored.record.model.requested.as_deref(), Some("gpt-4o"));
    assert_eq!(reader.list(&Query::default(), 1, None).unwrap().items.len(), 1);
}

#[test]
fn a_newer_file_is_not_touched() {
    let (dir, store) = open();
    put(&store, entry(0)).unwrap();
    store.close();
    let file = dir.path().join("calltap.db");
    let conn = rusqlite::Connection::open(&file).unwrap();
    conn.pragma_update(None, "user_version", 99).unwrap();
    drop(conn);
    let before = std::fs::read(&file).unwrap();
    assert!(matches!(Store::open(dir.path(), &Options::default()), Err(StoreError::Newer(_))));
    assert!(matches!(Reader::open(dir.path()), Err(StoreError::Newer(_))));
    assert_eq!(std::fs::read(&file).unwrap(), before);
}

#[cfg(unix)]
#[test]
fn only_the_owner_can_read() {
    use std::os::unix::fs::PermissionsExt;
    let parent = tempfile::tempdir().unwrap();
    let dir = parent.path().join("data");
    let store = Store::open(&dir, &Options::default()).unwrap();
    put(&store, entry(0)).unwrap();
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&dir), 0o700);
    for file in std::fs::read_dir(&dir).unwrap() {
        assert_eq!(mode(&file.unwrap().path()), 0o600);
    }
}

#[test]
fn readers_and_writer_do_not_disturb_each_other() {
    let (_dir, store) = open();
    let reader = store.reader().unwrap();
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                for _ in 0..100 {
                    reader.list(&query("status:ok"), 50, None).unwrap();
                    reader.stats(&Query::default(), GroupBy::Model).unwrap();
                }
            });
        }
        for at in 0..500 {
            store.append(entry(at), None);
        }
    });
    wait_for(|| *store.committed().borrow() == 500);
}

#[test]
fn a_removed_directory_is_made_again() {
    let parent = tempfile::tempdir().unwrap();
    let dir = parent.path().join("data");
    let store = Store::open(&dir, &Options::default()).unwrap();
    put(&store, entry(0)).unwrap();
    std::fs::remove_dir_all(&dir).unwrap();
    wait_for(|| dir.join("calltap.db").exists());
    assert_eq!(put(&store, entry(0)), Ok(2));
    assert_eq!(store.reader().unwrap().info().unwrap().calls, 1);
}

#[test]
fn a_backup_is_a_store() {
    let (dir, store) = open();
    for at in 0..100 {
        put(&store, entry(at)).unwrap();
    }
    let copy = tempfile::tempdir().unwrap();
    let to = copy.path().join("calltap.db");
    std::thread::scope(|scope| {
        scope.spawn(|| (0..50).for_each(|at| store.append(entry(at), None)));
        store.reader().unwrap().backup(&to, &mut |_, _| ()).unwrap();
    });
    assert!(store.reader().unwrap().backup(&to, &mut |_, _| ()).is_err());
    let copied = Reader::open(copy.path()).unwrap();
    assert!(copied.info().unwrap().calls >= 100);
    assert!(copied.verify(&mut |_, _| ()).unwrap().integrity.is_empty());
    drop(dir);
}

#[test]
fn the_log_is_cut_after_a_long_reader() {
    let (dir, store) = open();
    put(&store, entry(0)).unwrap();
    let wal = || std::fs::metadata(dir.path().join("calltap.db-wal")).map_or(0, |file| file.len());
    let noise = noise(400_000);
    let reader = rusqlite::Connection::open(dir.path().join("calltap.db")).unwrap();
    reader.execute_batch("BEGIN; SELECT count(*) FROM calls").unwrap();
    for _ in 0..200 {
        let mut entry = entry(0);
        let kept = Bytes::from(noise.clone());
        entry.bodies.as_mut().unwrap().response = Body { total: 400_000, kept, sha256: None };
        put(&store, entry).unwrap();
    }
    assert!(wal() > 64 << 20, "{}", wal());
    reader.execute_batch("COMMIT").unwrap();
    wait_for(|| wal() <= 64 << 20);
}
