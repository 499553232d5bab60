//! Usage of several answers that came in one exchange: the responses of a connection, the calls of a
//! batch. Each was billed by itself, so here, and only here, adding up is right.

use super::{Meaning, facts, notes::Notes, usage};
use crate::model::Prompts;
use serde_json::{Map, Value, json};

/// What several answers used.
#[derive(Debug, Default)]
pub(crate) struct Total {
    usage: Value,
    prompts: Option<Prompts>,
}

impl Total {
    /// Takes in what one answer used.
    pub(crate) fn add(&mut self, usage: &Value, provider: &str) {
        let read = usage::read(usage, provider, &mut Notes::default());
        let prompt = read.and_then(|usage| usage.input).unwrap_or_default();
        let Prompts { count, smallest, largest } =
            self.prompts.unwrap_or(Prompts { count: 0, smallest: prompt, largest: prompt });
        self.prompts = Some(Prompts {
            count: count + 1,
            smallest: smallest.min(prompt),
            largest: largest.max(prompt),
        });
        add(&mut self.usage, usage);
    }

    /// The sum, as if it were the provider's.
    pub(crate) fn usage(&self) -> &Value {
        &self.usage
    }

    /// Makes it the usage of the exchange.
    pub(crate) fn tell(&self, meaning: &mut Meaning, provider: &str, notes: &mut Notes) {
        meaning.response = Some(json!({"usage": self.usage}));
        facts::read(meaning, provider, notes);
        if let Some(usage) = &mut meaning.usage {
            usage.prompts = self.prompts.filter(|prompts| prompts.count > 1);
        }
    }
}

/// Adds `more` to `total`, member by member. A member that is no count keeps its first value.
fn add(total: &mut Value, more: &Value) {
    match (total, more) {
        (Value::Object(total), Value::Object(more)) => {
            for (key, more) in more {
                add(total.entry(key.clone()).or_insert(Value::Null), more);
            }
        }
        (total @ Value::Null, Value::Object(_)) => {
            *total = Value::Object(Map::new());
            add(total, more);
        }
        (total @ Value::Null, more) => *total = more.clone(),
        (Value::Number(total), Value::Number(more)) => {
            let sum = total.as_u64().zip(more.as_u64()).and_then(|(a, b)| a.checked_add(b));
            if let Some(sum) = sum {
                *total = sum.into();
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_add_up_at_every_level() {
        let mut total = Value::Null;
        add(&mut total, &json!({"a": 1, "b": {"c": 2}, "d": "x"}));
        add(&mut total, &json!({"a": 10, "b": {"c": 20, "e": 3}, "d": "y", "f": null}));
        add(&mut total, &json!("nothing"));
        assert_eq!(total, json!({"a": 11, "b": {"c": 22, "e": 3}, "d": "x", "f": null}));
        add(&mut total, &json!({"a": u64::MAX}));
        assert_eq!(total["a"], 11, "a sum that fits nowhere is none");
    }

    #[test]
    fn the_sizes_of_the_prompts_stay_known() {
        let mut total = Total::default();
        for prompt in [30, 10, 20] {
            total.add(&json!({"input_tokens": prompt, "output_tokens": 1}), "openai");
        }
        let mut meaning = Meaning::default();
        total.tell(&mut meaning, "openai", &mut Notes::default());
        let usage = meaning.usage.unwrap();
        assert_eq!((usage.input, usage.output), (Some(60), Some(3)));
        assert_eq!(usage.prompts, Some(Prompts { count: 3, smallest: 10, largest: 30 }));
    }
}
