//! What is in force: every key with its value and where it was set. Secrets never leave this file.

use super::Config;
use toml::Value;

/// Stands for a secret.
const MASK: &str = "•••";

/// One key of the configuration.
#[derive(Clone, Debug)]
pub struct Setting {
    /// Dotted path.
    pub key: String,
    /// Its value; secrets are masked.
    pub value: Value,
    /// `default`, or what set it: `calltap.toml:3`, a variable's name, `flag`.
    pub origin: String,
    /// Whether a change waits for a restart; others are taken over by a reload.
    pub restart: bool,
}

impl Config {
    /// Every key that is in force.
    pub fn effective(&self) -> Vec<Setting> {
        let origin = |key: &str| self.origins.get(key).map_or("default", String::as_str).to_owned();
        self.keys()
            .into_iter()
            .map(|(key, value)| Setting {
                origin: origin(&key),
                restart: needs_restart(&key),
                value,
                key,
            })
            .collect()
    }

    fn keys(&self) -> Vec<(String, Value)> {
        let text = |value: String| Value::String(value);
        let debug = |value: String| text(kebab(&value));
        let Self { server, auth, upstreams, capture, store, sinks, pricing, log, origins: _ } =
            self;
        let count = |count: usize| Value::Integer(i64::try_from(count).unwrap_or(i64::MAX));
        let mut keys: Vec<(String, Value)> = vec![
            ("server.listen".into(), text(server.listen.to_string())),
            ("server.max_body".into(), text(server.max_body.to_string())),
            ("server.shutdown_grace".into(), text(server.shutdown_grace.to_string())),
            ("server.header_timeout".into(), text(server.header_timeout.to_string())),
            ("server.max_connections".into(), count(server.max_connections)),
            ("server.allowed_origins".into(), server.allowed_origins.clone().into()),
            ("capture.content".into(), debug(format!("{:?}", capture.content))),
            ("capture.max_body".into(), text(capture.max_body.to_string())),
            ("capture.max_memory".into(), text(capture.max_memory.to_string())),
            ("capture.redact".into(), text(format!("{} rules", capture.redact.len()))),
            ("store.durability".into(), debug(format!("{:?}", store.durability))),
            ("store.journal_start".into(), store.journal_start.into()),
            ("store.keep_bodies".into(), text(store.keep_bodies.to_string())),
            ("store.keep_calls".into(), text(store.keep_calls.to_string())),
            ("store.max_size".into(), text(store.max_size.to_string())),
            ("log.format".into(), debug(format!("{:?}", log.format))),
            ("log.level".into(), text(log.level.clone())),
        ];
        let mut optional = |path: String, value: Option<String>| {
            keys.extend(value.map(|value| (path, text(value))));
        };
        let path = |path: &std::path::PathBuf| path.display().to_string();
        optional("server.admin_listen".into(), server.admin_listen.map(|at| at.to_string()));
        optional("auth.admin_token".into(), auth.admin_token.as_ref().map(|_| MASK.to_owned()));
        optional("store.dir".into(), store.dir.as_ref().map(path));
        optional("pricing.dir".into(), pricing.dir.as_ref().map(path));
        for (at, key) in auth.keys.iter().enumerate() {
            optional(format!("auth.keys[{at}].name"), Some(key.name.clone()));
        }
        for (name, upstream) in upstreams {
            let mut optional = |key: &str, value: Option<String>| {
                optional(format!("upstreams.{name}.{key}"), value);
            };
            optional("base_url", upstream.base_url.as_deref().map(without_userinfo));
            optional("provider", upstream.provider.clone());
            optional("default", upstream.default.map(|flag| flag.to_string()));
            optional(
                "stream_usage",
                upstream.stream_usage.map(|usage| kebab(&format!("{usage:?}"))),
            );
            optional("on_disconnect", upstream.on_disconnect.map(|end| kebab(&format!("{end:?}"))));
            optional("http2", upstream.http2.map(|http2| kebab(&format!("{http2:?}"))));
            optional("ca_file", upstream.ca_file.as_ref().map(path));
            for (key, period) in [
                ("connect_timeout", upstream.connect_timeout),
                ("first_byte_timeout", upstream.first_byte_timeout),
                ("idle_timeout", upstream.idle_timeout),
            ] {
                optional(key, period.map(|period| period.to_string()));
            }
        }
        for (name, sink) in sinks {
            for (key, value) in sink {
                // Which of a sink's own keys are secret is its kind's to know: only its type is shown.
                let shown = if key == "type" { value.as_str().unwrap_or_default() } else { MASK };
                optional(format!("sinks.{name}.{key}"), Some(shown.to_owned()));
            }
        }
        keys
    }
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
        Some((_, host)) => format!("{scheme}://{MASK}@{host}{path}"),
        None => url.to_owned(),
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
            let setting = settings.iter().find(|setting| setting.key == key).unwrap();
            (setting.value.to_string(), setting.origin.clone())
        };
        assert_eq!(shown("auth.admin_token"), ("\"•••\"".to_owned(), "calltap.toml:2".to_owned()));
        assert_eq!(shown("upstreams.own.base_url").0, "\"https://•••@host/v1\"");
        assert_eq!(shown("sinks.a.type").0, "\"athina\"");
        assert_eq!(shown("server.max_body").1, "default");
        assert!(!format!("{settings:?}").contains("planted"));
    }
}
