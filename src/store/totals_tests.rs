//! Totals from the roll-ups equal those from the calls, whatever is asked and however calls were revised.

use super::rollup_tests::{filled, rolled};
use super::tests::{open, query};
use super::*;

/// Everything but percentiles and text.
fn facts(rows: &[StatRow]) -> Vec<(Option<String>, u64, u64, u64, String, u64)> {
    let fact = |row: &StatRow| {
        let StatRow { key, calls, errors, input_tokens, cost, unpriced, .. } = row.clone();
        (key, calls, errors, input_tokens, cost, unpriced)
    };
    rows.iter().map(fact).collect()
}

#[test]
fn totals_from_rollups_equal_the_calls() {
    let (_dir, store) = open();
    let start = filled(&store);
    let reader = store.reader().unwrap();
    rolled(&reader, start);
    let half = start.plus_us(4_567_890_123);
    let late = start.plus_us(8 * 3_600_000_000 + 7);
    for (text, by, from_rollups) in [
        (String::new(), GroupBy::Nothing, true),
        (String::new(), GroupBy::Model, true),
        (String::new(), GroupBy::Day, true),
        (String::new(), GroupBy::Outcome, true),
        (String::new(), GroupBy::User, false),
        ("prompt:p1".to_owned(), GroupBy::Prompt, true),
        ("prompt:p1".to_owned(), GroupBy::Nothing, true),
        ("prompt:p1".to_owned(), GroupBy::Day, true),
        ("prompt:p1".to_owned(), GroupBy::Model, false),
        ("prompt:p*".to_owned(), GroupBy::Prompt, false),
        ("model:m1".to_owned(), GroupBy::Model, false),
        (format!("since:{half}"), GroupBy::Model, true),
        (format!("since:{half} before:{late}"), GroupBy::Model, true),
        (format!("since:{half} before:{late} prompt:p2"), GroupBy::Prompt, true),
        (format!("since:{half} before:{}", half.plus_us(1000)), GroupBy::Model, false),
        ("prompt:nothing-like-it".to_owned(), GroupBy::Prompt, true),
        ("-prompt:p1".to_owned(), GroupBy::Nothing, false),
    ] {
        let totals = reader.totals(&query(&text), by).unwrap();
        let exact = reader.stats(&query(&text), by).unwrap();
        assert_eq!(facts(&totals.rows), facts(&exact), "{text} {by:?}");
        assert_eq!(totals.exact, !from_rollups, "{text} {by:?}");
        for (near, exact) in totals.rows.iter().zip(&exact) {
            let (near, exact) = (near.latency_p50_ms.unwrap(), exact.latency_p50_ms.unwrap());
            assert!((near - exact).abs() <= exact * 0.023 + 0.001, "{near} for {exact}");
        }
    }
}

#[test]
fn revised_calls_change_totals_and_pruned_ones_stay_in_them() {
    let (dir, store) = open();
    let start = filled(&store);
    rolled(&store.reader().unwrap(), start);
    store.close();
    drop(store);
    let file = dir.path().join(schema::FILE);
    let conn = rusqlite::Connection::open(&file).unwrap();
    conn.execute("DELETE FROM calls WHERE seq <= 100", []).unwrap();
    drop(conn);
    let mut rewriter = Rewriter::open(dir.path(), "recost", "", false).unwrap();
    let mut finished = false;
    while !finished {
        let mut dearer = |stored: Stored| {
            let mut record = stored.record;
            record.cost.total = Some("0.003".to_owned());
            Some(Entry { record, bodies: None, answer: None, json: None, text: None })
        };
        finished = rewriter.step(&query(""), &mut dearer).unwrap().finished;
    }
    drop(rewriter);
    let reader = Reader::open(dir.path()).unwrap();
    let all = &reader.totals(&query(""), GroupBy::Nothing).unwrap().rows[0];
    // A hundred at the old price, nine hundred at the new one.
    assert_eq!((all.calls, all.cost.as_str()), (1000, "2.8"));
    assert_eq!(reader.stats(&query(""), GroupBy::Nothing).unwrap()[0].cost, "2.7");
    let by_model = reader.totals(&query(""), GroupBy::Model).unwrap().rows;
    assert_eq!(by_model.iter().map(|row| row.calls).sum::<u64>(), 1000);
    let series = reader.series(&Question {
        from: start,
        to: start.plus_us(10 * 3_600_000_000),
        by: "nothing".to_owned(),
        limit: 1,
        query: query(""),
    });
    assert_eq!(series.unwrap().totals.latency_max_ms, Some(1000.0));
}

#[test]
fn pruning_by_hand() {
    let (dir, store) = open();
    filled(&store);
    store.close();
    drop(store);
    let options = crate::config::Store {
        keep_calls: crate::config::Period(std::time::Duration::from_hours(15)),
        ..crate::config::Store::default()
    };
    let pruned = prune(dir.path(), &options, &mut || {}).unwrap();
    let reader = Reader::open(dir.path()).unwrap();
    let left = reader.info().unwrap().calls;
    assert!((1..1000).contains(&left), "{left}");
    assert_eq!(pruned.calls, 1000 - left);
    let all = &reader.totals(&query(""), GroupBy::Nothing).unwrap();
    assert_eq!((all.rows[0].calls, all.exact), (1000, false), "totals stay");
    assert_eq!(prune(dir.path(), &options, &mut || {}).unwrap().calls, 0);
}
