//! `calltap config`: check, show, schema, init.

use super::{
    Common, out,
    out::{Exit, Stop},
};
use crate::{
    config::{Config, FILE, Setting},
    delivery,
};
use serde_json::{Map, Value as Json, json};
use std::{fs::OpenOptions, io::Write, path::PathBuf, time::Duration};
use tokio::net::TcpStream;
use toml::Value as Toml;

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
    let plans = delivery::plans(&loaded.config).unwrap_or_default();
    let warnings = plans
        .iter()
        .filter_map(|plan| plan.warning().map(|warning| format!("sinks.{}: {warning}", plan.name)));
    let warnings: Vec<String> = warnings.collect();
    if common.json {
        out::line(&json!({ "ok": true, "file": file, "warnings": warnings }).to_string())?;
    } else {
        for warning in &warnings {
            out::say(&format!("warning: {warning}"));
        }
        out::line(&format!("{}: ok", file.as_deref().unwrap_or("defaults")))?;
    }
    if !live {
        return Ok(Exit::Ok);
    }
    let upstreams = reach(common, &loaded.config)?;
    let sinks = super::sinks::probe(common, &loaded.config)?;
    Ok(if upstreams == Exit::Ok { sinks } else { upstreams })
}

/// What is in force, as TOML with the origins as comments, or as JSON.
fn show(common: &Common) -> Result<Exit, Stop> {
    let settings = common.load(Vec::new())?.config.effective();
    if common.json {
        let shown = |setting: Setting| {
            (setting.key(), json!({ "value": setting.value, "origin": setting.origin }))
        };
        let keys: Map<String, Json> = settings.into_iter().map(shown).collect();
        out::line(&Json::Object(keys).to_string())?;
        return Ok(Exit::Ok);
    }
    for Setting { path, value, origin, .. } in settings {
        let line = format!("{} = {value}", dotted(&path));
        out::line(&format!("{line:<60} # {origin}"))?;
    }
    Ok(Exit::Ok)
}

/// A key as TOML writes it: names that are not plain stand in quotes.
fn dotted(path: &[String]) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
    let names = path.iter().map(|name| {
        if !name.is_empty() && name.chars().all(is_plain) {
            name.clone()
        } else {
            Toml::from(name.as_str()).to_string()
        }
    });
    names.collect::<Vec<_>>().join(".")
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
            keys = [{ name = "ci", sha256 = "ab", upstream_key = "hush", defaults = { env = "ci" }, upstreams = ["openai"],
                max_parallel_requests = 20, requests_per_minute = 600, budget_per_day = "2.50 USD" }]
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
        let shown: String = config
            .effective()
            .into_iter()
            .map(|Setting { path, value, .. }| format!("{} = {value} # origin\n", dotted(&path)))
            .collect();
        assert!(!shown.contains("hush"), "{shown}");
        let again: Config = toml::from_str(&shown).unwrap();
        let masked: Config = toml::from_str(&text.replace("hush", "•••")).unwrap();
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
