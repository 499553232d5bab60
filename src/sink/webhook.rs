//! Any HTTP endpoint: whole records, signed by the Standard Webhooks convention.
//!
//! `webhook-id`, `webhook-timestamp` and `webhook-signature`, the last being `v1,` and the Base64 of
//! HMAC-SHA256 over `{id}.{timestamp}.{body}`. Source: the Standard Webhooks specification, 1.0.0.

use super::{
    Kind, Limits, Problem, Request, Settings, Sink,
    batch::{body, runs},
    json::fit,
    own::{Own, problem},
};
use crate::model::{Record, Secret, Timestamp};
use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};
use std::ops::Range;

/// How an endpoint is reached: `base_url` is its whole URL.
pub const KIND: Kind = Kind {
    name: "webhook",
    aliases: &[],
    base_url: None,
    url_variables: &[],
    tails: &[],
    retired: None,
    key_variables: &[],
    header_variables: &[],
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
        let items: Vec<Bytes> = records.iter().map(item).collect();
        let one = |run: Range<usize>| self.request(&items[run.clone()], run.collect());
        let room = Limits { bytes: LIMITS.bytes - 2, ..LIMITS };
        runs(&items, room).into_iter().map(one).collect()
    }

    fn sign(&self, request: &Request, now: Timestamp) -> Vec<(&'static str, Secret)> {
        let (id, seconds) = (message_id(&request.body), now.0.div_euclid(1_000_000).to_string());
        let Some(signature) = self.signature(&id, &seconds, &request.body) else {
            return Vec::new();
        };
        [("webhook-id", id), ("webhook-timestamp", seconds), ("webhook-signature", signature)]
            .into_iter()
            .filter_map(|(name, value)| Some((name, Secret::new(&value)?)))
            .collect()
    }
}

impl Webhook {
    fn request(&self, items: &[Bytes], records: Vec<usize>) -> Request {
        let (kind, body) = if self.lines {
            ("application/x-ndjson", body("", items, "\n", "\n"))
        } else {
            ("application/json", body("[", items, ",", "]"))
        };
        let headers =
            [("authorization", self.authorization.clone()), ("content-type", Secret::new(kind))];
        Request {
            method: http::Method::POST,
            path: String::new(),
            headers: headers.into_iter().filter_map(|(name, value)| Some((name, value?))).collect(),
            body: body.bytes,
            records,
            parts: body.parts,
        }
    }

    fn signature(&self, id: &str, seconds: &str, body: &[u8]) -> Option<String> {
        let key = signing_key(&self.secret)?;
        let mac = Hmac::<Sha256>::new_from_slice(&key).ok()?;
        let digest = [id.as_bytes(), b".", seconds.as_bytes(), b".", body]
            .into_iter()
            .fold(mac, Mac::chain_update)
            .finalize()
            .into_bytes();
        Some(format!("v1,{}", STANDARD.encode(digest)))
    }
}

/// The record in JSON; one that is too large alone is cut.
fn item(record: &Record) -> Bytes {
    match serde_json::to_vec(record) {
        Ok(whole) if whole.len() <= LIMITS.bytes - 4 => whole.into(),
        _ => fit(&serde_json::to_value(record).unwrap_or_default(), LIMITS.bytes - 4),
    }
}

/// The same for the same records, so that a receiver knows a repetition.
fn message_id(body: &[u8]) -> String {
    format!("msg_{}", hex::encode(&Sha256::digest(body)[..16]))
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
        let id = "msg_p5jXN8AQM9LWM0D4loKWxJek";
        let signature = sink.signature(id, "1614265330", br#"{"test": 2432232314}"#);
        assert_eq!(signature.unwrap(), "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
        let request = sink.request(&[Bytes::from_static(b"{}")], vec![0]);
        let signed = sink.sign(&request, Timestamp(1_614_265_330_000_000));
        let names: Vec<&str> = signed.iter().map(|(name, _)| *name).collect();
        assert_eq!(names, ["webhook-id", "webhook-timestamp", "webhook-signature"]);
        assert_eq!(signed[1].1.expose(), "1614265330");
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
