//! One request to a sink: sent whole, answered within its time, read up to a limit.

use crate::{
    config::Sink as Options,
    model::Timestamp,
    proxy::tls_config,
    sink::{Request, Sink},
};
use bytes::Bytes;
use reqwest::{Client, redirect::Policy};
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

/// A client for one sink: no redirects, no proxies, no decompression, no retries.
///
/// # Errors
/// When `ca_file` cannot be read.
pub fn client(options: &Options) -> Result<Client, String> {
    Client::builder()
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
) -> Result<Answer, String> {
    let url = format!("{base_url}{}", request.path);
    let mut sending = client.request(request.method.clone(), url).body(request.body.clone());
    let signed = sink.sign(request, Timestamp::now());
    for (name, value) in request.headers.iter().chain(&signed) {
        let mut value = reqwest::header::HeaderValue::from_str(value.expose())
            .map_err(|_| format!("the value of the header {name} cannot be sent"))?;
        value.set_sensitive(true);
        sending = sending.header(*name, value);
    }
    let mut response = sending.send().await.map_err(|error| chain(&error))?;
    let headers = response.headers().iter().filter_map(|(name, value)| {
        Some((name.as_str().to_owned(), value.to_str().ok()?.to_owned()))
    });
    let mut answer =
        Answer { status: response.status().as_u16(), headers: headers.collect(), body: Vec::new() };
    while answer.body.len() < ANSWER_BYTES_MAX {
        let piece: Option<Bytes> = response
            .chunk()
            .await
            .map_err(|error| format!("{} and then {}", answer.status, chain(&error)))?;
        let Some(piece) = piece else { break };
        let room = ANSWER_BYTES_MAX - answer.body.len();
        answer.body.extend_from_slice(piece.get(..room).unwrap_or(&piece));
    }
    answer.body = without_secrets(answer.body, request);
    Ok(answer)
}

/// Some services repeat the key that they refuse: it must not become the reason that is kept.
fn without_secrets(body: Vec<u8>, request: &Request) -> Vec<u8> {
    let secrets = request.headers.iter().map(|(_, value)| value.expose());
    let secrets = secrets.map(|value| value.strip_prefix("Bearer ").unwrap_or(value));
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
