//! A chat message that grows by deltas, field by field.

use super::{audio::Audio, content::Content, reasoning::Details, tool_calls::ToolCalls};
use crate::codec::{
    merge::{self, Indexed},
    notes::Notes,
};
use serde_json::{Map, Value};

/// The message so far.
#[derive(Debug, Default)]
pub(crate) struct Message {
    role: Value,
    content: Content,
    thinking_blocks: Content,
    reasoning_details: Details,
    tool_calls: ToolCalls,
    function_call: Map<String, Value>,
    audio: Audio,
    images: Indexed,
    executed_tools: Indexed,
    /// Everything else, in order of first appearance.
    members: Map<String, Value>,
}

impl Message {
    /// Takes a delta.
    pub(crate) fn add(&mut self, delta: Map<String, Value>, notes: &mut Notes) {
        for (key, value) in delta {
            match key.as_str() {
                "role" => merge::first_filled(&mut self.role, value),
                "content" => self.content.add(value, notes),
                "tool_calls" => self.tool_calls.add(value, notes),
                "reasoning_details" => self.reasoning_details.add(value),
                "thinking_blocks" => self.thinking_blocks.add(value, notes),
                "function_call" => self.add_function_call(value),
                "audio" => self.audio.add(value),
                "images" => self.images.add(value),
                "executed_tools" => self.executed_tools.add(value),
                // One number a token (Together): nothing to join, and only the last would be left.
                "token_id" => {}
                // Reasoning has as many names as there are providers.
                "refusal" | "reasoning" | "reasoning_content" | "reasoning_text" | "thinking" => {
                    merge::member(&mut self.members, key, value, merge::text);
                }
                "annotations" => merge::member(&mut self.members, key, value, merge::append),
                _ => merge::member(&mut self.members, key, value, merge::unknown),
            }
        }
    }

    /// Takes a further piece of its content.
    pub(crate) fn add_text(&mut self, text: &str) {
        self.content.add_text(text);
    }

    /// The finished message.
    pub(crate) fn finish(mut self, notes: &mut Notes) -> Value {
        if !merge::is_filled(&self.role) {
            self.role = Value::String("assistant".to_owned());
        }
        let mut message = Map::new();
        message.insert("role".to_owned(), self.role);
        message.insert("content".to_owned(), self.content.finish());
        message.extend(self.members);
        let function_call =
            (!self.function_call.is_empty()).then_some(Value::Object(self.function_call));
        for (key, value) in [
            ("reasoning_details", self.reasoning_details.finish()),
            (
                "thinking_blocks",
                Some(self.thinking_blocks.finish()).filter(|blocks| !blocks.is_null()),
            ),
            ("images", self.images.finish()),
            ("audio", self.audio.finish()),
            ("executed_tools", self.executed_tools.finish()),
            ("function_call", function_call),
            ("tool_calls", self.tool_calls.finish(notes)),
        ] {
            if let Some(value) = value {
                message.insert(key.to_owned(), value);
            }
        }
        Value::Object(message)
    }

    /// The call of the time before tools: one, without an id.
    fn add_function_call(&mut self, value: Value) {
        let Value::Object(call) = value else { return };
        for (key, value) in call {
            let rule = match key.as_str() {
                "name" => merge::first_filled,
                "arguments" => merge_arguments,
                _ => merge::deep,
            };
            merge::member(&mut self.function_call, key, value, rule);
        }
    }
}

/// Joins the text of arguments; those that come as an object are written as JSON first.
pub(crate) fn merge_arguments(slot: &mut Value, value: Value) {
    match value {
        Value::Null | Value::String(_) => merge::text(slot, value),
        value => merge::text(slot, Value::String(value.to_string())),
    }
}
