//! Rules about the source itself.

use std::{fs, path::Path};

/// A file that grows beyond this holds a second idea.
const FILE_LINES_MAX: usize = 560;

/// Floor of each top-level module: a file may use its own module and lower floors only, so that
/// reading it never leads upwards.
const FLOORS: &[(&str, u8)] = &[
    ("failpoint", 0),
    ("model", 0),
    ("config", 1),
    ("content", 1),
    ("splice", 1),
    ("codec", 1),
    ("assistants", 2),
    ("query", 2),
    ("redact", 2),
    ("pricing", 2),
    ("metrics", 2),
    ("sink", 2),
    ("telemetry", 2),
    ("tokens", 2),
    ("server", 3),
    ("store", 3),
    ("interpret", 4),
    ("lineage", 4),
    ("counted", 4),
    ("proxy", 4),
    ("recorder", 5),
    ("delivery", 5),
    ("rederive", 5),
    ("check", 6),
    ("api", 6),
    ("door", 7),
    ("app", 8),
    ("cli", 9),
    ("lib", 10),
    ("main", 10),
];

/// These floors turn data into data: none of these words may stand there.
const PURE: &[&str] =
    &["model", "content", "query", "splice", "codec", "sink", "assistants", "tokens"];
const IMPURE: &[&str] = &[
    "tokio",
    "reqwest",
    "rusqlite",
    "std::fs",
    "std::env",
    "SystemTime",
    "Instant::now",
    "async fn",
];

#[test]
fn floors_hold() {
    let mut faults = Vec::new();
    for (path, text) in sources(Path::new("src")) {
        let module = path
            .trim_start_matches("src/")
            .split('/')
            .next()
            .unwrap()
            .trim_end_matches(".rs")
            .to_owned();
        let code = text.split("#[cfg(test)]").next().unwrap();
        let is_test = path.contains("tests.rs");
        if text.lines().count() > FILE_LINES_MAX {
            faults.push(format!("{path}: more than {FILE_LINES_MAX} lines"));
        }
        if is_test {
            continue;
        }
        for used in uses(code) {
            if used != module && floor(&used) >= floor(&module) {
                faults.push(format!(
                    "{path} (floor {}) uses {used} (floor {})",
                    floor(&module),
                    floor(&used)
                ));
            }
        }
        if PURE.contains(&module.as_str()) {
            faults.extend(
                IMPURE
                    .iter()
                    .filter(|word| code.contains(**word))
                    .map(|word| format!("{path}: a pure module names {word}")),
            );
        }
    }
    assert!(faults.is_empty(), "{faults:#?}");
}

/// Modules named after `crate::`, also inside braces.
fn uses(code: &str) -> Vec<String> {
    let mut found = Vec::new();
    for (at, _) in code.match_indices("crate::") {
        let rest = &code[at + 7..];
        if let Some(group) = rest.strip_prefix('{') {
            let mut depth = 0;
            let mut name = String::new();
            for c in group.chars() {
                match c {
                    '{' => depth += 1,
                    '}' if depth == 0 => break,
                    '}' => depth -= 1,
                    _ => {}
                }
                if depth == 0 && (c.is_ascii_lowercase() || c == '_') && !name.ends_with('!') {
                    name.push(c);
                } else if depth == 0 && c == ',' {
                    found.push(std::mem::take(&mut name));
                } else if c == ':' {
                    name.push('!');
                }
            }
            found.push(name);
        } else {
            found.push(rest.chars().take_while(|c| c.is_ascii_lowercase() || *c == '_').collect());
        }
    }
    found
        .into_iter()
        .map(|name| name.trim_end_matches('!').to_owned())
        .filter(|name| !name.is_empty())
        .collect()
}

#[test]
fn the_tree_is_clean() {
    let mut faults = Vec::new();
    for folder in ["src", "tests/it"] {
        for (path, text) in sources(Path::new(folder)) {
            for mark in [
                concat!("TO", "DO"),
                concat!("FIX", "ME"),
                concat!("/", "work/"),
                concat!("/", "root/"),
            ] {
                if text.contains(mark) {
                    faults.push(format!("{path}: {mark}"));
                }
            }
        }
    }
    assert!(faults.is_empty(), "{faults:#?}");
}

/// The fuzz crate locks what calltap needs: it is built with `--locked`.
#[test]
fn the_fuzz_lock_knows_every_dependency() {
    let read = |path: &str| -> toml::Table { fs::read_to_string(path).unwrap().parse().unwrap() };
    let (manifest, lock) = (read("Cargo.toml"), read("fuzz/Cargo.lock"));
    let packages = lock["package"].as_array().unwrap();
    let own = packages.iter().find(|package| package["name"].as_str() == Some("calltap")).unwrap();
    // A name stands alone, or before a version where there are several.
    let locked = own["dependencies"].as_array().unwrap().iter().filter_map(|name| name.as_str());
    let locked: Vec<&str> = locked.filter_map(|name| name.split(' ').next()).collect();
    for name in manifest["dependencies"].as_table().unwrap().keys() {
        assert!(locked.contains(&name.as_str()), "{name}: run `cargo update calltap` in fuzz/");
    }
}

fn sources(dir: &Path) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(sources(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push((path.display().to_string(), fs::read_to_string(&path).unwrap()));
        }
    }
    found
}

fn floor(module: &str) -> u8 {
    FLOORS
        .iter()
        .find(|(name, _)| *name == module)
        .unwrap_or_else(|| panic!("give `{module}` a floor"))
        .1
}
