//! `calltap config`: check, show, schema, init.

use super::{
    Common, out,
    out::{Exit, Stop},
};
use crate::config::{Config, FILE, Setting};
use std::{fs::OpenOptions, io::Write, path::PathBuf, time::Duration};
use tokio::net::TcpStream;

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
        Command::Check { live } => {
            let loaded = common.load(Vec::new())?;
            let file = loaded.file.map_or("defaults".to_owned(), |file| file.display().to_string());
            out::line(&format!("{file}: ok"))?;
            if *live { reach(&loaded.config) } else { Ok(Exit::Ok) }
        }
        Command::Show => {
            let loaded = common.load(Vec::new())?;
            for Setting { key, value, origin, .. } in loaded.config.effective() {
                out::line(&format!("{:<60} # {origin}", format!("{key} = {value}")))?;
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
