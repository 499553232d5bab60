//! The language as a whole.

use super::*;
use crate::store::{Reader, Store};
use proptest::prelude::*;

fn parsed(text: &str) -> Query {
    text.parse()
        .unwrap_or_else(|error: QueryError| panic!("{text}: {} at {}", error.message, error.at))
}

#[test]
fn terms() {
    use {Expr::Term as T, Term::*};
    let text = |field, text: &str| T(Text(field, Pattern(vec![text.into()])));
    for (query, expected) in [
        ("model:gpt-4o*", T(Text(Field::Model, Pattern(vec!["gpt-4o".into(), String::new()])))),
        ("slug:a", text(Field::Prompt, "a")),
        ("customer:\"a b\"", text(Field::Customer, "a b")),
        ("status:error", T(Status(super::Status::Error))),
        ("status:4xx", T(Status(super::Status::Class(4)))),
        ("status:>=500", T(Status(super::Status::Code(Op::Ge, 500)))),
        ("cost:>$0.05", T(Number(Field::Cost, Op::Gt, 0.05))),
        ("latency:>2s", T(Number(Field::Latency, Op::Gt, 2000.0))),
        ("ttft:100ms..1.5s", T(Range(Field::Ttft, 100.0, 1500.0))),
        ("tokens:<=4k", T(Number(Field::Tokens, Op::Le, 4000.0))),
        ("delivery:dead", T(Delivery(super::Delivery::Dead))),
        ("stream:true", T(Flag(Field::Stream, true))),
        ("since:1h", T(Since(Moment::Ago(3_600_000)))),
        ("before:2026-11-21", T(Before(Moment::At("2026-11-21T00:00:00Z".parse().unwrap())))),
        (
            "since:2026-11-21T02:12:41Z",
            T(Since(Moment::At("2026-11-21T02:12:41Z".parse().unwrap()))),
        ),
        ("meta.Order:12", T(Meta("order".into(), Pattern(vec!["12".into()])))),
        ("has:session", T(Has(Field::Session))),
        ("refund", T(Words { text: "refund".into(), prefix: false })),
        ("\"exact words\"", T(Words { text: "exact words".into(), prefix: false })),
        ("ref*", T(Words { text: "ref".into(), prefix: true })),
    ] {
        assert_eq!(parsed(query).root, Some(expected), "{query}");
    }
    assert_eq!(parsed("  ").root, None);
}

#[test]
fn structure() {
    assert_eq!(parsed("a b OR -c").to_string(), r#"("a" "b") OR -"c""#);
    assert_eq!(parsed("a (b OR c) -(d e)").to_string(), r#""a" ("b" OR "c") -("d" "e")"#);
    assert_eq!(parsed("ORDER").to_string(), "\"ORDER\"");
}

#[test]
fn mistakes_are_placed_and_explained() {
    for (query, at, part) in [
        ("a modle:x", 2, "did you mean `model`"),
        ("stauts:ok", 0, "did you mean `status`"),
        ("http://x", 0, "quotes"),
        ("cost:>cheap", 5, "0.05"),
        ("model:", 6, "needs a value"),
        ("(a", 0, "never closed"),
        ("a)", 1, "closes nothing"),
        ("a OR", 4, "missing"),
        ("\"a", 0, "never closed"),
        ("status:6yy", 7, "4xx"),
        ("outcome:fine", 8, "provider_error"),
        ("delivery:sent", 9, "undelivered, pending, waiting, dead"),
        ("has:delivery", 4, "not a field of a call"),
        ("stream:>true", 7, "takes no `>`"),
        ("a*b", 0, "at the end"),
    ] {
        let error = query.parse::<Query>().unwrap_err();
        assert_eq!(error.at, at, "{query}: {}", error.message);
        assert!(error.message.contains(part), "{query}: {}", error.message);
    }
}

#[test]
fn limits_hold() {
    assert!("(".repeat(4000).parse::<Query>().is_err());
    assert!("-".repeat(4000).parse::<Query>().is_err());
    assert!("a ".repeat(101).parse::<Query>().is_err());
    assert!("x".repeat(5000).parse::<Query>().is_err());
    assert!("model:a*b*c*d*e*f".parse::<Query>().is_err());
}

fn store() -> (tempfile::TempDir, Reader) {
    let dir = tempfile::tempdir().unwrap();
    Store::open(dir.path(), &crate::config::Store::default()).unwrap().close();
    let reader = Reader::open(dir.path()).unwrap();
    (dir, reader)
}

proptest! {
    #[test]
    fn no_text_panics_and_what_parses_survives_its_display(text in r#"([a-z*:"()<>=.\\ -]|OR |status:|model:|cost:>|since:1h|4xx|[0-9]|\PC){0,30}"#) {
        if let Ok(query) = text.parse::<Query>() {
            let shown = query.to_string();
            prop_assert_eq!(&parsed(&shown).to_string(), &shown);
        }
    }
}

#[test]
fn every_parsed_query_is_sound_sql() {
    let (_dir, reader) = store();
    let text = r#"([a-z*:"()'%_\[?;\x00 -]|OR |status:4xx |delivery:dead |delivery:pending |tag:|meta\.a:|error:|has:|cost:>0\.1 |since:1h |NEAR\(|\PC){0,20}"#;
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    runner
        .run(&proptest::string::string_regex(text).unwrap(), |text| {
            if let Ok(query) = text.parse::<Query>() {
                prop_assert!(reader.list(&query, 10, None).is_ok(), "{}", query);
            }
            Ok(())
        })
        .unwrap();
    for field in Field::all() {
        let name = field.name();
        for query in
            [format!("{name}:x"), format!("{name}:>1"), format!("{name}:1"), format!("has:{name}")]
        {
            if let Ok(query) = query.parse::<Query>() {
                reader.list(&query, 10, None).unwrap();
            }
        }
    }
}

#[test]
fn places_of_terms() {
    let text = r#" model:x  -(a OR b) "two words" cost:>1"#;
    let terms: Vec<&str> = Query::terms(text).into_iter().map(|at| &text[at]).collect();
    assert_eq!(terms, ["model:x", "-(a OR b)", "\"two words\"", "cost:>1"]);
    for none in ["", "a OR b", "a)", "(a", "modle:x"] {
        assert!(Query::terms(none).is_empty(), "{none}");
    }
}

/// A fault stands between characters, also where a text is too long.
#[test]
fn a_text_that_is_too_long_is_cut_between_characters() {
    let text = "a".to_owned() + &"é".repeat(MAX_LEN);
    let at = text.parse::<Query>().unwrap_err().at;
    assert!(at == MAX_LEN - 1 && text.is_char_boundary(at));
}
