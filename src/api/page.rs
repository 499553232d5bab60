//! The page that a browser finds: what this is, and how to point a client here.

use super::{ApiError, Context};
use axum::{
    body::Body,
    extract::{Request, State},
    http::{Method, Response, StatusCode, header},
    response::IntoResponse,
};

const PAGE: &str = include_str!("page.html");
const STYLE: &str = include_str!("page.css");

pub(super) async fn style() -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "text/css; charset=utf-8")], STYLE)
}

/// The page for browsers on paths of the dashboard, a JSON error for everything else.
pub(super) async fn fallback(State(context): State<Context>, request: Request) -> Response<Body> {
    let path = request.uri().path();
    if path.starts_with("/api/") || path.starts_with("/assets/") || path == "/favicon.ico" {
        return ApiError::not_found("nothing is here; see /api/v1/openapi.json").into_response();
    }
    if request.method() != Method::GET && request.method() != Method::HEAD {
        let status = StatusCode::METHOD_NOT_ALLOWED;
        return ApiError::new(status, "calltap_method_not_allowed", "use GET here").into_response();
    }
    let host = request.headers().get(header::HOST).and_then(|host| host.to_str().ok());
    let page = PAGE
        .replace("{{host}}", &escape(host.unwrap_or("127.0.0.1:4777")))
        .replace("{{version}}", context.version);
    ([(header::CONTENT_TYPE, "text/html; charset=utf-8")], page).into_response()
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
}
