//! What a call used, each token counted once at its most specific unit (`pricing.md` §4).

use super::{Charge, money, schedule::Prices, units::Unit};
use crate::model::Usage;
use serde_json::Value;

/// A quantity of one unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bucket {
    /// What was used.
    pub unit: Unit,
    /// How many, times `scale`.
    pub quantity: u64,
    /// 1, or 1000 where a fraction of a second was used.
    pub scale: u64,
}

/// Shortest audio that Groq bills, in milliseconds (its price page).
const GROQ_LEAST_AUDIO_MS: u64 = 10_000;
/// Longest audio taken for real, in milliseconds: ten years.
const LONGEST_AUDIO_MS: i128 = 315_360_000_000;

/// Names of the objects that split the prompt.
const INPUT_DETAILS: [&str; 3] =
    ["prompt_tokens_details", "input_tokens_details", "input_token_details"];

/// Whether anything is known about what the call used.
pub fn is_known(charge: &Charge<'_>) -> bool {
    charge.usage.input.is_some()
        || charge.usage.output.is_some()
        || !charge.tools.is_empty()
        || apart(charge).next().is_some()
}

/// What the call used. Parts never exceed their whole.
pub fn buckets(charge: &Charge<'_>, prices: &Prices) -> Vec<Bucket> {
    let mut buckets = input(charge.usage);
    buckets.extend(output(charge, prices));
    buckets.extend(apart(charge));
    buckets.push(bucket(Unit::Request, 1));
    buckets.retain(|bucket| bucket.quantity > 0);
    buckets
}

/// The tier of the usage object, where the answer itself names none: Anthropic's fast mode.
pub fn tier(raw: Option<&Value>) -> Option<&str> {
    raw?.get("speed")?.as_str().filter(|speed| *speed == "fast")
}

/// Where the tokens were made, as Anthropic says it.
pub fn place(raw: Option<&Value>) -> Option<&str> {
    raw?.get("inference_geo")?.as_str()
}

fn bucket(unit: Unit, quantity: u64) -> Bucket {
    Bucket { unit, quantity, scale: 1 }
}

/// Takes `part` out of `whole`, as far as it is there.
fn take(whole: &mut u64, part: u64) -> u64 {
    let part = part.min(*whole);
    *whole -= part;
    part
}

fn input(usage: &Usage) -> Vec<Bucket> {
    let raw = usage.raw.as_ref();
    let mut text = usage.input.unwrap_or_default();
    let mut cached = take(&mut text, usage.input_cached.unwrap_or_default());
    let mut written = take(&mut text, usage.input_cache_write.unwrap_or_default());
    let hour = count(raw, &["cache_creation", "ephemeral_1h_input_tokens"]);
    let hour = take(&mut written, hour);
    let half_day = detail(raw, &["cache_write_tokens_details", "ttl_12h_tokens"]);
    let half_day = take(&mut written, half_day);
    let cached_audio = detail(raw, &["cached_tokens_details", "audio_tokens"]);
    let cached_audio = take(&mut cached, cached_audio);
    let cached_image = detail(raw, &["cached_tokens_details", "image_tokens"]);
    let cached_image = take(&mut cached, cached_image);
    let audio = usage.input_audio.unwrap_or_default().saturating_sub(cached_audio);
    let audio = take(&mut text, audio);
    let image = usage.input_image.unwrap_or_default().saturating_sub(cached_image);
    let image = take(&mut text, image);
    let video = take(&mut text, detail(raw, &["video_tokens"]));
    vec![
        bucket(Unit::Input, text),
        bucket(Unit::CacheRead, cached),
        bucket(Unit::CacheWrite, written),
        bucket(Unit::CacheWrite1h, hour),
        bucket(Unit::CacheWrite12h, half_day),
        bucket(Unit::InputAudio, audio),
        bucket(Unit::CacheReadAudio, cached_audio),
        bucket(Unit::InputImage, image),
        bucket(Unit::CacheReadImage, cached_image),
        bucket(Unit::InputVideo, video),
    ]
}

fn output(charge: &Charge<'_>, prices: &Prices) -> Vec<Bucket> {
    let usage = charge.usage;
    let mut text = usage.output.unwrap_or_default();
    let mut reasoning = take(&mut text, usage.output_reasoning.unwrap_or_default());
    if usage.output_reasoning.is_none() && is_perplexity(charge) {
        // Comes on top of the completion there.
        reasoning = count(usage.raw.as_ref(), &["reasoning_tokens"]);
    }
    // What an endpoint makes is what its output tokens are, where the answer does not split them.
    let makes =
        |endpoint: &str, unit| charge.endpoint.contains(endpoint) && prices.contains_key(&unit);
    let audio = usage
        .output_audio
        .unwrap_or_else(|| if makes("speech", Unit::OutputAudio) { text } else { 0 });
    let audio = take(&mut text, audio);
    let image = usage
        .output_image
        .unwrap_or_else(|| if makes("images", Unit::OutputImage) { text } else { 0 });
    let image = take(&mut text, image);
    vec![
        bucket(Unit::Output, text),
        bucket(Unit::Reasoning, reasoning),
        bucket(Unit::OutputAudio, audio),
        bucket(Unit::OutputImage, image),
    ]
}

fn is_perplexity(charge: &Charge<'_>) -> bool {
    charge.provider.eq_ignore_ascii_case("perplexity")
}

/// What is billed apart from tokens of prompt and output.
fn apart<'a>(charge: &'a Charge<'_>) -> impl Iterator<Item = Bucket> + 'a {
    let raw = charge.usage.raw.as_ref();
    let characters = charge.usage.input_characters;
    let tools = charge.tools.iter().filter_map(|(name, calls)| Some(bucket(tool(name)?, *calls)));
    let citations = if is_perplexity(charge) { count(raw, &["citation_tokens"]) } else { 0 };
    let others = [
        bucket(Unit::Citation, citations),
        bucket(Unit::InputCharacters, characters.unwrap_or_else(|| count(raw, &["characters"]))),
        bucket(Unit::Pages, count(raw, &["pages_processed"])),
    ];
    tools.chain(seconds(charge)).chain(others).filter(|bucket| bucket.quantity > 0)
}

/// The unit of a billed tool.
pub fn tool(name: &str) -> Option<Unit> {
    match name {
        "web_search" => Some(Unit::WebSearch),
        "file_search" => Some(Unit::FileSearch),
        "code_session" | "code_interpreter" => Some(Unit::CodeSession),
        "maps" => Some(Unit::Maps),
        _ => None,
    }
}

/// Audio that was heard: `seconds` of a transcription, `prompt_audio_seconds` of Mistral's chat.
fn seconds(charge: &Charge<'_>) -> Option<Bucket> {
    let seconds = money::number(&charge.usage.input_seconds.as_ref()?.to_string())?;
    let ms = (seconds + 500_000_000) / 1_000_000_000;
    let mut ms = u64::try_from(ms.min(LONGEST_AUDIO_MS)).ok()?;
    if charge.provider.eq_ignore_ascii_case("groq") {
        ms = ms.max(GROQ_LEAST_AUDIO_MS);
    }
    let whole = ms % 1000 == 0;
    let (quantity, scale) = if whole { (ms / 1000, 1) } else { (ms, 1000) };
    Some(Bucket { unit: Unit::InputSeconds, quantity, scale })
}

/// A count of the usage object; 0 where it is none.
fn count(raw: Option<&Value>, path: &[&str]) -> u64 {
    let value = path.iter().try_fold(raw, |at, key| Some(at?.get(*key)));
    let count = value.flatten().and_then(Value::as_u64).unwrap_or_default();
    count.min(i64::MAX.unsigned_abs())
}

/// A count of the object that splits the prompt.
fn detail(raw: Option<&Value>, path: &[&str]) -> u64 {
    let details = INPUT_DETAILS.iter().find_map(|name| raw?.get(*name));
    count(details, path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::read_usage;
    use proptest::prelude::*;
    use serde_json::json;

    fn of(provider: &str, endpoint: &str, raw: &Value) -> Vec<(&'static str, u64, u64)> {
        let (usage, tools) = read_usage(raw, provider);
        let usage = usage.unwrap_or_default();
        let mut charge = Charge::new(provider, &usage);
        charge.endpoint = endpoint;
        charge.tools = &tools;
        let mut prices = Prices::new();
        for unit in [Unit::OutputImage, Unit::OutputAudio] {
            prices.insert(unit, money::Price { nano: 1, per: 1 });
        }
        let buckets = buckets(&charge, &prices);
        let named = buckets.iter().filter(|bucket| bucket.unit != Unit::Request);
        named.map(|bucket| (bucket.unit.name(), bucket.quantity, bucket.scale)).collect()
    }

    #[test]
    fn every_token_stands_once() {
        let raw = json!({"input_tokens": 12, "cache_creation_input_tokens": 3000, "cache_read_input_tokens": 7,
            "output_tokens": 500, "cache_creation": {"ephemeral_5m_input_tokens": 1000, "ephemeral_1h_input_tokens": 2000}});
        assert_eq!(
            of("anthropic", "", &raw),
            [
                ("input", 12, 1),
                ("cache_read", 7, 1),
                ("cache_write", 1000, 1),
                ("cache_write_1h", 2000, 1),
                ("output", 500, 1)
            ]
        );
        let realtime = json!({"input_tokens": 100, "output_tokens": 50, "total_tokens": 150,
            "input_token_details": {"cached_tokens": 40, "text_tokens": 30, "audio_tokens": 70,
                "cached_tokens_details": {"text_tokens": 10, "audio_tokens": 30}}});
        assert_eq!(
            of("openai", "realtime", &realtime),
            [
                ("input", 20, 1),
                ("cache_read", 10, 1),
                ("input_audio", 40, 1),
                ("cache_read_audio", 30, 1),
                ("output", 50, 1)
            ]
        );
        let research = json!({"prompt_tokens": 3, "completion_tokens": 71, "total_tokens": 74,
            "reasoning_tokens": 739, "citation_tokens": 12, "num_search_queries": 18});
        assert_eq!(
            of("perplexity", "", &research),
            [
                ("input", 3, 1),
                ("output", 71, 1),
                ("reasoning", 739, 1),
                ("web_search", 18, 1),
                ("citation", 12, 1)
            ]
        );
    }

    #[test]
    fn what_an_endpoint_makes() {
        let raw = json!({"input_tokens": 550, "input_tokens_details": {"text_tokens": 50, "image_tokens": 500}, "output_tokens": 4160});
        let image = [("input", 50, 1), ("input_image", 500, 1), ("output_image", 4160, 1)];
        assert_eq!(of("openai", "images.generations", &raw), image);
        assert_eq!(of("openai", "chat.completions", &raw)[2], ("output", 4160, 1));
    }

    #[test]
    fn audio_by_the_second() {
        let of = |provider, seconds: Value| {
            of(provider, "audio.transcriptions", &json!({"type": "duration", "seconds": seconds}))
        };
        assert_eq!(of("openai", json!(93)), [("input_seconds", 93, 1)]);
        assert_eq!(of("openai", json!(93.25)), [("input_seconds", 93_250, 1000)]);
        assert_eq!(of("groq", json!(3.2)), [("input_seconds", 10, 1)]);
        for bad in [json!(-1), json!("x"), json!(null), json!([])] {
            assert_eq!(of("openai", bad), []);
        }
        assert_eq!(of("openai", json!(1e11))[0].1, 315_360_000);
    }

    proptest! {
        #[test]
        fn tokens_are_neither_lost_nor_doubled(numbers in prop::array::uniform9(0_u64..1_000_000)) {
            let [prompt, completion, cached, written, hour, audio, image, reasoning, speech] = numbers;
            let raw = json!({"prompt_tokens": prompt, "completion_tokens": completion,
                "cache_creation": {"ephemeral_1h_input_tokens": hour},
                "prompt_tokens_details": {"cached_tokens": cached, "cache_write_tokens": written,
                    "audio_tokens": audio, "image_tokens": image, "video_tokens": hour,
                    "cached_tokens_details": {"audio_tokens": image, "image_tokens": audio}},
                "completion_tokens_details": {"reasoning_tokens": reasoning, "audio_tokens": speech}});
            let sum: u64 = of("openai", "", &raw).iter().map(|(_, quantity, _)| quantity).sum();
            prop_assert_eq!(sum, prompt + completion);
        }
    }
}
