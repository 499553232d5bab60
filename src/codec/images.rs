//! Images: one JSON body, or a stream of previews with the finished image at its end
//! (`openai-surface.md` §11).

use super::{
    Codec, Meaning, Reading, errors,
    notes::Notes,
    reader,
    stream::{Assembly, Data, Seen},
};
use crate::model::Endpoint;
use serde_json::{Map, Value};

/// Most images of one answer.
const IMAGES_MAX: usize = 64;

/// `/images/generations`, `/images/edits` and `/images/variations`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Images;

impl Codec for Images {
    fn reads(&self, endpoint: &Endpoint) -> bool {
        endpoint.as_str().starts_with("images.")
    }

    fn read(&self, reading: &Reading<'_>) -> Meaning {
        reader::read(reading, || Box::<Drawn>::default())
    }
}

/// What was drawn, growing.
#[derive(Debug, Default)]
struct Drawn {
    images: Vec<Value>,
    members: Map<String, Value>,
    recognized: bool,
}

/// What belongs to an image; everything else is said of the whole answer.
const OF_IMAGE: [&str; 3] = ["b64_json", "url", "revised_prompt"];

impl Assembly for Drawn {
    fn add(&mut self, event: Data<'_>, notes: &mut Notes) -> Seen {
        let Value::Object(members) = event.value else { return Seen::default() };
        if event.failed {
            self.recognized = true;
            self.members.insert("error".to_owned(), errors::told(members));
            return Seen::default();
        }
        let kind = members.get("type").and_then(Value::as_str).unwrap_or(event.name);
        let Some((thing, step)) = kind.rsplit_once('.') else { return Seen::default() };
        if !thing.starts_with("image") {
            return Seen::default();
        }
        self.recognized = true;
        match step {
            // A preview: large, and no part of the result.
            "partial_image" => Seen { output: true, terminal: false, ..Seen::default() },
            "completed" if self.images.len() >= IMAGES_MAX => {
                notes.add("images_beyond_limit");
                Seen::default()
            }
            "completed" => {
                self.take(members);
                Seen { output: true, terminal: true, ..Seen::default() }
            }
            _ => Seen::default(),
        }
    }

    fn finish(mut self: Box<Self>, _: &mut Notes) -> Option<Value> {
        if !self.recognized {
            return None;
        }
        let mut object = Map::new();
        object.extend(self.members.shift_remove_entry("created"));
        object.insert("data".to_owned(), Value::Array(self.images));
        object.extend(self.members);
        Some(Value::Object(object))
    }
}

impl Drawn {
    fn take(&mut self, members: Map<String, Value>) {
        let mut image = Map::new();
        for (key, value) in members {
            match key.as_str() {
                "type" | "partial_image_index" | "sequence_number" => {}
                key if OF_IMAGE.contains(&key) => drop(image.insert(key.to_owned(), value)),
                "created_at" => drop(self.members.insert("created".to_owned(), value)),
                _ if value.is_null() => {}
                _ => drop(self.members.insert(key, value)),
            }
        }
        self.images.push(Value::Object(image));
    }
}

#[cfg(test)]
mod tests {
    use crate::codec::{Reading, read};
    use crate::model::Endpoint;
    use serde_json::json;

    #[test]
    fn previews_are_dropped() {
        for (name, event) in
            [("images.generations", "image_generation"), ("images.edits", "image_edit")]
        {
            let partial = json!({"type": format!("{event}.partial_image"), "b64_json": "AA==", "partial_image_index": 0});
            let done = json!({"type": format!("{event}.completed"), "b64_json": "AQ==", "created_at": 7, "size": "1024x1024",
                "quality": "low", "usage": {"input_tokens": 2, "output_tokens": 3, "total_tokens": 5}});
            let body = format!("data: {partial}\n\ndata: {done}\n\n");
            let meaning = read(&Reading {
                endpoint: &Endpoint::from(name),
                provider: "openai",
                method: "POST",
                path: "/v1/images",
                request:
                    br#"{"model":"gpt-image-1","prompt":"a cat","stream":true,"partial_images":1}"#,
                status: Some(200),
                content_type: Some("text/event-stream"),
                response: body.as_bytes(),
            });
            assert_eq!(
                meaning.response.unwrap(),
                json!({"created": 7, "data": [{"b64_json": "AQ=="}], "size": "1024x1024", "quality": "low",
                    "usage": {"input_tokens": 2, "output_tokens": 3, "total_tokens": 5}})
            );
            assert_eq!((meaning.first_output_event, meaning.output_events), (Some(0), 2));
            assert_eq!(meaning.tags.user_query.as_deref(), Some("a cat"));
            assert!(meaning.terminal && meaning.usage.is_some());
        }
    }
}
