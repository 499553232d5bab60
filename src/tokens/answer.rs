//! Tokens of an answer, as far as it came.

use super::{Notes, Question, counter::Counter, family::Family, items, text};
use serde_json::Value;

/// What a call of a tool costs beside its text, roughly.
const PER_CALL: u64 = 10;
/// The same for the one call that a message could hold before there were tools.
const PER_LEGACY_CALL: u64 = 4;

/// Names under which providers show the model's thinking. Several hold the same text.
const REASONING: [&str; 3] = ["reasoning_content", "reasoning", "thinking"];

/// Tokens of the answer. What the model thought without showing it is not in them.
pub(super) fn count(
    question: &Question<'_>,
    family: &Family,
    counter: &mut Counter,
    notes: &mut Notes,
) -> u64 {
    if family.hidden_reasoning {
        notes.add("hidden reasoning is not counted: the output is a lower bound");
    }
    let Some(response) = question.response else { return 0 };
    let mut tokens: u64 = 0;
    for choice in items(response, "choices") {
        tokens += match choice.get("message") {
            Some(message) => of_message(message, counter, notes),
            None => counter.count(text(choice, "text")),
        };
        if !question.broke_off && question.endpoint == "chat.completions" {
            tokens += family.around_answer;
        }
    }
    let output = items(response, "output");
    tokens += output.iter().map(|item| of_item(item, counter, notes)).sum::<u64>();
    if !output.is_empty() && !question.broke_off {
        tokens += family.around_answer;
    }
    tokens.saturating_mul(family.percent) / 100
}

fn of_message(message: &Value, counter: &mut Counter, notes: &mut Notes) -> u64 {
    let shown = REASONING.iter().map(|key| text(message, key)).find(|text| !text.is_empty());
    let mut tokens = counter.count(shown.unwrap_or_default());
    tokens += counter.count(text(message, "refusal"));
    tokens += message.get("content").map_or(0, |content| of_content(content, counter));
    for call in items(message, "tool_calls") {
        let inner = call.get("function").or_else(|| call.get("custom")).unwrap_or(call);
        tokens += PER_CALL + of_call(inner, counter);
    }
    if let Some(call) = message.get("function_call").filter(|call| call.is_object()) {
        tokens += PER_LEGACY_CALL + of_call(call, counter);
    }
    if message.get("audio").is_some_and(Value::is_object) {
        notes.add("audio is not counted");
    }
    tokens
}

fn of_item(item: &Value, counter: &mut Counter, notes: &mut Notes) -> u64 {
    match text(item, "type") {
        "message" | "reasoning" => {
            item.get("content").map_or(0, |content| of_content(content, counter))
        }
        "function_call" | "custom_tool_call" => PER_CALL + of_call(item, counter),
        _ => {
            notes.add("items of another kind are not counted");
            0
        }
    }
}

fn of_call(call: &Value, counter: &mut Counter) -> u64 {
    let name = counter.count(text(call, "name"));
    name + counter.count(text(call, "arguments")) + counter.count(text(call, "input"))
}

fn of_content(content: &Value, counter: &mut Counter) -> u64 {
    match content {
        Value::String(text) => counter.count(text),
        Value::Array(parts) => parts
            .iter()
            .flat_map(|part| [text(part, "text"), text(part, "refusal"), text(part, "thinking")])
            .map(|text| counter.count(text))
            .sum(),
        _ => 0,
    }
}
