//! Legacy completions: text by choice, log probabilities as parallel lists.

use super::{
    Codec, Meaning, Reading,
    chat::merge_logprobs,
    chunks::{Choice, Chunks},
    merge,
    notes::Notes,
    reader,
};
use crate::model::Endpoint;
use serde_json::{Map, Value};

/// `/completions`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Completions;

impl Codec for Completions {
    fn reads(&self, endpoint: &Endpoint) -> bool {
        endpoint.as_str() == "completions"
    }

    fn read(&self, reading: &Reading<'_>) -> Meaning {
        reader::read(reading, || Box::<Chunks<TextChoice>>::default())
    }
}

/// One choice of a completion, growing. A list of prompts gives choices for each, in order.
#[derive(Debug, Default)]
pub(crate) struct TextChoice {
    text: String,
    finish_reason: Value,
    members: Map<String, Value>,
}

impl Choice for TextChoice {
    const OBJECT: &'static str = "text_completion";

    fn add(&mut self, chunk: Map<String, Value>, _notes: &mut Notes) -> bool {
        let mut output = false;
        for (key, value) in chunk {
            match (key.as_str(), value) {
                ("text", Value::String(text)) => {
                    output |= !text.is_empty();
                    self.text.push_str(&text);
                }
                ("index" | "text", _) => {}
                ("finish_reason", value) => merge::last_filled(&mut self.finish_reason, value),
                ("logprobs", value) => merge::member(&mut self.members, key, value, merge_logprobs),
                ("content_filter_results", value) => {
                    merge::member(&mut self.members, key, value, merge::deep);
                }
                (_, value) => merge::member(&mut self.members, key, value, merge::last),
            }
        }
        output
    }

    fn repeats(chunk: &Map<String, Value>) -> Option<&'static str> {
        let is_plain = |(key, value): (&String, &Value)| match key.as_str() {
            "index" => value.is_u64(),
            "text" => value.as_str().is_some_and(|text| !text.is_empty()),
            "finish_reason" | "logprobs" => value.is_null(),
            _ => false,
        };
        (chunk.contains_key("text") && chunk.iter().all(is_plain)).then_some("text")
    }

    fn add_text(&mut self, text: &str) {
        self.text.push_str(text);
    }

    fn finish(self, index: Value, _notes: &mut Notes) -> Value {
        let mut choice = Map::new();
        choice.insert("text".to_owned(), Value::String(self.text));
        choice.insert("index".to_owned(), index);
        choice.insert("finish_reason".to_owned(), self.finish_reason);
        choice.extend(self.members);
        Value::Object(choice)
    }
}

#[cfg(test)]
mod tests {
    use crate::codec::{Meaning, Reading, read};
    use crate::model::Endpoint;
    use serde_json::json;

    fn stream(body: &str) -> Meaning {
        read(&Reading {
            endpoint: &Endpoint::from("completions"),
            provider: "openai",
            method: "POST",
            path: "/v1/completions",
            request: br#"{"model":"m","prompt":["a","b"],"n":1}"#,
            status: Some(200),
            content_type: Some("text/event-stream"),
            response: body.as_bytes(),
        })
    }

    #[test]
    fn texts_and_parallel_lists_are_joined() {
        let meaning = stream(concat!(
            "data: {\"id\":\"c\",\"object\":\"text_completion\",\"created\":1,\"model\":\"m\",\"choices\":[{\"index\":1,\"text\":\"\",",
            "\"logprobs\":{\"tokens\":[\"x\"],\"token_logprobs\":[null],\"top_logprobs\":null,\"text_offset\":[0]},\"finish_reason\":null}]}\n\n",
            "data: {\"choices\":[{\"index\":0,\"text\":\"a\",\"finish_reason\":null}]}\n\n",
            "data: {\"choices\":[{\"index\":1,\"text\":\"b\",\"logprobs\":{\"tokens\":[\"b\"],\"token_logprobs\":[-1.5],",
            "\"top_logprobs\":[{\"b\":-1.5}],\"text_offset\":[1]},\"finish_reason\":\"length\",\"stop_reason\":null}]}\n\n",
            "data: {\"choices\":[{\"index\":0,\"text\":\"A\",\"finish_reason\":\"stop\"}],\"usage\":null}\n\n",
            "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":2,\"completion_tokens\":3,\"total_tokens\":5}}\n\n",
            "data: [DONE]\n\n",
        ));
        assert_eq!(
            meaning.response.unwrap(),
            json!({
                "id": "c", "object": "text_completion", "created": 1, "model": "m",
                "choices": [
                    {"text": "aA", "index": 0, "finish_reason": "stop"},
                    {"text": "b", "index": 1, "finish_reason": "length", "stop_reason": null,
                        "logprobs": {"tokens": ["x", "b"], "token_logprobs": [null, -1.5],
                            "top_logprobs": [{"b": -1.5}], "text_offset": [0, 1]}},
                ],
                "usage": {"prompt_tokens": 2, "completion_tokens": 3, "total_tokens": 5},
            })
        );
        assert_eq!(meaning.finish_reasons, ["stop", "length"]);
        assert_eq!((meaning.first_output_event, meaning.output_events), (Some(1), 3));
        assert_eq!(meaning.usage.unwrap().total, Some(5));
        assert!(meaning.terminal && meaning.terminal_end.is_some());
    }

    #[test]
    fn a_stream_of_values_is_kept_raw() {
        let meaning = stream("data: {\"value\":\"a\"}\n\ndata: {\"value\":\"b\"}\n\n");
        assert_eq!(
            meaning.response.unwrap(),
            json!({"events": [{"data": {"value": "a"}}, {"data": {"value": "b"}}]})
        );
        assert!(!meaning.terminal);
    }
}
