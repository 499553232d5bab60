//! What a body is, by what came and not by what was announced.

use super::{
    form,
    json::{self, Unread},
    notes::Notes,
    sse,
};
use serde_json::Value;

/// The body of an answer.
#[derive(Debug, PartialEq)]
pub(crate) enum Body<'a> {
    /// Server-sent events.
    Stream(&'a [u8]),
    /// JSON, whole.
    Json(Value),
    /// Any other text: a page, a transcript, JSON that broke off.
    Text(String),
    /// Nothing that can be shown: empty, or not text.
    Opaque,
}

/// Tells what the answer is.
pub(crate) fn answer<'a>(
    content_type: Option<&str>,
    bytes: &'a [u8],
    notes: &mut Notes,
) -> Body<'a> {
    let media_type = content_type.unwrap_or_default().trim_start().to_ascii_lowercase();
    let announced = media_type.starts_with("text/event-stream");
    let body = json::trim(bytes);
    let Some(first) = body.first() else {
        return if announced { Body::Stream(bytes) } else { Body::Opaque };
    };
    if is_media(&media_type) {
        return Body::Opaque;
    }
    let streams = if announced { !b"{[<".contains(first) } else { sse::looks_like_events(bytes) };
    if streams != announced && !media_type.is_empty() {
        notes.add("content_type_does_not_fit");
    }
    if streams {
        return Body::Stream(bytes);
    }
    // A list of JSON texts is not the first of them.
    let is_list = ["ndjson", "jsonl", "json-seq"].iter().any(|kind| media_type.contains(kind));
    if is_list {
        return text(bytes).map_or(Body::Opaque, Body::Text);
    }
    let claims_json = matches!(first, b'{' | b'[') || media_type.contains("json");
    match json::parse(body) {
        // A text may begin with a number, as subtitles do.
        Ok((_, odd)) if odd.trailing_text && !claims_json => {
            text(bytes).map_or(Body::Opaque, Body::Text)
        }
        Ok((mut value, odd)) => {
            odd.note("response", notes);
            if odd.lone_surrogates {
                json::join_halves(&mut value);
            }
            Body::Json(value)
        }
        Err(why) => {
            if claims_json || media_type.is_empty() || media_type.starts_with("text/html") {
                notes.add(format!("response_unparsed: {}", why.as_str()));
            }
            text(bytes).map_or(Body::Opaque, Body::Text)
        }
    }
}

/// The body of a request: JSON, the fields of a form, else text, else nothing.
pub(crate) fn question(bytes: &[u8], notes: &mut Notes) -> Option<Value> {
    let body = json::trim(bytes);
    if body.is_empty() {
        return None;
    }
    let why = match json::parse(body) {
        Ok((mut value, odd)) if !odd.trailing_text => {
            odd.note("request", notes);
            if odd.lone_surrogates {
                json::join_halves(&mut value);
            }
            if !value.is_object() {
                notes.add("request_unparsed: not an object");
            }
            return Some(value);
        }
        Ok(_) => Unread::Malformed,
        Err(why) => why,
    };
    if let Some(fields) = form::read(bytes, notes) {
        return Some(fields);
    }
    notes.add(format!("request_unparsed: {}", why.as_str()));
    text(bytes).map(Value::String)
}

/// Bytes as text, unless they are none.
fn text(bytes: &[u8]) -> Option<String> {
    let is_text = memchr::memchr(0, bytes).is_none();
    is_text.then(|| std::str::from_utf8(bytes).ok().map(str::to_owned))?
}

fn is_media(media_type: &str) -> bool {
    ["audio/", "image/", "video/", "font/", "application/zip", "application/pdf"]
        .iter()
        .any(|start| media_type.starts_with(start))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn kind<'a>(content_type: Option<&str>, bytes: &'a [u8]) -> (Body<'a>, Vec<String>) {
        let mut notes = Notes::default();
        let body = answer(content_type, bytes, &mut notes);
        (body, notes.into_lines())
    }

    #[test]
    fn answers() {
        let events: &[u8] = b"data: {}\n\n";
        let (sse, json) = (Some("text/event-stream;charset=UTF-8"), Some("application/json"));
        assert_eq!(kind(sse, events), (Body::Stream(events), vec![]));
        assert_eq!(kind(None, events), (Body::Stream(events), vec![]));
        assert_eq!(
            kind(json, events),
            (Body::Stream(events), vec!["content_type_does_not_fit".to_owned()])
        );
        assert_eq!(kind(sse, b""), (Body::Stream(b""), vec![]));
        assert_eq!(
            kind(json, b"\n  \n\xEF\xBB\xBF{\"a\":1}"),
            (Body::Json(json!({"a": 1})), vec![])
        );
        assert_eq!(kind(sse, b"{\"a\":1}").0, Body::Json(json!({"a": 1})));
        assert_eq!(kind(sse, b"<html>").0, Body::Text("<html>".to_owned()));
        assert_eq!(
            kind(json, b"{\"a\":"),
            (Body::Text("{\"a\":".to_owned()), vec!["response_unparsed: not JSON".to_owned()])
        );
        assert_eq!(kind(Some("text/plain"), b"hello"), (Body::Text("hello".to_owned()), vec![]));
        assert_eq!(kind(Some("audio/mpeg"), b"data: \xFF\xFB"), (Body::Opaque, vec![]));
        assert_eq!(
            kind(json, b"{} tail"),
            (Body::Json(json!({})), vec!["response_trailing_text".to_owned()])
        );
        assert_eq!(kind(json, b" \n"), (Body::Opaque, vec![]));
    }

    #[test]
    fn questions() {
        let read = |bytes: &[u8]| {
            let mut notes = Notes::default();
            (question(bytes, &mut notes), notes.into_lines().join(","))
        };
        assert_eq!(read(b""), (None, String::new()));
        assert_eq!(read(b"\xEF\xBB\xBF{\"a\":1}"), (Some(json!({"a": 1})), String::new()));
        assert_eq!(
            read(b"{\"a\":1,\"a\":2}"),
            (Some(json!({"a": 2})), "request_duplicate_keys".to_owned())
        );
        assert_eq!(read(b"{}{}"), (Some(json!("{}{}")), "request_unparsed: not JSON".to_owned()));
        assert_eq!(read(b"[]"), (Some(json!([])), "request_unparsed: not an object".to_owned()));
        assert_eq!(read(b"{\0}\xFF").0, None);
        let deep = b"[".repeat(100_000);
        assert_eq!(read(&deep).1, "request_unparsed: nested too deeply");
        assert_eq!(read(b"--x\r\nform").1, "form_cut_short");
    }
}
