//! From usage and prices to a cost (`pricing.md` §6–7).

use super::{
    Charge,
    book::Found,
    money::{Factor, dollars},
    reported,
    schedule::{Circumstances, Prices, Set},
    units::{Part, Unit},
    usage::{self, Bucket},
};
use crate::model::{Cost, CostLine, CostStatus, PriceRef, UsageSource};
use std::collections::BTreeMap;

/// What the call cost; `contract` is what is left of every price by agreement with the provider.
pub fn cost(charge: &Charge<'_>, found: Option<&Found<'_>>, contract: Option<Factor>) -> Cost {
    let raw = charge.usage.raw.as_ref();
    let reported = reported::charge(charge.provider, raw);
    let mut cost = Cost {
        reported: reported.map(dollars),
        tier: charge.tier.map(str::to_owned),
        tier_from: charge.tier.map(|_| "response".to_owned()),
        ..Cost::default()
    };
    note_source(charge.usage.source, &mut cost);
    let known = usage::is_known(charge);
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
        cost.price = Some(price_ref(found, None));
        return cost;
    }
    if !known {
        return with_reported(cost, reported, None);
    }
    let Some(set) = found.model.set(charge.at) else {
        cost.status = CostStatus::Unpriced;
        cost.notes.push("the price book knows no price of that time".to_owned());
        return with_reported(cost, reported, None);
    };
    cost.price = Some(price_ref(found, Some(set)));
    let Some(prices) = prices(charge, found, set, &mut cost) else {
        cost.status = CostStatus::Unpriced;
        return with_reported(cost, reported, None);
    };
    let factors = factors(charge, found, contract, &mut cost);
    let total = add_up(&mut cost, charge, &prices, factors);
    with_reported(cost, reported, total)
}

fn price_ref(found: &Found<'_>, set: Option<&Set>) -> PriceRef {
    PriceRef {
        entry: format!("{}/{}", found.provider.name, found.id),
        matched: found.matched.to_owned(),
        layer: found.layer.to_owned(),
        from: set.and_then(|set| set.from_text.clone()),
        checked: found.model.origin.checked.clone(),
        book: found.provider.book.clone(),
        sha256: Some(found.provider.sha256.clone()),
    }
}

fn note_source(source: UsageSource, cost: &mut Cost) {
    match source {
        UsageSource::Estimated => cost.notes.push("usage is estimated".to_owned()),
        UsageSource::Partial => cost.notes.push("usage is partial".to_owned()),
        UsageSource::Provider | UsageSource::None => {}
    }
}

/// The prices that hold for the call: those of its tier where the book has them. `None` where several
/// prompts were added up whose sizes have different prices.
fn prices(charge: &Charge<'_>, found: &Found<'_>, set: &Set, cost: &mut Cost) -> Option<Prices> {
    let under = found.under.and_then(|model| model.set(charge.at));
    let knows = |tier: &str| set.knows_tier(tier) || under.is_some_and(|set| set.knows_tier(tier));
    let answered = charge.tier.and_then(own_tier);
    let said = answered.or_else(|| usage::tier(charge.usage.raw.as_ref()));
    if let (None, Some(tier)) = (answered, said) {
        cost.tier = Some(tier.to_owned());
        cost.tier_from = Some("usage".to_owned());
    }
    // What OpenAI takes as `fast` it serves as `priority`; Anthropic's fast mode is a thing of its own.
    let tier = said.map(|tier| if tier == "fast" && !knows(tier) { "priority" } else { tier });
    let priced = tier.filter(|tier| knows(tier));
    if let (Some(tier), None) = (said, priced) {
        cost.notes.push(format!("no price is known for the tier `{tier}`: standard prices"));
    }
    let input = charge.usage.input.unwrap_or_default();
    let prompts = charge.usage.prompts;
    let (least, most) = prompts.map_or((input, input), |all| (all.smallest, all.largest));
    cost.prompt_tokens_for_step = Some(most);
    let prices_of = |prompt| {
        let call = Circumstances { prompt, tier: priced, at: charge.at };
        let mut prices = under.map(|set| set.prices(call)).unwrap_or_default();
        prices.extend(set.prices(call));
        prices
    };
    let prices = prices_of(most);
    if least != most && prices_of(least) != prices {
        cost.notes.push("prompts whose sizes have different prices were added up".to_owned());
        return None;
    }
    Some(prices)
}

/// A tier other than the default one, by its name in the price book.
fn own_tier(tier: &str) -> Option<&str> {
    match tier {
        "" | "auto" | "default" | "standard" | "standard_only" | "on_demand" => None,
        tier => Some(tier),
    }
}

/// What prices are multiplied with.
#[derive(Clone, Copy)]
struct Factors {
    /// Those of tokens.
    tokens: Factor,
    /// All others.
    others: Factor,
}

impl Factors {
    fn of(self, unit: Unit) -> Factor {
        if unit.is_token() { self.tokens } else { self.others }
    }
}

/// The factors of the place where the call was served, which is on tokens, and of the contract.
fn factors(
    charge: &Charge<'_>,
    found: &Found<'_>,
    contract: Option<Factor>,
    cost: &mut Cost,
) -> Factors {
    let own = &found.model.regions;
    let regions = if own.is_empty() { &found.provider.regions } else { own };
    let host = charge.host.map(|host| host.split(':').next().unwrap_or(host));
    let place = usage::place(charge.usage.raw.as_ref());
    let region = [host, place].into_iter().flatten().find_map(|at| Some((at, regions.get(at)?)));
    let mut tokens = contract.unwrap_or(Factor::ONE);
    let others = tokens;
    if let Some((place, factor)) = region {
        cost.notes.push(format!("token prices times {factor} for {place}"));
        tokens = tokens.times(*factor);
    }
    if let Some(factor) = contract {
        cost.notes.push(format!("all prices times {factor} by contract"));
    }
    cost.multiplier = (tokens != Factor::ONE).then(|| tokens.to_string());
    Factors { tokens, others }
}

/// One line a unit; the sum in pico-dollars, or nothing where no used unit has a price.
fn add_up(cost: &mut Cost, charge: &Charge<'_>, prices: &Prices, factors: Factors) -> Option<i128> {
    let used = gather(cost, charge, prices);
    let mut parts = BTreeMap::new();
    let mut total: i128 = 0;
    for bucket in used.values() {
        let Some(price) = prices.get(&bucket.unit) else { continue };
        let per = price.per.saturating_mul(bucket.scale);
        let amount = price.amount_per(per, bucket.quantity, factors.of(bucket.unit));
        let part: &mut i128 = parts.entry(bucket.unit.part()).or_default();
        *part = part.saturating_add(amount);
        total = total.saturating_add(amount);
        cost.lines.push(CostLine {
            unit: bucket.unit.name().to_owned(),
            quantity: bucket.quantity,
            price: price.dollars(),
            per,
            amount: dollars(amount),
        });
    }
    if cost.lines.is_empty() && cost.status == CostStatus::Partial {
        cost.status = CostStatus::Unpriced;
        return None;
    }
    let text = |part: Part| parts.get(&part).map(|amount| dollars(*amount));
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
    let reasoning = charge
        .usage
        .output_reasoning
        .zip(prices.get(&Unit::Reasoning).or_else(|| prices.get(&Unit::Output)));
    cost.reasoning = reasoning.map(|(tokens, price)| dollars(price.amount(tokens, factors.tokens)));
    Some(total)
}

/// What was used, by the unit that has a price; what has none is noted.
fn gather(cost: &mut Cost, charge: &Charge<'_>, prices: &Prices) -> BTreeMap<Unit, Bucket> {
    let buckets = usage::buckets(charge, prices);
    let mut used: BTreeMap<Unit, Bucket> = BTreeMap::new();
    cost.status = CostStatus::Priced;
    let mut missing = |what: &str| {
        cost.status = CostStatus::Partial;
        cost.notes.push(format!("no price is known for {what}"));
    };
    for bucket in &buckets {
        let mut units = std::iter::once(&bucket.unit).chain(bucket.unit.parents());
        match units.find(|unit| prices.contains_key(unit)) {
            Some(unit) => {
                let sum =
                    used.entry(*unit).or_insert(Bucket { unit: *unit, quantity: 0, ..*bucket });
                sum.quantity = sum.quantity.saturating_add(bucket.quantity);
            }
            None if is_covered(bucket.unit, &buckets, prices) => {}
            None => missing(bucket.unit.name()),
        }
    }
    // Output without its prompt is a part of the bill only.
    if charge.usage.input.is_none() && charge.usage.output.is_some() {
        missing("the prompt, whose tokens are unknown");
    }
    let unknown =
        charge.tools.iter().filter(|(name, calls)| *calls > 0 && usage::tool(name).is_none());
    unknown.for_each(|(name, _)| missing(name));
    used
}

/// Whether what has no price is paid with something else that has one.
fn is_covered(unit: Unit, buckets: &[Bucket], prices: &Prices) -> bool {
    let pays =
        |unit: Unit| prices.contains_key(&unit) && buckets.iter().any(|bucket| bucket.unit == unit);
    match unit {
        // Nobody asks a fee for a request or a citation unless the book says so.
        Unit::Request | Unit::Citation => true,
        Unit::WebSearch => pays(Unit::Request),
        Unit::InputAudio => pays(Unit::InputSeconds),
        Unit::InputSeconds => pays(Unit::Input) || pays(Unit::InputAudio),
        _ => false,
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
