//! The dashboard: files of `ui/dist`, embedded when the binary is built.
//!
//! Where it was built without them, a page says how to get them; the API is the same.

use super::{ApiError, Context};
use axum::{
    body::Body,
    extract::{Path, Request, State},
    http::{HeaderMap, HeaderValue, Method, Response, StatusCode, header},
    response::IntoResponse,
};
use rust_embed::{EmbeddedFile, RustEmbed};

/// What `make ui` wrote; empty where it did not run.
#[derive(RustEmbed)]
#[folder = "ui/dist"]
#[allow_missing = true]
struct Dist;

/// Stands in for the dashboard where it is not built.
const PAGE: &str = include_str!("page.html");
const STYLE: &str = include_str!("page.css");

/// A file that the page names. Its name changes with its content, so it may be kept for ever.
pub(super) async fn asset(
    Path(file): Path<String>,
    headers: HeaderMap,
) -> Result<Response<Body>, ApiError> {
    let kind = match file.rsplit_once('.').map(|(_, kind)| kind) {
        Some("css") => "text/css; charset=utf-8",
        Some("js") => "text/javascript; charset=utf-8",
        Some("svg") => "image/svg+xml",
        _ => return Err(nothing()),
    };
    if file == "page.css" {
        return Ok(([(header::CONTENT_TYPE, kind)], STYLE).into_response());
    }
    let packed = takes_brotli(&headers).then(|| Dist::get(&format!("assets/{file}.br"))).flatten();
    let is_packed = packed.is_some();
    let found = packed.or_else(|| Dist::get(&format!("assets/{file}"))).ok_or_else(nothing)?;
    let mut response = answer(found, kind);
    let out = response.headers_mut();
    if is_packed {
        out.insert(header::CONTENT_ENCODING, HeaderValue::from_static("br"));
    }
    out.insert(header::VARY, HeaderValue::from_static("accept-encoding"));
    // The icon keeps its name, so it is asked for again after a day.
    let keep = if file.contains('-') {
        "public, max-age=31536000, immutable"
    } else {
        "public, max-age=86400"
    };
    out.insert(header::CACHE_CONTROL, HeaderValue::from_static(keep));
    Ok(response)
}

/// The page for browsers on paths of the dashboard, a JSON error for everything else.
pub(super) async fn fallback(State(context): State<Context>, request: Request) -> Response<Body> {
    let path = request.uri().path();
    if path.starts_with("/api/") || path.starts_with("/assets/") || path == "/favicon.ico" {
        return nothing().into_response();
    }
    if request.method() != Method::GET && request.method() != Method::HEAD {
        let status = StatusCode::METHOD_NOT_ALLOWED;
        return ApiError::new(status, "calltap_method_not_allowed", "use GET here").into_response();
    }
    if let Some(page) = Dist::get("index.html") {
        return answer(page, "text/html; charset=utf-8");
    }
    let host = request.headers().get(header::HOST).and_then(|host| host.to_str().ok());
    let page = PAGE
        .replace("{{host}}", &escape(host.unwrap_or("127.0.0.1:4777")))
        .replace("{{version}}", context.version);
    ([(header::CONTENT_TYPE, "text/html; charset=utf-8")], page).into_response()
}

fn nothing() -> ApiError {
    ApiError::not_found("nothing is here; see /api/v1/openapi.json")
}

fn answer(file: EmbeddedFile, kind: &'static str) -> Response<Body> {
    let body = match file.data {
        std::borrow::Cow::Borrowed(bytes) => Body::from(bytes),
        std::borrow::Cow::Owned(bytes) => Body::from(bytes),
    };
    ([(header::CONTENT_TYPE, kind)], body).into_response()
}

fn takes_brotli(headers: &HeaderMap) -> bool {
    let accepted = headers.get(header::ACCEPT_ENCODING).and_then(|value| value.to_str().ok());
    accepted.unwrap_or_default().split(',').any(|coding| coding.trim() == "br")
}

fn escape(text: &str) -> String {
    let mut out = String::new();
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hostile_host_is_text() {
        assert_eq!(escape("<script>\"'&"), "&lt;script&gt;&quot;&#39;&amp;");
    }

    #[test]
    fn only_plain_brotli_counts() {
        let accepts = |value: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static(value));
            takes_brotli(&headers)
        };
        assert!(accepts("gzip, deflate, br, zstd"));
        assert!(!accepts("gzip, br;q=0") && !accepts("gzip"));
    }
}
