//! Any HTTP endpoint: whole records, signed by the Standard Webhooks convention.
//!
//! `webhook-id`, `webhook-timestamp` and `webhook-signature`, the last being `v1,` and the Base64 of
//! HMAC-SHA256 over `{id}.{timestamp}.{body}`. Source: the Standard Webhooks specification, 1.0.0.

use super::{
    Kind, Limits, Problem, Request, Settings, Sink,
    batch::runs,
    json::fit,
    own::{Own, problem},
};
use crate::model::{Record, Secret, Timestamp};
use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use hmac::{Hmac, KeyInit, Mac};
use serde_json::Value;
use sha2::{Digest, Sha256};
use std::ops::Range;

/// How an endpoint is reached: `base_url` is its whole URL.
pub const KIND: Kind = Kind {
    name: "webhook",
    aliases: &[],
    base_url: None,
    url_variables: &[],
    key_variables: &[],
    build,
};

/// Records and bytes of a request.
const LIMITS: Limits = Limits { records: 100, bytes: 16 * 1024 * 1024 };

/// What the convention writes before a secret in Base64.
const PREFIX: &str = "whsec_";

#[derive(Debug)]
struct Webhook {
    secret: Secret,
    authorization: Option<Secret>,
    lines: bool,
}

fn build(settings: &Settings) -> Result<Box<dyn Sink>, Problem> {
    let mut own = Own::new(settings);
    let lines = own.choice("format", &["json", "ndjson"])? == "ndjson";
    let secret = own.text("secret")?.and_then(|secret| Secret::new(&secret));
    let authorization = settings.api_key.is_some().then(|| own.bearer(&KIND)).transpose()?;
    own.finish()?;
    let secret = secret.ok_or_else(|| {
        problem("secret", "is missing: the receiver needs it to know who is speaking")
    })?;
    if signing_key(&secret).is_none() {
        return Err(problem("secret", "begins with `whsec_`, but what follows is not Base64"));
    }
    Ok(Box::new(Webhook { secret, authorization, lines }))
}

impl Sink for Webhook {
    fn limits(&self) -> Limits {
        LIMITS
    }

    fn requests(&self, records: &[Record]) -> Vec<Request> {
        let whole = |record| serde_json::to_value(record).unwrap_or_default();
        let items: Vec<Value> = records.iter().map(whole).map(|item| cut(&item)).collect();
        let one = |run: Range<usize>| {
            let (records, items) = (records.get(run.clone())?, items.get(run.clone())?);
            Some(self.request(records, items, run.collect()))
        };
        let room = Limits { bytes: LIMITS.bytes - 2, ..LIMITS };
        runs(&items, room).into_iter().filter_map(one).collect()
    }

    fn sign(&self, request: &Request, now: Timestamp) -> Vec<(&'static str, Secret)> {
        let id = request.headers.iter().find(|(name, _)| *name == "webhook-id");
        let (Some((_, id)), Some(key)) = (id, signing_key(&self.secret)) else { return Vec::new() };
        let seconds = now.0.div_euclid(1_000_000).to_string();
        let Ok(mac) = Hmac::<Sha256>::new_from_slice(&key) else { return Vec::new() };
        let digest = [id.expose().as_bytes(), b".", seconds.as_bytes(), b".", &request.body]
            .into_iter()
            .fold(mac, Mac::chain_update)
            .finalize()
            .into_bytes();
        let signature = format!("v1,{}", STANDARD.encode(digest));
        [("webhook-timestamp", seconds), ("webhook-signature", signature)]
            .into_iter()
            .filter_map(|(name, value)| Some((name, Secret::new(&value)?)))
            .collect()
    }
}

impl Webhook {
    fn request(&self, records: &[Record], items: &[Value], places: Vec<usize>) -> Request {
        let kind = if self.lines { "application/x-ndjson" } else { "application/json" };
        let headers = [
            ("webhook-id", Secret::new(&message_id(records))),
            ("authorization", self.authorization.clone()),
            ("content-type", Secret::new(kind)),
        ];
        Request {
            method: http::Method::POST,
            path: String::new(),
            headers: headers.into_iter().filter_map(|(name, value)| Some((name, value?))).collect(),
            body: self.body(items),
            records: places,
        }
    }

    fn body(&self, items: &[Value]) -> Bytes {
        if self.lines {
            return items.iter().map(|item| format!("{item}\n")).collect::<String>().into();
        }
        Value::Array(items.to_vec()).to_string().into()
    }
}

/// A record that is too large alone is cut.
fn cut(item: &Value) -> Value {
    serde_json::from_slice(&fit(item, LIMITS.bytes - 4)).unwrap_or_default()
}

/// The same for the same records, so that a receiver knows a repetition.
fn message_id(records: &[Record]) -> String {
    let mut hash = Sha256::new();
    for record in records {
        hash.update(record.id.as_bytes());
    }
    format!("msg_{}", hex::encode(&hash.finalize()[..16]))
}

/// The bytes of a secret: what follows `whsec_` is Base64, anything else is taken as it stands.
fn signing_key(secret: &Secret) -> Option<Vec<u8>> {
    match secret.expose().strip_prefix(PREFIX) {
        Some(encoded) => STANDARD.decode(encoded).ok().filter(|key| !key.is_empty()),
        None => Some(secret.expose().as_bytes().to_vec()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sink::{fixtures, tests::settings};

    /// The example of the convention's own libraries.
    #[test]
    fn the_signature_is_the_conventions() {
        let secret = Secret::new("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap();
        let sink = Webhook { secret, authorization: None, lines: false };
        let request = Request {
            method: http::Method::POST,
            path: String::new(),
            headers: vec![("webhook-id", Secret::new("msg_p5jXN8AQM9LWM0D4loKWxJek").unwrap())],
            body: r#"{"test": 2432232314}"#.into(),
            records: vec![0],
        };
        let signed = sink.sign(&request, Timestamp(1_614_265_330_000_000));
        assert_eq!(signed[0].1.expose(), "1614265330");
        assert_eq!(signed[1].1.expose(), "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    }

    #[test]
    fn records_are_sent_whole_as_a_list_or_as_lines() {
        let records: Vec<Record> = fixtures::all().into_iter().map(|(_, record)| record).collect();
        for format in ["json", "ndjson"] {
            let mut settings = settings(&KIND);
            settings.own.insert("format".to_owned(), format.into());
            let requests = build(&settings).unwrap().requests(&records);
            assert_eq!(requests.len(), 1);
            let text = std::str::from_utf8(&requests[0].body).unwrap();
            let sent: Vec<Record> = if format == "json" {
                serde_json::from_str(text).unwrap()
            } else {
                text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
            };
            assert_eq!(
                serde_json::to_value(&sent).unwrap(),
                serde_json::to_value(&records).unwrap()
            );
        }
    }

    #[test]
    fn a_secret_is_needed() {
        let mut settings = settings(&KIND);
        settings.own.insert("secret".to_owned(), "whsec_!".into());
        assert_eq!(build(&settings).unwrap_err().key, "secret");
        settings.own.remove("secret");
        assert_eq!(build(&settings).unwrap_err().key, "secret");
    }
}
