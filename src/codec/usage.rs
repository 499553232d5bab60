//! Token counts as every provider writes them, in one shape.
//!
//! Sources: `OpenAI`'s API description (2026-08-21) and recorded answers of the providers named below.
//! Parts are contained in their whole; where a provider says otherwise the parts are clamped and a note
//! says so. The provider's object is kept verbatim.

use super::notes::Notes;
use crate::model::{Usage, UsageSource};
use serde_json::{Map, Number, Value};

/// A part claims more than its whole, or the total does not add up.
pub(crate) const INCONSISTENT: &str = "usage_inconsistent";

/// Reads `raw`. `None` when it holds nothing.
pub(crate) fn read(raw: &Value, provider: &str, notes: &mut Notes) -> Option<Usage> {
    let members = match raw {
        Value::Object(members) if !members.is_empty() => members,
        Value::Null | Value::Object(_) => return None,
        _ => {
            notes.add("usage_invalid");
            return None;
        }
    };
    let mut reader = Reader { members, notes };
    let mut usage = reader.counts();
    reader.account_for_total(&mut usage, provider);
    reader.clamp_parts(&mut usage);
    usage.source = UsageSource::Provider;
    usage.raw = Some(raw.clone());
    Some(usage)
}

/// Tool calls that the provider says it bills, by price unit.
pub(crate) fn tools(raw: &Value, notes: &mut Notes) -> Vec<(String, u64)> {
    let Value::Object(members) = raw else { return Vec::new() };
    let mut reader = Reader { members, notes };
    let searches = reader.count("num_search_queries");
    let searches = searches.or_else(|| reader.part(&["server_tool_use"], &["web_search_requests"]));
    let used = searches.filter(|searches| *searches > 0);
    used.map(|searches| ("web_search".to_owned(), searches)).into_iter().collect()
}

const INPUT_DETAILS: &[&str] = &[
    "prompt_tokens_details",
    "input_tokens_details",
    "input_token_details",
    "prompt_token_details",
];
const OUTPUT_DETAILS: &[&str] = &[
    "completion_tokens_details",
    "output_tokens_details",
    "output_token_details",
    "completion_token_details",
];

struct Reader<'a> {
    members: &'a Map<String, Value>,
    notes: &'a mut Notes,
}

impl Reader<'_> {
    fn counts(&mut self) -> Usage {
        let cache_read = self.any(&["cache_read_input_tokens", "cache_read_tokens"]);
        let cache_made = self.any(&["cache_creation_input_tokens", "cache_creation_tokens"]);
        let cache_made = cache_made.or_else(|| self.sum("cache_creation"));
        let mut input = self.any(&["prompt_tokens", "input_tokens"]);
        // Anthropic's own counting leaves the cache out of the input.
        let cache_is_apart = !self.members.contains_key("prompt_tokens")
            && !INPUT_DETAILS.iter().any(|key| self.members.contains_key(*key));
        if let (Some(tokens), true) = (input, cache_is_apart) {
            let cached = cache_read.unwrap_or(0).saturating_add(cache_made.unwrap_or(0));
            input = Some(tokens.saturating_add(cached));
        }
        let cached = self.part(INPUT_DETAILS, &["cached_tokens"]);
        let cached = cached.or_else(|| self.any(&["prompt_cache_hit_tokens", "cached_tokens"]));
        let written = self.part(INPUT_DETAILS, &["cache_write_tokens", "cache_creation_tokens"]);
        Usage {
            input,
            output: self.any(&["completion_tokens", "output_tokens"]),
            total: self.count("total_tokens"),
            input_cached: cached.or(cache_read),
            input_cache_write: written.or_else(|| self.written_by_lifetime()).or(cache_made),
            input_audio: self.part(INPUT_DETAILS, &["audio_tokens"]),
            input_image: self.part(INPUT_DETAILS, &["image_tokens"]),
            output_reasoning: self.part(OUTPUT_DETAILS, &["reasoning_tokens"]),
            output_audio: self.part(OUTPUT_DETAILS, &["audio_tokens"]),
            output_image: self.part(OUTPUT_DETAILS, &["image_tokens"]),
            input_seconds: self
                .members
                .get("seconds")
                .or(self.members.get("prompt_audio_seconds"))
                .and_then(seconds),
            ..Usage::default()
        }
    }

    /// A total above input + output is output that was not counted (xAI leaves out reasoning, Gemini
    /// hidden thinking) – but for Mistral's audio models, which leave the audio out of the input.
    fn account_for_total(&mut self, usage: &mut Usage, provider: &str) {
        if usage.output_reasoning.is_none() && provider != "perplexity" {
            // Perplexity's reasoning comes on top of the completion and has a price of its own.
            usage.output_reasoning = self.count("reasoning_tokens");
        }
        let Some(total) = usage.total else {
            let parts = [usage.input, usage.output];
            if parts.iter().any(Option::is_some) {
                let sum = parts.iter().flatten().fold(0_u64, |sum, part| sum.saturating_add(*part));
                usage.total = Some(sum.min(COUNT_MAX));
            }
            return;
        };
        let Some(input) = usage.input else { return };
        let output = usage.output.unwrap_or(0);
        let counted = input.saturating_add(output);
        if total < counted {
            self.notes.add(INCONSISTENT);
            return;
        }
        let gap = total - counted;
        if gap == 0 {
            return;
        }
        let is_audio =
            self.members.contains_key("prompt_audio_seconds") || usage.input_audio > usage.input;
        if is_audio && usage.input_audio == Some(gap) {
            usage.input = Some(input.saturating_add(gap));
            return;
        }
        let is_known = usage.output_reasoning == Some(gap)
            || ["gemini", "google", "vertex"].iter().any(|name| provider.starts_with(name));
        if !is_known && usage.output.is_some() {
            self.notes.add("usage_gap_counted_as_output");
        }
        usage.output = Some(output.saturating_add(gap));
    }

    fn clamp_parts(&mut self, usage: &mut Usage) {
        let mut clamp = |part: &mut Option<u64>, whole: Option<u64>| {
            if let (Some(tokens), Some(whole)) = (part.as_mut(), whole)
                && *tokens > whole
            {
                *tokens = whole;
                self.notes.add(INCONSISTENT);
            }
        };
        let (input, output) = (usage.input, usage.output);
        clamp(&mut usage.input_cached, input);
        let uncached = input.map(|input| input.saturating_sub(usage.input_cached.unwrap_or(0)));
        clamp(&mut usage.input_cache_write, uncached);
        clamp(&mut usage.input_audio, input);
        clamp(&mut usage.input_image, input);
        clamp(&mut usage.output_reasoning, output);
        clamp(&mut usage.output_audio, output);
        clamp(&mut usage.output_image, output);
    }

    fn written_by_lifetime(&mut self) -> Option<u64> {
        INPUT_DETAILS.iter().find_map(|details| {
            let parts =
                self.members.get(*details)?.get("cache_write_tokens_details")?.as_object()?;
            self.sum_of(parts)
        })
    }

    fn sum(&mut self, key: &str) -> Option<u64> {
        let parts = self.members.get(key)?.as_object()?;
        self.sum_of(parts)
    }

    fn sum_of(&mut self, parts: &Map<String, Value>) -> Option<u64> {
        let sum = parts.iter().filter(|(key, _)| key.ends_with("_tokens")).try_fold(
            0_u64,
            |sum, (_, value)| {
                Some(sum.saturating_add(self.number("cache_write_tokens_details", value)?))
            },
        )?;
        (sum > 0).then_some(sum)
    }

    fn any(&mut self, keys: &[&'static str]) -> Option<u64> {
        keys.iter().find_map(|key| self.count(key))
    }

    fn part(&mut self, wholes: &[&'static str], keys: &[&'static str]) -> Option<u64> {
        wholes.iter().find_map(|whole| {
            let parts = self.members.get(*whole)?;
            keys.iter().find_map(|key| self.number(key, parts.get(key)?))
        })
    }

    fn count(&mut self, key: &'static str) -> Option<u64> {
        self.number(key, self.members.get(key)?)
    }

    /// A token count. Providers send nulls, floats and texts too; what is no whole number from 0 to
    /// 2⁶³ − 1 is unknown.
    fn number(&mut self, key: &'static str, value: &Value) -> Option<u64> {
        let (count, is_number) = match value {
            Value::Null => return None,
            Value::Number(number) => (whole(number), true),
            Value::String(text) => (text.trim().parse().ok(), false),
            _ => (None, true),
        };
        let count = count.filter(|count| *count <= COUNT_MAX);
        if count.is_none() || !is_number {
            self.notes.add(format!("usage_invalid: {key}"));
        }
        count
    }
}

/// Seconds, in the provider's own spelling; some write them as a text. `None` when they are none.
pub(crate) fn seconds(value: &Value) -> Option<Number> {
    let number = match value {
        Value::Number(number) => number.clone(),
        Value::String(text) if text.len() <= 32 => text.trim().parse().ok()?,
        _ => return None,
    };
    number.as_f64().is_some_and(|seconds| seconds >= 0.0 && seconds.is_finite()).then_some(number)
}

/// Largest count taken for real: what a signed 64-bit column holds.
const COUNT_MAX: u64 = i64::MAX.unsigned_abs();

/// A number that is whole, also when it is written as `12.0` or `1.2e1`.
fn whole(number: &Number) -> Option<u64> {
    if let Some(count) = number.as_u64() {
        return Some(count);
    }
    let float = number.as_f64()?;
    // Beyond 2⁵³ a float is no count any more.
    let is_whole = float.fract() == 0.0 && (0.0..9_007_199_254_740_992.0).contains(&float);
    is_whole.then(|| format!("{float:.0}").parse().ok())?
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn usage(raw: &Value, provider: &str) -> (Usage, Vec<String>) {
        let mut notes = Notes::default();
        let usage = read(raw, provider, &mut notes).unwrap();
        assert_eq!(usage.raw.as_ref(), Some(raw));
        (usage, notes.into_lines())
    }

    #[test]
    fn openai_with_all_details() {
        let (usage, notes) = usage(
            &json!({"prompt_tokens": 100, "completion_tokens": 50, "total_tokens": 150,
                "prompt_tokens_details": {"cached_tokens": 40, "cache_write_tokens": 10, "audio_tokens": 5, "image_tokens": 6},
                "completion_tokens_details": {"reasoning_tokens": 20, "audio_tokens": 7, "image_tokens": 8}}),
            "openai",
        );
        assert_eq!((usage.input, usage.output, usage.total), (Some(100), Some(50), Some(150)));
        assert_eq!((usage.input_cached, usage.input_cache_write), (Some(40), Some(10)));
        assert_eq!((usage.input_audio, usage.input_image), (Some(5), Some(6)));
        assert_eq!(
            (usage.output_reasoning, usage.output_audio, usage.output_image),
            (Some(20), Some(7), Some(8))
        );
        assert_eq!(usage.source, UsageSource::Provider);
        assert!(notes.is_empty());
    }

    #[test]
    fn the_rest_of_the_total() {
        let xai = json!({"prompt_tokens": 390, "completion_tokens": 26, "total_tokens": 493,
            "completion_tokens_details": {"reasoning_tokens": 77}});
        let (usage1, notes) = usage(&xai, "xai");
        assert_eq!((usage1.output, usage1.output_reasoning), (Some(103), Some(77)));
        assert!(notes.is_empty());
        let gemini = json!({"prompt_tokens": 66, "completion_tokens": 6, "total_tokens": 100});
        assert_eq!(usage(&gemini, "gemini").0.output, Some(34));
        assert!(usage(&gemini, "gemini").1.is_empty());
        assert_eq!(usage(&gemini, "other").1, ["usage_gap_counted_as_output"]);
        let voxtral = json!({"prompt_audio_seconds": 3, "prompt_tokens": 3, "total_tokens": 389,
            "completion_tokens": 11, "prompt_tokens_details": {"audio_tokens": 375}});
        let (usage2, notes) = usage(&voxtral, "mistral");
        assert_eq!(
            (usage2.input, usage2.output, usage2.input_audio),
            (Some(378), Some(11), Some(375))
        );
        assert!(notes.is_empty());
        let embedding = json!({"prompt_tokens": 5, "total_tokens": 5});
        assert_eq!(usage(&embedding, "openai").0.output, None);
        let no_total = json!({"input_tokens": 5, "output_tokens": 6});
        assert_eq!(usage(&no_total, "openai").0.total, Some(11));
        let short = json!({"prompt_tokens": 5, "completion_tokens": 6, "total_tokens": 3});
        assert_eq!(
            (usage(&short, "x").0.total, usage(&short, "x").1),
            (Some(3), vec![INCONSISTENT.to_owned()])
        );
    }

    #[test]
    fn caches_by_other_names() {
        let of = |raw: Value, provider| {
            let usage = usage(&raw, provider).0;
            (usage.input, usage.input_cached, usage.input_cache_write)
        };
        let deepseek =
            json!({"prompt_tokens": 9, "completion_tokens": 1, "prompt_cache_hit_tokens": 4});
        assert_eq!(of(deepseek, "deepseek"), (Some(9), Some(4), None));
        assert_eq!(
            of(json!({"prompt_tokens": 9, "cached_tokens": 3}), "together"),
            (Some(9), Some(3), None)
        );
        let databricks = json!({"prompt_tokens": 9, "cache_read_input_tokens": 2, "cache_creation_input_tokens": 1});
        assert_eq!(of(databricks, "databricks"), (Some(9), Some(2), Some(1)));
        let anthropic = json!({"input_tokens": 9, "output_tokens": 1, "cache_read_input_tokens": 20,
            "cache_creation_input_tokens": 3});
        assert_eq!(of(anthropic, "anthropic"), (Some(32), Some(20), Some(3)));
        let lifetimes = json!({"input_tokens": 9, "input_tokens_details": {"cached_tokens": 1,
            "cache_write_tokens_details": {"ttl_30m_tokens": 2, "ttl_12h_tokens": 3}}});
        assert_eq!(of(lifetimes, "openai"), (Some(9), Some(1), Some(5)));
    }

    #[test]
    fn parts_never_exceed_the_whole() {
        let (usage, notes) = usage(
            &json!({"prompt_tokens": 10, "completion_tokens": 10, "total_tokens": 20,
                "prompt_tokens_details": {"cached_tokens": 8, "cache_write_tokens": 8},
                "completion_tokens_details": {"reasoning_tokens": 11}}),
            "openrouter",
        );
        assert_eq!(
            (usage.input_cached, usage.input_cache_write, usage.output_reasoning),
            (Some(8), Some(2), Some(10))
        );
        assert_eq!(notes, ["usage_inconsistent (2 times)"]);
    }

    #[test]
    fn numbers_that_are_none() {
        for bad in
            ["-5", "1.5", "9223372036854775808", "1e30", "1e400", "\"NaN\"", "\"-1\"", "true", "[]"]
        {
            let raw = serde_json::from_str(&format!(
                "{{\"prompt_tokens\":{bad},\"completion_tokens\":2}}"
            ))
            .unwrap();
            let (usage, notes) = usage(&raw, "x");
            assert_eq!((usage.input, usage.output), (None, Some(2)), "{bad}");
            assert_eq!(notes, ["usage_invalid: prompt_tokens"], "{bad}");
        }
        let (odd, notes) = usage(
            &json!({"prompt_tokens": 12.0, "completion_tokens": "7", "total_tokens": null}),
            "x",
        );
        assert_eq!((odd.input, odd.output, odd.total), (Some(12), Some(7), Some(19)));
        assert_eq!(notes, ["usage_invalid: completion_tokens"]);
        let mut notes = Notes::default();
        assert!(read(&json!({}), "x", &mut notes).is_none());
        assert!(read(&json!([1]), "x", &mut notes).is_none());
        assert_eq!(notes.into_lines(), ["usage_invalid"]);
    }

    #[test]
    fn searches() {
        let mut notes = Notes::default();
        let perplexity = json!({"prompt_tokens": 3, "completion_tokens": 71, "total_tokens": 74,
            "reasoning_tokens": 739, "num_search_queries": 18});
        assert_eq!(tools(&perplexity, &mut notes), [("web_search".to_owned(), 18)]);
        assert_eq!(read(&perplexity, "perplexity", &mut notes).unwrap().output_reasoning, None);
        assert_eq!(tools(&json!({"num_search_queries": 0}), &mut notes), []);
        assert!(notes.into_lines().is_empty());
    }

    proptest! {
        #[test]
        fn parts_stay_inside_for_any_numbers(numbers in prop::array::uniform8(any::<u64>())) {
            let [prompt, completion, total, cached, written, audio, reasoning, image] = numbers;
            let raw = json!({"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": total,
                "prompt_tokens_details": {"cached_tokens": cached, "cache_write_tokens": written, "audio_tokens": audio},
                "completion_tokens_details": {"reasoning_tokens": reasoning, "image_tokens": image}});
            let (usage, _) = usage(&raw, "x");
            if let Some(input) = usage.input {
                let cache = usage.input_cached.unwrap_or(0) + usage.input_cache_write.unwrap_or(0);
                prop_assert!(cache <= input && usage.input_audio.unwrap_or(0) <= input);
            }
            if let Some(output) = usage.output {
                prop_assert!(usage.output_reasoning.unwrap_or(0) <= output);
            }
        }
    }
}
