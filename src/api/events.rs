//! Calls as they end: a stream that follows the record log.
//!
//! Each client is a cursor: it reads the log in pages at its own pace, so that nothing piles up for a
//! slow one. While it does not read, a feed holds a piece or two and what its connection buffers.

use super::{ApiError, Context, Parameters};
use crate::{
    interpret::{begun, started},
    model::{Head, Timestamp},
    proxy::Live,
    query::Query,
    store::{Reader, StoreError},
};
use axum::{
    Extension,
    body::Body,
    extract::State,
    http::{HeaderMap, HeaderValue, Response, header},
};
use bytes::Bytes;
use futures_util::stream;
use serde::Deserialize;
use serde_json::{Value, json};
use std::{
    collections::HashMap,
    convert::Infallible,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};
use tokio::sync::{Semaphore, watch};
use uuid::Uuid;

/// Calls read at once.
const PAGE: u32 = 50;
/// Bytes of events beyond which the rest of a page is left for the next read.
const PIECE_BYTES: usize = 32 << 10;
/// Feeds that read at once: every commit wakes all that follow.
static READING: Semaphore = Semaphore::const_new(4);
/// A comment is sent after so long a silence, so that proxies keep the connection.
const SILENCE: Duration = Duration::from_secs(15);
/// Time between two looks at the running calls.
const LOOK: Duration = Duration::from_millis(500);
/// Most running calls that are shown; of more only the number.
const RUNNING: usize = 50;

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct EventParameters {
    q: String,
    since: Option<i64>,
}

/// `event: call` with the list row of every call that ends and matches, `id:` its `seq`; first, once,
/// `event: started` for each of the oldest running calls. `event: running` has these whenever they are
/// others than before.
pub(super) async fn follow(
    State(context): State<Context>,
    Extension(running): Extension<Arc<Looker>>,
    Parameters(parameters): Parameters<EventParameters>,
    headers: HeaderMap,
) -> Result<Response<Body>, ApiError> {
    let query: Query = parameters.q.parse()?;
    let resumed = headers.get("last-event-id").and_then(|id| id.to_str().ok()?.parse().ok());
    let mut committed = context.committed.clone();
    let now = *committed.borrow_and_update();
    let seq = resumed.or(parameters.since).unwrap_or(now);
    let mut greeting = String::from(": following\n\n");
    for live in oldest((context.inflight)()) {
        let row = serde_json::to_string(&begun(&live.head)).unwrap_or_default();
        greeting.push_str(&event("started", None, &row));
    }
    let follower =
        Follower { context, query, seq, greeting: Some(greeting.into()), running, seen: 0 };
    let events =
        stream::unfold((follower, committed), |(mut follower, mut committed)| async move {
            let piece = follower.next(&mut committed).await?;
            Some((Ok::<_, Infallible>(piece), (follower, committed)))
        });
    let mut response = Response::new(Body::from_stream(events));
    let kind = HeaderValue::from_static("text/event-stream");
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    response.headers_mut().insert("x-accel-buffering", HeaderValue::from_static("no"));
    Ok(response)
}

struct Follower {
    context: Context,
    query: Query,
    seq: i64,
    greeting: Option<Bytes>,
    running: Arc<Looker>,
    /// The version of the running calls that was told last.
    seen: u64,
}

impl Follower {
    /// The next piece of the stream; `None` ends it.
    async fn next(&mut self, committed: &mut watch::Receiver<i64>) -> Option<Bytes> {
        if let Some(greeting) = self.greeting.take() {
            return Some(greeting);
        }
        let mut quiet = Instant::now();
        loop {
            if let Some(running) = self.running.look(&mut self.seen) {
                return Some(running);
            }
            let newest = *committed.borrow_and_update();
            if newest > self.seq {
                let (reader, query, seq) =
                    (self.context.reader.clone(), self.query.clone(), self.seq);
                let turn = READING.acquire().await.ok()?;
                let piece = tokio::task::spawn_blocking(move || piece(&reader, &query, seq));
                let piece = piece.await;
                drop(turn);
                let (text, through) = match piece {
                    Ok(Ok(read)) => read,
                    Ok(Err(error)) => {
                        self.seq = newest;
                        let text = serde_json::json!({ "message": error.to_string() });
                        return Some(event("lagged", None, &text.to_string()).into());
                    }
                    Err(_) => return None,
                };
                self.seq = through.unwrap_or(newest);
                if !text.is_empty() {
                    return Some(text.into());
                }
                continue;
            }
            match tokio::time::timeout(LOOK, committed.changed()).await {
                Err(_) if quiet.elapsed() < SILENCE => {}
                Err(_) => return Some(Bytes::from_static(b": still here\n\n")),
                Ok(Err(_)) => return None,
                Ok(Ok(())) => quiet = Instant::now(),
            }
        }
    }
}

/// The events of the next calls after `seq`, and up to which call they go; `None` where nothing is left.
fn piece(reader: &Reader, query: &Query, seq: i64) -> Result<(String, Option<i64>), StoreError> {
    let rows = reader.since(query, seq, PAGE)?;
    let is_full = rows.len() >= usize::try_from(PAGE).unwrap_or(usize::MAX);
    let last = rows.last().map(|(seq, _)| *seq);
    let mut text = String::new();
    for (seq, row) in rows {
        text.push_str(&event("call", Some(seq), &row.to_string()));
        if text.len() > PIECE_BYTES && Some(seq) != last {
            return Ok((text, Some(seq)));
        }
    }
    Ok((text, last.filter(|_| is_full)))
}

/// The oldest of the running calls, as many as are shown.
fn oldest(mut calls: Vec<Live>) -> Vec<Live> {
    calls.sort_unstable_by_key(|live| (live.head.started_at, live.head.id));
    calls.truncate(RUNNING);
    calls
}

/// The running calls as feeds tell of them, looked at once for all feeds.
pub(super) struct Looker {
    inflight: Arc<dyn Fn() -> Vec<Live> + Send + Sync>,
    looked: Mutex<Looked>,
}

#[derive(Default)]
struct Looked {
    next: Option<Instant>,
    /// The oldest, and a row of each. It is read from its request once.
    calls: Vec<(Arc<Head>, Value)>,
    count: usize,
    /// Goes up whenever they are others than before.
    version: u64,
    event: Bytes,
}

impl Looker {
    pub(super) fn new(inflight: Arc<dyn Fn() -> Vec<Live> + Send + Sync>) -> Self {
        Self { inflight, looked: Mutex::default() }
    }

    /// The event, where it is another than the one that was `seen`; 0 has seen none.
    fn look(&self, seen: &mut u64) -> Option<Bytes> {
        let mut looked = self.looked.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        if looked.next.is_none_or(|next| next <= now) {
            looked.next = Some(now + LOOK);
            looked.refresh((self.inflight)());
        }
        if looked.version == *seen {
            return None;
        }
        if *seen == 0 {
            looked.render();
        }
        *seen = looked.version;
        Some(looked.event.clone())
    }
}

impl Looked {
    fn refresh(&mut self, calls: Vec<Live>) {
        let count = calls.len();
        let calls = oldest(calls);
        let is_same = count == self.count
            && calls.iter().map(|live| live.head.id).eq(self.calls.iter().map(|(head, _)| head.id));
        if is_same {
            return;
        }
        let before = std::mem::take(&mut self.calls);
        let mut before: HashMap<Uuid, Value> =
            before.into_iter().map(|(head, row)| (head.id, row)).collect();
        self.calls = calls
            .into_iter()
            .map(|live| {
                let row = before.remove(&live.head.id).unwrap_or_else(|| running_row(&live));
                (live.head, row)
            })
            .collect();
        self.count = count;
        self.version += 1;
        self.render();
    }

    /// The event, with how long each call has run by now.
    fn render(&mut self) {
        let now = Timestamp::now();
        for (head, row) in &mut self.calls {
            let elapsed_us = now.0.saturating_sub(head.started_at.0).max(0);
            row["elapsed_ms"] = (elapsed_us / 1000).into();
        }
        let items: Vec<&Value> = self.calls.iter().map(|(_, row)| row).collect();
        let data = json!({ "running": self.count, "items": items }).to_string();
        self.event = event("running", None, &data).into();
    }
}

/// What a list shows of a running call. Nothing of its content: that is redacted only when it has ended.
fn running_row(Live { head, request }: &Live) -> Value {
    let read = std::panic::AssertUnwindSafe(|| started(head, request));
    let request = std::panic::catch_unwind(read).ok();
    let record = begun(head);
    let parameters = request.as_ref().map(|record| &record.parameters);
    json!({
        "id": record.id, "started_at": record.started_at, "endpoint": record.endpoint,
        "path": record.path, "upstream": record.upstream,
        "model": { "requested": request.as_ref().and_then(|record| record.model.requested.clone()) },
        "stream": parameters.and_then(|all| all.get("stream")) == Some(&Value::Bool(true)),
        "tags": record.tags,
    })
}

/// One event; `data` is a single line, as JSON is when serialised.
fn event(name: &str, id: Option<i64>, data: &str) -> String {
    let id = id.map(|id| format!("id: {id}\n")).unwrap_or_default();
    format!("event: {name}\n{id}data: {data}\n\n")
}
