//! Records of every kind of call, written by hand.

use crate::model::Record;
use serde_json::{Value, json};

/// A record that says `patch` and is a plain, successful chat call otherwise.
pub(super) fn record(patch: Value) -> Record {
    let mut record = json!({
        "id": "0197341c-5a00-7000-8000-00000000000a", "seq": 7,
        "started_at": "2026-03-01T08:00:00.250000Z", "ended_at": "2026-03-01T08:00:01.500400Z",
        "endpoint": "chat.completions", "method": "POST", "path": "/v1/chat/completions",
        "upstream": "openai", "provider": "openai", "host": "api.openai.com",
        "model": {"requested": "gpt-4o-mini", "served": "gpt-4o-mini-2024-07-18"},
        "stream": false, "outcome": "completed", "status": 200, "error": null,
        "finish_reasons": ["stop"],
        "timing": {"latency_ms": 1250.4, "first_byte_ms": 1200.0, "ttft_ms": null,
            "overhead_ms": 0.1, "chunks": 1, "output_tokens_per_second": null},
        "usage": {"source": "provider", "input": 20, "output": 5, "total": 25},
        "cost": {"status": "priced", "basis": "computed", "total": "0.000006",
            "input": "0.000003", "output": "0.000003"},
        "tags": {"user_query": "Ping?"},
        "client": {"user_agent": "curl/8"}, "trace": {},
        "request": {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "Ping?"}]},
        "response": {"id": "chatcmpl-1", "object": "chat.completion", "model": "gpt-4o-mini-2024-07-18",
            "choices": [{"index": 0, "message": {"role": "assistant", "content": "Pong.",
                "refusal": null}, "finish_reason": "stop"}]},
        "bytes": {"request": 90, "response": 250, "delivered": 250}, "notes": []
    });
    merge(&mut record, patch);
    serde_json::from_value(record).unwrap()
}

/// Objects are merged, except bodies; anything else takes the place of what was there.
fn merge(into: &mut Value, patch: Value) {
    match (into, patch) {
        (Value::Object(into), Value::Object(patch)) => {
            for (name, value) in patch {
                match into.get_mut(&name) {
                    Some(there) if name != "request" && name != "response" => merge(there, value),
                    _ => drop(into.insert(name, value)),
                }
            }
        }
        (into, patch) => *into = patch,
    }
}

/// A streamed chat call with every tag.
pub(super) fn chat() -> Record {
    record(json!({
        "stream": true,
        "timing": {"ttft_ms": 402.2, "latency_ms": 1250.4, "first_byte_ms": 391.0, "chunks": 9,
            "output_tokens_per_second": 88.1},
        "usage": {"input": 1204, "output": 212, "total": 1416, "input_cached": 1024,
            "output_reasoning": 64, "input_audio": 0},
        "cost": {"total": "0.000231", "input": "0.000027", "cache_read": "0.0000768",
            "output": "0.0001272"},
        "tags": {"prompt": "support/reply", "prompt_version": "3", "session": "chat-1",
            "session_name": "Order 77", "environment": "prod", "customer": "acme", "user": "u7",
            "reference": "o-77", "labels": ["beta", "web"], "inputs": {"order": 77},
            "metadata": {"channel": "web", "record_id": "theirs"},
            "user_query": "Where is it?", "context": ["ships on Monday"], "expected": "Monday."},
        "trace": {"trace_id": "0af7651916cd43dd8448eb211c80319c", "parent_id": "b7ad6b7169203331"},
        "parameters": {"temperature": 0.2, "max_tokens": 300, "stop": ["\n\n"], "top_p": 1,
            "stream": true, "stream_options": {"include_usage": true}},
        "request": {"model": "gpt-4o-mini", "temperature": 0.2, "max_tokens": 300, "stop": ["\n\n"],
            "top_p": 1, "stream": true, "stream_options": {"include_usage": true},
            "messages": [{"role": "system", "content": "Be brief."},
                {"role": "user", "content": "Where is it?"}]},
        "response": {"id": "chatcmpl-2", "object": "chat.completion", "model": "gpt-4o-mini-2024-07-18",
            "choices": [{"index": 0, "message": {"role": "assistant", "content": "On its way."},
                "finish_reason": "stop"}]}
    }))
}

/// Every kind of call by name.
pub(super) fn all() -> Vec<(&'static str, Record)> {
    let mut all = vec![("plain chat", record(json!({}))), ("streamed chat with every tag", chat())];
    all.extend(chats());
    all.extend(texts());
    all.extend(others());
    all.extend(failures());
    all.extend(newer_chats());
    all.extend(bills());
    all.extend(ends());
    for (place, (_, record)) in all.iter_mut().enumerate() {
        let id = format!("0197341c-5a00-7000-8000-{place:012}");
        record.id = id.parse().unwrap();
    }
    all
}

fn chats() -> Vec<(&'static str, Record)> {
    let tool = json!({"type": "function", "function": {"name": "weather",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}}}});
    let call = json!({"id": "call_1", "type": "function",
        "function": {"name": "weather", "arguments": "{\"city\":\"Oslo\"}"}});
    vec![
        (
            "tool call, after one",
            record(json!({
                "finish_reasons": ["tool_calls"],
                "parameters": {"tool_choice": {"type": "function", "function": {"name": "weather"}}},
                "request": {"model": "gpt-4o-mini", "tools": [tool],
                    "tool_choice": {"type": "function", "function": {"name": "weather"}},
                    "messages": [
                        {"role": "developer", "content": "Use tools."},
                        {"role": "user", "content": "Weather?"},
                        {"role": "assistant", "content": null, "tool_calls": [call]},
                        {"role": "tool", "tool_call_id": "call_1", "content": "rain"}]},
                "response": {"choices": [{"index": 0, "finish_reason": "tool_calls",
                    "message": {"role": "assistant", "content": null, "tool_calls": [call,
                        {"id": "call_2", "type": "custom", "custom": {"name": "sh", "input": "ls"}}]}}]}
            })),
        ),
        (
            "legacy functions",
            record(json!({
                "finish_reasons": ["function_call"],
                "request": {"model": "gpt-4", "functions": [{"name": "weather", "parameters": {}}],
                    "function_call": "auto",
                    "messages": [{"role": "user", "content": "Weather?"},
                        {"role": "function", "name": "weather", "content": "rain"}]},
                "response": {"choices": [{"index": 0, "finish_reason": "function_call",
                    "message": {"role": "assistant", "content": null,
                        "function_call": {"name": "weather", "arguments": "{}"}}}]}
            })),
        ),
        (
            "two choices, pictures and sound",
            record(json!({
                "finish_reasons": ["stop", "stop"], "parameters": {"n": 2, "modalities": ["text"]},
                "request": {"model": "gpt-4o-audio", "n": 2, "response_format": {"type": "text"},
                    "messages": [{"role": "user", "name": "ann", "content": [
                        {"type": "text", "text": "What is it?"},
                        {"type": "image_url", "image_url": {"url": "https://img.test/a.png", "detail": "low"}},
                        {"type": "input_audio", "input_audio": {"data": "AAAA", "format": "wav"}},
                        {"type": "file", "file": {"file_id": "file-1"}}]}]},
                "response": {"choices": [
                    {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": null,
                        "audio": {"id": "a1", "data": "AAAA", "transcript": "A cat."}}},
                    {"index": 1, "finish_reason": "stop", "message": {"role": "assistant",
                        "content": "A dog.", "reasoning_content": "Ears.", "annotations": []}}]}
            })),
        ),
        (
            "refusal under a schema",
            record(json!({
                "parameters": {"response_format": {"type": "json_schema", "name": "reply"}},
                "request": {"model": "gpt-4o", "messages": [{"role": "user", "content": "Do evil."}],
                    "response_format": {"type": "json_schema", "json_schema": {"name": "reply",
                        "schema": {"type": "object"}}}},
                "response": {"choices": [{"index": 0, "finish_reason": "stop", "message":
                    {"role": "assistant", "content": null, "refusal": "I will not."}}]}
            })),
        ),
        (
            "long names, another provider, a partial price",
            record(json!({
                "provider": "azure", "cost": {"status": "partial"},
                "tags": {"session": "s".repeat(200), "user": "u".repeat(200),
                    "reference": "r".repeat(200), "prompt": "a b/../c", "context": 4}
            })),
        ),
    ]
}

/// A call of another endpoint.
#[expect(clippy::needless_pass_by_value, reason = "written where it is passed")]
fn of(endpoint: &str, request: Value, response: Value) -> Record {
    record(json!({"endpoint": endpoint, "finish_reasons": [], "request": request,
        "response": response, "tags": {"user_query": null}}))
}

fn texts() -> Vec<(&'static str, Record)> {
    vec![
        (
            "responses",
            of(
                "responses",
                json!({"model": "gpt-5", "instructions": "Be brief.", "max_output_tokens": 64,
                    "tools": [{"type": "function", "name": "weather", "parameters": {}},
                        {"type": "web_search"}],
                    "input": [
                        {"role": "user", "content": [{"type": "input_text", "text": "Weather?"},
                            {"type": "input_image", "image_url": "https://img.test/b.png"}]},
                        {"type": "reasoning", "summary": []},
                        {"type": "function_call", "call_id": "call_1", "name": "weather", "arguments": "{}"},
                        {"type": "function_call_output", "call_id": "call_1", "output": "rain"}]}),
                json!({"object": "response", "status": "completed", "output": [
                    {"type": "reasoning", "summary": [{"type": "summary_text", "text": "Rain it is."}]},
                    {"type": "web_search_call", "id": "ws_1"},
                    {"type": "message", "role": "assistant", "content": [
                        {"type": "output_text", "text": "It ", "annotations": []},
                        {"type": "output_text", "text": "rains."}]},
                    {"type": "function_call", "call_id": "call_2", "name": "weather", "arguments": "{}"}]}),
            ),
        ),
        (
            "completions",
            of(
                "completions",
                json!({"model": "gpt-3.5-turbo-instruct", "prompt": ["Once", "Twice"]}),
                json!({"choices": [{"index": 0, "text": " upon", "finish_reason": "stop"},
                    {"index": 1, "text": " bitten", "finish_reason": "stop"}]}),
            ),
        ),
    ]
}

fn others() -> Vec<(&'static str, Record)> {
    vec![
        (
            "embeddings",
            of(
                "embeddings",
                json!({"model": "text-embedding-3-small", "input": ["a", [1, 2, 3]], "dimensions": 3}),
                json!({"object": "list", "data": [{"index": 0, "embedding": [0.1, 0.2, 0.3]},
                    {"index": 1, "embedding": "AACAPwAAgD8AAIA/"}]}),
            ),
        ),
        (
            "image",
            of(
                "images.generations",
                json!({"model": "dall-e-3", "prompt": "a cat", "size": "1024x1024"}),
                json!({"created": 1, "data": [{"b64_json": "AAAA", "revised_prompt": "a black cat"}]}),
            ),
        ),
        (
            "transcription of a form",
            of("audio.transcriptions", json!("--x\r\nfile"), json!({"text": "Good morning."})),
        ),
        (
            "speech",
            of(
                "audio.speech",
                json!({"model": "tts-1", "input": "Hello.", "voice": "alloy"}),
                json!(null),
            ),
        ),
        (
            "moderation",
            of(
                "moderations",
                json!({"model": "omni-moderation-latest", "input": [{"type": "text", "text": "bad"},
                    {"type": "image_url", "image_url": {"url": "https://img.test/c.png"}}]}),
                json!({"results": [{"flagged": true, "categories": {"hate": true, "violence": false}}]}),
            ),
        ),
        (
            "message of an assistant",
            record(json!({
                "endpoint": "assistants.message", "finish_reasons": ["completed"],
                "model": {"requested": null, "served": "gpt-4o"},
                "tags": {"session": "thread_1", "user_query": "Solve 3x + 11 = 14."},
                "request": {"thread_id": "thread_1", "run_id": "run_1",
                    "usage": {"prompt_tokens": 20, "completion_tokens": 5}},
                "response": {"id": "msg_1", "object": "thread.message", "role": "assistant",
                    "content": [{"type": "text", "text": {"value": "x = 1", "annotations": []}},
                        {"type": "image_file", "image_file": {"file_id": "file-2"}}]}
            })),
        ),
    ]
}

fn choice(message: &Value) -> Value {
    json!({"choices": [{"index": 0, "finish_reason": "stop", "message": message}]})
}

fn words(text: &str) -> Value {
    json!({"role": "assistant", "content": text})
}

fn newer_chats() -> Vec<(&'static str, Record)> {
    let call = |at: u8| {
        json!({"id": format!("call_{at}"), "type": "function", "index": at,
            "function": {"name": "weather", "arguments": format!("{{\"city\":{at}}}")}})
    };
    vec![
        (
            "parallel tool calls in a stream",
            record(json!({
                "stream": true, "timing": {"ttft_ms": 80.5}, "finish_reasons": ["tool_calls"],
                "response": {"choices": [{"index": 0, "finish_reason": "tool_calls", "message":
                    {"role": "assistant", "content": null, "tool_calls": [call(0), call(1), call(2)]}}]}
            })),
        ),
        (
            "reasoning, with effort",
            record(json!({
                "provider": "deepseek", "model": {"requested": "deepseek-reasoner"},
                "usage": {"output": 500, "total": 520, "output_reasoning": 480},
                "parameters": {"reasoning_effort": "high", "max_completion_tokens": 900},
                "response": choice(&json!({"role": "assistant", "content": "7", "reasoning_content": "3 + 4"}))
            })),
        ),
        (
            "spoken answer",
            record(json!({
                "parameters": {"modalities": ["text", "audio"], "audio": {"voice": "alloy", "format": "wav"}},
                "usage": {"output_audio": 3, "input_audio": 2},
                "response": choice(&json!({"role": "assistant", "content": null, "audio":
                    {"id": "audio_1", "data": "AAAA", "transcript": "Pong.", "expires_at": 1}}))
            })),
        ),
        (
            "sources named",
            record(json!({
                "parameters": {"web_search_options": {}},
                "response": choice(&json!({"role": "assistant", "content": "It rains.", "annotations": [
                    {"type": "url_citation", "url_citation": {"url": "https://weather.test", "title": "W",
                        "start_index": 0, "end_index": 9}}]}))
            })),
        ),
        (
            "probabilities of tokens",
            record(json!({
                "parameters": {"logprobs": true, "top_logprobs": 1, "logit_bias": {"50256": -100}, "seed": 7},
                "response": {"choices": [{"index": 0, "finish_reason": "length", "message": words("Po"),
                    "logprobs": {"content": [{"token": "Po", "logprob": -0.1, "bytes": [80, 111],
                        "top_logprobs": []}]}}]},
                "finish_reasons": ["length"]
            })),
        ),
    ]
}

fn bills() -> Vec<(&'static str, Record)> {
    vec![
        (
            "written to a cache, billed by the provider",
            record(json!({
                "provider": "openrouter", "usage": {"input": 2000, "input_cache_write": 1900, "total": 2005},
                "cost": {"basis": "reported", "total": "0.0123", "cache_write": "0.01"},
                "response": choice(&words("Pong."))
            })),
        ),
        (
            "a model without a price",
            record(json!({
                "provider": "vllm", "cost": {"status": "unpriced", "total": null, "input": null, "output": null},
                "response": choice(&words("Pong."))
            })),
        ),
    ]
}

fn ends() -> Vec<(&'static str, Record)> {
    vec![
        (
            "response that is incomplete",
            of(
                "responses",
                json!({"model": "o4-mini", "input": "Count.", "reasoning": {"effort": "low"}}),
                json!({"object": "response", "status": "incomplete",
                    "incomplete_details": {"reason": "max_output_tokens"},
                    "output": [{"type": "reasoning", "summary": []}]}),
            ),
        ),
        (
            "edited picture",
            of(
                "images.edits",
                json!("--x\r\nfile"),
                json!({"created": 1, "data": [{"url": "https://img.test/d"}]}),
            ),
        ),
        (
            "translation",
            of(
                "audio.translations",
                json!("--x\r\nfile"),
                json!({"text": "Good night.", "segments": []}),
            ),
        ),
        (
            "realtime",
            of(
                "realtime",
                json!({"model": "gpt-realtime", "messages": [{"role": "user", "content": "Hello?"}]}),
                json!({"object": "realtime.session", "output": [{"type": "message", "role": "assistant",
                    "content": [{"type": "audio", "transcript": "Hi."}]}]}),
            ),
        ),
        (
            "broken off upstream",
            record(json!({
                "stream": true, "outcome": "upstream_truncated", "finish_reasons": [],
                "error": {"source": "upstream", "type": null, "code": "upstream_truncated",
                    "message": "the stream ended early", "param": null},
                "usage": {"source": "estimated"}, "response": {"choices": [{"index": 0, "message": words("Po")}]}
            })),
        ),
        (
            "interrupted",
            record(json!({
                "outcome": "interrupted", "status": null, "finish_reasons": [], "response": null,
                "error": {"source": "calltap", "type": null, "code": "interrupted",
                    "message": "calltap ended first", "param": null},
                "usage": {"source": "none", "input": null, "output": null, "total": null},
                "cost": {"status": "no_usage", "total": null, "input": null, "output": null}
            })),
        ),
    ]
}

fn failures() -> Vec<(&'static str, Record)> {
    let unknown = json!({"source": "none", "input": null, "output": null, "total": null});
    let no_cost = json!({"status": "no_usage", "total": null, "input": null, "output": null});
    vec![
        (
            "provider error",
            record(json!({
                "outcome": "provider_error", "status": 429, "finish_reasons": [],
                "error": {"source": "provider", "type": "tokens", "code": "rate_limit_exceeded",
                    "message": "Slow down.", "param": null},
                "usage": unknown, "cost": no_cost,
                "response": {"error": {"message": "Slow down.", "type": "tokens",
                    "code": "rate_limit_exceeded", "param": null}}
            })),
        ),
        (
            "error inside the stream",
            record(json!({
                "stream": true, "outcome": "provider_error", "finish_reasons": [],
                "error": {"source": "provider", "type": "server_error", "code": null,
                    "message": "Overloaded.", "param": null},
                "usage": {"source": "partial", "output": 2, "total": 22}, "cost": no_cost,
                "response": {"choices": [{"index": 0, "message": {"role": "assistant", "content": "Po"}}],
                    "error": {"message": "Overloaded."}}
            })),
        ),
        (
            "client gone",
            record(json!({
                "stream": true, "outcome": "client_aborted", "finish_reasons": [],
                "error": {"source": "client", "type": null, "code": "client_closed",
                    "message": "the client went away", "param": null},
                "usage": {"source": "partial"}, "notes": ["tokens were estimated"],
                "response": {"choices": [{"index": 0, "message": {"role": "assistant", "content": "Po"}}]}
            })),
        ),
        (
            "no connection",
            record(json!({
                "outcome": "connect_failed", "status": 502, "finish_reasons": [],
                "model": {"served": null}, "usage": unknown, "cost": no_cost,
                "error": {"source": "upstream", "type": null, "code": "connect_failed",
                    "message": "connection refused", "param": null},
                "timing": {"latency_ms": 0.0}, "response": null
            })),
        ),
        (
            "no content",
            record(json!({"request": null, "response": null, "tags": {"user_query": null}})),
        ),
        (
            "odd shapes",
            record(json!({
                "model": {"requested": null, "served": null}, "provider": "",
                "request": {"messages": ["hi", 5, {"no": "role"}, {"role": "user"},
                    {"role": 7, "content": {"a": 1}}], "tools": "none", "stop": {"odd": true}},
                "parameters": {"temperature": "warm", "stop": {"odd": true}, "max_tokens": 1.5},
                "response": {"choices": [{"message": {"content": 5, "tool_calls": "x"}}, 3]}
            })),
        ),
    ]
}
