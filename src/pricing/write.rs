//! Prices as the text of a price file.

use super::{
    money::Price,
    schedule::{Model, Prices, Set, When},
    units::TABLES,
};
use std::{collections::BTreeMap, fmt::Write};

/// Days of the week; 0 is Monday.
pub const DAYS: [&str; 7] = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];

/// The file of a provider: its models by id, with their other names.
pub fn file(
    provider: &str,
    source: &str,
    models: &BTreeMap<String, (Vec<String>, Model)>,
) -> String {
    let (provider, source) = (quoted(provider), quoted(source));
    let mut text =
        format!("schema = 1\nprovider = {provider}\ncurrency = \"USD\"\nsource = {source}\n");
    for (id, (aliases, entry)) in models {
        model(&mut text, id, aliases, entry);
    }
    text
}

fn model(text: &mut String, id: &str, aliases: &[String], model: &Model) {
    let origin = &model.origin;
    let list = |names: &[String]| {
        let names: Vec<_> = names.iter().map(|name| quoted(name)).collect();
        (!names.is_empty()).then(|| format!("[{}]", names.join(", ")))
    };
    let regions: Vec<_> = model
        .regions
        .iter()
        .map(|(place, factor)| format!("{} = \"{factor}\"", quoted(place)))
        .collect();
    let flag = |is: bool| is.then(|| "true".to_owned());
    let lines = [
        ("aliases", list(aliases)),
        ("source", origin.source.as_deref().map(quoted)),
        ("confirmed_by", list(&origin.confirmed_by)),
        ("checked", origin.checked.clone()),
        ("retired", origin.retired.clone()),
        ("odd", origin.odd.as_deref().map(quoted)),
        ("free", flag(model.free)),
        ("extend", flag(model.extend)),
        ("regions", (!regions.is_empty()).then(|| format!("{{ {} }}", regions.join(", ")))),
    ];
    text.push_str(&format!("\n[[model]]\nid = {}\n", quoted(id)));
    for (key, value) in lines {
        if let Some(value) = value {
            text.push_str(&format!("{key} = {value}\n"));
        }
    }
    model.sets.iter().for_each(|one| set(text, one));
}

fn set(text: &mut String, set: &Set) {
    text.push_str("[[model.price]]\n");
    if let Some(from) = &set.from_text {
        text.push_str(&format!("from = {from}\n"));
    }
    prices(text, &set.base);
    for when in &set.when {
        conditions(text, when);
        prices(text, &when.prices);
    }
}

fn conditions(text: &mut String, when: &When) {
    text.push_str("[[model.price.when]]\n");
    let clock = |minutes: u32| format!("{:02}:{:02}", minutes / 60, minutes % 60);
    let hours: Vec<_> =
        when.utc.iter().map(|(from, to)| format!("\"{}-{}\"", clock(*from), clock(*to))).collect();
    let name = |day: &u32| usize::try_from(*day).ok().and_then(|day| DAYS.get(day));
    let days: Vec<_> = when.days.iter().filter_map(name).map(|day| format!("\"{day}\"")).collect();
    let list = |items: &[String]| (!items.is_empty()).then(|| format!("[{}]", items.join(", ")));
    let lines = [
        ("tier", when.tier.as_deref().map(quoted)),
        ("prompt_over", when.prompt_over.map(|size| size.to_string())),
        ("prompt_from", when.prompt_from.map(|size| size.to_string())),
        ("any_prompt", when.any_prompt.then(|| "true".to_owned())),
        ("utc", list(&hours)),
        ("days", list(&days)),
    ];
    for (key, value) in lines {
        if let Some(value) = value {
            text.push_str(&format!("{key} = {value}\n"));
        }
    }
}

fn prices(text: &mut String, prices: &Prices) {
    for table in &TABLES {
        let priced = |unit| Some((unit, prices.get(unit)?));
        let entries: Vec<_> = table.units.iter().filter_map(priced).collect();
        if !entries.is_empty() {
            let entry = |(unit, price): &(_, &Price)| format!("{unit} = \"{}\"", price.dollars());
            let entries: Vec<_> = entries.iter().map(entry).collect();
            text.push_str(&format!("{} = {{ {} }}\n", table.key, entries.join(", ")));
        }
    }
}

/// A basic string of TOML.
fn quoted(text: &str) -> String {
    let mut quoted = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            c if c.is_control() => {
                // Writing to a string cannot fail.
                write!(quoted, "\\u{:04X}", u32::from(c)).ok();
            }
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pricing::{embedded, format};

    #[test]
    fn every_embedded_model_survives_its_text() {
        for provider in embedded::all() {
            let models: BTreeMap<_, _> = provider
                .models
                .iter()
                .map(|(id, model)| (id.clone(), (Vec::new(), model.clone())))
                .collect();
            let text = file(&provider.name, "a \"source\"\\\n", &models);
            let read = format::read("own", &text).unwrap();
            assert_eq!(read.models.len(), models.len());
            for (id, model) in read.models {
                let was = &models[&id].1;
                assert_eq!((&model.sets, &model.origin), (&was.sets, &was.origin), "{id}");
                assert_eq!((model.free, &model.regions), (was.free, &was.regions), "{id}");
            }
        }
    }
}
