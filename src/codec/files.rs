//! Files: what was stored is not repeated in the record. The output file of a batch says what its
//! calls used (`openai-surface.md` §12).

use super::{Codec, Meaning, Reading, json, notes::Notes, other, sum::Total, text};
use crate::model::Endpoint;
use serde_json::{Map, Value, json};

/// Most models of one batch told apart.
const MODELS_MAX: usize = 64;
/// The tier that the calls of a batch are billed at.
const BATCH_TIER: &str = "batch";

/// `/files` and what lies below.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Files;

impl Codec for Files {
    fn reads(&self, endpoint: &Endpoint) -> bool {
        endpoint.as_str() == "files"
    }

    fn read(&self, reading: &Reading<'_>) -> Meaning {
        let is_content = reading.path.trim_end_matches('/').ends_with("/content");
        if !is_content || reading.status.is_none_or(|status| status >= 400) {
            return other::Other.read(reading);
        }
        let (mut meaning, mut notes) =
            (Meaning { terminal: true, ..Meaning::default() }, Notes::default());
        if let Some(batch) = Batch::read(reading.response, reading.provider, &mut notes) {
            batch.tell(&mut meaning, reading.provider, &mut notes);
            meaning.response_id = file_id(reading.path);
            meaning.is_read_again = true;
        }
        meaning.notes = notes.into_lines();
        meaning
    }
}

/// The file's id, which its path names.
fn file_id(path: &str) -> Option<String> {
    let (rest, _) = path.trim_end_matches('/').rsplit_once('/')?;
    let (_, id) = rest.rsplit_once('/')?;
    (!id.is_empty()).then(|| text::clip(id, 256))
}

/// The lines of a batch's output, added up.
#[derive(Debug, Default)]
struct Batch {
    requests: u64,
    errors: u64,
    models: Map<String, Value>,
    usage: Total,
}

impl Batch {
    /// `None` when the file is no output of a batch.
    fn read(bytes: &[u8], provider: &str, notes: &mut Notes) -> Option<Self> {
        let mut batch = Self::default();
        for line in bytes.split(|byte| *byte == b'\n') {
            let line = json::trim(line);
            if line.is_empty() {
                continue;
            }
            let parsed = json::parse(line).ok().map(|(value, _)| value);
            let parsed = parsed.filter(|value| value.get("custom_id").is_some());
            let parsed = parsed.filter(|value| value.get("response").is_some());
            match parsed {
                Some(value) => batch.add(&value, provider, notes),
                None if batch.requests == 0 => return None,
                None => notes.add("batch_line_unreadable"),
            }
        }
        (batch.requests > 0).then_some(batch)
    }

    fn add(&mut self, line: &Value, provider: &str, notes: &mut Notes) {
        self.requests += 1;
        let status = line.pointer("/response/status_code").and_then(Value::as_u64);
        let Some(body) = line.pointer("/response/body").filter(|_| status.is_none_or(|s| s < 400))
        else {
            self.errors += 1;
            return;
        };
        if let Some(model) = text::name(body.get("model")) {
            if self.models.len() < MODELS_MAX || self.models.contains_key(&model) {
                let count = self.models.get(&model).and_then(Value::as_u64).unwrap_or(0);
                self.models.insert(model, (count + 1).into());
            } else {
                notes.add("batch_models_beyond_limit");
            }
        }
        if let Some(usage) = body.get("usage").filter(|usage| usage.is_object()) {
            self.usage.add(usage, provider);
        }
    }

    fn tell(self, meaning: &mut Meaning, provider: &str, notes: &mut Notes) {
        self.usage.tell(meaning, provider, notes);
        meaning.service_tier = Some(BATCH_TIER.to_owned());
        if self.models.len() == 1 {
            meaning.model_served = self.models.keys().next().cloned();
        } else if self.models.len() > 1 {
            notes.add("batch_of_several_models");
        }
        meaning.response = Some(json!({
            "object": "batch.output",
            "requests": self.requests,
            "errors": self.errors,
            "models": self.models,
            "usage": self.usage.usage(),
        }));
    }
}

#[cfg(test)]
mod tests {
    use crate::codec::{Meaning, Reading, read};
    use crate::model::Endpoint;
    use serde_json::json;

    fn of(path: &str, body: &[u8]) -> Meaning {
        read(&Reading {
            endpoint: &Endpoint::of(path),
            provider: "openai",
            method: "GET",
            path,
            request: b"",
            status: Some(200),
            content_type: Some("application/octet-stream"),
            response: body,
        })
    }

    #[test]
    fn the_output_of_a_batch_is_what_its_calls_used() {
        let line = |id: u64, status: u64, input: u64| {
            json!({"id": format!("batch_req_{id}"), "custom_id": format!("c{id}"), "error": null,
                "response": {"status_code": status, "request_id": "r", "body": {"model": "gpt-4o-mini-2024-07-18",
                    "usage": {"prompt_tokens": input, "completion_tokens": 1, "total_tokens": input + 1,
                        "prompt_tokens_details": {"cached_tokens": 1}}}}})
        };
        let body =
            format!("{}\n{}\n{}\n\n{{bad\n", line(1, 200, 5), line(2, 200, 7), line(3, 429, 9));
        let meaning = of("/v1/files/file-1/content", body.as_bytes());
        let usage = meaning.usage.unwrap();
        assert_eq!((usage.input, usage.output, usage.input_cached), (Some(12), Some(2), Some(2)));
        assert_eq!(meaning.model_served.as_deref(), Some("gpt-4o-mini-2024-07-18"));
        assert_eq!(meaning.service_tier.as_deref(), Some("batch"));
        let response = meaning.response.unwrap();
        assert_eq!((&response["requests"], &response["errors"]), (&json!(3), &json!(1)));
        assert_eq!(meaning.notes, ["batch_line_unreadable"]);
        let prompts = usage.prompts.unwrap();
        assert_eq!((prompts.count, prompts.smallest, prompts.largest), (2, 5, 7));
        assert_eq!((meaning.response_id.as_deref(), meaning.is_read_again), (Some("file-1"), true));
    }

    #[test]
    fn other_files_are_not_repeated() {
        for body in
            [&b"{\"messages\":[]}\n{\"messages\":[]}\n"[..], b"secret text", b"\xFF\x00", b""]
        {
            let meaning = of("/v1/files/file-1/content", body);
            assert_eq!((meaning.response, meaning.usage, meaning.notes), (None, None, vec![]));
        }
        let file = of("/v1/files/file-1", br#"{"id":"file-1","object":"file","bytes":3}"#);
        assert_eq!(file.response.unwrap()["id"], "file-1");
    }
}
