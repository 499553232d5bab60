//! `calltap reindex` and `calltap recost`: stored records derived anew, in the order of the record log.

use super::{
    Common, out,
    out::{Exit, Stop},
    parse_query,
};
use crate::{
    model::{Cost, Record},
    pricing::{PriceBook, dollars, pico},
    rederive,
    store::{Entry, Rewriter, Stored},
};
use clap::builder::FalseyValueParser;
use serde_json::json;
use std::{
    collections::BTreeMap,
    io::{self, IsTerminal, Write},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

/// How often progress is told where it cannot be drawn over.
const REPORT: Duration = Duration::from_secs(5);

/// Flags of both.
#[derive(Clone, Debug, clap::Args)]
pub struct Arguments {
    /// Query, such as: since:30d provider:openai
    query: Vec<String>,
    /// Say what would change and write nothing
    #[arg(long, env = "CALLTAP_DRY_RUN", value_parser = FalseyValueParser::new())]
    dry_run: bool,
}

/// Which of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// Read again from raw capture.
    Reindex,
    /// Priced again.
    Recost,
}

/// What became of the calls of a model.
#[derive(Debug, Default)]
struct Totals {
    calls: u64,
    changed: u64,
    before: i128,
    after: i128,
}

impl Totals {
    fn add(&mut self, before: &Cost, after: Option<&Cost>) {
        let amount = |cost: &Cost| cost.total.as_deref().and_then(pico).unwrap_or(0);
        self.calls += 1;
        self.changed += u64::from(after.is_some());
        self.before += amount(before);
        self.after += amount(after.unwrap_or(before));
    }
}

/// Walks over the store.
///
/// # Errors
/// When a server has the store open, or the query makes no sense.
pub fn run(common: &Common, arguments: &Arguments, what: What) -> Result<Exit, Stop> {
    let query = parse_query(&arguments.query)?;
    let config = common.load(Vec::new())?.config;
    let dir = common.data_dir(&config)?;
    let book = PriceBook::load(config.pricing.dir.as_deref(), Some(&dir))
        .map_err(|error| Stop::new(Exit::Config, error))?;
    let name = if what == What::Reindex { "reindex" } else { "recost" };
    let purpose = format!("{} {:?}", env!("CARGO_PKG_VERSION"), arguments.query);
    let mut rewriter = Rewriter::open(&dir, name, &purpose, arguments.dry_run)?;
    if what == What::Recost {
        rewriter = rewriter.keeping_texts();
    }
    if rewriter.resumes() {
        out::say(&format!("{name} goes on where it was interrupted"));
    }
    let mut progress = Progress::new(name, rewriter.remaining()?);
    let stop = interrupted();
    let mut models: BTreeMap<String, Totals> = BTreeMap::new();
    let mut change = |stored: Stored| {
        let old = stored.record.clone();
        let entry = match what {
            What::Reindex => rederive::reindex(stored, &book),
            What::Recost => rederive::recost(stored.record, &book).map(|record| Entry {
                record,
                bodies: None,
                answer: None,
                json: None,
                text: None,
            }),
        };
        let after = entry.as_ref().map(|entry| &entry.record.cost);
        models.entry(model(&old)).or_default().add(&old.cost, after);
        entry
    };
    let mut finished = false;
    while !finished && !stop.load(Ordering::Relaxed) {
        let step = rewriter.step(&query, &mut change)?;
        finished = step.finished;
        progress.add(step.looked_at);
    }
    progress.end();
    print(common, &models)?;
    if !finished {
        out::say(&format!("interrupted; run `calltap {name}` again and it goes on from here"));
        return Ok(Exit::Failed);
    }
    if arguments.dry_run {
        out::say("nothing was written: this was a dry run");
    }
    Ok(Exit::Ok)
}

fn model(record: &Record) -> String {
    let model = record.model.served.as_deref().or(record.model.requested.as_deref());
    format!("{}/{}", record.provider, model.unwrap_or("-"))
}

fn print(common: &Common, models: &BTreeMap<String, Totals>) -> Result<(), Stop> {
    if !common.json {
        out::line(&format!(
            "{:>9} {:>9} {:>16} {:>16}  model",
            "calls", "changed", "cost before", "cost after"
        ))?;
    }
    let mut all = Totals::default();
    for (model, totals) in models {
        all.calls += totals.calls;
        all.changed += totals.changed;
        all.before += totals.before;
        all.after += totals.after;
        row(common, Some(model), totals)?;
    }
    row(common, None, &all)
}

fn row(common: &Common, model: Option<&str>, totals: &Totals) -> Result<(), Stop> {
    let Totals { calls, changed, before, after } = totals;
    let (before, after) = (dollars(*before), dollars(*after));
    if common.json {
        let row = json!({"model": model, "calls": calls, "changed": changed,
            "cost_before": before, "cost_after": after});
        return out::line(&row.to_string());
    }
    let model = out::safe(model.unwrap_or("all"), false);
    out::line(&format!("{calls:>9} {changed:>9} {before:>16} {after:>16}  {model}"))
}

/// How far it is: drawn over on a terminal, now and then a line elsewhere.
struct Progress {
    name: &'static str,
    done: u64,
    total: u64,
    terminal: bool,
    told: Instant,
}

impl Progress {
    fn new(name: &'static str, total: u64) -> Self {
        let terminal = io::stderr().is_terminal();
        Self { name, done: 0, total, terminal, told: Instant::now() }
    }

    fn add(&mut self, calls: u64) {
        self.done += calls;
        let line = format!("{}: {} of {} calls", self.name, self.done, self.total.max(self.done));
        if self.terminal {
            write!(io::stderr(), "\r{line}").ok();
        } else if self.told.elapsed() >= REPORT {
            self.told = Instant::now();
            out::say(&line);
        }
    }

    fn end(&self) {
        if self.terminal {
            out::say("");
        }
    }
}

/// True once the person wants it to end; what a step has begun is finished first.
fn interrupted() -> Arc<AtomicBool> {
    let stop = Arc::new(AtomicBool::new(false));
    let flag = Arc::clone(&stop);
    let watch = move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let Ok(runtime) = runtime else { return };
        if runtime.block_on(tokio::signal::ctrl_c()).is_ok() {
            flag.store(true, Ordering::Relaxed);
        }
    };
    // Without the thread a signal ends the program, which loses nothing either.
    std::thread::Builder::new().name("signals".to_owned()).spawn(watch).ok();
    stop
}
