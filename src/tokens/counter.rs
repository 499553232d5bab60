//! Counting text with bounded work.

use super::family::Encoding;
use tiktoken_rs::CoreBPE;

/// Most bytes of a call that are counted exactly; what lies beyond is taken to be like them.
pub(super) const EXACT_BYTES_MAX: usize = 256 << 10;
/// Longest piece handed to the tokenizer at once: its regular expressions backtrack and its merging
/// is quadratic, so hostile text without a gap must not reach them whole.
const PIECE_BYTES_MAX: usize = 1 << 10;

/// Counts the texts of one call.
pub(super) struct Counter {
    vocabulary: &'static CoreBPE,
    /// Bytes that may still be counted exactly.
    left: usize,
    /// What was counted exactly so far: the measure for what is not.
    bytes: u64,
    tokens: u64,
    extrapolated: bool,
}

impl Counter {
    /// A counter with the vocabulary of `encoding`, loaded if it is not yet; `None` where that fails.
    pub(super) fn new(encoding: Encoding) -> Option<Self> {
        let vocabulary = encoding.vocabulary()?;
        Some(Self { vocabulary, left: EXACT_BYTES_MAX, bytes: 0, tokens: 0, extrapolated: false })
    }

    /// Tokens of `text`. What looks like a special token is plain text.
    pub(super) fn count(&mut self, text: &str) -> u64 {
        let (mut rest, tail) = text.split_at(text.floor_char_boundary(self.left));
        self.left -= rest.len();
        let mut tokens = 0;
        while !rest.is_empty() {
            let (piece, after) = rest.split_at(piece_end(rest));
            tokens += number(self.vocabulary.count_ordinary(piece));
            rest = after;
        }
        self.bytes += number(text.len() - tail.len());
        self.tokens += tokens;
        if tail.is_empty() {
            return tokens;
        }
        self.extrapolated = true;
        let beyond = u128::from(number(tail.len())) * u128::from(self.tokens.max(1))
            / u128::from(self.bytes.max(4));
        tokens.saturating_add(u64::try_from(beyond).unwrap_or(u64::MAX))
    }

    /// Whether some text was not counted to its end.
    pub(super) fn extrapolated(&self) -> bool {
        self.extrapolated
    }
}

/// Where the next piece ends: before a space that follows a word, where every vocabulary's pattern
/// starts anew, or, in text without one, anywhere.
fn piece_end(text: &str) -> usize {
    if text.len() <= PIECE_BYTES_MAX {
        return text.len();
    }
    let end = text.floor_char_boundary(PIECE_BYTES_MAX);
    let bytes = text.as_bytes();
    let gap = |at: &usize| {
        bytes.get(*at) == Some(&b' ') && bytes.get(at - 1).is_some_and(|b| !b.is_ascii_whitespace())
    };
    (1..=end).rev().find(gap).unwrap_or(end)
}

fn number(len: usize) -> u64 {
    u64::try_from(len).unwrap_or(u64::MAX)
}
