//! What makes a run of digits a payment card number.

use std::ops::RangeInclusive;

/// Leading digits and lengths that issuers use (ISO/IEC 7812, as the networks publish them).
const ISSUERS: &[(RangeInclusive<u32>, RangeInclusive<usize>)] = &[
    (4000..=4999, 13..=19), // Visa
    (2200..=2204, 16..=19), // Mir
    (2221..=2720, 16..=16), // Mastercard
    (3000..=3059, 14..=19), // Diners Club
    (3400..=3499, 15..=15), // American Express
    (3528..=3589, 16..=19), // JCB
    (3600..=3699, 14..=19), // Diners Club
    (3700..=3799, 15..=15), // American Express
    (3800..=3999, 14..=19), // Diners Club
    (5018..=5018, 12..=19), // Maestro
    (5020..=5020, 12..=19),
    (5038..=5038, 12..=19),
    (5100..=5599, 16..=16), // Mastercard
    (5893..=5893, 12..=19), // Maestro
    (6000..=6999, 13..=19), // Discover, Maestro, RuPay, UnionPay
    (8100..=8299, 16..=19), // RuPay, UnionPay
];

/// Most digits of a card number (ISO/IEC 7812).
const DIGITS_MAX: usize = 19;

/// Length of the longest card number that `text` starts with, separators included. It ends where
/// its last group of digits does.
pub(super) fn number_len(text: &[u8]) -> Option<usize> {
    let (mut digits, mut found) = (Vec::with_capacity(DIGITS_MAX), None);
    let mut at = 0;
    loop {
        let group = text.get(at..)?;
        let len = group_len(group);
        if len == 0 || digits.len() + len > DIGITS_MAX {
            return found;
        }
        digits.extend(group.iter().take(len).map(|byte| byte - b'0'));
        at += len;
        let next = text.get(at);
        if !next.is_some_and(u8::is_ascii_alphanumeric) && is_issued(&digits) && adds_up(&digits) {
            found = Some(at);
        }
        if !matches!(next, Some(b' ' | b'-')) {
            return found;
        }
        at += 1;
    }
}

/// Number of digits that `text` starts with; at most one more than a card number has.
pub(super) fn group_len(text: &[u8]) -> usize {
    text.iter().take(DIGITS_MAX + 1).take_while(|byte| byte.is_ascii_digit()).count()
}

fn is_issued(number: &[u8]) -> bool {
    let Some(leading) = number.get(..4) else { return false };
    let leading = leading.iter().fold(0, |sum, digit| sum * 10 + u32::from(*digit));
    ISSUERS.iter().any(|(from, lens)| from.contains(&leading) && lens.contains(&number.len()))
}

/// The check digit of ISO/IEC 7812 (Luhn).
fn adds_up(number: &[u8]) -> bool {
    let sum: u32 = number
        .iter()
        .rev()
        .enumerate()
        .map(|(at, digit)| match (at % 2, *digit) {
            (0, digit) => u32::from(digit),
            (_, digit) => u32::from(digit) * 2 - if digit > 4 { 9 } else { 0 },
        })
        .sum();
    sum.is_multiple_of(10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_each_network() {
        // Numbers that payment processors publish for tests; nobody holds them.
        for number in [
            "4111111111111111",
            "4111 1111 1111 1111",
            "5555-5555-5555-4444",
            "2223003122003222",
            "378282246310005",
            "3782 822463 10005",
            "6011111111111117",
            "30569309025904",
            "3530111333300000",
        ] {
            assert_eq!(number_len(number.as_bytes()), Some(number.len()), "{number}");
        }
        for number in ["4111111111111112", "1763993281123", "1234567812345670", "411111111111", ""]
        {
            assert_eq!(number_len(number.as_bytes()), None, "{number}");
        }
    }

    #[test]
    fn what_follows_is_left() {
        assert_eq!(number_len(b"4111 1111 1111 1111 12"), Some(19));
        assert_eq!(number_len(b"4111111111111111 123"), Some(16));
        assert_eq!(number_len(b"4111111111111111 1111 1111"), Some(16));
        for longer in ["41111111111111112", "4111111111111111a", "41111111111111110000000000"] {
            assert_eq!(number_len(longer.as_bytes()), None, "{longer}");
        }
    }
}
