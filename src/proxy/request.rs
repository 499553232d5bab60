//! The request on its way upstream.

use super::{
    Call, Failure, Proxy, ProxyError, Settings, body::UpstreamBody, capture::micros, pace::Pace,
    route::Route,
};
use crate::{config::StreamUsage, model::Client, splice};
use bytes::{Bytes, BytesMut};
use http::{HeaderMap, Method, Request, Uri, Version, header, request::Parts};
use hyper::body::{Body, Incoming};
use std::{future::poll_fn, pin::Pin, sync::Arc, task::Poll, time::Instant};

/// Most bytes reserved on the word of a `Content-Length`.
const RESERVE_MAX: usize = 1 << 20;

impl Proxy {
    /// The body for upstream: JSON whole and edited, everything else as it arrives.
    pub(super) async fn request_body(
        &self,
        settings: &Settings,
        call: &mut Call,
        parts: &mut Parts,
        route: &Route,
        body: Incoming,
    ) -> Result<UpstreamBody, Failure> {
        if parts.headers.get(header::EXPECT).is_some_and(|v| v == "100-continue") {
            parts.headers.remove(header::EXPECT); // answered here, as soon as the body is read
        }
        if body.size_hint().lower() > settings.max_body {
            return Err(too_large().into());
        }
        if body.is_end_stream() {
            return Ok(UpstreamBody::Whole(None));
        }
        if !may_be_edited(&parts.method, &parts.headers) {
            let upload = call.capture.upload();
            let shared = Arc::clone(&self.shared);
            return Ok(UpstreamBody::Streamed {
                inner: body,
                upload,
                shared,
                room: settings.max_body,
                pace: Pace::default(),
            });
        }
        let waiting = Instant::now();
        let whole = collect(body, settings.max_body, call).await?;
        call.waited_us += micros(waiting.elapsed());
        call.capture.request(whole.clone());
        let ask_usage = route.upstream.stream_usage == StreamUsage::Inject
            && call.head.endpoint.has_stream_usage();
        let edited = splice::edit_request(&whole, ask_usage);
        call.head.request_bytes = u64::try_from(whole.len()).unwrap_or(u64::MAX);
        call.request = Some(whole);
        call.head.usage_injected = edited.usage_injected;
        if let Some(member) = edited.member {
            call.head.member = Some(member.cut);
            call.member = Some(member.value);
        }
        // Set anew from the body that goes out.
        parts.headers.remove(header::CONTENT_LENGTH);
        parts.headers.remove(header::TRAILER);
        Ok(UpstreamBody::Whole(Some(edited.body)))
    }
}

/// JSON, not content-encoded: only such a body can hold what calltap may edit.
fn may_be_edited(method: &Method, headers: &HeaderMap) -> bool {
    let identity = headers.get(header::CONTENT_ENCODING).is_none_or(|value| value == "identity");
    let json = headers.get(header::CONTENT_TYPE).is_none_or(|value| {
        value.to_str().is_ok_and(|text| text.to_ascii_lowercase().contains("json"))
    });
    identity && json && !matches!(*method, Method::GET | Method::HEAD)
}

async fn collect(mut body: Incoming, max: u64, call: &mut Call) -> Result<Bytes, Failure> {
    let expected = usize::try_from(body.size_hint().lower()).unwrap_or(0);
    let (mut first, mut rest) = (None::<Bytes>, BytesMut::new());
    let mut pace = Pace::default();
    loop {
        let next = poll_fn(|cx| match Pin::new(&mut body).poll_frame(cx) {
            Poll::Ready(next) => Poll::Ready(Some(next)),
            Poll::Pending => pace.poll_late(cx).map(|()| None),
        });
        let frame = match next.await {
            None => {
                keep_partial(call, first.as_deref().unwrap_or(&rest));
                return Err(too_slow().into());
            }
            Some(None) => break,
            Some(Some(Err(error))) => {
                keep_partial(call, first.as_deref().unwrap_or(&rest));
                return Err(broken(&error));
            }
            Some(Some(Ok(frame))) => frame,
        };
        call.wire.turn.go_on();
        let Ok(data) = frame.into_data() else { continue };
        pace.came(data.len());
        let held = first.as_ref().map_or(0, Bytes::len) + rest.len();
        if u64::try_from(held + data.len()).is_ok_and(|len| len > max) {
            keep_partial(call, first.as_deref().unwrap_or(&rest));
            return Err(too_large().into());
        }
        match &first {
            None if rest.is_empty() => first = Some(data),
            _ => {
                if let Some(first) = first.take() {
                    rest.reserve(expected.clamp(
                        first.len() + data.len(),
                        RESERVE_MAX.max(first.len() + data.len()),
                    ));
                    rest.extend_from_slice(&first);
                }
                rest.extend_from_slice(&data);
            }
        }
    }
    Ok(first.map_or_else(|| rest.freeze(), |first| owned(&first)))
}

/// Bytes of their own: a piece as it came keeps the whole read buffer of its connection in memory.
fn owned(piece: &Bytes) -> Bytes {
    Bytes::copy_from_slice(piece)
}

/// What came of a body that will not be whole is still recorded.
fn keep_partial(call: &mut Call, came: &[u8]) {
    call.capture.request(Bytes::copy_from_slice(came));
}

fn broken(error: &hyper::Error) -> Failure {
    if error.is_incomplete_message() || error.is_closed() || error.is_canceled() {
        return Failure::ClientGone;
    }
    let io =
        std::error::Error::source(error).is_some_and(<dyn std::error::Error>::is::<std::io::Error>);
    if io && error.to_string().contains("connection") {
        return Failure::ClientGone;
    }
    ProxyError::bad_request(
        "the request body is not framed as HTTP asks; see Content-Length and chunked encoding",
    )
    .into()
}

/// The answer to a body over the limit.
pub(super) fn too_large() -> ProxyError {
    ProxyError::body_too_large(
        "the request body is larger than calltap allows; raise server.max_body or send less",
    )
}

/// The answer to a body that comes too slowly.
pub(super) fn too_slow() -> ProxyError {
    ProxyError::request_timeout(
        "the request body stopped arriving, or comes too slowly; send it without long pauses",
    )
}

/// Puts the request together; the client decides about HTTP/1.1 or HTTP/2 by the connection it gets.
pub(super) fn build(
    parts: Parts,
    url: &str,
    body: UpstreamBody,
) -> Result<Request<UpstreamBody>, Failure> {
    let uri: Uri = url
        .parse()
        .map_err(|_| ProxyError::bad_request("path and query do not make a valid URL"))?;
    let mut request = Request::new(body);
    *request.method_mut() = parts.method;
    *request.uri_mut() = uri;
    *request.version_mut() = Version::HTTP_11;
    *request.headers_mut() = parts.headers;
    Ok(request)
}

/// Libraries by the start of their `User-Agent`, most specific first (`ux.md` §11).
const LIBRARIES: &[(&str, &str)] = &[
    ("OpenAI/Python", "openai-python"),
    ("AsyncOpenAI/Python", "openai-python"),
    ("AzureOpenAI/Python", "openai-python"),
    ("AsyncAzureOpenAI/Python", "openai-python"),
    ("OpenAI/JS", "openai-node"),
    ("AzureOpenAI/JS", "openai-node"),
    ("OpenAI/Go", "openai-go"),
    ("OpenAI/Java", "openai-java"),
    ("OpenAI/Ruby", "openai-ruby"),
    ("OpenAI/.NET", "openai-dotnet"),
    ("OpenAI/", "openai"),
    ("pydantic-ai/", "pydantic-ai"),
    ("Agents/Python", "openai-agents"),
    ("langchainjs-openai/", "langchain-js"),
    ("langchain", "langchain"),
    ("DSPy/", "dspy"),
    ("ai/", "ai-sdk"),
    ("ai-sdk/", "ai-sdk"),
    ("litellm/", "litellm"),
    ("async-openai", "async-openai"),
    ("python-httpx/", "httpx"),
    ("python-requests/", "requests"),
    ("curl/", "curl"),
];

/// What HTTP asks of a request's head, and hyper leaves to its users (RFC 9112 §3.2 and §6.1,
/// RFC 9110 §10.1.1).
pub(super) fn check_head(parts: &Parts) -> Result<(), ProxyError> {
    let hosts = parts.headers.get_all(header::HOST).iter().count();
    if hosts > 1 || (hosts == 0 && parts.version == Version::HTTP_11) {
        return Err(ProxyError::bad_request(format!(
            "the request has {hosts} `Host` headers; send exactly one"
        )));
    }
    // Of a list of codings hyper undoes the last and leaves the rest to whoever reads the body.
    let mut codings = parts.headers.get_all(header::TRANSFER_ENCODING).iter();
    let first = codings.next();
    if codings.next().is_some()
        || first.is_some_and(|coding| !coding.as_bytes().eq_ignore_ascii_case(b"chunked"))
    {
        return Err(ProxyError::bad_request(
            "the request has another `Transfer-Encoding` than `chunked`; send it with that or with a length",
        ));
    }
    let mut expected = parts.headers.get_all(header::EXPECT).iter();
    if expected.any(|value| !value.as_bytes().eq_ignore_ascii_case(b"100-continue")) {
        return Err(ProxyError::expectation_failed(
            "nothing but `100-continue` can be expected of calltap; leave the `Expect` header out",
        ));
    }
    Ok(())
}

/// Who calls, as far as headers tell.
pub(super) fn client(headers: &HeaderMap) -> Client {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let user_agent = text("user-agent").map(|text| text.chars().take(512).collect::<String>());
    let by_agent = user_agent.as_deref().and_then(|agent| {
        LIBRARIES.iter().find(|(start, _)| agent.starts_with(start)).map(|(_, name)| *name)
    });
    let by_language = text("x-stainless-lang").map(|language| match language {
        "js" => "openai-node",
        "python" => "openai-python",
        _ => "openai",
    });
    Client {
        sdk: by_agent.or(by_language).map(str::to_owned),
        retry: text("x-stainless-retry-count").and_then(|count| count.parse().ok()),
        user_agent,
        key: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_plain_json_is_read_before_it_is_sent() {
        let headers = |pairs: &[(header::HeaderName, &str)]| {
            pairs.iter().map(|(n, v)| (n.clone(), v.parse().unwrap())).collect::<HeaderMap>()
        };
        let json = headers(&[(header::CONTENT_TYPE, "application/json; charset=utf-8")]);
        assert!(may_be_edited(&Method::POST, &json));
        assert!(may_be_edited(&Method::POST, &HeaderMap::new()));
        assert!(!may_be_edited(&Method::GET, &json));
        let gzip = headers(&[(header::CONTENT_ENCODING, "gzip")]);
        assert!(!may_be_edited(&Method::POST, &gzip));
        let form = headers(&[(header::CONTENT_TYPE, "multipart/form-data; boundary=x")]);
        assert!(!may_be_edited(&Method::POST, &form));
    }

    #[test]
    fn clients_are_told_apart() {
        let of = |agent: &str| {
            client(&HeaderMap::from_iter([(header::USER_AGENT, agent.parse().unwrap())])).sdk
        };
        assert_eq!(of("OpenAI/Python 2.54.0").as_deref(), Some("openai-python"));
        assert_eq!(of("AzureOpenAI/JS 6.49").as_deref(), Some("openai-node"));
        assert_eq!(of("ai/6.0.326 ai-sdk/x").as_deref(), Some("ai-sdk"));
        assert_eq!(of("unheard-of/1"), None);
    }
}
