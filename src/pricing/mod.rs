//! The price book: what a call cost, exactly or not at all.
//!
//! Invariant: the lines of a cost add up to its parts, and the parts to its total, to the last digit.
//! What has no known price is null, never zero.

mod book;
mod check;
mod compute;
mod embedded;
mod file;
mod format;
mod import;
mod imported;
mod merge;
mod money;
mod reported;
mod schedule;
mod show;
mod units;
mod usage;
mod write;

pub use embedded::BOOK;
pub use import::{Listing, read as read_listing};
pub use imported::{Imports, Names, Origin as ImportOrigin};
pub use merge::{Change, Difference, Kind, Merge};
pub use money::{dollars, pico};
pub use show::{Entry, PriceSet};
pub use write::file as file_text;

use crate::model::{Cost, CostStatus, Timestamp, Usage};
use book::{Found, Layered};
use format::Provider;
use std::{collections::BTreeMap, path::Path, sync::Mutex};

/// Most (provider, model) pairs without a price that are counted apart.
const MISSING_MAX: usize = 1000;
/// Longest provider or model name that is kept of them, in bytes.
const MISSING_NAME_MAX: usize = 200;

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

impl<'a> Charge<'a> {
    /// A charge about which nothing else is known.
    pub fn new(provider: &'a str, usage: &'a Usage) -> Self {
        Self {
            provider,
            served: None,
            requested: None,
            endpoint: "",
            usage,
            tier: None,
            tools: &[],
            at: Timestamp(0),
            host: None,
        }
    }
}

/// Prices of all layers.
#[derive(Debug, Default)]
pub struct PriceBook {
    overrides: Vec<Provider>,
    imported: Vec<Provider>,
    missing: Mutex<BTreeMap<(String, String), u64>>,
}

impl PriceBook {
    /// The files of `dir`, if given, over what was imported into `data_dir`, over the embedded book.
    ///
    /// A damaged import is left out and said in the log: the embedded prices still hold.
    ///
    /// # Errors
    /// A rendered message with file and line when a file of `dir` is wrong.
    pub fn load(dir: Option<&Path>, data_dir: Option<&Path>) -> Result<Self, String> {
        let overrides = dir.map(read_dir).transpose()?.unwrap_or_default();
        let imported = data_dir.map(|dir| Imports::of(dir).load()).transpose();
        let imported = imported.unwrap_or_else(|error| {
            tracing::error!(error, "imported prices are damaged and left out; `calltap pricing rollback` goes back to the ones before");
            None
        });
        let imported = imported.unwrap_or_default();
        Ok(Self { overrides, imported, missing: Mutex::default() })
    }

    /// Without the files of one's own: what imports are laid over.
    #[must_use]
    pub fn without_overrides(self) -> Self {
        Self { overrides: Vec::new(), ..self }
    }

    /// Whether a price of the model is known.
    pub fn knows(&self, provider: &str, model: &str, at: Timestamp) -> bool {
        self.find(&book::slug(provider), model, at).is_some()
    }

    /// Where files of one's own and imports say something else than the layers below them.
    pub fn layers(&self, today: Timestamp) -> Vec<(&'static str, Change)> {
        merge::layers(self, today)
    }

    /// What importing a listing would do; `accept` also takes over what is contested.
    pub fn merge(&self, listing: Listing, today: Timestamp, accept: bool) -> Merge {
        merge::merge(self, listing, today, accept)
    }

    /// What `charge` cost.
    pub fn price(&self, charge: &Charge<'_>) -> Cost {
        let provider = self.slug(charge);
        let charge = Charge { provider: &provider, ..*charge };
        let find = |name: Option<&str>| self.find(&provider, name?, charge.at);
        // What is asked for at Azure is the name of a deployment: it says nothing but to its owner.
        let is_model = |found: &Found<'_>| provider != "azure" || found.layer == "override";
        let found = find(charge.served).or_else(|| find(charge.requested).filter(is_model));
        let mut own = self.overrides.iter().filter(|file| file.name == provider);
        let cost = compute::cost(&charge, found.as_ref(), own.find_map(|file| file.factor));
        if cost.status == CostStatus::Unpriced {
            self.count_missing(&charge);
        }
        cost
    }

    /// Models without a price, and how many calls they had.
    pub fn missing(&self) -> Vec<(String, String, u64)> {
        let missing = self.missing.lock();
        missing
            .map(|missing| missing.iter().map(|((p, m), n)| (p.clone(), m.clone(), *n)).collect())
            .unwrap_or_default()
    }

    /// The slug of the price files: the provider's, or that of the host where it has none.
    fn slug(&self, charge: &Charge<'_>) -> String {
        let slug = book::slug(charge.provider);
        if !self.files(&slug).is_empty() {
            return slug;
        }
        let Some(host) = charge.host.map(|host| host.split(':').next().unwrap_or(host)) else {
            return slug;
        };
        let serves = |file: &Provider| file.hosts.iter().any(|own| own == host);
        let own = self.overrides.iter().chain(&self.imported).find(|file| serves(file));
        own.or_else(|| embedded::all().find(|file| serves(file)))
            .map_or(slug, |file| file.name.clone())
    }

    fn find(&self, provider: &str, model: &str, at: Timestamp) -> Option<Found<'_>> {
        book::find(&|slug| self.files(slug), provider, model, at)
    }

    /// A provider's files, strongest layer first.
    fn files(&self, slug: &str) -> Vec<Layered<'_>> {
        let named = |file: &&Provider| file.name == slug;
        let own = self.overrides.iter().filter(named).map(|file| ("override", file));
        let imported = self.imported.iter().filter(named).map(|file| ("imported", file));
        let embedded = embedded::provider(slug).map(|file| ("embedded", file));
        own.chain(imported).chain(embedded).collect()
    }

    /// Counts a model without a price, and says so once.
    fn count_missing(&self, charge: &Charge<'_>) {
        let cut = |name: &str| {
            let end = name.floor_char_boundary(MISSING_NAME_MAX);
            name.get(..end).unwrap_or_default().to_owned()
        };
        let key =
            (cut(charge.provider), cut(charge.served.or(charge.requested).unwrap_or_default()));
        let Ok(mut missing) = self.missing.lock() else { return };
        if let Some(count) = missing.get_mut(&key) {
            *count += 1;
        } else if missing.len() < MISSING_MAX {
            let (provider, model) = (key.0.as_str(), key.1.as_str());
            tracing::warn!(
                provider,
                model,
                "no price is known, the cost is left open; `calltap pricing explain --provider '{provider}' --model '{model}'` says what was tried"
            );
            missing.insert(key, 1);
        }
    }
}

fn read_dir(dir: &Path) -> Result<Vec<Provider>, String> {
    let problem = |error: std::io::Error| format!("pricing.dir {}: {error}", dir.display());
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(dir).map_err(problem)? {
        paths.push(entry.map_err(problem)?.path());
    }
    paths.retain(|path| path.extension().is_some_and(|end| end == "toml"));
    paths.sort();
    let read = |path: &std::path::PathBuf| {
        let name = path.display().to_string();
        let text = std::fs::read_to_string(path).map_err(|error| format!("{name}: {error}"))?;
        let mut provider = format::read(&name, &text)?;
        provider.name = book::slug(&provider.name);
        provider.book =
            path.file_name().map_or_else(String::new, |name| name.to_string_lossy().into());
        Ok(provider)
    };
    paths.iter().map(read).collect()
}

#[cfg(test)]
mod tests;
