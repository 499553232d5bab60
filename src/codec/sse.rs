//! Server-sent events over bytes, as the HTML standard parses them (§ 9.2.6, read 2026-11-20).
//!
//! Three departures, all on purpose: `id` and `retry` are ignored; data stays bytes, so one bad byte
//! costs one character and not the stream; an event has a largest size and a last event that lacks
//! its blank line is still delivered, marked as incomplete.

/// Longest event kept, in bytes; a longer one is skipped whole and counted.
pub const EVENT_BYTES_MAX: usize = 16 * 1024 * 1024;

const BOM: &[u8] = b"\xEF\xBB\xBF";

/// Splits a byte stream into events. However the bytes are chunked, the events are the same.
#[derive(Debug)]
pub struct Decoder {
    event_bytes_max: usize,
    line: Vec<u8>,
    name: Vec<u8>,
    data: Vec<u8>,
    has_data: bool,
    cut: Cut,
    started: bool,
    after_cr: bool,
    offset: u64,
    comments: u64,
    skipped: u64,
}

/// One event that has data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event<'a> {
    /// The `event` field; empty when the stream gave none.
    pub name: &'a [u8],
    /// The `data` lines, joined by line feeds.
    pub data: &'a [u8],
    /// Offset in the stream, in bytes, just past the line end that completed the event.
    pub end: u64,
    /// False for a last event that the stream's end cut short of its blank line.
    pub complete: bool,
}

/// What is being dropped for want of room.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Cut {
    #[default]
    Nothing,
    Line,
    Event,
}

impl Default for Decoder {
    fn default() -> Self {
        Self::with_limit(EVENT_BYTES_MAX)
    }
}

impl Decoder {
    /// A decoder that skips events longer than `event_bytes_max`.
    pub fn with_limit(event_bytes_max: usize) -> Self {
        Self {
            event_bytes_max,
            line: Vec::new(),
            name: Vec::new(),
            data: Vec::new(),
            has_data: false,
            cut: Cut::Nothing,
            started: false,
            after_cr: false,
            offset: 0,
            comments: 0,
            skipped: 0,
        }
    }

    /// Reads `chunk` and hands every event it completes to `each`.
    pub fn push(&mut self, chunk: &[u8], mut each: impl FnMut(Event<'_>)) {
        let mut rest = chunk;
        while let Some(at) = memchr::memchr2(b'\n', b'\r', rest) {
            let (head, tail) = rest.split_at(at);
            let Some((&end, tail)) = tail.split_first() else { return };
            rest = tail;
            let second_half = self.after_cr && end == b'\n' && head.is_empty();
            self.after_cr = end == b'\r';
            self.offset = self.offset.saturating_add(count(at) + 1);
            if !second_half {
                self.end_line(head, &mut each);
            }
        }
        if !rest.is_empty() {
            self.after_cr = false;
            self.offset = self.offset.saturating_add(count(rest.len()));
            self.keep(rest);
        }
    }

    /// Ends the stream: a last event without its blank line goes to `each`. Returns how many
    /// comments were passed over and how many events were skipped for their size.
    pub fn finish(mut self, mut each: impl FnMut(Event<'_>)) -> (u64, u64) {
        if !self.line.is_empty() || self.cut == Cut::Line {
            self.end_line(&[], &mut each);
        }
        self.end_event(false, &mut each);
        (self.comments, self.skipped)
    }

    fn keep(&mut self, part: &[u8]) {
        if self.is_too_long(part) {
            self.cut = Cut::Line;
            self.line.clear();
            self.data.clear();
        } else if self.cut != Cut::Line {
            self.line.extend_from_slice(part);
        }
    }

    /// Whether the event outgrows its limit with the line that `part` continues.
    fn is_too_long(&self, part: &[u8]) -> bool {
        self.line.len() + self.data.len() + part.len() > self.event_bytes_max
    }

    /// Ends a line whose last part is `tail`; what came before it is in `self.line`.
    fn end_line(&mut self, tail: &[u8], each: &mut impl FnMut(Event<'_>)) {
        // Most lines lie whole in one chunk and need no copy.
        let copied = !self.line.is_empty() || self.cut == Cut::Line || self.is_too_long(tail);
        let mut line = Vec::new();
        let mut text = tail;
        if copied {
            self.keep(tail);
            line = std::mem::take(&mut self.line);
            text = &line;
        }
        if !self.started {
            self.started = true;
            text = text.strip_prefix(BOM).unwrap_or(text);
        }
        if self.cut == Cut::Line {
            self.cut = Cut::Event;
        } else if text.is_empty() {
            self.end_event(true, each);
        } else {
            self.field(text);
        }
        if copied {
            line.clear();
            self.line = line; // keeps the allocation
        }
    }

    fn field(&mut self, line: &[u8]) {
        let colon = memchr::memchr(b':', line).unwrap_or(line.len());
        let (name, value) = line.split_at(colon);
        let value = value.strip_prefix(b":").unwrap_or(value);
        let value = value.strip_prefix(b" ").unwrap_or(value);
        match name {
            b"" => self.comments += 1,
            b"event" => value.clone_into(&mut self.name),
            b"data" if self.cut == Cut::Nothing => self.append(value),
            _ => {}
        }
    }

    fn append(&mut self, value: &[u8]) {
        if self.has_data {
            self.data.push(b'\n');
        }
        self.has_data = true;
        self.data.extend_from_slice(value);
    }

    fn end_event(&mut self, complete: bool, each: &mut impl FnMut(Event<'_>)) {
        if self.cut == Cut::Nothing {
            if self.has_data {
                let (name, data) = (self.name.as_slice(), self.data.as_slice());
                each(Event { name, data, end: self.offset, complete });
            }
        } else {
            self.cut = Cut::Nothing;
            self.skipped += 1;
        }
        self.name.clear();
        self.data.clear();
        self.has_data = false;
    }
}

fn count(bytes: usize) -> u64 {
    u64::try_from(bytes).unwrap_or(u64::MAX)
}

/// Whether `body`, sent without a usable content type, begins like an event stream.
pub fn looks_like_events(body: &[u8]) -> bool {
    let body = body.strip_prefix(BOM).unwrap_or(body).trim_ascii_start();
    [b"data:".as_slice(), b"event:", b":", b"id:", b"retry:"]
        .iter()
        .any(|start| body.starts_with(start))
}

#[cfg(test)]
mod tests {
    use super::*;
    use eventsource_stream::Eventsource;
    use futures_util::{FutureExt, StreamExt, stream};
    use proptest::prelude::*;
    use std::convert::Infallible;

    type Seen = (String, String, u64, bool);

    fn decode<'a>(chunks: impl IntoIterator<Item = &'a [u8]>) -> (Vec<Seen>, (u64, u64)) {
        decode_within(EVENT_BYTES_MAX, chunks)
    }

    fn decode_within<'a>(
        limit: usize,
        chunks: impl IntoIterator<Item = &'a [u8]>,
    ) -> (Vec<Seen>, (u64, u64)) {
        let (mut decoder, mut out) = (Decoder::with_limit(limit), Vec::new());
        let mut each = |event: Event<'_>| {
            let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
            out.push((text(event.name), text(event.data), event.end, event.complete));
        };
        for chunk in chunks {
            decoder.push(chunk, &mut each);
        }
        let counts = decoder.finish(&mut each);
        (out, counts)
    }

    fn data(text: &[u8]) -> Vec<String> {
        decode([text]).0.into_iter().map(|seen| seen.1).collect()
    }

    #[test]
    fn line_ends_marks_and_comments() {
        assert_eq!(data(b"\xEF\xBB\xBFdata: a\n\ndata: \xEF\xBB\xBFb\n\n"), ["a", "\u{FEFF}b"]);
        assert_eq!(data(b"data: a\r\rdata:b\r\rdata:c\r\n\r\ndata:  d\n\n"), ["a", "b", "c", " d"]);
        assert_eq!(data(b"data: {\ndata:  1\r\ndata: }\n\n"), ["{\n 1\n}"]);
        assert_eq!(data(b"data\n\ndata: h\xFF\n\n"), ["", "h\u{FFFD}"]);
        assert_eq!(data(b"id: 1\nretry: x\nevent: ping\n\n\n\ndata: x\n\n"), ["x"]);
        let (events, (comments, _)) =
            decode([b": one\n:\n\nevent: e\ndata: x\n:ping\n\n".as_slice()]);
        assert_eq!(events, [("e".to_owned(), "x".to_owned(), 33, true)]);
        assert_eq!(comments, 3);
    }

    #[test]
    fn offsets_end_where_the_event_is_complete() {
        let ends = |text: &[u8]| decode([text]).0.iter().map(|seen| seen.2).collect::<Vec<_>>();
        assert_eq!(ends(b"data: a\n\ndata: b\n\n"), [9, 18]);
        assert_eq!(ends(b"data: a\r\n\r\ndata: b\r\n\r\n"), [10, 21], "a CR ends a line by itself");
        assert_eq!(ends(b"data: a\n\ndata: b"), [9, 16]);
    }

    #[test]
    fn a_last_event_without_blank_line_is_incomplete() {
        let (events, _) = decode([b"data: a\n\ndata: tail".as_slice()]);
        assert_eq!(events.last().map(|e| (e.1.as_str(), e.3)), Some(("tail", false)));
        let (events, _) = decode([b"data: tail\n".as_slice()]);
        assert_eq!(events.last().map(|e| (e.1.as_str(), e.3)), Some(("tail", false)));
    }

    #[test]
    fn an_overlong_event_is_skipped_whole() {
        let long = "x".repeat(EVENT_BYTES_MAX + 1);
        let text = format!("data: a\ndata: {long}\ndata: b\n\ndata: next\n\n");
        for size in [text.len(), 1 << 16] {
            let (events, (_, skipped)) = decode(text.as_bytes().chunks(size));
            assert_eq!(events.iter().map(|e| e.1.as_str()).collect::<Vec<_>>(), ["next"]);
            assert_eq!(skipped, 1);
        }
        let half = "y".repeat(EVENT_BYTES_MAX / 2);
        let text = format!("data: {half}\ndata: {half}\ndata: {half}\n\ndata: next\n\n");
        for size in [text.len(), 1 << 16] {
            let (events, (_, skipped)) = decode(text.as_bytes().chunks(size));
            assert_eq!((events.len(), skipped), (1, 1));
        }
        assert_eq!(decode([long.as_bytes()]).1.1, 1, "no line end at all");
    }

    #[test]
    fn sniffing() {
        assert!(looks_like_events(b"\xEF\xBB\xBF\n data: {}"));
        assert!(looks_like_events(b": OPENROUTER PROCESSING"));
        assert!(!looks_like_events(b"{\"data:\":1}"));
        assert!(!looks_like_events(b"<html>"));
    }

    proptest! {
        #[test]
        fn chunking_does_not_matter(
            lines in prop::collection::vec("(\u{FEFF}?data: ?[a-z:é😀]{0,3}|event: x|: c)?(\n|\r|\r\n)", 0..24),
            cuts in prop::collection::vec(1_usize..5, 0..60),
            tail in "(data: tail)?",
            limit in prop_oneof![Just(EVENT_BYTES_MAX), 1_usize..24],
        ) {
            let bytes = (lines.concat() + &tail).into_bytes();
            let whole = decode_within(limit, [bytes.as_slice()]);
            let (mut chunks, mut rest) = (Vec::new(), &bytes[..]);
            for cut in cuts {
                let (chunk, tail) = rest.split_at(cut.min(rest.len()));
                chunks.push(chunk);
                rest = tail;
            }
            chunks.push(rest);
            prop_assert_eq!(&decode_within(limit, chunks), &whole);
            prop_assert_eq!(&decode_within(limit, bytes.chunks(1)), &whole);
        }

        #[test]
        fn agrees_with_eventsource_stream(
            lines in prop::collection::vec("(data: ?[a-z:é]{0,4}|event: x|: c|data)?", 0..30),
        ) {
            let text = lines.join("\n") + "\n";
            let theirs = stream::iter([Ok::<_, Infallible>(text.clone())]).eventsource();
            let theirs = theirs.map(|event| event.unwrap().data).collect::<Vec<_>>();
            let theirs = theirs.now_or_never().unwrap();
            let ours = decode([text.as_bytes()]).0.into_iter().filter(|e| e.3).map(|e| e.1);
            prop_assert_eq!(ours.collect::<Vec<_>>(), theirs);
        }
    }
}
