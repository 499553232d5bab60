use super::*;
use serde_json::json;
use std::time::{Duration, Instant};

fn chat(model: &str, request: &Value, response: &Value) -> Estimate {
    estimate(&Question {
        endpoint: "chat.completions",
        model,
        request: Some(request),
        response: Some(response),
        broke_off: false,
    })
}

#[test]
fn a_plain_chat() {
    let request = json!({"messages": [{"role": "user", "content": "hello world"}]});
    let response = json!({"choices": [{"message": {"content": "Hi there!"}}]});
    for (model, input, output) in [
        ("gpt-4", 9, 3),
        ("openai/gpt-4o-2024-08-06", 9, 3),
        ("ft:gpt-4o-mini:org::id", 9, 3),
        ("gpt-5.1", 8, 6),
    ] {
        let found = chat(model, &request, &response);
        assert_eq!((found.input, found.output), (Some(input), Some(output)), "{model}");
    }
    let notes = chat("o3", &request, &response).notes.join("; ");
    assert!(notes.contains("o200k_base") && notes.contains("lower bound"), "{notes}");
}

#[test]
fn tools_are_counted_as_declarations() {
    let function = json!({"name": "weather", "description": "Looks outside.", "parameters": {
        "type": "object", "required": ["place"], "properties": {
            "place": {"type": "string", "description": "A town."},
            "unit": {"type": "string", "enum": ["C", "F"]},
            "days": {"type": "array", "items": {"type": "integer"}},
            "at": {"type": "object", "properties": {"x": {"type": ["number", "null"]}}}}}});
    let expected = "namespace functions {\n\n// Looks outside.\ntype weather = (_: {\n// A town.\nplace: string,\n\
        unit?: \"C\" | \"F\",\ndays?: number[],\nat?: {\nx?: number | null,\n},\n}) => any;\n\n} // namespace functions";
    assert_eq!(tools::render([&function].into_iter()), expected);
    let without = json!({"messages": [{"role": "user", "content": "hi"}]});
    let mut with = without.clone();
    with["tools"] = json!([{"type": "function", "function": function}]);
    let (less, more) = (chat("gpt-4o", &without, &json!({})), chat("gpt-4o", &with, &json!({})));
    assert!(more.input.unwrap() > less.input.unwrap() + 50);
}

#[test]
fn what_cannot_be_known_is_left_open() {
    let of = |request: Value| {
        estimate(&Question {
            endpoint: "responses",
            model: "gpt-4.1",
            request: Some(&request),
            response: Some(&json!({"output": [{"type": "message", "content": [{"text": "yes"}]}]})),
            broke_off: true,
        })
    };
    assert_eq!(of(json!({"input": "hello world", "instructions": "Be."})).input, Some(15));
    for unknown in [
        json!({"input": "x", "previous_response_id": "r"}),
        json!({"input": "x", "tools": [{"type": "web_search"}]}),
        json!({"prompt": {"id": "p"}}),
    ] {
        let found = of(unknown);
        assert_eq!((found.input, found.output), (None, Some(1)));
        assert!(found.notes.len() > 1, "{found:?}");
    }
}

#[test]
fn texts_without_a_frame() {
    let of = |endpoint: &str, model: &str, request: Value| {
        estimate(&Question {
            endpoint,
            model,
            request: Some(&request),
            response: None,
            broke_off: false,
        })
    };
    let one = of("embeddings", "text-embedding-3-small", json!({"input": "hello world"}));
    assert_eq!((one.input, one.output), (Some(2), None));
    let many = json!({"input": ["hello world", "hello world"]});
    assert_eq!(of("embeddings", "text-embedding-3-small", many).input, Some(4));
    let ready = json!({"prompt": [[1, 2, 3], [4]]});
    assert_eq!(of("completions", "gpt-3.5-turbo-instruct", ready).input, Some(4));
    assert_eq!(
        of("completions", "text-davinci-003", json!({"prompt": "hello world"})).input,
        Some(2)
    );
}

#[test]
fn a_cut_into_pieces_changes_little_and_huge_texts_cost_little() {
    let words =
        "The quick brown fox, jumping over 12 lazy dogs; \n\n again and again. ".repeat(200);
    let mut counter = Counter::new(family::Encoding::O200k).unwrap();
    let whole = family::Encoding::O200k.vocabulary().unwrap().count_ordinary(&words) as u64;
    assert!(counter.count(&words).abs_diff(whole) <= 2, "{whole}");

    let sample = counter::EXACT_BYTES_MAX;
    for text in ["a", " ", "\n", "\u{4e2d}", "é\u{301}", "ab ", "<|endoftext|>", "1", "\u{1F600}"]
    {
        let huge = text.repeat((20 << 20) / text.len());
        let started = Instant::now();
        let request = json!({"messages": [{"role": "user", "content": huge}]});
        let found = chat("gpt-4o", &request, &json!({}));
        // A bound that only work without bounds would miss.
        assert!(started.elapsed() < Duration::from_mins(1), "{text:?}: {:?}", started.elapsed());
        assert!(found.notes.join(";").contains("beginning"), "{text:?}");
        let tokens = found.input.unwrap();
        assert!(
            tokens > (huge.len() / sample) as u64 && tokens <= 2 * huge.len() as u64,
            "{text:?}: {tokens}"
        );
    }
}
