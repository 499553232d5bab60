//! `calltap export`: stored calls to a file.

use super::{
    Common, out,
    out::{Exit, Stop},
    parse_query,
};
use crate::{interpret::restore, model::Record, query::Query, store::Reader};
use serde_json::Value;
use std::{
    fs::File,
    io::{self, BufWriter, IsTerminal, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
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
    /// Go on where an interrupted export of the same query into the same file stopped
    #[arg(long, env = "CALLTAP_RESUME", value_parser = clap::builder::FalseyValueParser::new(), requires = "output")]
    resume: bool,
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
/// store's log up. A file appears whole or not at all; Ctrl-C leaves its part for `--resume`.
///
/// # Errors
/// When the query makes no sense, there is no store, or the file cannot be written.
pub fn run(common: &Common, arguments: &Arguments) -> Result<Exit, Stop> {
    let query = parse_query(&arguments.query)?;
    let reader = common.reader()?.patient();
    let interrupted = interruption()?;
    let Some(path) = &arguments.output else {
        let mut target = BufWriter::new(io::stdout().lock());
        head(&mut target, arguments.format)?;
        let mut place = Place::default();
        let whole = copy(&reader, &query, arguments.format, &mut target, &mut place, &interrupted)?;
        return Ok(if whole { Exit::Ok } else { Exit::Partial });
    };
    let part = path.with_added_extension("part");
    let note = path.with_added_extension("resume");
    let mut place = if arguments.resume { Place::read(&note) } else { Place::default() };
    let written = (|| {
        let file = File::options().create(true).write(true).truncate(false).open(&part)?;
        file.set_len(place.bytes)?;
        let mut target = BufWriter::new(file);
        target.seek(SeekFrom::End(0))?;
        if place.bytes == 0 {
            head(&mut target, arguments.format)?;
        }
        let whole = copy(&reader, &query, arguments.format, &mut target, &mut place, &interrupted)?;
        place.bytes = target.stream_position()?;
        target.into_inner().map_err(io::IntoInnerError::into_error)?.sync_all()?;
        if whole {
            std::fs::rename(&part, path)?;
        }
        Ok::<_, Stop>(whole)
    })();
    match written {
        Ok(true) => {
            std::fs::remove_file(note).ok();
            out::say(&format!("\r{} calls written to {}", place.calls, path.display()));
            Ok(Exit::Ok)
        }
        Ok(false) => {
            place.write(&note)?;
            let said = format!("\rinterrupted after {} calls; --resume goes on", place.calls);
            Err(Stop::new(Exit::Partial, said))
        }
        Err(stop) => {
            std::fs::remove_file(part).ok();
            std::fs::remove_file(note).ok();
            Err(stop)
        }
    }
}

/// How far an export has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Place {
    /// The last `seq` looked at.
    seq: i64,
    /// Bytes of the file so far.
    bytes: u64,
    /// Calls written so far.
    calls: u64,
}

impl Place {
    /// What `write` noted; the beginning where there is nothing to go on from.
    fn read(note: &Path) -> Self {
        let numbers = std::fs::read_to_string(note).unwrap_or_default();
        let mut numbers = numbers.split_whitespace().map(str::parse::<u64>);
        let mut next = || numbers.next()?.ok();
        let place = (|| {
            let seq = i64::try_from(next()?).ok()?;
            Some(Self { seq, bytes: next()?, calls: next()? })
        })();
        place.unwrap_or_default()
    }

    fn write(self, note: &Path) -> io::Result<()> {
        std::fs::write(note, format!("{} {} {}\n", self.seq, self.bytes, self.calls))
    }
}

/// Set once somebody asks for an end.
fn interruption() -> Result<Arc<AtomicBool>, Stop> {
    let asked = Arc::new(AtomicBool::new(false));
    let (seen, runtime) = (Arc::clone(&asked), super::runtime()?);
    std::thread::spawn(move || {
        if runtime.block_on(tokio::signal::ctrl_c()).is_ok() {
            seen.store(true, Ordering::Relaxed);
        }
    });
    Ok(asked)
}

fn head(target: &mut impl Write, format: Format) -> io::Result<()> {
    match format {
        Format::Jsonl => Ok(()),
        Format::Csv => writeln!(target, "{}", COLUMNS.map_names().join(",")),
    }
}

/// Writes what comes after `place`; false when it was interrupted.
fn copy(
    reader: &Reader,
    query: &Query,
    format: Format,
    target: &mut impl Write,
    place: &mut Place,
    interrupted: &AtomicBool,
) -> Result<bool, Stop> {
    loop {
        let page = reader.since(query, place.seq, 200)?;
        let Some((last, _)) = page.last() else { break };
        for (_, row) in &page {
            let id = row.get("id").and_then(Value::as_str).unwrap_or_default();
            let Some(stored) = reader.get(id)? else { continue };
            writeln!(target, "{}", render(&restore(stored), format)?)?;
            place.calls += 1;
        }
        place.seq = *last;
        if interrupted.load(Ordering::Relaxed) {
            target.flush()?;
            return Ok(false);
        }
        if io::stderr().is_terminal() {
            write!(io::stderr(), "\r{} calls", place.calls)?;
        }
    }
    target.flush()?;
    Ok(true)
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
        return record.line().map_err(failed);
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

/// Quoted where it must be; what a spreadsheet would take for a formula, or a terminal for an order, is
/// disarmed.
fn cell(text: &str) -> String {
    let formula =
        text.starts_with(['=', '+', '-', '@', '\t', '\r']) && text.parse::<f64>().is_err();
    let text = out::safe(text, true);
    let text = if formula { format!("'{text}") } else { text.into_owned() };
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
    fn a_place_survives_its_note() {
        let dir = tempfile::tempdir().unwrap();
        let (note, place) = (dir.path().join("n"), Place { seq: 7, bytes: 900, calls: 3 });
        assert_eq!(Place::read(&note), Place::default());
        place.write(&note).unwrap();
        assert_eq!(Place::read(&note), place);
        std::fs::write(&note, "7 x").unwrap();
        assert_eq!(Place::read(&note), Place::default());
    }

    #[test]
    fn cells_are_quoted_and_disarmed() {
        assert_eq!(cell("plain"), "plain");
        assert_eq!(cell("a,\"b\"\nc"), "\"a,\"\"b\"\"\nc\"");
        assert_eq!(cell("=HYPERLINK(1)"), "'=HYPERLINK(1)");
        assert_eq!(cell("@x"), "'@x");
        assert_eq!(cell("-1.5"), "-1.5");
    }
}
