use super::frames::tests::frame;
use crate::codec::{Meaning, Reading, answer_text, read};
use crate::model::Endpoint;
use serde_json::{Value, json};

fn socket(endpoint: &str, sent: &[Value], received: &[Value]) -> Meaning {
    let frames = |messages: &[Value], masked| {
        let frames =
            messages.iter().map(|message| frame(0x81, masked, message.to_string().as_bytes()));
        frames.collect::<Vec<_>>().concat()
    };
    read(&Reading {
        endpoint: &Endpoint::from(endpoint),
        provider: "openai",
        method: "GET",
        path: "/v1/realtime",
        request: &frames(sent, true),
        status: Some(101),
        content_type: None,
        response: &frames(received, false),
    })
}

fn usage(input: u64, output: u64) -> Value {
    json!({"total_tokens": input + output, "input_tokens": input, "output_tokens": output,
        "input_token_details": {"cached_tokens": 1, "audio_tokens": 2, "cached_tokens_details": {"audio_tokens": 1}}})
}

#[test]
fn a_session_with_two_responses() {
    let meaning = socket(
        "realtime",
        &[
            json!({"type": "input_audio_buffer.append", "audio": "AAAA"}),
            json!({"type": "conversation.item.create", "item": {"role": "user", "content": [{"type": "input_text", "text": "hi"}]}}),
            json!({"type": "response.create"}),
        ],
        &[
            json!({"type": "session.created", "session": {"id": "sess_1", "model": "gpt-realtime", "voice": "alloy"}}),
            json!({"type": "rate_limits.updated"}),
            json!({"type": "response.created", "response": {"id": "r1", "status": "in_progress", "output": []}}),
            json!({"type": "response.done", "response": {"id": "r1", "status": "completed", "output": [{"type": "message"}], "usage": usage(10, 5)}}),
            json!({"type": "conversation.item.input_audio_transcription.completed", "event_id": "e", "item_id": "i", "content_index": 0, "transcript": "said", "usage": {"type": "duration", "seconds": 1}}),
            json!({"type": "response.created", "response": {"id": "r2", "status": "in_progress", "output": []}}),
            json!({"type": "response.done", "response": {"id": "r2", "status": "incomplete", "status_details": {"reason": "max_output_tokens"}, "output": [], "usage": usage(20, 7)}}),
            json!({"type": "response.created", "response": {"id": "r3", "status": "in_progress", "output": []}}),
            json!({"type": "response.output_item.added", "response_id": "r3", "output_index": 0, "item": {"type": "message", "content": []}}),
            json!({"type": "response.output_audio_transcript.delta", "response_id": "r3", "output_index": 0, "content_index": 0, "delta": "so "}),
            json!({"type": "response.output_audio.delta", "response_id": "r3", "output_index": 0, "content_index": 0, "delta": "AAAA"}),
            json!({"type": "response.output_audio_transcript.delta", "response_id": "r3", "output_index": 0, "content_index": 0, "delta": "far"}),
            json!({"type": "error", "event_id": "e", "error": {"type": "t", "message": "m"}}),
        ],
    );
    let object = meaning.response.unwrap();
    assert_eq!(answer_text(&object).as_deref(), Some("so far"));
    assert_eq!(object["session"], json!({"id": "sess_1", "model": "gpt-realtime"}));
    assert_eq!(object["responses"][0]["usage"], usage(10, 5));
    assert_eq!(
        object["responses"][2]["output"][0]["content"],
        json!([{"type": "output_audio", "transcript": "so far"}])
    );
    assert_eq!(
        object["input_transcriptions"],
        json!([{"item_id": "i", "transcript": "said", "usage": {"type": "duration", "seconds": 1}}])
    );
    assert_eq!(object["errors"], json!([{"type": "t", "message": "m"}]));
    assert_eq!(meaning.finish_reasons, ["completed", "max_output_tokens"]);
    assert_eq!(meaning.model_served.as_deref(), Some("gpt-realtime"));
    let usage = meaning.usage.unwrap();
    assert_eq!((usage.input, usage.output, usage.total), (Some(30), Some(12), Some(42)));
    assert_eq!((usage.input_cached, usage.input_audio), (Some(2), Some(4)));
    assert_eq!(
        usage.raw.unwrap()["input_token_details"]["cached_tokens_details"]["audio_tokens"],
        2
    );
    assert_eq!(meaning.tags.user_query.as_deref(), Some("hi"));
    assert_eq!(meaning.request.unwrap()["events"][0]["audio"], json!({"base64_bytes": 4}));
    let prompts = usage.prompts.unwrap();
    assert_eq!((prompts.count, prompts.smallest, prompts.largest), (2, 10, 20));
    assert_eq!(
        meaning.notes,
        ["usage_of_several_responses_added", "usage_of_input_transcriptions_not_added"]
    );
    assert!(meaning.error.is_none() && !meaning.stream);
}

#[test]
fn responses_over_a_websocket() {
    let meaning = socket(
        "responses",
        &[json!({"type": "response.create", "model": "m", "input": "hi"})],
        &[
            json!({"type": "response.created", "response": {"id": "r1", "status": "in_progress"}}),
            json!({"type": "response.output_text.delta", "output_index": 0, "content_index": 0, "delta": "x"}),
            json!({"type": "response.completed", "response": {"id": "r1", "model": "m-1", "status": "completed", "output": [], "usage": usage(1, 1)}}),
        ],
    );
    assert_eq!(meaning.model_served.as_deref(), Some("m-1"));
    assert_eq!(meaning.usage.unwrap().total, Some(2));
    assert_eq!(meaning.response.unwrap()["responses"][0]["output"][0]["content"][0]["text"], "x");
}

#[test]
fn what_is_no_session() {
    let other = socket("realtime", &[json!([1])], &[]);
    assert_eq!((other.response, other.usage), (None, None));
    assert_eq!(other.notes, ["message_not_json"]);
}
