//! The configuration: plain data, every key optional (SPEC §9). Loading it is `load`'s.

mod effective;
mod faults;
mod load;
mod sink;
mod units;

pub use effective::{Setting, without_userinfo};
pub use faults::{Fault, Faults};
pub use load::{FILE, Loaded, Sources, load};
pub use sink::{Environment, Files, Sink, SinkTable, Start};
pub use units::{ByteSize, Dollars, Period};

use crate::model::Secret;
use schemars::JsonSchema;
use serde::Deserialize;
use std::{collections::BTreeMap, net::SocketAddr, path::PathBuf};

/// Everything that `calltap.toml` can say.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Listeners and limits.
    pub server: Server,
    /// Who may use calltap.
    pub auth: Auth,
    /// Upstreams by name; a built-in name is overridden key by key.
    pub upstreams: BTreeMap<String, Upstream>,
    /// What is kept of a call.
    pub capture: Capture,
    /// The data directory.
    pub store: Store,
    /// Sinks by name; each `type` reads its own keys.
    #[schemars(with = "BTreeMap<String, BTreeMap<String, serde_json::Value>>")]
    pub sinks: BTreeMap<String, SinkTable>,
    /// Variables that vendors' own clients read; not part of the file.
    #[serde(skip)]
    pub environment: Environment,
    /// Prices.
    pub pricing: Pricing,
    /// calltap's own log.
    pub log: Log,
    /// Where each key that is no default was set: `calltap.toml:3`, a variable's name, `flag`.
    #[serde(skip)]
    pub origins: BTreeMap<String, String>,
}

/// `[server]`
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Server {
    /// Where calls are accepted. An address that is not loopback is refused without `auth.keys`.
    pub listen: SocketAddr,
    /// Moves dashboard, API and operations to an address of their own.
    pub admin_listen: Option<SocketAddr>,
    /// Largest request body.
    pub max_body: ByteSize,
    /// Longest wait for running calls after SIGTERM.
    pub shutdown_grace: Period,
    /// Longest wait for a request head.
    pub header_timeout: Period,
    /// Most connections at once.
    pub max_connections: usize,
    /// Origins that may call proxied routes from a browser.
    pub allowed_origins: Vec<String>,
}

impl Default for Server {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 4777)),
            admin_listen: None,
            max_body: ByteSize::mib(64),
            shutdown_grace: Period::seconds(30),
            header_timeout: Period::seconds(10),
            max_connections: 20_000,
            allowed_origins: Vec::new(),
        }
    }
}

/// `[auth]`
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Auth {
    /// calltap's own keys. With none, every credential passes through untouched.
    pub keys: Vec<Key>,
    /// Opens dashboard and API.
    #[schemars(with = "Option<String>")]
    pub admin_token: Option<Secret>,
}

/// One of `auth.keys`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Key {
    /// Shown in records as `client.key`.
    pub name: String,
    /// Lower-case hex SHA-256 of the key; the key itself is nowhere.
    pub sha256: String,
    /// Credential put in place of the client's.
    #[schemars(with = "Option<String>")]
    #[serde(default)]
    pub upstream_key: Option<Secret>,
    /// Metadata for calls that bring none: `environment`, `customer`, …
    #[serde(default)]
    pub defaults: BTreeMap<String, String>,
    /// Upstreams that it may call; all of them where not given.
    #[serde(default)]
    pub upstreams: Option<Vec<String>>,
    /// Most calls that run at once.
    #[serde(default)]
    pub max_parallel_requests: Option<u32>,
    /// Most calls that begin within any 60 s.
    #[serde(default)]
    pub requests_per_minute: Option<u32>,
    /// What its calls may cost in a UTC day.
    #[serde(default)]
    pub budget_per_day: Option<Dollars>,
}

/// `[upstreams.<name>]`; what is not given comes from the built-in of that name, else the default.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Upstream {
    /// Base URL with version, such as `https://api.openai.com/v1`.
    pub base_url: Option<String>,
    /// Provider slug for prices and records; the upstream's name where not given.
    pub provider: Option<String>,
    /// Takes calls that name no upstream.
    pub default: Option<bool>,
    /// Whether stream usage is asked for where the client did not.
    pub stream_usage: Option<StreamUsage>,
    /// What happens to the upstream call when the client goes away.
    pub on_disconnect: Option<OnDisconnect>,
    /// Longest wait for a connection (default 10s).
    pub connect_timeout: Option<Period>,
    /// Longest wait for the head of the answer (default 10m).
    pub first_byte_timeout: Option<Period>,
    /// Longest silence inside the answer (default 5m).
    pub idle_timeout: Option<Period>,
    /// How HTTP/2 is chosen (default `auto`: by ALPN over TLS).
    pub http2: Option<Http2>,
    /// PEM file with the only certificate authorities to trust for this upstream.
    pub ca_file: Option<PathBuf>,
}

/// `stream_usage`
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum StreamUsage {
    /// Ask, and cut what that caused out of the answer again.
    Inject,
    /// Leave requests alone.
    AsIs,
}

/// `on_disconnect`
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum OnDisconnect {
    /// Close the upstream call at once.
    #[default]
    Cancel,
    /// Read the upstream's answer to its end.
    Drain,
}

/// `http2`
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Http2 {
    /// By ALPN over TLS, HTTP/1.1 otherwise.
    #[default]
    Auto,
    /// HTTP/2 from the first byte, also without TLS.
    PriorKnowledge,
    /// HTTP/1.1 only.
    Off,
}

/// `[capture]`
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Capture {
    /// Whether bodies are kept.
    pub content: Content,
    /// Bytes kept of one body; hash and size cover the rest.
    pub max_body: ByteSize,
    /// Bytes held in memory for all calls together.
    pub max_memory: ByteSize,
    /// What is masked before anything is stored.
    pub redact: Vec<Redaction>,
}

impl Default for Capture {
    fn default() -> Self {
        Self {
            content: Content::Full,
            max_body: ByteSize::mib(16),
            max_memory: ByteSize::mib(256),
            redact: vec![Redaction::Preset(RedactionPreset::Secrets)],
        }
    }
}

/// `capture.content`
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Content {
    /// Bodies are kept.
    #[default]
    Full,
    /// No body, and nothing taken from one.
    Metadata,
}

/// One of `capture.redact`: a preset's name or `{ name, regex }`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Redaction {
    /// A built-in set of patterns.
    Preset(RedactionPreset),
    /// A pattern of one's own.
    Custom {
        /// Stands in the mark that replaces a match.
        name: String,
        /// Regular expression over the body's bytes.
        regex: String,
    },
}

/// Built-in sets of patterns.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum RedactionPreset {
    /// API keys, tokens, private keys.
    Secrets,
    /// E-mail addresses.
    Emails,
    /// Payment card numbers.
    Cards,
}

/// `[store]`
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Store {
    /// Data directory; `--data-dir` and `CALLTAP_DATA_DIR` win over it.
    pub dir: Option<PathBuf>,
    /// When a call's last byte may reach the client.
    pub durability: Durability,
    /// Whether a call is known to the store before its end.
    pub journal_start: bool,
    /// How long bodies are kept.
    pub keep_bodies: Period,
    /// How long calls are kept.
    pub keep_calls: Period,
    /// Largest size of the database.
    pub max_size: ByteSize,
    /// Whether the data directory may be on a network's file system.
    pub allow_network: bool,
}

impl Default for Store {
    fn default() -> Self {
        Self {
            dir: None,
            durability: Durability::Group,
            journal_start: true,
            keep_bodies: Period::days(30),
            keep_calls: Period::days(365),
            max_size: ByteSize::gib(10),
            allow_network: false,
        }
    }
}

/// `store.durability`
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Durability {
    /// Committed within 100 ms of the end of the call.
    #[default]
    Group,
    /// Committed before the client has the last byte.
    Strict,
}

/// `[pricing]`
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Pricing {
    /// Directory of price files that win over the embedded ones.
    pub dir: Option<PathBuf>,
}

/// `[log]`
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Log {
    /// Text on a terminal, JSON elsewhere, or always one of them.
    pub format: LogFormat,
    /// Filter such as `info` or `calltap=debug`.
    pub level: String,
}

impl Default for Log {
    fn default() -> Self {
        Self { format: LogFormat::Auto, level: "info".to_owned() }
    }
}

/// `log.format`
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum LogFormat {
    /// Text on a terminal, JSON elsewhere.
    #[default]
    Auto,
    /// Always text.
    Text,
    /// Always one JSON object a line.
    Json,
}
