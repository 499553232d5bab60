//! From a price file as it is written to prices that can be used, or to what is wrong with it.

use super::{
    check,
    file::{Decimal, File, FileAlias, FileModel, FilePrice, FileTable, FileWhen},
    money::{Factor, Price},
    schedule::{Model, Origin, Prices, Set, When},
    units::TABLES,
    write::DAYS,
};
use crate::model::Timestamp;
use sha2::{Digest, Sha256};
use std::{collections::BTreeMap, ops::Range};
use toml::value::Datetime;

/// A provider's prices, ready for use.
#[derive(Debug, Default)]
pub struct Provider {
    /// Slug.
    pub name: String,
    /// Version of the book that it belongs to.
    pub book: String,
    /// SHA-256 of the file, in hex.
    pub sha256: String,
    /// Hosts of its API.
    pub hosts: Vec<String>,
    /// Factor on token prices by host or place.
    pub regions: BTreeMap<String, Factor>,
    /// What a contract leaves of every price, in a file of one's own.
    pub factor: Option<Factor>,
    /// Provider whose exact ids are tried last.
    pub like: Option<String>,
    /// By id; an id with a trailing `*` stands for all that begin so.
    pub models: BTreeMap<String, Model>,
    /// Aliases with the ids they had: (from, id), in order of time.
    pub aliases: BTreeMap<String, Vec<(Option<Timestamp>, String)>>,
    /// Ids and aliases as they are spelt, by their lower-case form.
    pub spelling: BTreeMap<String, String>,
}

/// Reads a price file; `name` stands in messages.
///
/// # Errors
/// What is wrong, with file and, where it is known, line.
pub fn read(name: &str, text: &str) -> Result<Provider, String> {
    let place = |span: Option<Range<usize>>| {
        let before = span.and_then(|span| text.get(..span.start));
        let line = before.map(|before| before.matches('\n').count() + 1);
        line.map_or_else(|| name.to_owned(), |line| format!("{name}:{line}"))
    };
    let file: File = toml::from_str(text)
        .map_err(|error| format!("{}: {}", place(error.span()), error.message()))?;
    if file.schema != 1 || file.currency != "USD" {
        return Err(format!("{name}: needs `schema = 1` and `currency = \"USD\"`"));
    }
    let mut provider = Provider {
        name: file.provider,
        sha256: hex::encode(Sha256::digest(text)),
        hosts: file.hosts,
        regions: factors(&file.regions).map_err(|why| format!("{name}: {why}"))?,
        factor: contract(file.factor.as_ref()).map_err(|why| format!("{name}: {why}"))?,
        like: file.like,
        ..Provider::default()
    };
    for model in file.model {
        let at = place(Some(model.id.span()));
        add_model(&mut provider, model).map_err(|why| format!("{at}: {why}"))?;
    }
    for alias in file.alias {
        let at = place(Some(alias.name.span()));
        add_alias(&mut provider, alias).map_err(|why| format!("{at}: {why}"))?;
    }
    Ok(provider)
}

fn add_model(provider: &mut Provider, file: FileModel) -> Result<(), String> {
    let id = file.id.into_inner();
    let mut model = Model {
        free: file.free,
        extend: file.extend,
        checked: moment(file.checked.as_ref())?,
        origin: Origin {
            source: file.source,
            checked: file.checked.map(|day| day.to_string()),
            confirmed_by: file.confirmed_by,
            retired: file.retired.map(|day| day.to_string()),
            odd: file.odd,
        },
        regions: factors(&file.regions)?,
        sets: Vec::new(),
    };
    for price in file.price {
        let set = read_set(price).map_err(|why| format!("{id}: {why}"))?;
        if model.sets.last().is_some_and(|last| last.from >= set.from) {
            return Err(format!("{id}: `from` must rise from block to block"));
        }
        model.sets.push(set);
    }
    if model.sets.is_empty() != model.free {
        return Err(format!(
            "{id}: needs a price, or `free = true` where it costs nothing, and not both"
        ));
    }
    check::model(&model).map_err(|why| format!("{id}: {why}"))?;
    for alias in file.aliases {
        spell(provider, &alias)?;
        provider.aliases.insert(alias, vec![(None, id.clone())]);
    }
    spell(provider, &id)?;
    provider.models.insert(id, model);
    Ok(())
}

fn add_alias(provider: &mut Provider, alias: FileAlias) -> Result<(), String> {
    let name = alias.name.into_inner();
    let mut targets: Vec<(Option<Timestamp>, String)> = Vec::new();
    for target in alias.to {
        let from = moment(target.from.as_ref())?;
        if targets.last().is_some_and(|(last, _)| *last >= from) {
            return Err(format!("{name}: `from` must rise from target to target"));
        }
        if !provider.models.contains_key(&target.model) {
            return Err(format!("{name}: there is no model {}", target.model));
        }
        targets.push((from, target.model));
    }
    spell(provider, &name)?;
    provider.aliases.insert(name, targets);
    Ok(())
}

/// Ids and aliases differ in more than the case of their letters.
fn spell(provider: &mut Provider, name: &str) -> Result<(), String> {
    match provider.spelling.insert(name.to_lowercase(), name.to_owned()) {
        Some(other) => Err(format!("{name} stands twice, also as {other}")),
        None => Ok(()),
    }
}

fn read_set(file: FilePrice) -> Result<Set, String> {
    let tables = [file.mtok, file.kcall, file.hour, file.mchar, file.kpage];
    Ok(Set {
        from: moment(file.from.as_ref())?,
        from_text: file.from.map(|from| from.to_string()),
        base: prices(&tables)?,
        when: file.when.into_iter().map(read_when).collect::<Result<_, _>>()?,
    })
}

fn read_when(file: FileWhen) -> Result<When, String> {
    let bad = |what: &String| format!("`{what}` is neither hours nor a day");
    let utc = file.utc.iter().map(|text| hours(text).ok_or_else(|| bad(text)));
    let days = file.days.iter().map(|text| weekday(text).ok_or_else(|| bad(text)));
    let tables = [file.mtok, file.kcall, file.hour, file.mchar, file.kpage];
    let when = When {
        prompt_over: file.prompt_over,
        prompt_from: file.prompt_from,
        any_prompt: file.any_prompt,
        utc: utc.collect::<Result<_, _>>()?,
        days: days.collect::<Result<_, _>>()?,
        tier: file.tier,
        prices: prices(&tables)?,
    };
    if !when.is_step() && when.tier.is_none() && when.utc.is_empty() && when.days.is_empty() {
        return Err("a `when` block without a condition".to_owned());
    }
    if when.any_prompt && when.is_step() {
        return Err("`any_prompt` beside a prompt size".to_owned());
    }
    Ok(when)
}

fn prices(tables: &[FileTable; 5]) -> Result<Prices, String> {
    let mut prices = Prices::new();
    for (table, entries) in TABLES.iter().zip(tables) {
        for (name, Decimal(text)) in entries {
            let unit = table.units.iter().find(|unit| unit.name() == name).ok_or_else(|| {
                let known: Vec<_> = table.units.iter().map(|unit| unit.name()).collect();
                format!("{} has no unit `{name}`; known are {}", table.key, known.join(", "))
            })?;
            let price = Price::parse(text, table.per).filter(|price| price.nano > 0);
            let price = price.ok_or_else(|| {
                format!(
                    "{}.{name} = \"{text}\" is no price; leave out what is not known, say `free = true` where it costs nothing",
                    table.key
                )
            })?;
            prices.insert(*unit, price);
        }
    }
    Ok(prices)
}

fn factors(regions: &BTreeMap<String, Decimal>) -> Result<BTreeMap<String, Factor>, String> {
    let factor = |(place, Decimal(text)): (&String, &Decimal)| {
        let factor = Factor::parse(text).ok_or_else(|| format!("regions.{place} is no number"));
        Ok((place.clone(), factor?))
    };
    regions.iter().map(factor).collect()
}

/// What a contract leaves of a price: 0.15 where 15 % was meant off is the slip to fear, so that less
/// than a fifth and more than double are refused.
fn contract(factor: Option<&Decimal>) -> Result<Option<Factor>, String> {
    let Some(Decimal(text)) = factor else { return Ok(None) };
    let sane = |factor: &Factor| {
        (factor.den..=factor.den.saturating_mul(10)).contains(&factor.num.saturating_mul(5))
    };
    Factor::parse(text).filter(sane).map(Some).ok_or_else(|| {
        format!("factor = \"{text}\": what is left of each price, such as \"0.85\" for 15 % off, from 0.2 to 2")
    })
}

/// The start of a day in UTC, or a moment.
fn moment(day: Option<&Datetime>) -> Result<Option<Timestamp>, String> {
    let Some(day) = day else { return Ok(None) };
    let text = day.to_string();
    let whole = if day.time.is_none() { format!("{text}T00:00:00Z") } else { text.clone() };
    whole.parse().map(Some).map_err(|_| format!("`{text}` is no day"))
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
    DAYS.iter().position(|name| *name == text).and_then(|at| u32::try_from(at).ok())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pricing::{schedule::Circumstances, units::Unit};

    const HEAD: &str = "schema = 1\nprovider = \"p\"\ncurrency = \"USD\"\nsource = \"x\"\n";

    fn set(body: &str) -> Set {
        let text = format!("{HEAD}[[model]]\nid = \"m\"\n[[model.price]]\n{body}");
        read("p.toml", &text).unwrap().models.remove("m").unwrap().sets.remove(0)
    }

    #[test]
    fn conditions_overlay_in_file_order() {
        let set = set(
            "mtok = { input = \"2\", output = 8 }\n[[model.price.when]]\nprompt_over = 100\nmtok = { input = \"4\" }\n[[model.price.when]]\ntier = \"flex\"\nany_prompt = true\nmtok = { input = 1.5 }\n",
        );
        let input = |prompt, tier| {
            let at = Timestamp(0);
            set.prices(Circumstances { prompt, tier, at })[&Unit::Input].dollars()
        };
        assert_eq!(input(100, None), "2");
        assert_eq!(input(101, None), "4");
        assert_eq!(input(101, Some("flex")), "1.5");
        assert!(set.knows_tier("flex") && !set.knows_tier("batch"));
    }

    #[test]
    fn hours_and_days_combine() {
        let set = set(
            "mtok = { input = \"1\" }\n[[model.price.when]]\nutc = [\"01:00-04:00\", \"22:00-00:30\"]\ndays = [\"fri\"]\nmtok = { input = \"2\" }\n",
        );
        let input = |at: &str| {
            let at = at.parse().unwrap();
            set.prices(Circumstances { prompt: 1, tier: None, at })[&Unit::Input].dollars()
        };
        assert_eq!(input("2026-11-20T01:00:00Z"), "2");
        assert_eq!(input("2026-11-20T04:00:00Z"), "1");
        assert_eq!(input("2026-11-20T23:00:00Z"), "2");
        assert_eq!(input("2026-11-21T02:00:00Z"), "1");
    }

    #[test]
    fn faults_name_file_and_line() {
        let model = "[[model]]\nid = \"m\"\n";
        for (body, says) in [
            (format!("{model}prise = 1\n"), "p.toml:7: unknown field `prise`"),
            (
                format!("{model}[[model.price]]\nmtok = {{ input = \"0\" }}\n"),
                "p.toml:6: m: mtok.input",
            ),
            (format!("{model}[[model.price]]\nmtok = {{ inputt = \"1\" }}\n"), "no unit `inputt`"),
            (model.to_owned(), "needs a price"),
            (
                format!("{model}free = true\n[[model]]\nid = \"M\"\nfree = true\n"),
                "p.toml:9: M stands twice",
            ),
            (format!("{model}free = true\naliases = [\"M\"]\n"), "stands twice"),
            (
                format!(
                    "{model}[[model.price]]\nfrom = 2026-01-02\nmtok = {{ input = \"1\" }}\n[[model.price]]\nfrom = 2026-01-01\nmtok = {{ input = \"1\" }}\n"
                ),
                "must rise",
            ),
            (
                format!(
                    "{model}[[model.price]]\nmtok = {{ input = \"1\" }}\n[[model.price.when]]\nmtok = {{ input = \"1\" }}\n"
                ),
                "without a condition",
            ),
            (
                "[[alias]]\nname = \"a\"\nto = [{ model = \"gone\" }]\n".to_owned(),
                "p.toml:6: a: there is no model gone",
            ),
        ] {
            let error = read("p.toml", &format!("{HEAD}{body}")).unwrap_err();
            assert!(error.contains(says), "{error}");
        }
    }
}
