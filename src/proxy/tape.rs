//! Bytes of one body as they crossed: kept in memory, spilled to disk under pressure, truncated last.

use super::spill::{SpillId, Spiller};
use crate::model::Body;
use bytes::{Bytes, BytesMut};
use sha2::{Digest, Sha256};
use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

/// Bytes in a closed segment: the unit of hashing and spilling. What is not closed yet is never spilled,
/// and ten thousand streams have one each.
pub const SEGMENT_BYTES: usize = 16 * 1024;
/// First allocation of a tape that has to copy.
const FIRST_BYTES: usize = 4 * 1024;
/// Segments of a body that is large: it moves to a stretch of memory where all that may be kept has
/// room, and is not copied again. What is not written to yet takes no memory.
const LARGE_SEGMENTS: usize = 64;
/// Longest stretch; a body that goes on behind it is copied in the end.
const STRETCH_BYTES: usize = 64 << 20;

/// Bytes that calls may take beyond the budget, their bodies spilled or dropped.
const CALLS_OVER: u64 = 32 << 20;

/// Bytes that captures of all calls together may hold in memory.
#[derive(Debug)]
pub struct Budget {
    used: AtomicU64,
    max: AtomicU64,
}

impl Budget {
    /// A budget of `max` bytes.
    pub fn new(max: u64) -> Self {
        Self { used: AtomicU64::new(0), max: AtomicU64::new(max) }
    }

    /// Changes the limit (reload).
    pub fn set_max(&self, max: u64) {
        self.max.store(max, Ordering::Relaxed);
    }

    /// Bytes held now.
    pub fn used(&self) -> u64 {
        self.used.load(Ordering::Relaxed)
    }

    /// Whether more is held than allowed: bodies are to be spilled.
    pub fn is_over(&self) -> bool {
        self.used() > self.max.load(Ordering::Relaxed)
    }

    /// Whether calls without their bodies have taken all that there is: no more are recorded.
    pub fn is_exhausted(&self) -> bool {
        self.used() > self.max.load(Ordering::Relaxed).saturating_add(CALLS_OVER)
    }
}

/// Bytes charged to a budget, given back when dropped.
#[derive(Debug)]
pub struct Charge {
    budget: Arc<Budget>,
    bytes: u64,
}

impl Charge {
    /// No bytes yet.
    pub fn new(budget: &Arc<Budget>) -> Self {
        Self { budget: Arc::clone(budget), bytes: 0 }
    }

    /// So many bytes.
    pub fn of(budget: &Arc<Budget>, bytes: usize) -> Self {
        let mut charge = Self::new(budget);
        charge.add(bytes);
        charge
    }

    /// Charges `more` bytes.
    pub fn add(&mut self, more: usize) {
        let more = u64::try_from(more).unwrap_or(u64::MAX);
        self.bytes += more;
        self.budget.used.fetch_add(more, Ordering::Relaxed);
    }

    /// Gives `less` bytes back.
    pub fn give_back(&mut self, less: usize) {
        let less = u64::try_from(less).unwrap_or(u64::MAX).min(self.bytes);
        self.bytes -= less;
        self.budget.used.fetch_sub(less, Ordering::Relaxed);
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.budget.used.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// One body on its way.
#[derive(Debug)]
pub struct Tape {
    charge: Charge,
    /// Bytes that may be kept.
    cap: u64,
    /// Bytes that crossed.
    total: u64,
    /// Bytes kept so far, spilled ones included.
    kept: u64,
    /// A body that came in one piece.
    only: Option<Bytes>,
    closed: Vec<BytesMut>,
    tail: BytesMut,
    /// Room behind the tail of a large body.
    stretch: BytesMut,
    spilled: Option<SpillId>,
    /// No more is kept; what crosses is only hashed.
    full: bool,
    /// Covers every byte before `tail`.
    hash: Sha256,
}

/// A finished tape. The hash is completed, and spilled bytes are read back, off the request path.
#[derive(Debug, Default)]
pub struct Taped {
    /// A body that came in one piece.
    only: Option<Bytes>,
    /// In order, after what was spilled.
    pieces: Vec<BytesMut>,
    /// What came after them, and how much of it is kept.
    rest: (BytesMut, usize),
    /// File that holds the first part.
    pub spilled: Option<SpillId>,
    /// Bytes that crossed.
    pub total: u64,
    /// Hash over everything before `rest`, or `only`.
    hash: Option<Sha256>,
    charge: Option<Charge>,
}

impl Tape {
    /// An empty tape that keeps at most `cap` bytes.
    pub fn new(budget: &Arc<Budget>, cap: u64) -> Self {
        Self {
            charge: Charge::new(budget),
            cap,
            total: 0,
            kept: 0,
            only: None,
            closed: Vec::new(),
            tail: BytesMut::new(),
            stretch: BytesMut::new(),
            spilled: None,
            full: false,
            hash: Sha256::new(),
        }
    }

    /// Notes a piece of the body. It is copied: as it came it would keep the whole read buffer of its
    /// connection in memory.
    pub fn push(&mut self, bytes: &[u8], spiller: &Spiller) {
        if bytes.is_empty() {
            return;
        }
        if self.total == 0 && bytes.len() <= SEGMENT_BYTES {
            return self.share(Bytes::copy_from_slice(bytes), spiller);
        }
        if let Some(only) = self.only.take() {
            self.charge.give_back(only.len());
            self.append(&only, spiller);
        }
        self.total += u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        self.append(bytes, spiller);
    }

    /// Notes a body that came in one piece, with memory of its own. It is shared while there is room.
    pub fn share(&mut self, bytes: Bytes, spiller: &Spiller) {
        self.total += u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        self.charge.add(bytes.len());
        if self.total <= self.cap && !self.charge.budget.is_over() {
            self.only = Some(bytes);
            return;
        }
        self.charge.give_back(bytes.len());
        self.append(&bytes, spiller);
    }

    fn append(&mut self, mut bytes: &[u8], spiller: &Spiller) {
        while !bytes.is_empty() {
            let room = SEGMENT_BYTES - self.tail.len();
            let (now, later) = bytes.split_at(bytes.len().min(room));
            let before = self.tail.capacity();
            if self.tail.capacity() == 0 {
                self.tail = self.next_segment(now.len());
            }
            self.tail.extend_from_slice(now);
            self.charge.add(self.tail.capacity().saturating_sub(before));
            if self.tail.len() == SEGMENT_BYTES {
                self.close_segment(spiller);
            }
            bytes = later;
        }
    }

    /// An empty segment, with room for `least` bytes.
    fn next_segment(&mut self, least: usize) -> BytesMut {
        if self.closed.len() == LARGE_SEGMENTS && !self.full && self.stretch.capacity() == 0 {
            self.stretch_out();
        }
        if self.stretch.capacity() < SEGMENT_BYTES {
            return BytesMut::with_capacity(FIRST_BYTES.max(least));
        }
        let behind = self.stretch.split_off(SEGMENT_BYTES);
        std::mem::replace(&mut self.stretch, behind)
    }

    /// Moves the closed segments to the beginning of a stretch.
    fn stretch_out(&mut self) {
        let all = usize::try_from(self.cap).unwrap_or(usize::MAX).min(STRETCH_BYTES);
        let mut stretch = BytesMut::with_capacity(all.next_multiple_of(SEGMENT_BYTES));
        for segment in &mut self.closed {
            stretch.extend_from_slice(segment);
            *segment = stretch.split();
        }
        self.stretch = stretch;
    }

    fn close_segment(&mut self, spiller: &Spiller) {
        let capacity = self.tail.capacity();
        let mut segment = std::mem::take(&mut self.tail);
        self.hash.update(&segment);
        let len = u64::try_from(segment.len()).unwrap_or(u64::MAX);
        if self.full || self.kept + len > self.cap {
            let room = usize::try_from(self.cap.saturating_sub(self.kept)).unwrap_or(0);
            if !self.full && room > 0 {
                self.kept += u64::try_from(room).unwrap_or(0);
                segment.truncate(room);
                self.closed.push(segment);
            } else {
                self.charge.give_back(capacity);
            }
            self.full = true;
            return;
        }
        self.kept += len;
        self.closed.push(segment);
        if self.charge.budget.is_over() {
            self.spill(spiller);
        }
    }

    /// Hands the closed segments to the spiller; where it has no room, nothing more is kept.
    fn spill(&mut self, spiller: &Spiller) {
        self.stretch = BytesMut::new();
        for segment in std::mem::take(&mut self.closed) {
            let len = segment.len();
            let id = *self.spilled.get_or_insert_with(|| spiller.next_id());
            if self.full || !spiller.write(id, segment.freeze()) {
                self.full = true;
                self.kept -= u64::try_from(len).unwrap_or(0);
            }
            self.charge.give_back(len);
        }
    }

    /// Ends the tape.
    pub fn finish(mut self) -> Taped {
        let room = usize::try_from(self.cap.saturating_sub(self.kept)).unwrap_or(usize::MAX);
        Taped {
            only: self.only.take(),
            pieces: std::mem::take(&mut self.closed),
            rest: (std::mem::take(&mut self.tail), if self.full { 0 } else { room }),
            spilled: self.spilled,
            total: self.total,
            hash: Some(self.hash),
            charge: Some(self.charge),
        }
    }
}

impl Taped {
    /// Completes hash and bytes. `spilled` is the first part, read back.
    pub fn into_body(mut self, spilled: Option<Vec<u8>>) -> Body {
        let pieces = self.complete();
        let kept = match (self.only.take(), spilled) {
            (Some(only), _) => only,
            (None, None) => join(pieces),
            (None, Some(spilled)) => copy(spilled, pieces),
        };
        Body { kept, total: self.total, sha256: self.hash.map(|hash| hash.finalize().into()) }
    }

    /// Gives up the bytes in memory but keeps size and hash; returns what was given up.
    pub fn unload(&mut self) -> Vec<Bytes> {
        let pieces = self.complete().into_iter().map(BytesMut::freeze);
        if let Some(mut charge) = self.charge.take() {
            charge.give_back(usize::MAX);
        }
        self.only.take().into_iter().chain(pieces).collect()
    }

    /// Completes the hash; gives all pieces that are kept.
    fn complete(&mut self) -> Vec<BytesMut> {
        let (mut rest, kept) = std::mem::take(&mut self.rest);
        if let Some(hash) = &mut self.hash {
            hash.update(self.only.as_deref().unwrap_or(&rest));
        }
        rest.truncate(kept);
        let mut pieces = std::mem::take(&mut self.pieces);
        if !rest.is_empty() {
            pieces.push(rest);
        }
        pieces
    }
}

/// The pieces as one: as they are where they lie one behind the other.
fn join(pieces: Vec<BytesMut>) -> Bytes {
    if !pieces.is_sorted_by(|one, next| one.as_ptr_range().end == next.as_ptr()) {
        return copy(Vec::new(), pieces);
    }
    let joined = pieces.into_iter().reduce(|mut all, piece| {
        all.unsplit(piece);
        all
    });
    joined.unwrap_or_default().freeze()
}

/// All in one: as much room as is needed, and each piece let go once it is there.
fn copy(mut all: Vec<u8>, pieces: Vec<BytesMut>) -> Bytes {
    all.reserve_exact(pieces.iter().map(BytesMut::len).sum());
    for piece in pieces {
        all.extend_from_slice(&piece);
    }
    all.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(cap: u64, max: u64, pieces: &[usize]) -> (Body, u64) {
        let budget = Arc::new(Budget::new(max));
        let dir = tempfile::tempdir().unwrap();
        let (spiller, thread) = Spiller::start(dir.path()).unwrap();
        let mut tape = Tape::new(&budget, cap);
        for (at, len) in pieces.iter().enumerate() {
            tape.push(&vec![u8::try_from(at % 251).unwrap(); *len], &spiller);
        }
        let taped = tape.finish();
        let read = taped.spilled.map(|id| spiller.read_back(id));
        let body = taped.into_body(read);
        drop(spiller);
        thread.join().unwrap();
        (body, budget.used())
    }

    fn expected(pieces: &[usize]) -> Vec<u8> {
        pieces
            .iter()
            .enumerate()
            .flat_map(|(at, len)| vec![u8::try_from(at % 251).unwrap(); *len])
            .collect()
    }

    #[test]
    fn bytes_hash_and_budget_come_out_right() {
        let shapes: [(u64, u64, &[usize]); 11] = [
            (1 << 24, 1 << 30, &[100_000; 50]),
            (1 << 20, 1 << 30, &[100_000; 30]),
            (2_000_000, 1 << 30, &[100_000; 30]),
            (1 << 24, 2_000_000, &[100_000; 50]),
            ((1 << 20) + 10, 1 << 30, &[1 << 21]),
            (1 << 24, 1 << 30, &[10]),
            (1 << 24, 1 << 30, &[10, 20, 70_000, 1]),
            (1 << 24, 0, &[40_000; 30]),
            (100_000, 1 << 30, &[40_000; 10]),
            (5, 1 << 30, &[3, 3]),
            (5, 1 << 30, &[200_000]),
        ];
        for (cap, max, pieces) in shapes {
            let all = expected(pieces);
            let (body, used) = run(cap, max, pieces);
            let kept = all.len().min(usize::try_from(cap).unwrap());
            assert!(body.kept[..] == all[..kept], "cap {cap} max {max}");
            assert_eq!(body.total, u64::try_from(all.len()).unwrap());
            let hash: [u8; 32] = Sha256::digest(&all).into();
            assert_eq!(body.sha256, Some(hash));
            assert_eq!(used, 0, "every byte charged is given back");
        }
    }

    #[test]
    fn a_large_body_is_not_copied_in_the_end() {
        let budget = Arc::new(Budget::new(1 << 30));
        let dir = tempfile::tempdir().unwrap();
        let (spiller, thread) = Spiller::start(dir.path()).unwrap();
        let mut tape = Tape::new(&budget, 1 << 24);
        (0..500).for_each(|_| tape.push(&[7; 10_000], &spiller));
        let taped = tape.finish();
        let first = taped.pieces[0].as_ptr();
        let body = taped.into_body(None);
        assert_eq!((body.kept.as_ptr(), body.kept.len()), (first, 5_000_000));
        drop(spiller);
        thread.join().unwrap();
    }
}
