//! An event that is the one before with another text in it, as most events of a chat's stream are.
//!
//! Where nothing else differs, byte for byte, the event need not be parsed again: its text is all that
//! is new. Padding against traffic analysis (`obfuscation`) may differ too.

use super::sse::Event;
use memchr::{memchr2, memmem};
use std::borrow::Cow;

/// Longest event that is remembered, in bytes: longer ones seldom repeat.
const BYTES_MAX: usize = 4 * 1024;
const PADDING: &[u8] = b"\"obfuscation\":\"";

/// What stands around the text of an event.
#[derive(Debug)]
pub(crate) struct Repeat {
    name: Vec<u8>,
    before: Vec<u8>,
    after: Vec<u8>,
    /// What stands behind the padding, where there is padding behind `after`.
    end: Option<Vec<u8>>,
}

impl Repeat {
    /// What is around the string member `key` of `event`, whose data without white space around it is
    /// `data`; `None` where its place is not plain.
    pub(crate) fn of(event: &Event<'_>, data: &[u8], key: &str) -> Option<Self> {
        if data.len() > BYTES_MAX {
            return None;
        }
        let quoted = format!("\"{key}\"");
        let mut places = memmem::find_iter(data, quoted.as_bytes());
        let (place, another) = (places.next()?, places.next());
        let rest = data.get(place + quoted.len()..)?.trim_ascii_start();
        let value = rest.strip_prefix(b":")?.trim_ascii_start().strip_prefix(b"\"")?;
        let (before, _) = data.split_at_checked(data.len() - value.len())?;
        let after = value.get(string_len(value)?..)?;
        let (after, end) = match memmem::find(after, PADDING) {
            Some(at) => {
                let (after, padding) = after.split_at_checked(at + PADDING.len())?;
                (after, Some(padding.get(string_len(padding)?..)?.to_vec()))
            }
            None => (after, None),
        };
        another.is_none().then(|| Self {
            name: event.name.to_vec(),
            before: before.to_vec(),
            after: after.to_vec(),
            end,
        })
    }

    /// The text of an event that says nothing else that is new. Never empty.
    pub(crate) fn text<'a>(&self, event: &Event<'_>, data: &'a [u8]) -> Option<Cow<'a, str>> {
        let value = data.strip_prefix(&*self.before).filter(|_| event.name == self.name)?;
        let (text, rest) = value.split_at_checked(string_len(value)?)?;
        let rest = rest.strip_prefix(&*self.after)?;
        match &self.end {
            None if !rest.is_empty() => return None,
            None => {}
            Some(end) => {
                let padding = rest.strip_suffix(&**end)?;
                if !padding.iter().all(u8::is_ascii_alphanumeric) {
                    return None;
                }
            }
        }
        if text.is_empty() {
            return None;
        }
        if !text.iter().any(|byte| *byte == b'\\' || byte.is_ascii_control()) {
            return std::str::from_utf8(text).ok().map(Cow::Borrowed);
        }
        // With its quotes: one stands on either side.
        let from = self.before.len() - 1;
        serde_json::from_slice(data.get(from..from + text.len() + 2)?).ok().map(Cow::Owned)
    }
}

/// Length of the string whose first byte is the first of `text`, without its closing quote.
fn string_len(text: &[u8]) -> Option<usize> {
    let mut from = 0;
    loop {
        let at = from + memchr2(b'"', b'\\', text.get(from..)?)?;
        if text.get(at) == Some(&b'"') {
            return Some(at);
        }
        from = at + 2;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(data: &str) -> Event<'_> {
        Event { name: b"", data: data.as_bytes(), end: 0, complete: true }
    }

    /// The text of `next` as a repetition of `first`.
    fn text(first: &str, next: &str) -> Option<String> {
        let repeat = Repeat::of(&event(first), first.as_bytes(), "content")?;
        repeat.text(&event(next), next.as_bytes()).map(Cow::into_owned)
    }

    #[test]
    fn only_the_text_may_differ() {
        let first = r#"{"n":1,"content":"a"}"#;
        let of = |next| text(first, next);
        assert_eq!(of(r#"{"n":1,"content":"word"}"#).as_deref(), Some("word"));
        assert_eq!(of(r#"{"n":1,"content":"a\n\u00e9\"}"}"#).as_deref(), Some("a\né\"}"));
        for other in [
            r#"{"n":2,"content":"a"}"#,
            r#"{"n":1,"content":""}"#,
            r#"{"n":1,"content":"a","m":1}"#,
            r#"{"n":1,"content":"a"} "#,
            r#"{"n":1,"content":null}"#,
            r#"{"n":1,"content":"a"#,
            r#"{"n":1,"content":"\ud83d"}"#,
            "{\"n\":1,\"content\":\"a\nb\"}",
            r#"{"n":1,"content":"a","content":"b"}"#,
        ] {
            assert_eq!(of(other), None, "{other}");
        }
    }

    #[test]
    fn padding_may_differ() {
        let of = |next| text(r#"{"content":"a","obfuscation":"xyz","n":1}"#, next);
        assert_eq!(of(r#"{"content":"b","obfuscation":"Q7","n":1}"#).as_deref(), Some("b"));
        assert_eq!(of(r#"{"content":"b","obfuscation":"","n":1}"#).as_deref(), Some("b"));
        assert_eq!(of(r#"{"content":"b","obfuscation":"x","n":2}"#), None);
        assert_eq!(of(r#"{"content":"b","obfuscation":"x","m":2,"n":1}"#), None);
        assert_eq!(of(r#"{"content":"b","n":1}"#), None);
    }

    #[test]
    fn what_is_not_plain_is_not_repeated() {
        for first in [
            r#"{"content":"a","model":"content"}"#,
            r#"{"cont\u0065nt":"a"}"#,
            r#"{"content":["a"]}"#,
            r#"{"model":"content"}"#,
        ] {
            assert_eq!(text(first, first), None, "{first}");
        }
    }
}
