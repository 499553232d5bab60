//! `calltap config`: check, show, schema, init.

use super::{
    Common, out,
    out::{Exit, Stop},
};
use crate::config::{Config, FILE, Key, Period, Redaction, Upstream};
use serde_json::{Map, Value as Json, json};
use std::{fs::OpenOptions, io::Write, path::PathBuf, time::Duration};
use tokio::net::TcpStream;
use toml::{Table, Value as Toml};

/// What to do with the configuration.
#[derive(Clone, Debug, clap::Subcommand)]
pub enum Command {
    /// Say everything that is wrong with it; exit 78 when something is
    Check {
        /// Also reach the default and every configured upstream
        #[arg(long, env = "CALLTAP_LIVE", value_parser = clap::builder::FalseyValueParser::new())]
        live: bool,
    },
    /// What is in force, and where each value that is no default comes from
    Show,
    /// JSON Schema, for editors
    Schema,
    /// Write a commented example
    Init {
        /// Where to
        #[arg(default_value = FILE)]
        path: PathBuf,
    },
}

/// A commented example: every key, at its default.
const EXAMPLE: &str = include_str!("example.toml");

/// Runs one of them.
///
/// # Errors
/// When the configuration is wrong.
pub fn run(common: &Common, command: &Command) -> Result<Exit, Stop> {
    match command {
        Command::Check { live } => check(common, *live),
        Command::Show => show(common),
        Command::Schema => {
            let schema = schemars::schema_for!(Config);
            let text = serde_json::to_string_pretty(&schema)
                .map_err(|error| Stop::new(Exit::Failed, error))?;
            out::line(&text)?;
            Ok(Exit::Ok)
        }
        Command::Init { path } => {
            let mut file =
                OpenOptions::new().write(true).create_new(true).open(path).map_err(|error| {
                    Stop::new(Exit::Store, format!("{}: {error}", path.display()))
                })?;
            file.write_all(EXAMPLE.as_bytes())?;
            out::say(&format!("{} written", path.display()));
            Ok(Exit::Ok)
        }
    }
}

/// Says whether the configuration is sound, and with `live` whether its upstreams can be reached.
fn check(common: &Common, live: bool) -> Result<Exit, Stop> {
    let loaded = match common.load(Vec::new()) {
        Ok(loaded) => loaded,
        Err(stop) if common.json => {
            out::line(&json!({ "ok": false, "faults": stop.message }).to_string())?;
            return Ok(stop.exit);
        }
        Err(stop) => return Err(stop),
    };
    let file = loaded.file.map(|file| file.display().to_string());
    if common.json {
        out::line(&json!({ "ok": true, "file": file }).to_string())?;
    } else {
        out::line(&format!("{}: ok", file.as_deref().unwrap_or("defaults")))?;
    }
    if live { reach(common, &loaded.config) } else { Ok(Exit::Ok) }
}

/// What is in force, as TOML with the origins as comments, or as JSON.
fn show(common: &Common) -> Result<Exit, Stop> {
    let loaded = common.load(Vec::new())?;
    let origin = |path: &str| loaded.origins.get(path).map_or("default", String::as_str);
    if common.json {
        let keys: Map<String, Json> = effective(&loaded.config)
            .into_iter()
            .map(|(path, value)| {
                let path = path.join(".");
                let origin = origin(&path);
                (path, json!({ "value": value, "origin": origin }))
            })
            .collect();
        out::line(&Json::Object(keys).to_string())?;
        return Ok(Exit::Ok);
    }
    for (path, value) in effective(&loaded.config) {
        let line = format!("{} = {value}", dotted(&path));
        out::line(&format!("{line:<60} # {}", origin(&path.join("."))))?;
    }
    Ok(Exit::Ok)
}

/// A key as TOML writes it: names that are not plain stand in quotes.
fn dotted(path: &[&str]) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
    let names = path.iter().map(|name| {
        if !name.is_empty() && name.chars().all(is_plain) {
            (*name).to_owned()
        } else {
            Toml::from(*name).to_string()
        }
    });
    names.collect::<Vec<_>>().join(".")
}

/// Stands where a secret would.
const MASKED: &str = "•••";

type Keys<'a> = Vec<(Vec<&'a str>, Toml)>;

/// Every key with its value; secrets are masked.
fn effective(config: &Config) -> Keys<'_> {
    let Config { server, auth, upstreams, capture, store, sinks, pricing, log } = config;
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
        let options = sink.iter().map(|(key, value)| (key.as_str(), shown(key, value)));
        keys.extend(options.map(|(key, value)| (vec!["sinks", name.as_str(), key], value)));
    }
    keys
}

fn upstream(options: &Upstream) -> Vec<(&'static str, Toml)> {
    let period = |period: Option<Period>| period.map(|period| Toml::from(period.to_string()));
    let all = [
        ("base_url", options.base_url.clone().map(Toml::from)),
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

/// Connects to the default and every configured upstream; no request is sent.
fn reach(common: &Common, config: &Config) -> Result<Exit, Stop> {
    let upstreams =
        crate::proxy::Upstreams::new(config).map_err(|why| Stop::new(Exit::Config, why))?;
    let mut names: Vec<&str> = config.upstreams.keys().map(String::as_str).collect();
    let default = upstreams.default().name.to_string();
    if !names.contains(&default.as_str()) {
        names.push(&default);
    }
    let runtime = super::runtime()?;
    let mut exit = Exit::Ok;
    for upstream in names.iter().filter_map(|name| upstreams.named(name)) {
        let port = if upstream.origin.starts_with("https") { 443 } else { 80 };
        let authority = upstream.origin.split("://").nth(1).unwrap_or_default();
        let has_port = authority.rsplit(']').next().is_some_and(|end| end.contains(':'));
        let address = if has_port { authority.to_owned() } else { format!("{authority}:{port}") };
        let connected = runtime.block_on(async {
            tokio::time::timeout(Duration::from_secs(5), TcpStream::connect(&address)).await
        });
        let trouble = match connected {
            Ok(Ok(_)) => None,
            Ok(Err(error)) => Some(error.to_string()),
            Err(_) => Some("no connection within 5 s".to_owned()),
        };
        if trouble.is_some() {
            exit = Exit::Unavailable;
        }
        let name = &*upstream.name;
        out::line(&match &trouble {
            _ if common.json => {
                json!({ "upstream": name, "address": address, "trouble": trouble }).to_string()
            }
            None => format!("upstream {name} ({address}) ✓ connects"),
            Some(trouble) => format!("upstream {name} ({address}) ✗ {trouble}"),
        })?;
    }
    Ok(exit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_shown_is_the_configuration_but_for_its_secrets() {
        let text = r#"
            [auth]
            admin_token = "hush"
            keys = [{ name = "ci", sha256 = "ab", upstream_key = "hush", defaults = { env = "ci" } }]
            [capture]
            redact = ["emails", { name = "ticket", regex = "T-[0-9]+" }]
            [upstreams."a.b"]
            base_url = "http://h/v1"
            default = true
            http2 = "prior-knowledge"
            idle_timeout = "90s"
            [sinks.x]
            type = "athina"
            api_key = "hush"
        "#;
        let config: Config = toml::from_str(text).unwrap();
        let shown: String = effective(&config)
            .into_iter()
            .map(|(path, value)| format!("{} = {value} # origin\n", dotted(&path)))
            .collect();
        assert!(!shown.contains("hush"), "{shown}");
        let again: Config = toml::from_str(&shown).unwrap();
        let masked: Config = toml::from_str(&text.replace("hush", MASKED)).unwrap();
        assert_eq!(format!("{again:?}"), format!("{masked:?}"));
    }

    #[test]
    fn the_example_is_the_default_and_names_every_key() {
        let plain: Config = toml::from_str(EXAMPLE).unwrap();
        assert_eq!(format!("{plain:?}"), format!("{:?}", Config::default()));
        let schema = serde_json::to_value(schemars::schema_for!(Config)).unwrap();
        let mut missing = Vec::new();
        let definitions = schema["$defs"].as_object().unwrap();
        for (name, definition) in definitions {
            for key in
                definition["properties"].as_object().into_iter().flatten().map(|(key, _)| key)
            {
                if !EXAMPLE.contains(&format!("{key} =")) {
                    missing.push(format!("{name}.{key}"));
                }
            }
        }
        assert!(missing.is_empty(), "{missing:?}");
    }
}
