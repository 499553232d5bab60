use super::*;
use std::collections::BTreeSet;

/// Paths of everything in `value`; what callers name freely ends in `.*`.
fn paths(value: &Value, path: &str, all: &mut BTreeSet<String>) {
    const FREE: [&str; 2] = ["tags", "parameters"];
    match value {
        Value::Object(_) if FREE.contains(&path) => {
            all.insert(format!("{path}.*"));
        }
        Value::Object(members) => members.iter().for_each(|(name, member)| {
            let dot = if path.is_empty() { "" } else { "." };
            paths(member, &format!("{path}{dot}{name}"), all);
        }),
        Value::Array(items) if items.first().is_some_and(Value::is_object) => {
            paths(&items[0], &format!("{path}[]"), all);
        }
        _ => {
            all.insert(path.to_owned());
        }
    }
}

#[test]
fn the_page_names_every_field_and_no_other() {
    let mut record = crate::interpret::begun(&crate::model::Head::default());
    record.error = Some(CallError::default());
    record.cost.price = Some(PriceRef::default());
    record.cost.lines.push(CostLine::default());
    // Members that are left out where they are empty.
    record.host = Some(String::new());
    record.usage.input_seconds = Some(1.into());
    record.usage.input_characters = Some(1);
    record.usage.prompts = Some(Prompts { count: 1, smallest: 1, largest: 1 });
    record.cost.tools_used.push((String::new(), 1));
    record.cost.previous.push(Replaced::default());
    let mut have = BTreeSet::new();
    paths(&serde_json::to_value(record).unwrap(), "", &mut have);
    let page = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/record.md");
    let page = std::fs::read_to_string(page).unwrap();
    let named: BTreeSet<String> = page
        .lines()
        .filter_map(|line| line.strip_prefix("| `")?.split('`').next().map(str::to_owned))
        .collect();
    assert_eq!(have, named);
}

#[test]
fn a_line_is_one_line_for_every_reader() {
    let mut record = crate::interpret::begun(&crate::model::Head::default());
    let odd = "a\u{85}b\u{2028}c\u{2029}d\ne";
    record.tags.session = Some(odd.to_owned());
    let line = record.line().unwrap();
    assert!(!line.contains(['\u{85}', '\u{2028}', '\u{2029}', '\n']), "{line}");
    let read: Value = serde_json::from_str(&line).unwrap();
    assert_eq!(read["tags"]["session"], odd);
}
