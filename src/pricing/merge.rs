//! Laying a price book's listing over what is known: what changes, what stays, what is in doubt
//! (`pricing.md` §5).
//!
//! Nothing is deleted: what a listing does not name keeps its price, and a changed price is a new price
//! set from the day of the import on, or from the day that the listing itself gives.

use super::{
    PriceBook,
    book::Found,
    import::{Listed, Listing},
    money::Price,
    schedule::{Circumstances, Model, Prices, Set},
    units::Unit,
};
use crate::model::Timestamp;
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};

/// A price of another book that is nearer than one part in this many is the same price.
const SAME_PARTS: u64 = 1000;
/// Factor beyond which a change is believed only when somebody says so.
const FACTOR_MAX: u64 = 3;
/// Share of the known entries, in percent, that may change without somebody saying so.
const CHANGED_MAX_PERCENT: usize = 20;
/// Microseconds of an hour.
const HOUR_US: i64 = 3_600_000_000;

/// What an import does with an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// The model was not known.
    New,
    /// Prices differ.
    Changed,
    /// The listing knows more units or tiers; what both know is the same.
    More,
    /// Prices differ from an entry that only the other book confirms.
    Contested,
    /// The name stands for another model here, by date: it stays.
    Alias,
}

/// What an import does with one entry.
#[derive(Clone, Debug, Serialize)]
pub struct Change {
    /// `provider/model`.
    pub entry: String,
    /// What happens.
    pub kind: Kind,
    /// Whether an import would take it over.
    pub taken: bool,
    /// Under which condition, unit, price here, price there.
    pub prices: Vec<Difference>,
}

/// A price that differs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Difference {
    /// Tier and prompt size, in words; empty for the usual case.
    pub when: String,
    /// The unit.
    pub unit: &'static str,
    /// In dollars, here.
    pub was: String,
    /// In dollars, there.
    pub is: String,
    #[serde(skip)]
    factor_is_large: bool,
}

/// The models of a layer: by provider, by id, with their other names.
pub type Layer = BTreeMap<String, BTreeMap<String, (Vec<String>, Model)>>;

/// An import, before it is written.
#[derive(Debug, Default)]
pub struct Merge {
    /// What the imported layer gains.
    pub layer: Layer,
    /// What differs, in order of the entries.
    pub changes: Vec<Change>,
    /// Entries that say the same.
    pub same: usize,
    /// Entries that cannot be taken over, with the reason.
    pub skipped: BTreeMap<String, String>,
}

impl Merge {
    /// Why this import needs somebody's word, if it does.
    pub fn doubt(&self) -> Option<String> {
        let taken = || self.changes.iter().filter(|change| change.taken);
        let changed = taken().filter(|change| change.kind == Kind::Changed).count();
        let known = self.same + self.changes.iter().filter(|c| c.kind != Kind::New).count();
        if let Some(large) =
            taken().find(|change| change.prices.iter().any(|price| price.factor_is_large))
        {
            return Some(format!("{} changes by more than {FACTOR_MAX} times", large.entry));
        }
        (changed * 100 > known * CHANGED_MAX_PERCENT)
            .then(|| format!("{changed} of {known} known entries would change"))
    }
}

/// Where a stronger layer says something else than the weaker ones, with the name of that layer.
pub fn layers(book: &PriceBook, today: Timestamp) -> Vec<(&'static str, Change)> {
    let own = book.overrides.iter().map(|file| ("override", file));
    let imported = book.imported.iter().map(|file| ("imported", file));
    let mut all = Vec::new();
    for (layer, file) in own.chain(imported) {
        for (id, model) in &file.models {
            let weaker = |slug: &str| {
                let mut files = book.files(slug);
                files.retain(|(other, _)| {
                    *other == "embedded" || (layer == "override" && *other == "imported")
                });
                files
            };
            let found = super::book::find(&weaker, &file.name, id, today);
            let (kind, prices) = match found.filter(|found| found.provider.name == file.name) {
                None => (Kind::New, Vec::new()),
                Some(found) => {
                    let prices = differences(found.model, model, today);
                    let more = knows_more(found.model, model, today);
                    match (prices.is_empty(), more) {
                        (true, false) => continue,
                        (true, true) => (Kind::More, prices),
                        (false, _) => (Kind::Changed, prices),
                    }
                }
            };
            let entry = format!("{}/{id}", file.name);
            all.push((layer, Change { entry, kind, taken: true, prices }));
        }
    }
    all
}

/// What importing `listing` does to `book`; `accept` also takes over what is contested.
pub fn merge(book: &PriceBook, listing: Listing, today: Timestamp, accept: bool) -> Merge {
    let day = today.to_string().chars().take(10).collect::<String>();
    let source = listing.source;
    let mut merge = Merge { skipped: listing.skipped, ..Merge::default() };
    for (provider, models) in listing.models {
        for (id, listed) in models {
            let entry = format!("{provider}/{id}");
            let found = book.find(&provider, &id, today);
            let known = found.as_ref().map(|found| found.model);
            let prices =
                known.map_or_else(Vec::new, |here| differences(here, &listed.model, today));
            let Some(kind) =
                kind(found.as_ref(), (&provider, &id), &listed.model, source, &prices, today)
            else {
                merge.same += 1;
                continue;
            };
            let taken = match kind {
                Kind::New | Kind::Changed | Kind::More => true,
                Kind::Contested => accept,
                Kind::Alias => false,
            };
            if taken {
                let listed = match (kind, known) {
                    (Kind::New, _) | (_, None) => listed,
                    (Kind::More, Some(here)) => {
                        Listed { aliases: vec![], model: with_more(here, &listed.model, today) }
                    }
                    (_, Some(here)) => {
                        let model = with_change(here, &listed.model, today, &day);
                        Listed { aliases: vec![], model }
                    }
                };
                merge.take(book, &provider, &id, listed, &format!("{source} {day}"));
            }
            let prices = if kind == Kind::New { Vec::new() } else { prices };
            merge.changes.push(Change { entry, kind, taken, prices });
        }
    }
    merge
}

/// What becomes of a listed model, given what is known under its name and how that differs.
fn kind(
    found: Option<&Found<'_>>,
    (provider, id): (&str, &str),
    listed: &Model,
    source: &str,
    prices: &[Difference],
    today: Timestamp,
) -> Option<Kind> {
    let Some(found) = found else { return Some(Kind::New) };
    let is_own = found.provider.name == provider;
    if prices.is_empty() {
        let more = is_own && found.id == id && knows_more(found.model, listed, today);
        return more.then_some(Kind::More);
    }
    // What was found under a shortened name, or at another provider, is not this model.
    let is_name = is_own && matches!(found.matched, "exact" | "case");
    if !is_name {
        return Some(Kind::New);
    }
    if found.id != id {
        return Some(Kind::Alias);
    }
    let confirmed = &found.model.origin.confirmed_by;
    let by_other = !confirmed.is_empty() && !confirmed.iter().any(|by| by.starts_with(source));
    let is_contested = found.layer == "embedded" && by_other;
    Some(if is_contested { Kind::Contested } else { Kind::Changed })
}

impl Merge {
    /// Puts a model into the layer, under the names that are free.
    fn take(&mut self, book: &PriceBook, provider: &str, id: &str, listed: Listed, label: &str) {
        let Listed { aliases, mut model } = listed;
        model.origin.confirmed_by = vec![label.to_owned()];
        model.sets.iter_mut().for_each(Set::fill_steps);
        if let Err(why) = super::check::model(&model) {
            self.skipped.insert(format!("{provider}/{id}"), why);
            return;
        }
        let models = self.layer.entry(provider.to_owned()).or_default();
        let used: BTreeSet<String> = models
            .iter()
            .flat_map(|(id, (aliases, _))| std::iter::once(id).chain(aliases))
            .map(|name| name.to_lowercase())
            .collect();
        if used.contains(&id.to_lowercase()) {
            self.skipped.insert(format!("{provider}/{id}"), "stands twice".to_owned());
            return;
        }
        let mut own = BTreeSet::from([id.to_lowercase()]);
        let free = |alias: &String| {
            let name = alias.to_lowercase();
            book.find(provider, alias, Timestamp(i64::MAX)).is_none()
                && !used.contains(&name)
                && own.insert(name)
        };
        let aliases = aliases.into_iter().filter(free).collect();
        models.insert(id.to_owned(), (aliases, model));
    }
}

/// The prices that both know and that differ, now or on a coming day.
fn differences(here: &Model, there: &Model, today: Timestamp) -> Vec<Difference> {
    if here.free || there.free {
        return Vec::new();
    }
    let coming = there.sets.iter().filter_map(|set| set.from).filter(|from| *from > today);
    let mut all: Vec<Difference> = Vec::new();
    for at in std::iter::once(today).chain(coming) {
        if let (Some(here), Some(there)) = (here.set(at), there.set(at)) {
            let found = compare(here, there);
            all.extend(found.into_iter().filter(|new| !all.contains(new)).collect::<Vec<_>>());
        }
    }
    all
}

fn compare(here: &Set, there: &Set) -> Vec<Difference> {
    let mut all = Vec::new();
    let mut seen = BTreeSet::new();
    for (tier, prompt, at) in circumstances(here, there) {
        let call = Circumstances { prompt, tier: tier.as_deref(), at };
        let (was, is) = (here.prices(call), there.prices(call));
        for (unit, was) in was {
            let stated = here.states(unit, call) && there.states(unit, call);
            let Some(is) = is.get(&unit).filter(|is| stated && !is_near(was, **is)) else {
                continue;
            };
            if seen.insert((tier.clone(), unit, was.nano, is.nano)) {
                let size = (prompt > 0).then(|| format!("prompt of {prompt}"));
                let tier = tier.as_ref().map(|tier| format!("tier {tier}"));
                all.push(Difference {
                    when: tier.into_iter().chain(size).collect::<Vec<_>>().join(", "),
                    unit: unit.name(),
                    was: was.dollars(),
                    is: is.dollars(),
                    factor_is_large: was.nano / FACTOR_MAX > is.nano
                        || is.nano / FACTOR_MAX > was.nano,
                });
            }
        }
    }
    all
}

fn is_near(one: Price, two: Price) -> bool {
    one.nano.abs_diff(two.nano) <= one.nano.max(two.nano) / SAME_PARTS
}

/// Every case that the conditions of both tell apart: tier, prompt size, hour.
fn circumstances(here: &Set, there: &Set) -> Vec<(Option<String>, u64, Timestamp)> {
    let whens = || here.when.iter().chain(&there.when);
    let known = |tier: &&String| here.knows_tier(tier) && there.knows_tier(tier);
    let tiers: BTreeSet<Option<String>> = std::iter::once(None)
        .chain(whens().filter_map(|when| when.tier.as_ref()).filter(known).cloned().map(Some))
        .collect();
    let sizes = whens().flat_map(|when| {
        let over = when.prompt_over.map(|size| [size, size + 1]);
        let from = when.prompt_from.map(|size| [size.saturating_sub(1), size]);
        over.into_iter().chain(from).flatten()
    });
    let prompts: BTreeSet<u64> = std::iter::once(0).chain(sizes).collect();
    let hours =
        if whens().any(|when| !when.utc.is_empty() || !when.days.is_empty()) { 168 } else { 1 };
    let mut all = Vec::new();
    for tier in &tiers {
        for prompt in &prompts {
            all.extend((0..hours).map(|hour| (tier.clone(), *prompt, Timestamp(hour * HOUR_US))));
        }
    }
    all
}

/// Whether `there` prices units or tiers that `here` does not.
fn knows_more(here: &Model, there: &Model, today: Timestamp) -> bool {
    let (Some(here), Some(there)) = (here.set(today), there.set(today)) else { return false };
    there.base.keys().any(|unit| is_more(here, *unit))
        || there.when.iter().filter_map(|w| w.tier.as_deref()).any(|tier| !here.knows_tier(tier))
}

/// `here` with the units and tiers that only `there` prices.
fn with_more(here: &Model, there: &Model, today: Timestamp) -> Model {
    let mut model = here.clone();
    let at = model.sets.iter().rposition(|set| set.from.is_none_or(|from| from <= today));
    let Some((set, more)) = at.and_then(|at| model.sets.get_mut(at)).zip(there.set(today)) else {
        return model;
    };
    let tiers: Vec<_> = more
        .when
        .iter()
        .filter(|when| when.tier.as_deref().is_some_and(|tier| !set.knows_tier(tier)))
        .cloned()
        .collect();
    for (unit, price) in &more.base {
        if is_more(set, *unit) {
            set.base.insert(*unit, *price);
        }
    }
    set.when.extend(tiers);
    model
}

/// Whether a price of `unit` would add to `here`. Where the request has a fee, its searches are in it.
fn is_more(here: &Set, unit: Unit) -> bool {
    let is_paid = unit == Unit::WebSearch && here.base.contains_key(&Unit::Request);
    !is_paid && !here.base.contains_key(&unit)
}

/// `here` with the prices of `there` from today on, or from the day that `there` gives.
fn with_change(here: &Model, there: &Model, today: Timestamp, day: &str) -> Model {
    let mut model = here.clone();
    let now = there.set(today);
    let fees: Prices = here
        .set(today)
        .into_iter()
        .flat_map(|set| &set.base)
        .filter(|(unit, _)| !unit.is_token())
        .map(|(unit, price)| (*unit, *price))
        .collect();
    let with_fees = |set: &Set| {
        let mut set = set.clone();
        for (unit, price) in &fees {
            set.base.entry(*unit).or_insert(*price);
        }
        set
    };
    let last = here.set(today).and_then(|set| set.from);
    let known = now.and_then(|set| set.from).filter(|from| Some(*from) > last);
    let start = known.or_else(|| format!("{day}T00:00:00Z").parse().ok());
    if let Some(now) =
        now.filter(|now| here.set(today).is_none_or(|set| !compare(set, now).is_empty()))
    {
        model.sets.retain(|set| set.from < start);
        let text = if known.is_some() { now.from_text.clone() } else { Some(day.to_owned()) };
        model.sets.push(Set { from: start, from_text: text, ..with_fees(now) });
    }
    let is_coming = |set: &&Set| set.from.is_some_and(|from| from > today);
    let theirs: Vec<Set> = there.sets.iter().filter(is_coming).map(with_fees).collect();
    let coming = if theirs.is_empty() {
        here.sets.iter().filter(is_coming).cloned().collect()
    } else {
        theirs
    };
    model.sets.retain(|set| !is_coming(&set));
    model.sets.extend(coming);
    if !there.regions.is_empty() {
        model.regions.clone_from(&there.regions);
    }
    model
}

#[cfg(test)]
#[path = "merge_tests.rs"]
mod tests;
