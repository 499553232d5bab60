//! Conversations of the Assistants API, followed from call to call: a record for every message that
//! an assistant wrote, once, with its share of the run's tokens (SPEC §13.4, openai-surface.md §9).
//!
//! What one call tells is not enough: the question came with an earlier one, the tokens come with a
//! later one. So a little is remembered of each thread. It is stored together with the records that
//! were made of it, and bounded: the thread that was quiet longest is forgotten first.

mod news;
mod record;
mod share;
#[cfg(test)]
mod tests;
mod thread;

pub use record::Derived;

use crate::model::{Record, Timestamp};
use std::{
    collections::HashMap,
    hash::{DefaultHasher, Hash, Hasher},
};
use thread::Thread;

/// Most threads remembered, and most bytes of all and of one of them.
const THREADS_MAX: usize = 4096;
const BYTES_MAX: usize = 16 << 20;
const THREAD_BYTES_MAX: usize = 1 << 20;

/// A finished call of the Assistants API.
#[derive(Clone, Copy, Debug)]
pub struct Seen<'a> {
    /// Its record with `request` and `response`.
    pub record: &'a Record,
    /// Whether content of it may be kept.
    pub keep: bool,
    /// Host of the upstream.
    pub host: Option<&'a str>,
}

/// What follows from a call, or from time that passed. All of it belongs into one commit.
#[derive(Clone, Debug, Default)]
pub struct Found {
    /// Exchanges that stand for messages. Their ids are always the same, so a repeated one changes
    /// nothing.
    pub derived: Vec<Derived>,
    /// What is remembered of threads by key, as JSON; `None` for what is forgotten.
    pub threads: Vec<(String, Option<String>)>,
}

/// Every thread that is remembered.
#[derive(Debug, Default)]
pub struct Assistants {
    threads: HashMap<String, Slot>,
    bytes: usize,
    uses: u64,
    due: Option<Timestamp>,
}

#[derive(Debug)]
struct Slot {
    thread: Thread,
    used: u64,
    /// Length and hash of what was last handed out to be stored.
    len: usize,
    hash: u64,
}

impl Assistants {
    /// Goes on where an earlier life ended. What cannot be read is forgotten.
    pub fn load(stored: impl IntoIterator<Item = (String, String)>) -> Self {
        let mut slots: Vec<(String, Slot)> = stored
            .into_iter()
            .filter_map(|(key, json)| {
                let thread = serde_json::from_str(&json).ok()?;
                Some((key, Slot { thread, used: 0, len: json.len(), hash: hash(&json) }))
            })
            .collect();
        slots.sort_by_key(|(_, slot)| slot.thread.touched);
        let mut all = Self::default();
        for (key, mut slot) in slots {
            all.uses += 1;
            slot.used = all.uses;
            all.bytes += slot.len;
            all.due = earliest(all.due, slot.thread.deadline());
            all.threads.insert(key, slot);
        }
        all
    }

    /// Takes in a call.
    pub fn observe(&mut self, seen: Seen<'_>, now: Timestamp) -> Found {
        let mut found = Found::default();
        let Some(news) = news::read(seen.record) else { return found };
        let key = format!("{}/{}", seen.record.upstream, news.thread);
        self.uses += 1;
        let slot = self.threads.entry(key.clone()).or_insert_with(|| Slot {
            thread: Thread::new(news.thread.clone()),
            used: 0,
            len: 0,
            hash: 0,
        });
        slot.used = self.uses;
        slot.thread.take(news, seen, now);
        found.derived = slot.thread.settle(now);
        self.keep(key, &mut found, now);
        self.forget(&mut found, now);
        found
    }

    /// What has waited long enough: messages whose run was never seen to end.
    pub fn due(&mut self, now: Timestamp) -> Found {
        let mut found = Found::default();
        if self.due.is_none_or(|due| due > now) {
            return found;
        }
        let is_due = |slot: &Slot| slot.thread.deadline().is_some_and(|due| due <= now);
        let keys: Vec<String> = self
            .threads
            .iter()
            .filter(|(_, slot)| is_due(slot))
            .map(|(key, _)| key.clone())
            .collect();
        for key in keys {
            if let Some(slot) = self.threads.get_mut(&key) {
                found.derived.append(&mut slot.thread.settle(now));
            }
            self.keep(key, &mut found, now);
        }
        self.due = self.threads.values().filter_map(|slot| slot.thread.deadline()).min();
        found
    }

    /// Hands the thread out to be stored, where it changed.
    fn keep(&mut self, key: String, found: &mut Found, now: Timestamp) {
        let Some(slot) = self.threads.get_mut(&key) else { return };
        let mut json = serde_json::to_string(&slot.thread).unwrap_or_default();
        if json.len() > THREAD_BYTES_MAX {
            found.derived.append(&mut slot.thread.shrink(now));
            json = serde_json::to_string(&slot.thread).unwrap_or_default();
        }
        self.due = earliest(self.due, slot.thread.deadline());
        let hash = hash(&json);
        if hash != slot.hash {
            self.bytes = self.bytes - slot.len + json.len();
            (slot.len, slot.hash) = (json.len(), hash);
            found.threads.push((key, Some(json)));
        }
    }

    /// Makes room: what a forgotten thread still held is told as it is.
    fn forget(&mut self, found: &mut Found, now: Timestamp) {
        while self.threads.len() > THREADS_MAX || self.bytes > BYTES_MAX {
            let oldest = self.threads.iter().min_by_key(|(_, slot)| slot.used);
            let Some(key) = oldest.map(|(key, _)| key.clone()) else { return };
            if let Some(mut slot) = self.threads.remove(&key) {
                self.bytes -= slot.len;
                found.derived.append(&mut slot.thread.flush(now));
            }
            found.threads.push((key, None));
        }
    }
}

fn earliest(one: Option<Timestamp>, other: Option<Timestamp>) -> Option<Timestamp> {
    one.into_iter().chain(other).min()
}

fn hash(text: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    text.hash(&mut hasher);
    hasher.finish()
}
