//! What is in force: every key with its value and where it was set. Secrets never leave this file.

use super::{Config, Key, Period, Redaction, Upstream};
use std::path::PathBuf;
use toml::{Table, Value as Toml};

/// One key of the configuration.
#[derive(Clone, Debug)]
pub struct Setting {
    /// Names from the section to the key.
    pub path: Vec<String>,
    /// Its value; secrets are masked.
    pub value: Toml,
    /// `default`, or what set it: `calltap.toml:3`, a variable's name, `flag`.
    pub origin: String,
    /// Whether a change waits for a restart; others are taken over by a reload.
    pub restart: bool,
}

impl Setting {
    /// The dotted path.
    pub fn key(&self) -> String {
        self.path.join(".")
    }
}

impl Config {
    /// Every key that is in force.
    pub fn effective(&self) -> Vec<Setting> {
        keys(self)
            .into_iter()
            .map(|(path, value)| {
                let key = path.join(".");
                Setting {
                    origin: self.origins.get(&key).map_or("default", String::as_str).to_owned(),
                    restart: needs_restart(&key),
                    path: path.into_iter().map(str::to_owned).collect(),
                    value,
                }
            })
            .collect()
    }
}

/// Stands where a secret would.
const MASKED: &str = "•••";

type Keys<'a> = Vec<(Vec<&'a str>, Toml)>;

/// Every key with its value; secrets are masked.
fn keys(config: &Config) -> Keys<'_> {
    let Config { server, auth, upstreams, capture, store, sinks, pricing, log, .. } = config;
    let mut keys: Keys<'_> = Vec::new();
    let mut put = |section, key, value: Option<Toml>| {
        keys.extend(value.map(|value| (vec![section, key], value)));
    };
    let text = |value: &dyn std::fmt::Display| Some(Toml::from(value.to_string()));
    let named = |value: &dyn std::fmt::Debug| Some(Toml::from(kebab(&format!("{value:?}"))));
    let path = |dir: &Option<PathBuf>| dir.as_ref().map(|dir| dir.display().to_string().into());
    put("server", "listen", text(&server.listen));
    put("server", "admin_listen", server.admin_listen.map(|address| address.to_string().into()));
    put("server", "max_body", text(&server.max_body));
    put("server", "shutdown_grace", text(&server.shutdown_grace));
    put("server", "header_timeout", text(&server.header_timeout));
    put("server", "max_connections", i64::try_from(server.max_connections).ok().map(Toml::from));
    put("server", "allowed_origins", Some(server.allowed_origins.clone().into()));
    put("auth", "keys", Some(auth.keys.iter().map(key).collect::<Vec<_>>().into()));
    put("auth", "admin_token", auth.admin_token.as_ref().map(|_| MASKED.into()));
    put("capture", "content", named(&capture.content));
    put("capture", "max_body", text(&capture.max_body));
    put("capture", "max_memory", text(&capture.max_memory));
    put("capture", "redact", Some(capture.redact.iter().map(rule).collect::<Vec<_>>().into()));
    put("store", "dir", path(&store.dir));
    put("store", "durability", named(&store.durability));
    put("store", "journal_start", Some(store.journal_start.into()));
    put("store", "keep_bodies", text(&store.keep_bodies));
    put("store", "keep_calls", text(&store.keep_calls));
    put("store", "max_size", text(&store.max_size));
    put("pricing", "dir", path(&pricing.dir));
    put("log", "format", named(&log.format));
    put("log", "level", text(&log.level));
    for (name, options) in upstreams {
        let options = upstream(options).into_iter();
        keys.extend(options.map(|(key, value)| (vec!["upstreams", name.as_str(), key], value)));
    }
    for (name, sink) in sinks {
        // Nobody knows here which keys of a sink are secret: only its type is shown.
        let shown =
            |key: &str, value: &Toml| if key == "type" { value.clone() } else { MASKED.into() };
        let options = sink.0.iter().map(|(key, value)| (key.as_str(), shown(key, value)));
        keys.extend(options.map(|(key, value)| (vec!["sinks", name.as_str(), key], value)));
    }
    keys
}

fn upstream(options: &Upstream) -> Vec<(&'static str, Toml)> {
    let period = |period: Option<Period>| period.map(|period| Toml::from(period.to_string()));
    let all = [
        ("base_url", options.base_url.as_deref().map(|url| without_userinfo(url).into())),
        ("provider", options.provider.clone().map(Toml::from)),
        ("default", options.default.map(Toml::from)),
        ("stream_usage", options.stream_usage.map(|usage| kebab(&format!("{usage:?}")).into())),
        ("on_disconnect", options.on_disconnect.map(|then| kebab(&format!("{then:?}")).into())),
        ("connect_timeout", period(options.connect_timeout)),
        ("first_byte_timeout", period(options.first_byte_timeout)),
        ("idle_timeout", period(options.idle_timeout)),
        ("http2", options.http2.map(|http2| kebab(&format!("{http2:?}")).into())),
        ("ca_file", options.ca_file.as_ref().map(|file| file.display().to_string().into())),
    ];
    all.into_iter().filter_map(|(key, value)| Some((key, value?))).collect()
}

fn key(key: &Key) -> Toml {
    let defaults = key.defaults.iter().map(|(name, value)| (name.clone(), value.clone().into()));
    let mut table = Table::new();
    table.insert("name".to_owned(), key.name.clone().into());
    table.insert("sha256".to_owned(), key.sha256.clone().into());
    table.extend(key.upstream_key.as_ref().map(|_| ("upstream_key".to_owned(), MASKED.into())));
    table.insert("defaults".to_owned(), Toml::Table(defaults.collect()));
    for (name, value) in [
        ("upstreams", key.upstreams.clone().map(Toml::from)),
        ("max_parallel_requests", key.max_parallel_requests.map(Toml::from)),
        ("requests_per_minute", key.requests_per_minute.map(Toml::from)),
        ("budget_per_day", key.budget_per_day.map(|budget| budget.to_string().into())),
    ] {
        table.extend(value.map(|value| (name.to_owned(), value)));
    }
    Toml::Table(table)
}

fn rule(rule: &Redaction) -> Toml {
    match rule {
        Redaction::Preset(preset) => kebab(&format!("{preset:?}")).into(),
        Redaction::Custom { name, regex } => Toml::Table(Table::from_iter([
            ("name".to_owned(), name.clone().into()),
            ("regex".to_owned(), regex.clone().into()),
        ])),
    }
}

/// `AsIs` → `as-is`.
fn kebab(name: &str) -> String {
    let mut out = String::new();
    for c in name.chars() {
        if c.is_ascii_uppercase() && !out.is_empty() {
            out.push('-');
        }
        out.push(c.to_ascii_lowercase());
    }
    out
}

/// Keys that are read once, at the start.
fn needs_restart(key: &str) -> bool {
    let server = ["listen", "admin_listen", "shutdown_grace", "header_timeout", "max_connections"];
    key.starts_with("store.")
        || key.starts_with("log.")
        || key.strip_prefix("server.").is_some_and(|key| server.contains(&key))
}

/// A URL without name and password.
pub fn without_userinfo(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else { return url.to_owned() };
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    match authority.rsplit_once('@') {
        Some((_, host)) => format!("{scheme}://{MASKED}@{host}{path}"),
        None => url.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_masked_and_origins_told() {
        let mut config: Config = toml::from_str(
            "[auth]\nadmin_token = \"planted-token\"\n\
             [upstreams.own]\nbase_url = \"https://me:planted@host/v1\"\n\
             [sinks.a]\ntype = \"athina\"\napi_key = \"planted-key\"\n",
        )
        .unwrap();
        config.origins.insert("auth.admin_token".to_owned(), "calltap.toml:2".to_owned());
        let settings = config.effective();
        let shown = |key: &str| {
            let setting = settings.iter().find(|setting| setting.key() == key).unwrap();
            (setting.value.to_string(), setting.origin.clone())
        };
        assert_eq!(shown("auth.admin_token"), ("\"•••\"".to_owned(), "calltap.toml:2".to_owned()));
        assert_eq!(shown("upstreams.own.base_url").0, "\"https://•••@host/v1\"");
        assert_eq!(shown("sinks.a.type").0, "\"athina\"");
        assert_eq!(shown("server.max_body").1, "default");
        assert!(!format!("{settings:?}").contains("planted"));
    }
}
