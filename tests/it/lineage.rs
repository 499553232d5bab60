//! Sessions of responses that go on from one another.

use crate::harness::{Calltap, Upstream, json_answer, post};
use serde_json::{Value, json};
use std::sync::atomic::{AtomicU64, Ordering};

#[test]
fn a_chain_of_responses_is_one_session() {
    let count = AtomicU64::new(0);
    let upstream = Upstream::start(move |_| {
        let id = count.fetch_add(1, Ordering::Relaxed) + 1;
        json_answer(
            200,
            &json!({"id": format!("resp_{id}"), "object": "response", "status": "completed", "model": "m",
                "output": [], "usage": {"input_tokens": 1, "output_tokens": 1, "total_tokens": 2}})
            .to_string(),
        )
    });
    let calltap = Calltap::start(&upstream);
    for previous in [None, Some("resp_1"), Some("resp_2")] {
        let body = json!({"model": "m", "input": "hi", "previous_response_id": previous});
        post(calltap.address, "/v1/responses", "", &body.to_string());
    }
    let calls = calltap.wait_calls("", 3);
    let records: Vec<Value> =
        calls.iter().map(|call| calltap.record(call["id"].as_str().unwrap())).collect();
    let sessions: Vec<&Value> = records.iter().map(|record| &record["tags"]["session"]).collect();
    assert_eq!(sessions, [&json!("resp_1"); 3]);
    assert!(records.iter().all(|record| record["usage"]["total"] == 2));
}
