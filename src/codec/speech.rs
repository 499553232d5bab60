//! Speech: audio that no record repeats, or a stream of its pieces with the usage at the end
//! (`openai-surface.md` §10).

use super::{
    Codec, Meaning, Reading,
    chat::audio::Audio,
    errors,
    notes::Notes,
    reader,
    stream::{Assembly, Data, Seen},
};
use crate::model::{Endpoint, Usage, UsageSource};
use serde_json::{Map, Value};

/// `/audio/speech`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Speech;

impl Codec for Speech {
    fn reads(&self, endpoint: &Endpoint) -> bool {
        endpoint.as_str() == "audio.speech"
    }

    fn read(&self, reading: &Reading<'_>) -> Meaning {
        let mut meaning = reader::read(reading, || Box::<Spoken>::default());
        let answered = reading.status.is_some_and(|status| status < 400);
        if meaning.usage.is_none() && meaning.error.is_none() && answered {
            meaning.usage = meaning.request.as_ref().and_then(read_aloud);
        }
        meaning
    }
}

/// Without usage, speech is billed by the characters of the text.
fn read_aloud(request: &Value) -> Option<Usage> {
    let text = request.get("input")?.as_str()?;
    let input_characters = u64::try_from(text.chars().count()).ok();
    Some(Usage { source: UsageSource::Estimated, input_characters, ..Usage::default() })
}

/// What was spoken, growing.
#[derive(Debug, Default)]
struct Spoken {
    audio: Audio,
    members: Map<String, Value>,
    recognized: bool,
}

impl Assembly for Spoken {
    fn add(&mut self, event: Data<'_>, _: &mut Notes) -> Seen {
        let Value::Object(mut members) = event.value else { return Seen::default() };
        if event.failed {
            self.recognized = true;
            self.members.insert("error".to_owned(), errors::told(members));
            return Seen::default();
        }
        let kind = members.get("type").and_then(Value::as_str).unwrap_or(event.name).to_owned();
        match kind.as_str() {
            "speech.audio.delta" => {
                self.recognized = true;
                let piece = members.shift_remove("audio").unwrap_or_default();
                let output = errors::is_truthy(&piece);
                self.audio.add(Value::Object(Map::from_iter([("data".to_owned(), piece)])));
                Seen { output, terminal: false, ..Seen::default() }
            }
            "speech.audio.done" => {
                self.recognized = true;
                members.shift_remove("type");
                self.members.extend(members);
                Seen { output: false, terminal: true, ..Seen::default() }
            }
            _ => Seen::default(),
        }
    }

    fn finish(self: Box<Self>, _: &mut Notes) -> Option<Value> {
        let data = self.audio.finish().and_then(|mut audio| audio.get_mut("data").map(Value::take));
        let mut object = Map::new();
        object.extend(data.map(|data| ("audio".to_owned(), data)));
        object.extend(self.members);
        self.recognized.then_some(Value::Object(object))
    }
}

#[cfg(test)]
mod tests {
    use crate::codec::{Reading, read};
    use crate::model::Endpoint;
    use serde_json::json;

    #[test]
    fn audio_whole_and_in_pieces() {
        let endpoint = Endpoint::from("audio.speech");
        let mut reading = Reading {
            endpoint: &endpoint,
            provider: "openai",
            method: "POST",
            path: "/v1/audio/speech",
            request:
                br#"{"model":"tts-1","input":"Hello","voice":"alloy","response_format":"mp3"}"#,
            status: Some(200),
            content_type: Some("audio/mpeg"),
            response: b"\xFF\xFB\x90",
        };
        let meaning = read(&reading);
        assert_eq!((meaning.response, meaning.notes), (None, vec![]));
        assert_eq!(meaning.usage.unwrap().input_characters, Some(5));
        assert_eq!(json!(meaning.parameters), json!({"voice": "alloy", "response_format": "mp3"}));
        reading.content_type = Some("text/event-stream");
        reading.response = b"data: {\"type\":\"speech.audio.delta\",\"audio\":\"aGU=\"}\n\n\
            data: {\"type\":\"speech.audio.delta\",\"audio\":\"bGxv\"}\n\n\
            data: {\"type\":\"speech.audio.done\",\"usage\":{\"input_tokens\":3,\"output_tokens\":5,\"total_tokens\":8}}\n\n";
        let meaning = read(&reading);
        assert_eq!(meaning.response.unwrap()["audio"], "aGVsbG8=");
        assert_eq!((meaning.first_output_event, meaning.terminal), (Some(0), true));
        let usage = meaning.usage.unwrap();
        assert_eq!((usage.total, usage.input_characters), (Some(8), None));
    }
}
