//! `calltap config`: check, show, schema, init.

use super::{
    Common, out,
    out::{Exit, Stop},
};
use crate::{
    config::{Config, FILE},
    delivery,
};
use std::{fs::OpenOptions, io::Write, path::PathBuf, time::Duration};
use tokio::net::TcpStream;

/// What to do with the configuration.
#[derive(Clone, Debug, clap::Subcommand)]
pub enum Command {
    /// Say everything that is wrong with it; exit 78 when something is
    Check {
        /// Also reach the default and every configured upstream, and ask every sink whether it takes the key
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
        Command::Check { live } => {
            let loaded = common.load(Vec::new())?;
            let file = loaded.file.map_or("defaults".to_owned(), |file| file.display().to_string());
            out::line(&format!("{file}: ok"))?;
            if *live { live_check(&loaded.config) } else { Ok(Exit::Ok) }
        }
        Command::Show => {
            let loaded = common.load(Vec::new())?;
            for (path, value) in effective(&loaded.config) {
                let origin = loaded.origins.get(&path).map_or("default", String::as_str);
                out::line(&format!("{:<60} # {origin}", format!("{path} = {value}")))?;
            }
            Ok(Exit::Ok)
        }
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

/// Every key with its value as TOML; secrets are masked.
fn effective(config: &Config) -> Vec<(String, String)> {
    let text = |value: String| toml::Value::String(value).to_string();
    let debug = |value: String| text(kebab(&value));
    let Config { server, auth, upstreams, capture, store, sinks, pricing, log, .. } = config;
    let mut keys = vec![
        ("server.listen".to_owned(), text(server.listen.to_string())),
        ("server.max_body".into(), text(server.max_body.to_string())),
        ("server.shutdown_grace".into(), text(server.shutdown_grace.to_string())),
        ("server.header_timeout".into(), text(server.header_timeout.to_string())),
        ("server.max_connections".into(), server.max_connections.to_string()),
        (
            "server.allowed_origins".into(),
            toml::Value::from(server.allowed_origins.clone()).to_string(),
        ),
        ("capture.content".into(), debug(format!("{:?}", capture.content))),
        ("capture.max_body".into(), text(capture.max_body.to_string())),
        ("capture.max_memory".into(), text(capture.max_memory.to_string())),
        ("capture.redact".into(), format!("{} rules", capture.redact.len())),
        ("store.durability".into(), debug(format!("{:?}", store.durability))),
        ("store.journal_start".into(), store.journal_start.to_string()),
        ("store.keep_bodies".into(), text(store.keep_bodies.to_string())),
        ("store.keep_calls".into(), text(store.keep_calls.to_string())),
        ("store.max_size".into(), text(store.max_size.to_string())),
        ("log.format".into(), debug(format!("{:?}", log.format))),
        ("log.level".into(), text(log.level.clone())),
    ];
    let mut optional = |path: String, value: Option<String>| {
        keys.extend(value.map(|value| (path, text(value))));
    };
    optional("server.admin_listen".into(), server.admin_listen.map(|address| address.to_string()));
    optional("auth.admin_token".into(), auth.admin_token.as_ref().map(|_| "•••".to_owned()));
    optional("store.dir".into(), store.dir.as_ref().map(|dir| dir.display().to_string()));
    optional("pricing.dir".into(), pricing.dir.as_ref().map(|dir| dir.display().to_string()));
    for (name, upstream) in upstreams {
        optional(format!("upstreams.{name}.base_url"), upstream.base_url.clone());
        optional(format!("upstreams.{name}.provider"), upstream.provider.clone());
        optional(
            format!("upstreams.{name}.default"),
            upstream.default.map(|flag| flag.to_string()),
        );
        optional(
            format!("upstreams.{name}.stream_usage"),
            upstream.stream_usage.map(|usage| kebab(&format!("{usage:?}"))),
        );
        optional(
            format!("upstreams.{name}.on_disconnect"),
            upstream.on_disconnect.map(|action| kebab(&format!("{action:?}"))),
        );
        for (key, period) in [
            ("connect_timeout", upstream.connect_timeout),
            ("first_byte_timeout", upstream.first_byte_timeout),
            ("idle_timeout", upstream.idle_timeout),
        ] {
            optional(format!("upstreams.{name}.{key}"), period.map(|period| period.to_string()));
        }
    }
    for (at, key) in auth.keys.iter().enumerate() {
        optional(format!("auth.keys[{at}].name"), Some(key.name.clone()));
    }
    for (name, sink) in sinks {
        for (key, value) in &sink.0 {
            // Nobody knows here which keys of a sink are secret: only its type is shown.
            let shown =
                if key == "type" { value.as_str().unwrap_or_default() } else { "•••" };
            optional(format!("sinks.{name}.{key}"), Some(shown.to_owned()));
        }
    }
    keys
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

fn live_check(config: &Config) -> Result<Exit, Stop> {
    let upstreams = reach(config)?;
    let sinks = ask_sinks(config)?;
    Ok(if upstreams == Exit::Ok { sinks } else { upstreams })
}

/// Asks every sink whether it takes the key, without leaving a record where the vendor allows that.
fn ask_sinks(config: &Config) -> Result<Exit, Stop> {
    let plans = delivery::plans(config).unwrap_or_default();
    let runtime = super::runtime()?;
    let mut exit = Exit::Ok;
    for plan in plans.iter().filter(|plan| plan.options.enabled) {
        let report = runtime.block_on(delivery::probe(plan));
        if !report.ok {
            exit = Exit::Unavailable;
        }
        let mark = if report.ok { "✓" } else { "✗" };
        let message = out::safe(&report.message, false).into_owned();
        out::line(&format!("sink {} ({}) {mark} {message}", plan.name, plan.target()))?;
    }
    Ok(exit)
}

/// Connects to the default and every configured upstream; no request is sent.
fn reach(config: &Config) -> Result<Exit, Stop> {
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
        let verdict = match connected {
            Ok(Ok(_)) => "✓ connects".to_owned(),
            Ok(Err(error)) => format!("✗ {error}"),
            Err(_) => "✗ no connection within 5 s".to_owned(),
        };
        if verdict.starts_with('✗') {
            exit = Exit::Unavailable;
        }
        out::line(&format!("upstream {} ({address}) {verdict}", upstream.name))?;
    }
    Ok(exit)
}

#[cfg(test)]
mod tests {
    use super::*;

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
