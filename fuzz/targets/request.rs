//! The edits of a request: valid JSON stays valid, and all but the edits stays as it was.

#![no_main]

use bytes::Bytes;
use calltap::splice::edit_request;
use libfuzzer_sys::fuzz_target;
use serde_json::value::RawValue;

fuzz_target!(|input: &[u8]| {
    let body = Bytes::copy_from_slice(input);
    for inject in [false, true] {
        let edited = edit_request(&body, inject);
        let is_json = |bytes: &[u8]| serde_json::from_slice::<&RawValue>(bytes).is_ok();
        if is_json(&body) {
            assert!(is_json(&edited.body), "{:?}", edited.body);
        }
        if let Some(member) = &edited.member {
            assert!(member.cut.end <= body.len() && member.cut.start <= member.value.start);
            assert!(member.value.end <= member.cut.end);
        } else if !edited.usage_injected {
            assert_eq!(edited.body, body);
        }
        // Nothing is left to do in what was done.
        assert!(edit_request(&edited.body, false).member.is_none() || !is_json(&body));
    }
});
