//! The cut of what the inserted option caused: the same for every chunking, and only ever a cut.

#![no_main]

use bytes::Bytes;
use calltap::splice::{UsageCutter, cut_all};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let [size, bytes @ ..] = input else { return };
    let whole = cut_all(bytes);
    let (mut cutter, mut out) = (UsageCutter::default(), Vec::new());
    for chunk in bytes.chunks(usize::from(*size) + 1) {
        cutter.push(Bytes::copy_from_slice(chunk), &mut out);
    }
    cutter.finish(&mut out);
    assert_eq!(out.concat(), whole);
    let mut rest = bytes.iter();
    assert!(
        whole.iter().all(|byte| rest.any(|other| other == byte)),
        "bytes appeared from nowhere"
    );
});
