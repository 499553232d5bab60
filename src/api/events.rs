//! Calls as they end: a stream that follows the record log.
//!
//! Each client is a cursor: it reads the log in pages at its own pace, so that nothing piles up for a
//! slow one.

use super::{ApiError, Context};
use crate::query::Query;
use axum::{
    body::Body,
    extract::{Query as Parameters, State},
    http::{HeaderMap, HeaderValue, Response, header},
};
use bytes::Bytes;
use futures_util::stream;
use serde::Deserialize;
use std::{convert::Infallible, time::Duration};

/// Calls read at once.
const PAGE: u32 = 200;
/// A comment is sent after so long a silence, so that proxies keep the connection.
const SILENCE: Duration = Duration::from_secs(15);

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct EventParameters {
    q: String,
    since: Option<i64>,
}

/// `event: call` with the list row of every call that ends and matches, `id:` its `seq`; first, once,
/// `event: started` for each running call.
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
    for row in (context.inflight)() {
        greeting.push_str(&event("started", None, &row.to_string()));
    }
    let follower = Follower { context, query, seq, greeting: Some(greeting) };
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
}

impl Follower {
    /// The next piece of the stream; `None` ends it.
    async fn next(&mut self, committed: &mut tokio::sync::watch::Receiver<i64>) -> Option<String> {
        if let Some(greeting) = self.greeting.take() {
            return Some(greeting);
        }
        loop {
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
            match tokio::time::timeout(SILENCE, committed.changed()).await {
                Err(_) => return Some(": still here\n\n".to_owned()),
                Ok(Err(_)) => return None,
                Ok(Ok(())) => {}
            }
        }
    }
}

/// One event; `data` is a single line, as JSON is when serialised.
fn event(name: &str, id: Option<i64>, data: &str) -> String {
    let id = id.map(|id| format!("id: {id}\n")).unwrap_or_default();
    format!("event: {name}\n{id}data: {data}\n\n")
}
