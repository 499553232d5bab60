//! Totals by hour and by session equal what the calls say, however they are cut and whenever asked.

use super::tests::{open, query, record, wait_for};
use super::*;
use crate::{
    model::Outcome,
    query::{Field, Query},
};
use std::time::Duration;

const HOUR_US: i64 = 3_600_000_000;

/// 1000 calls over ten hours, of which every tenth failed.
pub(super) fn filled(store: &Store) -> Timestamp {
    let start = Timestamp((Timestamp::now().0 / HOUR_US - 20) * HOUR_US);
    for at in 0..1000_i64 {
        let mut record = record(at);
        record.started_at = start.plus_us(at * HOUR_US / 100);
        record.ended_at = record.started_at.plus_us(1_000_000);
        record.model.served = Some(format!("m{}", at % 3));
        record.tags.prompt = (at % 4 > 0).then(|| format!("p{}", at % 4));
        record.tags.prompt_version = (at % 8 > 3).then(|| "2".to_owned());
        record.tags.session = (at % 2 == 0).then(|| format!("s/{}", at % 20));
        record.tags.labels = vec!["a".to_owned()];
        record.outcome = if at % 10 == 0 { Outcome::ProviderError } else { Outcome::Completed };
        #[expect(clippy::cast_precision_loss, reason = "small numbers")]
        let latency = (at + 1) as f64;
        record.timing.latency_ms = latency;
        record.usage.input = Some(10);
        record.cost.total = Some("0.001".to_owned());
        store.append(
            Entry {
                record,
                bodies: None,
                answer: Some("an answer".to_owned()),
                json: None,
                text: None,
            },
            None,
        );
    }
    wait_for(|| *store.committed().borrow() == 1000);
    start
}

pub(super) fn rolled(reader: &Reader, start: Timestamp) {
    wait_for(|| reader.series(&question(start, "nothing", "")).unwrap().lag == 0);
}

fn question(start: Timestamp, by: &str, text: &str) -> Question {
    let to = start.plus_us(10 * HOUR_US);
    Question { from: start, to, by: by.to_owned(), limit: 2, query: query(text) }
}

#[test]
fn series_add_up_to_the_calls() {
    let (_dir, store) = open();
    let start = filled(&store);
    let reader = store.reader().unwrap();
    rolled(&reader, start);
    let by_model = reader.series(&question(start, "model", "")).unwrap();
    assert_eq!((by_model.step_s, by_model.times.len(), by_model.complete), (3600, 10, true));
    assert_eq!((by_model.totals.calls, by_model.totals.errors), (1000, 100));
    assert_eq!((by_model.totals.cost.as_str(), by_model.totals.input_tokens), ("1", 10_000));
    // Two models by name, the third in the rest.
    assert_eq!(by_model.series.len(), 3);
    let (first, rest) = (&by_model.series[0], &by_model.series[2]);
    assert_eq!((first.key.as_deref(), first.totals.calls, first.other), (Some("m0"), 334, false));
    assert_eq!((rest.key.as_deref(), rest.totals.calls, rest.other), (None, 333, true));
    assert_eq!(first.calls.iter().sum::<i64>(), 334);
    let median = by_model.totals.latency_p50_ms.unwrap();
    assert!((median - 500.0).abs() < 500.0 * 0.023, "{median}");
    // A question that the roll-ups do not know is answered from the calls, and agrees.
    let by_calls = reader.series(&question(start, "model", "input:10 since:48h")).unwrap();
    assert_eq!(by_calls.totals.calls, 1000);
    assert_eq!(by_calls.series[0].calls, first.calls);
    assert_eq!(by_calls.totals.latency_p50_ms, by_model.totals.latency_p50_ms);
    let one = reader.series(&question(start, "version", "prompt:p1")).unwrap();
    let keys: Vec<_> = one.series.iter().map(|line| line.key.as_deref()).collect();
    assert_eq!((one.totals.calls, keys), (250, vec![None, Some("2")]));
    assert!(matches!(reader.series(&question(start, "weather", "")), Err(StoreError::Invalid(_))));
}

#[test]
fn totals_are_made_again_when_the_cursor_is_gone() {
    let (dir, store) = open();
    let start = filled(&store);
    let reader = store.reader().unwrap();
    rolled(&reader, start);
    let conn = rusqlite::Connection::open(dir.path().join("calltap.db")).unwrap();
    conn.execute("DELETE FROM cursors WHERE name = 'rollups'", []).unwrap();
    rolled(&reader, start);
    assert_eq!(reader.series(&question(start, "nothing", "")).unwrap().totals.calls, 1000);
    assert_eq!(reader.session("s/4").unwrap().unwrap()["calls"], 50);
}

#[test]
fn sessions_by_their_latest_call() {
    let (_dir, store) = open();
    filled(&store);
    let reader = store.reader().unwrap();
    // Whatever the roll-ups have reached, the list is the same.
    for _ in 0..3 {
        let (mut names, mut after) = (Vec::new(), None);
        loop {
            let page = reader.sessions(&Query::default(), 3, after.as_deref()).unwrap();
            names
                .extend(page.items.iter().map(|item| item["session"].as_str().unwrap().to_owned()));
            after = page.next;
            if after.is_none() {
                break;
            }
        }
        let expected: Vec<String> = (0..10).rev().map(|at| format!("s/{}", at * 2)).collect();
        assert_eq!(names, expected);
        std::thread::sleep(Duration::from_millis(60));
    }
    let session = reader.session("s/10").unwrap().unwrap();
    assert_eq!((&session["calls"], &session["errors"]), (&50.into(), &50.into()));
    assert_eq!((session["cost"].as_str(), &session["input_tokens"]), (Some("0.05"), &500.into()));
    assert_eq!(session["models"].as_array().unwrap().len(), 3);
    assert_eq!(reader.session("nobody").unwrap(), None);
    let failed = reader.sessions(&query("status:error prompt:p2"), 100, None).unwrap();
    let names: Vec<_> = failed.items.iter().map(|item| item["session"].as_str().unwrap()).collect();
    assert_eq!(names, ["s/10"], "only calls that match count");
}

#[test]
fn turns_in_order_without_gaps() {
    let (_dir, store) = open();
    filled(&store);
    let reader = store.reader().unwrap();
    let (mut seqs, mut after) = (Vec::new(), None);
    loop {
        let page = reader.turns("s/4", 7, after.as_deref(), None).unwrap();
        let before = page.before.as_ref().and_then(|stored| stored.record.seq);
        assert_eq!(before, seqs.last().copied());
        seqs.extend(page.calls.iter().map(|stored| stored.record.seq.unwrap()));
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    assert_eq!(seqs, (0..50).map(|at| at * 20 + 5).collect::<Vec<i64>>());
    let id = reader.get_seq(45).unwrap().unwrap().record.id.to_string();
    let page = reader.turns("s/4", 2, None, Some(&id)).unwrap();
    assert_eq!(page.calls[0].record.seq, Some(45));
    assert!(matches!(reader.turns("s/4", 2, Some("1-0"), None), Err(StoreError::Invalid(_))));
}

#[test]
fn facets_count_what_matches() {
    let (_dir, store) = open();
    filled(&store);
    let reader = store.reader().unwrap();
    let fields = [Field::Model, Field::Prompt, Field::Tag];
    let count = |time, text| reader.facets_within(time, &query(text), &fields, 2, "").unwrap();
    let facets = count(Duration::from_mins(1), "status:error");
    assert_eq!((facets.scanned, facets.complete), (100, true));
    let values = |at: usize| -> Vec<(&str, u64)> {
        facets.items[at].values.iter().map(|count| (count.value.as_str(), count.count)).collect()
    };
    assert_eq!((values(0), facets.items[0].more), (vec![("m0", 34), ("m1", 33)], true));
    assert_eq!((values(1), facets.items[1].more), (vec![("p2", 50)], false));
    assert_eq!(values(2), [("a", 100)]);
    // What is counted when the time is over is the answer, also where nothing matches.
    for text in ["", "-has:model path:/none"] {
        assert!(!count(Duration::ZERO, text).complete, "{text}");
    }
    let with_prefix = reader.facets(&query(""), &[Field::Prompt], 10, "p3").unwrap();
    assert_eq!(with_prefix.items[0].values.len(), 1);
}

#[test]
fn prompts_with_their_versions() {
    let (_dir, store) = open();
    let start = filled(&store);
    let reader = store.reader().unwrap();
    rolled(&reader, start);
    let prompts = reader.prompts(start).unwrap();
    assert_eq!(
        prompts.iter().map(|row| row.prompt.as_str()).collect::<Vec<_>>(),
        ["p3", "p2", "p1"]
    );
    assert_eq!((prompts[0].versions, prompts[0].totals.calls), (2, 250));
    assert_eq!(prompts[0].spark.iter().sum::<i64>(), 250);
    let (totals, versions) = reader.prompt("p2", start).unwrap().unwrap();
    assert_eq!((totals.calls, versions.len()), (250, 2));
    assert_eq!(versions[0].version.as_deref(), Some("2"));
    assert!(versions.iter().all(|version| version.sample_id.is_some()));
    assert!(reader.prompt("p", start).unwrap().is_none());
}
