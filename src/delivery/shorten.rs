//! A record made smaller for a sink that does not take it whole.

use crate::model::Record;
use serde_json::Value;

/// Bytes of a text that stay.
const TEXT_MAX: usize = 1024;
/// Items of a list that stay: the last ones.
const ITEMS_MAX: usize = 50;
/// Deepest nesting that is looked at; what lies below is left out.
const DEPTH_MAX: usize = 64;

/// Cuts long texts and lists of bodies and metadata, and says so in a note.
pub fn shorten(record: &mut Record) {
    let tags = &mut record.tags;
    let inputs = tags.inputs.values_mut().chain(tags.metadata.values_mut());
    let values = inputs
        .chain(record.request.as_mut())
        .chain(record.response.as_mut())
        .chain(tags.context.as_mut())
        .chain(tags.expected.as_mut())
        .chain(record.parameters.values_mut());
    values.for_each(|value| cut(value, 0));
    if let Some(query) = &mut tags.user_query {
        cut_text(query);
    }
    record.notes.push("the record was too large for the sink and was cut".to_owned());
}

fn cut(value: &mut Value, depth: usize) {
    match value {
        Value::String(text) => cut_text(text),
        Value::Array(_) | Value::Object(_) if depth > DEPTH_MAX => *value = Value::Null,
        Value::Array(items) => {
            let over = items.len().saturating_sub(ITEMS_MAX);
            items.drain(..over);
            for item in items {
                cut(item, depth + 1);
            }
        }
        Value::Object(members) => members.values_mut().for_each(|member| cut(member, depth + 1)),
        _ => {}
    }
}

fn cut_text(text: &mut String) {
    if text.len() > TEXT_MAX {
        let all = text.len();
        text.truncate(text.floor_char_boundary(TEXT_MAX));
        text.push_str(&format!("… [cut, {all} bytes]"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{interpret::begun, model::Head};
    use serde_json::json;

    #[test]
    fn texts_and_lists_are_cut_and_the_same_again() {
        let mut record = begun(&Head::default());
        let text = "é".repeat(5000);
        let items: Vec<_> = (0..500).map(|at| json!({"role": "user", "content": at})).collect();
        record.request = Some(json!({"messages": items, "other": text}));
        let mut again = record.clone();
        shorten(&mut record);
        shorten(&mut again);
        let request = record.request.unwrap();
        assert_eq!(request["messages"].as_array().unwrap().len(), ITEMS_MAX);
        assert_eq!(request["messages"][ITEMS_MAX - 1]["content"], 499);
        assert!(request["other"].as_str().unwrap().ends_with("… [cut, 10000 bytes]"));
        assert_eq!(Some(request), again.request);
        assert_eq!(record.notes.len(), 1);
    }
}
