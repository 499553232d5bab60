//! What an injected `include_usage` caused in one event.

use super::json::{Members, Span, skip_space};
use memchr::memchr2;
use std::ops::Range;

/// Members that an event with usage would have had without it too.
const PAYLOAD: [&[u8]; 5] = [
    b"\"prompt_filter_results\"",
    b"\"content_filter_results\"",
    b"\"moderation\"",
    b"\"citations\"",
    b"\"error\"",
];

/// What is to be cut out of a complete event, in order: nothing, a `"usage":null` member, or every
/// field of an event that is there for its usage only. `first` events may start with a byte order
/// mark.
pub(super) fn cuts_of(event: &[u8], first: bool) -> Vec<Range<usize>> {
    let start = if first && event.starts_with(b"\xEF\xBB\xBF") { 3 } else { 0 };
    let Some(data) = only_data_line(event, start) else { return Vec::new() };
    let json = event.get(data.clone()).unwrap_or_default();
    let (mut usage, mut choices_empty, mut payload) = (None, false, false);
    let (mut before, mut last_end) = (None, 0);
    let mut members = Members::new(json);
    for span in &mut members {
        let value = json.get(span.value.clone()).unwrap_or_default();
        match json.get(span.key.clone()) {
            Some(b"\"usage\"") => {
                before = span.comma.map(|_| last_end);
                usage = Some(span.clone());
            }
            Some(b"\"choices\"") => choices_empty = is_empty_array(value),
            Some(key) if PAYLOAD.contains(&key) => {
                payload |= !matches!(value, b"null" | b"[]" | b"{}");
            }
            _ => {}
        }
        last_end = span.value.end;
    }
    let Some(usage) = usage.filter(|_| members.is_whole()) else { return Vec::new() };
    let value = json.get(usage.value.clone()).unwrap_or_default();
    let counts = choices_empty && value.starts_with(b"{");
    if value == b"null" || (counts && payload) {
        let cut = member_cut(json, &usage, before);
        let in_event = data.start + cut.start..data.start + cut.end;
        vec![in_event]
    } else if counts {
        all_but_comments(event, start)
    } else {
        Vec::new()
    }
}

/// From the end of the value before it; where it comes first, through its comma.
fn member_cut(json: &[u8], usage: &Span, before: Option<usize>) -> Range<usize> {
    if let Some(before) = before {
        return before..usage.value.end;
    }
    let after = skip_space(json, usage.value.end);
    if json.get(after) == Some(&b',') {
        usage.key.start..skip_space(json, after + 1)
    } else {
        usage.key.start..usage.value.end
    }
}

fn is_empty_array(value: &[u8]) -> bool {
    value.first() == Some(&b'[') && skip_space(value, 1) + 1 == value.len()
}

/// The value of the event's only `data` line; `None` when there is none, or several.
fn only_data_line(event: &[u8], start: usize) -> Option<Range<usize>> {
    let mut found = None;
    for line in lines(event, start) {
        let text = event.get(line.clone())?;
        let Some(value) = text.strip_prefix(b"data") else { continue };
        let text_len = value.iter().take_while(|byte| !matches!(byte, b'\r' | b'\n')).count();
        match value.first() {
            Some(b':') if found.is_none() => {
                let at = line.start + b"data".len();
                found = Some(at + 1..at + text_len);
            }
            Some(b':' | b'\r' | b'\n') | None => return None,
            Some(_) => {} // another field
        }
    }
    found
}

/// The event's fields and its blank line, with comments left standing.
fn all_but_comments(event: &[u8], start: usize) -> Vec<Range<usize>> {
    let mut cuts: Vec<Range<usize>> = Vec::new();
    for line in lines(event, start) {
        if event.get(line.start) == Some(&b':') {
            continue;
        }
        match cuts.last_mut() {
            Some(cut) if cut.end == line.start => cut.end = line.end,
            _ => cuts.push(line),
        }
    }
    cuts
}

/// Lines from `start` on, their ends included.
fn lines(text: &[u8], start: usize) -> impl Iterator<Item = Range<usize>> {
    let mut at = start;
    std::iter::from_fn(move || {
        let rest = text.get(at..).filter(|rest| !rest.is_empty())?;
        let len = memchr2(b'\n', b'\r', rest).map_or(rest.len(), |end| {
            if rest.get(end..end + 2) == Some(b"\r\n") { end + 2 } else { end + 1 }
        });
        let line = at..at + len;
        at = line.end;
        Some(line)
    })
}
