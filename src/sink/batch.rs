//! Putting items into requests that are within a vendor's limits.

use super::Limits;
use serde_json::Value;
use std::ops::Range;

/// Runs of neighbours that fit into one request each. What is too large alone has one of its own.
pub(super) fn runs(items: &[Value], limits: Limits) -> Vec<Range<usize>> {
    let (mut runs, mut start, mut bytes) = (Vec::new(), 0, 0);
    for (place, item) in items.iter().enumerate() {
        let size = item.to_string().len() + 1;
        if place > start && (bytes + size > limits.bytes || place - start >= limits.records) {
            runs.push(start..place);
            (start, bytes) = (place, 0);
        }
        bytes += size;
    }
    if start < items.len() {
        runs.push(start..items.len());
    }
    runs
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn neighbours_share_a_request_while_they_fit() {
        let items =
            [json!("12345678"), json!("1"), json!("1"), json!("1"), json!("12345678901234")];
        let limits = Limits { records: 3, bytes: 12 };
        assert_eq!(runs(&items, limits), [0..1, 1..4, 4..5]);
        assert_eq!(runs(&items, Limits { records: 2, bytes: 99 }), [0..2, 2..4, 4..5]);
        assert!(runs(&[], limits).is_empty());
    }
}
