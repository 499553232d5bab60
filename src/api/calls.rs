//! Stored calls: lists, one call, its bytes, totals.

use super::{ApiError, Context, Parameters, blocking};
use crate::{content, interpret::restore, query::Query, store::GroupBy};
use axum::{
    Json,
    body::Body,
    extract::{Path, State},
    http::{HeaderValue, Response, header},
    response::IntoResponse,
};
use serde::Deserialize;
use serde_json::{Map, Value, json};

/// Rows of a page where the caller names no number, and most a page may have.
const LIMIT: u32 = 100;
const LIMIT_MAX: u32 = 1000;

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct ListParameters {
    q: String,
    limit: Option<String>,
    after: Option<String>,
    by: Option<String>,
    part: Option<String>,
    order: Option<String>,
}

pub(super) async fn list(
    State(context): State<Context>,
    Parameters(parameters): Parameters<ListParameters>,
) -> Result<Json<Value>, ApiError> {
    let query: Query = parameters.q.parse()?;
    let limit = match parameters.limit.as_deref() {
        None => LIMIT,
        Some(text) => text
            .parse::<u64>()
            .map_err(|_| ApiError::bad_parameter("limit", "is a number from 1 to 1000"))?
            .clamp(1, LIMIT_MAX.into())
            .try_into()
            .unwrap_or(LIMIT_MAX),
    };
    let oldest_first = match parameters.order.as_deref() {
        None | Some("newest") => false,
        Some("oldest") => true,
        Some(_) => return Err(ApiError::bad_parameter("order", "is newest or oldest")),
    };
    let after = parameters.after;
    let page = blocking(move || {
        let reader = context.reader;
        if oldest_first {
            reader.oldest(&query, limit, after.as_deref())
        } else {
            reader.list(&query, limit, after.as_deref())
        }
    })
    .await?;
    Ok(Json(json!({ "items": page.items, "next": page.next })))
}

pub(super) async fn show(
    State(context): State<Context>,
    Path(id): Path<String>,
) -> Result<Json<Value>, ApiError> {
    let record = blocking(move || Ok(context.reader.get(&id)?.map(restore))).await?;
    let record = record.ok_or_else(|| ApiError::not_found("no call has this id"))?;
    Ok(Json(serde_json::to_value(record).unwrap_or_default()))
}

/// The bytes of one body, or with no `part` both as text with sizes and arrival times.
pub(super) async fn raw(
    State(context): State<Context>,
    Path(id): Path<String>,
    Parameters(parameters): Parameters<ListParameters>,
) -> Result<Response<Body>, ApiError> {
    let stored = blocking(move || context.reader.get(&id)).await?;
    let stored = stored.ok_or_else(|| ApiError::not_found("no call has this id"))?;
    let Some(bodies) = stored.bodies else {
        return Err(ApiError::not_found("the bodies of this call are not kept"));
    };
    let headers = &stored.record.headers;
    let bytes = match parameters.part.as_deref() {
        Some("request") => bodies.request.kept,
        Some("response") => bodies.response.kept,
        Some(_) => return Err(ApiError::bad_parameter("part", "is request or response")),
        None => {
            let body = |body: &crate::model::Body, headers: &[(String, String)]| {
                let encoding = headers.iter().find(|(name, _)| name == "content-encoding");
                let encoding = encoding.map(|(_, value)| value.as_str());
                let plain = content::decode(encoding, &body.kept, std::iter::empty()).bytes;
                let text = std::str::from_utf8(&plain).ok();
                json!({ "total": body.total, "kept": body.kept.len(), "encoding": encoding, "text": text,
                        "hex": text.is_none().then(|| hex::encode(&body.kept)) })
            };
            let chunks: Vec<[u64; 2]> = bodies.chunks.iter().map(|(len, us)| [len, us]).collect();
            return Ok(Json(json!({
                "request": body(&bodies.request, &headers.request),
                "response": body(&bodies.response, &headers.response),
                "headers": headers, "chunks": chunks,
            }))
            .into_response());
        }
    };
    // Never a type that a browser would run or show.
    let mut response = Response::new(Body::from(bytes));
    let out = response.headers_mut();
    out.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
    out.insert(header::CONTENT_DISPOSITION, HeaderValue::from_static("attachment"));
    Ok(response)
}

pub(super) async fn stats(
    State(context): State<Context>,
    Parameters(parameters): Parameters<ListParameters>,
) -> Result<Json<Value>, ApiError> {
    let query: Query = parameters.q.parse()?;
    let by = group(parameters.by.as_deref().unwrap_or("model"))?;
    let stats = blocking(move || context.reader.totals(&query, by)).await?;
    Ok(Json(json!({ "items": stats.rows, "next": null, "exact": stats.exact })))
}

fn group(name: &str) -> Result<GroupBy, ApiError> {
    name.parse().map_err(|why: String| ApiError::bad_parameter("by", why))
}

pub(super) async fn store(State(context): State<Context>) -> Result<Json<Value>, ApiError> {
    let reader = context.reader.clone();
    let info = blocking(move || reader.info()).await?;
    let mut answer = serde_json::to_value(info).unwrap_or_default();
    let effective = (context.effective)();
    let values = effective.get("values").and_then(Value::as_array).into_iter().flatten();
    let retention: Map<String, Value> = values
        .filter_map(|value| {
            let name = value.get("key")?.as_str()?.strip_prefix("store.")?;
            let limits = matches!(name, "keep_bodies" | "keep_calls" | "max_size");
            limits.then(|| (name.to_owned(), value.get("value").cloned().unwrap_or_default()))
        })
        .collect();
    if let Some(answer) = answer.as_object_mut() {
        answer.insert("retention".to_owned(), retention.into());
    }
    Ok(Json(answer))
}
