//! What is wrong with a configuration, and where it stands in the file.

use std::{fmt, ops::Range};
use toml::de::{DeTable, DeValue};

/// One fault.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Dotted path of the key, such as `sinks.honeyhive.retrys`; empty for the file as a whole.
    pub path: String,
    /// What is wrong.
    pub message: String,
    /// What would be right.
    pub hint: Option<String>,
    /// Where, when that is not where `path` stands.
    pub span: Option<Range<usize>>,
    /// The variable or flag that set the key, when no file did.
    pub elsewhere: Option<String>,
}

impl Fault {
    /// A fault at a key.
    pub fn at(path: impl Into<String>, message: impl Into<String>) -> Self {
        Self { path: path.into(), message: message.into(), hint: None, span: None, elsewhere: None }
    }
}

/// All faults of a configuration, rendered for a person.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Faults(String);

impl Faults {
    /// Renders `faults`; positions are looked up in `text`, the content of the file called `name`.
    pub fn new(faults: &[Fault], name: &str, text: &str) -> Self {
        let table = DeTable::parse(text).ok();
        let root = table.as_ref().map(toml::Spanned::get_ref);
        let mut out = String::new();
        for fault in faults {
            let in_file = || root.and_then(|root| key_span(root, &fault.path));
            let span = match fault.elsewhere {
                None => fault.span.clone().or_else(in_file),
                Some(_) => None,
            };
            render(&mut out, fault, span, name, text);
        }
        let count = faults.len();
        out.push_str(&format!("{count} error{}", if count == 1 { "" } else { "s" }));
        Self(out)
    }
}

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Faults {}

fn render(out: &mut String, fault: &Fault, span: Option<Range<usize>>, name: &str, text: &str) {
    out.push_str(&format!("error: {}\n", fault.message));
    let Some(span) = span else {
        let place = fault.elsewhere.as_ref().unwrap_or(&fault.path);
        if !place.is_empty() {
            out.push_str(&format!("  ┌─ {place}\n"));
        }
        if let Some(hint) = &fault.hint {
            out.push_str(&format!("  = {hint}\n"));
        }
        return;
    };
    let (line, column, content) = position(text, span.start);
    let width = line.to_string().len();
    let carets = text.get(span).map_or(1, |key| key.lines().next().unwrap_or("").chars().count());
    let hint = fault.hint.as_ref().map_or_else(String::new, |hint| format!(" {hint}"));
    out.push_str(&format!("{:width$} ┌─ {name}:{line}:{column}\n", ""));
    out.push_str(&format!("{line} │ {content}\n"));
    out.push_str(&format!(
        "{:width$} │ {}{}{hint}\n",
        "",
        " ".repeat(column - 1),
        "^".repeat(carets.max(1))
    ));
}

/// Line and column, from 1, and the text of the line.
pub fn position(text: &str, at: usize) -> (usize, usize, &str) {
    let before = text.get(..at).unwrap_or(text);
    let start = before.rfind('\n').map_or(0, |newline| newline + 1);
    let line = before.matches('\n').count() + 1;
    let column = before.get(start..).map_or(0, |part| part.chars().count()) + 1;
    let content = text.get(start..).and_then(|rest| rest.lines().next()).unwrap_or_default();
    (line, column, content)
}

/// Where the key at `path` stands; else the nearest key above it. Names may hold dots themselves.
pub fn key_span(root: &DeTable<'_>, path: &str) -> Option<Range<usize>> {
    let (mut table, mut found, mut rest) = (root, None, path);
    loop {
        let after = |name: &str| {
            let after = rest.strip_prefix(name)?;
            (after.is_empty() || after.starts_with(['.', '['])).then_some(after)
        };
        let named = table
            .iter()
            .filter_map(|(key, value)| Some((key, value, after(key.get_ref())?)))
            .min_by_key(|(.., after)| after.len());
        let Some((key, value, after)) = named else { return found };
        found = Some(key.span());
        let (mut value, mut after) = (value.get_ref(), after);
        if let DeValue::Array(items) = value
            && let Some((index, behind)) =
                after.strip_prefix('[').and_then(|after| after.split_once(']'))
            && let Some(item) = index.parse::<usize>().ok().and_then(|index| items.get(index))
        {
            (found, value, after) = (Some(item.span()), item.get_ref(), behind);
        }
        let DeValue::Table(inner) = value else { return found };
        (table, rest) = (inner, after.trim_start_matches('.'));
    }
}
