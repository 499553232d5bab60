//! One item of an output, growing: from the item that announced it, its parts and their pieces.

use crate::codec::{merge, notes::Notes};
use serde_json::{Map, Value};
use std::collections::BTreeMap;

/// Most parts of one list put together; pieces of further ones are dropped, with a note.
const PARTS_MAX: usize = 4096;

/// The item so far.
#[derive(Debug, Default)]
pub(super) struct Item {
    members: Map<String, Value>,
    /// The item as a `done` event gave it: nothing else counts any more.
    done: Option<Value>,
    content: Parts,
    summary: Parts,
    commands: Parts,
    outputs: Parts,
}

/// Parts by index; gaps close at the end.
#[derive(Debug, Default)]
struct Parts(BTreeMap<i64, Value>);

/// A list that pieces belong to.
#[derive(Clone, Copy)]
enum List {
    Content,
    Summary,
}

/// Where the pieces of an event go.
#[derive(Clone, Copy)]
enum Place {
    /// The text of a part: its list, its type, its member.
    Part(List, &'static str, &'static str),
    /// A member of the item.
    Member(&'static str),
    /// The patch inside `operation`.
    Diff,
    /// A command inside `action`.
    Command,
    /// What a command wrote.
    Output,
}

/// Events that come in pieces, without `.delta` and `.done`. Sources: `openai-surface.md` §7.3, §13.
const GROWING: &[(&str, Place)] = &[
    ("output_text", Place::Part(List::Content, "output_text", "text")),
    ("text", Place::Part(List::Content, "text", "text")),
    ("output_audio_transcript", Place::Part(List::Content, "output_audio", "transcript")),
    ("audio_transcript", Place::Part(List::Content, "audio", "transcript")),
    ("refusal", Place::Part(List::Content, "refusal", "refusal")),
    ("reasoning_text", Place::Part(List::Content, "reasoning_text", "text")),
    ("reasoning_summary_text", Place::Part(List::Summary, "summary_text", "text")),
    ("reasoning_summary", Place::Part(List::Summary, "summary_text", "text")),
    ("function_call_arguments", Place::Member("arguments")),
    ("mcp_call_arguments", Place::Member("arguments")),
    ("custom_tool_call_input", Place::Member("input")),
    ("code_interpreter_call_code", Place::Member("code")),
    ("apply_patch_call_operation_diff", Place::Diff),
    ("shell_call_command", Place::Command),
    ("shell_call_output_content", Place::Output),
];

/// Events about whole parts.
const WHOLE: &[&str] = &[
    "output_item",
    "content_part",
    "reasoning_part",
    "reasoning_summary_part",
    "output_text.annotation",
];

impl Item {
    /// Whether an event of this kind says anything about an item's content.
    pub(super) fn knows(kind: &str) -> bool {
        kind.rsplit_once('.').is_some_and(|(thing, step)| {
            let in_steps = WHOLE.contains(&thing) || place(thing).is_some();
            in_steps && matches!(step, "added" | "delta" | "done")
        })
    }

    /// Takes an event.
    pub(super) fn add(&mut self, kind: &str, mut event: Map<String, Value>, notes: &mut Notes) {
        let Some((thing, step)) = kind.rsplit_once('.') else { return };
        let is_done = step == "done";
        match thing {
            "output_item" => self.set_item(event.shift_remove("item"), is_done),
            "content_part" | "reasoning_part" => {
                self.set_part(List::Content, event, is_done, notes);
            }
            "reasoning_summary_part" => self.set_part(List::Summary, event, is_done, notes),
            "output_text.annotation" => {
                let place = Place::Part(List::Content, "output_text", "text");
                let annotation = event.shift_remove("annotation").unwrap_or_default();
                let Some(part) = self.part(place, &event, notes) else { return };
                merge::member(part, "annotations".to_owned(), annotation, merge::append);
            }
            thing => {
                if let Some(place) = place(thing) {
                    self.grow(place, event, is_done, notes);
                }
            }
        }
    }

    /// The finished item, `None` when nothing is known of it.
    pub(super) fn finish(mut self) -> Option<Value> {
        if self.done.is_some() {
            return self.done;
        }
        for (key, parts) in [("content", self.content), ("summary", self.summary)] {
            if !parts.0.is_empty() {
                self.members.insert(key.to_owned(), parts.finish());
            }
        }
        if !self.outputs.0.is_empty() {
            self.members.insert("output".to_owned(), self.outputs.finish());
        }
        if !self.commands.0.is_empty() {
            let action = self.members.entry("action").or_insert_with(|| Value::Object(Map::new()));
            if let Value::Object(action) = action {
                action.insert("commands".to_owned(), self.commands.finish());
            }
        }
        (!self.members.is_empty()).then_some(Value::Object(self.members))
    }

    fn set_item(&mut self, item: Option<Value>, is_done: bool) {
        let Some(item @ Value::Object(_)) = item else { return };
        if is_done {
            self.done = Some(item);
            return;
        }
        let Value::Object(mut members) = item else { return };
        for (key, parts) in [("content", &mut self.content), ("summary", &mut self.summary)] {
            if let Some(Value::Array(list)) = members.get_mut(key)
                && !list.is_empty()
            {
                parts.begin(std::mem::take(list));
            }
        }
        if let Some(Value::Array(list)) =
            members.get_mut("action").and_then(|a| a.get_mut("commands"))
        {
            self.commands.begin(std::mem::take(list));
        }
        // Pieces that came before the announcement stay.
        for (key, value) in members {
            self.members.entry(key).or_insert(value);
        }
    }

    fn set_part(
        &mut self,
        list: List,
        mut event: Map<String, Value>,
        is_done: bool,
        notes: &mut Notes,
    ) {
        let Some(part @ Value::Object(_)) = event.shift_remove("part") else { return };
        let Some(slot) = self.slot(list, &event, notes) else { return };
        if is_done || slot.is_null() {
            *slot = part;
        }
    }

    fn grow(
        &mut self,
        place: Place,
        mut event: Map<String, Value>,
        is_done: bool,
        notes: &mut Notes,
    ) {
        let member = match place {
            Place::Part(.., member) | Place::Member(member) => member,
            Place::Diff => "diff",
            Place::Command => "command",
            Place::Output => "output",
        };
        let key = if is_done { member } else { "delta" };
        let Some(piece) = event.shift_remove(key).filter(|piece| !piece.is_null()) else { return };
        let put = |slot: &mut Value, piece: Value| {
            if is_done {
                *slot = piece;
            } else {
                merge::text(slot, piece);
            }
        };
        match place {
            Place::Part(..) => {
                let logprobs = event.shift_remove("logprobs").unwrap_or_default();
                let Some(part) = self.part(place, &event, notes) else { return };
                put(part.entry(member).or_insert(Value::Null), piece);
                match logprobs {
                    Value::Null => {}
                    Value::Array(list) if list.is_empty() => {}
                    list if is_done => {
                        merge::member(part, "logprobs".to_owned(), list, merge::last);
                    }
                    list => merge::member(part, "logprobs".to_owned(), list, merge::append),
                }
            }
            Place::Member(_) => {
                put(self.members.entry(member).or_insert(Value::Null), piece);
                if let Some(name) = event.shift_remove("name") {
                    merge::member(&mut self.members, "name".to_owned(), name, merge::first_filled);
                }
            }
            Place::Diff => {
                let empty = || Value::Object(Map::new());
                if let Value::Object(operation) =
                    self.members.entry("operation").or_insert_with(empty)
                {
                    put(operation.entry("diff").or_insert(Value::Null), piece);
                }
            }
            Place::Command => {
                let Some(slot) = self.commands.slot(event.get("command_index"), notes) else {
                    return;
                };
                put(slot, piece);
            }
            Place::Output => self.add_output(&event, piece, is_done, notes),
        }
    }

    /// What a command wrote: pieces of `stdout` and `stderr`, at the end a list of all of it.
    fn add_output(
        &mut self,
        event: &Map<String, Value>,
        piece: Value,
        is_done: bool,
        notes: &mut Notes,
    ) {
        let Some(slot) = self.outputs.slot(event.get("command_index"), notes) else { return };
        if slot.is_null() {
            *slot = Value::Object(Map::new());
        }
        match (slot, piece) {
            (Value::Object(slot), Value::Object(pieces)) => {
                for (key, piece) in pieces {
                    merge::member(slot, key, piece, merge::text);
                }
            }
            (Value::Object(slot), piece @ Value::String(_)) => {
                merge::member(slot, "stdout".to_owned(), piece, merge::text);
            }
            (slot, Value::Array(mut list)) if is_done && list.len() == 1 => {
                *slot = list.pop().unwrap_or_default();
            }
            (_, Value::Array(list)) if is_done => {
                self.outputs = Parts::default();
                self.outputs.begin(list);
            }
            _ => {}
        }
    }

    fn slot(
        &mut self,
        list: List,
        event: &Map<String, Value>,
        notes: &mut Notes,
    ) -> Option<&mut Value> {
        match list {
            List::Content => self.content.slot(event.get("content_index"), notes),
            List::Summary => self.summary.slot(event.get("summary_index"), notes),
        }
    }

    /// The part that a piece belongs to, begun where no event announced it.
    fn part(
        &mut self,
        place: Place,
        event: &Map<String, Value>,
        notes: &mut Notes,
    ) -> Option<&mut Map<String, Value>> {
        let Place::Part(list, kind, _) = place else { return None };
        let slot = self.slot(list, event, notes)?;
        if !slot.is_object() {
            let kind = Value::String(kind.to_owned());
            *slot = Value::Object(Map::from_iter([("type".to_owned(), kind)]));
        }
        slot.as_object_mut()
    }
}

impl Parts {
    fn begin(&mut self, list: Vec<Value>) {
        for (index, part) in (0_i64..).zip(list.into_iter().take(PARTS_MAX)) {
            self.0.entry(index).or_insert(part);
        }
    }

    /// The place of a part; a missing index is 0.
    fn slot(&mut self, index: Option<&Value>, notes: &mut Notes) -> Option<&mut Value> {
        let index = index.map_or(Some(0), Value::as_i64);
        let room = |index: &i64| self.0.len() < PARTS_MAX || self.0.contains_key(index);
        let Some(index) = index.filter(room) else {
            notes.add("parts_beyond_limit");
            return None;
        };
        Some(self.0.entry(index).or_insert(Value::Null))
    }

    fn finish(self) -> Value {
        Value::Array(self.0.into_values().filter(|part| !part.is_null()).collect())
    }
}

fn place(thing: &str) -> Option<Place> {
    GROWING.iter().find(|(name, _)| *name == thing).map(|(_, place)| *place)
}
