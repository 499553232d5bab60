//! Transcriptions and translations: one JSON body or one text; streams of words and of segments with
//! their speakers (`openai-surface.md` §10). Mistral's events have other first names.

use super::{
    Codec, Meaning, Reading, errors, merge,
    notes::Notes,
    reader,
    stream::{Assembly, Data, Seen},
    usage,
};
use crate::model::{Endpoint, Usage, UsageSource};
use serde_json::{Map, Value};

/// Most segments kept.
const SEGMENTS_MAX: usize = 100_000;

/// `/audio/transcriptions` and `/audio/translations`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Transcripts;

impl Codec for Transcripts {
    fn reads(&self, endpoint: &Endpoint) -> bool {
        matches!(endpoint.as_str(), "audio.transcriptions" | "audio.translations")
    }

    fn read(&self, reading: &Reading<'_>) -> Meaning {
        let mut meaning = reader::read(reading, || Box::<Transcript>::default());
        if meaning.usage.is_none() && meaning.error.is_none() {
            meaning.usage = meaning.response.as_ref().and_then(heard);
        }
        meaning
    }
}

/// Whisper is billed by the second: without usage, the detailed answer says how long the audio was.
fn heard(response: &Value) -> Option<Usage> {
    let input_seconds = usage::seconds(response.get("duration")?)?;
    let source = UsageSource::Provider;
    Some(Usage { source, input_seconds: Some(input_seconds), ..Usage::default() })
}

/// The transcript, growing.
#[derive(Debug, Default)]
struct Transcript {
    text: String,
    segments: Vec<Value>,
    members: Map<String, Value>,
    logprobs: Value,
    error: Option<Value>,
    recognized: bool,
}

impl Assembly for Transcript {
    fn add(&mut self, event: Data<'_>, notes: &mut Notes) -> Seen {
        let Value::Object(mut members) = event.value else { return Seen::default() };
        if event.failed {
            self.recognized = true;
            self.error = Some(errors::told(members));
            return Seen::default();
        }
        let kind = members.get("type").and_then(Value::as_str).unwrap_or(event.name).to_owned();
        let Some((_, step)) = kind.rsplit_once('.').filter(|(thing, _)| thing.starts_with("trans"))
        else {
            return Seen::default();
        };
        self.recognized = true;
        let mut text = || members.shift_remove("delta").or_else(|| members.shift_remove("text"));
        match step {
            "delta" => {
                let piece = text().unwrap_or_default();
                self.text.push_str(piece.as_str().unwrap_or_default());
                merge::append(
                    &mut self.logprobs,
                    members.shift_remove("logprobs").unwrap_or_default(),
                );
                Seen {
                    output: piece.as_str().is_some_and(|text| !text.is_empty()),
                    ..Seen::default()
                }
            }
            "segment" if self.segments.len() >= SEGMENTS_MAX => {
                notes.add("segments_beyond_limit");
                Seen::default()
            }
            "segment" => {
                self.segments.push(Value::Object(members));
                Seen { output: true, terminal: false, ..Seen::default() }
            }
            "done" => {
                members.shift_remove("type");
                self.members.extend(members);
                Seen { output: false, terminal: true, ..Seen::default() }
            }
            // `transcription.language` and what else is told on the way.
            _ => {
                members.shift_remove("type");
                self.members.extend(members);
                Seen::default()
            }
        }
    }

    fn finish(mut self: Box<Self>, _: &mut Notes) -> Option<Value> {
        if !self.recognized {
            return None;
        }
        let mut object = Map::new();
        let whole = self.members.shift_remove("text").filter(Value::is_string);
        object.insert("text".to_owned(), whole.unwrap_or(Value::String(self.text)));
        object.extend(self.members);
        for (key, list) in [("segments", Value::Array(self.segments)), ("logprobs", self.logprobs)]
        {
            let has = |value: &Value| value.as_array().is_some_and(|list| !list.is_empty());
            if has(&list) && !object.get(key).is_some_and(has) {
                object.insert(key.to_owned(), list);
            }
        }
        object.extend(self.error.map(|error| ("error".to_owned(), error)));
        Some(Value::Object(object))
    }
}

#[cfg(test)]
mod tests {
    use crate::codec::{Meaning, Reading, read};
    use crate::model::Endpoint;
    use serde_json::json;

    fn of(request: &[u8], body: &str, content_type: &str) -> Meaning {
        read(&Reading {
            endpoint: &Endpoint::from("audio.transcriptions"),
            provider: "openai",
            method: "POST",
            path: "/v1/audio/transcriptions",
            request,
            status: Some(200),
            content_type: Some(content_type),
            response: body.as_bytes(),
        })
    }

    #[test]
    fn words_and_segments() {
        let form = b"--b\r\nContent-Disposition: form-data; name=\"model\"\r\n\r\ngpt-4o-transcribe-diarize\r\n--b\r\n\
            Content-Disposition: form-data; name=\"file\"; filename=\"a.wav\"\r\nContent-Type: audio/wav\r\n\r\n\0\xFF\r\n--b--\r\n";
        let segment = r#"{"type":"transcript.text.segment","id":"s","speaker":"A","start":0.0,"end":1.5,"text":"Hello"}"#;
        let body = format!(
            "data: {{\"type\":\"transcript.text.delta\",\"delta\":\"\"}}\r\n\r\ndata: {{\"type\":\"transcript.text.delta\",\"delta\":\"Hel\"}}\r\n\r\n\
             data: {{\"type\":\"transcript.text.delta\",\"delta\":\"lo\"}}\r\n\r\ndata: {segment}\r\n\r\n"
        );
        let done = "data: {\"type\":\"transcript.text.done\",\"text\":\"Hello.\",\"usage\":{\"type\":\"tokens\",\"input_tokens\":9,\
            \"input_token_details\":{\"audio_tokens\":9},\"output_tokens\":2,\"total_tokens\":11}}\r\n\r\ndata: [DONE]\r\n\r\n";
        let meaning = of(form, &(body.clone() + done), "text/event-stream");
        assert_eq!(meaning.model_requested.as_deref(), Some("gpt-4o-transcribe-diarize"));
        let response = meaning.response.unwrap();
        assert_eq!(response["text"], "Hello.");
        assert_eq!(response["segments"][0]["speaker"], "A");
        assert_eq!(meaning.usage.unwrap().input_audio, Some(9));
        assert_eq!(meaning.first_output_event, Some(1));
        assert!(meaning.terminal && meaning.terminal_end.is_some());
        let cut = of(form, &body, "text/event-stream");
        assert_eq!(cut.response.unwrap()["text"], "Hello");
        assert!(!cut.terminal);
    }

    #[test]
    fn how_long_the_audio_was() {
        let seconds = |body: &str| {
            let usage = of(b"", body, "application/json").usage.unwrap_or_default();
            (usage.input_seconds.map(|seconds| seconds.to_string()), usage.raw.is_some())
        };
        let verbose = |duration: &str| {
            format!(r#"{{"task":"transcribe","duration":{duration},"text":"t","segments":[]}}"#)
        };
        assert_eq!(
            seconds(&verbose("8.470000267028809")),
            (Some("8.470000267028809".to_owned()), false)
        );
        assert_eq!(seconds(&verbose("\"3.50\"")), (Some("3.50".to_owned()), false));
        for none in ["-1", "null", "\"long\"", "[]", "1e400"] {
            assert_eq!(seconds(&verbose(none)), (None, false), "{none}");
        }
        let stated = r#"{"text":"t","duration":1,"usage":{"type":"duration","seconds":9}}"#;
        assert_eq!(seconds(stated), (Some("9".to_owned()), true));
        assert_eq!(seconds(r#"{"error":{"message":"m"},"duration":1}"#), (None, false));
    }

    #[test]
    fn other_names_and_plain_text() {
        let body = "data: {\"type\":\"transcription.language\",\"audio_language\":\"en\"}\n\n\
            data: {\"type\":\"transcription.text.delta\",\"text\":\"Hi\"}\n\n\
            data: {\"type\":\"transcription.done\",\"model\":\"voxtral\",\"text\":\"Hi\",\"usage\":{\"prompt_tokens\":1,\"completion_tokens\":1,\"total_tokens\":2}}\n\n";
        let meaning = of(b"", body, "text/event-stream");
        let response = meaning.response.unwrap();
        assert_eq!((&response["text"], &response["audio_language"]), (&json!("Hi"), &json!("en")));
        assert_eq!((meaning.model_served.as_deref(), meaning.terminal), (Some("voxtral"), true));
        let plain = of(b"", "1\n00:00:00,000 --> 00:00:01,000\nHi\n", "text/plain");
        assert!(
            plain.response.unwrap().as_str().unwrap().starts_with("1\n") && plain.notes.is_empty()
        );
        let failed = of(
            b"",
            "data: {\"type\":\"error\",\"error\":{\"message\":\"m\"}}\n\n",
            "text/event-stream",
        );
        assert_eq!(failed.error.unwrap().message.as_deref(), Some("m"));
        assert_eq!(failed.response.unwrap()["error"]["message"], "m");
    }
}
