//! Price facts of two open price books, read from their own files (`pricing.md` §1.1, §5).
//!
//! Both are read as text: a price is scaled as a decimal number and never becomes a float. What an entry
//! says that has no place in a price file is counted, not guessed at; an entry that breaks the rules of
//! price files is left out with its reason.

mod genai;
mod litellm;

use super::{
    book, check,
    money::{self, Price},
    schedule::{Model, Prices, Set, When},
    units::{TABLES, Unit},
};
use serde_json::Value;
use std::collections::BTreeMap;

/// Longest id of a model that is taken over, in bytes.
const ID_MAX: usize = 200;

/// Labels that resell under rates of their own, or state their charge in every answer.
const LEFT_OUT: [&str; 4] = ["openrouter", "github-copilot", "github_copilot", "chatgpt"];

/// What a price book lists.
#[derive(Debug, Default)]
pub struct Listing {
    /// `genai-prices` or `litellm`.
    pub source: &'static str,
    /// By provider slug and id.
    pub models: BTreeMap<String, BTreeMap<String, Listed>>,
    /// Entries that were left out, with the reason.
    pub skipped: BTreeMap<String, String>,
    /// What was not read, by the name of its member, and how often.
    pub unread: BTreeMap<String, u64>,
}

/// A model of a price book.
#[derive(Debug, Default)]
pub struct Listed {
    /// Other names.
    pub aliases: Vec<String>,
    /// Its prices.
    pub model: Model,
}

/// Reads the file of either book; the shape says which.
///
/// # Errors
/// When it is the file of neither.
pub fn read(bytes: &[u8]) -> Result<Listing, String> {
    let value: Value =
        serde_json::from_slice(bytes).map_err(|error| format!("not a price book: {error}"))?;
    let mut listing = Listing::default();
    match &value {
        Value::Array(providers) => genai::read(providers, &mut listing),
        Value::Object(entries) => litellm::read(entries, &mut listing),
        _ => return Err("not a price book: neither a list of providers nor a map of models".into()),
    }
    if listing.models.is_empty() {
        return Err("not a price book: no model with a price is in it".to_owned());
    }
    Ok(listing)
}

impl Listing {
    fn add(&mut self, provider: &str, id: &str, listed: Result<Listed, String>) {
        let slug = book::slug(provider);
        let fault = |id: &str| {
            let odd = id.is_empty() || id.len() > ID_MAX || id.ends_with('*');
            (odd || id.chars().any(|c| c.is_control() || c.is_whitespace())).then_some("no id")
        };
        let listed = match fault(id) {
            Some(why) => Err(why.to_owned()),
            None => listed,
        };
        let listed = listed.and_then(|listed| {
            let mut whole = listed.model.clone();
            whole.sets.iter_mut().for_each(Set::fill_steps);
            check::model(&whole).map(|()| listed)
        });
        match listed {
            Ok(listed) => {
                self.models.entry(slug).or_default().entry(id.to_owned()).or_insert(listed);
            }
            Err(why) => {
                let id: String = id.chars().take(ID_MAX).collect();
                self.skipped.insert(format!("{slug}/{id}"), why);
            }
        }
    }

    fn count_unread(&mut self, member: &str) {
        *self.unread.entry(member.chars().take(80).collect()).or_default() += 1;
    }
}

/// The price that a number states for `one` unit or token, scaled to what price files price.
fn price(unit: Unit, number: &Value, one: u64) -> Option<Price> {
    let per = TABLES.iter().find(|table| table.units.contains(&unit))?.per;
    let Value::Number(number) = number else { return None };
    let nano = money::scaled(&number.to_string(), per / one.max(1))?;
    Some(Price { nano, per })
}

/// Prices of one condition: those for every prompt, and those above a size.
#[derive(Clone, Debug, Default)]
struct Stepped {
    plain: Prices,
    above: BTreeMap<u64, Prices>,
}

impl Stepped {
    fn is_empty(&self) -> bool {
        self.plain.is_empty() && self.above.is_empty()
    }

    /// As blocks, each a copy of `like` with its size.
    fn blocks(&self, like: &When, from: bool) -> Vec<When> {
        let plain =
            (!self.plain.is_empty()).then(|| When { prices: self.plain.clone(), ..like.clone() });
        let above = self.above.iter().map(|(size, prices)| When {
            prompt_over: (!from).then_some(*size),
            prompt_from: from.then_some(*size),
            any_prompt: false,
            prices: prices.clone(),
            ..like.clone()
        });
        plain.into_iter().chain(above).collect()
    }
}

#[cfg(test)]
mod tests;
