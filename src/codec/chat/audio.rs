//! Spoken answers: the transcript grows, and so does the base64 data.

use crate::codec::merge;
use serde_json::{Map, Value};

/// The audio so far.
#[derive(Debug, Default)]
pub(crate) struct Audio {
    members: Map<String, Value>,
    data: String,
    /// A piece carried padding of its own, so the joined text is not base64 as it stands.
    has_inner_padding: bool,
}

impl Audio {
    /// Takes the `audio` of a delta.
    pub(crate) fn add(&mut self, audio: Value) {
        let Value::Object(audio) = audio else { return };
        for (key, value) in audio {
            match (key.as_str(), value) {
                ("data", Value::String(piece)) => {
                    self.has_inner_padding |= !piece.is_empty() && self.data.ends_with('=');
                    self.data.push_str(&piece);
                }
                ("data", _) => {}
                ("id", value) => merge::member(&mut self.members, key, value, merge::first_filled),
                ("transcript", value) => merge::member(&mut self.members, key, value, merge::text),
                (_, value) => merge::member(&mut self.members, key, value, merge::last),
            }
        }
    }

    /// The finished audio, `None` when there is none.
    pub(crate) fn finish(mut self) -> Option<Value> {
        if !self.data.is_empty() {
            let joined = self.has_inner_padding.then(|| decode(&self.data)).flatten();
            let data = joined.map_or(self.data, |bytes| encode(&bytes));
            self.members.insert("data".to_owned(), Value::String(data));
        }
        (!self.members.is_empty()).then_some(Value::Object(self.members))
    }
}

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// Decodes base64 pieces that stand one after the other, each with its own padding. `None` when
/// something else is among them.
fn decode(text: &str) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(text.len() / 4 * 3);
    let (mut bits, mut held) = (0_u32, 0_u32);
    for symbol in text.bytes() {
        let value = match symbol {
            b'A'..=b'Z' => symbol - b'A',
            b'a'..=b'z' => symbol - b'a' + 26,
            b'0'..=b'9' => symbol - b'0' + 52,
            b'+' | b'-' => 62,
            b'/' | b'_' => 63,
            b'=' => {
                held = 0;
                continue;
            }
            _ => return None,
        };
        bits = (bits << 6 | u32::from(value)) & 0xFFFF;
        held += 6;
        if held >= 8 {
            held -= 8;
            out.push(u8::try_from((bits >> held) & 0xFF).ok()?);
        }
    }
    Some(out)
}

fn encode(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for group in bytes.chunks(3) {
        let byte = |at: usize| u32::from(group.get(at).copied().unwrap_or(0));
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        for (place, shift) in [18, 12, 6, 0].into_iter().enumerate() {
            let symbol = usize::try_from((bits >> shift) & 63).ok().and_then(|at| ALPHABET.get(at));
            let symbol = symbol.filter(|_| place <= group.len());
            out.push(symbol.map_or('=', |symbol| char::from(*symbol)));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    #[test]
    fn pieces_are_joined() {
        let mut audio = Audio::default();
        audio.add(json!({"id": "a", "transcript": "he"}));
        audio.add(json!({"id": "b", "transcript": "llo", "data": "aGU="}));
        audio.add(json!({"data": "bA=="}));
        audio.add(json!({"data": "bG8=", "expires_at": 1}));
        audio.add(json!({"expires_at": 2}));
        let expected =
            json!({"id": "a", "transcript": "hello", "expires_at": 2, "data": "aGVsbG8="});
        assert_eq!(audio.finish(), Some(expected));
        assert_eq!(Audio::default().finish(), None);
    }

    #[test]
    fn what_is_not_base64_stays_as_it_came() {
        let mut audio = Audio::default();
        audio.add(json!({"data": "a="}));
        audio.add(json!({"data": "?"}));
        assert_eq!(audio.finish(), Some(json!({"data": "a=?"})));
    }

    proptest! {
        #[test]
        fn joining_pieces_joins_the_bytes(pieces in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..9), 0..6)) {
            let mut audio = Audio::default();
            for piece in &pieces {
                audio.add(json!({"data": encode(piece)}));
            }
            let data = audio.finish().map_or(Value::Null, |audio| audio["data"].clone());
            let expected = pieces.concat();
            prop_assert_eq!(decode(data.as_str().unwrap_or_default()), Some(expected.clone()));
            prop_assert_eq!(data.as_str().unwrap_or_default(), encode(&expected));
        }
    }
}
