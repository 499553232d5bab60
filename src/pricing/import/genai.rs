//! genai-prices: a list of providers, dollars a million (its `new_data/v2` files).
//!
//! Prices hold from a date or in a daily window, the last one that holds winning; variants replace single
//! prices for a tier, the first one that holds winning.

use super::{LEFT_OUT, Listed, Listing, Stepped, price};
use crate::{
    model::Timestamp,
    pricing::{
        schedule::{Model, Set, When},
        units::Unit,
    },
};
use serde_json::{Map, Value};
use std::collections::{BTreeMap, BTreeSet};

/// Names of prices, with the unit that each has here.
const UNITS: [(&str, Unit); 26] = [
    ("input_mtok", Unit::Input),
    ("input_text_mtok", Unit::Input),
    ("output_mtok", Unit::Output),
    ("output_text_mtok", Unit::Output),
    ("cache_read_mtok", Unit::CacheRead),
    ("cache_write_mtok", Unit::CacheWrite),
    ("cache_write_5m_mtok", Unit::CacheWrite),
    ("cache_write_1h_mtok", Unit::CacheWrite1h),
    ("output_reasoning_mtok", Unit::Reasoning),
    ("output_citation_mtok", Unit::Citation),
    ("input_audio_mtok", Unit::InputAudio),
    ("cache_audio_read_mtok", Unit::CacheReadAudio),
    ("output_audio_mtok", Unit::OutputAudio),
    ("input_image_mtok", Unit::InputImage),
    ("cache_image_read_mtok", Unit::CacheReadImage),
    ("output_image_mtok", Unit::OutputImage),
    ("input_video_mtok", Unit::InputVideo),
    ("output_video_mtok", Unit::OutputVideo),
    ("audio_hours", Unit::InputSeconds),
    ("input_audio_hours", Unit::InputSeconds),
    ("input_mchars", Unit::InputCharacters),
    ("input_document_kpages", Unit::Pages),
    ("web_searches_kcount", Unit::WebSearch),
    ("storage_searches_kcount", Unit::FileSearch),
    ("code_executions_kcount", Unit::CodeSession),
    ("requests_kcount", Unit::Request),
];

pub fn read(providers: &[Value], listing: &mut Listing) {
    listing.source = "genai-prices";
    for provider in providers {
        let Some(name) = provider["id"].as_str().filter(|name| !LEFT_OUT.contains(name)) else {
            continue;
        };
        for model in provider["models"].as_array().map(Vec::as_slice).unwrap_or_default() {
            let names = names(model);
            let Some((id, aliases)) = names.split_first() else { continue };
            // The list puts what Vertex serves among Google's own.
            if name == "google" && id.contains("claude") {
                continue;
            }
            let listed =
                read_model(model, listing).map(|model| Listed { aliases: aliases.to_vec(), model });
            listing.add(name, id, listed);
        }
    }
}

/// The names that a model certainly has: those that it equals, its id first where that is one of them.
/// Beginnings, parts and patterns of names are not taken over.
fn names(model: &Value) -> Vec<String> {
    fn equals(clause: &Value, depth: u8, names: &mut Vec<String>) {
        if let Some(name) = clause["equals"].as_str() {
            names.push(name.to_owned());
        }
        for inner in clause["or"].as_array().into_iter().flatten().filter(|_| depth < 8) {
            equals(inner, depth + 1, names);
        }
    }
    let mut names = Vec::new();
    equals(&model["match"], 0, &mut names);
    let Some(id) = model["id"].as_str() else { return Vec::new() };
    match names.iter().position(|name| name == id) {
        Some(at) => names.swap(0, at),
        None if names.is_empty() => names.push(id.to_owned()),
        None => {}
    }
    names
}

/// Prices and when they hold.
struct Part<'a> {
    start: Option<&'a str>,
    hours: Option<(u32, u32)>,
    prices: &'a Map<String, Value>,
}

impl<'a> Part<'a> {
    fn read(value: &'a Value) -> Result<Self, String> {
        let constraint = &value["constraint"];
        let day = |text: &&str| format!("{text}T00:00:00Z").parse::<Timestamp>().is_ok();
        let start = match constraint["start_date"].as_str() {
            Some(text) => Some(Some(text).filter(day).ok_or("a start that is no day")?),
            None => None,
        };
        let time = |name: &str| constraint[name].as_str().map(minute);
        let hours = match (time("start_time"), time("end_time")) {
            (Some(Some(from)), Some(Some(to))) => Some((from, to)),
            (None, None) => None,
            _ => return Err("hours that cannot be read".to_owned()),
        };
        let known = constraint.is_null() || start.is_some() || hours.is_some();
        let prices =
            value["prices"].as_object().filter(|_| known).ok_or("prices of no known shape")?;
        Ok(Self { start, hours, prices })
    }

    fn has_begun(&self, at: Option<&str>) -> bool {
        self.start.is_none_or(|start| at.is_some_and(|at| start <= at))
    }
}

/// `01:30:00Z` in minutes of the day.
fn minute(text: &str) -> Option<u32> {
    let mut parts = text.trim_end_matches('Z').split(':');
    let mut next = || parts.next()?.parse::<u32>().ok();
    let (hour, minute) = (next()?, next()?);
    (hour < 24 && minute < 60).then_some(hour * 60 + minute)
}

fn read_model(model: &Value, listing: &mut Listing) -> Result<Model, String> {
    let single;
    let parts: Vec<Part<'_>> = match &model["prices"] {
        Value::Object(_) => {
            single = serde_json::json!({ "prices": model["prices"] });
            vec![Part::read(&single)?]
        }
        Value::Array(parts) => parts.iter().map(Part::read).collect::<Result<_, _>>()?,
        _ => return Err("prices of no known shape".to_owned()),
    };
    let mut variants: BTreeMap<&str, Vec<Part<'_>>> = BTreeMap::new();
    for variant in model["price_variants"].as_array().into_iter().flatten() {
        match tier(&variant["when"]) {
            Some("") => {}
            Some(tier) => variants.entry(tier).or_default().push(Part::read(variant)?),
            None => listing.count_unread("price_variants"),
        }
    }
    if variants.contains_key("priority") {
        variants.remove("fast"); // one tier under two names
    }
    let all = parts.iter().chain(variants.values().flatten());
    let starts: BTreeSet<Option<&str>> =
        std::iter::once(None).chain(all.map(|part| part.start)).collect();
    let mut sets: Vec<Set> = Vec::new();
    for start in starts {
        let set = set_at(start, &parts, &variants, listing)?;
        let same = |last: &Set| last.base == set.base && last.when == set.when;
        if !sets.last().is_some_and(same) {
            sets.push(set);
        }
    }
    if sets.iter().any(|set| set.base.is_empty()) {
        return Err("no price".to_owned());
    }
    Ok(Model { sets, ..Model::default() })
}

/// The prices from `start` on.
fn set_at(
    start: Option<&str>,
    parts: &[Part<'_>],
    variants: &BTreeMap<&str, Vec<Part<'_>>>,
    listing: &mut Listing,
) -> Result<Set, String> {
    let holds = |part: &Part<'_>| part.hours.is_none() && part.has_begun(start);
    let at = parts.iter().rposition(holds).unwrap_or(0);
    let base = parts.get(at).map(|part| stepped(&[part], listing)).unwrap_or_default();
    let mut when = base.blocks(&When::default(), false);
    when.retain(When::is_step);
    for part in parts.iter().skip(at + 1).filter(|part| part.has_begun(start)) {
        if let Some(hours) = part.hours {
            let like = When { utc: vec![hours], ..When::default() };
            when.extend(stepped(&[part], listing).blocks(&like, false));
        }
    }
    for (tier, parts) in variants {
        if parts.iter().any(|part| part.hours.is_some()) {
            return Err("a tier with hours".to_owned());
        }
        let begun: Vec<_> = parts.iter().filter(|part| part.has_begun(start)).collect();
        let prices = stepped(&begun, listing);
        let any_prompt = prices.above.is_empty() && !base.above.is_empty();
        let like = When { tier: Some((*tier).to_owned()), any_prompt, ..When::default() };
        when.extend(prices.blocks(&like, false));
    }
    let from = start.map(|day| format!("{day}T00:00:00Z").parse());
    Ok(Set {
        from: from.transpose().map_err(|_| "a start that is no day")?,
        from_text: start.map(str::to_owned),
        base: base.plain,
        when,
    })
}

/// The tier that a variant is for; empty for the default one.
fn tier(when: &Value) -> Option<&str> {
    let when = when.as_object().filter(|when| when.len() == 1)?;
    let (key, value) = when.iter().next()?;
    match (key.as_str(), value.as_str()?) {
        ("service_tier", "default" | "standard" | "auto") => Some(""),
        ("service_tier", tier @ ("flex" | "priority" | "fast" | "ultrafast" | "scale"))
        | ("processing", tier @ "batch")
        | ("speed", tier @ "fast") => Some(tier),
        _ => None,
    }
}

/// Prices of several parts, the first that has one winning. A price of nothing is no price.
fn stepped(parts: &[&Part<'_>], listing: &mut Listing) -> Stepped {
    let mut all = Stepped::default();
    for (name, value) in parts.iter().flat_map(|part| part.prices) {
        let Some((_, unit)) = UNITS.iter().find(|(known, _)| known == name) else {
            listing.count_unread(name);
            continue;
        };
        if all.plain.contains_key(unit) {
            continue;
        }
        let plain = if value.is_object() { &value["base"] } else { value };
        if let Some(price) = price_of(*unit, plain) {
            all.plain.insert(*unit, price);
        }
        for step in value["tiers"].as_array().into_iter().flatten() {
            let price = price_of(*unit, &step["price"]);
            if let (Some(size), Some(price)) = (step["start"].as_u64(), price) {
                all.above.entry(size).or_default().insert(*unit, price);
            }
        }
    }
    all
}

fn price_of(unit: Unit, number: &Value) -> Option<crate::pricing::money::Price> {
    // Their prices are for the quantities that price files price, too.
    let per = crate::pricing::units::TABLES.iter().find(|table| table.units.contains(&unit))?.per;
    price(unit, number, per).filter(|price| price.nano > 0)
}
