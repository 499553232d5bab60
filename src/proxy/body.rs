//! Bodies that are watched while they pass.

use super::{
    Shared,
    capture::{Capture, Durable, Upload, UploadTrouble},
    pace::Pace,
};
use crate::{model::End, server::Flushes, splice::UsageCutter};
use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use std::{
    collections::VecDeque,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::{Duration, Instant},
};
use tokio::time::Sleep;

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// A piece that comes this soon after the one before is part of a burst: what is there already, but not yet taken,
/// leaves with it in one write.
const BURST: Duration = Duration::from_millis(5);
/// Most pieces that leave together, which is what hyper gives to one write, and longest time for which they gather.
const GATHERED: usize = 16;
const GATHERING: Duration = Duration::from_micros(500);
/// hyper asks twice before others have their turn: at the third time the one who brings the pieces had it.
const LOOKS: u8 = 2;

/// A request body on its way upstream.
#[derive(Debug)]
pub enum UpstreamBody {
    /// Read before the call went upstream.
    Whole(Option<Bytes>),
    /// Passes through as it arrives.
    Streamed {
        /// The client's body.
        inner: Incoming,
        /// Where it is kept.
        upload: Arc<Upload>,
        /// Spiller and metrics.
        shared: Arc<Shared>,
        /// Bytes that may still come.
        room: u64,
        /// How fast they have to.
        pace: Pace,
    },
}

impl Body for UpstreamBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        match self.get_mut() {
            Self::Whole(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Self::Streamed { inner, upload, shared, room, pace } => {
                let frame = match Pin::new(inner).poll_frame(cx) {
                    Poll::Pending => {
                        ready!(pace.poll_late(cx));
                        upload.fail(UploadTrouble::TooSlow);
                        return Poll::Ready(Some(Err("request body too slow".into())));
                    }
                    Poll::Ready(None) => return Poll::Ready(None),
                    Poll::Ready(Some(Ok(frame))) => frame,
                    Poll::Ready(Some(Err(error))) => {
                        upload.fail(UploadTrouble::ClientGone);
                        return Poll::Ready(Some(Err(error.into())));
                    }
                };
                if let Some(data) = frame.data_ref() {
                    let len = u64::try_from(data.len()).unwrap_or(u64::MAX);
                    let Some(left) = room.checked_sub(len) else {
                        upload.fail(UploadTrouble::TooLarge);
                        return Poll::Ready(Some(Err("request body too large".into())));
                    };
                    *room = left;
                    pace.came(data.len());
                    upload.push(data, &shared.spiller);
                }
                Poll::Ready(Some(Ok(frame)))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Whole(bytes) => bytes.is_none(),
            Self::Streamed { inner, .. } => inner.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(bytes) => {
                SizeHint::with_exact(bytes.as_ref().map_or(0, |b| b.len().try_into().unwrap_or(0)))
            }
            Self::Streamed { inner, .. } => inner.size_hint(),
        }
    }
}

/// How an answer is passed on.
#[derive(Debug)]
pub struct Passage {
    /// Cuts the effects of injected stream usage.
    pub cutter: Option<UsageCutter>,
    /// The final bytes wait for the record to be durable.
    pub strict: bool,
    /// The upstream is read to its end when the client goes away.
    pub drain: bool,
    /// Longest silence of the upstream.
    pub idle: Duration,
    /// Of the client's connection.
    pub flushes: Flushes,
}

/// An answer on its way to the client.
#[derive(Debug)]
pub struct TapBody {
    inner: Option<Incoming>,
    capture: Option<Capture>,
    shared: Arc<Shared>,
    passage: Passage,
    /// Pieces that the client may have.
    ready: VecDeque<Bytes>,
    /// In a burst: `ready` waits for what is there already, but has not been taken yet.
    gathers: bool,
    /// When the first of `ready` came.
    gathers_since: Instant,
    /// The first piece was taken.
    came: bool,
    /// How often there was nothing since the last piece came.
    looks: u8,
    cut: Vec<Bytes>,
    /// Strict: what waits for the record.
    held: VecDeque<Frame<Bytes>>,
    durable: Option<Durable>,
    last_frame: Instant,
    silence: Option<Pin<Box<Sleep>>>,
    ended: bool,
    /// Why the answer broke off; told once what came before has left.
    broken: Option<BoxError>,
    /// Flushes of the connection when it was last given something.
    given: u64,
}

impl TapBody {
    /// Watches `inner`.
    pub fn new(inner: Incoming, capture: Capture, shared: Arc<Shared>, passage: Passage) -> Self {
        let mut body = Self {
            given: passage.flushes.count(),
            inner: Some(inner),
            capture: Some(capture),
            shared,
            passage,
            ready: VecDeque::new(),
            gathers: false,
            gathers_since: Instant::now(),
            came: false,
            looks: 0,
            cut: Vec::new(),
            held: VecDeque::new(),
            durable: None,
            last_frame: Instant::now(),
            silence: None,
            ended: false,
            broken: None,
        };
        if body.inner.as_ref().is_some_and(Body::is_end_stream) {
            // An empty body is never polled.
            body.end();
        }
        body
    }

    /// Fires once the record is durable; only for a body that was empty from the start.
    pub fn take_durable(&mut self) -> Option<Durable> {
        self.durable.take()
    }

    /// The upstream's answer is whole.
    fn end(&mut self) {
        self.seal(End::Complete);
    }

    /// It broke off: the client gets what came, then `error`.
    fn fail(&mut self, end: End, error: BoxError) {
        self.seal(end);
        self.broken = Some(error);
        // From here on it is the client that may be slow.
        self.last_frame = Instant::now();
    }

    fn seal(&mut self, end: End) {
        self.ended = true;
        self.inner = None;
        if let Some(cutter) = &mut self.passage.cutter {
            cutter.finish(&mut self.cut);
            self.hand_over_cut();
        }
        let Some(mut capture) = self.capture.take() else { return };
        // What is left goes out with this very poll or after it, whatever the client does.
        let left: usize = self.ready.iter().map(Bytes::len).sum::<usize>()
            + self.held.iter().filter_map(|f| f.data_ref().map(Bytes::len)).sum::<usize>();
        capture.delivered(left);
        if self.passage.strict {
            self.durable = capture.seal_durably(end);
        } else {
            capture.seal(end);
        }
    }

    fn hand_over_cut(&mut self) {
        for piece in self.cut.drain(..).filter(|piece| !piece.is_empty()) {
            if self.passage.strict && (!self.held.is_empty() || holds_end(&piece)) {
                self.held.push_back(Frame::data(piece));
            } else {
                self.ready.push_back(piece);
            }
        }
    }

    /// Takes a frame of the answer; what the client may have of it at once is returned.
    fn take(&mut self, frame: Frame<Bytes>) -> Option<Frame<Bytes>> {
        let now = Instant::now();
        if self.ready.is_empty() {
            self.gathers_since = now;
        }
        self.gathers = self.came
            && now.duration_since(self.last_frame) < BURST
            && now.duration_since(self.gathers_since) < GATHERING;
        self.came = true;
        self.looks = 0;
        self.last_frame = now;
        let data = match frame.into_data() {
            Ok(data) => data,
            Err(trailers) => {
                self.held.push_back(trailers);
                self.end();
                return None;
            }
        };
        if let Some(capture) = &mut self.capture {
            capture.response(&data, now);
        }
        let ends = self.inner.as_ref().is_none_or(Body::is_end_stream);
        if let Some(cutter) = &mut self.passage.cutter {
            cutter.push(data, &mut self.cut);
            self.hand_over_cut();
        } else if self.passage.strict && (ends || !self.held.is_empty() || holds_end(&data)) {
            self.held.push_back(Frame::data(data));
        } else if self.gathers || !self.ready.is_empty() {
            self.ready.push_back(data);
        } else {
            if let Some(capture) = &mut self.capture {
                capture.delivered(data.len());
            }
            if ends {
                self.end();
            }
            return Some(Frame::data(data));
        }
        if ends {
            self.end();
        }
        None
    }

    fn poll_answer(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        loop {
            self.gathers &= !self.ended && self.ready.len() < GATHERED;
            if !self.gathers
                && let Some(piece) = self.ready.pop_front()
            {
                if let Some(capture) = &mut self.capture {
                    capture.delivered(piece.len());
                }
                return Poll::Ready(Some(Ok(Frame::data(piece))));
            }
            if self.ended {
                if let Some(durable) = &mut self.durable {
                    let stored = ready!(Pin::new(durable).poll(cx));
                    self.durable = None;
                    if !matches!(stored, Ok(Ok(_))) {
                        self.held.clear();
                        self.broken = Some("the record could not be stored".into());
                        self.last_frame = Instant::now();
                    }
                }
                if let Some(frame) = self.held.pop_front() {
                    return Poll::Ready(Some(Ok(frame)));
                }
                if self.broken.is_some() {
                    ready!(self.poll_left(cx));
                }
                return Poll::Ready(self.broken.take().map(Err));
            }
            let Some(inner) = &mut self.inner else { return Poll::Ready(None) };
            match Pin::new(inner).poll_frame(cx) {
                Poll::Ready(Some(Ok(frame))) => {
                    if let Some(frame) = self.take(frame) {
                        return Poll::Ready(Some(Ok(frame)));
                    }
                }
                Poll::Ready(Some(Err(error))) => {
                    self.fail(End::UpstreamBroke(error_chain(&error)), error.into());
                }
                Poll::Ready(None) => self.end(),
                Poll::Pending if self.gathers && !self.ready.is_empty() => {
                    if self.looks == LOOKS {
                        self.gathers = false;
                        continue;
                    }
                    // The task that reads the upstream's connection takes its turn now.
                    self.looks += 1;
                    cx.waker().wake_by_ref();
                    return Poll::Pending;
                }
                Poll::Pending => {
                    ready!(self.poll_silence(cx));
                    let why = format!("no data for {:?}", self.passage.idle);
                    self.fail(End::UpstreamTimeout(why.clone()), why.into());
                }
            }
        }
    }

    /// Whether everything the connection was given has left, or the client takes too long.
    fn poll_left(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.passage.flushes.poll_after(self.given, cx).is_ready() {
            return Poll::Ready(());
        }
        self.poll_silence(cx)
    }

    /// Whether the upstream has been silent for too long.
    fn poll_silence(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            let silence = self.silence.get_or_insert_with(|| {
                Box::pin(tokio::time::sleep_until((self.last_frame + self.passage.idle).into()))
            });
            ready!(silence.as_mut().poll(cx));
            let deadline = self.last_frame + self.passage.idle;
            if Instant::now() >= deadline {
                return Poll::Ready(());
            }
            // Frames came since the alarm was set: only now is it worth moving it.
            silence.as_mut().reset(deadline.into());
        }
    }
}

/// Strict: a client may act on the end of a stream before the body ends.
fn holds_end(piece: &[u8]) -> bool {
    [&b"[DONE]"[..], b"response.completed", b"response.incomplete", b"response.failed"]
        .iter()
        .any(|mark| memchr::memmem::find(piece, mark).is_some())
}

impl Body for TapBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = self.get_mut();
        let frame = ready!(this.poll_answer(cx));
        if matches!(frame, Some(Ok(_))) {
            this.given = this.passage.flushes.count();
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.ended
            && self.broken.is_none()
            && self.ready.is_empty()
            && self.held.is_empty()
            && self.durable.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        match &self.inner {
            Some(inner) if self.passage.cutter.is_none() => inner.size_hint(),
            Some(_) => SizeHint::default(),
            None => {
                let held = self.held.iter().filter_map(|frame| frame.data_ref().map(Bytes::len));
                let left = self.ready.iter().map(Bytes::len).chain(held).sum::<usize>();
                SizeHint::with_exact(u64::try_from(left).unwrap_or(0))
            }
        }
    }
}

impl Drop for TapBody {
    fn drop(&mut self) {
        let (Some(mut inner), Some(mut capture)) = (self.inner.take(), self.capture.take()) else {
            return;
        };
        if !self.passage.drain || tokio::runtime::Handle::try_current().is_err() {
            return; // dropping the capture seals it, dropping the body closes the upstream call
        }
        let idle = self.passage.idle;
        self.shared.spawn(async move {
            drain(&mut inner, &mut capture, idle).await;
            capture.seal(End::ClientGone);
        });
    }
}

/// Reads the rest of an answer that nobody waits for.
pub async fn drain(inner: &mut Incoming, capture: &mut Capture, idle: Duration) {
    use http_body_util::BodyExt;
    while let Ok(Some(Ok(frame))) = tokio::time::timeout(idle, inner.frame()).await {
        if let Some(data) = frame.data_ref() {
            capture.response(data, Instant::now());
        }
    }
}

/// An error and what caused it, on one line.
pub fn error_chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.ends_with(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    text
}
