//! Building bodies: members that are absent rather than null, exact numbers, sizes that are kept.

use bytes::Bytes;
use serde::Serialize;
use serde_json::{Map, Number, Value};

/// An object in the making.
#[derive(Clone, Debug, Default)]
pub(super) struct Members(pub(super) Map<String, Value>);

impl Members {
    /// Adds a member, unless it says nothing: null, an empty list or an empty object.
    pub(super) fn add<T: Serialize>(&mut self, name: &str, value: T) {
        match serde_json::to_value(value) {
            Ok(Value::Null) | Err(_) => {}
            Ok(Value::Array(items)) if items.is_empty() => {}
            Ok(Value::Object(members)) if members.is_empty() => {}
            Ok(value) => self.put(name, value),
        }
    }

    /// Adds a member whatever it says.
    pub(super) fn put(&mut self, name: &str, value: impl Into<Value>) {
        self.0.insert(name.to_owned(), value.into());
    }

    /// The object.
    pub(super) fn into_value(self) -> Value {
        Value::Object(self.0)
    }
}

/// Whole microseconds of a duration in milliseconds.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a float becomes an integer saturating, and what is not a number becomes 0"
)]
pub(super) fn micros(ms: f64) -> u64 {
    (ms * 1000.0).round() as u64
}

/// Seconds, to the microsecond.
pub(super) fn seconds(ms: f64) -> f64 {
    divided(micros(ms), 1_000_000.0)
}

/// Milliseconds, to the microsecond.
pub(super) fn millis(ms: f64) -> f64 {
    divided(micros(ms), 1000.0)
}

/// Milliseconds, whole.
pub(super) fn whole_millis(ms: f64) -> u64 {
    (micros(ms) + 500) / 1000
}

fn divided(us: u64, by: f64) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "exact below 2^53 µs, which is 285 years")]
    let us = us as f64;
    us / by
}

/// An amount of money as a JSON number that is spelled as the record spells it.
pub(super) fn amount(text: &str) -> Option<Number> {
    text.parse().ok()
}

/// The exact sum of amounts with at most 12 places; `None` where none is known or one is odd.
pub(super) fn sum(parts: &[Option<&String>]) -> Option<String> {
    let parts: Vec<&String> = parts.iter().copied().flatten().collect();
    if parts.is_empty() {
        return None;
    }
    let pico = parts
        .into_iter()
        .map(|text| pico(text))
        .try_fold(0_i128, |sum, part| sum.checked_add(part?))?;
    let (whole, part) = (pico / PICO, pico % PICO);
    let text = format!("{whole}.{part:012}");
    Some(text.trim_end_matches('0').trim_end_matches('.').to_owned())
}

/// Pico-dollars in a dollar.
const PICO: i128 = 1_000_000_000_000;

fn pico(text: &str) -> Option<i128> {
    let (whole, part) = text.split_once('.').unwrap_or((text, ""));
    if part.len() > 12 || !part.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let whole: i128 = whole.parse().ok().filter(|whole| *whole >= 0)?;
    let part: i128 = format!("{part:0<12}").parse().ok()?;
    whole.checked_mul(PICO)?.checked_add(part)
}

/// A value as text: a string itself, anything else as compact JSON.
pub(super) fn text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// The first `max` bytes of `text`, cut between characters.
pub(super) fn clip(text: &str, max: usize) -> &str {
    let mut end = max.min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.get(..end).unwrap_or(text)
}

/// The first `max` characters of `text`.
pub(super) fn clip_chars(text: &str, max: usize) -> &str {
    text.char_indices().nth(max).map_or(text, |(end, _)| clip(text, end))
}

/// Lengths that texts are cut to, one after the other, until a body fits.
const CUTS: [usize; 5] = [1024 * 1024, 128 * 1024, 16 * 1024, 2048, 256];

/// Longest list left when texts are cut to the shortest two lengths.
const LIST_MAX: usize = 512;

/// The bytes of `body`, which are at most `max` wherever cutting its longest texts can do it; each
/// cut text says so.
pub(super) fn fit(body: &Value, max: usize) -> Bytes {
    let mut text = body.to_string();
    for longest in CUTS {
        if text.len() <= max {
            break;
        }
        let mut cut = body.clone();
        shorten(&mut cut, longest);
        text = cut.to_string();
    }
    text.into()
}

fn shorten(value: &mut Value, longest: usize) {
    match value {
        Value::String(text) if text.len() > longest => {
            let kept = clip(text, longest);
            *text = format!("{kept}… [cut by calltap: {} bytes in all]", text.len());
        }
        Value::Array(items) => {
            if longest <= CUTS[3] {
                items.truncate(LIST_MAX);
            }
            for item in items {
                shorten(item, longest);
            }
        }
        Value::Object(members) => members.values_mut().for_each(|item| shorten(item, longest)),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn numbers_are_exact() {
        assert_eq!(json!(seconds(3187.337)).to_string(), "3.187337");
        assert_eq!(json!(millis(412.387)).to_string(), "412.387");
        assert_eq!((whole_millis(412.387), whole_millis(0.4994), whole_millis(-1.0)), (412, 0, 0));
        assert_eq!(amount("0.000324").unwrap().to_string(), "0.000324");
        let texts = ["0.0000234".to_owned(), "0.0000768".to_owned(), "1".to_owned()];
        let parts = |n: usize| texts[..n].iter().map(Some).collect::<Vec<_>>();
        assert_eq!(sum(&parts(2)).as_deref(), Some("0.0001002"));
        assert_eq!(sum(&parts(3)).as_deref(), Some("1.0001002"));
        assert_eq!(sum(&[None]), None);
        for wrong in ["", "-1", "1e3", "0.0000000000001", "x"] {
            assert_eq!(sum(&[Some(&wrong.to_owned())]), None, "{wrong}");
        }
    }

    #[test]
    fn nothing_is_absent() {
        let mut members = Members::default();
        members.add("null", None::<u8>);
        members.add("list", Vec::<u8>::new());
        members.add("object", json!({}));
        members.add("zero", Some(0));
        members.put("kept", json!({}));
        assert_eq!(members.into_value(), json!({"zero": 0, "kept": {}}));
    }

    #[test]
    fn what_is_too_large_is_cut_and_says_so() {
        let body = json!({"a": "é".repeat(5000), "b": "short", "c": vec![0; 4000]});
        assert_eq!(fit(&body, 1 << 20), body.to_string());
        let cut = fit(&body, 2000);
        assert!(cut.len() <= 2000, "{}", cut.len());
        let cut: Value = serde_json::from_slice(&cut).unwrap();
        assert_eq!(cut["b"], "short");
        assert!(cut["a"].as_str().unwrap().ends_with("… [cut by calltap: 10000 bytes in all]"));
    }
}
