//! Small helpers for text from strangers.

use serde_json::Value;

/// `text` cut to at most `bytes_max` bytes, between characters.
pub(crate) fn clip(text: &str, bytes_max: usize) -> String {
    let mut end = text.len().min(bytes_max);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.get(..end).unwrap_or_default().to_owned()
}

/// Longest name (of a model, a tier, a finish reason) kept, in bytes.
const NAME_BYTES_MAX: usize = 256;

/// A member that names something: a text that is not empty, of bounded length.
pub(crate) fn name(value: Option<&Value>) -> Option<String> {
    let text = value?.as_str()?;
    (!text.is_empty()).then(|| clip(text, NAME_BYTES_MAX))
}
