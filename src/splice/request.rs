//! Edits of the request.

use super::json::{Members, Span, skip_space};
use bytes::{Bytes, BytesMut};
use memchr::memmem;
use std::ops::Range;

/// A request body after its edits.
#[derive(Clone, Debug)]
pub struct Edited {
    /// What goes upstream; the very same bytes when nothing was edited.
    pub body: Bytes,
    /// The `calltap` member, when there was one.
    pub member: Option<Member>,
    /// Whether `include_usage` was put in.
    pub usage_injected: bool,
}

/// Where the `calltap` member stood in the original body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// What was cut, one comma and the white space around it included.
    pub cut: Range<usize>,
    /// The member's value.
    pub value: Range<usize>,
}

const ASK: &[u8] = br#""stream_options":{"include_usage":true}"#;

/// Cuts a top-level `calltap` member out of a JSON object and, with `inject_usage`, asks for usage
/// where the body streams and does not ask itself.
///
/// What goes upstream is valid JSON whenever `body` is. With a repeated key the last one counts, as
/// it does for JSON parsers; a repeated `calltap` leaves the body alone but for the last.
pub fn edit_request(body: &Bytes, inject_usage: bool) -> Edited {
    let unchanged = || Edited { body: body.clone(), member: None, usage_injected: false };
    let may_hold_member = memmem::find(body, b"\"calltap\"").is_some();
    let may_stream = inject_usage && memmem::find(body, b"\"stream\"").is_some();
    if !may_hold_member && !may_stream {
        return unchanged();
    }
    let (mut own, mut stream, mut options) = (None, None, None);
    let mut members = Members::new(body);
    let mut last = None;
    for span in &mut members {
        match body.get(span.key.clone()) {
            Some(b"\"calltap\"") => own = Some(span.clone()),
            Some(b"\"stream\"") => stream = Some(span.clone()),
            Some(b"\"stream_options\"") => options = Some(span.clone()),
            _ => {}
        }
        last = Some(span);
    }
    if !members.is_whole() {
        return unchanged();
    }
    let mut edits: Vec<(Range<usize>, Bytes)> = Vec::new();
    let member = own.map(|span| Member { cut: cut_of(body, &span), value: span.value });
    if let Some(member) = &member {
        edits.push((member.cut.clone(), Bytes::new()));
    }
    let streams = stream.is_some_and(|span| body.get(span.value) == Some(b"true"));
    let asked = if may_stream && streams {
        ask_for_usage(body, options.as_ref(), last.as_ref(), member.as_ref())
    } else {
        None
    };
    let usage_injected = asked.is_some();
    edits.extend(asked);
    if edits.is_empty() {
        return unchanged();
    }
    edits.sort_by_key(|(range, _)| (range.start, range.end));
    Edited { body: apply(body, &edits), member, usage_injected }
}

/// The member with one comma: the one before it, or, where it comes first, the one after it.
fn cut_of(body: &[u8], span: &Span) -> Range<usize> {
    if let Some(comma) = span.comma {
        return comma..span.value.end;
    }
    let after = skip_space(body, span.value.end);
    if body.get(after) == Some(&b',') {
        span.key.start..skip_space(body, after + 1)
    } else {
        span.key.start..span.value.end
    }
}

/// The edit that asks for usage; `None` when the body asks itself, or cannot be asked.
fn ask_for_usage(
    body: &[u8],
    options: Option<&Span>,
    last: Option<&Span>,
    member: Option<&Member>,
) -> Option<(Range<usize>, Bytes)> {
    let Some(options) = options else {
        // Behind the last member that stays; a body that streams has at least `stream`.
        let last = last?;
        let cut = member.map(|member| &member.cut);
        let at = match cut {
            Some(cut) if cut.end == last.value.end => cut.start,
            _ => last.value.end,
        };
        return Some((at..at, [b",", ASK].concat().into()));
    };
    let value = body.get(options.value.clone())?;
    if value == b"null" {
        return Some((options.value.clone(), Bytes::from_static(br#"{"include_usage":true}"#)));
    }
    if !value.starts_with(b"{") {
        return None; // nothing that a provider would take either
    }
    let (mut include, mut empty) = (None, true);
    let mut members = Members::new(value);
    for span in &mut members {
        empty = false;
        if value.get(span.key) == Some(b"\"include_usage\"") {
            include = Some(span.value);
        }
    }
    if !members.is_whole() {
        return None;
    }
    let start = options.value.start;
    match include {
        Some(include) if value.get(include.clone()) == Some(b"true") => None,
        Some(include) => {
            Some((start + include.start..start + include.end, Bytes::from_static(b"true")))
        }
        None => {
            let text: &[u8] =
                if empty { br#""include_usage":true"# } else { br#""include_usage":true,"# };
            Some((start + 1..start + 1, Bytes::copy_from_slice(text)))
        }
    }
}

/// Replaces ranges, which do not overlap and are in order.
fn apply(body: &[u8], edits: &[(Range<usize>, Bytes)]) -> Bytes {
    let added: usize = edits.iter().map(|(_, text)| text.len()).sum();
    let mut out = BytesMut::with_capacity(body.len() + added);
    let mut at = 0;
    for (range, text) in edits {
        out.extend_from_slice(body.get(at..range.start).unwrap_or_default());
        out.extend_from_slice(text);
        at = range.end;
    }
    out.extend_from_slice(body.get(at..).unwrap_or_default());
    out.freeze()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::{Value, json};

    fn edit(text: &str) -> (String, bool, Option<String>) {
        let edited = edit_request(&Bytes::copy_from_slice(text.as_bytes()), true);
        let member = edited.member.map(|member| text[member.value].to_owned());
        (String::from_utf8(edited.body.to_vec()).unwrap(), edited.usage_injected, member)
    }

    #[test]
    fn usage_is_asked_for_where_the_client_did_not() {
        for (before, after) in [
            (r#"{"stream":true}"#, r#"{"stream":true,"stream_options":{"include_usage":true}}"#),
            (
                "{ \"stream\" : true ,\n \"model\":\"m\"\n}",
                "{ \"stream\" : true ,\n \"model\":\"m\",\"stream_options\":{\"include_usage\":true}\n}",
            ),
            (
                r#"{"stream_options":null,"stream":true}"#,
                r#"{"stream_options":{"include_usage":true},"stream":true}"#,
            ),
            (
                r#"{"stream_options":{},"stream":true}"#,
                r#"{"stream_options":{"include_usage":true},"stream":true}"#,
            ),
            (
                r#"{"stream_options":{"include_usage":false,"a":1},"stream":true}"#,
                r#"{"stream_options":{"include_usage":true,"a":1},"stream":true}"#,
            ),
            (
                r#"{"stream_options":{"include_obfuscation":false},"stream":true}"#,
                r#"{"stream_options":{"include_usage":true,"include_obfuscation":false},"stream":true}"#,
            ),
            (
                r#"{"stream":true,"calltap":{}}"#,
                r#"{"stream":true,"stream_options":{"include_usage":true}}"#,
            ),
        ] {
            let (body, injected, _) = edit(before);
            assert_eq!(body, after);
            assert!(injected);
        }
    }

    #[test]
    fn other_bodies_are_left_alone() {
        for text in [
            r#"{"stream":false}"#,
            r#"{"stream":"true"}"#,
            r#"{"stream":true,"stream":false}"#,
            r#"{"stream":true,"stream_options":{"include_usage":true}}"#,
            r#"{"stream":true,"stream_options":7}"#,
            r#"{"a":{"stream":true}}"#,
            r#"{"stream":true"#,
            r#"{"stream":true} x"#,
            r#"[{"stream":true}]"#,
            "",
        ] {
            assert_eq!(edit(text), (text.to_owned(), false, None), "{text}");
        }
        let body = Bytes::from_static(br#"{"stream":true}"#);
        assert!(!edit_request(&body, false).usage_injected);
    }

    #[test]
    fn the_member_goes_with_one_comma() {
        for (before, after, value) in [
            (r#"{"calltap":{"a":1},"m":2}"#, r#"{"m":2}"#, r#"{"a":1}"#),
            (r#"{"m":2,"calltap":"x"}"#, r#"{"m":2}"#, r#""x""#),
            (r#"{"m":2 , "calltap": [] , "n":3}"#, r#"{"m":2  , "n":3}"#, "[]"),
            (r#"{ "calltap":null }"#, "{  }", "null"),
        ] {
            let (body, _, member) = edit(before);
            assert_eq!((body.as_str(), member.as_deref()), (after, Some(value)));
        }
        assert_eq!(edit(r#"{"m":{"calltap":1}}"#).2, None);
    }

    proptest! {
        #[test]
        fn only_what_was_meant_changes(
            keys in prop::collection::vec(
                prop::sample::select(vec!["model", "stream", "stream_options", "calltap", "messages", "x\"y"]), 0..6),
            values in prop::collection::vec(prop::sample::select(vec![
                json!(true), json!(false), json!(null), json!({}), json!({"include_usage": false, "k": [1, "}"]}),
                json!({"include_usage": true}), json!("a\\\"b"), json!([{"calltap": 1}]), json!(1.5)]), 6),
            pretty: bool,
        ) {
            let object: serde_json::Map<String, Value> =
                keys.iter().map(|k| (*k).to_owned()).zip(values).collect();
            let before = Value::Object(object.clone());
            let text = if pretty { format!("{before:#}") } else { before.to_string() };
            let edited = edit_request(&Bytes::from(text.clone()), true);
            let mut expected = object;
            let member = expected.shift_remove("calltap");
            prop_assert_eq!(edited.member.is_some(), member.is_some());
            if let Some(member) = &edited.member {
                prop_assert_eq!(Some(serde_json::from_str(&text[member.value.clone()]).unwrap()), member_value(&before));
            }
            let after: Value = serde_json::from_slice(&edited.body).unwrap();
            if edited.usage_injected {
                prop_assert_eq!(&expected["stream"], &json!(true));
                let options = expected.entry("stream_options").or_insert(json!({}));
                if options.is_null() { *options = json!({}); }
                options["include_usage"] = json!(true);
            } else if expected.get("stream") == Some(&json!(true)) {
                let options = expected.get("stream_options").cloned().unwrap_or(json!({}));
                prop_assert!(options["include_usage"] == json!(true) || !(options.is_object() || options.is_null()));
            }
            prop_assert_eq!(after, Value::Object(expected));
            // Edited once, there is nothing left to edit.
            let again = edit_request(&edited.body, true);
            prop_assert_eq!(again.body, edited.body);
        }
    }

    fn member_value(object: &Value) -> Option<Value> {
        object.get("calltap").cloned()
    }
}
