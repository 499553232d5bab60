//! One request to a sink: sent whole, answered within its time, read up to a limit.

use crate::{
    config::Sink as Options,
    model::{Secret, Timestamp},
    proxy::tls_config,
    sink::{Request, Sink},
};
use bytes::Bytes;
use reqwest::{
    header::{HeaderMap, HeaderName, HeaderValue},
    redirect::Policy,
};
use std::{error::Error, time::Duration};

/// Bytes of an answer that are read; what a sink says beyond them changes nothing.
const ANSWER_BYTES_MAX: usize = 64 * 1024;
/// Longest wait for a connection.
const CONNECT: Duration = Duration::from_secs(10);
/// Values shorter than this are no keys.
const SECRET_MIN: usize = 8;
/// Idle connections are closed before the sink does it.
const IDLE: Duration = Duration::from_secs(20);

/// A sink's answer.
#[derive(Clone, Debug, Default)]
pub struct Answer {
    /// Status code.
    pub status: u16,
    /// Lower-case names and values; those that are no text are left out.
    pub headers: Vec<(String, String)>,
    /// The beginning of the body.
    pub body: Vec<u8>,
}

impl Answer {
    /// First value of a header.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(have, _)| have == name).map(|(_, value)| value.as_str())
    }
}

/// Why there is no answer.
#[derive(Clone, Debug)]
pub struct Silence {
    /// In words.
    pub why: String,
    /// The host's name leads nowhere.
    pub unresolved: bool,
}

impl From<String> for Silence {
    fn from(why: String) -> Self {
        Self { why, unresolved: false }
    }
}

/// Connections to one sink, and what its owner wants every request to carry.
#[derive(Debug)]
pub struct Client {
    connections: reqwest::Client,
    headers: HeaderMap,
}

/// Headers that belong to the request itself.
const OWN_HEADERS: [&str; 6] =
    ["host", "content-length", "content-type", "transfer-encoding", "connection", "expect"];

/// A client for one sink: no redirects, no proxies, no decompression, no retries.
///
/// # Errors
/// The key at fault and why: `ca_file` cannot be read, or `headers` cannot be sent.
pub fn client(options: &Options) -> Result<Client, (&'static str, String)> {
    let mut headers = HeaderMap::new();
    for (name, value) in &options.headers {
        let known = HeaderName::try_from(name.as_str())
            .ok()
            .filter(|name| !OWN_HEADERS.contains(&name.as_str()));
        let (Some(known), Some(value)) = (known, sensitive(value)) else {
            return Err(("headers", format!("the header `{name}` in headers cannot be sent")));
        };
        headers.insert(known, value);
    }
    let connections = connections(options).map_err(|why| ("ca_file", why))?;
    Ok(Client { connections, headers })
}

fn sensitive(value: &Secret) -> Option<HeaderValue> {
    let mut value = HeaderValue::from_str(value.expose()).ok()?;
    value.set_sensitive(true);
    Some(value)
}

fn connections(options: &Options) -> Result<reqwest::Client, String> {
    reqwest::Client::builder()
        .redirect(Policy::none())
        .no_proxy()
        .referer(false)
        .retry(reqwest::retry::never())
        .connect_timeout(CONNECT.min(options.timeout.0))
        .timeout(options.timeout.0)
        .pool_idle_timeout(IDLE)
        .user_agent(concat!("calltap/", env!("CARGO_PKG_VERSION")))
        .tls_backend_preconfigured(tls_config(options.ca_file.as_deref())?)
        .build()
        .map_err(|error| chain(&error))
}

/// Sends a request; the error says why there is no answer.
///
/// # Errors
/// Connection, TLS, name or timeout trouble, or an answer that broke off.
pub async fn send(
    client: &Client,
    base_url: &str,
    sink: &dyn Sink,
    request: &Request,
) -> Result<Answer, Silence> {
    let url = format!("{base_url}{}", request.path);
    let signed = sink.sign(request, Timestamp::now());
    let mut headers = HeaderMap::new();
    for (name, value) in request.headers.iter().chain(&signed) {
        let value = sensitive(value)
            .ok_or_else(|| format!("the value of the header {name} cannot be sent"))?;
        headers.insert(*name, value);
    }
    headers.extend(client.headers.clone());
    let sending = client.connections.request(request.method.clone(), url);
    let sending = sending.headers(headers.clone()).body(request.body.clone());
    let mut response = sending
        .send()
        .await
        .map_err(|error| Silence { why: chain(&error), unresolved: is_unresolved(&error) })?;
    let answered = response.headers().iter().filter_map(|(name, value)| {
        Some((name.as_str().to_owned(), value.to_str().ok()?.to_owned()))
    });
    let mut answer = Answer {
        status: response.status().as_u16(),
        headers: answered.collect(),
        body: Vec::new(),
    };
    while answer.body.len() < ANSWER_BYTES_MAX {
        let piece: Option<Bytes> = response
            .chunk()
            .await
            .map_err(|error| format!("{} and then {}", answer.status, chain(&error)))?;
        let Some(piece) = piece else { break };
        let room = ANSWER_BYTES_MAX - answer.body.len();
        answer.body.extend_from_slice(piece.get(..room).unwrap_or(&piece));
    }
    answer.body = without_secrets(answer.body, &headers);
    Ok(answer)
}

/// Some services repeat the key that they refuse: it must not become the reason that is kept.
fn without_secrets(body: Vec<u8>, headers: &HeaderMap) -> Vec<u8> {
    let secrets = headers.values().filter_map(|value| value.to_str().ok());
    let secrets = secrets.map(|value| {
        let kinds = ["Bearer ", "Basic "];
        kinds.iter().find_map(|kind| value.strip_prefix(kind)).unwrap_or(value)
    });
    let found: Vec<&str> = secrets
        .filter(|secret| secret.len() >= SECRET_MIN && !secret.contains('/'))
        .filter(|secret| memchr::memmem::find(&body, secret.as_bytes()).is_some())
        .collect();
    if found.is_empty() {
        return body;
    }
    let text = String::from_utf8_lossy(&body).into_owned();
    found.into_iter().fold(text, |text, secret| text.replace(secret, "•••")).into_bytes()
}

/// The connector says no more of it than this.
fn is_unresolved(error: &reqwest::Error) -> bool {
    let mut causes = std::iter::successors(error.source(), |&cause| cause.source());
    error.is_connect() && causes.any(|cause| cause.to_string() == "dns error")
}

/// The last cause says most; URLs are left out, they may hold secrets.
fn chain(error: &reqwest::Error) -> String {
    if error.is_timeout() {
        return "no answer in time".to_owned();
    }
    let mut cause: &dyn Error = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    let kind = if error.is_connect() { "no connection: " } else { "the connection failed: " };
    format!("{kind}{cause}")
}
