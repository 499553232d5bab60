//! The decoder of event streams: however the bytes are chunked, the events are the same.

#![no_main]

use calltap::codec::sse::Decoder;
use libfuzzer_sys::fuzz_target;

fn decode<'a>(
    limit: usize,
    chunks: impl Iterator<Item = &'a [u8]>,
) -> (Vec<(Vec<u8>, Vec<u8>, u64, bool)>, (u64, u64)) {
    let (mut decoder, mut events) = (Decoder::with_limit(limit), Vec::new());
    let mut keep = |event: calltap::codec::sse::Event<'_>| {
        events.push((event.name.to_vec(), event.data.to_vec(), event.end, event.complete));
    };
    chunks.for_each(|chunk| decoder.push(chunk, &mut keep));
    let counts = decoder.finish(&mut keep);
    (events, counts)
}

fuzz_target!(|input: &[u8]| {
    let [size, limit, bytes @ ..] = input else { return };
    let limit = if *limit < 128 { usize::from(*limit) + 1 } else { 1 << 20 };
    let whole = decode(limit, std::iter::once(bytes));
    assert_eq!(decode(limit, bytes.chunks(usize::from(*size % 17) + 1)), whole);
    assert!(whole.0.iter().all(|(_, _, end, _)| *end <= bytes.len() as u64));
});
