//! `calltap export`: stored calls to a file.

use super::{
    Common, out,
    out::{Exit, Stop},
    parse_query,
};
use crate::{interpret::restore, model::Record};
use serde_json::Value;
use std::{
    fs::File,
    io::{self, BufWriter, IsTerminal, Write},
    path::PathBuf,
};

/// Flags of `export`.
#[derive(Clone, Debug, clap::Args)]
pub struct Arguments {
    /// Query, such as: since:24h env:prod
    query: Vec<String>,
    /// `jsonl`: whole records; `csv`: one row a call, without bodies
    #[arg(long, env = "CALLTAP_FORMAT", value_enum, default_value_t = Format::Jsonl)]
    format: Format,
    /// File to write; standard output without it
    #[arg(long, short, env = "CALLTAP_OUTPUT", value_name = "FILE")]
    output: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Format {
    Jsonl,
    Csv,
}

/// Columns of the CSV: name and where the value stands in the record.
const COLUMNS: &[(&str, &str)] = &[
    ("id", "/id"),
    ("started_at", "/started_at"),
    ("endpoint", "/endpoint"),
    ("upstream", "/upstream"),
    ("model_requested", "/model/requested"),
    ("model", "/model/served"),
    ("stream", "/stream"),
    ("outcome", "/outcome"),
    ("status", "/status"),
    ("error", "/error/code"),
    ("finish_reason", "/finish_reasons/0"),
    ("latency_ms", "/timing/latency_ms"),
    ("ttft_ms", "/timing/ttft_ms"),
    ("input_tokens", "/usage/input"),
    ("cached_tokens", "/usage/input_cached"),
    ("output_tokens", "/usage/output"),
    ("cost_usd", "/cost/total"),
    ("prompt", "/tags/prompt"),
    ("prompt_version", "/tags/prompt_version"),
    ("session", "/tags/session"),
    ("environment", "/tags/environment"),
    ("customer", "/tags/customer"),
    ("user", "/tags/user"),
    ("user_query", "/tags/user_query"),
    ("client", "/client/sdk"),
];

/// Writes every call that matches, oldest first. A page at a time, so that no snapshot holds the
/// store's log up.
///
/// # Errors
/// When the query makes no sense, there is no store, or the file cannot be written.
pub fn run(common: &Common, arguments: &Arguments) -> Result<Exit, Stop> {
    let query = parse_query(&arguments.query)?;
    let reader = common.reader()?;
    // A file appears whole or not at all.
    let part = arguments.output.as_ref().map(|path| path.with_added_extension("part"));
    let mut target: Box<dyn Write> = match &part {
        Some(part) => Box::new(BufWriter::new(File::create(part)?)),
        None => Box::new(BufWriter::new(io::stdout().lock())),
    };
    if arguments.format == Format::Csv {
        writeln!(target, "{}", COLUMNS.map_names().join(","))?;
    }
    let (mut seq, mut count) = (0, 0_u64);
    loop {
        let page = reader.since(&query, seq, 200)?;
        let Some((last, _)) = page.last() else { break };
        seq = *last;
        for (_, row) in &page {
            let id = row.get("id").and_then(Value::as_str).unwrap_or_default();
            let Some(stored) = reader.get(id)? else { continue };
            let line = render(&restore(stored), arguments.format)?;
            writeln!(target, "{line}")?;
            count += 1;
        }
        if io::stderr().is_terminal() && arguments.output.is_some() {
            write!(io::stderr(), "\r{count} calls")?;
        }
    }
    target.flush()?;
    drop(target);
    if let (Some(part), Some(path)) = (part, &arguments.output) {
        File::open(&part)?.sync_all()?;
        std::fs::rename(part, path)?;
        out::say(&format!("\r{count} calls written to {}", path.display()));
    }
    Ok(Exit::Ok)
}

trait Names {
    fn map_names(&self) -> Vec<&'static str>;
}

impl Names for [(&'static str, &'static str)] {
    fn map_names(&self) -> Vec<&'static str> {
        self.iter().map(|(name, _)| *name).collect()
    }
}

fn render(record: &Record, format: Format) -> Result<String, Stop> {
    let failed = |error: serde_json::Error| Stop::new(Exit::Failed, error);
    if format == Format::Jsonl {
        let line = serde_json::to_string(record).map_err(failed)?;
        // Some readers take these two for line ends.
        return Ok(line.replace('\u{2028}', "\\u2028").replace('\u{2029}', "\\u2029"));
    }
    let value = serde_json::to_value(record).map_err(failed)?;
    let cells: Vec<String> = COLUMNS
        .iter()
        .map(|(_, pointer)| match value.pointer(pointer) {
            None | Some(Value::Null) => String::new(),
            Some(Value::String(text)) => cell(text),
            Some(other) => cell(&other.to_string()),
        })
        .collect();
    Ok(cells.join(","))
}

/// Quoted where it must be; what a spreadsheet would take for a formula is disarmed.
fn cell(text: &str) -> String {
    let formula =
        text.starts_with(['=', '+', '-', '@', '\t', '\r']) && text.parse::<f64>().is_err();
    let text = if formula { format!("'{text}") } else { text.to_owned() };
    if text.contains(['"', ',', '\n', '\r']) {
        format!("\"{}\"", text.replace('"', "\"\""))
    } else {
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_are_quoted_and_disarmed() {
        assert_eq!(cell("plain"), "plain");
        assert_eq!(cell("a,\"b\"\nc"), "\"a,\"\"b\"\"\nc\"");
        assert_eq!(cell("=HYPERLINK(1)"), "'=HYPERLINK(1)");
        assert_eq!(cell("@x"), "'@x");
        assert_eq!(cell("-1.5"), "-1.5");
    }
}
