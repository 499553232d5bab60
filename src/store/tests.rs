use super::*;
use crate::model::{Endpoint, Head, Outcome};
use rusqlite::params;
use std::time::{Duration, Instant};

fn record(session: &str) -> Record {
    let mut record = crate::interpret::begun(&Head {
        id: Uuid::now_v7(),
        started_at: Timestamp::now(),
        method: "POST".into(),
        path: "/v1/chat/completions".into(),
        endpoint: Endpoint::of("/v1/chat/completions"),
        ..Head::default()
    });
    record.outcome = Outcome::Completed;
    record.tags.session = Some(session.to_owned());
    record
}

fn entry(session: &str, request: &str) -> Entry {
    let body = Body {
        kept: Bytes::copy_from_slice(request.as_bytes()),
        total: u64::try_from(request.len()).unwrap(),
        sha256: None,
    };
    Entry {
        record: record(session),
        bodies: Some(Bodies { request: body, ..Bodies::default() }),
        text: Some(Text { input: request.to_owned(), output: String::new() }),
    }
}

fn open(dir: &Path) -> Store {
    Store::open(dir, &config::Store::default()).unwrap()
}

/// Appends and waits for the commit.
fn put(store: &Store, entry: Entry) -> i64 {
    let (done, wait) = oneshot::channel();
    store.append(entry, Some(done));
    wait.blocking_recv().unwrap().unwrap()
}

fn query(text: &str) -> crate::query::Query {
    text.parse().unwrap()
}

#[test]
fn what_is_acknowledged_survives_a_reopening() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let long = "question ".repeat(200);
    let stored = entry("s1", &long);
    let id = stored.record.id;
    assert_eq!(put(&store, stored), 1);
    assert_eq!(*store.committed().borrow(), 1);
    store.close();
    drop(store);
    let store = open(dir.path());
    let back = store.reader().unwrap().get(&id.to_string()).unwrap().unwrap();
    assert_eq!(back.record.seq, Some(1));
    assert_eq!(back.bodies.unwrap().request.kept, long.as_bytes());
    assert_eq!(put(&store, entry("s2", "next")), 2, "a number is never given twice");
}

#[test]
fn running_calls_become_interrupted_records() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let (ended, running) = (record("ended"), record("running"));
    let started = |record: &Record| Started {
        record: record.clone(),
        request: Some(Bytes::from_static(b"{\"a\":1}")),
    };
    store.journal(vec![started(&ended), started(&running)]);
    put(&store, Entry { record: ended.clone(), bodies: None, text: None });
    store.close();
    drop(store);
    let reader = open(dir.path()).reader().unwrap();
    assert_eq!(
        reader.get(&ended.id.to_string()).unwrap().unwrap().record.outcome,
        Outcome::Completed
    );
    let left = reader.get(&running.id.to_string()).unwrap().unwrap();
    assert_eq!(left.record.outcome, Outcome::Interrupted);
    assert_eq!(left.bodies.unwrap().request.kept, &b"{\"a\":1}"[..]);
    assert_eq!(reader.info().unwrap().calls, 2);
}

#[test]
fn a_repeated_id_is_kept_under_another_and_linked() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let first = entry("s", "one");
    let mut second = entry("s", "two");
    second.record.id = first.record.id;
    let id = first.record.id;
    put(&store, first);
    put(&store, second);
    let rows = store.reader().unwrap().list(&query(""), 10, None).unwrap().items;
    assert_eq!(rows[1]["id"], id.to_string());
    assert_ne!(rows[0]["id"], id.to_string());
    assert_eq!(rows[0]["repeats"], id.to_string());
}

#[test]
fn pages_have_no_gaps_and_no_repeats() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    for at in 0..499 {
        store.append(entry(if at % 2 == 0 { "even" } else { "odd" }, "x"), None);
    }
    put(&store, entry("even", "x"));
    let reader = store.reader().unwrap();
    let (mut seen, mut after) = (Vec::new(), None);
    loop {
        let page = reader.list(&query("session:even"), 37, after.as_deref()).unwrap();
        seen.extend(page.items.iter().map(|row| row["seq"].as_i64().unwrap()));
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    assert_eq!(seen.len(), 251);
    assert!(seen.windows(2).all(|pair| pair[0] > pair[1]));
    assert!(matches!(reader.list(&query(""), 5, Some("forged")), Err(StoreError::Invalid(_))));
    let forward = reader.since(&query("session:even"), 0, 1000).unwrap();
    assert_eq!(forward.iter().map(|(seq, _)| *seq).rev().collect::<Vec<_>>(), seen);
}

#[test]
fn queries_find_what_they_say() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let mut special = entry("s1", "How do 100% of whales_sleep?");
    special.record.model.served = Some("gpt-4o-mini-2024-07-18".into());
    special.record.tags.labels = vec!["Beta".into(), "x".into()];
    special.record.tags.metadata.insert("order".into(), 123.into());
    special.record.timing.latency_ms = 2500.0;
    special.record.cost.total = Some("0.06".into());
    special.record.outcome = Outcome::ProviderError;
    special.record.status = Some(429);
    store.append(entry("s2", "nothing"), None);
    put(&store, special);
    let reader = store.reader().unwrap();
    let count = |text: &str| reader.list(&query(text), 10, None).unwrap().items.len();
    for found in [
        "model:gpt-4o*",
        "model:GPT-4O-MINI-2024-07-18",
        "tag:beta",
        "meta.order:123",
        "latency:>2s",
        "cost:>0.05",
        "status:429",
        "status:4xx",
        "status:error",
        "outcome:provider_error",
        "whales",
        "\"100% of whales_sleep\"",
        "session:s1 -session:s2",
        "(session:s1 OR session:s9)",
        "has:cost",
        "since:1h session:s1",
        "-tag:nope session:s1",
    ] {
        assert_eq!(count(found), 1, "{found}");
    }
    for missed in
        ["model:gpt-4o", "cost:>0.07", "before:1h", "\"100 of\"", "whalesXsleep", "stream:true"]
    {
        assert_eq!(count(missed), 0, "{missed}");
    }
}

#[test]
fn totals_are_exact() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    for at in 1..=100_u32 {
        let mut one = entry("s", "x");
        one.record.cost.total = Some("0.000000000001".into());
        one.record.timing.latency_ms = f64::from(at);
        one.record.usage.input = Some(3);
        store.append(one, None);
    }
    put(&store, entry("t", "x"));
    let rows = store.reader().unwrap().stats(&query(""), GroupBy::Session).unwrap();
    assert_eq!(rows[0].key.as_deref(), Some("s"));
    assert_eq!((rows[0].calls, rows[0].input_tokens), (100, 300));
    assert_eq!(rows[0].cost, "0.0000000001");
    assert_eq!((rows[0].latency_p50_ms, rows[0].latency_p95_ms), (Some(50.0), Some(95.0)));
}

#[test]
fn one_owner_at_a_time() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let second = Store::open(dir.path(), &config::Store::default());
    assert!(matches!(second, Err(StoreError::Locked(_))), "{second:?}");
    drop(store);
}

#[test]
fn a_newer_file_is_left_alone_and_a_damaged_one_set_aside() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(DATABASE);
    let connection = Connection::open(&path).unwrap();
    connection.pragma_update(None, "user_version", 99).unwrap();
    drop(connection);
    let newer = Store::open(dir.path(), &config::Store::default());
    assert!(matches!(newer, Err(StoreError::Newer(_))), "{newer:?}");
    fs::write(&path, b"this is no database, and long enough to be looked at".repeat(100)).unwrap();
    let store = open(dir.path());
    put(&store, entry("s", "x"));
    let aside = fs::read_dir(dir.path()).unwrap().filter_map(Result::ok);
    assert!(
        aside.into_iter().any(|file| file.file_name().to_string_lossy().starts_with("damaged-"))
    );
}

#[test]
fn damage_to_a_body_is_noticed() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let stored = entry("s", "hello");
    let id = stored.record.id;
    put(&store, stored);
    store.close();
    drop(store);
    let connection = Connection::open(dir.path().join(DATABASE)).unwrap();
    connection.execute("UPDATE bodies SET request = ?1", params![b"hullo"]).unwrap();
    drop(connection);
    let reader = Reader::open(dir.path()).unwrap();
    assert!(reader.get(&id.to_string()).unwrap().unwrap().bodies.is_none());
    assert_eq!(reader.verify(&mut |_, _| {}).unwrap().bodies_bad, [id]);
}

#[test]
fn retention_removes_bodies_before_calls() {
    let dir = tempfile::tempdir().unwrap();
    let day = 86_400_000_000;
    let store = open(dir.path());
    for days in [0, 40, 400] {
        let mut old = entry("s", "x");
        old.record.started_at = Timestamp(Timestamp::now().0 - days * day);
        put(&store, old);
    }
    let reader = store.reader().unwrap();
    let until = Instant::now() + Duration::from_secs(20);
    loop {
        let info = reader.info().unwrap();
        if (info.calls, info.bodies) == (2, 1) {
            break;
        }
        assert!(Instant::now() < until, "{info:?}");
        std::thread::sleep(Duration::from_millis(50));
    }
}
