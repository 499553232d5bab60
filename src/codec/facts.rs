//! What a finished object says about itself, whether it came whole or was put together.

use super::{Meaning, notes::Notes, text, usage};
use serde_json::Value;

/// Fills model, tier, finish reasons, usage and billed tools from `meaning.response`.
pub(crate) fn read(meaning: &mut Meaning, provider: &str, notes: &mut Notes) {
    let Some(object) = &meaning.response else { return };
    meaning.model_served = text::name(object.get("model"));
    meaning.finish_reasons = finish_reasons(object);
    let raw = object.get("usage").filter(|usage| !usage.is_null());
    let raw = raw.or_else(|| object.get("x_groq")?.get("usage"));
    let tier = text::name(object.get("service_tier"));
    meaning.service_tier = tier.or_else(|| text::name(raw?.get("service_tier")));
    if let Some(raw) = raw {
        meaning.usage = usage::read(raw, provider, notes);
        meaning.tools = usage::tools(raw, notes);
    }
}

fn finish_reasons(object: &Value) -> Vec<String> {
    let choices = object.get("choices").and_then(Value::as_array);
    let reasons =
        choices.into_iter().flatten().map(|choice| text::name(choice.get("finish_reason")));
    reasons.flatten().collect()
}
