//! Rules that keep slips out of a price file (`pricing.md` §5, "Validation").

use super::{
    money::Price,
    schedule::{Circumstances, Model, Prices, Set, When},
    units::Unit,
};
use crate::model::Timestamp;

/// Cheapest and dearest believable price of a million tokens, in nano-dollars: below and above it is
/// a price a token, or one in cents.
const BELIEVABLE: std::ops::RangeInclusive<u64> = 1_000_000..=2_000_000_000_000;
/// Age at which a comparison with the source is stale, in microseconds: 90 days.
const STALE_US: i64 = 90 * 86_400_000_000;

/// Checks a model's prices; what breaks a rule on purpose says why.
///
/// # Errors
/// The first rule that is broken.
pub fn model(model: &Model) -> Result<(), String> {
    for set in &model.sets {
        believable(&set.base)?;
        for when in &set.when {
            believable(&when.prices)?;
        }
        steps_meet_tiers(set)?;
        hours_agree(set)?;
        if model.origin.odd.as_ref().is_none_or(|reason| reason.trim().is_empty()) {
            in_order(set)?;
        }
    }
    Ok(())
}

/// What is wrong or stale about the day of a comparison with the source.
pub fn age(model: &Model, today: Timestamp) -> Option<&'static str> {
    let age = today.0 - model.checked?.0;
    if age < 0 {
        return Some("`checked` lies in the future");
    }
    (age > STALE_US).then_some("was last checked more than 90 days ago")
}

fn believable(prices: &Prices) -> Result<(), String> {
    let odd =
        |(unit, price): &(&Unit, &Price)| unit.is_token() && !BELIEVABLE.contains(&price.nano);
    prices.iter().find(odd).map_or(Ok(()), |(unit, price)| {
        Err(format!("{unit} = \"{}\" is no believable price of a million tokens", price.dollars()))
    })
}

/// A tier that has no step of its own where the default tier has one must say so.
fn steps_meet_tiers(set: &Set) -> Result<(), String> {
    let steps = || set.when.iter().filter(|when| when.is_step() && when.tier.is_none());
    let tiers = set.when.iter().filter(|when| when.tier.is_some() && !when.is_step());
    for tier in tiers.filter(|tier| !tier.any_prompt && tier.prices.keys().any(|u| u.is_token())) {
        let meets = |step: &When| {
            set.when.iter().any(|when| {
                when.tier == tier.tier
                    && (when.prompt_over, when.prompt_from) == (step.prompt_over, step.prompt_from)
            })
        };
        if let Some(step) = steps().find(|step| !meets(step)) {
            let size = step.prompt_over.or(step.prompt_from).unwrap_or_default();
            let tier = tier.tier.as_deref().unwrap_or_default();
            return Err(format!(
                "the tier {tier} has no price for prompts of {size}; give one or say `any_prompt = true`"
            ));
        }
    }
    Ok(())
}

/// Two blocks of hours that differ in nothing else must not claim the same minute.
fn hours_agree(set: &Set) -> Result<(), String> {
    let timed: Vec<&When> = set.when.iter().filter(|when| !when.utc.is_empty()).collect();
    for (at, one) in timed.iter().enumerate() {
        for two in timed.iter().skip(at + 1) {
            let alike = one.tier == two.tier
                && (one.prompt_over, one.prompt_from) == (two.prompt_over, two.prompt_from);
            let days = one.days.is_empty()
                || two.days.is_empty()
                || one.days.iter().any(|day| two.days.contains(day));
            let hours = one.utc.iter().any(|a| two.utc.iter().any(|b| overlap(*a, *b)));
            if alike && days && hours && one.prices != two.prices {
                return Err("two blocks of hours overlap".to_owned());
            }
        }
    }
    Ok(())
}

fn overlap(a: (u32, u32), b: (u32, u32)) -> bool {
    let pieces = |(from, to): (u32, u32)| {
        if from < to { vec![(from, to)] } else { vec![(from, 1440), (0, to)] }
    };
    pieces(a).iter().any(|a| pieces(b).iter().any(|b| a.0 < b.1 && b.0 < a.1))
}

/// cached ≤ input ≤ output, cache write ≥ input, batch and flex ≤ default ≤ priority.
fn in_order(set: &Set) -> Result<(), String> {
    let sizes =
        set.when.iter().filter_map(|when| when.prompt_from.or(when.prompt_over.map(|n| n + 1)));
    for prompt in std::iter::once(0).chain(sizes) {
        let of = |tier| set.prices(Circumstances { prompt, tier, at: Timestamp(0) });
        let usual = of(None);
        let least = usual.clone();
        for tier in set.when.iter().filter_map(|when| when.tier.as_deref()) {
            let prices = of(Some(tier));
            units_in_order(&prices).map_err(|why| format!("tier {tier}: {why}"))?;
            let (low, high) = match tier {
                "batch" | "flex" => (&prices, &least),
                "priority" => (&least, &prices),
                _ => continue,
            };
            for unit in [Unit::Input, Unit::Output] {
                ascending(low, unit, high, unit).map_err(|why| format!("tier {tier}: {why}"))?;
            }
        }
        units_in_order(&usual)?;
    }
    Ok(())
}

fn units_in_order(prices: &Prices) -> Result<(), String> {
    ascending(prices, Unit::CacheRead, prices, Unit::Input)?;
    ascending(prices, Unit::Input, prices, Unit::Output)?;
    ascending(prices, Unit::Input, prices, Unit::CacheWrite)?;
    ascending(prices, Unit::CacheWrite, prices, Unit::CacheWrite1h)
}

fn ascending(low: &Prices, lower: Unit, high: &Prices, higher: Unit) -> Result<(), String> {
    match (low.get(&lower), high.get(&higher)) {
        (Some(a), Some(b)) if a.nano > b.nano => Err(format!(
            "{lower} {} is dearer than {higher} {}; if that is so, say why in `odd`",
            a.dollars(),
            b.dollars()
        )),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use crate::pricing::format::read;

    fn fault(body: &str) -> Option<String> {
        let head = "schema = 1\nprovider = \"p\"\ncurrency = \"USD\"\nsource = \"x\"\n";
        read("p", &format!("{head}[[model]]\nid = \"m\"\n{body}")).err()
    }

    #[test]
    fn slips_are_found() {
        let base = "[[model.price]]\nmtok = { input = \"2\", output = \"8\" }\n";
        for (body, says) in [
            ("[[model.price]]\nmtok = { input = \"0.0000025\" }\n".to_owned(), "believable"),
            ("[[model.price]]\nmtok = { input = \"2500\" }\n".to_owned(), "believable"),
            (
                "[[model.price]]\nmtok = { input = \"9\", output = \"8\" }\n".to_owned(),
                "input 9 is dearer",
            ),
            (
                "[[model.price]]\nmtok = { input = \"2\", cache_read = \"3\" }\n".to_owned(),
                "cache_read 3",
            ),
            (
                "[[model.price]]\nmtok = { input = \"2\", cache_write = \"1\" }\n".to_owned(),
                "cache_write 1",
            ),
            (
                format!(
                    "{base}[[model.price.when]]\ntier = \"flex\"\nmtok = {{ input = \"3\" }}\n"
                ),
                "tier flex",
            ),
            (
                format!(
                    "{base}[[model.price.when]]\ntier = \"priority\"\nmtok = {{ input = \"1\" }}\n"
                ),
                "tier priority",
            ),
            (
                format!(
                    "{base}[[model.price.when]]\nprompt_over = 9\nmtok = {{ input = \"3\" }}\n[[model.price.when]]\ntier = \"flex\"\nmtok = {{ input = \"1\" }}\n"
                ),
                "any_prompt",
            ),
            (
                format!(
                    "{base}[[model.price.when]]\nutc = [\"22:00-02:00\"]\nmtok = {{ input = \"3\" }}\n[[model.price.when]]\nutc = [\"01:00-03:00\"]\nmtok = {{ input = \"4\" }}\n"
                ),
                "overlap",
            ),
        ] {
            let fault = fault(&body).unwrap_or_default();
            assert!(fault.contains(says), "{body}: {fault}");
        }
        assert_eq!(fault(base), None);
        let odd =
            "odd = \"as printed\"\n[[model.price]]\nmtok = { input = \"9\", output = \"8\" }\n";
        assert_eq!(fault(odd), None);
    }
}
