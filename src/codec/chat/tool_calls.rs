//! Tool calls from fragments, however a provider numbers them.
//!
//! The key is `index`; it may start anywhere, be missing, or be the same for all parallel calls. Ids
//! help where it fails, but they may be empty or repeated, so they are never a key by themselves.

use super::message::merge_arguments;
use crate::codec::{merge, notes::Notes};
use serde_json::{Map, Value};
use std::collections::HashMap;

/// Most calls put together for one message; fragments of further ones are dropped, with a note.
const CALLS_MAX: usize = 1024;

/// The calls so far.
#[derive(Debug, Default)]
pub(crate) struct ToolCalls {
    calls: Vec<Call>,
    /// The call that a fragment with this index continues.
    open: HashMap<i64, usize>,
    ids: HashMap<(Option<i64>, String), usize>,
    last: Option<usize>,
    dropped: u64,
}

#[derive(Debug)]
struct Call {
    index: Option<i64>,
    id: String,
    members: Map<String, Value>,
}

impl ToolCalls {
    /// Takes the `tool_calls` of a delta.
    pub(crate) fn add(&mut self, fragments: Value, notes: &mut Notes) {
        match fragments {
            Value::Null => {}
            Value::Array(fragments) => {
                for fragment in fragments {
                    self.add_fragment(fragment, notes);
                }
            }
            fragment => self.add_fragment(fragment, notes),
        }
    }

    /// The finished calls, in order of their indices; `None` when there are none.
    pub(crate) fn finish(mut self, notes: &mut Notes) -> Option<Value> {
        notes.add_many("tool_calls_beyond_limit", self.dropped);
        if self.calls.is_empty() {
            return None;
        }
        // Stable: calls that share an index keep the order in which they were opened.
        let last_index = i64::try_from(self.calls.len()).unwrap_or(i64::MAX);
        self.calls.sort_by_key(|call| call.index.unwrap_or(last_index));
        Some(Value::Array(self.calls.into_iter().map(Call::finish).collect()))
    }

    fn add_fragment(&mut self, fragment: Value, notes: &mut Notes) {
        let Value::Object(fragment) = fragment else {
            notes.add("tool_call_unreadable");
            return;
        };
        let index = fragment.get("index").and_then(|index| match index {
            Value::String(text) => text.parse().ok(),
            index => index.as_i64(),
        });
        let id = fragment.get("id").and_then(Value::as_str).unwrap_or_default().to_owned();
        let Some(place) = self.place(index, &id, &fragment) else {
            self.dropped += 1;
            return;
        };
        self.last = Some(place);
        if let Some(call) = self.calls.get_mut(place) {
            if call.id.is_empty() && !id.is_empty() {
                self.ids.insert((index, id.clone()), place);
                self.ids.entry((None, id.clone())).or_insert(place);
                call.id = id;
            }
            call.add(fragment);
        }
    }

    /// Which call a fragment belongs to, opened where it is new.
    fn place(
        &mut self,
        index: Option<i64>,
        id: &str,
        fragment: &Map<String, Value>,
    ) -> Option<usize> {
        let by_id = || self.ids.get(&(index, id.to_owned())).copied().filter(|_| !id.is_empty());
        // A bare fragment whose index is new goes on with a call that had none.
        let unnumbered = || {
            let last = self
                .last
                .filter(|last| self.calls.get(*last).is_some_and(|call| call.index.is_none()));
            last.filter(|_| id.is_empty() && !has_name(fragment))
        };
        let open = match index {
            Some(index) => self.open.get(&index).copied().or_else(unnumbered),
            None => self.last,
        };
        let continued =
            by_id().or_else(|| open.filter(|place| self.continues(*place, index, id, fragment)));
        let place = match continued {
            Some(place) => place,
            None if self.calls.len() >= CALLS_MAX => return None,
            None => {
                self.calls.push(Call { index, id: String::new(), members: Map::new() });
                self.calls.len() - 1
            }
        };
        if let Some(index) = index {
            self.open.insert(index, place);
        }
        Some(place)
    }

    /// Whether a fragment whose id was not seen before goes on with the open call.
    fn continues(
        &self,
        open: usize,
        index: Option<i64>,
        id: &str,
        fragment: &Map<String, Value>,
    ) -> bool {
        let Some(call) = self.calls.get(open) else { return false };
        if index.is_none() {
            return id.is_empty() && !has_name(fragment);
        }
        if !id.is_empty() {
            return call.id.is_empty();
        }
        // Whole calls, all numbered 0 and without ids: a second complete object opens a second call.
        let arguments = |members: &Map<String, Value>, is_edge: fn(&str) -> bool| {
            let arguments = members.get("function").and_then(|function| function.get("arguments"));
            arguments.is_some_and(|arguments| {
                arguments.is_object() || arguments.as_str().is_some_and(is_edge)
            })
        };
        let is_next = has_name(fragment)
            && arguments(&call.members, |text| edge(text.bytes().rev()) == Some(b'}'))
            && arguments(fragment, |text| edge(text.bytes()) == Some(b'{'));
        !is_next
    }
}

impl Call {
    fn add(&mut self, fragment: Map<String, Value>) {
        for (key, value) in fragment {
            match (key.as_str(), value) {
                ("index", _) => {}
                ("id" | "type", value) => {
                    merge::member(&mut self.members, key, value, merge::first_filled);
                }
                ("function" | "custom", Value::Object(part)) => {
                    let slot = self.members.entry(key).or_insert_with(|| Value::Object(Map::new()));
                    if let Value::Object(function) = slot {
                        add_function(function, part);
                    }
                }
                (_, value) => merge::member(&mut self.members, key, value, merge::deep),
            }
        }
    }

    fn finish(mut self) -> Value {
        let mut call = Map::new();
        let id = self.members.shift_remove("id").unwrap_or_else(|| Value::String(String::new()));
        let kind =
            self.members.shift_remove("type").filter(merge::is_filled).unwrap_or_else(|| {
                let is_custom =
                    self.members.contains_key("custom") && !self.members.contains_key("function");
                Value::String(if is_custom { "custom" } else { "function" }.to_owned())
            });
        call.insert("id".to_owned(), id);
        call.insert("type".to_owned(), kind);
        call.extend(self.members);
        Value::Object(call)
    }
}

/// How far from its ends a text is looked at for the brace that opens or closes it.
const EDGE_BYTES: usize = 64;

/// The first byte that is no white space.
fn edge(mut bytes: impl Iterator<Item = u8>) -> Option<u8> {
    bytes.by_ref().take(EDGE_BYTES).find(|byte| !byte.is_ascii_whitespace())
}

fn has_name(fragment: &Map<String, Value>) -> bool {
    let name = |kind: &str| fragment.get(kind)?.get("name")?.as_str();
    ["function", "custom"].iter().any(|kind| name(kind).is_some_and(|name| !name.is_empty()))
}

/// Takes a piece of a function (or of a custom tool).
fn add_function(function: &mut Map<String, Value>, part: Map<String, Value>) {
    for (key, value) in part {
        let rule = match key.as_str() {
            "name" => merge_name,
            "arguments" | "input" => merge_arguments,
            _ => merge::deep,
        };
        merge::member(function, key, value, rule);
    }
}

/// A name is sent once, once and then empty, or whole in every fragment; only another piece is appended.
fn merge_name(slot: &mut Value, value: Value) {
    if *slot != value {
        merge::text(slot, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn calls(deltas: &[Value]) -> Value {
        let (mut calls, mut notes) = (ToolCalls::default(), Notes::default());
        for delta in deltas {
            calls.add(delta.clone(), &mut notes);
        }
        calls.finish(&mut notes).unwrap_or_default()
    }

    /// Id, name and arguments of each call.
    fn short(deltas: &[Value]) -> Vec<(String, String, String)> {
        let text = |value: &Value| value.as_str().unwrap_or("?").to_owned();
        let calls = calls(deltas);
        let calls = calls.as_array().cloned().unwrap_or_default();
        calls
            .iter()
            .map(|call| {
                (
                    text(&call["id"]),
                    text(&call["function"]["name"]),
                    text(&call["function"]["arguments"]),
                )
            })
            .collect()
    }

    fn of(calls: &[(&str, &str, &str)]) -> Vec<(String, String, String)> {
        calls.iter().map(|(a, b, c)| ((*a).to_owned(), (*b).to_owned(), (*c).to_owned())).collect()
    }

    #[test]
    fn fragments_by_index_with_gaps() {
        assert_eq!(
            calls(&[
                json!([{"index": 3, "id": "b", "type": "function", "function": {"name": "g", "arguments": ""}}]),
                json!([{"index": 1, "id": "a", "function": {"name": "f", "arguments": "{\"x\""}}]),
                json!([{"index": 3, "function": {"arguments": "{}"}}, {"index": 1, "function": {"arguments": ":1}"}}]),
            ]),
            json!([
                {"id": "a", "type": "function", "function": {"name": "f", "arguments": "{\"x\":1}"}},
                {"id": "b", "type": "function", "function": {"name": "g", "arguments": "{}"}},
            ])
        );
    }

    #[test]
    fn without_index() {
        assert_eq!(
            short(&[
                json!([{"id": "a", "function": {"name": "f", "arguments": "{\"x\""}}]),
                json!([{"function": {"arguments": ":1}"}}]),
                json!([{"id": "b", "function": {"name": "g", "arguments": "{}"}}]),
                json!([{"id": "a", "function": {"name": "", "arguments": " "}}]),
                json!([{"function": {"name": "h", "arguments": {"y": 2}}}]),
            ]),
            of(&[("a", "f", "{\"x\":1} "), ("b", "g", "{}"), ("", "h", "{\"y\":2}")])
        );
        let only_first = [
            json!([{"index": 0, "id": "a", "function": {"name": "f", "arguments": "{"}}]),
            json!([{"id": "a", "function": {"arguments": "\"x\""}}, {"function": {"arguments": ":1}"}}]),
        ];
        assert_eq!(short(&only_first), of(&[("a", "f", "{\"x\":1}")]));
        let only_later = [
            json!([{"id": "a", "function": {"name": "f", "arguments": "{"}}]),
            json!([{"index": "0", "function": {"arguments": "\"x\""}}, {"index": 0, "function": {"arguments": ":1}"}}]),
        ];
        assert_eq!(short(&only_later), of(&[("a", "f", "{\"x\":1}")]));
    }

    #[test]
    fn all_with_index_zero() {
        let call = |id: &str, name: &str, arguments: &str| json!([{"index": 0, "id": id, "function": {"name": name, "arguments": arguments}}]);
        let expected = of(&[("a", "f", "{\"x\":1}"), ("b", "g", "{}")]);
        let by_id = [
            call("a", "f", "{\"x\""),
            call("a", "", ":1}"),
            call("b", "g", "{"),
            call("", "", "}"),
        ];
        assert_eq!(short(&by_id), expected);
        let interleaved = [
            call("a", "f", "{\"x\""),
            call("b", "g", "{"),
            call("a", "f", ":1}"),
            call("b", "g", "}"),
        ];
        assert_eq!(short(&interleaved), expected);
        let without_ids = [call("", "f", "{\"x\":1}"), call("", "g", "{}")];
        assert_eq!(short(&without_ids), of(&[("", "f", "{\"x\":1}"), ("", "g", "{}")]));
        let late_id = [call("", "f", "{"), call("a", "", "\"x\":1}"), call("b", "g", "{}")];
        assert_eq!(short(&late_id), expected);
    }

    #[test]
    fn names_once_or_repeated_or_in_pieces() {
        let fragment = |name: Value, arguments: Value| json!([{"index": 0, "id": "a", "function": {"name": name, "arguments": arguments}}]);
        for names in [["f", "f"], ["f", ""], ["", "f"]] {
            let deltas =
                [fragment(json!(names[0]), json!("{")), fragment(json!(names[1]), json!("}"))];
            assert_eq!(short(&deltas), of(&[("a", "f", "{}")]), "{names:?}");
        }
        assert_eq!(
            short(&[
                fragment(json!("get_"), json!(null)),
                fragment(json!("it"), json!({"x": [1]}))
            ]),
            of(&[("a", "get_it", "{\"x\":[1]}")])
        );
        assert_eq!(
            short(&[fragment(json!("f"), json!("{")), fragment(json!(null), json!("}"))]),
            of(&[("a", "f", "{}")])
        );
    }

    #[test]
    fn custom_tools_and_unknown_members() {
        assert_eq!(
            calls(&[
                json!([{"index": 0, "id": "a", "type": "custom", "custom": {"name": "c", "input": "x"},
                    "extra_content": {"google": {"thought_signature": "s"}}}]),
                json!([{"index": 0, "type": "custom", "custom": {"input": "y"}, "extra_content": {"google": {"more": 1}}}]),
                json!([{"index": 1, "id": "b", "custom": {"name": "d", "input": ""}}]),
            ]),
            json!([
                {"id": "a", "type": "custom", "custom": {"name": "c", "input": "xy"},
                    "extra_content": {"google": {"thought_signature": "s", "more": 1}}},
                {"id": "b", "type": "custom", "custom": {"name": "d", "input": ""}},
            ])
        );
    }

    #[test]
    fn what_is_no_call() {
        assert_eq!(calls(&[json!(null), json!([]), json!([null, 7]), json!("x")]), json!(null));
        let single = json!({"index": 0, "id": "a", "function": {"name": "f"}});
        assert_eq!(calls(&[single])[0]["function"]["name"], "f");
        let many: Vec<Value> = (0..2000)
            .map(|index| json!([{"index": index, "id": "x", "function": {"name": "f"}}]))
            .collect();
        assert_eq!(calls(&many).as_array().map(Vec::len), Some(CALLS_MAX));
    }
}
