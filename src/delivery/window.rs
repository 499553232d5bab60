//! What is in flight along the record log, and how far everything is settled.
//!
//! Invariant: `advance` never passes an entry with something open, so a cursor that it gives can be
//! stored without losing a record.

use std::{
    collections::VecDeque,
    sync::atomic::{AtomicU64, Ordering},
};

/// No two entries have one id, whatever window they are in: an answer that comes late meets nothing.
static IDS: AtomicU64 = AtomicU64::new(1);

/// A stretch of the record log between what is settled and what was read.
#[derive(Debug)]
pub struct Window {
    /// The last call that was read.
    pub next: i64,
    /// Where it ends; `None` for the newest calls.
    pub until: Option<i64>,
    settled: i64,
    entries: VecDeque<Entry>,
}

#[derive(Debug)]
struct Entry {
    id: u64,
    /// The last call that it covers.
    through: i64,
    /// Requests that are not settled.
    open: usize,
    /// Whether it ever had one.
    counts: bool,
    /// Whether one was sent.
    begun: bool,
}

impl Window {
    /// An empty one after `settled`.
    pub fn new(settled: i64, until: Option<i64>) -> Self {
        Self { next: settled, until, settled, entries: VecDeque::new() }
    }

    /// Takes in what was read up to `through`, with so many requests; gives its id.
    pub fn push(&mut self, through: i64, open: usize) -> u64 {
        let id = IDS.fetch_add(1, Ordering::Relaxed);
        self.next = self.next.max(through);
        self.entries.push_back(Entry { id, through, open, counts: open > 0, begun: false });
        id
    }

    /// A request was settled, or became `more` requests. False where the entry is unknown.
    pub fn settle(&mut self, id: u64, more: usize) -> bool {
        let Some(entry) = self.entries.iter_mut().find(|entry| entry.id == id) else {
            return false;
        };
        entry.open = (entry.open + more).saturating_sub(1);
        true
    }

    /// Something of an entry is sent.
    pub fn begin(&mut self, id: u64) {
        if let Some(entry) = self.entries.iter_mut().find(|entry| entry.id == id) {
            entry.begun = true;
        }
    }

    /// Whether something of an entry was sent.
    pub fn has_begun(&self, id: u64) -> bool {
        self.entries.iter().any(|entry| entry.id == id && entry.begun)
    }

    /// Entries of which something was sent, and that are not passed.
    pub fn begun(&self) -> usize {
        self.entries.iter().filter(|entry| entry.begun).count()
    }

    /// Entries with requests that were all built ahead.
    pub fn ahead(&self) -> usize {
        self.entries.iter().filter(|entry| entry.open > 0 && !entry.begun).count()
    }

    /// Moves over what is settled; gives how far that is, and over how many entries with records.
    pub fn advance(&mut self) -> Option<(i64, usize)> {
        let (before, mut counted) = (self.settled, 0);
        while self.entries.front().is_some_and(|entry| entry.open == 0) {
            let Some(entry) = self.entries.pop_front() else { break };
            self.settled = self.settled.max(entry.through);
            counted += usize::from(entry.counts);
        }
        (self.settled > before || counted > 0).then_some((self.settled, counted))
    }

    /// How far everything is settled.
    pub fn settled(&self) -> i64 {
        self.settled
    }

    /// Whether it ends and is settled to its end.
    pub fn is_done(&self) -> bool {
        self.until.is_some_and(|until| self.settled >= until)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// Whatever the order of answers and splits, nothing open is ever passed, and in the end all is.
        #[test]
        fn the_cursor_never_passes_what_is_open(
            opens in proptest::collection::vec(0_usize..4, 1..20),
            order in proptest::collection::vec((0_usize..100, 0_usize..3), 0..200),
        ) {
            let mut window = Window::new(0, None);
            let mut open: Vec<(u64, i64)> = Vec::new();
            for (at, count) in opens.iter().enumerate() {
                let through = i64::try_from(at + 1).unwrap() * 10;
                let id = window.push(through, *count);
                open.extend(std::iter::repeat_n((id, through), *count));
            }
            for (pick, more) in order {
                if open.is_empty() { break }
                let (id, through) = open.remove(pick % open.len());
                window.settle(id, more);
                open.extend(std::iter::repeat_n((id, through), more));
                window.advance();
                prop_assert!(open.iter().all(|(_, through)| window.settled() < *through));
            }
            while let Some((id, _)) = open.pop() {
                window.settle(id, 0);
            }
            window.advance();
            prop_assert_eq!(window.settled(), i64::try_from(opens.len()).unwrap() * 10);
        }
    }
}
