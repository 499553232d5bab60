use crate::codec::{Meaning, Reading, read};
use crate::model::Endpoint;
use serde_json::{Value, json};
use std::fmt::Write as _;

fn reading<'a>(endpoint: &'a Endpoint, response: &'a [u8]) -> Reading<'a> {
    Reading {
        endpoint,
        provider: "openai",
        method: "POST",
        path: "/v1/chat/completions",
        request: br#"{"model":"m","messages":[{"role":"user","content":"hi"}],"stream":true}"#,
        status: Some(200),
        content_type: Some("text/event-stream"),
        response,
    }
}

fn stream(body: &str) -> Meaning {
    read(&reading(&Endpoint::from("chat.completions"), body.as_bytes()))
}

fn sse(chunks: &[Value]) -> String {
    chunks.iter().fold(String::new(), |mut body, chunk| {
        write!(body, "data: {chunk}\n\n").unwrap();
        body
    })
}

fn chunks(chunks: &[Value]) -> Meaning {
    stream(&(sse(chunks) + "data: [DONE]\n\n"))
}

/// The finished message after these deltas.
fn message(deltas: &[Value]) -> Value {
    let chunk = |delta: &Value| json!({"id": "1", "choices": [{"index": 0, "delta": delta}]});
    let deltas: Vec<Value> = deltas.iter().map(chunk).collect();
    chunks(&deltas).response.unwrap()["choices"][0]["message"].clone()
}

fn content(index: i64, text: &str) -> Value {
    json!({"index": index, "delta": {"content": text}})
}

#[test]
fn members_of_the_chunk() {
    let meaning = chunks(&[
        json!({"id": "", "model": "", "created": 0, "object": "", "choices": [], "prompt_filter_results": [1]}),
        json!({"id": "a", "model": "m-1", "created": 5, "object": "chat.completion.chunk", "system_fingerprint": "f",
            "service_tier": "default", "x_groq": {"id": "r"}, "obfuscation": "zzz", "p": "ab", "provider": "one",
            "choices": [{"index": 0, "delta": {"role": "assistant", "content": ""}, "finish_reason": null, "logprobs": null}]}),
        json!({"id": "b", "model": "m-2", "created": 6, "system_fingerprint": "", "provider": "two", "citations": ["c"],
            "choices": [content(0, "hi")], "x_groq": {"seed": 1}, "usage": null, "service_tier": null}),
        json!({"choices": null, "timings": {"prompt_ms": 1}}),
        json!({"usage": {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3}, "citations": null}),
        json!({"id": "", "choices": [{"index": 0, "finish_reason": "stop"}], "usage": null, "moderation": {"flagged": false}}),
    ]);
    assert_eq!(
        meaning.response.unwrap(),
        json!({
            "id": "a", "object": "chat.completion", "created": 5, "model": "m-1",
            "choices": [{"index": 0, "message": {"role": "assistant", "content": "hi"}, "finish_reason": "stop", "logprobs": null}],
            "usage": {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3},
            "prompt_filter_results": [1], "system_fingerprint": "f", "service_tier": "default",
            "x_groq": {"id": "r", "seed": 1}, "provider": "two", "citations": ["c"],
            "timings": {"prompt_ms": 1}, "moderation": {"flagged": false},
        })
    );
    let blank = chunks(&[
        json!({"id": "", "created": 0, "model": "", "system_fingerprint": "", "choices": []}),
    ]);
    assert_eq!(
        blank.response.unwrap(),
        json!({"object": "chat.completion", "choices": [], "system_fingerprint": ""})
    );
    assert_eq!(meaning.model_served.as_deref(), Some("m-1"));
    assert_eq!(meaning.model_requested.as_deref(), Some("m"));
    assert_eq!(meaning.service_tier.as_deref(), Some("default"));
    assert_eq!(meaning.first_output_event, Some(2));
    assert_eq!(meaning.tags.user_query.as_deref(), Some("hi"));
    assert!(meaning.notes.is_empty(), "{:?}", meaning.notes);
}

#[test]
fn usage_is_the_last_one_and_never_a_sum() {
    let usage = |n: u64| json!({"prompt_tokens": 1, "completion_tokens": n, "total_tokens": n + 1});
    let growing = chunks(&[
        json!({"choices": [content(0, "a")], "usage": usage(1)}),
        json!({"choices": [content(0, "b")], "usage": usage(2)}),
        json!({"choices": [], "usage": null}),
    ]);
    assert_eq!(growing.usage.unwrap().output, Some(2));
    assert!(growing.notes.is_empty());
    let shrinking = chunks(&[
        json!({"choices": [], "usage": usage(5)}),
        json!({"choices": [], "usage": usage(2)}),
    ]);
    assert_eq!(shrinking.usage.unwrap().output, Some(2));
    assert_eq!(shrinking.notes, ["usage_sent_twice_and_different"]);
    let twice = chunks(&[
        json!({"choices": [], "usage": usage(2)}),
        json!({"choices": [], "usage": usage(5)}),
    ]);
    assert_eq!((twice.usage.unwrap().output, twice.notes), (Some(5), shrinking.notes));
    let same = chunks(&[
        json!({"choices": [], "usage": usage(2)}),
        json!({"choices": [], "usage": usage(2)}),
    ]);
    assert!(same.notes.is_empty());
    let beside =
        chunks(&[json!({"choices": [content(0, "a")], "x_groq": {"id": "r", "usage": usage(3)}})]);
    assert_eq!(beside.usage.unwrap().output, Some(3));
    assert_eq!(beside.response.unwrap()["usage"], usage(3));
    let tier = json!({"choices": [content(0, "a")], "usage": {"prompt_tokens": 1, "service_tier": "standard"}});
    assert_eq!(chunks(&[tier]).service_tier.as_deref(), Some("standard"));
}

#[test]
fn choices_interleave_and_are_sorted() {
    let meaning = chunks(&[
        json!({"choices": [content(2, "c"), content(0, "a")]}),
        json!({"choices": [content(1, "b")]}),
        json!({"choices": [{"delta": {"content": "A"}}]}),
        json!({"choices": [{"index": 1, "delta": {}, "finish_reason": "length"}]}),
        json!({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}),
    ]);
    let response = meaning.response.unwrap();
    let texts: Vec<&Value> =
        response["choices"].as_array().unwrap().iter().map(|c| &c["message"]["content"]).collect();
    assert_eq!(texts, ["aA", "b", "c"]);
    assert_eq!(meaning.finish_reasons, ["stop", "length"]);
    assert!(meaning.terminal);
}

#[test]
fn odd_indices_are_kept_apart_and_noted() {
    let huge = json!({"choices": [content(1_000_000_000, "h"), content(-1, "n"), content(0, "z")]});
    let larger =
        "data: {\"choices\":[{\"index\":99999999999999999999,\"delta\":{\"content\":\"x\"}}]}\n\n";
    let meaning = stream(&(sse(&[huge]) + larger));
    let response = meaning.response.unwrap();
    let found: Vec<String> = response["choices"]
        .as_array()
        .unwrap()
        .iter()
        .map(|c| c["message"]["content"].to_string())
        .collect();
    assert_eq!(found, ["\"n\"", "\"z\"", "\"h\"", "\"x\""]);
    assert_eq!(meaning.notes, ["choice_index_odd (3 times)"]);
    let many: Vec<Value> =
        (0..5000).map(|index| json!({"choices": [content(index, "x")]})).collect();
    let meaning = chunks(&many);
    assert_eq!(meaning.response.unwrap()["choices"].as_array().unwrap().len(), 4096);
    assert_eq!(meaning.notes, ["choices_beyond_limit (904 times)"]);
    let unnumbered =
        chunks(&[json!({"choices": [{"delta": {"content": "a"}}, {"delta": {"content": "b"}}]})]);
    assert_eq!(unnumbered.response.unwrap()["choices"][1]["message"]["content"], "b");
}

#[test]
fn members_of_the_choice() {
    let choice = |choice: Value| json!({"choices": [choice]});
    let meaning = chunks(&[
        choice(
            json!({"index": 0, "delta": {"content": "a"}, "finish_reason": "stop", "native_finish_reason": "STOP",
            "logprobs": {"content": [], "refusal": null}, "content_filter_results": {"hate": {"filtered": false}}, "seed": null}),
        ),
        choice(
            json!({"index": 0, "delta": {"content": "b"}, "finish_reason": null, "text": "b", "matched_stop": 7,
            "logprobs": {"content": [{"token": "b"}]}, "content_filter_offsets": {"start": 1}}),
        ),
        choice(json!({"index": 0, "content_filter_offsets": {"start": 2}, "finish_reason": "",
            "content_filter_results": {"hate": {"severity": "safe"}, "self_harm": {}}, "seed": 5})),
        choice(
            json!({"index": 0, "logprobs": {"content": [{"token": "c"}], "refusal": null}, "message": {"content": "ab"}}),
        ),
    ]);
    assert_eq!(
        meaning.response.unwrap()["choices"][0],
        json!({
            "index": 0, "message": {"role": "assistant", "content": "ab"}, "finish_reason": "stop",
            "native_finish_reason": "STOP", "logprobs": {"content": [{"token": "b"}, {"token": "c"}], "refusal": null},
            "content_filter_results": {"hate": {"filtered": false, "severity": "safe"}, "self_harm": {}},
            "seed": 5, "matched_stop": 7, "content_filter_offsets": {"start": 2},
        })
    );
}

#[test]
fn whole_messages_without_any_delta() {
    let whole = |text: &str| json!({"choices": [{"index": 0, "message": {"role": "assistant", "content": text}}]});
    let meaning = chunks(&[whole("a"), whole("ab")]);
    assert_eq!(meaning.response.unwrap()["choices"][0]["message"]["content"], "ab");
    assert_eq!(meaning.first_output_event, Some(0));
}

#[test]
fn members_of_the_delta() {
    assert_eq!(
        message(&[
            json!({"role": "", "content": null, "refusal": null}),
            json!({"role": "assistant", "reasoning_content": "r", "reasoning": "s", "channel": "analysis", "token_id": 1}),
            json!({"role": "assistant", "reasoning_content": "R", "reasoning": "S", "channel": "analysis", "token_id": 2}),
            json!({"refusal": "no", "annotations": [{"url": "a"}], "images": [{"index": 0, "type": "image_url"}]}),
            json!({"refusal": "pe", "annotations": [{"url": "b"}], "images": [{"index": 0, "image_url": {"url": "u"}}]}),
            json!({"executed_tools": [{"index": 0, "type": "search", "output": null}], "new_list": [1], "new_object": {"a": 1}}),
            json!({"executed_tools": [{"index": 0, "type": "search", "output": "o"}], "new_list": [2], "new_object": {"b": 2}}),
            json!({"function_call": {"name": "f", "arguments": ""}}),
            json!({"function_call": {"name": "f", "arguments": "{}"}}),
            json!({"provider_metadata": {"x": null}, "reasoning": null}),
        ]),
        json!({
            "role": "assistant", "content": null, "refusal": "nope", "reasoning_content": "rR", "reasoning": "sS",
            "channel": "analysis", "annotations": [{"url": "a"}, {"url": "b"}], "new_list": [1, 2],
            "new_object": {"a": 1, "b": 2}, "provider_metadata": {"x": null},
            "images": [{"index": 0, "type": "image_url", "image_url": {"url": "u"}}],
            "executed_tools": [{"index": 0, "type": "search", "output": "o"}],
            "function_call": {"name": "f", "arguments": "{}"},
        })
    );
}

#[test]
fn content_of_any_kind_does_no_harm() {
    assert_eq!(message(&[json!({})]), json!({"role": "assistant", "content": null}));
    assert_eq!(
        message(&[json!({"content": 7}), json!({"content": ""}), json!({"role": 3})])["content"],
        ""
    );
    let parts = json!({"content": [{"type": "thinking", "thinking": [{"type": "text", "text": "t"}]}, {"type": "text", "text": "a"}]});
    assert_eq!(
        message(&[json!({"content": ""}), parts, json!({"content": "b"})])["content"][1]["text"],
        "ab"
    );
    let odd = chunks(&[
        json!({"choices": [7, {"index": 0, "delta": "x"}, {"delta": null}]}),
        json!([1]),
        json!("x"),
        json!(null),
    ]);
    assert_eq!(odd.response.unwrap()["choices"][0]["message"]["content"], Value::Null);
}

#[test]
fn what_counts_as_output() {
    for (delta, is_output) in [
        (json!({"role": "assistant"}), false),
        (json!({"content": ""}), false),
        (json!({"content": null, "reasoning": ""}), false),
        (json!({"content": " "}), true),
        (
            json!({"content": [{"type": "thinking", "thinking": [{"type": "text", "text": ""}]}]}),
            false,
        ),
        (
            json!({"content": [{"type": "thinking", "thinking": [{"type": "text", "text": "t"}]}]}),
            true,
        ),
        (json!({"content": [{"type": "text", "text": "t"}]}), true),
        (json!({"refusal": "r"}), true),
        (json!({"reasoning_content": "r"}), true),
        (json!({"reasoning_details": [{"type": "reasoning.encrypted", "data": "x"}]}), false),
        (json!({"reasoning_details": [{"type": "reasoning.summary", "summary": "x"}]}), true),
        (json!({"tool_calls": []}), false),
        (json!({"tool_calls": [{"index": 0, "function": {"name": "f", "arguments": ""}}]}), true),
        (json!({"function_call": {"name": "f"}}), true),
        (json!({"audio": {"id": "a"}}), false),
        (json!({"audio": {"transcript": "t"}}), true),
        (json!({"annotations": [{}]}), false),
    ] {
        let meaning = chunks(&[json!({"choices": [{"index": 0, "delta": delta}]})]);
        assert_eq!(meaning.first_output_event, is_output.then_some(0), "{delta}");
        assert_eq!(meaning.output_events, u64::from(is_output));
    }
}

#[test]
fn offsets_of_first_and_last_output_and_of_the_end() {
    let lead =
        ": wait\n\ndata: {\"choices\":[{\"delta\":{\"role\":\"assistant\"}}]}\n\n".to_owned();
    let first = lead.clone() + "data: {\"choices\":[{\"delta\":{\"content\":\"a\"}}]}\r\n\r";
    let last = first.clone()
        + "\ndata: {\"choices\":[{\"delta\":{\"content\":\"b\"},\"finish_reason\":\"stop\"}]}\n\n";
    let done = last.clone() + "data: [DONE] \n\n";
    let meaning = stream(&done);
    let at = |text: &str| u64::try_from(text.len()).unwrap();
    assert_eq!((meaning.first_output, meaning.first_output_event), (Some(at(&first)), Some(1)));
    assert_eq!((meaning.last_output, meaning.output_events), (Some(at(&last)), 2));
    assert_eq!((meaning.terminal, meaning.terminal_end), (true, Some(at(&done))));
    let meaning = stream(&last);
    assert_eq!(
        (meaning.terminal, meaning.terminal_end),
        (true, None),
        "a finish reason is no end for the client"
    );
    let meaning = stream(&first);
    assert_eq!((meaning.terminal, meaning.terminal_end), (false, None));
}

#[test]
fn errors_inside_a_stream_keep_the_partial_object() {
    let begun = sse(&[json!({"id": "1", "choices": [content(0, "par")]})]);
    for (event, code) in [
        ("data: {\"error\":{\"message\":\"m\",\"code\":\"c\"}}\n\n", Some("c")),
        ("event: error\ndata: {\"error\":{\"message\":\"m\",\"status_code\":400}}\n\n", None),
        (
            "data: {\"id\":\"1\",\"error\":{\"message\":\"m\",\"code\":502},\"choices\":[{\"index\":0,\"delta\":{\"content\":\"tial\"},\"finish_reason\":\"error\"}],\"usage\":{\"prompt_tokens\":1}}\n\ndata: [DONE]\n\n",
            Some("502"),
        ),
        ("data: {\"object\":\"error\",\"message\":\"m\",\"code\":40303}\n\n", Some("40303")),
        ("data: {\"type\":\"error\",\"code\":\"c\",\"message\":\"m\"}\n\n", Some("c")),
        ("event: error\ndata: m\n\n", None),
    ] {
        let meaning = stream(&(begun.clone() + event));
        let error = meaning.error.unwrap_or_else(|| panic!("{event}"));
        assert_eq!(
            (error.source.as_str(), error.message.as_deref(), error.code.as_deref()),
            ("provider", Some("m"), code)
        );
        let response = meaning.response.unwrap();
        assert!(response["choices"][0]["message"]["content"].as_str().unwrap().starts_with("par"));
        assert!(!response["error"].is_null(), "{event}");
    }
}

#[test]
fn what_is_broken_is_passed_over_and_counted() {
    let body = sse(&[json!({"choices": [content(0, "a")]})])
        + "data: {\"choices\": oops\n\ndata: {\n\nevent: ping\ndata: {\"type\":\"ping\"}\n\n"
        + &sse(&[json!({"choices": [content(0, "b")]})])
        + "data: [DONE]\n\ndata: {\"choices\":[{\"delta\":{\"content\":\"late\"}}]}\n\ndata: [DONE]\n\n";
    let meaning = stream(&body);
    assert_eq!(meaning.response.unwrap()["choices"][0]["message"]["content"], "ab");
    assert_eq!(meaning.notes, ["event_not_json (2 times)", "data_after_done (2 times)"]);
    let cut = stream("data: {\"choices\":[{\"delta\":{\"content\":\"a\"}}]}\n\ndata: {\"choi");
    assert_eq!(cut.notes, ["event_cut_short"]);
    assert!(!cut.terminal);
    let deep = format!(
        "data: {}\n\n{}",
        "[".repeat(100_000),
        sse(&[json!({"choices": [content(0, "a")]})])
    );
    assert_eq!(stream(&deep).notes, ["event_nested_too_deeply"]);
}

#[test]
fn the_marker_inside_content_is_content() {
    let meaning = chunks(&[json!({"choices": [content(0, "data: [DONE]\n\n")]})]);
    assert_eq!(meaning.response.unwrap()["choices"][0]["message"]["content"], "data: [DONE]\n\n");
}

#[test]
fn half_characters_in_two_deltas_become_one() {
    let half = |half: &str| {
        format!("data: {{\"choices\":[{{\"delta\":{{\"content\":\"\\u{half}\"}}}}]}}\n\n")
    };
    let meaning = stream(&(half("d83d") + &half("de00") + &half("d83d")));
    assert_eq!(meaning.response.unwrap()["choices"][0]["message"]["content"], "😀\u{FFFD}");
    assert_eq!(meaning.notes, ["stream_lone_surrogates (3 times)"]);
    let mut bad = b"data: {\"choices\":[{\"delta\":{\"content\":\"a".to_vec();
    bad.extend(b"\xFF\xC0\xAF\"}}]}\n\n");
    let meaning = read(&reading(&Endpoint::from("chat.completions"), &bad));
    assert_eq!(
        meaning.response.unwrap()["choices"][0]["message"]["content"],
        "a\u{FFFD}\u{FFFD}\u{FFFD}"
    );
    assert_eq!(meaning.notes, ["stream_invalid_utf8"]);
}

#[test]
fn read_by_what_came() {
    let endpoint = Endpoint::from("chat.completions");
    let object = br#" {"id":"1","model":"m","choices":[{"index":0,"message":{"content":"x"},"finish_reason":"stop"}],
        "usage":{"prompt_tokens":1,"completion_tokens":1,"total_tokens":2}}"#;
    let meaning = read(&reading(&endpoint, object));
    assert!(
        !meaning.stream
            && meaning.terminal
            && meaning.terminal_end.is_none()
            && meaning.first_output.is_none()
    );
    assert_eq!(
        (meaning.finish_reasons, meaning.notes),
        (vec!["stop".to_owned()], vec!["content_type_does_not_fit".to_owned()])
    );
    assert_eq!(meaning.usage.unwrap().total, Some(2));
    let events = sse(&[json!({"choices": [content(0, "a")]})]);
    let meaning = read(&Reading {
        content_type: Some("application/json"),
        ..reading(&endpoint, events.as_bytes())
    });
    assert!(meaning.stream && !meaning.terminal);
    let meaning = read(&Reading {
        content_type: None,
        status: Some(502),
        ..reading(&endpoint, b"<html>bad gateway")
    });
    assert_eq!(meaning.error.unwrap().message.as_deref(), Some("<html>bad gateway"));
    let meaning =
        read(&Reading { content_type: None, status: Some(503), ..reading(&endpoint, b"") });
    assert_eq!((meaning.error.unwrap().message, meaning.response), (None, None));
    let meaning =
        read(&Reading { content_type: None, ..reading(&endpoint, b"{\"id\":\"1\",\"choi") });
    assert!(!meaning.terminal && meaning.response.is_some());
}

#[test]
fn a_stream_of_another_shape_is_kept_as_events() {
    let meaning = stream(
        "data: {\"value\": \"a\"}\n\nevent: end\ndata: {\"value\": \"b\", \"model\": \"w\"}\n\n",
    );
    assert_eq!(
        meaning.response.unwrap(),
        json!({"model": "w", "events": [{"data": {"value": "a"}}, {"event": "end", "data": {"value": "b", "model": "w"}}]})
    );
    assert_eq!(
        stream("data: Internal Server Error\n\n").response,
        Some(json!("data: Internal Server Error\n\n"))
    );
    assert_eq!(stream("upstream timed out").response, Some(json!("upstream timed out")));
    assert_eq!(stream(": only a comment\n\n").response, None);
    assert_eq!(stream("").response, None);
    assert!(stream("").stream);
}

#[test]
fn a_deep_request_is_kept_as_text() {
    let endpoint = Endpoint::from("chat.completions");
    let deep = b"[".repeat(100_000);
    let meaning = read(&Reading { request: &deep, ..reading(&endpoint, &deep) });
    assert!(meaning.request.unwrap().is_string());
    assert_eq!(meaning.notes[0], "request_unparsed: nested too deeply");
}

#[test]
fn the_deployment_is_the_model_asked_for() {
    let endpoint = Endpoint::from("chat.completions");
    let path = "/openai/deployments/my%20gpt/chat/completions";
    let azure = Reading { path, request: b"{\"messages\":[]}", ..reading(&endpoint, b"") };
    assert_eq!(read(&azure).model_requested.as_deref(), Some("my gpt"));
    let both = Reading { request: b"{\"model\":\"m\"}", ..azure };
    assert_eq!(read(&both).model_requested.as_deref(), Some("m"));
}

#[test]
fn time_is_linear() {
    let delta = sse(&[
        json!({"choices": [{"index": 0, "delta": {"content": "x", "reasoning_details": [{"type": "reasoning.text", "text": "y"}],
        "tool_calls": [{"index": 0, "function": {"arguments": "z"}}]}}]}),
    ]);
    let body = delta.repeat(40_000) + "data: [DONE]\n\n";
    let start = std::time::Instant::now();
    let meaning = stream(&body);
    assert_eq!(
        meaning.response.unwrap()["choices"][0]["message"]["content"].as_str().unwrap().len(),
        40_000
    );
    assert!(start.elapsed().as_secs() < 30, "quadratic work takes minutes");
}
