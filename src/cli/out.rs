//! Data on standard output, chatter on standard error.

use std::{
    borrow::Cow,
    io::{self, IsTerminal, Write},
    process::ExitCode,
};

/// Exit codes (`ux.md` §6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// All went well.
    Ok,
    /// It did not, or nothing matched.
    Failed,
    /// The arguments make no sense.
    Usage,
    /// Server, upstream or sink cannot be reached.
    Unavailable,
    /// The store or a file cannot be used.
    Store,
    /// Interrupted with a part of the work done; `--resume` goes on.
    Partial,
    /// The configuration is wrong.
    Config,
    /// What a program said that was run.
    Program(u8),
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(match exit {
            Exit::Ok => 0,
            Exit::Failed => 1,
            Exit::Usage => 2,
            Exit::Unavailable => 69,
            Exit::Store => 74,
            Exit::Partial => 75,
            Exit::Config => 78,
            Exit::Program(code) => code,
        })
    }
}

/// Why a command ended early: a message for standard error, and how to exit.
#[derive(Debug)]
pub struct Stop {
    /// Empty for a quiet end.
    pub message: String,
    /// How to exit.
    pub exit: Exit,
}

impl Stop {
    /// An end with a message.
    pub fn new(exit: Exit, message: impl std::fmt::Display) -> Self {
        Self { message: format!("{message}"), exit }
    }
}

impl From<crate::store::StoreError> for Stop {
    fn from(error: crate::store::StoreError) -> Self {
        Self::new(Exit::Store, error)
    }
}

impl From<io::Error> for Stop {
    fn from(error: io::Error) -> Self {
        // Whoever read our output has seen enough.
        let quiet = error.kind() == io::ErrorKind::BrokenPipe;
        let message = if quiet { String::new() } else { error.to_string() };
        Self { message, exit: if quiet { Exit::Ok } else { Exit::Store } }
    }
}

/// Writes a line of data.
///
/// # Errors
/// When nobody reads.
pub fn line(text: &str) -> Result<(), Stop> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.write_all(b"\n")?;
    Ok(out.flush()?)
}

/// Writes bytes as they are.
///
/// # Errors
/// When nobody reads.
pub fn bytes(bytes: &[u8]) -> Result<(), Stop> {
    let mut out = io::stdout().lock();
    out.write_all(bytes)?;
    Ok(out.flush()?)
}

/// Says something to the person, not to the next program.
pub fn say(text: &str) {
    writeln!(io::stderr().lock(), "{text}").ok();
}

/// Whether to use colour.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Color {
    /// On a terminal, unless `NO_COLOR` is set.
    #[default]
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

impl Color {
    /// Whether output is coloured.
    pub fn is_on(self) -> bool {
        match self {
            Self::Always => true,
            Self::Never => false,
            Self::Auto => io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none(),
        }
    }

    /// `text` in the colour with an ANSI `code`.
    pub fn paint(self, code: u8, text: &str) -> String {
        if self.is_on() { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }
}

/// Text from a stranger, safe on a terminal: control characters and direction overrides are shown,
/// not obeyed. `lines` keeps line breaks and tabs.
pub fn safe(text: &str, lines: bool) -> Cow<'_, str> {
    let keeps = |c: char| lines && matches!(c, '\n' | '\t');
    let bad = |c: char| {
        !keeps(c)
            && (c.is_control()
                || matches!(c, '\u{061c}' | '\u{2028}' | '\u{2029}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}'))
    };
    if !text.contains(bad) {
        return Cow::Borrowed(text);
    }
    text.chars()
        .map(|c| if bad(c) { c.escape_unicode().to_string() } else { c.to_string() })
        .collect::<String>()
        .into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strangers_cannot_steer_the_terminal() {
        assert_eq!(safe("plain é", false), "plain é");
        assert_eq!(safe("\x1b[31mred\n", false), "\\u{1b}[31mred\\u{a}");
        assert_eq!(safe("a\nb\u{202e}c", true), "a\nb\\u{202e}c");
    }
}
