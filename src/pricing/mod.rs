//! The price book: what a call cost, exactly or not at all.
//!
//! Invariant: the lines of a cost add up to its parts, and the parts to its total, to the last digit.
//! What has no known price is null, never zero.

mod book;
mod compute;
mod format;
mod money;

pub use money::{dollars, pico};

use crate::model::{Cost, CostStatus, Timestamp, Usage};
use book::Found;
use format::Provider;
use std::{
    collections::BTreeMap,
    path::Path,
    sync::{Mutex, OnceLock},
};

/// Version of the embedded book.
pub const BOOK: &str = "2026.11.20";
/// The embedded files.
const EMBEDDED: &[(&str, &str)] =
    &[("pricing/openai.toml", include_str!("../../pricing/openai.toml"))];
/// Most (provider, model) pairs without a price that are counted apart.
const MISSING_MAX: usize = 1000;

/// What is to be priced.
#[derive(Clone, Copy, Debug)]
pub struct Charge<'a> {
    /// Provider slug.
    pub provider: &'a str,
    /// Model that the provider says it served.
    pub served: Option<&'a str>,
    /// Model that was asked for.
    pub requested: Option<&'a str>,
    /// Endpoint, as in the record.
    pub endpoint: &'a str,
    /// Normalised usage, with the provider's object in `raw`.
    pub usage: &'a Usage,
    /// Tier that was served.
    pub tier: Option<&'a str>,
    /// Billed tool calls by unit.
    pub tools: &'a [(String, u64)],
    /// Start of the request.
    pub at: Timestamp,
    /// Host of the upstream.
    pub host: Option<&'a str>,
}

/// Prices of all layers.
#[derive(Debug, Default)]
pub struct PriceBook {
    overrides: Vec<Provider>,
    missing: Mutex<BTreeMap<(String, String), u64>>,
}

/// The embedded book, read on first use.
fn embedded() -> &'static [Provider] {
    static PROVIDERS: OnceLock<Vec<Provider>> = OnceLock::new();
    PROVIDERS.get_or_init(|| {
        let read = |(name, text): &(&str, &str)| match format::read(name, text) {
            Ok(provider) => Some(provider),
            Err(error) => {
                tracing::error!(error, "an embedded price file is damaged"); // a test reads them all
                None
            }
        };
        EMBEDDED.iter().filter_map(read).collect()
    })
}

impl PriceBook {
    /// The embedded book under the files of `dir`, if given.
    ///
    /// # Errors
    /// A rendered message with file and line when a file of `dir` is wrong.
    pub fn load(dir: Option<&Path>) -> Result<Self, String> {
        let Some(dir) = dir else { return Ok(Self::default()) };
        let problem = |error: std::io::Error| format!("pricing.dir {}: {error}", dir.display());
        let mut overrides = Vec::new();
        let mut paths: Vec<_> = std::fs::read_dir(dir)
            .map_err(problem)?
            .filter_map(Result::ok)
            .map(|e| e.path())
            .collect();
        paths.sort();
        for path in paths.iter().filter(|path| path.extension().is_some_and(|end| end == "toml")) {
            let text = std::fs::read_to_string(path).map_err(problem)?;
            overrides.push(format::read(&path.display().to_string(), &text)?);
        }
        Ok(Self { overrides, missing: Mutex::default() })
    }

    fn find(&self, provider: &str, model: &str, at: Timestamp) -> Option<Found<'_>> {
        let layers = [("override", self.overrides.as_slice()), ("embedded", embedded())];
        book::find(&layers, provider, model, at)
    }

    /// What `charge` cost.
    pub fn price(&self, charge: &Charge<'_>) -> Cost {
        let names = [charge.served, charge.requested];
        let found =
            names.iter().flatten().find_map(|name| self.find(charge.provider, name, charge.at));
        let cost = compute::cost(charge, found.as_ref());
        if cost.status == CostStatus::Unpriced {
            self.count_missing(charge);
        }
        cost
    }

    /// Counts a model without a price, and says so once.
    fn count_missing(&self, charge: &Charge<'_>) {
        let model = charge.served.or(charge.requested).unwrap_or_default();
        let key = (charge.provider.to_owned(), model.to_owned());
        let Ok(mut missing) = self.missing.lock() else { return };
        if let Some(count) = missing.get_mut(&key) {
            *count += 1;
        } else if missing.len() < MISSING_MAX {
            tracing::warn!(
                provider = charge.provider,
                model,
                "no price is known; the cost is left open"
            );
            missing.insert(key, 1);
        }
    }

    /// Models without a price, and how many calls they had.
    pub fn missing(&self) -> Vec<(String, String, u64)> {
        let missing = self.missing.lock();
        missing
            .map(|missing| missing.iter().map(|((p, m), n)| (p.clone(), m.clone(), *n)).collect())
            .unwrap_or_default()
    }
}

#[cfg(test)]
mod tests;
