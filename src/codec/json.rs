//! JSON from strangers: what `serde_json` reads, and beyond it a limit of depth, a word on duplicate
//! keys, text with broken UTF-8, and escapes that are half a character.
//!
//! A lone surrogate (`"\ud83d"`) cannot stand in a Rust string. Streams cut emoji between two deltas,
//! so each half is kept as a marker from a private-use plane until the text is joined; [`join_halves`]
//! then turns pairs into characters and lonely halves into U+FFFD.

use super::notes::Notes;
use serde::de::{DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};
use std::{borrow::Cow, cell::Cell, fmt};

/// Deepest nesting that is read. Below the 128 at which `serde_json` stops, so that a value still
/// reads back when it stands inside a record.
const DEPTH_MAX: usize = 96;

/// Most values in one text. A value costs some fifty bytes of memory however short it is written, so
/// a body of zeros would grow fiftyfold; the vectors of a large body of embeddings fit.
const VALUES_MAX: usize = 2_000_000;

/// First marker: U+D800 is kept as this character, U+DFFF as the last of the plane.
const HALF: u32 = 0x10_F800;

/// The key under which `serde_json` hands over numbers of arbitrary precision.
const NUMBER_KEY: &str = "$serde_json::private::Number";

/// What was odd about a text that could be read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "a set of independent observations")]
pub(crate) struct Oddities {
    pub(crate) duplicate_keys: bool,
    pub(crate) invalid_utf8: bool,
    pub(crate) lone_surrogates: bool,
    pub(crate) trailing_text: bool,
}

/// Why a text could not be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unread {
    /// Nested deeper than [`DEPTH_MAX`].
    TooDeep,
    /// More than [`VALUES_MAX`] values.
    TooMany,
    /// Not JSON, or not all of it.
    Malformed,
}

impl Unread {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::TooDeep => "nested too deeply",
            Self::TooMany => "too many values",
            Self::Malformed => "not JSON",
        }
    }
}

impl Oddities {
    pub(crate) fn note(self, whose: &'static str, notes: &mut Notes) {
        for (odd, what) in [
            (self.duplicate_keys, "duplicate_keys"),
            (self.invalid_utf8, "invalid_utf8"),
            (self.lone_surrogates, "lone_surrogates"),
            (self.trailing_text, "trailing_text"),
        ] {
            if odd {
                notes.add(format!("{whose}_{what}"));
            }
        }
    }
}

/// Reads the first JSON value of `bytes`. Half characters come as markers, see [`join_halves`].
pub(crate) fn parse(bytes: &[u8]) -> Result<(Value, Oddities), Unread> {
    let mut odd = Oddities::default();
    let text = text(bytes);
    odd.invalid_utf8 = matches!(text, Cow::Owned(_));
    let value = match parse_text(&text, &mut odd) {
        Err(Unread::Malformed) if has_surrogate_escape(&text) => {
            let marked = mark_halves(&text);
            odd.lone_surrogates = true;
            parse_text(&marked, &mut odd)
        }
        result => result,
    };
    value.map(|value| (value, odd))
}

/// `bytes` as text. What is sound, as nearly everything is, is looked at many bytes at a time.
pub(crate) fn text(bytes: &[u8]) -> Cow<'_, str> {
    std::str::from_utf8(bytes).map_or_else(|_| String::from_utf8_lossy(bytes), Cow::Borrowed)
}

/// `bytes` without white space around it and byte order mark before it.
pub(crate) fn trim(bytes: &[u8]) -> &[u8] {
    let bytes = bytes.trim_ascii();
    bytes.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(bytes).trim_ascii()
}

fn parse_text(text: &str, odd: &mut Oddities) -> Result<Value, Unread> {
    let (duplicate_keys, limit, values) = (Cell::new(false), Cell::new(None), Cell::new(0));
    let mut deserializer = serde_json::Deserializer::from_str(text);
    let tree = Tree { duplicate_keys: &duplicate_keys, limit: &limit, values: &values, depth: 0 };
    let value = tree
        .deserialize(&mut deserializer)
        .map_err(|_| limit.get().unwrap_or(Unread::Malformed))?;
    odd.duplicate_keys |= duplicate_keys.get();
    odd.trailing_text |= deserializer.end().is_err();
    Ok(value)
}

/// Builds a [`Value`]; of duplicate keys the last wins, as nearly every reader has it.
#[derive(Clone, Copy)]
struct Tree<'a> {
    duplicate_keys: &'a Cell<bool>,
    /// The limit that was met.
    limit: &'a Cell<Option<Unread>>,
    values: &'a Cell<usize>,
    depth: usize,
}

impl Tree<'_> {
    fn deeper<E: serde::de::Error>(self) -> Result<Self, E> {
        if self.depth >= DEPTH_MAX {
            self.limit.set(Some(Unread::TooDeep));
            return Err(E::custom(Unread::TooDeep.as_str()));
        }
        Ok(Self { depth: self.depth + 1, ..self })
    }

    fn count<E: serde::de::Error>(self) -> Result<(), E> {
        self.values.set(self.values.get() + 1);
        if self.values.get() > VALUES_MAX {
            self.limit.set(Some(Unread::TooMany));
            return Err(E::custom(Unread::TooMany.as_str()));
        }
        Ok(())
    }
}

impl<'de> DeserializeSeed<'de> for Tree<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Tree<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(Number::from_f64(value).map_or(Value::Null, Value::Number))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::String(value.to_owned()))
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(Value::String(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Value, A::Error> {
        let inner = self.deeper()?;
        let mut items = Vec::new();
        while let Some(item) = seq.next_element_seed(inner)? {
            self.count()?;
            items.push(item);
        }
        Ok(Value::Array(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let inner = self.deeper()?;
        let mut members = Map::new();
        while let Some(key) = map.next_key::<String>()? {
            let value = map.next_value_seed(inner)?;
            if members.is_empty() && key == NUMBER_KEY {
                let Value::String(text) = &value else {
                    return Err(A::Error::custom("reserved key"));
                };
                return text.parse().map(Value::Number).map_err(A::Error::custom);
            }
            self.count()?;
            if members.insert(key, value).is_some() {
                self.duplicate_keys.set(true);
            }
        }
        Ok(Value::Object(members))
    }
}

fn has_surrogate_escape(text: &str) -> bool {
    let escape = |start: &str| memchr::memmem::find(text.as_bytes(), start.as_bytes()).is_some();
    escape("\\ud") || escape("\\uD")
}

/// `text` with every `\u` escape that is half a pair and has no other half beside it replaced by its marker.
fn mark_halves(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('\\') {
        let (before, escape) = rest.split_at(at);
        out.push_str(before);
        let first = unit(escape);
        let second = escape.get(6..).and_then(unit);
        let taken = match (first, second) {
            (Some(0xD800..0xDC00), Some(0xDC00..0xE000)) => 12,
            (Some(half @ 0xD800..0xE000), _) => {
                out.extend(char::from_u32(HALF + half - 0xD800));
                rest = escape.get(6..).unwrap_or_default();
                continue;
            }
            // A backslash and what it escapes, so that `\\ud83d` stays text.
            _ => 1 + escape.chars().nth(1).map_or(0, char::len_utf8),
        };
        let (escape, after) = escape.split_at_checked(taken).unwrap_or((escape, ""));
        out.push_str(escape);
        rest = after;
    }
    out.push_str(rest);
    out
}

/// The code unit of a `\u` escape at the start of `text`.
fn unit(text: &str) -> Option<u32> {
    let digits = text.strip_prefix("\\u")?.get(..4)?;
    digits.bytes().all(|b| b.is_ascii_hexdigit()).then(|| u32::from_str_radix(digits, 16).ok())?
}

/// Turns marked halves that now stand together into characters, and lonely ones into U+FFFD.
pub(crate) fn join_halves(value: &mut Value) {
    match value {
        Value::String(text) => {
            if let Some(joined) = joined(text) {
                *text = joined;
            }
        }
        Value::Array(items) => items.iter_mut().for_each(join_halves),
        Value::Object(members) => {
            if members.keys().any(|key| joined(key).is_some()) {
                let old = std::mem::take(members);
                members.extend(
                    old.into_iter().map(|(key, value)| (joined(&key).unwrap_or(key), value)),
                );
            }
            members.values_mut().for_each(join_halves);
        }
        _ => {}
    }
}

fn joined(text: &str) -> Option<String> {
    let half = |c: char| u32::from(c).checked_sub(HALF).filter(|half| *half < 0x800);
    text.contains(|c| half(c).is_some()).then(|| {
        let mut out = String::with_capacity(text.len());
        let mut chars = text.chars().peekable();
        while let Some(c) = chars.next() {
            let Some(high) = half(c) else {
                out.push(c);
                continue;
            };
            let low = chars.peek().copied().and_then(half).and_then(|low| low.checked_sub(0x400));
            let pair = match low {
                Some(low) if high < 0x400 => char::from_u32(0x1_0000 + (high << 10) + low),
                _ => None,
            };
            if pair.is_some() {
                chars.next();
            }
            out.push(pair.unwrap_or(char::REPLACEMENT_CHARACTER));
        }
        out
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn read(text: &str) -> Value {
        let (mut value, _) = parse(text.as_bytes()).unwrap();
        join_halves(&mut value);
        value
    }

    #[test]
    fn depth_is_limited_without_a_stack_overflow() {
        for (open, close) in [("[", "]"), ("{\"a\":", "}")] {
            assert_eq!(parse(open.repeat(100_000).as_bytes()).unwrap_err(), Unread::TooDeep);
            let deep = open.repeat(DEPTH_MAX) + "1" + &close.repeat(DEPTH_MAX - 1);
            assert_eq!(parse(deep.as_bytes()).unwrap_err(), Unread::Malformed, "{}", &deep[..4]);
        }
        let fits = "[".repeat(90) + &"]".repeat(90);
        assert!(parse(fits.as_bytes()).is_ok());
    }

    #[test]
    fn so_is_the_number_of_values() {
        let zeros = format!("[{}0]", "0,".repeat(VALUES_MAX));
        assert_eq!(parse(zeros.as_bytes()).unwrap_err(), Unread::TooMany);
    }

    #[test]
    fn duplicate_keys_are_seen_and_the_last_wins() {
        let (value, odd) = parse(br#"{"a":{"b":1,"b":2}}"#).unwrap();
        assert_eq!(value, json!({"a": {"b": 2}}));
        assert!(odd.duplicate_keys);
        assert!(!parse(br#"[{"a":1},{"a":1}]"#).unwrap().1.duplicate_keys);
    }

    #[test]
    fn numbers_keep_their_text() {
        for number in ["1e+400", "-0", "1e-999999", "0.10", "123456789012345678901234567890"] {
            assert_eq!(read(number).to_string(), number);
        }
        assert!(parse(br#"{"$serde_json::private::Number":[]}"#).is_err());
    }

    #[test]
    fn half_characters() {
        assert_eq!(read(r#""\ud83d\ude00 \\ud83d \u00e9""#), json!("😀 \\ud83d é"));
        assert_eq!(read(r#""a\ud83d""#), json!("a\u{FFFD}"));
        assert_eq!(
            read(r#"{"\ude00":"\ude00\ud83dx\u12"}"#.replace("\\u12", "").as_str()),
            json!({"\u{FFFD}": "\u{FFFD}\u{FFFD}x"})
        );
        let (first, odd) = parse(br#""\ud83d""#).unwrap();
        let (second, _) = parse(br#""\ude00""#).unwrap();
        assert!(odd.lone_surrogates);
        let mut both = json!(first.as_str().unwrap().to_owned() + second.as_str().unwrap());
        join_halves(&mut both);
        assert_eq!(both, json!("😀"));
    }

    #[test]
    fn bad_bytes_and_trailing_text() {
        let (value, odd) = parse(b"{\"a\":\"x\xFFy\"} tail").unwrap();
        assert_eq!(value, json!({"a": "x\u{FFFD}y"}));
        assert!(odd.invalid_utf8 && odd.trailing_text);
        assert_eq!(trim(b" \n\xEF\xBB\xBF {} \n"), b"{}");
        assert!(parse(b"{'a':1}").is_err() && parse(b"[NaN]").is_err() && parse(b"").is_err());
    }

    proptest! {
        #[test]
        fn reads_what_serde_json_reads(text in r#"[\[\]{}:,"a1.\-e\\ud83 nulltrue]{0,24}"#) {
            if let Ok(value) = serde_json::from_str::<Value>(&text) {
                prop_assert_eq!(read(&text), value);
            }
        }

        #[test]
        fn marking_never_fails(text in r#"(\\u[dD][89aAcCfF][0-9a-f]{2}|\\|u|é|")*"#) {
            let _ = mark_halves(&text);
            let _ = parse(text.as_bytes());
        }
    }
}
