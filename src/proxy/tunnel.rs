//! Websockets: two connections become one, and what crosses is kept.

use super::{
    Call, Failure, ProxyError, Shared, answer,
    body::{UpstreamBody, error_chain},
    capture::{Capture, Upload},
    headers,
    route::Route,
};
use crate::model::End;
use axum::body::Body;
use bytes::BytesMut;
use http::{
    HeaderMap, HeaderValue, Request, Response, StatusCode, Version, header, request::Parts,
};
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use std::{
    io,
    pin::pin,
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// Bytes read at once in each direction.
const BUFFER_BYTES: usize = 16 * 1024;
/// How long one side may go on after the other has ended.
const FAREWELL: Duration = Duration::from_secs(1);

/// The client's wish to turn its connection into a websocket, taken out of the request's parts.
pub(super) fn take_upgrade(parts: &mut Parts) -> Option<OnUpgrade> {
    let wants = |name: header::HeaderName, token: &str| {
        parts
            .headers
            .get_all(name)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .any(|value| value.split(',').any(|part| part.trim().eq_ignore_ascii_case(token)))
    };
    let websocket = parts.version == Version::HTTP_11
        && wants(header::CONNECTION, "upgrade")
        && wants(header::UPGRADE, "websocket");
    if websocket { parts.extensions.remove::<OnUpgrade>() } else { None }
}

/// Asks the upstream to switch protocols, and joins both connections once it has.
pub(super) async fn open(
    shared: &Arc<Shared>,
    call: &mut Call,
    route: &Route,
    mut request: Request<UpstreamBody>,
    client: OnUpgrade,
) -> Result<Response<Body>, Failure> {
    ask_for_websocket(request.headers_mut());
    let upload = call.capture.upload();
    call.dispatch();
    let sending = route.upstream.tunnels.client().0.request(request);
    let mut answer = match tokio::time::timeout(route.upstream.first_byte_timeout, sending).await {
        Ok(Ok(answer)) => answer,
        Ok(Err(error)) => return Err(super::call::send_failure(call, route, &error)),
        Err(_) => {
            let why = format!("no answer within {:?}", route.upstream.first_byte_timeout);
            let told = ProxyError::upstream_timeout(why.clone());
            return Err(Failure::Upstream(told, End::UpstreamTimeout(why)));
        }
    };
    if answer.status() != StatusCode::SWITCHING_PROTOCOLS {
        return answer::pass_on(shared, call, route, answer).await;
    }
    let upstream = hyper::upgrade::on(&mut answer);
    let (mut parts, _) = answer.into_parts();
    let kept = headers::kept_of_response(&parts.headers);
    call.capture.answered(parts.status.as_u16(), kept);
    headers::strip_hop_by_hop(&mut parts.headers);
    ask_for_websocket(&mut parts.headers);
    let mut response = Response::from_parts(parts, Body::empty());
    answer::mark(&mut response, call);
    let capture = call.capture.detach();
    let task_shared = Arc::clone(shared);
    shared.spawn(async move {
        let joined = async { tokio::try_join!(client, upstream) }.await;
        match joined {
            Ok((client, upstream)) => join(client, upstream, capture, &upload, &task_shared).await,
            Err(error) => {
                let mut capture = capture;
                capture.seal(End::UpstreamBroke(error_chain(&error)));
            }
        }
    });
    Ok(response)
}

fn ask_for_websocket(headers: &mut HeaderMap) {
    headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
}

/// Copies both ways until either side ends.
async fn join(
    client: Upgraded,
    upstream: Upgraded,
    mut capture: Capture,
    upload: &Upload,
    shared: &Shared,
) {
    let (mut from_client, mut to_client) = tokio::io::split(TokioIo::new(client));
    let (mut from_upstream, mut to_upstream) = tokio::io::split(TokioIo::new(upstream));
    let up = copy(&mut from_client, &mut to_upstream, |piece| {
        upload.push(&piece, &shared.spiller);
    });
    let down = copy(&mut from_upstream, &mut to_client, |piece| {
        capture.response(&piece, Instant::now());
        capture.delivered(piece.len());
    });
    let ended = first_end(up, down).await;
    capture.seal(match ended {
        Ok(()) => End::Complete,
        Err(error) => End::UpstreamBroke(error.to_string()),
    });
}

/// A websocket is over once either side ends; the other is given a moment to say so too.
async fn first_end(
    up: impl Future<Output = io::Result<()>>,
    down: impl Future<Output = io::Result<()>>,
) -> io::Result<()> {
    let (mut up, mut down) = (pin!(up), pin!(down));
    tokio::select! {
        ended = &mut up => {
            tokio::time::timeout(FAREWELL, down).await.ok();
            ended
        }
        ended = &mut down => {
            tokio::time::timeout(FAREWELL, up).await.ok();
            ended
        }
    }
}

async fn copy(
    from: &mut (impl AsyncRead + Unpin),
    to: &mut (impl AsyncWrite + Unpin),
    mut seen: impl FnMut(BytesMut),
) -> io::Result<()> {
    let mut buffer = BytesMut::with_capacity(BUFFER_BYTES);
    loop {
        buffer.reserve(BUFFER_BYTES);
        if from.read_buf(&mut buffer).await? == 0 {
            return to.shutdown().await;
        }
        let piece = buffer.split();
        to.write_all(&piece).await?;
        to.flush().await?;
        seen(piece);
    }
}
