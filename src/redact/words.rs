//! Where a text may hold a secret at all: in and around its long words.
//!
//! Every secret that a preset looks for is a long word or stands right before one, but for a few whose
//! hints are looked for apart. Most of a text is short words, which are skipped twelve bytes at a time.

use std::ops::Range;

/// Length of a long word: secrets have twelve bytes at least without a space or a quote.
const LONG: usize = 12;
/// How far before its word a hint may stand: the name of a key, quotes and backslashes between them.
const BEFORE: usize = 64;

/// Spaces, quotes and backslashes end a word, as they end a secret.
const ENDS: [bool; 256] = {
    let mut ends = [false; 256];
    let mut at = 0;
    while at < 256 {
        #[expect(clippy::cast_possible_truncation, reason = "below 256")]
        let byte = at as u8;
        ends[at] = matches!(byte, b'\t'..=b'\r' | b' ' | b'"' | b'\'' | b'\\');
        at += 1;
    }
    ends
};

fn ends(byte: u8) -> bool {
    ENDS.get(usize::from(byte)).copied().unwrap_or_default()
}

/// The stretches of `text` that are long words and what stands before them; in order, none twice.
pub(super) fn long(text: &[u8]) -> impl Iterator<Item = Range<usize>> + '_ {
    let (mut from, mut pending) = (0, None::<Range<usize>>);
    std::iter::from_fn(move || {
        loop {
            let Some(word) = next(text, from) else { return pending.take() };
            from = word.end;
            let stretch = word.start.saturating_sub(BEFORE)..word.end;
            match &mut pending {
                Some(before) if stretch.start <= before.end => before.end = stretch.end,
                _ => {
                    if let Some(done) = pending.replace(stretch) {
                        return Some(done);
                    }
                }
            }
        }
    })
}

/// The first long word after `from`, which is no part of one.
fn next(text: &[u8], from: usize) -> Option<Range<usize>> {
    // A long word covers one of any twelve bytes in a row.
    let mut at = from + LONG - 1;
    loop {
        if ends(*text.get(at)?) {
            at += LONG;
            continue;
        }
        let back = text.get(from..at)?.iter().rev().take_while(|byte| !ends(**byte)).count();
        let ahead = text.get(at..)?.iter().take_while(|byte| !ends(**byte)).count();
        if back + ahead >= LONG {
            return Some(at - back..at + ahead);
        }
        at += ahead + LONG;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn short_words_are_skipped() {
        let of = |text: &str| long(text.as_bytes()).collect::<Vec<_>>();
        assert!(of("").is_empty());
        assert!(of("elevenbytes elevenbytes \"elevenbytes\"").is_empty());
        assert_eq!(of("twelve-bytes"), vec![Range { start: 0, end: 12 }]);
        let far = format!("{} twelve-bytes x", "ab ".repeat(40));
        assert_eq!(of(&far), vec![Range { start: 121 - BEFORE, end: 133 }]);
    }

    proptest! {
        /// Each long word is inside a stretch, with what stands before it.
        #[test]
        fn no_long_word_is_missed(text in "([a-z]{1,14}[ \"\\\\]{1,2}){0,40}[a-z]{0,30}") {
            let stretches: Vec<_> = long(text.as_bytes()).collect();
            prop_assert!(stretches.windows(2).all(|pair| pair[0].end < pair[1].start));
            let mut start = 0_usize;
            for word in text.split([' ', '"', '\\']) {
                let place = start.saturating_sub(BEFORE)..start + word.len();
                let inside = stretches.iter().any(|s| s.start <= place.start && place.end <= s.end);
                prop_assert!(inside || word.len() < LONG, "{word}");
                start += word.len() + 1;
            }
        }
    }
}
