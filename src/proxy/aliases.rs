//! Headers by which other vendors' clients say the same things (`peers.md` §4): they fill slots that
//! nothing else filled, so that someone moves over by changing the base URL.

use super::{
    metadata::{Labels, Log, VALUE_BYTES_MAX},
    upstream::{Upstream, Upstreams},
};
use base64::{Engine, alphabet, engine};
use http::{HeaderMap, HeaderName, HeaderValue};
use percent_encoding::percent_decode;
use serde_json::{Map, Value};
use std::sync::Arc;

/// Headers of other vendors' gateways, by prefix: addressed to a gateway, so none goes on to the
/// provider. Some carry keys.
const VENDOR_PREFIXES: &[&str] = &[
    "cf-aig-",
    "helicone-",
    "langfuse-",
    "langfuse_",
    "litellm-",
    "x-aisix-",
    "x-bf-",
    "x-data-keywordsai-",
    "x-data-respan-",
    "x-gomodel-",
    "x-keywordsai-",
    "x-langfuse-",
    "x-litellm-",
    "x-llmgateway-",
    "x-portkey-",
    "x-respan-",
    "x-tfy-",
];

/// What an alias fills.
#[derive(Clone, Copy)]
enum Fills {
    /// The key of calltap's own that takes the value as it stands.
    Key(&'static str),
    /// Entries of `metadata` from a JSON object; names that start with `_` are Portkey's own.
    Metadata,
    /// The parameters of Keywords AI: a JSON object, plain or in base64.
    Params,
    /// No bodies in the record when the value is true.
    NoContent,
    /// No bodies in the record when the value is false.
    Content,
    /// No record when the value is false.
    Record,
    /// The id of the trace, or of the span above, where there is no `traceparent`.
    Trace,
    Parent,
}
use Fills::{Content, Key, Metadata, NoContent, Params, Parent, Record, Trace};

/// Where several aliases fill one slot, the first here wins.
const ALIASES: &[(&str, Fills)] = &[
    // Helicone
    ("helicone-session-id", Key("session")),
    ("helicone-session-name", Key("session-name")),
    ("helicone-session-path", Key("session-path")),
    ("helicone-prompt-id", Key("prompt")),
    ("helicone-prompt-name", Key("prompt")),
    ("helicone-prompt-version", Key("prompt-version")),
    ("helicone-user-id", Key("user")),
    ("helicone-org-id", Key("customer")),
    ("helicone-request-id", Key("reference")),
    ("helicone-omit-request", NoContent),
    ("helicone-omit-response", NoContent),
    // Portkey
    ("x-portkey-metadata", Metadata),
    ("x-portkey-trace-id", Trace),
    ("x-portkey-parent-span-id", Parent),
    ("x-portkey-debug", Record),
    // LiteLLM
    ("x-litellm-end-user-id", Key("user")),
    ("x-litellm-customer-id", Key("user")),
    ("x-litellm-user-id", Key("user")),
    ("x-litellm-tags", Key("tags")),
    ("x-litellm-spend-logs-metadata", Metadata),
    ("x-litellm-session-id", Key("session")),
    ("x-litellm-trace-id", Trace),
    ("x-litellm-call-id", Key("reference")),
    ("x-litellm-enable-message-redaction", NoContent),
    // Langfuse
    ("langfuse-session-id", Key("session")),
    ("x-langfuse-session-id", Key("session")),
    ("langfuse_session_id", Key("session")),
    ("langfuse_trace_session_id", Key("session")),
    ("langfuse-user-id", Key("user")),
    ("x-langfuse-user-id", Key("user")),
    ("langfuse_user_id", Key("user")),
    ("langfuse_trace_user_id", Key("user")),
    ("langfuse-environment", Key("environment")),
    ("langfuse_environment", Key("environment")),
    ("langfuse-tags", Key("tags")),
    ("langfuse_tags", Key("tags")),
    ("langfuse_trace_tags", Key("tags")),
    ("langfuse-metadata", Metadata),
    ("langfuse_metadata", Metadata),
    ("langfuse_trace_metadata", Metadata),
    ("langfuse-trace-id", Trace),
    ("langfuse_trace_id", Trace),
    ("langfuse-parent-observation-id", Parent),
    ("langfuse_parent_observation_id", Parent),
    // Bifrost
    ("x-bf-session-id", Key("session")),
    ("x-bf-customer-id", Key("user")),
    ("x-bf-maxim-trace-id", Trace),
    ("x-bf-disable-content-logging", NoContent),
    // Cloudflare
    ("cf-aig-metadata", Metadata),
    ("cf-aig-event-id", Key("reference")),
    ("cf-aig-collect-log", Record),
    ("cf-aig-collect-log-payload", Content),
    // Keywords AI, now Respan
    ("x-data-keywordsai-params", Params),
    ("x-data-respan-params", Params),
    ("x-respan-customer-identifier", Key("user")),
    ("x-keywordsai-customer-identifier", Key("user")),
    // Smaller gateways
    ("x-aisix-user", Key("user")),
    ("x-aisix-request-id", Key("reference")),
    ("x-gomodel-user-path", Key("user")),
    ("x-tfy-metadata", Metadata),
    // Of nobody in particular: read, and forwarded.
    ("x-session-id", Key("session")),
    ("agent-session-id", Key("session")),
    ("x-thread-id", Key("session")),
    ("x-thread-title", Key("session-name")),
    ("x-tags", Key("tags")),
    ("x-label", Key("tags")),
    ("x-client-request-id", Key("reference")),
    ("x-request-id", Key("reference")),
];

/// Headers whose rest of the name is the name of a piece of metadata.
const NAMED: &[&str] = &["helicone-property-", "x-bf-dim-", "x-bf-prom-", "x-llmgateway-"];

/// Portkey's names inside its metadata, and what they fill.
const OF_METADATA: &[(&str, &str)] = &[
    ("_user", "user"),
    ("_prompt", "prompt"),
    ("_environment", "environment"),
    ("_organisation", "customer"),
];

/// Members of Keywords AI's parameters, and what they fill.
const OF_PARAMS: &[(&str, &str)] = &[
    ("thread_identifier", "session"),
    ("session_identifier", "session"),
    ("customer_identifier", "user"),
    ("prompt_id", "prompt"),
    ("prompt_name", "prompt"),
    ("prompt_version_number", "prompt-version"),
    ("custom_identifier", "reference"),
    ("environment", "environment"),
    ("metadata", "metadata"),
];

/// Reads base64 however it is spelled: either alphabet, padded or not.
const LENIENT: engine::GeneralPurposeConfig = engine::GeneralPurposeConfig::new()
    .with_decode_padding_mode(engine::DecodePaddingMode::Indifferent)
    .with_decode_allow_trailing_bits(true);

/// Other vendors' headers of a request, taken out where they are addressed to a gateway.
pub fn take(headers: &mut HeaderMap) -> Vec<(HeaderName, HeaderValue)> {
    let is_vendors = |name: &str| VENDOR_PREFIXES.iter().any(|prefix| name.starts_with(prefix));
    let is_alias = |name: &str| is_vendors(name) || ALIASES.iter().any(|(alias, _)| *alias == name);
    let found: Vec<(HeaderName, HeaderValue)> = headers
        .iter()
        .filter(|(name, _)| is_alias(name.as_str()))
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect();
    for (name, _) in found.iter().filter(|(name, _)| is_vendors(name.as_str())) {
        headers.remove(name);
    }
    found
}

/// The upstream that a vendor's header names: one of ours, by name or by the origin of its base URL.
/// The client never names a host of its own.
pub fn upstream<'a>(
    headers: &[(HeaderName, HeaderValue)],
    upstreams: &'a Upstreams,
) -> Option<&'a Arc<Upstream>> {
    headers.iter().find_map(|(name, value)| {
        let value = value.to_str().ok()?.trim();
        match name.as_str() {
            "x-portkey-provider" => upstreams.named(value.trim_start_matches('@')),
            "helicone-target-url" | "helicone-openai-api-base" | "x-portkey-custom-host" => {
                upstreams.at(value)
            }
            _ => None,
        }
    })
}

impl Labels {
    /// Fills what is still empty from other vendors' headers.
    pub fn read_aliases(&mut self, headers: &[(HeaderName, HeaderValue)]) {
        for (alias, fills) in ALIASES {
            for (name, value) in headers.iter().filter(|(name, _)| name.as_str() == *alias) {
                let filled = text(value).and_then(|text| self.fill(*fills, &text));
                self.warn(name.as_str(), filled);
            }
        }
        for (name, value) in headers {
            let rest = NAMED.iter().find_map(|prefix| name.as_str().strip_prefix(prefix));
            if let Some(rest) = rest {
                let filled = text(value).and_then(|text| self.set(&format!("meta-{rest}"), &text));
                self.warn(name.as_str(), filled);
            }
        }
    }

    fn fill(&mut self, fills: Fills, text: &str) -> Result<(), String> {
        let is = |wanted: &str| text.eq_ignore_ascii_case(wanted);
        match fills {
            Key("tags") => {
                return match serde_json::from_str(text) {
                    Ok(list @ Value::Array(_)) => self.set_json("tags", list),
                    _ => self.set("tags", text.trim_matches(['[', ']'])),
                };
            }
            Key(key) => return self.set(key, text),
            Metadata => return self.fill_from(object(text)?, OF_METADATA, true),
            Params => return self.fill_from(object(text)?, OF_PARAMS, false),
            NoContent if is("true") || is("1") => _ = self.log.get_or_insert(Log::Metadata),
            Content if is("false") || is("0") => _ = self.log.get_or_insert(Log::Metadata),
            Record if is("false") || is("0") => _ = self.log.get_or_insert(Log::Off),
            Trace => _ = self.trace.trace_id.get_or_insert_with(|| text.to_owned()),
            Parent => _ = self.trace.parent_id.get_or_insert_with(|| text.to_owned()),
            NoContent | Content | Record => {}
        }
        Ok(())
    }

    /// Members that `known` names fill what it says; the others are metadata, if they are `free`.
    fn fill_from(
        &mut self,
        members: Map<String, Value>,
        known: &[(&str, &str)],
        free: bool,
    ) -> Result<(), String> {
        let mut result = Ok(());
        for (name, value) in members {
            let key = known.iter().find(|(member, _)| *member == name).map(|(_, key)| *key);
            let len = value.as_str().map_or_else(|| value.to_string().len(), str::len);
            let set = match key {
                _ if len > VALUE_BYTES_MAX => {
                    Err(format!("is longer than {VALUE_BYTES_MAX} bytes"))
                }
                Some(key) => self.set_json(key, value),
                None if free => self
                    .set_json("metadata", Value::Object(Map::from_iter([(name.clone(), value)]))),
                None => Ok(()),
            };
            result = result.and(set.map_err(|why| format!("{name} {why}")));
        }
        result
    }
}

fn text(value: &HeaderValue) -> Result<String, String> {
    let decoded = percent_decode(value.as_bytes()).decode_utf8().map_err(|_| "is not UTF-8")?;
    let text = decoded.trim();
    if text.is_empty() { Err("is empty".to_owned()) } else { Ok(text.to_owned()) }
}

/// A JSON object, as it stands or in base64.
fn object(text: &str) -> Result<Map<String, Value>, String> {
    let decode = |alphabet| engine::GeneralPurpose::new(alphabet, LENIENT).decode(text).ok();
    let decoded = if text.starts_with('{') {
        Some(text.as_bytes().to_vec())
    } else {
        decode(&alphabet::STANDARD).or_else(|| decode(&alphabet::URL_SAFE))
    };
    decoded
        .and_then(|json| serde_json::from_slice(&json).ok())
        .ok_or_else(|| "is not a JSON object, plain or in base64".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, Upstream as Options};
    use serde_json::json;

    fn read(own: Labels, headers: &[(&str, &str)]) -> (Labels, Vec<String>) {
        let mut map: HeaderMap = headers
            .iter()
            .map(|(name, value)| (name.parse::<HeaderName>().unwrap(), value.parse().unwrap()))
            .collect();
        let taken = take(&mut map);
        let mut labels = own;
        labels.read_aliases(&taken);
        (labels, map.keys().map(|name| name.as_str().to_owned()).collect())
    }

    /// One row an alias: what it fills, and whether it goes on to the provider.
    #[test]
    fn every_alias_fills_its_slot() {
        for (alias, fills) in ALIASES {
            let value = match fills {
                Key(_) | Trace | Parent => "value",
                Metadata => r#"{"plan":"value","_user":"value"}"#,
                Params => r#"{"thread_identifier":"value","metadata":{"plan":"value"}}"#,
                NoContent => "true",
                Content | Record => "false",
            };
            let (labels, left) = read(Labels::default(), &[(alias, value)]);
            assert!(labels.warnings.is_empty(), "{alias}: {:?}", labels.warnings);
            let said = format!("{:?} {:?} {:?}", labels.tags, labels.trace, labels.log);
            let wanted = match fills {
                NoContent | Content => "Metadata)",
                Record => "Off",
                _ => "\"value\"",
            };
            assert!(said.contains(wanted), "{alias}: {said}");
            let generic = [
                "x-session-id",
                "agent-session-id",
                "x-thread-id",
                "x-thread-title",
                "x-tags",
                "x-label",
                "x-client-request-id",
                "x-request-id",
            ];
            assert_eq!(left.is_empty(), !generic.contains(alias), "{alias}");
        }
    }

    #[test]
    fn nothing_of_a_vendor_goes_on_and_everything_else_does() {
        let (_, left) = read(
            Labels::default(),
            &[
                ("helicone-auth", "Bearer sk-helicone"),
                ("helicone-cache-enabled", "true"),
                ("x-portkey-api-key", "k"),
                ("cf-aig-authorization", "Bearer x"),
                ("langfuse_anything", "x"),
                ("openai-organization", "org-1"),
                ("x-title", "app"),
                ("x-bfoo", "stays"),
            ],
        );
        assert_eq!(left.len(), 3, "{left:?}");
    }

    #[test]
    fn calltaps_own_words_win_and_the_first_alias_after_them() {
        let mut own = Labels::default();
        own.set("session", "own").unwrap();
        own.set("meta-plan", "own").unwrap();
        let (labels, _) = read(
            own,
            &[
                ("langfuse-user-id", "second"),
                ("helicone-user-id", "first"),
                ("helicone-session-id", "theirs"),
                ("helicone-property-plan", "theirs"),
                ("Helicone-Property-Region", "EU"),
                (
                    "x-portkey-metadata",
                    r#"{"_environment":"prod","_organisation":"acme","order":7,"plan":"theirs"}"#,
                ),
            ],
        );
        let tags = labels.tags;
        assert_eq!((tags.session.as_deref(), tags.user.as_deref()), (Some("own"), Some("first")));
        assert_eq!(
            (tags.environment.as_deref(), tags.customer.as_deref()),
            (Some("prod"), Some("acme"))
        );
        assert_eq!(
            Value::Object(tags.metadata),
            json!({"plan": "own", "order": 7, "region": "EU"})
        );
    }

    #[test]
    fn parameters_come_plain_and_in_any_base64() {
        let json = r#"{"customer_identifier":"ü?>~","metadata":{"a":1},"fallback_models":["x"]}"#;
        let spelled = |alphabet, config| engine::GeneralPurpose::new(alphabet, config).encode(json);
        let padded = engine::general_purpose::PAD;
        let bare = engine::general_purpose::NO_PAD;
        for value in [
            json.replace('ü', "%C3%BC"),
            spelled(&alphabet::STANDARD, padded),
            spelled(&alphabet::STANDARD, bare),
            spelled(&alphabet::URL_SAFE, padded),
            spelled(&alphabet::URL_SAFE, bare),
        ] {
            let (labels, _) = read(Labels::default(), &[("X-Data-Keywordsai-Params", &value)]);
            assert_eq!(labels.tags.user.as_deref(), Some("ü?>~"), "{value}");
            assert_eq!(Value::Object(labels.tags.metadata), json!({"a": 1}));
        }
    }

    #[test]
    fn what_is_malformed_is_dropped_with_a_warning() {
        let long = "x".repeat(70_000);
        let (labels, left) = read(
            Labels::default(),
            &[
                ("x-portkey-metadata", "{not json"),
                ("cf-aig-metadata", "[1]"),
                ("x-data-respan-params", "%%%"),
                ("helicone-session-id", &long),
                ("helicone-user-id", ""),
            ],
        );
        assert_eq!(labels.warnings.len(), 5, "{:?}", labels.warnings);
        assert_eq!(labels.tags, crate::model::Tags::default());
        assert!(left.is_empty());
    }

    #[test]
    fn only_upstreams_of_ours_can_be_named() {
        let mut config = Config::default();
        let options =
            Options { base_url: Some("http://127.0.0.1:9/v1".into()), ..Options::default() };
        config.upstreams.insert("local".into(), options);
        let upstreams = Upstreams::new(&config).unwrap();
        let named = |name: &'static str, value: &str| {
            let headers = [(HeaderName::from_static(name), value.parse().unwrap())];
            upstream(&headers, &upstreams).map(|upstream| upstream.name.to_string())
        };
        assert_eq!(named("x-portkey-provider", "@groq").as_deref(), Some("groq"));
        assert_eq!(named("helicone-target-url", "https://api.groq.com").as_deref(), Some("groq"));
        assert_eq!(
            named("x-portkey-custom-host", "http://127.0.0.1:9/x").as_deref(),
            Some("local")
        );
        assert_eq!(named("helicone-target-url", "http://169.254.169.254/latest"), None);
    }
}
