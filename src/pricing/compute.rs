//! From usage and prices to a cost (`pricing.md` §6–7).

use super::{
    BOOK, Charge,
    book::Found,
    format::{Circumstances, Prices},
    money::{Factor, Price, dollars, pico},
};
use crate::model::{Cost, CostLine, CostStatus, PriceRef, Usage, UsageSource};
use serde_json::Value;

/// A quantity of one unit, and where its amount goes.
struct Bucket {
    unit: &'static str,
    /// Taken where `unit` has no price of its own.
    fallback: Option<&'static str>,
    quantity: u64,
    part: Part,
    /// Prices of tokens are subject to regional factors.
    tokens: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Part {
    Input,
    CacheRead,
    CacheWrite,
    Output,
    Audio,
    Image,
    Tools,
    Request,
}

/// What the call cost.
pub fn cost(charge: &Charge<'_>, found: Option<&Found<'_>>) -> Cost {
    let usage = charge.usage;
    let reported = reported(charge.provider, usage.raw.as_ref());
    let mut cost = Cost {
        reported: reported.map(dollars),
        tier: charge.tier.map(str::to_owned),
        ..Cost::default()
    };
    note_source(usage, &mut cost);
    let known = usage.input.is_some() || usage.output.is_some() || !charge.tools.is_empty();
    let Some(found) = found else {
        if known {
            cost.status = CostStatus::Unpriced;
        }
        return with_reported(cost, reported, None);
    };
    if found.model.free {
        cost.status = CostStatus::Free;
        cost.basis = Some("computed".to_owned());
        cost.total = Some("0".to_owned());
        return cost;
    }
    if !known {
        return with_reported(cost, reported, None);
    }
    let sets = &found.model.sets;
    let set = sets.iter().rev().find(|set| set.from.is_none_or(|from| from <= charge.at));
    let Some(set) = set else {
        cost.status = CostStatus::Unpriced;
        cost.notes.push("the price book knows no price of that time".to_owned());
        return with_reported(cost, reported, None);
    };
    let tier = charge.tier.map(normal_tier).filter(|tier| *tier != "default");
    let known_tier = tier.filter(|tier| set.knows_tier(tier));
    if let (Some(tier), None) = (tier, known_tier) {
        cost.notes.push(format!("no price is known for the tier `{tier}`: standard prices"));
    }
    let prompt = usage.input.unwrap_or_default();
    let prices = set.prices(Circumstances { prompt, tier: known_tier, at: charge.at });
    cost.price = Some(PriceRef {
        entry: format!("{}/{}", found.provider.name, found.id),
        matched: found.matched.to_owned(),
        layer: found.layer.to_owned(),
        from: set.from_text.clone(),
        book: BOOK.to_owned(),
    });
    let factor = charge.host.and_then(|host| found.provider.regions.get(host)).copied();
    let total = add_up(&mut cost, &buckets(charge), &prices, factor.unwrap_or(Factor::ONE));
    add_reasoning(&mut cost, usage, &prices);
    with_reported(cost, reported, Some(total))
}

fn note_source(usage: &Usage, cost: &mut Cost) {
    match usage.source {
        UsageSource::Estimated => cost.notes.push("usage is estimated".to_owned()),
        UsageSource::Partial => cost.notes.push("usage is partial".to_owned()),
        UsageSource::Provider | UsageSource::None => {}
    }
}

/// `fast` is served as `priority`; an empty or automatic tier is the default.
fn normal_tier(tier: &str) -> &str {
    match tier {
        "fast" => "priority",
        "" | "auto" | "standard" => "default",
        tier => tier,
    }
}

/// Each token once, at its most specific unit. Parts never exceed their whole.
fn buckets(charge: &Charge<'_>) -> Vec<Bucket> {
    let usage = charge.usage;
    let mut input = usage.input.unwrap_or_default();
    let mut output = usage.output.unwrap_or_default();
    let take = |whole: &mut u64, part: Option<u64>| {
        let part = part.unwrap_or_default().min(*whole);
        *whole -= part;
        part
    };
    let cached = take(&mut input, usage.input_cached);
    let written = take(&mut input, usage.input_cache_write);
    let input_audio = take(&mut input, usage.input_audio);
    let input_image = take(&mut input, usage.input_image);
    let output_audio = take(&mut output, usage.output_audio);
    let output_image = take(&mut output, usage.output_image);
    let bucket =
        |unit, fallback, quantity, part| Bucket { unit, fallback, quantity, part, tokens: true };
    let mut buckets = vec![
        bucket("input", None, input, Part::Input),
        bucket("cache_read", Some("input"), cached, Part::CacheRead),
        bucket("cache_write", Some("input"), written, Part::CacheWrite),
        bucket("output", None, output, Part::Output),
        // Without a rate of its own, audio is not silently billed as text.
        bucket("input_audio", None, input_audio, Part::Audio),
        bucket("output_audio", None, output_audio, Part::Audio),
        bucket("input_image", Some("input"), input_image, Part::Image),
        bucket("output_image", Some("output"), output_image, Part::Image),
    ];
    for (unit, quantity) in charge.tools {
        let unit = match unit.as_str() {
            "web_search" => "web_search",
            "file_search" => "file_search",
            "code_session" => "code_session",
            _ => "other_tool",
        };
        buckets.push(Bucket {
            unit,
            fallback: None,
            quantity: *quantity,
            part: Part::Tools,
            tokens: false,
        });
    }
    buckets.push(Bucket {
        unit: "request",
        fallback: None,
        quantity: 1,
        part: Part::Request,
        tokens: false,
    });
    buckets
}

/// One line a bucket; the sum in pico-dollars.
fn add_up(cost: &mut Cost, buckets: &[Bucket], prices: &Prices, factor: Factor) -> i128 {
    let (mut total, mut parts) = (0, [0_i128; 8]);
    let mut seen = [false; 8];
    cost.status = CostStatus::Priced;
    for bucket in buckets.iter().filter(|bucket| bucket.quantity > 0) {
        let price = prices.get(bucket.unit).or_else(|| prices.get(bucket.fallback?));
        let Some(price) = price else {
            // Nobody asks a fee for a request unless the book says so.
            if bucket.part != Part::Request {
                cost.status = CostStatus::Partial;
                cost.notes.push(format!("no price is known for {}", bucket.unit));
            }
            continue;
        };
        let factor = if bucket.tokens { factor } else { Factor::ONE };
        let amount = price.amount(bucket.quantity, factor);
        let at = part_index(bucket.part);
        if let (Some(part), Some(seen)) = (parts.get_mut(at), seen.get_mut(at)) {
            *part += amount;
            *seen = true;
        }
        total += amount;
        cost.lines.push(line(bucket, *price, amount));
    }
    let text = |part: Part| {
        let at = part_index(part);
        let amount = parts.get(at).copied().unwrap_or_default();
        seen.get(at).copied().unwrap_or_default().then(|| dollars(amount))
    };
    cost.input = text(Part::Input);
    cost.cache_read = text(Part::CacheRead);
    cost.cache_write = text(Part::CacheWrite);
    cost.output = text(Part::Output);
    cost.audio = text(Part::Audio);
    cost.image = text(Part::Image);
    cost.tools = text(Part::Tools);
    cost.request = text(Part::Request);
    cost.total = Some(dollars(total));
    cost.basis = Some("computed".to_owned());
    total
}

fn part_index(part: Part) -> usize {
    match part {
        Part::Input => 0,
        Part::CacheRead => 1,
        Part::CacheWrite => 2,
        Part::Output => 3,
        Part::Audio => 4,
        Part::Image => 5,
        Part::Tools => 6,
        Part::Request => 7,
    }
}

fn line(bucket: &Bucket, price: Price, amount: i128) -> CostLine {
    CostLine {
        unit: bucket.unit.to_owned(),
        quantity: bucket.quantity,
        price: price.dollars(),
        per: price.per,
        amount: dollars(amount),
    }
}

/// For information: the part of `output` that is reasoning.
fn add_reasoning(cost: &mut Cost, usage: &Usage, prices: &Prices) {
    if let (Some(tokens), Some(price)) = (usage.output_reasoning, prices.get("output")) {
        cost.reasoning = Some(dollars(price.amount(tokens, Factor::ONE)));
    }
}

/// The provider's own figure wins for the total; a difference above 1 % is noted.
fn with_reported(mut cost: Cost, reported: Option<i128>, computed: Option<i128>) -> Cost {
    let Some(reported) = reported else { return cost };
    if let Some(computed) = computed
        && (computed - reported).abs() > reported / 100
    {
        cost.notes.push(format!("computed {} differs from the reported charge", dollars(computed)));
    }
    cost.status = CostStatus::Priced;
    cost.basis = Some("reported".to_owned());
    cost.total = Some(dollars(reported));
    cost
}

/// What the provider says it charged, in pico-dollars (`openai-surface.md` §15).
fn reported(provider: &str, usage: Option<&Value>) -> Option<i128> {
    let usage = usage?;
    let decimal = |value: &Value| match value {
        Value::Number(number) => decimal(&number.to_string()),
        Value::String(text) => decimal(text),
        _ => None,
    };
    if let Some(ticks) = usage.get("cost_in_usd_ticks").and_then(Value::as_u64) {
        return i128::from(ticks).checked_mul(100); // a tick is 10^-10 dollars
    }
    match provider {
        "openrouter" | "vercel" => usage.get("cost").and_then(decimal),
        "perplexity" => usage.pointer("/cost/total_cost").and_then(decimal),
        _ => None,
    }
}

/// A JSON number or text, exponents included.
fn decimal(text: &str) -> Option<i128> {
    let (mantissa, exponent) = match text.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, exponent.parse::<i32>().ok()?),
        None => (text, 0),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    if !(-30..=12).contains(&exponent) {
        return None;
    }
    let digits = format!("{whole}{fraction}");
    let point = i32::try_from(whole.len()).ok()? + exponent;
    let text = match usize::try_from(point) {
        Ok(point) if point >= digits.len() => format!("{digits:0<point$}"),
        Ok(point) => format!(
            "{}.{}",
            digits.get(..point).filter(|w| !w.is_empty()).unwrap_or("0"),
            digits.get(point..)?
        ),
        Err(_) => format!("0.{}{digits}", "0".repeat(usize::try_from(-point).ok()?)),
    };
    pico(&text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_in_every_spelling() {
        assert_eq!(decimal("0.000324"), Some(324_000_000));
        assert_eq!(decimal("3.24e-4"), Some(324_000_000));
        assert_eq!(decimal("1E2"), Some(100_000_000_000_000));
        assert_eq!(decimal("5e-324"), None);
        assert_eq!(decimal("-1"), None);
        assert_eq!(decimal("x"), None);
    }
}
