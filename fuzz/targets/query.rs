//! The query language: a fault stands somewhere in the text.

#![no_main]

use calltap::query::Query;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    if let Err(error) = text.parse::<Query>() {
        assert!(text.is_char_boundary(error.at), "{error} at {}", error.at);
    }
});
