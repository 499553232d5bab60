use super::*;
use crate::pricing::{
    schedule::{Circumstances, Set},
    write,
};
use serde_json::json;

fn model<'a>(listing: &'a Listing, provider: &str, id: &str) -> &'a Model {
    &listing.models[provider][id].model
}

fn at(set: &Set, prompt: u64, tier: Option<&str>, time: &str, unit: Unit) -> Option<String> {
    let call = Circumstances { prompt, tier, at: time.parse().unwrap() };
    set.prices(call).get(&unit).map(|price| price.dollars())
}

const FRIDAY: &str = "2026-11-20T12:00:00Z";
const SATURDAY: &str = "2026-11-21T02:00:00Z";

#[test]
fn neither_book() {
    for bad in [
        "",
        "[]",
        "{}",
        "7",
        "[1, {\"id\": 3}]",
        "{\"a\": 1, \"b\": {\"litellm_provider\": \"x\"}}",
    ] {
        assert!(read(bad.as_bytes()).unwrap_err().starts_with("not a price book"), "{bad}");
    }
    let error = read(b"{\"a\": ").unwrap_err();
    assert!(error.contains("EOF"), "{error}");
}

#[test]
fn litellm_spells_conditions_into_names() {
    let book = json!({
        "sample_spec": {"litellm_provider": "openai", "input_cost_per_token": 1.0},
        "m": {
            "litellm_provider": "openai", "mode": "chat", "source": "https://prices.example",
            "input_cost_per_token": 2.5e-06, "output_cost_per_token": 1e-05, "output_cost_per_reasoning_token": 1e-05,
            "cache_read_input_token_cost": 3.0e-07, "cache_creation_input_token_cost_above_1hr": 4e-06,
            "input_cost_per_token_above_272k_tokens": 5e-06, "input_cost_per_token_flex": 1.25e-06,
            "input_cost_per_token_above_272k_tokens_priority": 9e-06, "input_cost_per_token_priority": 4.5e-06,
            "input_cost_per_image": 0.01, "search_context_cost_per_query": {"search_context_size_medium": 0.01},
            "regional_processing_uplift_multiplier_eu": 1.1
        },
        "azure/eu/m": {"litellm_provider": "azure", "mode": "chat", "input_cost_per_token": 1e-06},
        "xai/g": {"litellm_provider": "xai", "mode": "chat", "input_cost_per_token": 1e-06, "input_cost_per_token_above_200k_tokens": 2e-06},
        "d": {"litellm_provider": "deepseek", "mode": "chat", "input_cost_per_token": 3e-07, "output_cost_per_token": 1.2e-06,
            "off_peak_pricing": {"input_cost_per_token": 1.5e-07, "windows": [
                {"hours_utc": ["04:00-06:00", "10:00-00:00"], "weekdays": [1, 2, 3, 4, 5]},
                {"hours_utc": "00:00-00:00", "weekdays": [6, 7]}]}},
        "dashscope/q": {"litellm_provider": "dashscope", "mode": "chat", "tiered_pricing": [
            {"range": [0, 256_000.0], "input_cost_per_token": 5e-08, "output_cost_per_token": 4e-07},
            {"range": [256_000.0, 1_000_000.0], "input_cost_per_token": 2.5e-07, "output_cost_per_token": 2e-06}]},
        "w": {"litellm_provider": "openai", "mode": "audio_transcription", "input_cost_per_second": 0.0001},
        "zai/free": {"litellm_provider": "zai", "mode": "chat", "input_cost_per_token": 0, "output_cost_per_token": 0.0},
        "song": {"litellm_provider": "zai", "mode": "chat", "input_cost_per_token": 0, "output_cost_per_token": 0, "output_cost_per_image": 0.04},
        "zero": {"litellm_provider": "openai", "mode": "embedding", "input_cost_per_token": 0},
        "cents": {"litellm_provider": "openai", "mode": "chat", "input_cost_per_token": 0.25},
        "1024-x-1024/picture": {"litellm_provider": "openai", "mode": "image_generation", "input_cost_per_token": 1e-06},
        "openrouter/m": {"litellm_provider": "openrouter", "mode": "chat", "input_cost_per_token": 1e-06}
    });
    let listing = read(book.to_string().as_bytes()).unwrap();
    assert_eq!(listing.source, "litellm");
    let m = model(&listing, "openai", "m");
    assert_eq!(m.origin.source.as_deref(), Some("https://prices.example"));
    assert_eq!(m.regions.len(), 1);
    let set = &m.sets[0];
    let input = |prompt, tier| at(set, prompt, tier, FRIDAY, Unit::Input).unwrap();
    assert_eq!((input(272_000, None), input(272_001, None)), ("2.5".into(), "5".into()));
    assert_eq!((input(1, Some("flex")), input(1, Some("priority"))), ("1.25".into(), "4.5".into()));
    assert_eq!(input(272_001, Some("priority")), "9");
    assert_eq!(at(set, 1, None, FRIDAY, Unit::CacheWrite1h).as_deref(), Some("4"));
    assert_eq!(at(set, 1, None, FRIDAY, Unit::WebSearch).as_deref(), Some("10"));
    assert_eq!(at(set, 1, None, FRIDAY, Unit::Reasoning), None, "it costs what output costs");
    assert_eq!(listing.unread["input_cost_per_image"], 1);
    assert_eq!(
        at(&model(&listing, "azure", "eu/m").sets[0], 1, None, FRIDAY, Unit::Input).as_deref(),
        Some("1")
    );
    let xai = &model(&listing, "xai", "g").sets[0];
    assert_eq!(
        at(xai, 200_000, None, FRIDAY, Unit::Input).as_deref(),
        Some("2"),
        "its limit is dearer"
    );
    let deepseek = &model(&listing, "deepseek", "d").sets[0];
    let hour = |time| at(deepseek, 1, None, time, Unit::Input).unwrap();
    assert_eq!(
        (hour(FRIDAY), hour("2026-11-20T09:59:00Z"), hour(SATURDAY)),
        ("0.15".into(), "0.3".into(), "0.15".into())
    );
    let alibaba = &model(&listing, "alibaba", "q").sets[0];
    assert_eq!(at(alibaba, 256_001, None, FRIDAY, Unit::Output).as_deref(), Some("2"));
    let whisper = &model(&listing, "openai", "w").sets[0];
    assert_eq!(
        at(whisper, 0, None, FRIDAY, Unit::InputSeconds).as_deref(),
        Some("0.36"),
        "by the hour"
    );
    assert!(model(&listing, "zai", "free").free);
    assert_eq!(listing.skipped["zai/song"], "no price", "it costs something that is not read");
    assert_eq!(listing.skipped["openai/zero"], "no price");
    assert!(listing.skipped["openai/cents"].contains("believable"));
    assert!(!listing.models.contains_key("openrouter"));
    assert!(!listing.models["openai"].contains_key("1024-x-1024/picture"));
}

#[test]
fn genai_prices_have_dates_hours_and_variants() {
    let book = json!([
        {"id": "google", "models": [
            {"id": "g", "match": {"or": [{"equals": "g-preview"}, {"equals": "g"}, {"starts_with": "g-0"}]},
             "prices": [
                {"prices": {"input_mtok": {"base": 1, "tiers": [{"start": 200_000, "price": 2.5}]}, "output_mtok": 8, "web_searches_kcount": 14}},
                {"constraint": {"start_date": "2026-12-01"}, "prices": {"input_mtok": 3, "output_mtok": 16}}],
             "price_variants": [
                {"when": {"processing": "batch"}, "constraint": {"start_date": "2026-12-01"}, "prices": {"input_mtok": 1.5}},
                {"when": {"processing": "batch"}, "prices": {"input_mtok": 0.5}},
                {"when": {"service_tier": "default"}, "prices": {}},
                {"when": {"search_type": "fast"}, "prices": {"requests_kcount": 1}}]},
            {"id": "claude-x", "match": {"equals": "claude-x"}, "prices": {"input_mtok": 1}}]},
        {"id": "deepseek", "models": [
            {"id": "d", "match": {"starts_with": "d"}, "prices": [
                {"prices": {"input_mtok": 0.14}},
                {"constraint": {"start_date": "2026-09-10"}, "prices": {"input_mtok": 0.15}},
                {"constraint": {"start_time": "01:00:00Z", "end_time": "04:00:00Z"}, "prices": {"input_mtok": 0.3}}]},
            {"id": "odd", "match": {"equals": "odd"}, "prices": [{"constraint": {"on": "mars"}, "prices": {"input_mtok": 1}}]},
            {"id": "empty", "match": {"equals": "empty"}, "prices": {}}]},
        {"id": "fireworks", "models": [{"id": "short", "match": {"equals": "accounts/fireworks/models/short"}, "prices": {"audio_hours": 0.4, "weird_units": 1}}]}
    ]);
    let listing = read(book.to_string().as_bytes()).unwrap();
    assert_eq!(listing.source, "genai-prices");
    assert_eq!(
        listing.models["google"]["g"].aliases,
        ["g-preview"],
        "beginnings are not taken over"
    );
    assert!(!listing.models["google"].contains_key("claude-x"));
    let [now, later] = &model(&listing, "google", "g").sets[..] else { panic!() };
    assert_eq!(later.from_text.as_deref(), Some("2026-12-01"));
    let input = |set, prompt, tier| at(set, prompt, tier, FRIDAY, Unit::Input).unwrap();
    assert_eq!((input(now, 200_000, None), input(now, 200_001, None)), ("1".into(), "2.5".into()));
    assert_eq!(
        (input(now, 300_000, Some("batch")), input(later, 1, Some("batch"))),
        ("0.5".into(), "1.5".into())
    );
    assert_eq!((input(later, 300_000, None), listing.unread["price_variants"]), ("3".into(), 1));
    let [old, new] = &model(&listing, "deepseek", "d").sets[..] else { panic!() };
    let hour = |set, time| at(set, 1, None, time, Unit::Input).unwrap();
    assert_eq!(
        (hour(old, FRIDAY), hour(new, FRIDAY), hour(new, SATURDAY)),
        ("0.14".into(), "0.15".into(), "0.3".into())
    );
    assert!(
        listing.skipped.contains_key("deepseek/odd")
            && listing.skipped.contains_key("deepseek/empty")
    );
    let fireworks = model(&listing, "fireworks", "accounts/fireworks/models/short");
    assert_eq!(at(&fireworks.sets[0], 0, None, FRIDAY, Unit::InputSeconds).as_deref(), Some("0.4"));
    assert_eq!(listing.unread["weird_units"], 1);
}

#[test]
fn hostile_books_are_read_without_a_panic() {
    for price in
        ["-1", "1e400", "\"x\"", "null", "[]", "1e-400", "99999999999999999999999999999999"]
    {
        let litellm = format!(
            "{{\"ok\": {{\"litellm_provider\":\"o\",\"input_cost_per_token\":1e-6}},\
             \"m\": {{\"litellm_provider\":\"o\",\"input_cost_per_token\":{price},\"tiered_pricing\":[{{\"range\":{price}}}],\"off_peak_pricing\":{price}}}}}"
        );
        let listing = read(litellm.as_bytes()).unwrap();
        assert_eq!(listing.models["o"].len(), 1, "{price}");
        let genai = format!(
            "[{{\"id\":\"o\",\"models\":[{{\"id\":\"ok\",\"match\":{{}},\"prices\":{{\"input_mtok\":1}}}},\
             {{\"id\":\"m\",\"match\":{price},\"prices\":{{\"input_mtok\":{price},\"output_mtok\":{{\"base\":{price},\"tiers\":{price}}}}}}}]}}]"
        );
        let listing = read(genai.as_bytes()).unwrap();
        assert_eq!(listing.models["o"].len(), 1, "{price}");
    }
    let long = "x".repeat(ID_MAX + 1);
    let book = format!(
        "{{\"ok\": {{\"litellm_provider\":\"o\",\"input_cost_per_token\":1e-6}}, \"{long}\": {{\"litellm_provider\":\"o\",\"input_cost_per_token\":1e-6}}}}"
    );
    assert_eq!(read(book.as_bytes()).unwrap().skipped.len(), 1);
}

#[test]
fn what_is_read_can_be_written_as_a_price_file() {
    let book = json!({"m\u{7f}": {"litellm_provider": "o"}, "n": {"litellm_provider": "o", "mode": "chat",
        "input_cost_per_token": 1e-06, "output_cost_per_token": 2e-06, "input_cost_per_token_flex": 5e-07}});
    let listing = read(book.to_string().as_bytes()).unwrap();
    let models = listing.models.into_iter().next().unwrap().1;
    let models = models.into_iter().map(|(id, one)| (id, (one.aliases, one.model))).collect();
    let text = write::file("o", "a book", &models);
    assert_eq!(crate::pricing::format::read("o", &text).unwrap().models.len(), 1, "{text}");
}
