use super::*;
use crate::{codec::read_usage, model::UsageSource};
use proptest::prelude::*;
use serde_json::{Value, json};

fn price(model: &str, usage: &Value, tier: Option<&str>, at: &str) -> Cost {
    let (usage, tools) = read_usage(usage, "openai");
    PriceBook::default().price(&Charge {
        provider: "openai",
        served: Some(model),
        requested: None,
        endpoint: "chat.completions",
        usage: &usage.unwrap_or_default(),
        tier,
        tools: &tools,
        at: at.parse().unwrap(),
        host: None,
    })
}

const NOW: &str = "2026-11-20T12:00:00Z";

#[test]
fn embedded_files_are_sound() {
    let faults: Vec<_> =
        embedded::texts().filter_map(|(slug, text)| format::read(slug, text).err()).collect();
    assert!(faults.is_empty(), "{faults:#?}");
    for file in embedded::all() {
        assert!(!file.models.is_empty(), "{}", file.name);
        if let Some(like) = &file.like {
            assert!(embedded::provider(like).is_some(), "{} is like {like}", file.name);
        }
    }
}

#[test]
fn each_token_is_billed_once() {
    let usage = json!({"prompt_tokens": 1204, "completion_tokens": 212, "total_tokens": 1416,
        "prompt_tokens_details": {"cached_tokens": 1024}, "completion_tokens_details": {"reasoning_tokens": 100}});
    let cost = price("gpt-4o-mini-2024-07-18", &usage, None, NOW);
    assert_eq!(cost.status, CostStatus::Priced);
    assert_eq!(cost.input.as_deref(), Some("0.000027"));
    assert_eq!(cost.cache_read.as_deref(), Some("0.0000768"));
    assert_eq!(cost.output.as_deref(), Some("0.0001272"));
    assert_eq!(cost.total.as_deref(), Some("0.000231"));
    assert_eq!(cost.reasoning.as_deref(), Some("0.00006"), "for information, not added");
    let found = cost.price.unwrap();
    assert_eq!((found.matched.as_str(), found.layer.as_str()), ("exact", "embedded"));
}

#[test]
fn lines_add_up_to_the_last_digit() {
    for (model, tier) in
        [("gpt-5.4", None), ("gpt-5.4", Some("flex")), ("gpt-audio", None), ("gpt-5.6-luna", None)]
    {
        let usage = json!({"prompt_tokens": 300_001, "completion_tokens": 77_777, "total_tokens": 377_778,
            "prompt_tokens_details": {"cached_tokens": 12_345, "audio_tokens": 111}, "completion_tokens_details": {"audio_tokens": 13}});
        let cost = price(model, &usage, tier, NOW);
        let sum: i128 = cost.lines.iter().map(|line| pico(&line.amount).unwrap()).sum();
        assert_eq!(cost.total, Some(dollars(sum)));
        let parts = [
            &cost.input,
            &cost.cache_read,
            &cost.cache_write,
            &cost.output,
            &cost.audio,
            &cost.image,
            &cost.tools,
            &cost.request,
        ];
        let parts: i128 = parts.into_iter().flatten().map(|part| pico(part).unwrap()).sum();
        assert_eq!(parts, sum);
    }
}

#[test]
fn what_is_not_known_is_null() {
    let usage = json!({"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15});
    let cost = price("gpt-4o-nonexistent-variant", &usage, None, NOW);
    assert_eq!((cost.status, cost.total), (CostStatus::Unpriced, None));
    let cost = price("gpt-4o", &Value::Null, None, NOW);
    assert_eq!((cost.status, cost.total), (CostStatus::NoUsage, None));
    let cost = price("omni-moderation-latest", &Value::Null, None, NOW);
    assert_eq!((cost.status, cost.total.as_deref()), (CostStatus::Free, Some("0")));
    let audio = json!({"prompt_tokens": 10, "completion_tokens": 5, "prompt_tokens_details": {"audio_tokens": 4}});
    let cost = price("gpt-4o", &audio, None, NOW);
    assert_eq!(cost.status, CostStatus::Partial, "audio is not billed as text: {cost:?}");
    let zero = json!({"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0});
    assert_eq!(price("gpt-4o", &zero, None, NOW).total.as_deref(), Some("0"));
}

#[test]
fn dates_and_absurd_counts() {
    let usage = json!({"prompt_tokens": 10_000, "completion_tokens": 1000, "total_tokens": 11_000});
    assert_eq!(price("o3", &usage, None, "2025-06-09T23:59:59Z").total.as_deref(), Some("0.14"));
    assert_eq!(price("o3", &usage, None, "2025-06-10T00:00:00Z").total.as_deref(), Some("0.028"));
    let absurd = json!({"prompt_tokens": u64::MAX, "completion_tokens": u64::MAX});
    let absurd = price("gpt-4o", &absurd, None, NOW);
    assert_eq!(
        (absurd.status, absurd.total),
        (CostStatus::NoUsage, None),
        "no such count is believed"
    );
}

#[test]
fn what_the_provider_charged_wins() {
    let raw =
        json!({"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15, "cost": 3.24e-4});
    let usage = Usage {
        source: UsageSource::Provider,
        input: Some(10),
        output: Some(5),
        raw: Some(raw),
        ..Usage::default()
    };
    let cost = PriceBook::default().price(&Charge {
        provider: "openrouter",
        served: Some("openai/gpt-4o"),
        requested: None,
        endpoint: "chat.completions",
        usage: &usage,
        tier: None,
        tools: &[],
        at: NOW.parse().unwrap(),
        host: None,
    });
    assert_eq!((cost.status, cost.basis.as_deref()), (CostStatus::Priced, Some("reported")));
    assert_eq!(cost.total.as_deref(), Some("0.000324"));
}

#[test]
fn files_of_ones_own_win() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("own.toml");
    let head = "schema = 1\nprovider = \"openai\"\ncurrency = \"USD\"\nsource = \"contract\"\n";
    std::fs::write(&file, format!("{head}[[model]]\nid = \"gpt-4o\"\n[[model.price]]\nmtok = {{ input = \"1\", output = \"2\" }}\n")).unwrap();
    let usage = Usage { input: Some(1_000_000), output: Some(0), ..Usage::default() };
    let charge = Charge {
        provider: "openai",
        served: Some("gpt-4o"),
        requested: None,
        endpoint: "",
        usage: &usage,
        tier: None,
        tools: &[],
        at: NOW.parse().unwrap(),
        host: None,
    };
    let book = PriceBook::load(Some(dir.path()), None).unwrap();
    let cost = book.price(&charge);
    assert_eq!(cost.total.as_deref(), Some("1"));
    assert_eq!(cost.price.unwrap().layer, "override");
    std::fs::write(&file, "schema = 1\nnonsense = 2\n").unwrap();
    let error = PriceBook::load(Some(dir.path()), None).unwrap_err();
    assert!(error.contains("own.toml:2") && error.contains("nonsense"), "{error}");
}

/// A book whose directory holds `text` as one file.
fn book_of(text: &str) -> PriceBook {
    let dir = tempfile::tempdir().unwrap();
    let head = "schema = 1\ncurrency = \"USD\"\nsource = \"contract\"\n";
    std::fs::write(dir.path().join("own.toml"), format!("{head}{text}")).unwrap();
    PriceBook::load(Some(dir.path()), None).unwrap()
}

fn cost_at(book: &PriceBook, provider: &str, model: &str, raw: &Value) -> Cost {
    let (usage, tools) = read_usage(raw, provider);
    let usage = usage.unwrap_or_default();
    let charge = Charge {
        served: Some(model),
        tools: &tools,
        at: NOW.parse().unwrap(),
        ..Charge::new(provider, &usage)
    };
    book.price(&charge)
}

#[test]
fn one_price_may_be_laid_over_the_embedded_ones() {
    let usage = json!({"prompt_tokens": 1_000_000, "completion_tokens": 1_000_000});
    let own = "provider = \"openai\"\n[[model]]\nid = \"gpt-4o\"\nextend = true\n[[model.price]]\nmtok = { input = \"1\" }\n";
    let cost = cost_at(&book_of(own), "openai", "gpt-4o", &usage);
    assert_eq!(cost.total.as_deref(), Some("11"), "own input, embedded output");
    let own = "provider = \"mine\"\nlike = \"openai\"\n[[model]]\nid = \"mine-*\"\n[[model.price]]\nmtok = { input = 1, output = 2.5 }\n";
    let book = book_of(own);
    assert_eq!(cost_at(&book, "mine", "mine-7", &usage).total.as_deref(), Some("3.5"));
    let borrowed = cost_at(&book, "mine", "gpt-4o", &usage);
    assert_eq!(borrowed.total.as_deref(), Some("12.5"));
    let price = borrowed.price.unwrap();
    assert_eq!((price.matched.as_str(), price.entry.as_str()), ("borrowed", "openai/gpt-4o"));
}

#[test]
fn the_place_has_a_factor_on_tokens_alone() {
    let own = "provider = \"p\"\nhosts = [\"eu.example\"]\nregions = { \"eu.example\" = \"1.1\" }\n[[model]]\nid = \"m\"\n[[model.price]]\nmtok = { input = \"3\" }\nkcall = { web_search = \"10\" }\n";
    let book = book_of(own);
    let usage = Usage { input: Some(1_000_000), ..Usage::default() };
    let charge = Charge {
        served: Some("m"),
        tools: &[("web_search".to_owned(), 2)],
        ..Charge::new("p", &usage)
    };
    assert_eq!(book.price(&charge).total.as_deref(), Some("3.02"));
    let europe = Charge { host: Some("eu.example:443"), ..charge };
    let cost = book.price(&europe);
    assert_eq!(cost.total.as_deref(), Some("3.32"));
    assert_eq!(cost.notes, ["token prices times 1.1 for eu.example"]);
    let by_host = Charge { provider: "my-upstream", ..europe };
    assert_eq!(book.price(&by_host).total.as_deref(), Some("3.32"), "the host says who it is");
    let unknown = Charge { tools: &[("juggling".to_owned(), 1)], ..charge };
    assert_eq!(book.price(&unknown).status, CostStatus::Partial);
}

#[test]
fn a_contract_takes_its_share_off_every_price_of_its_provider() {
    let book = book_of("provider = \"openai\"\nfactor = \"0.85\"\n");
    let usage = Usage { input: Some(1_000_000), ..Usage::default() };
    let charge = Charge {
        served: Some("gpt-4o"),
        tools: &[("web_search".to_owned(), 100)],
        ..Charge::new("openai", &usage)
    };
    let (list, ours) = (PriceBook::default().price(&charge), book.price(&charge));
    let total = |cost: &Cost| pico(cost.total.as_deref().unwrap()).unwrap();
    assert_eq!(total(&ours) * 100, total(&list) * 85);
    assert_eq!(ours.multiplier.as_deref(), Some("0.85"));
    assert_eq!(ours.notes, ["all prices times 0.85 by contract"]);
    assert_eq!(ours.price, list.price, "the prices are still those of the book");
    let elsewhere = Charge { provider: "azure", ..charge };
    assert_eq!(book.price(&elsewhere), PriceBook::default().price(&elsewhere));
    let read = |factor: &str| {
        let text = format!(
            "schema = 1\nprovider = \"p\"\ncurrency = \"USD\"\nsource = \"x\"\nfactor = {factor}\n"
        );
        format::read("p.toml", &text).map(|provider| provider.factor.unwrap().to_string())
    };
    assert_eq!(read("\"1.1\"").unwrap(), "1.1");
    assert_eq!(read("0.2").unwrap(), "0.2");
    for slip in ["\"0.15\"", "\"-1\"", "\"0\"", "\"2.01\"", "\"15%\""] {
        assert!(read(slip).unwrap_err().starts_with("p.toml: factor = "), "{slip}");
    }
}

#[test]
fn tiers_and_places_of_anthropic() {
    let cost = |speed: &str, place: &str| {
        let raw = json!({"input_tokens": 1000, "output_tokens": 1000, "speed": speed, "inference_geo": place});
        cost_at(&PriceBook::default(), "anthropic", "claude-opus-4-8", &raw).total.unwrap()
    };
    assert_eq!(cost("standard", "global"), "0.03");
    assert_eq!(cost("fast", "global"), "0.06");
    assert_eq!(cost("standard", "us"), "0.033");
}

#[test]
fn deployments_of_azure_say_nothing() {
    let usage = Usage { input: Some(1000), output: Some(10), ..Usage::default() };
    let at = NOW.parse().unwrap();
    let asked = Charge { requested: Some("gpt-4o"), at, ..Charge::new("azure", &usage) };
    assert_eq!(PriceBook::default().price(&asked).status, CostStatus::Unpriced);
    let served = Charge { served: Some("gpt-4o-2024-11-20"), ..asked };
    assert_eq!(PriceBook::default().price(&served).total.as_deref(), Some("0.0026"));
    let own = "provider = \"azure\"\n[[model]]\nid = \"gpt-4o\"\n[[model.price]]\nmtok = { input = \"1\", output = \"1\" }\n";
    assert_eq!(book_of(own).price(&asked).total.as_deref(), Some("0.00101"));
}

#[test]
fn models_without_a_price_are_counted() {
    let book = PriceBook::default();
    let usage = Usage { input: Some(1), ..Usage::default() };
    for model in ["a", "b", "a"] {
        book.price(&Charge { served: Some(model), ..Charge::new("nowhere", &usage) });
    }
    let row = |model: &str, count| ("nowhere".to_owned(), model.to_owned(), count);
    assert_eq!(book.missing(), [row("a", 2), row("b", 1)]);
    let seconds = json!({"type": "duration", "seconds": 3});
    let cost = cost_at(&book, "openai", "gpt-4o", &seconds);
    assert_eq!((cost.status, cost.total), (CostStatus::Unpriced, None), "never a silent zero");
}

#[test]
fn the_book_can_be_looked_at() {
    let book = PriceBook::default();
    let at = NOW.parse().unwrap();
    let entries = book.entries(Some("GPT-4o-mini"), at);
    assert!(entries.iter().any(|entry| entry.entry == "openai/gpt-4o-mini"), "{entries:#?}");
    let moved = book.entries(Some("mistral/mistral-large-2512"), at);
    assert!(moved[0].aliases.contains(&"mistral-large-latest".to_owned()));
    assert!(book.entries(Some("no such model"), at).is_empty());
    assert!(PriceBook::check(None, at).unwrap().len() >= 18);
}

proptest! {
    #[test]
    fn parts_and_lines_add_up(numbers in prop::array::uniform8(0_u64..10_000_000), at in 0_usize..6) {
        let (provider, model) = [
            ("openai", "gpt-5.4"), ("openai", "gpt-audio"), ("anthropic", "claude-opus-4-8"),
            ("google", "gemini-2.5-flash"), ("xai", "grok-4.3"), ("alibaba", "qwen3-max"),
        ][at];
        let [input, output, cached, written, audio, image, reasoning, speech] = numbers;
        let raw = json!({"prompt_tokens": input, "completion_tokens": output,
            "prompt_tokens_details": {"cached_tokens": cached, "cache_write_tokens": written, "audio_tokens": audio, "image_tokens": image},
            "completion_tokens_details": {"reasoning_tokens": reasoning, "audio_tokens": speech}});
        let cost = cost_at(&PriceBook::default(), provider, model, &raw);
        let sum = |amounts: Vec<&String>| amounts.into_iter().map(|amount| pico(amount).unwrap()).sum::<i128>();
        let parts = [&cost.input, &cost.cache_read, &cost.cache_write, &cost.output, &cost.audio, &cost.image, &cost.tools, &cost.request];
        let total = cost.total.as_ref().map_or(0, |total| pico(total).unwrap());
        prop_assert_eq!(sum(parts.into_iter().flatten().collect()), total);
        prop_assert_eq!(sum(cost.lines.iter().map(|line| &line.amount).collect()), total);
    }
}

/// Cases that two independent price books agree on, where they are at hand.
#[test]
fn agreed_cases_are_exact() {
    let path =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/pricing-oracle/cases-open.json");
    let Ok(text) = std::fs::read_to_string(path) else { return };
    let cases: Value = serde_json::from_str(&text).unwrap();
    let cases = cases.as_array().or_else(|| cases["cases"].as_array()).unwrap();
    let mut exact = 0;
    for case in cases {
        let tools: Vec<(String, u64)> =
            [("web_search_calls", "web_search"), ("file_search_calls", "file_search")]
                .into_iter()
                .filter_map(|(name, unit)| {
                    Some((unit.to_owned(), case["tools"].get(name)?.as_u64()?))
                })
                .collect();
        let provider = case["provider"].as_str().unwrap();
        let (usage, _) = read_usage(&case["usage"], provider);
        let total = PriceBook::default()
            .price(&Charge {
                provider,
                served: case["model"].as_str(),
                requested: None,
                endpoint: case["api"].as_str().unwrap(),
                usage: &usage.unwrap_or_default(),
                tier: case["service_tier"].as_str(),
                tools: &tools,
                at: case["at"].as_str().unwrap().parse().unwrap(),
                host: None,
            })
            .total
            .map_or(Value::Null, Value::from);
        let accepted = case["expected"]["accept"].as_array().unwrap();
        let number = |value: &Value| value.as_str().map(|text| pico(text).unwrap());
        assert!(accepted.iter().any(|want| number(want) == number(&total)), "{case:#}\n{total}");
        exact += 1;
    }
    println!("{exact} cases exact");
    assert!(exact > 80);
}

/// The schema for editors names the units that the program reads.
#[test]
fn the_schema_knows_every_unit() {
    let schema: Value = serde_json::from_str(include_str!("../../pricing/schema.json")).unwrap();
    for table in &units::TABLES {
        let names = &schema["$defs"][table.key]["propertyNames"]["enum"];
        let known: Vec<_> = table.units.iter().map(|unit| unit.name()).collect();
        assert_eq!(*names, json!(known), "{}", table.key);
    }
}

proptest! {
    #[test]
    fn splitting_usage_changes_the_sum_by_roundings_alone(
        one in prop::array::uniform5(0_u64..1_000_000), two in prop::array::uniform5(0_u64..1_000_000), at in 0_usize..4,
    ) {
        // Models whose price does not depend on the size of the prompt.
        let (provider, model) = [
            ("openai", "gpt-4o"), ("openai", "gpt-audio"), ("groq", "openai/gpt-oss-120b"), ("deepseek", "deepseek-v4-flash"),
        ][at];
        let cost = |[text, cached, audio, output, speech]: [u64; 5]| {
            let raw = json!({"prompt_tokens": text + cached + audio, "completion_tokens": output + speech,
                "prompt_tokens_details": {"cached_tokens": cached, "audio_tokens": audio},
                "completion_tokens_details": {"audio_tokens": speech}});
            let cost = cost_at(&PriceBook::default(), provider, model, &raw);
            let lines = i128::try_from(cost.lines.len()).unwrap();
            (cost.total.map_or(0, |total| pico(&total).unwrap()), lines)
        };
        let ((whole, lines), one_cost, two_cost) =
            (cost(std::array::from_fn(|at| one[at] + two[at])), cost(one).0, cost(two).0);
        prop_assert!((whole - one_cost - two_cost).abs() <= lines, "{whole} {one_cost} {two_cost}");
    }
}

/// Only the spelling of a bare number in a file of one's own passes through a float, and exactly.
#[test]
fn no_float_touches_money() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/pricing");
    let inner = std::fs::read_dir(dir.join("import")).unwrap();
    for file in std::fs::read_dir(&dir).unwrap().chain(inner) {
        let path = file.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        if path.is_dir() || name == "file.rs" || name.ends_with("tests.rs") {
            continue;
        }
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(!text.contains("f64") && !text.contains("f32"), "{name}");
    }
}
