//! What waits for the writer: bounded by bytes, never blocking whoever appends.

use super::{
    Health,
    fulltext::Waiting,
    lanes::LaneChange,
    row::{JournalRow, Row},
};
use std::{
    collections::{BTreeMap, VecDeque},
    path::PathBuf,
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};
use tokio::sync::{oneshot, watch};

/// Most bytes that wait for a commit; beyond them the newest entry is dropped and counted.
pub(super) const MAX_BYTES: usize = 64 << 20;
/// Largest group of one commit, in rows and bytes.
const GROUP_ROWS: usize = 256;
const GROUP_BYTES: usize = 4 << 20;
/// How long a group waits for more, where nobody waits for it: a commit costs about the same for one
/// record and for many.
const LINGER: Duration = Duration::from_millis(5);
/// What a change of a lane holds beside its entries.
const LANE_OVERHEAD: usize = 512;
/// Records that are lost are told of once in this time: a flood of them must not become one of lines.
const TELL: Duration = Duration::from_mins(1);
/// Why an entry that finds the queue full, or the store closed, is counted.
pub(super) const DROPPED: &str = "recorder";

/// Fires after the commit, with the call's `seq`.
pub(super) type Done = oneshot::Sender<Result<i64, String>>;

/// One thing to write.
#[derive(Debug)]
pub(super) enum Work {
    /// A finished call.
    Call(Box<Row>, Option<Done>),
    /// A call in flight.
    Started(Box<JournalRow>),
    /// A sink's id, and a change to its lane.
    Lane(Box<(String, LaneChange)>, Option<Done>),
}

impl Work {
    fn size(&self) -> usize {
        match self {
            Self::Call(row, _) => row.size(),
            Self::Started(row) => row.size(),
            Self::Lane(change, _) => lane_size(&change.1),
        }
    }

    /// Whether it only says how far a lane is. What a power cut forgets of that is delivered again, so
    /// it need not wait for the disk.
    pub(super) fn is_progress(&self) -> bool {
        matches!(self, Self::Lane(change, _) if matches!(change.1, LaneChange::Progress(_)))
    }

    /// Whether somebody waits for its commit, or for what follows from it.
    fn is_urgent(&self) -> bool {
        match self {
            Self::Call(_, done) => done.is_some(),
            Self::Started(_) => false,
            Self::Lane(..) => true,
        }
    }

    /// How many records are lost with it.
    pub(super) fn records(&self) -> u64 {
        match self {
            Self::Call(row, _) => row.records(),
            Self::Started(_) | Self::Lane(..) => 0,
        }
    }
}

fn lane_size(change: &LaneChange) -> usize {
    let entries = match change {
        LaneChange::Progress(progress) => progress.exceptions.len() * 4 + progress.settled.len(),
        LaneChange::Redrive(Some(seqs)) | LaneChange::Drop(Some(seqs)) => seqs.len(),
        _ => 0,
    };
    LANE_OVERHEAD + entries * 128
}

/// What the handle and the writer thread share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) file: PathBuf,
    pub(super) committed: watch::Sender<i64>,
    state: Mutex<State>,
    wake: Condvar,
    /// Texts that wait for the index.
    pub(super) texts: Waiting,
    #[cfg(test)]
    pub(super) max_pages: std::sync::atomic::AtomicU32,
}

#[derive(Debug, Default)]
struct State {
    queue: VecDeque<(usize, Work)>,
    /// Progress of lanes, one change of each at most: it goes by itself.
    progress: Vec<(usize, Work)>,
    /// Whether the last group was progress. Where both wait, the two take turns.
    progressed: bool,
    bytes: usize,
    /// Urgent ones that came since it was last empty.
    urgent: usize,
    /// The writer waits, and for what.
    waits: Option<Waits>,
    /// Taken by the writer, not yet committed.
    writing: usize,
    writing_bytes: usize,
    trouble: Option<String>,
    dropped: BTreeMap<String, u64>,
    dropped_unsaved: bool,
    /// When it was last told of records that are lost.
    told: Option<Instant>,
    closing: bool,
}

/// What the writer waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Waits {
    Anything,
    /// A reason not to linger.
    Hurry,
}

impl State {
    /// Whether what there is should be committed at once.
    fn hurries(&self) -> bool {
        self.urgent > 0 || self.closing || self.queue.len() >= GROUP_ROWS
    }

    /// Whether the writer has what it waits for.
    fn is_due(&self) -> bool {
        match self.waits {
            Some(Waits::Anything) => true,
            Some(Waits::Hurry) => self.hurries(),
            None => false,
        }
    }

    fn is_empty(&self) -> bool {
        self.queue.is_empty() && self.progress.is_empty()
    }

    fn count_dropped(&mut self, reason: &str, count: u64) {
        *self.dropped.entry(reason.to_owned()).or_default() += count;
        self.dropped_unsaved = true;
        if self.told.is_none_or(|told| told.elapsed() >= TELL) {
            self.told = Some(Instant::now());
            let ever: u64 = self.dropped.values().sum();
            tracing::warn!(reason, ever, "calls are not recorded");
        }
    }
}

/// What the writer is to do next.
pub(super) enum Next {
    /// Commit these.
    Group(Vec<Work>),
    /// Nothing waits.
    Idle,
    /// Nothing waits and nothing more will come.
    Closed,
}

impl Shared {
    pub(super) fn new(file: PathBuf, last: i64, dropped: BTreeMap<String, u64>) -> Self {
        Self {
            file,
            committed: watch::Sender::new(last),
            state: Mutex::new(State { dropped, ..State::default() }),
            wake: Condvar::new(),
            texts: Waiting::default(),
            #[cfg(test)]
            max_pages: 0.into(),
        }
    }

    /// Queues `work`, or counts it as dropped. In times of trouble a waiting caller is told at once;
    /// its entry still waits.
    pub(super) fn push(&self, mut work: Work) {
        let size = work.size();
        let mut state = self.lock();
        let full = state.bytes + state.writing_bytes + size > MAX_BYTES;
        if full || state.closing {
            let records = work.records();
            if records > 0 {
                state.count_dropped(DROPPED, records);
            }
            drop(state);
            answer(&mut work, if full { "the recorder is full" } else { "the store is closed" });
            return;
        }
        if let Some(trouble) = &state.trouble {
            answer(&mut work, trouble);
        }
        state.bytes += size;
        state.urgent += usize::from(work.is_urgent());
        if work.is_progress() {
            state.progress.push((size, work));
        } else {
            state.queue.push_back((size, work));
        }
        let due = state.is_due();
        drop(state);
        if due {
            self.wake.notify_one();
        }
    }

    /// Whether an entry of any size would find room.
    pub(super) fn has_room(&self) -> bool {
        let state = self.lock();
        state.bytes + state.writing_bytes < MAX_BYTES / 2
    }

    /// The next group: whatever waits, and what comes in the next moment where nothing hurries. Waits at
    /// most `patience` for the first.
    pub(super) fn next(&self, patience: Duration) -> Next {
        let mut state = self.lock();
        if state.is_empty() && !state.closing && !patience.is_zero() {
            state = self.wait(state, Waits::Anything, patience);
        }
        if !state.is_empty() && !state.hurries() {
            state = self.wait(state, Waits::Hurry, LINGER);
        }
        if state.is_empty() {
            return if state.closing { Next::Closed } else { Next::Idle };
        }
        let (mut group, mut bytes) = (Vec::new(), 0);
        state.progressed =
            !state.progress.is_empty() && (state.queue.is_empty() || !state.progressed);
        if state.progressed {
            for (size, work) in std::mem::take(&mut state.progress) {
                bytes += size;
                group.push(work);
            }
        }
        while !state.progressed && group.len() < GROUP_ROWS && bytes < GROUP_BYTES {
            let Some((size, work)) = state.queue.pop_front() else { break };
            bytes += size;
            group.push(work);
        }
        state.bytes -= bytes;
        if state.is_empty() {
            state.urgent = 0;
        }
        state.writing = group.len();
        state.writing_bytes = bytes;
        Next::Group(group)
    }

    fn wait<'a>(
        &self,
        mut state: MutexGuard<'a, State>,
        what: Waits,
        time: Duration,
    ) -> MutexGuard<'a, State> {
        state.waits = Some(what);
        let goes_on = |state: &mut State| match what {
            Waits::Anything => state.is_empty() && !state.closing,
            Waits::Hurry => !state.hurries(),
        };
        let waited = self.wake.wait_timeout_while(state, time, goes_on);
        let mut state = waited.unwrap_or_else(PoisonError::into_inner).0;
        state.waits = None;
        state
    }

    /// The group is on disk.
    pub(super) fn group_done(&self) {
        let mut state = self.lock();
        (state.writing, state.writing_bytes) = (0, 0);
        if state.trouble.take().is_some() {
            tracing::info!("the store takes records again");
        }
    }

    /// Why records cannot be written just now. Tells everyone who waits in the queue.
    pub(super) fn trouble(&self, reason: &str) {
        let mut state = self.lock();
        if state.trouble.replace(reason.to_owned()).is_none() {
            tracing::error!(reason, "the store cannot be written; records wait in memory");
        }
        for (_, work) in &mut state.queue {
            answer(work, reason);
        }
    }

    /// Waits before another try; ends early when the store closes. True when it is closing.
    pub(super) fn pause(&self, time: Duration) -> bool {
        let state = self.lock();
        let waited = self.wake.wait_timeout_while(state, time, |state| !state.closing);
        waited.unwrap_or_else(PoisonError::into_inner).0.closing
    }

    pub(super) fn count_dropped(&self, reason: &str, count: u64) {
        self.lock().count_dropped(reason, count);
    }

    /// Drop counts that are not on disk yet.
    pub(super) fn unsaved_dropped(&self) -> Option<BTreeMap<String, u64>> {
        let mut state = self.lock();
        std::mem::take(&mut state.dropped_unsaved).then(|| state.dropped.clone())
    }

    /// Saving them failed: they are to be saved again.
    pub(super) fn dropped_not_saved(&self) {
        self.lock().dropped_unsaved = true;
    }

    pub(super) fn health(&self) -> Health {
        let state = self.lock();
        Health {
            trouble: state.trouble.clone(),
            waiting: u64::try_from(state.queue.len() + state.progress.len() + state.writing)
                .unwrap_or(u64::MAX),
            dropped: state.dropped.iter().map(|(reason, count)| (reason.clone(), *count)).collect(),
        }
    }

    pub(super) fn close(&self) {
        self.lock().closing = true;
        self.wake.notify_all();
    }

    /// The state stays sound whoever panics: every change is a plain assignment.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Tells whoever waits for this call that it is not on disk. A lane waits for better times.
pub(super) fn answer(work: &mut Work, reason: &str) {
    if let Work::Call(_, done) = work
        && let Some(done) = done.take()
    {
        // Whoever waited may be gone.
        drop(done.send(Err(reason.to_owned())));
    }
}
