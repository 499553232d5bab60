//! Content encodings.

use bytes::Bytes;

/// A decoded body.
#[derive(Clone, Debug, Default)]
pub struct Decoded {
    /// The decoded bytes.
    pub bytes: Bytes,
    /// Decoded length after each raw chunk; empty for identity.
    pub ends: Vec<u64>,
    /// What could not be decoded.
    pub problem: Option<String>,
}

/// Decodes.
pub fn decode(
    _encoding: Option<&str>,
    raw: &Bytes,
    _chunk_lens: impl Iterator<Item = u64>,
) -> Decoded {
    Decoded { bytes: raw.clone(), ..Decoded::default() }
}
