//! Pages say what is so: their links lead somewhere, their commands exist, nothing is left out.

use crate::harness::{Calltap, Upstream, chat, chat_body, fetch, post};
use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

#[test]
fn links_lead_somewhere() {
    let mut faults = Vec::new();
    for page in pages() {
        let text = fs::read_to_string(&page).unwrap();
        for line in outside_fences(&text) {
            for link in line.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
                if link.contains("://") || link.starts_with("mailto:") {
                    continue;
                }
                let (file, anchor) = link.split_once('#').unwrap_or((link, ""));
                let target =
                    if file.is_empty() { page.clone() } else { page.parent().unwrap().join(file) };
                let there = target.exists() && (anchor.is_empty() || has_anchor(&target, anchor));
                if !there {
                    faults.push(format!("{}: {link}", page.display()));
                }
            }
        }
    }
    assert!(faults.is_empty(), "{faults:#?}");
}

#[test]
fn commands_exist_with_their_flags() {
    let mut helps = BTreeMap::new();
    let mut faults = Vec::new();
    let mut seen = 0;
    for page in pages() {
        for command in commands(&fs::read_to_string(&page).unwrap()) {
            seen += 1;
            if let Err(why) = exists(&command, &mut helps) {
                faults.push(format!("{}: calltap {}: {why}", page.display(), command.join(" ")));
            }
        }
    }
    assert!(seen > 50, "only {seen} commands were found");
    assert!(faults.is_empty(), "{faults:#?}");
}

#[test]
fn every_configuration_key_is_described() {
    let schema: serde_json::Value = serde_json::from_str(&calltap(&["config", "schema"])).unwrap();
    let mut keys = BTreeSet::new();
    for (_, of) in schema["$defs"].as_object().unwrap() {
        properties(of, &mut keys);
    }
    assert!(keys.contains("first_byte_timeout") && keys.contains("upstream_key"), "{keys:?}");
    let page = fs::read_to_string("docs/configuration.md").unwrap();
    let described: BTreeSet<&str> = words(&page).collect();
    let missing: Vec<_> = keys.iter().filter(|key| !described.contains(key.as_str())).collect();
    assert!(missing.is_empty(), "docs/configuration.md leaves out {missing:?}");
    let invented: Vec<_> = sections(&page, "## `[")
        .flat_map(|section| first_cells(section).collect::<Vec<_>>())
        .filter(|key| !keys.contains(*key))
        .collect();
    assert!(invented.is_empty(), "docs/configuration.md has {invented:?}");
    // The keys of sinks have no schema: the example names them.
    let example = fs::read_to_string("src/cli/example.toml").unwrap();
    let page = fs::read_to_string("docs/delivery.md").unwrap();
    let described: BTreeSet<&str> = words(&page).collect();
    for key in sections(&example, "# [sinks.")
        .flat_map(str::lines)
        .filter_map(|line| line.strip_prefix("# ")?.split_once(" = "))
        .map(|(key, _)| key)
    {
        assert!(described.contains(key), "docs/delivery.md leaves out {key}");
    }
}

#[test]
fn every_alias_is_described() {
    let source = fs::read_to_string("src/proxy/aliases.rs").unwrap();
    let code = source.split("#[cfg(test)]").next().unwrap();
    let page = fs::read_to_string("docs/headers.md").unwrap().to_lowercase();
    let aliases: Vec<&str> =
        code.split('"').skip(1).step_by(2).filter(|text| is_header(text)).collect();
    assert!(aliases.len() > 60, "{aliases:?}");
    let missing: Vec<_> = aliases.iter().filter(|alias| !page.contains(**alias)).collect();
    assert!(missing.is_empty(), "docs/headers.md leaves out {missing:?}");
}

#[test]
fn metrics_are_served_as_they_are_described() {
    let upstream = Upstream::start(chat(2, Duration::ZERO));
    let calltap = Calltap::with(&upstream, "", "[sinks.files]\ntype = \"jsonl\"");
    post(calltap.address, "/v1/chat/completions", "", &chat_body(true));
    post(calltap.address, "/v1/chat/completions", "x-calltap-log: off\r\n", &chat_body(false));
    calltap.wait_calls("", 1);
    let text = String::from_utf8(fetch(calltap.address, "/metrics").unwrap().body).unwrap();
    let described = metrics();
    let mut served = BTreeSet::new();
    for line in text.lines().filter_map(|line| line.strip_prefix("# TYPE ")) {
        let (name, kind) = line.split_once(' ').unwrap();
        let suffix = match kind {
            "counter" => "_total",
            "info" => "_info",
            _ => "",
        };
        served.insert(format!("{name}{suffix}"));
    }
    assert!(served.contains("calltap_requests_total"), "{text}");
    let missing: Vec<_> = served.difference(&described).collect();
    assert!(missing.is_empty(), "docs/metrics.md leaves out {missing:?}");
    // A metric with labels is not served before its first event: the source has them all.
    let source = fs::read_to_string("src/metrics.rs").unwrap();
    for name in &described {
        let name = name.strip_prefix("calltap_").unwrap();
        let registered = ["_total", "_seconds", "_info", ""]
            .iter()
            .filter_map(|suffix| name.strip_suffix(suffix))
            .any(|base| source.contains(&format!("\"{base}\"")));
        assert!(registered, "docs/metrics.md has {name}");
    }
}

#[test]
fn dashboards_and_alerts_use_metrics_that_are_described() {
    let described = metrics();
    for file in ["deploy/grafana/calltap.json", "deploy/prometheus/alerts.yml"] {
        let text = fs::read_to_string(file).unwrap();
        let used: BTreeSet<&str> =
            words(&text).filter(|word| word.starts_with("calltap_")).collect();
        assert!(used.len() > 5, "{file}: {used:?}");
        for name in used {
            let base = name.strip_suffix("_bucket").unwrap_or(name);
            assert!(described.contains(base), "{file}: {name}");
        }
    }
}

/// Every page of the project.
pub fn pages() -> Vec<PathBuf> {
    fn walk(folder: &Path, found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                walk(&path, found);
            } else if path.extension().is_some_and(|extension| extension == "md") {
                found.push(path);
            }
        }
    }
    let mut found = vec![PathBuf::from("pricing/README.md")];
    walk(Path::new("docs"), &mut found);
    walk(Path::new("deploy"), &mut found);
    for name in ["README", "ARCHITECTURE", "CHANGELOG", "CONTRIBUTING", "SECURITY"] {
        found.push(PathBuf::from(format!("./{name}.md")));
    }
    found
}

fn outside_fences(text: &str) -> impl Iterator<Item = &str> {
    let mut fenced = false;
    text.lines().filter(move |line| {
        let fence = line.trim_start().starts_with("```");
        fenced ^= fence;
        !fenced && !fence
    })
}

/// Anchors are headings in lower case, with spaces as `-` and without punctuation.
fn has_anchor(page: &Path, anchor: &str) -> bool {
    let text = fs::read_to_string(page).unwrap();
    outside_fences(&text).filter(|line| line.starts_with('#')).any(|line| {
        let heading = line.trim_start_matches('#').trim().to_lowercase();
        let slug: String = heading
            .chars()
            .filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'))
            .map(|c| if c == ' ' { '-' } else { c })
            .collect();
        slug == anchor
    })
}

/// What follows `calltap ` in spans of code, and in the lines of shell blocks.
fn commands(text: &str) -> Vec<Vec<String>> {
    let mut found = Vec::new();
    for line in outside_fences(text) {
        found.extend(line.split('`').skip(1).step_by(2).filter_map(|span| command(span, 0)));
    }
    let mut shell = false;
    for line in text.lines() {
        if let Some(language) = line.trim_start().strip_prefix("```") {
            shell = matches!(language, "sh" | "console");
        } else if shell {
            let starts = line.match_indices("calltap ").map(|(at, _)| at);
            found.extend(starts.filter_map(|at| command(line, at)));
        }
    }
    found
}

/// The arguments of the command that starts at `at`, up to the end of it.
fn command(line: &str, at: usize) -> Option<Vec<String>> {
    let rest = line[at..].strip_prefix("calltap ")?;
    let begins = line[..at].chars().next_back().is_none_or(|before| " /(\"'".contains(before));
    let arguments: Vec<String> = rest
        .split_whitespace()
        .take_while(|word| {
            !word.starts_with(['#', '|', '>', '&', '·', '<', '…']) && !matches!(*word, "--" | "\\")
        })
        .map(|word| word.trim_matches([')', ';', '"', ',']).to_owned())
        .collect();
    let named = arguments.first().is_some_and(|word| {
        word.starts_with("--") || word.bytes().all(|b| b.is_ascii_lowercase() || b == b'-')
    });
    (begins && named).then_some(arguments)
}

fn exists(command: &[String], helps: &mut BTreeMap<String, String>) -> Result<(), String> {
    let mut path: Vec<&str> = Vec::new();
    let mut help = help(&path, helps);
    for word in command.iter().take_while(|word| !word.starts_with('-')) {
        let names = subcommands(&help);
        if names.is_empty() {
            break;
        }
        if !names.contains(word) {
            return Err(format!("no command {word}"));
        }
        path.push(word);
        help = self::help(&path, helps);
    }
    for flag in command.iter().filter_map(|word| word.strip_prefix("--")) {
        let flag = flag.split('=').next().unwrap();
        if path.is_empty() {
            help = self::help(&["serve"], helps);
        }
        if !help.contains(&format!("--{flag}")) {
            return Err(format!("no flag --{flag}"));
        }
    }
    Ok(())
}

fn help(path: &[&str], helps: &mut BTreeMap<String, String>) -> String {
    let ask = || calltap(&[path, &["--help"]].concat());
    helps.entry(path.join(" ")).or_insert_with(ask).clone()
}

fn calltap(arguments: &[&str]) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_calltap")).args(arguments).output().unwrap();
    assert!(output.status.success(), "{arguments:?}");
    String::from_utf8(output.stdout).unwrap()
}

fn subcommands(help: &str) -> Vec<String> {
    let Some((_, rest)) = help.split_once("Commands:\n") else { return Vec::new() };
    rest.lines()
        .take_while(|line| !line.is_empty())
        .filter(|line| line.starts_with("  ") && !line.starts_with("   "))
        .filter_map(|line| line.split_whitespace().next().map(str::to_owned))
        .collect()
}

fn properties(schema: &serde_json::Value, keys: &mut BTreeSet<String>) {
    let parts = schema["anyOf"].as_array().or(schema["oneOf"].as_array()).into_iter().flatten();
    for schema in std::iter::once(schema).chain(parts) {
        keys.extend(schema["properties"].as_object().into_iter().flat_map(|of| of.keys().cloned()));
    }
}

/// The parts of `text` that begin with `heading`, each up to the next heading or empty comment.
fn sections<'a>(text: &'a str, heading: &'a str) -> impl Iterator<Item = &'a str> {
    text.split(heading).skip(1).map(|rest| rest.split("\n## ").next().unwrap()).map(move |rest| {
        if heading.starts_with("## ") { rest } else { rest.split("\n\n").next().unwrap() }
    })
}

/// What stands in code in the first cell of each row.
fn first_cells(section: &str) -> impl Iterator<Item = &str> {
    section.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next())
}

fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').filter(|word| !word.is_empty())
}

fn is_header(text: &str) -> bool {
    text.contains(['-', '_']) && text.bytes().all(|b| b.is_ascii_lowercase() || b"-_".contains(&b))
}

/// The names that docs/metrics.md describes.
fn metrics() -> BTreeSet<String> {
    let page = fs::read_to_string("docs/metrics.md").unwrap();
    first_cells(&page).map(str::to_owned).collect()
}
