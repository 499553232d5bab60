use crate::codec::{Meaning, Reading, read};
use crate::model::Endpoint;
use serde_json::{Value, json};

fn stream(events: &[Value]) -> Meaning {
    let body: String = events.iter().map(|event| format!("data: {event}\n\n")).collect();
    of(&body, Some("text/event-stream"))
}

fn of(body: &str, content_type: Option<&str>) -> Meaning {
    read(&Reading {
        endpoint: &Endpoint::from("responses"),
        provider: "openai",
        method: "POST",
        path: "/v1/responses",
        request: br#"{"model":"m","input":"hi","previous_response_id":"resp_0"}"#,
        status: Some(200),
        content_type,
        response: body.as_bytes(),
    })
}

fn created() -> Value {
    json!({"type": "response.created", "response":
        {"id": "resp_1", "object": "response", "status": "in_progress", "model": "m-1", "output": []}})
}

/// The output that a stream without a terminal event amounts to.
fn output(parts: &[Value]) -> Value {
    let mut events = vec![created()];
    events.extend_from_slice(parts);
    let meaning = stream(&events);
    assert!(!meaning.terminal && meaning.finish_reasons.is_empty());
    let response = meaning.response.unwrap();
    assert_eq!((&response["id"], &response["status"]), (&json!("resp_1"), &json!("in_progress")));
    response["output"].clone()
}

#[test]
fn the_terminal_event_wins() {
    let item = json!({"type": "message", "id": "other", "content": [{"type": "output_text", "text": "whole"}]});
    let meaning = stream(&[
        created(),
        json!({"type": "response.output_item.added", "output_index": 0, "item": {"type": "message", "id": "a", "content": []}}),
        json!({"type": "response.output_text.delta", "output_index": 0, "content_index": 0, "delta": ""}),
        json!({"type": "response.output_text.delta", "output_index": 0, "content_index": 0, "delta": "who"}),
        json!({"type": "keepalive", "sequence_number": 9}),
        json!({"type": "response.completed", "response": {"id": "resp_1", "object": "response", "status": "completed",
            "model": "m-2", "service_tier": "flex", "output": [item], "conversation": {"id": "conv_1"},
            "usage": {"input_tokens": 2, "output_tokens": 3, "total_tokens": 5}}}),
    ]);
    assert_eq!(meaning.response.unwrap()["output"], json!([item]));
    assert_eq!((meaning.first_output_event, meaning.output_events), (Some(3), 1));
    assert_eq!(meaning.model_served.as_deref(), Some("m-2"));
    assert_eq!(meaning.service_tier.as_deref(), Some("flex"));
    assert_eq!(meaning.usage.unwrap().total, Some(5));
    assert_eq!(meaning.finish_reasons, ["completed"]);
    assert!(meaning.terminal && meaning.terminal_end.is_some() && meaning.error.is_none());
    assert_eq!(meaning.response_id.as_deref(), Some("resp_1"));
    assert_eq!(meaning.tags.metadata["previous_response_id"], "resp_0");
    assert_eq!(meaning.tags.session.as_deref(), Some("conv_1"));
}

#[test]
fn an_empty_terminal_object_is_filled_by_place() {
    let item = |id: &str| json!({"type": "function_call", "id": id, "arguments": "{}"});
    let meaning = stream(&[
        created(),
        json!({"type": "response.output_item.done", "output_index": 7, "item": item("b")}),
        json!({"type": "response.output_item.done", "output_index": 1, "item": item("a")}),
        json!({"type": "response.incomplete", "response": {"id": "resp_1", "object": "response", "status": "incomplete",
            "output": [], "incomplete_details": {"reason": "max_output_tokens"}}}),
    ]);
    assert_eq!(meaning.response.unwrap()["output"], json!([item("a"), item("b")]));
    assert_eq!(meaning.finish_reasons, ["max_output_tokens"]);
    assert!(meaning.error.is_none(), "a reason, not an error");
}

#[test]
fn messages_and_reasoning_are_put_together() {
    let added = |index: u64, item: Value| json!({"type": "response.output_item.added", "output_index": index, "item": item});
    let found = output(&[
        added(0, json!({"type": "reasoning", "id": "r", "summary": []})),
        json!({"type": "response.reasoning_summary_part.added", "output_index": 0, "summary_index": 0, "part": {"type": "summary_text", "text": ""}}),
        json!({"type": "response.reasoning_summary_text.delta", "output_index": 0, "summary_index": 0, "delta": "th"}),
        json!({"type": "response.reasoning_summary_text.delta", "output_index": 0, "summary_index": 0, "delta": "ink"}),
        json!({"type": "response.reasoning_text.delta", "output_index": 0, "content_index": 1, "delta": "raw"}),
        added(2, json!({"type": "message", "id": "m", "role": "assistant", "content": []})),
        json!({"type": "response.output_text.delta", "output_index": 2, "content_index": 0, "delta": "a", "logprobs": [{"token": "a"}], "obfuscation": "x"}),
        json!({"type": "response.output_text.annotation.added", "output_index": 2, "content_index": 0, "annotation_index": 0, "annotation": {"type": "url_citation"}}),
        json!({"type": "response.output_text.delta", "output_index": 2, "content_index": 0, "delta": "b", "logprobs": [{"token": "b"}]}),
        json!({"type": "response.refusal.delta", "output_index": 2, "content_index": 5, "delta": "n"}),
        json!({"type": "response.refusal.done", "output_index": 2, "content_index": 5, "refusal": "no"}),
        json!({"type": "response.something.new", "output_index": 2, "delta": 1}),
    ]);
    assert_eq!(
        found,
        json!([
            {"type": "reasoning", "id": "r", "content": [{"type": "reasoning_text", "text": "raw"}],
                "summary": [{"type": "summary_text", "text": "think"}]},
            {"type": "message", "id": "m", "role": "assistant", "content": [
                {"type": "output_text", "text": "ab", "logprobs": [{"token": "a"}, {"token": "b"}], "annotations": [{"type": "url_citation"}]},
                {"type": "refusal", "refusal": "no"},
            ]},
        ])
    );
}

#[test]
fn tool_items_are_put_together() {
    for (kind, event, member) in [
        ("function_call", "function_call_arguments", "arguments"),
        ("mcp_call", "mcp_call_arguments", "arguments"),
        ("custom_tool_call", "custom_tool_call_input", "input"),
        ("code_interpreter_call", "code_interpreter_call_code", "code"),
    ] {
        let added = json!({"type": "response.output_item.added", "output_index": 0, "item": {"type": kind, "id": "i", member: ""}});
        let delta = |text: &str| json!({"type": format!("response.{event}.delta"), "output_index": 0, "delta": text});
        let done =
            json!({"type": format!("response.{event}.done"), "output_index": 0, member: "all"});
        let found = output(&[added.clone(), delta("x"), delta("y")]);
        assert_eq!(found, json!([{"type": kind, "id": "i", member: "xy"}]));
        assert_eq!(output(&[added, delta("x"), done])[0][member], "all");
    }
    let patch = output(&[
        json!({"type": "response.output_item.added", "output_index": 0, "item": {"type": "apply_patch_call", "operation": {"type": "update_file", "diff": ""}}}),
        json!({"type": "response.apply_patch_call_operation_diff.delta", "output_index": 0, "delta": "@@"}),
        json!({"type": "response.apply_patch_call_operation_diff.delta", "output_index": 0, "delta": "-a"}),
    ]);
    assert_eq!(patch[0]["operation"], json!({"type": "update_file", "diff": "@@-a"}));
    let shell = output(&[
        json!({"type": "response.output_item.added", "output_index": 0, "item": {"type": "shell_call", "action": {"commands": []}}}),
        json!({"type": "response.shell_call_command.added", "output_index": 0, "command_index": 0, "command": ""}),
        json!({"type": "response.shell_call_command.delta", "output_index": 0, "command_index": 0, "delta": "ls"}),
        json!({"type": "response.shell_call_command.delta", "output_index": 0, "command_index": 1, "delta": "pw"}),
        json!({"type": "response.shell_call_command.done", "output_index": 0, "command_index": 1, "command": "pwd"}),
        json!({"type": "response.output_item.added", "output_index": 1, "item": {"type": "shell_call_output", "output": []}}),
        json!({"type": "response.shell_call_output_content.delta", "output_index": 1, "command_index": 0, "delta": {"stdout": "a"}}),
        json!({"type": "response.shell_call_output_content.delta", "output_index": 1, "command_index": 0, "delta": {"stdout": "b", "stderr": "c"}}),
    ]);
    assert_eq!(shell[0]["action"]["commands"], json!(["ls", "pwd"]));
    assert_eq!(shell[1]["output"], json!([{"stdout": "ab", "stderr": "c"}]));
}

#[test]
fn calls_begin_the_output_and_are_counted() {
    let item = |kind: &str, extra: Value| {
        let mut item = json!({"type": kind});
        item.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        item
    };
    let meaning = stream(&[
        created(),
        json!({"type": "response.output_item.added", "output_index": 0, "item": {"type": "reasoning"}}),
        json!({"type": "response.output_item.added", "output_index": 1, "item": {"type": "web_search_call"}}),
        json!({"type": "response.image_generation_call.partial_image", "output_index": 2, "partial_image_b64": "AAAA"}),
        json!({"type": "response.completed", "response": {"status": "completed", "output": [
            item("web_search_call", json!({"action": {"type": "search"}})),
            item("web_search_call", json!({"action": {"type": "open_page"}})),
            item("web_search_call", json!({})),
            item("file_search_call", json!({})),
            item("code_interpreter_call", json!({"container_id": "c1"})),
            item("code_interpreter_call", json!({"container_id": "c1"})),
        ]}}),
    ]);
    assert_eq!((meaning.first_output_event, meaning.output_events), (Some(2), 2));
    let tools: Vec<(&str, u64)> =
        meaning.tools.iter().map(|(name, n)| (name.as_str(), *n)).collect();
    assert_eq!(tools, [("web_search", 2), ("file_search", 1), ("code_session", 1)]);
    assert!(!meaning.response.unwrap().to_string().contains("AAAA"));
}

#[test]
fn failures_keep_what_had_arrived() {
    let text = json!({"type": "response.output_text.delta", "output_index": 0, "delta": "so far"});
    let told = json!({"type": "error", "sequence_number": 3, "error": {"type": "t", "code": "c", "message": "m", "param": null}});
    let failed = json!({"type": "response.failed", "response": {"id": "resp_1", "object": "response", "status": "failed",
        "output": [], "error": {"code": "c2", "message": "m2"}}});
    let both = stream(&[created(), text.clone(), told.clone(), failed.clone()]);
    let error = both.error.unwrap();
    assert_eq!((error.code.as_deref(), error.message.as_deref()), (Some("c"), Some("m")));
    assert_eq!(both.finish_reasons, ["failed"]);
    let object = both.response.unwrap();
    assert_eq!(object["error"]["code"], "c2");
    assert_eq!(object["output"][0]["content"][0]["text"], "so far");
    assert_eq!(stream(&[created(), failed]).error.unwrap().code.as_deref(), Some("c2"));

    let flat = json!({"type": "error", "code": "c", "message": "m", "param": null});
    let alone = stream(&[created(), text, flat.clone()]);
    assert_eq!(alone.error.unwrap().message.as_deref(), Some("m"));
    assert_eq!(
        alone.response.unwrap()["error"],
        json!({"code": "c", "message": "m", "param": null})
    );
    assert_eq!(stream(&[flat]).response.unwrap()["error"]["code"], "c");
    let bare = json!({"type": "response.failed", "response": {"status": "failed", "error": null}});
    assert!(stream(&[bare]).error.is_some());
}

#[test]
fn resumed_in_the_middle_or_under_other_names() {
    let queued = json!({"type": "response.queued", "response": {"id": "resp_1", "object": "response", "status": "queued"}});
    let meaning = stream(&[
        queued,
        json!({"type": "response.output_text.delta", "item_id": "a", "output_index": 0, "content_index": 1, "delta": "x"}),
    ]);
    assert_eq!(
        meaning.response.unwrap()["output"][0]["content"],
        json!([{"type": "output_text", "text": "x"}])
    );
    let rest = stream(&[json!({"type": "response.output_text.delta", "delta": "x"})]);
    assert_eq!(rest.response.unwrap()["object"], "response");
    // The type stands in the event's name where the data has none.
    let named = of(
        "event: response.completed\ndata: {\"response\":{\"id\":\"r\",\"status\":\"completed\"}}\n\ndata: [DONE]\n\n",
        None,
    );
    assert_eq!((named.finish_reasons, named.notes), (vec!["completed".to_owned()], vec![]));
}

#[test]
fn one_json_body() {
    let meaning = of(
        r#"{"id":"resp_2","object":"response","status":"queued","model":"m","output":[],"usage":null}"#,
        Some("application/json"),
    );
    assert_eq!((meaning.response_id.as_deref(), meaning.usage), (Some("resp_2"), None));
    assert!(meaning.terminal && meaning.finish_reasons.is_empty());
}

#[test]
fn indices_of_any_size() {
    let delta = |output: Value, content: Value| json!({"type": "response.output_text.delta", "output_index": output, "content_index": content, "delta": "x"});
    let found = output(&[
        delta(json!(1_000_000_000), json!(1_000_000_000)),
        delta(json!(-5), json!(-5)),
        delta(json!("odd"), json!(0)),
        delta(json!(0), json!([])),
    ]);
    assert_eq!(found.as_array().map(Vec::len), Some(2));
    let many: Vec<Value> = (0..5000).map(|index| delta(json!(index), json!(0))).collect();
    let meaning = stream(&many);
    assert_eq!(meaning.response.unwrap()["output"].as_array().map(Vec::len), Some(4096));
    assert_eq!(meaning.notes, ["items_beyond_limit (904 times)"]);
}

#[test]
fn what_is_read_again_counts_only_where_it_ran_in_the_background() {
    for (background, counts) in [(true, true), (false, false)] {
        let body = json!({"id": "r", "object": "response", "status": "completed", "background": background,
            "usage": {"input_tokens": 1, "output_tokens": 1}, "output": [{"type": "file_search_call"}]});
        let meaning = read(&Reading {
            endpoint: &Endpoint::from("responses"),
            provider: "openai",
            method: "GET",
            path: "/v1/responses/r",
            request: b"",
            status: Some(200),
            content_type: Some("application/json"),
            response: body.to_string().as_bytes(),
        });
        assert_eq!((meaning.usage.is_some(), meaning.tools.len() == 1), (counts, counts));
    }
}
