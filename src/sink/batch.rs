//! Putting items into requests that are within a vendor's limits.

use super::Limits;
use bytes::Bytes;
use std::ops::Range;

/// Runs of neighbours that fit into one request each. What is too large alone has one of its own.
pub(super) fn runs(items: &[Bytes], limits: Limits) -> Vec<Range<usize>> {
    let (mut runs, mut start, mut bytes) = (Vec::new(), 0, 0);
    for (place, item) in items.iter().enumerate() {
        let size = item.len() + 1;
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

/// A body of items between two texts, and where each of them stands in it.
#[derive(Debug)]
pub(super) struct Body {
    pub(super) bytes: Bytes,
    pub(super) parts: Vec<Range<usize>>,
}

/// Puts items one after the other.
pub(super) fn body(before: &str, items: &[Bytes], between: &str, after: &str) -> Body {
    let size: usize = items.iter().map(|item| item.len() + between.len()).sum();
    let mut bytes = Vec::with_capacity(before.len() + size + after.len());
    let mut parts = Vec::with_capacity(items.len());
    bytes.extend_from_slice(before.as_bytes());
    for (place, item) in items.iter().enumerate() {
        if place > 0 {
            bytes.extend_from_slice(between.as_bytes());
        }
        parts.push(bytes.len()..bytes.len() + item.len());
        bytes.extend_from_slice(item);
    }
    bytes.extend_from_slice(after.as_bytes());
    Body { bytes: bytes.into(), parts }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbours_share_a_request_while_they_fit() {
        let items = [10, 3, 3, 3, 16].map(|size| Bytes::from(vec![b'x'; size]));
        let limits = Limits { records: 3, bytes: 12 };
        assert_eq!(runs(&items, limits), [0..1, 1..4, 4..5]);
        assert_eq!(runs(&items, Limits { records: 2, bytes: 99 }), [0..2, 2..4, 4..5]);
        assert!(runs(&[], limits).is_empty());
    }

    #[test]
    fn a_body_knows_where_its_items_stand() {
        let items = ["1", "22"].map(|item| Bytes::from(item.to_owned()));
        let body = body("[", &items, ",", "]");
        assert_eq!((&body.bytes[..], body.parts), (&b"[1,22]"[..], vec![1..2, 3..5]));
    }
}
