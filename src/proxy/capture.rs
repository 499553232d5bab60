//! A call in flight. However it ends, it is sealed exactly once.

use super::{
    Shared,
    limits::Slot,
    spill::{SpillId, Spiller},
    tape::{Charge, Tape, Taped},
};
use crate::model::{Body, ChunkLog, End, Exchange, Head};
use bytes::Bytes;
use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicU8, Ordering},
    },
    time::Instant,
};
use tokio::sync::{mpsc::OwnedPermit, oneshot};

/// What a call takes in memory beside its bodies, about: heads, headers, tags, times.
const CALL_BYTES: usize = 4 * 1024;

/// Told the `seq` of a call's record once it is durable, or why it is not.
pub type Waiter = oneshot::Sender<Result<i64, String>>;
/// The other end of a [`Waiter`].
pub type Durable = oneshot::Receiver<Result<i64, String>>;

/// Watches one call.
///
/// A place in the recorder's queue is taken when the call is admitted, so [`seal`](Self::seal)
/// neither waits nor fails and may run in `Drop`.
#[derive(Debug)]
pub struct Capture {
    /// When the request head was read.
    pub started: Instant,
    shared: Arc<Shared>,
    open: Option<Box<Open>>,
}

#[derive(Debug)]
struct Open {
    permit: Option<OwnedPermit<Box<Captured>>>,
    /// Its place in the memory of all calls.
    charge: Charge,
    /// Its place among the running calls of its key.
    slot: Option<Slot>,
    head: Arc<Head>,
    request: Tape,
    /// Takes the place of `request` while the body streams through.
    upload: Option<Arc<Upload>>,
    response: Tape,
    chunks: ChunkLog,
    status: Option<u16>,
    response_headers: Vec<(String, String)>,
    delivered: u64,
    overhead_us: u64,
    last_byte: Option<Instant>,
    notes: Vec<String>,
}

impl Capture {
    /// Starts to watch a call. Without a `permit` the call is forwarded but not recorded.
    pub fn begin(
        shared: &Arc<Shared>,
        started: Instant,
        permit: Option<OwnedPermit<Box<Captured>>>,
    ) -> Self {
        shared.metrics.call_started();
        let cap = shared.body_cap.load(Ordering::Relaxed);
        let open = Open {
            permit,
            charge: Charge::of(&shared.budget, CALL_BYTES),
            slot: None,
            head: Arc::default(),
            request: Tape::new(&shared.budget, cap),
            upload: None,
            response: Tape::new(&shared.budget, cap),
            chunks: ChunkLog::default(),
            status: None,
            response_headers: Vec::new(),
            delivered: 0,
            overhead_us: 0,
            last_byte: None,
            notes: Vec::new(),
        };
        Self { started, shared: Arc::clone(shared), open: Some(Box::new(open)) }
    }

    /// Metadata of the call was refused.
    pub fn metadata_refused(&self) {
        self.shared.metrics.metadata_refused();
    }

    /// What is known of the request; from now on the call stands among those that run.
    pub fn dispatched(&mut self, head: Head, request: Option<Bytes>) {
        let Some(open) = &mut self.open else { return };
        open.head = Arc::new(head);
        if open.permit.is_some() {
            // The journal can do without bodies where memory cannot do with them.
            let request = request.filter(|_| !self.shared.budget.is_over());
            self.shared.running.add(Arc::clone(&open.head), request.unwrap_or_default());
        }
    }

    /// Moves what is watched out of here; what is left is sealed.
    #[must_use]
    pub fn detach(&mut self) -> Self {
        Self { started: self.started, shared: Arc::clone(&self.shared), open: self.open.take() }
    }

    /// Forwards on, records nothing.
    pub fn forget(&mut self) {
        if let Some(open) = &mut self.open {
            open.permit = None;
        }
    }

    /// Records after all, where there is a place.
    pub fn keep(&mut self, permit: Option<OwnedPermit<Box<Captured>>>) {
        if let Some(open) = &mut self.open {
            open.permit = permit;
        }
    }

    /// Holds a place among the running calls of a key until the call has ended.
    pub fn occupy(&mut self, slot: Slot) {
        if let Some(open) = &mut self.open {
            open.slot = Some(slot);
        }
    }

    /// The call's id and calltap's own time so far, in microseconds.
    pub fn facts(&self) -> (uuid::Uuid, u64) {
        self.open.as_ref().map_or_else(Default::default, |open| (open.head.id, open.overhead_us))
    }

    /// Whether stream usage was asked for on the client's behalf.
    pub fn usage_injected(&self) -> bool {
        self.open.as_ref().is_some_and(|open| open.head.usage_injected)
    }

    /// Why the request body did not get through, if it did not.
    pub fn upload_trouble(&self) -> Option<UploadTrouble> {
        self.open.as_ref()?.upload.as_ref()?.trouble()
    }

    /// What is known of a request that never went upstream.
    pub fn refused(&mut self, head: Head) {
        if let Some(open) = &mut self.open {
            open.head = Arc::new(head);
        }
    }

    /// The request body, whole or as far as it came; the bytes are shared.
    pub fn request(&mut self, bytes: Bytes) {
        if let Some(open) = &mut self.open {
            open.request.share(bytes, &self.shared.spiller);
        }
    }

    /// Shares the request's tape with a body that streams through.
    pub fn upload(&mut self) -> Arc<Upload> {
        let cap = self.shared.body_cap.load(Ordering::Relaxed);
        let upload = Arc::new(Upload {
            tape: Mutex::new(Some(Tape::new(&self.shared.budget, cap))),
            trouble: AtomicU8::new(0),
        });
        if let Some(open) = &mut self.open {
            open.upload = Some(Arc::clone(&upload));
        }
        upload
    }

    /// The head of the answer.
    pub fn answered(&mut self, status: u16, headers: Vec<(String, String)>) {
        if let Some(open) = &mut self.open {
            open.status = Some(status);
            open.response_headers = headers;
        }
    }

    /// A piece of the answer.
    pub fn response(&mut self, bytes: &[u8], now: Instant) {
        let Some(open) = &mut self.open else { return };
        open.chunks.push(bytes.len(), micros(now - self.started));
        open.response.push(bytes, &self.shared.spiller);
        open.last_byte = Some(now);
    }

    /// Bytes handed to the client.
    pub fn delivered(&mut self, len: usize) {
        if let Some(open) = &mut self.open {
            open.delivered += u64::try_from(len).unwrap_or(u64::MAX);
        }
    }

    /// calltap's own time before the upstream call.
    pub fn overhead(&mut self, us: u64) {
        if let Some(open) = &mut self.open {
            open.overhead_us = us;
        }
    }

    /// Something was degraded.
    pub fn note(&mut self, note: impl Into<String>) {
        if let Some(open) = &mut self.open {
            open.notes.push(note.into());
        }
    }

    /// Ends the call. Only the first end counts.
    pub fn seal(&mut self, end: End) {
        self.finish(end, None);
    }

    /// Ends the call; the receiver fires when its record is durable.
    pub fn seal_durably(&mut self, end: End) -> Option<Durable> {
        let (done, wait) = oneshot::channel();
        self.finish(end, Some(done)).then_some(wait)
    }

    fn finish(&mut self, end: End, done: Option<Waiter>) -> bool {
        let Some(mut open) = self.open.take() else { return false };
        // Whoever can see that the call has ended finds its place free.
        open.slot = None;
        self.shared.metrics.call_ended();
        let Open { permit: Some(permit), .. } = *open else { return false };
        self.shared.running.remove(open.head.id);
        let now = Instant::now();
        let after = open.last_byte.map_or(0, |last| micros(now - last));
        let exchange = Exchange {
            head: open.head,
            request: Body::default(),
            status: open.status,
            response_headers: open.response_headers,
            response: Body::default(),
            chunks: open.chunks,
            delivered: open.delivered,
            ended_us: micros(now - self.started),
            overhead_us: match end {
                End::Complete => open.overhead_us + after,
                _ => open.overhead_us,
            },
            end,
            notes: open.notes,
        };
        let upload = open.upload.and_then(|upload| upload.take());
        let captured = Box::new(Captured {
            exchange: Some(exchange),
            request: upload.unwrap_or(open.request).finish(),
            response: open.response.finish(),
            done,
            permit: Some(permit),
            _charge: Some(open.charge),
        });
        self.hand_over(captured);
        true
    }

    /// Straight to the recorder; past the memory budget by way of the disk; without room there,
    /// with nothing but sizes and hashes.
    fn hand_over(&self, captured: Box<Captured>) {
        let budget = &self.shared.budget;
        if !budget.is_over() {
            return captured.send();
        }
        let refused = if budget.is_exhausted() {
            Some(captured)
        } else {
            self.shared.spiller.seal(captured).err()
        };
        if let Some(mut captured) = refused {
            captured.drop_bodies();
            captured.send();
        }
    }
}

impl Drop for Capture {
    fn drop(&mut self) {
        // Stopped, or thrown out of a call that panics: calltap broke it off, not the client.
        let is_own = self.shared.stopping.load(Ordering::Relaxed) || std::thread::panicking();
        let end = if is_own { End::Interrupted } else { End::ClientGone };
        self.seal(end);
    }
}

/// A request body that streams through while the call runs.
#[derive(Debug)]
pub struct Upload {
    tape: Mutex<Option<Tape>>,
    trouble: AtomicU8,
}

/// Why a request body did not get through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UploadTrouble {
    /// The client broke off.
    ClientGone,
    /// It is larger than allowed.
    TooLarge,
    /// It comes too slowly.
    TooSlow,
}

impl Upload {
    /// A piece of the body.
    pub fn push(&self, bytes: &[u8], spiller: &Spiller) {
        if let Ok(mut tape) = self.tape.lock()
            && let Some(tape) = tape.as_mut()
        {
            tape.push(bytes, spiller);
        }
    }

    /// The body will not be whole.
    pub fn fail(&self, trouble: UploadTrouble) {
        let code = match trouble {
            UploadTrouble::ClientGone => 1,
            UploadTrouble::TooLarge => 2,
            UploadTrouble::TooSlow => 3,
        };
        self.trouble.store(code, Ordering::Release);
    }

    /// Why the body is not whole, if it is not.
    pub fn trouble(&self) -> Option<UploadTrouble> {
        match self.trouble.load(Ordering::Acquire) {
            0 => None,
            1 => Some(UploadTrouble::ClientGone),
            2 => Some(UploadTrouble::TooLarge),
            _ => Some(UploadTrouble::TooSlow),
        }
    }

    fn take(&self) -> Option<Tape> {
        self.tape.lock().ok()?.take()
    }
}

/// A finished call on its way to the recorder.
#[derive(Debug, Default)]
pub struct Captured {
    exchange: Option<Exchange>,
    request: Taped,
    response: Taped,
    done: Option<Waiter>,
    permit: Option<OwnedPermit<Box<Captured>>>,
    /// Given back when the recorder has read the call.
    _charge: Option<Charge>,
}

impl Captured {
    /// Sends the call to the recorder, in the place that was taken for it.
    pub fn send(mut self: Box<Self>) {
        if let Some(permit) = self.permit.take() {
            permit.send(self);
        }
    }

    /// Whether somebody waits for its record.
    pub fn is_awaited(&self) -> bool {
        self.done.is_some()
    }

    /// Moves the bodies from memory to disk.
    pub fn spill(&mut self, next_id: impl Fn() -> SpillId, mut write: impl FnMut(SpillId, &[u8])) {
        for taped in [&mut self.request, &mut self.response] {
            let id = *taped.spilled.get_or_insert_with(&next_id);
            for piece in taped.unload() {
                write(id, &piece);
            }
        }
    }

    /// Keeps sizes and hashes only.
    fn drop_bodies(&mut self) {
        self.request.unload();
        self.response.unload();
    }

    /// The exchange with its bodies, spilled ones read back, and who waits for its record. Blocks.
    pub fn into_exchange(
        self,
        read_back: impl Fn(SpillId) -> Vec<u8>,
    ) -> Option<(Exchange, Option<Waiter>)> {
        let mut exchange = self.exchange?;
        for (taped, body, name) in [
            (self.request, &mut exchange.request, "request"),
            (self.response, &mut exchange.response, "response"),
        ] {
            let spilled = taped.spilled.map(&read_back);
            *body = taped.into_body(spilled);
            if body.is_truncated() {
                exchange.notes.push(format!(
                    "{name} body truncated: kept {} of {} bytes",
                    body.kept.len(),
                    body.total
                ));
            }
        }
        Some((exchange, self.done))
    }
}

/// Whole microseconds.
pub fn micros(span: std::time::Duration) -> u64 {
    u64::try_from(span.as_micros()).unwrap_or(u64::MAX)
}
