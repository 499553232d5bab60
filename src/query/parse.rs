//! Text to terms.

use super::{Kind, Query, QueryError, Term, Test, field};
use crate::model::Timestamp;

/// Longest query, in bytes.
const TEXT_BYTES_MAX: usize = 4096;
/// Deepest nesting of parentheses.
const DEPTH_MAX: usize = 32;

/// Parses a whole query.
pub fn query(text: &str) -> Result<Query, QueryError> {
    if text.len() > TEXT_BYTES_MAX {
        return Err(error(TEXT_BYTES_MAX, format!("a query has at most {TEXT_BYTES_MAX} bytes")));
    }
    let mut parser = Parser { text, at: 0 };
    let terms = parser.terms(0)?;
    match parser.rest().chars().next() {
        None => Ok(Query { terms }),
        Some(_) => Err(error(parser.at, "this `)` closes nothing")),
    }
}

fn error(at: usize, message: impl Into<String>) -> QueryError {
    QueryError { at, message: message.into() }
}

struct Parser<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Parser<'a> {
    fn rest(&self) -> &'a str {
        self.text.get(self.at..).unwrap_or_default()
    }

    fn skip_space(&mut self) {
        self.at += self.rest().len() - self.rest().trim_start().len();
    }

    /// Terms up to the end or a closing parenthesis; `OR` binds its neighbours.
    fn terms(&mut self, depth: usize) -> Result<Vec<Term>, QueryError> {
        if depth > DEPTH_MAX {
            return Err(error(self.at, "parentheses are nested too deep"));
        }
        let mut terms: Vec<Term> = Vec::new();
        loop {
            self.skip_space();
            let rest = self.rest();
            if rest.is_empty() || rest.starts_with(')') {
                return Ok(terms);
            }
            if let Some(after) = rest.strip_prefix("OR")
                && after.starts_with([' ', '\t', '('])
            {
                let at = self.at;
                self.at += 2;
                self.skip_space();
                let Some(left) = terms.pop() else {
                    return Err(error(at, "`OR` needs a term before it"));
                };
                if self.rest().is_empty() || self.rest().starts_with(')') {
                    return Err(error(at, "`OR` needs a term after it"));
                }
                let right = self.term(depth)?;
                terms.push(match left {
                    Term::Any(mut any) => {
                        any.push(right);
                        Term::Any(any)
                    }
                    left => Term::Any(vec![left, right]),
                });
                continue;
            }
            terms.push(self.term(depth)?);
        }
    }

    fn term(&mut self, depth: usize) -> Result<Term, QueryError> {
        let start = self.at;
        if self.rest().starts_with('-') && self.rest().len() > 1 {
            if depth > DEPTH_MAX {
                return Err(error(start, "negations are nested too deep"));
            }
            self.at += 1;
            return Ok(Term::Not(Box::new(self.term(depth + 1)?)));
        }
        if self.rest().starts_with('(') {
            self.at += 1;
            let terms = self.terms(depth + 1)?;
            if !self.rest().starts_with(')') {
                return Err(error(start, "this `(` is never closed"));
            }
            self.at += 1;
            return Ok(Term::All(terms));
        }
        if self.rest().starts_with('"') {
            return Ok(Term::Text(self.quoted()?));
        }
        let word = self.word();
        let name_end = word.find(':').filter(|at| *at > 0 && is_name(&word[..*at]));
        let Some(name_end) = name_end else {
            self.at += word.len();
            return Ok(Term::Text(word.to_owned()));
        };
        let name = word.get(..name_end).unwrap_or_default();
        self.at += name_end + 1;
        let value_at = self.at;
        let value = if self.rest().starts_with('"') {
            self.quoted()?
        } else {
            let value = self.word();
            self.at += value.len();
            value.to_owned()
        };
        field_term(name, &value, start, value_at)
    }

    /// Up to white space or a closing parenthesis.
    fn word(&self) -> &'a str {
        let rest = self.rest();
        let end = rest.find(|c: char| c.is_whitespace() || c == ')').unwrap_or(rest.len());
        rest.get(..end.max(1)).unwrap_or(rest)
    }

    fn quoted(&mut self) -> Result<String, QueryError> {
        let start = self.at;
        let mut text = String::new();
        let mut chars = self.rest().char_indices().skip(1);
        while let Some((at, c)) = chars.next() {
            match c {
                '"' => {
                    self.at = start + at + 1;
                    return Ok(text);
                }
                '\\' => text.extend(chars.next().map(|(_, c)| c)),
                c => text.push(c),
            }
        }
        Err(error(start, "this quote is never closed"))
    }
}

fn is_name(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_alphabetic())
        && name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-'))
}

fn field_term(name: &str, value: &str, at: usize, value_at: usize) -> Result<Term, QueryError> {
    let unknown = |close: Option<&str>, name: &str| {
        let hint = close.map_or_else(
            || "; quote words that hold a colon".to_owned(),
            |close| format!("; did you mean `{close}`?"),
        );
        error(at, format!("no field is called `{name}`{hint}"))
    };
    if name.eq_ignore_ascii_case("has") {
        let (field, _) = field::find(value).map_err(|close| unknown(close, value))?;
        return Ok(Term::Field { field, test: Test::Present });
    }
    let (field, kind) = field::find(name).map_err(|close| unknown(close, name))?;
    if value.is_empty() {
        return Err(error(value_at, format!("`{name}:` needs a value")));
    }
    let test = match kind {
        Kind::Text => Ok(Test::Like(value.to_owned())),
        Kind::Status if value.starts_with(|c: char| "<>".contains(c)) => range(value, Kind::Number),
        Kind::Status => Ok(Test::Like(value.to_lowercase())),
        Kind::Flag => match value {
            "true" | "yes" | "1" => Ok(Test::Like("1".to_owned())),
            "false" | "no" | "0" => Ok(Test::Like("0".to_owned())),
            _ => Err("is true or false".to_owned()),
        },
        Kind::Time => time(value).map(|us| match name.to_lowercase().as_str() {
            "before" | "until" => Test::Within { from: None, to: Some((us, false)) },
            _ => Test::Within { from: Some((us, true)), to: None },
        }),
        Kind::Number | Kind::Duration => range(value, kind),
    };
    let test = test.map_err(|why| error(value_at, format!("`{name}` {why}, not `{value}`")))?;
    Ok(Term::Field { field, test })
}

/// `5`, `>5`, `>=5`, `<5`, `<=5`, `1..5`.
fn range(value: &str, kind: Kind) -> Result<Test, String> {
    let parse = |text: &str| number(text, kind);
    if let Some((low, high)) = value.split_once("..") {
        let bound = |text: &str| match text {
            "" => Ok(None),
            text => parse(text).map(|number| Some((number, true))),
        };
        return Ok(Test::Within { from: bound(low)?, to: bound(high)? });
    }
    let (from, to) = if let Some(rest) = value.strip_prefix(">=") {
        (Some((parse(rest)?, true)), None)
    } else if let Some(rest) = value.strip_prefix("<=") {
        (None, Some((parse(rest)?, true)))
    } else if let Some(rest) = value.strip_prefix('>') {
        (Some((parse(rest)?, false)), None)
    } else if let Some(rest) = value.strip_prefix('<') {
        (None, Some((parse(rest)?, false)))
    } else {
        let exact = Some((parse(value)?, true));
        (exact, exact)
    };
    Ok(Test::Within { from, to })
}

fn number(text: &str, kind: Kind) -> Result<f64, String> {
    let (digits, factor) = match kind {
        Kind::Duration => split_duration(text),
        _ => (text.strip_prefix('$').unwrap_or(text), 1.0),
    };
    match digits.parse::<f64>() {
        Ok(number) if number.is_finite() => Ok(number * factor),
        _ => Err(match kind {
            Kind::Duration => "takes a duration such as >2s or 300ms".to_owned(),
            _ => "takes a number such as 5, >5 or 1..5".to_owned(),
        }),
    }
}

/// Digits and the factor to milliseconds.
fn split_duration(text: &str) -> (&str, f64) {
    for (unit, factor) in [("ms", 1.0), ("s", 1e3), ("m", 6e4), ("h", 3.6e6), ("d", 8.64e7)] {
        if let Some(digits) = text.strip_suffix(unit) {
            return (digits, factor);
        }
    }
    (text, 1.0)
}

/// A date, a time, or how long ago; microseconds since 1970.
fn time(text: &str) -> Result<f64, String> {
    let text = text.trim_start_matches(['>', '=', '-']);
    let (digits, factor) = split_duration(text);
    #[expect(clippy::cast_precision_loss, reason = "exact below 2^53 µs, which is 285 years")]
    let float = |us: i64| us as f64;
    if digits.len() < text.len()
        && let Ok(ago) = digits.parse::<f64>()
        && ago.is_finite()
    {
        return Ok(float(Timestamp::now().0) - ago * factor * 1000.0);
    }
    let whole = if text.len() == 10 { format!("{text}T00:00:00Z") } else { text.to_owned() };
    whole
        .parse::<Timestamp>()
        .map(|time| float(time.0))
        .map_err(|_| "takes a time such as 1h, 2d, 2026-11-20 or 2026-11-20T08:00:00Z".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::query::Field;
    use proptest::prelude::*;

    fn fails(text: &str) -> (usize, String) {
        let error = query(text).unwrap_err();
        (error.at, error.message)
    }

    fn column(column: &'static str, test: Test) -> Term {
        Term::Field { field: Field::Column(column), test }
    }

    #[test]
    fn terms_of_every_kind() {
        let query = query(
            r#"model:gpt-4o* -outcome:completed cost:>0.05 latency:<=2s (session:s1 OR session:"s 2") "exact words" word meta.order_id:12 tokens:10..20"#,
        )
        .unwrap();
        assert_eq!(
            query.terms,
            [
                column("model", Test::Like("gpt-4o*".into())),
                Term::Not(Box::new(column("outcome", Test::Like("completed".into())))),
                column("cost", Test::Within { from: Some((0.05, false)), to: None }),
                column("latency_ms", Test::Within { from: None, to: Some((2000.0, true)) }),
                Term::All(vec![Term::Any(vec![
                    column("session", Test::Like("s1".into())),
                    column("session", Test::Like("s 2".into())),
                ])]),
                Term::Text("exact words".into()),
                Term::Text("word".into()),
                Term::Field {
                    field: Field::Meta("order_id".into()),
                    test: Test::Like("12".into())
                },
                column(
                    "total_tokens",
                    Test::Within { from: Some((10.0, true)), to: Some((20.0, true)) }
                ),
            ]
        );
    }

    #[test]
    fn faults_say_where_and_what() {
        assert_eq!(
            fails("a modl:x"),
            (2, "no field is called `modl`; did you mean `model`?".into())
        );
        assert_eq!(fails("cost:cheap").0, 5);
        assert_eq!(fails("(a OR b").0, 0);
        assert_eq!(fails("a)").0, 1);
        assert_eq!(fails("OR b").0, 0);
        assert_eq!(fails("\"open").0, 0);
        assert!(fails("model:").1.contains("needs a value"));
        assert!(fails("stream:maybe").1.contains("true or false"));
        assert!(fails(&"(".repeat(100)).1.contains("too deep"));
        assert!(fails(&"x".repeat(5000)).1.contains("at most"));
    }

    #[test]
    fn words_with_colons_that_are_no_fields_are_words() {
        assert_eq!(query("http://x").unwrap_err().at, 0);
        assert_eq!(query(":x 12:30").unwrap().terms.len(), 2);
    }

    proptest! {
        #[test]
        fn never_panics(text in "\\PC{0,200}") {
            query(&text).ok();
        }

        #[test]
        fn never_panics_on_near_misses(text in "[a-z:()\"*<>=. OR-]{0,80}") {
            query(&text).ok();
        }
    }
}
