//! What a caller says about a call, by header, path segment and body member (SPEC §3).

use super::headers::OWN_PREFIX;
use crate::model::{Secret, Tags, Trace};
use http::{HeaderMap, HeaderName, HeaderValue};
use percent_encoding::percent_decode;
use serde_json::{Map, Value};
use uuid::Uuid;

/// Longest value of a tag, in bytes; evaluation fields may be longer in the body member.
pub(super) const VALUE_BYTES_MAX: usize = 8 * 1024;
/// Longest value of the evaluation fields in a header or path, in bytes.
const TEXT_BYTES_MAX: usize = 64 * 1024;
/// Most entries of `metadata` and of `inputs`.
const ENTRIES_MAX: usize = 64;
/// Most labels.
const LABELS_MAX: usize = 64;

/// How much of a call is recorded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Log {
    /// Everything.
    #[default]
    Full,
    /// No bodies, and nothing taken from them.
    Metadata,
    /// Nothing; the call is counted.
    Off,
}

/// Everything that a caller can say. The first to fill a slot wins, so read the strongest carrier
/// first: header, then path, then body member.
#[derive(Clone, Debug, Default)]
pub struct Labels {
    /// What goes into the record.
    pub tags: Tags,
    /// The id that the caller chose.
    pub id: Option<Uuid>,
    /// How much is recorded.
    pub log: Option<Log>,
    /// Sinks for this call.
    pub sinks: Option<Vec<String>>,
    /// Name of the upstream.
    pub upstream: Option<String>,
    /// calltap's own key.
    pub key: Option<Secret>,
    /// Trace that another vendor's headers name.
    pub trace: Trace,
    /// What was refused, for `x-calltap-warning`.
    pub warnings: Vec<String>,
}

impl Labels {
    /// Reads calltap's own headers, then the path's pairs.
    pub fn read(own: &[(HeaderName, HeaderValue)], path: &[(String, String)]) -> Self {
        let mut labels = Self::default();
        for (name, value) in own {
            let key = name.as_str().strip_prefix(OWN_PREFIX).unwrap_or_default();
            let set = match percent_decode(value.as_bytes()).decode_utf8() {
                Ok(text) => labels.set(key, text.trim()),
                Err(_) => Err("is not UTF-8".to_owned()),
            };
            labels.warn(name.as_str(), set);
        }
        for (key, value) in path {
            let set = labels.set(key, value);
            labels.warn(key, set);
        }
        labels
    }

    /// Reads the `calltap` member of the request body.
    pub fn read_member(&mut self, member: &[u8]) {
        let Ok(Value::Object(member)) = serde_json::from_slice(member) else {
            self.warnings.push("calltap: is not a JSON object".to_owned());
            return;
        };
        for (key, value) in member {
            let set = self.set_json(&key.to_lowercase(), value);
            self.warn(&format!("calltap.{key}"), set);
        }
    }

    pub(super) fn warn(&mut self, name: &str, set: Result<(), String>) {
        if let Err(why) = set {
            let name: String = name.chars().filter(char::is_ascii_graphic).take(64).collect();
            self.warnings.push(format!("{name}: {why}"));
        }
    }

    /// Sets what `key` names from text, unless it is set already.
    ///
    /// # Errors
    /// Why the value is refused.
    pub fn set(&mut self, key: &str, value: &str) -> Result<(), String> {
        let key = key.replace('_', "-");
        if value.len() > TEXT_BYTES_MAX {
            return Err(format!("is longer than {TEXT_BYTES_MAX} bytes"));
        }
        match key.as_str() {
            "user-query" => return put_text(&mut self.tags.user_query, value),
            "context" => return put_value(&mut self.tags.context, value.into()),
            "expected" => return put_value(&mut self.tags.expected, value.into()),
            "meta" | "metadata" => {
                return self.set_json(&key, parse_object(value)?);
            }
            "inputs" | "vars" => return self.set_json("inputs", parse_object(value)?),
            _ => {}
        }
        if value.len() > VALUE_BYTES_MAX {
            return Err(format!("is longer than {VALUE_BYTES_MAX} bytes"));
        }
        if let Some(name) = key.strip_prefix("meta-") {
            return insert(&mut self.tags.metadata, name, value.into());
        }
        if let Some(name) = key.strip_prefix("var-") {
            return insert(&mut self.tags.inputs, name, value.into());
        }
        match key.as_str() {
            "id" => put(&mut self.id, Uuid::parse_str(value).map_err(|_| "is not a UUID")?),
            "log" => put(&mut self.log, parse_log(value)?),
            "sinks" => put(&mut self.sinks, parse_sinks(value)),
            "upstream" => put(&mut self.upstream, value.to_owned()),
            "key" => put(&mut self.key, Secret::new(value).ok_or("is empty")?),
            "tags" | "labels" => self.add_labels(value.split(',').map(str::to_owned))?,
            _ => {
                let slot = slot(&mut self.tags, &key).ok_or("is not known")?;
                return put_text(slot, value);
            }
        }
        Ok(())
    }

    pub(super) fn set_json(&mut self, key: &str, value: Value) -> Result<(), String> {
        let key = key.replace('_', "-");
        match (key.as_str(), value) {
            ("upstream" | "key", _) => Err("can only be set by header or path".to_owned()),
            (_, Value::Null) => Ok(()),
            ("context", value) => put_value(&mut self.tags.context, value),
            ("expected", value) => put_value(&mut self.tags.expected, value),
            ("user-query", Value::String(text)) => put_text(&mut self.tags.user_query, &text),
            ("meta" | "metadata", Value::Object(entries)) => entries
                .into_iter()
                .try_for_each(|(name, value)| insert(&mut self.tags.metadata, &name, value)),
            ("inputs" | "vars" | "var", Value::Object(entries)) => entries
                .into_iter()
                .try_for_each(|(name, value)| insert(&mut self.tags.inputs, &name, value)),
            ("tags" | "labels", Value::Array(labels)) => {
                let labels: Option<Vec<String>> =
                    labels.iter().map(|label| label.as_str().map(str::to_owned)).collect();
                self.add_labels(labels.ok_or("holds something that is no text")?.into_iter())
            }
            ("sinks", Value::Array(sinks)) => {
                let names = sinks.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(",");
                put(&mut self.sinks, parse_sinks(&names));
                Ok(())
            }
            (_, Value::String(text)) => self.set(&key, &text),
            (_, value @ (Value::Number(_) | Value::Bool(_))) => self.set(&key, &value.to_string()),
            _ => Err("has the wrong type".to_owned()),
        }
    }

    fn add_labels(&mut self, labels: impl Iterator<Item = String>) -> Result<(), String> {
        for label in labels {
            let label = label.trim();
            if label.is_empty() || self.tags.labels.iter().any(|have| have == label) {
                continue;
            }
            if self.tags.labels.len() >= LABELS_MAX {
                return Err(format!("holds more than {LABELS_MAX} labels"));
            }
            self.tags.labels.push(label.to_owned());
        }
        Ok(())
    }
}

fn slot<'a>(tags: &'a mut Tags, key: &str) -> Option<&'a mut Option<String>> {
    Some(match key {
        "prompt" => &mut tags.prompt,
        "prompt-version" => &mut tags.prompt_version,
        "session" => &mut tags.session,
        "session-name" => &mut tags.session_name,
        "session-path" => &mut tags.session_path,
        "env" | "environment" => &mut tags.environment,
        "customer" => &mut tags.customer,
        "user" => &mut tags.user,
        "ref" | "reference" => &mut tags.reference,
        _ => return None,
    })
}

fn put<T>(slot: &mut Option<T>, value: T) {
    slot.get_or_insert(value);
}

fn put_text(slot: &mut Option<String>, value: &str) -> Result<(), String> {
    if value.is_empty() {
        return Err("is empty".to_owned());
    }
    put(slot, value.to_owned());
    Ok(())
}

fn put_value(slot: &mut Option<Value>, value: Value) -> Result<(), String> {
    if value.as_str().is_some_and(str::is_empty) {
        return Err("is empty".to_owned());
    }
    put(slot, value);
    Ok(())
}

/// Names are lower-cased (SPEC §13.11), values kept.
fn insert(entries: &mut Map<String, Value>, name: &str, value: Value) -> Result<(), String> {
    if name.is_empty() {
        return Err("has no name".to_owned());
    }
    let name = name.to_lowercase();
    if !entries.contains_key(&name) {
        if entries.len() >= ENTRIES_MAX {
            return Err(format!("holds more than {ENTRIES_MAX} entries"));
        }
        entries.insert(name, value);
    }
    Ok(())
}

fn parse_object(text: &str) -> Result<Value, String> {
    match serde_json::from_str(text) {
        Ok(value @ Value::Object(_)) => Ok(value),
        _ => Err("is not a JSON object".to_owned()),
    }
}

fn parse_log(text: &str) -> Result<Log, String> {
    match text {
        "full" => Ok(Log::Full),
        "metadata" => Ok(Log::Metadata),
        "off" => Ok(Log::Off),
        _ => Err("must be full, metadata or off".to_owned()),
    }
}

fn parse_sinks(text: &str) -> Vec<String> {
    text.split(',')
        .map(str::trim)
        .filter(|name| !name.is_empty() && *name != "none")
        .map(str::to_owned)
        .collect()
}

/// W3C trace context; a malformed `traceparent` is dropped (and still forwarded).
pub fn trace(headers: &HeaderMap) -> Trace {
    let parse = || {
        let text = headers.get("traceparent")?.to_str().ok()?;
        let mut parts = text.split('-');
        let (version, trace_id, parent_id) = (parts.next()?, parts.next()?, parts.next()?);
        let hex = |text: &str, len: usize| {
            text.len() == len
                && text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
                && text.bytes().any(|b| b != b'0')
        };
        (version.len() == 2 && version != "ff" && hex(trace_id, 32) && hex(parent_id, 16)).then(
            || Trace { trace_id: Some(trace_id.to_owned()), parent_id: Some(parent_id.to_owned()) },
        )
    };
    parse().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(headers: &[(&'static str, &[u8])], path: &[(&str, &str)]) -> Labels {
        let headers: Vec<_> = headers
            .iter()
            .map(|(n, v)| (HeaderName::from_static(n), HeaderValue::from_bytes(v).unwrap()))
            .collect();
        let path: Vec<_> = path.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        Labels::read(&headers, &path)
    }

    #[test]
    fn headers_win_over_path_and_path_over_member() {
        let mut labels = read(
            &[
                ("x-calltap-prompt", b"from-header"),
                ("x-calltap-meta-Order".to_lowercase().leak(), b"1"),
            ],
            &[("prompt", "from-path"), ("session", "s1")],
        );
        labels.read_member(br#"{"prompt":"m","session":"m","env":"prod","metadata":{"Order":2,"b":{"c":1.50}},"context":["x"],"tags":["a","b"],"var":{"name":"Ann"}}"#);
        assert_eq!(labels.tags.prompt.as_deref(), Some("from-header"));
        assert_eq!(labels.tags.session.as_deref(), Some("s1"));
        assert_eq!(labels.tags.environment.as_deref(), Some("prod"));
        assert_eq!(
            Value::from(labels.tags.metadata).to_string(),
            r#"{"order":"1","b":{"c":1.50}}"#
        );
        assert_eq!(labels.tags.labels, ["a", "b"]);
        assert_eq!(labels.tags.inputs.get("name"), Some(&Value::from("Ann")));
        assert!(labels.warnings.is_empty());
    }

    #[test]
    fn bad_metadata_is_refused_with_a_warning() {
        let labels = read(
            &[
                ("x-calltap-id", b"no-uuid"),
                ("x-calltap-meta", b"{not json"),
                ("x-calltap-log", b"loud"),
                ("x-calltap-prompt", b""),
                ("x-calltap-session", b"\xff\xfe"),
                ("x-calltap-nonsense", b"1"),
            ],
            &[],
        );
        assert_eq!(labels.warnings.len(), 6, "{:?}", labels.warnings);
        assert_eq!(labels.tags, Tags::default());
    }

    #[test]
    fn values_are_percent_decoded_utf8() {
        let labels = read(
            &[("x-calltap-session", b"caf%C3%A9"), ("x-calltap-user", "Ünal".as_bytes())],
            &[],
        );
        assert_eq!(labels.tags.session.as_deref(), Some("café"));
        assert_eq!(labels.tags.user.as_deref(), Some("Ünal"));
    }

    #[test]
    fn sinks_and_log_levels() {
        let labels = read(&[("x-calltap-sinks", b"none"), ("x-calltap-log", b"metadata")], &[]);
        assert_eq!(labels.sinks, Some(vec![]));
        assert_eq!(labels.log, Some(Log::Metadata));
    }

    #[test]
    fn only_well_formed_trace_context_is_read() {
        let of = |text: &str| {
            trace(&HeaderMap::from_iter([(
                HeaderName::from_static("traceparent"),
                text.parse().unwrap(),
            )]))
        };
        let good = of("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01");
        assert_eq!(good.parent_id.as_deref(), Some("00f067aa0ba902b7"));
        assert_eq!(of("00-00000000000000000000000000000000-00f067aa0ba902b7-01"), Trace::default());
        assert_eq!(of("garbage"), Trace::default());
    }
}
