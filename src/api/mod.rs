//! The JSON API that dashboard, command line and users share, and the endpoints of operations.

mod calls;
pub mod doors;
mod events;
mod insight;
mod page;
mod sessions;
mod sinks;

pub use doors::{Doors, foreign_origin};

use crate::{
    delivery::Delivery,
    metrics::Metrics,
    pricing::PriceBook,
    proxy::{Live, OWN_ROOTS},
    query::QueryError,
    store::{Reader, StoreError},
};
use axum::{
    Extension, Json, Router,
    body::Body,
    extract::{Request, State},
    http::{HeaderValue, Response, StatusCode, header},
    middleware::{self, Next},
    response::IntoResponse,
    routing::{get, post},
};
use serde_json::{Map, Value, json};
use std::sync::Arc;
use tokio::sync::watch;

/// Longest query string, in bytes.
const QUERY_BYTES_MAX: usize = 16 * 1024;

/// The description of this API.
const OPENAPI: &str = include_str!("openapi.json");

/// What the handlers work with. Cheap to clone.
#[derive(Clone)]
pub struct Context {
    /// The stored calls.
    pub reader: Reader,
    /// Highest committed `seq`.
    pub committed: watch::Receiver<i64>,
    /// Running calls.
    pub inflight: Arc<dyn Fn() -> Vec<Live> + Send + Sync>,
    /// Whether calls can be taken.
    pub ready: Arc<dyn Fn() -> Readiness + Send + Sync>,
    /// The sinks.
    pub delivery: Delivery,
    /// Counters.
    pub metrics: Arc<Metrics>,
    /// Who may look.
    pub settings: Arc<dyn Fn() -> Doors + Send + Sync>,
    /// calltap's version.
    pub version: &'static str,
    /// The configuration in force, as the settings page shows it.
    pub effective: Arc<dyn Fn() -> Value + Send + Sync>,
    /// The price book in force.
    pub book: Arc<dyn Fn() -> Arc<PriceBook> + Send + Sync>,
}

impl std::fmt::Debug for Context {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Context").field("reader", &self.reader).finish_non_exhaustive()
    }
}

/// Whether calls can be taken, and why not.
#[derive(Clone, Debug)]
pub struct Readiness {
    /// All of them must be well.
    pub checks: Vec<Check>,
    /// Records lost for good, by reason, also in earlier runs.
    pub lost: Vec<(String, u64)>,
}

/// One condition of readiness.
#[derive(Clone, Debug, serde::Serialize)]
pub struct Check {
    /// What is looked at.
    pub name: &'static str,
    /// Whether it is well.
    pub ok: bool,
    /// How it is.
    pub detail: String,
}

/// Every route with its handler; `openapi.json` describes the same ones.
pub fn router(context: Context) -> Router {
    let open = Router::new()
        .route("/livez", get(|| async { "ok\n" }))
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(readyz))
        .route("/assets/{file}", get(page::asset))
        .fallback(page::fallback);
    let running = Arc::new(events::Looker::new(Arc::clone(&context.inflight)));
    let guarded = Router::new()
        .route("/api/v1/calls", get(calls::list))
        .route("/api/v1/calls/{id}", get(calls::show))
        .route("/api/v1/calls/{id}/raw", get(calls::raw))
        .route("/api/v1/calls/{id}/delivery", get(sinks::of_call))
        .route("/api/v1/stats", get(calls::stats))
        .route("/api/v1/facets", get(insight::facets))
        .route("/api/v1/metrics", get(insight::metrics))
        .route("/api/v1/pricing", get(insight::pricing))
        .route("/api/v1/prompts", get(insight::prompts))
        .route("/api/v1/prompts/{prompt}", get(insight::prompt))
        .route("/api/v1/query", get(insight::grammar))
        .route("/api/v1/sessions", get(sessions::list))
        .route("/api/v1/sessions/{session}", get(sessions::show))
        .route("/api/v1/sessions/{session}/turns", get(sessions::turns))
        .route("/api/v1/events", get(events::follow).layer(Extension(running)))
        .route("/api/v1/settings", get(effective))
        .route("/api/v1/store", get(calls::store))
        .route("/api/v1/sinks", get(sinks::list))
        .route("/api/v1/sinks/{name}", get(sinks::show))
        .route("/api/v1/sinks/{name}/dead", get(sinks::dead))
        .route("/api/v1/sinks/{name}/{action}", post(sinks::act))
        .route("/api/v1/openapi.json", get(openapi))
        .route("/metrics", get(metrics))
        .route("/version", get(version))
        .route_layer(middleware::from_fn_with_state(context.clone(), doors::token));
    open.merge(guarded)
        .method_not_allowed_fallback(|| async {
            ApiError::new(
                StatusCode::METHOD_NOT_ALLOWED,
                "calltap_method_not_allowed",
                "this path takes another method",
            )
        })
        .layer(middleware::from_fn(limits))
        .layer(middleware::from_fn_with_state(context.clone(), doors::origin))
        .layer(middleware::from_fn(hardened))
        .with_state(context)
}

/// Whether `path` is for this router rather than for an upstream.
pub fn is_reserved(path: &str) -> bool {
    let first = path.trim_start_matches('/').split('/').next().unwrap_or_default();
    match first {
        "api" => path == "/api" || path == "/api/v1" || path.starts_with("/api/v1/"),
        first => OWN_ROOTS.contains(&first),
    }
}

/// An error of the API, in OpenAI's shape.
#[derive(Debug)]
pub struct ApiError {
    status: StatusCode,
    code: &'static str,
    message: String,
    param: Option<&'static str>,
}

impl ApiError {
    /// An error with a `calltap_…` code.
    pub fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        Self { status, code, message: message.into(), param: None }
    }

    /// Nothing is there.
    pub fn not_found(message: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "calltap_not_found", message)
    }

    /// A parameter makes no sense.
    pub fn bad_parameter(param: &'static str, message: impl Into<String>) -> Self {
        let error = Self::new(StatusCode::BAD_REQUEST, "calltap_bad_request", message);
        Self { param: Some(param), ..error }
    }
}

impl From<StoreError> for ApiError {
    fn from(error: StoreError) -> Self {
        let text = error.to_string();
        match error {
            StoreError::Invalid(_) => Self::bad_parameter("after", text),
            StoreError::Deadline => Self::new(
                StatusCode::SERVICE_UNAVAILABLE,
                "calltap_query_too_slow",
                "the query took longer than 2 s; narrow it down, for instance with since:1h",
            ),
            _ => Self::new(StatusCode::SERVICE_UNAVAILABLE, "calltap_store_unavailable", text),
        }
    }
}

impl From<QueryError> for ApiError {
    fn from(error: QueryError) -> Self {
        Self::bad_parameter("q", format!("{error} (at byte {})", error.at))
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response<Body> {
        let kind =
            if self.status.is_server_error() { "server_error" } else { "invalid_request_error" };
        let body = json!({ "error": {
            "message": self.message, "type": kind, "param": self.param, "code": self.code,
        }});
        (self.status, [("x-calltap-error", "1")], Json(body)).into_response()
    }
}

/// The query string as `T`; what does not fit is an error in the API's own shape.
pub(crate) struct Parameters<T>(pub(crate) T);

impl<T: serde::de::DeserializeOwned, S: Sync> axum::extract::FromRequestParts<S> for Parameters<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut http::request::Parts, _: &S) -> Result<Self, ApiError> {
        match axum::extract::Query::<T>::try_from_uri(&parts.uri) {
            Ok(axum::extract::Query(parameters)) => Ok(Self(parameters)),
            Err(error) => Err(ApiError::new(
                StatusCode::BAD_REQUEST,
                "calltap_bad_request",
                error.body_text(),
            )),
        }
    }
}

/// Runs `work` on a thread that may block.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, StoreError> + Send + 'static,
) -> Result<T, ApiError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => Ok(result?),
        Err(error) => Err(ApiError::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "calltap_internal",
            error.to_string(),
        )),
    }
}

async fn readyz(State(context): State<Context>, request: Request) -> Response<Body> {
    let readiness = (context.ready)();
    let ok = readiness.checks.iter().all(|check| check.ok);
    let status = if ok { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    if request.uri().query().is_some_and(|query| query.contains("verbose")) {
        let lost: Map<String, Value> =
            readiness.lost.into_iter().map(|(reason, count)| (reason, count.into())).collect();
        let answer = json!({ "ready": ok, "checks": readiness.checks, "lost": lost });
        return (status, Json(answer)).into_response();
    }
    (status, if ok { "ready\n" } else { "not ready\n" }).into_response()
}

async fn openapi() -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "application/json")], OPENAPI)
}

async fn metrics(State(context): State<Context>) -> impl IntoResponse {
    context.metrics.records_lost(&(context.ready)().lost);
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    ([(header::CONTENT_TYPE, kind)], context.metrics.render())
}

async fn effective(State(context): State<Context>) -> Json<Value> {
    Json((context.effective)())
}

async fn version(State(context): State<Context>) -> Json<Value> {
    Json(json!({ "version": context.version, "sqlite": rusqlite::version() }))
}

async fn limits(request: Request, next: Next) -> Response<Body> {
    if request.uri().query().is_some_and(|query| query.len() > QUERY_BYTES_MAX) {
        let why = "the query string is longer than 16 KiB";
        return ApiError::new(StatusCode::URI_TOO_LONG, "calltap_bad_request", why).into_response();
    }
    next.run(request).await
}

/// Nothing here is cached, framed, sniffed or told to others; scripts come from here or not at all.
async fn hardened(request: Request, next: Next) -> Response<Body> {
    let mut response = next.run(request).await;
    let headers = response.headers_mut();
    for (name, value) in [
        ("x-content-type-options", "nosniff"),
        ("referrer-policy", "no-referrer"),
        ("cache-control", "no-store"),
        ("cross-origin-resource-policy", "same-origin"),
        (
            "content-security-policy",
            "default-src 'none'; style-src 'self'; img-src 'self' data:; media-src data:; script-src 'self'; \
             connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; \
             require-trusted-types-for 'script'",
        ),
        ("cross-origin-opener-policy", "same-origin"),
    ] {
        if !headers.contains_key(name) {
            headers.insert(name, HeaderValue::from_static(value));
        }
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_ours_and_what_is_proxied() {
        for path in
            ["/", "/calls", "/calls/x", "/api/v1/calls", "/livez", "/metrics", "/assets/a.js"]
        {
            assert!(is_reserved(path), "{path}");
        }
        for path in [
            "/v1/models",
            "/chat/completions",
            "/groq/v1/x",
            "/-/a=b/v1",
            "/openai/v1",
            "/api/v2/x",
            "/responses",
        ] {
            assert!(!is_reserved(path), "{path}");
        }
    }

    #[test]
    fn every_route_is_described() {
        let source = include_str!("mod.rs");
        let mut routes: Vec<&str> = source
            .split(".route(\"")
            .skip(1)
            .filter_map(|rest| rest.split('"').next())
            .filter(|path| path.starts_with('/') && !path.starts_with("/assets"))
            .collect();
        routes.sort_unstable();
        let described: Value = serde_json::from_str(OPENAPI).unwrap();
        let mut paths: Vec<&String> = described["paths"].as_object().unwrap().keys().collect();
        paths.sort_unstable();
        assert_eq!(paths, routes);
    }
}
