//! Answers that calltap makes itself, in the shape of OpenAI's errors (`ux.md` §9).

use axum::body::Body;
use http::{HeaderValue, Response, StatusCode, header};
use serde_json::json;

/// What a client is told when calltap itself has to answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProxyError {
    /// HTTP status.
    pub status: StatusCode,
    /// OpenAI's `type`.
    pub kind: &'static str,
    /// `calltap_…`.
    pub code: &'static str,
    /// What happened and what to do.
    pub message: String,
    /// What an SDK's retry logic should do.
    pub retry: Retry,
}

/// What an SDK's retry logic should do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retry {
    /// `x-should-retry: false`.
    No,
    /// `x-should-retry: true`.
    Yes,
    /// `x-should-retry: true` and `retry-after-ms`.
    AfterMs(u32),
}

macro_rules! errors {
    ($($(#[$doc:meta])* $name:ident = $status:ident $kind:literal $code:literal $retry:expr;)*) => {
        impl ProxyError {
            $($(#[$doc])*
            pub fn $name(message: impl Into<String>) -> Self {
                Self { status: StatusCode::$status, kind: $kind, code: $code, message: message.into(), retry: $retry }
            })*
        }
    };
}

errors! {
    /// No valid key of calltap's own.
    invalid_key = UNAUTHORIZED "authentication_error" "calltap_invalid_key" Retry::No;
    /// The request comes from a foreign web page.
    forbidden = FORBIDDEN "permission_error" "calltap_forbidden" Retry::No;
    /// The path leads nowhere.
    unknown_route = NOT_FOUND "invalid_request_error" "calltap_unknown_route" Retry::No;
    /// No upstream of that name.
    unknown_upstream = NOT_FOUND "invalid_request_error" "calltap_unknown_upstream" Retry::No;
    /// The request cannot be forwarded as it is.
    bad_request = BAD_REQUEST "invalid_request_error" "calltap_bad_request" Retry::No;
    /// The request expects what calltap does not know (RFC 9110 §10.1.1).
    expectation_failed = EXPECTATION_FAILED "invalid_request_error" "calltap_bad_request" Retry::No;
    /// The request body stopped arriving.
    request_timeout = REQUEST_TIMEOUT "invalid_request_error" "calltap_request_timeout" Retry::No;
    /// The body is larger than allowed.
    body_too_large = PAYLOAD_TOO_LARGE "invalid_request_error" "calltap_body_too_large" Retry::No;
    /// The key has as many calls as it may, at once or within a minute.
    rate_limited = TOO_MANY_REQUESTS "rate_limit_error" "calltap_rate_limited" Retry::AfterMs(1000);
    /// What the key may spend today is spent.
    budget_exceeded = TOO_MANY_REQUESTS "insufficient_quota" "calltap_budget_exceeded" Retry::No;
    /// No room for another call, or strict durability cannot be promised.
    overloaded = SERVICE_UNAVAILABLE "server_error" "calltap_overloaded" Retry::AfterMs(1000);
    /// The store cannot take the record that strict durability promises.
    store_unavailable = SERVICE_UNAVAILABLE "server_error" "calltap_store_unavailable" Retry::AfterMs(1000);
    /// DNS, connection or TLS failed, or the answer was no HTTP.
    upstream_unreachable = BAD_GATEWAY "server_error" "calltap_upstream_unreachable" Retry::Yes;
    /// The upstream was silent for too long.
    upstream_timeout = GATEWAY_TIMEOUT "server_error" "calltap_upstream_timeout" Retry::Yes;
    /// The call came back to where it started.
    loop_detected = LOOP_DETECTED "invalid_request_error" "calltap_loop" Retry::No;
}

impl ProxyError {
    /// To be tried again after so many milliseconds.
    #[must_use]
    pub fn after_ms(self, ms: u32) -> Self {
        Self { retry: Retry::AfterMs(ms), ..self }
    }

    /// The answer.
    pub fn response(&self) -> Response<Body> {
        let body = json!({ "error": {
            "message": self.message, "type": self.kind, "param": null, "code": self.code,
        }});
        let mut response = Response::new(Body::from(body.to_string()));
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert("x-calltap-error", HeaderValue::from_static("1"));
        if self.status == StatusCode::BAD_REQUEST {
            // What could not be understood is no sign of where the next request begins.
            headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        let retry = if self.retry == Retry::No { "false" } else { "true" };
        headers.insert("x-should-retry", HeaderValue::from_static(retry));
        if let Retry::AfterMs(ms) = self.retry {
            headers.insert("retry-after-ms", HeaderValue::from(ms));
            headers.insert(header::RETRY_AFTER, HeaderValue::from(ms.div_ceil(1000)));
        }
        response
    }
}
