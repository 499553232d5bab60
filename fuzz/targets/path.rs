//! Metadata in a path.

#![no_main]

use calltap::proxy::{Labels, split_metadata};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|path: &str| {
    let (rest, pairs) = split_metadata(path);
    assert!(path.ends_with(rest) || rest == "/");
    let mut labels = Labels::read(&[], &pairs);
    labels.read_member(path.as_bytes());
});
