//! calltap's own log: never prompts, answers or secrets.

use crate::config::{Log, LogFormat};
use std::{
    borrow::Cow,
    io::{self, IsTerminal, Write},
    panic::{self, PanicHookInfo},
};
use tracing_subscriber::{EnvFilter, fmt::format::FmtSpan};

/// Starts logging to standard error. A second call changes nothing.
///
/// # Errors
/// When `log.level` is no filter.
pub fn start(options: &Log) -> Result<(), String> {
    let filter = filter(&options.level)?;
    let terminal = io::stderr().is_terminal();
    let json = match options.format {
        LogFormat::Auto => !terminal,
        LogFormat::Text => false,
        LogFormat::Json => true,
    };
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(|| Inert(io::stderr()))
        .with_span_events(FmtSpan::NONE)
        .with_ansi(terminal && std::env::var_os("NO_COLOR").is_none());
    let started =
        if json { builder.json().flatten_event(true).try_init() } else { builder.try_init() };
    // In one process there is one log; tests may start several servers.
    if started.is_ok() {
        panic::set_hook(Box::new(tell));
    }
    Ok(())
}

/// Writes lines with what is left in them of text that acts on a terminal or turns the reading order
/// around; the formats escape the controls of ASCII themselves.
#[derive(Debug)]
struct Inert<W>(W);

impl<W: Write> Write for Inert<W> {
    /// A line comes whole.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.0.write_all(inert(line).as_bytes())?;
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

fn inert(line: &[u8]) -> Cow<'_, str> {
    let text = String::from_utf8_lossy(line);
    let acts = |c: char| matches!(c, '\u{7f}'..='\u{9f}' | '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    if !text.contains(acts) {
        return text;
    }
    // As JSON does it, which both formats may hold.
    let escape = |c: char| if acts(c) { format!("\\u{:04x}", u32::from(c)) } else { c.into() };
    Cow::Owned(text.chars().map(escape).collect())
}

/// A panic is a line of the log like others. What it says is left out where it was put together at run
/// time: it may quote a body.
fn tell(panic: &PanicHookInfo<'_>) {
    let said = panic.payload().downcast_ref::<&'static str>().copied().unwrap_or_default();
    let at = panic.location().map(ToString::to_string).unwrap_or_default();
    tracing::error!(at, said, "panicked");
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
    fn lines_are_inert() {
        assert_eq!(inert("plain é 😀\n".as_bytes()), "plain é 😀\n");
        assert_eq!(inert("a\u{9b}31m\u{202e}b\n".as_bytes()), "a\\u009b31m\\u202eb\n");
        let mut out = Vec::new();
        Inert(&mut out).write_all(b"\xff\x7f\n").unwrap();
        assert_eq!(out, "\u{fffd}\\u007f\n".as_bytes());
    }

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
