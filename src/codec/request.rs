//! The asking side of an exchange, the same for every endpoint.

use super::{Meaning, Reading, body, notes::Notes, parameters, request_tags, text};
use percent_encoding::percent_decode_str;
use serde_json::Value;

/// What the request says.
pub(crate) fn read(reading: &Reading<'_>, notes: &mut Notes) -> Meaning {
    let request = body::question(reading.request, notes);
    let mut meaning = Meaning::default();
    if let Some(Value::Object(members)) = &request {
        meaning.model_requested = text::name(members.get("model"));
        meaning.parameters = parameters::read(members);
        meaning.tags = request_tags::read(members, reading.endpoint.as_str());
    }
    meaning.model_requested = meaning.model_requested.or_else(|| deployment(reading.path));
    meaning.request = request;
    meaning
}

/// The deployment in an Azure path: `/openai/deployments/{name}/chat/completions`.
fn deployment(path: &str) -> Option<String> {
    let (_, after) = path.split_once("/deployments/")?;
    let name = percent_decode_str(after.split('/').next()?).decode_utf8_lossy();
    (!name.is_empty()).then(|| text::clip(&name, 256))
}
