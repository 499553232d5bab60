//! Where the members of a JSON object stand. One pass, no recursion, no values.

use std::ops::Range;

/// A top-level member of an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Span {
    /// The key, quotes included.
    pub key: Range<usize>,
    /// The value.
    pub value: Range<usize>,
    /// Where the comma before the member stands; the first member has none.
    pub comma: Option<usize>,
}

/// Walks over the members of the object that `text` is.
#[derive(Clone, Debug)]
pub struct Members<'a> {
    text: &'a [u8],
    at: usize,
    comma: Option<usize>,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Inside,
    /// The object was closed properly.
    Closed,
    /// It is none, or a broken one.
    Broken,
}

impl<'a> Members<'a> {
    /// Members of the object that starts at the first byte that is no white space.
    pub fn new(text: &'a [u8]) -> Self {
        let at = skip_space(text, 0);
        let is_object = text.get(at) == Some(&b'{');
        let state = if is_object { State::Inside } else { State::Broken };
        Self { text, at: at + 1, comma: None, state }
    }

    /// Whether the object ended properly, with nothing but white space behind it. Only known once
    /// all members were seen.
    pub fn is_whole(&self) -> bool {
        self.state == State::Closed && skip_space(self.text, self.at) == self.text.len()
    }

    fn member(&mut self) -> Option<Span> {
        self.at = skip_space(self.text, self.at);
        match self.text.get(self.at)? {
            b'}' if self.comma.is_none() => {
                self.at += 1;
                self.state = State::Closed;
                return None;
            }
            b'"' => {}
            _ => return None,
        }
        let comma = self.comma;
        let key = self.at..skip_string(self.text, self.at)?;
        let colon = skip_space(self.text, key.end);
        if self.text.get(colon) != Some(&b':') {
            return None;
        }
        let start = skip_space(self.text, colon + 1);
        let value = start..skip_value(self.text, start)?;
        let next = skip_space(self.text, value.end);
        match self.text.get(next)? {
            b',' => {
                self.comma = Some(next);
                self.at = next + 1;
            }
            b'}' => {
                self.at = next + 1;
                self.state = State::Closed;
            }
            _ => return None,
        }
        Some(Span { key, value, comma })
    }
}

impl Iterator for Members<'_> {
    type Item = Span;

    fn next(&mut self) -> Option<Span> {
        if self.state != State::Inside {
            return None;
        }
        let member = self.member();
        if member.is_none() && self.state == State::Inside {
            self.state = State::Broken;
        }
        member
    }
}

/// First position from `at` that holds no JSON white space.
pub fn skip_space(text: &[u8], mut at: usize) -> usize {
    while matches!(text.get(at), Some(b' ' | b'\t' | b'\n' | b'\r')) {
        at += 1;
    }
    at
}

/// Just past the string that starts at `at`.
fn skip_string(text: &[u8], at: usize) -> Option<usize> {
    let mut at = at + 1;
    loop {
        at += memchr::memchr2(b'"', b'\\', text.get(at..)?)?;
        if text.get(at) == Some(&b'"') {
            return Some(at + 1);
        }
        at += 2; // a backslash and what it escapes
    }
}

/// Just past the value that starts at `at`: brackets are counted, not checked against each other,
/// which is enough to find where the value ends in valid JSON.
fn skip_value(text: &[u8], at: usize) -> Option<usize> {
    match text.get(at)? {
        b'"' => skip_string(text, at),
        b'{' | b'[' => skip_nested(text, at),
        _ => {
            let rest = text.get(at..)?;
            let len = rest
                .iter()
                .position(|byte| matches!(byte, b',' | b'}' | b']' | b' ' | b'\t' | b'\n' | b'\r'))
                .unwrap_or(rest.len());
            (len > 0).then_some(at + len)
        }
    }
}

fn skip_nested(text: &[u8], mut at: usize) -> Option<usize> {
    let mut depth = 0_usize;
    loop {
        match text.get(at)? {
            b'"' => {
                at = skip_string(text, at)?;
                continue;
            }
            b'{' | b'[' => depth += 1,
            b'}' | b']' => depth -= 1,
            _ => {}
        }
        at += 1;
        if depth == 0 {
            return Some(at);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::Value;

    fn members(text: &str) -> (Vec<(String, String)>, bool) {
        let mut members = Members::new(text.as_bytes());
        let mut found = Vec::new();
        for span in &mut members {
            found.push((text[span.key].to_owned(), text[span.value].to_owned()));
        }
        (found, members.is_whole())
    }

    #[test]
    fn members_of_an_object() {
        let (found, whole) = members(" {\"a\" : [1,{\"b\":\"]}\"}] , \"c\\\"\":tru ,\"d\":\"\"}\n");
        let pairs: Vec<(&str, &str)> =
            found.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
        assert_eq!(
            pairs,
            [("\"a\"", "[1,{\"b\":\"]}\"}]"), ("\"c\\\"\"", "tru"), ("\"d\"", "\"\"")]
        );
        assert!(whole);
        assert!(members("{}").1);
        for broken in [
            "",
            "[]",
            "{",
            "{\"a\"",
            "{\"a\":",
            "{\"a\":1",
            "{\"a\":1,}",
            "{}x",
            "{\"a\" 1}",
            "{\"a",
        ] {
            assert!(!members(broken).1, "{broken}");
        }
    }

    #[test]
    fn deep_nesting_is_no_trouble() {
        let text = format!("{{\"a\":{}1{},\"b\":2}}", "[".repeat(100_000), "]".repeat(100_000));
        let (found, whole) = members(&text);
        assert!(whole);
        assert_eq!(found[1].1, "2");
    }

    fn json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i32>().prop_map(Value::from),
            "[a-z\"\\\\{}\\[\\],:é ]{0,6}".prop_map(Value::from),
        ];
        leaf.prop_recursive(3, 20, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::vec(("[a-z\"\\\\]{0,4}", inner), 0..4)
                    .prop_map(|pairs| Value::Object(pairs.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn agrees_with_serde_json(pairs in prop::collection::vec(("[a-z\"\\\\]{0,4}", json()), 0..5), pretty: bool) {
            let object = Value::Object(pairs.into_iter().collect());
            let text = if pretty { format!("{object:#}") } else { object.to_string() };
            let (found, whole) = members(&text);
            prop_assert!(whole);
            let expected: Vec<(String, Value)> = object.as_object().unwrap().clone().into_iter().collect();
            let read: Vec<(String, Value)> = found.into_iter()
                .map(|(k, v)| (serde_json::from_str(&k).unwrap(), serde_json::from_str(&v).unwrap()))
                .collect();
            prop_assert_eq!(read, expected);
        }

        #[test]
        fn never_panics(text in prop::collection::vec(prop::sample::select(b"{}[]\",:\\ a1\n".to_vec()), 0..60)) {
            Members::new(&text).for_each(drop);
        }
    }
}
