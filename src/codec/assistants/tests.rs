//! Runs as they stream, and the objects around them.

use crate::codec::{Meaning, Reading, read};
use crate::model::{Endpoint, UsageSource};
use serde_json::{Value, json};

fn reading(endpoint: &str, request: &Value, response: &str) -> Meaning {
    read(&Reading {
        endpoint: &Endpoint::from(endpoint),
        provider: "openai",
        method: "POST",
        path: "/v1/threads/thread_1/runs",
        request: request.to_string().as_bytes(),
        status: Some(200),
        content_type: None,
        response: response.as_bytes(),
    })
}

fn stream(events: &[(&str, Value)]) -> Meaning {
    let mut body: String =
        events.iter().map(|(name, data)| format!("event: {name}\ndata: {data}\n\n")).collect();
    body.push_str("event: done\ndata: [DONE]\n\n");
    reading("assistants.run", &json!({"assistant_id": "asst_1", "stream": true}), &body)
}

fn run(status: &str, more: &Value) -> Value {
    let mut run = json!({"id": "run_1", "object": "thread.run", "thread_id": "thread_1",
        "assistant_id": "asst_1", "status": status, "model": "gpt-4o", "usage": null});
    run.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    run
}

fn delta(object: &str, id: &str, delta: &Value) -> Value {
    json!({"id": id, "object": object, "delta": delta})
}

#[test]
fn deltas_grow_and_whole_objects_replace() {
    let text = |index: u64, value: &str| {
        delta(
            "thread.message.delta",
            "msg_1",
            &json!({"content": [{"index": index, "type": "text", "text": {"value": value, "annotations": [{"type": "file_citation", "text": value}]}}]}),
        )
    };
    let call = |part: Value| {
        delta(
            "thread.run.step.delta",
            "step_1",
            &json!({"step_details": {"type": "tool_calls", "tool_calls": [part]}}),
        )
    };
    let meaning = stream(&[
        ("thread.run.created", run("queued", &json!({}))),
        (
            "thread.run.step.created",
            json!({"id": "step_1", "object": "thread.run.step", "type": "tool_calls", "step_details": {"type": "tool_calls", "tool_calls": []}}),
        ),
        (
            "thread.run.step.delta",
            call(
                json!({"index": 0, "id": "call_1", "type": "code_interpreter", "code_interpreter": {"input": "1", "outputs": []}}),
            ),
        ),
        (
            "thread.run.step.delta",
            call(
                json!({"index": 0, "type": "code_interpreter", "code_interpreter": {"input": "+1", "outputs": [{"index": 0, "type": "logs", "logs": "2"}]}}),
            ),
        ),
        (
            "thread.message.created",
            json!({"id": "msg_1", "object": "thread.message", "role": "assistant", "content": []}),
        ),
        ("thread.message.delta", text(1, "b")),
        ("thread.message.delta", text(0, "a")),
        ("thread.message.delta", text(1, "c")),
        (
            "thread.message.created",
            json!({"id": "msg_2", "object": "thread.message", "role": "assistant", "content": []}),
        ),
        (
            "thread.message.completed",
            json!({"id": "msg_2", "object": "thread.message", "role": "assistant", "status": "completed", "content": [{"type": "text", "text": {"value": "whole", "annotations": []}}]}),
        ),
        (
            "thread.run.completed",
            run(
                "completed",
                &json!({"usage": {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7}}),
            ),
        ),
    ]);
    let response = meaning.response.unwrap();
    let part = |text: &str, citations: &[&str]| {
        let annotations: Vec<Value> =
            citations.iter().map(|text| json!({"type": "file_citation", "text": text})).collect();
        json!({"type": "text", "text": {"value": text, "annotations": annotations}})
    };
    assert_eq!(
        response["messages"][0]["content"],
        json!([part("a", &["a"]), part("bc", &["b", "c"])])
    );
    assert_eq!(response["messages"][1]["content"][0]["text"]["value"], "whole");
    assert_eq!(
        response["steps"][0]["step_details"]["tool_calls"],
        json!([{"id": "call_1", "type": "code_interpreter",
            "code_interpreter": {"input": "1+1", "outputs": [{"type": "logs", "logs": "2"}]}}])
    );
    assert_eq!((meaning.first_output_event, meaning.output_events), (Some(2), 6));
    assert!(meaning.terminal && meaning.terminal_end.is_some());
    assert_eq!(meaning.finish_reasons, ["completed"]);
    assert_eq!(meaning.tags.session.as_deref(), Some("thread_1"));
    assert_eq!(meaning.tags.prompt.as_deref(), Some("asst_1"));
    let usage = meaning.usage.unwrap();
    assert_eq!((usage.source, usage.total), (UsageSource::None, None), "its messages count them");
    assert_eq!(usage.raw.unwrap()["total_tokens"], 7);
}

#[test]
fn a_streamed_run_without_messages_counts_its_own_tokens() {
    let meaning = stream(&[(
        "thread.run.failed",
        run(
            "failed",
            &json!({"usage": {"prompt_tokens": 3, "completion_tokens": 0, "total_tokens": 3},
            "last_error": {"code": "rate_limit_exceeded", "message": "slow down"}}),
        ),
    )]);
    assert_eq!(meaning.usage.unwrap().total, Some(3));
    let error = meaning.error.unwrap();
    assert_eq!(
        (error.kind.as_deref(), error.code.as_deref()),
        (Some("run_failed"), Some("rate_limit_exceeded"))
    );
    assert_eq!(error.message.as_deref(), Some("slow down"));
}

#[test]
fn ends_of_runs() {
    for (status, more, reason, fails) in [
        ("completed", json!({}), Some("completed"), false),
        (
            "incomplete",
            json!({"incomplete_details": {"reason": "max_prompt_tokens"}}),
            Some("max_prompt_tokens"),
            false,
        ),
        ("requires_action", json!({}), Some("requires_action"), false),
        ("cancelled", json!({}), Some("cancelled"), false),
        ("expired", json!({}), Some("expired"), true),
        ("failed", json!({}), Some("failed"), true),
        ("in_progress", json!({}), None, false),
    ] {
        let polled = reading("assistants.runs", &Value::Null, &run(status, &more).to_string());
        let streamed = stream(&[("thread.run", run(status, &more))]);
        for meaning in [polled, streamed] {
            assert_eq!(meaning.finish_reasons.first().map(String::as_str), reason, "{status}");
            assert_eq!(meaning.error.is_some(), fails, "{status}");
            assert_eq!(meaning.model_served.as_deref(), Some("gpt-4o"));
        }
    }
}

#[test]
fn an_error_in_the_stream_keeps_what_had_come() {
    let meaning = stream(&[
        ("thread.run.created", run("in_progress", &json!({}))),
        (
            "thread.message.delta",
            delta(
                "thread.message.delta",
                "msg_1",
                &json!({"content": [{"index": 0, "type": "text", "text": {"value": "a"}}]}),
            ),
        ),
        ("error", json!({"code": "server_error", "message": "oh"})),
    ]);
    assert_eq!(meaning.error.unwrap().code.as_deref(), Some("server_error"));
    let response = meaning.response.unwrap();
    assert_eq!(response["messages"][0]["content"][0]["text"]["value"], "a");
    assert_eq!(response["error"]["message"], "oh");
}

#[test]
fn the_question_of_a_run() {
    let asked = |request: Value| reading("assistants.run", &request, "").tags.user_query;
    let ask = |text: &str| json!([{"role": "user", "content": text}, {"role": "assistant", "content": "x"}]);
    assert_eq!(asked(json!({"thread": {"messages": ask("a")}})).as_deref(), Some("a"));
    assert_eq!(asked(json!({"additional_messages": ask("b")})).as_deref(), Some("b"));
    assert_eq!(asked(json!({})), None);
}

#[test]
fn plumbing_is_shown_and_counts_nothing() {
    let meaning = reading(
        "assistants.messages",
        &json!({"role": "user", "content": "hello", "metadata": {"plan": "pro"}}),
        r#"{"object":"thread.message","id":"msg_1"}"#,
    );
    assert_eq!(meaning.response.unwrap()["id"], "msg_1");
    assert!(meaning.parameters.is_empty() && meaning.usage.is_none());
    assert_eq!(meaning.tags.metadata["plan"], "pro");
}
