//! Estimates beside the usage that providers reported, where recordings lie beside the project.

use super::{Question, counts, estimate, family};
use crate::{
    codec::{self, Meaning, Reading},
    model::Endpoint,
};
use serde_json::Value;
use std::{collections::BTreeMap, fs, path::Path};

const STAND_IN: &str = " as a stand-in";
const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../shared/corpus/open");

/// Largest median error of a group of at least [`CASES_MIN`] where the model's own vocabulary counts, and
/// where another stands in, in percent. Generous: recordings come from test suites, with prompts of a
/// few words, and some report usage that has nothing to do with what they hold.
const OWN_MAX: f64 = 15.0;
const STAND_IN_MAX: f64 = 60.0;
const CASES_MIN: usize = 5;

#[derive(Default)]
struct Group {
    errors: Vec<(f64, String)>,
}

impl Group {
    fn add(&mut self, name: &str, counted: u64, reported: u64) {
        let real = |tokens: u64| f64::from(u32::try_from(tokens).unwrap());
        let off = real(counted.abs_diff(reported)) / real(reported.max(1)) * 100.0;
        self.errors.push((off, format!("{name}: {counted} for {reported}")));
    }

    fn median(&self) -> f64 {
        self.errors[self.errors.len() / 2].0
    }

    fn mean(&self) -> f64 {
        self.errors.iter().map(|(off, _)| off).sum::<f64>()
            / f64::from(u32::try_from(self.errors.len()).unwrap())
    }
}

#[test]
fn estimates_come_near_reported_usage() {
    let Ok(folder) = fs::read_dir(Path::new(FOLDER)) else { return };
    let mut files: Vec<_> = folder.map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.extension().is_some_and(|kind| kind == "json"));
    files.sort();
    let mut groups: BTreeMap<String, Group> = BTreeMap::new();
    for file in files {
        let name = file.file_stem().unwrap().to_string_lossy().into_owned();
        let case: Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
        let endpoint = Endpoint::of(case["endpoint"].as_str().unwrap().split('?').next().unwrap());
        let meaning = read(&case, &endpoint);
        let Some(usage) = meaning.usage.filter(|_| counts(endpoint.as_str())) else { continue };
        let model = meaning.model_served.or(meaning.model_requested).unwrap_or_default();
        let found = estimate(&Question {
            endpoint: endpoint.as_str(),
            model: &model,
            request: meaning.request.as_ref(),
            response: meaning.response.as_ref(),
            broke_off: false,
        });
        let family = family::of(&model);
        let encoding = family.encoding.name();
        let own = if family.stand_in { STAND_IN } else { "" };
        let mut add = |what: &str, counted: Option<u64>, reported: Option<u64>| {
            let (Some(counted), Some(reported)) = (counted, reported) else { return };
            let group = groups.entry(format!("{} {encoding}{own} {what}", endpoint.as_str()));
            group.or_default().add(&format!("{name} {model}"), counted, reported);
        };
        add("input", found.input, usage.input);
        // What was thought in secret cannot be counted.
        let shown =
            usage.output.map(|output| output - usage.output_reasoning.unwrap_or(0).min(output));
        let shown = shown.filter(|shown| *shown > 0);
        add(
            "output",
            found.output,
            if usage.output_reasoning.is_some() { shown } else { usage.output },
        );
    }
    for (what, group) in &mut groups {
        group.errors.sort_by(|a, b| b.0.total_cmp(&a.0));
        println!(
            "{what}: {} cases, error: {:.1} % mean, {:.1} % median",
            group.errors.len(),
            group.mean(),
            group.median()
        );
        for (off, case) in group.errors.iter().take(12) {
            println!("    {off:.0} % {case}");
        }
    }
    for (what, group) in groups.iter().filter(|(_, group)| group.errors.len() >= CASES_MIN) {
        let bound = if what.contains(STAND_IN) { STAND_IN_MAX } else { OWN_MAX };
        assert!(group.median() <= bound, "{what}: {:.1} %", group.median());
    }
}

fn read(case: &Value, endpoint: &Endpoint) -> Meaning {
    let request = case["request"]["body"].to_string();
    codec::read(&Reading {
        endpoint,
        provider: case["provider"].as_str().unwrap(),
        method: "POST",
        path: case["endpoint"].as_str().unwrap(),
        request: request.as_bytes(),
        status: Some(200),
        content_type: None,
        response: case["response"]["body"].as_str().unwrap().as_bytes(),
    })
}
