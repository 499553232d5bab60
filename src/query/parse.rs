//! Text to query: a hand-written descent over the bytes, bounded in length, depth and terms.

use super::{
    Delivery, Expr, Field, Kind, MAX_DEPTH, MAX_LEN, MAX_TERMS, MAX_WILDCARDS, Moment, Op, Pattern,
    Query, QueryError, Status, Term,
};
use crate::model::{Outcome, Timestamp};

/// Reads a query.
pub(super) fn parse(text: &str) -> Result<Query, QueryError> {
    if text.len() > MAX_LEN {
        let at = text.floor_char_boundary(MAX_LEN);
        return Err(error(at, format!("a query has at most {MAX_LEN} bytes")));
    }
    let mut parser = Parser { text, at: 0, terms: 0 };
    parser.skip_space();
    if parser.peek().is_none() {
        return Ok(Query::default());
    }
    let root = parser.either(0)?;
    match parser.peek() {
        None => Ok(Query { root: Some(root) }),
        Some(_) => Err(error(parser.at, "this `)` closes nothing")),
    }
}

/// Where the terms stand that must all hold; empty for a query that is no such list, or none at all.
pub(super) fn terms(text: &str) -> Vec<std::ops::Range<usize>> {
    let mut parser = Parser { text, at: 0, terms: 0 };
    let mut places = Vec::new();
    loop {
        parser.skip_space();
        let start = parser.at;
        if parser.peek().is_none() {
            return places;
        }
        if parser.at_or() || parser.one(0).is_err() {
            return Vec::new();
        }
        places.push(start..parser.at);
    }
}

struct Parser<'a> {
    text: &'a str,
    at: usize,
    terms: usize,
}

impl<'a> Parser<'a> {
    /// `all OR all …`
    fn either(&mut self, depth: usize) -> Result<Expr, QueryError> {
        let mut parts = vec![self.all(depth)?];
        while self.take_or() {
            parts.push(self.all(depth)?);
        }
        Ok(single_or(parts, Expr::Or))
    }

    /// Terms beside each other.
    fn all(&mut self, depth: usize) -> Result<Expr, QueryError> {
        let mut parts = Vec::new();
        loop {
            self.skip_space();
            if self.peek().is_none_or(|next| next == ')') || self.at_or() {
                break;
            }
            parts.push(self.one(depth)?);
        }
        if parts.is_empty() {
            return Err(error(self.at, "a condition is missing here"));
        }
        Ok(single_or(parts, Expr::And))
    }

    /// A negation, a group or a term.
    fn one(&mut self, depth: usize) -> Result<Expr, QueryError> {
        if depth >= MAX_DEPTH {
            return Err(error(self.at, format!("nested deeper than {MAX_DEPTH}")));
        }
        if self.take('-') {
            if self.peek().is_none_or(char::is_whitespace) {
                return Err(error(self.at, "`-` stands directly before what it negates"));
            }
            return Ok(Expr::Not(Box::new(self.one(depth + 1)?)));
        }
        let start = self.at;
        if self.take('(') {
            let inner = self.either(depth + 1)?;
            return if self.take(')') {
                Ok(inner)
            } else {
                Err(error(start, "this `(` is never closed"))
            };
        }
        self.terms += 1;
        if self.terms > MAX_TERMS {
            return Err(error(start, format!("a query has at most {MAX_TERMS} terms")));
        }
        self.term().map(Expr::Term)
    }

    fn term(&mut self) -> Result<Term, QueryError> {
        let start = self.at;
        if let Some(name) = self.take_name() {
            if self.peek().is_none_or(|next| next.is_whitespace() || next == ')') {
                return Err(error(self.at, format!("`{name}:` needs a value")));
            }
            return self.field(name, start);
        }
        let pieces = self.pieces()?;
        words(start, &pieces)
    }

    /// `name:` at this place, if there is one.
    fn take_name(&mut self) -> Option<&'a str> {
        let rest = self.rest();
        let end = rest.find(|c: char| {
            c == ':' || c == '"' || c.is_whitespace() || matches!(c, '(' | ')' | '*')
        })?;
        let name = rest.get(..end).filter(|name| !name.is_empty())?;
        rest.get(end..)?.starts_with(':').then(|| self.at += end + 1)?;
        Some(name)
    }

    /// What follows `name:`.
    fn field(&mut self, name: &str, start: usize) -> Result<Term, QueryError> {
        if let Some(key) = strip_prefix_ignore_case(name, "meta.").filter(|key| !key.is_empty()) {
            let pattern = Pattern(self.pieces()?);
            return Ok(Term::Meta(key.to_lowercase(), pattern));
        }
        let Some(field) = Field::named(name) else {
            return Err(error(start, unknown_field(name)));
        };
        let at = self.at;
        let op = if field.kind() == Kind::Text { Op::Eq } else { self.op() };
        let pieces = self.pieces()?;
        let pattern = Pattern(pieces);
        if field.kind() == Kind::Text {
            return text_term(field, pattern, at);
        }
        let Some(value) = pattern.exact() else {
            return Err(error(at, format!("`{name}:` takes no `*`")));
        };
        let plain = || {
            if op == Op::Eq { Ok(()) } else { Err(error(at, format!("`{name}:` takes no `{op}`"))) }
        };
        match field.kind() {
            Kind::Flag => plain().and_then(|()| flag(field, value, at)),
            Kind::Time => plain().and_then(|()| time(field, value, at)),
            Kind::Field => plain().and_then(|()| has(value, at)),
            Kind::Delivery => plain().and_then(|()| delivery(value, at)),
            Kind::Status => status(op, value, at).map(Term::Status),
            _ => number_term(field, op, value, at),
        }
    }

    fn op(&mut self) -> Op {
        match (self.take('>'), self.take('<')) {
            (true, _) => self.with_equals(Op::Ge, Op::Gt),
            (_, true) => self.with_equals(Op::Le, Op::Lt),
            _ => self.with_equals(Op::Eq, Op::Eq),
        }
    }

    fn with_equals(&mut self, with: Op, without: Op) -> Op {
        if self.take('=') { with } else { without }
    }

    /// A value: bare and quoted parts in any order, split at each bare `*`.
    fn pieces(&mut self) -> Result<Vec<String>, QueryError> {
        let start = self.at;
        let mut pieces = Vec::new();
        let mut piece = String::new();
        let mut after_star = false;
        while let Some(next) = self.peek() {
            if next.is_whitespace() || next == ')' {
                break;
            }
            self.at += next.len_utf8();
            match next {
                '*' if after_star => {}
                '*' => pieces.push(std::mem::take(&mut piece)),
                '"' => self.quoted(&mut piece)?,
                _ => piece.push(next),
            }
            after_star = next == '*';
        }
        pieces.push(piece);
        if pieces.len() > MAX_WILDCARDS + 1 {
            return Err(error(start, format!("a value has at most {MAX_WILDCARDS} `*`")));
        }
        Ok(pieces)
    }

    /// The rest of a quoted part; `\"` and `\\` stand for themselves.
    fn quoted(&mut self, into: &mut String) -> Result<(), QueryError> {
        let start = self.at - 1;
        while let Some(next) = self.peek() {
            self.at += next.len_utf8();
            match next {
                '"' => return Ok(()),
                '\\' if matches!(self.peek(), Some('"' | '\\')) => {
                    into.extend(self.peek());
                    self.at += 1;
                }
                _ => into.push(next),
            }
        }
        Err(error(start, "this quote is never closed"))
    }

    fn at_or(&self) -> bool {
        let after = self.rest().strip_prefix("OR").map(|rest| rest.chars().next());
        matches!(after, Some(None | Some('(' | ')')))
            || matches!(after, Some(Some(c)) if c.is_whitespace())
    }

    fn take_or(&mut self) -> bool {
        self.skip_space();
        let found = self.at_or();
        if found {
            self.at += 2;
        }
        found
    }

    fn skip_space(&mut self) {
        let rest = self.rest();
        self.at += rest.len() - rest.trim_start().len();
    }

    fn take(&mut self, wanted: char) -> bool {
        let found = self.peek() == Some(wanted);
        if found {
            self.at += wanted.len_utf8();
        }
        found
    }

    fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    fn rest(&self) -> &'a str {
        self.text.get(self.at..).unwrap_or_default()
    }
}

fn single_or(mut parts: Vec<Expr>, many: fn(Vec<Expr>) -> Expr) -> Expr {
    match parts.pop() {
        Some(only) if parts.is_empty() => only,
        last => {
            parts.extend(last);
            many(parts)
        }
    }
}

fn words(start: usize, pieces: &[String]) -> Result<Term, QueryError> {
    let (text, prefix) = match pieces {
        [text] => (text, false),
        [text, empty] if empty.is_empty() => (text, true),
        _ => return Err(error(start, "in free text `*` stands only at the end of a word")),
    };
    if text.trim().is_empty() {
        return Err(error(start, "there is nothing to look for here"));
    }
    Ok(Term::Words { text: text.clone(), prefix })
}

fn text_term(field: Field, pattern: Pattern, at: usize) -> Result<Term, QueryError> {
    if let (Field::Outcome, Some(name)) = (field, pattern.exact())
        && !Outcome::ALL.iter().any(|outcome| outcome.as_str() == name)
    {
        let all = Outcome::ALL.map(Outcome::as_str).join(", ");
        return Err(error(at, format!("`{name}` is no outcome; there are {all}")));
    }
    Ok(Term::Text(field, pattern))
}

fn flag(field: Field, value: &str, at: usize) -> Result<Term, QueryError> {
    match value {
        "true" | "yes" | "1" => Ok(Term::Flag(field, true)),
        "false" | "no" | "0" => Ok(Term::Flag(field, false)),
        _ => Err(error(at, format!("`{}:` takes true or false", field.name()))),
    }
}

fn has(value: &str, at: usize) -> Result<Term, QueryError> {
    match Field::named(value) {
        Some(Field::Since | Field::Before | Field::Has | Field::Delivery) => {
            Err(error(at, format!("`{value}` is not a field of a call")))
        }
        Some(field) => Ok(Term::Has(field)),
        None => Err(error(at, unknown_field(value))),
    }
}

fn delivery(value: &str, at: usize) -> Result<Term, QueryError> {
    let state = Delivery::ALL.into_iter().find(|state| state.as_str() == value);
    state.map(Term::Delivery).ok_or_else(|| {
        let all = Delivery::ALL.map(Delivery::as_str).join(", ");
        error(at, format!("`delivery:` takes one of {all}"))
    })
}

fn status(op: Op, value: &str, at: usize) -> Result<Status, QueryError> {
    let wrong =
        || error(at, "`status:` takes a number such as 429, a class such as 4xx, ok or error");
    match (op, value) {
        (Op::Eq, "ok") => Ok(Status::Ok),
        (Op::Eq, "error") => Ok(Status::Error),
        (Op::Eq, class) if class.len() == 3 && class.ends_with("xx") => {
            let digit = class.chars().next().and_then(|c| c.to_digit(10));
            let digit = digit.and_then(|digit| u16::try_from(digit).ok());
            digit.filter(|digit| (1..=9).contains(digit)).map(Status::Class).ok_or_else(wrong)
        }
        (op, code) => code.parse().map(|code| Status::Code(op, code)).map_err(|_| wrong()),
    }
}

fn number_term(field: Field, op: Op, value: &str, at: usize) -> Result<Term, QueryError> {
    if let Some((low, high)) = value.split_once("..").filter(|_| op == Op::Eq) {
        let low = number(field, low, at)?;
        let high = number(field, high, at)?;
        return Ok(Term::Range(field, low, high));
    }
    Ok(Term::Number(field, op, number(field, value, at)?))
}

fn number(field: Field, value: &str, at: usize) -> Result<f64, QueryError> {
    let (digits, factor) = match field.kind() {
        Kind::Duration => duration_unit(value),
        Kind::Money => (value.strip_prefix('$').unwrap_or(value), 1.0),
        _ => match value.strip_suffix('k') {
            Some(thousands) => (thousands, 1e3),
            None => (value, 1.0),
        },
    };
    let plain = digits.chars().all(|c| c.is_ascii_digit() || matches!(c, '.' | '-' | '+' | 'e'));
    digits
        .parse::<f64>()
        .ok()
        .map(|number| number * factor)
        .filter(|number| plain && number.is_finite())
        .ok_or_else(|| {
            let example = match field.kind() {
                Kind::Duration => "a duration such as 250ms, 2s or 1m",
                Kind::Money => "an amount in USD such as 0.05",
                _ => "a number",
            };
            error(at, format!("`{}:` takes {example}, not `{value}`", field.name()))
        })
}

fn duration_unit(value: &str) -> (&str, f64) {
    for (suffix, factor) in [("ms", 1.0), ("s", 1e3), ("m", 60e3), ("h", 3_600e3)] {
        if let Some(digits) = value.strip_suffix(suffix) {
            return (digits, factor);
        }
    }
    (value, 1.0)
}

fn time(field: Field, value: &str, at: usize) -> Result<Term, QueryError> {
    let moment = moment(value).ok_or_else(|| {
        let name = field.name();
        error(at, format!("`{name}:` takes a period such as 1h or 7d, a date or an RFC 3339 time"))
    })?;
    Ok(if field == Field::Since { Term::Since(moment) } else { Term::Before(moment) })
}

/// `90s`, `1h`, `7d`, `2w`, `2026-11-21`, `2026-11-21T02:12:41Z`. A date is its first moment in UTC.
fn moment(value: &str) -> Option<Moment> {
    if let Some(weeks) = value.strip_suffix('w').and_then(|weeks| weeks.parse::<u64>().ok()) {
        return weeks.checked_mul(7 * 86_400_000).map(Moment::Ago);
    }
    if let Ok(period) = value.parse::<crate::config::Period>() {
        return u64::try_from(period.0.as_millis()).ok().map(Moment::Ago);
    }
    if let Ok(time) = value.parse::<Timestamp>() {
        return Some(Moment::At(time));
    }
    format!("{value}T00:00:00Z").parse().ok().map(Moment::At)
}

fn unknown_field(name: &str) -> String {
    match Field::nearest(name) {
        Some(near) => format!("there is no field `{name}`; did you mean `{near}`?"),
        None => format!("there is no field `{name}`; put text that holds a colon in quotes"),
    }
}

fn strip_prefix_ignore_case<'t>(text: &'t str, prefix: &str) -> Option<&'t str> {
    let (head, tail) = text.split_at_checked(prefix.len())?;
    head.eq_ignore_ascii_case(prefix).then_some(tail)
}

fn error(at: usize, message: impl Into<String>) -> QueryError {
    QueryError { at, message: message.into() }
}
