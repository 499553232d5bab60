//! Reads an event stream for any endpoint: decodes, parses, times and counts the events; what they
//! mean is an [`Assembly`]'s to say.

use super::{
    CallError, Meaning, errors,
    json::{self, Oddities, Unread},
    notes::Notes,
    repeat::Repeat,
    sse::{Decoder, Event},
};
use serde_json::Value;

/// Puts the events of one stream together.
pub(crate) trait Assembly {
    /// Takes one event whose data is JSON.
    fn add(&mut self, event: Data<'_>, notes: &mut Notes) -> Seen;

    /// Takes a further text where the last event, which said that it [repeats](Seen::repeats), had its.
    fn add_text(&mut self, _text: &str) {}

    /// What came together, `None` when nothing in the stream was of this endpoint's shape.
    fn finish(self: Box<Self>, notes: &mut Notes) -> Option<Value>;
}

/// One event, parsed.
#[derive(Debug)]
pub(crate) struct Data<'a> {
    /// The `event` field, empty when there was none.
    pub(crate) name: &'a str,
    /// The data.
    pub(crate) value: Value,
    /// True when the event reports a failure.
    pub(crate) failed: bool,
}

/// What an event carried.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Seen {
    /// Generated output of any kind: it ends the time to first token.
    pub(crate) output: bool,
    /// Nothing follows that the client needs.
    pub(crate) terminal: bool,
    /// The member whose text is all that the event adds: where the next event differs in nothing else,
    /// only its text is read.
    pub(crate) repeats: Option<&'static str>,
}

/// Reads the stream `bytes` into `meaning`: `response` and everything that hangs on events. Returns
/// whether there was nothing but comments.
pub(crate) fn read(
    bytes: &[u8],
    assembly: Box<dyn Assembly>,
    meaning: &mut Meaning,
    notes: &mut Notes,
) -> bool {
    let mut reader = Reader {
        assembly,
        meaning,
        notes,
        data_events: 0,
        done: false,
        halves: false,
        repeat: None,
    };
    let mut decoder = Decoder::default();
    decoder.push(bytes, |event| reader.event(event));
    let (comments, skipped) = decoder.finish(|event| reader.event(event));
    let is_silent = reader.data_events == 0 && comments > 0;
    reader.finish(skipped);
    is_silent
}

struct Reader<'a> {
    assembly: Box<dyn Assembly>,
    meaning: &'a mut Meaning,
    notes: &'a mut Notes,
    data_events: usize,
    done: bool,
    halves: bool,
    repeat: Option<Repeat>,
}

impl Reader<'_> {
    fn event(&mut self, event: Event<'_>) {
        if self.done {
            return self.notes.add("data_after_done");
        }
        let index = self.data_events;
        self.data_events += 1;
        let data = json::trim(event.data);
        if data.starts_with(b"[DONE]") {
            self.done = true;
            self.meaning.terminal = true;
            self.meaning.terminal_end.get_or_insert(event.end);
            return;
        }
        let name = std::str::from_utf8(event.name).unwrap_or_default();
        if data.is_empty() {
            return;
        }
        if let Some(text) = self.repeat.as_ref().and_then(|repeat| repeat.text(&event, data)) {
            self.assembly.add_text(&text);
            return self.note_output(Seen { output: true, ..Seen::default() }, &event, index);
        }
        self.repeat = None;
        let (value, odd) = match json::parse(data) {
            Ok(read) => read,
            Err(why) => return self.unread(&event, name, why),
        };
        odd.note("stream", self.notes);
        self.halves |= odd.lone_surrogates;
        let error = errors::in_event(name, &value);
        let failed = error.is_some();
        if self.meaning.error.is_none() {
            self.meaning.error = error;
        }
        if failed {
            self.meaning.failed_end.get_or_insert(event.end);
        }
        let seen = self.assembly.add(Data { name, value, failed }, self.notes);
        if odd == Oddities::default() {
            self.repeat = seen.repeats.and_then(|key| Repeat::of(&event, data, key));
        }
        self.note_output(seen, &event, index);
    }

    fn note_output(&mut self, seen: Seen, event: &Event<'_>, index: usize) {
        if seen.output {
            self.meaning.first_output.get_or_insert(event.end);
            self.meaning.first_output_event.get_or_insert(index);
            self.meaning.last_output = Some(event.end);
            self.meaning.output_events += 1;
        }
        if seen.terminal {
            self.meaning.terminal = true;
            self.meaning.terminal_end.get_or_insert(event.end);
        }
    }

    fn unread(&mut self, event: &Event<'_>, name: &str, why: Unread) {
        if name == "error" && self.meaning.error.is_none() {
            let text = String::from_utf8_lossy(event.data);
            self.meaning.error = Some(errors::from_text(&text));
            let value = Value::String(text.into_owned());
            self.assembly.add(Data { name, value, failed: true }, self.notes);
        } else {
            self.notes.add(match why {
                Unread::TooDeep => "event_nested_too_deeply",
                Unread::TooMany => "event_with_too_many_values",
                Unread::Malformed if !event.complete => "event_cut_short",
                Unread::Malformed => "event_not_json",
            });
        }
    }

    fn finish(self, skipped: u64) {
        self.notes.add_many("event_too_long", skipped);
        let response = self.assembly.finish(self.notes);
        self.meaning.response = response.map(|mut response| {
            if self.halves {
                json::join_halves(&mut response);
            }
            response
        });
        if self.halves
            && let Some(CallError { message: Some(message), .. }) = &mut self.meaning.error
        {
            let mut text = Value::String(std::mem::take(message));
            json::join_halves(&mut text);
            text.as_str().unwrap_or_default().clone_into(message);
        }
    }
}
