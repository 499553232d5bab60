//! Calls as they end: a stream that follows the record log.
//!
//! Each client is a cursor: it reads the log in pages at its own pace, so that nothing piles up for a
//! slow one.

use super::{ApiError, Context, Parameters};
use crate::{
    interpret::{begun, started},
    model::Timestamp,
    proxy::Live,
    query::Query,
};
use axum::{
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
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::sync::watch;
use uuid::Uuid;

/// Calls read at once.
const PAGE: u32 = 200;
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
/// `event: started` for each running call. `event: running` has the oldest running calls whenever they
/// are others than before.
pub(super) async fn follow(
    State(context): State<Context>,
    Parameters(parameters): Parameters<EventParameters>,
    headers: HeaderMap,
) -> Result<Response<Body>, ApiError> {
    let query: Query = parameters.q.parse()?;
    let resumed = headers.get("last-event-id").and_then(|id| id.to_str().ok()?.parse().ok());
    let mut committed = context.committed.clone();
    let now = *committed.borrow_and_update();
    let seq = resumed.or(parameters.since).unwrap_or(now);
    let mut greeting = String::from(": following\n\n");
    for live in (context.inflight)() {
        let row = serde_json::to_string(&begun(&live.head)).unwrap_or_default();
        greeting.push_str(&event("started", None, &row));
    }
    let running = Looker::new(Arc::clone(&context.inflight));
    let follower = Follower { context, query, seq, greeting: Some(greeting), running };
    let events =
        stream::unfold((follower, committed), |(mut follower, mut committed)| async move {
            let text = follower.next(&mut committed).await?;
            Some((Ok::<_, Infallible>(Bytes::from(text)), (follower, committed)))
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
    greeting: Option<String>,
    running: Looker,
}

impl Follower {
    /// The next piece of the stream; `None` ends it.
    async fn next(&mut self, committed: &mut watch::Receiver<i64>) -> Option<String> {
        if let Some(greeting) = self.greeting.take() {
            return Some(greeting);
        }
        let mut quiet = Instant::now();
        loop {
            if let Some(running) = self.running.look() {
                return Some(running);
            }
            let newest = *committed.borrow_and_update();
            if newest > self.seq {
                let (reader, query, seq) =
                    (self.context.reader.clone(), self.query.clone(), self.seq);
                let page = tokio::task::spawn_blocking(move || reader.since(&query, seq, PAGE));
                let rows = match page.await {
                    Ok(Ok(rows)) => rows,
                    Ok(Err(error)) => {
                        self.seq = newest;
                        let text = serde_json::json!({ "message": error.to_string() });
                        return Some(event("lagged", None, &text.to_string()));
                    }
                    Err(_) => return None,
                };
                let full = rows.len() >= usize::try_from(PAGE).unwrap_or(usize::MAX);
                self.seq = match rows.last() {
                    Some((last, _)) if full => *last,
                    _ => newest,
                };
                if !rows.is_empty() {
                    let events: Vec<String> = rows
                        .iter()
                        .map(|(seq, row)| event("call", Some(*seq), &row.to_string()))
                        .collect();
                    return Some(events.concat());
                }
                continue;
            }
            match tokio::time::timeout(LOOK, committed.changed()).await {
                Err(_) if quiet.elapsed() < SILENCE => {}
                Err(_) => return Some(": still here\n\n".to_owned()),
                Ok(Err(_)) => return None,
                Ok(Ok(())) => quiet = Instant::now(),
            }
        }
    }
}

/// Tells when the running calls are others than before.
struct Looker {
    inflight: Arc<dyn Fn() -> Vec<Live> + Send + Sync>,
    /// What was told last: each call's row. A row is read from its request once.
    told: HashMap<Uuid, Value>,
    count: usize,
    next: Instant,
}

impl Looker {
    fn new(inflight: Arc<dyn Fn() -> Vec<Live> + Send + Sync>) -> Self {
        Self { inflight, told: HashMap::new(), count: 0, next: Instant::now() }
    }

    /// The event, where there is something new and the last look was long enough ago.
    fn look(&mut self) -> Option<String> {
        if Instant::now() < self.next {
            return None;
        }
        self.next = Instant::now() + LOOK;
        let mut calls = (self.inflight)();
        let count = calls.len();
        calls.sort_unstable_by_key(|live| (live.head.started_at, live.head.id));
        calls.truncate(RUNNING);
        let is_same = count == self.count
            && calls.len() == self.told.len()
            && calls.iter().all(|live| self.told.contains_key(&live.head.id));
        if is_same {
            return None;
        }
        let mut before = std::mem::take(&mut self.told);
        let now = Timestamp::now();
        let items: Vec<Value> = calls
            .iter()
            .map(|live| {
                let head = &live.head;
                let mut row = before.remove(&head.id).unwrap_or_else(|| running_row(live));
                self.told.insert(head.id, row.clone());
                let elapsed_us = now.0.saturating_sub(head.started_at.0).max(0);
                row["elapsed_ms"] = (elapsed_us / 1000).into();
                row
            })
            .collect();
        self.count = count;
        Some(event("running", None, &json!({ "running": count, "items": items }).to_string()))
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
