//! Which headers pass, which are calltap's own, which are kept in the record.

use http::{HeaderMap, HeaderName, HeaderValue, header};

/// Prefix of calltap's own headers; all of them are removed before forwarding.
pub const OWN_PREFIX: &str = "x-calltap-";

/// Headers that belong to one connection (RFC 9110 §7.6.1). `te` and `trailer` are kept where they
/// only announce trailers.
const HOP_BY_HOP: [HeaderName; 6] = [
    header::CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    header::PROXY_AUTHORIZATION,
];

/// Whether a request header is kept. Everything else is not: what is not named here can never leak.
fn is_kept_of_request(name: &str) -> bool {
    matches!(
        name,
        "accept"
            | "accept-encoding"
            | "content-encoding"
            | "content-length"
            | "content-type"
            | "http-referer"
            | "idempotency-key"
            | "openai-beta"
            | "traceparent"
            | "user-agent"
            | "x-client-request-id"
            | "x-title"
    ) || name.starts_with("x-stainless-")
}

/// Whether a response header is kept, likewise (`openai-surface.md` §1).
fn is_kept_of_response(name: &str) -> bool {
    matches!(
        name,
        "apim-request-id"
            | "cf-ray"
            | "content-encoding"
            | "content-length"
            | "content-type"
            | "date"
            | "openai-model"
            | "openai-processing-ms"
            | "openai-version"
            | "retry-after"
            | "retry-after-ms"
            | "x-ds-trace-id"
            | "x-generation-id"
            | "x-groq-region"
            | "x-inference-provider"
            | "x-kong-request-id"
            | "x-litellm-call-id"
            | "x-litellm-model-id"
            | "x-litellm-response-cost"
            | "x-ms-client-request-id"
            | "x-ms-deployment-name"
            | "x-ms-region"
            | "x-request-id"
            | "x-should-retry"
    ) || name.starts_with("x-ratelimit-")
        || name.starts_with("x-metrics-")
}

/// Longest header value that is kept, in bytes.
const KEPT_VALUE_MAX: usize = 2048;

/// Removes what belongs to the incoming connection, and what its `Connection` header names.
///
/// End-to-end security headers cannot be named away (`Connection: authorization`).
pub fn strip_hop_by_hop(headers: &mut HeaderMap) {
    if headers.contains_key(header::CONNECTION) {
        let named: Vec<HeaderName> = headers
            .get_all(header::CONNECTION)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(','))
            .filter_map(|name| HeaderName::from_bytes(name.trim().as_bytes()).ok())
            .filter(|name| !is_protected(name))
            .collect();
        for name in named {
            headers.remove(name);
        }
    }
    // A length beside chunks says nothing (RFC 9112 §6.3), and must not be what is left of the two.
    if headers.contains_key(header::TRANSFER_ENCODING) {
        headers.remove(header::CONTENT_LENGTH);
    }
    for name in &HOP_BY_HOP {
        headers.remove(name);
    }
    if let Some(te) = headers.get(header::TE)
        && !te.as_bytes().eq_ignore_ascii_case(b"trailers")
    {
        headers.remove(header::TE);
    }
}

fn is_protected(name: &HeaderName) -> bool {
    matches!(
        name.as_str(),
        "authorization"
            | "api-key"
            | "x-api-key"
            | "cookie"
            | "host"
            | "content-length"
            | "content-type"
            | "content-encoding"
            | "te"
            | "via"
            | "x-goog-api-key"
    ) || name.as_str().starts_with(OWN_PREFIX)
}

/// Takes calltap's own headers out, in order of appearance.
pub fn take_own(headers: &mut HeaderMap) -> Vec<(HeaderName, HeaderValue)> {
    if !headers.keys().any(|name| name.as_str().starts_with(OWN_PREFIX)) {
        return Vec::new();
    }
    let own: Vec<(HeaderName, HeaderValue)> = headers
        .iter()
        .filter(|(name, _)| name.as_str().starts_with(OWN_PREFIX))
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect();
    for (name, _) in &own {
        headers.remove(name);
    }
    own
}

/// The request headers that the record keeps.
pub fn kept_of_request(headers: &HeaderMap) -> Vec<(String, String)> {
    kept(headers, is_kept_of_request)
}

/// The response headers that the record keeps.
pub fn kept_of_response(headers: &HeaderMap) -> Vec<(String, String)> {
    kept(headers, is_kept_of_response)
}

fn kept(headers: &HeaderMap, is_kept: fn(&str) -> bool) -> Vec<(String, String)> {
    headers
        .iter()
        .filter(|(name, value)| value.len() <= KEPT_VALUE_MAX && is_kept(name.as_str()))
        .map(|(name, value)| {
            (name.as_str().to_owned(), String::from_utf8_lossy(value.as_bytes()).into_owned())
        })
        .collect()
}

/// Query parameters whose values may be kept; all other values are masked.
const KEPT_PARAMETERS: &[&str] = &[
    "after",
    "api-version",
    "before",
    "deployment",
    "include",
    "include[]",
    "limit",
    "model",
    "order",
    "purpose",
    "run_id",
    "starting_after",
    "stream",
];

/// The query string with every value masked that is not known to be harmless, and every name that does
/// not look like one.
pub fn masked_query(query: &str) -> String {
    let is_name = |name: &str| {
        let digits = name.bytes().filter(u8::is_ascii_digit).count();
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.[]$".contains(&byte);
        name.len() <= 32 && digits <= 2 && name.bytes().all(is_plain)
    };
    query
        .split('&')
        .map(|pair| match pair.split_once('=') {
            Some((name, _)) if KEPT_PARAMETERS.contains(&name) => pair.to_owned(),
            Some((name, _)) if is_name(name) => format!("{name}=***"),
            None if is_name(pair) => pair.to_owned(),
            _ => "***".to_owned(),
        })
        .collect::<Vec<_>>()
        .join("&")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(pairs: &[(&str, &str)]) -> HeaderMap {
        pairs
            .iter()
            .map(|(n, v)| (n.parse::<HeaderName>().unwrap(), v.parse::<HeaderValue>().unwrap()))
            .collect()
    }

    #[test]
    fn connection_headers_go_and_security_headers_stay() {
        let mut headers = map(&[
            ("connection", "keep-alive, x-hop, authorization"),
            ("x-hop", "1"),
            ("authorization", "Bearer a"),
            ("keep-alive", "timeout=5"),
            ("te", "trailers"),
            ("transfer-encoding", "chunked"),
            ("content-length", "5"),
            ("x-passes", "1"),
        ]);
        strip_hop_by_hop(&mut headers);
        let mut left: Vec<_> = headers.keys().map(HeaderName::as_str).collect();
        left.sort_unstable();
        assert_eq!(left, ["authorization", "te", "x-passes"]);
    }

    #[test]
    fn only_listed_headers_are_kept() {
        let headers = map(&[
            ("authorization", "Bearer a"),
            ("cookie", "s=1"),
            ("x-foo-token", "t"),
            ("user-agent", "u"),
            ("x-stainless-lang", "python"),
        ]);
        assert_eq!(
            kept_of_request(&headers),
            [("user-agent".into(), "u".into()), ("x-stainless-lang".into(), "python".into())]
        );
    }

    #[test]
    fn own_headers_are_taken_with_repeats() {
        let mut headers = map(&[("x-calltap-tags", "a"), ("a", "b")]);
        headers.append("x-calltap-tags", HeaderValue::from_static("c"));
        assert_eq!(take_own(&mut headers).len(), 2);
        assert_eq!(headers.len(), 1);
    }

    #[test]
    fn unknown_query_values_are_masked() {
        assert_eq!(masked_query("api-version=1&key=sk-1&x"), "api-version=1&key=***&x");
        assert_eq!(masked_query("h4x0r5k3y&a%20b=1&include[]=x"), "***&***&include[]=x");
    }
}
