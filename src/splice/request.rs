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
    /// What was cut, one comma included. Of several members this is the last; all of them are cut.
    pub cut: Range<usize>,
    /// The value; the last one where the key is repeated.
    pub value: Range<usize>,
}

/// Cuts a top-level `calltap` member out of a JSON object and, with `inject_usage`, asks for usage
/// where the body streams and does not ask itself.
///
/// What goes upstream is valid JSON whenever `body` is. With a repeated key the last one counts, as
/// it does for JSON parsers; a repeated `calltap` is cut wherever it stands.
pub fn edit_request(body: &Bytes, inject_usage: bool) -> Edited {
    let unchanged = || Edited { body: body.clone(), member: None, usage_injected: false };
    let may_hold_member = memmem::find(body, OWN).is_some();
    let may_stream = inject_usage && memmem::find(body, b"\"stream\"").is_some();
    if !may_hold_member && !may_stream {
        return unchanged();
    }
    let Some(top) = Top::read(body) else { return unchanged() };
    let mut edits: Vec<(Range<usize>, &[u8])> =
        cuts_of(body, &top.own).into_iter().map(|cut| (cut, &b""[..])).collect();
    let asked = if may_stream { ask_for_usage(body, &top) } else { None };
    let usage_injected = asked.is_some();
    edits.extend(asked);
    if edits.is_empty() {
        return unchanged();
    }
    edits.sort_by_key(|(range, _)| (range.start, range.end));
    let member =
        top.own.last().map(|span| Member { cut: cut_of(body, span), value: span.value.clone() });
    Edited { body: apply(body, &edits), member, usage_injected }
}

const OWN: &[u8] = b"\"calltap\"";

/// The top-level members that matter here.
#[derive(Debug, Default)]
struct Top {
    own: Vec<Span>,
    stream: Option<Span>,
    options: Option<Span>,
    /// The last member that stays.
    last: Option<Span>,
    /// A key is written with escapes, so that it may be any of the others.
    disguised: bool,
}

impl Top {
    /// `None` where `body` is no whole object.
    fn read(body: &[u8]) -> Option<Self> {
        let mut top = Self::default();
        let mut members = Members::new(body);
        for span in &mut members {
            let key = body.get(span.key.clone())?;
            if key == OWN {
                top.own.push(span);
                continue;
            }
            match key {
                b"\"stream\"" => top.stream = Some(span.clone()),
                b"\"stream_options\"" => top.options = Some(span.clone()),
                _ => top.disguised |= memchr::memchr(b'\\', key).is_some(),
            }
            top.last = Some(span);
        }
        members.is_whole().then_some(top)
    }
}

/// What is cut to be rid of `own`, which are in order. Ranges do not overlap.
fn cuts_of(body: &[u8], own: &[Span]) -> Vec<Range<usize>> {
    let mut cuts: Vec<Range<usize>> = Vec::new();
    for span in own {
        match cuts.last_mut() {
            // All before it goes, with the comma between them: it comes first now.
            Some(before) if before.end == span.key.start => before.end = through_comma(body, span),
            _ => cuts.push(cut_of(body, span)),
        }
    }
    cuts
}

/// The member with one comma: the one before it, or, where it comes first, the one after it.
fn cut_of(body: &[u8], span: &Span) -> Range<usize> {
    span.comma
        .map_or_else(|| span.key.start..through_comma(body, span), |comma| comma..span.value.end)
}

/// Where the next member starts; the end of the value where there is none.
fn through_comma(body: &[u8], span: &Span) -> usize {
    let after = skip_space(body, span.value.end);
    if body.get(after) == Some(&b',') { skip_space(body, after + 1) } else { span.value.end }
}

/// The edit that asks for usage; `None` when the body does not stream, asks itself, or cannot be
/// asked without changing what it means.
fn ask_for_usage(body: &[u8], top: &Top) -> Option<(Range<usize>, &'static [u8])> {
    if body.get(top.stream.clone()?.value)? != b"true" || top.disguised {
        return None;
    }
    let Some(options) = &top.options else {
        let at = top.last.as_ref()?.value.end;
        return Some((at..at, br#","stream_options":{"include_usage":true}"#));
    };
    let value = body.get(options.value.clone())?;
    if value == b"null" {
        return Some((options.value.clone(), br#"{"include_usage":true}"#));
    }
    let (mut include, mut empty) = (None, true);
    let mut members = Members::new(value);
    for span in &mut members {
        empty = false;
        let key = value.get(span.key)?;
        if key == b"\"include_usage\"" {
            include = Some(span.value);
        } else if memchr::memchr(b'\\', key).is_some() {
            return None;
        }
    }
    if !members.is_whole() {
        return None; // no object: nothing that a provider would take either
    }
    let start = options.value.start;
    match include {
        // Any other value is the provider's to refuse.
        Some(include) => matches!(value.get(include.clone())?, b"false" | b"null")
            .then(|| (start + include.start..start + include.end, &b"true"[..])),
        None if empty => Some((start + 1..start + 1, br#""include_usage":true"#)),
        None => Some((start + 1..start + 1, br#""include_usage":true,"#)),
    }
}

/// Replaces ranges, which do not overlap and are in order.
fn apply(body: &[u8], edits: &[(Range<usize>, &[u8])]) -> Bytes {
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
            r#"{"stream":true,"stream_options":{"include_usage":"no"}}"#,
            r#"{"stream":true,"stream_options":{"include_usag\u0065":true}}"#,
            r#"{"stream":true,"stream_option\u0073":{"include_usage":true}}"#,
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
            (r#"{"calltap":1, "calltap":2 , "m":3}"#, r#"{"m":3}"#, "2"),
            (r#"{"calltap":1,"m":3,"calltap":2,"calltap":4}"#, r#"{"m":3}"#, "4"),
            (r#"{"calltap":1,"calltap":2}"#, "{}", "2"),
        ] {
            let (body, _, member) = edit(before);
            assert_eq!((body.as_str(), member.as_deref()), (after, Some(value)));
        }
        assert_eq!(edit(r#"{"m":{"calltap":1}}"#).2, None);
    }

    /// A body as text, so that keys can be repeated and white space be anywhere.
    fn members(text: &str) -> Vec<(String, Value)> {
        let mut found = Members::new(text.as_bytes());
        let pairs = found
            .by_ref()
            .map(|span| {
                let key = serde_json::from_str(&text[span.key]).unwrap();
                (key, serde_json::from_str(&text[span.value]).unwrap())
            })
            .collect();
        assert!(found.is_whole());
        pairs
    }

    #[test]
    fn deep_nesting_is_no_trouble() {
        let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
        let text = format!("{{\"stream\":true,\"a\":{deep},\"calltap\":{deep}}}");
        let (body, injected, member) = edit(&text);
        assert!(injected);
        assert_eq!(member, Some(deep.clone()));
        assert!(body.starts_with(&format!("{{\"stream\":true,\"a\":{deep},\"stream_options\"")));
        assert_eq!(edit(&text[..text.len() - 9]).0, &text[..text.len() - 9]);
    }

    proptest! {
        #[test]
        fn repeated_keys_and_any_white_space(
            members_in in prop::collection::vec((
                prop::sample::select(vec!["model", "stream", "stream_options", "calltap", "calltap"]),
                prop::sample::select(vec!["true", "false", "null", "{}", "{ \"a\" : [\"}\"] }",
                    "{\"include_usage\" :\tfalse}", "{\"include_usage\":true}", "\"\\\"x\"", "1.50"]),
                prop::sample::select(vec!["", " ", "\n\t", "\r\n "])), 0..7),
        ) {
            let inside: Vec<String> =
                members_in.iter().map(|(k, v, s)| format!("{s}\"{k}\"{s}:{s}{v}{s}")).collect();
            let text = format!(" {{{}}}\n", inside.join(","));
            let edited = edit_request(&Bytes::from(text.clone()), true);
            let after = String::from_utf8(edited.body.to_vec()).unwrap();
            prop_assert!(serde_json::from_str::<Value>(&after).is_ok(), "{after}");
            let mut expected = members(&text);
            expected.retain(|(key, _)| key != "calltap");
            let last = |all: &[(String, Value)], key: &str| all.iter().rposition(|(k, _)| k == key);
            let streams = last(&expected, "stream").is_some_and(|at| expected[at].1 == json!(true));
            let options = last(&expected, "stream_options");
            let value = options.map(|at| expected[at].1.clone()).unwrap_or_default();
            let can_ask = (value.is_null() || value.is_object()) && value["include_usage"] != json!(true);
            prop_assert_eq!(edited.usage_injected, streams && can_ask);
            if edited.usage_injected {
                let mut asked = if value.is_null() { json!({}) } else { value };
                asked["include_usage"] = json!(true);
                match options {
                    Some(at) => expected[at].1 = asked,
                    None => expected.push(("stream_options".into(), asked)),
                }
            }
            prop_assert_eq!(members(&after), expected);
            if after == text {
                prop_assert!(edited.member.is_none() && !edited.usage_injected);
            }
            // What the record keeps of the request is valid too.
            if let Some(member) = edited.member {
                let rest = [&text[..member.cut.start], &text[member.cut.end..]].concat();
                prop_assert!(serde_json::from_str::<Value>(&rest).is_ok(), "{rest}");
            }
        }

        #[test]
        fn any_bytes_are_survived(
            body in prop::collection::vec(prop::sample::select(b"{}[]\",:\\ tru\n\xff".to_vec()), 0..40),
        ) {
            let body = Bytes::from([b"{\"stream\":true,\"calltap\":1", &body[..]].concat());
            let edited = edit_request(&body, true);
            if serde_json::from_slice::<Value>(&body).is_ok() {
                prop_assert!(serde_json::from_slice::<Value>(&edited.body).is_ok());
            }
        }

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
            if keys.contains(&"x\"y") {
                prop_assert!(!edited.usage_injected, "it may be any key");
                return Ok(());
            }
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
