//! The price book to look at.

use super::{
    PriceBook, book, check, embedded,
    format::Provider,
    schedule::{Model, Origin, Prices, Set, When},
    write::DAYS,
};
use crate::model::Timestamp;
use serde::Serialize;
use std::path::Path;

/// A model of the price book.
#[derive(Clone, Debug, Serialize)]
pub struct Entry {
    /// `provider/model`.
    pub entry: String,
    /// `override`, `imported` or `embedded`.
    pub layer: &'static str,
    /// Other names that it goes by today.
    pub aliases: Vec<String>,
    /// Costs nothing, by statement.
    pub free: bool,
    /// Where the prices come from.
    #[serde(flatten)]
    pub origin: Origin,
    /// Prices, in order of time.
    pub prices: Vec<PriceSet>,
}

/// Prices that hold from a day on, under a condition.
#[derive(Clone, Debug, Serialize)]
pub struct PriceSet {
    /// First day, in UTC; null since launch.
    pub from: Option<String>,
    /// When they hold, in words; empty for always.
    pub when: String,
    /// Unit, price in USD, and how many units it buys.
    pub prices: Vec<(&'static str, String, u64)>,
}

impl PriceBook {
    /// How many models each layer knows, own files first. Reads every embedded file.
    pub fn sizes(&self) -> [(&'static str, usize); 3] {
        let models = |files: &[Provider]| files.iter().map(|file| file.models.len()).sum();
        let embedded = embedded::all().map(|file| file.models.len()).sum();
        [
            ("override", models(&self.overrides)),
            ("imported", models(&self.imported)),
            ("embedded", embedded),
        ]
    }

    /// The models whose id or alias is `model`, or contains it where none is; all without it.
    pub fn entries(&self, model: Option<&str>, at: Timestamp) -> Vec<Entry> {
        let own = self.overrides.iter().map(|file| ("override", file));
        let imported = self.imported.iter().map(|file| ("imported", file));
        let files: Vec<_> =
            own.chain(imported).chain(embedded::all().map(|file| ("embedded", file))).collect();
        let all = files.iter().flat_map(|(layer, file)| entries(layer, file, at));
        let Some(model) = model.map(str::to_lowercase) else { return all.collect() };
        let all: Vec<Entry> = all.collect();
        let some = |fits: &dyn Fn(&str) -> bool| {
            let fits = |entry: &&Entry| {
                let id = entry.entry.split_once('/').map_or("", |(_, id)| id);
                let mut names = [entry.entry.as_str(), id]
                    .into_iter()
                    .chain(entry.aliases.iter().map(String::as_str));
                names.any(|name| fits(&name.to_lowercase()))
            };
            all.iter().filter(fits).cloned().collect::<Vec<_>>()
        };
        let exact = some(&|name| name == model);
        if exact.is_empty() { some(&|name| name.contains(&model)) } else { exact }
    }

    /// Reads price files – those of `dir`, else the embedded ones – and says what is stale in them.
    ///
    /// # Errors
    /// A rendered message with file and line when a file is wrong.
    pub fn check(dir: Option<&Path>, today: Timestamp) -> Result<Vec<String>, String> {
        let own = dir.map(super::read_dir).transpose()?;
        let files: Vec<&Provider> = match &own {
            Some(own) => own.iter().collect(),
            None => embedded::all().collect(),
        };
        let models: usize = files.iter().map(|file| file.models.len()).sum();
        let mut notes = vec![format!("{} price files, {models} models", files.len())];
        for file in files {
            notes.push(format!(
                "{}: {} models, {} other names",
                file.name,
                file.models.len(),
                file.aliases.len()
            ));
            let stale = |(id, model): (&String, &Model)| {
                Some(format!("{}/{id}: {}", file.name, check::age(model, today)?))
            };
            notes.extend(file.models.iter().filter_map(stale));
            if let Some(like) = &file.like
                && embedded::provider(&book::slug(like)).is_none()
            {
                notes.push(format!(
                    "{}: `like` names {like}, which has no embedded prices",
                    file.name
                ));
            }
        }
        Ok(notes)
    }
}

fn entries(layer: &'static str, file: &Provider, at: Timestamp) -> Vec<Entry> {
    let aliases = |id: &String| {
        let today = file.aliases.iter().filter(|(_, targets)| {
            let now = targets.iter().rev().find(|(from, _)| from.is_none_or(|from| from <= at));
            now.is_some_and(|(_, target)| target == id)
        });
        today.map(|(name, _)| name.clone()).collect()
    };
    let entry = |(id, model): (&String, &Model)| Entry {
        entry: format!("{}/{id}", file.name),
        layer,
        aliases: aliases(id),
        free: model.free,
        origin: model.origin.clone(),
        prices: sets(model),
    };
    file.models.iter().map(entry).collect()
}

fn sets(model: &Model) -> Vec<PriceSet> {
    let list = |prices: &Prices| {
        prices.iter().map(|(unit, price)| (unit.name(), price.dollars(), price.per)).collect()
    };
    let of = |set: &Set| {
        let one = |when: String, prices: &Prices| PriceSet {
            from: set.from_text.clone(),
            when,
            prices: list(prices),
        };
        let base = one(String::new(), &set.base);
        let when = set.when.iter().map(|when| one(words(when), &when.prices));
        std::iter::once(base).chain(when).collect::<Vec<_>>()
    };
    model.sets.iter().flat_map(of).collect()
}

fn words(when: &When) -> String {
    let clock = |minutes: u32| format!("{:02}:{:02}", minutes / 60, minutes % 60);
    let day = |day: &u32| usize::try_from(*day).ok().and_then(|day| DAYS.get(day)).copied();
    let hours: Vec<_> =
        when.utc.iter().map(|(from, to)| format!("{}-{}", clock(*from), clock(*to))).collect();
    let days: Vec<_> = when.days.iter().filter_map(day).collect();
    let parts = [
        when.tier.as_ref().map(|tier| format!("tier {tier}")),
        when.prompt_over.map(|tokens| format!("prompt over {tokens}")),
        when.prompt_from.map(|tokens| format!("prompt from {tokens}")),
        (!hours.is_empty()).then(|| format!("{} UTC", hours.join(" "))),
        (!days.is_empty()).then(|| days.join(" ")),
    ];
    parts.into_iter().flatten().collect::<Vec<_>>().join(", ")
}
