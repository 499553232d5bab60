//! The decoder beside an independent reading of the standard, and beside `eventsource-stream`, on
//! generated streams. `CALLTAP_TEST_STREAMS` sets how many.

use super::sse::Decoder;
use eventsource_stream::Eventsource;
use futures_util::{FutureExt, StreamExt, stream};
use std::convert::Infallible;

/// (event field, data) of an event.
type Seen = (String, String);

/// What generated streams are made of: everything the algorithm branches on, whole and in pieces.
const PIECES: &[&[u8]] = &[
    b"\n",
    b"\n",
    b"\n\n",
    b"\r",
    b"\r\n",
    b"\r\n\r\n",
    b"data",
    b"data:",
    b"data: ",
    b"data: x",
    b"data:  y",
    b"datax: z",
    b"Data: z",
    b" data: z",
    b"event",
    b"event:",
    b"event: ping",
    b"id: 7",
    b"id: a\0b",
    b"retry: 10",
    b"retry: ten",
    b":",
    b": comment",
    b" ",
    b":",
    b"x",
    b"\0",
    b"\xEF\xBB\xBF",
    b"\xC3\xA9",
    b"\xF0\x9F\x98\x80",
    b"\xFF",
    b"\xE2\x82",
    b"\xF0\x9F",
    b"{\"a\":1}",
    b"[DONE]",
    b"\xE2\x80\xA8",
    b"\x0B",
    b"\xC2\x85",
];

/// `SplitMix64` (Steele, Lea, Flood 2014).
struct Random(u64);

impl Random {
    fn below(&mut self, below: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((z ^ (z >> 31)) % below as u64).unwrap()
    }

    fn of<'a, T>(&mut self, items: &'a [T]) -> &'a T {
        &items[self.below(items.len())]
    }
}

fn streams() -> u64 {
    let count = std::env::var("CALLTAP_TEST_STREAMS").ok().and_then(|text| text.parse().ok());
    count.unwrap_or(20_000)
}

/// § 9.2.6 of the HTML standard, word by word, over the whole stream at once: decode, split into lines,
/// interpret each, dispatch on an empty one. What the end of the stream leaves is discarded.
fn by_the_standard(bytes: &[u8]) -> Vec<Seen> {
    let text = String::from_utf8_lossy(bytes).into_owned();
    let text = text.strip_prefix('\u{FEFF}').unwrap_or(&text);
    let (mut lines, mut line, mut chars) = (Vec::new(), String::new(), text.chars().peekable());
    while let Some(c) = chars.next() {
        if c == '\r' && chars.peek() == Some(&'\n') {
            chars.next();
        }
        match c {
            '\r' | '\n' => lines.push(std::mem::take(&mut line)),
            c => line.push(c),
        }
    }
    let (mut events, mut data_buffer, mut event_type) = (Vec::new(), String::new(), String::new());
    for line in lines {
        if line.is_empty() {
            if !data_buffer.is_empty() {
                let data = data_buffer.strip_suffix('\n').unwrap_or(&data_buffer).to_owned();
                events.push((event_type.clone(), data));
            }
            data_buffer.clear();
            event_type.clear();
        } else if line.starts_with(':') {
            // A comment.
        } else {
            let (field, value) = match line.find(':') {
                Some(colon) => {
                    let value = &line[colon + 1..];
                    (&line[..colon], value.strip_prefix(' ').unwrap_or(value))
                }
                None => (line.as_str(), ""),
            };
            if field == "event" {
                event_type = value.to_owned();
            } else if field == "data" {
                data_buffer.push_str(value);
                data_buffer.push('\n');
            }
        }
    }
    events
}

/// What the decoder finds complete, fed in pieces.
fn decoded(bytes: &[u8], random: &mut Random) -> Vec<Seen> {
    let (mut decoder, mut events, mut rest) = (Decoder::default(), Vec::new(), bytes);
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    while !rest.is_empty() {
        let (chunk, after) = rest.split_at(1 + random.below(rest.len()));
        decoder.push(chunk, |event| events.push((text(event.name), text(event.data))));
        rest = after;
    }
    decoder.finish(|event| assert!(!event.complete));
    events
}

#[test]
fn agrees_with_the_standard_on_any_stream() {
    let (mut random, mut events) = (Random(1), 0);
    for at in 0..streams() {
        let pieces = random.below(40);
        let bytes: Vec<u8> = (0..pieces).flat_map(|_| random.of(PIECES).to_vec()).collect();
        let expected = by_the_standard(&bytes);
        events += expected.len();
        let found = decoded(&bytes, &mut random);
        assert_eq!(found, expected, "stream {at}: {}", bytes.escape_ascii());
    }
    println!("{} streams with {events} events, no difference", streams());
    assert!(events > 0);
}

/// A well-formed stream: whole fields, one kind of line end, a blank line behind each event.
fn well_formed(random: &mut Random) -> String {
    let end = *random.of(&["\n", "\r\n", "\n"]);
    let mut text = String::new();
    for _ in 0..random.below(8) {
        if random.below(4) == 0 {
            text.push_str(&format!(": comment{end}"));
        }
        if random.below(3) == 0 {
            text.push_str(&format!(
                "event: {}{end}",
                random.of(&["ping", "response.created", "é"])
            ));
        }
        for _ in 0..=random.below(3) {
            let value =
                random.of(&["{\"a\":\"é😀\"}", "x", "[DONE]", "a: b", "  indented", "tail "]);
            text.push_str(&format!("data:{}{value}{end}", random.of(&[" ", ""])));
        }
        text.push_str(end);
    }
    text
}

#[test]
fn agrees_with_eventsource_stream_on_well_formed_streams() {
    let (mut random, mut events) = (Random(2), 0);
    for at in 0..streams() {
        let text = well_formed(&mut random);
        let theirs = stream::iter([Ok::<_, Infallible>(text.clone())]).eventsource();
        let theirs = theirs.map(|event| event.unwrap()).collect::<Vec<_>>().now_or_never().unwrap();
        let theirs: Vec<Seen> = theirs.into_iter().map(|event| (event.event, event.data)).collect();
        events += theirs.len();
        let named =
            |(name, data): Seen| (if name.is_empty() { "message".to_owned() } else { name }, data);
        let ours: Vec<Seen> =
            decoded(text.as_bytes(), &mut random).into_iter().map(named).collect();
        assert_eq!(ours, theirs, "stream {at}: {text:?}");
    }
    println!("{} streams with {events} events, no difference", streams());
    assert!(events > 0);
}
