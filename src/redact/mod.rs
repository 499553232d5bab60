//! Masks secrets and personal data in bodies before anything is stored.
//!
//! A match is replaced by `[redacted:<rule>:<8 hex>]`, where the digits are a keyed hash: equal
//! secrets look alike, and nothing of a secret can be told from its mark. A mark does not break the
//! JSON it stands in.

mod cards;
mod patterns;
mod place;

use crate::config::{Redaction, RedactionPreset};
use hmac::{Hmac, KeyInit, Mac};
use patterns::{CARDS, EMAILS, SECRETS, Shape, WORD_START};
use place::Place;
use regex::bytes::{Captures, Regex, RegexBuilder, RegexSet, RegexSetBuilder};
use sha2::Sha256;
use std::ops::Range;

/// Largest compiled set, in bytes.
const COMPILED_MAX: usize = 32 << 20;

/// A compiled set of patterns.
#[derive(Debug)]
pub struct Redactor {
    /// Tells in one pass which rules match at all.
    any: RegexSet,
    rules: Vec<Rule>,
    key: [u8; 16],
}

#[derive(Debug)]
struct Rule {
    name: String,
    regex: Regex,
    check: Check,
}

/// What a match must also be, beyond what a regular expression can say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Check {
    Any,
    /// Something that is not plainly words with dashes between them, such as `YOUR_API_KEY`.
    NotWords,
    /// A payment card number.
    Card,
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
        let mut patterns: Vec<(String, String, Check)> = Vec::new();
        for rule in rules {
            let preset = match rule {
                Redaction::Preset(RedactionPreset::Secrets) => SECRETS,
                Redaction::Preset(RedactionPreset::Emails) => EMAILS,
                Redaction::Preset(RedactionPreset::Cards) => CARDS,
                Redaction::Custom { name, regex } => {
                    patterns.push((plain(name), regex.clone(), Check::Any));
                    continue;
                }
            };
            patterns.extend(preset.iter().map(|s| (s.name.to_owned(), pattern(s), s.check)));
        }
        let problem = |error: regex::Error| format!("capture.redact: {error}");
        let any = RegexSetBuilder::new(patterns.iter().map(|(_, pattern, _)| pattern))
            .size_limit(COMPILED_MAX)
            .dfa_size_limit(COMPILED_MAX)
            .build()
            .map_err(problem)?;
        let rules = patterns
            .into_iter()
            .map(|(name, pattern, check)| {
                let regex = RegexBuilder::new(&pattern).size_limit(COMPILED_MAX).build();
                Ok(Rule { name, regex: regex.map_err(problem)?, check })
            })
            .collect::<Result<_, String>>()?;
        Ok(Self { any, rules, ..Self::default() })
    }

    /// `body` with every match masked, and the names of the rules that matched; `None` when none did.
    ///
    /// A mark stands inside the string it belongs to, or is a string where a bare number stood. Only
    /// a pattern of one's own that reaches across the quotes of JSON can break it.
    pub fn redact(&self, body: &[u8]) -> Option<(Vec<u8>, Vec<String>)> {
        let matched = self.any.matches(body);
        if !matched.matched_any() {
            return None;
        }
        let (mut masked, mut names) = (None::<Vec<u8>>, Vec::new());
        for rule in matched.iter().filter_map(|at| self.rules.get(at)) {
            let text = masked.as_deref().unwrap_or(body);
            let Some(next) = self.mask(text, rule) else { continue };
            masked = Some(next);
            if !names.contains(&rule.name) {
                names.push(rule.name.clone());
            }
        }
        masked.map(|masked| (masked, names))
    }

    fn mask(&self, text: &[u8], rule: &Rule) -> Option<Vec<u8>> {
        let (mut out, mut place) = (Vec::new(), Place::new(text));
        let (mut kept_from, mut from) = (0, 0);
        while let Some(captures) =
            (from <= text.len()).then(|| rule.regex.captures_at(text, from)).flatten()
        {
            let (found, resume) = rule.found(text, &captures);
            from = resume;
            let Some(fitted) = found.and_then(|found| place.fit(found)) else { continue };
            let quote = if fitted.is_value { "\"" } else { "" };
            let mark = self.mark(&rule.name, text.get(fitted.range.clone())?);
            out.extend_from_slice(text.get(kept_from..fitted.range.start)?);
            out.extend_from_slice(format!("{quote}{mark}{quote}").as_bytes());
            kept_from = fitted.range.end;
            from = from.max(kept_from);
        }
        if kept_from == 0 {
            return None;
        }
        out.extend_from_slice(text.get(kept_from..)?);
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

impl Rule {
    /// What is to be masked of a match, and where to look for the next one.
    fn found(&self, text: &[u8], captures: &Captures<'_>) -> (Option<Range<usize>>, usize) {
        let Some(whole) = captures.get(0) else { return (None, text.len() + 1) };
        let part = captures.get(1).unwrap_or(whole);
        let start = part.start();
        let found = match self.check {
            Check::Any => part.range(),
            Check::NotWords if is_words(part.as_bytes()) => start..start,
            Check::NotWords => part.range(),
            Check::Card => {
                let rest = text.get(start..).unwrap_or_default();
                let len = cards::number_len(rest);
                // Where it is none, one may start in the next group of digits.
                let resume = start + len.unwrap_or_else(|| cards::group_len(rest));
                return (len.map(|len| start..start + len), resume);
            }
        };
        ((!found.is_empty()).then_some(found), whole.end().max(whole.start() + 1))
    }
}

fn pattern(shape: &Shape) -> String {
    let Shape { regex, is_word, .. } = shape;
    // ASCII only: bodies are bytes, and token shapes are spelt in ASCII.
    if *is_word { format!("(?-u){WORD_START}({regex})") } else { format!("(?-u){regex}") }
}

/// A rule's name as it may stand inside JSON.
fn plain(name: &str) -> String {
    name.chars().filter(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_')).take(40).collect()
}

/// Words of one case with dashes, dots or underscores between them: nobody's secret.
fn is_words(text: &[u8]) -> bool {
    let text = text.strip_prefix(b"sk-").unwrap_or(text);
    let has = |class: fn(&u8) -> bool| text.iter().any(class);
    let mixed = has(u8::is_ascii_lowercase) && has(u8::is_ascii_uppercase);
    has(u8::is_ascii_punctuation) && !has(u8::is_ascii_digit) && !mixed
}

#[cfg(test)]
mod tests;
