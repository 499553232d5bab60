use super::*;
use crate::pricing::import;
use serde_json::{Value, json};

const TODAY: &str = "2026-11-20T12:00:00Z";

/// A book with one imported provider, as a price file writes it.
fn book(models: &str) -> PriceBook {
    let head = "schema = 1\nprovider = \"p\"\ncurrency = \"USD\"\nsource = \"x\"\n";
    let file = crate::pricing::format::read("p", &format!("{head}{models}")).unwrap();
    PriceBook { imported: vec![file], ..PriceBook::default() }
}

fn merged(book: &PriceBook, entry: &Value, accept: bool) -> Merge {
    let listing = import::read(json!({ "p/m": entry }).to_string().as_bytes()).unwrap();
    merge(book, listing, TODAY.parse().unwrap(), accept)
}

fn entry(input: f64, output: f64) -> Value {
    json!({"litellm_provider": "p", "mode": "chat", "input_cost_per_token": input, "output_cost_per_token": output})
}

fn sets(merge: &Merge) -> Vec<(Option<String>, String)> {
    let sets = &merge.layer["p"]["m"].1.sets;
    sets.iter().map(|set| (set.from_text.clone(), set.base[&Unit::Input].dollars())).collect()
}

const KNOWN: &str = "[[model]]\nid = \"m\"\naliases = [\"n\"]\n[[model.price]]\nmtok = { input = \"1\", output = \"2\" }\nkcall = { web_search = \"10\" }\n";

#[test]
fn a_new_price_holds_from_the_day_of_the_import() {
    let merge = merged(&book(KNOWN), &entry(8e-7, 2e-6), false);
    assert_eq!(merge.changes[0].kind, Kind::Changed);
    assert_eq!(sets(&merge), [(None, "1".into()), (Some("2026-11-20".into()), "0.8".into())]);
    let new = &merge.layer["p"]["m"].1.sets[1];
    assert_eq!(
        new.base[&Unit::WebSearch].dollars(),
        "10",
        "a fee of which the book is silent stays"
    );
    assert!(merge.doubt().unwrap().contains("1 of 1"), "one of one is more than a fifth");
}

#[test]
fn the_same_price_changes_nothing() {
    let merge = merged(&book(KNOWN), &entry(1.000_000_1e-6, 2e-6), false);
    assert_eq!((merge.same, merge.changes.len(), merge.layer.len()), (1, 0, 0));
    assert_eq!(merge.doubt(), None);
}

#[test]
fn a_large_change_needs_a_word() {
    let merge = merged(&book(KNOWN), &entry(1e-7, 2e-6), false);
    assert!(merge.doubt().unwrap().contains("more than 3 times"));
}

#[test]
fn what_a_book_knows_more_is_added() {
    let mut more = entry(1e-6, 2e-6);
    more["cache_read_input_token_cost"] = json!(1e-7);
    more["input_cost_per_token_flex"] = json!(5e-7);
    let merge = merged(&book(KNOWN), &more, false);
    assert_eq!(merge.changes[0].kind, Kind::More);
    let set = &merge.layer["p"]["m"].1.sets[0];
    assert_eq!(set.base[&Unit::CacheRead].dollars(), "0.1");
    assert!(set.knows_tier("flex") && set.from.is_none());
    assert_eq!(merge.doubt(), None);
}

#[test]
fn coming_prices_stay_where_the_book_knows_none() {
    let known = format!(
        "{KNOWN}[[model.price]]\nfrom = 2027-01-01\nmtok = {{ input = \"2\", output = \"4\" }}\n"
    );
    let merge = merged(&book(&known), &entry(8e-7, 2e-6), false);
    let from: Vec<_> = sets(&merge).into_iter().map(|(from, _)| from).collect();
    assert_eq!(from, [None, Some("2026-11-20".into()), Some("2027-01-01".into())]);
}

#[test]
fn names_that_moved_and_what_the_other_book_confirms_stay() {
    let alias = "[[model]]\nid = \"k\"\naliases = [\"m\"]\n[[model.price]]\nmtok = { input = \"1\", output = \"2\" }\n";
    let merge = merged(&book(alias), &entry(8e-7, 2e-6), true);
    assert_eq!((merge.changes[0].kind, merge.changes[0].taken), (Kind::Alias, false));
    // An embedded entry that litellm alone confirms, and a genai-prices that says the double.
    let file = crate::pricing::embedded::provider("together").unwrap();
    let alone = |model: &Model| {
        let by = &model.origin.confirmed_by;
        !by.is_empty() && by.iter().all(|by| by.starts_with("litellm")) && !model.free
    };
    let (id, model) = file.models.iter().find(|(_, model)| alone(model)).unwrap();
    let double = model.sets[0].base[&Unit::Input].nano * 2 / 1_000_000;
    let double: Value = serde_json::from_str(&format!("{double}e-3")).unwrap();
    let other = json!([{"id": "together", "models": [
        {"id": id, "match": {"equals": id}, "prices": {"input_mtok": double}}]}]);
    for accept in [false, true] {
        let listing = import::read(other.to_string().as_bytes()).unwrap();
        let merge = super::merge(&PriceBook::default(), listing, TODAY.parse().unwrap(), accept);
        assert_eq!((merge.changes[0].kind, merge.changes[0].taken), (Kind::Contested, accept));
    }
}

#[test]
fn layers_are_compared() {
    let own = book(KNOWN);
    let layers = layers(&own, TODAY.parse().unwrap());
    assert_eq!((layers[0].0, layers[0].1.kind), ("imported", Kind::New));
}
