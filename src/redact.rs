//! Masks secrets and personal data in bodies before anything is stored.
//!
//! A match is replaced by `[redacted:<rule>:<8 hex>]`, where the digits are a keyed hash: equal
//! secrets look alike, and nothing of a secret can be told from its mark. A mark never breaks JSON.

use crate::config::{Redaction, RedactionPreset};
use hmac::{Hmac, KeyInit, Mac};
use regex::bytes::{Regex, RegexBuilder, RegexSet, RegexSetBuilder};
use sha2::Sha256;

/// Largest compiled set, in bytes.
const COMPILED_MAX: usize = 32 << 20;

/// Token shapes by their issuers' documented prefixes, anchored at a word boundary. The first group,
/// where there is one, is what is masked.
const SECRETS: &[(&str, &str)] = &[
    ("anthropic-key", r"\bsk-ant-[A-Za-z0-9_-]{16,}"),
    ("openrouter-key", r"\bsk-or-[A-Za-z0-9_-]{16,}"),
    ("openai-key", r"\bsk-(?:proj-|svcacct-|admin-|None-)?[A-Za-z0-9_-]{20,}"),
    ("aws-key-id", r"\b(?:AKIA|ASIA|AROA|AIDA)[A-Z0-9]{16}\b"),
    (
        "aws-secret-key",
        r#"(?i:aws_secret_access_key|secretaccesskey)[\\"'\s:=]{1,8}([A-Za-z0-9/+]{40})"#,
    ),
    ("google-key", r"\bAIza[A-Za-z0-9_-]{35}"),
    ("google-oauth", r"\bya29\.[A-Za-z0-9_-]{20,}"),
    ("github-token", r"\b(?:ghp|gho|ghu|ghs|ghr)_[A-Za-z0-9]{36,}"),
    ("github-token", r"\bgithub_pat_[A-Za-z0-9_]{22,}"),
    ("gitlab-token", r"\bglpat-[A-Za-z0-9_-]{20,}"),
    ("huggingface-token", r"\bhf_[A-Za-z0-9]{30,}"),
    ("slack-token", r"\bxox[abeoprs]-[A-Za-z0-9-]{10,}"),
    ("slack-webhook", r"\bhooks\.slack\.com/services/[A-Za-z0-9/]{20,}"),
    ("stripe-key", r"\b(?:sk|rk|whsec)_(?:live_|test_)?[A-Za-z0-9]{24,}"),
    ("groq-key", r"\bgsk_[A-Za-z0-9]{20,}"),
    ("xai-key", r"\bxai-[A-Za-z0-9]{20,}"),
    ("perplexity-key", r"\bpplx-[A-Za-z0-9]{20,}"),
    ("fireworks-key", r"\bfw_[A-Za-z0-9]{20,}"),
    ("replicate-token", r"\br8_[A-Za-z0-9]{30,}"),
    ("nvidia-key", r"\bnvapi-[A-Za-z0-9_-]{30,}"),
    ("npm-token", r"\bnpm_[A-Za-z0-9]{30,}"),
    ("pypi-token", r"\bpypi-[A-Za-z0-9_-]{50,}"),
    ("sendgrid-key", r"\bSG\.[A-Za-z0-9_-]{16,}\.[A-Za-z0-9_-]{16,}"),
    ("twilio-key", r"\b(?:SK|AC)[0-9a-f]{32}\b"),
    ("mailgun-key", r"\bkey-[0-9a-f]{32}\b"),
    ("telegram-token", r"\b[0-9]{8,10}:AA[A-Za-z0-9_-]{33}"),
    ("discord-webhook", r"\bdiscord(?:app)?\.com/api/webhooks/[0-9]+/[A-Za-z0-9_-]{40,}"),
    ("digitalocean-token", r"\bdo[opr]_v1_[0-9a-f]{64}\b"),
    ("databricks-token", r"\bdapi[0-9a-f]{32}\b"),
    ("doppler-token", r"\bdp\.pt\.[A-Za-z0-9]{40,}"),
    ("linear-key", r"\blin_api_[A-Za-z0-9]{32,}"),
    ("shopify-token", r"\bshp(?:at|ca|pa|ss)_[0-9a-fA-F]{32}\b"),
    ("azure-storage-key", r"\bAccountKey=([A-Za-z0-9+/]{60,}={0,2})"),
    ("jwt", r"\beyJ[A-Za-z0-9_-]{10,}\.eyJ[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]{10,}"),
    (
        "private-key",
        r"-----BEGIN (?:[A-Z0-9]+ )*PRIVATE KEY-----[A-Za-z0-9+/=\s\\nr:,.-]{20,}?-----END (?:[A-Z0-9]+ )*PRIVATE KEY-----",
    ),
    ("bearer-token", r"\b[Bb]earer ([A-Za-z0-9_.~+/-]{20,}=*)"),
    ("url-password", r"\b[a-z][a-z0-9+.-]{1,20}://[^\s/:@]{1,64}:([^\s/@]{3,128})@"),
];

const EMAILS: &[(&str, &str)] = &[(
    "email",
    r"\b[A-Za-z0-9][A-Za-z0-9._%+-]{0,63}@[A-Za-z0-9-]{1,63}(?:\.[A-Za-z0-9-]{1,63})*\.[A-Za-z]{2,24}\b",
)];

const CARDS: &[(&str, &str)] = &[(CARD, r"\b[0-9](?:[ -]?[0-9]){12,18}\b")];
/// Name of the rule whose matches must also add up.
const CARD: &str = "card";

/// A compiled set of patterns.
#[derive(Debug)]
pub struct Redactor {
    /// Tells in one pass which rules match at all.
    any: RegexSet,
    rules: Vec<(String, Regex)>,
    key: [u8; 16],
}

impl Default for Redactor {
    fn default() -> Self {
        Self { any: RegexSet::empty(), rules: Vec::new(), key: uuid::Uuid::new_v4().into_bytes() }
    }
}

impl Redactor {
    /// Compiles `rules`.
    ///
    /// # Errors
    /// The message of a pattern that does not compile.
    pub fn new(rules: &[Redaction]) -> Result<Self, String> {
        let mut patterns: Vec<(String, String)> = Vec::new();
        for rule in rules {
            let preset = match rule {
                Redaction::Preset(RedactionPreset::Secrets) => SECRETS,
                Redaction::Preset(RedactionPreset::Emails) => EMAILS,
                Redaction::Preset(RedactionPreset::Cards) => CARDS,
                Redaction::Custom { name, regex } => {
                    patterns.push((plain(name), regex.clone()));
                    continue;
                }
            };
            patterns.extend(preset.iter().map(|(n, p)| ((*n).to_owned(), (*p).to_owned())));
        }
        let problem = |error: regex::Error| format!("capture.redact: {error}");
        let rules = patterns
            .iter()
            .map(|(name, pattern)| {
                let regex = RegexBuilder::new(pattern).unicode(false).build().map_err(problem)?;
                Ok((name.clone(), regex))
            })
            .collect::<Result<_, String>>()?;
        let any = RegexSetBuilder::new(patterns.iter().map(|(_, pattern)| pattern))
            .unicode(false)
            .size_limit(COMPILED_MAX)
            .dfa_size_limit(COMPILED_MAX)
            .build()
            .map_err(problem)?;
        Ok(Self { any, rules, ..Self::default() })
    }

    /// `body` with every match masked, and the names of the rules that matched; `None` when none did.
    pub fn redact(&self, body: &[u8]) -> Option<(Vec<u8>, Vec<String>)> {
        let matched = self.any.matches(body);
        if !matched.matched_any() {
            return None;
        }
        let (mut masked, mut names) = (None::<Vec<u8>>, Vec::new());
        for (name, regex) in matched.iter().filter_map(|at| self.rules.get(at)) {
            let text = masked.as_deref().unwrap_or(body);
            let Some(next) = self.mask(text, name, regex) else { continue };
            masked = Some(next);
            if !names.contains(name) {
                names.push(name.clone());
            }
        }
        masked.map(|masked| (masked, names))
    }

    fn mask(&self, text: &[u8], name: &str, regex: &Regex) -> Option<Vec<u8>> {
        let mut out = Vec::new();
        let mut at = 0;
        for captures in regex.captures_iter(text) {
            let Some(found) = captures.get(1).or_else(|| captures.get(0)) else { continue };
            if name == CARD && !adds_up(found.as_bytes()) {
                continue;
            }
            out.extend_from_slice(text.get(at..found.start())?);
            out.extend_from_slice(self.mark(name, found.as_bytes()).as_bytes());
            at = found.end();
        }
        if at == 0 {
            return None;
        }
        out.extend_from_slice(text.get(at..)?);
        Some(out)
    }

    fn mark(&self, name: &str, secret: &[u8]) -> String {
        let digest = <Hmac<Sha256> as KeyInit>::new_from_slice(&self.key).map(|mut mac| {
            mac.update(secret);
            mac.finalize().into_bytes()
        });
        let digits = digest.map(|digest| hex::encode(digest.get(..4).unwrap_or_default()));
        format!("[redacted:{name}:{}]", digits.unwrap_or_default())
    }
}

/// A rule's name as it may stand inside JSON.
fn plain(name: &str) -> String {
    name.chars().filter(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_')).take(40).collect()
}

/// The check digit of ISO/IEC 7812 (Luhn).
fn adds_up(number: &[u8]) -> bool {
    let digits = number.iter().rev().filter(|byte| byte.is_ascii_digit()).map(|byte| byte - b'0');
    let sum: u32 = digits
        .enumerate()
        .map(|(at, digit)| match (at % 2, digit) {
            (0, digit) => u32::from(digit),
            (_, digit) => u32::from(digit) * 2 - if digit > 4 { 9 } else { 0 },
        })
        .sum();
    sum > 0 && sum.is_multiple_of(10)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn secrets() -> Redactor {
        Redactor::new(&[Redaction::Preset(RedactionPreset::Secrets)]).unwrap()
    }

    fn redact(redactor: &Redactor, text: &str) -> Option<String> {
        redactor.redact(text.as_bytes()).map(|(masked, _)| String::from_utf8(masked).unwrap())
    }

    #[test]
    fn each_shape_is_masked() {
        let a = |len: usize| "aB3".repeat(len).chars().take(len).collect::<String>();
        let hex = |len: usize| "0a9f".repeat(len).chars().take(len).collect::<String>();
        for (name, secret) in [
            ("openai-key", format!("sk-{}", a(48))),
            ("openai-key", format!("sk-proj-{}", a(64))),
            ("anthropic-key", format!("sk-ant-api03-{}", a(40))),
            ("openrouter-key", format!("sk-or-v1-{}", hex(64))),
            ("aws-key-id", "AKIAIOSFODNN7EXAMPLE".to_owned()),
            ("google-key", format!("AIza{}", a(35))),
            ("github-token", format!("ghp_{}", a(36))),
            ("gitlab-token", format!("glpat-{}", a(20))),
            ("huggingface-token", format!("hf_{}", a(34))),
            ("slack-token", format!("xoxb-{}", a(24))),
            ("stripe-key", format!("sk_live_{}", a(24))),
            ("groq-key", format!("gsk_{}", a(52))),
            ("xai-key", format!("xai-{}", a(60))),
            ("npm-token", format!("npm_{}", a(36))),
            ("sendgrid-key", format!("SG.{}.{}", a(22), a(43))),
            ("databricks-token", format!("dapi{}", hex(32))),
            ("jwt", format!("eyJ{}.eyJ{}.{}", a(20), a(30), a(40))),
        ] {
            let text = format!("{{\"content\":\"my key is {secret}, keep it\"}}");
            let masked = redact(&secrets(), &text).unwrap_or_else(|| panic!("{name}"));
            assert!(masked.contains(&format!("[redacted:{name}:")), "{name}: {masked}");
            assert!(!masked.contains(&secret));
            serde_json::from_str::<serde_json::Value>(&masked).unwrap();
        }
        let pem =
            format!("-----BEGIN RSA PRIVATE KEY-----\\n{}\\n-----END RSA PRIVATE KEY-----", a(64));
        assert!(redact(&secrets(), &pem).unwrap().starts_with("[redacted:private-key:"));
        let bearer = redact(&secrets(), &format!("authorization: Bearer {}", a(30))).unwrap();
        assert!(bearer.starts_with("authorization: Bearer [redacted:bearer-token:"));
    }

    #[test]
    fn ordinary_text_stays() {
        for text in [
            "The task-force sk-ating rink opens at 12:30, see https://example.com/a?b=c",
            "fn main() { let risk_level = \"high\"; } // sk-short",
            "Bearer of good news; the eyJ is not a token",
            "{\"id\":\"chatcmpl-AfhuMhGf8Genpm2uKosEpBtvtQgco\",\"system_fingerprint\":\"fp_0ba0d124f1\"}",
        ] {
            assert_eq!(redact(&secrets(), text), None, "{text}");
        }
    }

    #[test]
    fn presets_and_patterns_of_ones_own() {
        let redactor = Redactor::new(&[
            Redaction::Preset(RedactionPreset::Emails),
            Redaction::Preset(RedactionPreset::Cards),
            Redaction::Custom { name: "ticket \"x\"".into(), regex: "TCK-[0-9]+".into() },
        ])
        .unwrap();
        let text = "write to ann.b@example.co.uk about TCK-42, card 4111 1111 1111 1111 not 4111 1111 1111 1112";
        let (masked, names) = redactor.redact(text.as_bytes()).unwrap();
        let masked = String::from_utf8(masked).unwrap();
        assert_eq!(names, ["email", "card", "ticketx"]);
        assert!(masked.contains("not 4111 1111 1111 1112") && !masked.contains("example.co"));
        assert!(
            Redactor::new(&[Redaction::Custom { name: "x".into(), regex: "(".into() }]).is_err()
        );
    }

    #[test]
    fn equal_secrets_get_equal_marks() {
        let secret = format!("sk-{}", "x7".repeat(24));
        let redactor = secrets();
        assert_eq!(redact(&redactor, &secret), redact(&redactor, &secret));
        assert_ne!(redact(&secrets(), &secret), redact(&redactor, &secret));
    }

    proptest! {
        #[test]
        fn what_was_masked_matches_no_more(text in "(sk-[a-zA-Z0-9]{22,30}|ghp_[a-z0-9]{36}| |\"|[a-z ]{1,9}){0,12}") {
            let redactor = secrets();
            if let Some(masked) = redact(&redactor, &text) {
                prop_assert!(redact(&redactor, &masked).is_none(), "{masked}");
            }
        }
    }
}
