//! `calltap pricing`: what calls cost, and why.

mod fetch;
mod missing;
mod update;

use super::{
    Common,
    out::{self, Exit, Stop},
};
use crate::{
    codec::read_usage,
    model::{Cost, Timestamp},
    pricing::{Charge, PriceBook},
};
use clap::builder::FalseyValueParser;
use serde_json::{Value, json};
use std::{io::BufRead, path::PathBuf};

/// What to ask of the price book.
#[derive(Clone, Debug, clap::Subcommand)]
pub enum Command {
    /// The cost of one call, line by line
    Explain {
        /// Provider slug
        #[arg(long, env = "CALLTAP_PROVIDER", default_value = "openai")]
        provider: String,
        /// Model as the provider serves it
        #[arg(long, env = "CALLTAP_MODEL")]
        model: String,
        /// Start of the call; now without it
        #[arg(long, env = "CALLTAP_AT")]
        at: Option<Timestamp>,
        /// Served tier
        #[arg(long, env = "CALLTAP_TIER")]
        tier: Option<String>,
        /// The provider's usage object
        #[arg(
            long,
            env = "CALLTAP_USAGE",
            default_value = r#"{"prompt_tokens":1000000,"completion_tokens":1000000}"#
        )]
        usage: String,
    },
    /// What a model costs, in every layer of the price book
    Show {
        /// Id or other name, with or without its provider; all models without it
        model: Option<String>,
    },
    /// Reads price files and says what is wrong with them
    Check {
        /// Folder of price files; those inside the program without it
        dir: Option<PathBuf>,
    },
    /// Reads a price book and lays what is new in it over the embedded prices
    Update {
        /// `genai-prices` or `litellm` (fetched from their repositories), a FILE of either, or an https URL
        #[arg(long, env = "CALLTAP_PRICING_FROM", value_name = "SOURCE")]
        from: String,
        /// Also take over large changes and what only the other book confirms
        #[arg(long, env = "CALLTAP_PRICING_ACCEPT", value_parser = FalseyValueParser::new())]
        accept: bool,
    },
    /// What an update would change; without a source, where the layers differ
    Diff {
        /// As for `update`
        #[arg(long, env = "CALLTAP_PRICING_FROM", value_name = "SOURCE")]
        from: Option<String>,
    },
    /// Goes back to the import before this one
    Rollback,
    /// Models of stored calls that have no price
    Missing,
    /// Prices case objects, one a line on standard input
    Grade,
}

/// Runs one of them.
///
/// # Errors
/// When a price file or a case is wrong.
pub fn run(common: &Common, command: &Command) -> Result<Exit, Stop> {
    if let Command::Check { dir } = command {
        let notes = PriceBook::check(dir.as_deref(), Timestamp::now());
        for note in notes.map_err(|why| Stop::new(Exit::Config, why))? {
            out::line(&if common.json { json!({ "note": note }).to_string() } else { note })?;
        }
        return Ok(Exit::Ok);
    }
    match command {
        Command::Update { from, accept } => return update::update(common, from, *accept),
        Command::Diff { from } => return update::diff(common, from.as_deref()),
        Command::Rollback => return update::rollback(common),
        Command::Missing => return missing::missing(common),
        _ => {}
    }
    let book = book(common)?;
    match command {
        Command::Explain { provider, model, at, tier, usage } => {
            let usage: Value = serde_json::from_str(usage)
                .map_err(|error| Stop::new(Exit::Usage, format!("--usage: {error}")))?;
            let case = json!({ "provider": provider, "model": model, "service_tier": tier, "usage": usage });
            let cost = price(&book, &case, at.unwrap_or_else(Timestamp::now));
            explain(common, &cost)
        }
        Command::Show { model } => show(common, &book, model.as_deref()),
        Command::Grade => {
            for line in std::io::stdin().lock().lines() {
                let case: Value = serde_json::from_str(&line?).map_err(|error| {
                    Stop::new(Exit::Usage, format!("a case is no JSON: {error}"))
                })?;
                let at = case["at"].as_str().and_then(|at| at.parse().ok());
                let cost = price(&book, &case, at.unwrap_or_else(Timestamp::now));
                out::line(&json!({ "id": case["id"], "total_usd": cost.total }).to_string())?;
            }
            Ok(Exit::Ok)
        }
        _ => Ok(Exit::Ok),
    }
}

/// The price book in force: files of one's own over imports over the embedded ones.
fn book(common: &Common) -> Result<PriceBook, Stop> {
    let config = common.load(Vec::new())?.config;
    let data_dir = common.data_dir(&config).ok();
    PriceBook::load(config.pricing.dir.as_deref(), data_dir.as_deref())
        .map_err(|why| Stop::new(Exit::Config, why))
}

/// The cost of a case object: `provider`, `model`, `usage`, `service_tier`, `tools`.
fn price(book: &PriceBook, case: &Value, at: Timestamp) -> Cost {
    let text = |name: &str| case[name].as_str();
    let provider = text("provider").unwrap_or_default();
    let (usage, mut tools) = read_usage(&case["usage"], provider);
    for (name, unit) in [
        ("web_search_calls", "web_search"),
        ("file_search_calls", "file_search"),
        ("code_interpreter_sessions", "code_session"),
    ] {
        tools.extend(case["tools"][name].as_u64().map(|count| (unit.to_owned(), count)));
    }
    book.price(&Charge {
        provider,
        served: text("model"),
        requested: None,
        endpoint: text("api").unwrap_or_default(),
        usage: &usage.unwrap_or_default(),
        tier: text("service_tier"),
        tools: &tools,
        at,
        host: None,
    })
}

/// Entries of the price book, one block each.
fn show(common: &Common, book: &PriceBook, model: Option<&str>) -> Result<Exit, Stop> {
    let entries = book.entries(model, Timestamp::now());
    for entry in &entries {
        if common.json {
            let value = serde_json::to_string(entry);
            out::line(&value.map_err(|error| Stop::new(Exit::Failed, error))?)?;
            continue;
        }
        let names = [vec![entry.entry.clone()], entry.aliases.clone()].concat().join(", ");
        let free = if entry.free { ", free" } else { "" };
        out::line(&format!("{names} ({}{free})", entry.layer))?;
        for set in &entry.prices {
            let from = set.from.as_ref().map(|day| format!("from {day}"));
            let when = Some(&set.when).filter(|when| !when.is_empty()).cloned();
            let head: Vec<_> = from.into_iter().chain(when).collect();
            if !head.is_empty() {
                out::line(&format!("  {}", head.join(", ")))?;
            }
            for (unit, price, per) in &set.prices {
                out::line(&format!("    {unit:<18} ${price:<10} / {per}"))?;
            }
        }
    }
    Ok(if entries.is_empty() { Exit::Failed } else { Exit::Ok })
}

fn explain(common: &Common, cost: &Cost) -> Result<Exit, Stop> {
    let value = serde_json::to_value(cost).map_err(|error| Stop::new(Exit::Failed, error))?;
    if common.json {
        out::line(&value.to_string())?;
        return Ok(Exit::Ok);
    }
    let status = value["status"].as_str().unwrap_or_default().to_owned();
    let entry = cost.price.as_ref();
    let entry = entry.map(|price| {
        format!("{} ({} match, {} book {})", price.entry, price.matched, price.layer, price.book)
    });
    out::line(&format!("{status}: {}", entry.unwrap_or_else(|| "no price is known".to_owned())))?;
    for line in &cost.lines {
        out::line(&format!(
            "  {:<18} {:>12} × ${:<10} / {:<9} = ${}",
            line.unit, line.quantity, line.price, line.per, line.amount
        ))?;
    }
    if let Some(total) = &cost.total {
        out::line(&format!("  {:<18} {:>41} ${total}", "total", "="))?;
    }
    for note in &cost.notes {
        out::line(&format!("  note: {note}"))?;
    }
    Ok(if cost.total.is_some() { Exit::Ok } else { Exit::Failed })
}
