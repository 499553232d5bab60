//! litellm: one map of models, dollars a token, conditions spelt into the names of members
//! (`model_prices_and_context_window.json`).

use super::{LEFT_OUT, Listed, Listing, Stepped, price};
use crate::pricing::{
    money::{Factor, Price},
    schedule::{Model, Origin, Set, When},
    units::Unit,
};
use serde_json::{Map, Value};
use std::collections::BTreeMap;

/// Members that state a price, longest first where one begins with another.
const UNITS: [(&str, Unit); 21] = [
    ("cache_creation_input_token_cost_above_1hr", Unit::CacheWrite1h),
    ("cache_creation_input_token_cost", Unit::CacheWrite),
    ("cache_read_input_audio_token_cost", Unit::CacheReadAudio),
    ("cache_read_input_image_token_cost", Unit::CacheReadImage),
    ("cache_read_input_token_cost", Unit::CacheRead),
    ("citation_cost_per_token", Unit::Citation),
    ("code_interpreter_cost_per_session", Unit::CodeSession),
    ("google_maps_grounding_cost_per_query", Unit::Maps),
    ("input_cost_per_audio_token", Unit::InputAudio),
    ("input_cost_per_character", Unit::InputCharacters),
    ("input_cost_per_image_token", Unit::InputImage),
    ("input_cost_per_request", Unit::Request),
    ("input_cost_per_second", Unit::InputSeconds),
    ("input_cost_per_token", Unit::Input),
    ("input_cost_per_video_token", Unit::InputVideo),
    ("ocr_cost_per_page", Unit::Pages),
    ("output_cost_per_audio_token", Unit::OutputAudio),
    ("output_cost_per_image_token", Unit::OutputImage),
    ("output_cost_per_reasoning_token", Unit::Reasoning),
    ("output_cost_per_token", Unit::Output),
    ("output_cost_per_video_token", Unit::OutputVideo),
];
/// Tiers as they end the name of a member, and as price files name them.
const TIERS: [(&str, &str); 5] = [
    ("batches", "batch"),
    ("balanced", "balanced"),
    ("flex", "flex"),
    ("priority", "priority"),
    ("ultrafast", "ultrafast"),
];
/// Labels that stand for a part of a provider.
const LABELS: [(&str, &str); 8] = [
    ("azure_ai", "azure"),
    ("azure_text", "azure"),
    ("bedrock_converse", "bedrock"),
    ("codestral", "mistral"),
    ("gemini", "google"),
    ("text-completion-codestral", "mistral"),
    ("text-completion-openai", "openai"),
    ("vertex_ai", "vertex"),
];

pub fn read(entries: &Map<String, Value>, listing: &mut Listing) {
    listing.source = "litellm";
    for (key, entry) in entries {
        let Some((label, entry)) = entry["litellm_provider"].as_str().zip(entry.as_object()) else {
            continue;
        };
        if LEFT_OUT.contains(&label) || key == "sample_spec" {
            continue;
        }
        let label = if label.starts_with("vertex_ai") { "vertex_ai" } else { label };
        let provider = LABELS.iter().find(|(known, _)| *known == label).map_or(label, |(_, to)| to);
        let id = id(key, label, provider);
        // Not a name on the wire but a model at a size, in a region, or of a size class.
        let is_place = provider == "bedrock" && id.contains('/');
        if !id.contains("-x-1") && !is_place {
            let model = read_model(entry, provider, listing);
            let listed = model.map(|model| Listed { aliases: Vec::new(), model });
            listing.add(provider, id, listed);
        }
    }
}

/// The model's id at its provider: the key without the label before it.
fn id<'a>(key: &'a str, label: &str, provider: &str) -> &'a str {
    let labels = [label, provider, "bedrock", "azure", "azure_ai"];
    let rest = labels.iter().find_map(|label| key.strip_prefix(label)?.strip_prefix('/'));
    rest.unwrap_or(key)
}

fn read_model(
    entry: &Map<String, Value>,
    provider: &str,
    listing: &mut Listing,
) -> Result<Model, String> {
    let mode = entry.get("mode").and_then(Value::as_str).unwrap_or_default();
    let mut tiers: BTreeMap<Option<&str>, Stepped> = BTreeMap::new();
    let (mut zeros, mut costs_otherwise) = (0, false);
    for (name, value) in entry {
        let Some((unit, size, tier)) = member(name, mode) else {
            if name.contains("cost") && value.is_number() {
                costs_otherwise |= price(Unit::Input, value, 1).is_none_or(|price| price.nano > 0);
                listing.count_unread(name);
            }
            continue;
        };
        match price(unit, value, 1) {
            Some(Price { nano: 0, .. }) if matches!(unit, Unit::Input | Unit::Output) => zeros += 1,
            Some(Price { nano: 0, .. }) | None => {}
            Some(price) => {
                let prices = tiers.entry(tier).or_default();
                match size {
                    Some(size) => prices.above.entry(size).or_default().insert(unit, price),
                    None => prices.plain.insert(unit, price),
                };
            }
        }
    }
    let search = &entry.get("search_context_cost_per_query").unwrap_or(&Value::Null)["search_context_size_medium"];
    let usual = tiers.entry(None).or_default();
    if let Some(fee) = price(Unit::WebSearch, search, 1).filter(|fee| fee.nano > 0) {
        usual.plain.insert(Unit::WebSearch, fee);
    }
    ranges(entry, usual);
    for prices in tiers.values_mut() {
        // Reasoning at the price of output has no price of its own, and must follow it from tier to tier.
        if prices.plain.get(&Unit::Reasoning) == prices.plain.get(&Unit::Output) {
            prices.plain.remove(&Unit::Reasoning);
        }
    }
    let free =
        tiers.values().all(Stepped::is_empty) && zeros >= 2 && mode == "chat" && !costs_otherwise;
    if !free && tiers.values().all(|prices| prices.plain.is_empty()) {
        return Err("no price".to_owned());
    }
    let text = |name: &str| entry.get(name).and_then(Value::as_str).map(str::to_owned);
    let is_day =
        |day: &String| day.len() == 10 && day.bytes().all(|b| b.is_ascii_digit() || b == b'-');
    Ok(Model {
        free,
        origin: Origin {
            source: text("source").filter(|source| source.starts_with("https://")),
            retired: text("deprecation_date").filter(is_day),
            ..Origin::default()
        },
        regions: regions(entry),
        sets: if free { Vec::new() } else { vec![set(entry, provider, tiers)] },
        ..Model::default()
    })
}

/// What a member prices: the unit, the prompt size above which it holds, and the tier.
fn member<'a>(name: &str, mode: &str) -> Option<(Unit, Option<u64>, Option<&'a str>)> {
    let (unit, mut rest) =
        UNITS.iter().find_map(|(start, unit)| Some((*unit, name.strip_prefix(start)?)))?;
    // Video and old chat models are priced by seconds and characters of another kind.
    let fits = match unit {
        Unit::InputSeconds => mode == "audio_transcription",
        Unit::InputCharacters => mode == "audio_speech",
        _ => true,
    };
    let mut size = None;
    if let Some((thousands, after)) =
        rest.strip_prefix("_above_").and_then(|rest| rest.split_once("k_tokens"))
    {
        size = Some(thousands.parse::<u64>().ok()?.checked_mul(1000)?);
        rest = after;
    }
    let tier = match rest.strip_prefix('_') {
        Some(end) => Some(TIERS.iter().find(|(name, _)| *name == end)?.1),
        None => rest.is_empty().then_some(None)?,
    };
    fits.then_some((unit, size, tier))
}

/// Prices by ranges of prompt sizes, as Alibaba has them.
fn ranges(entry: &Map<String, Value>, prices: &mut Stepped) {
    for range in entry.get("tiered_pricing").and_then(Value::as_array).into_iter().flatten() {
        let Some(from) = range["range"].get(0).and_then(whole) else { continue };
        for (name, value) in range.as_object().into_iter().flatten() {
            let Some((unit, None, None)) = member(name, "") else { continue };
            let Some(price) = price(unit, value, 1).filter(|price| price.nano > 0) else {
                continue;
            };
            if from == 0 {
                prices.plain.insert(unit, price);
            } else {
                prices.above.entry(from).or_default().insert(unit, price);
            }
        }
    }
}

/// A count that may be spelt `256000.0`.
fn whole(value: &Value) -> Option<u64> {
    let text = value.as_number()?.to_string();
    text.split('.').next()?.parse().ok()
}

fn set(
    entry: &Map<String, Value>,
    provider: &str,
    mut tiers: BTreeMap<Option<&str>, Stepped>,
) -> Set {
    let mut usual = tiers.remove(&None).unwrap_or_default();
    // A price for long prompts alone is a slip: it stands beside one for all.
    for prices in usual.above.values_mut() {
        prices.retain(|unit, _| usual.plain.contains_key(unit));
    }
    usual.above.retain(|_, prices| !prices.is_empty());
    // xAI counts its limit to the dearer side.
    let from = provider == "xai";
    let mut when = usual.blocks(&When::default(), from);
    when.retain(When::is_step);
    when.extend(off_peak(entry).unwrap_or_default());
    if let Some(fast) =
        entry.get("provider_specific_entry").and_then(|more| whole(more.get("fast")?))
    {
        let times = |price: &Price| Price { nano: price.nano.saturating_mul(fast), ..*price };
        let dearer = usual.plain.iter().filter(|(unit, _)| unit.is_token());
        let plain = dearer.map(|(unit, price)| (*unit, times(price))).collect();
        tiers.insert(Some("fast"), Stepped { plain, above: BTreeMap::new() });
    }
    for (tier, prices) in tiers {
        let like = When { tier: tier.map(str::to_owned), ..When::default() };
        when.extend(prices.blocks(&like, from));
    }
    Set { from: None, from_text: None, base: usual.plain, when }
}

/// Hours with prices of their own: `{windows: [{hours_utc, weekdays}], input_cost_per_token, …}`.
fn off_peak(entry: &Map<String, Value>) -> Option<Vec<When>> {
    let hours = |text: &str| {
        let minutes = |text: &str| {
            let (hour, minute) = text.split_once(':')?;
            Some(hour.parse::<u32>().ok()? * 60 + minute.parse::<u32>().ok()?)
        };
        let (from, to) = text.split_once('-')?;
        Some((minutes(from)?, minutes(to)?))
    };
    let plan = entry.get("off_peak_pricing")?.as_object()?;
    let prices = plan.iter().filter_map(|(name, value)| {
        let (unit, None, None) = member(name, "")? else { return None };
        Some((unit, price(unit, value, 1).filter(|price| price.nano > 0)?))
    });
    let prices: BTreeMap<_, _> = prices.collect();
    let windows = plan.get("windows")?.as_array()?.iter().filter_map(|window| {
        let listed = match &window["hours_utc"] {
            Value::String(text) => vec![hours(text)?],
            Value::Array(texts) => {
                texts.iter().map(|text| hours(text.as_str()?)).collect::<Option<_>>()?
            }
            _ => return None,
        };
        let days = window["weekdays"].as_array().into_iter().flatten();
        let days = days.filter_map(|day| u32::try_from(day.as_u64()?.checked_sub(1)?).ok());
        Some(When { utc: listed, days: days.collect(), prices: prices.clone(), ..When::default() })
    });
    Some(windows.collect())
}

/// Factors on token prices by the place that usage names, or by host.
fn regions(entry: &Map<String, Value>) -> BTreeMap<String, Factor> {
    let specific = entry.get("provider_specific_entry").unwrap_or(&Value::Null);
    let member = |name: &str| entry.get(name).unwrap_or(&Value::Null);
    let places = [
        ("us", &specific["us"]),
        ("eu.api.openai.com", member("regional_processing_uplift_multiplier_eu")),
        ("us.api.openai.com", member("regional_processing_uplift_multiplier_us")),
    ];
    let factor = |(place, value): (&str, &Value)| {
        Some((place.to_owned(), Factor::parse(&value.as_number()?.to_string())?))
    };
    places.into_iter().filter_map(factor).collect()
}
