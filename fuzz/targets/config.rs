//! Configuration files: every fault is said, none is fatal.

#![no_main]

use calltap::{
    check,
    config::{self, Sources},
};
use libfuzzer_sys::fuzz_target;
use std::collections::BTreeMap;

fuzz_target!(|input: &[u8]| {
    let file = std::env::temp_dir().join(format!("calltap-fuzz-{}.toml", std::process::id()));
    // What it may read besides itself is no part of this.
    if input.windows(5).any(|part| part == b"file:") || std::fs::write(&file, input).is_err() {
        return;
    }
    let sources = Sources { file: Some(file), environment: BTreeMap::new(), flags: Vec::new() };
    if let Err(faults) = config::load(&sources, check::check) {
        assert!(!faults.to_string().is_empty());
    }
});
