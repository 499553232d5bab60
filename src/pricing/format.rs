//! The price files: one TOML file a provider (`pricing.md` §5).

use super::money::{Factor, Price};
use crate::model::Timestamp;
use serde::Deserialize;
use std::collections::BTreeMap;

/// Prices by unit.
pub type Prices = BTreeMap<String, Price>;

/// What prices stand for: the key of the table, and how many units they buy.
const TABLES: [(&str, u64, &[&str]); 3] = [
    (
        "mtok",
        1_000_000,
        &[
            "input",
            "output",
            "cache_read",
            "cache_write",
            "cache_write_1h",
            "input_audio",
            "output_audio",
            "cache_read_audio",
            "input_image",
            "output_image",
            "cache_read_image",
            "reasoning",
        ],
    ),
    ("kcall", 1000, &["web_search", "file_search", "code_session", "request"]),
    ("hour", 3600, &["input_seconds", "output_seconds"]),
];

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    schema: u32,
    provider: String,
    currency: String,
    #[serde(rename = "source")]
    _source: String,
    #[serde(default)]
    regions: BTreeMap<String, String>,
    #[serde(default)]
    like: Option<String>,
    #[serde(default)]
    model: Vec<FileModel>,
    #[serde(default)]
    alias: Vec<FileAlias>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct FileModel {
    id: String,
    #[serde(default)]
    aliases: Vec<String>,
    #[serde(default, rename = "checked")]
    _checked: Option<toml::value::Datetime>,
    #[serde(default, rename = "confirmed_by")]
    _confirmed_by: Vec<String>,
    #[serde(default)]
    free: bool,
    #[serde(default)]
    price: Vec<FilePrice>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct FilePrice {
    #[serde(default)]
    from: Option<toml::value::Datetime>,
    #[serde(default)]
    mtok: BTreeMap<String, String>,
    #[serde(default)]
    kcall: BTreeMap<String, String>,
    #[serde(default)]
    hour: BTreeMap<String, String>,
    #[serde(default)]
    when: Vec<FileWhen>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct FileWhen {
    #[serde(default)]
    prompt_over: Option<u64>,
    #[serde(default)]
    prompt_from: Option<u64>,
    #[serde(default)]
    tier: Option<String>,
    #[serde(default)]
    any_prompt: bool,
    #[serde(default)]
    utc: Vec<String>,
    #[serde(default)]
    days: Vec<String>,
    #[serde(default)]
    mtok: BTreeMap<String, String>,
    #[serde(default)]
    kcall: BTreeMap<String, String>,
    #[serde(default)]
    hour: BTreeMap<String, String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct FileAlias {
    name: String,
    to: Vec<FileTarget>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct FileTarget {
    #[serde(default)]
    from: Option<toml::value::Datetime>,
    model: String,
}

/// A provider's prices, ready for use.
#[derive(Debug)]
pub struct Provider {
    /// Slug.
    pub name: String,
    /// Factor on token prices by host.
    pub regions: BTreeMap<String, Factor>,
    /// Provider whose exact ids are tried last.
    pub like: Option<String>,
    /// By id.
    pub models: BTreeMap<String, Model>,
    /// Id by alias.
    pub aliases: BTreeMap<String, String>,
    /// Aliases that moved: (from, id), in order of time.
    pub moving: BTreeMap<String, Vec<(Option<Timestamp>, String)>>,
}

/// A model's prices over time.
#[derive(Debug)]
pub struct Model {
    /// Costs nothing, by statement.
    pub free: bool,
    /// In order of time.
    pub sets: Vec<Set>,
}

/// Prices that hold from a moment on.
#[derive(Debug)]
pub struct Set {
    /// Since when; `None` for ever.
    pub from: Option<Timestamp>,
    /// As the file writes that day.
    pub from_text: Option<String>,
    base: Prices,
    when: Vec<When>,
}

#[derive(Debug)]
struct When {
    prompt_over: Option<u64>,
    prompt_from: Option<u64>,
    tier: Option<String>,
    /// Minutes of the UTC day, half-open; may wrap midnight.
    utc: Vec<(u32, u32)>,
    /// 0 is Monday.
    days: Vec<u32>,
    prices: Prices,
}

/// What decides about the prices of one call.
#[derive(Clone, Copy, Debug)]
pub struct Circumstances<'a> {
    /// All prompt tokens, cached ones included.
    pub prompt: u64,
    /// Served tier; `None` is the default.
    pub tier: Option<&'a str>,
    /// Start of the request.
    pub at: Timestamp,
}

impl Set {
    /// The base prices with every matching `when` over them, in file order, later ones winning.
    pub fn prices(&self, call: Circumstances<'_>) -> Prices {
        let mut prices = self.base.clone();
        for when in self.when.iter().filter(|when| when.holds(call)) {
            prices.extend(when.prices.iter().map(|(unit, price)| (unit.clone(), *price)));
        }
        prices
    }

    /// Whether the served tier has prices of its own.
    pub fn knows_tier(&self, tier: &str) -> bool {
        self.when.iter().any(|when| when.tier.as_deref() == Some(tier))
    }
}

impl When {
    fn holds(&self, call: Circumstances<'_>) -> bool {
        let minute = u32::try_from(call.at.0.div_euclid(60_000_000).rem_euclid(1440)).unwrap_or(0);
        // 1970-01-01 was a Thursday.
        let day = call.at.0.div_euclid(86_400_000_000);
        let day = u32::try_from((day + 3).rem_euclid(7)).unwrap_or(0);
        let within = |(from, to): &(u32, u32)| {
            if from < to { (*from..*to).contains(&minute) } else { minute >= *from || minute < *to }
        };
        self.prompt_over.is_none_or(|limit| call.prompt > limit)
            && self.prompt_from.is_none_or(|limit| call.prompt >= limit)
            && (self.tier.is_none() || self.tier.as_deref() == call.tier)
            && (self.utc.is_empty() || self.utc.iter().any(within))
            && (self.days.is_empty() || self.days.contains(&day))
    }
}

/// Reads a price file; `name` stands in messages.
///
/// # Errors
/// What is wrong, with file and, where it is known, line.
pub fn read(name: &str, text: &str) -> Result<Provider, String> {
    let file: File = toml::from_str(text).map_err(|error| {
        let line = error.span().and_then(|span| text.get(..span.start));
        let line =
            line.map_or(String::new(), |before| format!(":{}", before.matches('\n').count() + 1));
        format!("{name}{line}: {}", error.message())
    })?;
    if file.schema != 1 || file.currency != "USD" {
        return Err(format!("{name}: needs `schema = 1` and `currency = \"USD\"`"));
    }
    let mut provider = Provider {
        name: file.provider,
        regions: BTreeMap::new(),
        like: file.like,
        models: BTreeMap::new(),
        aliases: BTreeMap::new(),
        moving: BTreeMap::new(),
    };
    for (host, factor) in file.regions {
        let factor =
            Factor::parse(&factor).ok_or_else(|| format!("{name}: regions.{host} is no number"))?;
        provider.regions.insert(host, factor);
    }
    for model in file.model {
        add_model(name, &mut provider, model)?;
    }
    for alias in file.alias {
        let mut targets = Vec::new();
        for target in alias.to {
            targets.push((moment(name, target.from.as_ref())?, target.model));
        }
        provider.moving.insert(alias.name, targets);
    }
    Ok(provider)
}

fn add_model(name: &str, provider: &mut Provider, model: FileModel) -> Result<(), String> {
    let id = model.id.clone();
    let mut sets: Vec<Set> = Vec::new();
    for price in model.price {
        let from = moment(name, price.from.as_ref())?;
        if sets.last().is_some_and(|last| last.from >= from) {
            return Err(format!("{name}: {id}: `from` must rise from block to block"));
        }
        let mut when = Vec::new();
        for block in price.when {
            when.push(read_when(name, &id, block)?);
        }
        sets.push(Set {
            from,
            from_text: price.from.map(|from| from.to_string()),
            base: prices(name, &id, [&price.mtok, &price.kcall, &price.hour])?,
            when,
        });
    }
    if sets.is_empty() && !model.free {
        return Err(format!(
            "{name}: {id}: has no price; say `free = true` where it costs nothing"
        ));
    }
    for alias in model.aliases {
        if provider.aliases.insert(alias.clone(), id.clone()).is_some() {
            return Err(format!("{name}: the alias {alias} stands twice"));
        }
    }
    match provider.models.insert(id.clone(), Model { free: model.free, sets }) {
        Some(_) => Err(format!("{name}: the model {id} stands twice")),
        None => Ok(()),
    }
}

fn read_when(name: &str, id: &str, block: FileWhen) -> Result<When, String> {
    let conditional = block.prompt_over.is_some()
        || block.prompt_from.is_some()
        || block.tier.is_some()
        || !block.utc.is_empty()
        || !block.days.is_empty();
    if !conditional {
        return Err(format!("{name}: {id}: a `when` block without a condition"));
    }
    if block.any_prompt && (block.prompt_over.is_some() || block.prompt_from.is_some()) {
        return Err(format!("{name}: {id}: `any_prompt` beside a prompt size"));
    }
    let bad = |what: &str| format!("{name}: {id}: `{what}` is neither hours nor a day");
    let utc = block
        .utc
        .iter()
        .map(|text| hours(text).ok_or_else(|| bad(text)))
        .collect::<Result<_, _>>()?;
    let days = block
        .days
        .iter()
        .map(|text| weekday(text).ok_or_else(|| bad(text)))
        .collect::<Result<_, _>>()?;
    Ok(When {
        prompt_over: block.prompt_over,
        prompt_from: block.prompt_from,
        tier: block.tier,
        utc,
        days,
        prices: prices(name, id, [&block.mtok, &block.kcall, &block.hour])?,
    })
}

fn prices(name: &str, id: &str, tables: [&BTreeMap<String, String>; 3]) -> Result<Prices, String> {
    let mut prices = Prices::new();
    for ((table, per, units), entries) in TABLES.iter().zip(tables) {
        for (unit, text) in entries {
            if !units.contains(&unit.as_str()) {
                return Err(format!(
                    "{name}: {id}: {table} has no unit `{unit}`; known are {}",
                    units.join(", ")
                ));
            }
            let price = Price::parse(text, *per).filter(|price| price.nano > 0).ok_or_else(|| {
                format!("{name}: {id}: {table}.{unit} = \"{text}\" is no price; leave out what is not known, say `free = true` where it costs nothing")
            })?;
            prices.insert(unit.clone(), price);
        }
    }
    Ok(prices)
}

fn moment(name: &str, from: Option<&toml::value::Datetime>) -> Result<Option<Timestamp>, String> {
    let Some(from) = from else { return Ok(None) };
    let text = from.to_string();
    let whole = if from.time.is_none() { format!("{text}T00:00:00Z") } else { text.clone() };
    whole.parse().map(Some).map_err(|_| format!("{name}: `{text}` is no day"))
}

/// `01:00-04:00` in minutes.
fn hours(text: &str) -> Option<(u32, u32)> {
    let minutes = |text: &str| {
        let (hour, minute) = text.split_once(':')?;
        let (hour, minute): (u32, u32) = (hour.parse().ok()?, minute.parse().ok()?);
        (hour < 24 && minute < 60).then_some(hour * 60 + minute)
    };
    let (from, to) = text.split_once('-')?;
    Some((minutes(from)?, minutes(to)?))
}

fn weekday(text: &str) -> Option<u32> {
    let names = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];
    names.iter().position(|name| *name == text).and_then(|at| u32::try_from(at).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &str = "schema = 1\nprovider = \"p\"\ncurrency = \"USD\"\nsource = \"x\"\n";

    fn set(body: &str) -> Set {
        let text = format!("{HEAD}[[model]]\nid = \"m\"\n[[model.price]]\n{body}");
        read("p.toml", &text).unwrap().models.remove("m").unwrap().sets.remove(0)
    }

    #[test]
    fn conditions_overlay_in_file_order() {
        let set = set(
            "mtok = { input = \"2\", output = \"8\" }\n[[model.price.when]]\nprompt_over = 100\nmtok = { input = \"4\" }\n[[model.price.when]]\ntier = \"flex\"\nmtok = { input = \"1\" }\n",
        );
        let input = |prompt, tier| {
            let at = Timestamp(0);
            set.prices(Circumstances { prompt, tier, at })["input"].dollars()
        };
        assert_eq!(input(100, None), "2");
        assert_eq!(input(101, None), "4");
        assert_eq!(input(101, Some("flex")), "1");
        assert!(set.knows_tier("flex") && !set.knows_tier("batch"));
    }

    #[test]
    fn hours_and_days_combine() {
        let set = set(
            "mtok = { input = \"1\" }\n[[model.price.when]]\nutc = [\"01:00-04:00\", \"22:00-00:30\"]\ndays = [\"fri\"]\nmtok = { input = \"2\" }\n",
        );
        let input = |at: &str| {
            let at = at.parse().unwrap();
            set.prices(Circumstances { prompt: 1, tier: None, at })["input"].dollars()
        };
        assert_eq!(input("2026-11-20T01:00:00Z"), "2");
        assert_eq!(input("2026-11-20T04:00:00Z"), "1");
        assert_eq!(input("2026-11-20T23:00:00Z"), "2");
        assert_eq!(input("2026-11-21T02:00:00Z"), "1");
    }

    #[test]
    fn faults_name_file_and_place() {
        for (body, says) in [
            ("[[model]]\nid = \"m\"\nprise = 1\n", "p.toml:7: unknown field `prise`"),
            ("[[model]]\nid = \"m\"\n[[model.price]]\nmtok = { input = \"0\" }\n", "free = true"),
            (
                "[[model]]\nid = \"m\"\n[[model.price]]\nmtok = { inputt = \"1\" }\n",
                "no unit `inputt`",
            ),
            ("[[model]]\nid = \"m\"\n", "has no price"),
            (
                "[[model]]\nid = \"m\"\nfree = true\n[[model]]\nid = \"m\"\nfree = true\n",
                "stands twice",
            ),
        ] {
            let error = read("p.toml", &format!("{HEAD}{body}")).unwrap_err();
            assert!(error.contains(says), "{error}");
        }
    }
}
