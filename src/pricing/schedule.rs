//! Which of a model's prices hold for one call.

use super::{
    money::{Factor, Price},
    units::Unit,
};
use crate::model::Timestamp;
use std::collections::BTreeMap;

/// Prices by unit.
pub type Prices = BTreeMap<Unit, Price>;

/// A model's prices over time.
#[derive(Debug, Default)]
pub struct Model {
    /// Costs nothing, by statement.
    pub free: bool,
    /// Only overlays the prices of the weaker layers.
    pub extend: bool,
    /// When a person compared the prices with their source.
    pub checked: Option<Timestamp>,
    /// Factors on token prices by host or place; empty means those of the file.
    pub regions: BTreeMap<String, Factor>,
    /// In order of time.
    pub sets: Vec<Set>,
}

/// Prices that hold from a moment on.
#[derive(Debug, Default)]
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
#[derive(Debug, Default)]
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
