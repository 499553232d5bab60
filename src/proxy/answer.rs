//! The answer on its way to the client.

use super::{
    Call, Failure, ProxyError, Shared,
    body::{Passage, TapBody},
    headers,
    route::Route,
};
use crate::{config::OnDisconnect, model::End, splice::UsageCutter};
use axum::body::Body;
use http::{HeaderMap, HeaderValue, Response, StatusCode, header};
use hyper::body::Incoming;
use std::sync::Arc;

/// Hands the upstream's answer to the client: its head at once, its body as it comes.
pub(super) async fn pass_on(
    shared: &Arc<Shared>,
    call: &mut Call,
    route: &Route,
    answer: Response<Incoming>,
) -> Result<Response<Body>, Failure> {
    let (mut parts, body) = answer.into_parts();
    if parts.status == StatusCode::SWITCHING_PROTOCOLS {
        let why = "switched protocols unasked".to_owned();
        let told = ProxyError::upstream_unreachable(format!(
            "upstream `{}` {why}; check its base_url",
            route.upstream.name
        ));
        return Err(Failure::Upstream(told, End::UpstreamBroke(why)));
    }
    headers::strip_hop_by_hop(&mut parts.headers);
    let kept = headers::kept_of_response(&parts.headers);
    call.capture.answered(parts.status.as_u16(), kept);
    let cutter = cutter(call, &mut parts.headers);
    let mut response = Response::from_parts(parts, Body::empty());
    mark(&mut response, call);
    let passage = Passage {
        cutter,
        strict: call.strict,
        drain: route.upstream.on_disconnect == OnDisconnect::Drain,
        idle: route.upstream.idle_timeout,
        flushes: call.wire.flushes.clone(),
    };
    let mut body = TapBody::new(body, call.capture.detach(), Arc::clone(shared), passage);
    if let Some(durable) = body.take_durable()
        && !matches!(durable.await, Ok(Ok(_)))
    {
        let told = "calltap could not store the record of this call; retry";
        return Err(ProxyError::store_unavailable(told).into());
    }
    *response.body_mut() = Body::new(body);
    Ok(response)
}

/// Cuts out of an event stream what asking for usage put in; such an answer loses its length.
fn cutter(call: &mut Call, headers: &mut HeaderMap) -> Option<UsageCutter> {
    if !call.capture.usage_injected() {
        return None;
    }
    let is_stream = headers.get(header::CONTENT_TYPE).is_some_and(|value| {
        value.as_bytes().to_ascii_lowercase().starts_with(b"text/event-stream")
    });
    if !is_stream {
        return None;
    }
    if headers.get(header::CONTENT_ENCODING).is_some_and(|value| value != "identity") {
        call.capture.note("the stream is compressed: usage that was asked for was not cut out");
        return None;
    }
    headers.remove(header::CONTENT_LENGTH);
    Some(UsageCutter::default())
}

/// Adds calltap's own response headers.
pub(super) fn mark(response: &mut Response<Body>, call: &Call) {
    let (id, overhead_us) = call.capture.facts();
    let headers = response.headers_mut();
    if let Ok(id) = HeaderValue::try_from(id.to_string()) {
        headers.insert("x-calltap-id", id);
    }
    let (ms, us) = (overhead_us / 1000, overhead_us % 1000);
    if let Ok(timing) = HeaderValue::try_from(format!("calltap;dur={ms}.{us:03}")) {
        headers.append("server-timing", timing);
    }
    if !call.labels.warnings.is_empty() {
        let warnings = call.labels.warnings.join("; ");
        let warnings: String = warnings.chars().filter(|c| !c.is_control()).take(1024).collect();
        if let Ok(warnings) = HeaderValue::from_bytes(warnings.as_bytes()) {
            headers.insert("x-calltap-warning", warnings);
        }
    }
}
