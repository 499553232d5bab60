//! Where price books are read from: a file, or, only when somebody asks for it by name, the network.

use super::super::{
    http_client,
    out::{Exit, Stop},
    runtime,
};
use std::{fs::File, io::Read, time::Duration};

/// Largest price book that is read, in bytes.
const BYTES_MAX: u64 = 64 * 1024 * 1024;
/// Longest that a download may take.
const DOWNLOAD_MAX: Duration = Duration::from_mins(1);
/// Books that have a name, with the address of their data.
const NAMED: [(&str, &str); 2] = [
    (
        "genai-prices",
        "https://raw.githubusercontent.com/pydantic/genai-prices/main/prices/new_data/v2/data_slim.json",
    ),
    (
        "litellm",
        "https://raw.githubusercontent.com/BerriAI/litellm/main/model_prices_and_context_window.json",
    ),
];

/// What was read.
pub struct Fetched {
    /// The file.
    pub bytes: Vec<u8>,
    /// The `ETag` that came with it.
    pub etag: Option<String>,
}

/// Reads a file, a named book or a URL. `None` where it is still the one with `etag`.
///
/// # Errors
/// When it cannot be reached or read, or is too large.
pub fn read(from: &str, etag: Option<&str>) -> Result<Option<Fetched>, Stop> {
    let url = NAMED.iter().find(|(name, _)| *name == from).map_or(from, |(_, url)| url);
    if url.contains("://") {
        return download(url, etag);
    }
    let problem = |error: std::io::Error| Stop::new(Exit::Store, format!("{from}: {error}"));
    let mut bytes = Vec::new();
    let mut file = File::open(from).map_err(problem)?.take(BYTES_MAX + 1);
    file.read_to_end(&mut bytes).map_err(problem)?;
    within_limit(from, bytes.len())?;
    Ok(Some(Fetched { bytes, etag: None }))
}

fn within_limit(from: &str, bytes: usize) -> Result<(), Stop> {
    if u64::try_from(bytes).is_ok_and(|bytes| bytes <= BYTES_MAX) {
        return Ok(());
    }
    Err(Stop::new(Exit::Failed, format!("{from}: larger than {} MiB", BYTES_MAX / 1024 / 1024)))
}

fn download(url: &str, etag: Option<&str>) -> Result<Option<Fetched>, Stop> {
    let parsed = reqwest::Url::parse(url)
        .map_err(|error| Stop::new(Exit::Usage, format!("{url}: {error}")))?;
    let nearby = matches!(parsed.host_str(), Some("127.0.0.1" | "localhost" | "[::1]"));
    if parsed.scheme() != "https" && !(parsed.scheme() == "http" && nearby) {
        return Err(Stop::new(Exit::Usage, format!("{url}: only https:// is fetched")));
    }
    let client = http_client()?;
    let offline = |error: &dyn std::fmt::Display| {
        let hint = "without a network, give a FILE with the same data: --from FILE";
        Stop::new(Exit::Unavailable, format!("{url}: {error}; {hint}"))
    };
    let fetch = async {
        let mut request = client.get(parsed.clone()).timeout(DOWNLOAD_MAX);
        if let Some(etag) = etag {
            request = request.header("if-none-match", etag);
        }
        let mut answer = request.send().await.map_err(|error| offline(&error.without_url()))?;
        if answer.status() == http::StatusCode::NOT_MODIFIED {
            return Ok(None);
        }
        if !answer.status().is_success() {
            return Err(offline(&format!("it answers {}", answer.status())));
        }
        let etag = answer.headers().get("etag").and_then(|etag| etag.to_str().ok());
        let etag = etag.map(str::to_owned);
        let mut bytes = Vec::new();
        while let Some(chunk) =
            answer.chunk().await.map_err(|error| offline(&error.without_url()))?
        {
            bytes.extend_from_slice(&chunk);
            within_limit(url, bytes.len())?;
        }
        Ok(Some(Fetched { bytes, etag }))
    };
    runtime()?.block_on(fetch)
}
