//! Where a match stands in JSON, so that its mark does not break it.

use memchr::memchr3;
use std::ops::Range;

/// Follows a text from left to right and knows what in it is inside a JSON string. A raw line end
/// ends every string, as it does in JSON; what is no JSON at all does no harm.
#[derive(Debug)]
pub(super) struct Place<'a> {
    text: &'a [u8],
    at: usize,
    in_string: bool,
}

/// Most bytes of a bare value on each side of a match.
const VALUE_BYTES_MAX: usize = 64;

/// A range to be masked.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Fitted {
    pub(super) range: Range<usize>,
    /// A bare value of JSON: the mark needs quotes to be one.
    pub(super) is_value: bool,
}

impl<'a> Place<'a> {
    pub(super) fn new(text: &'a [u8]) -> Self {
        Self { text, at: 0, in_string: false }
    }

    /// `found`, made to cut no escape in two and no bare value; `None` where nothing is left of it.
    /// Ranges must come in order.
    pub(super) fn fit(&mut self, found: Range<usize>) -> Option<Fitted> {
        self.walk(found.start);
        let start = self.at.max(found.start);
        if start >= found.end {
            return None;
        }
        let was_in_string = self.in_string;
        self.walk(found.end);
        let end = self.at.max(found.end);
        if was_in_string || self.in_string {
            return Some(Fitted { range: start..end, is_value: false });
        }
        Some(self.value_around(start..end))
    }

    /// Goes on to `until`, or past it where it is inside an escape.
    fn walk(&mut self, until: usize) {
        while self.at < until {
            let rest = self.text.get(self.at..until).unwrap_or_default();
            let Some(next) = memchr3(b'"', b'\\', b'\n', rest) else {
                self.at = until;
                return;
            };
            self.at += next;
            match self.text.get(self.at) {
                Some(b'"') => self.in_string = !self.in_string,
                Some(b'\\') if self.in_string => {
                    self.at += escape_len(self.text.get(self.at..).unwrap_or_default());
                    continue;
                }
                Some(b'\n') => self.in_string = false,
                _ => {}
            }
            self.at += 1;
        }
    }

    /// Outside of strings: the whole number or word that `range` is a part of.
    fn value_around(&mut self, range: Range<usize>) -> Fitted {
        let is_part = |byte: &u8| byte.is_ascii_alphanumeric() || b"+-.".contains(byte);
        let inside = self.text.get(range.clone()).unwrap_or_default();
        let before = self.text.get(..range.start).unwrap_or_default();
        let after = self.text.get(range.end..).unwrap_or_default();
        // A longer run is no number, and looking at all of it again and again would cost time.
        let run = |bytes: &mut dyn Iterator<Item = &u8>| {
            bytes.take(VALUE_BYTES_MAX).take_while(|byte| is_part(byte)).count()
        };
        let start = range.start - run(&mut before.iter().rev());
        let end = range.end + run(&mut after.iter());
        let last = before.get(..start).unwrap_or_default().trim_ascii_end().last();
        let next = self.text.get(end..).unwrap_or_default().trim_ascii_start().first();
        if inside.iter().all(is_part)
            && matches!(last, Some(b':' | b',' | b'['))
            && matches!(next, Some(b',' | b']' | b'}'))
        {
            self.at = end;
            return Fitted { range: start..end, is_value: true };
        }
        Fitted { range, is_value: false }
    }
}

/// Length of the escape that `text` starts with (RFC 8259 §7).
fn escape_len(text: &[u8]) -> usize {
    match text {
        [_, b'u', hex @ ..] if hex.len() >= 4 && hex.iter().take(4).all(u8::is_ascii_hexdigit) => 6,
        _ => 2.min(text.len()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fit(text: &str, found: &str) -> Option<(String, bool)> {
        let start = text.find(found).unwrap();
        let fitted = Place::new(text.as_bytes()).fit(start..start + found.len())?;
        Some((text[fitted.range].to_owned(), fitted.is_value))
    }

    #[test]
    fn escapes_stay_whole() {
        for (text, found, masked) in [
            (r#"{"a":"x\nann"}"#, "nann", Some("ann")),
            (r#"{"a":"x\u00e9ann"}"#, "e9ann", Some("ann")),
            (r#"{"a":"x\\nann"}"#, "nann", Some("nann")),
            (r#"{"a":"x\n"}"#, "n\"", None),
            (r#"{"a":"x\"y"}"#, "x\\", Some("x\\\"")),
            (r#"{"a":"xy"}"#, "xy", Some("xy")),
            (r"C:\nann", "nann", Some("nann")),
        ] {
            let found = if found.ends_with('"') { "n" } else { found };
            assert_eq!(fit(text, found).map(|(text, _)| text).as_deref(), masked, "{text}");
        }
    }

    #[test]
    fn bare_values_go_whole_and_are_quoted() {
        for (text, found, masked, is_value) in [
            (r#"{"n":4111}"#, "4111", "4111", true),
            (r#"{"n":[1, -41.5e3 ,2]}"#, "41", "-41.5e3", true),
            (r#"{"n":"4111","m":1}"#, "4111", "4111", false),
            ("card: 41 11, and", "41 11", "41 11", false),
            ("the 4111 card", "4111", "4111", false),
        ] {
            assert_eq!(fit(text, found), Some((masked.to_owned(), is_value)), "{text}");
        }
    }
}
