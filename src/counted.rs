//! Whose usage is in a record already: what stands with the provider, a response or the output of a
//! batch, can be read many times and was used once.

use crate::model::{Cost, Record, Usage};
use std::collections::{HashSet, VecDeque};

/// Ids remembered here; older ones are looked up in the store. Enough for those whose records are
/// still on their way there.
const KNOWN_MAX: usize = 4096;
/// Longest of them; a longer one is looked up in the store.
const ID_BYTES_MAX: usize = 512;

/// Begins the note of a record whose usage another record has.
const COUNTED_BEFORE: &str = "usage is counted in an earlier record of ";

/// Whose usage was lately recorded.
#[derive(Debug, Default)]
pub struct Counted {
    known: HashSet<String>,
    order: VecDeque<String>,
}

impl Counted {
    /// Remembers the id that an upstream gave; true where it was known.
    pub fn remember(&mut self, upstream: &str, id: &str) -> bool {
        if id.len() > ID_BYTES_MAX {
            return false;
        }
        let key = format!("{upstream}/{id}");
        if !self.known.insert(key.clone()) {
            return true;
        }
        self.order.push_back(key);
        if self.order.len() > KNOWN_MAX
            && let Some(oldest) = self.order.pop_front()
        {
            self.known.remove(&oldest);
        }
        false
    }
}

/// Leaves usage and cost to the record that reported them first.
pub fn count_elsewhere(record: &mut Record) {
    let id = record.response_id.as_deref().unwrap_or_default();
    record.notes.push(format!("{COUNTED_BEFORE}{id}"));
    record.usage = Usage::default();
    record.cost = Cost::default();
}

/// Whether that was done.
pub fn is_counted_elsewhere(record: &Record) -> bool {
    record.notes.iter().any(|note| note.starts_with(COUNTED_BEFORE))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn once_an_upstream_and_bounded() {
        let mut counted = Counted::default();
        assert!(!counted.remember("a", "1") && !counted.remember("b", "1"));
        assert!(counted.remember("a", "1"));
        for id in 0..2 * KNOWN_MAX {
            counted.remember("a", &id.to_string());
        }
        assert_eq!((counted.known.len(), counted.order.len()), (KNOWN_MAX, KNOWN_MAX));
        assert!(!counted.remember("a", "1"));
        let long = "x".repeat(ID_BYTES_MAX + 1);
        assert!(!counted.remember("a", &long) && !counted.remember("a", &long));
    }
}
