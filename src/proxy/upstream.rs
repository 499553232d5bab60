//! Upstreams: built-in and configured, each with connections of its own.

use super::{
    connection::{self, Connector},
    pool::{Patience, Pool},
};
use crate::config::{Config, Http2, OnDisconnect, StreamUsage, Upstream as Options};
use http::{Uri, uri::Authority};
use hyper_rustls::{ConfigBuilderExt, HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::connect::HttpConnector;
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, pem::PemObject},
};
use std::{
    collections::BTreeMap,
    future::Future,
    path::Path,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

/// (name, base URL, provider, knows `stream_options.include_usage`). Base URLs as of 2026-11
/// (`openai-surface.md` §19). Usage is asked for only where an extra event with empty `choices` is
/// what comes of it; where usage comes unasked there is nothing to ask.
const BUILT_IN: &[(&str, &str, bool)] = &[
    ("openai", "https://api.openai.com/v1", true),
    ("groq", "https://api.groq.com/openai/v1", false),
    ("together", "https://api.together.xyz/v1", false),
    ("fireworks", "https://api.fireworks.ai/inference/v1", false),
    ("mistral", "https://api.mistral.ai/v1", false),
    ("deepseek", "https://api.deepseek.com/v1", false),
    ("xai", "https://api.x.ai/v1", false),
    ("openrouter", "https://openrouter.ai/api/v1", false),
    ("perplexity", "https://api.perplexity.ai", false),
    ("cerebras", "https://api.cerebras.ai/v1", false),
    ("gemini", "https://generativelanguage.googleapis.com/v1beta/openai", false),
    ("anthropic", "https://api.anthropic.com/v1", false),
    ("moonshot", "https://api.moonshot.ai/v1", false),
    ("ollama", "http://127.0.0.1:11434/v1", true),
    ("vllm", "http://127.0.0.1:8000/v1", true),
    ("llamacpp", "http://127.0.0.1:8080/v1", true),
    ("lmstudio", "http://127.0.0.1:1234/v1", true),
];

/// Name of the upstream that takes calls when the configuration names no default.
const DEFAULT: &str = "openai";

/// A configured provider.
#[derive(Debug)]
pub struct Upstream {
    /// Its name in paths and records.
    pub name: Arc<str>,
    /// Provider slug.
    pub provider: Arc<str>,
    /// Whether the configuration names it, or takes it as the default: built-in ones that it does not
    /// name never get a credential of calltap's.
    pub is_trusted: bool,
    /// Base URL without trailing slash.
    pub base_url: String,
    /// Scheme and authority of the base URL.
    pub origin: String,
    /// Host, with its port where that is not 443: for regional prices, and for whoever reads of the call.
    pub host: Arc<str>,
    /// Whether stream usage is asked for where the client did not.
    pub stream_usage: StreamUsage,
    /// What happens when the client goes away.
    pub on_disconnect: OnDisconnect,
    /// Longest wait for the head of the answer.
    pub first_byte_timeout: Duration,
    /// Longest silence inside the answer.
    pub idle_timeout: Duration,
    /// Sends requests.
    pub pool: Pool,
    /// For connections that turn into tunnels, which only HTTP/1.1 does.
    pub tunnels: Pool,
}

/// All upstreams, by name.
#[derive(Debug)]
pub struct Upstreams {
    by_name: BTreeMap<String, Arc<Upstream>>,
    default: Arc<Upstream>,
}

impl Upstreams {
    /// Builds the built-in upstreams and the configured ones over them.
    ///
    /// # Errors
    /// A message that names the upstream and what is wrong with it.
    pub fn new(config: &Config) -> Result<Self, String> {
        let tls = tls_config(None)?;
        let mut by_name = BTreeMap::new();
        let names: std::collections::BTreeSet<&str> = BUILT_IN
            .iter()
            .map(|(name, ..)| *name)
            .chain(config.upstreams.keys().map(String::as_str))
            .collect();
        let default = config
            .upstreams
            .iter()
            .find(|(_, options)| options.default == Some(true))
            .map_or(DEFAULT, |(name, _)| name);
        let none = Options::default();
        for name in names {
            let options = config.upstreams.get(name).unwrap_or(&none);
            let mut upstream = Upstream::new(name, options, &tls)
                .map_err(|why| format!("upstreams.{name}: {why}"))?;
            upstream.is_trusted = name == default || config.upstreams.contains_key(name);
            by_name.insert(name.to_owned(), Arc::new(upstream));
        }
        let default =
            by_name.get(default).cloned().ok_or_else(|| format!("no upstream `{default}`"))?;
        Ok(Self { by_name, default })
    }

    /// The upstream called `name`.
    pub fn named(&self, name: &str) -> Option<&Arc<Upstream>> {
        self.by_name.get(name)
    }

    /// The upstream for calls that name none.
    pub fn default(&self) -> &Arc<Upstream> {
        &self.default
    }

    /// The upstream whose base URL has the origin of `url`; the default one before others.
    pub fn at(&self, url: &str) -> Option<&Arc<Upstream>> {
        let is_there = |upstream: &&Arc<Upstream>| {
            url.strip_prefix(upstream.origin.as_str())
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        Some(self.default()).filter(is_there).or_else(|| self.by_name.values().find(is_there))
    }

    /// Their names.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.by_name.keys().map(String::as_str)
    }
}

impl Upstream {
    fn new(name: &str, options: &Options, tls: &ClientConfig) -> Result<Self, String> {
        let built_in = BUILT_IN.iter().find(|(known, ..)| *known == name);
        let base_url = options
            .base_url
            .as_deref()
            .or(built_in.map(|(_, url, _)| *url))
            .ok_or("`base_url` is missing")?
            .trim_end_matches('/')
            .to_owned();
        let uri: Uri = base_url.parse().map_err(|_| "`base_url` is not a URL".to_owned())?;
        let (scheme, authority) = sound(&base_url, &uri)?;
        let knows_usage = built_in.is_some_and(|(_, _, knows)| *knows);
        let own_tls;
        let tls = match &options.ca_file {
            Some(path) => {
                own_tls = tls_config(Some(path))?;
                &own_tls
            }
            None => tls,
        };
        let connect = options.connect_timeout.map_or(Duration::from_secs(10), |period| period.0);
        Ok(Self {
            name: name.into(),
            provider: options.provider.as_deref().unwrap_or(name).into(),
            origin: format!("{scheme}://{authority}"),
            host: host_of(scheme, authority).into(),
            stream_usage: options.stream_usage.unwrap_or(if knows_usage {
                StreamUsage::Inject
            } else {
                StreamUsage::AsIs
            }),
            on_disconnect: options.on_disconnect.unwrap_or_default(),
            first_byte_timeout: options
                .first_byte_timeout
                .map_or(Duration::from_mins(10), |period| period.0),
            idle_timeout: options.idle_timeout.map_or(Duration::from_mins(5), |period| period.0),
            pool: pool(options.http2.unwrap_or_default(), connect, tls.clone()),
            tunnels: pool(Http2::Off, connect, tls.clone()),
            is_trusted: false,
            base_url,
        })
    }
}

/// The host, with its port unless that is 443.
fn host_of(scheme: &str, authority: &Authority) -> String {
    match authority.port_u16() {
        Some(443) if scheme == "https" => authority.host().to_owned(),
        None if scheme == "http" => format!("{}:80", authority.host()),
        _ => authority.as_str().to_owned(),
    }
}

/// Scheme and authority of a base URL that paths can be appended to. What is wrong is said without
/// quoting: the URL may hold a secret.
fn sound<'a>(base_url: &str, uri: &'a Uri) -> Result<(&'a str, &'a Authority), String> {
    let (Some(scheme), Some(authority)) = (uri.scheme_str(), uri.authority()) else {
        return Err("`base_url` needs a scheme and a host".to_owned());
    };
    if !matches!(scheme, "http" | "https") || authority.as_str().contains('@') {
        return Err("`base_url` must be http or https, without user and password".to_owned());
    }
    let named = authority.as_str().strip_prefix(authority.host()).unwrap_or_default();
    if authority.host().is_empty()
        || !named.is_empty() && matches!(authority.port_u16(), None | Some(0))
    {
        return Err("`base_url` needs a host, and a port of 1 to 65535 if any".to_owned());
    }
    if uri.query().is_some() || base_url.contains('#') {
        return Err("`base_url` must have neither query nor fragment".to_owned());
    }
    let is_dots = |segment: &str| {
        matches!(segment.to_ascii_lowercase().replace("%2e", ".").as_str(), "." | "..")
    };
    if uri.path().split('/').any(is_dots) {
        return Err("`base_url` must have no `.` or `..` segments".to_owned());
    }
    Ok((scheme, authority))
}

/// The certificate authorities compiled in, or only those of `ca_file`.
///
/// # Errors
/// When the file cannot be read or holds no certificate.
pub fn tls_config(ca_file: Option<&Path>) -> Result<ClientConfig, String> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?;
    let Some(path) = ca_file else {
        return Ok(builder.with_webpki_roots().with_no_client_auth());
    };
    let mut roots = RootCertStore::empty();
    let problem = |why: String| format!("ca_file {}: {why}", path.display());
    for certificate in
        CertificateDer::pem_file_iter(path).map_err(|error| problem(error.to_string()))?
    {
        let certificate = certificate.map_err(|error| problem(error.to_string()))?;
        roots.add(certificate).map_err(|error| problem(error.to_string()))?;
    }
    if roots.is_empty() {
        return Err(problem("holds no certificate".to_owned()));
    }
    Ok(builder.with_root_certificates(roots).with_no_client_auth())
}

fn pool(http2: Http2, connect_timeout: Duration, tls: ClientConfig) -> Pool {
    let mut tcp = HttpConnector::new();
    tcp.enforce_http(false);
    tcp.set_nodelay(true);
    tcp.set_keepalive(Some(Duration::from_mins(1)));
    let tcp = connection::connector(tcp);
    let https = HttpsConnectorBuilder::new().with_tls_config(tls).https_or_http();
    let https = match http2 {
        Http2::Auto => https.enable_all_versions().wrap_connector(tcp),
        Http2::PriorKnowledge => https.enable_http2().wrap_connector(tcp),
        Http2::Off => https.enable_http1().wrap_connector(tcp),
    };
    let (is_http2, patience) = (http2 == Http2::PriorKnowledge, Arc::<Patience>::default());
    let watcher = (!is_http2).then(|| Arc::clone(&patience));
    let connector = TimedConnector { inner: https, timeout: connect_timeout, watcher };
    Pool::new(connector, is_http2, patience)
}

/// Bounds the time that a connection may take, TLS included.
#[derive(Clone, Debug)]
pub struct TimedConnector {
    inner: HttpsConnector<Connector>,
    timeout: Duration,
    /// Who is told of ends, if connections are looked at before they are used again.
    watcher: Option<Arc<Patience>>,
}

/// No connection within the time allowed.
#[derive(Debug, thiserror::Error)]
#[error("no connection within {0:?}")]
pub struct ConnectTimeout(Duration);

/// Whether `error` comes from a connection that took too long.
pub fn is_timeout(error: &(dyn std::error::Error + 'static)) -> bool {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if error.is::<ConnectTimeout>() {
            return true;
        }
        cause = error.source();
    }
    false
}

type Stream = <HttpsConnector<Connector> as tower::Service<Uri>>::Response;
type BoxError = Box<dyn std::error::Error + Send + Sync>;

impl tower::Service<Uri> for TimedConnector {
    type Response = Stream;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Stream, BoxError>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let (connecting, timeout) = (self.inner.call(uri), self.timeout);
        let watcher = self.watcher.clone();
        Box::pin(async move {
            let connected = tokio::time::timeout(timeout, connecting).await;
            let mut stream = connected.map_err(|_| ConnectTimeout(timeout))??;
            if let Some(watcher) = watcher {
                connection::watch(&mut stream, watcher);
            }
            Ok(stream)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_configured_name_overrides_key_by_key() {
        let mut config = Config::default();
        config.upstreams.insert(
            "openai".into(),
            Options { base_url: Some("http://127.0.0.1:1/v1/".into()), ..Options::default() },
        );
        let upstreams = Upstreams::new(&config).unwrap();
        assert_eq!(upstreams.default().base_url, "http://127.0.0.1:1/v1");
        assert_eq!(upstreams.default().stream_usage, StreamUsage::Inject);
        assert_eq!(upstreams.named("groq").unwrap().stream_usage, StreamUsage::AsIs);
    }

    #[test]
    fn bad_base_urls_are_refused() {
        for url in [
            "ftp://h/v1",
            "https://u:p@h/v1",
            "no url",
            "/v1",
            "http://h:99999/v1",
            "http://h:0/v1",
            "http://h:/v1",
            "http://[::1]:70000/v1",
            "http://h/a/../v1",
            "http://h/%2E%2e/v1",
            "http://h/v1?key=x",
            "http://h/v1#x",
        ] {
            let mut config = Config::default();
            config
                .upstreams
                .insert("x".into(), Options { base_url: Some(url.into()), ..Options::default() });
            assert!(Upstreams::new(&config).is_err(), "{url}");
        }
        for url in ["http://h", "https://h:8443/a.b/v1/", "http://[::1]:80/v1", "http://[::1]/v1"] {
            let mut config = Config::default();
            config
                .upstreams
                .insert("x".into(), Options { base_url: Some(url.into()), ..Options::default() });
            assert!(Upstreams::new(&config).is_ok(), "{url}");
        }
    }
}
