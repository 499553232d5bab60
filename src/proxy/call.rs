//! A call that is being admitted and forwarded, and how it fails.

use super::{
    ProxyError, answer,
    body::error_chain,
    capture::{Capture, UploadTrouble},
    headers,
    metadata::{Labels, Log},
    request,
    route::Route,
    upstream,
};
use crate::{
    model::{End, Head, Timestamp, Trace},
    server::Wire,
};
use axum::body::Body;
use bytes::Bytes;
use http::{HeaderName, HeaderValue, Response};

/// Why a call got no answer from upstream.
pub(super) enum Failure {
    /// calltap would not forward it.
    Refused(ProxyError),
    /// The upstream failed.
    Upstream(ProxyError, End),
    /// There is nobody left to answer.
    ClientGone,
}

impl From<ProxyError> for Failure {
    fn from(error: ProxyError) -> Self {
        Self::Refused(error)
    }
}

/// A call that is being admitted and forwarded.
pub(super) struct Call {
    /// Taken once the request goes upstream.
    pub(super) head: Head,
    pub(super) labels: Labels,
    /// Other vendors' headers, read once everything stronger has spoken.
    pub(super) aliases: Vec<(HeaderName, HeaderValue)>,
    pub(super) capture: Capture,
    /// Request body as the client sent it, where it was read before the call went upstream.
    pub(super) request: Option<Bytes>,
    /// Value of the `calltap` member in the request body.
    pub(super) member: Option<std::ops::Range<usize>>,
    /// Time that calltap waited for the client, in microseconds; no part of its own overhead.
    pub(super) waited_us: u64,
    /// The final bytes wait for the record.
    pub(super) strict: bool,
    /// Of the client's connection.
    pub(super) wire: Wire,
}

impl Drop for Call {
    /// A client that goes away early leaves a record too.
    fn drop(&mut self) {
        self.keep_head();
    }
}

impl Call {
    /// Reads the caller's metadata and tells the recorder that the call runs.
    pub(super) fn dispatch(&mut self) {
        let mut head = std::mem::take(&mut self.head);
        if let Some(member) = self.member.take()
            && let Some(value) = self.request.as_ref().and_then(|body| body.get(member))
        {
            self.labels.read_member(value);
        }
        self.read_aliases(&mut head);
        if !self.labels.warnings.is_empty() {
            self.capture.metadata_refused();
        }
        if self.labels.log == Some(Log::Off) && head.hold.is_none() {
            self.capture.forget();
        }
        head.id = self.labels.id.unwrap_or(head.id);
        head.tags = std::mem::take(&mut self.labels.tags);
        head.sinks = self.labels.sinks.take();
        head.keep_content &= !matches!(self.labels.log, Some(Log::Metadata | Log::Off));
        self.capture.dispatched(head, self.request.take());
    }

    fn read_aliases(&mut self, head: &mut Head) {
        self.labels.read_aliases(&std::mem::take(&mut self.aliases));
        let Trace { trace_id, parent_id } = std::mem::take(&mut self.labels.trace);
        if head.trace.trace_id.is_none() {
            head.trace = Trace { trace_id, parent_id };
        }
    }

    /// Answers a call that got no answer from upstream, and seals it.
    pub(super) async fn fail(mut self, failure: Failure) -> Response<Body> {
        let (error, end) = match failure {
            Failure::Refused(error) => {
                let end = End::Refused { code: error.code, message: error.message.clone() };
                (error, end)
            }
            Failure::Upstream(error, end) => (error, end),
            Failure::ClientGone => {
                self.keep_head();
                // Nobody reads it, unless the framing of the body was what broke.
                let told = ProxyError::bad_request("the request body could not be read");
                let mut response = told.response();
                answer::mark(&mut response, &self);
                self.capture.seal(End::ClientGone);
                return response;
            }
        };
        self.keep_head();
        let mut response = error.response();
        answer::mark(&mut response, &self);
        let kept = headers::kept_of_response(response.headers());
        self.capture.answered(response.status().as_u16(), kept);
        if self.strict {
            if let Some(durable) = self.capture.seal_durably(end) {
                // The answer is an error either way; what matters is that the record had its chance.
                durable.await.ok();
            }
        } else {
            self.capture.seal(end);
        }
        response
    }

    /// A call that never went upstream still has a head to record.
    fn keep_head(&mut self) {
        if self.head.started_at != Timestamp::default() {
            let mut head = std::mem::take(&mut self.head);
            self.read_aliases(&mut head);
            self.head = head;
            self.head.tags = std::mem::take(&mut self.labels.tags);
            self.capture.refused(std::mem::take(&mut self.head));
        }
    }
}

/// Why the client could not send, in the words of an answer.
pub(super) fn send_failure(
    call: &Call,
    route: &Route,
    error: &hyper_util::client::legacy::Error,
) -> Failure {
    match call.capture.upload_trouble() {
        Some(UploadTrouble::ClientGone) => return Failure::ClientGone,
        Some(UploadTrouble::TooLarge) => return Failure::Refused(request::too_large()),
        Some(UploadTrouble::TooSlow) => return Failure::Refused(request::too_slow()),
        None => {}
    }
    let why = error_chain(error);
    let told = format!(
        "upstream `{}` could not be reached ({why}); check that it is up and that its base_url is right",
        route.upstream.name
    );
    if !error.is_connect() {
        return Failure::Upstream(ProxyError::upstream_unreachable(told), End::UpstreamBroke(why));
    }
    let told = if upstream::is_timeout(error) {
        ProxyError::upstream_timeout(told)
    } else {
        ProxyError::upstream_unreachable(told)
    };
    Failure::Upstream(told, End::ConnectFailed(why))
}
