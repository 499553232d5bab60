//! calltap's own keys, and fingerprints of everybody else's.

use super::{
    ProxyError,
    limits::{KeyLimits, Limiter},
    upstream::Upstream,
};
use crate::{
    config::{Config, Key},
    model::{Secret, Tags},
};
use hmac::{Hmac, KeyInit, Mac};
use http::{HeaderMap, HeaderName, HeaderValue, header};
use sha2::{Digest, Sha256};
use std::{
    fs::{self, OpenOptions},
    io::{self, Write},
    path::Path,
    sync::Arc,
};
use subtle::ConstantTimeEq;

/// Carriers of a client's credential, in order of precedence.
const CARRIERS: [HeaderName; 3] = [
    header::AUTHORIZATION,
    HeaderName::from_static("api-key"),
    HeaderName::from_static("x-api-key"),
];

/// The keys that calltap gives out.
#[derive(Debug, Default)]
pub struct Keys {
    entries: Vec<Entry>,
}

#[derive(Debug)]
struct Entry {
    name: String,
    sha256: [u8; 32],
    upstream_key: Option<Secret>,
    defaults: Option<Arc<Tags>>,
    /// Upstreams that it may call, where not all.
    upstreams: Option<Vec<String>>,
    limiter: Option<Arc<Limiter>>,
}

/// Who calls, after the doors.
#[derive(Clone, Debug, Default)]
pub struct Caller {
    /// `client.key` of the record.
    pub key: Option<String>,
    /// Metadata for calls without it.
    pub defaults: Option<Arc<Tags>>,
    /// Limits of the key, where it has some.
    pub limiter: Option<Arc<Limiter>>,
}

impl Keys {
    /// Reads `auth.keys`; what they use is counted in `limits`.
    ///
    /// # Errors
    /// When a hash is not 64 hex digits or a default is no metadata key.
    pub fn new(config: &Config, limits: &KeyLimits) -> Result<Self, String> {
        let entries = config.auth.keys.iter().map(|key| entry(key, limits));
        let entries = entries.collect::<Result<_, _>>()?;
        Ok(Self { entries })
    }

    /// Whether every credential passes through untouched.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Checks the caller's key and puts the upstream's credential in its place. `own` is the value
    /// of `x-calltap-key`.
    ///
    /// # Errors
    /// When keys are in use and the request carries none of them, or one that is not for `to`.
    pub fn admit(
        &self,
        headers: &mut HeaderMap,
        own: Option<&str>,
        to: &Upstream,
        fingerprints: &Fingerprints,
    ) -> Result<Caller, ProxyError> {
        if self.entries.is_empty() {
            let key = credential(headers).map(|(_, value)| fingerprints.of(value));
            return Ok(Caller { key, ..Caller::default() });
        }
        let (carrier, presented) = match own {
            Some(own) => (None, own.to_owned()),
            None => match credential(headers) {
                Some((name, value)) => (Some(name), value.to_owned()),
                None => return Err(refused("the request carries no key")),
            },
        };
        let entry =
            self.find(presented.as_bytes()).ok_or_else(|| refused("the key is not known here"))?;
        if let Some(upstreams) = &entry.upstreams
            && !upstreams.iter().any(|name| **name == *to.name)
        {
            return Err(ProxyError::forbidden(format!(
                "the key `{}` may call {} only, not `{}`",
                entry.name,
                upstreams.join(", "),
                to.name
            )));
        }
        if let Some(upstream_key) = &entry.upstream_key {
            if !to.is_trusted {
                return Err(ProxyError::forbidden(format!(
                    "the credential of this key goes to upstreams that are configured only; \
                     add [upstreams.{}] to allow it",
                    to.name
                )));
            }
            for name in &CARRIERS {
                headers.remove(name);
            }
            insert_credential(headers, upstream_key, &*to.provider == "azure");
        } else if carrier.is_some() {
            // calltap's own key never goes upstream; what else the client sent does.
            for name in &CARRIERS {
                if headers.get(name).is_some_and(|value| bare(value) == Some(presented.as_str())) {
                    headers.remove(name);
                }
            }
        }
        Ok(Caller {
            key: Some(entry.name.clone()),
            defaults: entry.defaults.clone(),
            limiter: entry.limiter.clone(),
        })
    }

    /// By hash, compared in constant time over all entries.
    fn find(&self, presented: &[u8]) -> Option<&Entry> {
        let hash: [u8; 32] = Sha256::digest(presented).into();
        let mut found = None;
        for entry in &self.entries {
            if bool::from(entry.sha256.ct_eq(&hash)) {
                found = Some(entry);
            }
        }
        found
    }
}

fn refused(why: &str) -> ProxyError {
    ProxyError::invalid_key(format!(
        "{why}; send a calltap key in x-calltap-key or as bearer token"
    ))
}

fn entry(key: &Key, limits: &KeyLimits) -> Result<Entry, String> {
    let mut sha256 = [0; 32];
    hex::decode_to_slice(&key.sha256, &mut sha256)
        .map_err(|_| format!("auth.keys: `{}` needs a sha256 of 64 hex digits", key.name))?;
    let mut labels = super::metadata::Labels::default();
    for (name, value) in &key.defaults {
        if let Err(why) = labels.set(name, value) {
            return Err(format!("auth.keys: default `{name}` of `{}`: {why}", key.name));
        }
    }
    Ok(Entry {
        name: key.name.clone(),
        sha256,
        upstream_key: key.upstream_key.clone(),
        defaults: (!key.defaults.is_empty()).then(|| Arc::new(labels.tags)),
        upstreams: key.upstreams.clone(),
        limiter: limits.of(key),
    })
}

/// The first credential that the request carries, without its scheme.
fn credential(headers: &HeaderMap) -> Option<(HeaderName, &str)> {
    CARRIERS.iter().find_map(|name| Some((name.clone(), bare(headers.get(name)?)?)))
}

fn bare(value: &HeaderValue) -> Option<&str> {
    let value = value.to_str().ok()?.trim();
    let key = match value.split_once(' ') {
        Some((scheme, rest)) if scheme.eq_ignore_ascii_case("bearer") => rest.trim(),
        Some(_) => return None,
        None => value,
    };
    (!key.is_empty()).then_some(key)
}

fn insert_credential(headers: &mut HeaderMap, key: &Secret, azure: bool) {
    let (name, value) = if azure {
        (HeaderName::from_static("api-key"), key.expose().to_owned())
    } else {
        (header::AUTHORIZATION, format!("Bearer {}", key.expose()))
    };
    if let Ok(mut value) = HeaderValue::from_str(&value) {
        value.set_sensitive(true);
        headers.insert(name, value);
    }
}

/// Keyed hashes of credentials: equal keys look alike, and nothing of a key can be told from one.
pub struct Fingerprints(Hmac<Sha256>);

impl std::fmt::Debug for Fingerprints {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Fingerprints(…)")
    }
}

impl Fingerprints {
    /// Reads the hash key of this data directory, or makes one.
    ///
    /// # Errors
    /// When the file cannot be read or written.
    pub fn open(dir: &Path) -> io::Result<Self> {
        let path = dir.join("fingerprint.key");
        let key = match fs::read(&path) {
            Ok(key) if key.len() == 32 => key,
            Ok(_) => return Err(io::Error::other(format!("{} is damaged", path.display()))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let mut key = uuid::Uuid::new_v4().into_bytes().to_vec();
                key.extend_from_slice(uuid::Uuid::new_v4().as_bytes());
                private_file(&path)?.write_all(&key)?;
                key
            }
            Err(error) => return Err(error),
        };
        Hmac::new_from_slice(&key).map(Self).map_err(io::Error::other)
    }

    /// `fp_` and eight hex digits.
    pub fn of(&self, credential: &str) -> String {
        let mut mac = self.0.clone();
        mac.update(credential.as_bytes());
        let digest = mac.finalize().into_bytes();
        format!("fp_{}", hex::encode(digest.get(..4).unwrap_or_default()))
    }
}

fn private_file(path: &Path) -> io::Result<fs::File> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proxy::Upstreams;

    fn keys(upstream_key: Option<&str>) -> Keys {
        let mut config = Config::default();
        config.auth.keys.push(Key {
            name: "ci".into(),
            sha256: hex::encode(Sha256::digest(b"ct-secret")),
            upstream_key: upstream_key.and_then(Secret::new),
            defaults: [("environment".to_owned(), "ci".to_owned())].into(),
            upstreams: upstream_key.is_none().then(|| vec!["openai".into(), "ollama".into()]),
            max_parallel_requests: None,
            requests_per_minute: None,
            budget_per_day: None,
        });
        Keys::new(&config, &KeyLimits::default()).unwrap()
    }

    fn admit_to(
        upstream: &str,
        keys: &Keys,
        headers: &mut HeaderMap,
        own: Option<&str>,
    ) -> Result<Caller, ProxyError> {
        let dir = tempfile::tempdir().unwrap();
        let upstreams = Upstreams::new(&Config::default()).unwrap();
        let to = upstreams.named(upstream).unwrap();
        keys.admit(headers, own, to, &Fingerprints::open(dir.path()).unwrap())
    }

    fn admit(
        keys: &Keys,
        headers: &mut HeaderMap,
        own: Option<&str>,
    ) -> Result<Caller, ProxyError> {
        admit_to("openai", keys, headers, own)
    }

    #[test]
    fn a_credential_goes_only_where_the_configuration_says() {
        let mut headers = with("authorization", "Bearer ct-secret");
        let refused = admit_to("ollama", &keys(Some("sk-up")), &mut headers, None).unwrap_err();
        assert_eq!(refused.status, 403);
        assert!(refused.message.contains("[upstreams.ollama]"), "{}", refused.message);
        // The client's own credential is its own to give.
        let mut headers = with("authorization", "Bearer sk-client");
        admit_to("ollama", &keys(None), &mut headers, Some("ct-secret")).unwrap();
        assert_eq!(headers.get("authorization").unwrap(), "Bearer sk-client");
    }

    #[test]
    fn a_key_opens_its_upstreams_only() {
        let mut headers = with("authorization", "Bearer ct-secret");
        admit_to("openai", &keys(None), &mut headers.clone(), None).unwrap();
        let refused = admit_to("groq", &keys(None), &mut headers, None).unwrap_err();
        assert_eq!((refused.status.as_u16(), refused.code), (403, "calltap_forbidden"));
        assert_eq!(refused.message, "the key `ci` may call openai, ollama only, not `groq`");
        // A wrong key does not learn of them.
        let mut headers = with("authorization", "Bearer ct-secre");
        let refused = admit_to("groq", &keys(None), &mut headers, None).unwrap_err();
        assert_eq!(refused.code, "calltap_invalid_key");
    }

    fn with(name: &'static str, value: &str) -> HeaderMap {
        HeaderMap::from_iter([(HeaderName::from_static(name), value.parse().unwrap())])
    }

    #[test]
    fn own_key_is_replaced_by_the_upstreams() {
        for (name, value) in [("authorization", "Bearer ct-secret"), ("api-key", "ct-secret")] {
            let mut headers = with(name, value);
            let caller = admit(&keys(Some("sk-up")), &mut headers, None).unwrap();
            assert_eq!(caller.key.as_deref(), Some("ci"));
            assert_eq!(caller.defaults.unwrap().environment.as_deref(), Some("ci"));
            assert_eq!(headers.get("authorization").unwrap(), "Bearer sk-up");
            assert_eq!(headers.len(), 1);
        }
    }

    #[test]
    fn own_key_never_goes_upstream_and_the_clients_does() {
        let mut headers = with("authorization", "Bearer ct-secret");
        admit(&keys(None), &mut headers, None).unwrap();
        assert!(headers.is_empty());
        let mut headers = with("authorization", "Bearer sk-client");
        admit(&keys(None), &mut headers, Some("ct-secret")).unwrap();
        assert_eq!(headers.get("authorization").unwrap(), "Bearer sk-client");
    }

    #[test]
    fn wrong_and_missing_keys_are_refused() {
        assert!(admit(&keys(None), &mut HeaderMap::new(), None).is_err());
        assert!(admit(&keys(None), &mut with("authorization", "Bearer ct-secre"), None).is_err());
        assert!(admit(&keys(None), &mut with("authorization", "Basic ct-secret"), None).is_err());
    }

    #[test]
    fn fingerprints_are_stable_and_keyed() {
        let dir = tempfile::tempdir().unwrap();
        let one = Fingerprints::open(dir.path()).unwrap().of("sk-abc");
        assert_eq!(Fingerprints::open(dir.path()).unwrap().of("sk-abc"), one);
        assert_eq!(one.len(), 11);
        let other = tempfile::tempdir().unwrap();
        assert_ne!(Fingerprints::open(other.path()).unwrap().of("sk-abc"), one);
    }
}
