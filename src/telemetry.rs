//! calltap's own log: never prompts, answers or secrets.

use crate::config::{Log, LogFormat};
use std::io::IsTerminal;
use tracing_subscriber::{EnvFilter, fmt::format::FmtSpan};

/// Starts logging to standard error. A second call changes nothing.
///
/// # Errors
/// When `log.level` is no filter.
pub fn start(options: &Log) -> Result<(), String> {
    let filter = EnvFilter::builder()
        .parse(&options.level)
        .map_err(|error| format!("log.level: {error}"))?;
    let terminal = std::io::stderr().is_terminal();
    let json = match options.format {
        LogFormat::Auto => !terminal,
        LogFormat::Text => false,
        LogFormat::Json => true,
    };
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_span_events(FmtSpan::NONE)
        .with_ansi(terminal && std::env::var_os("NO_COLOR").is_none());
    let started =
        if json { builder.json().flatten_event(true).try_init() } else { builder.try_init() };
    // In one process there is one log; tests may start several servers.
    started.ok();
    Ok(())
}
