//! Embeddings: one JSON body, vectors as numbers or as base64, no output tokens.

use super::{Codec, Meaning, Reading, other::Events, reader};
use crate::model::Endpoint;

/// `/embeddings`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Embeddings;

impl Codec for Embeddings {
    fn reads(&self, endpoint: &Endpoint) -> bool {
        endpoint.as_str() == "embeddings"
    }

    fn read(&self, reading: &Reading<'_>) -> Meaning {
        reader::read(reading, || Box::<Events>::default())
    }
}
