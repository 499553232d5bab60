//! Masks secrets and personal data in bodies before anything is stored.
//!
//! A match is replaced by `[redacted:<rule>:<8 hex>]`, where the digits are a keyed hash: equal
//! secrets look alike, and nothing of a secret can be told from its mark. A mark does not break the
//! JSON it stands in.

mod cards;
mod patterns;
mod place;
mod words;

use crate::config::{Redaction, RedactionPreset};
use aho_corasick::{AhoCorasick, AhoCorasickKind, Input as Stretch};
use hmac::{Hmac, KeyInit, Mac};
use memchr::memmem;
use patterns::{CARDS, EMAILS, Hinted, SECRETS, Shape, WORD_START};
use place::Place;
use regex_automata::{
    Anchored, Input,
    meta::{Config, Regex},
    util::{captures::Captures, syntax},
};
use sha2::Sha256;
use std::{ops::Range, sync::OnceLock};

/// Largest compiled pattern, in bytes.
const COMPILED_MAX: usize = 32 << 20;

/// Lengths of what [`WORD_START`] may take before a word.
const ESCAPES: [usize; 4] = [0, 2, 3, 6];

/// A compiled set of patterns.
#[derive(Debug)]
pub struct Redactor {
    /// Tells in one pass over long words which rules may match at all.
    searcher: Option<AhoCorasick>,
    hints: Vec<Hint>,
    /// Hints that may stand where no long word is, and the place of their rule.
    anywhere: Vec<(memmem::Finder<'static>, usize)>,
    rules: Vec<Rule>,
    key: [u8; 16],
}

/// Whether a rule may match.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Due {
    No,
    /// Once something beside its hint is masked: a word may start there now.
    Later,
    Yes,
}

/// What no match of a rule is without.
#[derive(Debug)]
struct Hint {
    text: &'static [u8],
    /// Place of the rule.
    rule: usize,
    /// Every match starts with one of the rule's hints, so one look there is enough.
    begins: bool,
}

#[derive(Debug)]
struct Rule {
    name: String,
    pattern: String,
    /// Compiled when a text first holds a hint: most rules never are.
    regex: OnceLock<Option<Regex>>,
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
        Self { searcher: None, hints: Vec::new(), anywhere: Vec::new(), rules: Vec::new(), key }
    }
}

impl Redactor {
    /// Compiles `rules`.
    ///
    /// # Errors
    /// The message of a pattern that does not compile.
    pub fn new(rules: &[Redaction]) -> Result<Self, String> {
        let mut redactor = Self::default();
        for rule in rules {
            let shapes = match rule {
                Redaction::Preset(RedactionPreset::Secrets) => SECRETS,
                Redaction::Preset(RedactionPreset::Emails) => EMAILS,
                Redaction::Preset(RedactionPreset::Cards) => CARDS,
                Redaction::Custom { name, regex } => {
                    redactor.rules.push(Rule::compiled(plain(name), regex)?);
                    continue;
                }
            };
            redactor.add(shapes);
        }
        let searcher = AhoCorasick::builder()
            .ascii_case_insensitive(true)
            .kind(Some(AhoCorasickKind::DFA))
            .build(redactor.hints.iter().map(|hint| hint.text))
            .map_err(|error| format!("capture.redact: {error}"))?;
        redactor.searcher = Some(searcher);
        Ok(redactor)
    }

    fn add(&mut self, shapes: &'static [Shape]) {
        for shape in shapes {
            let rule = self.rules.len();
            let own = shape.hints.split('|').filter(|hint| !hint.is_empty());
            if shape.place == Hinted::Anywhere {
                self.anywhere.extend(own.map(|hint| (memmem::Finder::new(hint), rule)));
            } else {
                self.hints.extend(own.map(|hint| Hint {
                    text: hint.as_bytes(),
                    rule,
                    begins: shape.place == Hinted::AtStart,
                }));
            }
            self.rules.push(Rule {
                name: shape.name.to_owned(),
                pattern: pattern(shape),
                regex: OnceLock::new(),
                check: shape.check,
                has_hints: !shape.hints.is_empty(),
            });
        }
    }

    /// Which rules may match.
    fn due(&self, body: &[u8]) -> Vec<Due> {
        let at_first = |rule: &Rule| if rule.has_hints { Due::No } else { Due::Yes };
        let mut due: Vec<Due> = self.rules.iter().map(at_first).collect();
        for (hint, rule) in &self.anywhere {
            if let Some(due) = due.get_mut(*rule)
                && hint.find(body).is_some()
            {
                *due = Due::Yes;
            }
        }
        let Some(searcher) = &self.searcher else { return due };
        for stretch in words::long(body) {
            for found in searcher.find_overlapping_iter(Stretch::new(body).range(stretch)) {
                let Some(hint) = self.hints.get(found.pattern().as_usize()) else { continue };
                let at = (self.rules.get(hint.rule), due.get_mut(hint.rule));
                let (Some(rule), Some(due)) = at else { continue };
                *due = match *due {
                    Due::Yes => Due::Yes,
                    _ if !hint.begins || hint.begins_match(rule, body, found.start()) => Due::Yes,
                    _ => Due::Later,
                };
            }
        }
        due
    }

    /// `body` with every match masked, and the names of the rules that matched; `None` when none did.
    ///
    /// A mark stands inside the string it belongs to, or is a string where a bare number stood. Only
    /// a pattern of one's own that reaches across the quotes of JSON can break it.
    pub fn redact(&self, body: &[u8]) -> Option<(Vec<u8>, Vec<String>)> {
        let due = self.due(body);
        let (mut masked, mut names) = (None::<Vec<u8>>, Vec::new());
        for (rule, due) in self.rules.iter().zip(due) {
            if due == Due::No || (due == Due::Later && masked.is_none()) {
                continue;
            }
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
        let regex = rule.regex()?;
        let (mut out, mut place) = (Vec::new(), Place::new(text));
        let (mut kept_from, mut from, mut captures) = (0, 0, regex.create_captures());
        while from <= text.len() {
            regex.search_captures(&Input::new(text).range(from..), &mut captures);
            if !captures.is_match() {
                break;
            }
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

impl Hint {
    /// Whether a match starts with this hint, found at `at`. What stands before the first letter may be
    /// an escape, of which the match then takes its part ([`WORD_START`]).
    fn begins_match(&self, rule: &Rule, body: &[u8], at: usize) -> bool {
        if body.get(at..at + self.text.len()) != Some(self.text) {
            return false; // another case
        }
        let Some(regex) = rule.regex() else { return false };
        ESCAPES
            .iter()
            .filter_map(|before| at.checked_sub(*before))
            .any(|start| regex.is_match(Input::new(body).range(start..).anchored(Anchored::Yes)))
    }
}

impl Rule {
    /// A rule whose pattern may be wrong.
    fn compiled(name: String, pattern: &str) -> Result<Self, String> {
        let regex = compile(pattern).map_err(|error| format!("capture.redact: {error}"))?;
        Ok(Self {
            name,
            pattern: pattern.to_owned(),
            regex: OnceLock::from(Some(regex)),
            check: Check::Any,
            has_hints: false,
        })
    }

    fn regex(&self) -> Option<&Regex> {
        // Presets compile: a test goes through all of them.
        self.regex.get_or_init(|| compile(&self.pattern).ok()).as_ref()
    }

    /// What is to be masked of a match, and where to look for the next one.
    fn found(&self, text: &[u8], captures: &Captures) -> (Option<Range<usize>>, usize) {
        let Some(whole) = captures.get_group(0) else { return (None, text.len() + 1) };
        let part = captures.get_group(1).unwrap_or(whole);
        let start = part.start;
        let found = match self.check {
            Check::NotWords if is_words(text.get(part.range()).unwrap_or_default()) => start..start,
            Check::Any | Check::NotWords => part.range(),
            Check::Card => {
                let rest = text.get(start..).unwrap_or_default();
                let len = cards::number_len(rest);
                // Where it is none, one may start in the next group of digits.
                let resume = start + len.unwrap_or_else(|| cards::group_len(rest));
                return (len.map(|len| start..start + len), resume);
            }
        };
        ((!found.is_empty()).then_some(found), whole.end.max(whole.start + 1))
    }
}

/// A regular expression over bytes, of a bounded size.
fn compile(pattern: &str) -> Result<Regex, String> {
    let config = Config::new().utf8_empty(false).nfa_size_limit(Some(COMPILED_MAX));
    let syntax = syntax::Config::new().utf8(false);
    let built = Regex::builder().configure(config).syntax(syntax).build(pattern);
    built.map_err(|error| {
        error.syntax_error().map_or_else(|| error.to_string(), ToString::to_string)
    })
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
