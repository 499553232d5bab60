//! What can be read many times counts once: polled responses and downloaded files.

use crate::harness::{Calltap, Upstream, fetch, json_answer, post};
use serde_json::{Value, json};
use std::sync::atomic::{AtomicU64, Ordering};

/// A background response that is done at the second poll, and the output file of a batch.
fn upstream() -> Upstream {
    let polls = AtomicU64::new(0);
    Upstream::start(move |request| {
        let usage = json!({"input_tokens": 3, "output_tokens": 4, "total_tokens": 7});
        if request.line.contains("/content") {
            let line = json!({"custom_id": "c", "response": {"status_code": 200, "body": {"model": "gpt-4o-mini",
                "usage": {"prompt_tokens": 5, "completion_tokens": 6, "total_tokens": 11}}}});
            return json_answer(200, &line.to_string());
        }
        let is_done = request.line.starts_with("GET") && polls.fetch_add(1, Ordering::Relaxed) > 0;
        let status = if is_done { "completed" } else { "queued" };
        let usage = if is_done { usage } else { Value::Null };
        json_answer(
            200,
            &json!({"id": "resp_b", "object": "response", "status": status, "model": "gpt-4o-mini", "background": true,
                "output": [], "usage": usage})
            .to_string(),
        )
    })
}

fn totals(calltap: &Calltap, count: usize) -> Vec<(Value, bool)> {
    let calls = calltap.wait_calls("", count);
    let records = calls.iter().rev().map(|call| calltap.record(call["id"].as_str().unwrap()));
    let noted =
        |record: &Value| record["notes"].to_string().contains("counted in an earlier record");
    records.map(|record| (record["usage"]["total"].clone(), noted(&record))).collect()
}

#[test]
fn what_was_counted_is_not_counted_again_also_after_a_restart() {
    let upstream = upstream();
    let mut calltap = Calltap::start(&upstream);
    let get = |calltap: &Calltap, path: &str| assert!(fetch(calltap.address, path).unwrap().whole);
    let body = r#"{"model":"gpt-4o-mini","background":true,"input":"x"}"#;
    assert!(post(calltap.address, "/v1/responses", "", body).whole);
    for at in 1..4 {
        get(&calltap, "/v1/responses/resp_b");
        calltap.wait_calls("", at + 1);
    }
    get(&calltap, "/v1/files/file-o/content");
    calltap.wait_calls("", 5);
    get(&calltap, "/v1/files/file-o/content");
    let null = || (Value::Null, false);
    let again = || (Value::Null, true);
    let expected = [null(), null(), (json!(7), false), again(), (json!(11), false), again()];
    assert_eq!(totals(&calltap, 6), expected);
    calltap.kill();
    calltap.restart();
    get(&calltap, "/v1/responses/resp_b");
    get(&calltap, "/v1/files/file-o/content");
    assert_eq!(totals(&calltap, 8)[6..], [again(), again()]);
    calltap.signal("TERM");
    assert!(calltap.wait().success());
    let again = calltap.command().args(["reindex", "--json"]).output().unwrap();
    assert!(again.status.success());
    calltap.restart();
    assert_eq!(totals(&calltap, 8)[..6], expected);
}
