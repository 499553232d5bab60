//! What providers say that they charged (`openai-surface.md` §15).

use super::money::number;
use serde_json::Value;

/// The charge in pico-dollars, where the usage object states one.
pub fn charge(provider: &str, usage: Option<&Value>) -> Option<i128> {
    let usage = usage?;
    match provider {
        // A tick is 10⁻¹⁰ dollars.
        "xai" => i128::from(usage.get("cost_in_usd_ticks")?.as_u64()?).checked_mul(100),
        "openrouter" => {
            let fee = amount(usage.get("cost")?)?;
            // With the caller's own key the provider bills the tokens beside OpenRouter's fee.
            let is_own_key = usage.get("is_byok").and_then(Value::as_bool) == Some(true);
            let tokens = usage.pointer("/cost_details/upstream_inference_cost").and_then(amount);
            fee.checked_add(tokens.filter(|_| is_own_key).unwrap_or_default())
        }
        "vercel" => amount(usage.get("cost")?),
        "perplexity" => amount(usage.pointer("/cost/total_cost")?),
        _ => None,
    }
}

fn amount(value: &Value) -> Option<i128> {
    match value {
        Value::Number(amount) => number(&amount.to_string()),
        Value::String(text) => number(text),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pricing::dollars;
    use serde_json::json;

    #[test]
    fn each_provider_in_its_own_way() {
        let said = |provider, usage: Value| charge(provider, Some(&usage)).map(dollars);
        let text = |text: &str| Some(text.to_owned());
        assert_eq!(said("xai", json!({"cost_in_usd_ticks": 7_662_000})), text("0.0007662"));
        assert_eq!(said("openrouter", json!({"cost": 3.24e-4})), text("0.000324"));
        let own = json!({"cost": 0.001, "is_byok": true, "cost_details": {"upstream_inference_cost": 0.02}});
        assert_eq!(said("openrouter", own), text("0.021"));
        let theirs = json!({"cost": 0.02, "is_byok": false, "cost_details": {"upstream_inference_cost": 0.02}});
        assert_eq!(said("openrouter", theirs), text("0.02"));
        assert_eq!(said("perplexity", json!({"cost": {"total_cost": 0.006}})), text("0.006"));
        assert_eq!(said("vercel", json!({"cost": "0.5"})), text("0.5"));
        assert_eq!(said("openai", json!({"cost": 1})), None, "only who is known to state it");
        assert_eq!(said("openrouter", json!({"cost": -1})), None);
        assert_eq!(said("openrouter", json!({"cost": null})), None);
    }
}
