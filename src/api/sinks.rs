//! How the sinks are doing, and what people ask of them.

use super::{ApiError, Context, blocking};
use crate::{
    delivery::{Done, Op, Status},
    model::Timestamp,
    store::StoreError,
};
use axum::{
    Json,
    body::Bytes,
    extract::{Path, Query, State},
    http::{HeaderMap, StatusCode, header},
};
use serde::Deserialize;
use serde_json::{Value, json};

/// Rows of a page of dead records where `limit` is not given.
const LIMIT: u32 = 100;

pub(super) async fn list(State(context): State<Context>) -> Result<Json<Value>, ApiError> {
    Ok(Json(json!({ "items": context.delivery.status().await?, "next": null })))
}

pub(super) async fn show(
    State(context): State<Context>,
    Path(name): Path<String>,
) -> Result<Json<Status>, ApiError> {
    Ok(Json(find(&context, &name).await?))
}

async fn find(context: &Context, name: &str) -> Result<Status, ApiError> {
    let all = context.delivery.status().await?;
    all.into_iter()
        .find(|sink| sink.name == name)
        .ok_or_else(|| ApiError::not_found("there is no such sink"))
}

#[derive(Debug, Deserialize)]
pub(super) struct Page {
    limit: Option<u32>,
    after: Option<String>,
}

pub(super) async fn dead(
    State(context): State<Context>,
    Path(name): Path<String>,
    Query(page): Query<Page>,
) -> Result<Json<Value>, ApiError> {
    let id = find(&context, &name).await?.id;
    let after = match page.after.as_deref() {
        None => 0,
        Some(text) => text.parse().map_err(|_| {
            ApiError::bad_parameter("after", "this cursor is not one of this list's")
        })?,
    };
    let reader = context.reader.clone();
    let (items, more) =
        blocking(move || reader.dead(&id, after, page.limit.unwrap_or(LIMIT))).await?;
    let next = items.last().filter(|_| more).map(|last| last.seq.to_string());
    Ok(Json(json!({ "items": items, "next": next })))
}

/// What became of a call at every sink.
pub(super) async fn of_call(
    State(context): State<Context>,
    Path(id): Path<String>,
) -> Result<Json<Value>, ApiError> {
    let reader = context.reader.clone();
    let stored = blocking(move || reader.get(&id)).await?;
    let stored = stored.ok_or_else(|| ApiError::not_found("there is no such call"))?;
    let items = context.delivery.of_call(stored.record).await?;
    Ok(Json(json!({ "items": items, "next": null })))
}

/// What the body of a POST may say.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Order {
    /// Calls by id; all where not given.
    ids: Option<Vec<String>>,
    /// A time; the beginning where not given.
    since: Option<String>,
}

pub(super) async fn act(
    State(context): State<Context>,
    Path((name, verb)): Path<(String, String)>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Json<Value>, ApiError> {
    let order = order(&headers, &body)?;
    if verb == "test" {
        let report = context.delivery.test(&name).await;
        let report = report.ok_or_else(|| ApiError::not_found("there is no such sink"))?;
        return Ok(Json(json!(report)));
    }
    let op = match verb.as_str() {
        "pause" => Op::Pause,
        "resume" => Op::Resume,
        "redrive" => Op::Redrive(order.ids),
        "drop" => Op::Drop(order.ids),
        "backfill" => Op::Backfill(order.since.as_deref().map(time).transpose()?),
        _ => return Err(ApiError::not_found("pause, resume, test, redrive, drop or backfill it")),
    };
    let done = context.delivery.act(&name, op).await;
    let done: Done = done
        .ok_or_else(|| ApiError::not_found("there is no such sink"))?
        .map_err(|why| ApiError::new(StatusCode::CONFLICT, "calltap_conflict", why))?;
    Ok(Json(json!(done)))
}

/// A form or a plain text could come from any web page: only JSON is taken.
fn order(headers: &HeaderMap, body: &[u8]) -> Result<Order, ApiError> {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
    let kind = kind.and_then(|kind| kind.split(';').next()).unwrap_or_default().trim();
    if !kind.eq_ignore_ascii_case("application/json") {
        let why = "send content-type: application/json";
        return Err(ApiError::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "calltap_bad_request", why));
    }
    if body.trim_ascii().is_empty() {
        return Ok(Order::default());
    }
    serde_json::from_slice(body).map_err(|error| {
        ApiError::new(StatusCode::BAD_REQUEST, "calltap_bad_request", error.to_string())
    })
}

fn time(text: &str) -> Result<Timestamp, ApiError> {
    crate::delivery::time(text, Timestamp::now())
        .map_err(|why| ApiError::from(StoreError::Invalid(why)))
}
