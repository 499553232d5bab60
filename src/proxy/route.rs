//! From a request path to an upstream and the path there (SPEC §2, §13.1).

use super::upstream::{Upstream, Upstreams};
use percent_encoding::percent_decode_str;
use std::sync::Arc;

/// First segments of the API when the client leaves `/v1` out.
const API_ROOTS: &[&str] = &[
    "agents",
    "assistants",
    "audio",
    "batches",
    "chat",
    "completions",
    "containers",
    "conversations",
    "decisions",
    "edits",
    "embeddings",
    "engines",
    "evals",
    "files",
    "fine_tuning",
    "fine-tunes",
    "images",
    "live",
    "models",
    "moderations",
    "organization",
    "realtime",
    "rerank",
    "responses",
    "score",
    "skills",
    "threads",
    "tokenize",
    "uploads",
    "vector_stores",
    "videos",
];

/// First path segments that belong to dashboard, API and operations; everything else is proxied.
pub const OWN_ROOTS: [&str; 16] = [
    "",
    "api",
    "assets",
    "calls",
    "favicon.ico",
    "healthz",
    "keys",
    "livez",
    "metrics",
    "prompts",
    "readyz",
    "sessions",
    "settings",
    "sinks",
    "stats",
    "version",
];

/// Whether `/<name>/…` means something else than an upstream of that name.
pub fn is_taken(name: &str) -> bool {
    name == "v1" || name == "-" || OWN_ROOTS.contains(&name) || API_ROOTS.contains(&name)
}

/// Most path segments with metadata (`/-/…`).
const METADATA_SEGMENTS_MAX: usize = 8;

/// Where a call goes.
#[derive(Clone, Debug)]
pub struct Route {
    /// The upstream.
    pub upstream: Arc<Upstream>,
    /// Full URL there, with query.
    pub url: String,
    /// The path as recorded: without metadata segments and without the upstream's name.
    pub path: String,
}

/// Why a path leads nowhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NoRoute {
    /// No upstream of that name.
    UnknownUpstream(String),
    /// Neither an API path nor an upstream.
    UnknownPath,
    /// `.` or `..` segments, which would leave the upstream's base path.
    Dots,
}

/// Splits metadata segments off the front of `path`: the rest, and (key, value) pairs, decoded.
pub fn split_metadata(path: &str) -> (&str, Vec<(String, String)>) {
    let (mut rest, mut pairs) = (path, Vec::new());
    for _ in 0..METADATA_SEGMENTS_MAX {
        let Some(tail) = rest.strip_prefix("/-/") else { break };
        let at = tail.find('/').unwrap_or(tail.len());
        let (segment, after) = tail.split_at(at);
        for pair in segment.split(';').filter(|pair| !pair.is_empty()) {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            pairs.push((decode(key).to_lowercase(), decode(value)));
        }
        rest = if after.is_empty() { "/" } else { after };
    }
    (rest, pairs)
}

fn decode(text: &str) -> String {
    percent_decode_str(text).decode_utf8_lossy().into_owned()
}

/// Finds the upstream for `path` (metadata already split off): `named`, else the one that the path
/// names, else `default`.
///
/// # Errors
/// [`NoRoute`].
pub fn find(
    upstreams: &Upstreams,
    default: &Arc<Upstream>,
    path: &str,
    query: Option<&str>,
    named: Option<&str>,
) -> Result<Route, NoRoute> {
    if leaves_base(path) {
        return Err(NoRoute::Dots);
    }
    if let Some(name) = named {
        let upstream =
            upstreams.named(name).ok_or_else(|| NoRoute::UnknownUpstream(name.to_owned()))?;
        return Ok(below_base(upstream, path, query));
    }
    let first = path.trim_start_matches('/').split('/').next().unwrap_or_default();
    if first == "openai" {
        return Ok(azure_shaped(upstreams, path, query));
    }
    if first == "v1" || API_ROOTS.contains(&first) {
        return Ok(below_base(default, path, query));
    }
    match upstreams.named(first) {
        Some(upstream) => {
            let rest = path.trim_start_matches('/').strip_prefix(first).unwrap_or_default();
            let rest = if rest.is_empty() { "/" } else { rest };
            Ok(below_base(upstream, rest, query))
        }
        None if path.trim_matches('/').contains('/') => {
            Err(NoRoute::UnknownUpstream(decode(first)))
        }
        None => Err(NoRoute::UnknownPath),
    }
}

/// Whether a segment is `.` or `..`, also for an upstream that undoes escapes first, splits at
/// backslashes, or ends a segment at `;`.
fn leaves_base(path: &str) -> bool {
    let is_dots = |segment: &str| matches!(segment, "." | "..");
    if !path.contains(['%', '\\', ';']) {
        return path.split('/').any(is_dots);
    }
    let mut plain = path.to_ascii_lowercase();
    for (escape, meant) in [("%2e", "."), ("%2f", "/"), ("%5c", "/"), ("\\", "/"), ("%3b", ";")] {
        plain = plain.replace(escape, meant);
    }
    plain.split('/').filter_map(|segment| segment.split(';').next()).any(is_dots)
}

/// The base URL holds the version, so one leading `/v1` of the client's path is dropped.
fn below_base(upstream: &Arc<Upstream>, path: &str, query: Option<&str>) -> Route {
    let tail = match path.strip_prefix("/v1") {
        Some(tail) if tail.is_empty() || tail.starts_with('/') => tail,
        _ => path,
    };
    let url = url(&upstream.base_url, tail, query);
    Route { upstream: Arc::clone(upstream), url, path: path.to_owned() }
}

/// `/openai/…` goes to the upstream `azure`, whose base URL is the host's root, else to the default
/// upstream's origin.
fn azure_shaped(upstreams: &Upstreams, path: &str, query: Option<&str>) -> Route {
    let (upstream, base) = match upstreams.named("azure") {
        Some(azure) => (azure, &azure.base_url),
        None => (upstreams.default(), &upstreams.default().origin),
    };
    Route { upstream: Arc::clone(upstream), url: url(base, path, query), path: path.to_owned() }
}

fn url(base: &str, tail: &str, query: Option<&str>) -> String {
    let mut url = String::with_capacity(base.len() + tail.len() + query.map_or(0, |q| q.len() + 1));
    url.push_str(base);
    url.push_str(tail);
    if let Some(query) = query {
        url.push('?');
        url.push_str(query);
    }
    url
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, Upstream as Options};

    fn to(
        upstreams: &Upstreams,
        path: &str,
        query: Option<&str>,
        named: Option<&str>,
    ) -> Result<Route, NoRoute> {
        find(upstreams, upstreams.default(), path, query, named)
    }

    fn upstreams(azure: bool) -> Upstreams {
        let mut config = Config::default();
        config.upstreams.insert(
            "local".into(),
            Options { base_url: Some("http://127.0.0.1:9/base/v1/".into()), ..Options::default() },
        );
        if azure {
            config.upstreams.insert(
                "azure".into(),
                Options {
                    base_url: Some("https://r.openai.azure.com".into()),
                    ..Options::default()
                },
            );
        }
        Upstreams::new(&config).unwrap()
    }

    #[test]
    fn every_path_form() {
        for (path, url) in [
            ("/v1/chat/completions", "https://api.openai.com/v1/chat/completions"),
            ("/chat/completions", "https://api.openai.com/v1/chat/completions"),
            ("/v1/brand/new", "https://api.openai.com/v1/brand/new"),
            ("/v1", "https://api.openai.com/v1"),
            ("/groq/v1/chat/completions", "https://api.groq.com/openai/v1/chat/completions"),
            ("/local/embeddings", "http://127.0.0.1:9/base/v1/embeddings"),
            ("/local/v1/v1/x", "http://127.0.0.1:9/base/v1/v1/x"),
            (
                "/openai/deployments/d/chat/completions",
                "https://api.openai.com/openai/deployments/d/chat/completions",
            ),
        ] {
            assert_eq!(to(&upstreams(false), path, None, None).unwrap().url, url, "{path}");
        }
        let azure = to(&upstreams(true), "/openai/v1/responses", Some("api-version=1"), None);
        assert_eq!(
            azure.unwrap().url,
            "https://r.openai.azure.com/openai/v1/responses?api-version=1"
        );
        let named = to(&upstreams(false), "/v1/models", None, Some("local")).unwrap();
        assert_eq!(named.url, "http://127.0.0.1:9/base/v1/models");
    }

    #[test]
    fn paths_that_lead_nowhere() {
        let upstreams = upstreams(false);
        let fails = |path| to(&upstreams, path, None, None).unwrap_err();
        assert_eq!(fails("/nosuch/v1/chat"), NoRoute::UnknownUpstream("nosuch".into()));
        assert_eq!(fails("/nosuch"), NoRoute::UnknownPath);
        assert_eq!(fails("/local/../../admin"), NoRoute::Dots);
        for dots in [
            "/v1/%2e%2E/x",
            "/v1/..%2Fx",
            "/v1/a%5c..%5Cx",
            "/v1/a\\.\\x",
            "/v1/..;a=b/x",
            "/v1/.%2e",
        ] {
            assert_eq!(fails(dots), NoRoute::Dots, "{dots}");
        }
        for plain in ["/v1/a%2Fb..c", "/v1/...", "/v1/a;b=..c", "/v1/%252e%252e/x"] {
            assert!(to(&upstreams, plain, None, None).is_ok(), "{plain}");
        }
    }

    #[test]
    fn metadata_in_the_path() {
        let (rest, pairs) = split_metadata("/-/prompt=a%2Fb;session=s1/-/env=prod/groq/v1/x");
        assert_eq!(rest, "/groq/v1/x");
        let pair = |k: &str, v: &str| (k.to_owned(), v.to_owned());
        assert_eq!(pairs, [pair("prompt", "a/b"), pair("session", "s1"), pair("env", "prod")]);
        assert_eq!(split_metadata("/v1/x"), ("/v1/x", vec![]));
    }
}
