//! Content: a text that grows, or a list of parts that grow.

use crate::codec::{merge, notes::Notes};
use serde_json::{Map, Value};

/// The content so far: a text, or from the first part on (Mistral's reasoning models) parts.
#[derive(Debug, Default)]
pub(crate) struct Content {
    text: Option<String>,
    parts: Vec<Value>,
}

impl Content {
    /// Takes one piece.
    pub(crate) fn add(&mut self, piece: Value, notes: &mut Notes) {
        match piece {
            Value::Null => {}
            Value::String(text) => self.add_text(&text),
            Value::Array(parts) => parts.into_iter().for_each(|part| self.add_part(part)),
            part @ Value::Object(_) => self.add_part(part),
            Value::Bool(_) | Value::Number(_) => notes.add("content_is_no_text"),
        }
    }

    /// Takes a piece of text.
    pub(crate) fn add_text(&mut self, text: &str) {
        if self.parts.is_empty() {
            self.text.get_or_insert_default().push_str(text);
        } else {
            self.add_text_part(text.to_owned());
        }
    }

    /// The finished content; null where only nulls arrived.
    pub(crate) fn finish(self) -> Value {
        match self.text {
            _ if !self.parts.is_empty() => Value::Array(self.parts),
            Some(text) => Value::String(text),
            None => Value::Null,
        }
    }

    fn add_text_part(&mut self, text: String) {
        if !text.is_empty() {
            let members = [("type", "text".to_owned()), ("text", text)];
            let members = members.map(|(key, value)| (key.to_owned(), Value::String(value)));
            self.add_object(Map::from_iter(members));
        }
    }

    fn add_part(&mut self, part: Value) {
        if let (true, Some(text)) = (self.parts.is_empty(), self.text.take()) {
            self.add_text_part(text);
        }
        match part {
            Value::Null => {}
            Value::String(text) => self.add_text_part(text),
            Value::Object(part) => self.add_object(part),
            part => self.parts.push(part),
        }
    }

    /// Joins a part to the last one where both are text or both are thoughts; else appends it.
    fn add_object(&mut self, part: Map<String, Value>) {
        match self.parts.last_mut() {
            Some(Value::Object(last)) if kind(last).is_some() && kind(last) == kind(&part) => {
                for (key, value) in part {
                    merge::member(last, key.clone(), value, member_rule(&key));
                }
            }
            _ => self.parts.push(Value::Object(part)),
        }
    }
}

/// The types whose neighbours are one part sent in pieces.
fn kind(part: &Map<String, Value>) -> Option<&'static str> {
    let kind = part.get("type")?.as_str()?;
    ["text", "thinking", "reasoning"].into_iter().find(|known| *known == kind)
}

fn member_rule(key: &str) -> fn(&mut Value, Value) {
    match key {
        "text" | "thinking" | "summary" => join_inner,
        "type" => merge::last,
        _ => merge::unknown,
    }
}

/// Joins texts; of lists of inner parts the last and the first, where both are texts.
fn join_inner(slot: &mut Value, value: Value) {
    match (slot, value) {
        (Value::Array(old), Value::Array(new)) => {
            for part in new {
                match (old.last_mut(), part) {
                    (Some(Value::Object(last)), Value::Object(part))
                        if last.get("type") == part.get("type") && part.contains_key("text") =>
                    {
                        for (key, value) in part {
                            let rule = if key == "text" { merge::text } else { merge::unknown };
                            merge::member(last, key, value, rule);
                        }
                    }
                    (_, part) => old.push(part),
                }
            }
        }
        (slot, value) => merge::text(slot, value),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn content(pieces: &[Value]) -> Value {
        let (mut content, mut notes) = (Content::default(), Notes::default());
        for piece in pieces {
            content.add(piece.clone(), &mut notes);
        }
        content.finish()
    }

    #[test]
    fn texts() {
        assert_eq!(content(&[json!(null)]), json!(null));
        assert_eq!(content(&[json!(null), json!("")]), json!(""));
        assert_eq!(
            content(&[json!("a"), json!(null), json!("b"), json!(7), json!([])]),
            json!("ab")
        );
    }

    #[test]
    fn parts() {
        let thought = |text: &str| json!([{"type": "thinking", "thinking": [{"type": "text", "text": text}]}]);
        let closing = json!([
            {"type": "thinking", "thinking": [{"type": "text", "text": "c"}], "closed": true, "signature": "s"},
            {"type": "text", "text": "1"},
        ]);
        assert_eq!(
            content(&[
                json!(""),
                thought("a"),
                thought("b"),
                closing,
                json!("2"),
                json!([{"type": "text", "text": "3"}])
            ]),
            json!([
                {"type": "thinking", "thinking": [{"type": "text", "text": "abc"}], "closed": true, "signature": "s"},
                {"type": "text", "text": "123"},
            ])
        );
    }

    #[test]
    fn other_parts_stay_apart_and_keep_their_order() {
        let reference = json!({"type": "reference", "reference_ids": [1]});
        assert_eq!(
            content(&[
                json!("a"),
                json!([reference]),
                json!([reference]),
                json!("b"),
                json!({"type": "text", "text": "c"})
            ]),
            json!([{"type": "text", "text": "a"}, reference, reference, {"type": "text", "text": "bc"}])
        );
    }
}
