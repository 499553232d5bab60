//! Which of a model's prices hold for one call.

use super::{
    money::{Factor, Price},
    units::Unit,
};
use crate::model::Timestamp;
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};

/// Prices by unit.
pub type Prices = BTreeMap<Unit, Price>;

/// Where a model's prices come from.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Origin {
    /// Where they stand, when not where the file says.
    pub source: Option<String>,
    /// Day on which a person compared them with it.
    pub checked: Option<String>,
    /// Other price books that say the same.
    pub confirmed_by: Vec<String>,
    /// Day from which the model is no longer served.
    pub retired: Option<String>,
    /// Why they may break the rules of [`super::check`].
    pub odd: Option<String>,
}

/// A model's prices over time.
#[derive(Clone, Debug, Default)]
pub struct Model {
    /// Costs nothing, by statement.
    pub free: bool,
    /// Only overlays the prices of the weaker layers.
    pub extend: bool,
    /// When a person compared the prices with their source.
    pub checked: Option<Timestamp>,
    /// Where the prices come from.
    pub origin: Origin,
    /// Factors on token prices by host or place; empty means those of the file.
    pub regions: BTreeMap<String, Factor>,
    /// In order of time.
    pub sets: Vec<Set>,
}

/// Prices that hold from a moment on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Set {
    /// Since when; `None` for ever.
    pub from: Option<Timestamp>,
    /// As the file writes that day.
    pub from_text: Option<String>,
    /// Prices without a condition.
    pub base: Prices,
    /// Prices with conditions, in file order.
    pub when: Vec<When>,
}

/// Prices that hold under conditions.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct When {
    /// More prompt tokens than this.
    pub prompt_over: Option<u64>,
    /// At least this many prompt tokens.
    pub prompt_from: Option<u64>,
    /// Served tier.
    pub tier: Option<String>,
    /// Deliberately the same for every prompt size.
    pub any_prompt: bool,
    /// Minutes of the UTC day, half-open; may wrap midnight.
    pub utc: Vec<(u32, u32)>,
    /// Days of the week; 0 is Monday.
    pub days: Vec<u32>,
    /// The prices.
    pub prices: Prices,
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

impl Model {
    /// The prices that held at `at`.
    pub fn set(&self, at: Timestamp) -> Option<&Set> {
        self.sets.iter().rev().find(|set| set.from.is_none_or(|from| from <= at))
    }
}

impl Set {
    /// The base prices with every matching `when` over them, in file order, later ones winning.
    pub fn prices(&self, call: Circumstances<'_>) -> Prices {
        let mut prices = self.base.clone();
        for when in self.when.iter().filter(|when| when.holds(call)) {
            prices.extend(&when.prices);
        }
        prices
    }

    /// Whether a price for the call is stated for its very tier and prompt size, and not only left over
    /// from the usual ones.
    pub fn states(&self, unit: Unit, call: Circumstances<'_>) -> bool {
        let priced = |when: &&When| when.holds(call) && when.prices.contains_key(&unit);
        let usual = |when: &When| when.tier.is_none() && when.is_step();
        let is_long = self.when.iter().filter(priced).any(usual);
        call.tier.is_none()
            || self
                .when
                .iter()
                .filter(priced)
                .any(|when| when.tier.is_some() && (when.is_step() || when.any_prompt || !is_long))
    }

    /// Gives long prompts of a tier the usual price wherever only its short prompts have their own: what a
    /// book means that is silent about them.
    pub fn fill_steps(&mut self) {
        let usual: Vec<When> = self
            .when
            .iter()
            .filter(|when| when.tier.is_none() && when.is_step())
            .cloned()
            .collect();
        let tiers: BTreeSet<_> = self.when.iter().filter_map(|when| when.tier.clone()).collect();
        for tier in tiers {
            let own = |when: &&When| when.tier.as_ref() == Some(&tier);
            if self.when.iter().filter(own).any(|when| when.any_prompt) {
                continue;
            }
            for step in &usual {
                let same = |when: &&mut When| {
                    when.tier.as_ref() == Some(&tier)
                        && (when.prompt_over, when.prompt_from)
                            == (step.prompt_over, step.prompt_from)
                };
                match self.when.iter_mut().find(same) {
                    Some(when) => step.prices.iter().for_each(|(unit, price)| {
                        when.prices.entry(*unit).or_insert(*price);
                    }),
                    None => self.when.push(When { tier: Some(tier.clone()), ..step.clone() }),
                }
            }
        }
    }

    /// Whether the served tier has prices of its own.
    pub fn knows_tier(&self, tier: &str) -> bool {
        self.when.iter().any(|when| when.tier.as_deref() == Some(tier))
    }
}

impl When {
    /// Whether it starts from a prompt size.
    pub fn is_step(&self) -> bool {
        self.prompt_over.is_some() || self.prompt_from.is_some()
    }

    /// Whether it holds for the call.
    pub fn holds(&self, call: Circumstances<'_>) -> bool {
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
