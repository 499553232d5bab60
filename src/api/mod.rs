//! api

use crate::{metrics::Metrics, model::Secret, store};
use std::sync::Arc;

/// Doors
#[derive(Clone, Debug)]
pub struct Doors {
    /// token
    pub admin_token: Option<Secret>,
    /// loopback
    pub loopback: bool,
    /// origins
    pub allowed_origins: Vec<String>,
}
/// Check
#[derive(Clone, Debug)]
pub struct Check {
    /// name
    pub name: &'static str,
    /// ok
    pub ok: bool,
    /// detail
    pub detail: String,
}
/// Readiness
#[derive(Clone, Debug)]
pub struct Readiness {
    /// checks
    pub checks: Vec<Check>,
}
/// Context
#[derive(Clone)]
#[expect(missing_debug_implementations, reason = "stub")]
pub struct Context {
    /// reader
    pub reader: store::Reader,
    /// committed
    pub committed: tokio::sync::watch::Receiver<i64>,
    /// inflight
    pub inflight: Arc<dyn Fn() -> Vec<serde_json::Value> + Send + Sync>,
    /// ready
    pub ready: Arc<dyn Fn() -> Readiness + Send + Sync>,
    /// metrics
    pub metrics: Arc<Metrics>,
    /// settings
    pub settings: Arc<dyn Fn() -> Doors + Send + Sync>,
    /// version
    pub version: &'static str,
}
/// router
pub fn router(_context: Context) -> axum::Router {
    axum::Router::new().route("/livez", axum::routing::get(|| async { "ok" }))
}
/// reserved
pub fn is_reserved(path: &str) -> bool {
    matches!(path, "/" | "/livez")
}
/// foreign
pub fn foreign_origin(_headers: &http::HeaderMap, _doors: &Doors) -> bool {
    false
}
