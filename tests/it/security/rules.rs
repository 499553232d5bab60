//! Rules that the source keeps, and the page that lists the claims (S3, S23, S25).

use crate::lists::exists;
use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

/// Claims of the list.
const CLAIMS: usize = 30;

/// Where a secret may be looked at: where it is checked, or leaves towards its owner.
const EXPOSERS: &[&str] = &[
    "src/api/doors.rs",
    "src/cli/run.rs",
    "src/cli/sinks.rs",
    "src/cli/tail.rs",
    "src/delivery/http.rs",
    "src/model/secret.rs",
    "src/proxy/keys.rs",
    "src/proxy/mod.rs",
    "src/sink/own.rs",
    "src/sink/webhook.rs",
];

/// Lowest sound versions of libraries with known faults (advisories as of August 2026).
const SOUND: &[(&str, &str)] = &[
    ("h2", "0.4.16"),
    ("tokio", "1.44.2"),
    ("rustls", "0.23.18"),
    ("rustls-webpki", "0.103.13"),
    ("bytes", "1.11.1"),
    ("tracing-subscriber", "0.3.20"),
    ("time", "0.3.47"),
    ("slab", "0.4.11"),
    ("crossbeam-channel", "0.5.15"),
    ("crossbeam-epoch", "0.9.20"),
    ("lru", "0.18.2"),
    ("rusqlite", "0.41.1"),
    ("ring", "0.17.12"),
    ("quinn-proto", "0.11.15"),
];

/// Libraries that nobody keeps any more, or that bring C where Rust is wanted.
const UNWANTED: &[&str] = &[
    "serde_yml",
    "serde_yaml",
    "rustls-pemfile",
    "openssl",
    "openssl-sys",
    "native-tls",
    "libloading",
    "wasmtime",
];

/// Files below `folder` with code, tests left out.
fn code(folder: &str) -> BTreeMap<String, String> {
    fn walk(folder: &Path, found: &mut BTreeMap<String, String>) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                walk(&path, found);
            } else if path.extension().is_some_and(|extension| extension == "rs")
                && !path.file_stem().unwrap().to_string_lossy().ends_with("tests")
            {
                let text = fs::read_to_string(&path).unwrap();
                let code = text.split("#[cfg(test)]").next().unwrap().to_owned();
                found.insert(path.display().to_string(), code);
            }
        }
    }
    let mut found = BTreeMap::new();
    walk(Path::new(folder), &mut found);
    found
}

#[test]
fn secrets_are_looked_at_in_few_places() {
    let code = code("src");
    let users: BTreeSet<&str> = code
        .iter()
        .filter(|(_, text)| text.contains("expose"))
        .map(|(path, _)| path.as_str())
        .collect();
    assert_eq!(users, EXPOSERS.iter().copied().collect());
    let secret = &code["src/model/secret.rs"];
    for shown in
        ["Display for Secret", "Serialize for Secret", "derive(Debug", "derive(Clone, Debug"]
    {
        assert!(!secret.contains(shown), "{shown}");
    }
}

/// Nothing that comes over the network starts a program, or loads one.
#[test]
fn no_request_runs_a_program() {
    for (path, text) in code("src") {
        let starts = ["process::Command", "Command::new", "libloading", "dlopen"];
        let does = starts.iter().any(|start| text.contains(start));
        // `calltap run -- CMD` starts what its caller named on the command line.
        assert!(!does || path == "src/cli/run.rs", "{path}");
        let is_served =
            ["src/api/", "src/proxy/", "src/server/"].iter().any(|at| path.starts_with(at));
        // The key of fingerprints and spilled bodies have names that are fixed.
        let may_open = ["src/proxy/keys.rs", "src/proxy/spill.rs", "src/proxy/upstream.rs"];
        let opens = ["File::open", "fs::read", "OpenOptions", "fs::write"];
        let does = is_served && opens.iter().any(|open| text.contains(open));
        assert!(!does || may_open.contains(&&*path), "{path} opens files");
    }
}

#[test]
fn what_is_built_from_is_pinned_and_sound() {
    let lock: toml::Table = fs::read_to_string("Cargo.lock").unwrap().parse().unwrap();
    let number = |version: &str| -> Vec<u64> {
        let plain = version.split(['-', '+']).next().unwrap();
        plain.split('.').map(|part| part.parse().unwrap()).collect()
    };
    let mut checked = 0;
    for package in lock["package"].as_array().unwrap() {
        let (name, version) =
            (package["name"].as_str().unwrap(), package["version"].as_str().unwrap());
        assert!(!UNWANTED.contains(&name), "{name}");
        let source = package.get("source").and_then(|source| source.as_str());
        assert!(
            name == "calltap" || source.is_some_and(|source| source.starts_with("registry+")),
            "{name}"
        );
        assert!(name == "calltap" || package.get("checksum").is_some(), "{name}");
        if let Some((_, lowest)) = SOUND.iter().find(|(known, _)| *known == name) {
            checked += 1;
            assert!(number(version) >= number(lowest), "{name} {version} is below {lowest}");
        }
    }
    assert!(checked > 5, "{checked}");
    let mut actions = 0;
    for file in fs::read_dir(".github/workflows").unwrap() {
        let text = fs::read_to_string(file.unwrap().path()).unwrap();
        assert!(text.contains("\npermissions: { contents: read }"), "rights are given one by one");
        for line in text.lines().filter_map(|line| line.split("uses: ").nth(1)) {
            actions += 1;
            let commit = line.split('@').nth(1).unwrap().split(' ').next().unwrap();
            assert!(commit.len() == 40 && commit.bytes().all(|b| b.is_ascii_hexdigit()), "{line}");
        }
        for line in text
            .lines()
            .filter(|line| line.contains("cargo ") && !line.trim().starts_with("- name"))
        {
            let builds = ["cargo build", "cargo install", "auditable build"]
                .iter()
                .any(|c| line.contains(c));
            assert!(!builds || line.contains("--locked"), "{line}");
        }
    }
    assert!(
        actions > 3
            && fs::read_to_string("deny.toml").unwrap().contains("unknown-registry = \"deny\"")
    );
    println!(
        "{} packages locked, {checked} with known faults at sound versions, {actions} actions pinned",
        lock["package"].as_array().unwrap().len()
    );
}

/// The page has a row for every claim, and every test that a row names is there.
#[test]
fn every_claim_has_its_row_and_its_test() {
    let page = fs::read_to_string("docs/security.md").unwrap();
    let mut missing = Vec::new();
    for claim in 1..=CLAIMS {
        let row = page.lines().find(|line| line.starts_with(&format!("| S{claim} |")));
        let Some(row) = row else {
            missing.push(format!("S{claim}: no row"));
            continue;
        };
        let tests = row.split('`').skip(1).step_by(2);
        let tests: Vec<&str> =
            tests.filter(|name| name.contains("::") || name.contains(".test.")).collect();
        if tests.is_empty() && !row.contains("not held") && !row.contains("no such thing") {
            missing.push(format!("S{claim}: neither a test nor a reason"));
        }
        missing.extend(
            tests.iter().filter(|test| !exists(test)).map(|test| format!("S{claim}: no {test}")),
        );
    }
    assert!(missing.is_empty(), "{missing:#?}");
}
