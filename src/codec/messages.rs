//! Anthropic's own Messages API: one message, or the events that it grows by (`reliability.md` E23).
//!
//! Blocks grow by index. The beginning says what the prompt used, the end what was generated.

use super::{
    Codec, Meaning, Reading, errors, merge,
    notes::Notes,
    reader,
    stream::{Assembly, Data, Seen},
    text,
};
use crate::model::{Endpoint, UsageSource};
use serde_json::{Map, Value};
use std::collections::BTreeMap;

/// Most blocks put together; events of further ones are dropped, with a note.
const BLOCKS_MAX: usize = 4096;

/// `/messages`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Messages;

impl Codec for Messages {
    fn reads(&self, endpoint: &Endpoint) -> bool {
        endpoint.as_str() == "messages"
    }

    fn read(&self, reading: &Reading<'_>) -> Meaning {
        let mut meaning = reader::read(reading, || Box::<Events>::default());
        let reason = meaning.response.as_ref().and_then(|message| message.get("stop_reason"));
        meaning.finish_reasons = text::name(reason).into_iter().collect();
        if meaning.stream && !meaning.finish_reasons.is_empty() {
            meaning.terminal = true;
        } else if let (true, Some(usage)) = (meaning.stream, &mut meaning.usage) {
            // Of what was generated only the first tokens were counted.
            usage.source = UsageSource::Partial;
        }
        meaning
    }
}

/// The message, growing.
#[derive(Debug, Default)]
struct Events {
    message: Map<String, Value>,
    blocks: BTreeMap<i64, Block>,
    error: Option<Value>,
    recognized: bool,
}

/// One block of the content, growing.
#[derive(Debug, Default)]
struct Block {
    members: Map<String, Value>,
    /// The JSON of a tool's input, which comes in pieces.
    input: String,
}

impl Assembly for Events {
    fn add(&mut self, event: Data<'_>, notes: &mut Notes) -> Seen {
        let Value::Object(mut members) = event.value else { return Seen::default() };
        if event.failed {
            self.recognized = true;
            self.error = Some(errors::told(members));
            return Seen::default();
        }
        let kind = members.get("type").and_then(Value::as_str).unwrap_or(event.name).to_owned();
        let mut output = false;
        match kind.as_str() {
            "message_start" => {
                if let Some(Value::Object(message)) = members.shift_remove("message") {
                    self.message = message;
                }
            }
            "content_block_start" => {
                let Some(Value::Object(begun)) = members.shift_remove("content_block") else {
                    return Seen::default();
                };
                let kind = begun.get("type").and_then(Value::as_str).unwrap_or_default();
                output = kind.ends_with("tool_use");
                if let Some(block) = self.block(&members, notes) {
                    block.members = begun;
                }
            }
            "content_block_delta" => {
                let Some(Value::Object(delta)) = members.shift_remove("delta") else {
                    return Seen::default();
                };
                output = self.block(&members, notes).is_some_and(|block| block.grow(delta));
            }
            "message_delta" => {
                if let Some(Value::Object(delta)) = members.shift_remove("delta") {
                    for (key, value) in delta {
                        merge::member(&mut self.message, key, value, merge::last);
                    }
                }
                for (key, value) in members.into_iter().filter(|(key, _)| key != "type") {
                    merge::member(&mut self.message, key, value, merge::deep);
                }
            }
            "message_stop" => {
                self.recognized = true;
                return Seen { output: false, terminal: true, ..Seen::default() };
            }
            _ => return Seen::default(),
        }
        self.recognized = true;
        Seen { output, terminal: false, ..Seen::default() }
    }

    fn finish(mut self: Box<Self>, _: &mut Notes) -> Option<Value> {
        if !self.recognized {
            return None;
        }
        let blocks: Vec<Value> = self.blocks.into_values().map(Block::finish).collect();
        if !blocks.is_empty() {
            self.message.insert("content".to_owned(), Value::Array(blocks));
        }
        self.message.extend(self.error.map(|error| ("error".to_owned(), error)));
        (!self.message.is_empty()).then_some(Value::Object(self.message))
    }
}

impl Events {
    fn block(&mut self, event: &Map<String, Value>, notes: &mut Notes) -> Option<&mut Block> {
        let index = event.get("index").map_or(Some(0), Value::as_i64);
        let room = |index: &i64| self.blocks.len() < BLOCKS_MAX || self.blocks.contains_key(index);
        let Some(index) = index.filter(room) else {
            notes.add("blocks_beyond_limit");
            return None;
        };
        Some(self.blocks.entry(index).or_default())
    }
}

impl Block {
    /// Takes a piece; true when it was generated.
    fn grow(&mut self, delta: Map<String, Value>) -> bool {
        let mut output = false;
        for (key, value) in delta {
            match key.as_str() {
                "type" => {}
                "partial_json" => self.input.push_str(value.as_str().unwrap_or_default()),
                "citation" => {
                    merge::member(&mut self.members, "citations".to_owned(), value, merge::append);
                }
                "text" | "thinking" => {
                    output |= errors::is_truthy(&value);
                    let kind = Value::String(key.clone());
                    self.members.entry("type").or_insert(kind);
                    merge::member(&mut self.members, key, value, merge::text);
                }
                "signature" => merge::member(&mut self.members, key, value, merge::text),
                _ => merge::member(&mut self.members, key, value, merge::unknown),
            }
        }
        output
    }

    /// The finished block. Input that broke off stays the text it is.
    fn finish(mut self) -> Value {
        if !self.input.is_empty() {
            let input = super::json::parse(self.input.as_bytes()).map(|(input, _)| input);
            let input = input.unwrap_or(Value::String(self.input));
            self.members.insert("input".to_owned(), input);
        }
        Value::Object(self.members)
    }
}

#[cfg(test)]
mod tests {
    use crate::codec::{Meaning, Reading, answer_text, read};
    use crate::model::{Endpoint, UsageSource};
    use serde_json::json;

    const STREAM: &str = r#"event: message_start
data: {"type":"message_start","message":{"id":"msg_1","type":"message","role":"assistant","model":"claude-x","content":[],"stop_reason":null,"usage":{"input_tokens":9,"cache_read_input_tokens":20,"output_tokens":1}}}

event: ping
data: {"type":"ping"}

event: content_block_start
data: {"type":"content_block_start","index":1,"content_block":{"type":"thinking","thinking":"","signature":""}}

event: content_block_delta
data: {"type":"content_block_delta","index":1,"delta":{"type":"thinking_delta","thinking":"why"}}

event: content_block_delta
data: {"type":"content_block_delta","index":1,"delta":{"type":"signature_delta","signature":"s"}}

event: content_block_start
data: {"type":"content_block_start","index":3,"content_block":{"type":"text","text":""}}

event: content_block_delta
data: {"type":"content_block_delta","index":3,"delta":{"type":"text_delta","text":"Hel"}}

event: content_block_delta
data: {"type":"content_block_delta","index":3,"delta":{"type":"text_delta","text":"lo"}}

event: content_block_start
data: {"type":"content_block_start","index":4,"content_block":{"type":"tool_use","id":"t","name":"f","input":{}}}

event: content_block_delta
data: {"type":"content_block_delta","index":4,"delta":{"type":"input_json_delta","partial_json":"{\"x\":"}}

"#;

    const END: &str = r#"event: content_block_delta
data: {"type":"content_block_delta","index":4,"delta":{"type":"input_json_delta","partial_json":"1}"}}

event: content_block_stop
data: {"type":"content_block_stop","index":4}

event: message_delta
data: {"type":"message_delta","delta":{"stop_reason":"tool_use","stop_sequence":null},"usage":{"output_tokens":7}}

event: message_stop
data: {"type":"message_stop"}

"#;

    fn of(body: &str, content_type: &str) -> Meaning {
        read(&Reading {
            endpoint: &Endpoint::of("/v1/messages"),
            provider: "anthropic",
            method: "POST",
            path: "/v1/messages",
            request: br#"{"model":"claude","system":"be brief","max_tokens":5,"messages":[{"role":"user","content":"hi"}]}"#,
            status: Some(200),
            content_type: Some(content_type),
            response: body.as_bytes(),
        })
    }

    #[test]
    fn blocks_grow_by_index() {
        let meaning = of(&format!("{STREAM}{END}"), "text/event-stream");
        let message = meaning.response.unwrap();
        assert_eq!(
            message["content"],
            json!([{"type": "thinking", "thinking": "why", "signature": "s"}, {"type": "text", "text": "Hello"},
                {"type": "tool_use", "id": "t", "name": "f", "input": {"x": 1}}])
        );
        assert_eq!(answer_text(&message).as_deref(), Some("Hello"));
        assert_eq!(meaning.finish_reasons, ["tool_use"]);
        assert_eq!(meaning.model_served.as_deref(), Some("claude-x"));
        let usage = meaning.usage.unwrap();
        assert_eq!((usage.input, usage.input_cached, usage.output), (Some(29), Some(20), Some(7)));
        assert_eq!(usage.source, UsageSource::Provider);
        assert_eq!((meaning.first_output_event, meaning.terminal), (Some(3), true));
        assert!(meaning.terminal_end.is_some() && meaning.notes.is_empty());
        assert_eq!(meaning.tags.user_query.as_deref(), Some("hi"));
        assert_eq!(json!(meaning.parameters), json!({"max_tokens": 5}));
    }

    #[test]
    fn broken_off_and_failed() {
        let cut = of(STREAM, "text/event-stream");
        assert!(!cut.terminal);
        assert_eq!(cut.usage.unwrap().source, UsageSource::Partial);
        assert_eq!(cut.response.unwrap()["content"][2]["input"], "{\"x\":");
        let failed = format!(
            "{STREAM}event: error\ndata: {{\"type\":\"error\",\"error\":{{\"type\":\"overloaded_error\",\"message\":\"Overloaded\"}}}}\n\n"
        );
        let failed = of(&failed, "text/event-stream");
        assert_eq!(failed.error.unwrap().kind.as_deref(), Some("overloaded_error"));
        let message = failed.response.unwrap();
        assert_eq!(
            (&message["content"][1]["text"], &message["error"]["message"]),
            (&json!("Hello"), &json!("Overloaded"))
        );
        let plain = of(
            r#"{"type":"message","model":"claude-x","content":[{"type":"text","text":"Hi"}],"stop_reason":"end_turn","usage":{"input_tokens":3,"output_tokens":2}}"#,
            "application/json",
        );
        assert_eq!(
            (plain.finish_reasons, plain.usage.unwrap().total),
            (vec!["end_turn".to_owned()], Some(5))
        );
    }
}
