//! calltap's own log: never prompts, answers or secrets.

use crate::config::{Log, LogFormat};
use std::io::IsTerminal;
use tracing_subscriber::{EnvFilter, fmt::format::FmtSpan};

/// Starts logging to standard error. A second call changes nothing.
///
/// # Errors
/// When `log.level` is no filter.
pub fn start(options: &Log) -> Result<(), String> {
    let filter = filter(&options.level)?;
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

/// What `log.level` lets through: a level, or `target=level` pairs.
///
/// # Errors
/// When it is no filter. A word that is no level would silence the log: it is taken for a slip.
pub fn filter(level: &str) -> Result<EnvFilter, String> {
    const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];
    let is_level = |word: &str| LEVELS.contains(&word.trim().to_ascii_lowercase().as_str());
    let sound = |part: &str| is_level(part.rsplit('=').next().unwrap_or(part));
    if !level.split(',').all(sound) {
        return Err(format!("must be one of {}, or target=level pairs", LEVELS.join(", ")));
    }
    EnvFilter::builder().parse(level).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_in_a_level_is_told() {
        for good in ["info", "WARN", "calltap=debug,warn", "hyper=off, info"] {
            assert!(filter(good).is_ok(), "{good}");
        }
        for bad in ["", "inof", "calltap", "calltap=loud", "[=info"] {
            assert!(filter(bad).is_err(), "{bad}");
        }
    }
}
