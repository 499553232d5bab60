//! The other half of asking for usage: what that caused is cut out of the answer again.

use super::event::cuts_of;
use bytes::{Bytes, BytesMut};
use memchr::{memchr2, memmem};
use std::ops::Range;

/// Longest event that is looked at, in bytes, its final line feed apart. A longer one passes as it
/// is, also where it came in one chunk: what is cut must not depend on chunks.
const EVENT_BYTES_MAX: usize = 1 << 20;

/// Cuts what an injected `include_usage` caused out of an event stream, however it is chunked: the
/// event that carries nothing but usage, and `"usage":null` members of the others.
///
/// An event is handed on as soon as it is complete, as part of the chunk it came in; a comment or a
/// blank line between events likewise. What comes out does not depend on the chunks.
#[derive(Debug, Default)]
pub struct UsageCutter {
    /// The start of an event that is not complete yet.
    held: BytesMut,
    scan: Scan,
    /// The event under way is too long to be held: it passes.
    passing: bool,
    /// What a line feed at the start of the next chunk belongs to.
    after_cr: AfterCr,
    started: bool,
}

#[derive(Debug, Default, PartialEq, Eq, Clone, Copy)]
enum AfterCr {
    #[default]
    Nothing,
    /// A blank line that ended in CR and was handed on.
    Kept,
    /// One that was cut with its event.
    Cut,
}

impl UsageCutter {
    /// Takes a chunk and hands on what the client may have of it and of what was held back.
    pub fn push(&mut self, mut chunk: Bytes, out: &mut Vec<Bytes>) {
        if chunk.is_empty() {
            return;
        }
        if self.after_cr != AfterCr::Nothing && chunk.first() == Some(&b'\n') {
            let line_feed = chunk.split_to(1);
            if self.after_cr == AfterCr::Kept {
                out.push(line_feed);
            }
        }
        self.after_cr = AfterCr::Nothing;
        if self.passing || !self.held.is_empty() {
            chunk = self.complete_held(chunk, out);
        }
        if !chunk.is_empty() {
            self.take_events(&chunk, out);
        }
    }

    /// The stream has ended: hands on what was held back.
    pub fn finish(&mut self, out: &mut Vec<Bytes>) {
        let tail = self.held.split().freeze();
        self.hand_on(&tail, out);
    }

    /// Adds as much of `chunk` as the event under way needs; the rest is returned.
    fn complete_held(&mut self, mut chunk: Bytes, out: &mut Vec<Bytes>) -> Bytes {
        let before = self.held.len();
        if self.passing {
            self.scan.at = 0;
            let end = self.scan.find_end(&chunk, 0);
            let event = chunk.split_to(end.unwrap_or(chunk.len()));
            if end.is_some() {
                self.passing = false;
                self.scan = Scan::default();
                if chunk.is_empty() && event.last() == Some(&b'\r') {
                    self.after_cr = AfterCr::Kept;
                }
            }
            out.push(event);
            return chunk;
        }
        let Some(end) = self.scan.find_end(&chunk, before) else {
            self.hold(&chunk, out);
            return Bytes::new();
        };
        self.held.extend_from_slice(&chunk.split_to(end - before));
        let event = self.held.split().freeze();
        self.end_event(&event, chunk.is_empty(), out);
        chunk
    }

    /// All events that `chunk` completes; neighbours that stay whole are handed on in one piece.
    fn take_events(&mut self, chunk: &Bytes, out: &mut Vec<Bytes>) {
        let (mut start, mut kept_from) = (0, 0);
        while let Some(end) = self.scan.find_end(chunk, 0).filter(|_| start < chunk.len()) {
            let event = chunk.get(start..end).unwrap_or_default();
            let cuts = self.cuts(event);
            let gone = cuts.last().is_some_and(|cut| cut.end == event.len());
            for cut in cuts {
                if start + cut.start > kept_from {
                    out.push(chunk.slice(kept_from..start + cut.start));
                }
                kept_from = start + cut.end;
            }
            if end == chunk.len() && event.last() == Some(&b'\r') {
                self.after_cr = if gone { AfterCr::Cut } else { AfterCr::Kept };
            }
            start = end;
            self.scan = Scan { at: end, ..Scan::default() };
        }
        if kept_from < start {
            out.push(chunk.slice(kept_from..start));
        }
        let rest = chunk.slice(start.min(chunk.len())..);
        self.scan.at = rest.len();
        if rest.is_empty() {
            self.scan = Scan::default();
        } else {
            self.hold(&rest, out);
        }
    }

    fn hold(&mut self, bytes: &Bytes, out: &mut Vec<Bytes>) {
        if self.held.len() + bytes.len() > EVENT_BYTES_MAX {
            if !self.held.is_empty() {
                out.push(self.held.split().freeze());
            }
            out.push(bytes.clone());
            self.passing = true;
            self.started = true;
            self.scan.at = 0;
            return;
        }
        self.held.extend_from_slice(bytes);
        self.scan.at = self.held.len();
    }

    fn end_event(&mut self, event: &Bytes, ends_chunk: bool, out: &mut Vec<Bytes>) {
        self.scan = Scan::default();
        let end_is_cut = self.hand_on(event, out);
        if ends_chunk && event.last() == Some(&b'\r') {
            self.after_cr = if end_is_cut { AfterCr::Cut } else { AfterCr::Kept };
        }
    }

    /// Hands on what stays of `event`; tells whether its end was cut.
    fn hand_on(&mut self, event: &Bytes, out: &mut Vec<Bytes>) -> bool {
        let (mut at, mut end_is_cut) = (0, false);
        for cut in self.cuts(event) {
            if cut.start > at {
                out.push(event.slice(at..cut.start));
            }
            at = cut.end;
            end_is_cut = at == event.len();
        }
        if at < event.len() {
            out.push(event.slice(at..));
        }
        end_is_cut
    }

    /// What is to be cut out of a complete event.
    fn cuts(&mut self, event: &[u8]) -> Vec<Range<usize>> {
        let first = !std::mem::replace(&mut self.started, true);
        // Its last line feed may be in a chunk not yet seen: it does not count.
        let len = event.len() - usize::from(event.ends_with(b"\r\n"));
        if len > EVENT_BYTES_MAX || memmem::find(event, b"\"usage\"").is_none() {
            return Vec::new();
        }
        cuts_of(event, first)
    }
}

/// A whole event stream with the effects of injected stream usage cut out: what is left of it, in pieces.
pub fn cut_all(body: &Bytes) -> Vec<Bytes> {
    let (mut cutter, mut out) = (UsageCutter::default(), Vec::new());
    cutter.push(body.clone(), &mut out);
    cutter.finish(&mut out);
    out
}

/// Looks for the end of an event, of a comment between events, or of a blank line between them.
#[derive(Debug, Default)]
struct Scan {
    /// Bytes already seen.
    at: usize,
    line: Line,
    /// A line that is no comment was seen.
    in_event: bool,
    after_cr: bool,
}

/// The line under way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Line {
    /// Nothing stands on it yet.
    #[default]
    Empty,
    /// A comment with no field before it.
    Comment,
    /// Part of an event.
    Field,
}

impl Scan {
    /// Position just past the end. `bytes` start at position `offset`; those before were seen.
    fn find_end(&mut self, bytes: &[u8], offset: usize) -> Option<usize> {
        loop {
            let rest = bytes.get(self.at.saturating_sub(offset)..).unwrap_or_default();
            match (self.line, rest.first()?) {
                (Line::Empty, b'\r' | b'\n') | (Line::Comment | Line::Field, _) => {}
                (Line::Empty, b':') if !self.in_event => self.line = Line::Comment,
                (Line::Empty, _) => {
                    self.line = Line::Field;
                    self.in_event = true;
                }
            }
            let Some(at) = memchr2(b'\n', b'\r', rest) else {
                self.after_cr = false;
                self.at = offset + bytes.len();
                return None;
            };
            let is_cr = rest.get(at) == Some(&b'\r');
            self.at += at + 1;
            if at == 0 && self.after_cr && !is_cr {
                self.after_cr = false; // the second half of a line's end
                continue;
            }
            if self.line != Line::Field {
                if is_cr && rest.get(at + 1) == Some(&b'\n') {
                    self.at += 1;
                }
                return Some(self.at);
            }
            self.line = Line::Empty;
            self.after_cr = is_cr;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn cut(text: &str, step: usize) -> String {
        let (mut cutter, mut out) = (UsageCutter::default(), Vec::new());
        let bytes = Bytes::copy_from_slice(text.as_bytes());
        for start in (0..bytes.len()).step_by(step) {
            cutter.push(bytes.slice(start..bytes.len().min(start + step)), &mut out);
        }
        cutter.finish(&mut out);
        String::from_utf8(out.concat()).unwrap()
    }

    #[test]
    fn what_usage_caused_is_cut() {
        for (with, without) in [
            ("data: {\"id\":1,\"usage\":null}\n\n", "data: {\"id\":1}\n\n"),
            ("data: {\"id\":1 , \"usage\" : null }\n\n", "data: {\"id\":1 }\n\n"),
            ("data: {\"usage\":null,\"id\":1}\n\n", "data: {\"id\":1}\n\n"),
            ("data: {\"usage\": null, \"id\": 1}\r\n\r\n", "data: {\"id\": 1}\r\n\r\n"),
            (
                "data: {\"a\":1}\n\ndata: {\"choices\":[],\"usage\":{\"x\":1}}\n\ndata: [DONE]\n\n",
                "data: {\"a\":1}\n\ndata: [DONE]\n\n",
            ),
            ("data: {\"choices\":[],\"usage\":{}}\r\rdata:x\r\r", "data:x\r\r"),
            ("data: {\"choices\":[ ],\"usage\":{}}\r\n\r\ndata:x", "data:x"),
            (
                "data: {\"choices\":[],\"usage\":{},\"moderation\":{\"a\":1}}\n\n",
                "data: {\"choices\":[],\"moderation\":{\"a\":1}}\n\n",
            ),
            ("\u{feff}data: {\"a\":1,\"usage\":null}\n\n", "\u{feff}data: {\"a\":1}\n\n"),
            (
                "event: x\nid: 7\ndata: {\"a\":1,\"usage\":null}\n\n",
                "event: x\nid: 7\ndata: {\"a\":1}\n\n",
            ),
            ("data: {\"choices\":[],\"usage\":{}}", ""),
            ("\u{feff}data: {\"choices\":[],\"usage\":{}}\n\ndata: x\n\n", "\u{feff}data: x\n\n"),
            (
                ": a\ndata: {\"choices\":[],\"usage\":{}}\r\n: b\r\nid: 1\r\n\r\n: c\n\n",
                ": a\n: b\r\n: c\n\n",
            ),
            ("data: {\"usage\":null}\n\n", "data: {}\n\n"),
        ] {
            for step in [1, 2, 3, 7, 1000] {
                assert_eq!(cut(with, step), without, "in pieces of {step}: {with:?}");
            }
        }
    }

    #[test]
    fn everything_else_stays() {
        for text in [
            "data: {\"choices\":[{}],\"usage\":{\"x\":1}}\n\n",
            "data: {\"choices\":[{\"delta\":{\"content\":\"\\\"usage\\\":null\"}}]}\n\n",
            "data: {\"a\":{\"usage\":null}}\n\n",
            ": comment with \"usage\"\n\ndata: [DONE]\n\n\n\n",
            "data: {\"usage\":null\ndata: }\n\n",
            "data: not json \"usage\":null\n\n",
            "data: {\"id\":1,\"usage\":nul",
            "data\ndata: {\"usage\":null}\n\n",
            "database: {\"usage\":null}\n\n",
            "data: x\n\n\u{feff}data: {\"a\":1,\"usage\":null}\n\n",
            "\n\r\n\r\r\n",
        ] {
            for step in [1, 2, 3, 1000] {
                assert_eq!(cut(text, step), text, "in pieces of {step}");
            }
        }
    }

    #[test]
    fn the_longest_event_that_is_cut_does_not_depend_on_chunks() {
        for end in ["\n\n", "\r\n\r\n", "\r\r"] {
            let frame = |text: &str| format!("data: {{\"a\":\"{text}\"{{}}}}{end}");
            let room = EVENT_BYTES_MAX + usize::from(end.len() == 4);
            for over in 0..3 {
                let len = room + over - frame("").len() - ",\"usage\":null".len() + 2;
                let event = frame(&"x".repeat(len));
                let with = event.replace("{}", ",\"usage\":null") + "data: {\"usage\":null}\n\n";
                let event = if over == 0 {
                    event.replace("{}", "")
                } else {
                    event.replace("{}", ",\"usage\":null")
                };
                for step in [1 << 14, (1 << 20) + 1, 1 << 20, 1 << 22] {
                    assert!(
                        cut(&with, step) == format!("{event}data: {{}}\n\n"),
                        "{end:?}, {over} over, in pieces of {step}"
                    );
                }
            }
        }
    }

    #[test]
    fn comments_and_events_are_handed_on_at_once() {
        let mut cutter = UsageCutter::default();
        for piece in
            [": ping\n", ": ping\r", "\ndata: 1\n\n", "\n", "\r", "\n: x\n\n", "data: 2\r\r"]
        {
            let mut out = Vec::new();
            cutter.push(Bytes::from(piece), &mut out);
            assert_eq!(out.concat(), piece.as_bytes());
        }
    }

    #[test]
    fn whole_events_are_not_copied() {
        let chunk = Bytes::from_static(b"data: {\"a\":1}\n\ndata: {\"b\":2}\n\n");
        let mut out = Vec::new();
        UsageCutter::default().push(chunk.clone(), &mut out);
        assert_eq!(out.len(), 1);
        assert_eq!(out[0].as_ptr(), chunk.as_ptr());
    }

    /// One event of a stream: how it reads without usage having been asked for, and with.
    #[derive(Clone, Debug)]
    struct Pair(String, String);

    fn event() -> impl Strategy<Value = Pair> {
        let spaces = prop::sample::select(vec!["", " "]);
        let content = "[a-z{}\\[\\],:é]{0,5}";
        let line_end = prop::sample::select(vec!["\n", "\r\n", "\r"]);
        let before = prop::sample::select(vec!["", "", "id: 7", "event: x", "\r", ": c"]);
        let parts = (0..8_u8, spaces, content, line_end, 0..3_usize, before);
        parts.prop_map(|(kind, s, text, end, place, before)| {
            // Fields go with their event, comments and blank lines stay.
            let before = match before {
                "" | "\r" => before.to_owned(), // a line feed might belong to the line before it
                line => format!("{line}{end}"),
            };
            let stays =
                if before.starts_with([':', '\r']) { before.clone() } else { String::new() };
            let frame = |data: String| format!("{before}data:{s}{data}{s}{end}{end}");
            match kind {
                0 => Pair(format!(": {text}{end}{end}"), format!(": {text}{end}{end}")),
                1 => Pair(
                    stays,
                    frame(format!("{{\"id\":{s}1,{s}\"choices\":{s}[],\"usage\":{{\"t\":{s}3}}}}")),
                ),
                2 => Pair(frame("[DONE]".into()), frame("[DONE]".into())),
                3 => {
                    let rest =
                        format!("\"choices\":[{s}],{s}\"moderation\":{{\"x\":[\"{text}\"]}}");
                    let with = format!("{{{rest}{s},{s}\"usage\":{{\"t\":3}}}}");
                    Pair(frame(format!("{{{rest}}}")), frame(with))
                }
                4 => {
                    let own = format!("{{\"choices\":[{{}}],\"usage\":{{\"t\":\"{text}\"}}}}");
                    Pair(frame(own.clone()), frame(own))
                }
                _ => {
                    let members = [
                        format!("\"id\":{s}\"{text}\""),
                        format!("\"choices\":{s}[{{\"delta\":{{\"content\":\"{text}\"}}}}]"),
                    ];
                    let comma = format!(",{s}");
                    let mut with = members.to_vec();
                    with.insert(place, format!("\"usage\":{s}null"));
                    Pair(
                        frame(format!("{{{}}}", members.join(&comma))),
                        frame(format!("{{{}}}", with.join(&comma))),
                    )
                }
            }
        })
    }

    proptest! {
        #[test]
        fn the_client_gets_what_the_provider_would_have_sent(
            events in prop::collection::vec(event(), 0..12),
            cuts in prop::collection::vec(1_usize..20, 0..60),
        ) {
            let without: String = events.iter().map(|pair| pair.0.as_str()).collect();
            let with: String = events.iter().map(|pair| pair.1.as_str()).collect();
            let (mut cutter, mut out) = (UsageCutter::default(), Vec::new());
            let mut rest = Bytes::from(with.clone());
            for cut in cuts {
                cutter.push(rest.split_to(cut.min(rest.len())), &mut out);
            }
            cutter.push(rest, &mut out);
            cutter.finish(&mut out);
            prop_assert_eq!(String::from_utf8(out.concat()).unwrap(), without.clone());
            prop_assert_eq!(String::from_utf8(cut_all(&with.into()).concat()).unwrap(), without);
        }

        #[test]
        fn chunks_never_matter(
            text in "(data:|\\{|\\}|\"usage\"|:null|,|\"choices\":\\[\\]|\n|\r|: x| ){0,30}",
            cuts in prop::collection::vec(1_usize..6, 0..80),
        ) {
            let (mut cutter, mut out) = (UsageCutter::default(), Vec::new());
            let mut rest = Bytes::from(text.clone());
            for cut in cuts {
                cutter.push(rest.split_to(cut.min(rest.len())), &mut out);
            }
            cutter.push(rest, &mut out);
            cutter.finish(&mut out);
            prop_assert_eq!(out.concat(), cut_all(&text.into()).concat());
        }
    }
}
