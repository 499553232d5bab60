//! Masks secrets and personal data in bodies before anything is stored.
//!
//! A match is replaced by `[redacted:<rule>:<8 hex>]`, where the digits are a keyed hash: equal
//! secrets look alike, and nothing of a secret can be told from its mark. A mark does not break the
//! JSON it stands in.

mod cards;
mod patterns;
mod place;

use crate::config::{Redaction, RedactionPreset};
use aho_corasick::AhoCorasick;
use hmac::{Hmac, KeyInit, Mac};
use patterns::{CARDS, EMAILS, SECRETS, Shape, WORD_START};
use place::Place;
use regex::bytes::{Captures, Regex, RegexBuilder};
use sha2::Sha256;
use std::ops::Range;

/// Largest compiled pattern, in bytes.
const COMPILED_MAX: usize = 32 << 20;

/// A compiled set of patterns.
#[derive(Debug)]
pub struct Redactor {
    /// Tells in one pass which rules may match at all.
    hints: Option<AhoCorasick>,
    /// The rule that each hint is of.
    hinted: Vec<usize>,
    rules: Vec<Rule>,
    key: [u8; 16],
}

#[derive(Debug)]
struct Rule {
    name: String,
    regex: Regex,
    check: Check,
    /// A text without its hints cannot match.
    has_hints: bool,
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
        let key = uuid::Uuid::new_v4().into_bytes();
        Self { hints: None, hinted: Vec::new(), rules: Vec::new(), key }
    }
}

impl Redactor {
    /// Compiles `rules`.
    ///
    /// # Errors
    /// The message of a pattern that does not compile.
    pub fn new(rules: &[Redaction]) -> Result<Self, String> {
        let mut redactor = Self::default();
        let mut hints = Vec::new();
        for rule in rules {
            let shapes = match rule {
                Redaction::Preset(RedactionPreset::Secrets) => SECRETS,
                Redaction::Preset(RedactionPreset::Emails) => EMAILS,
                Redaction::Preset(RedactionPreset::Cards) => CARDS,
                Redaction::Custom { name, regex } => {
                    redactor.rules.push(Rule::new(plain(name), regex, Check::Any, false)?);
                    continue;
                }
            };
            for shape in shapes {
                let own = shape.hints.split('|').filter(|hint| !hint.is_empty());
                hints.extend(own.map(|hint| (hint, redactor.rules.len())));
                let has_hints = !shape.hints.is_empty();
                let name = shape.name.to_owned();
                redactor.rules.push(Rule::new(name, &pattern(shape), shape.check, has_hints)?);
            }
        }
        let searcher = AhoCorasick::builder()
            .ascii_case_insensitive(true)
            .build(hints.iter().map(|(hint, _)| hint))
            .map_err(|error| format!("capture.redact: {error}"))?;
        redactor.hints = Some(searcher);
        redactor.hinted = hints.into_iter().map(|(_, rule)| rule).collect();
        Ok(redactor)
    }

    /// `body` with every match masked, and the names of the rules that matched; `None` when none did.
    ///
    /// A mark stands inside the string it belongs to, or is a string where a bare number stood. Only
    /// a pattern of one's own that reaches across the quotes of JSON can break it.
    pub fn redact(&self, body: &[u8]) -> Option<(Vec<u8>, Vec<String>)> {
        let mut due: Vec<bool> = self.rules.iter().map(|rule| !rule.has_hints).collect();
        for hint in self.hints.iter().flat_map(|hints| hints.find_overlapping_iter(body)) {
            let rule = self.hinted.get(hint.pattern().as_usize());
            if let Some(due) = rule.and_then(|rule| due.get_mut(*rule)) {
                *due = true;
            }
        }
        let (mut masked, mut names) = (None::<Vec<u8>>, Vec::new());
        for (rule, _) in self.rules.iter().zip(due).filter(|(_, due)| *due) {
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
    fn new(name: String, regex: &str, check: Check, has_hints: bool) -> Result<Self, String> {
        let regex = RegexBuilder::new(regex).size_limit(COMPILED_MAX).build();
        let regex = regex.map_err(|error| format!("capture.redact: {error}"))?;
        Ok(Self { name, regex, check, has_hints })
    }

    /// What is to be masked of a match, and where to look for the next one.
    fn found(&self, text: &[u8], captures: &Captures<'_>) -> (Option<Range<usize>>, usize) {
        let Some(whole) = captures.get(0) else { return (None, text.len() + 1) };
        let part = captures.get(1).unwrap_or(whole);
        let start = part.start();
        let found = match self.check {
            Check::NotWords if is_words(part.as_bytes()) => start..start,
            Check::Any | Check::NotWords => part.range(),
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
