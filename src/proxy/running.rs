//! Calls that are on their way: for the journal, and for whoever wants to look.

use crate::model::Head;
use bytes::Bytes;
use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};
use tokio::sync::Notify;
use uuid::Uuid;

/// Calls are spread over so many locks, so that hardly any is ever waited for.
const SHARDS: usize = 16;

/// All running calls.
#[derive(Debug, Default)]
pub struct Running {
    shards: [Mutex<Shard>; SHARDS],
    /// Fires when there is a call where there was none.
    pub begun: Notify,
}

#[derive(Debug, Default)]
struct Shard {
    calls: HashMap<Uuid, Live>,
    /// In order of their beginning; those that have ended stay until they would be due.
    young: VecDeque<(Instant, Uuid)>,
}

/// A running call.
#[derive(Clone, Debug)]
pub struct Live {
    /// What is known of it.
    pub head: Arc<Head>,
    /// Its request body, where it was read before it went upstream.
    pub request: Bytes,
}

impl Running {
    /// A request went upstream.
    pub(super) fn add(&self, head: Arc<Head>, request: Bytes) {
        let id = head.id;
        let mut shard = self.shard(id);
        let first = shard.young.is_empty();
        shard.young.push_back((Instant::now(), id));
        shard.calls.insert(id, Live { head, request });
        drop(shard);
        if first {
            self.begun.notify_one();
        }
    }

    /// The call has ended.
    pub(super) fn remove(&self, id: Uuid) {
        // What it held is freed after the lock.
        let ended = self.shard(id).calls.remove(&id);
        drop(ended);
    }

    /// Calls that began `age` or longer ago and run on, each told once.
    pub fn due(&self, age: Duration) -> Vec<Live> {
        let mut due = Vec::new();
        for shard in &self.shards {
            let mut shard = lock(shard);
            while shard.young.front().is_some_and(|(since, _)| since.elapsed() >= age) {
                let Some((_, id)) = shard.young.pop_front() else { break };
                due.extend(shard.calls.get(&id).cloned());
            }
        }
        due
    }

    /// Whether some call may become due.
    pub fn has_young(&self) -> bool {
        self.shards.iter().any(|shard| !lock(shard).young.is_empty())
    }

    /// All of them.
    pub fn calls(&self) -> Vec<Live> {
        let calls =
            |shard: &Mutex<Shard>| -> Vec<Live> { lock(shard).calls.values().cloned().collect() };
        self.shards.iter().flat_map(calls).collect()
    }

    fn shard(&self, id: Uuid) -> MutexGuard<'_, Shard> {
        // The last byte of a UUIDv7 is random.
        let at = usize::from(id.as_bytes()[15]) % SHARDS;
        lock(&self.shards[at])
    }
}

/// Sound whoever panics: every change is a plain insertion or removal.
fn lock(shard: &Mutex<Shard>) -> MutexGuard<'_, Shard> {
    shard.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_is_due_once_and_only_while_it_runs() {
        let running = Running::default();
        let head = |id| Arc::new(Head { id, ..Head::default() });
        let (stays, ends) = (Uuid::from_u128(1), Uuid::from_u128(2));
        running.add(head(stays), "{}".into());
        running.add(head(ends), Bytes::new());
        assert_eq!(running.calls().len(), 2);
        running.remove(ends);
        assert!(running.due(Duration::from_mins(1)).is_empty() && running.has_young());
        let due = running.due(Duration::ZERO);
        assert_eq!(due.len(), 1);
        assert_eq!((due[0].head.id, &due[0].request[..]), (stays, &b"{}"[..]));
        assert!(running.due(Duration::ZERO).is_empty() && !running.has_young());
        running.remove(stays);
        assert!(running.calls().is_empty());
    }
}
